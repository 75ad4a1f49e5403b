"""The HiFi-GAN experiment: its flags, its refusals, and one run from audio files to a model and back."""

import json
import re
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import pytest

from experiments import hifigan_l40
from jaxvoice.data import write_wav
from jaxvoice.models.hifigan import PRESETS, Generator, GeneratorConfig, HiFiGANConfig
from jaxvoice.models.hifigan.training import HiFiGANTask, read_run
from jaxvoice.models.hifigan.weights import save_generator

TINY = [
    *("--model.generator.upsample-initial-channel", "8"),
    *(f"--model.generator.resblock-dilation-sizes.{i}=1" for i in range(3)),
    *("--model.discriminators.periods", "2"),
    *("--model.discriminators.width", "0.01"),
    *("--model.segment-size", "2048"),
    *("--ema-decay", "0.9"),
]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    before = jax.config.jax_compilation_cache_dir
    monkeypatch.setenv("JAXVOICE_CACHE", str(tmp_path / "cache"))
    yield
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture
def tones(tmp_path) -> Path:
    folder = tmp_path / "tones"
    folder.mkdir()
    time = np.arange(11025) / 22050
    for i in range(5):
        samples = 0.3 * np.sin(2 * np.pi * (150 + 70 * i) * time)
        write_wav(folder / f"tone{i}.wav", samples.astype(np.float32), 22050)
    return folder


def test_defaults_on_a_cpu_are_small_and_short():
    experiment = hifigan_l40.parse([])
    assert experiment.training.model == hifigan_l40.CPU_MODEL
    assert experiment.training.precision == "float32"
    assert experiment.loop.minutes is not None and experiment.loop.minutes < 5


def test_defaults_on_a_gpu_are_v1_for_an_hour():
    experiment = hifigan_l40.default_experiment("gpu", None)
    assert experiment.training.model == PRESETS["v1"]
    assert (experiment.training.precision, experiment.loop.minutes) == ("bfloat16", 60)
    assert hifigan_l40.default_experiment("gpu", "v2").training.model == PRESETS["v2"]


@pytest.mark.parametrize("flags", [["--preset", "v3"], ["--preset=v3"]])
def test_preset_chooses_the_sizes(flags):
    assert hifigan_l40.parse(flags).training.model == PRESETS["v3"]


def test_flags_reach_the_nested_configs():
    flags = "--batch-size 3 --steps 7 --minutes 1.5 --resume must --precision bfloat16"
    nested = "--model.generator.upsample-initial-channel 64 --generator-optimizer.b1 0.5 --loss-weights.mel 15"
    experiment = hifigan_l40.parse([*flags.split(), *nested.split()])
    loop, training = experiment.loop, experiment.training
    assert (experiment.batch_size, loop.steps, loop.minutes, loop.resume) == (3, 7, 1.5, "must")
    assert (training.precision, training.model.generator.upsample_initial_channel) == ("bfloat16", 64)
    assert (training.generator_optimizer.b1, training.discriminator_optimizer.b1) == (0.5, 0.8)
    assert training.loss_weights.mel == 15


def test_every_flag_has_help(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as end:
        hifigan_l40.parse(["--help"])
    assert end.value.code == 0
    lines = [line.strip("│ \n") for line in capsys.readouterr().out.splitlines()]
    flags = [i for i, line in enumerate(lines) if re.match(r"--?[a-z]", line)]
    assert len(flags) > 60
    # The numbered flags of a tuple share the help of their heading.
    heading = next(i for i, line in enumerate(lines) if "resblock-dilation-sizes options" in line)
    assert any(re.match("[A-Z]", line) for line in lines[heading + 1 : heading + 4])
    flags = [i for i in flags if not re.match(r"--model\.generator\.resblock-dilation-sizes\.\d", lines[i])]
    bare = []
    for i in flags:
        # A long flag goes on with its negation on the next line; its help follows, or stands beside a short flag.
        beside = re.split(r"\s{2,}", lines[i], maxsplit=1)
        after = lines[i + 1] if i + 1 < len(lines) else ""
        text = beside[1] if len(beside) > 1 else after
        if not text or text.startswith("(default") or (text.startswith("-") and not lines[i].endswith(",")):
            bare.append(lines[i])
    assert bare == []


def refused(capsys, *flags: str) -> str:
    """What stands on stderr after the experiment ended with code 2."""
    try:
        assert hifigan_l40.main(flags) == 2
    except SystemExit as end:  # tyro's own checks of single flags
        assert end.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"), [(["--preset", "v9"], "'v9'.*v1, v2, v3"), (["--steps", "0"], "steps.*at least 1")]
)
def test_wrong_values_end_in_one_line(tmp_path, capsys, tones, flags, message):
    run = tmp_path / "run"
    told = refused(capsys, "--data", str(tones), "--run-dir", str(run), *flags)
    assert re.fullmatch(f"error: .*{message}.*\n", told)
    assert not run.exists()


def test_contradicting_sizes_are_told_with_the_remedy(tmp_path, capsys, tones):
    run = tmp_path / "run"
    told = refused(capsys, "--data", str(tones), "--run-dir", str(run), "--model.segment-size", "8000")
    assert "7936" in told and "Traceback" not in told
    assert not run.exists()


def test_missing_corpus_ends_in_one_line(tmp_path, capsys):
    run = tmp_path / "run"
    told = refused(capsys, "--data", str(tmp_path / "nowhere"), "--run-dir", str(run))
    assert re.fullmatch("error: .*nowhere.*\n", told)
    assert not run.exists()


def test_corpus_without_usable_audio_is_refused_with_the_reason(tmp_path, capsys):
    folder, run = tmp_path / "silence", tmp_path / "run"
    folder.mkdir()
    write_wav(folder / "silent.wav", np.zeros(22050, np.float32), 22050)
    told = refused(capsys, "--data", str(folder), "--run-dir", str(run))
    assert told.startswith("error: None of the 1 file(s)") and "silent" in told and "Traceback" not in told
    assert not run.exists()


def test_generator_of_another_size_is_refused(tmp_path, capsys, tones):
    block = {"resblock_kernel_sizes": (3,), "resblock_dilation_sizes": ((1,),)}
    other = HiFiGANConfig(GeneratorConfig(upsample_initial_channel=16, **block))
    save_generator(tmp_path / "model", Generator(other.generator, key=jax.random.key(0)), other)
    run = tmp_path / "run"
    flags = ["--data", str(tones), "--run-dir", str(run), "--init-from", str(tmp_path / "model"), *TINY]
    told = refused(capsys, *flags)
    assert told.startswith("error: ") and "another network" in told
    assert not run.exists()


def test_tones_are_learnt_from_and_the_run_goes_on(tmp_path, capsys, tones):
    run = tmp_path / "run"
    flags = ["--data", str(tones), "--run-dir", str(run), "--validation", "1", "--log-every", "1", *TINY]
    assert hifigan_l40.main([*flags, "--steps", "2"]) == 0
    told = capsys.readouterr().out
    error = re.search(r"validation mel L1 +([\d.]+)", told)
    assert "step 2 after" in told and error is not None
    assert 0 < float(error[1]) < 20
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {"mel_l1", "disc_period", "adv_scale"} <= set().union(*logged)
    assert list((run / "samples").rglob("*.wav"))
    assert (run / "model" / "config.json").is_file() and (run / "model" / "model.safetensors").is_file()

    assert hifigan_l40.main([*flags, "--steps", "3"]) == 0
    assert "step 3 after" in capsys.readouterr().out

    second = tmp_path / "second"
    again = ["--data", str(tones), "--run-dir", str(second), "--validation", "1", *TINY, "--steps", "1"]
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert hifigan_l40.main([*again, "--init-from", str(run)]) == 0
    assert "generator and discriminators of step 3" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    _, first_run = read_run(run)
    experiment = hifigan_l40.parse([*again, "--init-from", str(run)])
    task = HiFiGANTask(experiment.training, steps_per_epoch=1)
    begun = hifigan_l40.pretrained(task, run, seed=0)
    for part, learnt in (("generator", "average"), ("discriminators",) * 2, ("vectors",) * 2):
        assert eqx.tree_equal(getattr(begun, part), getattr(first_run, learnt))
    assert int(begun.counters.step) == 0
    capsys.readouterr()
    of_model = hifigan_l40.pretrained(task, run / "model", seed=0)
    assert "new discriminators" in capsys.readouterr().out
    assert not eqx.tree_equal(of_model.discriminators, first_run.discriminators)

"""The HiFi-GAN experiment: flags, errors, and a run from audio files to a model."""

import io
import json
import os
import re
import sys
import time
import types
from dataclasses import fields, replace
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import pytest

from experiments import common, hifigan_l40
from jaxvoice.config import to_dict
from jaxvoice.data import read_audio, write_wav
from jaxvoice.dsp import MelConfig, log_mel
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.models.hifigan import PRESETS, DiscriminatorConfig, Generator, GeneratorConfig, HiFiGANConfig
from jaxvoice.models.hifigan.family import FAMILY
from jaxvoice.models.hifigan.training import HiFiGANTask, read_run
from jaxvoice.models.hifigan.warm_start import continued_config, continued_state, initial_state
from jaxvoice.pipelines.importing import import_model
from jaxvoice.training.loop import TrainingResult
from jaxvoice.training.run_folder import RunFolder
from jaxvoice.training.run_lock import RunLock
from tests.experiments import command_lines
from tests.experiments.command_lines import flags_without_help
from tests.models.hifigan.test_warm_start import batches, save, torch_trainer

pytestmark = pytest.mark.usefixtures("own_cache")

TINY = [
    *("--model.generator.upsample-initial-channel", "8"),
    *(f"--model.generator.resblock-dilation-sizes.{i}=1" for i in range(3)),
    *("--model.discriminators.periods", "2"),
    *("--model.discriminators.width", "0.01"),
    *("--model.segment-size", "2048"),
    *("--ema-decay", "0.9"),
]


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
    assert experiment.training.model == PRESETS["tiny"]
    assert experiment.training.precision == "float32"
    assert experiment.loop.minutes is not None and experiment.loop.minutes < 5


def test_defaults_on_a_gpu_are_v1_for_an_hour(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    experiment = hifigan_l40.parse([])
    assert experiment.preset == "v1"
    assert experiment.training.model == PRESETS["v1"]
    assert (experiment.training.precision, experiment.loop.minutes) == ("bfloat16", 60)
    assert hifigan_l40.parse(["--preset", "v2"]).training.model == PRESETS["v2"]


def test_discriminators_join_early_on_a_gpu_and_late_on_a_cpu():
    tiny, v1, tuned = (hifigan_l40.parse(flags.split()).training for flags in ("", "--preset v1", "--init-from x"))
    assert tiny.loss_weights.stft == v1.loss_weights.stft == 10
    assert 0 < v1.reconstruction_steps < 13_000 / 10
    assert tiny.reconstruction_steps == tuned.reconstruction_steps > 270 / 0.01, "more steps than in 4.5 minutes"
    assert hifigan_l40.parse(["--preset", "v1", "--init-from", "x"]).training.reconstruction_steps == 0


@pytest.mark.parametrize("preset", ["tiny", "v1", "v3"])
def test_a_preset_is_the_same_on_every_machine(preset, monkeypatch):
    experiments = []
    for backend in ("cpu", "gpu", "tpu"):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        experiments.append(hifigan_l40.parse(["--preset", preset]))
    assert experiments[0] == experiments[1] == experiments[2] == hifigan_l40.default_experiment(preset)


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


@pytest.fixture
def stored(tmp_path) -> Path:
    """The run folder of an earlier version, with another network, batch size and intervals."""
    run = tmp_path / "run"
    (run / "checkpoints" / "5").mkdir(parents=True)
    flags = "--preset v3 --ema-decay 0.5 --steps 123 --validate-every 45 --seed 6"
    began = hifigan_l40.parse(flags.split())
    config = to_dict(began.training)
    config["model"]["generator"]["upsample_initial_channel"] = 64
    del config["reconstruction_steps"], config["loss_weights"]["stft"]  # settings that the version did not have
    loop = {**to_dict(began.loop), "minutes": 0.25}
    table = {"task": "HiFiGANTask", "config": config, "mel": config["model"]["mel"], "loop": loop}
    RunFolder(run).begin({**table, "data": {"batch_size": 24, "crops_per_clip": 3, "clips": 9}})
    return run


@pytest.mark.parametrize("form", ["--run-dir {}", "--run-dir={}", "--run_dir {}", "--run_dir={}"])
def test_resumed_run_has_its_stored_settings(stored, form):
    new = hifigan_l40.parse([])
    resumed = hifigan_l40.parse(form.format(stored).split())
    assert resumed.training.model.generator.upsample_initial_channel == 64
    assert resumed.training.model.discriminators == PRESETS["v3"].discriminators
    assert (resumed.training.ema_decay, resumed.training.reconstruction_steps) == (0.5, 0)
    assert resumed.training.loss_weights.stft == 0
    assert (resumed.batch_size, resumed.crops_per_clip, resumed.preset) == (24, 3, None)
    assert (resumed.loop.steps, resumed.loop.validate_every, resumed.loop.seed) == (123, 45, 6)
    # The stored minutes were those that remained after the corpus was read.
    assert (resumed.loop.minutes, resumed.loop.resume) == (new.loop.minutes, "auto")
    assert new.training.model.generator.upsample_initial_channel != 64 != new.batch_size


def test_resumed_run_without_its_corpus_raises(stored, tones, tmp_path, monkeypatch):
    def resume(corpus, *flags):
        folder = RunFolder(stored)
        folder.begin({**folder.read_config(), "data": {"corpus": str(corpus)}})
        common.check(hifigan_l40.parse(["--run-dir", str(stored), *flags]))

    with pytest.raises(ConfigError, match=f"--data is not set, but .* was trained on {tones}; pass --data {tones}, or"):
        resume(tones)
    resume(tones, "--data", "other")
    resume(tmp_path / "missing")
    monkeypatch.setenv("JAXVOICE_CACHE", str(tmp_path))
    demo = tmp_path / "demo" / "0123"
    demo.mkdir(parents=True)
    resume(demo)


def test_flags_of_a_resumed_run_override_its_stored_settings(stored, tones, capsys):
    given = ["--run-dir", str(stored)]
    flags = "--batch-size 16 --steps 200 --minutes 2 --resume must --loss-weights.mel 15"
    resumed = hifigan_l40.parse([*given, *flags.split()])
    assert (resumed.batch_size, resumed.loop.steps, resumed.loop.minutes, resumed.loop.resume) == (16, 200, 2, "must")
    assert resumed.training.loss_weights.mel == 15
    assert hifigan_l40.parse([*given, "--preset", "v2"]).training.model == PRESETS["v2"]
    printed = refused(capsys, *given, "--data", str(tones), "--batch-size", "8", "--loss-weights.mel", "15")
    assert re.search(
        r"different configuration \(stored != requested\).* config\.loss_weights\.mel: 45\.0 != 15\.0\n", printed
    )
    assert printed.count(" != ") == 2


@pytest.mark.parametrize("content", ["{", "[]", '{"config": {"unknown": 1}}', '{"config": [], "loop": 3, "data": []}'])
def test_unreadable_settings_of_a_run_are_the_defaults(tmp_path, content):
    """The training loop raises the error, because it depends on `--resume`."""
    run = tmp_path / "run"
    (run / "checkpoints" / "5").mkdir(parents=True)
    (run / "config.json").write_text(content, encoding="utf-8")
    given = hifigan_l40.parse(["--run-dir", str(run)])
    assert replace(given, run_dir=hifigan_l40.Experiment.run_dir) == hifigan_l40.parse([])


def test_every_flag_has_help(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as end:
        hifigan_l40.parse(["--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    # The numbered flags of a tuple share one help text.
    lines = [line.strip("│ ") for line in shown.splitlines()]
    heading = next(i for i, line in enumerate(lines) if "resblock-dilation-sizes options" in line)
    assert any(re.match("[A-Z]", line) for line in lines[heading + 1 : heading + 4])
    count, bare = flags_without_help(shown)
    assert count > 60
    assert [f for f in bare if not re.match(r"--model\.generator\.resblock-dilation-sizes\.\d", f)] == []


def refused(capsys, *flags: str) -> str:
    return command_lines.refused(capsys, hifigan_l40.main, *flags)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--preset", "v9"], "'v9'.*v1, v2, v3"),
        (["--steps", "0"], r"error: --steps is 0; it should be positive\.\n"),
        (["--minutes", "0"], r"error: --minutes is 0\.0; it should be positive\. None sets no time budget\.\n"),
        (["--steps", "1", "--log-every", "0"], r"error: --log-every is 0; it should be positive\.\n"),
        (["--ema-decay", "2"], r"error: --ema-decay is 2\.0; it should be in \[0, 1\)\. None keeps no average\.\n"),
        (["--reconstruction-steps", "-1"], "error: --reconstruction-steps is -1; it should be at least 0"),
        (["--generator-optimizer.b2", "1"], r"error: --generator-optimizer\.b2 is 1\.0; it should be in \[0, 1\)"),
        (["--model.mel.n-fft", "0"], r"error: --model\.mel\.n-fft is 0; it should be positive"),
        (["--model.generator.upsample-rates", "0", "2"], r"error: --model\.generator\.upsample-rates is \(0, 2\); it"),
        (["--loss-weights.mel", "-1"], r"error: --loss-weights\.mel is -1\.0; it should .* 0 disables the loss\."),
        (["--workers", "-1"], "error: --workers is -1; it should be at least 0"),
        (["--crops-per-clip", "0"], "error: --crops-per-clip is 0; it should be at least 1"),
        (["--batch-size", "3"], r"error: --batch-size is 3; it should .* number of devices, 8\. Set it to 8"),
        (["--model.generator.cond-channels", "4"], "error: --model.generator.cond-channels is 4.*use 0"),
        (["--best-metric", "score"], "error: --best-metric is 'score'; it should be one of mel_l1"),
        (["--resume", "must"], "no run to resume"),
        (["--init-from", "nowhere"], "--init-from is nowhere; it should be a run folder with checkpoints or a model"),
        (["--continue-from", "nowhere"], "nowhere contains no training state"),
        (["--continue-from=nowhere", "--preset", "v2"], "omit --preset"),
        (["--run-dir", "tones/tone0.wav/run"], "tone0.wav is not a folder. Choose another --run-dir"),
    ],
)
def test_invalid_values_are_one_line_before_decoding(tmp_path, capsys, tones, flags, message, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(common, "find_recordings", lambda *_, **__: pytest.fail("the corpus was read"))
    run = tmp_path / "run"
    printed = refused(capsys, "--data", str(tones), "--run-dir", str(run), *flags)
    assert re.fullmatch("hifigan_l40: error: .*\n", printed) and re.search(message, printed)
    assert not run.exists()


def test_contradictory_sizes_raise_with_the_remedy(tmp_path, capsys, tones):
    run = tmp_path / "run"
    printed = refused(capsys, "--data", str(tones), "--run-dir", str(run), "--model.segment-size", "8000")
    assert re.fullmatch("hifigan_l40: error: --model: segment_size .*7936.*\n", printed)
    assert not run.exists()


def test_unwritable_run_folders_raise_first(tmp_path, capsys, tones, monkeypatch):
    monkeypatch.setattr(common, "find_recordings", lambda *_, **__: pytest.fail("the corpus was read"))
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path)
    printed = refused(capsys, "--data", str(tones), "--run-dir", str(tmp_path / "a" / "b"))
    assert re.fullmatch(f"hifigan_l40: error: .*{re.escape(str(tmp_path))} is not writable.*\n", printed)
    assert not (tmp_path / "a").exists()


def test_run_folder_in_use_raises_first(tmp_path, capsys, tones, monkeypatch):
    monkeypatch.setattr(common, "find_recordings", lambda *_: pytest.fail("the corpus was read"))
    with RunLock(tmp_path) as lock:
        lock.acquire()
        (tmp_path / "config.json").write_text("{}")
        printed = refused(capsys, "--data", str(tones), "--run-dir", str(tmp_path))
    assert re.fullmatch(f"hifigan_l40: error: The run folder .* is in use by process {os.getpid()} on .*\n", printed)


def test_preset_none_is_the_default():
    assert hifigan_l40.parse(["--preset", "None"]) == hifigan_l40.parse([])


def test_missing_corpus_is_one_line(tmp_path, capsys):
    run = tmp_path / "run"
    printed = refused(capsys, "--data", str(tmp_path / "nowhere"), "--run-dir", str(run))
    assert re.fullmatch("hifigan_l40: error: .*nowhere.*\n", printed)
    assert not run.exists()


@pytest.mark.parametrize("place", [os.devnull, "n" * 400])
def test_folders_without_a_corpus_are_one_line(tmp_path, capsys, place):
    printed = refused(capsys, "--data", place, "--run-dir", str(tmp_path / "run"))
    assert re.fullmatch("hifigan_l40: error: There is no corpus at .*\n", printed)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows takes a path that long for one that does not exist")
def test_run_folders_with_long_names_are_one_line(tmp_path, capsys, tones):
    printed = refused(capsys, "--data", str(tones), "--run-dir", str(tmp_path / ("n" * 400)))
    assert re.search("hifigan_l40: error: .*File name too long.*\n$", printed) and printed.count("error: ") == 1


def test_system_errors_are_one_line_and_bugs_keep_their_traceback(tmp_path, capsys, tones, monkeypatch):
    def fail(*arguments):
        raise failure

    monkeypatch.setattr(common, "find_corpus", fail)
    flags = ["--data", str(tones), "--run-dir", str(tmp_path / "run")]
    failure = PermissionError(13, "Permission denied", "secret")
    assert refused(capsys, *flags) == "hifigan_l40: error: secret: Permission denied\n"
    with pytest.raises(PermissionError):
        hifigan_l40.main([*flags, "--debug"])
    failure = AssertionError("a bug")
    with pytest.raises(AssertionError, match="a bug"):
        hifigan_l40.main(flags)


def test_corpus_without_usable_audio_raises_with_reasons(tmp_path, capsys):
    folder, run = tmp_path / "silence", tmp_path / "run"
    folder.mkdir()
    write_wav(folder / "silent.wav", np.zeros(22050, np.float32), 22050)
    printed = refused(capsys, "--data", str(folder), "--run-dir", str(run))
    assert re.fullmatch(r"hifigan_l40: error: None of the 1 file\(s\).*silent.*\n", printed)
    assert not run.exists()


@pytest.fixture
def imported(tmp_path) -> Path:
    """A model folder imported from a `g_` and a `do_` file."""
    trainer = torch_trainer()
    for batch in batches(2):
        trainer.step(*batch)
    import_model(save(trainer, tmp_path / "cp", step=1, epoch=0), tmp_path / "imported")
    return tmp_path / "imported"


@pytest.mark.slow
def test_imported_training_is_continued(tmp_path, tones, imported, monkeypatch):
    flags = ["--data", str(tones), "--run-dir", str(tmp_path / "run"), "--validation", "1", "--batch-size", "8"]
    flags += ["--crops-per-clip", "4"]
    experiment = hifigan_l40.parse([*flags, "--continue-from", str(imported), "--steps", "3"])
    assert experiment.training == continued_config(imported)
    assert experiment.loop.minutes is None and experiment.loop.steps == 3
    begun = []

    def fit(task, loader, config, folder, *, initial_state, settings):
        begun.append((task, initial_state()))
        return TrainingResult("steps", 2, {}, None, folder, 0.0, 0.0, 0.0, 0)

    monkeypatch.setattr(common, "fit", fit)
    hifigan_l40.run(experiment)
    ((task, state),) = begun
    assert int(state.counters.step) == 2
    assert eqx.tree_equal(state, continued_state(task, imported))
    with pytest.raises(CheckpointError, match=r"--model\.generator\.resblock: '1' != '2'"):
        hifigan_l40.run(
            hifigan_l40.parse([*flags, "--continue-from", str(imported), "--model.generator.resblock", "2"])
        )


@pytest.mark.slow
def test_init_from_uses_imported_discriminators(imported, capsys):
    released = continued_state(HiFiGANTask(continued_config(imported), steps_per_epoch=1), imported)
    task = HiFiGANTask(continued_config(imported), steps_per_epoch=1)
    begun = initial_state(task, imported, seed=0)
    assert "and its discriminators" in capsys.readouterr().out
    assert eqx.tree_equal(begun.generator.model, released.generator.model)
    assert eqx.tree_equal(begun.discriminators.model, released.discriminators.model)
    assert eqx.tree_equal(begun.discriminators.model_state, released.discriminators.model_state)
    assert int(begun.counters.step) == 0
    assert not eqx.tree_equal(begun.discriminators.optimizer_state, released.discriminators.optimizer_state)
    narrow = replace(task.config, model=replace(task.config.model, discriminators=DiscriminatorConfig(width=1 / 8)))
    begun = initial_state(HiFiGANTask(narrow, steps_per_epoch=1), imported, seed=0)
    assert "and new discriminators" in capsys.readouterr().out


def test_init_from_and_continue_from_cannot_be_combined(tmp_path, capsys, imported):
    printed = refused(capsys, "--continue-from", str(imported), "--init-from", str(imported))
    assert re.search("cannot be combined", printed)


@pytest.mark.slow
def test_generators_of_another_size_raise(tmp_path, capsys, tones):
    block = {"resblock_kernel_sizes": (3,), "resblock_dilation_sizes": ((1,),)}
    other = HiFiGANConfig(GeneratorConfig(upsample_initial_channel=16, **block))
    FAMILY.save_network(tmp_path / "model", Generator(other.generator, key=jax.random.key(0)), other)
    run = tmp_path / "run"
    flags = ["--data", str(tones), "--run-dir", str(run), "--init-from", str(tmp_path / "model"), *TINY]
    printed = refused(capsys, *flags)
    difference = re.search(
        r"hifigan_l40: error: .*a different network .*\(stored != requested\): (.*)\. Use the", printed
    )
    assert difference is not None
    assert difference[1].split("; ") == [
        "--model.generator.resblock: '1' != '2'",
        "--model.generator.upsample_rates: (8, 8, 2, 2) != (8, 8, 4)",
        "--model.generator.upsample_kernel_sizes: (16, 16, 4, 4) != (16, 16, 8)",
        "--model.generator.upsample_initial_channel: 16 != 8",
        "--model.generator.resblock_kernel_sizes: (3,) != (3, 5, 7)",
        "--model.generator.resblock_dilation_sizes: ((1,),) != ((1,), (1,), (1,))",
    ]
    assert not run.exists()


@pytest.mark.parametrize("source", ["owner/name", "run"])
def test_init_from_uses_networks_and_licence_of_a_hub_model(tmp_path, tones, monkeypatch, source):
    """A run with a model but without checkpoints is valid too."""
    monkeypatch.chdir(tmp_path)
    folder, begun = tmp_path / "run" / "model", []
    names = []
    flags = ["--data", str(tones), "--run-dir", "new", "--init-from", source, "--preset", "tiny", *TINY]
    experiment = hifigan_l40.parse(flags)
    model = experiment.training.model
    generator = Generator(model.generator, key=jax.random.key(7))
    FAMILY.save_network(folder, generator, model, info={"licence": "MIT"})

    def snapshot_download(name, **patterns):
        names.append(name)
        return str(folder)

    monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(snapshot_download=snapshot_download))
    monkeypatch.setattr(common, "fit", lambda task, *_, initial_state, **__: begun.append((task, initial_state())))
    hifigan_l40.run(experiment)
    (task, state), *_ = begun
    assert set(names) == ({"owner/name"} if source == "owner/name" else set())
    assert eqx.tree_equal(state.generator.model, generator)
    task.save_model(state, tmp_path / "saved")
    info = json.loads((tmp_path / "saved" / "config.json").read_text(encoding="utf-8"))["info"]
    assert (info["licence"], info["initial_model"]) == ("MIT", source)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_decoding_shows_progress_and_counts_in_the_budget(tmp_path, tones, monkeypatch):
    given = []
    monkeypatch.setattr(common, "fit", lambda task, loader, loop, *_, **__: given.append(loop))
    monkeypatch.setattr("sys.stderr", Terminal())
    flags = ["--data", str(tones), "--run-dir", str(tmp_path / "run"), "--validation", "0", "--minutes", "3", *TINY]
    experiment = hifigan_l40.parse(flags)
    hifigan_l40.run(experiment, time.monotonic() - 60)
    hifigan_l40.run(experiment, time.monotonic() - 3600)
    assert "checking audio" in sys.stderr.getvalue() and "loading audio" in sys.stderr.getvalue()  # pyright: ignore
    assert 1 < given[0].minutes < 2 and given[1].minutes == pytest.approx(1 / 60)
    assert [replace(loop, minutes=3.0) for loop in given] == [experiment.loop] * 2


def test_missing_time_budget_is_not_reduced():
    assert common.remaining(common.Loop(minutes=None), 100.0).minutes is None


def test_help_of_minutes_states_what_is_included(capsys):
    with pytest.raises(SystemExit):
        hifigan_l40.parse(["--help"])
    assert "from the start of the command" in " ".join(capsys.readouterr().out.replace("│", " ").split())


def decibels(mel: np.ndarray) -> np.ndarray:
    return 20 / np.log(10) * mel


def test_mels_of_another_scale_are_rejected(tmp_path, capsys, tones):
    folder = tmp_path / "pairs"
    (folder / "mels").mkdir(parents=True)
    tones.rename(folder / "wavs")
    for path in (folder / "wavs").iterdir():
        mel = np.asarray(log_mel(read_audio(path).samples, MelConfig()))
        np.save(folder / "mels" / f"{path.stem}.npy", decibels(mel))
    printed = refused(capsys, "--data", str(folder), "--run-dir", str(tmp_path / "run"))
    assert re.fullmatch(r"hifigan_l40: error: None of the 5 file\(s\).*decibels \(values from -\d+.*\n", printed)


def result(folder: Path, **changes) -> TrainingResult:
    found = {"stopped": "steps", "step": 27, "metrics": {}, "best": None, "steps_per_second": 0.0}
    found |= {"compile_seconds": 1.0, "seconds": 9.0, "skipped": 0, **changes}
    names = {field.name for field in fields(TrainingResult)}
    return TrainingResult(folder=folder, **{name: value for name, value in found.items() if name in names})


def summary(folder: Path, *flags: str, **changes) -> str:
    return hifigan_l40.summary(result(folder, **changes), hifigan_l40.parse(flags), 60.0)


def write_model(folder: Path, step: int) -> None:
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "config.json").write_text(json.dumps({"info": {"step": step}}), encoding="utf-8")


def test_summary_before_the_first_validation_on_other_held_out_data(tmp_path):
    printed = summary(tmp_path / "run", metrics={"mel_l1": 1.5})
    assert re.search("validation mel L1 +no validation on these held-out data yet", printed)


def test_summary_of_a_diverged_run_recommends_no_missing_model(tmp_path):
    printed = summary(tmp_path / "run", metrics={"mel_l1": float("nan")})
    assert "nan" not in printed and re.search("validation mel L1 +no finite value yet", printed)
    assert (
        re.search("the model +none yet", printed)
        and "jaxvoice vocode" not in printed
        and str(tmp_path / "run" / "samples") not in printed
    )
    assert "0.00" not in printed and re.search("speed +not measured in this session", printed)


def test_summary_states_the_step_of_an_older_validation(tmp_path):
    write_model(tmp_path, 6)
    found = {"metrics": {"mel_l1": 4.5}, "best": {"step": 6, "value": 4.25}}
    printed = summary(tmp_path, **found, stopped="interrupted", steps_per_second=0.003)
    assert re.search(r"mel L1 +4\.2500 \(step 6\), 4\.5000 at the last validation\n", printed)
    assert re.search(r"the model .*model \(step 6\)\n", printed) and f"--model {tmp_path}\n" in printed
    assert "0.003 steps/s" in printed and f"tensorboard --logdir {tmp_path}" in printed
    now = summary(tmp_path, metrics={"mel_l1": 4.25}, best={"step": 6, "value": 4.25}, step=6)
    assert "(step 6)" not in now and re.search(r"mel L1 +4\.2500\n", now)


def test_summary_without_tensorboard_does_not_mention_it(tmp_path):
    assert "listen" not in summary(tmp_path, "--no-tensorboard")
    (tmp_path / "samples").mkdir()
    printed = summary(tmp_path, "--no-tensorboard")
    assert "tensorboard" not in printed and str(tmp_path / "samples") in printed


@pytest.mark.slow
@pytest.mark.usefixtures("one_device")
def test_run_on_tones_is_trained_and_resumed(tmp_path, capsys, tones):
    run = tmp_path / "run"
    flags = ["--data", str(tones), "--run-dir", str(run), "--validation", "1", "--log-every", "1", *TINY]
    flags += ["--reconstruction-steps", "1"]
    assert hifigan_l40.main([*flags, "--steps", "2"]) == 0
    printed = capsys.readouterr().out
    error = re.search(r"validation mel L1 +([\d.]+)", printed)
    assert "step 2 after" in printed and error is not None
    assert 0 < float(error[1]) < 20
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    first, second = (row for row in logged if row["kind"] == "train")
    assert {"mel_l1", "stft", "generator"} <= set(first) and "disc_period" not in first
    assert {"mel_l1", "stft", "disc_period", "adv_scale"} <= set(second)
    assert {"gradient_norm", "learning_rate", "disc_gradient_norm", "disc_learning_rate"} <= set(second)
    table = json.loads((run / "config.json").read_text(encoding="utf-8"))
    assert table["data"]["corpus"] == str(tones) and table["data"]["batch_size"] == hifigan_l40.parse(flags).batch_size
    assert table["held_out"] == {"ids": ["tone4"], "lengths": [11025], "peak_normalize": True}
    (sample,) = (run / "samples").rglob("tone4.wav")
    recording, target = (
        read_audio(tones / "tone4.wav").samples,
        read_audio(sample.with_name("tone4.target.wav")).samples,
    )
    scale = 0.95 / np.abs(recording).max()
    np.testing.assert_allclose(target, scale * recording[: len(target)], atol=1e-3)
    assert (run / "model" / "config.json").is_file() and (run / "model" / "model.safetensors").is_file()

    assert hifigan_l40.main([*flags, "--steps", "3"]) == 0
    assert "step 3 after" in capsys.readouterr().out

    second = tmp_path / "second"
    again = ["--data", str(tones), "--run-dir", str(second), "--validation", "1", *TINY, "--steps", "1"]
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert hifigan_l40.main([*again, "--init-from", str(run)]) == 0
    assert "the generator and the discriminators of step 3" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    _, first_run = read_run(run)
    experiment = hifigan_l40.parse([*again, "--init-from", str(run)])
    task = HiFiGANTask(experiment.training, steps_per_epoch=1)
    infos = [
        json.loads((folder / "model" / "config.json").read_text(encoding="utf-8"))["info"] for folder in (run, second)
    ]
    assert [info.get("initial_model") for info in infos] == [None, str(run)]
    begun = initial_state(task, run, seed=0)
    assert eqx.tree_equal(begun.generator.model, first_run.generator.average)
    assert eqx.tree_equal(begun.discriminators.model, first_run.discriminators.model)
    assert eqx.tree_equal(begun.discriminators.model_state, first_run.discriminators.model_state)
    assert int(begun.counters.step) == 0
    capsys.readouterr()
    of_model = initial_state(task, run / "model", seed=0)
    assert "new discriminators" in capsys.readouterr().out
    assert not eqx.tree_equal(of_model.discriminators.model, first_run.discriminators.model)

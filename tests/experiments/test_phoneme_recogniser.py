"""The experiment of the phoneme recogniser: flags, errors, and a run from alignments to content features."""

import json
import re
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxvoice
from experiments import common, phoneme_recogniser, voice_conversion
from jaxvoice.data import write_wav
from jaxvoice.models import conformer, hifivc
from jaxvoice.models.conformer.training import ConformerTask
from jaxvoice.text.phonemes import ALIGNED
from jaxvoice.training.loop import TrainingResult
from tests.experiments import command_lines
from tests.experiments.command_lines import flags_without_help

pytestmark = pytest.mark.usefixtures("own_cache")
RATE = 16_000
PITCHES = {"AA1": 200, "B": 400, "IY0": 900, "S": 3000, "pau": 0}
TINY = [
    *("--preset", "tiny", "--batch-size", "8", "--log-every", "1"),
    *("--model.layers", "1", "--model.dim", "8", "--model.heads", "2", "--model.feed-forward", "16"),
    *("--model.kernel-size", "3", "--model.subsampling-channels", "4", "--model.dropout", "0"),
    *("--optimizer.warmup-steps", "0"),
]


@pytest.fixture
def tones(tmp_path) -> Path:
    """Ten recordings of six tones each, with a table of the times of the tones."""
    random, folder = np.random.default_rng(0), tmp_path / "tones"
    folder.mkdir()
    for number in range(10):
        phones, lengths = random.choice(list(PITCHES), 6), random.integers(1600, 3200, 6)
        phase = 2 * np.pi * np.cumsum(np.repeat([PITCHES[phone] for phone in phones], lengths)) / RATE
        samples = 0.3 * np.sin(phase) + 1e-3 * random.normal(size=lengths.sum())
        write_wav(folder / f"t{number}.wav", samples.astype(np.float32), RATE)
        times = np.concatenate([[0], np.cumsum(lengths)]) / RATE
        rows = [f"{p},{a:.6f},{b:.6f}" for p, a, b in zip(phones, times[:-1], times[1:], strict=True)]
        (folder / f"t{number}.csv").write_text("\n".join(["phone,start_s,end_s", *rows]), encoding="utf-8")
    return folder


def refused(capsys, *flags: str) -> str:
    return command_lines.refused(capsys, phoneme_recogniser.main, *flags)


def test_defaults_depend_on_the_device(monkeypatch):
    tiny = phoneme_recogniser.parse([])
    assert tiny.training.model == replace(hifivc.PRESETS["tiny"].content, classes=len(ALIGNED.codes),
                                          symbols=ALIGNED.codes)  # fmt: skip
    assert tiny.loop.minutes == 5 and tiny.training.precision == "float32"
    assert tiny == phoneme_recogniser.default_experiment("tiny")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    small = phoneme_recogniser.parse([])
    assert (small.preset, small.training.precision) == ("small", "bfloat16")
    assert small.training.model.dim == conformer.PRESETS["small"].dim


def test_flags_reach_the_nested_configs():
    flags = "--preset tiny --model.layers 3 --optimizer.b2 0.5 --masking.time-masks 7 --buckets 3 --steps 9"
    experiment = phoneme_recogniser.parse(flags.split())
    training = experiment.training
    assert (training.model.layers, training.optimizer.b2, training.masking.time_masks) == (3, 0.5, 7)
    assert (experiment.buckets, experiment.loop.steps) == (3, 9)


def test_every_flag_has_help(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        phoneme_recogniser.parse(["--help"])
    count, bare = flags_without_help(capsys.readouterr().out)
    assert count > 50 and bare == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--preset", "large"], "--preset is 'large'; it should be one of tiny, small"),
        (["--steps", "0"], r"error: --steps is 0; it should be positive\."),
        (["--buckets", "0"], "error: --buckets is 0; it should be at least 1"),
        (["--batch-size", "3"], "error: --batch-size is 3; it should be a multiple of the number of devices"),
        (["--best-metric", "score"], "error: --best-metric is 'score'; it should be one of .*phoneme_error_rate"),
        (["--model.heads", "5"], "heads"),
        (["--resume", "must"], "no run to resume"),
        (["--init-from", "nowhere"], "--init-from is nowhere; it should be a run folder with checkpoints or a model"),
        (["--data", "nowhere"], "nowhere"),
    ],
)
def test_invalid_values_are_one_line(tmp_path, capsys, monkeypatch, flags, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(voice_conversion, "demo_corpus", lambda: pytest.fail("the corpus was synthesised"))
    printed = refused(capsys, "--run-dir", "run", *flags)
    assert re.fullmatch("phoneme_recogniser: error: .*\n", printed) and re.search(message, printed)
    assert not (tmp_path / "run").exists()


def test_init_from_uses_the_network_of_another_run(tmp_path, tones, monkeypatch, capsys):
    experiment = phoneme_recogniser.parse(["--data", str(tones), "--run-dir", str(tmp_path / "run"), *TINY])
    config = experiment.training.model
    network = conformer.with_state(model := conformer.Conformer(config, key=jax.random.key(7)), model.init_state())
    conformer.FAMILY.save_network(tmp_path / "model", network, config, info={"licence": "test", "step": 3})
    begun = []

    def fit(task, loader, loop, folder, *, initial_state, settings):
        begun.append(initial_state())
        task.save_model(begun[0], folder / "model")
        return TrainingResult("steps", 0, {}, None, folder, 0.0, 0.0, 0.0, 0)

    monkeypatch.setattr(common, "fit", fit)
    phoneme_recogniser.run(replace(experiment, init_from=tmp_path / "model"))
    np.testing.assert_array_equal(
        begun[0].network.model.encoder.layers[0].norm_out.weight, network.encoder.layers[0].norm_out.weight
    )
    ours, theirs = begun[0].network.model.encoder.pre_encode.out, network.encoder.pre_encode.out
    np.testing.assert_array_equal(ours.weight, theirs.weight)
    saved = json.loads((tmp_path / "run" / "model" / "config.json").read_text(encoding="utf-8"))["info"]
    assert saved["licence"] == "test" and saved["initial_model"] == str(tmp_path / "model") and saved["step"] == 0
    flags = ["--data", str(tones), "--init-from", str(tmp_path / "model"), "--run-dir", str(tmp_path / "other")]
    printed = refused(capsys, *flags, *TINY, "--model.dim", "12")
    assert "contains another network" in printed and "--model.dim: 8 != 12" in printed


@pytest.mark.slow
@pytest.mark.usefixtures("one_device")
def test_run_is_trained_and_computes_content_features(tmp_path, tones, capsys):
    flags = ["--data", str(tones), "--run-dir", str(tmp_path / "run"), *TINY, "--steps", "3"]
    assert phoneme_recogniser.main(flags) == 0
    shown = capsys.readouterr().out
    assert "usable" in shown and "step 3 after" in shown
    assert f"python -m experiments.hifivc_vctk --content-encoder {tmp_path / 'run'}" in shown
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert {"cross_entropy", "frame_accuracy", "phoneme_error_rate"} <= set().union(*rows)
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert stored["held_out"]["ids"] == ["t9"] and stored["family"] == ConformerTask.family
    encoder = jaxvoice.load(tmp_path / "run")
    assert encoder.encode(np.sin(np.arange(RATE)).astype(np.float32)).shape == (8, 25)
    assert set(encoder.recognise(np.sin(np.arange(RATE)).astype(np.float32))) <= set(ALIGNED.codes)

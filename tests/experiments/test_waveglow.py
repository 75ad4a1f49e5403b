"""The WaveGlow experiment: flags, errors, and a run from audio files to a model."""

import json
import re
from dataclasses import replace
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import pytest

from experiments import common, waveglow as experiment_module
from jaxvoice.data import demo, read_audio, write_wav
from jaxvoice.dsp import bucketed_log_mel
from jaxvoice.errors import CheckpointError
from jaxvoice.models import waveglow
from jaxvoice.models.waveglow import WaveGlow
from jaxvoice.training.loop import TrainingResult
from tests.experiments import command_lines
from tests.experiments.command_lines import flags_without_help
from tests.models.waveglow.small import SMALL

pytestmark = pytest.mark.usefixtures("own_cache")
MODEL = replace(SMALL, flows=2, early_every=1, layers=2)


@pytest.fixture
def tones(tmp_path) -> Path:
    folder = tmp_path / "tones"
    folder.mkdir()
    time = np.arange(8000) / 22050
    for i in range(5):
        samples = 0.3 * np.sin(2 * np.pi * (150 + 70 * i) * time)
        write_wav(folder / f"tone{i}.wav", samples.astype(np.float32), 22050)
    return folder


def small_experiment(data: Path, run_dir: Path) -> experiment_module.Experiment:
    given = experiment_module.default_experiment("tiny")
    training = replace(given.training, model=MODEL, segment_size=1024)
    loop = replace(given.loop, steps=3, log_every=1, minutes=None, tensorboard=False)
    return replace(
        given, data=data, run_dir=run_dir, batch_size=8, workers=0, validation=1, training=training, loop=loop
    )


def refused(capsys, *flags: str) -> str:
    return command_lines.refused(capsys, experiment_module.main, *flags)


def test_defaults_depend_on_the_device(monkeypatch):
    tiny = experiment_module.parse([])
    assert tiny == experiment_module.default_experiment("tiny")
    assert tiny.training.model == waveglow.PRESETS["tiny"] and tiny.training.dequantize
    assert tiny.loop.minutes is not None and tiny.loop.minutes < 10 and tiny.loop.best_metric == "bits_per_sample"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    full = experiment_module.parse([])
    assert full.preset == "256channels" and full.training.model == waveglow.PRESETS["256channels"]
    training, optimizer = full.training, full.training.optimizer
    # NVIDIA/waveglow `config.json`
    assert (full.batch_size, training.segment_size, training.sigma, training.dequantize) == (12, 16_000, 1.0, False)
    assert (optimizer.learning_rate, optimizer.b1, optimizer.b2, optimizer.weight_decay) == (1e-4, 0.9, 0.999, 0.0)
    assert (optimizer.schedule, training.precision) == ("constant", "bfloat16")
    monkeypatch.undo()
    assert experiment_module.parse(["--preset", "tiny"]) == tiny


def test_flags_reach_the_nested_configs():
    flags = "--preset 512channels --model.flows 8 --sigma 0.7 --segment-size 8000 --optimizer.b1 0.5 --steps 9"
    given = experiment_module.parse(flags.split())
    training = given.training
    assert (training.model.flows, training.model.channels, training.sigma) == (8, 512, 0.7)
    assert (training.segment_size, training.optimizer.b1, given.loop.steps) == (8000, 0.5, 9)
    assert given.loop.best_metric == "bits_per_sample"


def test_every_flag_has_help(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        experiment_module.parse(["--help"])
    count, bare = flags_without_help(capsys.readouterr().out)
    assert count > 60 and bare == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--preset", "v1"], "--preset is 'v1'; it should be one of 256channels, 512channels, tiny"),
        (["--steps", "0"], r"error: --steps is 0; it should be positive\."),
        (["--sigma", "0"], r"error: --sigma is 0\.0; it should be positive"),
        (
            ["--segment-size", "1001"],
            "error: .*segment.size is 1001; it should be a multiple of model.group, 16, .* 1008",
        ),
        (["--segment-size", "256"], "error: .*segment.size is 256; .* at least 513"),
        (["--model.group", "7"], "error: --model.group is 7; it should divide the hop length"),
        (["--optimizer.b2", "1"], r"error: --optimizer\.b2 is 1\.0; it should be in \[0, 1\)"),
        (["--ema-decay", "2"], r"error: --ema-decay is 2\.0; it should be in \[0, 1\)\. None keeps no average\.\n"),
        (["--workers", "-1"], "error: --workers is -1; it should be at least 0"),
        (["--batch-size", "3"], "error: --batch-size is 3; it should be a multiple of the number of devices"),
        (["--best-metric", "loss"], "error: --best-metric is 'loss'; it should be one of bits_per_sample, mel_l1"),
        (["--resume", "must"], "no run to resume"),
        (["--init-from", "nowhere"], "--init-from is nowhere; it should be a run folder with checkpoints or a model"),
    ],
)
def test_invalid_values_are_one_line_before_decoding(tmp_path, capsys, monkeypatch, tones, flags, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(common, "find_recordings", lambda *_, **__: pytest.fail("the corpus was read"))
    printed = refused(capsys, "--data", str(tones), "--run-dir", "run", *flags)
    assert re.fullmatch("waveglow: error: .*\n", printed) and re.search(message, printed), printed
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("one_device")
def test_run_reads_one_voice_without_changes_of_level(tmp_path, tones, monkeypatch):
    given, begun = [], []

    def make_demo_corpus(voices):
        given.append(voices)
        return common.find_corpus(tones)

    monkeypatch.setattr(common, "make_demo_corpus", make_demo_corpus)
    monkeypatch.setattr(common, "fit", lambda task, loader, *_, **__: begun.append((task, loader)))
    experiment_module.run(replace(small_experiment(tones, tmp_path / "run"), data=None))
    ((task, loader),) = begun
    assert given == [demo.VOICES[:1]]
    assert task.held_out()["ids"] == ["tone4"] and task.held_out()["peak_normalize"] is False
    assert loader.describe()["clips"] == 4 and loader.describe()["segment"] == 1024


@pytest.mark.usefixtures("one_device")
def test_crops_of_mels_are_whole_frames(tmp_path, tones, monkeypatch, capsys):
    folder, begun = tmp_path / "pairs", []
    (folder / "mels").mkdir(parents=True)
    tones.rename(folder / "wavs")
    for path in (folder / "wavs").iterdir():
        np.save(folder / "mels" / f"{path.stem}.npy", bucketed_log_mel(read_audio(path).samples, MODEL.mel))
    monkeypatch.setattr(common, "fit", lambda task, loader, *_, **__: begun.append(next(loader)))
    given = small_experiment(folder, tmp_path / "run")
    experiment_module.run(replace(given, training=replace(given.training, segment_size=16_000 - 256 * 56)))
    (batch,) = begun
    assert batch.audio.shape == (8, 1536) and batch.mel.shape == (8, 10, 6)
    assert "--segment-size is 1664; crops of mels are whole frames, so 1536 are used." in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("one_device")
def test_init_from_uses_the_network_of_another_run(tmp_path, tones, monkeypatch):
    begun = []

    def fit(task, loader, loop, folder, *, initial_state, settings):
        begun.append((task, initial_state))
        return TrainingResult("steps", 0, {}, None, folder, 0.0, 0.0, 0.0, 0)

    monkeypatch.setattr(common, "fit", fit)
    network = eqx.filter_jit(WaveGlow)(MODEL, key=jax.random.key(7))
    waveglow.FAMILY.save_network(tmp_path / "trained", network, MODEL, info={"licence": "test"})
    given = replace(small_experiment(tones, tmp_path / "run"), init_from=tmp_path / "trained")
    experiment_module.run(given)
    ((task, initial_state),) = begun
    state = initial_state()
    assert eqx.tree_equal(state.network.model, network) and int(state.counters.step) == 0
    task.save_model(state, tmp_path / "saved")
    info = json.loads((tmp_path / "saved" / "config.json").read_text(encoding="utf-8"))["info"]
    assert (info["licence"], info["initial_model"]) == ("test", str(tmp_path / "trained"))
    other = replace(given.training, model=replace(MODEL, flows=4))
    with pytest.raises(CheckpointError, match=r"another network .*--model\.flows: 2 != 4"):
        experiment_module.run(replace(given, training=other))


@pytest.mark.slow
@pytest.mark.usefixtures("one_device")
def test_run_is_trained_and_saved(tmp_path, tones):
    given = small_experiment(tones, tmp_path / "run")
    result = experiment_module.run(given)
    assert result.step == 3 and {"bits_per_sample", "mel_l1"} == set(result.metrics)
    shown = experiment_module.summary(result, given, 60.0)
    assert "step 3 after 1.0 minutes (step limit reached)" in shown and "bits_per_sample" in shown
    assert f"jaxvoice vocode RECORDING.wav OUTPUT.wav --model {tmp_path / 'run'}" in shown
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert {"loss", "bits_per_sample", "log_scale", "log_determinant", "gradient_norm"} <= set(rows[0])
    assert [row["step"] for row in rows if row["kind"] == "train"] == [1, 2, 3]
    network, config = waveglow.FAMILY.load_network(tmp_path / "run" / "model")
    assert config == MODEL and isinstance(network, WaveGlow)

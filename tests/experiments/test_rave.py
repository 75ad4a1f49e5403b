"""The RAVE experiment: flags, errors, the division of recordings, and a run from audio files to a model."""

import json
import re
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile

from experiments import rave as experiment_module
from jaxvoice.errors import DataError
from jaxvoice.models import rave
from jaxvoice.models.rave.training import RaveTask
from jaxvoice.models.rave.warm_start import save_discriminators
from jaxvoice.weights import named_arrays
from tests.experiments import command_lines
from tests.experiments.command_lines import flags_without_help
from tests.models.rave.checkpoints import discriminators_with, training_arrays
from tests.models.rave.small import random_model
from tests.models.rave.test_rave_steps import CONFIG

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def tones(tmp_path) -> Path:
    """A long recording, a short one at another rate, and two that cannot be used."""
    folder = tmp_path / "tones"
    folder.mkdir()
    for name, rate, samples in (("long", 8000, 20_000), ("short", 16_000, 1000)):
        wave = 0.3 * np.sin(0.1 * np.arange(samples)) + 0.01 * np.random.default_rng(0).normal(size=samples)
        soundfile.write(folder / f"{name}.wav", wave, rate)
    soundfile.write(folder / "silent.wav", np.zeros(5000), 8000)
    soundfile.write(folder / "click.wav", np.array([0.5, -0.5, 0.3]), 8000)
    return folder


def small_experiment(data: Path, run_dir: Path) -> experiment_module.Experiment:
    given = experiment_module.default_experiment("tiny")
    training = replace(CONFIG, phase_1_steps=2, update_discriminator_every=2)
    loop = replace(given.loop, steps=4, log_every=1, minutes=None, tensorboard=False)
    return replace(given, data=data, run_dir=run_dir, batch_size=8, workers=0, training=training, loop=loop)


def refused(capsys, *flags: str) -> str:
    return command_lines.refused(capsys, experiment_module.main, *flags)


def test_defaults_depend_on_the_device(monkeypatch):
    tiny = experiment_module.parse([])
    assert tiny == experiment_module.default_experiment("tiny")
    assert tiny.loop.minutes is not None and tiny.loop.minutes < 10 and tiny.training.phase_1_steps < tiny.loop.steps
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    full = experiment_module.parse([])
    assert full.preset == "v2" and full.training.model == rave.PRESETS["v2"] and full.loop.minutes
    training, optimizer = full.training, full.training.generator_optimizer
    # The settings of the release; see its section in docs/rave_training.md.
    assert (full.batch_size, training.segment_size, training.phase_1_steps) == (8, 131_072, 1_000_000)
    assert (optimizer.learning_rate, optimizer.b1, optimizer.b2) == (1e-3, 0.5, 0.9)
    assert (full.loop.steps, full.loop.validate_every) == (6_000_000, 10_000)
    assert full.augmentation.allpass_probability == 0.8 and full.augmentation.compress_probability == 0
    nopqmf = experiment_module.parse(["--preset", "v2_nopqmf"]).augmentation
    assert (nopqmf.compress_probability, nopqmf.compress_range) == (0.5, (-60.0, -10.0))


def test_flags_reach_the_nested_configs():
    flags = "--preset v1 --model.n-channels 2 --phase-1-steps 9 --weights.feature-matching 5 --beta.target 0.2"
    flags += " --augmentation.gain-probability 0.5 --steps 7 --model.bottleneck.latent-size 8"
    given = experiment_module.parse(flags.split())
    training = given.training
    assert (training.model.n_channels, training.model.bottleneck.latent_size) == (2, 8)
    assert (training.phase_1_steps, training.weights.feature_matching, training.beta.target) == (9, 5.0, 0.2)
    assert (given.augmentation.gain_probability, given.loop.steps) == (0.5, 7)


def test_every_flag_has_help(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        experiment_module.parse(["--help"])
    count, bare = flags_without_help(capsys.readouterr().out)
    # Each stage has its own flag for its dilations, which share the description of the first.
    assert count > 100 and [flag for flag in bare if ".dilations." not in flag] == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--preset", "v9"], "--preset is 'v9'; it should be one of tiny, v1, v2"),
        (["--steps", "0"], r"error: --steps is 0; it should be positive\."),
        (["--segment-size", "1001"], "segment.size is 1001; it should be a multiple of the hop length of the model"),
        (["--augmentation.gain-probability", "2"], r"gain.probability is 2\.0"),
        (["--best-metric", "loss"], "--best-metric is 'loss'; it should be one of spectral_distance"),
        (["--workers", "-1"], "error: --workers is -1; it should be at least 0"),
        (["--resume", "must"], "no run to resume"),
    ],
)
def test_invalid_values_are_one_line_before_decoding(tmp_path, capsys, monkeypatch, tones, flags, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(experiment_module, "find_recordings", lambda *_: pytest.fail("the corpus was read"))
    printed = refused(capsys, "--data", str(tones), "--run-dir", "run", *flags)
    assert re.fullmatch("rave: error: .*\n", printed) and re.search(message, printed), printed
    assert not (tmp_path / "run").exists()


def test_recordings_are_checked_and_divided(tones, tmp_path, capsys):
    given = small_experiment(tones, tmp_path / "run")
    corpus = experiment_module.find_recordings(given)
    table = capsys.readouterr().out
    # Three samples are less than a frame of latents; 500 samples at the model's rate are padded.
    assert re.search(r"rejected +2\n", table) and "silent.wav is silent" in table and "click.wav is too short" in table
    assert "padded with zeros" in table and "resampled from 16000 Hz to 8000 Hz" in table
    assert [utterance.id for utterance in corpus.utterances] == ["long", "short"]
    store, held_out = experiment_module.load_recordings(given, corpus)
    assert held_out is not None
    names = [utterance.id for part in (store, held_out) for utterance in part.corpus.utterances]
    assert len(held_out) == 1 and sorted(names) == [*(f"long#{i + 1:04}" for i in range(9)), "short"]
    assert sum(part.lengths("audio").sum() for part in (store, held_out)) == 20_500
    with pytest.raises(DataError, match="None of the 1 file"):
        experiment_module.find_recordings(replace(given, data=tones / "silent.wav"))


def test_one_short_recording_is_trained_without_validation(tones, tmp_path, capsys):
    given = small_experiment(tones / "short.wav", tmp_path / "run")
    store, held_out = experiment_module.load_recordings(given, experiment_module.find_recordings(given))
    assert len(store) == 1 and held_out is None and "too short to hold out" in capsys.readouterr().out


def test_init_from_uses_the_discriminators_of_the_model(tones, tmp_path, capsys):
    model = CONFIG.model
    rave.FAMILY.save_network(tmp_path / "model", random_model(model), model)
    given = replace(small_experiment(tones, tmp_path / "run"), init_from=tmp_path / "model")
    task = RaveTask(given.training, steps_per_epoch=1)
    assert experiment_module.initial_state(given, task) is not None
    assert "starting with new discriminators" in capsys.readouterr().out
    stored = discriminators_with(model, training_arrays(model))
    save_discriminators(tmp_path / "model", stored, given.training, step=7)
    initial = experiment_module.initial_state(given, task)
    assert initial is not None and "starting with its discriminators" in capsys.readouterr().out
    found = named_arrays(initial().discriminators.model)
    for name, array in named_arrays(stored).items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.slow
@pytest.mark.usefixtures("one_device")
def test_run_ends_with_reconstructions_and_a_command(tones, tmp_path, capsys):
    given = small_experiment(tones, tmp_path / "run")
    result = experiment_module.run(given)
    printed = experiment_module.summary(result, given, 60.0)
    assert result.step == 4 and result.metrics["spectral_distance"] > 0
    assert re.search(r"phase +second", printed) and "jaxvoice transfer RECORDING.wav OUTPUT.wav --model" in printed
    samples = tmp_path / "run" / "samples" / "step_00000004"
    assert len(list(samples.glob("*.target.wav"))) == len(list(samples.glob("*.png"))) > 0
    model, config = rave.FAMILY.load_network(tmp_path / "run" / "model")
    assert config == CONFIG.model and int(model.state.encoder.warmed_up) == 1
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    trained = [line for line in lines if line["kind"] == "train"]
    assert ["discriminator" in line for line in trained] == [False, False, True, False]
    assert ["adversarial" in line for line in trained] == [False, False, False, True]
    assert "second phase begins after 2 steps" in capsys.readouterr().out

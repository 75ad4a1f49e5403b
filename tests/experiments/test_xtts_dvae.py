"""The experiment of the DVAE of XTTS: flags, errors, and runs from recordings to a codec."""

import re
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import xtts_dvae as experiment
from jaxvoice import Codec
from jaxvoice.data import write_wav
from jaxvoice.models.xtts_dvae import FAMILY, CodecNetwork, DVAEConfig
from jaxvoice.weights import named_arrays
from tests.experiments import command_lines
from tests.experiments.command_lines import flags_without_help
from tests.models.xtts_dvae.small import SMALL, VOCODER
from tests.models.xtts_dvae.test_xtts_dvae_training import CONFIG, tones

pytestmark = pytest.mark.usefixtures("own_cache")
RATE = SMALL.mel.sample_rate


@pytest.fixture
def recordings(tmp_path) -> Path:
    (tmp_path / "recordings").mkdir()
    for number, audio in enumerate(tones(4, 12_000)):
        write_wav(tmp_path / "recordings" / f"{number}.wav", (audio / 32767).astype(np.float32), RATE)
    return tmp_path / "recordings"


def small_experiment(data: Path, run_dir: Path) -> experiment.Experiment:
    given = experiment.default_experiment("tiny")
    loop = replace(given.loop, steps=4, log_every=1, validate_every=0, minutes=None, tensorboard=False)
    return replace(given, data=data, run_dir=run_dir, batch_size=8, workers=0, training=CONFIG, loop=loop)


def test_defaults_depend_on_the_device(monkeypatch):
    tiny = experiment.parse([]).training
    assert tiny.model.dvae.codes < 1024 and tiny.model.vocoder is not None
    assert experiment.parse([]).loop.minutes is not None
    assert tiny.dvae_steps < 10_000 < tiny.reconstruction_steps
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert experiment.parse([]).training.model.dvae == DVAEConfig()
    assert experiment.parse(["--preset", "v1_1"]).training.model.dvae == DVAEConfig(codes=8192)


def test_flags_reach_the_nested_configs():
    flags = "--model.dvae.codes 99 --dvae-steps 7 --restart-below 0.1 --steps 9 --optimizer.learning-rate 0.5"
    found = experiment.parse(flags.split())
    training = found.training
    assert (training.model.dvae.codes, training.dvae_steps, training.restart_below) == (99, 7, 0.1)
    assert (found.loop.steps, training.optimizer.learning_rate) == (9, 0.5)


def test_every_flag_has_help(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        experiment.parse(["--help"])
    count, bare = flags_without_help(capsys.readouterr().out)
    # Each residual block has its own flag for its dilations, which share the description of the first.
    assert count > 80 and [flag for flag in bare if "dilation-sizes." not in flag] == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--preset", "v3"], "--preset is 'v3'; it should be one of tiny, v2, v1_1"),
        (["--segment-size", "1000"], "segment.size is 1000; it should be a multiple of the samples of a code, 1024"),
        (["--restart-below", "2"], r"restart.below is 2\.0; it should be in \[0, 1\)"),
        (["--best-metric", "loss"], "--best-metric is 'loss'; it should be one of mel_l1"),
        (["--workers", "-1"], "--workers is -1"),
    ],
)
def test_invalid_values_are_one_line(capsys, tmp_path, monkeypatch, flags, message):
    monkeypatch.chdir(tmp_path)
    printed = command_lines.refused(capsys, experiment.main, *flags)
    assert re.fullmatch("xtts_dvae: error: .*\n", printed) and re.search(message, printed), printed


@pytest.mark.slow
@pytest.mark.usefixtures("one_device")
def test_run_ends_with_a_codec(recordings, tmp_path):
    given = small_experiment(recordings, tmp_path / "run")
    result = experiment.run(given)
    assert result.step == 4 and result.metrics["mel_l1"] > 0
    text = experiment.summary(result, given, 60.0)
    assert "jaxvoice vocode RECORDING.wav OUTPUT.wav --model" in text and "perplexity" in text
    codec = Codec.load(tmp_path / "run")
    assert "a vocoder" in repr(codec) and codec.resynthesize(recordings / "0.wav").shape == (12_000,)
    # The statistics are those of the recordings that are not held out; a resumed run keeps them.
    stats = np.asarray(codec.network.mel_stats)
    assert (stats > 1).all() and np.unique(stats).size == 10
    experiment.run(replace(given, loop=replace(given.loop, steps=5)))
    np.testing.assert_array_equal(Codec.load(tmp_path / "run").network.mel_stats, stats)


@pytest.mark.slow
@pytest.mark.usefixtures("one_device")
def test_vocoder_is_trained_for_an_imported_dvae(recordings, tmp_path, capsys):
    network = CodecNetwork(SMALL, key=jax.random.key(3))
    FAMILY.save_network(tmp_path / "dvae", network, SMALL, info={"licence": "none"})
    given = small_experiment(recordings, tmp_path / "run")
    training = replace(CONFIG, dvae_steps=0, reconstruction_steps=9)
    experiment.run(replace(given, training=training, init_from=tmp_path / "dvae"))
    assert "has no vocoder, so it is new" in capsys.readouterr().out
    found, config = FAMILY.load_network(tmp_path / "run" / "model")
    assert config.vocoder == VOCODER
    before, after = (named_arrays(one, merged=FAMILY.merged) for one in (network, found))
    for name, array in before.items():
        np.testing.assert_array_equal(array, after[name], err_msg=name)

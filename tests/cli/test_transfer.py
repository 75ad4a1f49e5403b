"""`jaxvoice transfer`: files and folders, other encoders, and errors."""

import dataclasses

import jax
import numpy as np
import pytest
import soundfile

import jaxvoice
from jaxvoice.cli import main
from jaxvoice.models.rave import FAMILY, BottleneckConfig
from tests.models.rave.small import SMALL

RATE = SMALL.sample_rate


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two models with the same latents, one with others, and recordings."""
    folder = tmp_path_factory.mktemp("transfer")
    other = dataclasses.replace(SMALL, encoder=dataclasses.replace(SMALL.encoder, capacity=6))
    fewer = dataclasses.replace(SMALL, bottleneck=BottleneckConfig(latent_size=4))
    for name, config in (("model", SMALL), ("other", other), ("fewer", fewer)):
        FAMILY.save_network(folder / name, FAMILY.build(config, key=jax.random.key(0)), config)
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, (700, 2)).astype(np.float32)
    (folder / "in").mkdir()
    soundfile.write(folder / "in" / "stereo.wav", audio, RATE, "FLOAT")
    soundfile.write(folder / "in" / "mono.wav", audio[:, 0], RATE, "FLOAT")
    return folder


def transfer(*arguments):
    return main(["transfer", *map(str, arguments)])


@pytest.mark.slow
def test_folders_are_converted_to_folders(place, tmp_path, capsys):
    code = transfer(place / "in", tmp_path / "out", "--model", place / "model", "--subtype", "float")
    assert code == 0 and "2 WAV files" in capsys.readouterr().out
    rave = jaxvoice.Rave.load(place / "model")
    for name, channels in (("mono", 1), ("stereo", 2)):
        written, rate = soundfile.read(tmp_path / "out" / f"{name}.wav", always_2d=True, dtype="float32")
        assert rate == RATE and written.shape == (700, channels)
        expected = rave.transfer(place / "in" / f"{name}.wav")
        np.testing.assert_array_equal(written.T, np.atleast_2d(expected))


def test_another_model_encodes(place, tmp_path):
    options = ("--model", place / "model", "--encoder", place / "other", "--seed", 3, "--subtype", "float")
    assert transfer(place / "in" / "mono.wav", tmp_path / "a.wav", *options) == 0
    models = [jaxvoice.Rave.load(place / name) for name in ("model", "other")]
    expected = models[0].transfer(place / "in" / "mono.wav", encoder=models[1], seed=3)
    np.testing.assert_array_equal(soundfile.read(tmp_path / "a.wav", dtype="float32")[0], expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--encoder", "fewer"), "latents per frame of the encoder are 4; they should be 6"),
        (("--latent-size", "2"), "no principal components: its training computed none"),
        (("--fidelity", "0.5"), "no principal components"),
        (("--encoder", "missing"), "There is no folder"),
    ],
)
def test_models_that_do_not_fit_raise_an_error(options, message, place, tmp_path, capsys):
    values = [place / value if value in ("fewer", "missing") else value for value in options]
    assert transfer(place / "in" / "mono.wav", tmp_path / "a.wav", "--model", place / "model", *values) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "a.wav").exists()


def test_damaged_files_are_reported_and_others_are_converted(place, tmp_path, capsys):
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    soundfile.write(tmp_path / "nan.wav", np.full(100, np.nan, np.float32), RATE, "FLOAT")
    files = tmp_path / "broken.wav", tmp_path / "nan.wav", place / "in" / "mono.wav"
    assert transfer(*files, tmp_path / "out", "--model", place / "model") == 2
    errors = capsys.readouterr().err
    assert "broken.wav" in errors and "NaN or infinity in 100" in errors and "2 of 3 files failed" in errors
    assert (tmp_path / "out" / "mono.wav").is_file()
    assert transfer(tmp_path / "out.wav", "--model", place / "model") == 2
    assert "at least 2: one or more INPUT" in capsys.readouterr().err

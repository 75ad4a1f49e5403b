"""`jaxvoice clone`, and `speak`, `voice` and `convert` with a model that reads speaker vectors."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import soundfile

from jaxvoice.cli import main
from jaxvoice.models import speaker_encoder
from jaxvoice.models.vits import FAMILY
from jaxvoice.pipelines import VITSSynthesizer
from tests.models.gaussian_tts.small import SMALL as OTHER, networks, save_model
from tests.models.speaker_encoder.small import SMALL as ENCODER
from tests.models.vits.small import SMALL

DIM = ENCODER.network.dim


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a model, its speaker encoder, and a recording."""
    place = tmp_path_factory.mktemp("clone")
    config = dataclasses.replace(
        SMALL, speaker_channels=DIM, decoder=dataclasses.replace(SMALL.decoder, cond_channels=DIM)
    )
    FAMILY.save_network(place / "model", FAMILY.build(config, key=jax.random.key(0)), config)
    vector = [float(value) for value in np.random.default_rng(1).normal(size=DIM)]
    (place / "model" / "speakers.json").write_text(
        json.dumps({"anna": {"name": "anna", "embedding": vector}}), encoding="utf-8"
    )
    encoder = speaker_encoder.FAMILY.build(ENCODER, key=jax.random.key(1))
    speaker_encoder.FAMILY.save_network(place / "encoder", encoder, ENCODER)
    random, time = np.random.default_rng(0), np.arange(24000) / 16000
    audio = 0.3 * np.sin(2 * np.pi * 140 * time) + 0.03 * random.normal(size=24000)
    soundfile.write(place / "a.wav", audio, 16000)
    return place


def run(*command):
    return main([str(part) for part in command])


def test_text_is_spoken_in_the_voice_of_a_recording(place, tmp_path, capsys):
    given = place / "a.wav", "hello you.", tmp_path / "out.wav"
    options = "--model", place / "model", "--encoder", place / "encoder", "--language", "pt", "--seed", 3
    assert run("clone", *given, *options) == 0
    assert f"of speech in the voice of {place / 'a.wav'}" in capsys.readouterr().out
    found, rate = soundfile.read(tmp_path / "out.wav", dtype="float32")
    model = VITSSynthesizer.load(place / "model", encoder=place / "encoder")
    expected = model.speak("hello you.", reference=place / "a.wav", language="pt", seed=3)
    assert rate == expected.sample_rate
    np.testing.assert_allclose(found, expected.audio, atol=1e-4)


def test_known_speakers_speak(place, tmp_path, capsys):
    options = "--model", place / "model", "--speaker", "anna", "--language", "en", "--noise-scale", "0"
    assert run("speak", "hello you.", tmp_path / "out.wav", *options, "--plot", tmp_path / "plot.png") == 0
    assert "from 21 phonemes in" in capsys.readouterr().out
    assert (tmp_path / "plot.png").stat().st_size > 1000
    found, _ = soundfile.read(tmp_path / "out.wav", dtype="float32")
    model = VITSSynthesizer.load(place / "model")
    expected = model.speak("hello you.", speaker="anna", language="en", noise_scale=0.0)
    np.testing.assert_allclose(found, expected.audio, atol=1e-4)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("clone", "a.wav", "out.wav"), "The number of arguments is 2; it should be at least 3"),
        (("clone", "a.wav", "hello", "out.mp3"), "OUTPUT is out.mp3; it should be a .wav file"),
        (("clone", "a.wav", "hello", "a.wav"), "would overwrite the input a.wav"),
        (("clone", "a.wav", "hello", "out.wav"), "language is None; it should be one of the known names"),
        (("clone", "a.wav", "hello", "out.wav", "--language", "en"), "which was not loaded; pass encoder"),
        (("speak", "hello", "out.wav", "--language", "en"), "needs the voice of a speaker. Pass the name of a known"),
        (("speak", "hello", "out.wav", "--speaker", "anne", "--language", "en"), "nearest known names are 'anna'"),
        (
            ("convert", "a.wav", "out.wav", "--voice", "anne", "--speaker", "anna"),
            "voice is 'anne', which is neither a known speaker nor a file; the nearest known names are 'anna'",
        ),
        (("speak", "hello", "out.wav", "--mode", "compat"), "--mode is not an option of"),
        (("speak", "hello", "out.wav", "--custom-words", "x.txt"), "x.txt"),
        (("speak", "ə", "out.wav", "--phonemes", "--speaker", "anna", "--language", "en"), "cannot be read by this"),
    ],
)
def test_wrong_commands_raise_errors(place, monkeypatch, capsys, command, message):
    monkeypatch.chdir(place)
    assert run(*command, "--model", place / "model") == 2
    assert message in capsys.readouterr().err
    assert not (place / "out.wav").exists()


def test_models_without_speaker_vectors_cannot_clone(place, tmp_path, capsys):
    model = networks()
    save_model(tmp_path / "other", model, model.init_state(), OTHER)
    assert run("clone", place / "a.wav", "hello", tmp_path / "out.wav", "--model", tmp_path / "other") == 2
    assert "cannot speak in the voice of a recording" in capsys.readouterr().err
    assert run("speak", "hello", tmp_path / "out.wav", "--model", tmp_path / "other", "--speaker", "anna") == 2
    assert "--speaker is not an option of" in capsys.readouterr().err


def test_recordings_are_converted_to_voices_and_to_known_speakers(place, tmp_path):
    model = "--model", place / "model", "--encoder", place / "encoder"
    assert run("voice", place / "a.wav", tmp_path / "voice.json", *model) == 0
    assert run("convert", place / "a.wav", tmp_path / "out.wav", "--voice", tmp_path / "voice.json", *model) == 0
    assert soundfile.info(tmp_path / "out.wav").frames == 33075
    # Both speakers are known, so that no encoder is needed.
    command = "convert", place / "a.wav", tmp_path / "known.wav", "--voice", "anna", "--speaker", "anna"
    assert run(*command, "--model", place / "model") == 0
    assert soundfile.info(tmp_path / "known.wav").frames == 33075

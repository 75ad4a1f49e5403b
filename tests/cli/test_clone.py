"""`jaxvoice clone`, and `speak`, `voice` and `convert` with a model that reads speaker vectors."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import soundfile

import jaxvoice
from jaxvoice.cli import main
from jaxvoice.models import speaker_encoder
from jaxvoice.models.vits import FAMILY, VITS
from jaxvoice.pipelines import SpeakerEncoder, VITSSynthesizer
from tests.models.gaussian_tts.small import SMALL as OTHER, networks, save_model
from tests.models.speaker_encoder.small import SMALL as ENCODER, random_encoder
from tests.models.vits.small import SMALL
from tests.random_networks import random_network

DIM = ENCODER.network.dim


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a model, its speaker encoder, and a recording."""
    place = tmp_path_factory.mktemp("clone")
    config = dataclasses.replace(
        SMALL, speaker_channels=DIM, decoder=dataclasses.replace(SMALL.decoder, cond_channels=DIM)
    )
    FAMILY.save_network(place / "model", random_network(VITS, config), config)
    vector = [float(value) for value in np.random.default_rng(1).normal(size=DIM)]
    (place / "model" / "speakers.json").write_text(
        json.dumps({"anna": {"name": "anna", "embedding": vector}}), encoding="utf-8"
    )
    speaker_encoder.FAMILY.save_network(place / "encoder", random_encoder(ENCODER), ENCODER)
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
    assert f"of speech in the voice of {place / 'a.wav'}\n" in capsys.readouterr().out
    found, rate = soundfile.read(tmp_path / "out.wav", dtype="float32")
    model = VITSSynthesizer.load(place / "model", encoder=place / "encoder")
    expected = model.speak("hello you.", reference=place / "a.wav", language="pt", seed=3)
    assert rate == expected.sample_rate
    np.testing.assert_allclose(found, expected.audio, atol=1e-4)
    assert run("speak", *given[1:], "--reference", given[0], *options, "--speed", 0.5) == 0
    slow, _ = soundfile.read(tmp_path / "out.wav", dtype="float32")
    assert run("speak", *given[1:], *options, "--length-scale", 2, "--reference", given[0], given[0]) == 0
    np.testing.assert_allclose(soundfile.read(tmp_path / "out.wav", dtype="float32")[0], slow, atol=1e-4)
    expected = model.speak("hello you.", reference=place / "a.wav", language="pt", seed=3, length_scale=2.0)
    np.testing.assert_allclose(slow, expected.audio, atol=1e-4)


@pytest.mark.slow
def test_texts_may_begin_with_a_dash_and_all_references_are_named(place, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.wav", "b.wav", "-c.wav"):
        shutil.copy(place / "a.wav", name)
    options = "--model", place / "model", "--encoder", place / "encoder", "--language", "pt"
    expected = VITSSynthesizer.load(place / "model", encoder=place / "encoder").speak(
        "-you.", reference="a.wav", language="pt"
    )
    for references, voice in (
        (("a.wav",), "a.wav"),
        (("a.wav", "b.wav"), "a.wav and b.wav"),
        (("-c.wav", "a.wav", "b.wav"), "-c.wav and 2 other recordings"),
    ):
        assert run("clone", *references, "-you.", "out.wav", *options) == 0
        assert f"in the voice of {voice}\n" in capsys.readouterr().out
        np.testing.assert_allclose(soundfile.read("out.wav", dtype="float32")[0], expected.audio, atol=1e-4)
    assert run("clone", "a.wav", "out.wav", "-you.", *options[:2]) == 2
    assert "OUTPUT is -you." in capsys.readouterr().err
    for words in (("hello", "out.wav", "--sped", "2"), ("hello", "--sped", "out.wav")):
        with pytest.raises(SystemExit):
            run("clone", "a.wav", *words, *options)
        assert "--sped" in capsys.readouterr().err


def test_known_speakers_speak(place, tmp_path, capsys):
    options = "--model", place / "model", "--speaker", "anna", "--language", "en", "--noise-scale", "0"
    assert run("speak", "hello you.", tmp_path / "out.wav", *options, "--plot", tmp_path / "plot.png") == 0
    assert "from 10 symbols in" in capsys.readouterr().out  # without blanks
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
        (("clone", "a.wav", "hello", "out.wav"), "error: --language is None; it should be one of the known names"),
        (("clone", "a.wav", "hello", "out.wav", "--language", ""), "error: --language is ''; it should be one of the"),
        (
            ("speak", "hello", "out.wav", "--speaker", "anna", "--language", ""),
            "error: --language is ''; it should be one of the known names: 'en', 'pt'",
        ),
        *(
            ((*command, "--language", "en", option, value), f"error: {option} is {shown}; it should be")
            for command in (("speak", "hello", "out.wav", "--speaker", "anna"), ("clone", "a.wav", "hello", "out.wav"))
            for option, value, shown in (
                ("--noise-scale", "1e38", "1e+38"),
                ("--duration-noise-scale", "nan", "nan"),
                ("--speed", "0", "0.0"),
                ("--seed", str(2**63), str(2**63)),
            )
        ),
        (("clone", "a.wav", "hello", "out.wav", "--language", "en"), "which was not loaded; pass encoder"),
        (("clone", "v.json", "a.wav", "hello", "out.wav", "--language", "en"), "error: v.json is a voice file, not"),
        (
            ("speak", "hello", "out.wav", "--language", "en"),
            "('anna') as speaker (--speaker), a recording of the speak",
        ),
        (
            ("speak", "hello", "out.wav", "--speaker", "anne", "--language", "en"),
            "error: --speaker is 'anne'; the near",
        ),
        (
            ("convert", "a.wav", "out.wav", "--voice", "anna", "--speaker", "anne"),
            "error: a.wav: --speaker is 'anne'; the nearest known name is 'anna'",
        ),
        (("convert", "a.wav", "out.wav", "--voice", "anna", "--seed", str(2**63)), f"error: --seed is {2**63}; it sh"),
        (("convert", "a.wav", "out.wav", "--voice", "anna", "--pitch", "3"), "pitch is 3.0; it should be"),
        (
            ("convert", "a.wav", "out.wav", "--voice", "anna", "a.wav"),
            "error: --voice contains anna, a speaker of the model, and other values; pass the name of one speaker, or",
        ),
        (
            ("convert", "a.wav", "out.wav", "--voice", "anne", "--speaker", "anna"),
            "voice is 'anne', which is neither a known speaker nor a file; the nearest known name is 'anna'",
        ),
        (
            ("speak", "hello", "out.wav", "--speaker", "anna", "--language", "en", "--length-scale", "0"),
            "error: --length-scale is 0.0; it should be positive",
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
    for option, value in (
        ("--speaker", "anna"),
        ("--reference", place / "a.wav"),
        ("--encoder", "e"),
        ("--length-scale", 2),
    ):
        assert run("speak", "hello", tmp_path / "out.wav", "--model", tmp_path / "other", option, value) == 2
        assert f"{option} is not an option of" in capsys.readouterr().err


def test_recordings_are_converted_to_voices_and_to_known_speakers(place, tmp_path, monkeypatch, capsys):
    model = "--model", place / "model", "--encoder", place / "encoder"
    assert run("voice", place / "a.wav", tmp_path / "voice.json", *model) == 0
    assert run("convert", place / "a.wav", tmp_path / "out.wav", "--voice", tmp_path / "voice.json", *model) == 0
    assert soundfile.info(tmp_path / "out.wav").frames == 33075
    # Both speakers are known, so that no encoder is needed.
    # A folder with the name of a speaker does not hide the speaker.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "anna").mkdir()
    command = "convert", place / "a.wav", tmp_path / "known.wav", "--speaker", "anna", "--model", place / "model"
    assert run(*command, "--voice", "anna") == 0
    assert run(*command, "--voice", "./anna") == 2
    assert "--voice contains anna, a folder; pass recordings" in capsys.readouterr().err
    assert soundfile.info(tmp_path / "known.wav").frames == 33075


def test_conversions_draw_the_noise_of_the_seed(place, tmp_path):
    model = VITSSynthesizer.load(place / "model")
    command = "convert", place / "a.wav", tmp_path / "out.wav", "--voice", "anna", "--speaker", "anna"
    found = {}
    for seed in (0, 3):
        assert run(*command, "--model", place / "model", "--subtype", "float", "--seed", seed) == 0
        found[seed], _ = soundfile.read(tmp_path / "out.wav", dtype="float32")
        expected = model.convert(place / "a.wav", "anna", speaker="anna", seed=seed)
        np.testing.assert_allclose(found[seed], expected, atol=1e-6)
    assert np.abs(found[0] - found[3]).max() > 1e-4


def test_models_of_a_table_of_speakers_read_no_recordings(place, tmp_path, capsys):
    config = dataclasses.replace(
        SMALL, num_speakers=2, speaker_channels=DIM, decoder=dataclasses.replace(SMALL.decoder, cond_channels=DIM)
    )
    FAMILY.save_network(tmp_path / "table", random_network(VITS, config), config)
    model = "--model", tmp_path / "table"
    for command, message in (
        (
            ("clone", place / "a.wav", "hello", tmp_path / "out.wav", "--language", "en"),
            "(jaxvoice speak --speaker): '0'",
        ),
        (("voice", place / "a.wav", tmp_path / "v.json"), "Pass the name of a speaker ('0', '1'), or a model"),
        (("convert", place / "a.wav", tmp_path / "out.wav", "--voice", place / "a.wav"), "Pass the name of a speaker"),
        (
            ("voice", place / "a.wav", tmp_path / "v.json", "--encoder", place / "encoder"),
            "error: --encoder is given, but",
        ),
    ):
        assert run(*command, *model) == 2
        assert message in capsys.readouterr().err


def test_imported_bundles_of_a_model_and_its_encoder_clone_voices(place, tmp_path, capsys):
    jaxvoice.export_model(place / "model", tmp_path / "bundle" / "model_file.pth")
    jaxvoice.export_model(place / "encoder", tmp_path / "bundle" / "model_se.pth")
    bundle, model = tmp_path / "bundle", tmp_path / "model"
    assert run("import", bundle / "model_file.pth", "--to", model) == 0
    command = "clone", place / "a.wav", "hello you.", tmp_path / "out.wav", "--model", model, "--language", "en"
    assert run(*command) == 2
    assert "import it to the folder speaker_encoder inside the model folder" in capsys.readouterr().err
    assert run("import", bundle / "model_se.pth", "--to", model / "speaker_encoder") == 0
    assert run(*command) == 0
    assert soundfile.info(tmp_path / "out.wav").frames > 0
    capsys.readouterr()
    assert run("inspect", place / "model") == 0 and run("inspect", model) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert [line for line in lines if line.startswith(("speakers ", "speaker encoder "))] == [
        *("speakers anna", "speaker encoder none", "speakers anna", "speaker encoder speaker_encoder")
    ]
    encoders = VITSSynthesizer.load(model).encoder, SpeakerEncoder.load(place / "encoder")
    assert encoders[0].identity == encoders[1].identity


@pytest.mark.slow
def test_another_encoder_than_that_of_the_model_gives_a_warning(place, tmp_path, capsys):
    shutil.copytree(place / "model", tmp_path / "model")
    shutil.copytree(place / "encoder", tmp_path / "model" / "speaker_encoder")
    other = dataclasses.replace(ENCODER, level=-30.0)
    speaker_encoder.FAMILY.save_network(tmp_path / "other", random_encoder(other), other)
    given = place / "a.wav", tmp_path / "voice.json", "--model", tmp_path / "model"
    for options, warned in (
        ((), False),
        (("--encoder", place / "encoder"), False),
        (("--encoder", tmp_path / "other"), True),
    ):
        assert run("voice", *given, *options) == 0
        assert ("warning: encoder is another speaker encoder than that in" in capsys.readouterr().err) == warned
    # The weights are the same, but not the level of recordings.
    command = "clone", tmp_path / "voice.json", "hello", tmp_path / "out.wav", "--model", tmp_path / "model"
    assert run(*command, "--language", "en") == 2
    assert "another speaker encoder, or one with other settings" in capsys.readouterr().err

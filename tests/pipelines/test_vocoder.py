"""The base class of vocoders, and commands and pipelines that use vocoders of any family."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import soundfile

from jaxvoice import models
from jaxvoice.cli import main
from jaxvoice.errors import CheckpointError, ConfigError, MelError, ShapeError
from jaxvoice.pipelines import HiFiGANVocoder, Synthesizer, Vocoder, load
from jaxvoice.pipelines.mel_to_audio import MelToAudio
from tests.models.gaussian_tts.small import SMALL, networks, save_model
from tests.models.hifigan.small import SMALL as HIFIGAN

MEL = SMALL.mel


class Constant(Vocoder):
    """A vocoder whose audio is the mean of each frame."""

    def __init__(self):
        self.calls = []

    @classmethod
    def load(cls, path):
        return cls()

    @property
    def mel(self):
        return MEL

    def decode(self, mels):
        self.calls.append(len(mels))
        return [np.repeat(np.float32(one.mean(axis=0)) / 100, MEL.hop_length) for one in mels]


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Model folders of HiFi-GAN, of a second family of vocoders and of text to speech."""
    hifigan = models.FAMILIES[0]
    constant = dataclasses.replace(hifigan, name="constant", pipeline=f"{__name__}:Constant", layouts=())
    monkeypatch.setattr(models, "FAMILIES", (*models.FAMILIES, constant))
    for command in ("align", "speak", "teacher_force", "vocode"):
        monkeypatch.setattr(f"jaxvoice.cli.{command}.use_compilation_cache", lambda: None)
    network = hifigan.build(HIFIGAN, key=jax.random.key(0))
    for family in (hifigan, constant):
        family.save_network(tmp_path / family.name, network, HIFIGAN)
    model = networks()
    save_model(tmp_path / "tts", model, model.init_state(), SMALL)
    return tmp_path


def test_load_returns_the_pipeline_of_the_family(folders):
    assert type(Vocoder.load(folders / "constant")) is Constant
    vocoder = Vocoder.load(folders / "hifigan", window=300)
    assert isinstance(vocoder, HiFiGANVocoder) and vocoder.window == 300
    with pytest.raises(ConfigError, match=r"'windw'; it should be an option of the pipeline HiFiGANVocoder: window\."):
        Vocoder.load(folders / "hifigan", windw=3)
    with pytest.raises(NotImplementedError, match="Unfinished should define load"):
        type("Unfinished", (Vocoder,), {}).load(folders / "hifigan")


def test_base_class_checks_mels_and_takes_batches():
    vocoder = Constant()
    assert (vocoder.sample_rate, vocoder.hop_length, vocoder.channels) == (MEL.sample_rate, MEL.hop_length, 8)
    mels = np.linspace(-9, -1, 80, dtype=np.float32).reshape(2, 8, 5)
    expected = np.repeat(mels.mean(axis=1) / 100, MEL.hop_length, axis=1)
    np.testing.assert_allclose(vocoder.synthesize(mels, check=False), expected, rtol=1e-6)
    first, second = vocoder.synthesize([mels[0], mels[1][:, :3]], check=False)
    np.testing.assert_allclose(first, expected[0], rtol=1e-6)
    np.testing.assert_allclose(second, expected[1][: 3 * MEL.hop_length], rtol=1e-6)
    with pytest.raises(MelError, match="9 bands"):
        vocoder.synthesize(np.full((9, 5), -4, np.float32))
    with pytest.raises(MelError, match=r"normalised to \[0, 1\]"):
        vocoder.synthesize(np.exp(mels[0]))


def test_options_of_other_vocoders_raise():
    assert HiFiGANVocoder.option_names() == ("cond",) and Constant.option_names() == ()
    audio = np.zeros(2 * MEL.n_fft, np.float32)
    with pytest.raises(ConfigError, match=r"Constant has no option 'cond'; its options are none\. Omit cond"):
        Constant().resynthesize(audio, MEL.sample_rate, cond=np.zeros(3))


def test_vocode_converts_recordings_and_mels(folders, capsys):
    recording, mel = folders / "in.wav", folders / "mel.npy"
    soundfile.write(recording, 0.1 * np.sin(np.arange(5000) * 0.05), MEL.sample_rate)
    np.save(mel, np.linspace(-9, -1, 40, dtype=np.float32).reshape(8, 5))
    arguments = [recording, mel, folders / "out", "--model", folders / "constant"]
    assert main(["vocode", *map(str, arguments)]) == 0
    assert soundfile.info(folders / "out" / "in.wav").frames == 5000
    expected = np.repeat(np.load(mel).mean(axis=0) / 100, 256)
    np.testing.assert_allclose(soundfile.read(folders / "out" / "mel.wav")[0], expected, atol=1e-4)
    np.save(mel, np.full((7, 5), -4, np.float32))
    assert main(["vocode", *map(str, arguments[1:])]) == 2
    np.save(folders / "cond.npy", np.ones(3, np.float32))
    capsys.readouterr()
    assert main(["vocode", *map(str, [*arguments, "--cond", folders / "cond.npy"])]) == 2
    assert "Constant has no option 'cond'; its options are none. Omit cond (--cond)." in capsys.readouterr().err


def test_synthesizer_uses_any_vocoder(folders):
    vocoder = Constant()
    synthesizer = Synthesizer.load(folders / "tts", vocoder)
    speech = synthesizer.speak_phonemes(SMALL.codes[:3], [2, 3, 4])
    np.testing.assert_allclose(speech.audio[:256], (speech.mel[:, 0].mean() / 100).clip(-1, 1), rtol=1e-5)
    assert vocoder.calls == [1]
    one, two = synthesizer.speak_phonemes([SMALL.codes[:3], SMALL.codes[:2]], [[2, 3, 4], [5, 6]])
    assert vocoder.calls[1:] == [2], "all mels in one call"
    np.testing.assert_allclose(one.audio, speech.audio, atol=1e-5)
    assert len(two.audio) == 11 * 256
    loaded = Synthesizer.load(folders / "tts", folders / "constant")
    assert type(loaded.mel_to_audio.vocoder) is Constant
    command = ["speak", "P0 P1 P2", folders / "out.wav", "--phonemes", "--model", folders / "tts"]
    assert main([*map(str, command), "--vocoder", str(folders / "constant")]) == 0
    assert soundfile.info(folders / "out.wav").frames % 256 == 0


def test_other_contracts_and_lengths_raise(folders):
    with pytest.raises(MelError, match="different mel contracts"):
        MelToAudio(Constant(), dataclasses.replace(MEL, num_mels=9))
    short = Constant()
    short.decode = lambda mels: [np.zeros(3, np.float32)] * len(mels)
    with pytest.raises(ShapeError, match=r"has shape \(3,\); it should have shape \(10240,\)"):
        MelToAudio(short, MEL)([np.full((8, 40), -4, np.float32)])


def test_models_of_another_kind_raise(folders, capsys):
    with pytest.raises(ConfigError, match="of the family 'gaussian_tts'; it should be a vocoder"):
        Vocoder.load(folders / "tts")
    with pytest.raises(ConfigError, match="vocoder has type int; it should be a Vocoder"):
        MelToAudio(3, MEL)  # pyright: ignore
    assert main(["vocode", "a.wav", str(folders / "b.wav"), "--model", str(folders / "tts")]) == 2
    assert "of the family 'gaussian_tts'; it should be a vocoder" in capsys.readouterr().err
    for name in ("constant", "hifigan"):
        assert main(["speak", "Hello", str(folders / "b.wav"), "--model", str(folders / name)]) == 2
        assert f"of the family {name!r}; it should be a text-to-speech model" in capsys.readouterr().err
    corpus = folders / "corpus"
    soundfile.write(folders / "a.wav", np.zeros(800), MEL.sample_rate)
    corpus.write_text("a|Hello", encoding="utf-8")
    for command in ("align", "teacher-force"):
        assert main([command, str(corpus), str(folders / "out"), "--model", str(folders / "hifigan")]) == 2
        assert "of the family 'hifigan'; it should be a text-to-speech model" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match=r"'gaussian_tts'; it should be 'hifigan'\. Load the model with"):
        HiFiGANVocoder.load(folders / "tts")


def test_unknown_options_of_a_pipeline_raise(folders, monkeypatch, capsys):
    monkeypatch.setattr(Constant, "speak", lambda self, text: None, raising=False)
    command = ["speak", "Hello", folders / "b.wav", "--model", folders / "constant", "--vocoder", folders / "hifigan"]
    assert main([str(part) for part in command]) == 2
    message = f"--vocoder is not an option of {folders / 'constant'}; omit it."
    assert message in capsys.readouterr().err
    with pytest.raises(
        ConfigError, match=r"is 'windw'; it should be an option of the pipeline HiFiGANVocoder: window\. Omit"
    ):
        load(folders / "hifigan", windw=3)
    with pytest.raises(
        ConfigError, match=r"is 'window'; .* pipeline Synthesizer: vocoder, vocoder_options, max_phones, max_frames\."
    ):
        load(folders / "tts", window=3)


@pytest.mark.parametrize("path", [None, 3])
def test_load_rejects_values_that_are_not_paths(path):
    for use in (load, Vocoder.load, HiFiGANVocoder.load, Synthesizer.load):
        with pytest.raises(ConfigError, match=rf"path has type {type(path).__name__}; it should be a path or a Hub id"):
            use(path)


def test_unknown_families_raise(folders):
    about = json.loads((folders / "constant" / "config.json").read_text(encoding="utf-8"))
    (folders / "constant" / "config.json").write_text(json.dumps({**about, "family": "x"}), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"The family in .* is 'x'; it should be one of"):
        Vocoder.load(folders / "constant")

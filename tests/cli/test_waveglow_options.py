"""`jaxvoice vocode` and `jaxvoice speak` with a small WaveGlow: its options, and its mel contract."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile

from jaxvoice.cli import main
from jaxvoice.errors import ConfigError, MelError
from jaxvoice.models.hifigan.family import FAMILY as HIFIGAN
from jaxvoice.models.waveglow.family import FAMILY
from jaxvoice.pipelines import Synthesizer, WaveGlowVocoder
from tests.models.gaussian_tts.small import save_model
from tests.pipelines.conftest import loud_generator, small_config
from tests.pipelines.small_waveglow import random_waveglow, waveglow_config
from tests.pipelines.test_synthesizer import trained

RATE = 8000


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A WaveGlow, a HiFi-GAN, and text to speech with the contract of each."""
    folder = tmp_path_factory.mktemp("models")
    FAMILY.save_network(folder / "waveglow", random_waveglow(waveglow_config()), waveglow_config())
    HIFIGAN.save_network(folder / "hifigan", loud_generator(small_config()), small_config())
    model, norms, config = trained()
    save_model(folder / "tts_hifigan", model, norms, config)
    save_model(folder / "tts", model, norms, dataclasses.replace(config, mel=waveglow_config().mel))
    return folder


@pytest.fixture(scope="module")
def vocoder(models) -> WaveGlowVocoder:
    return WaveGlowVocoder.load(models / "waveglow")


@pytest.fixture(autouse=True)
def own_cache(monkeypatch):
    """Disable the compilation cache on disk, since other tests share this process."""
    for command in ("speak", "vocode"):
        monkeypatch.setattr(f"jaxvoice.cli.{command}.use_compilation_cache", lambda: None)


@pytest.fixture
def run(models, capsys):
    def run(*arguments: object) -> tuple[int, list[str]]:
        code = main([*map(str, arguments)])
        return code, capsys.readouterr().err.splitlines()

    return run


@pytest.fixture
def recording(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    samples = rng.normal(0, 0.1, 3200).clip(-1, 1)
    samples[1000:1600] = 0
    soundfile.write(tmp_path / "in.wav", samples, RATE, subtype="FLOAT")
    return tmp_path / "in.wav"


@pytest.mark.parametrize("options", [{}, {"sigma": 0.3, "denoise": 0.5, "seed": 7}])
def test_vocode_writes_the_audio_of_the_options(run, models, vocoder, recording, tmp_path, options):
    flags = [part for name, value in options.items() for part in (f"--{name}", value)]
    out, samples = tmp_path / "out.wav", soundfile.read(recording, dtype="float32")[0]
    arguments = ("--model", models / "waveglow", "--subtype", "float", *flags)
    assert run("vocode", recording, out, *arguments) == (0, [])
    expected = vocoder.resynthesize(samples, RATE, **options)
    np.testing.assert_array_equal(soundfile.read(out, dtype="float32")[0], expected)
    mel = vocoder.log_mel(samples, RATE)
    np.save(tmp_path / "mel.npy", mel)
    assert run("vocode", tmp_path / "mel.npy", out, *arguments) == (0, [])
    np.testing.assert_array_equal(soundfile.read(out, dtype="float32")[0], vocoder.synthesize(mel, **options))


@pytest.mark.parametrize(
    ("model", "flags", "said"),
    [
        ("hifigan", ("--sigma", "0.6"), "HiFiGANVocoder has no option 'sigma'; its options are cond. Omit sigma"),
        ("hifigan", ("--denoise", "0"), "HiFiGANVocoder has no option 'denoise'"),
        ("hifigan", ("--seed", "1"), "HiFiGANVocoder has no option 'seed'"),
        ("waveglow", ("--cond", "voice.npy"), "WaveGlowVocoder has no option 'cond'; its options are sigma, denoise"),
        ("waveglow", ("--sigma", "-1"), "--sigma is -1.0; it should be a finite number of at least 0"),
        ("waveglow", ("--denoise", "nan"), "--denoise is nan; it should be a finite number of at least 0"),
        ("waveglow", ("--seed", str(2**63)), "it should be a whole number from -2**63"),
    ],
)
def test_invalid_options_of_vocode_are_one_line(run, models, recording, tmp_path, model, flags, said):
    code, lines = run("vocode", recording, tmp_path / "out.wav", "--model", models / model, *flags)
    assert code == 2 and len(lines) == 1 and said in lines[0] and not (tmp_path / "out.wav").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda mel: mel[:7], "(7, 201)"),
        (lambda mel: mel[:, :0], "no frames"),
        (lambda mel: np.where(mel == mel.max(), np.nan, mel), "NaN"),
        (lambda mel: 20 / np.log(10) * mel, "decibels"),
        (lambda mel: mel.astype(np.int16), "int16"),
    ],
)
def test_invalid_mels_are_one_line(run, models, vocoder, recording, tmp_path, change, said):
    np.save(tmp_path / "mel.npy", change(vocoder.log_mel(soundfile.read(recording, dtype="float32")[0], RATE)))
    code, lines = run("vocode", tmp_path / "mel.npy", tmp_path / "out.wav", "--model", models / "waveglow")
    assert code == 2 and len(lines) == 1 and said in lines[0] and "mel.npy" in lines[0]


def test_speak_passes_mels_unchanged_with_the_options(run, models, vocoder, tmp_path):
    out = tmp_path / "out.wav"
    plain = Synthesizer.load(models / "tts", vocoder).speak("Hello.", seed=3)
    np.testing.assert_array_equal(plain.audio, vocoder.synthesize(plain.mel, seed=3, check=False).clip(-1, 1))
    arguments = ("speak", "Hello.", out, "--model", models / "tts", "--vocoder", models / "waveglow")
    assert run(*arguments, "--seed", "3", "--sigma", "0.3", "--denoise", "0") == (0, [])
    expected = vocoder.synthesize(plain.mel, seed=3, sigma=0.3, denoise=0, check=False).clip(-1, 1)
    assert np.abs(soundfile.read(out)[0] - expected).max() <= 1 / 32768
    assert np.abs(expected - plain.audio).max() > 0.01
    code, lines = run(*arguments[:-1], models / "hifigan", "--sigma", "0.3")
    assert code == 2 and "HiFiGANVocoder has no option 'sigma'; its options are cond" in lines[0]
    code, lines = run(*arguments[:-2], "--denoise", "0.3")
    assert code == 2 and "--denoise is an option of a vocoder; pass --vocoder, or omit --denoise." in lines[0]
    code, lines = run(*arguments, "--sigma", "inf")
    assert code == 2 and "--sigma is inf; it should be a finite number of at least 0" in lines[0]
    assert lines[0].endswith("0 means no noise; 0.6 to 1 is usual.")


def test_mels_of_another_contract_are_refused(run, models, vocoder, tmp_path):
    with pytest.raises(MelError, match=r"different mel contracts.*center: False != True"):
        Synthesizer.load(models / "tts_hifigan", vocoder)
    arguments = ("--model", models / "tts_hifigan", "--vocoder", models / "waveglow")
    code, lines = run("speak", "Hello.", tmp_path / "out.wav", *arguments)
    assert code == 2 and len(lines) == 1 and "different mel contracts" in lines[0]


def test_options_without_a_vocoder_raise(models):
    for vocoder in (None, lambda mel: np.zeros(mel.shape[1] * 16, np.float32)):
        with pytest.raises(ConfigError, match="The vocoder options are sigma; there should be none"):
            Synthesizer.load(models / "tts", vocoder, vocoder_options={"sigma": 0.5})
    with pytest.raises(
        ConfigError, match=r"WaveGlowVocoder has no option 'sigm'; its options are sigma, denoise, seed"
    ):
        Synthesizer.load(models / "tts", models / "waveglow", vocoder_options={"sigm": 0.5})

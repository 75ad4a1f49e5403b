"""Mels in common conventions, computed from speech-like audio and from real recordings if they are present."""

import contextlib
import dataclasses
import math

import numpy as np
import pytest
import soundfile
from jax import numpy as jnp

from jaxvoice.dsp import MelConfig, check_mel, log_mel
from jaxvoice.errors import MelError

LN = MelConfig()
LOG10 = dataclasses.replace(LN, log="log10")


def linear(audio: np.ndarray, config: MelConfig = LN, power: float = 1.0) -> np.ndarray:
    return np.exp(np.asarray(log_mel(audio, dataclasses.replace(config, log_floor=1e-12, power=power)), np.float64))


def decibels(audio: np.ndarray, reference: float = 0.0) -> np.ndarray:
    return 20 * np.log10(np.maximum(linear(audio), 1e-5)) - reference


def normalised(audio: np.ndarray, low: float, high: float) -> np.ndarray:
    """coqui-TTS's: 20 dB below, scaled from [-100, 0] dB to the range, and clipped."""
    return np.clip(low + (high - low) * (decibels(audio, reference=20) + 100) / 100, low, high)


def top_decibels(audio: np.ndarray) -> np.ndarray:
    """librosa.power_to_db(ref=max): 80 dB below the loudest."""
    return np.maximum(decibels(audio) - decibels(audio).max(), -80)


def standardised(audio: np.ndarray) -> np.ndarray:
    mel = np.log(np.maximum(linear(audio), 1e-5))
    return (mel - mel.mean(axis=1, keepdims=True)) / mel.std(axis=1, keepdims=True)


FOREIGN = {
    "linear": (lambda audio: linear(audio), "looks linear"),
    "quiet linear": (lambda audio: 0.001 * linear(audio), "looks linear"),
    "power": (lambda audio: linear(audio, power=2.0), "looks linear"),
    "log10": (lambda audio: np.log10(np.maximum(linear(audio), 1e-5)), "base 10.*2.3026"),
    "decibels": (decibels, "decibels"),
    "decibels below the loudest": (top_decibels, "decibels"),
    "[0, 1]": (lambda audio: normalised(audio, 0, 1), r"normalised to \[0, 1\]"),
    "[-1, 1]": (lambda audio: normalised(audio, -1, 1), r"normalised to \[-1, 1\]"),
    "[-4, 4]": (lambda audio: normalised(audio, -4, 4), r"normalised to \[-4, 4\]"),
    "standardised": (standardised, "unit variance"),
    "int16 scale": (lambda audio: np.log(linear(audio) * 32768), "louder than that of full-scale"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_check_mel_raises_for_other_conventions(speech, name):
    make, message = FOREIGN[name]
    with pytest.raises(MelError, match=message) as caught:
        check_mel(make(speech).astype(np.float32), LN)
    assert "expects the natural logarithm of mel magnitudes" in str(caught.value)


def test_check_mel_accepts_mels_of_the_contract(speech):
    assert check_mel(np.asarray(log_mel(speech, LN)), LN) == []
    assert check_mel(np.asarray(log_mel(speech, LOG10)), LOG10) == []
    powers = dataclasses.replace(LN, power=2.0, magnitude_floor=0.0, center=True, mel_scale="htk")
    assert check_mel(np.asarray(log_mel(speech, powers)), powers) == []
    deep = dataclasses.replace(LN, log_floor=1e-10, magnitude_floor=0.0)
    assert check_mel(np.asarray(log_mel(speech, deep)), deep) == []


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16], ids=["float16", "bfloat16"])
def test_check_mel_accepts_silence_and_half_precision(speech, dtype):
    for mel in (log_mel(speech, LN), jnp.full((80, 5), LN.floor)):
        assert check_mel(np.asarray(mel.astype(dtype)), LN) == []
    with pytest.raises(MelError, match="decibels"):
        check_mel(np.asarray(decibels(speech)).astype(dtype), LN)
    with pytest.raises(MelError, match=r"1 values.*band 2 at frame 3"):
        check_mel(np.asarray(log_mel(speech, LN).at[2, 3].set(jnp.nan).astype(dtype)), LN)


def test_check_mel_raises_for_ln_instead_of_log10(speech):
    with pytest.raises(MelError, match=r"natural logarithm.*divide.*expects the logarithm to base 10"):
        check_mel(np.asarray(log_mel(speech, LN)), LOG10)


def test_check_mel_warns_of_unusual_mels(speech):
    deeper = np.asarray(log_mel(speech, dataclasses.replace(LN, log_floor=1e-7, magnitude_floor=0.0)))
    (warning,) = check_mel(deeper, LN)
    assert "below the logarithm's floor" in warning and f"{math.log(1e-7):.2f}" in warning
    rng = np.random.default_rng(0)
    noisy = np.asarray(log_mel((speech + 0.05 * rng.standard_normal(speech.size)).astype(np.float32), LN))
    (warning,) = check_mel(noisy, LN)
    assert "few low values" in warning and "log10" in warning
    # log10 of a clip without digital silence has no value pinned at -5 that would give it away.
    (warning,) = check_mel(np.log10(linear(speech, dataclasses.replace(LN, magnitude_floor=1e-6))), LN)
    assert "log10" in warning


@pytest.mark.parametrize(
    ("mel", "message"),
    [
        (np.zeros((64, 9), np.float32), r"has 64 bands.*should have 80"),
        (np.zeros((9, 80), np.float32), r"transposed.*mel\.T"),
        (np.zeros((1, 80, 9), np.float32), r"\(1, 80, 9\)"),
        (np.zeros((80, 0), np.float32), "at least one frame"),
        (np.zeros((80, 9), np.int16), "int16"),
        (np.where(np.arange(720).reshape(80, 9) == 20, np.nan, -5.0), "1 values.*band 2 at frame 2"),
        (np.where(np.arange(720).reshape(80, 9) == 20, -np.inf, -5.0), "infinite"),
        (np.zeros((80, 9), np.float32), "linear"),
    ],
)
def test_check_mel_raises_for_malformed_mels(mel, message):
    with pytest.raises(MelError, match=message):
        check_mel(mel, LN)


def test_check_mel_accepts_real_recordings(real_clips):
    """Real speech raises no error, and every other convention raises an error or a warning."""
    clips = sorted((real_clips / "LJSpeech-1.1" / "wavs").glob("*.wav"))[:4]
    clips += sorted((real_clips / "vctk").glob("*/*.flac"))[:4]
    for clip in clips:
        audio, rate = soundfile.read(clip, frames=60000, dtype="float32")
        config = dataclasses.replace(LN, sample_rate=rate)
        assert check_mel(np.asarray(log_mel(audio, config)), config) == [], clip
        for name, (make, _) in FOREIGN.items():
            with contextlib.suppress(MelError):
                assert check_mel(make(audio), config), (clip, name)


NORMALISED = dataclasses.replace(LOG10, gain=1.6, offset=2.4, clip=(-4.0, 4.0))


def test_scaled_contract_accepts_its_mels(speech):
    assert check_mel(normalised(speech, -4, 4).astype(np.float32), NORMALISED) == []
    assert check_mel(np.asarray(log_mel(speech, NORMALISED)), NORMALISED) == []


@pytest.mark.parametrize("name", [name for name in FOREIGN if name not in ("[-4, 4]", "standardised")])
def test_scaled_contract_raises_for_other_conventions(speech, name):
    with pytest.raises(
        MelError,
        match=r"(another scaling|scaling undone|linear or|to \[-1, 1\]).*times 1.6 plus 2.4, clipped to -4 and 4",
    ):
        check_mel(FOREIGN[name][0](speech).astype(np.float32), NORMALISED)

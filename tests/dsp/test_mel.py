import dataclasses
import math
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest
import scipy.signal
from jax.test_util import check_grads

from jaxvoice.config import from_dict, to_dict
from jaxvoice.dsp import MelConfig, log_mel, mel_filterbank
from jaxvoice.dsp.mel_config import WAVEGLOW_MEL
from jaxvoice.dsp.transforms import frame_spectra
from jaxvoice.errors import ConfigError, ShapeError

GOLDEN = Path(__file__).parents[1] / "golden" / "hifigan" / "mel.npz"
SMALL = MelConfig(sample_rate=8000, n_fft=64, hop_length=16, win_length=64, num_mels=8, fmax=None)
XTTS = MelConfig(mel_scale="htk", power=2.0, magnitude_floor=0.0, center=True)


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as file:
        return dict(file)


def golden_error(golden, config, function=log_mel):
    """Largest error of both released mels, relative to the largest value."""
    audio = golden["wav"][0]
    found = {"lj": function(audio, config), "lj_loss": function(audio, config.full_band())}
    return max(abs(found[name] - golden[name][0]).max() / abs(golden[name][0]).max() for name in found)


def test_log_mel_equals_golden_mels(golden):
    assert golden_error(golden, MelConfig()) < 1e-5


def test_golden_mels_detect_the_htk_scale(golden):
    assert golden_error(golden, MelConfig(mel_scale="htk")) > 1e-2


def test_golden_mels_detect_a_missing_area_norm(golden):
    assert golden_error(golden, MelConfig(mel_norm="none")) > 1e-2


def test_golden_mels_detect_powers(golden):
    assert golden_error(golden, MelConfig(power=2.0)) > 1e-2


def test_golden_mels_detect_centred_frames(golden):
    config = MelConfig(center=True)
    assert config.num_frames(22187) == 87
    # Frame t is centred 128 samples earlier, so no shift of whole frames makes up for it.
    found = log_mel(golden["wav"][0], config)[:, :86]
    assert abs(found - golden["lj"][0]).max() > 0.1


def test_golden_mels_detect_a_symmetric_window(golden, monkeypatch):
    monkeypatch.setattr(
        sys.modules["jaxvoice.dsp.transforms"], "hann_window", lambda *_: np.hanning(1024).astype(np.float32)
    )
    assert golden_error(golden, MelConfig(), log_mel.__wrapped__) > 1e-4


def test_golden_mels_detect_zero_padding(golden):
    config, audio = MelConfig(), golden["wav"][0]
    middle = slice(2, -2)
    frames = frame_spectra(np.pad(audio, 384), n_fft=1024, hop_length=256, pad=0)
    padded = np.log(np.maximum(mel_filterbank(config) @ np.sqrt(np.abs(np.asarray(frames.T)) ** 2 + 1e-9), 1e-5))
    error = abs(padded - golden["lj"][0]) / abs(golden["lj"]).max()
    assert error[:, middle].max() < 1e-5 < 1e-3 < error.max()


def test_golden_mels_detect_a_missing_epsilon(golden):
    """The constant matters near silence only, and the golden recording is loud."""
    config = MelConfig(log_floor=1e-9)
    quiet = 1e-5 * golden["wav"][0]
    spectra = scipy.signal.ShortTimeFFT(
        scipy.signal.get_window("hann", 1024), 256, 1.0, mfft=1024, scale_to=None, phase_shift=None
    ).stft(np.pad(quiet.astype(np.float64), 384, mode="reflect"), p0=2, p1=88)
    energy = np.abs(spectra) ** 2
    with_floor, without = (
        np.log(np.maximum(mel_filterbank(config).astype(np.float64) @ np.sqrt(energy + floor), 1e-9))
        for floor in (1e-9, 0.0)
    )
    found = log_mel(quiet, config)
    np.testing.assert_allclose(found, with_floor, rtol=1e-5)
    assert abs(found - without).max() > 1


@pytest.mark.parametrize("scale", ["slaney", "htk"])
@pytest.mark.parametrize("norm", ["slaney", "none"])
@pytest.mark.parametrize(
    ("rate", "n_fft", "mels", "fmin", "fmax"), [(22050, 1024, 80, 0, 8000), (48000, 2048, 100, 40, None)]
)
def test_filterbank_equals_librosa(librosa, scale, norm, rate, n_fft, mels, fmin, fmax):
    config = MelConfig(rate, n_fft, 256, n_fft, mels, float(fmin), fmax, mel_scale=scale, mel_norm=norm)
    expected = librosa.filters.mel(
        sr=rate,
        n_fft=n_fft,
        n_mels=mels,
        fmin=fmin,
        fmax=fmax,
        htk=scale == "htk",
        norm=None if norm == "none" else norm,
    )
    np.testing.assert_allclose(mel_filterbank(config), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("power", [1.0, 2.0])
@pytest.mark.parametrize("log", ["ln", "log10"])
@pytest.mark.parametrize(("n_fft", "win", "hop"), [(1024, 1024, 256), (2048, 1024, 256), (4096, 4096, 1024)])
def test_log_mel_equals_librosa(librosa, speech, power, log, n_fft, win, hop):
    """The sizes of XTTS's three front ends, with power 2, HTK scale and centred frames among them."""
    config = dataclasses.replace(XTTS, n_fft=n_fft, win_length=win, hop_length=hop, power=power, log=log)
    linear = librosa.feature.melspectrogram(
        y=speech,
        sr=22050,
        n_fft=n_fft,
        win_length=win,
        hop_length=hop,
        n_mels=80,
        fmax=8000,
        htk=True,
        power=power,
        pad_mode="reflect",
    )
    expected = np.maximum(linear, 1e-5)
    found = log_mel(speech, config)
    assert found.shape == (80, 1 + speech.size // hop) == (80, config.num_frames(speech.size))
    np.testing.assert_allclose(found, np.log(expected) if log == "ln" else np.log10(expected), rtol=2e-5, atol=5e-4)


def test_number_of_frames_follows_the_hop_length():
    config = MelConfig()
    for samples in (512, 8191, 8192, 22187):
        assert config.num_frames(samples) == samples // 256 == log_mel(np.zeros(samples, np.float32), config).shape[1]
    assert config.num_frames(100) == 0


def test_log_mel_of_silence_is_the_floor():
    config = MelConfig()
    np.testing.assert_allclose(log_mel(np.zeros(1024, np.float32), config), -11.512925, rtol=1e-6)
    assert config.floor == pytest.approx(-11.512925)
    assert dataclasses.replace(config, log="log10").floor == pytest.approx(-5)


def test_log_mel_works_under_jit_vmap_and_grad():
    audio = np.random.default_rng(0).standard_normal((3, 200)).astype(np.float32)
    batched = jax.jit(jax.vmap(lambda x: log_mel(x, SMALL)))(audio)
    for row, expected in zip(audio, batched, strict=True):
        np.testing.assert_allclose(log_mel(row, SMALL), expected, atol=1e-5)
    for power in (1.0, 1.5):
        config = dataclasses.replace(SMALL, power=power)
        check_grads(lambda x, c=config: jnp.mean(log_mel(x, c)), (audio[0],), order=1, modes=["rev"], rtol=0.03)


@pytest.mark.parametrize("magnitude_floor", [1e-9, 0.0])
@pytest.mark.parametrize("power", [1.0, 2.0, 1.5])
def test_gradient_at_silence_is_zero_and_not_nan(magnitude_floor, power):
    # A clamp below what silence gives, so that the gradient has to come through the root.
    config = dataclasses.replace(SMALL, magnitude_floor=magnitude_floor, power=power, log_floor=1e-12)
    silence = jnp.zeros(200)
    if magnitude_floor:
        check_grads(lambda x: jnp.sum(log_mel(x, config)), (silence,), order=1, modes=["rev"], eps=1e-6, atol=1e-2)
    np.testing.assert_array_equal(jax.grad(lambda x: jnp.sum(log_mel(x, config)))(silence), 0)


def test_half_precision_is_computed_in_float32(golden):
    audio = jnp.asarray(golden["wav"][0], jnp.bfloat16)
    found = log_mel(audio, MelConfig())
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, log_mel(audio.astype(jnp.float32), MelConfig()))


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (np.zeros((1, 8192), np.float32), "one channel"),
        (np.zeros(8192, np.int16), "Divide int16"),
        (np.zeros(384, np.float32), "384 samples; it should have at least 385"),
    ],
)
def test_log_mel_raises_for_bad_audio(audio, message):
    with pytest.raises(ShapeError, match=message):
        log_mel(audio, MelConfig())
    assert MelConfig().min_samples == 385


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fmax": 12000.0}, "Nyquist.*fmax=None"),
        ({"sample_rate": 8000}, "4000.0 Hz"),
        ({"win_length": 2048}, "win_length is 2048; it should be at most n_fft, 1024"),
        ({"hop_length": 2048}, "should be at most win_length"),
        ({"hop_length": 255}, "should be even.*center=True"),
        ({"n_fft": 1025}, "should be even. Use 1026"),
        ({"num_mels": 300}, "contain no FFT bin.*Use fewer bands"),
        ({"num_mels": 0}, "num_mels.*positive"),
        ({"hop_length": 256.0}, "hop_length.*whole number"),
        ({"fmin": 9000.0}, "between 0 and fmax"),
        ({"fmin": -1.0}, "between 0 and fmax"),
        ({"log_floor": 0.0}, "log_floor is 0.0; it should be positive"),
        ({"mel_scale": "HTK"}, "mel_scale.*'HTK'"),
        ({"log": "db"}, "log is 'db'; it should be one of 'ln', 'log10'"),
        ({"fmax": math.nan}, "fmax is nan; it should be a finite number"),
        ({"power": math.inf}, "power is inf; it should be a finite number"),
        ({"center": 1}, "center is 1; it should be True or False"),
    ],
)
def test_mel_config_raises_for_contradictions(changes, message):
    with pytest.raises(ConfigError, match=message):
        MelConfig(**changes)


@pytest.mark.parametrize("rate", [16000, 22050, 24000, 44100, 48000])
def test_filters_of_common_rates_are_not_empty(rate):
    n_fft = 2048 if rate > 24000 else 1024
    for bands in (80, 100, 128):
        config = MelConfig(rate, n_fft, n_fft // 4, n_fft, bands, fmax=None)
        assert mel_filterbank(config).any(axis=1).all()


def test_mel_config_has_a_json_round_trip_and_a_full_band():
    config = MelConfig()
    assert from_dict(MelConfig, to_dict(config)) == config
    assert config.full_band() == MelConfig(fmax=None)
    assert config.full_band().upper_frequency == 11025


def coqui_decibels(audio, sample_rate=22050, preemphasis=0.98):
    """coqui-ai/TTS's `melspectrogram` with its default settings, from librosa's and scipy's parts."""
    emphasised = scipy.signal.lfilter([1, -preemphasis], [1], audio)
    spectrum = np.abs(librosa.stft(emphasised, n_fft=1024, hop_length=256, win_length=1024, pad_mode="reflect"))
    filters = librosa.filters.mel(sr=sample_rate, n_fft=1024, n_mels=80, fmin=50, fmax=7600)
    decibels = 20 * np.log10(np.maximum(1e-5, filters @ spectrum)) - 20
    return np.clip(8 * (decibels + 100) / 100 - 4, -4, 4)


DECIBELS = MelConfig(
    fmin=50.0,
    fmax=7600.0,
    magnitude_floor=0.0,
    center=True,
    preemphasis=0.98,
    log="log10",
    gain=1.6,
    offset=2.4,
    clip=(-4.0, 4.0),
)


def test_normalised_decibels_equal_librosa(golden):
    audio = golden["wav"][0] * np.linspace(0, 1, golden["wav"].shape[-1], dtype=np.float32) ** 16
    wanted = coqui_decibels(audio)
    assert wanted.min() == -4 and np.ptp(wanted) > 4
    found = log_mel(audio, DECIBELS)
    np.testing.assert_allclose(found, wanted, atol=2e-4)
    assert DECIBELS.floor == -4
    for changed in ({"preemphasis": 0.0}, {"offset": 2.5}, {"gain": 1.5}, {"clip": None}):
        assert abs(log_mel(audio, dataclasses.replace(DECIBELS, **changed)) - wanted).max() > 0.05


def test_full_band_contract_is_unscaled():
    assert DECIBELS.full_band() == MelConfig(fmin=50.0, fmax=None, magnitude_floor=0.0, center=True, log="log10")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"gain": 0.0}, "gain is 0.0; it should be positive"),
        ({"preemphasis": 1.0}, r"preemphasis is 1.0; it should be in \[0, 1\)"),
        ({"clip": (1.0, -1.0)}, "should be .lowest, highest"),
    ],
)
def test_mel_config_raises_for_impossible_scaling(changed, said):
    with pytest.raises(ConfigError, match=said):
        MelConfig(**changed)


def test_log_mel_of_waveglow_equals_the_release():
    with np.load(GOLDEN.parents[1] / "waveglow" / "mel.npz") as case:
        audio, expected = case["wav"][0], case["mel"][0]
    found = log_mel(audio, WAVEGLOW_MEL)
    # The case states no rounding; that of float32 in the STFT is 1e-5 of the largest value at most.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * abs(expected).max())

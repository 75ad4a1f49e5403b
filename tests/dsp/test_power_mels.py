"""Mel power spectrograms compared with librosa in float64."""

import librosa
import numpy as np
import pytest
import scipy.signal
from jax import numpy as jnp

from jaxvoice.dsp import PowerMelConfig, power_mel
from jaxvoice.errors import ConfigError, ShapeError


def recording(samples):
    return (0.1 * np.random.default_rng(0).normal(size=samples)).astype(np.float32)


def with_librosa(audio, config):
    audio = audio.astype(np.float64)
    if config.preemphasis:
        audio = audio - config.preemphasis * np.concatenate([audio[1:2], audio[:-1]])
    window = scipy.signal.get_window(config.window, config.win_length, fftbins=True)
    power = (
        np.abs(
            librosa.stft(
                audio,
                n_fft=config.n_fft,
                hop_length=config.hop_length,
                win_length=config.win_length,
                window=window,
                pad_mode="reflect" if config.padding == "reflect" else "constant",
                dtype=np.complex128,
            )
        )
        ** 2
    )
    filters = librosa.filters.mel(
        sr=config.sample_rate,
        n_fft=config.n_fft,
        n_mels=config.num_mels,
        fmin=config.fmin,
        fmax=config.fmax,
        htk=config.mel_scale == "htk",
        norm=None if config.mel_norm == "none" else "slaney",
        dtype=np.float64,
    )
    return filters @ power


@pytest.mark.parametrize(
    "config",
    [
        PowerMelConfig(num_mels=30),
        PowerMelConfig(n_fft=400, num_mels=20, window="hann", mel_scale="slaney", mel_norm="slaney", preemphasis=0.0),
        PowerMelConfig(hop_length=100, win_length=300, num_mels=24, fmin=50.0, fmax=7000.0, padding="zeros"),
    ],
    ids=["coqui", "resemblyzer", "other"],
)
def test_power_equals_librosa(config):
    audio = recording(2 * 3001).reshape(2, -1)
    found = power_mel(jnp.asarray(audio), config)
    assert found.shape == (2, config.num_mels, config.num_frames(3001))
    for ours, row in zip(found, audio, strict=True):
        np.testing.assert_allclose(ours, with_librosa(row, config), rtol=2e-4, atol=1e-9)


def test_shortest_audio_has_two_frames():
    config = PowerMelConfig(num_mels=30)
    audio = recording(config.min_samples)
    found = power_mel(jnp.asarray(audio), config)
    assert found.shape == (30, 2)
    # By the definition, without librosa, which warns about audio that is shorter than a frame.
    emphasised = audio - 0.97 * np.concatenate([audio[1:2], audio[:-1]])
    padded = np.pad(emphasised.astype(np.float64), 256, mode="reflect")
    window = np.pad(scipy.signal.get_window("hamming", 400), 56)
    power = np.abs(np.fft.rfft(np.stack([padded[:512], padded[160:672]]) * window)) ** 2
    np.testing.assert_allclose(found, config.filterbank().astype(np.float64) @ power.T, rtol=2e-4, atol=1e-9)
    with pytest.raises(ShapeError, match="256 samples; it should have at least 257"):
        power_mel(jnp.zeros(256), config)


@pytest.mark.parametrize("padding", ["reflect", "zeros"])
def test_samples_after_the_length_have_no_influence(padding):
    config = PowerMelConfig(num_mels=30, padding=padding)
    audio = jnp.asarray(recording(2 * 3000).reshape(2, -1))
    found = power_mel(audio, config, length=jnp.array([1234, 3000]))
    np.testing.assert_allclose(found[0, :, : 1234 // 160 + 1], power_mel(audio[0, :1234], config), rtol=1e-5)
    np.testing.assert_allclose(found[1], power_mel(audio[1], config), rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_fft": 511}, "n_fft is 511; it should be even. Use 512"),
        ({"win_length": 600}, "win_length is 600; it should be at most n_fft, 512"),
        ({"hop_length": 401}, "hop_length is 401; it should be at most win_length, 400"),
        ({"fmax": 9000.0}, "fmax is 9000.0; it should be at most Nyquist, 8000.0 Hz"),
        ({"fmin": 8000.0}, "fmin is 8000.0; it should lie between 0 and fmax, 8000.0 Hz"),
        ({"preemphasis": 1.0}, r"preemphasis is 1.0; it should be in \[0, 1\)"),
        ({"num_mels": 1025}, "num_mels is 1025; it should be at most 1024"),
    ],
)
def test_contradictory_settings_raise_errors(options, message):
    with pytest.raises(ConfigError, match=message):
        PowerMelConfig(**options)

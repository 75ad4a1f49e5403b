"""Differentiable resampling: sines, soxr, lengths and gradients."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxvoice.dsp.resampling import resample
from jaxvoice.dsp.sinc_resampling import sinc_resample
from jaxvoice.errors import AudioError

PAIRS = [(44100, 16000), (22050, 16000), (16000, 22050), (8000, 16000), (48000, 16000)]


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_sines_keep_their_frequency_and_phase(source, target):
    frequency, seconds = 700.0, 0.2
    wave = lambda rate: np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)  # noqa: E731
    found = np.asarray(sinc_resample(jnp.asarray(wave(source), jnp.float32), source, target))
    assert len(found) == len(wave(target))
    inside = slice(200, -200)
    np.testing.assert_allclose(found[inside], wave(target)[inside], atol=2e-3)


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_low_frequencies_are_those_of_soxr(source, target):
    spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal(source // 4))
    spectrum[np.fft.rfftfreq(source // 4, 1 / source) > 0.35 * min(source, target)] = 0
    audio = np.fft.irfft(spectrum).astype(np.float32)
    found, expected = np.asarray(sinc_resample(jnp.asarray(audio), source, target)), resample(audio, source, target)
    assert found.shape == expected.shape
    error = np.sqrt(np.mean((found - expected)[100:-100] ** 2)) / np.sqrt(np.mean(expected**2))
    assert error < 0.01


def test_frequencies_above_the_limit_are_removed():
    audio = jnp.asarray(np.sin(2 * np.pi * 10000 * np.arange(9000) / 44100), jnp.float32)
    assert np.abs(np.asarray(sinc_resample(audio, 44100, 16000))[50:-50]).max() < 0.02


@pytest.mark.parametrize("length", [1, 2, 441, 1000, 1001])
def test_lengths_are_rounded_up(length):
    assert sinc_resample(jnp.ones((3, length)), 44100, 16000).shape == (3, -(-length * 160 // 441))


def test_gradients_are_the_transpose():
    generator = np.random.default_rng(1)
    x, y = (jnp.asarray(generator.standard_normal(n), jnp.float32) for n in (450, 164))
    found = jax.grad(lambda x: jnp.sum(sinc_resample(x, 44100, 16000) * y))(x)
    np.testing.assert_allclose(jnp.sum(found * x), jnp.sum(sinc_resample(x, 44100, 16000) * y), rtol=1e-4)
    assert float(jnp.abs(found).min()) >= 0 and float(jnp.linalg.norm(found)) > 1


def test_equal_rates_return_the_audio_and_bad_rates_raise():
    x = jnp.ones(5)
    assert sinc_resample(x, 16000, 16000) is not None and np.array_equal(sinc_resample(x, 16000, 16000), x)
    with pytest.raises(AudioError, match="to_rate is 0"):
        sinc_resample(x, 16000, 0)

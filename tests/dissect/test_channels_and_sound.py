"""Measures of channels against NumPy, and activations as sound: length, pitch and peak."""

import math

import numpy as np
import pytest

from jaxvoice import dissect
from jaxvoice.dissect import Channels
from jaxvoice.errors import AudioError, ConfigError, ShapeError

RANDOM = np.random.default_rng(0)


def test_top_channels_are_ranked_by_signed_maximum():
    x = np.zeros((2, 5, 4), np.float32)
    x[0, 1, 2], x[1, 4, 0], x[0, 0, 1], x[1, 2, 3] = 3, 2, -9, 1
    x[:, :, 3] += 0.5
    assert dissect.top_channels(x).tolist() == [2, 0, 3, 1]
    assert dissect.top_channels(x, 2, by="absmax").tolist() == [1, 2]
    assert dissect.top_channels(x, None, by="rms").tolist() == [1, 2, 3, 0]
    for make, error in (
        (lambda: dissect.top_channels(x, 0), ConfigError),
        (lambda: dissect.top_channels(x, by="mean"), ConfigError),
        (lambda: dissect.top_channels(x[0, 0]), ShapeError),
    ):
        with pytest.raises(error, match="it should be"):
            make()


def test_kernels_are_pairs_of_channels():
    weight = RANDOM.standard_normal((3, 2, 5)).astype(np.float32)
    np.testing.assert_array_equal(dissect.kernels(weight)[2 * 2 + 1], weight[2, 1])
    np.testing.assert_allclose(dissect.kernel_norms(weight)[3], np.linalg.norm(weight[1, 1]), rtol=1e-6)
    with pytest.raises(ShapeError, match=r"it should be \(out, in, taps\)"):
        dissect.kernels(weight[0])


def test_clusters_of_similar_channels():
    base = RANDOM.standard_normal((3, 400))
    rows = np.stack([base[0], base[1], 2 * base[0], base[2], base[1] + 0.1 * base[2], -base[0], 3 * base[0]], -1)
    rows = np.concatenate([rows, np.zeros((400, 1))], -1).reshape(2, 200, 8)
    found = dissect.similarity(rows)
    expected = np.corrcoef(rows.reshape(-1, 8)[:, :7].T)
    np.testing.assert_allclose(found[:7, :7], expected, atol=0.1)  # cosines; the means are small
    np.testing.assert_allclose(found[0, [2, 5, 6]], [1, -1, 1], atol=1e-5)
    assert not found[7].any()
    assert dissect.clusters(found) == [[0, 2, 6], [1, 4]]
    assert dissect.clusters(found, 0.9999) == [[0, 2, 6]]
    mask = Channels(dissect.channel_mask(8, [0, 2, 6], invert=True))
    assert mask.factors == (0, 1, 0, 1, 1, 1, 0, 1)
    with pytest.raises(ShapeError, match="The channel is 8"):
        dissect.channel_mask(8, [8])
    with pytest.raises(ShapeError, match="similarities"):
        dissect.clusters(found[:2])


@pytest.mark.parametrize("divisor", [1, 8, 64, 512])
def test_the_rate_and_length_of_an_activation(divisor):
    samples, rate = 65536, 44100
    frames = samples // divisor
    assert dissect.activation_rate(frames, samples, rate) == pytest.approx(44100 / divisor)
    activation = RANDOM.standard_normal((frames, 3)).astype(np.float32)
    audio = dissect.sonify(activation, samples, rate)
    assert audio.shape == (samples,) and audio.dtype == np.float32
    slow = dissect.sonify(activation, samples, rate, 16000)
    assert slow.shape == (math.ceil(samples * 16000 / 44100),)


def test_the_sound_of_an_activation_is_in_tune():
    """A sine of an activation at 86.13 Hz has the same frequency in the audio."""
    samples, rate, frames = 262144, 44100, 512
    seconds = np.arange(frames) * samples / rate / frames
    activation = np.stack([np.sin(2 * np.pi * 10 * seconds)] * 2, -1)
    audio = dissect.sonify(activation, samples, rate)
    time = np.arange(samples) / rate
    middle = slice(samples // 4, 3 * samples // 4)
    np.testing.assert_allclose(audio[middle], np.sin(2 * np.pi * 10 * time)[middle], atol=2e-2)


def test_sound_is_scaled_to_its_peak():
    x = RANDOM.standard_normal((2, 64, 3)).astype(np.float32)
    total = x.sum(-1)
    audio = dissect.sonify(x, 64, 16000)
    np.testing.assert_allclose(audio, total / total.max(-1, keepdims=True), rtol=1e-5)
    assert audio.max() == pytest.approx(1)
    magnitude = dissect.sonify(x, 64, 16000, normalize="absmax")
    np.testing.assert_allclose(magnitude, total / np.abs(total).max(-1, keepdims=True), rtol=1e-5)
    negative = -np.abs(x)
    assert np.abs(dissect.sonify(negative, 64, 16000)).max(-1) == pytest.approx(1)
    np.testing.assert_array_equal(dissect.sonify(x, 64, 16000, reduce=1, normalize=None), x[..., 1])
    np.testing.assert_allclose(dissect.sonify(x, 64, 16000, reduce="mean", normalize=None), x.mean(-1), atol=1e-6)
    assert not dissect.sonify(np.zeros((64, 3)), 64, 16000).any()


def test_wrong_arguments_of_sound_raise_errors():
    x = np.ones((8, 3), np.float32)
    for make, error, message in (
        (lambda: dissect.sonify(x[:, 0], 8, 16000), ShapeError, r"\(\*batch, time, channels\)"),
        (lambda: dissect.sonify(x, 0, 16000), ShapeError, "both should be at least 1"),
        (lambda: dissect.sonify(x, 8, 0), AudioError, "positive whole number"),
        (lambda: dissect.sonify(np.where(x > 0, np.nan, x), 8, 16000), AudioError, "NaN or infinite in 24 of 24"),
        (lambda: dissect.sonify(x, 8, 16000, 22050.5), AudioError, "out_rate is 22050.5"),
        (lambda: dissect.sonify(x, 8, 16000, reduce=3), ShapeError, "should be in 0..2"),
        (lambda: dissect.sonify(x, 8, 16000, reduce="max"), ConfigError, "reduce is 'max'"),
        (lambda: dissect.sonify(x, 8, 16000, normalize="rms"), ConfigError, "normalize is 'rms'"),
    ):
        with pytest.raises(error, match=message):
            make()

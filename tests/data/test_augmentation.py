"""Random changes of crops compared with scipy and closed forms, and the batches of `AudioCrops`."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import signal

from jaxvoice.data import AudioCrops, AugmentationConfig, Corpus, Loader, Store, Utterance, augment, integrate
from jaxvoice.data.augmentation import (
    allpass,
    change_gain,
    change_pitch,
    compress,
    differentiate,
    mask_frequencies,
    normalize,
)
from jaxvoice.errors import ConfigError

RATE = 16000
NOTHING = AugmentationConfig(allpass_probability=0.0, dequantize=False)


def noise(samples=8192, channels=2, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal((channels, samples))


def tone(frequency, samples=RATE, level=0.5):
    return level * np.sin(2 * np.pi * frequency * np.arange(samples) / RATE)[None]


def test_allpass_changes_phases_only():
    impulse = np.zeros((1, 8192))
    impulse[0, 0] = 1
    response = np.fft.rfft(allpass(impulse, 440.0, RATE)[0])
    np.testing.assert_allclose(np.abs(response), 1, atol=1e-6)
    # The phase falls by 2 pi near the frequency of the poles.
    frequencies, delay = signal.group_delay(
        ([0.9801, -1.98 * np.cos(2 * np.pi * 440 / RATE), 1.0], [1.0, -1.98 * np.cos(2 * np.pi * 440 / RATE), 0.9801]),
        w=4096,
        fs=RATE,
    )
    assert abs(frequencies[np.argmax(delay)] - 440) < 5
    found = -np.diff(np.unwrap(np.angle(response))) / (2 * np.pi / 8192)
    assert abs(np.argmax(found) * RATE / 8192 - 440) < 5
    assert np.abs(allpass(noise(), 440.0, RATE) - noise()).max() > 0.05


def test_normalize_has_a_largest_gain():
    assert np.abs(normalize(noise())).max() == pytest.approx(1)
    quiet = 1e-3 * noise()
    np.testing.assert_allclose(normalize(quiet), quiet * 10**1.5)
    assert not np.any(normalize(np.zeros((1, 8))))


def test_derivative_and_integral():
    x = tone(1000.0)
    d = differentiate(x)
    np.testing.assert_allclose(d[:, 1:], (x[:, 1:] - x[:, :-1]) / 2)
    assert d[0, 0] == x[0, 0] / 2
    # After the transient of the high-pass, the phase of which is small at 1 kHz.
    np.testing.assert_allclose(integrate(d, RATE)[:, RATE // 2 :], x[:, RATE // 2 :], atol=0.01)
    offset = integrate(np.full((1, 4 * RATE), 1e-3), RATE)
    assert np.abs(offset[:, -100:]).max() < 1e-3


@pytest.mark.parametrize(("level", "gain"), [(-20.0, 20.0), (-60.0, -20.0)])
def test_compression_has_the_documented_curve(level, gain):
    # A square wave has a constant absolute value.
    square = np.sign(tone(100.0))
    for decibels, expected in ((-40.0, gain), (-20.0, gain / 2), (0.0, 0.0), (-60.0, gain / 2), (-90.0, 0.0)):
        x = square * 10 ** (decibels / 20)
        y = compress(x, level, RATE)
        found = 20 * np.log10(np.abs(y[0, -1]) / np.abs(x[0, -1]))
        assert found == pytest.approx(expected, abs=0.05)
    # The envelope reaches 1 - 1/e of a step after the time constant.
    x = np.full((1, RATE), 0.01)
    first = compress(x, level, RATE)[0, RATE // 10 - 1] / 0.01
    envelope = -40 + 20 * np.log10(1 - np.exp(-1))
    assert 20 * np.log10(first) == pytest.approx(gain * (envelope + 80) / 40, abs=0.05)


def test_gain_acts_and_does_not_clip():
    x = tone(440.0, level=0.5)
    np.testing.assert_allclose(change_gain(x, -6.0), x * 10**-0.3)
    np.testing.assert_allclose(change_gain(x, 3.0), x * 10**0.15)
    assert np.abs(change_gain(tone(440.0, level=0.9), 3.0)).max() == pytest.approx(1)
    np.testing.assert_array_equal(change_gain(1.5 * x / 0.5, 3.0), 1.5 * x / 0.5)


def test_masked_band_is_silent_and_others_are_not_changed():
    x = np.random.default_rng(0).standard_normal((1, 4 * RATE))
    y = mask_frequencies(x, 80, 0.5)
    first = int(0.5 * (2049 - 80 + 1))
    frequencies, before = signal.welch(x, nperseg=4096)
    _, after = signal.welch(y, nperseg=4096)
    inside = (frequencies * 4096 >= first + 3) & (frequencies * 4096 < first + 77)
    outside = (frequencies * 4096 < first - 3) | (frequencies * 4096 >= first + 83)
    assert (after[0, inside] < 1e-2 * before[0, inside]).all()
    np.testing.assert_allclose(after[0, outside], before[0, outside], rtol=0.05)
    np.testing.assert_array_equal(mask_frequencies(x[:, :4000], 80, 0.5), x[:, :4000])
    np.testing.assert_array_equal(mask_frequencies(x, 0, 0.5), x)


@pytest.mark.parametrize("semitones", [-12.0, 0.0, 7.0])
def test_pitch_changes_by_semitones(semitones):
    y = change_pitch(tone(440.0, 2 * RATE), semitones, RATE)
    assert y.shape == (1, RATE)
    spectrum = np.abs(np.fft.rfft(y[0, : RATE // 2] * np.hanning(RATE // 2)))
    assert np.argmax(spectrum) * 2 == pytest.approx(440 * 2 ** (semitones / 12), abs=3)


EVERYTHING = AugmentationConfig(
    pitch=(-2.0, 2.0),
    allpass_probability=1.0,
    compress_probability=1.0,
    gain_probability=1.0,
    mask_probability=1.0,
)


def test_changes_are_functions_of_the_seed():
    crop = noise(12000)
    first = augment(crop, EVERYTHING, RATE, seed=5, segment=8192)
    np.testing.assert_array_equal(first, augment(crop, EVERYTHING, RATE, seed=5, segment=8192))
    assert first.shape == (2, 8192) and first.dtype == np.float32 and np.isfinite(first).all()
    assert np.abs(first - augment(crop, EVERYTHING, RATE, seed=6, segment=8192)).max() > 1e-3
    np.testing.assert_allclose(augment(crop, NOTHING, RATE, seed=5, segment=8192), crop[:, :8192], rtol=1e-6)


@pytest.mark.parametrize("name", ["allpass", "compress", "gain", "mask", "mute"])
def test_changes_have_their_probability(name):
    config = replace(NOTHING, **{f"{name}_probability": 0.3})
    crop = noise(4096, channels=1)
    changed = [
        np.any(augment(crop, config, RATE, seed=seed, segment=4096) != crop.astype(np.float32)) for seed in range(300)
    ]
    # Within four standard deviations; the mask may have no width.
    assert abs(np.mean(changed) - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 300)


def test_gains_and_noise_have_their_range():
    crop = noise(64, channels=1)
    config = replace(NOTHING, gain_probability=1.0)
    gains = [
        20 * np.log10(np.abs(augment(crop, config, RATE, seed=seed, segment=64)).max() / np.abs(crop).max())
        for seed in range(300)
    ]
    assert -6.01 < min(gains) < -5.8 and 2.8 < max(gains) < 3.01
    added = augment(np.zeros((2, 5000)), replace(NOTHING, dequantize=True), RATE, seed=1, segment=5000) * 2**16
    assert 0 <= added.min() < 0.01 and 0.99 < added.max() < 1
    assert added.mean() == pytest.approx(0.5, abs=0.02) and np.abs(np.corrcoef(added)[0, 1]) < 0.05


def store_of(*lengths, channels=1):
    shape = () if channels == 1 else (channels,)
    audio = [np.arange(np.prod((*shape, n))).reshape(*shape, n).astype(np.int16) + 1 for n in lengths]
    corpus = Corpus("folder", Path("x"), tuple(Utterance(str(i), Path(f"{i}.wav")) for i in range(len(lengths))))
    return Store(corpus, {"audio": audio, "gain": np.full(len(lengths), 0.5, np.float32)}, RATE)


@pytest.mark.parametrize("channels", [1, 2])
def test_batches_are_crops_with_all_channels(channels):
    store = store_of(100, 40, channels=channels)
    with Loader(store, AudioCrops(4, 64, RATE, NOTHING, crops_per_clip=2)) as loader:
        batch = next(loader).audio
    assert batch.shape == (4, 64, channels) and batch.dtype == np.float32
    for row in batch:
        length = 64 if row[-1, 0] else 40
        np.testing.assert_allclose(np.diff(row[:length], axis=0), 0.5)
        assert not np.any(row[length:])
        if channels == 2:
            np.testing.assert_allclose(row[:length, 1] - row[:length, 0], 0.5 * (100 if length == 64 else 40))
    assert sorted(row[-1, 0] == 0 for row in batch) == [False, False, True, True]


def test_batches_do_not_depend_on_workers_and_processes():
    store, crops = store_of(30000, 20000, 9000), AudioCrops(4, 8192, RATE, EVERYTHING, crops_per_clip=4)

    def batches(**options):
        with Loader(store, crops, seed=7, **options) as loader:
            return [next(loader).audio for _ in range(4)]

    expected = batches()
    np.testing.assert_array_equal(batches(workers=2), expected)
    halves = [batches(process_index=i, process_count=2) for i in range(2)]
    np.testing.assert_array_equal(np.concatenate(halves, axis=1), expected)
    assert np.abs(expected[0] - expected[1]).max() > 0
    with Loader(store, crops, seed=7) as loader:
        assert loader.describe()["augmentation"]["pitch"] == [-2.0, 2.0] and loader.describe()["segment"] == 8192


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gain_probability": 1.5}, "gain_probability"),
        ({"gain_range": (3.0, -6.0)}, "gain_range"),
        ({"compress_range": (-60.0, 1.0)}, "compress_range"),
        ({"pitch": (0.0, 30.0)}, "pitch"),
        ({"mask_bins": 0}, "mask_bins"),
        ({"mask_bins": 2049}, "mask_bins is 2049; it should be at most 2048"),
    ],
)
def test_impossible_changes_raise(changes, message):
    with pytest.raises(ConfigError, match=message):
        AugmentationConfig(**changes)

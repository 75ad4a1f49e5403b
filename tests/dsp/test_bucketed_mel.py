"""The log-mel for recordings of any length equals the exact one, for every length and every field of the contract."""

import dataclasses

import numpy as np
import pytest

from jaxvoice.dsp import MelConfig, bucketed_log_mel, log_mel, mel_filterbank
from jaxvoice.errors import AudioError, ConfigError, ShapeError

SMALL = MelConfig(sample_rate=8000, n_fft=64, hop_length=16, win_length=64, num_mels=8, fmax=None)
FIELDS = {
    "sample_rate": {"sample_rate": 16000},
    "n_fft": {"n_fft": 128},
    "hop_length": {"hop_length": 20},
    "largest hop_length": {"hop_length": 64},
    "win_length": {"win_length": 48},
    "num_mels": {"num_mels": 5},
    "fmin": {"fmin": 300.0},
    "fmax": {"fmax": 3000.0},
    "mel_scale": {"mel_scale": "htk"},
    "mel_norm": {"mel_norm": "none"},
    "power": {"power": 2.0},
    "magnitude_floor": {"magnitude_floor": 0.1},
    "log_floor": {"log_floor": 0.5},
    "log": {"log": "log10"},
    "center": {"center": True},
    "preemphasis": {"preemphasis": 0.98},
    "gain": {"gain": 1.6},
    "offset": {"offset": -3.0},
    "clip": {"clip": (-1.0, 0.5)},
    "all": {"center": True, "preemphasis": 0.98, "log": "log10", "gain": 1.6, "offset": 2.4, "clip": (-4.0, 4.0)},
}
SHARED = np.random.default_rng(0).normal(0, 0.1, 16 * 400).astype(np.float32)


def by_definition(audio: np.ndarray, config: MelConfig) -> np.ndarray:
    """The mel frame by frame, in float64."""
    audio = audio.astype(np.float64)
    audio = audio - config.preemphasis * np.concatenate([[0], audio[:-1]])
    pad = config.n_fft // 2 if config.center else (config.n_fft - config.hop_length) // 2
    padded = np.pad(audio, pad, mode="reflect")
    window = np.zeros(config.n_fft)
    left = (config.n_fft - config.win_length) // 2
    phase = 2 * np.pi * np.arange(config.win_length) / config.win_length
    window[left : left + config.win_length] = 0.5 - 0.5 * np.cos(phase)
    count = (len(padded) - config.n_fft) // config.hop_length + 1
    starts = np.arange(count)[:, None] * config.hop_length
    spectra = np.fft.rfft(padded[starts + np.arange(config.n_fft)] * window)
    magnitude = (np.abs(spectra) ** 2 + config.magnitude_floor) ** (config.power / 2)
    mel = mel_filterbank(config).astype(np.float64) @ magnitude.T
    mel = np.log(np.maximum(mel, config.log_floor)) / (1 if config.log == "ln" else np.log(10))
    mel = config.gain * mel + config.offset
    return mel if config.clip is None else np.clip(mel, *config.clip)


def test_variants_change_every_field():
    changed = set().union(*FIELDS.values())
    assert changed == {field.name for field in dataclasses.fields(MelConfig)}
    assert all(config != SMALL for config in (dataclasses.replace(SMALL, **changes) for changes in FIELDS.values()))


@pytest.mark.parametrize("name", FIELDS)
def test_bucketed_log_mel_equals_log_mel_for_every_field(name):
    config = dataclasses.replace(SMALL, **FIELDS[name])
    shortest = config.min_samples
    for samples in (*range(shortest, shortest + config.hop_length + 1), 16 * 64, 16 * 64 + 1, 16 * 200 + 5):
        expected = by_definition(SHARED[:samples], config)
        found = bucketed_log_mel(SHARED[:samples], config)
        assert found.dtype == np.float32 and found.shape == (config.num_mels, config.num_frames(samples))
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-3)
        np.testing.assert_allclose(bucketed_log_mel(SHARED[:samples], config, window=64), found, rtol=0, atol=1e-4)
    np.testing.assert_allclose(found, np.asarray(log_mel(SHARED[:samples], config)), rtol=0, atol=1e-4)


@pytest.mark.parametrize("center", [False, True])
def test_bucketed_log_mel_equals_log_mel_for_every_length(center):
    config = dataclasses.replace(SMALL, center=center, preemphasis=0.98)
    for samples in range(config.min_samples, 16 * 100):  # buckets of 64, 96 and 128 hops
        expected = by_definition(SHARED[:samples], config)
        np.testing.assert_allclose(bucketed_log_mel(SHARED[:samples], config), expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("center", [False, True])
def test_overlapping_windows_equal_one_window(center):
    config = dataclasses.replace(SMALL, center=center)
    whole = np.asarray(log_mel(SHARED, config))
    for window in (64, 65, 100, 399, 400, 401, 402, 403):
        np.testing.assert_allclose(bucketed_log_mel(SHARED, config, window=window), whole, rtol=0, atol=1e-4)


def test_few_programs_are_compiled_for_all_lengths(monkeypatch):
    seen = set()

    def watched(audio, config):
        seen.add(len(audio) // config.hop_length)
        return np.zeros((config.num_mels, config.num_frames(len(audio))), np.float32)

    monkeypatch.setattr("jaxvoice.dsp.mel.log_mel", watched)
    for hops in range(3, 3000):
        bucketed_log_mel(np.zeros(16 * hops, np.float32), SMALL)
    assert seen == {64, 96, 128, 192, 256, 384, 512, 768, 1024}


def test_complete_appends_silence_to_whole_hops():
    for samples in (200, 208, 209):
        padded = np.pad(SHARED[:samples], (0, -samples % 16))
        found = bucketed_log_mel(SHARED[:samples], SMALL, complete=True)
        np.testing.assert_array_equal(found, bucketed_log_mel(padded, SMALL))


def test_bucketed_log_mel_raises_for_bad_audio():
    with pytest.raises(AudioError, match=r"20 samples; it should have at least 25 .*at 8000 Hz"):
        bucketed_log_mel(SHARED[:20], SMALL)
    with pytest.raises(ShapeError, match=r"shape \(2, 50\)"):
        bucketed_log_mel(SHARED[:100].reshape(2, 50), SMALL)
    with pytest.raises(ShapeError, match="int16"):
        bucketed_log_mel(np.zeros(100, np.int16), SMALL)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_bucketed_log_mel_raises_for_samples_that_are_not_finite(value):
    audio = SHARED.astype(np.float64)
    audio[[17, 400]] = value
    with pytest.raises(AudioError, match=r"2 of the 6400 samples are NaN or infinite in float32, the first at 17"):
        bucketed_log_mel(audio, SMALL)


@pytest.mark.parametrize("window", [63, 0, -5, 64.5, 100.0, True, "64"])
def test_bucketed_log_mel_raises_for_short_windows(window):
    with pytest.raises(ConfigError, match=rf"window is {window!r}; it should be a whole number of hops, at least 64"):
        bucketed_log_mel(SHARED, SMALL, window=window)
    wide = dataclasses.replace(SMALL, n_fft=1024, center=True)
    with pytest.raises(ConfigError, match="at least 128"):
        bucketed_log_mel(SHARED, wide, window=127)


def test_default_window_grows_with_the_frame_length():
    """Frames of 1024 hops need windows of more than 1024 hops."""
    config = dataclasses.replace(SMALL, n_fft=1024, hop_length=1, win_length=1024, center=True, num_mels=2)
    found = bucketed_log_mel(SHARED[:3000], config)
    np.testing.assert_allclose(found, np.asarray(log_mel(SHARED[:3000], config)), rtol=0, atol=1e-4)

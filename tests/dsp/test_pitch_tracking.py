"""Both trackers against signals whose F0 is known, and against each other on recordings."""

import subprocess
import sys

import numpy as np
import pytest
import scipy.interpolate
import soundfile

from jaxvoice.dsp import PitchConfig, track_pitch
from jaxvoice.dsp.pitch_tracking import RATE
from jaxvoice.errors import AudioError, ConfigError, ShapeError

PYIN, AUTOCORRELATION = PitchConfig("pyin"), PitchConfig("autocorrelation")
# librosa compiles pYIN with numba for half a minute.
BOTH = pytest.mark.parametrize(
    "config",
    [pytest.param(PYIN, id="pyin", marks=pytest.mark.slow), pytest.param(AUTOCORRELATION, id="autocorrelation")],
)


def harmonics(f0, amplitudes, rate=RATE):
    """The sum of harmonics of an F0 in Hz per sample, below half the rate."""
    phase = 2 * np.pi * np.cumsum(f0) / rate
    parts = [a * np.sin(k * phase + k) * (k * f0 < 0.45 * rate) for k, a in enumerate(amplitudes, 1)]
    return sum(parts, np.zeros(len(f0))).astype(np.float32)


def constant(hertz, seconds=1.0, rate=RATE):
    return np.full(round(seconds * rate), float(hertz))


def at_frames(f0):
    """An F0 per sample at 16 kHz at the middles of the frames."""
    return f0[np.minimum(np.arange(len(f0) // 160 + 1) * 160, len(f0) - 1)]


def cents(found, true):
    return 1200 * np.log2(found / true)


def voice(f0, rng, jitter=0.0):
    """Pulses with a spectrum of -6 dB per octave and two formants; each period is longer or shorter by `jitter`."""
    phase = np.cumsum(f0) / RATE
    starts = np.interp(np.arange(1, int(phase[-1])), phase, np.arange(len(f0)))
    starts = starts + jitter * RATE / np.median(f0) * rng.standard_normal(len(starts))
    lags = np.arange(len(f0))[None] - starts[:, None]
    response = sum(np.exp(-lags.clip(0) / 60) * np.sin(2 * np.pi * hertz / RATE * lags) for hertz in (500, 1500))
    return np.where((lags >= 0) & (lags < 600), response, 0).sum(axis=0)


@BOTH
@pytest.mark.parametrize("hertz", [80.0, 220.0, 580.0])
def test_tones_and_complexes_have_their_frequency(config, hertz):
    for amplitudes, limit in (([1], 40), (1 / np.arange(1, 12), 11)):
        found = track_pitch(harmonics(constant(hertz, 0.5), amplitudes), RATE, config)
        assert found.shape == (51,) and found.dtype == np.float32
        inner = found[5:-5]
        assert (inner > 0).all()
        # The steps of pYIN are 10 cents. librosa's frames bias low pure tones, which have no harmonics.
        assert np.abs(cents(inner, hertz)).max() < (limit if config is PYIN else 0.5)


@BOTH
@pytest.mark.parametrize("hertz", [100.0, 210.0])
def test_a_missing_fundamental_is_found(config, hertz):
    found = track_pitch(harmonics(constant(hertz, 0.4), [0, 0, 1, 1, 1, 1, 0.5]), RATE, config)[5:-5]
    assert np.abs(cents(found, hertz)).max() < (8 if config is PYIN else 1)


@pytest.mark.parametrize("rate", [8000, 22050, 24000, 44100, 48000])
def test_any_sample_rate_gives_the_frames_of_16_khz(rate):
    samples = round(0.5 * rate) + 7
    audio = harmonics(np.full(samples, 150.0), [1, 0.5, 0.3], rate)
    found = track_pitch(audio, rate, AUTOCORRELATION)
    assert len(found) == -(-samples * RATE // rate) // 160 + 1
    assert abs(cents(np.median(found), 150)) < 0.5


@BOTH
def test_glides_are_followed_without_delay(config):
    """An octave per second is 12 cents per frame, so a delay of 5 ms would be 6 cents."""
    for low, high in ((100, 200), (400, 200)):
        true = low * (high / low) ** (np.arange(RATE) / RATE)
        found = track_pitch(harmonics(true, 1 / np.arange(1, 9)), RATE, config)
        error = cents(found[5:-5], at_frames(true)[5:-5])
        assert np.abs(np.median(error)) < (5 if config is PYIN else 0.5)
        assert np.abs(error).max() < (20 if config is PYIN else 3)


@BOTH
def test_vibrato_is_followed(config):
    true = 220 * 2 ** (0.5 / 12 * np.sin(2 * np.pi * 5 * np.arange(RATE) / RATE))
    found = track_pitch(harmonics(true, 1 / np.arange(1, 9)), RATE, config)
    error = cents(found[5:-5], at_frames(true)[5:-5])
    assert np.median(np.abs(error)) < 7 and np.abs(error).max() < 30


@BOTH
@pytest.mark.parametrize(("snr", "limit", "voiced"), [(40, 6, 0.95), (20, 6, 0.98), (5, 8, 0.98)])
def test_voices_with_jitter_and_noise(config, snr, limit, voiced):
    rng = np.random.default_rng(snr)
    for middle in (110, 220):
        true = middle * 2 ** (0.3 * np.sin(2 * np.pi * 0.8 * np.arange(RATE) / RATE))
        clean = voice(true, rng, jitter=0.005)
        noise = rng.standard_normal(len(clean)) * np.sqrt(np.mean(clean**2)) * 10 ** (-snr / 20)
        found = track_pitch((clean + noise).astype(np.float32), RATE, config)[5:-5]
        assert np.mean(found > 0) > voiced
        error = np.abs(cents(found[found > 0], at_frames(true)[5:-5][found > 0]))
        assert np.median(error) < limit
        assert np.mean(error > 600) < 0.01  # octave errors


@BOTH
def test_noise_and_silence_are_unvoiced_between_voices(config):
    rng = np.random.default_rng(3)
    tone = harmonics(constant(140, 0.4), [1, 0.7, 0.5])
    hiss = (0.3 * rng.standard_normal(6400)).astype(np.float32)
    found = track_pitch(np.concatenate([tone, hiss, np.zeros(6400, np.float32), tone]), RATE, config)
    assert len(found) == 161
    for start in (4, 124):
        assert np.abs(cents(found[start : start + 32], 140)).max() < 20
    assert (found[44:117] == 0).all()


@BOTH
def test_level_offset_and_clipping_do_not_matter(config):
    audio = 0.3 * harmonics(constant(180, 0.6), [1, 0.5, 0.25, 0.1])
    found = track_pitch(audio, RATE, config)
    assert (found > 0).all()
    for other in (audio * np.float32(2**-60), audio * 8, audio.astype(np.float64)):
        np.testing.assert_allclose(track_pitch(other, RATE, config), found, rtol=1e-6)
    np.testing.assert_allclose(track_pitch(audio + 0.5, RATE, config)[3:-3], found[3:-3], rtol=1e-3)
    clipped = track_pitch(np.clip(20 * audio, -1, 1), RATE, config)
    assert np.abs(cents(clipped[5:-5], 180)).max() < 8


@BOTH
@pytest.mark.parametrize("audio", [np.zeros(8000), np.full(8000, 0.25), np.full(8000, 1e-30)])
def test_silence_is_unvoiced(config, audio):
    found = track_pitch(audio.astype(np.float32), RATE, config)
    assert found.dtype == np.float32 and found.shape == (51,) and not found.any()


@BOTH
@pytest.mark.parametrize("floor", [50.0, 75.0, 110.0])
def test_the_shortest_audio_has_three_periods_of_the_floor(config, floor):
    config = PitchConfig(config.tracker, floor=floor)
    audio = harmonics(constant(250, 0.1), [1, 0.5])
    found = track_pitch(audio[: config.min_samples], RATE, config)
    assert len(found) == config.min_samples // 160 + 1
    assert np.abs(cents(found[found > 0], 250)).max() < 60
    with pytest.raises(AudioError, match=rf"too short.*{config.min_samples - 1} samples.*three periods"):
        track_pitch(audio[: config.min_samples - 1], RATE, config)
    with pytest.raises(AudioError, match="too short, 0 samples"):
        track_pitch(audio[:0], RATE, config)


@BOTH
def test_wrong_audio_raises(config):
    audio = harmonics(constant(200, 0.2), [1])
    for bad in (np.nan, np.inf, -np.inf):
        wrong = audio.copy()
        wrong[100:102] = bad
        with pytest.raises(AudioError, match=r"NaN or infinite in 2 of 3200"):
            track_pitch(wrong, RATE, config)
    with pytest.raises(ShapeError, match=r"shape \(2, 3200\).*one channel"):
        track_pitch(np.stack([audio, audio]), RATE, config)
    with pytest.raises(ShapeError, match=r"dtype int16.*32768"):
        track_pitch(np.zeros(3200, np.int16), RATE, config)
    for rate in (0, -1, 0.5, np.nan, "16000"):
        with pytest.raises(AudioError, match="sample_rate is"):
            track_pitch(audio, rate, config)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tracker": "praat"}, "tracker"),
        ({"floor": 5.0}, "between 20 and 1000"),
        ({"floor": 700.0}, r"ceiling is 600\.0; it should be between 1050"),
        ({"ceiling": 5000.0}, "and 4000 Hz"),
        ({"silence_threshold": 0.0}, "silence_threshold"),
        ({"octave_cost": -0.1}, "octave_cost"),
        ({"candidates": 1}, "between 2 and 100"),
    ],
)
def test_wrong_settings_raise(fields, message):
    with pytest.raises(ConfigError, match=message):
        PitchConfig(**fields)


@BOTH
def test_f0_stays_in_its_range(config):
    """Octaves below 300 Hz are periods of a tone at 300 Hz as well; a range without 300 Hz contains one."""
    audio = harmonics(constant(300, 0.5), [1, 0.5, 0.3])
    for floor, ceiling, expected in ((75, 250, 150), (100, 400, 300), (200, 310, 300)):
        found = track_pitch(audio, RATE, PitchConfig(config.tracker, floor=float(floor), ceiling=float(ceiling)))
        assert ((found == 0) | ((found >= floor * 0.999) & (found <= ceiling))).all()
        assert abs(cents(np.median(found[found > 0]), expected)) < 10


@BOTH
def test_long_recordings_are_decoded_in_segments(config, monkeypatch):
    """Segments of pYIN and blocks of the autocorrelation do not change the result."""
    rng = np.random.default_rng(5)
    parts = []
    for number in range(8):
        parts.append(harmonics(120 + 10 * number + constant(40, 0.5) * np.linspace(0, 1, 8000), [1, 0.6, 0.3]))
        parts.append((0.1 * rng.standard_normal(2000)).astype(np.float32))
    audio = np.concatenate(parts)
    whole = track_pitch(audio, RATE, config)
    monkeypatch.setattr("jaxvoice.dsp.pitch_tracking._SEGMENT", 130)
    monkeypatch.setattr("jaxvoice.dsp.pitch_tracking._CONTEXT", 40)
    monkeypatch.setattr("jaxvoice.dsp.pitch_tracking._BLOCK", 7)
    np.testing.assert_allclose(track_pitch(audio, RATE, config), whole, rtol=1e-6)


def test_octave_cost_prefers_the_higher_of_two_similar_periods():
    """Pulses of 1 and 0.9 in turn correlate with r = 2 * 0.9 / (1 + 0.9^2) = 0.9945 at half of their period."""
    pulses = np.zeros(16000, np.float32)
    pulses[::160], pulses[80::160] = 1, 0.9
    for cost, expected in ((0.0, 100), (0.004, 100), (0.007, 200), (0.01, 200)):
        found = track_pitch(pulses, RATE, PitchConfig("autocorrelation", octave_cost=cost))
        np.testing.assert_allclose(found[3:-3], expected, rtol=1e-3)


def test_costs_of_changes_keep_the_path_together():
    """A tone with a gap and a jump by an octave: high costs fill the gap and prevent the jump."""
    low, high = harmonics(constant(150, 0.4), [1, 0.6]), harmonics(constant(300, 0.4), [1, 0.6])
    gap = (1e-3 * np.random.default_rng(0).standard_normal(1600)).astype(np.float32)
    audio = np.concatenate([low, gap, high])
    found = track_pitch(audio, RATE, AUTOCORRELATION)
    assert (found[44:47] == 0).all() and (found[:38] > 0).all() and (found[53:] > 0).all()
    np.testing.assert_allclose(found[[20, 70]], [150, 300], rtol=1e-3)
    found = track_pitch(audio, RATE, PitchConfig("autocorrelation", voiced_unvoiced_cost=1000.0))
    assert (found > 0).all()
    costly = PitchConfig("autocorrelation", voiced_unvoiced_cost=1000.0, octave_jump_cost=5.0)
    found = track_pitch(np.concatenate([low, high]), RATE, costly)
    np.testing.assert_allclose(found[[20, 70]], 150, rtol=1e-3)


@pytest.mark.parametrize("hertz", [90.0, 260.0])
def test_candidates_of_the_lags_equal_a_direct_autocorrelation(hertz):
    """The heights of the peaks, from sums over lags with Boersma's closed form of the window's autocorrelation."""
    from jaxvoice.dsp import pitch_tracking

    audio = harmonics(constant(hertz, 0.2), [0.4, 0.7, 0.3, 0.2]).astype(np.float64)
    segment = audio[800:1439] / np.abs(audio[800:1439]).max()
    frequencies, strengths = pitch_tracking._candidates(segment[None], AUTOCORRELATION)
    time = np.arange(1, 640) / 640
    windowed = (segment - segment.mean()) * (0.5 - 0.5 * np.cos(2 * np.pi * time))
    lags = np.arange(214)
    direct = np.array([windowed[: 639 - lag] @ windowed[lag:] for lag in lags])
    part = lags / 640
    window = (1 - part) * (2 / 3 + np.cos(2 * np.pi * part) / 3) + np.sin(2 * np.pi * part) / (2 * np.pi)
    normalised = direct / direct[0] / window
    assert strengths[0, 0] == pytest.approx(0.45)
    found = strengths[0] > -np.inf
    for frequency, strength in zip(frequencies[0, found][1:], strengths[0, found][1:], strict=True):
        lag = RATE / frequency
        cubic = scipy.interpolate.CubicSpline(lags, normalised)(lag)
        assert strength - 0.01 * np.log2(frequency / 75) == pytest.approx(min(float(cubic), 1), abs=2e-3)
    assert frequencies[0, strengths[0].argmax()] == pytest.approx(hertz, rel=1e-3)


def test_tracking_needs_no_jax():
    code = (
        "import sys, numpy as np; from jaxvoice.dsp import track_pitch, PitchConfig, pitch_features; "
        "track_pitch(np.sin(np.arange(4000) * 0.1), 16000, PitchConfig('autocorrelation')); "
        "assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_trackers_agree_on_recordings(real_clips):
    """Two clips of LJSpeech: few gross errors (20 %) between the trackers, and few differences in voicing."""
    tracks = []
    for path in sorted((real_clips / "LJSpeech-1.1" / "wavs").glob("*.wav"))[:2]:
        audio, rate = soundfile.read(path, dtype="float32", frames=5 * 22050)
        tracks.append(np.stack([track_pitch(audio, rate, config) for config in (PYIN, AUTOCORRELATION)]))
    left, right = np.concatenate(tracks, axis=1)
    both = (left > 0) & (right > 0)
    assert 0.4 < both.mean() < 0.8
    assert np.mean(np.abs(left[both] / right[both] - 1) > 0.2) < 0.01
    assert np.median(np.abs(cents(left[both], right[both]))) < 10
    assert np.mean((left > 0) != (right > 0)) < 0.15

"""F0 features, statistics and changes against closed forms."""

import math

import numpy as np
import pytest
import scipy.stats

from jaxvoice.config import from_dict, to_dict
from jaxvoice.dsp import (
    PitchConfig,
    PitchStatistics,
    f0_correlation,
    f0_rmse_cents,
    match_pitch,
    pitch_features,
    pitch_statistics,
    shift_pitch,
    voicing_error,
)
from jaxvoice.errors import AudioError, ConfigError, ShapeError


def test_features_fill_gaps_in_hertz():
    found = pitch_features(np.array([0, 0, 100, 0, 0, 160, 0], np.float32))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0], np.log([100, 100, 100, 120, 140, 160, 160]), rtol=1e-6)
    np.testing.assert_array_equal(found[1], [0, 0, 1, 0, 0, 1, 0])


def test_features_are_cut_or_extended():
    f0 = np.array([100.0, 0, 200.0, 0])
    whole = pitch_features(f0)
    np.testing.assert_array_equal(pitch_features(f0, 4), whole)
    np.testing.assert_array_equal(pitch_features(f0, 2), whole[:, :2])  # the gap is filled before the cut
    longer = pitch_features(f0, 9)
    np.testing.assert_array_equal(longer[:, :4], whole)
    np.testing.assert_array_equal(longer[:, 4:], np.repeat(whole[:, -1:], 5, axis=1))


def test_features_without_voice_are_zero():
    np.testing.assert_array_equal(pitch_features(np.zeros(5, np.float32), 7), np.zeros((2, 7)))


@pytest.mark.parametrize("bad", [np.zeros((2, 3)), np.array([100, np.nan]), np.array([-1.0]), np.zeros(0), ["a"]])
def test_features_raise_for_what_is_no_f0(bad):
    with pytest.raises(ShapeError, match="f0"):
        pitch_features(bad)


@pytest.mark.parametrize("frames", [0, -1, 2.5])
def test_features_raise_for_a_wrong_number_of_frames(frames):
    with pytest.raises(ShapeError, match="frames is"):
        pitch_features(np.ones(3), frames)


def test_statistics_equal_those_of_a_normal_distribution():
    log = np.random.default_rng(0).normal(math.log(180), 0.2, 20000)
    voiced = np.exp(log)
    found = pitch_statistics([np.concatenate([voiced[:5000], np.zeros(9000)]), voiced[5000:].astype(np.float32)])
    assert found.median == pytest.approx(np.median(log), abs=1e-6)
    assert found.spread == pytest.approx(scipy.stats.median_abs_deviation(log, scale="normal"), rel=1e-4)
    assert found.median == pytest.approx(math.log(180), abs=0.01) and found.spread == pytest.approx(0.2, rel=0.03)
    voiced[:1000] *= 2  # octave errors of a twentieth of the frames
    wrong = pitch_statistics([voiced])
    assert abs(wrong.median - found.median) < 0.02 and abs(wrong.spread - found.spread) < 0.02
    assert from_dict(PitchStatistics, to_dict(found)) == found


def test_statistics_without_voice_raise():
    with pytest.raises(AudioError, match="None of the 7 frames of 2 recordings"):
        pitch_statistics([np.zeros(3), np.zeros(4)])
    with pytest.raises(AudioError, match="0 recordings"):
        pitch_statistics([])
    with pytest.raises(ShapeError, match=r"f0s\[1\] is nan in frame 2"):
        pitch_statistics([np.ones(3), np.array([1, 2, np.nan])])
    for median, spread in ((float("nan"), 0.1), (5.0, -0.1)):
        with pytest.raises(ConfigError, match="PitchStatistics"):
            PitchStatistics(median, spread)


def test_shift_moves_by_semitones():
    f0 = np.array([0, 100, 220], np.float32)
    np.testing.assert_allclose(shift_pitch(f0, 12), [0, 200, 440])
    np.testing.assert_allclose(shift_pitch(f0, -7), f0 * 2 ** (-7 / 12), rtol=1e-6)
    for bad in (100, math.nan):
        with pytest.raises(ShapeError, match="semitones is"):
            shift_pitch(f0, bad)


def test_match_gives_the_statistics_of_the_target():
    rng = np.random.default_rng(1)
    f0 = np.exp(rng.normal(math.log(120), 0.15, 4000)).astype(np.float32)
    f0[::3] = 0
    target = PitchStatistics(math.log(210), 0.2)
    found = match_pitch(f0, pitch_statistics([f0]), target)
    np.testing.assert_array_equal(found == 0, f0 == 0)
    made = pitch_statistics([found])
    assert made.median == pytest.approx(target.median, abs=1e-5) and made.spread == pytest.approx(0.2, rel=1e-4)
    back = match_pitch(found, target, pitch_statistics([f0]))
    inside = (f0 > 75) & (found < 599.9)
    np.testing.assert_allclose(back[inside], f0[inside], rtol=1e-4)


@pytest.mark.parametrize(("spread", "ratio"), [(0.0, 1), (0.01, 2), (0.1, 1.5), (1.0, 0.5)])
def test_match_limits_the_ratio_of_spreads(spread, ratio):
    source, target = PitchStatistics(math.log(200), spread), PitchStatistics(math.log(200), 0.15)
    assert match_pitch(np.array([220.0]), source, target)[0] == pytest.approx(200 * 1.1**ratio, rel=1e-5)
    assert match_pitch(np.array([220.0]), target, PitchStatistics(math.log(200), 0))[0] == pytest.approx(
        200 * 1.1**0.5, rel=1e-5
    )


def test_match_limits_f0_to_the_range():
    source, target = PitchStatistics(math.log(100), 0.1), PitchStatistics(math.log(300), 0.2)
    found = match_pitch(np.array([40.0, 100, 0, 180]), source, target)
    np.testing.assert_allclose(found, [75, 300, 0, 600], rtol=1e-5)
    narrow = match_pitch(np.array([40.0, 100, 0, 180]), source, target, PitchConfig(floor=100.0, ceiling=250.0))
    np.testing.assert_allclose(narrow, [100, 250, 0, 250], rtol=1e-5)


def test_measures_equal_scipy_and_closed_forms():
    rng = np.random.default_rng(2)
    left = np.exp(rng.normal(5, 0.2, 500))
    right = left * np.exp(rng.normal(0.1, 0.1, 500))
    left[:50], right[30:100] = 0, 0
    both = slice(100, None)
    expected = scipy.stats.pearsonr(np.log(left[both]), np.log(right[both])).statistic
    assert f0_correlation(left, right) == pytest.approx(expected, rel=1e-9)
    assert f0_correlation(left, left**2) == pytest.approx(1)
    assert f0_correlation(left[both], 1 / left[both]) == pytest.approx(-1)
    assert f0_rmse_cents(left, shift_pitch(left, 1.5)) == pytest.approx(150, rel=1e-5)
    assert f0_rmse_cents(np.array([100.0, 100, 0]), np.array([200.0, 100, 50])) == pytest.approx(1200 / math.sqrt(2))
    assert voicing_error(left, right) == pytest.approx((30 + 50) / 500)
    assert voicing_error(np.zeros(3), np.zeros(3)) == 0


def test_measures_raise_where_they_are_undefined():
    f0 = np.array([100.0, 120, 0, 0])
    for measure in (f0_correlation, f0_rmse_cents, voicing_error):
        with pytest.raises(ShapeError, match=r"\(4,\) and estimate_f0 \(3,\)"):
            measure(f0, f0[:3])
        with pytest.raises(ShapeError, match="estimate_f0 is nan"):
            measure(f0, f0 * np.nan)
        with pytest.raises(ShapeError, match="at least one"):
            measure(f0[:0], f0[:0])
    with pytest.raises(AudioError, match="0 of 4 frames"):
        f0_rmse_cents(f0, f0[::-1])
    with pytest.raises(AudioError, match="1 of 4 frames"):
        f0_correlation(f0, f0 * [1, 0, 1, 1])
    with pytest.raises(AudioError, match="estimate is constant"):
        f0_correlation(f0, np.full(4, 123.4))

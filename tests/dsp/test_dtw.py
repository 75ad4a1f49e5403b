"""Dynamic time warping, durations in whole frames and silent frames, against closed forms."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from jaxvoice.dsp import log_mel
from jaxvoice.dsp.dtw import (
    dtw_features,
    durations_between,
    map_boundaries,
    outer_silence,
    silent_frames,
    time_warping_path,
    true_runs,
)
from tests.pipelines.test_aligner import FRAMES, HELLO, LINE, WORLD
from tests.pipelines.tone_synthesizer import MEL, tone_audio


def test_warping_path_has_the_least_cost_of_all_paths():
    def paths(cell, end):
        if cell == end:
            yield [cell]
            return
        for step in ((1, 1), (1, 0), (0, 1)):
            after = (cell[0] + step[0], cell[1] + step[1])
            if after[0] <= end[0] and after[1] <= end[1]:
                for rest in paths(after, end):
                    yield [cell, *rest]

    for rows, columns in itertools.product((1, 3, 5), (1, 2, 4)):
        cost = np.random.default_rng(rows * columns).uniform(size=(rows, columns))
        cheapest = min(sum(cost[cell] for cell in path) for path in paths((0, 0), (rows - 1, columns - 1)))
        assert cost[tuple(time_warping_path(cost).T)].sum() == pytest.approx(cheapest)


def test_boundaries_follow_known_paths():
    edges = np.array([0, 2, 5, 10])
    straight = np.stack([np.arange(10)] * 2, axis=1)
    np.testing.assert_array_equal(map_boundaries(edges, straight, 10, 10), edges)
    doubled = np.stack([np.arange(20) // 2, np.arange(20)], axis=1)
    np.testing.assert_array_equal(map_boundaries(edges, doubled, 10, 20), 2 * edges)
    halved = doubled[:, ::-1]  # of two spoken frames for one recorded, an odd boundary is in the middle of a frame
    np.testing.assert_array_equal(map_boundaries(np.array([0, 2, 5, 20]), halved, 20, 10), [0, 1, 2.5, 10])
    skipping = np.array([[0, 0], [2, 1], [4, 2], [5, 3]])  # what no frame of the path belongs to lies between
    np.testing.assert_allclose(
        map_boundaries(np.array([0, 1, 2, 3, 4, 6]), skipping, 6, 4), [0, 2 / 3, 5 / 4, 7 / 4, 7 / 3, 4]
    )


def test_every_duration_has_a_frame():
    assert durations_between(np.array([0, 2.4, 5.6, 9]), 9).tolist() == [2, 4, 3]
    assert durations_between(np.array([0, 4.0, 4.1, 4.2, 9]), 9).tolist() == [4, 1, 1, 3]
    assert durations_between(np.array([0, 9, 9, 9.0]), 9).tolist() == [7, 1, 1]
    assert durations_between(np.array([0, 0, 0, 9.0]), 9).tolist() == [1, 1, 7]
    rng = np.random.default_rng(0)
    for _ in range(200):
        phones = int(rng.integers(1, 9))
        frames = int(rng.integers(phones, 20))
        edges = np.concatenate([[0], np.sort(rng.uniform(0, frames, phones - 1)), [frames]])
        durations = durations_between(edges, frames)
        assert durations.min() >= 1 and durations.sum() == frames and len(durations) == phones


def test_features_do_not_depend_on_loudness_or_logarithm():
    audio = tone_audio(LINE, FRAMES, noise=1e-2)
    natural = np.asarray(log_mel(audio, MEL))
    expected = dtw_features(natural, MEL)
    np.testing.assert_allclose(dtw_features(natural - 1.5, MEL), expected, atol=1e-5)
    other = replace(MEL, log="log10", gain=1.6, offset=2.4)
    rescaled = 1.6 * natural.astype(np.float64) / math.log(10) + 2.4
    np.testing.assert_allclose(dtw_features(rescaled, other), expected, atol=1e-5)
    assert np.abs(dtw_features(natural, other) - expected).max() > 1e-2
    np.testing.assert_array_equal(silent_frames(rescaled, other), silent_frames(natural, MEL))


def test_silent_frames_are_found_in_pauses():
    codes = ["pau", *HELLO, "pau", *WORLD]
    mel = np.asarray(log_mel(tone_audio(codes, [20.0] * 11, noise=1e-4), MEL))
    quiet = silent_frames(mel, MEL)
    assert outer_silence(quiet)[0] in (18, 19, 20) and outer_silence(quiet)[1] == 0
    (_, first), (start, stop) = true_runs(quiet)
    assert abs(first - 20) <= 2 and abs(start - 100) <= 2 and abs(stop - 120) <= 2
    assert not silent_frames(np.asarray(log_mel(tone_audio(HELLO, [20.0] * 4), MEL)), MEL).any()
    assert outer_silence(np.ones(5, bool)) == (0, 0) and true_runs(np.zeros(5, bool)).shape == (0, 2)

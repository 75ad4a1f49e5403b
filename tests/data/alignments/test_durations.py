"""Whole frames that add up to the mel, compared with arithmetic on the boundaries."""

import numpy as np
import pytest

from jaxvoice.data.alignments import Alignment, AlignmentError, durations_in_frames

FRAME = 256 / 22050


def of(edges_in_frames, phones=None):
    edges = np.asarray(edges_in_frames, np.float64) * FRAME
    return Alignment("it", phones or ("T",) * (len(edges) - 1), edges)


def frames_of(alignment, frames):
    return durations_in_frames(alignment, frames, sample_rate=22050, hop_length=256)


def test_boundaries_are_rounded_not_durations():
    # A hundred phones of 2.5 frames: truncating each would lose 50 frames, rounding each to even too.
    lengths = frames_of(of(np.arange(101) * 2.5), 250).frames
    assert lengths.sum() == 250 and set(lengths.tolist()) == {2, 3}
    np.testing.assert_array_less(np.abs(np.cumsum(lengths) - 2.5 * np.arange(1, 101)), 0.51)


def test_durations_equal_the_published_conversion():
    # round(onset_ms / 1000 * 22050 / 256), by hand: 0, 73 -> 6.29, 141 -> 12.14, 500 -> 43.07, 613 -> 52.80
    made = Alignment("it", ("T", "S", "K", "pau"), np.array([0, 0.073, 0.141, 0.5, 0.613]))
    assert frames_of(made, 53).frames.tolist() == [6, 6, 31, 10]


@pytest.mark.parametrize("seed", range(5))
def test_durations_add_up_to_the_mel(seed):
    rng = np.random.default_rng(seed)
    for _ in range(40):
        count = int(rng.integers(1, 60))
        edges = np.concatenate([[0], np.cumsum(rng.gamma(1.2, 4, count))])
        phones = tuple(rng.choice(["T", "AH0"], count))
        frames = round(edges[-1]) + int(rng.integers(-8, 9))
        if count > min(frames, round(edges[-1])):
            continue
        made = frames_of(of(edges, phones), frames)
        assert made.frames.sum() == frames and made.frames.min() >= 1 and made.phones == phones


def test_missing_frames_are_added_to_the_last_phone():
    assert frames_of(of([0, 4, 6, 9]), 17).frames.tolist() == [4, 2, 11]


def test_surplus_frames_are_removed_from_the_last_phones():
    assert frames_of(of([0, 9, 12, 15]), 9).frames.tolist() == [7, 1, 1]
    assert frames_of(of([0, 9, 12, 15]), 14).frames.tolist() == [9, 3, 2]


def test_differences_above_eight_frames_raise_an_error():
    made = of([0, 30, 60])
    assert frames_of(made, 68).frames.sum() == 68 and frames_of(made, 52).frames.sum() == 52
    for frames in (69, 51):
        with pytest.raises(
            AlignmentError, match=rf"it is aligned up to 0\.697 s \(60 frames\).*has {frames} frames"
        ) as failure:
            frames_of(made, frames)
        assert failure.value.kind == "length"


def test_phones_of_no_frames_take_one_from_the_longer_neighbour():
    assert frames_of(of([0, 3, 3.2, 9]), 9).frames.tolist() == [3, 1, 5]
    assert frames_of(of([0, 9, 9.2, 12]), 12).frames.tolist() == [8, 1, 3]
    assert frames_of(of([0, 0.1, 0.2, 0.3, 9]), 9).frames.tolist() == [1, 1, 1, 6]


def test_pauses_of_no_frames_are_removed():
    made = frames_of(of([0, 4, 4.3, 9], ("T", "pau", "S")), 9)
    assert made.phones == ("T", "S") and made.frames.tolist() == [4, 5]


def test_more_phones_than_frames_raise_an_error():
    with pytest.raises(AlignmentError, match="4 phones in 3 frames") as failure:
        frames_of(of([0, 1, 2, 2.5, 3]), 3)
    assert failure.value.kind == "too fast"
    with pytest.raises(AlignmentError, match="0 phones in 2 frames"):
        frames_of(of([0, 0.2], ("pau",)), 2)


def test_durations_follow_rate_and_hop_length():
    made = Alignment("it", ("T", "S"), np.array([0, 0.25, 1.0]))
    assert durations_in_frames(made, 100, sample_rate=16000, hop_length=160).frames.tolist() == [25, 75]

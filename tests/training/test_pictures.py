"""Drawings are complete, and titles do not overlap, by the gaps between rows of pixels."""

import numpy as np
import pytest

from jaxvoice.training.pictures import draw_alignment, draw_durations, draw_mels

MEL = np.random.default_rng(0).normal(size=(20, 300)).astype(np.float32)
HEIGHT_OF_LETTERS = 18  # pixels, at most


def groups(ink: np.ndarray) -> list[int]:
    """Lengths of the runs that are true."""
    steps = np.flatnonzero(np.diff(np.concatenate([[0], ink.astype(np.int8), [0]])))
    return (steps[1::2] - steps[::2]).tolist()


def rows(picture: np.ndarray) -> list[int]:
    """Heights of the separate parts in the column of the panels."""
    return groups(np.any(picture[:, 70 : int(0.7 * picture.shape[1])] < 200, (1, 2)))


def columns(picture: np.ndarray) -> list[int]:
    return groups(np.any(picture < 200, (0, 2)))


def assert_whole(picture: np.ndarray) -> None:
    for edge in (picture[:4], picture[-4:], picture[:, :4], picture[:, -4:]):
        assert edge.min() == 255, "drawn up to the edge, and so beyond it"


@pytest.mark.parametrize("title", ["HH AH0 L OW1 pau", ""])
def test_a_single_mel_has_one_title(title):
    picture = draw_mels(title, {"mel spectrogram": MEL})
    assert_whole(picture)
    above, panel, numbers, label = rows(picture)
    assert max(above, numbers, label) <= HEIGHT_OF_LETTERS and panel > 130


def test_title_of_a_single_mel_contains_name_and_title():
    both, name = (draw_mels(title, {"generated": MEL})[:25] < 200 for title in ("clip, step 8", ""))
    assert np.ptp(np.flatnonzero(both.any((0, 2)))) > np.ptp(np.flatnonzero(name.any((0, 2)))) + 60


def test_three_mels_have_a_title_each_and_one_for_all():
    picture = draw_mels("clip, step 8", {"target": MEL, "generated": MEL[:, :6:-1]})
    assert_whole(picture)
    heights = rows(picture)
    assert len(heights) == 1 + 3 * 3 + 1
    panels = [height for height in heights if height > HEIGHT_OF_LETTERS]
    assert len(panels) == 3 and min(panels) > 120 and np.ptp(panels) <= 1


@pytest.mark.parametrize("count", [1, 5, 100])
def test_drawings_show_few_and_many_phonemes(count):
    phonemes = (["EU1", "pau", "W", "AH0"] * count)[:count]
    frames = np.full(count, 1234.0 / count)
    frames[0] = 1500.0
    bars = draw_durations("clip", {"target": frames, "predicted": frames}, phonemes)
    assert_whole(bars)
    label, *numbers = columns(bars)
    assert label <= HEIGHT_OF_LETTERS and len(numbers) > 1, "the name of the axis stands apart from its numbers"
    weights = np.repeat(np.eye(count, dtype=np.float32), 4, axis=0)
    picture = draw_alignment("alignment", weights, phonemes)
    assert_whole(picture)
    above, panel, numbers, label = rows(picture)
    assert max(above, numbers, label) <= HEIGHT_OF_LETTERS < panel

"""Drawings are complete, and titles do not overlap, by the gaps between rows of pixels."""

import numpy as np
import pytest

from jaxvoice.training.pictures import (
    draw_alignment,
    draw_contours,
    draw_durations,
    draw_embeddings,
    draw_matrix,
    draw_mels,
    two_dimensions,
)

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


def places(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Rows and columns `(pixels, 2)` of a colour."""
    return np.argwhere(np.abs(picture.astype(int) - colour).max(axis=2) < 12)


BLUE, ORANGE, GREEN = (31, 119, 180), (255, 127, 14), (44, 160, 44)  # the first colours of matplotlib


def test_contours_have_gaps_where_speech_is_unvoiced():
    low, high = np.full(300, 100.0), np.full(300, 150.0)
    low[100:200] = 0
    picture = draw_contours("F0", {"source": low, "converted": high, "none": np.zeros(5)})
    assert_whole(picture)
    left = picture[:, : int(0.7 * picture.shape[1])]  # without the legend
    red_minus_blue = left[..., 0].astype(int) - left[..., 2]
    blue, orange = np.argwhere(red_minus_blue < -60), np.argwhere(red_minus_blue > 60)
    assert blue[:, 0].min() > orange[:, 0].max(), "the lower F0 should be drawn below"
    gaps = np.diff(np.unique(blue[:, 1]))
    width = np.ptp(orange[:, 1])
    assert (gaps > 1).sum() == 1 and 0.25 < gaps.max() / width < 0.55
    assert np.diff(np.unique(orange[:, 1])).max() == 1


def test_embeddings_are_drawn_along_their_principal_components():
    random = np.random.default_rng(0)
    axis = random.normal(size=16)
    speakers = {
        name: place * axis + 0.05 * random.normal(size=(6, 16)) for name, place in (("ann", -2), ("bob", 0), ("cid", 2))
    }
    picture = draw_embeddings("voices", speakers)
    assert_whole(picture)
    ann, bob, cid = (places(picture, colour)[:, 1] for colour in (BLUE, ORANGE, GREEN))
    assert ann.max() < bob.min() < bob.max() < cid.min() or cid.max() < bob.min() < bob.max() < ann.min()


def test_two_dimensions_are_the_eigenvectors_of_the_covariance():
    vectors = np.random.default_rng(1).normal(size=(40, 6)) @ np.diag([5.0, 3.0, 1.0, 0.5, 0.2, 0.1]) + 7
    points, shares = two_dimensions(vectors)
    values, axes = np.linalg.eigh(np.cov(vectors.T))
    expected = (vectors - vectors.mean(0)) @ axes[:, :-3:-1]
    np.testing.assert_allclose(np.abs(points), np.abs(expected), atol=1e-9)
    np.testing.assert_allclose(shares, values[:-3:-1] / values.sum())
    alone, none = two_dimensions(np.ones((1, 6)))
    assert alone.shape == (1, 2) and not alone.any() and not none.any()


def test_matrices_have_a_cell_for_each_pair():
    values = np.eye(5)
    values[0, 4] = np.nan
    names = [f"p{number}" for number in range(225, 230)]
    picture = draw_matrix("cosines", values, rows=names, columns=names)
    assert_whole(picture)
    bright = places(picture, (253, 231, 37))  # the colour of the largest value
    bright = bright[bright[:, 1] < 0.7 * picture.shape[1]]  # without the scale
    assert np.corrcoef(bright.T)[0, 1] > 0.9, "the diagonal should lead from the upper left to the lower right"
    dark = places(picture, (68, 1, 84))
    dark = dark[dark[:, 1] < 0.7 * picture.shape[1]]
    assert len(dark) / len(bright) == pytest.approx(19 / 5, rel=0.05)

"""The loops that the benchmark of alignment search compares with find the golden alignments."""

import numpy as np
import pytest

from experiments.benchmarks.alignment_search import likelihoods, numba_search
from tests.reference import golden


@pytest.mark.slow
@pytest.mark.parametrize("number", range(7))
def test_loops_find_the_golden_alignments(number):
    case = golden.case("vits/maximum_path")
    for scores, (tokens, frames), path in zip(
        case[f"value_{number}"], case[f"lengths_{number}"], case[f"path_{number}"], strict=True
    ):
        given = np.ascontiguousarray(scores[None, : int(tokens), : int(frames)].swapaxes(1, 2))
        np.testing.assert_array_equal(numba_search(given)[0], path.sum(axis=1)[: int(tokens)])


def test_scores_favour_an_alignment():
    scores, durations = likelihoods(2, 5, 20)
    assert scores.shape == (2, 20, 5) and (durations >= 1).all() and (durations.sum(axis=1) == 20).all()

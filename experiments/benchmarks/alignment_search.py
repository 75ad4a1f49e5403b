"""Speed of monotonic alignment search on the CPU, jaxvoice compared with loops compiled by numba.

    python -m experiments.benchmarks.alignment_search --json alignment_search.json

The loops of numba have one thread for each example, as the Cython code of VITS, and read the scores in the order in
which they lie in memory. Both engines take scores `(batch, frames, tokens)` and return the durations of the tokens,
which should be equal.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import tyro
from jaxtyping import Float32, Int32

from experiments.benchmarks import common
from experiments.benchmarks.timing import Harness, TimingOptions

Scores = Float32[np.ndarray, "batch frames tokens"]
Durations = Int32[np.ndarray, "batch tokens"]


@dataclass(frozen=True, kw_only=True)
class Options(TimingOptions):
    """Settings of the benchmark."""

    shapes: tuple[tuple[int, int, int], ...] = ((16, 512, 2048), (16, 200, 800))
    """Shapes of the scores: batch, tokens and frames."""
    repeats: int = 40
    """Rounds of each comparison."""
    max_seconds: float = 20.0
    """Stop a comparison after this time in seconds, but not before three rounds."""


def likelihoods(batch: int, tokens: int, frames: int) -> tuple[Scores, Durations]:
    """Random scores that favour the alignment of the second array, with durations of 1 frame and more."""
    generator = np.random.default_rng(0)
    cuts = [np.sort(generator.choice(np.arange(1, frames), tokens - 1, replace=False)) for _ in range(batch)]
    starts = np.pad(np.array(cuts), ((0, 0), (1, 0)))
    durations = np.diff(starts, append=frames, axis=1).astype(np.int32)
    scores = generator.normal(-200.0, 20.0, (batch, frames, tokens)).astype(np.float32)
    for row, own in enumerate(durations):
        scores[row, np.arange(frames), np.repeat(np.arange(tokens), own)] += 120
    return scores, durations


@numba.njit(parallel=True)
def numba_search(scores: Scores) -> Durations:
    """The durations of the best alignments, which use all tokens and frames; `scores` are not changed."""
    batch, frames, tokens = scores.shape
    durations = np.zeros((batch, tokens), np.int32)
    for row in numba.prange(batch):
        best = np.empty(tokens, np.float32)
        moved = np.zeros((frames, tokens), np.bool_)
        best[0] = scores[row, 0, 0]
        for frame in range(1, frames):
            top = min(frame, tokens - 1)
            if top == frame:
                best[top] = best[top - 1] + scores[row, frame, top]
                moved[frame, top] = True
                top -= 1
            # From the last token to the first, so that the values of the previous frame are still there.
            for token in range(top, 0, -1):
                moves = best[token - 1] > best[token]
                moved[frame, token] = moves
                best[token] = (best[token - 1] if moves else best[token]) + scores[row, frame, token]
            best[0] += scores[row, frame, 0]
        token = tokens - 1
        for frame in range(frames - 1, -1, -1):
            durations[row, token] += 1
            if moved[frame, token]:
                token -= 1
    return durations


def jaxvoice_call(scores: Scores) -> Callable[[], Any]:
    """The compiled search of jaxvoice."""
    import jax
    import jax.numpy as jnp

    from jaxvoice.models.vits.alignment_search import alignment_search

    search, given = jax.jit(alignment_search), jnp.asarray(scores)
    return lambda: jax.block_until_ready(search(given))


def main(options: Options) -> None:
    """Run the benchmark.

    **Raises:** `SystemExit` if the alignments differ.
    """
    harness = Harness(options)
    numba.set_num_threads(harness.threads)
    rows = []
    for batch, tokens, frames in options.shapes:
        scores, true = likelihoods(batch, tokens, frames)
        ours = jaxvoice_call(scores)
        calls = {"jaxvoice": ours, "numba": lambda scores=scores: numba_search(scores)}
        found = {engine: np.asarray(call()) for engine, call in calls.items()}
        if not np.array_equal(found["jaxvoice"], found["numba"]):
            raise SystemExit(f"The alignments of {batch} x {tokens} x {frames} differ; the comparison is not valid.")
        comparison = harness.compare(f"the search of {batch} x {tokens} x {frames}", calls, warm_up=3)
        rows += [
            {
                "engine": engine,
                "batch": batch,
                "tokens": tokens,
                "frames": frames,
                **comparison.row(engine, milliseconds=True),
                "equal to the planted alignment %": 100.0 * float(np.mean(found[engine] == true)),
            }
            for engine in calls
        ]
    common.report("monotonic alignment search, float32", options, rows, harness=harness)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))

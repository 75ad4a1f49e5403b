"""Monotonic alignment search: the most likely division of the frames of a recording among the tokens of its text.

arXiv 2005.11129, section 3.2 and appendix; arXiv 2106.06103, section 2.2.1.
"""

import math
from typing import NamedTuple

import jax
from jax import lax, numpy as jnp
from jaxtyping import Array, Float, Float32, Int, Int32

from jaxvoice.errors import ShapeError

_LOG_2PI = math.log(2 * math.pi)


class _Best(NamedTuple):
    """The best paths to all tokens at one frame: their scores, and the frames at which they entered the token."""

    score: Float32[Array, "batch tokens"]
    entry: Int[Array, "batch tokens"]


def alignment_search(
    scores: Float[Array, "*batch frames tokens"],
    *,
    token_count: Int[Array, "*batch"] | int | None = None,
    frame_count: Int[Array, "*batch"] | int | None = None,
) -> Int32[Array, "*batch tokens"]:
    """The durations of the tokens, in frames, for which the sum of the scores is largest.

    Every frame belongs to one token, in order, and every token has at least one frame. Of paths with equal sums, the
    search prefers those that stay at a token, seen from the end. No gradient reaches `scores`.

    **Arguments:** `scores` of each frame for each token, finite, in float32; `token_count` and `frame_count`, the valid
    tokens and frames of each example, by default all. An example needs at least as many frames as tokens, at least one:
    otherwise, no alignment exists, and the result is arbitrary.

    **Returns:** durations, zero in padding, whose sum is the number of valid frames.

    **Raises:** `ShapeError` for scores without frames or tokens.

    coqui-ai/TTS `TTS/tts/utils/monotonic_align/core.pyx`, with minus infinity instead of -1e9.
    """
    if scores.ndim < 2 or 0 in scores.shape[-2:]:
        raise ShapeError(
            f"The shape of the scores is {scores.shape}; it should be (*batch, frames, tokens) with at least one each."
        )
    *batch, frames, tokens = scores.shape
    rows = math.prod(batch)
    counts = [
        jnp.broadcast_to(jnp.asarray(whole if count is None else count, jnp.int32), batch).reshape(rows)
        for count, whole in ((token_count, tokens), (frame_count, frames))
    ]
    flat = lax.stop_gradient(scores.astype(jnp.float32)).reshape(rows, frames, tokens)
    starts = _backtrack(_forward(flat), *counts)
    return jnp.diff(starts, append=counts[1][:, None], axis=1).reshape(*batch, tokens)


def _forward(scores: Float32[Array, "batch frames tokens"]) -> Int[Array, "frames batch tokens"]:
    """For each frame and token, the frame at which the best path to them entered the token.

    With these, the way back has a step for each token instead of each frame. They also replace the usual matrix of
    choices: 16 bits for each pair of frame and token.
    """
    rows, frames, tokens = scores.shape
    dtype = jnp.int16 if frames < 2**15 else jnp.int32
    # Tokens that no path can have reached yet have the score -inf, which steps pass on, so that no mask is needed. The
    # only path before the first frame is at the token before the first one.
    unreached = jnp.full((rows, tokens), -jnp.inf, jnp.float32)

    def step(best: _Best, frame: Array) -> tuple[_Best, Array]:
        # The scores are read in place: as scanned inputs, they would be transposed, which takes as long as the search.
        here = lax.dynamic_index_in_dim(scores, frame, axis=1, keepdims=False)
        before = jnp.full((rows, 1), jnp.where(frame == 0, 0.0, -jnp.inf), jnp.float32)
        moved = jnp.concatenate([before, best.score[:, :-1]], axis=1)
        entry = jnp.where(moved > best.score, frame.astype(dtype), best.entry)
        return _Best(jnp.maximum(moved, best.score) + here, entry), entry

    first = _Best(unreached, jnp.zeros((rows, tokens), dtype))
    return lax.scan(step, first, jnp.arange(frames, dtype=jnp.int32))[1]


def _backtrack(
    entries: Int[Array, "frames batch tokens"],
    token_count: Int32[Array, " batch"],
    frame_count: Int32[Array, " batch"],
) -> Int32[Array, "batch tokens"]:
    """The first frame of each token on the best path; `frame_count` for padding."""
    rows = jnp.arange(entries.shape[1])

    def step(last: Array, token: Array) -> tuple[Array, Array]:
        valid = token < token_count
        entry = entries[last, rows, token].astype(jnp.int32)
        return jnp.where(valid, jnp.maximum(entry - 1, 0), last), jnp.where(valid, entry, frame_count)

    tokens = jnp.arange(entries.shape[2], dtype=jnp.int32)
    _, starts = lax.scan(step, jnp.maximum(frame_count - 1, 0), tokens, reverse=True)
    return starts.T


def log_likelihoods(
    z: Float[Array, "*batch frames channels"],
    mean: Float[Array, "*batch tokens channels"],
    log_std: Float[Array, "*batch tokens channels"],
) -> Float32[Array, "*batch frames tokens"]:
    """Logarithms of the likelihoods of the latents of each frame under the normal distribution of each token.

    They are sums over channels, computed with one matrix product in float32. No gradient reaches the arguments.
    """
    z, mean, log_std = lax.stop_gradient(jax.tree.map(lambda x: x.astype(jnp.float32), (z, mean, log_std)))
    precision = jnp.exp(-2 * log_std)
    constant = jnp.sum(-0.5 * _LOG_2PI - log_std - 0.5 * jnp.square(mean) * precision, axis=-1)
    frames = jnp.concatenate([-0.5 * jnp.square(z), z], axis=-1)
    tokens = jnp.concatenate([precision, mean * precision], axis=-1)
    # The terms nearly cancel, so reduced-precision matmuls (TF32, bfloat16) would change the alignment.
    product = jnp.einsum("...fc,...tc->...ft", frames, tokens, precision=lax.Precision.HIGHEST)
    return product + constant[..., None, :]


def frame_tokens(durations: Int[Array, "*batch tokens"], frames: int) -> Int32[Array, "*batch frames"]:
    """The number of the token of each of `frames` frames; that of the last token after the end."""
    *batch, tokens = durations.shape
    ends = jnp.cumsum(durations.astype(jnp.int32), axis=-1).reshape(-1, tokens)
    positions = jnp.arange(frames, dtype=jnp.int32)
    found = jax.vmap(lambda row: jnp.searchsorted(row, positions, side="right"))(ends)
    return jnp.minimum(found, tokens - 1).astype(jnp.int32).reshape(*batch, frames)


def expand(
    x: Float[Array, "*batch tokens channels"], durations: Int[Array, "*batch tokens"], frames: int
) -> Float[Array, "*batch frames channels"]:
    """`x` of the token of each frame; that of the last token after the end."""
    # A product with a matrix of zeros and ones, whose gradient is a product too. That of a gather is a scatter, which
    # is slow on CPUs.
    path = jax.nn.one_hot(frame_tokens(durations, frames), x.shape[-2], dtype=x.dtype)
    return jnp.einsum("...ft,...tc->...fc", path, x, precision=lax.Precision.HIGHEST)

"""Monotonic alignment search: the most likely division of the frames of a recording among the tokens of its text.

arXiv 2005.11129, section 3.2 and appendix; arXiv 2106.06103, section 2.2.1.
"""

import math

import jax
from jax import lax, numpy as jnp
from jaxtyping import Array, Bool, Float, Float32, Int, Int32

from jaxvoice.errors import ShapeError

_LOG_2PI = math.log(2 * math.pi)


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
    return _backtrack(_forward(flat), *counts).reshape(*batch, tokens)


def _forward(scores: Float32[Array, "batch frames tokens"]) -> Bool[Array, "frames batch tokens"]:
    """For each frame and token, whether the best path to them comes from the token before."""
    rows, frames, tokens = scores.shape
    # The sums of the best paths to a column of padding and to all tokens. Tokens that no path can have reached yet have
    # the sum -inf, which steps pass on, so that no mask is needed. The padding, which shifts the tokens without a
    # concatenation, is also where the only path starts.
    sums = jnp.full((rows, tokens + 1), -jnp.inf, jnp.float32)

    def step(sums: Array, frame: Array) -> tuple[Array, Array]:
        # The scores are read in place: as scanned inputs, they would be transposed, which takes as long as the search.
        here = lax.dynamic_index_in_dim(scores, frame, axis=1, keepdims=False)
        previous, same = sums[:, :-1], sums[:, 1:]
        best = jnp.maximum(previous, same) + here
        return lax.pad(best, jnp.float32(-jnp.inf), ((0, 0, 0), (1, 0, 0))), previous > same

    return lax.scan(step, sums.at[:, 0].set(0.0), jnp.arange(frames, dtype=jnp.int32))[1]


def _backtrack(
    moved: Bool[Array, "frames batch tokens"],
    token_count: Int32[Array, " batch"],
    frame_count: Int32[Array, " batch"],
) -> Int32[Array, "batch tokens"]:
    """The numbers of frames of the tokens on the best paths."""
    frames, batch, tokens = moved.shape
    rows = jnp.arange(batch)

    def step(token: Array, frame: Array) -> tuple[Array, Array]:
        valid = frame < frame_count
        # Without the promise, each step would also compare the indices with the bounds.
        moves = valid & moved.at[frame, rows, token].get(mode="promise_in_bounds")
        return jnp.maximum(token - moves.astype(jnp.int32), 0), jnp.where(valid, token, tokens)

    last = jnp.clip(token_count - 1, 0, tokens - 1)
    _, path = lax.scan(step, last, jnp.arange(frames, dtype=jnp.int32), reverse=True)
    return jnp.zeros((batch, tokens), jnp.int32).at[rows, path].add(1, mode="drop")


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
    ends = jnp.cumsum(durations.astype(jnp.int32), axis=-1)[..., None, :]
    positions = jnp.arange(frames, dtype=jnp.int32).reshape(*(1,) * (durations.ndim - 1), frames, 1)
    return jnp.minimum(jnp.sum(ends <= positions, axis=-1, dtype=jnp.int32), durations.shape[-1] - 1)


def expand(
    x: Float[Array, "*batch tokens channels"],
    durations: Int[Array, "*batch tokens"],
    frames: int,
    *,
    inference: bool = False,
) -> Float[Array, "*batch frames channels"]:
    """`x` of the token of each frame; that of the last token after the end.

    With `inference`, rows are copied, which for long texts needs far less memory than the product of a training step.
    """
    tokens = frame_tokens(durations, frames)
    if inference:
        return jnp.take_along_axis(x, tokens[..., None], axis=-2)
    # A product with a matrix of zeros and ones, whose gradient is a product too. That of a gather is a scatter, which
    # is slow on CPUs.
    path = jax.nn.one_hot(tokens, x.shape[-2], dtype=x.dtype)
    return jnp.einsum("...ft,...tc->...fc", path, x, precision=lax.Precision.HIGHEST)

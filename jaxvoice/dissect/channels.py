"""Measures of channels and kernels: the loudest channels, norms, similarities and clusters."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from jaxvoice.errors import ConfigError, ShapeError

Measure = Literal["max", "absmax", "rms"]


def top_channels(
    activation: Shaped[np.ndarray, "*batch time channels"], count: int | None = 16, *, by: Measure = "max"
) -> Int[np.ndarray, " count"]:
    """The indices of the `count` channels with the largest measure, the largest first; `None` for all.

    **Arguments:** `by`: `"max"`, the largest value over batch and time, with its sign; `"absmax"`, the largest
    magnitude; `"rms"`, the root mean square.

    **Raises:** `ShapeError` for fewer than two axes or no elements; `ConfigError` for another measure, or a count below
    1.
    """
    rows = _rows(activation)
    if count is not None and count < 1:
        raise ConfigError(f"count is {count}; it should be at least 1.")
    measures = {
        "max": lambda: rows.max(0),
        "absmax": lambda: np.abs(rows).max(0),
        "rms": lambda: np.sqrt(np.mean(np.square(rows), 0)),
    }
    if by not in measures:
        raise ConfigError(f"by is {by!r}; it should be one of {', '.join(map(repr, measures))}.")
    return np.argsort(-measures[by](), kind="stable")[:count]


def kernels(weight: Shaped[np.ndarray, "out in *taps"]) -> Float[np.ndarray, "out_times_in taps"]:
    """The kernels of a convolution, one for each pair of output and input channel, as rows.

    **Raises:** `ShapeError` for fewer than three axes.
    """
    array = np.asarray(weight, np.float32)
    if array.ndim < 3:
        raise ShapeError(f"The shape of the weight is {array.shape}; it should be (out, in, taps).")
    return array.reshape(array.shape[0] * array.shape[1], -1)


def kernel_norms(weight: Shaped[np.ndarray, "out in *taps"]) -> Float[np.ndarray, " out_times_in"]:
    """The L2 norm of each of `kernels`."""
    return np.linalg.norm(kernels(weight), axis=-1)


def similarity(activation: Shaped[np.ndarray, "*batch time channels"]) -> Float[np.ndarray, "channels channels"]:
    """The cosine similarity of all pairs of channels over batch and time; 0 for silent channels.

    **Raises:** `ShapeError` for fewer than two axes or no elements.
    """
    rows = _rows(activation)
    norms = np.linalg.norm(rows, axis=0)
    unit = rows / np.where(norms > 0, norms, 1)
    return np.clip(unit.T @ unit, -1, 1)


def clusters(similarities: Shaped[np.ndarray, "channels channels"], threshold: float = 0.8) -> list[list[int]]:
    """Groups of similar channels, the largest first. Channels that are similar to no other are in none.

    The first channel without a group starts one, and all channels without a group whose similarity to it is at least
    `threshold` join it.

    **Raises:** `ShapeError` unless the matrix is square.
    """
    matrix = np.asarray(similarities)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ShapeError(f"The shape of the similarities is {matrix.shape}; it should be (channels, channels).")
    free: Bool[np.ndarray, " channels"] = np.ones(len(matrix), bool)
    found = []
    for i in range(len(matrix)):
        if free[i]:
            members = np.flatnonzero(free & ((matrix[i] >= threshold) | (np.arange(len(matrix)) == i)))
            free[members] = False
            found.append(members.tolist())
    return sorted((group for group in found if len(group) > 1), key=len, reverse=True)


def channel_mask(channels: int, kept: Sequence[int], *, invert: bool = False) -> tuple[float, ...]:
    """The factors of `Channels` that keep the channels `kept`, such as a cluster, or remove them with `invert`.

    **Raises:** `ShapeError` for a channel that does not exist.
    """
    wrong = [i for i in kept if not 0 <= i < channels]
    if wrong:
        raise ShapeError(f"The channel is {wrong[0]}; it should be in 0..{channels - 1}.")
    chosen = set(kept)
    return tuple(float((i in chosen) != invert) for i in range(channels))


def grid_shape(count: int) -> tuple[int, int]:
    """Rows and columns of a nearly square grid with at least `count` cells."""
    columns = math.ceil(math.sqrt(max(count, 1)))
    return math.ceil(max(count, 1) / columns), columns


def _rows(activation: Shaped[np.ndarray, "*batch time channels"]) -> Float[np.ndarray, "rows channels"]:
    array = np.asarray(activation, np.float32)
    if array.ndim < 2 or not array.size:
        raise ShapeError(f"The shape of the activation is {array.shape}; it should be (*batch, time, channels).")
    return array.reshape(-1, array.shape[-1])

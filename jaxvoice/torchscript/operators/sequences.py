"""Packed sequences: the steps of several lengths without padding, all of a time one after another.

How many steps there are, and so the lengths, must be known.
"""

from typing import Any

import numpy as np
from jax import numpy as jnp

from jaxvoice.torchscript.dtypes import default_int
from jaxvoice.torchscript.operators.arithmetic import cast
from jaxvoice.torchscript.operators.registry import on_tensors
from jaxvoice.torchscript.tensors import Refused, Tensor


def known_sizes(sizes: Tensor, what: str) -> np.ndarray:
    """Whole numbers that decide shapes; raises `Refused` where they depend on the inputs."""
    if not sizes.known:
        raise Refused(
            f"the {what} of packed sequences decide shapes; call the function without jax.jit, or give it the lengths "
            "as an array of numpy that it does not trace"
        )
    return np.asarray(sizes.array).astype(np.int64)


def places_of(batch_sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Time and row of every packed step."""
    times = np.repeat(np.arange(len(batch_sizes)), batch_sizes)
    rows = np.concatenate([np.arange(size) for size in batch_sizes]) if len(batch_sizes) else np.zeros(0, np.int64)
    return times.astype(np.int32), rows.astype(np.int32)


@on_tensors("torch._pack_padded_sequence")
def pack_padded_sequence(x: Tensor, lengths: Tensor, batch_first: bool) -> tuple[Tensor, Tensor]:
    """The steps that count of a padded batch in the order of falling lengths, and how many there are of each time."""
    counts = known_sizes(lengths, "lengths")
    padded = x.values.swapaxes(0, 1) if batch_first else x.values
    if counts.shape != (padded.shape[1],) or not len(counts) or counts.min() < 1 or counts.max() > padded.shape[0]:
        raise ValueError(f"lengths {counts.tolist()} of a batch of {padded.shape[1]} with {padded.shape[0]} steps")
    if np.any(np.diff(counts) > 0):
        raise ValueError(f"lengths {counts.tolist()} that do not fall")
    sizes = (counts[None] > np.arange(counts.max())[:, None]).sum(1)
    return Tensor(padded[places_of(sizes)]), Tensor(sizes.astype(default_int()))


@on_tensors("torch._pad_packed_sequence")
def pad_packed_sequence(
    data: Tensor, batch_sizes: Tensor, batch_first: bool, padding_value: Any, total_length: int
) -> tuple[Tensor, Tensor]:
    """The padded batch of packed steps, and its lengths."""
    sizes = known_sizes(batch_sizes, "lengths")
    if 0 < total_length < len(sizes):
        raise ValueError(f"total_length {total_length} of sequences of {len(sizes)} steps")
    steps = total_length if total_length > 0 else len(sizes)
    shape = (steps, int(sizes[0]), *data.shape[1:])
    padded = jnp.full(shape, cast(padding_value, data.dtype)).at[places_of(sizes)].set(data.values)
    lengths = (sizes[:, None] > np.arange(sizes[0])[None]).sum(0).astype(default_int())
    return Tensor(padded.swapaxes(0, 1) if batch_first else padded), Tensor(lengths)

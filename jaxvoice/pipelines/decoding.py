"""Running a generator over windows of many mel spectrograms with few compiled programs."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import equinox as eqx
import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Float32, Int

from jaxvoice.models.hifigan.generator import Generator
from jaxvoice.pipelines.windows import Window, bucket

Piece = tuple[int, Window]
"""A window of the mel with this index."""


def decode(
    generator: Generator,
    mels: Sequence[Float[np.ndarray, "mels frames"]],
    pieces: Sequence[Piece],
    conds: Sequence[Float[np.ndarray, " cond"] | None],
    largest: int,
) -> Iterator[tuple[Piece, Float32[np.ndarray, " samples"]]]:
    """The samples that each of `pieces` keeps, in no particular order.

    **Arguments:** `mels` and their conditioning vectors `conds`, in float32; `largest`, the frames of the longest
    window. Windows are padded to a few lengths, and those of one length are decoded together.
    """
    hop, num_mels, sizes = generator.config.hop_length, generator.config.num_mels, defaultdict(list)
    for piece in pieces:
        sizes[bucket(piece[1].frames, largest)].append(piece)
    for size, group in sizes.items():
        while group:
            batch = group[: _batch_size(size, len(group), largest)]
            del group[: len(batch)]
            padded = np.zeros((len(batch), size, num_mels), np.float32)
            for row, (index, window) in zip(padded, batch, strict=True):
                row[: window.frames] = mels[index][:, window.start : window.stop].T
            lengths = jnp.asarray([window.frames for _, window in batch], jnp.int32)
            vectors = [cond for cond in (conds[index] for index, _ in batch) if cond is not None]
            stacked = jnp.asarray(np.stack(vectors)) if vectors else None
            audio = np.asarray(_run(generator, jnp.asarray(padded), stacked, lengths))
            for row, (index, window) in zip(audio, batch, strict=True):
                first, last = window.keep_from - window.start, window.keep_to - window.start
                yield (index, window), row[first * hop : last * hop]


def _batch_size(size: int, waiting: int, largest: int) -> int:
    """How many inputs of `size` frames to decode at once: a power of two, so that few programs serve."""
    # A CPU gains nothing from more than a window at a time, and its memory is everybody's.
    room = largest if jax.default_backend() == "cpu" else 8 * largest
    most = max(1, min(waiting, room // size))
    return 1 << (most.bit_length() - 1)


@eqx.filter_jit
def _run(
    generator: Generator,
    mels: Float[Array, "batch frames mels"],
    conds: Float[Array, "batch cond"] | None,
    lengths: Int[Array, " batch"],
) -> Float[Array, "batch samples"]:
    return generator(mels, conds, length=lengths)[..., 0]

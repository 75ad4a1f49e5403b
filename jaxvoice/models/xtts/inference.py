"""Codes and latents of texts by compiled programs of few sizes, several steps for each call."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Bool, Float, Float32, Int, Int32, PRNGKeyArray

from jaxvoice.errors import CheckpointError
from jaxvoice.models.xtts.config import SamplingConfig
from jaxvoice.models.xtts.generation import Codes, GenerationState, advance, begin, resized
from jaxvoice.models.xtts.gpt import GPT
from jaxvoice.models.xtts.sampling import SamplingValues, sampling_values

CODES_PER_CALL = 20
"""Codes of a text that a call of the compiled program computes, 0.93 s of speech."""
FIRST_CODES = 8
"""Codes of the first call for a stream, the fewest with audio that the decoder can return at once."""
_TEXTS = (64, 128, 256)  # lengths to which texts are padded, besides the longest
_CACHE = 256  # the cache has a multiple of this number of positions
_FIRST = 260  # codes for which it has room at first, 12 s of speech
_VECTORS = 256  # a reference without a perceiver is padded to a multiple of this number of vectors, 12 s


class NewCodes(NamedTuple):
    """The codes of a text that a call computed."""

    codes: Int32[np.ndarray, " codes"]
    """The codes, without the stop."""
    latents: Float32[np.ndarray, "vectors channels"]
    """The latents that the decoder reads: one for each code, and one for the stop, as in the release."""
    stopped: bool
    """Whether the stop was generated."""


def generate_in_parts(
    gpt: GPT,
    conditioning: Sequence[Float[np.ndarray, "vectors channels"]],
    texts: Sequence[Sequence[int]],
    sampling: SamplingConfig,
    keys: PRNGKeyArray,
    *,
    max_codes: int | None = None,
    first: int = CODES_PER_CALL,
) -> Iterator[list[NewCodes]]:
    """Yield the next codes of each text, until all of them have ended.

    The codes of a text do not depend on the others. Texts are padded to a few lengths, and their number to a power of
    two, so that few programs are compiled: one for the text, and one for `CODES_PER_CALL` codes. The vectors of
    references of a model without a perceiver, one for each frame, are padded to multiples of 256.

    **Arguments:** `conditioning`, the vectors of the reference of each text, of equal numbers for a model with a
    perceiver; `texts`, their tokens without start and
    stop; `keys`, one for each text; `max_codes`, the most codes of a text, by default and at most
    `config.max_new_codes`; `first`, the codes of the first call, such as `FIRST_CODES`, which is another program.

    **Raises:** `CheckpointError` if the model returns NaN or infinity.
    """
    config, rows = gpt.config, len(texts)
    most = config.max_new_codes if max_codes is None else max_codes
    size = 1 << (rows - 1).bit_length()
    width = next(one for one in text_widths(gpt) if max(len(text) for text in texts) + 2 <= one)
    padded = np.full((size, width), config.stop_text, np.int32)
    for row, text in zip(padded, texts, strict=False):
        row[: len(text) + 1] = [config.start_text, *text]
    counts = np.array([len(text) + 2 for text in texts] + [2] * (size - rows), np.int32)
    vectors, vector_counts = _stacked(gpt, [*conditioning, *[conditioning[-1]] * (size - rows)])
    all_keys = keys[np.minimum(np.arange(size), rows - 1)]
    before = vectors.shape[1] + width + 1
    values, room = sampling_values(sampling), first + max(0, -(-(most - first) // CODES_PER_CALL)) * CODES_PER_CALL
    positions = _cache_size(before + min(_FIRST, room))
    padded, counts, unused = map(jnp.asarray, (padded, counts, np.arange(size) >= rows))
    vectors = jax.tree.map(jnp.asarray, (vectors, vector_counts))
    state = _begin(gpt, vectors, padded, counts, unused, values, positions)
    ended = np.zeros(rows, bool)
    done, steps = 0, first
    while done < most:
        if before + done + steps > positions:
            positions = _cache_size(before + room)
            state = _resize(state, positions)
        state, found = _advance((gpt, values, all_keys), state, steps)
        found = jax.tree.map(np.asarray, found)
        parts = [_new_codes(found, row, min(steps, most - done), bool(ended[row])) for row in range(rows)]
        if not all(np.isfinite(part.latents).all() for part in parts):
            raise CheckpointError(
                "The language model returned NaN or infinity; its weights are probably damaged. Import it again."
            )
        ended |= [part.stopped for part in parts]
        yield parts
        if ended.all():
            return
        done, steps = done + steps, CODES_PER_CALL


def _stacked(
    gpt: GPT, conditioning: Sequence[Float[np.ndarray, "vectors channels"]]
) -> tuple[Float[np.ndarray, "texts vectors channels"], Int32[np.ndarray, " texts"] | None]:
    """The vectors of references in one array, and their numbers if they are padded."""
    if gpt.conditioning_perceiver is not None:
        return np.stack(conditioning), None
    counts = [len(one) for one in conditioning]
    size = -(-max(counts) // _VECTORS) * _VECTORS
    padded = [np.pad(one, ((0, size - len(one)), (0, 0))) for one in conditioning]
    return np.stack(padded), np.array(counts, np.int32)


def text_widths(gpt: GPT) -> list[int]:
    """The lengths to which texts are padded, with start and stop."""
    longest = gpt.config.max_text + 2
    return [*(one for one in _TEXTS if one < longest), longest]


def _cache_size(positions: int) -> int:
    return -(-positions // _CACHE) * _CACHE


def _new_codes(found: Codes, row: int, most: int, ended: bool) -> NewCodes:
    """The codes of a text in the result of a call, at most `most`; none if it had ended."""
    count = 0 if ended else min(int(found.count[row]), most)
    stopped = not ended and count < most
    latents = np.asarray(found.latents[row, : count + stopped], np.float32)
    return NewCodes(np.asarray(found.codes[row, :count]), latents, stopped)


@eqx.filter_jit
def _begin(
    gpt: GPT,
    conditioning: tuple[Float[Array, "texts vectors channels"], Int[Array, " texts"] | None],
    texts: Int[Array, "texts tokens"],
    counts: Int[Array, " texts"],
    finished: Bool[Array, " texts"],
    sampling: SamplingValues,
    positions: int,
) -> GenerationState:
    vectors, count = conditioning
    state = begin(
        gpt,
        jnp.asarray(vectors, jnp.float32),
        texts,
        sampling,
        text_count=counts,
        conditioning_count=count,
        positions=positions,
    )
    return state._replace(finished=finished)


# The state is donated, so that its cache is updated in place.
@eqx.filter_jit(donate="all-except-first")
def _advance(
    inputs: tuple[GPT, SamplingValues, PRNGKeyArray], state: GenerationState, steps: int
) -> tuple[GenerationState, Codes]:
    gpt, sampling, keys = inputs
    return advance(gpt, state, sampling, steps, keys=keys)


@eqx.filter_jit
def _resize(state: GenerationState, positions: int) -> GenerationState:
    return resized(state, positions)

"""The generation of codes by the language model of XTTS, several codes for each call of a compiled program."""

from typing import NamedTuple

import jax
from jax import lax, numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Int32, PRNGKeyArray

from jaxvoice.errors import ConfigError
from jaxvoice.models.xtts.config import SamplingConfig
from jaxvoice.models.xtts.gpt import GPT, Step
from jaxvoice.models.xtts.sampling import SamplingValues, add_seen, draw, initial_seen, remaining_scores
from jaxvoice.models.xtts.transformer import KeyValues


class GenerationState(NamedTuple):
    """The state of the generation of codes, which `advance` continues."""

    step: Step
    """The vector and the logits of the next code, and the keys and values so far."""
    number: Int32[Array, ""]
    """Codes that were generated."""
    start: Int32[Array, ""]
    """The position of the first code in the cache."""
    seen: Bool[Array, "*batch ids"]
    """Ids that the repetition penalty affects."""
    finished: Bool[Array, "*batch"]
    """True after the stop."""


class Codes(NamedTuple):
    """Codes, and the latents that the decoder reads."""

    codes: Int32[Array, "*batch codes"]
    """The codes; `stop_audio` at the end of a text and after it."""
    latents: Float[Array, "*batch codes channels"]
    """The vector from which each code was predicted; zero after the stop."""
    count: Int32[Array, "*batch"]
    """The number of codes before the stop."""
    stopped: Bool[Array, "*batch"]
    """Whether the stop was generated; otherwise, the largest number of codes was reached."""


def begin(
    gpt: GPT,
    conditioning: Float[Array, "*batch vectors channels"],
    text: Int[Array, "*batch tokens"],
    sampling: SamplingConfig | SamplingValues,
    *,
    text_count: Int[Array, "*batch"] | int | None = None,
    conditioning_count: Int[Array, "*batch"] | int | None = None,
    max_codes: int | None = None,
    positions: int | None = None,
) -> GenerationState:
    """The state before the first code.

    **Arguments:**

    - `conditioning`: the vectors of references, of `GPT.condition`, and then any padding.
    - `text`: tokens with start and stop, and then any padding.
    - `text_count`: the tokens of each text with start and stop, by default all.
    - `conditioning_count`: the vectors of each reference, by default all.
    - `max_codes`: the most codes of a text, with the stop; by default and at most `config.max_new_codes`.
    - `positions`: the room of the cache, by default for `max_codes`; `resized` changes it later.

    **Raises:** `ConfigError` for `max_codes` out of range; `ShapeError` for more tokens than positions.
    """
    config = gpt.config
    most = config.max_new_codes if max_codes is None else max_codes
    if not 1 <= most <= config.max_new_codes:
        raise ConfigError(f"max_codes is {most}; it should be between 1 and {config.max_new_codes}.")
    prefix, batch = conditioning.shape[-2] + text.shape[-1], text.shape[:-1]
    room = prefix + most + 1 if positions is None else positions
    step = gpt.start(conditioning, text, text_count=text_count, conditioning_count=conditioning_count, positions=room)
    seen = initial_seen(batch, config.audio_ids, config.start_audio, sampling)
    return GenerationState(step, jnp.int32(0), jnp.int32(prefix + 1), seen, jnp.zeros(batch, bool))


def resized(state: GenerationState, positions: int) -> GenerationState:
    """`state` with a cache of `positions` positions, at least as many as before."""
    cache = state.step.cache
    more = positions - cache.valid.shape[-1]

    def wider(array: Array, axis: int) -> Array:
        edges = [(0, 0)] * array.ndim
        edges[axis] = (0, more)
        return jnp.pad(array, edges)

    keys, values = (tuple(wider(array, -2) for array in arrays) for arrays in (cache.keys, cache.values))
    return state._replace(step=state.step._replace(cache=KeyValues(keys, values, wider(cache.valid, -1))))


def advance(
    gpt: GPT,
    state: GenerationState,
    sampling: SamplingConfig | SamplingValues,
    steps: int,
    *,
    keys: PRNGKeyArray | None = None,
) -> tuple[GenerationState, Codes]:
    """The next `steps` codes of each text, and the state after them.

    The computation ends when all texts are finished. Rows that are finished get the stop. The cache of `state` should
    have room for the codes.

    **Arguments:** `keys`, one for each text `(*batch,)`, so that the codes of a text do not depend on the others;
    without keys, the code with the largest score is chosen.
    """
    config, batch = gpt.config, state.finished.shape
    stop = jnp.int32(config.stop_audio)
    codes = jnp.full((*batch, steps), stop, jnp.int32)
    latents = jnp.zeros((*batch, steps, config.channels), state.step.latent.dtype)

    def unfinished(carry: tuple[Array, GenerationState, Array, Array]) -> Array:
        number, state, _, _ = carry
        return (number < steps) & ~jnp.all(state.finished)

    def step(
        carry: tuple[Array, GenerationState, Array, Array],
    ) -> tuple[Array, GenerationState, Array, Array]:
        number, state, codes, latents = carry
        scores = remaining_scores(state.step.logits, state.seen, sampling)
        code = jnp.where(state.finished, stop, _draw(scores, keys, state.number))
        latent = jnp.where(state.finished[..., None], jnp.zeros((), latents.dtype), state.step.latent)
        codes = lax.dynamic_update_index_in_dim(codes, code, number, axis=-1)
        latents = lax.dynamic_update_index_in_dim(latents, latent, number, axis=-2)
        finished = state.finished | (code == stop)
        after = gpt.step(code, state.number + 1, state.step.cache, state.start + state.number)
        state = GenerationState(after, state.number + 1, state.start, add_seen(state.seen, code), finished)
        return number + 1, state, codes, latents

    _, state, codes, latents = lax.while_loop(unfinished, step, (jnp.int32(0), state, codes, latents))
    count = jnp.sum(codes != stop, axis=-1).astype(jnp.int32)
    return state, Codes(codes, latents, count, state.finished)


def generate(
    gpt: GPT,
    conditioning: Float[Array, "*batch vectors channels"],
    text: Int[Array, "*batch tokens"],
    sampling: SamplingConfig | SamplingValues,
    *,
    text_count: Int[Array, "*batch"] | int | None = None,
    max_codes: int | None = None,
    keys: PRNGKeyArray | None = None,
) -> Codes:
    """All codes of texts, and the latents that the decoder reads; without a second pass.

    The arguments are those of `begin` and `advance`. Compile it with `jax.jit`; a program computes the beginning and
    all steps.

    **Raises:** as `begin`.
    """
    state = begin(gpt, conditioning, text, sampling, text_count=text_count, max_codes=max_codes)
    steps = gpt.config.max_new_codes if max_codes is None else max_codes
    return advance(gpt, state, sampling, steps, keys=keys)[1]


def _draw(
    scores: Float[Array, "*batch ids"], keys: PRNGKeyArray | None, number: Int32[Array, ""]
) -> Int32[Array, "*batch"]:
    if keys is None:
        return draw(scores)
    flat = jax.vmap(lambda scores, key: draw(scores, key=jax.random.fold_in(key, number)))
    return flat(scores.reshape(-1, scores.shape[-1]), keys.reshape(-1)).reshape(scores.shape[:-1])

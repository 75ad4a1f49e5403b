"""The language model of XTTS: a reference, text and audio codes to the next code."""

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
from jax import numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Int32, PRNGKeyArray

from jaxvoice.errors import ShapeError
from jaxvoice.models.xtts.conditioning import ConditioningEncoder, PerceiverResampler
from jaxvoice.models.xtts.config import GPTConfig
from jaxvoice.models.xtts.transformer import KeyValues, Transformer
from jaxvoice.nn import Embedding, LayerNorm, Linear, Module, length_mask, operation


class Logits(NamedTuple):
    """Logits of the next token after each text token, and of the next code after each code."""

    text: Float[Array, "*batch tokens text_ids"]
    """After the start and each token of the text."""
    audio: Float[Array, "*batch codes audio_ids"]
    """After the start and each code."""


class Step(NamedTuple):
    """The state of a generation after some codes."""

    latent: Float[Array, "*batch channels"]
    """The vector from which the next code is predicted, and which the decoder reads."""
    logits: Float[Array, "*batch audio_ids"]
    """Logits of the next code, in float32."""
    cache: KeyValues
    """Keys and values of all positions so far."""


class PositionTable(Module):
    """A table of vectors by position; the path of its weight is that of the release."""

    emb: Embedding

    def __init__(self, positions: int, channels: int, *, key: PRNGKeyArray):
        self.emb = Embedding(positions, channels, scale=0.02, key=key)

    def __call__(self, count: int) -> Float[Array, "count channels"]:
        """The vectors of the first `count` positions."""
        return self.emb(jnp.arange(count, dtype=jnp.int32))


class GPT(Module):
    """A causal transformer over the vectors of a reference, the tokens of a text and the codes of its speech.

    The inputs are the vectors of the reference, `[start] text [stop]` and `[start] codes`. Text and codes have tables
    of positions of their own, which begin at 0; no positions are added to the vectors of the reference. Attribute paths
    are the names of weights in `model.pth` below `gpt.`.

    arXiv 2406.04904, section 2; coqui-ai/TTS `TTS/tts/layers/xtts/gpt.py`.
    """

    conditioning_encoder: ConditioningEncoder
    conditioning_perceiver: PerceiverResampler | None
    text_embedding: Embedding
    mel_embedding: Embedding
    text_pos_embedding: PositionTable
    mel_pos_embedding: PositionTable
    gpt: Transformer
    final_norm: LayerNorm
    text_head: Linear
    mel_head: Linear
    config: GPTConfig = eqx.field(static=True)

    def __init__(self, config: GPTConfig, *, key: PRNGKeyArray):
        keys, channels = jax.random.split(key, 9), config.channels
        self.conditioning_encoder = ConditioningEncoder(config, key=keys[0])
        self.conditioning_perceiver = None
        if config.conditioning.latents:
            self.conditioning_perceiver = PerceiverResampler(config, key=keys[1])
        self.text_embedding = Embedding(config.text_ids, channels, scale=0.02, key=keys[2])
        self.mel_embedding = Embedding(config.audio_ids, channels, scale=0.02, key=keys[3])
        self.text_pos_embedding = PositionTable(config.max_text + 2, channels, key=keys[4])
        self.mel_pos_embedding = PositionTable(config.max_audio + 3, channels, key=keys[5])
        self.gpt = Transformer(config, key=keys[6])
        self.final_norm = LayerNorm(channels)
        self.text_head = Linear(channels, config.text_ids, key=keys[7])
        self.mel_head = Linear(channels, config.audio_ids, key=keys[8])
        self.config = config

    def __call__(
        self,
        conditioning: Float[Array, "*batch vectors channels"],
        text: Int[Array, "*batch tokens"],
        codes: Int[Array, "*batch codes"],
        *,
        text_count: Int[Array, "*batch"] | int | None = None,
        code_count: Int[Array, "*batch"] | int | None = None,
        conditioning_count: Int[Array, "*batch"] | int | None = None,
        inference: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> Logits:
        """The logits of a training step.

        **Arguments:**

        - `conditioning`: the vectors of references, of `condition`.
        - `text`: text tokens with `start_text` before them and `stop_text` after them.
        - `codes`: codes with `start_audio` before them; the rest is padding.
        - `text_count`, `code_count`, `conditioning_count`: the number of leading positions of each part to which later
            ones attend, by default all.
        - `inference`, `key`: dropout is applied with `key` unless `inference`.

        **Raises:** `ShapeError` for more tokens or codes than positions.
        """
        counts = conditioning_count, text_count, code_count
        vectors, lengths = self._hidden(conditioning, text, codes, counts, inference, key)
        after = self.final_norm(vectors[..., lengths[0] :, :])
        return Logits(self.text_head(after[..., : lengths[1], :]), self.mel_head(after[..., lengths[1] :, :]))

    @operation
    def condition(
        self, mel: Float[Array, "*batch frames mels"], *, count: Int[Array, "*batch"] | int | None = None
    ) -> Float[Array, "*batch vectors channels"]:
        """The vectors of references: those of the perceiver, or one for each frame without a perceiver.

        **Arguments:** `mel`, of `normalized_log_mel` with the configuration `conditioning.mel`; `count`, the valid
        frames, by default all.
        """
        mask = None if count is None else length_mask(count, mel.shape[-2], batch=mel.shape[:-2])
        vectors = self.conditioning_encoder(mel, mask=mask)
        return vectors if self.conditioning_perceiver is None else self.conditioning_perceiver(vectors, mask=mask)

    @operation
    def latents(
        self,
        conditioning: Float[Array, "*batch vectors channels"],
        text: Int[Array, "*batch tokens"],
        codes: Int[Array, "*batch codes"],
        *,
        text_count: Int[Array, "*batch"] | int | None = None,
    ) -> Float[Array, "*batch codes channels"]:
        """The vector from which each code is predicted, given the codes before it; the decoder reads these.

        **Arguments:** `text` and `text_count` as in the call; `codes` without start and stop. Codes after the end of a
        row have no influence on the vectors of those before them.

        **Raises:** `ShapeError` as the call.
        """
        start = jnp.full((*codes.shape[:-1], 1), self.config.start_audio, codes.dtype)
        inputs = jnp.concatenate([start, codes[..., :-1]], axis=-1)
        vectors, lengths = self._hidden(conditioning, text, inputs, (None, text_count, None), True, None)
        return self.final_norm(vectors[..., sum(lengths) :, :])

    @operation
    def start(
        self,
        conditioning: Float[Array, "*batch vectors channels"],
        text: Int[Array, "*batch tokens"],
        *,
        text_count: Int[Array, "*batch"] | int | None = None,
        conditioning_count: Int[Array, "*batch"] | int | None = None,
        positions: int,
    ) -> Step:
        """The state before the first code, whose cache has room for `positions` positions.

        **Arguments:** `text` as in the call; `text_count`, the tokens of each text with start and stop, and
        `conditioning_count`, the vectors of each reference, by default all.

        **Raises:** `ShapeError` as the call, or if there is no room for text and reference.
        """
        ids = jnp.full(text.shape[:-1], self.config.start_audio, jnp.int32)
        dtype = conditioning.dtype
        parts = [conditioning, self._embed_text(text).astype(dtype), self._embed_code(ids, 0, dtype)[..., None, :]]
        inputs = jnp.concatenate(parts, axis=-2)
        if positions < inputs.shape[-2]:
            raise ShapeError(
                f"positions is {positions}; it should be above {inputs.shape[-2] - 1}, those of the prefix."
            )
        sizes = conditioning.shape[-2], text.shape[-1], 1
        mask = _key_mask(sizes, (conditioning_count, text_count, None), text.shape[:-1])
        cache = self.gpt.init_cache(inputs.shape[:-2], positions, dtype=dtype)
        y, cache = self.gpt.extend(inputs, cache, 0, mask=mask)
        return self._step(y[..., -1, :], cache)

    @operation
    def step(
        self,
        codes: Int[Array, "*batch"],
        number: Int[Array, ""] | int,
        cache: KeyValues,
        start: Int[Array, ""] | int,
    ) -> Step:
        """The state after one more code.

        **Arguments:** `codes`, the new codes, of which `number` were computed before, the start included; `start`, the
        position of the new code in `cache`.
        """
        x = self._embed_code(codes, number, cache.keys[0].dtype)
        y, cache = self.gpt.extend(x[..., None, :], cache, start)
        return self._step(y[..., 0, :], cache)

    def _step(self, y: Float[Array, "*batch channels"], cache: KeyValues) -> Step:
        """The state after the last position, for which the transformer returned `y`."""
        latent = self.final_norm(y)
        return Step(latent, self.mel_head(latent).astype(jnp.float32), cache)

    def _embed_code(
        self, codes: Int[Array, "*batch"], number: Int[Array, ""] | int, dtype: jnp.dtype
    ) -> Float[Array, "*batch channels"]:
        """The vectors of codes that `number` others precede, the start included."""
        table = self.mel_pos_embedding.emb.weight
        position = jax.lax.dynamic_index_in_dim(table, jnp.asarray(number, jnp.int32), keepdims=False)
        return (self.mel_embedding(codes) + position.reshape((1,) * codes.ndim + (-1,))).astype(dtype)

    def _embed_text(self, text: Int[Array, "*batch tokens"]) -> Float[Array, "*batch tokens channels"]:
        return _with_positions(self.text_embedding(text), self.text_pos_embedding, "text tokens")

    def _hidden(
        self,
        conditioning: Float[Array, "*batch vectors channels"],
        text: Int[Array, "*batch tokens"],
        codes: Int[Array, "*batch codes"],
        counts: tuple[Int[Array, "*batch"] | int | None, ...],
        inference: bool,
        key: PRNGKeyArray | None,
    ) -> tuple[Float[Array, "*batch positions channels"], tuple[int, int]]:
        """The output of the transformer, and the numbers of vectors of the reference and of text tokens."""
        audio = _with_positions(self.mel_embedding(codes), self.mel_pos_embedding, "codes")
        dtype = conditioning.dtype
        parts = [conditioning, self._embed_text(text).astype(dtype), audio.astype(dtype)]
        mask = _key_mask((conditioning.shape[-2], text.shape[-1], codes.shape[-1]), counts, text.shape[:-1])
        vectors = self.gpt(jnp.concatenate(parts, axis=-2), mask=mask, inference=inference, key=key)
        return vectors, (conditioning.shape[-2], text.shape[-1])


def _key_mask(
    sizes: Sequence[int], counts: Sequence[Int[Array, "*batch"] | int | None], batch: tuple[int, ...]
) -> Bool[Array, "*batch positions"] | None:
    """The positions that are attended to, the first ones of each part of the input; `None` if these are all.

    A part of `sizes` positions has the valid ones `counts`, by default all.
    """
    if all(count is None for count in counts):
        return None
    masks = [
        length_mask(size if count is None else count, size, batch=batch)
        for size, count in zip(sizes, counts, strict=True)
    ]
    return jnp.concatenate(masks, axis=-1)


def _with_positions(
    vectors: Float[Array, "*batch time channels"], table: PositionTable, kind: str
) -> Float[Array, "*batch time channels"]:
    time, most = vectors.shape[-2], table.emb.weight.shape[0]
    if time > most:
        raise ShapeError(f"The input has {time} {kind}, with start and stop; it should have at most {most}.")
    return vectors + table(time).reshape((1,) * (vectors.ndim - 2) + (time, -1))


class Targets(NamedTuple):
    """The inputs of the language model for a training step, and what it should predict."""

    text: Int32[Array, "*batch tokens"]
    """Text tokens with start and stop."""
    text_targets: Int32[Array, "*batch tokens"]
    """The next token at each position; -1 where it is left out of the loss."""
    text_count: Int32[Array, "*batch"]
    """Leading text tokens to which later positions attend."""
    codes: Int32[Array, "*batch codes"]
    """Codes with start and stop."""
    code_targets: Int32[Array, "*batch codes"]
    """The next code at each position; -1 where it is left out of the loss."""
    code_count: Int32[Array, "*batch"]
    """Leading codes to which later positions attend."""


def training_targets(
    text: Int[Array, "*batch tokens"],
    text_count: Int[Array, "*batch"],
    codes: Int[Array, "*batch codes"],
    code_count: Int[Array, "*batch"],
    config: GPTConfig,
    *,
    stops: int = 4,
    hidden_stop: bool = False,
) -> Targets:
    """Inputs and targets of a training step.

    **Arguments:**

    - `text`, `codes`: tokens and codes without start and stop; the first `text_count` and `code_count` are valid.
    - `stops`: the number of stops after the codes that are predicted. The release predicts four, because it adds three
        to the number of codes; one is enough.
    - `hidden_stop`: whether codes do not attend to the stop of the text, as in the training of the release. In
        synthesis, also of the release, they do.

    Source: coqui-ai/TTS `TTS/tts/layers/xtts/gpt.py:GPT.forward`.
    """

    def padded(ids: Array, count: Array, start: int, stop: int, more: int) -> tuple[Array, Array]:
        width = [(0, 0)] * (ids.ndim - 1)
        ids = jnp.pad(ids.astype(jnp.int32), (*width, (0, more)))
        ids = jnp.where(length_mask(count, ids.shape[-1]), ids, stop)
        inputs = jnp.pad(ids, (*width, (1, 0)), constant_values=start)
        targets = jnp.pad(ids, (*width, (0, 1)), constant_values=stop)
        return inputs, jnp.where(length_mask(count + more, targets.shape[-1]), targets, -1)

    text_count, code_count = text_count.astype(jnp.int32), code_count.astype(jnp.int32)
    tokens, text_targets = padded(text, text_count, config.start_text, config.stop_text, 1)
    inputs, code_targets = padded(codes, code_count, config.start_audio, config.stop_audio, stops)
    visible = text_count + (1 if hidden_stop else 2)
    return Targets(tokens, text_targets, visible, inputs, code_targets, code_count + stops)


def summed_cross_entropy(logits: Float[Array, "*shape ids"], targets: Int[Array, "*shape"]) -> Float[Array, ""]:
    """The sum of the cross-entropy in float32 over positions whose target is not negative."""
    log_probabilities = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    chosen = jnp.take_along_axis(log_probabilities, jnp.maximum(targets, 0)[..., None], axis=-1)[..., 0]
    return -jnp.sum(jnp.where(targets >= 0, chosen, 0.0))


def masked_cross_entropy(logits: Float[Array, "*shape ids"], targets: Int[Array, "*shape"]) -> Float[Array, ""]:
    """The mean cross-entropy in float32 over positions whose target is not negative; 0 without such positions."""
    count = jnp.maximum(jnp.sum(targets >= 0), 1).astype(jnp.float32)
    return summed_cross_entropy(logits, targets) / count

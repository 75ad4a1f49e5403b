"""Losses of speaker encoders on batches of embeddings of several utterances of several speakers, in float32.

The logits are cosines, multiplied by a scale and increased by a bias, which are trained with the encoder.
"""

import jax
from jax import numpy as jnp
from jaxtyping import Array, Float, Int

from jaxvoice.errors import ShapeError

_SMALLEST = 1e-6


def angular_prototypical_loss(
    embeddings: Float[Array, "speakers utterances dim"], scale: Float[Array, ""], bias: Float[Array, ""]
) -> Float[Array, ""]:
    """The mean cross-entropy of the speaker of the first utterance of each speaker.

    The logits are `scale * cosine + bias` with the mean of the other utterances of every speaker. `scale` counts as
    1e-6 if it is smaller.

    **Raises:** `ShapeError` for fewer than two speakers or utterances.

    arXiv 2003.11982, section 2.3; coqui-ai/TTS `TTS/encoder/losses.py:AngleProtoLoss`.
    """
    _check(embeddings)
    x = embeddings.astype(jnp.float32)
    first, rest = _unit(x[:, 0]), _unit(jnp.mean(x[:, 1:], axis=1))
    logits = _scaled(first @ rest.T, scale, bias)
    return -jnp.mean(jnp.diagonal(jax.nn.log_softmax(logits)))


def ge2e_softmax_loss(
    embeddings: Float[Array, "speakers utterances dim"], scale: Float[Array, ""], bias: Float[Array, ""]
) -> Float[Array, ""]:
    """The softmax form of the generalised end-to-end loss: the mean cross-entropy of the speaker of every utterance.

    The logits are those of `ge2e_logits`.

    **Raises:** `ShapeError` for fewer than two speakers or utterances.

    arXiv 1710.10467, equation 6.
    """
    logits = ge2e_logits(embeddings, scale, bias)
    own = jnp.arange(len(logits))[:, None, None]
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), own, axis=-1))


def ge2e_contrast_loss(
    embeddings: Float[Array, "speakers utterances dim"], scale: Float[Array, ""], bias: Float[Array, ""]
) -> Float[Array, ""]:
    """The contrast form of the generalised end-to-end loss: `1 - sigmoid(own) + max sigmoid(other)`, averaged.

    The logits are those of `ge2e_logits`: `own` that of the speaker of the utterance, `other` those of the others.

    **Raises:** `ShapeError` for fewer than two speakers or utterances.

    arXiv 1710.10467, equation 7.
    """
    values = jax.nn.sigmoid(ge2e_logits(embeddings, scale, bias))
    own = jnp.eye(len(values), dtype=bool)[:, None]
    # Sigmoids are positive, so a zero is never the largest.
    others = jnp.max(jnp.where(own, jnp.zeros((), values.dtype), values), axis=-1)
    return jnp.mean(1 - jnp.sum(jnp.where(own, values, jnp.zeros((), values.dtype)), axis=-1) + others)


def ge2e_logits(
    embeddings: Float[Array, "speakers utterances dim"], scale: Float[Array, ""], bias: Float[Array, ""]
) -> Float[Array, "speakers utterances speakers"]:
    """`scale * cosine + bias` of every utterance with the mean of every speaker, without the utterance itself.

    Cosines below 1e-6 count as 1e-6, and so does `scale`.

    **Raises:** `ShapeError` for fewer than two speakers or utterances.

    arXiv 1710.10467, equations 5, 8 and 9; coqui-ai/TTS `TTS/encoder/losses.py:GE2ELoss`.
    """
    _check(embeddings)
    x = embeddings.astype(jnp.float32)
    count = x.shape[1]
    total = jnp.sum(x, axis=1, keepdims=True)
    utterances = _unit(x)
    cosines = jnp.einsum("jid,kd->jik", utterances, _unit(total[:, 0] / count))
    without = jnp.sum(utterances * _unit((total - x) / (count - 1)), axis=-1, keepdims=True)
    own = jnp.eye(len(x), dtype=bool)[:, None]
    return _scaled(jnp.maximum(jnp.where(own, without, cosines), _SMALLEST), scale, bias)


def speaker_classification_loss(
    logits: Float[Array, "*batch classes"], speakers: Int[Array, "*batch"]
) -> Float[Array, ""]:
    """The mean cross-entropy of the numbers of the `speakers`, from 0 on.

    **Raises:** `ShapeError` unless `speakers` has a number for each row of `logits`.
    """
    if logits.shape[:-1] != speakers.shape:
        raise ShapeError(
            f"The shapes of logits and speakers are {logits.shape} and {speakers.shape}; they should be (*batch, "
            "classes) and (*batch)."
        )
    logs = jax.nn.log_softmax(logits.astype(jnp.float32))
    return -jnp.mean(jnp.take_along_axis(logs, speakers[..., None], axis=-1))


def _scaled(cosines: Array, scale: Array, bias: Array) -> Array:
    return jnp.maximum(scale.astype(jnp.float32), _SMALLEST) * cosines + bias.astype(jnp.float32)


def _unit(x: Float[Array, "*batch dim"]) -> Float[Array, "*batch dim"]:
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(x), axis=-1, keepdims=True), 1e-16))


def _check(embeddings: Array) -> None:
    if embeddings.ndim != 3 or min(embeddings.shape[:2]) < 2:
        raise ShapeError(
            f"The shape of the embeddings is {embeddings.shape}; it should be (speakers, utterances, dim), with at "
            "least two speakers and two utterances of each."
        )

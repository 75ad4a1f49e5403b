"""Inference with the trained networks, compiled once for every shape of batch."""

from typing import NamedTuple

import equinox as eqx
from jax import numpy as jnp
from jaxtyping import Array, Float, Int

from jaxvoice.data.aligned import AlignedBatch
from jaxvoice.models.gaussian_tts.acoustic import AcousticModel, BatchNormStates
from jaxvoice.models.gaussian_tts.durations import DurationModel


class Spoken(NamedTuple):
    """The networks' results for a batch."""

    normalised: Float[Array, "batch frames mels"]
    """The normalised mel spectrogram of the post-net; `to_mel` converts it to the mel contract."""
    weights: Float[Array, "batch frames phones"]
    """The weight of each phoneme in each frame."""
    logs: Float[Array, "batch phones"] | None
    """Normalised log durations that the duration model predicts, where one was given."""


@eqx.filter_jit
def encode(
    acoustic: AcousticModel,
    norms: BatchNormStates,
    durations: DurationModel | None,
    phonemes: Int[Array, "batch phones"],
    *,
    phone_count: Int[Array, " batch"],
) -> tuple[Float[Array, "batch phones dim"], Float[Array, "batch phones"] | None]:
    """Hidden states of phonemes (0 in padding), and the normalised log durations that `durations` predicts from them.

    **Raises:** `ShapeError` for more phonemes, padding included, than positions.
    """
    hidden, _ = acoustic.encode(phonemes, norms, phone_count=phone_count, inference=True)
    return hidden, None if durations is None else durations(hidden, phone_count=phone_count, inference=True)


@eqx.filter_jit
def decode(
    acoustic: AcousticModel,
    norms: BatchNormStates,
    hidden: Float[Array, "batch phones dim"],
    durations: Float[Array, "batch phones"],
    *,
    phone_count: Int[Array, " batch"],
    frame_count: Int[Array, " batch"],
    frames: int,
) -> tuple[Float[Array, "batch {frames} mels"], Float[Array, "batch {frames} phones"]]:
    """The normalised mel spectrogram of phonemes that last `durations` frames, and the weights of upsampling.

    **Raises:** `ShapeError` for more frames, padding included, than positions.
    """
    counts = {"phone_count": phone_count, "frame_count": frame_count, "frames": frames}
    decoded = acoustic.decode(hidden, durations, norms, **counts, inference=True)
    return decoded.second, decoded.weights


def speak_batch(
    acoustic: AcousticModel, norms: BatchNormStates, batch: AlignedBatch, durations: DurationModel | None = None
) -> Spoken:
    """`batch` synthesised with its own durations, and the durations that `durations` predicts; its mels are not read.

    **Raises:** `ShapeError` for more phonemes or frames, padding included, than positions.
    """
    phonemes, phone_count, lasting = map(jnp.asarray, batch[:3])
    hidden, logs = encode(acoustic, norms, durations, phonemes, phone_count=phone_count)
    counts = {"phone_count": phone_count, "frame_count": jnp.asarray(batch.frame_count), "frames": batch.mel.shape[2]}
    normalised, weights = decode(acoustic, norms, hidden, lasting, **counts)
    return Spoken(normalised, weights, logs)

"""Inference with trained networks, compiled once per batch shape."""

from collections.abc import Iterator
from typing import NamedTuple

import equinox as eqx
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Float32, Int

from jaxvoice.data.batches import UtteranceBatch
from jaxvoice.data.buckets import batches_in_order
from jaxvoice.data.store import Store
from jaxvoice.errors import CheckpointError
from jaxvoice.models.gaussian_tts.acoustic import AcousticModel, BatchNormStates
from jaxvoice.models.gaussian_tts.config import GaussianTTSConfig
from jaxvoice.models.gaussian_tts.durations import DurationModel
from jaxvoice.models.gaussian_tts.statistics import to_mel


class BatchResult(NamedTuple):
    """The result of the networks for a batch."""

    normalised: Float[Array, "batch frames mels"]
    """The normalised mel spectrogram of the post-net; `to_mel` converts it to the mel contract."""
    weights: Float[Array, "batch frames phones"]
    """The weight of each phoneme in each frame."""
    logs: Float[Array, "batch phones"] | None
    """The predicted normalised log durations, or `None` if no duration model was passed."""


@eqx.filter_jit
def encode(
    acoustic: AcousticModel,
    norms: BatchNormStates,
    durations: DurationModel | None,
    phonemes: Int[Array, "batch phones"],
    *,
    phone_count: Int[Array, " batch"],
) -> tuple[Float[Array, "batch phones dim"], Float[Array, "batch phones"] | None]:
    """Hidden states of `phonemes` (0 in padding), and the normalised log durations that `durations` predicts.

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
    """The normalised mel spectrogram of phonemes with `durations` in frames, and the upsampling weights.

    **Raises:** `ShapeError` for more frames, padding included, than positions.
    """
    counts = {"phone_count": phone_count, "frame_count": frame_count, "frames": frames}
    decoded = acoustic.decode(hidden, durations, norms, **counts, inference=True)
    return decoded.second, decoded.weights


def synthesize_batch(
    acoustic: AcousticModel, norms: BatchNormStates, batch: UtteranceBatch, durations: DurationModel | None = None
) -> BatchResult:
    """Synthesise `batch` with its own durations, and predict durations with the model `durations`.

    The mel spectrograms in `batch` determine the number of frames only.

    **Raises:** `ShapeError` for more phonemes or frames, padding included, than positions.
    """
    phonemes, phone_count, lasting = map(jnp.asarray, batch[:3])
    hidden, logs = encode(acoustic, norms, durations, phonemes, phone_count=phone_count)
    counts = {"phone_count": phone_count, "frame_count": jnp.asarray(batch.frame_count), "frames": batch.mel.shape[2]}
    normalised, weights = decode(acoustic, norms, hidden, lasting, **counts)
    return BatchResult(normalised, weights, logs)


def teacher_forced_mels(
    acoustic: AcousticModel,
    norms: BatchNormStates,
    config: GaussianTTSConfig,
    store: Store,
    *,
    batch_size: int = 8,
) -> Iterator[tuple[int, Float32[np.ndarray, "mels frames"]]]:
    """Yield the index of each utterance in `store` and its log-mel spectrogram, computed with its own durations.

    The mel contract is `config.mel`. Utterances are sorted by length, and at most four shapes are compiled.

    **Raises:** `CheckpointError` if the model returns NaN or infinity; `ConfigError` for utterances longer than the
    positions of the model.
    """
    batches = batches_in_order(
        store,
        min(batch_size, len(store)),
        max_frames=config.decoder.max_frames,
        max_phones=config.encoder.max_phones,
    )
    for numbers, batch in batches:
        made = np.asarray(synthesize_batch(acoustic, norms, batch).normalised)
        for row, number in zip(made, map(int, numbers), strict=False):
            row = row[: store["mel"][number].shape[1]]
            if not np.isfinite(row).all():  # before clipping
                raise CheckpointError("The model returns mels with NaN or infinity; its weights are damaged.")
            yield number, to_mel(row, config.statistics, config.mel)

"""Mel spectrograms of utterances, synthesised with the utterances' own durations."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Float32

from jaxvoice.data.batches import UtteranceBatch
from jaxvoice.data.buckets import batches_in_order
from jaxvoice.data.store import Store
from jaxvoice.errors import CheckpointError
from jaxvoice.models.gaussian_tts.acoustic import AcousticModel, BatchNormStates
from jaxvoice.models.gaussian_tts.config import GaussianTTSConfig
from jaxvoice.models.gaussian_tts.inference import decode, encode
from jaxvoice.models.gaussian_tts.networks import DurationModel
from jaxvoice.models.gaussian_tts.statistics import denormalise_mel


class BatchResult(NamedTuple):
    """The result of the networks for a batch."""

    normalised: Float[Array, "batch frames mels"]
    """The normalised mel spectrogram of the post-net; `denormalise_mel` converts it to the mel contract."""
    weights: Float[Array, "batch frames phones"]
    """The weight of each phoneme in each frame."""
    log_durations: Float[Array, "batch phones"] | None
    """The predicted normalised log durations, or `None` if no duration model was passed."""


def synthesize_batch(
    acoustic: AcousticModel, norms: BatchNormStates, batch: UtteranceBatch, durations: DurationModel | None = None
) -> BatchResult:
    """Synthesise `batch` with its own durations. If `durations` is given, also predict durations with this model.

    The mel spectrograms in `batch` determine the number of frames only.

    **Raises:** `ShapeError` for more phonemes or frames, padding included, than positions.
    """
    phonemes, phone_count, batch_durations = map(jnp.asarray, batch[:3])
    hidden, log_durations = encode(acoustic, norms, durations, phonemes, phone_count=phone_count)
    counts = {"phone_count": phone_count, "frame_count": jnp.asarray(batch.frame_count), "frames": batch.mel.shape[2]}
    normalised, weights = decode(acoustic, norms, hidden, batch_durations, **counts)
    return BatchResult(normalised, weights, log_durations)


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
    for indices, batch in batches:
        mels = np.asarray(synthesize_batch(acoustic, norms, batch).normalised)
        for mel, index in zip(mels, map(int, indices), strict=False):
            mel = mel[: store["mel"][index].shape[1]]
            if not np.isfinite(mel).all():  # before clipping
                raise CheckpointError("The model returns mels with NaN or infinity; its weights are damaged.")
            yield index, denormalise_mel(mel, config.statistics, config.mel)

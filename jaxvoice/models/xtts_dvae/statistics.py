"""The scale of each mel band of a corpus, by which log-mel spectrograms are divided."""

import functools as ft
import math

import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Float32, Int

from jaxvoice.data.store import Store
from jaxvoice.dsp.framing import bucket_size
from jaxvoice.dsp.mel_config import PowerMelConfig
from jaxvoice.errors import DataError
from jaxvoice.models.xtts_dvae.front_end import normalized_log_mel

_LONGEST = 2**20  # frames; recordings are padded to few lengths


def mel_statistics(store: Store, config: PowerMelConfig, *, seconds: float = 3600.0) -> Float32[np.ndarray, " mels"]:
    """The mean absolute value of the log-mel spectrogram in each band over the recordings of `store`.

    Divided by it, all bands contribute about equally to a squared error, as with the statistics of the release. Their
    computation was not published. At most about `seconds` of recordings are used, evenly spaced over the store.

    **Raises:** `DataError` if all recordings are shorter than half a frame of the Fourier transform.
    """
    lengths = store.lengths("audio")
    rows = [row for row, length in enumerate(lengths) if length >= config.min_samples]
    total = sum(int(lengths[row]) for row in rows) / store.sample_rate
    sums, frames = np.zeros(config.num_mels), 0
    for row in rows[:: max(1, math.ceil(total / seconds))]:
        audio = store.waveform(row)
        size = bucket_size(config.num_frames(len(audio)), _LONGEST) * config.hop_length
        padded = np.pad(audio, (0, size - len(audio)))
        sums += np.asarray(_sum_of_frames(padded, jnp.asarray(len(audio)), config), np.float64)
        frames += config.num_frames(len(audio))
    if not frames:
        raise DataError(
            f"All recordings of {store.corpus.root} are shorter than {config.min_samples} samples; they should be "
            "longer, so that their mel spectrograms can be computed."
        )
    return np.maximum(sums / frames, 1e-3).astype(np.float32)


@ft.partial(jax.jit, static_argnames="config")
def _sum_of_frames(
    audio: Float[Array, " samples"], length: Int[Array, ""], config: PowerMelConfig
) -> Float[Array, " mels"]:
    mel = normalized_log_mel(audio, jnp.ones(config.num_mels), config, length=length)
    valid = jnp.arange(mel.shape[0]) < length // config.hop_length + 1
    return jnp.sum(jnp.where(valid[:, None], jnp.abs(mel), 0.0), 0)

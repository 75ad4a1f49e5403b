"""The statistics of a corpus: measured, and applied to mel spectrograms and durations."""

from dataclasses import replace

import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Float32, Float64, Int64

from jaxvoice.data.aligned import measure_statistics
from jaxvoice.data.store import Store
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.errors import ConfigError
from jaxvoice.models.gaussian_tts.config import GaussianTTSConfig, Statistics


def config_for_corpus(config: GaussianTTSConfig, store: Store) -> GaussianTTSConfig:
    """`config` with the phonemes and the mel contract of `store`, normalising by the statistics measured in it.

    Give it the part of the corpus that is trained on. Generated mels are clipped one above the loudest value there.
    """
    found, phone_set = measure_statistics(store), store.corpus.phone_set
    assert phone_set is not None and store.mel is not None
    statistics = Statistics(
        mel_mean=found.mel_mean,
        mel_std=found.mel_std,
        mel_max=max(float(mel.max()) for mel in store["mel"]) + 1,
        duration_mean=found.duration_mean,
        duration_std=found.duration_std,
    )
    return replace(
        config,
        codes=phone_set.codes,
        phone_set=phone_set.name,
        mel=store.mel,
        peak_normalize=store.peak_normalize,
        statistics=statistics,
    )


def normalised_mel(mel: Float[Array, "batch mels frames"], statistics: Statistics) -> Float[Array, "batch frames mels"]:
    """Mel spectrograms as the acoustic model makes them: mean 0, deviation 1 over the corpus, channels last."""
    return ((mel - statistics.mel_mean) / statistics.mel_std).swapaxes(1, 2)


def to_mel(
    normalised: Float[np.ndarray, "frames mels"], statistics: Statistics, contract: MelConfig
) -> Float32[np.ndarray, "mels frames"]:
    """The mel spectrogram under `contract` that the acoustic model's output stands for, within what mels can be."""
    mel = np.asarray(normalised, np.float32).T * np.float32(statistics.mel_std) + np.float32(statistics.mel_mean)
    return np.clip(mel, contract.floor, statistics.mel_max).astype(np.float32)


def to_normalised(durations: Float[Array, "*batch"], statistics: Statistics) -> Float32[Array, "*batch"]:
    """`(ln(1 + d) - mean) / std` of durations in frames: the targets of the duration model."""
    return (jnp.log1p(durations.astype(jnp.float32)) - statistics.duration_mean) / statistics.duration_std


def from_normalised(
    normalised: Float[np.ndarray, "*batch"], statistics: Statistics, *, speed: float = 1.0
) -> Float64[np.ndarray, "*batch"]:
    """Durations in frames at `speed` times the usual speed; neither rounded nor clipped to 1; undefined in padding.

    Durations that overflow float64 are `inf`.

    **Raises:** `ConfigError` if `speed` is not positive.
    """
    if not speed > 0:
        raise ConfigError(f"speed should be positive, 1 for the usual and 2 for twice as fast, got {speed}.")
    logs = np.asarray(normalised, np.float64) * statistics.duration_std + statistics.duration_mean
    with np.errstate(over="ignore"):
        return np.expm1(logs) * (statistics.duration_scale / speed)


def whole_frames(frames: Float[np.ndarray, "*batch"]) -> Int64[np.ndarray, "*batch"]:
    """Durations rounded to whole frames and clipped to the range from 1 to 2**31."""
    return np.clip(np.rint(frames), 1, 2**31).astype(np.int64)

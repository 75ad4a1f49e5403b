"""The statistics of a corpus, and normalisation of mel spectrograms and durations with them."""

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
    """`config` with the phonemes, the mel contract and the measured statistics of `store`.

    `store` should contain the training utterances. Predicted log-mels are clipped at 1 above their largest value.
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


def normalise_mel(mel: Float[Array, "batch mels frames"], statistics: Statistics) -> Float[Array, "batch frames mels"]:
    """Normalise mel spectrograms to mean 0 and standard deviation 1 over the corpus, with the channels last.

    This is the format of the acoustic model's output.
    """
    return ((mel - statistics.mel_mean) / statistics.mel_std).swapaxes(1, 2)


def denormalise_mel(
    normalised: Float[np.ndarray, "frames mels"], statistics: Statistics, contract: MelConfig
) -> Float32[np.ndarray, "mels frames"]:
    """Convert the acoustic model's normalised output to a mel spectrogram under `contract`.

    The result is clipped to the range from `contract.floor` to `statistics.mel_max`.
    """
    mel = np.asarray(normalised, np.float32).T * np.float32(statistics.mel_std) + np.float32(statistics.mel_mean)
    return np.clip(mel, contract.floor, statistics.mel_max).astype(np.float32)


def normalise_durations(durations: Float[Array, "*batch"], statistics: Statistics) -> Float32[Array, "*batch"]:
    """The targets of the duration model: `(ln(1 + d) - mean) / std` for durations `d` in frames."""
    return (jnp.log1p(durations.astype(jnp.float32)) - statistics.duration_mean) / statistics.duration_std


def denormalise_durations(
    normalised: Float[np.ndarray, "*batch"], statistics: Statistics, *, speed: float = 1.0
) -> Float64[np.ndarray, "*batch"]:
    """Convert the duration model's output to durations in frames, divided by `speed`.

    The durations are neither rounded nor clipped to 1, and undefined in padding. Durations that overflow float64 are
    `inf`.

    **Raises:** `ConfigError` if `speed` is not positive.
    """
    if not speed > 0:
        raise ConfigError(f"speed is {speed}; it should be positive. 1 is the normal speed, and 2 is twice as fast.")
    logs = np.asarray(normalised, np.float64) * statistics.duration_std + statistics.duration_mean
    with np.errstate(over="ignore"):
        return np.expm1(logs) * (statistics.duration_scale / speed)


def round_durations(frames: Float[np.ndarray, "*batch"]) -> Int64[np.ndarray, "*batch"]:
    """Durations rounded to whole frames and clipped to the range from 1 to 2**31."""
    return np.clip(np.rint(frames), 1, 2**31).astype(np.int64)

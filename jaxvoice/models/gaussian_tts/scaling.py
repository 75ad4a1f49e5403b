"""Between mel spectrograms of the contract and the numbers that networks make."""

import numpy as np
from jaxtyping import Array, Float, Float32

from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.models.gaussian_tts.config import Statistics


def normalised_mel(mel: Float[Array, "batch mels frames"], statistics: Statistics) -> Float[Array, "batch frames mels"]:
    """Mel spectrograms as the acoustic model makes them: mean 0, deviation 1 over the corpus, channels last."""
    return ((mel - statistics.mel_mean) / statistics.mel_std).swapaxes(1, 2)


def to_mel(
    normalised: Float[np.ndarray, "frames mels"], statistics: Statistics, contract: MelConfig
) -> Float32[np.ndarray, "mels frames"]:
    """The mel spectrogram under `contract` that the acoustic model's output stands for, within what mels can be."""
    mel = np.asarray(normalised, np.float32).T * np.float32(statistics.mel_std) + np.float32(statistics.mel_mean)
    return np.clip(mel, contract.floor, statistics.mel_max).astype(np.float32)

"""Mel spectrograms of whole utterances, with few compiled programs."""

import dataclasses

import numpy as np
from jaxtyping import Float, Float32

from jaxvoice.dsp.mel import log_mel
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.errors import AudioError

_SMALLEST = 64


def utterance_mel(audio: Float[np.ndarray, " samples"], config: MelConfig) -> Float32[np.ndarray, "mels frames"]:
    """What `log_mel` gives for `audio` (samples,) at `config.sample_rate`, compiled once per length of 64, 96, 128,
    192, ... frames instead of once per utterance.

    **Raises:** `AudioError` if `audio` is shorter than `config.min_samples`.
    """
    if len(audio) < config.min_samples:
        raise AudioError(
            f"{len(audio)} samples at {config.sample_rate} Hz are too short for a mel frame, which needs "
            f"{config.min_samples}."
        )
    audio, frames = np.asarray(audio, np.float32), config.num_frames(len(audio))
    if config.preemphasis:  # before the reflection, as `log_mel` has it
        audio = audio - np.float32(config.preemphasis) * np.pad(audio[:-1], (1, 0))
        config = dataclasses.replace(config, preemphasis=0.0)
    # With the reflection at the end made here, what is appended behind it changes no frame that is kept.
    audio = np.pad(audio, (0, config.pad), mode="reflect")
    audio = np.pad(audio, (0, _rounded_up(-(-len(audio) // config.hop_length)) * config.hop_length - len(audio)))
    return np.ascontiguousarray(np.asarray(log_mel(audio, config))[:, :frames])


def _rounded_up(hops: int) -> int:
    size = _SMALLEST
    while size < hops:
        size = size * 3 // 2 if size & (size - 1) == 0 else size * 4 // 3
    return size

"""Silence in recordings, found in their mel spectrograms."""

import numpy as np
from jaxtyping import Bool, Float, Int64

from jaxvoice.dsp.dtw import natural_log_mel
from jaxvoice.dsp.mel_config import MelConfig


def silent_frames(mel: Float[np.ndarray, "mels frames"], config: MelConfig) -> Bool[np.ndarray, " frames"]:
    """Which frames of a recording are silent, for a mel spectrogram that follows `config`.

    The threshold is a quarter of the way from the quietest to the loudest frames in decibels, limited to 25 to 60 dB
    below the loudest.
    """
    level = 20 * np.log10(np.exp(natural_log_mel(mel, config)).mean(axis=0))
    low, high = np.percentile(level, [2, 95])
    return level < np.clip(low + 0.25 * (high - low), high - 60, high - 25)


def true_runs(flags: Bool[np.ndarray, " frames"]) -> Int64[np.ndarray, "runs 2"]:
    """The runs of frames at which `flags` are true: the first frame of each, and the frame after its last."""
    steps = np.diff(np.concatenate([[0], flags.astype(np.int8), [0]]))
    return np.stack([np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)], axis=1).astype(np.int64)


def outer_silence(silent: Bool[np.ndarray, " frames"]) -> tuple[int, int]:
    """Number of silent frames before the first frame with sound and after the last one; 0 and 0 if all are silent."""
    loud = np.flatnonzero(~silent)
    return (int(loud[0]), len(silent) - 1 - int(loud[-1])) if loud.size else (0, 0)

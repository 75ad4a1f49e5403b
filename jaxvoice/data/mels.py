"""Mel spectrograms given as files, for fine-tuning on what an acoustic model predicts."""

from pathlib import Path

import numpy as np
from jaxtyping import Float32

from jaxvoice.data.npy import read_npy
from jaxvoice.errors import MelError


def read_mel(path: str | Path, num_mels: int | None = None) -> Float32[np.ndarray, "mels frames"]:
    """Read a `.npy` mel spectrogram of shape (mels, frames) or (1, mels, frames), as HiFi-GAN's fine-tuning takes it.

    **Raises:** `MelError` if the file is missing, damaged or no array, has another shape or other than `num_mels`
    bands, no frames, or NaN or infinity.
    """
    path = Path(path)
    try:
        mel = read_npy(path)
    except (OSError, ValueError) as failure:
        raise MelError(f"{path} is missing or is not a .npy array ({failure}); save it with numpy.save.") from failure
    if not np.issubdtype(mel.dtype, np.floating):
        raise MelError(f"{path} does not hold one array of floating point numbers; save it with numpy.save.")
    if mel.ndim == 3 and mel.shape[0] == 1:
        mel = mel[0]
    if mel.ndim != 2 or (num_mels is not None and mel.shape[0] != num_mels):
        bands = "mels" if num_mels is None else num_mels
        raise MelError(
            f"{path} has shape {mel.shape}; expected ({bands}, frames) or (1, {bands}, frames). Transpose it if needed."
        )
    if mel.shape[1] == 0:
        raise MelError(f"{path} has no frames; make it again.")
    if not np.isfinite(mel).all():
        raise MelError(f"{path} holds NaN or infinity; make it again.")
    return np.ascontiguousarray(mel, dtype=np.float32)

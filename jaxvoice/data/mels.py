"""Mel spectrograms given as files, for fine-tuning on what an acoustic model predicts."""

from pathlib import Path

import numpy as np
from jaxtyping import Float32

from jaxvoice.data.npy import read_npy
from jaxvoice.errors import MelError


def read_mel(path: str | Path, num_mels: int | None = None) -> Float32[np.ndarray, "mels frames"]:
    """Read a `.npy` mel spectrogram of shape (mels, frames) or (1, mels, frames), as HiFi-GAN's fine-tuning takes it.

    Floats of 16, 32 or 64 bits come out as float32; bfloat16 is not among them, since `.npy` files cannot name it.

    **Raises:** `MelError` if the file is missing, damaged or no array, has another shape or other than `num_mels`
    bands, no frames, or NaN or infinity.
    """
    path = Path(path)
    try:
        mel = read_npy(path)
    except (OSError, ValueError) as failure:
        raise MelError(
            f"{path} is missing or is not a .npy array ({failure}); save it as float32 with numpy.save."
        ) from failure
    if not np.issubdtype(mel.dtype, np.floating):
        raise MelError(f"{path} does not hold one array of floating point numbers; save it with numpy.save.")
    if mel.ndim == 3 and mel.shape[0] == 1:
        mel = mel[0]
    _check_bands(path, mel.shape, num_mels)
    if mel.shape[1] == 0:
        raise MelError(f"{path} has no frames; make it again.")
    if not np.isfinite(mel).all():
        raise MelError(f"{path} holds NaN or infinity; make it again.")
    return np.ascontiguousarray(mel, dtype=np.float32)


def _check_bands(path: Path, shape: tuple[int, ...], num_mels: int | None) -> None:
    bands = "mels" if num_mels is None else num_mels
    if len(shape) != 2:
        raise MelError(f"{path} has shape {shape}; expected ({bands}, frames) or (1, {bands}, frames).")
    if num_mels in (None, shape[0]):
        return
    if shape[1] == num_mels:
        raise MelError(f"{path} is transposed: its shape is {shape}, expected ({bands}, frames); save its transpose.")
    raise MelError(
        f"{path} has {shape[0]} bands (shape {shape}), expected {bands}; compute it with num_mels={bands}, or use a "
        "model with as many bands."
    )

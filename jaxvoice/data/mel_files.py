"""Reading of mel spectrograms and other arrays from `.npy` and `.pt` files, with checks for damage."""

import math
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float32

from jaxvoice.errors import CheckpointError, MelError

TORCH_SUFFIXES = (".pt", ".pth")


def read_mel(path: str | Path, num_mels: int | None = None) -> Float32[np.ndarray, "mels frames"]:
    """Read a mel spectrogram of shape `(mels, frames)` or `(1, mels, frames)` from a `.npy` or `.pt` file as float32.

    A `.npy` file contains floats of 16, 32 or 64 bits. Files of both shapes are used by HiFi-GAN's fine-tuning. A file
    of `torch.save` contains one tensor of floats, which may be in a list or dictionary; no code of the file is run.

    **Raises:** `MelError` if the file is missing, damaged or not an array, has another shape or another number of bands
    than `num_mels`, has no frames, or contains NaN or infinity.
    """
    path = Path(path)
    mel = _read_torch(path) if path.suffix.lower() in TORCH_SUFFIXES else _read_numpy(path)
    if not np.issubdtype(mel.dtype, np.floating):
        raise MelError(f"{path} contains {mel.dtype} numbers; it should contain floats. Save the mel as float32.")
    if mel.ndim == 3 and mel.shape[0] == 1:
        mel = mel[0]
    _check_bands(path, mel.shape, num_mels)
    if mel.shape[1] == 0:
        raise MelError(f"{path} has no frames; compute it again.")
    if not np.isfinite(mel).all():
        raise MelError(f"{path} contains NaN or infinity; compute it again.")
    return np.ascontiguousarray(mel, dtype=np.float32)


def _read_numpy(path: Path) -> np.ndarray:
    try:
        return read_npy(path)
    except (OSError, ValueError) as failure:
        raise MelError(
            f"{path} is missing or is not a .npy array ({failure}); save it as float32 with numpy.save."
        ) from failure


def _read_torch(path: Path) -> np.ndarray:
    """The only tensor in a file of `torch.save`; bfloat16 becomes float32."""
    from jaxvoice.weights.formats.opening import open_archive

    try:
        tensors = open_archive(path).tensors
        names = list(tensors)
        if len(names) != 1:
            shown = ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")
            raise MelError(
                f"{path} contains {len(names)} tensors ({shown or 'none'}); it should contain one, the mel spectrogram."
            )
        mel = tensors[names[0]]
    except CheckpointError as failure:
        raise MelError(f"{failure} Save the mel spectrogram as float32 with numpy.save.") from failure
    return mel.astype(np.float32) if mel.dtype.name == "bfloat16" else mel


def _check_bands(path: Path, shape: tuple[int, ...], num_mels: int | None) -> None:
    bands = "mels" if num_mels is None else num_mels
    if len(shape) != 2:
        raise MelError(f"{path} has shape {shape}; it should be ({bands}, frames) or (1, {bands}, frames).")
    if num_mels in (None, shape[0]):
        return
    if shape[1] == num_mels:
        raise MelError(
            f"{path} has shape {shape}; it should be ({bands}, frames). It is transposed; save its transpose."
        )
    raise MelError(
        f"{path} has {shape[0]} bands (shape {shape}); it should have {bands}. Compute it with num_mels={bands}, or "
        f"use a model with {shape[0]} bands."
    )


def read_npy(path: Path) -> np.ndarray:
    """Read the array of integers or floating point numbers in a `.npy` file, of any shape.

    The header is compared with the size of the file before memory is allocated.

    **Raises:** `OSError` if the file cannot be opened; `ValueError`, with the reason, if it is not a `.npy` file, is
    damaged or truncated, does not contain real numbers, or does not fit into memory.
    """
    with path.open("rb") as file:
        try:
            shape, dtype = _header(file)
        except OSError:
            raise
        except Exception as failure:  # numpy reads the header as a Python literal, which fails in many ways
            raise ValueError(f"its header is not that of a .npy file: {failure}") from failure
        if dtype.kind not in "fiu":
            raise ValueError(f"it contains {dtype}, not real numbers")
        present, promised = path.stat().st_size - file.tell(), math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or present < promised:
            raise ValueError(f"it is truncated: shape {shape} needs {promised} bytes, and {present} are present")
        file.seek(0)
        try:
            return np.lib.format.read_array(file, allow_pickle=False)
        except MemoryError as failure:
            raise ValueError(f"its {promised} bytes do not fit into memory") from failure


def _header(file: BinaryIO) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype

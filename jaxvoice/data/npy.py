"""Single arrays in `.npy` files that may be damaged."""

import math
from pathlib import Path
from typing import BinaryIO

import numpy as np


def read_npy(path: Path) -> np.ndarray:
    """Read the array of integers or floating point numbers in a `.npy` file, of any shape.

    Its header is compared with the size of the file before memory is taken.

    **Raises:** `OSError` if the file cannot be opened; `ValueError`, with the reason, if it is no `.npy` file, is
    damaged or truncated, does not hold real numbers, or does not fit into memory.
    """
    with path.open("rb") as file:
        try:
            shape, dtype = _header(file)
        except OSError:
            raise
        except Exception as failure:  # numpy reads the header as a Python literal, which fails in many ways
            raise ValueError(f"its header is not that of a .npy file: {failure}") from failure
        if dtype.kind not in "fiu":
            raise ValueError(f"it holds {dtype}, not real numbers")
        present, promised = path.stat().st_size - file.tell(), math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or present < promised:
            raise ValueError(f"it is truncated: shape {shape} needs {promised} bytes, {present} are there")
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

"""Safetensors files written tensor by tensor, read by the format's own library."""

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from jaxvoice.errors import CheckpointError
from jaxvoice.weights.safetensors_writing import write_safetensors

ARRAYS = {
    "z": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "empty": np.zeros((0, 3), np.float32),
    "scalar": np.float64(0.1)[...],
    "half": np.linspace(0, 1, 5).astype(np.float16),
    "brain": np.linspace(0, 1, 5).astype(ml_dtypes.bfloat16),
    "number": np.array([2**40], np.int64),
    'ä 世 \\ "': np.array([True, False]),
    "big": np.arange(3, dtype=">i4"),
}


def specs(arrays):
    return {name: (array.shape, array.dtype) for name, array in arrays.items()}


def test_every_type_and_layout_is_read_back(tmp_path):
    path = tmp_path / "x.safetensors"
    write_safetensors(path, specs(ARRAYS), ARRAYS.items(), {"about": "ä"})
    read = load_file(path)
    assert list(read) and read.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert read[name].shape == array.shape
        assert read[name].dtype == array.dtype.newbyteorder("=") if array.dtype.kind in "if" else True
        np.testing.assert_array_equal(read[name], array)
    with safe_open(path, "numpy") as file:
        assert file.metadata() == {"about": "ä"}


def test_what_was_not_announced_is_refused(tmp_path):
    one = {"a": np.zeros(3, np.float32)}
    for other in ({"b": one["a"]}, {"a": np.zeros(4, np.float32)}, {"a": np.zeros(3)}):
        with pytest.raises(ValueError, match="expected a"):
            write_safetensors(tmp_path / "x", specs(one), other.items())
    with pytest.raises(ValueError, match="zip"):
        write_safetensors(tmp_path / "x", specs(one), [])
    strange = {"a": np.zeros(3, np.complex64)}
    with pytest.raises(CheckpointError, match="complex64"):
        write_safetensors(tmp_path / "x", specs(strange), strange.items())
    strange = {"\ud800": np.zeros(3, np.float32)}
    with pytest.raises(CheckpointError, match="cannot be a name"):
        write_safetensors(tmp_path / "x", specs(strange), strange.items())
    assert not list(tmp_path.iterdir())

"""Writing and reading of model folders."""

import hashlib
import json

import numpy as np
import pytest

from jaxvoice.errors import CheckpointError
from jaxvoice.weights import read_model_folder, write_model_folder
from jaxvoice.weights.model_folder import weights_sha256


def test_model_folder_round_trip(tmp_path):
    arrays = {"a.b": np.arange(6, dtype=np.float32).reshape(2, 3).T, "n": np.array([2**40], np.int64)}
    write_model_folder(tmp_path / "m", family="toy", config={"width": 3}, arrays=arrays, info={"licence": "MIT"})
    config, read = read_model_folder(tmp_path / "m", family="toy")
    assert config == {"width": 3} and read.keys() == arrays.keys()
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)
    about = json.loads((tmp_path / "m" / "config.json").read_text(encoding="utf-8"))
    assert about["info"] == {"licence": "MIT"} and about["family"] == "toy"
    weights = (tmp_path / "m" / "model.safetensors").read_bytes()
    assert about["sha256"] == hashlib.sha256(weights).hexdigest() == weights_sha256(tmp_path / "m")
    assert {path.name for path in (tmp_path / "m").iterdir()} == {"config.json", "model.safetensors"}


def test_truncated_weights_raise_an_error(tmp_path):
    write_model_folder(tmp_path, family="toy", config={}, arrays={"w": np.ones(50, np.float32)})
    file = tmp_path / "model.safetensors"
    whole = file.read_bytes()
    for length in range(0, len(whole), 7):
        file.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="damaged or cut short"):
            read_model_folder(tmp_path, family="toy")


def test_unwritable_folders_raise_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot be written"):
        write_model_folder(tmp_path / "file", family="toy", config={}, arrays={})

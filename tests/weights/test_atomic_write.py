"""Files that appear whole or not at all, and write over nothing but what they are to replace."""

import os
import sys

import numpy as np
import pytest

from jaxvoice.errors import CheckpointError
from jaxvoice.weights import write_model_folder
from jaxvoice.weights.atomic_write import atomic_write
from jaxvoice.weights.safetensors_writing import write_safetensors
from jaxvoice.weights.torch_writing import write_torch

ARRAY = np.ones(3, np.float32)
WRITERS = {
    "torch": lambda path: write_torch(path, {"a": ARRAY}),
    "safetensors": lambda path: write_safetensors(path, {"a": (ARRAY.shape, ARRAY.dtype)}, [("a", ARRAY)]),
    "folder": lambda path: write_model_folder(path.parent, family="toy", config={}, arrays={"a": ARRAY}),
}


@pytest.mark.skipif(sys.platform == "win32", reason="links take rights on Windows")
@pytest.mark.parametrize("how", WRITERS)
@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_links_that_lie_in_wait_are_left_alone(tmp_path, how, name):
    victim, path = tmp_path / "victim", tmp_path / "to" / name
    victim.write_text("precious")
    path.parent.mkdir()
    (path.parent / f"{name}.part").symlink_to(victim)
    path.symlink_to(victim)
    WRITERS[how](path)
    assert victim.read_text() == "precious" and (path.parent / f"{name}.part").is_symlink()
    assert not path.is_symlink() and path.stat().st_size > 0
    assert len(list(path.parent.iterdir())) == (3 if how == "folder" else 2)


def test_whoever_writes_first_is_whole_and_failures_leave_nothing(tmp_path):
    path = tmp_path / ("x" * 250)
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="half"), atomic_write(path) as file:
        file.write(b"ne")
        raise RuntimeError("half way")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
    with atomic_write(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(CheckpointError, match="cannot be written"), atomic_write(tmp_path / "none" / "x"):
        pass


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_others_may_read_what_the_mask_allows(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "x") as file:
            file.write(b"1")
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("place", [os.devnull, "folder"])
def test_folders_and_devices_are_not_replaced(tmp_path, place):
    (tmp_path / "folder").mkdir()
    before = os.stat(tmp_path / place).st_mode
    with pytest.raises(CheckpointError, match="a folder or a device"), atomic_write(tmp_path / place):
        pass
    assert os.stat(tmp_path / place).st_mode == before

"""Files that are written atomically, and files that safetensors and torch read back."""

import os
import sys
import zipfile

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file

from jaxvoice.errors import CheckpointError
from jaxvoice.weights import write_model_folder
from jaxvoice.weights.file_writing import atomic_write, write_safetensors, write_torch

ARRAY = np.ones(3, np.float32)
WRITERS = {
    "torch": lambda path: write_torch(path, {"a": ARRAY}),
    "safetensors": lambda path: write_safetensors(path, {"a": (ARRAY.shape, ARRAY.dtype)}, [("a", ARRAY)]),
    "folder": lambda path: write_model_folder(path.parent, family="toy", config={}, arrays={"a": ARRAY}),
}


@pytest.mark.skipif(sys.platform == "win32", reason="links take rights on Windows")
@pytest.mark.parametrize("how", WRITERS)
@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_writers_do_not_follow_links(tmp_path, how, name):
    victim, path = tmp_path / "victim", tmp_path / "to" / name
    victim.write_text("precious")
    path.parent.mkdir()
    (path.parent / f"{name}.part").symlink_to(victim)
    path.symlink_to(victim)
    WRITERS[how](path)
    assert victim.read_text() == "precious" and (path.parent / f"{name}.part").is_symlink()
    assert not path.is_symlink() and path.stat().st_size > 0
    assert len(list(path.parent.iterdir())) == (3 if how == "folder" else 2)


def test_failed_writes_keep_the_old_file(tmp_path):
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
def test_written_files_have_the_permissions_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "x") as file:
            file.write(b"1")
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("place", [os.devnull, "folder"])
def test_atomic_write_refuses_folders_and_devices(tmp_path, place):
    (tmp_path / "folder").mkdir()
    before = os.stat(tmp_path / place).st_mode
    with pytest.raises(CheckpointError, match="a folder or a device"), atomic_write(tmp_path / place):
        pass
    assert os.stat(tmp_path / place).st_mode == before


# safetensors

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


def test_safetensors_reads_every_written_dtype_and_layout(tmp_path):
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


def test_write_safetensors_refuses_tensors_that_differ_from_the_specs(tmp_path):
    one = {"a": np.zeros(3, np.float32)}
    for other in ({"b": one["a"]}, {"a": np.zeros(4, np.float32)}, {"a": np.zeros(3)}):
        with pytest.raises(ValueError, match="it should be a "):
            write_safetensors(tmp_path / "x", specs(one), other.items())
    with pytest.raises(ValueError, match="zip"):
        write_safetensors(tmp_path / "x", specs(one), [])
    strange = {"a": np.zeros(3, np.complex64)}
    with pytest.raises(CheckpointError, match="complex64"):
        write_safetensors(tmp_path / "x", specs(strange), strange.items())
    strange = {"\ud800": np.zeros(3, np.float32)}
    with pytest.raises(CheckpointError, match="invalid name"):
        write_safetensors(tmp_path / "x", specs(strange), strange.items())
    assert not list(tmp_path.iterdir())


# torch

DTYPES = [
    "float32",
    "float64",
    "float16",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint8",
    "bool",
    "complex64",
    "complex128",
]


def as_numpy(tensor: torch.Tensor) -> np.ndarray:
    if tensor.dtype is torch.bfloat16:
        return tensor.view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def assert_same(read, written):
    assert isinstance(read, torch.Tensor) == isinstance(written, np.ndarray)
    if isinstance(written, np.ndarray):
        found = as_numpy(read)
        assert found.dtype == written.dtype.newbyteorder("=") and found.shape == written.shape
        assert found.tobytes() == written.astype(found.dtype).tobytes()
        assert read.is_contiguous()
    elif isinstance(written, dict):
        assert list(read) == list(written)
        for key, value in written.items():
            assert_same(read[key], value)
    elif isinstance(written, list | tuple):
        assert type(read) is type(written) and len(read) == len(written)
        for a, b in zip(read, written, strict=True):
            assert_same(a, b)
    else:
        assert read == written and type(read) is type(written)


@pytest.mark.parametrize("weights_only", [True, False])
def test_torch_reads_written_values(tmp_path, weights_only):
    random = np.random.default_rng(0)
    arrays = {}
    for name in DTYPES:
        for shape in [(), (0,), (3,), (2, 3), (4, 1, 5), (2, 0, 3), (1, 2, 3, 4, 5)]:
            arrays[f"{name}.{shape}"] = np.asarray(100 * random.standard_normal(shape)).astype(name)
    arrays["bfloat16"] = random.standard_normal((5, 7)).astype(ml_dtypes.bfloat16)
    arrays["view"] = random.standard_normal((6, 8)).astype(np.float32).T[::2, 1:]
    arrays["big-endian"] = np.arange(5, dtype=">f4")
    content = {
        "model": arrays,
        "steps": 2_500_000,
        "numbers": [0, -1, 255, 256, 2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 2**63, -(2**70), 0.1, -1e300],
        "text": "Grüße\n",
        7: (True, False, None, [], {}, ()),
    }
    path = tmp_path / "model.pt"
    write_torch(path, content)
    assert_same(torch.load(path, weights_only=weights_only), content)
    assert_same(torch.load(path, weights_only=True, mmap=True), content)
    assert [file.name for file in tmp_path.iterdir()] == ["model.pt"]


def test_tensors_of_one_array_share_memory(tmp_path):
    array = np.arange(6, dtype=np.float32)
    write_torch(tmp_path / "tied.pt", {"a": array, "b": array, "c": array.copy()})
    read = torch.load(tmp_path / "tied.pt", weights_only=True)
    read["a"][0] = 7
    assert read["b"][0] == 7 and read["c"][0] == 0


def test_torch_files_are_aligned_and_deterministic(tmp_path):
    content = {str(i): np.arange(i, dtype=np.float32) for i in range(1, 40)}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_torch(tmp_path / name / "g_00000001", content)
    data = (tmp_path / "one" / "g_00000001").read_bytes()
    assert data == (tmp_path / "two" / "g_00000001").read_bytes()
    with zipfile.ZipFile(tmp_path / "one" / "g_00000001") as archive:
        for info in archive.infolist():
            name, extra = (
                int.from_bytes(data[info.header_offset + at : info.header_offset + at + 2], "little") for at in (26, 28)
            )
            assert (info.header_offset + 30 + name + extra) % 64 == 0
            assert info.compress_type == zipfile.ZIP_STORED


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": np.zeros(3, np.uint32)}, "dtype of an array is uint32"),
        ({"a": np.array(["text"])}, "dtype of an array is <U4"),
        ({"a": object()}, "the value is <object"),
        ({"a": 1 << 3000}, "3001 bits"),
    ],
)
def test_write_torch_refuses_unsupported_values(tmp_path, content, message):
    with pytest.raises(CheckpointError, match=message):
        write_torch(tmp_path / "x.pt", content)
    assert not list(tmp_path.iterdir())


def test_write_torch_refuses_cycles_and_missing_folders(tmp_path):
    content = {}
    content["self"] = [content]
    with pytest.raises(CheckpointError, match="contains itself"):
        write_torch(tmp_path / "x.pt", content)
    with pytest.raises(CheckpointError, match="cannot be written"):
        write_torch(tmp_path / "missing" / "x.pt", {})

"""Files written without torch, read by torch."""

import zipfile

import ml_dtypes
import numpy as np
import pytest
import torch

from jaxvoice.errors import CheckpointError
from jaxvoice.weights.torch_writing import write_torch

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
def test_torch_reads_what_was_written(tmp_path, weights_only):
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


def test_one_array_at_two_places_shares_memory(tmp_path):
    array = np.arange(6, dtype=np.float32)
    write_torch(tmp_path / "tied.pt", {"a": array, "b": array, "c": array.copy()})
    read = torch.load(tmp_path / "tied.pt", weights_only=True)
    read["a"][0] = 7
    assert read["b"][0] == 7 and read["c"][0] == 0


def test_blocks_are_stored_aligned_and_bytes_depend_on_the_content_alone(tmp_path):
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
    ("content", "said"),
    [
        ({"a": np.zeros(3, np.uint32)}, "no storage for arrays of uint32"),
        ({"a": np.array(["text"])}, "no storage for arrays of <U4"),
        ({"a": object()}, "does not support <object"),
        ({"a": 1 << 3000}, "3001 bits"),
    ],
)
def test_what_has_no_place_in_the_format(tmp_path, content, said):
    with pytest.raises(CheckpointError, match=said):
        write_torch(tmp_path / "x.pt", content)
    assert not list(tmp_path.iterdir())


def test_cycles_and_places_that_cannot_be_written(tmp_path):
    content = {}
    content["self"] = [content]
    with pytest.raises(CheckpointError, match="contains itself"):
        write_torch(tmp_path / "x.pt", content)
    with pytest.raises(CheckpointError, match="cannot be written"):
        write_torch(tmp_path / "missing" / "x.pt", {})

"""Mel spectrograms in files, and the errors for damaged files."""

import io
import zipfile

import numpy as np
import pytest

from jaxvoice.data import read_mel
from jaxvoice.data.mel_files import read_npy
from jaxvoice.errors import MelError


def npy(array, version=None) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=version)
    return file.getvalue()


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("mel.npy", npy(np.zeros((80, 9), np.float32)))
    return file.getvalue()


def promising(shape) -> bytes:
    file = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + bytes(64)


MEL = np.random.default_rng(0).normal(size=(80, 9)).astype(np.float32)


@pytest.mark.parametrize(
    "array", [MEL, MEL[None], np.asfortranarray(MEL), MEL.astype(">f4"), MEL.astype(np.float64)], ids=str
)
@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_read_mel_reads_every_form(tmp_path, array, version):
    (tmp_path / "mel.npy").write_bytes(npy(array, version))
    found = read_mel(tmp_path / "mel.npy", 80)
    assert found.dtype == np.float32 and found.flags.c_contiguous
    np.testing.assert_array_equal(found, MEL)


def test_half_precision_is_read_as_float32(tmp_path):
    np.save(tmp_path / "mel.npy", MEL.astype(np.float16))
    found = read_mel(tmp_path / "mel.npy", 80)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, MEL.astype(np.float16))


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((128, 9), r"has 128 bands .*should have 80. Compute it with num_mels=80"),
        ((9, 80), r"shape \(9, 80\); it should be \(80, frames\).*transposed"),
        ((2, 80, 9), r"shape \(2, 80, 9\).*\(1, 80, frames\)"),
        ((80,), r"shape \(80,\)"),
    ],
)
def test_read_mel_raises_for_wrong_shapes(tmp_path, shape, said):
    np.save(tmp_path / "mel.npy", np.zeros(shape, np.float32))
    with pytest.raises(MelError, match=rf"mel\.npy .*{said}"):
        read_mel(tmp_path / "mel.npy", 80)


DAMAGED = {
    "zip": (zipped(), "not that of a .npy file"),
    "head of a zip": (b"PK\x03\x04" + bytes(64), "not that of a .npy file"),
    "empty": (b"", "not that of a .npy file"),
    "header cut off": (npy(MEL)[:40], "not that of a .npy file"),
    "header that is no literal": (npy(MEL).replace(b"'shape': (", b"'shape': (((("), "not that of a .npy file"),
    "last byte missing": (npy(MEL)[:-1], "needs 2880 bytes, and 2879 are present"),
    "huge": (promising((80, 10**13)), "is truncated"),
    "beyond 64 bits": (promising((2**40, 2**40)), "is truncated"),
    "negative": (promising((80, -3)), "is truncated"),
    "text": (npy(np.array(["one", "two"])), "not real numbers"),
    "complex": (npy(MEL + 1j), "not real numbers"),
    "bfloat16": (npy(MEL.astype(np.float16).view("V2")), "save it as float32"),
    "integers": (npy(MEL.astype(np.int16)), "contains int16 numbers; it should contain floats"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_errors_for_damaged_files_state_the_reason(tmp_path, name):
    content, said = DAMAGED[name]
    path = tmp_path / "mel.npy"
    path.write_bytes(content)
    with pytest.raises(MelError, match=r"mel\.npy") as failure:
        read_mel(path)
    assert said in str(failure.value)


def test_objects_are_never_unpickled(tmp_path):
    np.save(tmp_path / "mel.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="contains object"):
        read_npy(tmp_path / "mel.npy")


def test_error_for_too_little_memory_states_the_reason(tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise MemoryError

    np.save(tmp_path / "mel.npy", MEL)
    monkeypatch.setattr(np.lib.format, "read_array", fail)
    with pytest.raises(MelError, match="2880 bytes do not fit into memory"):
        read_mel(tmp_path / "mel.npy")

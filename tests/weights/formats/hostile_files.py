"""Intentionally damaged files of legacy torch, tar, safetensors, npz and unknown formats."""

import struct
import tarfile
from collections.abc import Callable

from tests.weights.formats.cases import EVIL, MARKER, add
from tests.weights.formats.forge import (
    FLOATS,
    SOUND_HEADER,
    SOUND_NPY,
    entry_field,
    gzipped,
    many,
    nemo,
    npy,
    number,
    patched,
    safetensors,
    storage,
    tarred,
    tensor,
    text,
    torch_legacy,
    torch_zip,
    whole,
    zipped,
)

# Legacy files

add(
    "legacy: another version",
    lambda: torch_legacy().replace(number(1001) + b".", number(1002) + b".", 1),
    "version 1002",
)
add("legacy: more storages listed", lambda: torch_legacy(keys=["0", "1"]), "are different")
add("legacy: fewer storages listed", lambda: torch_legacy(keys=[]), "are different")
add("legacy: a storage listed twice", lambda: torch_legacy(keys=["0", "0"]), "list of storages")
add(
    "legacy: storages listed as text",
    lambda: torch_legacy().replace(b"](" + text("0") + b"e", text("0000000"), 1),
    "list of stor",
)
add(
    "legacy: another number of elements",
    lambda: torch_legacy().replace(struct.pack("<q", 6), struct.pack("<q", 2)),
    "6 or 2 elements",
)
add("legacy: elements missing", lambda: torch_legacy()[:-1], "in the middle of the storage")
add("legacy: elements too many", lambda: torch_legacy() + b"1", "after its last storage")
add("legacy: 2**40 elements", lambda: torch_legacy(tensor(block=storage("0", 2**40))), "in the middle of the storage")
add("legacy: a negative number of elements", lambda: torch_legacy(tensor(block=storage("0", -1))), "out of range")
add(
    "legacy: a part outside",
    lambda: torch_legacy(tensor(block=storage("0", 6, "torch.FloatStorage", many([text("v"), number(4), number(3)])))),
    "reaches outside",
)
add(
    "legacy: a tensor beyond its part",
    lambda: torch_legacy(tensor(block=storage("0", 6, "torch.FloatStorage", many([text("v"), number(3), number(3)])))),
    "past the end",
)

# Tar files


def _tar_field(offset: int, new: bytes) -> bytes:
    raw = nemo()
    header = raw[:512]
    header = header[:offset] + new + header[offset + len(new) :]
    header = header[:148] + b" " * 8 + header[156:]
    return header[:148] + b"%06o\0 " % sum(header) + header[156:] + raw[512:]


add("tar: a link", lambda: tarred([("./model_weights.ckpt", b"")], kind=tarfile.SYMTYPE), "link or a device")
add("tar: a hard link", lambda: tarred([("./model_weights.ckpt", b"")], kind=tarfile.LNKTYPE), "link or a device")
add("tar: a device", lambda: tarred([("./model_weights.ckpt", b"")], kind=tarfile.CHRTYPE), "link or a device")
add("tar: an absolute name", lambda: tarred([("/etc/passwd", b"x")]), "relative paths")
add("tar: a name with ..", lambda: tarred([("../evil", b"x")]), "relative paths")
add("tar: a name twice", lambda: tarred([("./a", b"x"), ("a", b"y")]), "two members")
add("tar: no weights", lambda: tarred([("./model_config.yaml", b"x")]), "without model_weights.ckpt")
add("tar: weights elsewhere", lambda: tarred([("evil/model_weights.ckpt", torch_zip())]), "without model_weights.ckpt")
add("tar: weights of another kind", lambda: nemo(b"hello"), "not a file of a known format")
add("tar: torch 0.1", lambda: tarred([("storages", b"x"), ("tensors", b"x"), ("pickle", b"x")]), "before 0.2")
add("tar: a size beyond the file", lambda: _tar_field(124, b"77777777777\0"), "more than the file")
add("tar: a size of 2**80", lambda: _tar_field(124, b"\x80" + b"\x01" * 11), "more than the file")
add("tar: a negative size", lambda: _tar_field(124, b"\xff" * 12), "a number of the tar file")
add("tar: another checksum", lambda: nemo().replace(b"ustar", b"ustaR", 2).replace(b"ustaR", b"ustar", 1), "checksum")
add("tar: thousands of members", lambda: tarred([(f"{index}", b"") for index in range(10_100)]), "members")
add(
    "tar: a huge extended header",
    lambda: _pax(b"a" * 100_000),
    "header of",
)
add("tar: an extended header of nonsense", lambda: _pax(b"99999 path=x\n"), "cannot be parsed")
add("tar: an extended header without end", lambda: _pax(b"0 path=x\n" * 100), "cannot be parsed")
add(
    "tar: a configuration that is not text",
    lambda: tarred([("model_config.yaml", b"\xff\xfe\x00"), ("model_weights.ckpt", torch_zip())]),
    "not text",
)
add("tar: a name that is not text", lambda: _tar_field(0, b"\xff\xfe"), "not UTF-8")
add("gzip: a bomb", lambda: gzipped(bytes(64 * 2**20)), "unpacks to more than")
add("gzip: something else", lambda: gzipped(b"hello" * 1000), "not a tar file")
add("gzip: cut", lambda: nemo(zip_it=True)[:-20], "missing|cannot be unpacked")
add("gzip: damaged", lambda: patched(nemo(zip_it=True), b"\x1f\x8b", 200, b"\xff" * 20), "cannot be unpacked|missing")


def _pax(block: bytes) -> bytes:
    info = tarfile.TarInfo("pax")
    info.type, info.size = b"x", len(block)
    header = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    return bytes(header) + block + bytes(-len(block) % 512) + nemo()


# safetensors


def _safe(title: str, make: Callable[[], bytes], says: str) -> None:
    add(f"safetensors: {title}", make, says)


_safe("a header of 2**39 bytes", lambda: struct.pack("<Q", 2**39) + SOUND_HEADER, "its header should have")
_safe("a header of 20 MB", lambda: safetensors(SOUND_HEADER + b" " * 20_000_000), "header has")
_safe("no JSON", lambda: safetensors(b'{"weight'), "not a valid")
_safe("JSON in JSON", lambda: safetensors(b'{"a":' * 200_000), "not a valid")
_safe("a name twice", lambda: safetensors(SOUND_HEADER[:-1] + b"," + SOUND_HEADER[1:]), "not a valid")
_safe(
    "bytes that are shared",
    lambda: safetensors(SOUND_HEADER[:-1] + b"," + SOUND_HEADER[1:].replace(b"weight", b"w")),
    "not a valid",
)
_safe("bytes beyond the file", lambda: safetensors(SOUND_HEADER.replace(b"24", b"48")), "not a valid")
_safe("bytes that no tensor has", lambda: safetensors(SOUND_HEADER, FLOATS + b"x"), "not a valid")
_safe("bytes missing", lambda: safetensors(SOUND_HEADER, FLOATS[:-1]), "not a valid")
_safe("another shape", lambda: safetensors(SOUND_HEADER.replace(b"[2,3]", b"[2,4]")), "not a valid")
_safe("a negative shape", lambda: safetensors(SOUND_HEADER.replace(b"[2,3]", b"[-2,-3]")), "not a valid")
_safe(
    "a shape that overflows",
    lambda: safetensors(SOUND_HEADER.replace(b"[2,3]", b"[4611686018427387904,16]")),
    "not a valid",
)
_safe("an unknown type", lambda: safetensors(SOUND_HEADER.replace(b"F32", b"F99")), "not a valid")
_safe(
    "many axes",
    lambda: safetensors(SOUND_HEADER.replace(b"[2,3]", b"[2,3" + b",1" * 40 + b"]")),
    "the shape|too large",
)
_safe(
    "large empty shapes",
    lambda: safetensors(b'{"w":{"dtype":"F32","shape":[0,1099511627776,1024],"data_offsets":[0,0]}}', b""),
    "too large",
)
_safe("a deep name", lambda: safetensors(SOUND_HEADER.replace(b"weight", b"a." * 5000)), "too deep")

# npz


def _npz(title: str, make: Callable[[], bytes], says: str) -> None:
    add(f"npz: {title}", lambda: zipped({"weight.npy": make()}), says)


_npz("objects", lambda: npy(SOUND_NPY.replace("<f4", "|O"), whole(EVIL)), "objects")
_npz("fields", lambda: npy(SOUND_NPY.replace("'<f4'", "[('a', '<f4')]")), "structured dtype")
_npz("text", lambda: npy(SOUND_NPY.replace("<f4", "<U1")), "only numbers.*Save the array in another file")
_npz("code in the header", lambda: npy(f"{{'descr': open({MARKER!r}, 'w')}}"), "cannot be parsed")
_npz("brackets in the header", lambda: npy("(" * 3000), "cannot be parsed")
_npz("powers in the header", lambda: npy("{'descr': 9**9**9**9}"), "cannot be parsed")
_npz("a header of 60 KB", lambda: npy(SOUND_NPY + " " * 60_000), "longer than")
_npz("a header cut short", lambda: npy(SOUND_NPY)[:40], "cut short|cannot be")
_npz("no header", lambda: b"hello", "not an array")
_npz("another version", lambda: b"\x93NUMPY\x09\x00" + npy(SOUND_NPY)[8:], "not an array")
_npz("a huge shape", lambda: npy(SOUND_NPY.replace("(2, 3)", "(2, 1152921504606846976)")), "too large|has")
for _title, _old, _new in (
    ("a negative shape", "(2, 3)", "(-2, -3)"),
    ("a shape of fractions", "(2, 3)", "(2.0, 3)"),
    ("an unfinished escape", "}", "'x': '\\d'}"),
    ("a field twice", "'fortran_order': False", "'descr': '<f8'"),
    ("another field", "'shape'", "'form'"),
):
    _npz(_title, lambda old=_old, new=_new: npy(SOUND_NPY.replace(old, new)), "cannot be parsed")
for _header in ("{[]: 1}", "{{}}", "-" * 4000 + "1", f"{{'a': {'9' * 400} + 1j}}", "{" + "'descr': 'f4', " * 250 + "}"):
    _npz(f"a header {_header[:20]}", lambda header=_header: npy(header), "cannot be parsed")
_npz("a size of 3900 digits", lambda: npy(SOUND_NPY.replace("2", "9" * 3900)), "cannot be parsed")
_npz("a size of 20 digits", lambda: npy(SOUND_NPY.replace("2", "9" * 20)), "too large")
add(
    "npz: 61,000 arrays",
    lambda: zipped({f"{i}.npy": b"" for i in range(61_000)}),
    "at most 60000 are read",
    costly=True,
)
add(
    "a zip file of 101,000 entries",
    lambda: zipped({f"{i}": b"" for i in range(101_000)}),
    "at most 100000",
    costly=True,
)
_npz("forty axes", lambda: npy(SOUND_NPY.replace("(2, 3)", f"(2, 3{', 1' * 40})")), "the shape|too large")
_npz("elements missing", lambda: npy(SOUND_NPY)[:-1], "has 23 bytes")
add("npz: an entry that unpacks to a gigabyte", lambda: _npz_bomb(), "would unpack")
add("npz: elements that cannot be unpacked", lambda: _npz_damaged(), "cannot be unpacked|another size", read=True)


def _npz_bomb() -> bytes:
    shape = SOUND_NPY.replace("(2, 3)", "(268435456,)")
    return entry_field(
        zipped({"weight.npy": npy(shape, bytes(2**20))}, packed=True), "weight.npy", 24, struct.pack("<I", 2**30 + 80)
    )


def _npz_damaged() -> bytes:
    values = bytes(range(256)) * 40
    raw = zipped({"weight.npy": npy(SOUND_NPY.replace("(2, 3)", f"({len(values) // 4},)"), values)}, packed=True)
    end = raw.index(b"PK\x01\x02")
    return raw[: end - 30] + bytes(byte ^ 0x5A for byte in raw[end - 30 : end]) + raw[end:]


# Files without weights

add("an empty file", lambda: b"", "is empty")
add("one byte", lambda: b"P", "not a file of a known format")
add("noise", lambda: bytes((i * 197 + 13) % 251 for i in range(5000)), "not a file of a known format")
add("a web page", lambda: b"<!DOCTYPE html><html></html>", "a web page")
add("a git-lfs pointer", lambda: b"version https://git-lfs.github.com/spec/v1\n", "git-lfs")
add("HDF5", lambda: b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5")
add("a single numpy array", lambda: npy(SOUND_NPY), "single numpy array")
add("a plain pickle", lambda: whole(b"}"), "torch did not write")

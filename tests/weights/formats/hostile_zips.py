"""Intentionally damaged zip files and torch files."""

import struct

from tests.weights.formats.cases import add
from tests.weights.formats.forge import (
    CODE,
    FLOATS,
    entry_field,
    many,
    patched,
    script,
    tensor,
    torch_zip,
    whole,
    zipped,
)

_PAIR = [("archive/data.pkl", whole(b"}")), ("archive/data/0", FLOATS)]
_ZIP = "archive/data/0"


def _zip_twice() -> bytes:
    return zipped([*_PAIR, ("archive/data/1", FLOATS)]).replace(b"archive/data/1", b"archive/data/0")


add("two entries of one name", _zip_twice, "two entries called")
add("two data.pkl", lambda: zipped([*_PAIR, ("other/data.pkl", whole(b"}"))]), "2 entries called data.pkl")
for _entry in (
    "/etc/passwd",
    "../evil",
    "archive/../../evil",
    "C:/evil",
    "archive\\data\\1",
    "archive/./data",
    "archive//data",
    "a\x00b",
    "a\nb",
):
    add(
        f"entry called {_entry!r}",
        lambda entry=_entry: zipped([*_PAIR, ("q" * len(entry), b"")]).replace(b"q" * len(entry), entry.encode()),
        "relative paths",
    )
add("an encrypted entry", lambda: entry_field(torch_zip(), _ZIP, 8, b"\x01\x00"), "encrypted")
for _method in (12, 14, 93, 99):
    add(
        f"an entry packed by method {_method}",
        lambda m=_method: entry_field(torch_zip(), _ZIP, 10, bytes([m, 0])),
        "with method",
    )
add("an entry of two sizes", lambda: entry_field(torch_zip(), _ZIP, 24, struct.pack("<I", 2000)), "two sizes")
add(
    "an entry larger than the file",
    lambda: entry_field(torch_zip(), _ZIP, 20, struct.pack("<II", 2**31, 2**31)),
    "not at the offset",
)
add("an entry elsewhere", lambda: entry_field(torch_zip(), _ZIP, 42, struct.pack("<I", 3)), "not at the offset")
add("an entry after the end", lambda: entry_field(torch_zip(), _ZIP, 42, struct.pack("<I", 2**31)), "not at the offset")
add(
    "an entry of another local name",
    lambda: patched(torch_zip(), b"archive/data/0", 0, b"archive/data/9"),
    "not at the offset",
)
add("entries that share bytes", lambda: _overlapping(), "overlap")
add("a zip file of many entries", lambda: patched(torch_zip(), b"PK\x05\x06", 8, b"\xfe\xff\xfe\xff"), "entries")
add(
    "a zip file of fewer entries",
    lambda: patched(torch_zip(), b"PK\x05\x06", 8, b"\x01\x00\x01\x00"),
    "exactly 1 entries",
)
add(
    "a table of contents elsewhere",
    lambda: patched(torch_zip(), b"PK\x05\x06", 16, struct.pack("<I", 1)),
    "not at its offset",
)
add(
    "a comment that is missing",
    lambda: patched(torch_zip(), b"PK\x05\x06", 20, b"\xff\x00"),
    "does not match the file",
)
add("bytes after the zip file", lambda: torch_zip() + b"PK", "does not match the file")
add("bytes before the zip file", lambda: b"PK\x03\x04" + torch_zip(), "not at its offset")
add("zip64 sizes that are missing", lambda: entry_field(torch_zip(), _ZIP, 20, b"\xff" * 8), "sizes of its entry")
add("a zip64 end record elsewhere", lambda: _zip64(2**63, 1), "zip64 end record")
add("two ends that differ", lambda: _zip64(None, 2**40), "contradict")
add("an empty zip file", lambda: zipped([]), "an empty zip file")
add("a zip file of something else", lambda: zipped({"readme.txt": b"hello"}), "without data.pkl")
add("a model for mobile devices", lambda: zipped({"a/bytecode.pkl": whole(b")")}), "mobile devices")
add("FlatBuffers", lambda: b"\x10\x00\x00\x00PTMF" + bytes(100), "mobile devices")
add("bytes after data.pkl", lambda: zipped({"a/data.pkl": whole(b"}") + b"}."}), "after its end")
add("data.pkl without end", lambda: zipped({"a/data.pkl": b"\x80\x02}"}), "ends too early")
add("data.pkl of nothing", lambda: zipped({"a/data.pkl": b""}), "ends too early")
add("data.pkl of two values", lambda: torch_zip(b"NN"), "one value")
add("a storage that unpacks to a gigabyte", lambda: _zip_bomb("archive/data/0"), "would unpack")
add("a pickle that unpacks to a gigabyte", lambda: _zip_bomb("archive/data.pkl"), "would unpack")
add("an entry that unpacks to more than it says", lambda: _packed_lie(), "declared size")
add(
    "an entry that cannot be unpacked",
    lambda: entry_field(torch_zip(), "archive/data.pkl", 10, b"\x08\x00", local=True),
    "cannot be unpacked",
)
add("an unknown order of bytes", lambda: torch_zip(**{"archive/byteorder": b"middle"}), "byte order")


def _overlapping() -> bytes:
    """The directory puts the last entry inside the previous entry, which contains a header with its name."""
    inner = zipped([("a/data/1", FLOATS)])
    inner = inner[: inner.index(b"PK\x01\x02")]
    raw = zipped([("a/data.pkl", whole(b"}")), ("a/data/0", inner), ("a/data/1", FLOATS)])
    return entry_field(raw, "a/data/1", 42, struct.pack("<I", raw.index(inner)))


def _zip64(end: int | None, count: int) -> bytes:
    raw = torch_zip()
    at = raw.index(b"PK\x05\x06")
    fields = struct.unpack_from("<4sHHHHIIH", raw, at)
    second = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, fields[5], fields[6])
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, at if end is None else end, 1)
    return raw[:at] + second + locator + raw[at:]


def _zip_bomb(entry: str) -> bytes:
    raw = zipped([*(pair for pair in _PAIR if pair[0] != entry), (entry, bytes(2**20))], packed=True)
    return entry_field(raw, entry, 24, struct.pack("<I", 2**30))


def _packed_lie() -> bytes:
    raw = zipped([("a/data.pkl", whole(b"](" + b"N" * 3000 + b"e"))], packed=True)
    return entry_field(raw, "a/data.pkl", 24, struct.pack("<I", 2000))


# TorchScript

add("a script that is a list", lambda: script(b"]"), "not a module")
add("a script whose constants are a list", lambda: script(constants=b"]"), "constants.pkl is")
add(
    "a script of too much code",
    lambda: script(code=CODE, **{f"code/{i}.py": b"a = 1\n" * 1_400_000 for i in range(6)}),
    "bytes of code",
)
add(
    "a script whose constants overflow",
    lambda: script(constants=many([tensor(shape=(7,), stride=(1,))])),
    "past the end",
)

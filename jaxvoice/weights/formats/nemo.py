"""NeMo files: a tar file, optionally gzipped, with a configuration and a torch file. Members are read without a copy.

Source of the tar format: POSIX.1-2017, `pax`; GNU tar's long names.
"""

import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from jaxvoice.errors import CheckpointError, RefusedError
from jaxvoice.weights.archive import Source
from jaxvoice.weights.formats import limits
from jaxvoice.weights.formats.error_messages import DAMAGED, error_prefix, safe_text
from jaxvoice.weights.formats.limits import Budget
from jaxvoice.weights.formats.mapped_file import Bytes, FileSlice, Mapped
from jaxvoice.weights.formats.pickle_archives import PickleArchive

_CONFIG, _WEIGHTS = "model_config.yaml", "model_weights.ckpt"

OpenTorch = Callable[[Bytes, Path, Callable[[], None], Sequence[str], Budget], PickleArchive]


def open_nemo(
    members: Mapping[str, FileSlice],
    path: Path,
    close: Callable[[], None],
    inert: Sequence[str],
    budget: Budget,
    open_torch: OpenTorch,
) -> PickleArchive:
    """Read a NeMo file. `open_torch` opens the torch file in it.

    `metadata["model_config.yaml"]` is the text of the configuration.

    **Raises:** `CheckpointError` if the file is not a NeMo file, or is damaged.
    """
    if {"storages", "tensors", "pickle"} <= members.keys():
        raise CheckpointError("it was written by torch before 0.2 (2017); load it with torch < 2 and save it again.")
    if _WEIGHTS not in members:
        raise CheckpointError(
            f"it is a tar file without {_WEIGHTS}, so it is not a NeMo file (it contains {_some(members)}); if it "
            "contains a weight file, extract that file and use it."
        )
    with error_prefix(_WEIGHTS):
        archive = open_torch(members[_WEIGHTS], path, close, inert, budget)
    details = {"weights": archive.source.format, **archive.source.details}
    archive.source = Source(path, "NeMo", details)
    beside = {"weights": archive.metadata} if archive.metadata else {}
    archive.metadata = {_CONFIG: _config(members), **beside}
    return archive


def _config(members: Mapping[str, FileSlice]) -> str:
    block = members[_CONFIG].view if _CONFIG in members else memoryview(b"")
    if len(block) > limits.NEMO_CONFIG:
        raise RefusedError(f"its {_CONFIG} has {len(block)} bytes; at most {limits.NEMO_CONFIG} are read.")
    try:
        return str(block, "utf-8")
    except UnicodeDecodeError as failure:
        raise CheckpointError(f"its {_CONFIG} is not text; {DAMAGED}.") from failure


def _some(members: Mapping[str, FileSlice]) -> str:
    return ", ".join(safe_text(name) for name in list(members)[:5]) or "nothing"


# Tar files

_BLOCK = 512
_CHUNK = 2**18


def is_tar(data: memoryview) -> bool:
    """Whether `data` starts with the header of a tar member."""
    return len(data) >= _BLOCK and bytes(data[257:262]) == b"ustar"


def tar_members(file: Bytes) -> dict[str, FileSlice]:
    """The files in a tar file by name, without a leading `./`.

    **Raises:** `CheckpointError` if the tar file is damaged; `RefusedError` for links, devices and ambiguous names.
    """
    members: dict[str, FileSlice] = {}
    for name, start, stop in _members(file.view):
        name = name.removeprefix("./")
        if name.startswith("/") or ".." in name.split("/") or not name.isprintable():
            raise RefusedError(f"it has a member called {safe_text(name)}; names must be relative paths without '..'.")
        if name in members:
            raise RefusedError(f"it has two members called {safe_text(name)}; it is ambiguous which one to read.")
        members[name] = FileSlice(file, start, stop)
    return members


def _members(data: memoryview) -> Iterator[tuple[str, int, int]]:
    position, given, count = 0, {}, 0
    while True:
        header = bytes(data[position : position + _BLOCK])
        if len(header) < _BLOCK:
            raise CheckpointError(f"the end of the tar file is missing; {DAMAGED}.")
        if not any(header):
            return
        kind, name, size = _header(header)
        if "size" in given and given["size"].isascii() and given["size"].isdigit() and len(given["size"]) < 20:
            size = int(given["size"])
        position += _BLOCK
        if size > len(data) - position:
            raise CheckpointError(f"its member {safe_text(name)} has {size} bytes, more than the file; {DAMAGED}.")
        start, stop = position, position + size
        position += -(-size // _BLOCK) * _BLOCK
        count += 1
        if count > limits.MEMBERS:
            raise RefusedError(f"it has more than {limits.MEMBERS} members; NeMo files have a few.")
        if kind in b"xgL":
            if size > limits.TAR_HEADER:
                raise RefusedError(f"it has a header of {size} bytes; at most {limits.TAR_HEADER} are read.")
            block = bytes(data[start:stop])
            given |= {"path": _text(block.rstrip(b"\0"))} if kind == b"L" else _records(block)
            continue
        if kind in (b"0", b"\0", b"7"):
            yield given.get("path", name), start, stop
        elif kind != b"5":
            raise RefusedError(f"its member {safe_text(name)} is a link or a device; only files are read.")
        given = {}


def _header(header: bytes) -> tuple[bytes, str, int]:
    """Kind, name and size of a member."""
    total = sum(header) - sum(header[148:156]) + 8 * ord(" ")
    if _number(header[148:156]) != total:
        raise CheckpointError(f"a header of the tar file does not match its checksum; {DAMAGED}.")
    name, prefix = (_text(part.split(b"\0")[0]) for part in (header[:100], header[345:500]))
    posix = header[257:263] == b"ustar\0"
    return header[156:157], f"{prefix}/{name}" if prefix and posix else name, _number(header[124:136])


def _number(field: bytes) -> int:
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    if not all(digit in b"01234567" for digit in digits):
        raise CheckpointError(f"a number of the tar file is {safe_text(field)}; {DAMAGED}.")
    return int(digits or b"0", 8)


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as failure:
        raise CheckpointError(f"a name in the tar file is not UTF-8; {DAMAGED}.") from failure


def _records(block: bytes) -> dict[str, str]:
    """The records `<length> <key>=<value>` of an extended header."""
    records = {}
    while block.strip(b"\0"):
        length, _, rest = block.partition(b" ")
        if not length.isdigit() or len(length) > 6 or not len(length) + 3 <= int(length) <= len(block):
            raise CheckpointError(f"an extended header of the tar file cannot be parsed; {DAMAGED}.")
        key, _, value = rest[: int(length) - len(length) - 2].partition(b"=")
        if key in (b"path", b"size"):
            records[_text(key)] = _text(value)
        block = block[int(length) :]
    return records


def gunzipped(data: memoryview) -> Mapped:
    """Unpack a gzipped file to a temporary file and map it.

    **Raises:** `RefusedError` if it is too large.
    """
    unpacking = zlib.decompressobj(31)
    with tempfile.TemporaryFile() as file:
        taken = written = 0
        while not unpacking.eof:
            piece = unpacking.unconsumed_tail or data[taken : taken + _CHUNK]
            if not len(piece):
                raise CheckpointError(f"the end of the gzipped file is missing; {DAMAGED}.")
            taken += 0 if unpacking.unconsumed_tail else len(piece)
            try:
                out = unpacking.decompress(piece, _CHUNK)
            except zlib.error as failure:
                raise CheckpointError(f"the file cannot be unpacked ({failure}); {DAMAGED}.") from failure
            written += file.write(out)
            if written > limits.GZIP_RATIO * taken + limits.GZIP_SLACK:
                raise RefusedError(
                    f"it unpacks to more than {limits.GZIP_RATIO} times its size, which is unusual for weights; if you "
                    "trust the file, unpack it with gunzip first."
                )
        return Mapped(file)

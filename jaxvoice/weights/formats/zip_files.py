"""Reading of zip files. Uncompressed entries are read without a copy.

This reader is stricter than usual zip readers: the two headers of each entry must agree, and entries must not overlap.
Only `verify` reads all entries and their checksums. Source of the format: PKWARE's APPNOTE, 4.3.
"""

import codecs
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from jaxvoice.errors import CheckpointError, RefusedError
from jaxvoice.weights.formats import limits
from jaxvoice.weights.formats.error_messages import DAMAGED, safe_text
from jaxvoice.weights.formats.limits import Budget
from jaxvoice.weights.formats.mapped_file import Bytes

_END, _LOCATOR, _END64, _ENTRY, _LOCAL = (
    struct.Struct(f"<4s{fields}") for fields in ("HHHHIIH", "IQI", "QHHIIQQQQ", "HHHHHHIIIHHHHHII", "HHHHHIIIHH")
)
_WORK, _MEMORY = 40, 450
_PART = 2**24
_OLD_NAME = codecs.getdecoder("cp437")
_FULL2, _FULL4 = 0xFFFF, 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a zip file."""

    name: str
    """Path in the zip file, with forward slashes."""
    start: int
    """Offset of its data."""
    packed: int
    """Compressed size in bytes."""
    size: int
    """Uncompressed size in bytes."""
    deflated: bool
    """Whether it is compressed."""
    checksum: int
    """CRC-32 of the uncompressed data according to the directory."""


class Zip:
    """The entries of a zip file.

    **Raises:** `CheckpointError` if the file is invalid.
    """

    def __init__(self, file: Bytes, budget: Budget):
        self._file, data, self._budget = file, file.view, budget
        self.entries: dict[str, Entry] = {}
        position, count, start = _directory(data)
        end = position
        position = start
        spans: list[tuple[int, int]] = []
        for _ in range(count):
            entry, begin, position = _entry(data, position, end, start)
            budget.charge("its directory", work=_WORK, memory=_MEMORY + 6 * len(entry.name))
            if entry.name.endswith("/") and not entry.size:
                continue
            if entry.name in self.entries:
                raise RefusedError(
                    f"it has two entries called {safe_text(entry.name)}; it is ambiguous which one to read."
                )
            self.entries[entry.name] = entry
            spans.append((begin, entry.start + entry.packed))
        if position != end:
            raise CheckpointError(f"its directory does not contain exactly {count} entries; {DAMAGED}.")
        spans.sort()
        for (_, stop), (begin, _) in pairwise(spans):
            if begin < stop:
                raise RefusedError("two of its entries overlap; save the file again.")
        budget.memory += 128 * len(spans)

    @property
    def comment(self) -> bytes:
        """The comment at the end of the file; usually empty."""
        tail = bytes(self._file.view[-(_END.size + _FULL2) :])
        return tail[tail.rfind(b"PK\x05\x06") + _END.size :]

    def __contains__(self, name: str) -> bool:
        return name in self.entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def size(self, name: str) -> int:
        """Uncompressed size of the entry in bytes.

        **Raises:** `CheckpointError` if there is no such entry.
        """
        return self._entry(name).size

    def open(self, name: str, limit: int | None = None) -> memoryview:
        """The data of the entry, at most `limit` bytes: a view of the file, or a copy if the entry is compressed."""
        entry = self._entry(name)
        if limit is not None and entry.size > limit:
            raise RefusedError(f"its entry {safe_text(name)} has {entry.size} bytes; at most {limit} are read.")
        block = self._file.view[entry.start : entry.start + entry.packed]
        return memoryview(_inflated(block, entry)).toreadonly() if entry.deflated else block

    def unpacked(self, name: str) -> int:
        """Charge the memory of an entry if it is compressed.

        **Returns:** the number of bytes charged.
        """
        entry = self._entry(name)
        if not entry.deflated:
            return 0
        self._budget.charge(f"its entry {safe_text(name)}", work=entry.size // 512, memory=entry.size)
        return entry.size

    def verify(self, release: Callable[[], None] = lambda: None) -> None:
        """Compare the data of all entries with their checksums. `release` is called after each part of the file.

        A file without any checksum is not verified: `torch.serialization.set_crc32_options(False)` writes such files.

        **Raises:** `CheckpointError` for the first entry that does not match.
        """
        if not any(entry.checksum for entry in self.entries.values()):
            return
        for entry in self.entries.values():
            found = size = 0
            for part in self._parts(entry):
                found, size = zlib.crc32(part, found), size + len(part)
                release()
            if (found, size) != (entry.checksum, entry.size):
                raise CheckpointError(
                    f"its entry {safe_text(entry.name)} has the checksum {found:08x}; it should be "
                    f"{entry.checksum:08x}, so {DAMAGED}."
                )

    def _parts(self, entry: Entry) -> Iterator[bytes | memoryview]:
        """The uncompressed data of an entry, in parts of bounded size."""
        block = self._file.view[entry.start : entry.start + entry.packed]
        if not entry.deflated:
            yield from (block[start : start + _PART] for start in range(0, len(block), _PART))
            return
        unpacking, taken, size = zlib.decompressobj(-15), 0, 0
        try:
            while not unpacking.eof and size <= entry.size:
                packed = unpacking.unconsumed_tail or block[taken : taken + _PART]
                taken += 0 if unpacking.unconsumed_tail else len(packed)
                part = unpacking.decompress(packed, _PART)
                if not part and not len(packed):
                    return
                size += len(part)
                yield part
        except zlib.error as failure:
            raise CheckpointError(
                f"its entry {safe_text(entry.name)} cannot be unpacked ({failure}); {DAMAGED}."
            ) from failure

    def text(self, name: str, limit: int) -> str:
        """The entry as text, at most `limit` bytes."""
        try:
            return str(self.open(name, limit), "utf-8")
        except UnicodeDecodeError as failure:
            raise CheckpointError(f"its entry {safe_text(name)} is not text; {DAMAGED}.") from failure

    def start(self, name: str, count: int) -> bytes:
        """The first `count` bytes of the entry, or all if it has fewer."""
        entry = self._entry(name)
        block = self._file.view[entry.start : entry.start + entry.packed]
        if not entry.deflated:
            return bytes(block[:count])
        try:
            return zlib.decompressobj(-15).decompress(block, count)
        except zlib.error as failure:
            raise CheckpointError(
                f"its entry {safe_text(name)} cannot be unpacked ({failure}); {DAMAGED}."
            ) from failure

    def _entry(self, name: str) -> Entry:
        if name not in self.entries:
            raise CheckpointError(f"it has no entry {safe_text(name)}, to which others refer; {DAMAGED}.")
        return self.entries[name]


def _directory(data: memoryview) -> tuple[int, int, int]:
    """End, number of entries, and start of the directory."""
    tail = bytes(data[-(_END.size + _FULL2) :])
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END.size:
        raise CheckpointError(f"the end of the zip file is missing; {DAMAGED}.")
    _, disk, first, here, count, size, start, comment = _END.unpack_from(tail, at)
    end = len(data) - len(tail) + at
    if len(tail) - at - _END.size != comment or disk != first or here != count:
        raise CheckpointError(f"the end record of the zip file does not match the file; {DAMAGED}.")
    locator = end - _LOCATOR.size
    if locator >= 0 and bytes(data[locator : locator + 4]) == b"PK\x06\x07":
        _, _, end, _ = _LOCATOR.unpack_from(data, locator)
        if end + _END64.size > locator or bytes(data[end : end + 4]) != b"PK\x06\x06":
            raise CheckpointError(f"the zip64 end record of the zip file is not at its offset; {DAMAGED}.")
        _, length, _, _, _, _, here64, count64, size64, start64 = _END64.unpack_from(data, end)
        small = ((count, count64, _FULL2), (size, size64, _FULL4), (start, start64, _FULL4))
        if end + 12 + length != locator or here64 != count64 or any(a not in (b, full) for a, b, full in small):
            raise CheckpointError(f"the two end records of the zip file contradict each other; {DAMAGED}.")
        count, size, start = count64, size64, start64
    if start + size != end:
        raise CheckpointError(f"the directory of the zip file is not at its offset; {DAMAGED}.")
    if count > limits.ENTRIES or count * _ENTRY.size > size:
        raise RefusedError(
            f"it claims {count} entries in a directory of {size} bytes; at most {limits.ENTRIES} are read."
        )
    return end, count, start


def _entry(data: memoryview, position: int, end: int, limit: int) -> tuple[Entry, int, int]:
    """The entry described at `position`, the offset of its local header, and the next position."""
    if position + _ENTRY.size > end or bytes(data[position : position + 4]) != b"PK\x01\x02":
        raise CheckpointError(f"the directory of the zip file ends too early; {DAMAGED}.")
    fields = _ENTRY.unpack_from(data, position)
    flags, method, checksum, packed, size = (fields[i] for i in (3, 4, 7, 8, 9))
    name_size, extra_size, comment_size = fields[10:13]
    begin = fields[16]
    names = position + _ENTRY.size
    after = names + name_size + extra_size + comment_size
    if after > end:
        raise CheckpointError(f"the directory of the zip file ends too early; {DAMAGED}.")
    raw = bytes(data[names : names + name_size])
    name = _name(raw)
    if _FULL4 in (packed, size, begin):
        wide = _wide(bytes(data[names + name_size : names + name_size + extra_size]), name)
        size = next(wide) if size == _FULL4 else size
        packed = next(wide) if packed == _FULL4 else packed
        begin = next(wide) if begin == _FULL4 else begin
    if flags & 0x41 or method not in (0, 8):
        how = "encrypted" if flags & 0x41 else f"compressed with method {method}"
        raise RefusedError(
            f"its entry {safe_text(name)} is {how}, which is not supported; create the zip file without that."
        )
    if method == 0 and packed != size:
        raise RefusedError(f"its entry {safe_text(name)} is not compressed but has two sizes, {packed} and {size}.")
    if size > limits.RATIO * packed + limits.RATIO_SLACK and not name.endswith(".debug_pkl"):
        raise RefusedError(
            f"its entry {safe_text(name)} would unpack from {packed} to {size} bytes; at most {limits.RATIO} times is "
            "read. Save it without compression."
        )
    start = _start(data, begin, raw, method, packed, limit)
    return Entry(name, start, packed, size, method == 8, checksum), begin, after


def _start(data: memoryview, begin: int, raw: bytes, method: int, packed: int, limit: int) -> int:
    """Offset of the data of an entry, whose local header must agree with the directory."""
    if begin + _LOCAL.size <= limit:
        magic, _, flags, local_method, _, _, _, local_packed, _, name_size, extra_size = _LOCAL.unpack_from(data, begin)
        names = begin + _LOCAL.size
        start = names + name_size + extra_size
        same_size = flags & 8 or local_packed in (packed, _FULL4)
        same_name = bytes(data[names : names + name_size]) == raw
        if magic == b"PK\x03\x04" and same_name and local_method == method and same_size and start + packed <= limit:
            return start
    raise RefusedError(f"its entry {safe_text(raw)} is not at the offset in the directory; {DAMAGED}.")


def _name(raw: bytes) -> str:
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError:
        name = _OLD_NAME(raw)[0]
    parts = name.removesuffix("/").split("/")
    if not name.isprintable() or "\\" in name or ":" in parts[0] or any(part in ("", ".", "..") for part in parts):
        raise RefusedError(f"it has an entry called {safe_text(name)}; names must be relative paths without '..'.")
    return name


def _wide(extra: bytes, name: str) -> Iterator[int]:
    """The 64-bit sizes of an entry, in order.

    **Raises:** `CheckpointError` if there are too few.
    """
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        if kind == 1:
            whole = min(length, len(extra) - 4) // 8
            yield from struct.unpack_from(f"<{whole}Q", extra, 4)
            break
        extra = extra[4 + length :]
    raise CheckpointError(f"the sizes of its entry {safe_text(name)} are missing; {DAMAGED}.")


def _inflated(block: memoryview, entry: Entry) -> bytes:
    unpacking = zlib.decompressobj(-15)
    try:
        out = unpacking.decompress(block, entry.size + 1)
    except zlib.error as failure:
        raise CheckpointError(
            f"its entry {safe_text(entry.name)} cannot be unpacked ({failure}); {DAMAGED}."
        ) from failure
    if len(out) != entry.size or not unpacking.eof:
        raise CheckpointError(f"its entry {safe_text(entry.name)} does not unpack to its declared size; {DAMAGED}.")
    return out

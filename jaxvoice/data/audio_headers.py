"""Headers of audio files: the sizes that WAV, AIFF and OGG files state, WAV files of unknown size, and new headers."""

import io
import os
import struct
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

_LARGEST_PAGE = 27 + 255 + 255 * 255
# A program that writes to a pipe does not know the size of the data, and writes 0 or a large number: the largest number
# of 32 or 31 bits, a round number below it, or that number less the size of the header.
_SLACK = 1 << 16
_STREAMED = 2_000_000_000
_UNKNOWN_SIZE = b"\xff" * 4


class StreamedHeader(NamedTuple):
    """The position of the data of a WAV file whose header states 0 bytes, and its size, up to the end of the file."""

    start: int
    size: int


def wav_header(samples: int | None, sample_rate: int, sample: np.dtype, channels: int = 1) -> bytes | None:
    """The header of a WAV file, up to its samples of type `sample`, which are integers or floats.

    **Arguments:** `samples` of each channel; `None` for a number that is not known yet: the header states the largest
    sizes, and programs read such a file to its end. The result is `None` if the sizes or the bytes per second do not
    fit into 32 bits.
    """
    if samples is None:
        header = wav_header(0, sample_rate, sample, channels)
        return None if header is None else header[:4] + _UNKNOWN_SIZE + header[8:-4] + _UNKNOWN_SIZE
    frame = channels * sample.itemsize
    size = samples * frame
    kind = 3 if sample.kind == "f" else 1
    chunks = b""
    try:
        rates = sample_rate, sample_rate * frame
        form = struct.pack("<HHIIHH", kind, channels, *rates, frame, 8 * sample.itemsize)
        if sample.kind == "f":  # formats other than integers have the size of an extension, and a chunk `fact`
            form += struct.pack("<H", 0)
            chunks = struct.pack("<4sII", b"fact", 4, samples)
        chunks = struct.pack("<4sI", b"fmt ", len(form)) + form + chunks + struct.pack("<4sI", b"data", size)
        return struct.pack("<4sI4s", b"RIFF", 4 + len(chunks) + size, b"WAVE") + chunks
    except struct.error:
        return None


def missing_bytes(path: Path) -> int:
    """The smallest number of bytes that are missing from a WAV, AIFF or OGG file according to its headers.

    It is 0 for other formats.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] == b"RIFF" and head[8:] == b"WAVE":
            return _missing_in_chunks(file, size, "<4sI", b"data")
        if head[:4] == b"FORM" and head[8:] in (b"AIFF", b"AIFC"):
            return _missing_in_chunks(file, size, ">4sI", b"SSND")
        if head[:4] == b"OggS":
            return _missing_in_ogg(file, size)
    return 0


def streamed_header(path: Path) -> StreamedHeader | None:
    """The data of a WAV file whose header states 0 bytes of data although data follows; `None` for other files.

    libsndfile itself reads data to the end of the file if its stated size is too large.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return None
        if _find_chunk(file, "<4sI", b"data") != 0:
            return None
        start = file.tell()
        return None if _are_chunks(file, size) else StreamedHeader(start, size - start)


def is_streamed_size(length: int) -> bool:
    """Whether `length`, the size of the data in a WAV header, is one that is written for data of unknown size."""
    nearly_full = any(top - _SLACK <= length <= top for top in (0x80000000, 0xFFFFFFFF))
    return length in (0, _STREAMED) or nearly_full


class StreamedFile(io.RawIOBase):
    """The WAV file `path`, with the size of its data in the header corrected to that of `header`."""

    def __init__(self, path: Path, header: StreamedHeader):
        super().__init__()
        self._file = path.open("rb")
        sizes = (header.start + header.size - 8, header.size)
        self._changes = {
            place: struct.pack("<I", min(size, 0xFFFFFFFF))
            for place, size in zip((4, header.start - 4), sizes, strict=True)
        }

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes from the position on."""
        start = self._file.tell()
        data = self._file.read(size)
        for place, change in self._changes.items():
            low, high = max(place, start), min(place + 4, start + len(data))
            if low < high:
                data = data[: low - start] + change[low - place : high - place] + data[high - start :]
        return data

    def readinto(self, buffer: Any, /) -> int:
        """Fill `buffer` from the position on; returns the number of bytes."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the position, as `io.IOBase.seek`."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """The position in bytes."""
        return self._file.tell()

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def _find_chunk(file: BinaryIO, layout: str, wanted: bytes) -> int | None:
    """The stated size of the chunk `wanted`, with `file` at its data; `None` if there is no such chunk."""
    while len(header := file.read(8)) == 8:
        name, length = struct.unpack(layout, header)
        if name == wanted:
            return length
        file.seek(length + length % 2, os.SEEK_CUR)
    return None


def _are_chunks(file: BinaryIO, size: int) -> bool:
    """Whether the rest of `file` is nothing, or a sequence of chunks, as after data of zero samples."""
    while len(header := file.read(8)) == 8:
        name, length = struct.unpack("<4sI", header)
        if not (name.isascii() and name.decode().isprintable()) or file.tell() + length > size:
            return False
        file.seek(length + length % 2, os.SEEK_CUR)
    return not header


def _missing_in_chunks(file: BinaryIO, size: int, layout: str, wanted: bytes) -> int:
    length = _find_chunk(file, layout, wanted)
    return 0 if length is None or is_streamed_size(length) else max(0, file.tell() + length - size)


def _missing_in_ogg(file: BinaryIO, size: int) -> int:
    """The last page of an Ogg stream states the lengths of its segments; RFC 3533, section 6."""
    file.seek(max(0, size - _LARGEST_PAGE))
    tail = file.read()
    start = tail.rfind(b"OggS")
    if start < 0:
        return 0
    page = tail[start:]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return 1
    return max(0, 27 + page[26] + sum(page[27 : 27 + page[26]]) - len(page))

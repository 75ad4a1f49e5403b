"""Tell whether an audio file lost its end, where the decoder would read on without a word."""

import os
import struct
from pathlib import Path
from typing import BinaryIO

_UNKNOWN_LENGTH = (0, 0x7FFFFFFF, 0xFFFFFFFF)  # what programs write that stream a WAV without knowing its length
_LARGEST_PAGE = 27 + 255 + 255 * 255


def missing_bytes(path: Path) -> int:
    """How many bytes, at least, a WAV, AIFF or OGG file lacks by its own account; 0 if none, or in other formats."""
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


def _missing_in_chunks(file: BinaryIO, size: int, layout: str, wanted: bytes) -> int:
    while len(header := file.read(8)) == 8:
        name, length = struct.unpack(layout, header)
        if name == wanted:
            return 0 if length in _UNKNOWN_LENGTH else max(0, file.tell() + length - size)
        file.seek(length + length % 2, os.SEEK_CUR)
    return 0


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

"""Sequential reading of the bytes of a pickle. Time and memory are charged to the budget of the file."""

import codecs
import re
import struct
from collections.abc import Callable
from typing import Any

from jaxvoice.errors import CheckpointError, RefusedError
from jaxvoice.weights.formats import limits
from jaxvoice.weights.formats.error_messages import DAMAGED, safe_text
from jaxvoice.weights.formats.limits import Budget

_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|[\\'\"nrt])")
# Python imports a codec on first use, and a file must not cause imports.
_UNESCAPED = codecs.getdecoder("raw-unicode-escape")
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t"}


class Stream:
    """The bytes of a pickle. Reading advances `position`. Memory up to the position `counted` was already charged."""

    def __init__(self, data: memoryview, position: int, what: str, budget: Budget, counted: int):
        self.position, self.what = position, what
        self._data, self._budget, self._counted = data, budget, counted
        self._start = position
        self._pending = 0

    def charge(self, *, work: int = 0, memory: int = 0) -> None:
        """Charge the cost of a value, in addition to its opcode.

        **Raises:** `RefusedError` if the budget is exhausted.
        """
        self._budget.charge(self.what, work=work, memory=memory)

    def settle(self, steps: int) -> None:
        """Charge the costs of `steps` opcodes. Each opcode may have added a reference to a list.

        Memory also costs time, for allocation and garbage collection.
        """
        consumed = max(0, self.position - self._counted)
        self._counted += consumed
        self._budget.steps -= steps
        if self._budget.steps < 0:
            raise RefusedError(f"{self.what} has more than {limits.STEPS:,} steps; no weight file needs so many.")
        self.charge(work=steps + self._pending // 24, memory=8 * steps + self._pending + consumed)
        self._pending = 0
        if self.position - self._start > limits.PICKLE:
            raise RefusedError(f"{self.what} has more than {limits.PICKLE:,} bytes; no weight file needs so many.")

    def damaged(self, what: str) -> CheckpointError:
        """The error for invalid bytes."""
        return CheckpointError(f"{self.what} {what} (before byte {self.position}); {DAMAGED}.")

    def _take(self, count: int) -> memoryview:
        start = self.position
        if count > len(self._data) - start:
            raise self.damaged(f"requires {count} bytes where {max(0, len(self._data) - start)} are left")
        self.position = start + count
        return self._data[start : start + count]

    def _number(self, form: struct.Struct) -> Any:
        (value,) = form.unpack_from(self._data, self.position)
        self.position += form.size
        return value

    def _line(self) -> str:
        piece = bytes(self._data[self.position : self.position + limits.LINE])
        end = piece.find(b"\n")
        if end < 0:
            raise self.damaged(f"has a line of more than {limits.LINE} bytes or without an end")
        self.position += end + 1
        self._pending += 128 + 4 * end
        return self._decoded(piece[:end])

    def _decoded(self, piece: bytes) -> str:
        try:
            return str(piece, "utf-8")
        except UnicodeDecodeError as failure:
            raise self.damaged("contains text that is not UTF-8") from failure

    def _raw(self, form: struct.Struct) -> bytes:
        """Bytes, preceded by their number."""
        count = self._number(form)
        if count < 0:
            raise self.damaged(f"requires {count} bytes")
        piece = self._take(count)
        self._pending += 64 + count
        if count > 256:
            self.charge(work=count // 4096, memory=count)
        return bytes(piece)

    def _text(self, form: struct.Struct) -> str:
        """Text, preceded by its number of bytes.

        With one wide character, all characters take four bytes, and twice this memory while the text is decoded.
        """
        (count,) = form.unpack_from(self._data, self.position)
        start = self.position + form.size
        if count <= 256 and start + count <= len(self._data):  # names
            self.position = start + count
            raw = bytes(self._data[start : start + count])
            self._pending += 64 + (count if raw.isascii() else 6 * count)
            return self._decoded(raw)
        raw = self._raw(form)
        if len(raw) > 256 and not raw.isascii():
            self.charge(work=len(raw) // 1024, memory=6 * len(raw))
        elif not raw.isascii():
            self._pending += 6 * len(raw)
        return self._decoded(raw)

    def _integer(self, form: struct.Struct) -> int:
        count = self._number(form)
        if not 0 <= count <= limits.INTEGER:
            raise RefusedError(f"{self.what} has an integer of {count} bytes; {limits.INTEGER} are allowed.")
        self._pending += 32 + 2 * count
        return int.from_bytes(self._take(count), "little", signed=True)

    def _parsed(self, text: str, kind: Callable[[str], Any]) -> Any:
        try:
            return kind(text)
        except ValueError as failure:
            raise self.damaged(f"has {safe_text(text)} where a number should be") from failure

    def _bool_or_int(self) -> Any:
        text = self._line()
        return text == "01" if text in ("00", "01") else self._parsed(text, int)

    def _string(self, form: struct.Struct) -> str | bytes:
        raw = self._raw(form)
        return str(raw, "ascii") if raw.isascii() else raw

    def _quoted(self) -> str:
        text = self._line().strip()
        if len(text) < 2 or text[0] != text[-1] or text[0] not in "'\"":
            raise self.damaged("has a text without quotes")
        return _ESCAPE.sub(lambda m: _ESCAPED.get(m[1], chr(int(m[1][1:], 16)) if len(m[1]) > 1 else m[1]), text[1:-1])

    def _raw_unicode(self) -> str:
        text = self._line()
        try:
            return _UNESCAPED(text.encode("latin-1", "backslashreplace"))[0]
        except UnicodeDecodeError as failure:
            raise self.damaged("has a text with a broken escape") from failure

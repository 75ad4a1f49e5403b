"""Text in columns for a terminal: safe to print whatever a file calls its parts, and never wider than asked for."""

import re
import unicodedata
from collections.abc import Sequence


def printable(text: str) -> str:
    """`text` on one line, with control characters, escape sequences and whatever else does not print escaped."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if _prints(char) else char.encode("unicode_escape").decode("ascii") for char in text)


def _prints(char: str) -> bool:
    # Combining marks would pile up on the character before them.
    return char.isprintable() and not unicodedata.combining(char)


def width(text: str) -> int:
    """Columns that `text` takes, full-width characters two."""
    if text.isascii():
        return len(text)
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def padded(text: str, columns: int) -> str:
    """`text` with spaces up to `columns`."""
    return text + " " * (columns - width(text))


def shortened(text: str, columns: int) -> str:
    """`text` cut to `columns`, with dots where something is missing."""
    if width(text) <= columns:
        return text
    while text and width(text) > columns - 3:
        text = text[:-1]
    return text + "..."


def wrapped(text: str, columns: int) -> list[str]:
    """`text` in lines of at most `columns`, broken after commas and at spaces, and within words that are too long."""
    columns = max(columns, 1)
    lines = [""]
    for word in _words(text):
        if width(lines[-1] + word.rstrip()) > columns and lines[-1]:
            lines.append("")
        while width(word.rstrip()) > columns:
            most = next(i for i in range(len(word), 0, -1) if width(word[:i]) <= columns or i == 1)
            cut = _break(word, most)
            lines[-1] = word[:cut]
            word = word[cut:]
            lines.append("")
        lines[-1] += word
    return [line.rstrip() for line in lines]


def _break(word: str, most: int) -> int:
    """Where to break a word that is too long, at `most` at the latest."""
    for marks in (r"[(\[]", r"[_/,=]|\.(?!\d)"):
        places = [match.end() for match in re.finditer(marks, word[:most]) if match.end() > most // 3]
        if places:
            return places[-1]
    return most


def _words(text: str) -> list[str]:
    """Words with the spaces after them; what stands in brackets within brackets stays together if it is short."""
    words, depth, start = [], 0, 0
    for i, char in enumerate(text):
        depth += (char in "([") - (char in ")]")
        if char == " " and (depth <= 1 or i - start > 24) and text[i + 1 : i + 2] != " ":
            words.append(text[start : i + 1])
            start = i + 1
    return [*words, text[start:]]


def table(
    rows: Sequence[Sequence[str]], total: int, *, header: Sequence[str] = (), right: Sequence[int] = (), flex: int = 1
) -> list[str]:
    """Lines of `rows` in aligned columns, at most `total` wide.

    Columns are as wide as what is in them. Where that is too much, the widest are wrapped, column `flex` last; a cell
    of several lines goes on under itself. Columns of no content are left out.

    **Arguments:** `right`: columns aligned to the right; `header`: names of the columns, underlined.
    """
    keep = [i for i in range(max(map(len, rows), default=0)) if any(row[i] for row in rows)]
    if not keep:
        return []
    cells = [[row[i] for i in keep] for row in ([header, *rows] if header else rows)]
    right, flex = [keep.index(i) for i in right if i in keep], keep.index(flex) if flex in keep else len(keep) - 1
    widths = _widths([max(width(row[i]) for row in cells) for i in range(len(keep))], total, flex)
    lines = []
    for number, row in enumerate(cells):
        columns = [wrapped_name(cell, widths[i]) if i == 0 else wrapped(cell, widths[i]) for i, cell in enumerate(row)]
        for line in range(max(map(len, columns))):
            texts = []
            for i, column in enumerate(columns):
                text = column[line] if line < len(column) else ""
                texts.append(" " * (widths[i] - width(text)) + text if i in right else padded(text, widths[i]))
            lines.append("  ".join(texts).rstrip())
        if header and not number:
            lines.append("  ".join("-" * columns for columns in widths))
    return lines


def wrapped_name(text: str, columns: int) -> list[str]:
    """Like `wrapped`, with the indent of `text` kept in every line."""
    indent = len(text) - len(text.lstrip(" "))
    indent = max(min(indent, columns - min(width(text) - indent, 8)), 0)
    return [" " * indent + line for line in wrapped(text.lstrip(" "), columns - indent)]


def _widths(wanted: list[int], total: int, flex: int) -> list[int]:
    """Take from the widest column till all fit; `flex` and the first give later, columns that are narrow last."""
    room = total - 2 * (len(wanted) - 1)

    def weight(i: int) -> tuple[bool, float]:
        size = wanted[i]
        later = (i == flex and size > 32) or (i == 0 and size <= 0.45 * total)
        return size > 16, size / 2 if later else size

    while sum(wanted) > room and max(wanted) > 1:
        wanted[max(range(len(wanted)), key=weight)] -= 1
    return wanted

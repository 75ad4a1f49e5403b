"""Text in columns for a terminal."""

import re
import unicodedata
from collections.abc import Sequence


def width(text: str) -> int:
    """The number of columns of `text`; full-width characters take two."""
    if text.isascii():
        return len(text)
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def padded(text: str, columns: int) -> str:
    """`text` padded with spaces to `columns`."""
    return text + " " * (columns - width(text))


def shortened(text: str, columns: int) -> str:
    """`text` shortened to `columns`, with dots at the end."""
    if width(text) <= columns:
        return text
    while text and width(text) > columns - 3:
        text = text[:-1]
    return text + "..."


def wrapped(text: str, columns: int) -> list[str]:
    """`text` in lines of at most `columns`, broken at spaces and within words that are too long."""
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
    """The position of the break in a word that is too long, at most `most`."""
    for marks in (r"[(\[]", r"[_/,=]|\.(?!\d)"):
        places = [match.end() for match in re.finditer(marks, word[:most]) if match.end() > most // 3]
        if places:
            return places[-1]
    return most


def _words(text: str) -> list[str]:
    """Words with trailing spaces. Short text in nested brackets is one word."""
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

    Columns are as wide as their content. If the total is too wide, the widest columns are wrapped, column `flex` last.
    Empty columns are omitted.

    **Arguments:** `right`, columns aligned to the right; `header`, names of the columns, which are underlined.
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
    """Like `wrapped`, with the indent of `text` in all lines."""
    indent = len(text) - len(text.lstrip(" "))
    indent = max(min(indent, columns - min(width(text) - indent, 8)), 0)
    return [" " * indent + line for line in wrapped(text.lstrip(" "), columns - indent)]


def _widths(wanted: list[int], total: int, flex: int) -> list[int]:
    """Reduce the widest column until all columns fit. `flex` and the first are reduced later, narrow columns last."""
    room = total - 2 * (len(wanted) - 1)

    def weight(i: int) -> tuple[bool, float]:
        size = wanted[i]
        later = (i == flex and size > 32) or (i == 0 and size <= 0.45 * total)
        return size > 16, size / 2 if later else size

    while sum(wanted) > room and max(wanted) > 1:
        wanted[max(range(len(wanted)), key=weight)] -= 1
    return wanted

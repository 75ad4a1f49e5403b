"""Praat TextGrids, as the Montreal Forced Aligner writes them."""

import re
from collections.abc import Iterator
from pathlib import Path

from jaxvoice.data.aligned.alignment import Interval, Misfit
from jaxvoice.data.aligned.files import number, read_text

# Praat reads text files by their free-standing strings, numbers and flags; all else (names, `=`, `[1]:`) is for humans.
_TOKEN = re.compile(r'"[^"]*(?:""[^"]*)*"|<[a-z]+>|![^\n]*|[^\s"]+')
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


def read_textgrid(path: str | Path, tier: str = "phones") -> list[Interval]:
    """The intervals of the tier named `tier` (or `<speaker> - <tier>`, if one is) of a TextGrid in text format.

    Long and short format; UTF-8, or UTF-16 with a byte order mark.

    **Raises:** `Misfit` (a `DataError`) if the file cannot be read, is no TextGrid in text format, ends early, or has
    no such tier or several.

    Source: the Praat manual, "TextGrid file formats".
    """
    path = Path(path)
    text = read_text(path)
    if text.startswith("ooBinaryFile") or '"Praat chronological TextGrid' in text[:200]:
        raise Misfit(
            "broken", f"{path} is a binary or chronological TextGrid; save it as a (short) text file in Praat."
        )
    reader = _Reader(path, text)
    if reader.text("the kind of file") != "ooTextFile" or reader.text("the kind of object") != "TextGrid":
        raise Misfit("broken", f"{path} is no TextGrid: it does not begin with 'ooTextFile' and 'TextGrid'.")
    reader.span("its times")
    tiers: dict[str, list[Interval] | None] = {}
    found = []
    for _ in range(reader.count("its number of tiers") if reader.flag() else 0):
        kind, name = reader.text("the class of a tier"), reader.text("the name of a tier")
        reader.span("the times of a tier")
        items = [reader.item(kind) for _ in range(reader.count("the size of a tier"))]
        tiers[name] = items if kind == "IntervalTier" else None
        if kind == "IntervalTier" and (name.lower() == tier or name.lower().endswith(f" - {tier}")):
            found.append(items)
    if len(found) != 1:
        names = ", ".join(map(repr, tiers)) or "none"
        raise Misfit("broken", f"{path} has {len(found)} interval tiers {tier!r} (its tiers: {names}); it needs one.")
    return found[0]


class _Reader:
    """The free-standing values of a Praat text file, one after another."""

    def __init__(self, path: Path, text: str):
        self._path = path
        self._tokens = self._values(text)

    @staticmethod
    def _values(text: str) -> Iterator[str]:
        for match in _TOKEN.finditer(text):
            token = match.group()
            if token[0] in '"<' or _NUMBER.fullmatch(token):
                yield token

    def _next(self, what: str) -> str:
        token = next(self._tokens, None)
        if token is None:
            raise Misfit("broken", f"{self._path} ends before {what}; copy or export it again.")
        return token

    def text(self, what: str) -> str:
        token = self._next(what)
        if token[0] != '"':
            raise Misfit("broken", f"{self._path}: {what} should be text in quotes, got {token[:40]!r}; mend the file.")
        return token[1:-1].replace('""', '"')

    def number(self, what: str) -> float:
        return number(self._next(what), self._path, what)

    def count(self, what: str) -> int:
        found = self.number(what)
        if not 0 <= found < 1e9:
            raise Misfit("broken", f"{self._path}: {what} should be a count, got {found:g}; mend the file.")
        return int(found)

    def flag(self) -> bool:
        return self._next("whether it has tiers") == "<exists>"

    def span(self, what: str) -> tuple[float, float]:
        return self.number(what), self.number(what)

    def item(self, kind: str) -> Interval:
        if kind == "IntervalTier":
            start, end = self.span("the times of an interval")
        else:
            start = end = self.number("the time of a point")
        return Interval(self.text("the text of an interval"), start, end)

"""Reading and writing of Praat TextGrids, the format of the Montreal Forced Aligner."""

import os
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from jaxvoice.data.alignments.alignment import Alignment, AlignmentError, Interval
from jaxvoice.data.alignments.mfa_files import phone_tier
from jaxvoice.data.alignments.text_files import parse_number, read_text_file
from jaxvoice.errors import DataError

# As Praat does, the reader uses only the free-standing strings, numbers and flags, not names, `=` or `[1]:`.
_TOKEN = re.compile(r'"[^"]*(?:""[^"]*)*"|<[a-z]+>|![^\n]*|[^\s"]+')
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


def read_textgrid(path: str | Path, tier: str = "phones") -> list[Interval]:
    """Read the intervals of the tier `tier`, or `<speaker> - <tier>`, of a TextGrid in text format.

    In place of `phones`, the tier may be called `phone`, or have any name if it is the only interval tier. The format
    may be long or short, and the encoding UTF-8 or UTF-16, with or without a byte order mark.

    **Raises:** `AlignmentError` (a `DataError`) if the file cannot be read, is not a TextGrid in text format, is
    truncated, or does not have exactly one such tier.

    Source: the Praat manual, "TextGrid file formats".
    """
    path = Path(path)
    text = read_text_file(path)
    if text.startswith("ooBinaryFile") or '"Praat chronological TextGrid' in text[:200]:
        raise AlignmentError(
            "broken", f"{path} is a binary or chronological TextGrid; save it as a (short) text file in Praat."
        )
    reader = _Reader(path, text)
    if reader.text("the kind of file") != "ooTextFile" or reader.text("the kind of object") != "TextGrid":
        raise AlignmentError("broken", f"{path} is not a TextGrid: it does not start with 'ooTextFile' and 'TextGrid'.")
    reader.span("its times")
    tiers: list[tuple[str, list[Interval]]] = []
    others: list[str] = []
    for _ in range(reader.count("its number of tiers") if reader.flag() else 0):
        kind, name = reader.text("the class of a tier"), reader.text("the name of a tier")
        reader.span("the times of a tier")
        items = [reader.item(kind) for _ in range(reader.count("the size of a tier"))]
        if kind == "IntervalTier":
            tiers.append((name, items))
        else:
            others.append(name)
    names = [name for name, _ in tiers]
    return tiers[names.index(phone_tier(path, names, tier, others))][1]


def write_textgrid(
    path: str | Path, alignment: Alignment, tier: str = "phones", *, words: Sequence[Interval] = ()
) -> None:
    """Write `alignment` as the interval tier `tier` of a TextGrid in long text format, times to the microsecond.

    If there are `words`, with their times in seconds and in order, a tier `words` precedes it, as in files of the
    Montreal Forced Aligner. Its intervals between words are empty. An existing file is replaced only when the new one
    is complete.

    **Raises:** `DataError` if the file cannot be written, or `words` overlap or exceed the alignment.

    Source: the Praat manual, "TextGrid file formats".
    """
    path = Path(path)
    spans = pairwise(alignment.boundaries.tolist())
    phones = [Interval(phone, *span) for phone, span in zip(alignment.phones, spans, strict=True)]
    tiers = {"words": _filled(words, alignment)} if words else {}
    tiers[tier] = phones
    end = f"{alignment.seconds:.6f}"
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {end}"]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for place, (name, intervals) in enumerate(tiers.items(), 1):
        lines += [f"    item [{place}]:", '        class = "IntervalTier"', f"        name = {_quoted(name)}"]
        lines += ["        xmin = 0", f"        xmax = {end}", f"        intervals: size = {len(intervals)}"]
        for number, (label, start, stop) in enumerate(intervals, 1):
            lines += [f"        intervals [{number}]:", f"            xmin = {start:.6f}"]
            lines += [f"            xmax = {stop:.6f}", f"            text = {_quoted(label)}"]
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
        partial.replace(path)
    except OSError as failure:
        raise DataError(f"{path} cannot be written ({failure.strerror}); check its folder and its space.") from failure
    finally:
        partial.unlink(missing_ok=True)


def _filled(words: Sequence[Interval], alignment: Alignment) -> list[Interval]:
    """`words` with empty intervals between them and at the ends of `alignment`.

    **Raises:** `DataError` if they overlap or exceed the alignment.
    """
    filled: list[Interval] = []
    for before, after in pairwise([Interval("", 0.0, 0.0), *words, Interval("", alignment.seconds, alignment.seconds)]):
        if not before.end <= after.start <= after.end:
            raise DataError(
                f"{alignment.id} has a word at {after.start:.3f} s after one that ends at {before.end:.3f} s; words "
                f"should be in order and end before {alignment.seconds:.3f} s."
            )
        if after.start > before.end:
            filled.append(Interval("", before.end, after.start))
        filled.append(after)
    return filled[:-1]


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

    def _next(self, name: str) -> str:
        token = next(self._tokens, None)
        if token is None:
            raise AlignmentError("broken", f"{self._path} ends before {name}; copy or export it again.")
        return token

    def text(self, name: str) -> str:
        token = self._next(name)
        if token[0] != '"':
            raise AlignmentError(
                "broken", f"{self._path}: {name} is {token[:40]!r}; it should be text in quotes. Correct the file."
            )
        return token[1:-1].replace('""', '"')

    def number(self, name: str) -> float:
        return parse_number(self._next(name), self._path, name)

    def count(self, name: str) -> int:
        found = self.number(name)
        if not 0 <= found < 1e9:
            raise AlignmentError(
                "broken", f"{self._path}: {name} is {found:g}; it should be a number of items. Correct the file."
            )
        return int(found)

    def flag(self) -> bool:
        return self._next("the flag of its tiers") == "<exists>"

    def span(self, name: str) -> tuple[float, float]:
        return self.number(name), self.number(name)

    def item(self, kind: str) -> Interval:
        if kind == "IntervalTier":
            start, end = self.span("the times of an interval")
        else:
            start = end = self.number("the time of a point")
        return Interval(self.text("the text of an interval"), start, end)


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'

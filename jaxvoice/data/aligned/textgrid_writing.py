"""Writing alignments as Praat TextGrids, which `find_aligned` reads."""

import os
from itertools import pairwise
from pathlib import Path

from jaxvoice.data.aligned.alignment import Alignment
from jaxvoice.errors import DataError


def write_textgrid(path: str | Path, alignment: Alignment, tier: str = "phones") -> None:
    """Write `alignment` as the interval tier `tier` of a TextGrid in long text format, times to the microsecond.

    A file that was there before stays as it is unless the new one is complete.

    **Raises:** `DataError` if the file cannot be written.

    Source: the Praat manual, "TextGrid file formats".
    """
    path = Path(path)
    end, count = f"{alignment.seconds:.6f}", len(alignment.phones)
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {end}"]
    lines += ["tiers? <exists>", "size = 1", "item []:", "    item [1]:", '        class = "IntervalTier"']
    lines += [f"        name = {_quoted(tier)}", "        xmin = 0", f"        xmax = {end}"]
    lines.append(f"        intervals: size = {count}")
    spans = pairwise(alignment.boundaries)
    for number, (phone, (start, stop)) in enumerate(zip(alignment.phones, spans, strict=True), 1):
        lines += [f"        intervals [{number}]:", f"            xmin = {start:.6f}", f"            xmax = {stop:.6f}"]
        lines.append(f"            text = {_quoted(phone)}")
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
        partial.replace(path)
    except OSError as failure:
        raise DataError(f"{path} cannot be written ({failure.strerror}); check its folder and its space.") from failure
    finally:
        partial.unlink(missing_ok=True)


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'

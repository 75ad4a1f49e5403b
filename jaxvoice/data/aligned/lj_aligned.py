"""LJ-Speech-aligned: JSON files with words and phones in milliseconds, and mel spectrograms beside them."""

import json
from pathlib import Path
from typing import NamedTuple

from jaxvoice.data.aligned.alignment import Interval, Misfit
from jaxvoice.data.aligned.files import read_text


class AlignedJson(NamedTuple):
    """What a JSON file of LJ-Speech-aligned holds."""

    intervals: list[Interval]
    text: str


def read_lj_aligned(path: str | Path) -> AlignedJson:
    """The phones of all words of `<id>.json`, and its text.

    The file holds `text` and `utterance`: `words`, each with `phones`: `phone`, `onset` (ms), `duration` (ms). Phones
    keep their onset, so what rounding leaves between two is closed as the corpus's own reader closes it.

    **Raises:** `Misfit` (a `DataError`) if the file cannot be read or is not made so; 29 of the 13,100 have no
    `utterance`.
    """
    path = Path(path)
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as failure:
        raise Misfit("broken", f"{path} is not valid JSON ({failure}); copy it again.") from failure
    if not isinstance(content, dict) or not content.get("utterance"):
        raise Misfit("no alignment", f"{path} has no 'utterance', so it was never aligned; it is left out.")
    try:
        phones = [phone for word in content["utterance"]["words"] for phone in word.get("phones", ())]
        intervals = []
        for phone in phones:
            start, length = float(phone["onset"]), float(phone["duration"])
            intervals.append(Interval(str(phone["phone"]), start / 1000, (start + length) / 1000))
        return AlignedJson(intervals, str(content.get("text", "")))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as failure:
        raise Misfit("broken", f"{path} is not made as expected ({failure!r}); copy it again.") from failure

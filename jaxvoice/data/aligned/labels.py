"""HTK and HTS label files: `start end label` per line, times in units of 100 ns."""

import re
from pathlib import Path

from jaxvoice.data.aligned.alignment import Interval, Misfit
from jaxvoice.data.aligned.files import read_text

UNITS_PER_SECOND = 10_000_000
_CONTEXT = re.compile(r"[^-]*-([^-+]+)\+")
_STRESS = re.compile(r"/B:([01])[-_]")
_STATE = re.compile(r"(.*)\[(\d+)\]")
_VOWELS = frozenset(("aa", "ae", "ah", "ao", "aw", "ay", "eh", "er", "ey", "ih", "iy", "ow", "oy", "uh", "uw"))


def read_labels(path: str | Path) -> list[Interval]:
    """The intervals of a `.lab` file of HTK or HTS, in seconds.

    Of a full-context label, the phone is what stands between `-` and `+`; a vowel in it that carries no stress gets
    that of its syllable, the first number of `/B:`. States of one phone (`label[2]`, `label[3]`, ...) become one
    interval. What follows the label in a line, such as a score or a word, is ignored.

    **Raises:** `Misfit` (a `DataError`) if the file cannot be read, is a master label file or one of xwaves, has
    several transcriptions, or a line that is not made so.

    Source: the HTK Book, section 6.2.1; HTS, `lab_format.pdf`.
    """
    path = Path(path)
    intervals: list[Interval] = []
    state = 0
    for row, line in enumerate(read_text(path).splitlines(), 1):
        fields = line.split()
        if not fields:
            continue
        if fields[0] in ("#!MLF!#", "#", "///", "."):
            raise Misfit(
                "broken",
                f"{path} is no plain label file (line {row} is {line.strip()[:40]!r}); write one per utterance.",
            )
        if len(fields) < 3 or not all(field.isdecimal() and len(field) < 20 for field in fields[:2]):
            raise Misfit(
                "broken",
                f"{path}, line {row}: expected 'start end label' in whole units of 100 ns, got {line.strip()[:40]!r}.",
            )
        start, end = (int(field) / UNITS_PER_SECOND for field in fields[:2])
        label, before = fields[2], state
        if match := _STATE.fullmatch(label):
            label, state = match.group(1), int(match.group(2))
        else:
            state = 0
        label = _phone(label)
        if state > before > 0 and intervals[-1].label == label:
            intervals[-1] = intervals[-1]._replace(end=end)
        else:
            intervals.append(Interval(label, start, end))
    if not intervals:
        raise Misfit("broken", f"{path} holds no labels; make it again.")
    return intervals


def _phone(label: str) -> str:
    context = _CONTEXT.match(label)
    if context is None:
        return label
    phone, stress = context.group(1), _STRESS.search(label)
    return phone + stress.group(1) if stress and phone.lower() in _VOWELS else phone

"""Compare the normalisation of English texts with the test suite of NVIDIA's NeMo-text-processing.

    git clone https://github.com/NVIDIA/NeMo-text-processing
    python -m experiments.benchmarks.text_normalization NeMo-text-processing

The cases are those of `tests/nemo_text_processing/en/data_text_normalization`. Two readings are alike if they have the
same words. Case, punctuation and the word "and" are ignored, and letters that are spelled (`P M`) are equal to the same
letters in one word (`PM`). A case with several readings is alike if one of them is. The script reports the rate by
kind of text, and lists all other cases.

The suite and jaxvoice follow different conventions in some readings, which `CONVENTIONS` lists with the reasons. A rate
without these cases is reported too. They are at most a tenth of all cases.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import tyro

from experiments.benchmarks import common
from jaxvoice.errors import TextError
from jaxvoice.text import normalize

FOLDER = Path("tests") / "nemo_text_processing" / "en" / "data_text_normalization"
PREFIX = "test_cases_"
SEVERAL_READINGS = "normalize_with_audio"
"""The kind whose file has a line `~text` for each case, and one line for each reading."""

MAX_LEFT_OUT = 0.1


@dataclass(frozen=True, kw_only=True)
class Options(common.ReportOptions):
    """Settings of the benchmark."""

    checkout: tyro.conf.Positional[Path]
    """A checkout of NeMo-text-processing."""
    list: bool = True
    """List the cases that are not alike."""
    json: Path | None = None
    """File for the results, with all cases that are not alike."""


class Case(NamedTuple):
    """A text of the suite with its accepted readings."""

    kind: str
    text: str
    readings: tuple[str, ...]


class Convention(NamedTuple):
    """A convention of the suite that jaxvoice does not follow."""

    name: str
    reason: str
    applies: Callable[[Case], bool]


WRONG_ORDINAL = re.compile(
    r"\b(?:\d*1[1-3](?:st|nd|rd)|\d*[04-9](?:st|nd|rd)|(?:\d*[02-9])?(?:1(?!st)|2(?!nd)|3(?!rd))[a-z]{2})"
)
LONG_NUMBER = re.compile(r"(?<![\d,.$])\d{5,}(?![\d,.])")
TWO_NUMBERS = re.compile(r"(?:[a-z]+ )?\d{1,3} ?- ?\d+")
YEARS_WITH_DASH = re.compile(r"\d{4}\u2013\d{4}")
CLOCK = re.compile(r"(?:1[3-9]|2\d):00(?!:)|\d\d?:\d\d:\d\d")
SHORT_YEAR = re.compile(r"\d\d?/\d\d?/\d\d(?!\d)")
STATE = re.compile(r", [A-Z]{2}\b")
TAG = re.compile(r"</?[a-z]")


def _is_for_other_stages(case: Case) -> bool:
    phonetic = any("\u0180" <= character <= "\u02ff" for character in case.text)
    return phonetic or bool(TAG.search(case.text)) or case.text.startswith("[HH")


CONVENTIONS = (
    Convention(
        "tags and phonetic symbols",
        "The suite keeps them for a later stage. jaxvoice removes tags, reads phonemes in braces, and raises an error "
        "for phonetic letters.",
        _is_for_other_stages,
    ),
    Convention(
        "ordinals with a wrong ending",
        "The suite spells the ending of 21th. jaxvoice reads the ordinal that was meant.",
        lambda case: case.kind == "ordinal" and bool(WRONG_ORDINAL.search(case.text)),
    ),
    Convention(
        "schemes of web addresses",
        "The suite reads https:// and www. jaxvoice does not.",
        lambda case: bool(re.search("https?://", case.text)),
    ),
    Convention(
        "long numbers without commas",
        "The suite reads five and more digits one by one. jaxvoice reads the number.",
        lambda case: case.kind in ("cardinal", "range", "serial") and bool(LONG_NUMBER.search(case.text)),
    ),
    Convention(
        "hyphens between two numbers",
        "The suite keeps the hyphen of 2-5 and of two years. jaxvoice reads a range.",
        lambda case: (
            case.kind != SEVERAL_READINGS
            and bool(TWO_NUMBERS.fullmatch(case.text) or YEARS_WITH_DASH.search(case.text))
        ),
    ),
    Convention(
        "clocks of 24 hours and seconds",
        "The suite reads 23:00 as o'clock, and hours, minutes and seconds with these words. jaxvoice reads "
        "twenty-three hundred, and ten fifteen and thirty seconds.",
        lambda case: case.kind == "time" and bool(CLOCK.search(case.text)),
    ),
    Convention(
        "years of two digits in dates",
        "The suite reads the two digits. jaxvoice reads the year with its century.",
        lambda case: bool(SHORT_YEAR.search(case.text)),
    ),
    Convention(
        "states in addresses",
        "The suite reads the name of the state. jaxvoice spells its code.",
        lambda case: case.kind == "address" and bool(STATE.search(case.text)),
    ),
)


def read_cases(checkout: Path) -> list[Case]:
    """Read all cases of the suite, in the order of its files.

    **Raises:** `SystemExit` if the checkout has none.
    """
    files = sorted((checkout / FOLDER).glob(f"{PREFIX}*.txt"))
    cases = [case for path in files for case in _cases_of(path)]
    if not cases:
        raise SystemExit(
            f"{checkout} has no cases in {FOLDER}; it should be a checkout of NVIDIA/NeMo-text-processing."
        )
    return cases


def _cases_of(path: Path) -> Iterator[Case]:
    kind = path.stem.removeprefix(PREFIX)
    lines = path.read_text(encoding="utf-8").splitlines()
    if kind != SEVERAL_READINGS:
        for line in lines:
            text, separator, reading = line.partition("~")
            if separator:
                yield Case(kind, text, (reading,))
        return
    starts = [i for i, line in enumerate(lines) if line.startswith("~")]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        yield Case(kind, lines[start][1:], tuple(lines[start + 1 : end]))


def comparable(reading: str) -> str:
    """The words of a reading in lower case, without punctuation and "and", and spelled letters in one word."""
    words = [word for word in re.findall(r"[^\W_]+", re.sub("['’]", "", reading.lower())) if word != "and"]  # noqa: RUF001
    return re.sub(r"(?<=\b\w) (?=\w\b)", "", " ".join(words))


def is_alike(case: Case) -> tuple[bool, str]:
    """Whether jaxvoice reads the text as the suite does, and its reading or error."""
    try:
        reading = normalize(case.text)
    except TextError as error:
        return False, f"error: {error}"
    return comparable(reading) in map(comparable, case.readings), reading


def convention_of(case: Case) -> Convention | None:
    """The convention of `CONVENTIONS` that applies to the case."""
    return next((convention for convention in CONVENTIONS if convention.applies(case)), None)


def _rate(alike: int, total: int) -> dict[str, Any]:
    return {"alike": alike, "cases": total, "rate %": 100 * alike / total if total else None}


def main(options: Options) -> None:
    """Compare all cases, list the others, and report."""
    cases = read_cases(options.checkout)
    results = [(case, *is_alike(case), convention_of(case)) for case in cases]
    left_out = Counter(convention.name for *_, convention in results if convention)
    if left_out.total() > MAX_LEFT_OUT * len(cases):
        raise SystemExit(
            f"The conventions leave out {left_out.total()} of {len(cases)} cases; it should be at most a tenth. "
            "Compare this checkout with the one in docs/results.md."
        )
    different = [
        {
            "kind": case.kind,
            "text": case.text,
            "jaxvoice": reading,
            "suite": case.readings[0],
            "convention": convention.name if convention else None,
        }
        for case, alike, reading, convention in results
        if not alike
    ]
    if options.list:
        for row in different:
            print(f"{row['kind']}: {row['text']!r}\n    jaxvoice: {row['jaxvoice']}\n    suite:    {row['suite']}")
            if row["convention"]:
                print(f"    convention: {row['convention']}")
    rows = [
        {"kind": kind, **_count([alike for case, alike, *_ in results if case.kind == kind])}
        for kind in dict.fromkeys(case.kind for case in cases)
    ]
    rows.append({"kind": "all", **_count([alike for _, alike, *_ in results])})
    rows.append(
        {"kind": "all without conventions", **_count([alike for _, alike, _, convention in results if not convention])}
    )
    conventions = [
        {"convention": convention.name, "cases": left_out[convention.name], "reason": convention.reason}
        for convention in CONVENTIONS
    ]
    common.report("text normalisation", options, rows, conventions, different=different)


def _count(alike: Sequence[bool]) -> dict[str, Any]:
    return _rate(sum(alike), len(alike))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))

"""Expand ranges and lists of dates and years to words: `January 5-7`, `Jan 5-Feb 10`, `5 and 6 March`, `2019/20`."""

import re

from jaxvoice.text.abbreviations import DAYS, MONTH_NAME, MONTH_NAMES, MONTHS, SHORT_MONTH
from jaxvoice.text.numbers import cardinal, expand_matches, ordinal, year

DAY = r"\d\d?(?:st|nd|rd|th)?\b"
DAY_RANGE = rf"{DAY}(?: ?- ?|/){DAY}"
WORDED_DAYS = rf"{DAY}(?:(?:, {DAY}){{0,5}},? (?:and|or|&) | (?:to|through|until) ){DAY}"
OF_YEAR = r"(?:,? (\d{4})\b(?!-?\d))?"
ENDS_RANGE = r"(?![\d:/%-]|[.,]\d| ?[ap]\.?m\b)"
ENDS_LIST = r"(?= *(?:$|[,;:!?)\"\ue001]|\.(?!\d))|,? \d{4}\b)"  # "January 5 and 6 people" has no list of days
MONTH_DAYS = re.compile(
    rf"\b({MONTH_NAME}) (?:({DAY_RANGE}){ENDS_RANGE}|({WORDED_DAYS}){ENDS_LIST}){OF_YEAR}", re.IGNORECASE
)
DAYS_MONTH = re.compile(
    rf"(?:\b[Tt]he )?(?<![\w.,/:$-])({DAY_RANGE}|{WORDED_DAYS})[ -](?:of )?"
    rf"(?:({MONTH_NAME})\b|({SHORT_MONTH})\b(?:\.(?! *$))?){OF_YEAR}",
    re.IGNORECASE,
)
MONTH_BEFORE = re.compile(rf"\b(?:{MONTH_NAME}) $", re.IGNORECASE)
ONE_DATE = (
    rf"(?:\b(?:{MONTH_NAME}) {DAY}(?:,? \d{{4}}\b)?|\b(?:{MONTH_NAME}) \d{{4}}\b"
    rf"|(?<![\d.,:/-])\d\d?(?:st|nd|rd|th)? (?:{MONTH_NAME})\b(?: \d{{4}}\b)?)"
)
DAY_NAME = "|".join(dict.fromkeys(DAYS.values()))
TWO_DATES = re.compile(rf"({ONE_DATE}) ?- ?(?=(?:(?:{DAY_NAME}),? )?{ONE_DATE})", re.IGNORECASE)
FIGURES = r"(?:\d\d?/\d\d?/(?:\d{4}|\d\d)|\d{4}/\d\d?/\d\d?)(?!\d)"
TWO_DATES_IN_FIGURES = re.compile(
    rf"(?<![\d/.-])(?:({FIGURES}) ?- ?(?={FIGURES})|(\d{{4}}-\d\d-\d\d) - (?=\d{{4}}-\d\d-\d\d(?!\d)))"
)
# Only names with a capital: "may-march" is no range of months.
_MONTH = "|".join([name.capitalize() for name in MONTH_NAMES] + sorted(MONTHS, key=len, reverse=True))
TWO_MONTHS = re.compile(rf"\b({_MONTH})\b\.?( ?- ?|/)({_MONTH})\b(\.(?! *$))?(?!-\d)")

YEARS = re.compile(r"(?<![\d-])(1\d{3}|20\d\d)-(\d{4}|\d\d)(?![\d-])")
SLASHED_YEARS = re.compile(r"(?<![\d/.,$£€-])(1\d{3}|20\d\d)/(\d{4}|\d\d)(?![\d/-]|[.,]\d)")
SEASON = re.compile(
    r"(?<![\d/.,$£€-])(\d\d)/(\d\d)"
    r"(?= (?:season|campaign|winter|academic|school|university|fiscal|financial|tax|league)s?\b)"
)
MONTH_OF_YEAR = re.compile(r"(?<![\d/.,$£€-])(0?[1-9]|1[0-2])/(19\d\d|20\d\d)(?![\d/-]|[.,]\d)")
DATE_BEFORE = re.compile(r"\b(?:in|since|by|until|from|to|of|before|after|dated|expires?|due) $", re.IGNORECASE)
MAX_YEARS = 10
"""The most years of a range whose last year has two digits after a slash: `2019/20`, but not `1500/50`."""


def expand_month_ranges(text: str) -> str:
    """Expand two months of folded `text` with a hyphen or a slash between them: `Jan-Mar`, `July/August`."""
    return expand_matches(TWO_MONTHS, _two_months, text)


def expand_date_ranges(text: str) -> str:
    """Expand the ranges and lists of dates of folded `text`.

    Names of months beside days are written out. A range of full dates is joined by `to`, and its dates stay.
    """
    text = expand_matches(SLASHED_YEARS, _slashed_years, text)
    text = expand_matches(SEASON, _season, text)
    text = expand_matches(MONTH_OF_YEAR, _month_of_year, text)
    text = TWO_DATES_IN_FIGURES.sub(lambda match: f"{match[1] or match[2]} to ", text)
    text = TWO_DATES.sub(lambda match: f"{match[1]} to ", text)
    text = expand_matches(MONTH_DAYS, _month_days, text)
    return expand_matches(DAYS_MONTH, _days_month, text)


def expand_year_ranges(text: str) -> str:
    """Expand ranges of years of folded `text`: `1914-18`."""
    return expand_matches(YEARS, _years, text)


def _full_name(month: str) -> str:
    return MONTHS.get(month.capitalize(), month.lower()).capitalize()


def _two_months(match: re.Match[str]) -> str:
    between = " to " if "-" in match[2] else " "
    return f"{_full_name(match[1])}{between}{_full_name(match[3])}"


def _days(written: str, article: str) -> str | None:
    """The days in words, `article` before the last day of a range; None if they do not ascend in a month."""
    days = [int(digits) for digits in re.findall(r"\d+", written)]
    if sorted(set(days)) != days or days[0] == 0 or days[-1] > 31:
        return None
    if "/" in written and days[1] != days[0] + 1:
        return None  # the night of 5/6 March
    if sign := re.search("[-/]", written):
        written = re.sub(f" ?{sign[0]} ?", " to ", written)
    written = re.sub(" (to|through|until) ", rf" \1 {article}", written.replace("&", "and"))
    return re.sub(DAY, lambda match: ordinal(int(re.sub(r"\D", "", match[0]))), written)


def _year_after(written: str | None) -> str:
    return f", {year(int(written))}" if written else ""


def _month_days(match: re.Match[str]) -> str:
    days = _days(match[2] or match[3], "")
    return f"{match[1]} {days}{_year_after(match[4])}" if days else match[0]


def _days_month(match: re.Match[str]) -> str:
    days, month, of_year = match[1], match[2] or match[3], match[4]
    # "5-7 may be" has no date; in "Jan 5 to 7 Feb", 5 belongs to the month before it.
    before = match.string[max(0, match.start() - 12) : match.start()]
    if (month in ("may", "mar", "march") and not of_year) or MONTH_BEFORE.search(before):
        return match[0]
    words = _days(days, "the ")
    return f"the {words} of {_full_name(month)}{_year_after(of_year)}" if words else match[0]


def _last_year(first: int, last: str) -> str:
    """The last year of a range, of four or two digits, in words: `14` after 1912, `06` after 2005."""
    if len(last) == 4:
        return year(int(last))
    return year(first - first % 100 + int(last) + 100 * (last == "00")) if last[0] == "0" else cardinal(int(last))


def _years(match: re.Match[str]) -> str:
    first, last = int(match[1]), match[2]
    if len(last) == 2 and last[0] == "0" and 0 < int(last) < first % 100:
        return f"{MONTH_NAMES[int(last) - 1]} {year(first)}"  # 2019-05
    return f"{year(first)} to {_last_year(first, last)}"


def _slashed_years(match: re.Match[str]) -> str:
    first, last = int(match[1]), match[2]
    if len(last) == 4:
        if not 1000 <= int(last) <= 2099:
            return match[0]
        return f"{year(first)} {'to ' if first < int(last) else ''}{year(int(last))}"
    if 0 < (int(last) - first) % 100 <= MAX_YEARS:
        return f"{year(first)} to {_last_year(first, last)}"
    return f"{MONTH_NAMES[int(last) - 1]} {year(first)}" if last[0] == "0" and last != "00" else match[0]


def _season(match: re.Match[str]) -> str:
    first, last = match[1], match[2]
    if (int(last) - int(first)) % 100 != 1:
        return match[0]
    return " to ".join(year(2000 + int(part)) if part[0] == "0" else cardinal(int(part)) for part in (first, last))


def _month_of_year(match: re.Match[str]) -> str:
    month, of_year = match[1], int(match[2])
    # "1/2007" and "3/2000" are fractions, "in 1/2007", "05/2019" and "5/2019" are months.
    is_date = len(month) == 2 or DATE_BEFORE.search(match.string[max(0, match.start() - 8) : match.start()])
    return f"{MONTH_NAMES[int(month) - 1]} {year(of_year)}" if is_date or (month != "1" and of_year % 100) else match[0]

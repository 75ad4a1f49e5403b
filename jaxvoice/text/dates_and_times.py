"""Expand dates, times and years to words."""

import re

from jaxvoice.text.abbreviations import MONTH_NAME, MONTH_NAMES, MONTHS, SHORT_MONTH
from jaxvoice.text.date_ranges import expand_date_ranges, expand_month_ranges
from jaxvoice.text.numbers import cardinal, expand_matches, ordinal, plural, whole_number, year

MONTH_BEFORE_DAY = re.compile(
    rf"\b(?:({SHORT_MONTH})(?:\.?(?= \d)|\.? ?(-)(?=\d))|({MONTH_NAME})(-)(?=\d))", re.IGNORECASE
)
MONTH_AFTER_DAY = re.compile(
    rf"(?<![\d.,:/])(\d\d?(?:st|nd|rd|th)?[ -](?:of )?)({SHORT_MONTH})\b\.?(-(?=\d{{4}}))?", re.IGNORECASE
)
_SHORT_MONTHS = "Jan|Feb|Apr|Jul|Aug|Sept?|Oct|Nov|Dec"  # without words such as "Mar" and "Jun"
MONTH_AFTER_WORD = re.compile(rf"(?:(?<=\b[Ii]n )|(?<=\b(?:last|next|this|late|from) ))(?:{_SHORT_MONTHS})\b\.?")
DATE_AND_TIME = re.compile(r"(?<=\d-\d\d)T(\d\d:\d\d)(?::00)?(:\d\d)?(?:\.\d{1,9})?Z?(?![\d:])")
DATE_YEAR_FIRST = re.compile(r"(?<![\d/.-])(\d{4})([-/])(\d\d?)\2(\d\d?)(?![\d/-])")
DATE_YEAR_LAST = re.compile(r"(?<![\d/.-])(\d\d?)([-/.])(\d\d?)\2(\d{4}|\d\d(?!\d))(?![\d/-]|\.\d)")
MONTH_DAY = re.compile(
    rf"\b({MONTH_NAME}) (\d\d?)(?:st|nd|rd|th)?\b(?![:./]\d)(,? \d{{4}}\b|-\d{{4}}\b)?", re.IGNORECASE
)
DAY_MONTH = re.compile(
    rf"(?:\b[Tt]he )?(?<![\d.,])(\d\d?)(?:st|nd|rd|th)?[ -](?:of )?({MONTH_NAME})\b(,? \d{{4}}\b|-\d{{4}}\b)?",
    re.IGNORECASE,
)
QUARTER = re.compile(r"\b([1-4])Q ?'?(\d{4}|\d\d)\b")
CLOCK = r"\d\d?(?:[:.]\d\d)?"
HALF = r" ?[ap]\.?m\b"
TIME_RANGE = re.compile(rf"(?<![\d:.,$-])(\d\d?(?:[:.]\d\d)?)({HALF}\.?)? ?- ?(?={CLOCK}{HALF})", re.IGNORECASE)
CLOCK_RANGE = re.compile(r"(?<=[\dmM.])(?:-| - )(?=\d\d?:\d\d)")
DOTTED_TIME = re.compile(
    rf"(?<![\d:.,$])(\d\d?)(?:\.|h)(\d\d)(?={HALF})|(?<![\w:.,$])(\d\d?)h(\d\d)(?!\w)", re.IGNORECASE
)
TIME = re.compile(r"(?<![\d:])(\d\d?):(\d\d)(?::(\d\d))?(?![\d:])( ?[ap]\.?m\b\.?)?", re.IGNORECASE)
HOUR = re.compile(r"(?<![\d:.,$])(\d\d?) ?([ap])\.?m\b\.?", re.IGNORECASE)
HOURS_AFTER_TIME = re.compile(r"(?<=\d:\d\d) ?h\b")
MILITARY_HOUR = re.compile(r"(?<![\d.,])0(\d)(\d\d)(?= (?:hours|hrs)\b)")
DECADE = re.compile(r"(?<!\d)'?(\d{4}|\d\d)'?s\b(?: ?- ?(?='?\d))?")
ERA = re.compile(r"\bAD(?= \d)|(?<=\d )(?:AD|BC|BCE|CE)\b")


def expand_dates(text: str) -> str:
    """Expand the dates of folded `text`: `Jan-15-2020`, `25 Sept.`, `2016/07/03`, `15.01.2020`, `2Q22`."""
    text = expand_matches(DATE_AND_TIME, lambda match: f", {match[1]}{match[2] or ''}", text)
    text = expand_month_ranges(expand_matches(ERA, lambda match: " ".join(match[0]), text))
    text = expand_matches(MONTH_BEFORE_DAY, _before_day, text)
    text = MONTH_AFTER_WORD.sub(lambda match: _month(match[0].removesuffix(".")), text)
    text = expand_matches(MONTH_AFTER_DAY, _after_day, text)
    text = expand_date_ranges(text)
    text = expand_matches(
        DATE_YEAR_FIRST, lambda match: _date(int(match[3]), int(match[4]), int(match[1]), match[0]), text
    )
    text = expand_matches(DATE_YEAR_LAST, _year_last, text)
    text = expand_matches(MONTH_DAY, _month_day, text)
    text = expand_matches(DAY_MONTH, _day_month, text)
    return expand_matches(QUARTER, _quarter, text)


def expand_times(text: str) -> str:
    """Expand the times of folded `text`: `3:05 p.m.`, `9am-5pm`, `1.59 p.m.`, `0800 hours`."""
    text = expand_matches(DOTTED_TIME, lambda match: f"{match[1] or match[3]}:{match[2] or match[4]}", text)
    text = expand_matches(TIME_RANGE, lambda match: f"{match[1]}{match[2] or ''} to ", text)
    text = CLOCK_RANGE.sub(" to ", text)
    text = HOURS_AFTER_TIME.sub("", text)
    text = expand_matches(MILITARY_HOUR, _military_hour, text)
    return expand_matches(HOUR, _hour, expand_matches(TIME, _time, text))


def expand_decades(text: str) -> str:
    """Expand the decades of folded `text`: `1980s`, `'80s`, `1960s-80s`."""
    return expand_matches(DECADE, _decade, text)


def _month(written: str) -> str:
    return MONTHS.get(written.capitalize(), written.lower()).capitalize()


def _before_day(match: re.Match[str]) -> str:
    return _month(match[1] or match[3]) + (" " if match[2] or match[4] else "")


def _after_day(match: re.Match[str]) -> str:
    if match[2] in ("may", "mar", "march"):
        return match[0]
    return f"{match[1].replace('-', ' ')}{_month(match[2])}{' ' if match[3] else ''}"


def _date(month: int, day: int, of_year: int, written: str) -> str:
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return written
    return f"{MONTH_NAMES[month - 1]} {ordinal(day)}, {year(of_year)}"


def _year_last(match: re.Match[str]) -> str:
    month, day, of_year = int(match[1]), int(match[3]), int(match[4])
    if len(match[4]) == 2:
        if match[2] != "/":
            return match[0]  # "5-10-20" and "1.2.34" are numbers
        of_year += 2000 if of_year < 50 else 1900
    if month > 12 and 1 <= day <= 12 and month <= 31:
        return f"the {ordinal(month)} of {MONTH_NAMES[day - 1]}, {year(of_year)}"
    return _date(month, day, of_year, match[0])


def _year_after(written: str | None) -> str:
    return "" if written is None else f", {year(int(written.strip(' ,-')))}"


def _month_day(match: re.Match[str]) -> str:
    if not 1 <= int(match[2]) <= 31:
        return match[0]
    return f"{match[1]} {ordinal(int(match[2]))}{_year_after(match[3])}"


def _day_month(match: re.Match[str]) -> str:
    # "5 May" and "5 may 1990" are dates, "5 may seem few" is not.
    ambiguous = match[2][0].islower() and match[2] in ("may", "march") and not match[3]
    if not 1 <= int(match[1]) <= 31 or ambiguous:
        return match[0]
    return f"the {ordinal(int(match[1]))} of {match[2]}{_year_after(match[3])}"


def month_and_day(month: int, day: int) -> str | None:
    """The date `month/day` in words; None if there is no such day."""
    return f"{MONTH_NAMES[month - 1]} {ordinal(day)}" if 1 <= month <= 12 and 1 <= day <= 31 else None


def _quarter(match: re.Match[str]) -> str:
    of_year = year(int(match[2])) if len(match[2]) == 4 else whole_number(match[2])
    return f"the {ordinal(int(match[1]))} quarter of {of_year}"


def _half_of_day(written: str | None) -> str:
    return "" if not written else " A M" if "a" in written.lower() else " P M"


def _time(match: re.Match[str]) -> str:
    hour, minute = int(match[1]), int(match[2])
    if hour > 24 or minute > 59:
        return match[0]
    half = _half_of_day(match[4])
    words = cardinal(hour)
    if minute:
        words += f" oh {cardinal(minute)}" if minute < 10 else f" {cardinal(minute)}"
    elif not half:
        words += " hundred" if hour == 0 or hour > 12 else " o'clock"
    seconds = int(match[3] or 0)
    return (
        words
        + (f" and {cardinal(seconds)} second{'s' * (seconds != 1)}" if match[3] else "")
        + half
        + _final_stop(match)
    )


def _hour(match: re.Match[str]) -> str:
    return f"{cardinal(int(match[1]))}{_half_of_day(match[2])}{_final_stop(match)}"


def _military_hour(match: re.Match[str]) -> str:
    minutes = "hundred" if match[2] == "00" else f"oh {cardinal(int(match[2]))}" if match[2][0] == "0" else match[2]
    return f"oh {cardinal(int(match[1]))} {minutes}"


def _final_stop(match: re.Match[str]) -> str:
    # At the end of the text, the full stop of "p.m." also ends the sentence.
    return "." if match[0].endswith(".") and not match.string[match.end() : match.end() + 40].strip() else ""


def _decade(match: re.Match[str]) -> str:
    digits = int(match[1])
    words = plural(year(digits) if len(match[1]) == 4 else cardinal(digits))
    return f"{words} to " if match[0].rstrip()[-1] == "-" else words

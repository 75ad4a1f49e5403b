"""Expand numbers in a text to words: fractions, ranges, measures, ordinals and plain numbers."""

import re

from jaxvoice.text.date_ranges import expand_year_ranges
from jaxvoice.text.dates_and_times import expand_dates, expand_decades, expand_times, month_and_day
from jaxvoice.text.lengths import FRACTION_RANGE, PRODUCT_OF_LENGTHS, expand_feet_and_inches, expand_inches
from jaxvoice.text.money import SCALE_WORDS, SIGNS, expand_money, write_money_signs_first
from jaxvoice.text.numbers import (
    AMOUNT,
    NUMBER_START,
    WHOLE,
    amount,
    cardinal,
    expand_matches,
    fraction,
    ordinal,
    whole_number,
    year,
)
from jaxvoice.text.telephone_numbers import expand_telephone_numbers
from jaxvoice.text.units import POWERED_LETTERS, POWERED_UNIT, RATE, UNIT_NAME, UNITS, rate_words, unit_words

MINUS_NUMBER = re.compile(rf"(?<![^\s(?!;:\"'=<>,])-(?=[\d.{SIGNS}])")
PERCENT = re.compile(rf"{NUMBER_START}({AMOUNT}) ?%")
TEXT_BESIDE_NUMBER = re.compile(r"(?<![A-Za-z])[A-Za-z]+(?=\d)|[%¢](?=[A-Za-z])")
FRACTION = re.compile(
    r"(?<![\d/.,])(?:(\d{1,9})[ -]+)?(\d{1,5})(?:/| / )(\d{1,5})(?:(?:st|nd|rd|th)s?\b)?(?![\d/]|\.\d| / \d)"
    rf"(?:[ -]?({UNIT_NAME})(?![A-Za-z0-9'/]))?",
    re.IGNORECASE,
)
MINUS_BEFORE = re.compile(r"minus $")
DATE_BEFORE = re.compile(r"\b(?:on|by|until|since|before|after|from|due|dated) $", re.IGNORECASE)
FRACTION_DENOMINATORS = frozenset({*range(2, 11), 12, 16, 20, 25, 32, 50, 64, 100, 1000})
PAIRS = frozenset({(24, 7), (9, 11), (7, 11), (20, 20)})
"""Pairs of numbers with a slash that are neither fractions nor dates: `24/7`. So are pairs with the sum 100."""

ORDINAL = re.compile(rf"{NUMBER_START}({WHOLE})(?:st|nd|rd|th)\b( ?- ?(?=\d))?", re.IGNORECASE)
CHAIN = re.compile(r"(?<![\w.,-])[A-Za-z0-9]+(?:-[A-Za-z0-9]+){2,}(?![\w-]|[.,]\d)")
RANGE = re.compile(rf"(?<=[\d%°])(?: - |-)(?=[\d{SIGNS}])")
SLASH_BETWEEN_NUMBERS = re.compile(r"(?<=\d) ?/ ?(?=\d)")
RATIO_COLON = re.compile(r"(?<=\d):(?=\d)")
COUNTED_UNIT = (
    rf"({AMOUNT})((?: (?:{SCALE_WORDS}))?)([ -]?)({UNIT_NAME})(?:/({UNIT_NAME})(?![A-Za-z0-9'/])|({RATE}))?"
    r"(?![A-Za-z0-9'/])"
)
UNIT = re.compile(rf"{NUMBER_START}{COUNTED_UNIT}( ?- ?(?=\d))?")
UNIT_STOP = re.compile(rf"({NUMBER_START}{COUNTED_UNIT}(?<=[A-Za-z]))\.(?= +[a-z0-9(]|[,;:!?)-])")
RANGE_OF_UNITS = re.compile(rf"(?<![\d.,-])(\d{{4}})(?: - |-)(?={COUNTED_UNIT})")
RATE_OF_NUMBER = re.compile(rf"(?<=\d)({RATE})")
DIMENSIONS = re.compile(rf"(?<=\d) ?x ?(?=(?:{AMOUNT} ?x ?)?(?:{COUNTED_UNIT}|{AMOUNT} inch))")
THOUSANDS = re.compile(rf"{NUMBER_START}({AMOUNT})k(?![A-Za-z0-9'])( ?- ?(?=\d))?")
VERSION_NUMBER = re.compile(r"(?<![\d.])\d+(?:\.\d+){2,}")
PLAIN_NUMBER = re.compile(AMOUNT)
NUMBER_SIGN = re.compile(r"# ?(?=\d)")


def drop_unit_stops(text: str) -> str:
    """Remove the full stops of units in folded `text` unless they end a sentence: `5 ft. tall`.

    Inches, `10 in. long`, and cups, `2 c. flour`, are written out, since `in` and `c` are also words.
    """
    return UNIT_STOP.sub(r"\1", expand_inches(text))


def expand_numbers(text: str) -> str:
    """Expand all numbers of folded `text` to words."""
    text = expand_telephone_numbers(text)
    text = MINUS_NUMBER.sub("minus ", write_money_signs_first(text))
    text = expand_money(expand_dates(text))
    text = PRODUCT_OF_LENGTHS.sub(r"\1 by ", expand_times(text))
    text = TEXT_BESIDE_NUMBER.sub(_separate, text)
    text = expand_feet_and_inches(text)
    text = expand_matches(FRACTION, _fraction, FRACTION_RANGE.sub(" to ", text))
    text = DIMENSIONS.sub(" by ", text)
    text = expand_matches(THOUSANDS, _thousands, text)
    text = expand_year_ranges(expand_matches(RANGE_OF_UNITS, lambda match: f"{cardinal(int(match[1]))} to ", text))
    text = expand_matches(CHAIN, _chain, text)
    text = RANGE.sub(" to ", text)
    text = SLASH_BETWEEN_NUMBERS.sub(" ", RATIO_COLON.sub(" to ", text))
    text = expand_matches(PERCENT, lambda match: f"{amount(match[1])} percent", text)
    text = expand_matches(
        ORDINAL, lambda match: ordinal(int(match[1].replace(",", "")[:36])) + (" to " if match[2] else ""), text
    )
    text = expand_decades(text)
    text = expand_matches(UNIT, _unit, text)
    text = expand_matches(RATE_OF_NUMBER, lambda match: rate_words(match[1]), text)
    text = NUMBER_SIGN.sub("number ", text)
    text = expand_matches(VERSION_NUMBER, lambda match: " point ".join(map(whole_number, match[0].split("."))), text)
    return expand_matches(PLAIN_NUMBER, _plain_number, text)


def _separate(match: re.Match[str]) -> str:
    if match[0] in POWERED_LETTERS and POWERED_UNIT.search(match.string[max(0, match.start() - 3) : match.end()]):
        return match[0]  # "8 m2"
    # Letters between digits are not a unit: "34V2".
    within = match.string[max(0, match.start() - 1) : match.start()].isdigit() and match[0] in UNITS
    return match[0] if within else f"{match[0]} "


def _fraction(match: re.Match[str]) -> str:
    whole, numerator, denominator, unit = match[1], int(match[2]), int(match[3]), match[4]
    before = match.string[max(0, match.start() - 8) : match.start()]
    words = _fraction_words(whole, numerator, denominator, before)
    if words is None:
        return match[0].replace("/", " ")
    if unit:
        if unit not in UNITS:  # the pattern ignores case
            return f"{words} {unit}"
        return f"{words} {unit_words(unit, not whole and numerator <= denominator)}"
    return words


def _fraction_words(whole: str | None, numerator: int, denominator: int, before: str) -> str | None:
    common = denominator in FRACTION_DENOMINATORS and 0 < numerator < denominator
    if not denominator or (denominator == 1 and not whole):
        return None
    if whole:
        if denominator == 1:
            return f"{cardinal(int(whole))} and {cardinal(numerator)} over one"
        article = {2: "a half", 4: "a quarter"}.get(denominator) if numerator == 1 else None
        return f"{cardinal(int(whole))} and {article or fraction(numerator, denominator)}"
    if MINUS_BEFORE.search(before):
        return fraction(numerator, denominator)
    if (numerator, denominator) in PAIRS or (numerator + denominator == 100 and numerator % 10 == 0):
        return None
    if common and not (DATE_BEFORE.search(before) and denominator > 10 and numerator <= 12 and denominator <= 31):
        return fraction(numerator, denominator)
    if numerator < denominator and denominator <= 31:
        return month_and_day(numerator, denominator) or fraction(numerator, denominator)
    if numerator < denominator or (numerator > 12 and 2 <= denominator <= 10):
        return fraction(numerator, denominator)
    if numerator > 31:
        return f"{cardinal(numerator)} over {cardinal(denominator)}"
    return None


def _chain(match: re.Match[str]) -> str:
    """Three or more parts with hyphens between them, such as `4-3-3` and `b-1-5-c`, are not a range."""
    parts = match[0].split("-")
    if not any(part[0].isdigit() or part[-1].isdigit() for part in parts) or any(part in UNITS for part in parts):
        return match[0]
    return " ".join(parts)


def _thousands(match: re.Match[str]) -> str:
    return f"{amount(match[1])} thousand{' to ' if match[2] else ''}"


def _unit(match: re.Match[str]) -> str:
    digits, scale, sign, unit, per_unit, rate, joined = match.groups()
    words = f"{amount(digits)}{scale} {unit_words(unit, (digits == '1' and not scale) or sign == '-')}"
    words += f" per {unit_words(per_unit, singular=True)}" if per_unit else rate_words(rate)
    return words + (" to " if joined else "")


def _plain_number(match: re.Match[str]) -> str:
    digits = match[0]
    if len(digits) == 4 and digits.isdigit() and digits[0] in "12":
        return f" {year(int(digits))} "
    return f" {amount(digits)} "

"""Numbers in English words, in American usage."""

import re
from collections.abc import Callable
from functools import lru_cache

from num2words import num2words

MAX_DIGITS = 36
"""The number of digits of the longest number that is read as a number; longer numbers are read digit by digit."""

WHOLE = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)"
AMOUNT = rf"(?:{WHOLE}(?:\.\d+)?|(?<!\.)\.\d+)"
NUMBER_START = r"(?<![\d.,])"  # matches start at the first digit; otherwise matching would take quadratic time
ONES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
FRACTIONS = {2: ("half", "halves"), 4: ("quarter", "quarters")}


def expand_matches(pattern: re.Pattern[str], words: Callable[[re.Match[str]], str], text: str) -> str:
    """Replace the matches of `pattern` in `text` by `words(match)`, with spaces to adjacent letters and digits."""

    def spaced(match: re.Match[str]) -> str:
        replaced = words(match)
        if replaced == match[0]:
            return replaced
        before, after = (
            match.string[max(0, match.start() - 1) : match.start()],
            match.string[match.end() : match.end() + 1],
        )
        opening = " " if before.isalnum() and replaced[:1].isalnum() else ""
        closing = " " if after.isalnum() and replaced[-1:].isalnum() else ""
        return opening + replaced + closing

    return pattern.sub(spaced, text)


@lru_cache(maxsize=4096)
def _words(number: int, kind: str) -> str:
    # num2words writes "one thousand, two hundred and five" and "nineteen oh-five".
    return num2words(number, to=kind).replace(",", "").replace(" and ", " ").replace("oh-", "oh ")


def digit_words(digits: str) -> str:
    """The digits one by one: `007` becomes `zero zero seven`."""
    return " ".join(ONES[int(digit)] for digit in digits)


def cardinal(number: int) -> str:
    """`1234` becomes `one thousand two hundred thirty-four`. Numbers of more than 36 digits are read digit by digit."""
    if number < 0:
        return f"minus {cardinal(-number)}"
    return digit_words(str(number)) if number >= 10**MAX_DIGITS else _words(number, "cardinal")


def ordinal(number: int) -> str:
    """`21` becomes `twenty-first`."""
    return f"{cardinal(number)}th" if number >= 10**MAX_DIGITS else _words(number, "ordinal")


def year(number: int) -> str:
    """A number of four digits read as a year: `1905` becomes `nineteen oh five`, `1900` becomes `nineteen hundred`."""
    return _words(number, "year") if 1000 <= number <= 2099 else cardinal(number)


def plural(words: str) -> str:
    """The plural of a number in words: `eighties`, `nineteen hundreds`, `sixes`."""
    if words.endswith("y"):
        return words[:-1] + "ies"
    return words + ("es" if words.endswith("x") else "s")


def fraction(numerator: int, denominator: int) -> str:
    """`3/4` becomes `three quarters`, `1/2` becomes `one half`, `5/8` becomes `five eighths`."""
    singular, plural_form = FRACTIONS.get(denominator) or (ordinal(denominator), f"{ordinal(denominator)}s")
    return f"{cardinal(numerator)} {singular if numerator == 1 else plural_form}"


def decimal(digits: str) -> str:
    """Digits with at most one decimal point: `3.14` becomes `three point one four`, `.5` becomes `point five`."""
    whole, _, part = digits.partition(".")
    return " ".join(filter(None, [whole and whole_number(whole), "point" if part else "", digit_words(part)]))


def whole_number(digits: str) -> str:
    """A whole number in words. A number with leading zeros, such as `007`, is read digit by digit."""
    if (len(digits) > 1 and digits[0] == "0") or len(digits) > MAX_DIGITS:
        return digit_words(digits)
    return cardinal(int(digits))


def amount(digits: str) -> str:
    """A whole or decimal number, with or without commas, in words."""
    return decimal(digits.replace(",", ""))

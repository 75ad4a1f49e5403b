"""Expand feet, inches, angles and cups to words: `6'2"`, `5 ft 10 in`, `10 in. long`, `40°26'46"N`, `2 c. flour`."""

import re

from jaxvoice.text.money import NOT_MODIFIED
from jaxvoice.text.numbers import AMOUNT, amount, cardinal, expand_matches, fraction
from jaxvoice.text.units import UNIT_NAME

FEET = re.compile(r"(?<![\d'])(\d\d?)' ?(\d\d?)(?: (\d)/(\d\d?) ?)?\"")
FEET_WITHOUT_SIGN = re.compile(r"(?<![\w'.,])([3-8])'(1[01]|\d)(?![\w'\"]|\.\d)")
FEET_ONLY = re.compile(
    r"(?:(?<=\ba )(\d\d?)'(?: by (\d\d?)')? (?=[a-z])"
    r"|(?<![\w'.,])(\d{1,3})'(?= ?x ?\d| by \d| (?:tall|long|wide|high|deep|thick)\b)"
    r"|(?<=\bby )(\d{1,3})'(?!\w))"
)
ANGLE = re.compile(r"(?<![\d.,])(\d{1,3})° ?(\d\d?)'(?: ?(\d\d?(?:\.\d{1,6})?)\")?(?: ?([NSEW])(?![A-Za-z]))?")
DIRECTIONS = {"N": "north", "S": "south", "E": "east", "W": "west"}
QUOTE_OR_INCHES = re.compile(r"(?:(?<![\d.,/'])(\d+(?:\.\d+)?))?\"(?: ([a-z]+))?")

# "in" is a preposition unless its place or its stop shows that it is a unit.
NUMBER = r"(?:(?<![\w.,/])|(?<=\dx))((?:\d+ )?\d+/\d+|\d+(?:\.\d+)?|\.\d+)"
DIMENSION_ENDS = r"(?: *(?:$|[,.;:!?)]| - )| (?:and|or|by|at|on|x)\b)"
INCH_NOUNS = "pipe|bolt|nail|screw|board|plywood|drill|hose|socket|square|cube|piece|slice|strip|margin|gap|lift"
INCHES_WITH_STOP = re.compile(rf"{NUMBER}(?: ?|-)in\.(?:( *$| +(?=[A-Z]))|(?= +[a-z0-9(\"]| ?[,;:!?)x-]))")
INCHES = re.compile(
    rf"{NUMBER}(?: in(?=[,;)]| ?x ?\d| by \d| (?:(?:long|wide|high|tall|deep|thick|across|apart){DIMENSION_ENDS}"
    rf"|of (?:rain|snow|water|rainfall|snowfall)\b|(?:{INCH_NOUNS})s?\b))|in(?![\w'/-])|-in(?= [a-z]))"
)
INCHES_AFTER = re.compile(
    rf"((?:\d ?(?:ft|yd)\b\.?|\b(?:feet|foot|inch|inches)|\d')(?: x |, | ?x| by | )){NUMBER} in\b"
    r"(?! (?:the|a|an|his|her|my|our|their|your|this|that|all|bare|socks|shoes|height|length|width)\b)(\.(?= +[a-z]))?"
)
PER_SQUARE = re.compile(r"(?<=\bper )(sq|cu)\.? (in|ft|yd|mi)\b(?:\.(?! *$| +[A-Z]))?")
PER_SQUARE_NAMES = {"sq": "square", "cu": "cubic", "in": "inch", "ft": "foot", "yd": "yard", "mi": "mile"}
CUPS = re.compile(rf"{NUMBER} c\. (?=[a-z])")
_LENGTH = rf"(?:(?:{UNIT_NAME})(?![A-Za-z0-9])|inch(?:es)?\b|feet\b|foot\b|[\"'](?!\w))"
PRODUCT_OF_LENGTHS = re.compile(rf"((?<![\d.,]){AMOUNT} ?{_LENGTH}) ?x ?(?={AMOUNT} ?{_LENGTH})")
"""The sign between two lengths: `3 m x 4 m`."""
FRACTION_RANGE = re.compile(
    r"(?:(?<=\d/\d)|(?<=\d/\d\d)) ?- ?(?=\d{1,2}/\d|\d{1,2}(?! ?[/\d-]))|(?<=\d)-(?=\d{1,2} \d{1,2}/\d)"
)
"""The hyphen of `1/2-3/4` and `2-2 1/2`."""


def expand_inches(text: str) -> str:
    """Write out the inches `in` and the cups `c.` after numbers of folded `text`. The numbers stay."""
    text = PER_SQUARE.sub(lambda match: f"{PER_SQUARE_NAMES[match[1]]} {PER_SQUARE_NAMES[match[2]]}", text)
    if "in" in text:
        text = INCHES_WITH_STOP.sub(_inches_with_stop, text)
        text = INCHES.sub(lambda match: f"{match[1]} {_counted('inch', match[1], '-' in match[0])}", text)
        text = INCHES_AFTER.sub(lambda match: f"{match[1]}{match[2]} {_counted('inch', match[2])}", text)
    return CUPS.sub(lambda match: f"{match[1]} {_counted('cup', match[1])} ", text)


def expand_feet_and_inches(text: str) -> str:
    """Expand feet and inches with signs, and angles, of folded `text`: `6'2"`, `a 27" screen`, `40°26'N`."""
    if "'" in text:
        text = expand_matches(ANGLE, _angle, text)
        text = expand_matches(FEET, _feet, text)
        text = expand_matches(FEET_WITHOUT_SIGN, lambda match: f"{_foot(match[1])} {cardinal(int(match[2]))}", text)
        text = expand_matches(FEET_ONLY, _feet_only, text)
    return _expand_inches_sign(text)


def _counted(unit: str, number: str, attributive: bool = False) -> str:
    if attributive or number == "1" or ("/" in number and " " not in number):
        return unit
    return f"{unit}es" if unit.endswith("ch") else f"{unit}s"


def _inches_with_stop(match: re.Match[str]) -> str:
    ends_sentence = match[2] is not None
    words = f"{match[1]} {_counted('inch', match[1], f'{match[1]}-in' in match[0])}"
    return words + (f".{match[2]}" if ends_sentence else "")


def _plural(count: str, unit: str) -> str:
    return f"{amount(count)} {unit}{'s' * (count.lstrip('0') != '1')}"


def _foot(feet: str) -> str:
    return f"{cardinal(int(feet))} {'foot' if feet == '1' else 'feet'}"


def _feet(match: re.Match[str]) -> str:
    inches = cardinal(int(match[2]))
    if match[3]:
        part = "a half" if (match[3], match[4]) == ("1", "2") else fraction(int(match[3]), int(match[4]) or 1)
        return f"{_foot(match[1])} {inches} and {part} inches"
    return f"{_foot(match[1])} {inches} inch{'es' * (int(match[2]) != 1)}"


def _feet_only(match: re.Match[str]) -> str:
    # "a 6' fence" has the singular.
    if match[1]:
        return " by ".join(f"{cardinal(int(feet))} foot" for feet in (match[1], match[2]) if feet) + " "
    return _foot(match[3] or match[4])


def _angle(match: re.Match[str]) -> str:
    degrees, minutes, seconds, direction = match.groups()
    words = [_plural(degrees, "degree"), _plural(str(int(minutes)), "minute")]
    words += [_plural(seconds, "second")] if seconds else []
    return " ".join([*words, *([DIRECTIONS[direction]] if direction else [])])


def _expand_inches_sign(text: str) -> str:
    in_quotes = False

    def expand(match: re.Match[str]) -> str:
        nonlocal in_quotes
        digits, following = match[1], match[2]
        if not digits or in_quotes:  # after an opening quote, the sign is the closing quote
            in_quotes = not in_quotes
            return match[0]
        attributive = following and following not in NOT_MODIFIED  # "a 27\" screen"
        words = f"{amount(digits)} inch{'es' * (digits != '1' and not attributive)}"
        return f"{words} {following}" if following else words

    return expand_matches(QUOTE_OR_INCHES, expand, text)

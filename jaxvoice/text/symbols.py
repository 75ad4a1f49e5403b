"""Read symbols beside letters and digits: `AT&T`, `C#`, `7-3=4`, `x^2`, `5 != 7`."""

import re

from jaxvoice.text.numbers import ordinal
from jaxvoice.text.units import POWERED_UNIT

INITIALS_WITH_AND = re.compile(r"(?<![A-Za-z&])([A-Z]{1,3})&([A-Z]{1,3})(?![A-Za-z&])")
SHARP = re.compile(r"(?<![A-Za-z0-9#])([A-GJ])#(?:(m)\b|(?=(\d{1,2}\b)|[^A-Za-z0-9#]|$))")
HASH = re.compile(r"#(?=[A-Za-z])|(?<=[A-Za-z])#+")
COMPARISONS = {"!=": " is not equal to ", "<=": " less than or equal to ", ">=": " greater than or equal to "}
COMPARISON = re.compile("|".join(COMPARISONS))
REPEATED_EQUALS = re.compile("={2,}")
ARROW = re.compile(r"[-=]{1,9}>")
OPERAND = r"(?:\d+(?:[.,]\d+)*(?:[a-z](?![A-Za-z]))?|(?<![A-Za-z'])[A-Za-z](?![A-Za-z']))"
EXPRESSION = re.compile(rf"(?<![\d.,]){OPERAND}(?: ?[-+*/] ?{OPERAND})+")
EQUATION_AFTER = re.compile(r" ?(?:!?=|[<>])")
EQUATION_BEFORE = re.compile(r"[=<>] ?$")
QUOTIENT = re.compile(r"(?<![\w.,])([\d.,]+|[A-Za-z]) ?/ ?([\d.,]+|[A-Za-z])(?![\w.,])")
PRODUCT = re.compile(r"(?<=\d)(?:\*| \* )(?=[\dA-Za-z(])|(?<=\d) ?x ?(?=\d+ ?=)")
POWER = re.compile(r" ?\^ ?(?:(-?)(\d{1,4})(?!\d|\.\d)|([A-Za-z])(?![A-Za-z]))?")
NAMED_POWERS = {"2": "squared", "3": "cubed"}


def expand_symbols(text: str) -> str:
    """Expand the symbols of arithmetic, ampersands between initials, and sharps of folded `text`."""
    text = INITIALS_WITH_AND.sub(_initials, text)
    text = HASH.sub(
        " hash ", SHARP.sub(lambda match: f"{match[1]} sharp{' minor' if match[2] else ' ' if match[3] else ''}", text)
    )
    if any(sign in text for sign in "=<>"):
        text = ARROW.sub(" - ", text)
        text = EXPRESSION.sub(_expression, text)
        text = COMPARISON.sub(lambda match: COMPARISONS[match[0]], text)
        text = REPEATED_EQUALS.sub("=", text)
    return PRODUCT.sub(" times ", POWER.sub(expand_power, text))


def expand_power(match: re.Match[str]) -> str:
    """The words of a match of `POWER`: `^2` becomes `squared`, `^4` becomes `to the fourth`."""
    before = match.string[max(0, match.start() - 8) : match.start()]
    if match[2] in NAMED_POWERS and not match[1]:
        return match[0] if POWERED_UNIT.search(before) else f" {NAMED_POWERS[match[2]]} "
    if match[2]:
        return f" to the minus {match[2]} " if match[1] else f" to the {ordinal(int(match[2]))} "
    return f" to the {match[3]} " if match[3] else " "


def _initials(match: re.Match[str]) -> str:
    if min(len(match[1]), len(match[2])) > 1:
        return match[0]
    return f"{' '.join(match[1])} and {' '.join(match[2])}"


def _expression(match: re.Match[str]) -> str:
    """The signs of an equation in words. A hyphen outside an equation can be a range."""
    text, start, end = match.string, match.start(), match.end()
    if not (EQUATION_AFTER.match(text, end) or EQUATION_BEFORE.search(text[max(0, start - 2) : start])):
        return match[0]
    expression = re.sub(" ?- ?", " minus ", match[0])
    expression = re.sub(r" ?\* ?", " times ", expression)
    return QUOTIENT.sub(_quotient, expression)


def _quotient(match: re.Match[str]) -> str:
    # "1/2" is a fraction in equations too.
    is_fraction = match[1].isdigit() and match[2].isdigit() and int(match[1]) < int(match[2])
    return match[0] if is_fraction else f"{match[1]} divided by {match[2]}"

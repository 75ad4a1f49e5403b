"""Expand telephone numbers, network addresses and other numbers that are read digit by digit."""

import re

from jaxvoice.text.numbers import cardinal, digit_words, expand_matches

PHONE = re.compile(
    r"(?<![\w.-])(?P<plus>\+)?(?:(?P<country>1)(?:[-. ]|(?=\()))?"
    r"(?:\((?P<area>\d{3})\)[-. ]{0,2}|(?P<bare>\d{3})[-. ])?"
    r"(?P<exchange>\d{3})(?P<sign>[-. ])(?P<line>\d{4})(?P<extension>(?:-\d{1,4}){0,2})(?![\w-]|\.\d)"
)
PHONE_WORD = re.compile(r"(?<![\d-])1-([2-9])(00|\d\d)-(?=[A-Z][A-Za-z])")
INTERNATIONAL = re.compile(
    r"(?<![\w+])\+\d{1,3}(?:[ .-](?:\(\d{1,4}\) ?)?\d{1,12}){1,6}(?![\w-])|(?<![\w+])\+\d{8,15}(?!\d)"
)
NATIONAL = re.compile(r"(?<![\w.,-])0\d{2,4} \d{3,4} \d{3,4}(?! ?\d|\w)")
SECURITY_NUMBER = re.compile(r"(?<![\w-])\d{3}-\d\d-\d{4}(?![\w-])")
NETWORK_ADDRESS = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\.?\d|[A-Za-z])")
CODE_WORD = re.compile(
    r"\b((?:ending in|pin|otp|pnr|code|password|passcode|routing|account)(?: (?:is|number|no\.?))?:? )"
    r"(\d{3,})(?![\d.,-]\d|\d)",
    re.IGNORECASE,
)
LETTERS_AND_DIGITS = re.compile(r"(?<![A-Za-z0-9])([A-Za-z]{1,3})(\d{4,})(?![A-Za-z0-9]|[.,]\d)")
SAVINGS_PLAN = re.compile(r"\b(40[13])(?:\(([kb])\)|(k)\b)")


def expand_telephone_numbers(text: str) -> str:
    """Expand the telephone numbers of folded `text`, and codes and network addresses."""
    text = expand_matches(SAVINGS_PLAN, lambda match: f"{year_style(match[1])} {(match[2] or match[3]).upper()} ", text)
    if "." in text:
        text = expand_matches(NETWORK_ADDRESS, _network_address, text)
    text = expand_matches(PHONE_WORD, lambda match: f"one {_group(match[1] + match[2])} ", text)
    text = expand_matches(PHONE, _phone, text)
    text = expand_matches(INTERNATIONAL, _international, text)
    text = expand_matches(NATIONAL, lambda match: _groups(match[0]), text)
    text = expand_matches(SECURITY_NUMBER, lambda match: _groups(match[0]), text)
    text = expand_matches(CODE_WORD, lambda match: match[1] + digit_words(match[2]), text)
    return expand_matches(LETTERS_AND_DIGITS, _letters_and_digits, text)


def year_style(digits: str) -> str:
    """Three or four digits in pairs, as in house numbers: `708` becomes `seven oh eight`.

    Other numbers of up to two digits are read as a whole, longer ones digit by digit.
    """
    high, low = digits[:-2], digits[-2:]
    if digits[0] == "0" or len(digits) > 4:
        return digit_words(digits)
    if len(digits) < 3 or digits[1:] in ("00", "000"):
        return cardinal(int(digits))
    pair = "hundred" if low == "00" else f"oh {cardinal(int(low))}" if low[0] == "0" else cardinal(int(low))
    return f"{cardinal(int(high))} {pair}"


def _group(digits: str) -> str:
    # "800" and "900" are read as numbers, other groups of telephone numbers digit by digit.
    return cardinal(int(digits)) if re.fullmatch("[89]00", digits) else digit_words(digits)


def _groups(written: str) -> str:
    return ", ".join(_group(digits) for digits in re.findall(r"\d+", written))


def _phone(match: re.Match[str]) -> str:
    area, sign = match["area"] or match["bare"], match["sign"]
    if (not area and (match["country"] or match["plus"] or match["extension"] or sign != "-")) or (
        match["plus"] and not match["country"]
    ):
        return match[0]
    return ("plus " if match["plus"] else "") + _groups(match[0])


def _international(match: re.Match[str]) -> str:
    if len(re.sub(r"\D", "", match[0])) < 8:
        return match[0]
    country, *others = re.findall(r"\d+", match[0])
    return f"plus {', '.join(digit_words(digits) for digits in (country, *others))}"


def _network_address(match: re.Match[str]) -> str:
    parts = match[0].split(".")
    # "1.2.3.4" is a version.
    return " dot ".join(map(digit_words, parts)) if max(map(len, parts)) > 1 else match[0]


def _letters_and_digits(match: re.Match[str]) -> str:
    letters, digits = match[1], match[2]
    named = digits.endswith("000") or (len(digits) == 4 and digits[:2] in ("18", "19", "20"))
    return match[0] if named else f"{letters} {digit_words(digits)}"

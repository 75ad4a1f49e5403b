"""Expand numbers in a text to words: money, dates, times, measures and plain numbers."""

import re

from jaxvoice.text.abbreviations import MONTHS, UNITS, unit_words
from jaxvoice.text.numbers import cardinal, decimal, digit_words, fraction, ordinal, plural, whole_number, year

WHOLE = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)"
AMOUNT = rf"(?:{WHOLE}(?:\.\d+)?|\.\d+)"
NUMBER_START = r"(?<![\d.,])"  # matches start at the first digit; otherwise matching would take quadratic time
MONTH_NAMES = tuple(dict.fromkeys(MONTHS.values()))
MONTH_NAME = "|".join(MONTH_NAMES)
MONEY = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"),
    "¥": ("yen", "yen", "", ""),
}
SCALES = {"k": "thousand", "K": "thousand", "m": "million", "M": "million", "mn": "million"}
SCALES |= {"bn": "billion", "B": "billion", "b": "billion", "tn": "trillion", "T": "trillion"}
SCALES |= {word: word for word in ("hundred", "thousand", "million", "billion", "trillion")}
CURRENCY = re.compile(
    rf"(?:\bUS)?(?P<sign>[$£€¥]) ?(?P<digits>{AMOUNT})(?!\d)"
    rf"(?:(?:(?P<join>-? |-)(?P<scale>{'|'.join(word for word in SCALES if len(word) > 3)})"
    r"|-?(?P<short>k|K|mn|m|M|bn|b|B|tn|T))\b)?(?P<noun>[ -](?:dollar|pound|euro|yen)s?\b)?"
)
AFTER = re.compile(r"(-?)\W?([a-z]*)")
_NOT_MODIFIED = "a an and as at by for from in into is of on or out per than that the to was were will with"
NOT_MODIFIED = frozenset(_NOT_MODIFIED.split())
"""Words that "$20-billion" does not modify: "$20-billion in aid", but "a $20-billion plan"."""
MONEY_RANGE = re.compile(rf"([$£€¥])({AMOUNT})-[$£€¥]?(?=\d)")
TIME_RANGE = re.compile(r"(?<=[\dmM.])-(?=\d\d?:\d\d)")
CENTS = re.compile(rf"{NUMBER_START}({WHOLE}) ?¢")
MINUS_NUMBER = re.compile(r"(?<![^\s(])-(?=[\d.$£€¥])")
DATE_ISO = re.compile(r"(?<!\d)(\d{4})-(\d\d)-(\d\d)(?!\d)")
DATE_SLASHED = re.compile(r"(?<![\d/])(\d\d?)/(\d\d?)/(\d{4}|\d\d)(?![\d/])")
MONTH_DAY = re.compile(rf"\b({MONTH_NAME}) (\d\d?)(?:st|nd|rd|th)?\b(?![:./]\d)(,? \d{{4}}\b)?", re.IGNORECASE)
DAY_MONTH = re.compile(
    rf"(?:\b[Tt]he )?{NUMBER_START}(\d\d?)(?:st|nd|rd|th)? (?:of )?({MONTH_NAME})\b(,? \d{{4}}\b)?", re.IGNORECASE
)
TIME = re.compile(r"(?<![\d:])(\d\d?):(\d\d)(?::(\d\d))?(?![\d:])( ?[ap]\.?m\b\.?)?", re.IGNORECASE)
HOUR = re.compile(r"(?<![\d:.,$])(\d\d?) ?([ap])\.?m\b\.?", re.IGNORECASE)
PHONE = re.compile(r"(?<![\d-])(?:(?:(1)[- ])?\(?(\d{3})\)?[- ])?(\d{3})-(\d{4})(?![\d-])")
PHONE_WORD = re.compile(r"(?<![\d-])1-([2-9])(00|\d\d)-(?=[A-Z][A-Za-z])")
PERCENT = re.compile(rf"{NUMBER_START}({AMOUNT}) ?%")
FEET = re.compile(r"(?<![\d'])(\d\d?)' ?(\d\d?)\"")
TEXT_BESIDE_NUMBER = re.compile(r"(?<![A-Za-z])[A-Za-z]+(?=\d)|[%¢](?=[A-Za-z])")
FRACTION = re.compile(r"(?<![\d/.,])(?:(\d{1,9})[ -]+)?(\d{1,4})/(\d{1,4})(?![\d/])")
ORDINAL = re.compile(rf"{NUMBER_START}({WHOLE})(?:st|nd|rd|th)\b", re.IGNORECASE)
DECADE = re.compile(r"(?<!\d)'?(\d{4}|\d\d)'?s\b")
YEARS = re.compile(r"(?<![\d-])(1\d{3}|20\d\d)-(\d{4}|\d\d)(?![\d-])")
RANGE = re.compile(r"(?<=\d)(?: - |-)(?=[\d$£€])")
RATIO_COLON = re.compile(r"(?<=\d):(?=\d)")
UNIT = re.compile(
    rf"{NUMBER_START}({AMOUNT})([ -]?)"
    rf"({'|'.join(sorted(map(re.escape, UNITS), key=len, reverse=True))})(?![A-Za-z0-9'/])"
)
UNIT_STOP = re.compile(rf"({UNIT.pattern}(?<=[A-Za-z]))\.(?= +[a-z0-9(]|[,;:!?)-])")
VERSION_NUMBER = re.compile(r"(?<![\d.])\d+(?:\.\d+){2,}")
PLAIN_NUMBER = re.compile(AMOUNT)
NUMBER_SIGN = re.compile(r"#(?=\d)")
FRACTION_DENOMINATORS = frozenset({*range(2, 11), 12, 16, 20, 25, 32, 50, 64, 100, 1000})


def amount(digits: str) -> str:
    """A whole or decimal number, with or without commas, in words."""
    return decimal(digits.replace(",", ""))


def _money(match: re.Match[str]) -> str:
    named = match["noun"] or ""
    if named and named[1:].removesuffix("s") != MONEY[match["sign"]][0]:
        return _amount_of_money(match, attributive=False) + named  # not the currency of the sign
    after = AFTER.match(match.string, match.end())
    hyphenated = (
        (match["join"] or " ")[0] == "-" and after and (after[1] or (after[2] and after[2] not in NOT_MODIFIED))
    )
    return _amount_of_money(match, attributive=bool(named.startswith("-") or (hyphenated and not named)))


def _amount_of_money(match: re.Match[str], *, attributive: bool) -> str:
    singular, plural_form, small_singular, small_plural = MONEY[match["sign"]]
    digits, scale = match["digits"].replace(",", ""), match["scale"] or match["short"]
    if scale:
        return f"{amount(digits)} {SCALES[scale]} {singular if attributive else plural_form}"
    whole, _, part = digits.partition(".")
    if not part or len(part) != 2 or not small_singular:
        return f"{amount(digits)} {singular if digits == '1' or attributive else plural_form}"
    cents = f"{cardinal(int(part))} {small_singular if part == '01' else small_plural}"
    if part == "00" or whole.strip("0"):
        of_whole = f"{whole_number(whole or '0')} {singular if whole == '1' else plural_form}"
        return of_whole if part == "00" else f"{of_whole} and {cents}"
    return cents


def _date(month: int, day: int, of_year: int, written: str) -> str:
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return written
    return f"{MONTH_NAMES[month - 1]} {ordinal(day)}, {year(of_year)}"


def _slashed(match: re.Match[str]) -> str:
    of_year = int(match[3])
    if len(match[3]) == 2:
        of_year += 2000 if of_year < 50 else 1900
    return _date(int(match[1]), int(match[2]), of_year, match[0])


def _year_after(written: str | None) -> str:
    return "" if written is None else f", {year(int(written.strip(' ,')))}"


def _month_day(match: re.Match[str]) -> str:
    if not 1 <= int(match[2]) <= 31:
        return match[0]
    return f"{match[1]} {ordinal(int(match[2]))}{_year_after(match[3])}"


def _day_month(match: re.Match[str]) -> str:
    # "5 May" is a date, "5 may seem few" is not.
    if not 1 <= int(match[1]) <= 31 or (match[2][0].islower() and match[2] in ("may", "march")):
        return match[0]
    return f"the {ordinal(int(match[1]))} of {match[2]}{_year_after(match[3])}"


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


def _final_stop(match: re.Match[str]) -> str:
    # At the end of the text, the full stop of "p.m." also ends the sentence.
    return "." if match[0].endswith(".") and not match.string[match.end() :].strip() else ""


def _fraction(match: re.Match[str]) -> str:
    whole, numerator, denominator = match[1], int(match[2]), int(match[3])
    if denominator not in FRACTION_DENOMINATORS or not 0 < numerator < denominator:
        return match[0].replace("/", " ")
    if not whole:
        return fraction(numerator, denominator)
    article = {2: "a half", 4: "a quarter"}.get(denominator) if numerator == 1 else None
    return f"{cardinal(int(whole))} and {article or fraction(numerator, denominator)}"


def _decade(match: re.Match[str]) -> str:
    digits = int(match[1])
    if len(match[1]) == 4:
        return plural(year(digits))
    return plural(cardinal(digits))


def _plain_number(match: re.Match[str]) -> str:
    digits = match[0]
    if len(digits) == 4 and digits.isdigit() and digits[0] in "12":
        return f" {year(int(digits))} "
    return f" {amount(digits)} "


def drop_unit_stops(text: str) -> str:
    """Remove the full stops of units in folded `text` unless they end a sentence: `5 ft. tall`."""
    return UNIT_STOP.sub(r"\1", text)


def expand_numbers(text: str) -> str:
    """Expand all numbers of folded `text` to words."""
    text = MINUS_NUMBER.sub("minus ", TEXT_BESIDE_NUMBER.sub(_separate, text))
    text = MONEY_RANGE.sub(r"\2 to \1", text)
    text = CURRENCY.sub(_money, text)
    text = CENTS.sub(lambda match: f"{amount(match[1])} cent{'s' * (match[1] != '1')}", text)
    text = DATE_ISO.sub(lambda match: _date(int(match[2]), int(match[3]), int(match[1]), match[0]), text)
    text = DATE_SLASHED.sub(_slashed, text)
    text = MONTH_DAY.sub(_month_day, text)
    text = DAY_MONTH.sub(_day_month, text)
    text = TIME_RANGE.sub(" to ", text)
    text = TIME.sub(_time, text)
    text = HOUR.sub(_hour, text)
    text = PHONE_WORD.sub(lambda match: f"one {_telephone_digits(match[1] + match[2])} ", text)
    text = PHONE.sub(lambda match: ", ".join(_telephone_digits(part) for part in match.groups() if part), text)
    text = FEET.sub(_feet, text)
    text = FRACTION.sub(lambda match: _fraction(match) + _space(match), text)
    text = YEARS.sub(_years, text)
    text = RANGE.sub(" to ", text)
    text = RATIO_COLON.sub(" to ", text)
    text = PERCENT.sub(lambda match: f"{amount(match[1])} percent", text)
    text = ORDINAL.sub(lambda match: ordinal(int(match[1].replace(",", "")[:36])), text)
    text = DECADE.sub(_decade, text)
    text = UNIT.sub(
        lambda match: f"{amount(match[1])} {unit_words(match[3], match[1] == '1' or match[2] == '-')}", text
    )
    text = NUMBER_SIGN.sub("number ", text)
    text = VERSION_NUMBER.sub(
        lambda match: " point ".join(map(whole_number, match[0].split("."))) + _space(match), text
    )
    return PLAIN_NUMBER.sub(_plain_number, text)


def _separate(match: re.Match[str]) -> str:
    # Letters between digits are not a unit: "34V2".
    within = match.string[max(0, match.start() - 1) : match.start()].isdigit() and match[0] in UNITS
    return match[0] if within else f"{match[0]} "


def _space(match: re.Match[str]) -> str:
    return " " if match.string[match.end() : match.end() + 1].isalpha() else ""


def _telephone_digits(digits: str) -> str:
    # "800" and "900" are read as numbers, other groups of telephone numbers digit by digit.
    return cardinal(int(digits)) if re.fullmatch("[89]00", digits) else digit_words(digits)


def _feet(match: re.Match[str]) -> str:
    feet, inches = int(match[1]), int(match[2])
    return f"{cardinal(feet)} {'foot' if feet == 1 else 'feet'} {cardinal(inches)} inch{'es' * (inches != 1)}"


def _years(match: re.Match[str]) -> str:
    last = year(int(match[2])) if len(match[2]) == 4 else whole_number(match[2])
    return f"{year(int(match[1]))} to {last}"

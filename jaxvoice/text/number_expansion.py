"""Figures in words: money, dates, times, measures and plain numbers inside a text."""

import re

from jaxvoice.text.abbreviations import MONTHS, UNITS, unit_words
from jaxvoice.text.numbers import cardinal, decimal, digit_words, fraction, number, ordinal, plural, year

WHOLE = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)"
AMOUNT = rf"(?:{WHOLE}(?:\.\d+)?|\.\d+)"
START = r"(?<![\d.,])"  # a number is never entered half way: that would also cost quadratic time
MONTH_NAMES = tuple(dict.fromkeys(MONTHS.values()))
MONTH = "|".join(MONTH_NAMES)
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
_NO_NOUN = "a an and as at by for from in into is of on or out per than that the to was were will with"
NO_NOUN = frozenset(_NO_NOUN.split())
"""Words before which "$20-billion" describes nothing: "$20-billion in aid", but "a $20-billion plan"."""
MONEY_RANGE = re.compile(rf"([$£€¥])({AMOUNT})-[$£€¥]?(?=\d)")
TIME_RANGE = re.compile(r"(?<=[\dmM.])-(?=\d\d?:\d\d)")
CENTS = re.compile(rf"{START}({WHOLE}) ?¢")
MINUS = re.compile(r"(?<![^\s(])-(?=[\d.$£€¥])")
DATE_ISO = re.compile(r"(?<!\d)(\d{4})-(\d\d)-(\d\d)(?!\d)")
DATE_SLASHED = re.compile(r"(?<![\d/])(\d\d?)/(\d\d?)/(\d{4}|\d\d)(?![\d/])")
MONTH_DAY = re.compile(rf"\b({MONTH}) (\d\d?)(?:st|nd|rd|th)?\b(?![:./]\d)(,? \d{{4}}\b)?", re.IGNORECASE)
DAY_MONTH = re.compile(
    rf"(?:\b[Tt]he )?{START}(\d\d?)(?:st|nd|rd|th)? (?:of )?({MONTH})\b(,? \d{{4}}\b)?", re.IGNORECASE
)
TIME = re.compile(r"(?<![\d:])(\d\d?):(\d\d)(?::(\d\d))?(?![\d:])( ?[ap]\.?m\b\.?)?", re.IGNORECASE)
HOUR = re.compile(r"(?<![\d:.,$])(\d\d?) ?([ap])\.?m\b\.?", re.IGNORECASE)
PHONE = re.compile(r"(?<![\d-])(?:(?:(1)[- ])?\(?(\d{3})\)?[- ])?(\d{3})-(\d{4})(?![\d-])")
PHONE_WORD = re.compile(r"(?<![\d-])1-([2-9])(00|\d\d)-(?=[A-Z][A-Za-z])")
PERCENT = re.compile(rf"{START}({AMOUNT}) ?%")
FEET = re.compile(r"(?<![\d'])(\d\d?)' ?(\d\d?)\"")
MEETING = re.compile(r"(?<![A-Za-z])[A-Za-z]+(?=\d)|[%¢](?=[A-Za-z])")
FRACTION = re.compile(r"(?<![\d/.,])(?:(\d{1,9})[ -]+)?(\d{1,4})/(\d{1,4})(?![\d/])")
ORDINAL = re.compile(rf"{START}({WHOLE})(?:st|nd|rd|th)\b", re.IGNORECASE)
DECADE = re.compile(r"(?<!\d)'?(\d{4}|\d\d)'?s\b")
YEARS = re.compile(r"(?<![\d-])(1\d{3}|20\d\d)-(\d{4}|\d\d)(?![\d-])")
RANGE = re.compile(r"(?<=\d)(?: - |-)(?=[\d$£€])")
RATIO = re.compile(r"(?<=\d):(?=\d)")
UNIT = re.compile(
    rf"{START}({AMOUNT})([ -]?)({'|'.join(sorted(map(re.escape, UNITS), key=len, reverse=True))})(?![A-Za-z0-9'/])"
)
UNIT_STOP = re.compile(rf"({UNIT.pattern}(?<=[A-Za-z]))\.(?= +[a-z0-9(]|[,;:!?)-])")
DOTTED = re.compile(r"(?<![\d.])\d+(?:\.\d+){2,}")
PLAIN = re.compile(AMOUNT)
NUMERO = re.compile(r"#(?=\d)")
SIMPLE_BOTTOMS = frozenset({*range(2, 11), 12, 16, 20, 25, 32, 50, 64, 100, 1000})


def amount(digits: str) -> str:
    """A whole or decimal number as written, commas and all."""
    return decimal(digits.replace(",", ""))


def _money(match: re.Match[str]) -> str:
    named = match["noun"] or ""
    if named and named[1:].removesuffix("s") != MONEY[match["sign"]][0]:
        return _sum(match, describes=False) + named  # another currency than the sign's
    after = AFTER.match(match.string, match.end())
    joined = (match["join"] or " ")[0] == "-" and after and (after[1] or (after[2] and after[2] not in NO_NOUN))
    return _sum(match, describes=bool(named.startswith("-") or (joined and not named)))


def _sum(match: re.Match[str], *, describes: bool) -> str:
    one, many, small_one, small_many = MONEY[match["sign"]]
    digits, scale = match["digits"].replace(",", ""), match["scale"] or match["short"]
    if scale:
        return f"{amount(digits)} {SCALES[scale]} {one if describes else many}"
    whole, _, part = digits.partition(".")
    if not part or len(part) != 2 or not small_one:
        return f"{amount(digits)} {one if digits == '1' or describes else many}"
    cents = f"{cardinal(int(part))} {small_one if part == '01' else small_many}"
    if part == "00" or whole.strip("0"):
        of_whole = f"{number(whole or '0')} {one if whole == '1' else many}"
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
    # "5 May", but not "5 may seem few": a month is written with a capital.
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
    said = cardinal(hour)
    if minute:
        said += f" oh {cardinal(minute)}" if minute < 10 else f" {cardinal(minute)}"
    elif not half:
        said += " hundred" if hour == 0 or hour > 12 else " o'clock"
    seconds = int(match[3] or 0)
    return said + (f" and {cardinal(seconds)} second{'s' * (seconds != 1)}" if match[3] else "") + half + _stop(match)


def _hour(match: re.Match[str]) -> str:
    return f"{cardinal(int(match[1]))}{_half_of_day(match[2])}{_stop(match)}"


def _stop(match: re.Match[str]) -> str:
    # The full stop of "p.m." also ends the text.
    return "." if match[0].endswith(".") and not match.string[match.end() :].strip() else ""


def _fraction(match: re.Match[str]) -> str:
    whole, top, bottom = match[1], int(match[2]), int(match[3])
    if bottom not in SIMPLE_BOTTOMS or not 0 < top < bottom:
        return match[0].replace("/", " ")
    if not whole:
        return fraction(top, bottom)
    article = {2: "a half", 4: "a quarter"}.get(bottom) if top == 1 else None
    return f"{cardinal(int(whole))} and {article or fraction(top, bottom)}"


def _decade(match: re.Match[str]) -> str:
    digits = int(match[1])
    if len(match[1]) == 4:
        return plural(year(digits))
    return plural(cardinal(digits))


def _plain(match: re.Match[str]) -> str:
    digits = match[0]
    if len(digits) == 4 and digits.isdigit() and digits[0] in "12":
        return f" {year(int(digits))} "
    return f" {amount(digits)} "


def drop_unit_stops(text: str) -> str:
    """Folded `text` without the full stops of units that end no sentence: `5 ft. tall`."""
    return UNIT_STOP.sub(r"\1", text)


def expand_numbers(text: str) -> str:
    """Folded `text` with all numbers in words."""
    text = MINUS.sub("minus ", MEETING.sub(_apart, text))
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
    text = PHONE_WORD.sub(lambda match: f"one {_exchange(match[1] + match[2])} ", text)
    text = PHONE.sub(lambda match: ", ".join(_exchange(part) for part in match.groups() if part), text)
    text = FEET.sub(_feet, text)
    text = FRACTION.sub(lambda match: _fraction(match) + _space(match), text)
    text = YEARS.sub(_years, text)
    text = RANGE.sub(" to ", text)
    text = RATIO.sub(" to ", text)
    text = PERCENT.sub(lambda match: f"{amount(match[1])} percent", text)
    text = ORDINAL.sub(lambda match: ordinal(int(match[1].replace(",", "")[:36])), text)
    text = DECADE.sub(_decade, text)
    text = UNIT.sub(
        lambda match: f"{amount(match[1])} {unit_words(match[3], match[1] == '1' or match[2] == '-')}", text
    )
    text = NUMERO.sub("number ", text)
    text = DOTTED.sub(lambda match: " point ".join(map(number, match[0].split("."))) + _space(match), text)
    return PLAIN.sub(_plain, text)


def _apart(match: re.Match[str]) -> str:
    # A unit inside a name is none: "34V2".
    within = match.string[max(0, match.start() - 1) : match.start()].isdigit() and match[0] in UNITS
    return match[0] if within else f"{match[0]} "


def _space(match: re.Match[str]) -> str:
    return " " if match.string[match.end() : match.end() + 1].isalpha() else ""


def _exchange(digits: str) -> str:
    # "1-800" is said so; other parts of telephone numbers digit by digit.
    return cardinal(int(digits)) if re.fullmatch("[89]00", digits) else digit_words(digits)


def _feet(match: re.Match[str]) -> str:
    feet, inches = int(match[1]), int(match[2])
    return f"{cardinal(feet)} {'foot' if feet == 1 else 'feet'} {cardinal(inches)} inch{'es' * (inches != 1)}"


def _years(match: re.Match[str]) -> str:
    until = year(int(match[2])) if len(match[2]) == 4 else number(match[2])
    return f"{year(int(match[1]))} to {until}"

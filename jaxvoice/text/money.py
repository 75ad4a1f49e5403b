"""Expand amounts of money to words: `$5.50`, `€20-30`, `HK$100`, `$20/mo`, `5 USD`."""

import re

from jaxvoice.text.numbers import AMOUNT, NUMBER_START, WHOLE, amount, cardinal, expand_matches, whole_number
from jaxvoice.text.units import RATE, rate_words

MONEY = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"),
    "¥": ("yen", "yen", "", ""),
    "₩": ("won", "won", "", ""),
    "₹": ("rupee", "rupees", "paisa", "paise"),
    "₽": ("ruble", "rubles", "kopeck", "kopecks"),
    "₪": ("shekel", "shekels", "", ""),
    "₺": ("lira", "lira", "", ""),
    "₱": ("peso", "pesos", "", ""),
    "₿": ("bitcoin", "bitcoins", "", ""),
}
"""The names of one unit, several units, one subunit and several subunits by sign. Yen and won have no subunits."""

SIGNS = "".join(MONEY)
SCALES = {"k": "thousand", "K": "thousand", "m": "million", "M": "million", "mn": "million"}
SCALES |= {"bn": "billion", "B": "billion", "b": "billion", "tn": "trillion", "T": "trillion"}
SCALE_WORDS = "hundred|thousand|million|billion|trillion|lakh|crore"
SCALES |= {word: word for word in SCALE_WORDS.split("|")}
SHORT_SCALES = "k|K|mn|m|M|bn|b|B|tn|T"
_CODES = "USD EUR GBP JPY CNY RMB AUD CAD NZD CHF HKD SGD SEK NOK DKK INR KRW MXN BRL ZAR RUB PLN TRY ILS"
CODE = "|".join(_CODES.split())
CODE_BESIDE_AMOUNT = re.compile(
    rf"(?<![A-Za-z])({CODE})(?= ?[\d{SIGNS}])|(?<=\d) ?({CODE})(?![A-Za-z])|(?<=\d[kKmMbB]) ?({CODE})(?![A-Za-z])"
)
COUNTRY = "US|HK|AU|CA|NZ|NT|SG|MX|[AC-NS]"
COMMA_DECIMAL = r"(?:\d{1,3}(?:\.\d{3})+|\d+),\d\d(?![\d,])"
RUPEES = re.compile(r"(?<![A-Za-z])(?:Rs|Re)\.? ?(?=\d)")
RUPEES_SIGN_AFTER = re.compile(r"(?<=\d)/-(?!\w)")
MINUS_AFTER_SIGN = re.compile(rf"(?<![\w.,])((?:(?:{COUNTRY})?\$|[{SIGNS}]) ?)(?:-| ?minus )(?=\.?\d)")
DOLLAR_RANGE = re.compile(rf"(?<=\d) ?- ?(?=(?:{COUNTRY})\$ ?\d)")
COMMA_AFTER_EURO = re.compile(rf"((?:€|R\$) ?)({COMMA_DECIMAL})")
SIGN_AFTER = re.compile(
    rf"(?<![\w.,{SIGNS}])(?<![{SIGNS}] )(?:({AMOUNT})( ?- ?))?({COMMA_DECIMAL}|{AMOUNT})"
    rf"(?:( ?)({SHORT_SCALES})|( (?:{SCALE_WORDS})))?(?: ?((?:{COUNTRY})?\$)| ?([{SIGNS}]))(?! ?\.?\d|[A-Za-z({{^$])"
)
PREFIXED_SIGN = re.compile(r"(?<![A-Za-z])(HK|AU|CA|CAD|NZ|NT|SG|MX|CN|[A-TV-Z])(?=[$£¥] ?\d)")
CURRENCY = re.compile(
    rf"(?P<us>(?<![A-Za-z])US)?(?P<sign>[{SIGNS}]) ?(?P<digits>{AMOUNT})(?!\d)"
    rf"(?:(?:(?P<join>-? |-)(?P<scale>{SCALE_WORDS})"
    rf"|[ -]?(?P<short>{SHORT_SCALES}))\b)?(?P<noun>[ -](?:dollar|pound|euro|yen)s?\b)?"
    rf"(?P<rate>{RATE}|/[a-z]{{3,12}}(?![\w'/]))?"
)
AFTER = re.compile(r"(-?)\W?([a-z]*)")
_NOT_MODIFIED = "a an and as at by for from in into is of on or out per than that the to was were will with"
NOT_MODIFIED = frozenset(_NOT_MODIFIED.split())
"""Words that "$20-billion" does not modify: "$20-billion in aid", but "a $20-billion plan"."""
BILL = re.compile(r" (?:bill|note|banknote|coin)s?\b")
MONEY_RANGE = re.compile(
    rf"([{SIGNS}])({AMOUNT})(?:({SHORT_SCALES})| ({SCALE_WORDS}))?(?:-| - (?=[{SIGNS}]))[{SIGNS}]?(?=\d)"
)
CENTS = re.compile(rf"{NUMBER_START}({WHOLE}) ?¢")


def write_money_signs_first(text: str) -> str:
    """Write the currency of folded `text` as a sign before the amount, and a minus sign before both.

    `5,50 €` becomes `€5.50`, `5 million $` becomes `$5 million`, `Rs. 500/-` becomes `₹500`, and `$-5` becomes
    `minus $5`.
    """
    text, rupees = RUPEES.subn("₹", text)
    if rupees:
        text = RUPEES_SIGN_AFTER.sub("", text)
    if not any(sign in text for sign in SIGNS):
        return text
    text = DOLLAR_RANGE.sub(" to ", text)
    text = MINUS_AFTER_SIGN.sub(r"minus \1", text)
    text = COMMA_AFTER_EURO.sub(lambda match: match[1] + _point(match[2]), text)
    return SIGN_AFTER.sub(_sign_first, text)


def expand_money(text: str) -> str:
    """Expand the amounts of money of folded `text` to words."""
    text = expand_matches(
        CODE_BESIDE_AMOUNT, _code, expand_matches(PREFIXED_SIGN, lambda match: f"{' '.join(match[0])} ", text)
    )
    text = expand_matches(MONEY_RANGE, _range, text)
    text = expand_matches(CURRENCY, _money, text)
    return expand_matches(CENTS, lambda match: f"{amount(match[1])} cent{'s' * (match[1] != '1')}", text)


def _point(digits: str) -> str:
    """An amount with a decimal comma, `1.234,50`, with a decimal point."""
    return digits.replace(".", "").replace(",", ".")


def _sign_first(match: re.Match[str]) -> str:
    first, join, digits, _, short, scale, dollars, other = match.groups()
    digits = _point(digits) if re.fullmatch(COMMA_DECIMAL, digits) else digits
    return f"{dollars or other}{f'{first}-' if join else ''}{digits}{short or scale or ''}"


def _code(match: re.Match[str]) -> str:
    before = " " if match[2] or match[3] else ""
    return f"{before}{' '.join(match[0].strip())}" + (" " if match[1] else "")


def _range(match: re.Match[str]) -> str:
    sign, digits = match[1], match[2]
    if scale := match[3] or match[4]:
        return f"{amount(digits)} {SCALES[scale]} to {sign}"
    # An amount with cents needs its currency: "$1.50-$2.25".
    return f"{sign}{digits} to {sign}" if re.search(r"\.\d\d$", digits) else f"{digits} to {sign}"


def _money(match: re.Match[str]) -> str:
    named, rate = match["noun"] or "", rate_words(match["rate"])
    if named and named[1:].removesuffix("s") != MONEY[match["sign"]][0]:
        return _amount_of_money(match, attributive=False) + named + rate  # not the currency of the sign
    after = AFTER.match(match.string, match.end())
    hyphenated = (
        (match["join"] or " ")[0] == "-" and after and (after[1] or (after[2] and after[2] not in NOT_MODIFIED))
    )
    bill = not named and not rate and BILL.match(match.string, match.end())
    attributive = bool(named.startswith("-") or (hyphenated and not named) or bill)
    return _amount_of_money(match, attributive=attributive) + rate


def _amount_of_money(match: re.Match[str], *, attributive: bool) -> str:
    singular, plural_form, small_singular, small_plural = MONEY[match["sign"]]
    if match["us"]:
        singular, plural_form = f"U S {singular}", f"U S {plural_form}"
    digits, scale = match["digits"].replace(",", ""), match["scale"] or match["short"]
    if scale:
        return f"{amount(digits)} {SCALES[scale]} {singular if attributive else plural_form}"
    whole, _, part = digits.partition(".")
    if small_singular and part and len(part) != 2 and len(part.rstrip("0")) <= 2:
        part = part.rstrip("0").ljust(2, "0")  # "$20.5" and "$20.500" are "$20.50"
    if not part or len(part) != 2 or not small_singular:
        return f"{amount(digits)} {singular if digits == '1' or attributive else plural_form}"
    cents = f"{cardinal(int(part))} {small_singular if part == '01' else small_plural}"
    if part == "00" or whole.strip("0"):
        of_whole = f"{whole_number(whole or '0')} {singular if whole == '1' else plural_form}"
        return of_whole if part == "00" else f"{of_whole} and {cents}"
    return cents

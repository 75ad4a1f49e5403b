"""Numbers in English words, in American usage."""

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_GROUPS = (
    "thousand million billion trillion quadrillion quintillion sextillion septillion octillion nonillion decillion"
)
ONES, TENS, GROUPS = _ONES.split(), _TENS.split(), _GROUPS.split()
MAX_DIGITS = 3 * (len(GROUPS) + 1)
"""The number of digits of the longest number that has a name; longer numbers are read digit by digit."""

IRREGULAR = {"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth"}
IRREGULAR |= {"twelve": "twelfth"}
FRACTIONS = {2: ("half", "halves"), 4: ("quarter", "quarters")}


def _below_thousand(number: int) -> str:
    hundreds, rest = divmod(number, 100)
    words = [f"{ONES[hundreds]} hundred"] if hundreds else []
    if rest >= 20:
        tens, ones = divmod(rest, 10)
        words.append(TENS[tens - 2] + (f"-{ONES[ones]}" if ones else ""))
    elif rest or not hundreds:
        words.append(ONES[rest])
    return " ".join(words)


def digit_words(digits: str) -> str:
    """The digits one by one: `007` becomes `zero zero seven`."""
    return " ".join(ONES[int(digit)] for digit in digits)


def cardinal(number: int) -> str:
    """`1234` becomes `one thousand two hundred thirty-four`. Numbers of more than 36 digits are read digit by digit."""
    if number < 0:
        return f"minus {cardinal(-number)}"
    if number >= 10**MAX_DIGITS:
        return digit_words(str(number))
    words: list[str] = []
    rest, group = number, 0
    while rest:
        rest, part = divmod(rest, 1000)
        if part:
            words.insert(0, _below_thousand(part) + (f" {GROUPS[group - 1]}" if group else ""))
        group += 1
    return " ".join(words) or ONES[0]


def ordinal(number: int) -> str:
    """`21` becomes `twenty-first`."""
    words = cardinal(number)
    cut = max(words.rfind(" "), words.rfind("-")) + 1
    last = words[cut:]
    if last in IRREGULAR:
        return words[:cut] + IRREGULAR[last]
    return words[:cut] + (last[:-1] + "ieth" if last.endswith("y") else last + "th")


def year(number: int) -> str:
    """A number of four digits read as a year: `1905` becomes `nineteen oh five`, `1900` becomes `nineteen hundred`."""
    century, rest = divmod(number, 100)
    if not 1000 <= number <= 2099 or (century == 20 and rest < 10) or (century == 10 and rest < 10):
        return cardinal(number)
    if rest == 0:
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} {f'oh {ONES[rest]}' if rest < 10 else cardinal(rest)}"


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

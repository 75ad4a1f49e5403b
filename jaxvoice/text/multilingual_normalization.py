"""Normalise text of many languages: numbers, money, ordinals, abbreviations and symbols to words, in lower case.

Does not import jax.
"""

# ruff: noqa: RUF001 - the module contains ambiguous characters.

import functools
import re
import unicodedata
from collections.abc import Callable, Mapping

from num2words import num2words

from jaxvoice.text.chinese_numbers import chinese_digits, chinese_number
from jaxvoice.text.language_tables import TABLES, LanguageTable
from jaxvoice.text.ordinals import expand_ordinals
from jaxvoice.text.spoken_numbers import replace_numbers, spell_numbers
from jaxvoice.text.text_normalization import normalize

_MOST_DIGITS = 15
_QUOTES = dict.fromkeys('"“”„‟″«»‹›「」『』〝〞＂')
_INVISIBLE = dict.fromkeys("\u00ad\u200b\u200c\u200d\u2060\ufeff\u200e\u200f\ufe0e\ufe0f")
_SINGLE_QUOTES = dict.fromkeys("‘’‛′ʼʻ`´＇", "'")
_BRACKETS = {"[": "(", "]": ")", "{": "(", "}": ")"}
_QUOTES_OF_ALL = str.maketrans(_QUOTES | _SINGLE_QUOTES)
_OF_ALL_LANGUAGES = str.maketrans(_INVISIBLE | _BRACKETS)
_ARABIC_SEPARATORS = str.maketrans("٫٬", ".,")
_SPACES = re.compile(r"\s+")
_BEFORE_MARK = re.compile(r"\s+(?=[,.;:!?](?:\s|$))")
# From the start of a run of digits and separators to its end, so that long runs take linear time.
_NO_BREAK = "\u00a0\u2009\u202f"  # the no-break, the thin and the narrow no-break space
_START = rf"(?<![\d.,])(?<!\d[{_NO_BREAK}])"
_PARTS = rf"\d[\d.,{_NO_BREAK}]*+"
_MINUS = re.compile(r"(?<![^\s(])[-−](?=\d)")
_RANGE = re.compile(r"(?<![\d.,-])(\d{1,4})[-–](\d{1,4})(?![\d.,]*\d|-)")
_BETWEEN_DIGITS = re.compile(r"(?<=\d)[-–:/](?=\d)")
_DATE = re.compile(r"(?<!\d)(?<!\d[./-])(\d{1,2})([./-])\s?(\d{1,2})\2\s?(\d{4})(?![./-]?\d)")
_DATE_WITHOUT_YEAR = re.compile(
    r"(?<!\d)(?<!\d[.,])(0?[1-9]|[12]\d|3[01])\.(0?[1-9]|1[0-2])\.(?=\s+[a-zà-öø-ÿčěłřśšžıő])"
)
_YEAR_FIRST = re.compile(r"(?<!\d)(?<!\d[./-])(\d{4})([./-])\s?(\d{1,2})\2\s?(\d{1,2})(?![./-]?\d)")
_TIME = re.compile(r"(?<!\d)(?<!\d[.:])([01]?\d|2[0-4]):([0-5]\d)(?![.:]?\d)")
# Versions and addresses, but also groups of three digits, which are `_GROUPED`.
_CHAIN = re.compile(r"(?<![\d.,])\d++(?:\.\d++){2,}+(?!,\d)")
_GROUPED = re.compile(r"\d{1,3}(?:\.\d{3})+")
_RATIO = re.compile(r"(?<=\d):(?=\d)")
_CHINESE_MOBILE = re.compile(r"(?<![\d.,])1\d{10}(?![.,]?\d)")
_CHINESE_YEAR = re.compile(r"(?<!\d)(\d{4})(?=\s?年)")
# Years are read by hundreds: "neunzehnhundert".
_YEARS_BY_HUNDREDS = {"de": range(1100, 2000), "nl": range(1100, 2000)}
_POINT = {"es": "punto", "fr": "virgule", "de": "Komma", "it": "virgola", "pt": "vírgula", "nl": "komma"}
_POINT |= {"pl": "przecinek", "cs": "celá", "tr": "virgül", "ar": "فاصلة", "ko": "점", "ja": "点"}
"""The word of the decimal separator; Russian and Hungarian name tenths and hundredths instead."""
_DECIMALS_AS_NUMBER = ("pl", "cs", "tr", "ar")
"""Languages that read decimals as a number, after its zeros; others read them digit by digit."""

_GERMAN_TIME = re.compile(r"(?<!\d)(?<!\d[.,])([01]?\d|2[0-4])\.([0-5]\d)(?=\s?Uhr\b)")
_DATES_WITH_STOPS = ("de", "cs", "pl", "tr")
_HOUR_AND_MINUTE = {"zh": ("点", "分"), "ja": ("時", "分")}
_RATIO_WORDS = {"zh": "比", "ja": "対"}
_FEW_AND_MANY = ("pl", "ru", "cs")
_WITHOUT_SPACES = ("zh", "ja")


def normalize_multilingual(text: str, language: str) -> str:
    """`text` in lower case, with numbers, money, ordinals, abbreviations and symbols in words of `language`.

    Double quotes are removed, square and curly brackets become round ones, and spaces are combined. The numbers of
    dates, versions and addresses are read one by one. Number words come
    from num2words, except for Chinese. English is normalised by `jaxvoice.text.normalize`. Hindi is only cleaned:
    numbers and symbols remain. Languages without a table (`jaxvoice.text.language_tables.TABLES`) are cleaned, and
    their numbers become words if num2words knows the language.

    **Arguments:** `language`, a code such as `de`, `zh-cn` or `pt-br`, of which the part before the hyphen counts.

    **Raises:** for English, `TextError` for characters without an English reading.
    """
    base = language.partition("-")[0].lower()
    text = unicodedata.normalize("NFC", text).translate(_OF_ALL_LANGUAGES)
    if base == "en":
        text = normalize(_SPACES.sub(" ", text))
    elif base in TABLES:
        text = _expand(text.translate(_QUOTES_OF_ALL), base)
    else:
        text = text.translate(_QUOTES_OF_ALL)
        text = text if base == "hi" else spell_numbers(text, base)
    text = _BEFORE_MARK.sub("", _SPACES.sub(" ", text.translate(_QUOTES_OF_ALL)))
    return lower_case(text, base).strip()


def lower_case(text: str, language: str) -> str:
    """`text` in lower case; in Turkish, the lower case of `I` is `ı`, and that of `İ` is `i`."""
    return (text.replace("İ", "i").replace("I", "ı") if language == "tr" else text).lower()


@functools.lru_cache(maxsize=32)
def abbreviations_of(language: str) -> frozenset[str]:
    """The abbreviations of `language` that end with a full stop, and their beginnings up to other stops: `z` and `z.b`.

    They are in lower case and without spaces and the last stop.
    """
    table = TABLES.get(language)
    keys = () if table is None else table.abbreviations
    found = (re.sub(r"[#^\s]", "", key).lower().split(".") for key in keys)
    return frozenset(".".join(parts[:count]) for parts in found if not parts[-1] for count in range(1, len(parts)))


@functools.lru_cache(maxsize=4096)
def number_words(digits: str, language: str) -> str:
    """A number in words of a language of `TABLES`.

    **Arguments:** `digits`, with a full stop before decimals. Numbers of more than 15 digits, and whole numbers with a
    zero before other digits, are read digit by digit. Zeros at the end of decimals are read.
    """
    whole, _, part = digits.partition(".")
    if len(whole) + len(part) > _MOST_DIGITS or (not part and len(whole) > 1 and whole[0] == "0"):
        return _space(language).join(number_words(digit, language) for digit in whole + part)
    if language == "zh":
        return chinese_number(digits)
    if part and language in _POINT:
        zeros = len(part) - len(part.lstrip("0")) if part.strip("0") else len(part) - 1
        decimals = [*"0" * zeros, part[zeros:]] if language in _DECIMALS_AS_NUMBER else part
        first, *others = (str(num2words(int(one), lang=language)) for one in (whole, *decimals))
        return _space(language).join((first, _POINT[language], *others))
    if part:
        return str(num2words(float(digits), lang=language))
    number = int(whole)
    by_hundreds = len(whole) == 4 and number in _YEARS_BY_HUNDREDS.get(language, ())
    return str(num2words(number, lang=language, to="year" if by_hundreds else "cardinal"))


def _expand(text: str, language: str) -> str:
    table = TABLES[language]
    text = text.translate(_ARABIC_SEPARATORS) if language == "ar" else text
    text = _separate_dates(text, language)
    for pattern, replace in _abbreviation_patterns(language):
        text = pattern.sub(replace, text)
    text = _expand_money(text, language, table)
    text = expand_ordinals(text, language)
    if language == "zh":
        text = _CHINESE_YEAR.sub(lambda match: chinese_digits(match[1]), text)
        text = _CHINESE_MOBILE.sub(lambda match: chinese_digits(match[0]), text)
    separate = _space(language)
    text = _MINUS.sub(f"{table.minus} ", text)
    if table.to:
        text = _RANGE.sub(rf"\1{separate}{table.to}{separate}\2", text)
    if separate:
        text = _BETWEEN_DIGITS.sub(" ", text)
    for sign, noun in (("%％", table.percent), ("°", table.degree)):
        text = _expand_counted(text, sign, noun, language, first=table.percent_first and sign[0] == "%")
    text = replace_numbers(text, language, lambda digits: f"{separate}{number_words(digits, language)}{separate}")
    for symbol, words in _symbol_words(language).items():
        text = text.replace(symbol, f"{separate}{words}{separate}")
    return text


def _separate_dates(text: str, language: str) -> str:
    """Write spaces between the numbers of dates and addresses; read times and ratios of Chinese and Japanese.

    Zeros before days, months and hours are left out.
    """
    text = _DATE.sub(lambda match: f"{int(match[1])} {int(match[3])} {match[4]}", text)
    text = _YEAR_FIRST.sub(lambda match: f"{match[1]} {int(match[3])} {int(match[4])}", text)
    text = _CHAIN.sub(lambda match: match[0] if _GROUPED.fullmatch(match[0]) else match[0].replace(".", " "), text)
    if language in _DATES_WITH_STOPS:
        text = _DATE_WITHOUT_YEAR.sub(lambda match: f"{int(match[1])} {int(match[2])}", text)
    text = _GERMAN_TIME.sub(r"\1:\2", text) if language == "de" else text
    if language not in _HOUR_AND_MINUTE:
        return _TIME.sub(lambda match: f"{int(match[1])}:{match[2]}", text)
    hour, minute = _HOUR_AND_MINUTE[language]

    def read(match: re.Match[str]) -> str:
        minutes = match[2] if language == "zh" else str(int(match[2]))
        return f"{int(match[1])}{hour}" + (f"{minutes}{minute}" if int(match[2]) else "")

    return _RATIO.sub(_RATIO_WORDS[language], _TIME.sub(read, text))


@functools.lru_cache(maxsize=32)
def _symbol_words(language: str) -> Mapping[str, str]:
    """The words of symbols that stand without a number."""
    table = TABLES[language]
    nouns = {sign: _forms(noun.split(",")[0])[1][-1] for sign, noun in table.money.items()}
    counted = {"%": _forms(table.percent)[1][-1], "°": _forms(table.degree)[1][-1]}
    return {**dict(sorted(nouns.items(), key=lambda item: -len(item[0]))), **counted, **table.symbols}


@functools.lru_cache(maxsize=32)
def _abbreviation_patterns(language: str) -> list[tuple[re.Pattern[str], Callable[[re.Match[str]], str]]]:
    """The pattern of each abbreviation, longest first, and the function that replaces it."""
    found = []
    for key, words in sorted(TABLES[language].abbreviations.items(), key=lambda item: -len(item[0])):
        written = key.strip("#^")
        years, numbered = key.startswith("####"), key.startswith("#")
        before = r"(?<=\d{4})\s?" if years else r"(?<=\d)\s?" if numbered else r"(?<![\w.])"
        after = r"(?=\s?\d)" if key.endswith("#") else r"(?=\s+[^\W\d_])" if key.endswith("^") else ""
        exact = written != written.lower() or not written.endswith(".")
        name = re.sub(r"(?<=\\\.)(?!$)", r"\\s?", re.escape(written).replace(r"\ ", r"\s?"))
        # The full stop of an abbreviation also ends the text.
        ends = r"(?P<end>\s*$)?" if written.endswith(".") and not after else r"(?P<end>(?!))?"
        edge = "" if written.endswith(".") else r"(?!\w)"
        pattern = re.compile(before + name + edge + after + ends, 0 if exact else re.IGNORECASE)

        def replace(match: re.Match[str], words: str = words, numbered: bool = numbered) -> str:
            following = match.string[match.end() : match.end() + 1]
            opening = " " if numbered else ""
            return opening + words + ("." if match["end"] is not None else " " * following.isalnum())

        found.append((pattern, replace))
    return found


def _expand_money(text: str, language: str, table: LanguageTable) -> str:
    """Write the amounts of money of `text` in words."""
    signs = "|".join(re.escape(sign) for sign in sorted(table.money, key=len, reverse=True))
    pattern = re.compile(
        rf"(?P<minus>(?<![^\s(])[-−])?(?:(?P<sign>{signs})\s?(?P<amount>{_PARTS})|{_START}(?P<first>{_PARTS})\s?"
        rf"(?P<after>{signs}))"
    )

    def replace(match: re.Match[str]) -> str:
        units, _, subunits = table.money[match["sign"] or match["after"]].partition(",")
        written = match["amount"] or match["first"]
        amounts: list[str] = []
        rest = replace_numbers(written, language, lambda digits: amounts.append(digits) or "\0")
        if rest.strip(f".,{_NO_BREAK}") != "\0":  # several numbers, such as a list
            return match[0]
        words = _money(amounts[0], units, subunits.strip(), language, table.cents)
        minus = f"{table.minus} " if match["minus"] else ""
        return _set_off(minus + words + rest.strip("\0"), match, language)

    return pattern.sub(replace, text)


def _money(digits: str, units: str, subunits: str, language: str, join: str) -> str:
    whole, _, part = digits.partition(".")
    if not part.strip("0"):
        return _counted(whole, units, language)
    if len(part) > 2 or not subunits or len(whole) > _MOST_DIGITS:
        return _counted(digits.rstrip("0"), units, language)
    cents = _counted(part.ljust(2, "0").lstrip("0"), subunits, language)
    return _space(language).join(filter(None, [_counted(whole, units, language), join, cents])) if int(whole) else cents


def _expand_counted(text: str, signs: str, noun: str, language: str, *, first: bool) -> str:
    """Write the numbers with one of `signs` in words, with `noun`."""
    _, forms = _forms(noun)

    def replace(match: re.Match[str]) -> str:
        amounts: list[str] = []
        rest = replace_numbers(match[1], language, lambda digits: amounts.append(digits) or "\0")
        if rest.strip(_NO_BREAK) != "\0":
            return match[0]
        if first:
            return _set_off(forms[0] + _space(language) + number_words(amounts[0], language), match, language)
        return _set_off(_counted(amounts[0], noun, language), match, language)

    text = re.sub(rf"{_START}({_PARTS})\s?[{signs}]", replace, text)
    # "%5" in Turkish
    return re.sub(rf"[{signs}](?=\d)", f"{forms[0]} ", text) if first else text


def _counted(digits: str, noun: str, language: str) -> str:
    """A number and its noun: `zwei Euro`, `три рубля`."""
    gender, forms = _forms(noun)
    words = number_words(digits, language)
    if "." not in digits:
        for key, end in TABLES[language].endings.items():
            of_gender, start = key.split()
            if of_gender == gender and words.endswith(start):
                words = words.removesuffix(start) + end
                break
    return words + _space(language) + _form(digits, forms, language)


def _space(language: str) -> str:
    """What separates words."""
    return "" if language in _WITHOUT_SPACES else " "


def _set_off(words: str, match: re.Match[str], language: str) -> str:
    """`words` with spaces to letters and digits beside the match that they replace."""
    before = match.string[max(0, match.start() - 1) : match.start()]
    after = match.string[match.end() : match.end() + 1]
    space = _space(language)
    return (space if before.isalnum() else "") + words + (space if after.isalnum() else "")


def _forms(noun: str) -> tuple[str, list[str]]:
    """The gender and the forms of a noun of a table."""
    gender, _, forms = noun.strip().partition(" ")
    return gender, forms.split("/")


def _form(digits: str, forms: list[str], language: str) -> str:
    """The form of a noun after a number."""
    if len(forms) == 1:
        return forms[0]
    if "." in digits:
        return forms[1]
    # Forms depend on the last two digits, and on whether the number is small. Python converts at most 4,300 digits.
    number = int(digits) if len(digits) <= 4 else 10_000 + int(digits[-4:])
    if language not in _FEW_AND_MANY:
        return forms[0] if number == 1 or (language == "fr" and number == 0) else forms[1]
    last, two = number % 10, number % 100
    if number == 1 or (language == "ru" and last == 1 and two != 11):
        return forms[0]
    few = 2 <= number <= 4 if language == "cs" else 2 <= last <= 4 and two not in (12, 13, 14)
    return forms[1] if few else forms[2]

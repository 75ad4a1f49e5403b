"""Numbers in digits to words, in the languages of num2words."""

import re
from collections.abc import Callable

from num2words import num2words

_MOST_DIGITS = 15
_SPACES = " \u00a0\u2009\u202f"  # also the no-break, the thin and the narrow no-break space
_START, _END = r"(?<!\d)(?<!\d[.,])", r"(?![.,]?\d)"
_DECIMAL_POINT = re.compile(
    rf"{_START}(?P<grouped>(?!0)\d{{1,3}}(?:,\d{{3}})+(?:\.\d+)?){_END}|{_START}\d+\.\d+{_END}|\d+"
)
_DECIMAL_COMMA = re.compile(
    rf"{_START}(?P<grouped>(?!0)\d{{1,3}}(?:\.\d{{3}})+(?:,\d+)?){_END}"
    rf"|{_START}(?<!\d[{_SPACES}])(?P<spaced>(?!0)\d{{1,3}}(?P<space>[{_SPACES}])\d{{3}}(?:(?P=space)\d{{3}})*(?:,\d+)?)"
    rf"(?![.,{_SPACES}]?\d)|{_START}\d+[.,]\d+{_END}|\d+"
)
_WITH_DECIMAL_POINT = {"ar", "en", "bn", "fa", "he", "hi", "ja", "kn", "ko", "te", "th", "zh"}


def spell_numbers(text: str, language: str) -> str:
    """`text` with numbers in words of `language`, a code such as `en`, `fr-fr` or `pt-br`.

    In English, Arabic and some languages of Asia, a full stop is the decimal separator, and commas separate groups of
    three digits: `1,000.5`. In others, a comma is the decimal separator, and full stops or spaces separate groups:
    `1.000,5` or `1 000,5`; a full stop before fewer or more than three digits is a decimal separator too. In dates and
    other chains of digits, such as `24.12.2025`, each number is read by itself.

    Numbers of languages that num2words does not know, and of more than 15 digits, are not changed.
    """
    base = re.split("[-_]", language)[0]
    names = (language.replace("-", "_"), language, base)

    def words(digits: str) -> str | None:
        if len(digits.replace(".", "")) > _MOST_DIGITS:
            return None
        number = float(digits) if "." in digits else int(digits)
        for name in names:
            for code in (name, re.sub("_([a-z]+)$", lambda part: f"_{part[1].upper()}", name)):
                try:
                    return str(num2words(number, lang=code))
                except NotImplementedError:
                    continue
        return None

    return replace_numbers(text, language, words)


def replace_numbers(text: str, language: str, words: Callable[[str], str | None]) -> str:
    """`text` with each number replaced by `words(digits)`, unless that is `None`.

    `digits` contains no separators of groups, and a full stop before decimals. The separators are those of `language`,
    as in `spell_numbers`.
    """
    has_point = re.split("[-_]", language)[0] in _WITH_DECIMAL_POINT

    def replace(match: re.Match[str]) -> str:
        found = words(_digits(match))
        return match[0] if found is None else found

    return (_DECIMAL_POINT if has_point else _DECIMAL_COMMA).sub(replace, text)


def _digits(match: re.Match[str]) -> str:
    """The digits of a match of `_DECIMAL_POINT` or `_DECIMAL_COMMA`, with a full stop before decimals."""
    written, found = match[0], match.groupdict()
    if found["grouped"]:
        written = written.replace("," if match.re is _DECIMAL_POINT else ".", "")
    elif found.get("spaced"):
        written = written.replace(found["space"], "")
    return written.replace(",", ".")

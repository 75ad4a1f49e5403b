"""Numbers in digits to words, in the languages of num2words."""

import re

from num2words import num2words

_NUMBER = re.compile(r"\d+(?:[.,]\d+)?")
_MOST_DIGITS = 15


def spell_numbers(text: str, language: str) -> str:
    """`text` with numbers in words of `language`, a code such as `en`, `fr-fr` or `pt-br`.

    Numbers of languages that num2words does not know, and of more than 15 digits, are not changed. A comma or a full
    stop between digits is a decimal separator.
    """
    names = (language.replace("-", "_"), language, re.split("[-_]", language)[0])

    def words(match: re.Match[str]) -> str:
        if len(match[0]) > _MOST_DIGITS:
            return match[0]
        number = float(match[0].replace(",", ".")) if re.search("[.,]", match[0]) else int(match[0])
        for name in names:
            for code in (name, re.sub("_([a-z]+)$", lambda part: f"_{part[1].upper()}", name)):
                try:
                    return str(num2words(number, lang=code))
                except NotImplementedError:
                    continue
        return match[0]

    return _NUMBER.sub(words, text)

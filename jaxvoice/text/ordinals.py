"""Ordinal numbers in digits to words: `3º`, `2ème`, `am 3. Mai`, `5-го`."""

# ruff: noqa: RUF001 - the endings are those of several scripts.

import functools
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from num2words import num2words

_BEFORE = r"(?<![\w.,])"
_NEVER = "(?!)"
_GERMAN_MONTHS = "Januar|Februar|März|April|Mai|Juni|Juli|August|September|Oktober|November|Dezember"
_CZECH_MONTHS = "ledna|února|března|dubna|května|června|července|srpna|září|října|listopadu|prosince"
# After these words, the ordinal ends in -n.
_GERMAN_DATIVE = "am|dem|den|des|im|zum|vom|beim|zur"
_CZECH_ONES = (
    *("nultý", "první", "druhý", "třetí", "čtvrtý", "pátý", "šestý", "sedmý", "osmý", "devátý", "desátý", "jedenáctý"),
    *("dvanáctý", "třináctý", "čtrnáctý", "patnáctý", "šestnáctý", "sedmnáctý", "osmnáctý", "devatenáctý"),
)
_CZECH_TENS = (
    *("dvacátý", "třicátý", "čtyřicátý", "padesátý"),
    *("šedesátý", "sedmdesátý", "osmdesátý", "devadesátý"),
)
# The ending of most ordinals, and that of "третий" after "треть".
_RUSSIAN_ENDINGS = {"я": ("ая", "я"), "е": ("ое", "е"), "го": ("ого", "его"), "му": ("ому", "ему")}
_RUSSIAN_ENDINGS |= {"м": ("ом", "ем"), "х": ("ых", "их")}


def expand_ordinals(text: str, language: str) -> str:
    """`text` with the ordinals of `language`, a code of two letters, in words, up to 999, since num2words makes
    mistakes in larger ones.

    A number with a full stop is an ordinal in Czech, German, Hungarian, Polish and Turkish if a word in lower case
    follows; in German also before a month and after an article. Years before the word for a year are ordinals in
    Polish and Russian.
    """
    if language not in _READERS:
        return text
    for pattern, words in (_READERS[language], *_YEARS.get(language, ())):
        text = pattern.sub(functools.partial(words, language=language), text)
    return text


def _ordinal(match: re.Match[str], language: str) -> str:
    number = int(match["number"])
    try:
        return str(num2words(number, lang=language, to="ordinal"))
    except (IndexError, KeyError):  # 0 in Polish, 100 in Korean
        return str(num2words(number, lang=language))


def _romance(match: re.Match[str], language: str) -> str:
    words = _ordinal(match, language)
    return re.sub(r"o\b", "a", words) if match["ending"].endswith("ª") else words


def _french(match: re.Match[str], language: str) -> str:
    ending = match["ending"].lower()
    if match["number"] == "1":
        return "première" if ending in ("re", "ère") else "premier"
    if match["number"] == "2" and ending in ("nd", "nde"):
        return "seconde" if ending == "nde" else "second"
    return _ordinal(match, language)


def _german(match: re.Match[str], language: str) -> str:
    before, words = match["before"] or "", _ordinal(match, language)
    if re.fullmatch(_GERMAN_DATIVE, before.strip().lower()):
        words += "n"
    elif not before and match["month"]:
        words += "r"
    return before + words


def _czech(match: re.Match[str], language: str) -> str:
    number = int(match["number"])
    hundreds, rest = divmod(number, 100)
    if number and not rest:
        return "stý" if hundreds == 1 else str(num2words(number, lang=language))
    tens, ones = divmod(rest, 10)
    last = _CZECH_ONES[rest] if rest < 20 else _CZECH_TENS[tens - 2] + (f" {_CZECH_ONES[ones]}" if ones else "")
    if match["month"]:  # dates have the genitive
        last = re.sub(r"ý\b", "ého", re.sub(r"í\b", "ího", last))
    return f"{num2words(100 * hundreds, lang=language)} {last}" if hundreds else last


def _russian(match: re.Match[str], language: str) -> str:
    words, ending = _ordinal(match, language), match["ending"].lower()
    if ending.endswith("й"):
        return words
    usual, third = _RUSSIAN_ENDINGS[ending[-2:] if ending[-2:] in _RUSSIAN_ENDINGS else ending[-1]]
    if words.endswith("третий"):
        return f"{words[:-2]}ь{third}"
    decades = usual == "ое" and int(match["number"]) in range(20, 100, 10)  # "90-е" has the plural
    return words[:-2] + ("ые" if decades else usual)


def _russian_year(match: re.Match[str], language: str) -> str:
    words, before, noun = _ordinal(match, language), match["in"] or "", match["noun"]
    if noun == "год":
        return f"{words} год"
    ending, noun = ("м", "году") if before or noun == "году" else ("го", "года")
    usual, third = _RUSSIAN_ENDINGS[ending]
    of_year = f"{words[:-2]}ь{third}" if words.endswith("третий") else words[:-2] + usual
    return f"{before}{of_year} {noun}"


def _polish_year(match: re.Match[str], language: str) -> str:
    *others, ten, one = ["", *_ordinal(match, language).split()]
    genitive = [re.sub("y$", "ego", re.sub("i$", "iego", word)) for word in (ten, one)]
    return " ".join([*others, *genitive, "roku"]).strip()


def _korean(match: re.Match[str], language: str) -> str:
    words = _ordinal(match, language)
    return words if words.endswith("번째") else f"{words} 번째"


def _with(ending: str) -> re.Pattern[str]:
    return re.compile(rf"{_BEFORE}(?P<number>\d{{1,3}})(?P<ending>{ending})(?!\w)", re.IGNORECASE)


def _with_stop(months: str = _NEVER, before: str = _NEVER) -> re.Pattern[str]:
    """A number with a full stop, before a word in lower case or a month, or after a word of `before`."""
    return re.compile(
        rf"(?P<before>\b(?i:{before})\s+)?{_BEFORE}(?P<number>\d{{1,3}})\."
        rf"(?=\s+(?(before)\w|(?P<month>(?i:{months})\b)?(?(month)|[^\W\d_A-ZÀ-ÖØ-ÞĀČĎĚŁŇŘŚŞŠŤŮŹŻŽİ])))"
    )


_READERS: Mapping[str, tuple[re.Pattern[str], Callable[..., str]]] = MappingProxyType(
    {
        "es": (_with(r"\.?(?:º|ª)|er"), _romance),
        "fr": (_with("er|re|ère|e|è|ème|eme|nde?"), _french),
        "de": (_with_stop(_GERMAN_MONTHS, f"{_GERMAN_DATIVE}|der|die|das"), _german),
        "it": (_with("º|ª"), _romance),
        "pt": (_with(r"\.?(?:º|ª)"), _romance),
        "pl": (_with_stop(), _ordinal),
        "tr": (_with_stop(), _ordinal),
        "ru": (_with("-(?:ого|го|ому|му|ый|ий|ой|й|ая|я|ое|е|ом|м|ых|х)"), _russian),
        "nl": (_with("e|de|ste"), _ordinal),
        "cs": (_with_stop(_CZECH_MONTHS), _czech),
        "hu": (_with_stop(), _ordinal),
        "ko": (re.compile(rf"{_BEFORE}(?P<number>\d{{1,3}})\s?번째"), _korean),
    }
)
_YEARS: Mapping[str, tuple[tuple[re.Pattern[str], Callable[..., str]], ...]] = MappingProxyType(
    {
        "ru": (
            (re.compile(r"(?P<in>\b[Вв]\s)?(?<!\w)(?P<number>\d{4})\s?(?P<noun>году|года|год)(?!\w)"), _russian_year),
        ),
        "pl": ((re.compile(r"(?<!\w)(?P<number>[1-9]\d{3})\s?roku(?!\w)"), _polish_year),),
    }
)

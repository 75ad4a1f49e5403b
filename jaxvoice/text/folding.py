"""Fold text to the characters that normalisation reads: quotes, dashes, accented letters and symbols."""

# ruff: noqa: RUF001 - this module maps ambiguous characters.

import re
import unicodedata

from jaxvoice.errors import TextError
from jaxvoice.text.markup import remove_markup
from jaxvoice.text.symbols import POWER, expand_power

QUOTES = dict.fromkeys("‘’‛′ʼʻ`´", "'") | dict.fromkeys("“”„‟″«»‹›", '"')
DASHES = dict.fromkeys("—―⸺", " - ") | dict.fromkeys("‐‑‒–−﹣－", "-") | {"…": "...", "•": ", ", "·": " ", "؟": "?"}
LETTERS = {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "þ": "th", "ð": "th", "ı": "i", "ŋ": "ng"}
SYMBOLS = {
    "×": " times ",
    "÷": " divided by ",
    "§": " section ",
    "©": " copyright ",
    "®": " registered ",
    "™": " trademark ",
    "²": "^2",
    "³": "^3",
    "≈": " about ",
    "≠": " is not equal to ",
    "≤": "<=",
    "≥": ">=",
    "±": " plus or minus ",
    "√": " square root of ",
    "№": "#",
    "º": "°",
    "￦": "₩",
    "¿": "",
    "¡": "",
}
ASCII_SYMBOLS = {
    "&": " and ",
    "+": " plus ",
    "=": " equals ",
    "@": " at ",
    "~": " about ",
    "<": " less than ",
    ">": " greater than ",
    "|": " ",
    "\\": " ",
    "*": " ",
    "^": " ",
}
ALLOWED = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 '\"-.,;:!?()[]{}$£€¥₩₹₽₪₺₱₿¢%°#/_&+=@~<>|\\*^"
)
INVISIBLE = frozenset("\u00ad\u200b\u200c\u200d\u2060\ufeff\u200e\u200f\ufe0e\ufe0f")
REPLACEMENTS = (
    QUOTES | DASHES | LETTERS | SYMBOLS | {letter.upper(): folded.upper() for letter, folded in LETTERS.items()}
)
REPLACEMENTS |= {"ẞ": "SS", "⁄": "/", "∕": "/"}
SYMBOL = re.compile(f"[{re.escape(''.join(ASCII_SYMBOLS))}]")
FRACTION_CHARACTERS = re.compile("[¼-¾⅐-⅞]")
MINUS_SIGN = re.compile(r"−(?=\s*[\d.$£€¥(√])")
MICRO_UNITS = {"g": "gram", "m": "meter", "s": "second", "l": "liter", "L": "liter", "V": "volt", "A": "amp"}
MICRO_UNITS |= {"W": "watt", "F": "farad", "H": "henry", "Hz": "hertz", "Pa": "pascal", "Sv": "sievert"}
MICRO = re.compile(rf"((?<![\d.,])1\s*|-)?[µμ]({'|'.join(sorted(MICRO_UNITS, reverse=True))})(?![A-Za-z0-9])")


def fold_to_ascii(text: str) -> str:
    """Map `text` to the characters of `ALLOWED`: remove accents and markup, replace quotes, dashes and other symbols.

    **Raises:** `TextError` if a character has no English reading. The message states the character, its position and
    its script.
    """
    text = remove_markup(text)
    # The space keeps "1½" from becoming "11/2".
    text = FRACTION_CHARACTERS.sub(lambda match: f" {unicodedata.normalize('NFKD', match[0])} ", text)
    text = MICRO.sub(_expand_micro_unit, MINUS_SIGN.sub(" minus ", text))
    text = re.sub(r"[^\S\n]*\n\s*\n\s*", " ; ", text.strip())
    folded_pieces: list[str] = []
    for place, character in enumerate(text):
        if character in ALLOWED:
            folded_pieces.append(character)
        elif character.isspace():
            folded_pieces.append(" ")
        elif character not in INVISIBLE and not unicodedata.combining(character):
            folded_pieces.append(_fold_character(character, place, text))
    return "".join(folded_pieces)


def symbol_words(text: str) -> str:
    """Replace the ASCII symbols of folded `text` by words: `&` becomes `and`."""
    return SYMBOL.sub(lambda match: ASCII_SYMBOLS[match[0]], POWER.sub(expand_power, text))


def _expand_micro_unit(match: re.Match[str]) -> str:
    unit = MICRO_UNITS[match[2]]
    ending = "" if match[1] or unit == "hertz" else "ies" if unit == "henry" else "s"
    return f"{(match[1] or '').replace('-', ' ')} micro{unit.removesuffix('y') if ending == 'ies' else unit}{ending}"


def _fold_character(character: str, place: int, text: str) -> str:
    if character in REPLACEMENTS:
        return REPLACEMENTS[character]
    pieces = [REPLACEMENTS.get(piece, piece) for piece in unicodedata.normalize("NFKD", character)]
    folded = "".join(piece for piece in pieces if not unicodedata.combining(piece[:1] or " "))
    if folded and all(piece in ALLOWED for piece in folded):
        return folded
    name = unicodedata.name(character, "without a name")
    near = text[max(0, place - 12) : place + 13]
    position = f"{character!r} (U+{ord(character):04X}, {name}) at character {place + 1} of the text, in {near!r}"
    if character.isalpha():
        script = name.split()[0].capitalize()
        raise TextError(f"{position}, is a letter of another script ({script}); write it in Latin letters.")
    raise TextError(f"{position}, has no English reading; leave it out or write it in words.")

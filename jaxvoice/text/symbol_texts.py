"""Texts as they are written to texts in the symbols of a network, in synthesis and in training."""

from collections.abc import Sequence

from jaxvoice.text.ipa import texts_to_ipa
from jaxvoice.text.spoken_numbers import spell_numbers
from jaxvoice.text.symbol_table import SymbolTable


def texts_to_symbols(texts: Sequence[str], symbols: SymbolTable, language: str | None = None) -> list[str]:
    """Each text as a network with `symbols` reads it.

    For the IPA, espeak-ng converts the texts (extra `demo`), and characters that `symbols` does not contain, such as
    brackets, are left out. Otherwise, numbers in digits are spelled in `language`.

    **Arguments:** `language`, of all texts; `None` for a model without languages, which reads the IPA of `en-us`, and
    numbers as they are.

    **Raises:** for the IPA as `texts_to_ipa`.
    """
    if symbols.alphabet == "ipa":
        converted = texts_to_ipa(texts, "en-us" if language is None else language)
        return ["".join(one for one in ipa if one in symbols.characters) for ipa in converted]
    return list(texts) if language is None else [spell_numbers(text, language) for text in texts]


def check_characters(text: str, symbols: SymbolTable, language: str | None = None) -> None:
    """Raise `TextError`, with the positions in `text`, for characters that `texts_to_symbols` does not convert to
    `symbols`."""
    if symbols.alphabet != "ipa":
        symbols.check(text, digits=language is not None)

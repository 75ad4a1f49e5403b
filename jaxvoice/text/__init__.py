"""Conversion of English text to phonemes: normalisation, dictionary, morphology, letter-to-sound and phone sets.

Names are imported on first access: phone sets do not need the library of numbers.
"""

from typing import TYPE_CHECKING

from jaxvoice._lazy import lazy_imports

if TYPE_CHECKING:
    from jaxvoice.text.custom_words import read_custom_words as read_custom_words
    from jaxvoice.text.front_end import (
        Pronunciation as Pronunciation,
        PronunciationMode as PronunciationMode,
        Word as Word,
        pronounce as pronounce,
        text_to_phonemes as text_to_phonemes,
    )
    from jaxvoice.text.phonemes import (
        ALIGNED as ALIGNED,
        ARPABET as ARPABET,
        PAUSE as PAUSE,
        PhoneSet as PhoneSet,
        to_aligned as to_aligned,
    )
    from jaxvoice.text.symbol_table import (
        ENGLISH_CHARACTERS as ENGLISH_CHARACTERS,
        VITS_SYMBOLS as VITS_SYMBOLS,
        YOURTTS_SYMBOLS as YOURTTS_SYMBOLS,
        SymbolTable as SymbolTable,
    )
    from jaxvoice.text.text_normalization import normalize as normalize

__getattr__, __dir__ = lazy_imports(
    __name__,
    globals(),
    {
        "custom_words": ("read_custom_words",),
        "front_end": ("Pronunciation", "PronunciationMode", "Word", "pronounce", "text_to_phonemes"),
        "phonemes": ("ALIGNED", "ARPABET", "PAUSE", "PhoneSet", "to_aligned"),
        "symbol_table": ("ENGLISH_CHARACTERS", "VITS_SYMBOLS", "YOURTTS_SYMBOLS", "SymbolTable"),
        "text_normalization": ("normalize",),
    },
)

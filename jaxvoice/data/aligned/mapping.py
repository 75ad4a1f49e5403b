"""From labels of aligners to the phones of a set: silences, stress, and the shares of time where one becomes two."""

from collections.abc import Callable

from jaxvoice.data.aligned.alignment import Part
from jaxvoice.errors import TextError
from jaxvoice.text.phonemes import PAUSE, VOWELS, PhoneSet

SILENCES = frozenset(("", "_", "pau", "sil", "sp", "spn", "ssil", "<eps>"))
# Of "er", written as a vowel and R: the ratio of their mean durations in LJ-Speech-aligned, 4.6 to 6.4 frames.
VOWEL_OF_ER = 0.42
_MODEL = "if these are IPA, align with ARPAbet: of the Montreal Forced Aligner's models, english_us_arpa"
_REDUCED = {"AX": "AH0", "IX": "IH0", "AXR": "ER0"}


def arpabet_parts(phone_set: PhoneSet) -> Callable[[str], tuple[Part, ...]]:
    """The function that says which phones of `phone_set` a label in ARPAbet, or one of the set's codes, stands for.

    Upper or lower case. sil, sp, spn, nothing and the like are a pause; vowels without a stress are taken as stressed,
    the reduced ax, ix and axr as not. In a set without it, secondary stress is primary, and ER a vowel and R, which
    share its time as 0.42 to 0.58. The function raises `TextError`, which quotes the label as it was written, for one
    that is no phone, such as those of alignments in IPA.
    """

    def parts(label: str) -> tuple[Part, ...]:
        if label in phone_set:
            return (Part(label, 1.0),)
        if label.lower() in SILENCES:
            return (Part(PAUSE, 1.0),)
        code = label.upper()
        code = f"{code}1" if code in VOWELS else _REDUCED.get(code, code)
        if label.isascii():
            try:
                return in_set(code, phone_set)
            except TextError as error:
                told = str(error).replace(repr(code), repr(label), 1)
                raise TextError(told if label.isupper() else f"{told} ({_MODEL})") from None
        raise TextError(f"{label!r} (phoneme 1) is not in the phone set {phone_set.name!r}, nor in ARPAbet ({_MODEL})")

    return parts


def in_set(code: str, phone_set: PhoneSet, share: float = 1.0) -> tuple[Part, ...]:
    """The ARPAbet `code` in codes of `phone_set`, taking `share` of the time in all.

    **Raises:** `TextError` where it has none.
    """
    codes = phone_set.spell([code])
    if len(codes) == 1:
        return (Part(codes[0], share),)
    return (Part(codes[0], share * VOWEL_OF_ER), Part(codes[1], share * (1 - VOWEL_OF_ER)))

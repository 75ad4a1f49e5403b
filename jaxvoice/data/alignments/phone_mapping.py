"""Mapping of the labels of aligners and espeak-ng to phones of a set, with their shares of the duration."""

from collections.abc import Callable
from itertools import pairwise

from jaxvoice.data.alignments.alignment import Alignment, AlignmentError, Interval, PhoneShare, align_intervals
from jaxvoice.data.demo.timings import Timings
from jaxvoice.errors import TextError
from jaxvoice.text.phonemes import ALIGNED, PAUSE, VOWELS, PhoneSet

SILENCES = frozenset(("", "_", "pau", "sil", "sp", "spn", "ssil", "<eps>"))
# Share of the vowel in ER, from the mean durations of vowel and R in LJ-Speech-aligned, 4.6 and 6.4 frames.
VOWEL_OF_ER = 0.42
_HINT = "for IPA labels, align with ARPAbet, for example with english_us_arpa of the Montreal Forced Aligner"
_REDUCED = {"AX": "AH0", "IX": "IH0", "AXR": "ER0"}

# A digit is a fixed stress. `?` becomes 1 for a mnemonic with a stress mark, and 0 without.
_ESPEAK_VOWELS = {
    "AA?": "0 A:",
    "AE?": "a aa",
    "AH?": "V @ @- @2 @5 a#",
    "AO?": "O: O2",
    "AW?": "aU",
    "AY?": "aI aI2",
    "EH?": "E",
    "EY?": "eI",
    "IH?": "I I# I2",
    "IY?": "i i:",
    "OW?": "oU",
    "OY?": "OI",
    "UH?": "U",
    "UW?": "u:",
    "ER0": "3",
    "ER1": "3:",
    "ER?": "IR VR",
    "AH0 L": "@L",
    "AA? R": "A@",
    "AO? R": "O@ o@",
    "UH? R": "U@",
    "EH? R": "e@",
    "IY? R": "i@",
    "IH? R": "i@3",
    "AY? AH0": "aI@",
    "AY? ER0": "aI3",
}
_ESPEAK_CONSONANTS = {
    "D": "DH",
    "N": "NG",
    "S": "SH",
    "T": "TH",
    "Z": "ZH",
    "dZ": "JH",
    "tS": "CH",
    "h": "HH",
    "j": "Y",
}
_ESPEAK_CONSONANTS |= {name: name.upper() for name in "bdfgklmnprstvwz"}
_ESPEAK_CONSONANTS |= {"r-": "R", "t#": "T", "t2": "T", "w#": "W"}
_ESPEAK_CODES = {name: codes.split() for codes, names in _ESPEAK_VOWELS.items() for name in names.split()}
_ESPEAK_CODES |= {name: [code] for name, code in _ESPEAK_CONSONANTS.items()}
_ESPEAK_CODES |= {name: [PAUSE] for name in ("_", "_:", "_!", "_|")}
_ESPEAK_CODES |= {";": []}  # a glide between vowels, part of the first


def arpabet_parts(phone_set: PhoneSet) -> Callable[[str], tuple[PhoneShare, ...]]:
    """A function from labels, in ARPAbet or codes of `phone_set`, to phones of `phone_set`.

    Labels may be in upper or lower case. The empty label, sil, sp, spn and similar labels are pauses. Vowels without a
    stress digit are stressed, except the reduced vowels ax, ix and axr. If the set has no secondary stress, primary
    stress replaces it. If the set has no ER, a vowel and R replace it, with 0.42 and 0.58 of its duration.

    The function raises `TextError`, with the label as in the file, for labels that are not phones, such as IPA.
    """

    def parts(label: str) -> tuple[PhoneShare, ...]:
        if label in phone_set:
            return (PhoneShare(label, 1.0),)
        if label.lower() in SILENCES:
            return (PhoneShare(PAUSE, 1.0),)
        code = label.upper()
        code = f"{code}1" if code in VOWELS else _REDUCED.get(code, code)
        if label.isascii():
            try:
                return in_set(code, phone_set)
            except TextError as error:
                message = str(error).replace(repr(code), repr(label), 1)
                raise TextError(message if label.isupper() else f"{message.rstrip('.')} ({_HINT}).") from None
        raise TextError(f"{label!r} (phoneme 1) is not in the phone set {phone_set.name!r}, nor in ARPAbet ({_HINT}).")

    return parts


def in_set(code: str, phone_set: PhoneSet, share: float = 1.0) -> tuple[PhoneShare, ...]:
    """Map the ARPAbet `code` to phones of `phone_set`, whose shares add up to `share`.

    **Raises:** `TextError` if the code has no counterpart in the set.
    """
    codes = phone_set.spell([code])
    if len(codes) == 1:
        return (PhoneShare(codes[0], share),)
    return (PhoneShare(codes[0], share * VOWEL_OF_ER), PhoneShare(codes[1], share * (1 - VOWEL_OF_ER)))


def demo_parts(phone_set: PhoneSet = ALIGNED) -> Callable[[str], tuple[PhoneShare, ...]]:
    """A function from espeak-ng's English mnemonics to phones of `phone_set`.

    A mnemonic with a stress mark (`'` or `,`) has stress 1, any other has stress 0. If a mnemonic is two ARPAbet codes,
    each has half of its duration. The function raises `AlignmentError` for other mnemonics.
    """

    def parts(mnemonic: str) -> tuple[PhoneShare, ...]:
        name = mnemonic.lstrip("',")
        if name not in _ESPEAK_CODES:
            raise AlignmentError(
                "unknown phone",
                f"espeak-ng's phoneme {mnemonic!r} has no counterpart among English phones; use an English voice.",
            )
        codes = [code.replace("?", "01"[name != mnemonic]) for code in _ESPEAK_CODES[name]]
        return tuple(part for code in codes for part in in_set(code, phone_set, 1 / len(codes)))

    return parts


def demo_alignment(timings: Timings, phone_set: PhoneSet = ALIGNED) -> Alignment:
    """The alignment of an utterance of the demo corpus, exact to the sample.

    **Raises:** `AlignmentError` (a `DataError`) for phonemes of other languages than English.
    """
    onsets = [phoneme.onset for phoneme in timings.phonemes] + [timings.samples]
    intervals = [
        Interval(phoneme.mnemonic, start / timings.sample_rate, end / timings.sample_rate)
        for phoneme, (start, end) in zip(timings.phonemes, pairwise(onsets), strict=True)
    ]
    return align_intervals(timings.id, intervals, demo_parts(phone_set))

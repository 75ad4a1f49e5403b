"""The demo corpus: from espeak-ng's mnemonics, timed to the sample, to phones."""

from collections.abc import Callable
from itertools import pairwise

from jaxvoice.data.aligned.alignment import Alignment, Interval, Misfit, Part, align
from jaxvoice.data.aligned.mapping import in_set
from jaxvoice.data.demo.timings import Timings
from jaxvoice.text.phonemes import ALIGNED, PAUSE, PhoneSet

# A digit is a stress that the mnemonic always has; `?` is replaced by 1 with a stress mark and by 0 without.
_VOWELS = {
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
_CONSONANTS = {"D": "DH", "N": "NG", "S": "SH", "T": "TH", "Z": "ZH", "dZ": "JH", "tS": "CH", "h": "HH", "j": "Y"}
_CONSONANTS |= {name: name.upper() for name in "bdfgklmnprstvwz"}
_CONSONANTS |= {"r-": "R", "t#": "T", "t2": "T", "w#": "W"}
_CODES = {name: codes.split() for codes, names in _VOWELS.items() for name in names.split()}
_CODES |= {name: [code] for name, code in _CONSONANTS.items()}
_CODES |= {name: [PAUSE] for name in ("_", "_:", "_!", "_|")}
_CODES |= {";": []}  # a glide between vowels, part of the first


def demo_parts(phone_set: PhoneSet = ALIGNED) -> Callable[[str], tuple[Part, ...]]:
    """The function that says which phones of `phone_set` one of espeak-ng's English mnemonics stands for.

    A stress mark (`'` or `,`) is stress 1, none is 0. Mnemonics of two phones share their time equally. The function
    raises `Misfit` for other mnemonics.
    """

    def parts(mnemonic: str) -> tuple[Part, ...]:
        name = mnemonic.lstrip("',")
        if name not in _CODES:
            raise Misfit("unknown phone", f"espeak-ng's phoneme {mnemonic!r} has no counterpart among English phones.")
        codes = [code.replace("?", "01"[name != mnemonic]) for code in _CODES[name]]
        return tuple(part for code in codes for part in in_set(code, phone_set, 1 / len(codes)))

    return parts


def demo_alignment(timings: Timings, phone_set: PhoneSet = ALIGNED) -> Alignment:
    """The alignment of an utterance of the demo corpus; its boundaries are those of samples.

    **Raises:** `Misfit` (a `DataError`) for phonemes of other languages than English.
    """
    onsets = [phoneme.onset for phoneme in timings.phonemes] + [timings.samples]
    intervals = [
        Interval(phoneme.mnemonic, start / timings.sample_rate, end / timings.sample_rate)
        for phoneme, (start, end) in zip(timings.phonemes, pairwise(onsets), strict=True)
    ]
    return align(timings.id, intervals, demo_parts(phone_set))

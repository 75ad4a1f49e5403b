"""The phonemes that speech is made of: sets of codes, their numbers, and the way from ARPAbet to each set."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from jaxvoice.errors import TextError

PAUSE = "pau"
_CONSONANTS = "B CH D DH F G HH JH K L M N NG P R S SH T TH V W Y Z ZH"
_VOWELS = "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW"
_ALIGNED = (
    "AA1 AE0 AE1 AH0 AH1 AO0 AO1 AW0 AW1 AY0 AY1 B CH D DH EH0 EH1 EU0 EU1 EY0 EY1 F G HH IH0 IH1 IY0 IY1 JH K L M"
    " N NG OW0 OW1 OY0 OY1 P R S SH T TH UH0 UH1 UW0 UW1 V W Y Z ZH pau"
)
CONSONANTS = tuple(_CONSONANTS.split())
VOWELS = tuple(_VOWELS.split())


@dataclass(frozen=True)
class PhoneSet:
    """A named, ordered set of phoneme codes.

    The number of a code is its place in `codes` plus one; 0 is what batches are padded with. A model keeps the codes it
    was trained with in its configuration, in this order.
    """

    name: str
    codes: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "codes", tuple(self.codes))
        if not self.codes:
            raise TextError(f"the phone set {self.name!r} has no codes; give at least one")
        twice = sorted({code for code in self.codes if self.codes.count(code) > 1})
        if twice:
            raise TextError(
                f"the phone set {self.name!r} holds {', '.join(twice)} more than once; name every code once"
            )

    @cached_property
    def _number(self) -> dict[str, int]:
        return {code: number for number, code in enumerate(self.codes, 1)}

    def __len__(self) -> int:
        return len(self.codes)

    def __contains__(self, code: object) -> bool:
        return code in self._number

    def nearest(self, code: str, count: int = 3) -> tuple[str, ...]:
        """The codes most like `code`, best first: the same phone with other stress, then codes spelt alike."""
        bare = code.strip().upper().rstrip("0123456789")
        stand_in = {"ER": "EU", "EU": "ER", "SIL": "PAU", "SP": "PAU", "SPN": "PAU"}.get(bare, bare)
        same = [known for known in self.codes if known.upper().rstrip("012") in (bare, stand_in)]
        alike = difflib.get_close_matches(code.upper(), self.codes, n=len(self.codes), cutoff=0.3)
        alike.sort(key=lambda known: known[0] != code[:1].upper())
        return tuple(dict.fromkeys([*same, *alike]))[:count]

    def check(self, codes: Iterable[str]) -> None:
        """Nothing where all `codes` are of this set.

        Raises:
            TextError: some are not; the message names the first, its place, and the nearest codes there are.
        """
        for place, code in enumerate(codes, 1):
            if code not in self._number:
                near = self.nearest(str(code))
                hint = f"did you mean {' or '.join(near)}?" if near else f"the codes are {' '.join(self.codes)}"
                raise TextError(f"{code!r} (phoneme {place}) is not in the phone set {self.name!r}; {hint}")

    def ids(self, codes: Sequence[str]) -> list[int]:
        """The numbers of `codes`, from 1 on.

        Raises:
            TextError: a code is not of this set (see `check`).
        """
        self.check(codes)
        return [self._number[code] for code in codes]

    def spell(self, codes: Iterable[str]) -> list[str]:
        """ARPAbet `codes` of any stress in the codes of this set: as they are, or by the rules of `to_aligned`.

        Raises:
            TextError: a code is neither of this set nor comes to codes of this set (see `check`).
        """
        spelt: list[str] = []
        for place, code in enumerate(codes, 1):
            if code in self._number:
                spelt.append(code)
                continue
            mapped = _aligned(code)
            if not mapped or any(part not in self._number for part in mapped):
                try:
                    self.check([code])
                except TextError as error:
                    raise TextError(str(error).replace("(phoneme 1)", f"(phoneme {place})")) from None
            spelt += mapped
        return spelt


ALIGNED = PhoneSet("aligned", tuple(_ALIGNED.split()))
"""The 54 codes of LJ-Speech-aligned, in ASCII order: stress 0 or 1, AA always AA1, ER as EU0 R or EU1 R, and `pau`."""

ARPABET = PhoneSet(
    "arpabet", (*sorted((*CONSONANTS, *(vowel + stress for vowel in VOWELS for stress in "012"))), PAUSE)
)
"""The 39 phones of ARPAbet, vowels with stress 0, 1 or 2, in ASCII order, and `pau`."""


def _aligned(code: str) -> list[str]:
    """One ARPAbet code in the codes of `ALIGNED`; empty where it is not ARPAbet."""
    if code in ALIGNED:
        return [code]
    if code not in ARPABET:
        return []
    phone, stress = code[:-1], "0" if code.endswith("0") else "1"
    if phone == "AA":
        return ["AA1"]
    return [f"EU{stress}", "R"] if phone == "ER" else [phone + stress]


def to_aligned(codes: Iterable[str]) -> list[str]:
    """ARPAbet codes of any stress in the codes of `ALIGNED`: 2 becomes 1, AA is always AA1, ER becomes EU and R.

    Raises:
        TextError: a code is of neither set; the message names the nearest.
    """
    return ALIGNED.spell(codes)

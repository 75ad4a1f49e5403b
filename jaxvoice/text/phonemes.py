"""Sets of phoneme codes, their ids, and the mapping from ARPAbet to each set."""

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

    The id of a code is its index in `codes` plus one; 0 is the padding of batches. The configuration of a model
    contains the codes with which it was trained, in this order.
    """

    name: str
    codes: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "codes", tuple(self.codes))
        if not self.codes:
            raise TextError(f"the phone set {self.name!r} has no codes; it should have at least one.")
        duplicates = sorted({code for code in self.codes if self.codes.count(code) > 1})
        if duplicates:
            raise TextError(
                f"the phone set {self.name!r} contains {', '.join(duplicates)} more than once; list every code once."
            )

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {code: number for number, code in enumerate(self.codes, 1)}

    def __len__(self) -> int:
        return len(self.codes)

    def __contains__(self, code: object) -> bool:
        return code in self._ids

    def nearest(self, code: str, count: int = 3) -> tuple[str, ...]:
        """The codes most similar to `code`, best first: the same phone with another stress, then similar spellings."""
        bare = code.strip().upper().rstrip("0123456789")
        synonym = {"ER": "EU", "EU": "ER", "SIL": "PAU", "SP": "PAU", "SPN": "PAU"}.get(bare, bare)
        same = [known for known in self.codes if known.upper().rstrip("012") in (bare, synonym)]
        alike = difflib.get_close_matches(code.upper(), self.codes, n=len(self.codes), cutoff=0.3)
        alike.sort(key=lambda known: known[0] != code[:1].upper())
        return tuple(dict.fromkeys([*same, *alike]))[:count]

    def check(self, codes: Iterable[str]) -> None:
        """Raise `TextError` unless all `codes` are in this set.

        The message states the first unknown code, its position and the nearest codes.
        """
        for position, code in enumerate(codes, 1):
            if code not in self._ids:
                near = self.nearest(str(code))
                hint = f"did you mean {' or '.join(near)}?" if near else f"the codes are {' '.join(self.codes)}."
                raise TextError(f"{code!r} (phoneme {position}) is not in the phone set {self.name!r}; {hint}")

    def ids(self, codes: Sequence[str]) -> list[int]:
        """The ids of `codes`, which start at 1.

        **Raises:** `TextError` if a code is not in this set (see `check`).
        """
        self.check(codes)
        return [self._ids[code] for code in codes]

    def spell(self, codes: Iterable[str]) -> list[str]:
        """Map ARPAbet `codes` of any stress to codes of this set.

        Codes of this set do not change. Other codes are mapped as in `to_aligned`.

        **Raises:** `TextError` if a code has no counterpart in this set (see `check`).
        """
        mapped: list[str] = []
        for position, code in enumerate(codes, 1):
            if code in self._ids:
                mapped.append(code)
                continue
            aligned = _aligned(code)
            if not aligned or any(part not in self._ids for part in aligned):
                try:
                    self.check([code])
                except TextError as error:
                    raise TextError(str(error).replace("(phoneme 1)", f"(phoneme {position})")) from None
            mapped += aligned
        return mapped


ALIGNED = PhoneSet("aligned", tuple(_ALIGNED.split()))
"""The 54 codes of LJ-Speech-aligned in ASCII order. Stress is 0 or 1, AA is AA1, ER is EU0 R or EU1 R."""

ARPABET = PhoneSet(
    "arpabet", (*sorted((*CONSONANTS, *(vowel + stress for vowel in VOWELS for stress in "012"))), PAUSE)
)
"""The 39 phones of ARPAbet in ASCII order, vowels with stress 0, 1 or 2, and the pause `pau`."""

PHONE_SETS = {phone_set.name: phone_set for phone_set in (ALIGNED, ARPABET)}
"""The phone sets by name."""


def _aligned(code: str) -> list[str]:
    """Map one ARPAbet code to codes of `ALIGNED`; empty if it is not ARPAbet."""
    if code in ALIGNED:
        return [code]
    if code not in ARPABET:
        return []
    phone, stress = code[:-1], "0" if code.endswith("0") else "1"
    if phone == "AA":
        return ["AA1"]
    return [f"EU{stress}", "R"] if phone == "ER" else [phone + stress]


def to_aligned(codes: Iterable[str]) -> list[str]:
    """Map ARPAbet codes of any stress to codes of `ALIGNED`: stress 2 becomes 1, AA becomes AA1, ER becomes EU and R.

    **Raises:** `TextError` if a code is in neither set. The message states the nearest codes.
    """
    return ALIGNED.spell(codes)

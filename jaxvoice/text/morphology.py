"""Pronounce inflections, derivations, compounds and British spellings of words in the dictionary."""

import re
from collections.abc import Callable, Iterator

Phones = tuple[str, ...]
LookUp = Callable[[str], Phones | None]

SIBILANTS = frozenset(["S", "Z", "SH", "ZH", "CH", "JH"])
VOICELESS = frozenset(["P", "T", "K", "F", "TH"])  # besides the voiceless sibilants
VOWEL_LETTERS = frozenset("aeiouy")

SUFFIXES: tuple[tuple[str, Phones], ...] = tuple(
    (letters, tuple(phones.split()))
    for letters, phones in (
        ("ing", "IH0 NG"),
        ("in'", "IH0 N"),
        ("ly", "L IY0"),
        ("er", "ER0"),
        ("or", "ER0"),
        ("est", "AH0 S T"),
        ("ness", "N AH0 S"),
        ("less", "L AH0 S"),
        ("ful", "F AH0 L"),
        ("ment", "M AH0 N T"),
        ("able", "AH0 B AH0 L"),
        ("ible", "AH0 B AH0 L"),
        ("ish", "IH0 SH"),
        ("like", "L AY2 K"),
        ("ship", "SH IH2 P"),
        ("hood", "HH UH2 D"),
        ("wards", "W ER0 D Z"),
        ("ward", "W ER0 D"),
        ("wise", "W AY2 Z"),
        ("some", "S AH0 M"),
        ("man", "M AH0 N"),
        ("men", "M EH0 N"),
        ("ford", "F ER0 D"),
        ("worth", "W ER0 TH"),
        ("shire", "SH ER0"),
        ("y", "IY0"),
    )
)
VOWEL_SUFFIXES = frozenset({"ing", "in'", "er", "or", "est", "able", "ible", "ish", "y"})
"""Suffixes before which a final e is dropped and a consonant is doubled: `making`, `running`."""

PREFIXES: tuple[tuple[str, Phones], ...] = tuple(
    (letters, tuple(phones.split()))
    for letters, phones in (
        ("counter", "K AW2 N T ER0"),
        ("under", "AH2 N D ER0"),
        ("inter", "IH2 N T ER0"),
        ("super", "S UW2 P ER0"),
        ("anti", "AE2 N T IY0"),
        ("over", "OW2 V ER0"),
        ("fore", "F AO2 R"),
        ("semi", "S EH2 M IY0"),
        ("mis", "M IH0 S"),
        ("dis", "D IH0 S"),
        ("non", "N AA0 N"),
        ("out", "AW2 T"),
        ("pre", "P R IY0"),
        ("sub", "S AH0 B"),
        ("un", "AH0 N"),
        ("in", "IH0 N"),
        ("re", "R IY0"),
    )
)
BRITISH: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), american)
    for pattern, american in (
        (r"our(?=$|s$|ed$|er|ing|able|ite|less|ful|ab)", "or"),
        (r"is(?=e$|es$|ed$|er$|ers$|ing$|ation$|ations$)", "iz"),
        (r"ys(?=e$|es$|ed$|er$|ing$)", "yz"),
        (r"tre(?=$|s$|d$)", "ter"),
        (r"ogue(?=$|s$)", "og"),
        (r"ence(?=$|s$)", "ense"),
        (r"ll(?=ed$|ing$|er$|ers$|or$)", "l"),
        (r"l(?=$|s$|ment$)", "ll"),
        (r"l(?=ful$|fully$)", "ll"),
        (r"ae|oe", "e"),
        (r"dgem(?=ent)", "dgm"),
        (r"xion(?=$|s$)", "ction"),
    )
)
_SHORT_PARTS = (
    "air all any arm ash bag bed bow box boy bus cab car cat cow cup cut day dog dry ear egg eye fly fox gas god gun"
    " hat hen her hot ice key law leg lip man men mid net oak off oil out pie pig pin pot red sea sun tax tea tie toe"
    " top war way web wet who why wig"
)
SHORT_PARTS = frozenset(_SHORT_PARTS.split())
"""Words of three letters that may be parts of compounds. Most others in the dictionary are names or abbreviations."""


def add_s(phones: Phones) -> Phones:
    """Append the ending of plurals and possessives: S, Z or IH0 Z, depending on the last phone."""
    last = phones[-1]
    if last in SIBILANTS:
        return (*phones, "IH0", "Z")
    return (*phones, "S" if last in VOICELESS else "Z")


def add_ed(phones: Phones) -> Phones:
    """Append the ending of the past tense: T, D or IH0 D, depending on the last phone."""
    last = phones[-1]
    if last in ("T", "D"):
        return (*phones, "IH0", "D")
    return (*phones, "T" if last in VOICELESS | {"S", "SH", "CH"} else "D")


def demote_stress(phones: Phones) -> Phones:
    """Turn primary stress into secondary stress, as in the second part of a compound."""
    return tuple(phone[:-1] + "2" if phone.endswith("1") else phone for phone in phones)


def _join(first: Phones, second: Phones) -> Phones:
    """Concatenate two pronunciations; a phone that ends the first and starts the second is kept once."""
    return first + second[first[-1] == second[0] :]


def _stems(stem: str, *, vowel_suffix: bool) -> Iterator[str]:
    """Yield the words that a stem may be spelled from: `make` for `mak`, `run` for `runn`, `happy` for `happi`."""
    if len(stem) > 2 and vowel_suffix:
        if stem[-1] == stem[-2] and stem[-1] not in VOWEL_LETTERS:
            yield stem[:-1]
            yield stem
            return
        # "hoping" comes from "hope", not from "hop"; "needing" from "need".
        ends_short = stem[-1] not in VOWEL_LETTERS and stem[-2] in VOWEL_LETTERS and stem[-3] not in VOWEL_LETTERS
        yield from (stem + "e", stem) if ends_short else (stem, stem + "e")
    else:
        yield stem
    if stem.endswith("i"):
        yield stem[:-1] + "y"


def _inflected(word: str, look_up: LookUp) -> Phones | None:
    """Pronounce `word` as a plural or a past tense."""
    if word.endswith("s") and not word.endswith("ss"):
        stems = [word[:-1]]
        stems += [word[:-2]] if word.endswith("es") else []
        stems += [word[:-3] + "y"] if word.endswith("ies") else []
        stems += [word[:-3] + "f", word[:-3] + "fe"] if word.endswith("ves") else []
        for stem in stems:
            if len(stem) > 1 and (phones := look_up(stem)):
                if stem[-1:] == "f" or stem[-2:] == "fe":
                    phones = (*phones[:-1], "V")
                return add_s(phones)
    if word.endswith("ed") and len(word) > 4:
        for stem in _stems(word[:-2], vowel_suffix=True):
            if phones := look_up(stem):
                return add_ed(phones)
    return None


def _derived(word: str, look_up: LookUp) -> Phones | None:
    """Pronounce `word` as a word of the dictionary with a suffix or a prefix."""
    for ending, phones_of_ending in SUFFIXES:
        if not word.endswith(ending) or len(word) - len(ending) < 3:
            continue
        stem = word.removesuffix(ending)
        if ending == "ly" and (phones := look_up(stem + "le")):
            return (*phones[:-2], *phones_of_ending) if phones[-2:] == ("AH0", "L") else (*phones, "IY0")
        if ending == "or" and not stem.endswith("at"):
            continue
        for candidate in _stems(stem, vowel_suffix=ending in VOWEL_SUFFIXES):
            if phones := look_up(candidate):
                # "wholly" and "fully" have one L.
                overlap = ending == "ly" and stem.endswith("l") and phones[-1] == "L"
                return phones + phones_of_ending[overlap:]
    if word.endswith("ation") and (phones := look_up(word.removesuffix("ion") + "e")) and phones[-1] == "T":
        # "perpetration" from "perpetrate": the stress moves to the A.
        return (*demote_stress(phones[:-2]), "EY1", "SH", "AH0", "N")
    for beginning, phones_of_beginning in PREFIXES:
        rest = word.removeprefix(beginning).removeprefix("-")
        if rest != word and len(rest) > 3 and (phones := look_up(rest)):
            return _join(phones_of_beginning, phones)
    return None


def _compound(word: str, look_up: LookUp) -> Phones | None:
    """Pronounce `word` as two words of the dictionary, the second with secondary stress.

    Splits near the middle are tried first.
    """
    middle = len(word) / 2
    for cut in sorted(range(3, len(word) - 2), key=lambda cut: abs(cut - middle)):
        parts = word[:cut], word[cut:]
        if any((len(part) == 3 and part not in SHORT_PARTS) or not VOWEL_LETTERS & set(part) for part in parts):
            continue
        if (one := look_up(parts[0])) and (two := look_up(parts[1])):
            return _join(one, demote_stress(two))
    return None


def pronounce_from_parts(word: str, look_up: LookUp) -> Phones | None:
    """ARPAbet phones of `word` (lower case), composed from those that `look_up` returns for other words, or None.

    Inflections are tried first, then suffixes and prefixes, British spellings and compounds. At most two of these steps
    are combined: `unbearables` is the plural of `bearable` with a prefix.
    """

    def step(part: str) -> Phones | None:
        return look_up(part) or _inflected(part, look_up) or _derived(part, look_up)

    found = _inflected(word, look_up) or _derived(word, look_up)
    if found:
        return found
    for pattern, american in BRITISH:
        respelt = pattern.sub(american, word)
        if respelt != word and (found := step(respelt)):
            return found
    found = _inflected(word, step) or _derived(word, step)
    if found or not word.isalpha():
        return found
    return _compound(word, look_up) or _compound(word, lambda part: look_up(part) or _inflected(part, look_up))

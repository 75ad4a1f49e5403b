"""Sets of phoneme codes against the description of the aligned corpus."""

import pytest

from jaxvoice.errors import TextError
from jaxvoice.text import ALIGNED, ARPABET, PhoneSet, to_aligned


def test_the_aligned_set_equals_the_published_one():
    """54 codes: 24 consonants, pau, AA1, EU0 and EU1, and thirteen vowels with two stresses each."""
    consonants = set("B CH D DH F G HH JH K L M N NG P R S SH T TH V W Y Z ZH".split())  # noqa: SIM905
    vowels = set("AE AH AO AW AY EH EY IH IY OW OY UH UW".split())  # noqa: SIM905
    expected = {*consonants, "pau", "AA1", "EU0", "EU1", *(v + s for v in vowels for s in "01")}
    assert set(ALIGNED.codes) == expected
    assert len(ALIGNED) == len(ALIGNED.codes) == 54
    assert list(ALIGNED.codes) == sorted(ALIGNED.codes), "the order must not depend on that of a set"


def test_arpabet_has_39_phones_and_a_pause():
    assert len(ARPABET) == 24 + 15 * 3 + 1
    assert len({code.rstrip("012") for code in ARPABET.codes}) == 40
    assert "ER2" in ARPABET and "AA0" in ARPABET and "EU0" not in ARPABET


def test_ids_start_at_one_in_the_order_of_codes():
    assert ALIGNED.ids(["AA1", "pau", "B"]) == [1, 54, ALIGNED.codes.index("B") + 1]
    assert ALIGNED.ids([]) == []


@pytest.mark.parametrize(
    ("arpabet", "aligned"),
    [
        ("P R IH1 Z AH0 N ER0 Z", "P R IH1 Z AH0 N EU0 R Z"),
        ("T ER1 M Z", "T EU1 R M Z"),
        ("W ER2 D", "W EU1 R D"),
        ("AA0 AA1 AA2", "AA1 AA1 AA1"),
        ("OY2 OY0", "OY1 OY0"),
        ("EU0 R pau ZH", "EU0 R pau ZH"),
    ],
)
def test_arpabet_in_aligned_codes(arpabet, aligned):
    assert to_aligned(arpabet.split()) == aligned.split()


def test_every_arpabet_code_has_aligned_codes():
    assert set(to_aligned(ARPABET.codes)) == set(ALIGNED.codes)


def test_arpabet_codes_map_to_themselves():
    assert ARPABET.spell(ARPABET.codes) == list(ARPABET.codes)


@pytest.mark.parametrize(
    ("code", "near"), [("AH2", "AH0"), ("ah1", "AH1"), ("ER0", "EU0"), ("AA", "AA1"), ("sil", "pau"), ("HX", "HH")]
)
def test_the_error_states_the_nearest_codes(code, near):
    with pytest.raises(TextError, match="phoneme 2") as caught:
        ALIGNED.check(["B", code])
    assert repr(code) in str(caught.value)
    assert near in str(caught.value).split("did you mean")[1]


def test_the_same_phone_with_other_stress_comes_first():
    assert ALIGNED.nearest("UH2")[:2] == ("UH0", "UH1")
    assert ARPABET.nearest("EU1")[:3] == ("ER0", "ER1", "ER2")


def test_error_for_a_code_like_no_other_lists_all_codes():
    with pytest.raises(TextError, match="the codes are AA1 AE0"):
        ALIGNED.ids(["@@@"])


def test_error_of_spell_states_the_position():
    with pytest.raises(TextError, match="phoneme 3"):
        ALIGNED.spell(["ER0", "B", "QQ"])


def test_duplicate_codes_and_empty_sets_raise_an_error():
    with pytest.raises(TextError, match="AH0 more than once"):
        PhoneSet("mine", ("AH0", "B", "AH0"))
    with pytest.raises(TextError, match="no codes"):
        PhoneSet("mine", ())

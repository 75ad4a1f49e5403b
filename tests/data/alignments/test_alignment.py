"""Mapping of labels to phones, and of intervals to alignments without gaps."""

import numpy as np
import pytest

from jaxvoice.data.alignments import Alignment, AlignmentError, Interval
from jaxvoice.data.alignments.alignment import align_intervals
from jaxvoice.data.alignments.phone_mapping import arpabet_parts, demo_parts
from jaxvoice.errors import DataError, TextError
from jaxvoice.text.phonemes import ALIGNED, ARPABET, PhoneSet


def row(*items):
    """Intervals from (label, end) pairs that follow one another."""
    ends = [0.0, *(end for _, end in items)]
    return [Interval(label, start, end) for (label, end), start in zip(items, ends, strict=False)]


def aligned(intervals, phone_set=ALIGNED):
    return align_intervals("it", intervals, arpabet_parts(phone_set))


def test_silences_become_pauses_and_adjacent_ones_merge():
    made = aligned(row(("sil", 0.1), ("sp", 0.2), ("HH", 0.3), ("IY1", 0.5), ("spn", 0.6), ("", 0.7), ("_", 1.0)))
    assert made.phones == ("pau", "HH", "IY1", "pau")
    np.testing.assert_allclose(made.boundaries, [0, 0.2, 0.3, 0.5, 1.0], atol=1e-12)
    assert made.boundaries.dtype == np.float64 and made.seconds == 1.0


def test_er_is_split_into_vowel_and_r():
    made = aligned(row(("T", 0.1), ("ER1", 0.3), ("M", 0.4), ("er0", 0.5)))
    assert made.phones == ("T", "EU1", "R", "M", "EU0", "R")
    np.testing.assert_allclose(made.boundaries, [0, 0.1, 0.184, 0.3, 0.4, 0.442, 0.5], atol=1e-12)


def test_arpabet_distinguishes_phones_that_aligned_merges():
    labels = row(("ER2", 0.1), ("AA0", 0.2), ("AH2", 0.3), ("aa2", 0.4), ("EU1", 0.5))
    assert aligned(labels).phones == ("EU1", "R", "AA1", "AH1", "AA1", "EU1")
    assert aligned(labels[:4], ARPABET).phones == ("ER2", "AA0", "AH2", "AA2")


def test_vowels_without_stress_digits_are_stressed():
    made = aligned(row(("hh", 0.1), ("ax", 0.2), ("l", 0.3), ("ow", 0.4), ("axr", 0.5), ("pau", 0.6)))
    assert made.phones == ("HH", "AH0", "L", "OW1", "EU0", "R", "pau")


def test_error_for_an_unknown_label_states_the_nearest():
    with pytest.raises(AlignmentError, match=r"it, at 0\.100 s: 'IY7'.*IY1") as failure:
        aligned(row(("HH", 0.1), ("IY7", 0.2)))
    assert failure.value.kind == "unknown phone"
    with pytest.raises(TextError, match="ZH"):
        arpabet_parts(PhoneSet("two", ("AH0", "pau")))("ZH")


def test_gaps_from_rounding_are_closed():
    made = aligned([Interval("HH", 0.0006, 0.1), Interval("IY1", 0.101, 0.5), Interval("T", 0.4991, 0.6)])
    np.testing.assert_array_equal(made.boundaries, [0, 0.101, 0.4991, 0.6])


@pytest.mark.parametrize(
    ("intervals", "kind", "said"),
    [
        ([Interval("HH", 0, 0.1), Interval("IY1", 0.15, 0.5)], "gap", r"gap of 0\.050 s before 'IY1' at 0\.150 s"),
        ([Interval("HH", 0.3, 0.4)], "gap", r"gap of 0\.300 s before 'HH'"),
        ([Interval("HH", 0, 0.1), Interval("IY1", 0.1012, 0.5)], "gap", "gap"),
        ([Interval("HH", 0, 0.2), Interval("IY1", 0.15, 0.5)], "overlap", r"overlap by 0\.050 s before 'IY1'"),
        ([Interval("HH", 0, 0.001), Interval("T", 0.001, 0.0015), Interval("S", 0.0009, 1)], "overlap", "overlap"),
        ([Interval("HH", -0.2, 0.1)], "overlap", "overlap"),
        ([Interval("HH", 0.2, 0.1)], "broken", "lasts from 0.2 to 0.1 s"),
        ([Interval("HH", 0, float("nan"))], "broken", "nan"),
        ([Interval("HH", 0, float("inf"))], "broken", "inf"),
        ([Interval("HH", 0, 1e300)], "broken", "1e.300 s"),
        ([], "broken", "no phones"),
        ([Interval("sil", 0, 0)], "broken", "no phones"),
    ],
)
def test_larger_gaps_raise_an_error(intervals, kind, said):
    with pytest.raises(AlignmentError, match=said) as failure:
        aligned(intervals)
    assert failure.value.kind == kind and isinstance(failure.value, DataError)


def test_pauses_without_duration_are_removed_and_phones_kept():
    made = aligned(row(("HH", 0.1), ("sp", 0.1), ("IY1", 0.5), ("T", 0.5), ("S", 0.6)))
    assert made.phones == ("HH", "IY1", "T", "S")
    np.testing.assert_array_equal(made.boundaries, [0, 0.1, 0.5, 0.5, 0.6])


@pytest.mark.parametrize("edges", [[0, 1, 2], [0.5, 1], [0, -1], [0, np.nan]])
def test_alignment_raises_for_bad_boundaries(edges):
    with pytest.raises(DataError, match="it has"):
        Alignment("it", ("HH",), np.array(edges, np.float64))


@pytest.mark.parametrize(
    ("mnemonic", "codes", "shares"),
    [
        ("'0", ["AA1"], [1]),
        ("A:", ["AA1"], [1]),
        ("@", ["AH0"], [1]),
        (",eI", ["EY1"], [1]),
        ("tS", ["CH"], [1]),
        ("t#", ["T"], [1]),
        ("_:", ["pau"], [1]),
        (";", [], []),
        ("3", ["EU0", "R"], [0.42, 0.58]),
        ("'3:", ["EU1", "R"], [0.42, 0.58]),
        ("@L", ["AH0", "L"], [0.5, 0.5]),
        ("'i@3", ["IH1", "R"], [0.5, 0.5]),
        ("'aI@", ["AY1", "AH0"], [0.5, 0.5]),
        ("'aI3", ["AY1", "EU0", "R"], [0.5, 0.21, 0.29]),
    ],
)
def test_mnemonics_map_to_codes_and_shares(mnemonic, codes, shares):
    parts = demo_parts()(mnemonic)
    assert [part.code for part in parts] == codes
    np.testing.assert_allclose([part.share for part in parts], shares, atol=1e-12)


def test_mnemonics_of_other_languages_raise_an_error():
    with pytest.raises(DataError, match="'y:' has no counterpart"):
        demo_parts()("y:")


def test_glides_lengthen_the_phone_before_and_shares_are_in_order():
    made = align_intervals("it", row(("'i:", 0.1), (";", 0.2), ("'aI3", 1.2)), demo_parts())
    assert made.phones == ("IY1", "AY1", "EU0", "R")
    np.testing.assert_allclose(made.boundaries, [0, 0.2, 0.7, 0.91, 1.2], atol=1e-12)

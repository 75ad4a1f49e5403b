"""Word error rates against counts made by hand."""

import pytest

from experiments.benchmarks.word_errors import edits, number_words, ratio_interval, words, year_words


@pytest.mark.parametrize(
    ("number", "spelled"),
    [
        (0, "zero"),
        (13, "thirteen"),
        (40, "forty"),
        (42, "forty two"),
        (300, "three hundred"),
        (999, "nine hundred ninety nine"),
        (1000, "one thousand"),
        (12_345, "twelve thousand three hundred forty five"),
    ],
)
def test_numbers_are_expanded(number: int, spelled: str) -> None:
    assert number_words(number) == spelled


@pytest.mark.parametrize(
    ("year", "spelled"),
    [
        (1455, "fourteen fifty five"),
        (1500, "fifteen hundred"),
        (1905, "nineteen oh five"),
        (2000, "two thousand"),
        (2024, "twenty twenty four"),
        (1066, "one thousand sixty six"),
    ],
)
def test_years_are_expanded(year: int, spelled: str) -> None:
    assert year_words(year) == spelled


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('or "forty-two line Bible" of about 1455,', "or forty two line bible of about fourteen fifty five"),
        ("Don't; the ne-plus-ultra (i.e. best)", "don't the ne plus ultra i e best"),
        ("1,250 men & 3 dogs", "one thousand two hundred fifty men and three dogs"),
        ("Mr. Smith\N{RIGHT SINGLE QUOTATION MARK}s", "mister smith's"),
        ("...", ""),
    ],
)
def test_words_have_the_spelling_of_recognisers(text: str, expected: str) -> None:
    assert words(text) == expected.split()


@pytest.mark.parametrize(
    ("reference", "hypothesis", "count"),
    [
        ("a b c", "a b c", 0),
        ("a b c", "", 3),
        ("", "a b", 2),
        ("a b c", "a x c", 1),
        ("a b c d", "b c d e", 2),
        ("wood cutters", "woodcutters", 2),
    ],
)
def test_edits_are_minimal(reference: str, hypothesis: str, count: int) -> None:
    assert edits(reference.split(), hypothesis.split()) == count


def test_edits_of_letters() -> None:
    assert edits("kitten", "sitting") == edits("sitting", "kitten") == 3
    assert edits("", "abc") == 3 and edits("abc", "abc") == 0


def test_interval_contains_the_ratio_and_narrows_with_clips() -> None:
    base, errors = [3, 1, 4, 2, 5, 3, 2, 4], [4, 1, 5, 2, 7, 3, 3, 4]
    low, high = ratio_interval(errors, base)
    assert 1 <= low < sum(errors) / sum(base) < high
    many_low, many_high = ratio_interval(errors * 16, base * 16)
    assert low < many_low < many_high < high
    assert ratio_interval([2, 4], [1, 2]) == (2, 2)

"""Dictionary, morphology and letter-to-sound against entries of the CMU dictionary."""

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from jaxvoice.text.dictionary import Dictionary, cmudict
from jaxvoice.text.letter_to_sound import LetterToSound, english_model, pack_model, unpack_model
from jaxvoice.text.morphology import add_ed, add_s, pronounce_from_parts
from jaxvoice.text.numbers import cardinal, ordinal
from jaxvoice.text.phonemes import ARPABET
from jaxvoice.text.roman_numerals import roman, to_roman
from jaxvoice.text.word_pronunciation import pronounce_word

WORDS = (
    "cats horses wishes stories wolves worked pens ended begged hoped tried running making walking quickly darkness"
    " teacher hopeless unhappy rewrite gently largest colourless"
)


class TestDictionary:
    @pytest.mark.parametrize(
        ("word", "phones"),
        [
            ("'bout", "B AW1 T"),
            ("a", "AH0"),
            ("don't", "D OW1 N T"),
            ("hello", "HH AH0 L OW1"),
            ("read", "R EH1 D"),
            ("zywicki", "Z IH0 W IH1 K IY0"),
        ],
    )
    def test_entries_of_the_cmu_dictionary(self, word, phones):
        assert cmudict().get(word) == tuple(phones.split())

    @pytest.mark.parametrize("word", ["", "'", "hell0", "hello ", "zzzzz", "ö", "hello HH", "\n", "H"])
    def test_words_without_an_entry(self, word):
        assert cmudict().get(word) is None

    def test_search_finds_every_entry(self):
        entries = dict(cmudict().items())
        assert len(entries) == 126052
        for word in sorted(entries)[::97]:
            assert cmudict().get(word) == entries[word]

    def test_phones_are_arpabet(self):
        assert {phone for _, phones in cmudict().items() for phone in phones} <= set(ARPABET.codes) - {"pau"}

    def test_small_dictionaries(self):
        one = Dictionary(b"b B IY1")
        assert one.get("b") == ("B", "IY1") and one.get("a") is None and one.get("c") is None
        assert Dictionary(b"").get("a") is None

    def test_the_licence_is_shipped(self):
        data = files("jaxvoice.text") / "data"
        assert "Carnegie Mellon University" in (data / "CMUDICT_LICENSE.txt").read_text(encoding="utf-8")
        assert len((data / "cmudict.txt.gz").read_bytes()) < 1_200_000
        assert len((data / "letter_to_sound.gz").read_bytes()) < 400_000

    def test_the_dictionary_is_read_on_first_use_without_a_call_per_word(self):
        code = (
            "import jaxvoice.text, jaxvoice.text.dictionary as d\n"
            "jaxvoice.text.text_to_phonemes; assert d.cmudict.cache_info().currsize == 0\n"
            "from tests.work import counted_work\n"
            "with counted_work() as work: jaxvoice.text.text_to_phonemes('hello')\n"
            "assert d.cmudict.cache_info().currsize == 1; print(work.calls)"
        )
        root = Path(__file__).parents[2]
        found = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
        assert int(found.stdout) < 20_000, "the dictionary has 126,000 lines"


class TestMorphology:
    """Words are removed from the dictionary and derived from its other words."""

    @pytest.mark.parametrize(
        "word",
        WORDS.split(),
    )
    def test_derived_words_equal_the_dictionary(self, word):
        truth = cmudict().get(word) or ("K", "AH1", "L", "ER0", "L", "AH0", "S")
        built = pronounce_from_parts(word, lambda part: None if part == word else cmudict().get(part))
        assert built is not None
        # The dictionary uses AH0 and IH0 in endings inconsistently.
        assert [p.replace("IH0", "AH0") for p in built] == [p.replace("IH0", "AH0") for p in truth]

    @pytest.mark.parametrize(
        ("word", "phones"),
        [
            ("jenson's", "JH EH1 N S AH0 N Z"),
            ("missals", "M IH1 S AH0 L Z"),
            ("shapeliness", "SH EY1 P L IY0 N AH0 S"),
            ("pawnbrokers", "P AO1 N B R OW2 K ER0 Z"),
            ("quicklime", "K W IH1 K L AY2 M"),
            ("perpetration", "P ER2 P AH0 T R EY1 SH AH0 N"),
            ("rumoured", "R UW1 M ER0 D"),
            ("skilful", "S K IH1 L F AH0 L"),
            ("reprieved", "R IY0 P R IY1 V D"),
            ("unwholesome", "AH0 N HH OW1 L S AH0 M"),
            ("stumblin'", "S T AH1 M B AH0 L IH0 N"),
        ],
    )
    def test_words_outside_the_dictionary(self, word, phones):
        assert pronounce_word(word) == (tuple(phones.split()), "morphology")

    def test_endings_depend_on_the_last_phone(self):
        assert add_s(("K", "AE1", "T")) == ("K", "AE1", "T", "S")
        assert add_s(("D", "AO1", "G"))[-1] == "Z" and add_s(("R", "OW1", "Z"))[-2:] == ("IH0", "Z")
        assert add_ed(("W", "AO1", "K"))[-1] == "T" and add_ed(("B", "EH1", "G"))[-1] == "D"
        assert add_ed(("W", "AA1", "N", "T"))[-2:] == ("IH0", "D")

    def test_unknown_words_are_not_derived(self):
        assert pronounce_from_parts("blorf", lambda part: None) is None


class TestLetterToSound:
    @pytest.mark.parametrize(
        ("word", "phones"), [("blint", "B L IH1 N T"), ("shrane", "SH R EY1 N"), ("frunting", "F R AH1 N T IH0 NG")]
    )
    def test_regular_words_outside_the_dictionary(self, word, phones):
        assert word not in cmudict()
        assert english_model()(word) == tuple(phones.split())

    def test_most_training_words(self):
        """The model is pruned, so it does not reproduce all training words; a broken model reproduces almost none."""
        entries = [entry for entry in cmudict().items() if entry[0].isalpha() and len(entry[0]) > 3][::4000]
        right = sum(english_model()(word) == phones for word, phones in entries)
        assert right > 0.6 * len(entries)

    def test_exactly_one_primary_stress(self):
        for word in ("blorfing", "zopyrus", "antelomedian", "kri"):
            phones = english_model()(word)
            assert phones is not None and sum(phone.endswith("1") for phone in phones) == 1

    def test_unknown_letters_have_no_phones(self):
        assert english_model()("naïf") is None and english_model()("") is None

    def test_packing_and_unpacking_is_the_identity(self):
        pairs = [("a", ("AE1",)), ("b", ("B",)), ("b", ()), ("x", ("K", "S"))]
        first, second = chr(0x100), chr(0x101)
        counts = {first: 3, second: 12, first + second: 10, first + "~": 2, f"^{first}": 4, f"{second}$": 7}
        again = unpack_model(pack_model(LetterToSound(pairs, counts)))
        assert again.pairs == tuple(pairs) and again.counts == counts

    def test_probabilities_of_a_context_sum_to_one(self):
        model = english_model()
        symbols = [*map(chr, range(0x100, 0x100 + len(model.pairs))), "$"]
        seen = [ngram for ngram in model.counts if len(ngram) == 4][:: len(model.counts) // 5]
        for ngram in seen:
            total = sum(model.probability(ngram[:-1], symbol) for symbol in symbols)
            assert total == pytest.approx(1.0, abs=1e-6)


class TestWords:
    @pytest.mark.parametrize(
        ("word", "phones", "source"),
        [
            ("B", "B IY1", "dictionary"),
            ("A", "EY1", "dictionary"),
            ("a", "AH0", "dictionary"),
            ("P's", "P IY1 Z", "dictionary"),
            ("xkcd", "EH1 K S K EY1 S IY1 D IY1", "spelled"),
            ("o'clock", "AH0 K L AA1 K", "dictionary"),
        ],
    )
    def test_letters_and_words(self, word, phones, source):
        assert pronounce_word(word) == (tuple(phones.split()), source)


class TestNumbers:
    def test_roman_numerals(self):
        assert [to_roman(n) for n in (1, 4, 9, 14, 40, 99, 399)] == ["I", "IV", "IX", "XIV", "XL", "XCIX", "CCCXCIX"]
        assert all(roman(to_roman(n)) == n for n in range(1, 400))
        assert not any(map(roman, ["IIII", "VX", "IC", "MIX", "CIVIL", ""]))

    def test_numbers_without_a_name_are_read_digit_by_digit(self):
        assert cardinal(10**36 - 1).startswith("nine hundred ninety-nine decillion")
        assert cardinal(10**36) == "one" + " zero" * 36
        assert cardinal(-3) == "minus three" and ordinal(1_000_000) == "one millionth"

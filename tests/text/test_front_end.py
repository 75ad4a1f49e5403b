"""Text to phonemes against the CMU dictionary, the published behaviour, and known errors of other front ends."""

# ruff: noqa: RUF001 - characters that look alike are part of what is tested.

import pytest

from jaxvoice.errors import TextError
from jaxvoice.text import ALIGNED, ARPABET, PhoneSet, normalize, pronounce, text_to_phonemes
from tests.work import counted_work


def codes(text, *args, **kwargs):
    return " ".join(text_to_phonemes(text, *args, **kwargs))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, world!", "HH AH0 L OW1 pau W EU1 R L D pau"),
        ("hello world", "HH AH0 L OW1 W EU1 R L D pau"),
        ("prisoners", "P R IH1 Z AH0 N EU0 R Z pau"),
        ("terms", "T EU1 R M Z pau"),
        ("$2", "T UW1 D AA1 L EU0 R Z pau"),
        ("forty-two", "F AO1 R T IY0 T UW1 pau"),
        ("Well -- yes - no…", "W EH1 L pau Y EH1 S pau N OW1 pau"),
        ("(Wait!) ...now?!", "W EY1 T pau N AW1 pau"),
        ("the end, the start", "DH IY0 EH1 N D pau DH AH0 S T AA1 R T pau"),
        ("a TV", "AH0 T IY1 V IY1 pau"),
        ("an A.", "AE1 N EY1 pau"),
        ("'Twas fun", "T W AH1 Z F AH1 N pau"),
        ("stop 'em", "S T AA1 P AH0 M pau"),
    ],
)
def test_default_mode(text, expected):
    assert codes(text) == expected


@pytest.mark.parametrize("quote", ["'", "’", "ʼ"])
def test_apostrophes_are_not_pauses(quote):
    assert codes(f"don{quote}t") == "D OW1 N T pau"
    assert "pau" in codes(f"don{quote}t go", mode="compat").split()[:-2], "the published code has a pause there"


def test_er_is_written_as_in_the_corpus():
    assert codes("word") == "W EU1 R D pau"
    assert "EH1" not in codes("her bird's over there, sir")[: -len("pau")].split("DH")[0]


def test_quotes_around_words_do_not_change_them():
    assert codes("she said 'hello' to 'the dogs'") == codes("she said hello to the dogs")


def test_adjacent_marks_are_one_pause_and_the_text_ends_with_one():
    found = text_to_phonemes('One. - (Two)... "Three"!!')
    assert found.count("pau") == 3 and found[-1] == "pau" and found[0] != "pau"


class TestPhonemesInBraces:
    def test_codes_are_not_changed(self):
        assert codes("say {HH AH0 L OW1} now") == "S EY1 HH AH0 L OW1 N AW1 pau"

    def test_all_pauses_are_kept(self):
        assert codes("{pau pau pau}") == "pau pau pau"
        assert codes("one {pau pau} two") == "W AH1 N pau pau T UW1 pau"

    def test_punctuation_beside_a_pause_adds_no_pause(self):
        assert codes("one, {pau}. two") == codes("one {pau pau} two")

    def test_arpabet_of_any_stress_is_mapped(self):
        assert codes("{W ER2 D AA0}") == "W EU1 R D AA1 pau"

    def test_error_for_an_unknown_code_states_the_nearest(self):
        with pytest.raises(TextError, match=r"\{HH AH L OW1\}.*'AH' \(phoneme 2\).*AH0 or AH1"):
            text_to_phonemes("say {HH AH L OW1}")

    @pytest.mark.parametrize("text", ["a {HH", "HH}", "{{HH}}", "{}", "{ }"])
    def test_unbalanced_and_empty_braces_raise_an_error(self, text):
        with pytest.raises(TextError, match="HH AH0 L OW1"):
            text_to_phonemes(text)


CUSTOM = {"Jaxvoice": "JH AE1 K S V OY2 S", "c3po": ["S", "IY1"]}


class TestCustomWords:
    def test_custom_words_override_the_dictionary_in_any_case(self):
        assert codes("hello", {"HELLO": "B"}) == "B pau"
        assert codes("JAXVOICE and C3PO", CUSTOM) == "JH AE1 K S V OY1 S AH0 N D S IY1 pau"

    def test_possessives_are_derived(self):
        assert codes("jaxvoice's", CUSTOM) == "JH AE1 K S V OY1 S IH0 Z pau"

    def test_only_whole_words_match(self):
        assert codes("hellos", {"hello": "B"}) == codes("hellos")

    def test_source_of_custom_words(self):
        words = pronounce("Jaxvoice {B}, jaxvoice", CUSTOM).words
        assert [(word.text, word.source) for word in words[:2]] == [("Jaxvoice", "custom"), ("{B}", "given")]

    def test_compat_mode_uses_custom_words(self):
        assert codes("Jaxvoice.", CUSTOM, mode="compat") == "JH AE1 K S V OY1 S pau"

    @pytest.mark.parametrize(
        ("word", "phones", "named"), [("two words", "B", "two words"), ("x", "B AH3", "AH0"), ("x", "", "no phonemes")]
    )
    def test_invalid_entries_raise_an_error(self, word, phones, named):
        with pytest.raises(TextError, match=named):
            text_to_phonemes("x", {word: phones})

    @pytest.mark.parametrize(
        ("customs", "named"),
        [
            (["a"], "of type list; it should be a mapping"),
            ("hello", "of type str"),
            ({"x": 5}, "'x' has phonemes 5"),
            ({"x": None}, "'x' has phonemes None"),
            ({"x": [["AH0"]]}, "they should be text"),
            ({"x": b"AH0"}, "they should be text"),
            ({5: "AH0"}, "the key 5; it should be text"),
        ],
    )
    def test_other_types_raise_an_error_of_one_line(self, customs, named):
        with pytest.raises(TextError, match=named) as caught:
            text_to_phonemes("x", customs)
        assert "\n" not in str(caught.value)


class TestCompatMode:
    """The published `text_to_phonemes`: its rules, with the CMU dictionary's entries looked up by hand."""

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("Hello, world!", "HH AH0 L OW1 pau W EH1 L D pau"),
            ("word", "W EH1 D"),
            ("Don't", "D AA1 N pau T IY1"),
            ('"Go," he said...', "pau G OW1 pau HH IY1 S EH1 D pau"),
            ("prisoners", "P R IH1 Z AH0 N EH1 Z"),
            ("a - b", "AH0 pau B IY1"),
            ("aardvark", "AA1 R D V AA1 R K"),
            ("... !", "pau pau"),
        ],
    )
    def test_published_behaviour(self, text, expected):
        assert codes(text, mode="compat") == expected

    def test_numbers_are_pronounced_and_vowels_outside_the_dictionary_stressed(self):
        assert codes("5", mode="compat") == "F AY1 V"
        unknown = text_to_phonemes("blorfingle", mode="compat")
        assert all(code[-1] == "1" for code in unknown if code[0] in "AEIOU")

    def test_quotes_dashes_and_accents_are_folded_first(self):
        assert codes("“word” — word…", mode="compat") == codes('"word" - word...', mode="compat")
        assert codes("café", mode="compat") == codes("cafe", mode="compat")

    def test_other_phone_sets_raise_an_error(self):
        with pytest.raises(TextError, match="mode='default'"):
            text_to_phonemes("hello", mode="compat", phone_set=ARPABET)

    def test_compat_codes_never_contain_eu(self):
        assert not {"EU0", "EU1"} & set(text_to_phonemes("her sister's word", mode="compat"))


class TestBadInput:
    @pytest.mark.parametrize("mode", ["default", "compat"])
    @pytest.mark.parametrize("text", ["", "  \n", "\u200b"])
    def test_empty_text_raises_an_error(self, text, mode):
        with pytest.raises(TextError, match="nothing to pronounce"):
            text_to_phonemes(text, mode=mode)

    def test_punctuation_alone_raises_an_error(self):
        with pytest.raises(TextError, match="it should contain a word"):
            text_to_phonemes('... "!?"')

    @pytest.mark.parametrize("text", ["привет", "你好", "fine 😀"])
    def test_other_scripts_raise_an_error_in_both_modes(self, text):
        for mode in ("default", "compat"):
            with pytest.raises(TextError, match=r"U\+"):
                text_to_phonemes(text, mode=mode)

    def test_an_unknown_mode_raises_an_error(self):
        with pytest.raises(TextError, match="'default' or 'compat'"):
            text_to_phonemes("hello", mode="fast")  # pyright: ignore[reportArgumentType]

    def test_error_for_a_phone_set_without_a_needed_phoneme(self):
        with pytest.raises(TextError, match="'tiny'"):
            text_to_phonemes("hello", phone_set=PhoneSet("tiny", ("HH", "AH0", "L", "pau")))

    def test_long_texts_take_a_bounded_number_of_calls_per_word(self):
        sentence = "The quick brown fox paid $5.50, in 1984; don't ask blorfing xkcd. "
        pronounce(sentence)  # reads the dictionary and the rules
        with counted_work() as work:
            words = pronounce(sentence * 1000).words
        assert work.calls < 40 * 18000
        assert sum(word.source != "punctuation" for word in words) == 18000

    @pytest.mark.parametrize("mode", ["default", "compat"])
    def test_very_long_words_are_spelled(self, mode):
        assert len(text_to_phonemes("ab" * 20000, mode=mode)) >= 3 * 20000


def test_other_phone_sets_use_their_own_codes():
    assert codes("hello world, aardvark", phone_set=ARPABET) == "HH AH0 L OW1 W ER1 L D pau AA1 R D V AA2 R K pau"


def test_the_codes_of_the_words_are_the_pronunciation():
    found = pronounce('Dr. Blorf\'s "{B AH1 pau}" - (see xkcd, 1984).', {"see": "S IY1"})
    assert [code for word in found.words for code in word.codes] == found.codes
    ALIGNED.check(found.codes)
    source = {word.text: word.source for word in found.words}
    assert source["doctor"] == "dictionary" and source["blorf's"] == "letters" and source["xkcd"] == "spelled"
    assert source["see"] == "custom" and source[","] == "punctuation" and source["{B AH1 pau}"] == "given"
    assert found.text == 'doctor blorf\'s " {B AH1 pau} " - (see xkcd, nineteen eighty-four).'


def test_normalisation_does_not_change_the_pronunciation():
    for text in ("Dr. Smith paid $5.50 on May 5, 1990.", "the FBI's 3:30 p.m. U.S. plan B", "It's 50% of 1/2"):
        assert text_to_phonemes(normalize(text)) == text_to_phonemes(text)


def test_transcripts_of_ljspeech_are_in_dictionary_and_morphology(real_clips):
    """For 99 % of the words, dictionary and morphology suffice, and no word is spelled letter by letter."""
    lines = (real_clips / "LJSpeech-1.1" / "metadata.csv").read_text(encoding="utf-8").splitlines()
    words = [word for line in lines for word in pronounce(line.split("|")[1]).words if word.source != "punctuation"]
    guessed = sorted({word.text for word in words if word.source in ("letters", "spelled")})
    print("neither in the dictionary nor derived from its words:", *guessed)
    assert len(words) > 400
    assert sum(word.source not in ("letters", "spelled") for word in words) >= 0.99 * len(words)
    assert not [word for word in words if word.source == "spelled"]


def test_normalised_transcripts_of_ljspeech_equal_the_reading(real_clips):
    """The third column of the metadata contains the words that were read."""
    lines = (real_clips / "LJSpeech-1.1" / "metadata.csv").read_text(encoding="utf-8").splitlines()
    columns = [line.split("|") for line in lines if "i.e." not in line]
    assert [row for row in columns if text_to_phonemes(row[1]) != text_to_phonemes(row[2])] == []

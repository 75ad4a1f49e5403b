"""Arguments of text to speech with a wrong type or shape, and ARPAbet codes outside the model's phone set."""

from typing import Any, cast

import numpy as np
import pytest

from jaxvoice.errors import ConfigError, JaxvoiceError, JaxvoiceWarning, ShapeError, TextError
from jaxvoice.pipelines import Aligner, Synthesizer
from jaxvoice.pipelines.argument_checks import validate_phonemes
from jaxvoice.text import ARPABET
from tests.pipelines.test_synthesizer import synthesizer
from tests.pipelines.tone_synthesizer import MEL, tone_audio, tone_synthesizer

NOTHING: Any = None


@pytest.fixture(scope="module")
def voice() -> Synthesizer:
    return synthesizer()


@pytest.mark.parametrize(
    ("written", "spelt"),
    [
        ("HH AH0 ER0 pau", "HH AH0 EU0 R pau"),
        ("ER1 ER2 EU0 R", "EU1 R EU1 R EU0 R"),
        ("AH2 AA0 AA2", "AH1 AA1 AA1"),
    ],
)
def test_arpabet_is_converted_as_in_braces(voice, written, spelt):
    said = voice.speak_phonemes(written)
    assert said.phonemes == tuple(spelt.split()) == voice.speak(f"{{{written}}}").phonemes[: len(spelt.split())]
    np.testing.assert_array_equal(said.mel, voice.speak_phonemes(spelt.split()).mel)
    assert validate_phonemes(written.replace("EU0 R", "ER0"), ARPABET) == tuple(written.replace("EU0 R", "ER0").split())


def test_durations_require_one_code_per_phoneme(voice):
    assert voice.speak_phonemes("HH AA0 AH2", [3, 4, 5]).phonemes == ("HH", "AA1", "AH1")
    for phonemes, durations in (("HH AH2 ER0", [3, 4, 5]), ("HH AH2 ER0", [3, 4, 5, 6])):
        with pytest.raises(TextError, match=r"^Phoneme 3 is 'ER0'; .* Write EU0 R, with a duration for each\.$"):
            voice.speak_phonemes(phonemes, durations)


def test_aligner_converts_arpabet():
    codes = ["HH", "EU1", "R"]
    found = Aligner(tone_synthesizer()).align_phonemes(tone_audio(codes, [9] * 3), MEL.sample_rate, "HH ER1")
    assert found.alignment.phones == tuple(codes)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["Fine.", "\U0001f600"], "^text 2: .*\U0001f600"),
        (["...", "Fine."], "^text 1: .*nothing to pronounce"),
        (["Fine.", "Oh {QQ}", "..."], r"^text 2: in '\{QQ\}'"),
        (["Fine.", None], "^text 2: The text has type NoneType; it should be a string"),
        (["Fine.", b"Fine."], "^text 2: The text has type bytes; it should be a string"),
        (None, "^text has type NoneType; it should be a string or a list of strings"),
        (5, "^text has type int"),
        (b"hi", "^text has type bytes"),
        ("...", "^the text '...' contains nothing to pronounce"),
    ],
)
def test_errors_name_the_invalid_text(voice, texts, message):
    with pytest.raises(TextError, match=message):
        voice.speak(texts)


def test_errors_of_networks_name_the_sequence(voice):
    with pytest.raises(
        TextError, match=r"^sequence 2: The duration of HH \(phoneme 1\) is 257 frames; it should be at most 256"
    ):
        voice.speak_phonemes([["HH"], ["HH"]], [[3], [257]])
    with pytest.warns(JaxvoiceWarning, match="^text 2: The text is longer"):
        synthesizer(max_phones=16).speak(["Fine.", "sound of a world of sounds again"])


def test_errors_of_custom_words_name_no_text(voice):
    with pytest.raises(TextError, match=r"^custom word 'hello': 'QQ'"):
        voice.speak(["Fine.", "Hello."], custom_words={"hello": "QQ"})


@pytest.mark.parametrize(
    ("phonemes", "durations", "error", "message"),
    [
        (
            [["HH"], ["HH"]],
            [[3], [3, 4]],
            ShapeError,
            r"^sequence 2: durations has shape \(2,\); it should have shape \(1,\)",
        ),
        ([["HH"], ["QQ"]], None, TextError, r"^sequence 2: 'QQ' \(phoneme 1\)"),
        ([["HH"], []], None, TextError, "^sequence 2: phonemes is empty; it should contain"),
        ([["HH"], None], None, TextError, "^sequence 2: phonemes has type NoneType; it should be a sequence of codes"),
        ([["HH"], ["ER0"]], [None, [5]], TextError, "^sequence 2: Phoneme 1 is 'ER0'; .* Write EU0 R"),
        ([["HH"], ["HH"]], 5, ShapeError, "^durations has type int; it should be a list with one item for each"),
        ([["HH"], ["HH"]], "35", ShapeError, "^durations has type str"),
        (["HH", 5], None, TextError, "^Phoneme 2 has type int; it should be a code"),
        (["HH", ["AH0"]], None, TextError, "^Phoneme 2 has type list; it should be a code"),
        (["HH"], "3", ShapeError, r"^durations has shape \(\); it should have shape \(1,\)"),
        (None, None, TextError, "^phonemes has type NoneType; it should be a string or a sequence of codes"),
        (5, None, TextError, "^phonemes has type int"),
        (b"HH", None, TextError, "^phonemes has type bytes"),
    ],
)
def test_errors_name_the_invalid_sequence(voice, phonemes, durations, error, message):
    with pytest.raises(error, match=message):
        voice.speak_phonemes(phonemes, durations)


def test_arguments_of_other_types_raise():
    audio = tone_audio(["HH"], [30])
    for wrong, error in [
        (lambda: Aligner(cast(Any, 5)), ConfigError),
        (lambda: Synthesizer.load(NOTHING), ConfigError),
        (lambda: Aligner(tone_synthesizer()).align(audio, MEL.sample_rate, NOTHING), TextError),
        (lambda: Aligner(tone_synthesizer()).align_phonemes(audio, MEL.sample_rate, NOTHING), TextError),
    ]:
        with pytest.raises(error, match=r"has type (NoneType|int); it should be") as failure:
            wrong()
        assert isinstance(failure.value, JaxvoiceError) and "\n" not in str(failure.value)

"""The tokenizer of XTTS: ids, limits, splitting, unknown characters, foreign vocabularies and training."""

# ruff: noqa: RUF001 - the texts are in several scripts.

import json
import random
import re
import subprocess
import sys

import pytest
import tokenizers

from jaxvoice.errors import CheckpointError, ConfigError, DataError, MissingExtraError, TextError
from jaxvoice.models.xtts import CHARACTER_LIMITS, GPTConfig, Tokenizer, XTTSConfig, train_vocabulary

LANGUAGES = XTTSConfig().languages
LATIN = "abcdefghijklmnopqrstuvwxyzßäöüáàâãåéèêëíìîïóòôõúùûýñçşğıąćęłńóśźżřžščťďňěůőű"
OTHERS = "абвгдежзийклмнопрстуфхцчшщъыьэюяابتثجحخدذرزسشصضطظعغفقكلمنهويىءآأؤإئةً0123456789"
MARKS = "!'(),-./:;?"


def vocabulary(**changes) -> dict:
    """A vocabulary of single characters and a few pairs in the layout of the release."""
    names = ["[STOP]", "[UNK]", "[SPACE]", *MARKS, *dict.fromkeys(LATIN + OTHERS), "th", "the", "en", "ni", "i3", "ni3"]
    names += ["[START]", *(f"[{code}]" for code in LANGUAGES)]
    ids = {name: number for number, name in enumerate(names)}
    pairs = [("t", "h"), ("th", "e"), ("e", "n"), ("i", "3"), ("n", "i3")]
    model = tokenizers.models.BPE(vocab=ids, merges=pairs, unk_token="[UNK]")
    made = tokenizers.Tokenizer(model)
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.add_special_tokens([name for name in names if name[0] == "[" and len(name) > 1])
    return json.loads(made.to_str()) | changes


TOKENIZER = Tokenizer(json.dumps(vocabulary()))


def test_text_becomes_tag_tokens_and_spaces():
    ids = TOKENIZER.encode("The then, 2.", "en")
    assert TOKENIZER.tokens(ids) == ["[en]", "the", "[SPACE]", "the", "n", ",", "[SPACE]", *"two", "."]
    assert TOKENIZER.decode(ids) == "the then, two."
    raw = tokenizers.Tokenizer.from_str(json.dumps(vocabulary()))
    assert ids == raw.encode("[en]the[SPACE]then,[SPACE]two.").ids


def test_attributes():
    assert TOKENIZER.vocabulary_size == len(vocabulary()["model"]["vocab"])
    assert TOKENIZER.stop_id == 0 and TOKENIZER.tokens([TOKENIZER.start_id]) == ["[START]"]
    assert TOKENIZER.languages == LANGUAGES
    assert Tokenizer(TOKENIZER.vocabulary).vocabulary == TOKENIZER.vocabulary


def test_text_contains_no_special_tokens():
    ids = TOKENIZER.encode("[STOP] a [de] [UNK]", "de")
    assert TOKENIZER.decode(ids) == "(stop) a (de) (unk)" and not {0, 1} & set(ids)


@pytest.mark.parametrize(
    ("code", "expected"),
    [("en", "en"), ("EN_us", "en"), ("pt-br", "pt"), ("zh", "zh-cn"), ("zh-cn", "zh-cn"), ("zh-tw", "zh-cn")],
)
def test_codes_of_languages(code, expected):
    assert TOKENIZER.language(code) == expected


@pytest.mark.parametrize("code", ["xx", "", None, 3, "de]", "english"])
def test_unknown_languages_are_errors(code):
    with pytest.raises(ConfigError, match="language is"):
        TOKENIZER.encode("a", code)


@pytest.mark.parametrize("language", LANGUAGES)
def test_all_languages_are_encoded(language):
    texts = {"ru": "Привет, 42!", "ar": "مرحبا، 42؟", "zh-cn": "你好，42！", "ja": "三人、42。", "ko": "안녕 42!"}
    package = {"zh-cn": "pypinyin", "ja": "cutlet", "ko": "hangul_romanize"}.get(language)
    if package:
        pytest.importorskip(package, reason="the extra of the language is not installed")
    ids = TOKENIZER.encode(texts.get(language, "Abc, 42!"), language)
    assert TOKENIZER.tokens(ids)[0] == f"[{language}]" and 1 not in ids and len(ids) > 4


def test_chinese_is_pinyin():
    pytest.importorskip("pypinyin", reason="the extra chinese is not installed")
    assert TOKENIZER.tokens(TOKENIZER.encode("你好！", "zh")) == ["[zh-cn]", "ni3", *"hao3", "!"]


def test_missing_extra_is_an_error(monkeypatch):
    from jaxvoice.text import romanization

    romanization._converter.cache_clear()
    monkeypatch.setitem(sys.modules, "hangul_romanize", None)
    with pytest.raises(MissingExtraError, match="korean"):
        TOKENIZER.encode("안녕", "ko")


def test_marks_that_the_vocabulary_lacks_become_others():
    assert TOKENIZER.clean("Ja — „gut“… ¿Ａ？", "de") == "ja - gut... a?"


def test_marks_become_others_that_the_vocabulary_has():
    """Words of numbers have hyphens, which a vocabulary of texts without hyphens lacks."""
    tokenizer = Tokenizer(json.dumps(without("-", "!", ";", ":")))
    assert tokenizer.clean("At 21 – ja! Nein; gut:", "en") == "at twenty one ja. nein, gut,"
    assert tokenizer.split("Ja! Nein.", "de") == ["Ja! Nein."]
    assert Tokenizer(json.dumps(without("!", "."))).clean("ja!", "de") == "ja"


def test_unknown_characters_are_errors_with_positions():
    with pytest.raises(TextError, match=r"'\U0001f600' \(character 7\), 'ж' \(character 13\) in 'Guten"):
        Tokenizer(json.dumps(without("ж"))).encode("Guten \N{GRINNING FACE} Tag Ж", "de")
    with pytest.raises(TextError, match="1 more characters"):
        TOKENIZER.encode("a ΑΒΓΔΕΖ", "de")
    with pytest.raises(TextError, match=r"'\\ud800' \(character 1\)"):
        TOKENIZER.encode("\ud800 gut", "de")
    assert TOKENIZER.split("\ud800 gut", "de") == ["\ud800 gut"]


def without(*tokens: str) -> dict:
    table = vocabulary()
    ids = table["model"]["vocab"]
    for token in tokens:
        ids[f"unused {token}"] = ids.pop(token)
    return table


@pytest.mark.parametrize("text", ["", "  ", "...", "—", "“”", "\u200b"])
@pytest.mark.parametrize("language", ["en", "de", "hi"])
def test_texts_without_words_are_errors(text, language):
    for method in (TOKENIZER.encode, TOKENIZER.split):
        with pytest.raises(TextError, match="nothing to read"):
            method(text, language)


def test_too_many_tokens_are_an_error_with_their_number():
    text = "a " * 200  # 200 letters, 199 spaces and the tag
    assert len(TOKENIZER.encode(text, "de")) == 400
    with pytest.raises(TextError, match="has 402 tokens; the model reads fewer than 402"):
        TOKENIZER.encode(text + "b", "de")
    with pytest.raises(TextError, match="has 201,000 characters, too many for 402 tokens"):
        TOKENIZER.encode(500 * (text + "bb"), "de")
    with pytest.raises(TextError, match="has 400 tokens; the model reads fewer than 400"):
        Tokenizer(TOKENIZER.vocabulary, max_text=400).encode(text, "de")


@pytest.mark.parametrize("language", [code for code in LANGUAGES if code not in ("zh-cn", "ja", "ko", "ar", "hi")])
def test_pieces_keep_the_text_and_both_limits(language):
    rng = random.Random(language)
    words = ["Abc", "de,", "fg.", "Dr.", "42", "1.234,5", "7%", "z. B.", "99999999", "a" * 90, "Ja!", "(b)", "5 €"]
    for most in (402, 60):
        tokenizer = Tokenizer(TOKENIZER.vocabulary, max_text=most)
        text = " ".join(rng.choice(words) for _ in range(100))
        pieces = tokenizer.split(text, language)
        assert "".join("".join(pieces).split()) == "".join(text.split())
        assert all(len(piece) <= CHARACTER_LIMITS[language] for piece in pieces)
        assert all(len(tokenizer.encode(piece, language)) < most for piece in pieces)


def test_short_text_is_one_piece():
    assert TOKENIZER.split(" Hello there. How are you? ", "en") == ["Hello there. How are you?"]


def test_marks_stay_with_words():
    text = f"— {'a' * 249}. — Next."
    pieces = TOKENIZER.split(text, "en")
    assert "".join(pieces).replace(" ", "") == text.replace(" ", "")
    assert all(re.search("[a-z]", piece) for piece in pieces)


def test_marks_before_the_first_word_are_kept():
    text = ", ".join([*["-" * 200] * 3, "yes"])
    assert Tokenizer(TOKENIZER.vocabulary, max_text=900).split(text, "en") == [text]
    assert Tokenizer(TOKENIZER.vocabulary, max_text=300).split(text, "en") == [text[-205:]]


def test_chinese_and_japanese_are_split():
    for language, text, package in (("zh", "你好，我很好。" * 60, "pypinyin"), ("ja", "三人です。" * 60, "cutlet")):
        pytest.importorskip(package, reason="the extra of the language is not installed")
        pieces = TOKENIZER.split(text, language)
        assert "".join(pieces) == text and all(len(piece) <= CHARACTER_LIMITS[language] for piece in pieces)
        assert all(piece.endswith("。") for piece in pieces)


def test_ids_outside_the_vocabulary_are_errors():
    with pytest.raises(TextError, match="id 99999 is not in the vocabulary"):
        TOKENIZER.decode([3, 99999])


def test_check_compares_with_the_configuration():
    fits = GPTConfig(text_ids=TOKENIZER.vocabulary_size, start_text=TOKENIZER.start_id)
    TOKENIZER.check(fits)
    for config, name in ((GPTConfig(), "text_ids"), (GPTConfig(text_ids=fits.text_ids, start_text=3), "start_text")):
        with pytest.raises(ConfigError, match=name):
            TOKENIZER.check(config)


def changed_model(**changes) -> dict:
    table = vocabulary()
    return table | {"model": table["model"] | changes}


def with_ids(**changes) -> dict:
    table = vocabulary()
    return table | {"model": table["model"] | {"vocab": table["model"]["vocab"] | changes}}


def lacking(token: str) -> dict:
    table = vocabulary()
    table["model"]["vocab"].pop(token)
    return table | {"added_tokens": [one for one in table["added_tokens"] if one["content"] != token]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"[" * 100_000, "nested too deep"),
        (b"[]", "has no 'model'"),
        (b'{"a": 1}', "has no 'model'"),
        (changed_model(type="WordPiece"), "model.type is 'WordPiece'"),
        (changed_model(dropout=0.5), "model.dropout is 0.5"),
        (changed_model(byte_fallback=True), "byte_fallback"),
        (changed_model(unk_token=None), "unk_token"),
        (changed_model(vocab=[1]), "model.vocab"),
        *(
            (changed_model(merges=merges), "model.merges")
            for merges in (None, ["t"], [["t"]], [["t", ""]], [["t", "q q"]], [["t", "q"]], [{}], [[1, 2]], ["t h e"])
        ),
        (vocabulary(version=3.5), "cannot be read by the library"),
        (vocabulary(pre_tokenizer=None), "pre_tokenizer"),
        (vocabulary(normalizer={"type": "Lowercase"}), "normalizer"),
        (vocabulary(added_tokens=None), "added_tokens"),
        (vocabulary(added_tokens=[{"id": 0}]), "added_tokens"),
        (vocabulary(added_tokens=[{"id": 0, "content": []}]), "content of an added token"),
        (with_ids(a=10**30), "an integer from 0"),
        (with_ids(a=-1), "an integer from 0"),
        (with_ids(a=True), "an integer from 0"),
        (with_ids(a=2), "several tokens with the same id"),
        *((lacking(token), re.escape(token)) for token in ("[STOP]", "[UNK]", "[SPACE]", "[START]")),
        (vocabulary(added_tokens=[{"id": 5, "content": "[STOP]"}]), re.escape("[STOP]")),
    ],
)
def test_foreign_vocabularies_are_errors(tmp_path, content, message):
    path = tmp_path / "vocab.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(CheckpointError, match=message) as failure:
        Tokenizer.load(path)
    assert "vocab.json" in str(failure.value)


def test_missing_and_large_files_are_errors(tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match="cannot be read"):
        Tokenizer.load(tmp_path / "vocab.json")
    with pytest.raises(CheckpointError, match="cannot be read"):
        Tokenizer.load(tmp_path)
    from jaxvoice.models.xtts import vocabulary as module

    monkeypatch.setattr(module, "MOST_BYTES", 1000)
    with pytest.raises(CheckpointError, match="larger than 1,000 bytes"):
        Tokenizer(TOKENIZER.vocabulary)


def test_tags_that_are_not_added_tokens_are_no_languages():
    table = vocabulary()
    table["added_tokens"] = [one for one in table["added_tokens"] if one["content"] != "[fr]"]
    tokenizer = Tokenizer(json.dumps(table))
    assert "fr" not in tokenizer.languages
    with pytest.raises(ConfigError, match="fr"):
        tokenizer.encode("a", "fr")


TEXTS = ["The cat sat on the mat, the 2 dogs there.", "Die Katze und der Hund, 3 Hunde.", "The other cats."]


def test_trained_vocabulary_has_the_layout():
    content = train_vocabulary(TEXTS, ["en", "de", "en"], 60)
    assert content == train_vocabulary(TEXTS, ["en", "de", "en"], 60)
    tokenizer = Tokenizer(content)
    assert tokenizer.tokens(range(6)) == ["[STOP]", "[UNK]", "[SPACE]", "[START]", "[de]", "[en]"]
    assert tokenizer.languages == ("de", "en") and tokenizer.vocabulary_size <= 60
    tokenizer.check(GPTConfig(text_ids=tokenizer.vocabulary_size, start_text=tokenizer.start_id))
    assert "the" in tokenizer.tokens(range(tokenizer.vocabulary_size))
    for text, language in zip(TEXTS, ("en", "de", "en"), strict=True):
        ids = tokenizer.encode(text, language)
        assert 1 not in ids and tokenizer.decode(ids) == tokenizer.clean(text, language)
    small = Tokenizer(train_vocabulary(TEXTS, "en", 30))
    assert small.vocabulary_size == 30 and small.languages == ("en",)


@pytest.mark.parametrize(
    ("texts", "languages", "size", "error", "message"),
    [
        ([], "en", 100, DataError, "no texts"),
        ([" "], "en", 100, DataError, "no texts"),
        (TEXTS, ["en"], 100, ConfigError, "3 texts and 1 languages"),
        (TEXTS, "en]", 100, ConfigError, "language is 'en]'"),
        (TEXTS, "en", 5, ConfigError, "size is 5"),
        (TEXTS, "en", 10**9, ConfigError, "size is 1000000000"),
        (["a \N{GRINNING FACE}"], "en", 100, TextError, "GRINNING"),
    ],
)
def test_vocabularies_that_cannot_be_trained_are_errors(texts, languages, size, error, message):
    with pytest.raises(error, match=message):
        train_vocabulary(texts, languages, size)


def test_tokenizer_imports_no_jax():
    program = "import sys; from jaxvoice.models.xtts import Tokenizer, train_vocabulary; print('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip() == "False"

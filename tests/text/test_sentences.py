"""Sentences of many languages, and pieces of a limited length."""

# ruff: noqa: RUF001 - the texts are in several scripts.

import random

import pytest

from jaxvoice.text.sentences import pack, split_characters, split_clauses, split_sentences, split_words


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "Dr. Smith came. He left! Why? “Yes.” Ok", ["Dr. Smith came.", "He left!", "Why?", "“Yes.”", "Ok"]),
        ("en", "It costs 3.50. See e.g. Apple. J. S. Bach.", ["It costs 3.50.", "See e.g. Apple.", "J. S. Bach."]),
        ("en", "Well... maybe. It is I. Go in May. Yes", ["Well... maybe.", "It is I.", "Go in May.", "Yes"]),
        ("en", "A title\n\nThe text", ["A title", "The text"]),
        ("de", "Am 3. Mai kam Hr. Weiß z. B. an. Er ging.", ["Am 3. Mai kam Hr. Weiß z. B. an.", "Er ging."]),
        ("fr", "M. Noël est là. Il part ?", ["M. Noël est là.", "Il part ?"]),
        ("ru", "Это т. д. Конец. Да", ["Это т. д. Конец.", "Да"]),
        ("zh", "你好。我很好！“真的？”是", ["你好。", "我很好！", "“真的？”", "是"]),
        ("ja", "はい。「そうです。」と", ["はい。", "「そうです。」", "と"]),
        ("ar", "كيف حالك؟ أنا بخير.", ["كيف حالك؟", "أنا بخير."]),
        ("hi", "नमस्ते। कैसे हो?", ["नमस्ते।", "कैसे हो?"]),
    ],
)
def test_sentences(language, text, expected):
    found = split_sentences(text, language)
    assert [one.strip() for one in found] == expected and "".join(found) == text


def test_clauses_words_and_characters():
    assert split_clauses("a, b; c - d，e 1,5") == ["a, ", "b; ", "c - ", "d，", "e 1,5"]
    assert split_words("a  b\nc") == ["a  ", "b\n", "c"]
    assert split_characters("e\u0301का") == ["e\u0301", "का"]


@pytest.mark.parametrize("limit", [1, 2, 7, 30, 200])
@pytest.mark.parametrize("language", ["en", "de", "zh", "hi"])
def test_pieces_keep_the_text_and_the_limit(language, limit):
    rng = random.Random(limit)
    for _ in range(40):
        text = "".join(rng.choice("ab1 ab1 Dr. ,.!? \n—。，”\"'ñ字") for _ in range(rng.randint(0, 300)))
        pieces = list(pack(text, language, limit))
        assert all(0 < len(piece) <= limit and piece == piece.strip() for piece in pieces)
        assert "".join("".join(pieces).split()) == "".join(text.split())


def test_pieces_end_at_the_largest_boundary():
    text = "One two three. Four five, six seven. Eight."
    assert list(pack(text, "en", 29)) == ["One two three.", "Four five, six seven. Eight."]
    assert list(pack(text, "en", 11)) == [
        *("One two", "three.", "Four five,", "six seven.", "Eight."),
    ]


def test_pieces_fulfil_the_condition():
    text = "One two. Three four, five. Six"
    assert list(pack(text, "en", 100, lambda piece: len(piece.split()) < 3)) == [
        "One two.",
        "Three four,",
        "five.",
        "Six",
    ]
    asked = []
    assert list(pack(text, "en", 100, lambda piece: not asked.append(piece))) == [text] == asked


@pytest.mark.parametrize("run", [".", '."', "\n", " \n", "a.", "字"])
def test_long_runs_ask_for_few_pieces(run):
    text, asked = 20_000 * run, []
    pieces = list(pack(text, "en", 100, lambda piece: not asked.append(piece)))
    assert "".join(pieces) == text.strip()
    assert len(asked) <= len(pieces) + 3 and all(len(piece) <= 100 for piece in asked)

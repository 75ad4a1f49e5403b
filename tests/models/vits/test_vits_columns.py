"""Columns of training stores: tokens, speakers, languages, and the utterances that are rejected."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jaxvoice.data import Corpus, Loader, Store, Utterance
from jaxvoice.errors import ConfigError, DataError
from jaxvoice.models.vits.columns import training_columns, training_sampler
from jaxvoice.text import VITS_SYMBOLS
from tests.models.vits.small import SMALL

HOP, RATE = SMALL.mel.hop_length, SMALL.mel.sample_rate
VECTORS = np.random.default_rng(0).normal(size=(4, SMALL.speaker_channels)).astype(np.float32)
TABLE = replace(SMALL, num_speakers=2)


def store_of(frames=(30, 40, 25, 50), texts=("One.", "Two, three.", "Four?", "Five and six."), **attributes):
    rows = zip(frames, texts, strict=True)
    utterances = [
        Utterance(f"u{i}", text=text, speaker="ab"[i % 2], language=("en", "pt")[i // 2])
        for i, (_, text) in enumerate(rows)
    ]
    for name, values in attributes.items():
        utterances = [replace(one, **{name: value}) for one, value in zip(utterances, values, strict=True)]
    audio = [np.full(count * HOP + 7, 1000, np.int16) for count in frames]
    columns = {"audio": audio, "gain": np.full(len(audio), 1 / 32768, np.float32)}
    return Store(Corpus("folder", Path("corpus"), tuple(utterances)), columns, RATE)


def test_tokens_languages_and_vectors_are_columns():
    store = training_columns(store_of(), SMALL, vectors=VECTORS)
    blank = SMALL.symbols.blank_id
    texts = [utterance.text for utterance in store.corpus.utterances]
    assert [len(row) for row in store["tokens"]] == [2 * len(text) + 1 for text in texts]
    assert all((row[::2] == blank).all() and row.dtype == np.int32 for row in store["tokens"])
    letters = [SMALL.symbols.characters[number] for number in store["tokens"][0][1::2]]
    assert "".join(letters) == "one."
    np.testing.assert_array_equal(store["language"], [0, 0, 1, 1])
    np.testing.assert_array_equal(store["speaker"], VECTORS)


def test_numbers_are_spelled_as_in_a_synthesis():
    texts = ("It is 1,000.", "Two.", "1.000 gatos", "25 \u03a9")
    found = training_columns(store_of(texts=texts, frames=(70, 50, 50, 70)), SMALL, vectors=VECTORS)
    expected = ("it is one thousand.", "two.", "mil gatos")
    assert [ids.tolist() for ids in found["tokens"]] == [SMALL.symbols.ids(text) for text in expected]
    assert [one.text for one in found.corpus.utterances] == list(texts[:3])
    assert "'\u03a9' (character 4) in '25 \u03a9'" in found.rejected[0].reason
    without = training_columns(store_of(texts=texts), replace(SMALL, languages=()), vectors=VECTORS)
    assert "'1' (character 7)" in without.rejected[0].reason and len(without) == 1


def test_speakers_of_a_table_have_the_ids_of_their_names():
    store = training_columns(store_of(), TABLE, speakers=("b", "a"))
    np.testing.assert_array_equal(store["speaker"], [1, 0, 1, 0])


def test_texts_are_converted_to_the_ipa_of_their_language():
    pytest.importorskip("espeakng_loader", reason="the extra demo is not installed")
    texts = ("(Hello), world!", "Two.", "Bonjour.", "...")
    store = store_of(texts=texts, frames=(50, 50, 50, 50), language=("en", "en", "fr-fr", "fr-fr"))
    config = replace(SMALL, symbols=VITS_SYMBOLS, languages=("en", "fr-fr"))
    found = training_columns(store, config, vectors=VECTORS)
    expected = ["h\u0259l\u02c8o\u028a, w\u02c8\u025c\u02d0ld!", "t\u02c8u\u02d0.", "b\u0254\u0292\u02c8u\u0281."]
    assert [ids.tolist() for ids in found["tokens"]] == [VITS_SYMBOLS.ids(text) for text in expected]
    assert [one.text for one in found.corpus.utterances] == list(texts[:3]) and found.counts == {"text": 1}
    np.testing.assert_array_equal(found["language"], [0, 0, 1])
    one_language = replace(config, languages=())
    of_english = training_columns(store, one_language, vectors=VECTORS)
    assert of_english["tokens"][2].tolist() != found["tokens"][2].tolist()


@pytest.mark.parametrize(
    ("changes", "kind", "text"),
    [
        ({"frames": (8, 40, 25, 50)}, "more tokens than frames", "u0 has 9 tokens and 8 frames"),
        ({"frames": (1, 40, 25, 50)}, "too short", "u0 has 1 frame"),
        ({"texts": ("", "Two.", "Four?", "Six.")}, "text", "u0"),
        ({"texts": ("O\u03a9e.", "Two.", "Four?", "Six.")}, "text", "'\u03a9' (character 2)"),
        ({"frames": (61, 40, 25, 50)}, "too long", "u0 has 61 frames; it should have at most 60"),
    ],
)
def test_unusable_utterances_are_rejected_with_the_reason(changes, kind, text):
    store = training_columns(store_of(**changes), SMALL, vectors=VECTORS, max_frames=60)
    assert [utterance.id for utterance in store.corpus.utterances] == ["u1", "u2", "u3"]
    assert store.counts == {kind: 1} and text in store.rejected[0].reason
    np.testing.assert_array_equal(store["speaker"], VECTORS[1:])
    assert len(store["tokens"]) == len(store["audio"]) == 3 and f"{kind}: 1" in store.table()


def test_vectors_are_computed_for_usable_utterances_only():
    asked = []

    def vectors(usable):
        asked.extend(utterance.id for utterance in usable.corpus.utterances)
        return VECTORS[1:]

    store = training_columns(store_of(frames=(1, 40, 25, 50)), SMALL, vectors=vectors)
    assert asked == ["u1", "u2", "u3"] and store.counts == {"too short": 1}
    np.testing.assert_array_equal(store["speaker"], VECTORS[1:])
    with pytest.raises(ConfigError, match=r"shape \(3, 10\); it should be \(4, 10\)"):
        training_columns(store_of(), SMALL, vectors=vectors)


def test_as_many_tokens_as_frames_are_usable():
    store = training_columns(store_of(frames=(9, 40, 25, 50)), SMALL, vectors=VECTORS)
    assert len(store) == 4 and len(store["tokens"][0]) == 9


@pytest.mark.parametrize(
    ("config", "options", "error", "text"),
    [
        (SMALL, {}, ConfigError, r"vectors is None; it should have the shape \(4, 10\)"),
        (SMALL, {"vectors": VECTORS[:, :3]}, ConfigError, r"\(4, 3\); it should be \(4, 10\)"),
        (SMALL, {"vectors": 0 * VECTORS}, DataError, "'u0', are zero or not finite"),
        (SMALL, {"vectors": VECTORS * np.nan}, DataError, "zero or not finite"),
        (TABLE, {"speakers": ("a",)}, ConfigError, "1 names; it should have 2"),
        (
            TABLE,
            {"speakers": ("a", "bb")},
            DataError,
            "is 'b', which is none of the 2 speakers.*nearest known name is 'bb'",
        ),
        (
            replace(SMALL, languages=("en", "pt-br")),
            {"vectors": VECTORS},
            DataError,
            "'pt', which.*nearest known name is 'pt-br'",
        ),
        (replace(SMALL, mel=replace(SMALL.mel, sample_rate=16000)), {}, ConfigError, "22050 Hz.*16000 Hz"),
    ],
)
def test_missing_and_unknown_names_and_vectors_raise_errors(config, options, error, text):
    with pytest.raises(error, match=text):
        training_columns(store_of(), config, **options)


def test_a_store_without_usable_utterances_raises_an_error():
    with pytest.raises(DataError, match="more tokens than frames: 4"):
        training_columns(store_of(frames=(5, 5, 5, 5)), SMALL, vectors=VECTORS)


def test_batches_have_few_shapes():
    store = training_columns(store_of(frames=(30, 100, 90, 140)), SMALL, vectors=VECTORS)
    sampler = training_sampler(store, SMALL, 1, buckets=2, balance=("language", "speaker"))
    with Loader(store, sampler, workers=0) as loader:
        batches = [next(loader) for _ in range(8)]
    shapes = {(batch.columns["audio"].shape[1] // HOP, batch.columns["tokens"].shape[1]) for batch in batches}
    assert shapes <= {(128, 32), (192, 32)} and len(shapes) == 2
    assert set(batches[0].columns) == {"audio", "tokens", "gain", "speaker", "language"}

"""Labels of frames by exact times, and batches of columns in order."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jaxvoice.data import (
    Alignment,
    Corpus,
    Store,
    Utterance,
    column_batches_in_order,
    frame_labels,
    label_column,
)
from jaxvoice.errors import ConfigError, DataError, TextError
from jaxvoice.text.phonemes import PhoneSet

PHONES = PhoneSet("letters", ("a", "b", "c"))


def alignment(*parts):
    phones, ends = zip(*parts, strict=True)
    return Alignment("one", phones, np.array([0.0, *ends]))


def store(*lengths, aligned=True):
    given = alignment(("a", 0.1), ("b", 0.5)) if aligned else None
    utterances = tuple(Utterance(str(i), alignment=given) for i in range(len(lengths)))
    audio = [np.full(length, i, np.int16) for i, length in enumerate(lengths)]
    corpus = Corpus("aligned", Path(), utterances, phone_set=PHONES)  # pyright: ignore[reportArgumentType]
    return Store(corpus, {"audio": audio, "gain": np.ones(len(lengths), np.float32)}, 16_000)


def test_labels_are_the_phonemes_at_the_times_of_frames():
    # Boundaries on a frame belong to the later phoneme; 0.121 s to 0.159 s contain no frame.
    given = alignment(("a", 0.08), ("b", 0.121), ("c", 0.159), ("a", 0.24))
    labels = frame_labels(given, PHONES, 8, 0.04)
    np.testing.assert_array_equal(labels, [1, 1, 2, 2, 1, 1, 0, 0])
    assert labels.dtype == np.int32
    # In thousands of frames, rounding does not move a boundary.
    ends = np.arange(1, 5001) * 0.04
    long = Alignment("long", ("a", "b") * 2500, np.array([0.0, *ends]))
    np.testing.assert_array_equal(frame_labels(long, PHONES, 5000, 0.04), [1, 2] * 2500)
    with pytest.raises(TextError, match="'x'"):
        frame_labels(alignment(("x", 0.1)), PHONES, 2, 0.04)


def test_label_column_has_a_row_for_each_recording():
    labels = label_column(store(6400, 3201), 640)
    np.testing.assert_array_equal(labels[0], [1, 1, 1, *[2] * 8])
    np.testing.assert_array_equal(labels[1], [1, 1, 1, 2, 2, 2])
    with pytest.raises(DataError, match="0 has no alignment"):
        label_column(store(100, aligned=False), 640)
    bare = store(100)
    with pytest.raises(DataError, match="has no phone set"):
        label_column(replace(bare, corpus=replace(bare.corpus, phone_set=None)), 640)


def test_batches_of_columns_are_in_order_of_length_and_filled():
    given = store(900, 300, 700, 100, 500)
    batches = list(column_batches_in_order(given, 2, ("audio",), ("gain",), buckets=[(512,), (1024,)]))
    assert [rows.tolist() for rows, _ in batches] == [[3, 1], [4, 2], [0]]
    assert [batch.columns["audio"].shape for _, batch in batches] == [(2, 512), (2, 1024), (2, 1024)]
    assert [batch.lengths["audio"].tolist() for _, batch in batches] == [[100, 300], [500, 700], [900, 0]]
    assert batches[2][1].columns["gain"].shape == (2,)
    with pytest.raises(ConfigError, match="batch_size is 0"):
        next(column_batches_in_order(given, 0, ("audio",)))

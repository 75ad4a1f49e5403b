"""Columns of a store: access by name, addition, selection, files, and custom batches."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from jaxvoice.data import Corpus, Loader, RandomCrops, Store, Utterance
from jaxvoice.data.store import read_columns, write_columns
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.errors import DataError
from jaxvoice.text.phonemes import ALIGNED

LENGTHS = (40, 60, 25)
HOP = 4


def make_store(**columns):
    corpus = Corpus("folder", Path("root"), tuple(Utterance(f"u{index}") for index in range(3)), phone_set=ALIGNED)
    clips = [(100 * index + np.arange(length)).astype(np.int16) for index, length in enumerate(LENGTHS)]
    return Store(corpus, {"audio": clips, "gain": np.full(3, 0.5, np.float32), **columns}, 8000)


def test_columns_have_names():
    store = make_store()
    assert len(store) == 3 and "audio" in store and "mel" not in store
    assert store.lengths("audio").tolist() == list(LENGTHS) and store.seconds == sum(LENGTHS) / 8000
    np.testing.assert_array_equal(store.waveform(1), (100 + np.arange(60)) * np.float32(0.5))
    with pytest.raises(DataError, match=r"no column 'mel' .its columns: 'audio', 'gain'"):
        store["mel"]


def test_store_raises_for_columns_of_another_length():
    with pytest.raises(DataError, match="'f0' has 2 rows; it should have one row for each of the 3 utterances"):
        make_store(f0=[np.zeros(3), np.zeros(4)])


def test_columns_are_added_and_replaced():
    store = make_store()
    embeddings = np.arange(12, dtype=np.float32).reshape(3, 4)
    more = store.with_columns(speaker_embedding=embeddings, gain=np.ones(3, np.float32))
    assert more["speaker_embedding"] is embeddings and more["gain"][0] == 1 and store["gain"][0] == 0.5
    with pytest.raises(DataError, match="rows"):
        store.with_columns(f0=[np.zeros(2)])


def test_subsets_keep_rows_together():
    phonemes = [np.array([1, 2], np.int32), np.array([3], np.int32), np.array([54], np.int32)]
    part = make_store(phonemes=phonemes).subset([2, 0])
    assert [item.id for item in part.corpus.utterances] == ["u2", "u0"] and len(part) == 2
    assert part.lengths("audio").tolist() == [25, 40] and part["gain"].shape == (2,)  # pyright: ignore
    assert part.phones(0) == ("pau",) and part.phones(1) == ALIGNED.codes[:2]


def test_seconds_without_audio_follow_from_the_mels():
    contract = MelConfig(sample_rate=8000, n_fft=64, hop_length=16, win_length=64, num_mels=4, fmax=None)
    store = Store(make_store().corpus, {"mel": [np.zeros((4, n), np.float32) for n in (5, 6, 7)]}, 8000, contract)
    assert store.frames == 18 and store.seconds == 18 * 16 / 8000


def test_phones_need_a_phone_set():
    plain = Store(Corpus("folder", Path("root"), (Utterance("u0"),)), {"phonemes": [np.ones(1, np.int32)]}, 8000)
    with pytest.raises(DataError, match="root has no phone set"):
        plain.phones(0)


def test_written_columns_are_memory_mapped(tmp_path):
    rows = [
        {
            "audio": np.arange(length, dtype=np.int16),
            "f0": np.linspace(80, 90, 3, dtype=np.float32),
            "mel": np.full((2, length), length, np.float32),
            "step": np.float64(1 / length),
        }
        for length in LENGTHS
    ]
    write_columns(tmp_path, rows)
    found = read_columns(tmp_path)
    assert found is not None and list(found) == ["audio", "f0", "mel", "step"]
    for index, row in enumerate(rows):
        for name, value in row.items():
            np.testing.assert_array_equal(found[name][index], value)
            assert found[name][index].dtype == value.dtype
    assert isinstance(found["step"], np.ndarray) and found["step"].shape == (3,), "of one shape: one array"
    assert isinstance(found["f0"], np.ndarray) and found["f0"].shape == (3, 3)
    assert not found["audio"][0].flags.writeable
    (tmp_path / "f0.bin").write_bytes(b"")
    assert read_columns(tmp_path) is None and read_columns(tmp_path / "nowhere") is None


class PitchBatch(NamedTuple):
    audio: np.ndarray
    f0: np.ndarray


def test_custom_collate_function_crops_another_column():
    store = make_store(f0=[(25 * index + np.arange(length // HOP)) for index, length in enumerate(LENGTHS)])
    store = store.with_columns(mel=[np.zeros((1, length // HOP), np.float32) for length in LENGTHS])

    def collate(store, selection):
        rows = list(zip(selection.utterances, selection.starts, strict=True))
        audio = np.stack([store["audio"][index][HOP * start : HOP * (start + 4)] for index, start in rows])
        return PitchBatch(audio, np.stack([store["f0"][index][start : start + 4] for index, start in rows]))

    with Loader(store, RandomCrops(3, 16, HOP), collate=collate, seed=1) as loader:
        for _ in range(20):
            batch = next(loader)
            np.testing.assert_array_equal(batch.audio[:, ::HOP], HOP * batch.f0)

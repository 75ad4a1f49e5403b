"""Columns that are computed once and stored."""

import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from jaxvoice.data import computed_column, computed_columns, find_corpus, load_store
from jaxvoice.errors import ConfigError, DataError


@pytest.fixture
def store(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    for i in range(3):
        soundfile.write(folder / f"{i}.wav", 0.5 * np.sin(np.arange(4000 * (i + 1)) * 0.1), 16000)
    return load_store(find_corpus(folder), 16000)


def spectra(store, calls):
    def function(row):
        calls.append(row)
        samples = store.waveform(row)
        return np.abs(np.fft.rfft(samples[: len(samples) // 400 * 400].reshape(-1, 400))).T

    return function


def test_rows_are_computed_once(store, tmp_path):
    calls = []
    function = spectra(store, calls)
    first = computed_column(store, "spectra", function, identity="a", cache=tmp_path / "cache")
    again = computed_column(store, "spectra", function, identity="a", cache=tmp_path / "cache")
    assert calls == [0, 1, 2]
    for row in range(3):
        assert first[row].dtype == np.float16
        np.testing.assert_array_equal(first[row], again[row])
        np.testing.assert_array_equal(first[row], function(row).astype(np.float16))
    assert store.with_columns(spectra=first).lengths("spectra").tolist() == [10, 20, 30]


def test_default_folder_depends_on_identity_and_recordings(store, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXVOICE_CACHE", str(tmp_path / "user"))
    calls = []
    for identity in ("a", "b", "a"):
        computed_column(store, "spectra", spectra(store, calls), identity=identity)
    assert len(calls) == 6
    path = store.corpus.utterances[0].audio
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 8000), 16000)
    changed = load_store(store.corpus, 16000)
    assert computed_column(changed, "spectra", spectra(changed, calls), identity="a")[0].shape == (201, 20)


def test_folder_of_another_model_is_an_error(store, tmp_path):
    computed_column(store, "spectra", spectra(store, []), identity="first model", cache=tmp_path / "cache")
    with pytest.raises(DataError, match=r"another model.*'first model' instead of 'second model'"):
        computed_column(store, "spectra", spectra(store, []), identity="second model", cache=tmp_path / "cache")
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="choose a new or empty folder"):
        computed_column(store, "spectra", spectra(store, []), identity="a", cache=other)
    assert (other / "notes.txt").read_text() == "mine"


def test_damaged_folder_is_computed_again(store, tmp_path, caplog):
    calls = []
    computed_column(store, "spectra", spectra(store, calls), identity="a", cache=tmp_path / "cache")
    index = json.loads((tmp_path / "cache" / "index.json").read_text())
    file = tmp_path / "cache" / index["columns"]["spectra"]["file"]
    file.write_bytes(file.read_bytes()[:-2])
    again = computed_column(store, "spectra", spectra(store, calls), identity="a", cache=tmp_path / "cache")
    assert calls == [0, 1, 2, 0, 1, 2] and again[2].shape == (201, 30)
    assert "damaged" in caplog.text


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
def test_values_that_are_not_finite_are_refused(store, tmp_path, value):
    with pytest.raises(DataError, match="spectra of 1 contain NaN or infinity as float16"):
        computed_column(
            store,
            "spectra",
            lambda row: np.full((2, 3), value if row == 1 else 0),
            identity="a",
            cache=tmp_path / "cache",
        )
    assert not (tmp_path / "cache").exists()


def several(store, calls, fails_at=None):
    def function(rows):
        calls.append(list(rows))
        for row in rows:
            if row == fails_at:
                raise RuntimeError("interrupted")
            samples = store.waveform(row)
            yield {"half": samples[::2], "peak": np.abs(samples).max()}

    return function


def test_several_columns_are_computed_in_parts_and_after_an_interruption_the_missing_ones(store, tmp_path):
    calls, options = [], {"identity": "a", "part": 2, "cache": tmp_path / "cache"}
    with pytest.raises(RuntimeError, match="interrupted"):
        computed_columns(store, several(store, calls, fails_at=2), **options)
    found = computed_columns(store, several(store, calls), **options)
    again = computed_columns(store, several(store, calls), **options)
    assert calls == [[0, 1], [2], [2]]
    for row in range(3):
        samples = store.waveform(row)
        for columns in (found, again):
            np.testing.assert_array_equal(columns["half"][row], samples[::2])
            assert columns["peak"][row] == np.abs(samples).max()
    assert store.with_columns(**found).lengths("half").tolist() == [2000, 4000, 6000]


def test_columns_depend_on_texts_and_parts(store, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXVOICE_CACHE", str(tmp_path / "user"))
    calls = []
    first, *others = store.corpus.utterances
    renamed = replace(store, corpus=replace(store.corpus, utterances=(replace(first, text="Other."), *others)))
    for given, part in ((store, 3), (renamed, 3), (store, 3), (store, 2)):
        computed_columns(given, several(given, calls), identity="a", part=part)
    assert calls == [[0, 1, 2], [0, 1, 2], [0, 1], [2]]


def test_wrong_rows_and_parts_are_errors(store, tmp_path):
    options = {"identity": "a", "cache": tmp_path / "cache"}
    with pytest.raises(DataError, match="The peak of 1 contain NaN or infinity"):
        computed_columns(
            store, lambda rows: [{"peak": np.float32(np.nan if row == 1 else 0)} for row in rows], **options
        )
    with pytest.raises(ConfigError, match="part is 0"):
        computed_columns(store, several(store, []), **options, part=0)
    computed_columns(store, several(store, []), **options)
    with pytest.raises(DataError, match="'a' instead of 'b'"):
        computed_columns(store, several(store, []), **{**options, "identity": "b"})

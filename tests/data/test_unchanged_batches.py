"""Batches equal those of version 0.1, by digests of the batches that its loaders made of the same files."""

import hashlib
import itertools
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from jaxvoice.data import (
    LengthBuckets,
    Loader,
    LoaderState,
    RandomCrops,
    Store,
    batches_in_order,
    find_aligned,
    find_corpus,
    load_aligned,
    load_store,
)
from jaxvoice.dsp.mel_config import MelConfig
from tests.fixtures.synthetic import noise

RATE = 22050
PHONES = ("pau", "HH", "AH0", "L", "OW1", "S", "T")


def integers(count: int, seed: int) -> np.ndarray:
    """16-bit samples that are the same on every machine."""
    return np.floor(20000 * noise(count, seed)).astype(np.int16)


def mel(frames: int, seed: int, bands: int = 80) -> np.ndarray:
    """A mel whose values are whole sixteenths, from -11.5 to 0.5."""
    return (np.floor(96 * noise(bands * frames, seed)) / 16 - 5.5).reshape(bands, frames).astype(np.float32)


def write_clips(folder: Path) -> Path:
    folder.mkdir()
    for number in range(23):
        soundfile.write(folder / f"clip{number:02d}.wav", integers(2000 + 531 * number, number), RATE)
    return folder


def write_pairs(folder: Path) -> Path:
    (folder / "mels").mkdir(parents=True)
    (folder / "wavs").mkdir()
    for number in range(11):
        frames = 20 + 7 * number
        soundfile.write(folder / "wavs" / f"p{number:02d}.wav", integers(256 * frames + 91 * number, number), RATE)
        np.save(folder / "mels" / f"p{number:02d}.npy", mel(frames, number))
    return folder


def write_lj_aligned(folder: Path) -> Path:
    folder.mkdir()
    for number in range(40):
        lengths = np.floor(40 + 30 * noise(4 + 7 * number % 17, 500 + number)) * 2
        onsets = np.concatenate([[0], np.cumsum(lengths)])
        phones = [
            {"phone": PHONES[int(3.5 * (value + 1))], "onset": float(onset), "duration": float(length)}
            for value, onset, length in zip(noise(len(lengths), 900 + number), onsets[:-1], lengths, strict=True)
        ]
        content = {"text": f"Text {number}.", "utterance": {"words": [{"phones": phones}]}}
        (folder / f"u{number:02d}.json").write_text(json.dumps(content))
        frames = int(np.rint(onsets[-1] / 1000 * RATE / 256)) + number % 3
        np.save(folder / f"u{number:02d}.mel.npy", mel(frames, number))
    return folder


def digest(batches: Iterable[Any]) -> str:
    """A digest of the types, shapes and bytes of all arrays of `batches`."""
    total = hashlib.sha256()
    for batch in batches:
        for array in batch:
            if array is None:
                total.update(b"none")
            else:
                total.update(f"{array.dtype.str} {array.shape}".encode())
                total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()[:16]


def take(loader: Any, count: int, state: LoaderState | None = None) -> list[Any]:
    with loader:
        if state is not None:
            loader.restore(state)
        return list(itertools.islice(loader, count))


def make_loader(store: Store, sampler: type, options: dict[str, Any], workers: int) -> Loader[Any]:
    """A loader from options of the sampler and of the loader."""
    own = {name: value for name, value in options.items() if name in ("seed", "process_index", "process_count")}
    rest = {name: value for name, value in options.items() if name not in own}
    return Loader(store, sampler(**rest), workers=workers, **own)


CROPS = {
    "audio": ("clips", {"batch_size": 4, "segment": 1024, "seed": 7}, None, "72ac17aa22d280c6"),
    "unshuffled": ("clips", {"batch_size": 4, "segment": 1024, "shuffle": False}, None, "d3452fb850f02e40"),
    "crops": ("clips", {"batch_size": 6, "segment": 8192, "crops_per_clip": 3, "seed": 1}, None, "3a7b7baa71ecdcf6"),
    "few": ("clips", {"batch_size": 64, "segment": 2048}, None, "48d5dc863d8367a9"),
    "state": ("clips", {"batch_size": 4, "segment": 1024}, LoaderState(5, 3, 99), "c9d84c9e2438a54a"),
    "share": (
        "clips",
        {"batch_size": 6, "segment": 512, "process_index": 1, "process_count": 3},
        None,
        "7ea894717ef13056",
    ),
    "mels": ("pairs", {"batch_size": 4, "segment": 8192, "hop_length": 256, "seed": 2}, None, "b052155efac99c19"),
    "padding": (
        "pairs",
        {"batch_size": 3, "segment": 8192, "hop_length": 256, "mel_padding": -4.0},
        None,
        "374b80fdb6af81b8",
    ),
}
UTTERANCES = {
    "default": ({"batch_size": 4, "seed": 7}, None, "af24aca840962c6e"),
    "pool": ({"batch_size": 3, "pool": 2, "buckets": [(48, 16), (160, 24)]}, None, "14e8f2d40ce64eeb"),
    "unshuffled": ({"batch_size": 4, "shuffle": False, "pool": 3}, None, "211aa18726c6b0aa"),
    "few": ({"batch_size": 64}, None, "8b12dfb5325e37d8"),
    "state": ({"batch_size": 4}, LoaderState(3, 2, 41), "aabb9b487b43cdc1"),
    "share": ({"batch_size": 4, "process_index": 1, "process_count": 2}, None, "fe6d9d85ced17d2a"),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("unchanged")
    return {"clips": write_clips(root / "clips"), "pairs": write_pairs(root / "pairs")}


@pytest.fixture(scope="module")
def aligned(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_aligned(find_aligned(write_lj_aligned(tmp_path_factory.mktemp("unchanged") / "aligned")))


@pytest.mark.parametrize("name", CROPS)
@pytest.mark.parametrize("mapped", [False, True])
def test_crops_equal_those_of_version_0_1(name, mapped, folders, tmp_path):
    kind, options, state, expected = CROPS[name]
    corpus = find_corpus(folders[kind])
    limit = {"memory_limit": 0, "cache": tmp_path} if mapped else {}
    store = load_store(corpus, RATE, peak_normalize=kind == "clips", **limit)
    store = replace(store, mel=MelConfig())  # version 0.1 padded with the floor of this contract
    for workers in (0, 2):
        loader = make_loader(store, RandomCrops, options, workers)
        assert digest(take(loader, 25, state)) == expected


@pytest.mark.parametrize("name", UTTERANCES)
def test_utterances_equal_those_of_version_0_1(name, aligned):
    options, state, expected = UTTERANCES[name]
    for workers in (0, 2):
        loader = make_loader(aligned, LengthBuckets, options, workers)
        assert digest(take(loader, 25, state)) == expected


def test_batches_in_order_equal_those_of_version_0_1(aligned):
    rows, batches = zip(*batches_in_order(aligned, 6), strict=True)
    assert np.concatenate(rows).tolist() == [
        17,
        34,
        0,
        10,
        22,
        5,
        15,
        39,
        27,
        32,
        37,
        20,
        3,
        13,
        8,
        25,
        30,
        1,
        28,
        33,
        35,
        16,
        18,
        21,
        6,
        38,
        23,
        26,
        9,
        11,
        14,
        4,
        7,
        31,
        19,
        36,
        29,
        2,
        24,
        12,
    ]
    assert digest(batches) == "dcd6646a3ab3d449"

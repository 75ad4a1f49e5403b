"""Batches of the columns that a task names: audio with tokens, tokens alone, crops of columns in frames."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxvoice.data import (
    ColumnBatch,
    Corpus,
    LengthBuckets,
    Loader,
    RandomCrops,
    Selection,
    SpeakerBalanced,
    Store,
    Utterance,
    choose_shapes,
    collate_columns,
)
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.errors import ConfigError, DataError

HOP = 4
COUNT = 30
CONTRACT = MelConfig()


def make_store(*, mels=False, audio=True, contract=CONTRACT):
    """Utterance i has values from 1000 i + 1 on: tokens one by one, F0 and features with the number of their frame."""
    rng = np.random.default_rng(0)
    frames = rng.integers(10, 60, COUNT)
    utterances = tuple(Utterance(f"u{index}", speaker=f"s{index % 5}") for index in range(COUNT))
    at = [1000 * index + 1 + np.arange(length) for index, length in enumerate(frames)]
    columns = {
        "tokens": [row[: 3 + len(row) // 3].astype(np.int32) for row in at],
        "f0": [row.astype(np.float32) for row in at],
        "features": [np.stack([row, -row]).astype(np.float32) for row in at],
        "embedding": np.arange(2 * COUNT, dtype=np.float32).reshape(COUNT, 2),
    }
    if audio:
        clips = [np.repeat(row, HOP).astype(np.int16) for row in at]
        columns |= {"audio": clips, "gain": np.arange(1, COUNT + 1).astype(np.float32)}
    if mels:
        columns["mel"] = [np.broadcast_to(row.astype(np.float32), (3, len(row))) for row in at]
    return Store(Corpus("folder", Path(), utterances), columns, 8000, contract)


def take(store, sampler, count=20, **options):
    with Loader(store, sampler, workers=0, **options) as loader:
        return [next(loader) for _ in range(count)]


def clip_of(values):
    return (np.asarray(values) - 1).astype(int) // 1000


def test_audio_and_tokens_are_padded():
    store = make_store()
    sampler = LengthBuckets(4, columns=("audio", "tokens"), fixed=("gain", "embedding"))
    seen = set()
    for batch in take(store, sampler, 2 * COUNT):
        assert isinstance(batch, ColumnBatch) and list(batch.columns) == ["audio", "tokens", "gain", "embedding"]
        assert batch.columns["audio"].dtype == np.int16 and batch.columns["tokens"].dtype == np.int32
        rows = clip_of(batch.columns["tokens"][:, 0])
        seen.update(rows.tolist())
        for place, index in enumerate(rows):
            for name in ("audio", "tokens"):
                length = batch.lengths[name][place]
                np.testing.assert_array_equal(batch.columns[name][place, :length], store[name][index])
                assert length == len(store[name][index]) and not batch.columns[name][place, length:].any()
        np.testing.assert_array_equal(batch.columns["gain"], store["gain"][rows])  # pyright: ignore
        np.testing.assert_array_equal(batch.columns["embedding"], store["embedding"][rows])  # pyright: ignore
        assert set(batch.lengths) == {"audio", "tokens"}
    assert seen == set(range(COUNT))


def test_batches_of_tokens_need_no_audio():
    store = make_store(audio=False)
    loader = Loader(store, LengthBuckets(4, [(16,), (24,)], columns=("tokens",)), workers=0)
    shapes = {next(loader).columns["tokens"].shape for _ in range(40)}
    assert shapes == {(4, 16), (4, 24)}
    described = json.loads(json.dumps(loader.describe()))
    assert described["columns"] == {"tokens": store.lengths("tokens").sum()} and described["buckets"] == [[16], [24]]


def test_chosen_shapes_fit_every_column():
    store = make_store()
    shapes = choose_shapes(store, ("f0", "tokens", "audio"), 3, multiples={"audio": 32 * HOP})
    assert len(shapes) <= 3 and all(f0 % 32 == 0 and tokens % 8 == 0 for f0, tokens, _ in shapes)
    assert all(audio == HOP * f0 for f0, _, audio in shapes), "the same rounding: the audio of all frames"
    for f0, tokens, audio in zip(store["f0"], store["tokens"], store["audio"], strict=True):
        assert any(len(f0) <= a and len(tokens) <= b and len(audio) <= c for a, b, c in shapes)
    with pytest.raises(ConfigError, match=r"has \d+ tokens and exceeds max_tokens=4"):
        choose_shapes(store, ("audio", "tokens"), limits={"tokens": 4})
    with pytest.raises(ConfigError, match=r"has \d+ values of 'f0' and exceeds max_f0=4"):
        choose_shapes(store, ("f0",), limits={"f0": 4})


@pytest.mark.parametrize("mels", [False, True])
@pytest.mark.parametrize("balanced", [False, True])
def test_columns_in_frames_are_cropped_with_the_audio(mels, balanced):
    store, names = make_store(mels=mels), ("audio", "f0", "features", "mel")[: 4 if mels else 3]
    sizes = {"segment": 8 * HOP, "hop_length": HOP, "columns": names, "fixed": ("gain", "embedding")}
    sampler = SpeakerBalanced(3, 2, **sizes) if balanced else RandomCrops(6, **sizes)
    starts = set()
    for batch in take(store, sampler, 100):
        found = batch.columns
        assert found["audio"].shape == (6, 8 * HOP) and found["f0"].shape == (6, 8)
        assert found["features"].shape == (6, 2, 8)
        np.testing.assert_array_equal(found["audio"][:, ::HOP], found["f0"].astype(np.int16))
        np.testing.assert_array_equal(found["features"], np.stack([found["f0"], -found["f0"]], 1))
        if mels:
            np.testing.assert_array_equal(found["mel"][:, 1], found["f0"])
        rows = clip_of(found["f0"][:, 0])
        np.testing.assert_array_equal(found["embedding"], store["embedding"][rows])  # pyright: ignore
        starts.update((found["f0"][:, 0] - 1000 * rows).astype(int).tolist())
    assert len(starts) > 20


def test_the_longest_common_part_is_cropped():
    """If F0 has fewer frames than the audio, crops end before the end of F0."""
    store = make_store()
    store = store.with_columns(f0=[row[:9] for row in store["f0"]])
    for batch in take(store, RandomCrops(6, 8 * HOP, HOP, columns=("audio", "f0")), 50):
        assert (batch.lengths["f0"] == 8).all() and (batch.lengths["audio"] == 8 * HOP).all()


@pytest.mark.parametrize("columns", [None, ("audio", "mel")])
@pytest.mark.parametrize("contract", [MelConfig(log="log10"), MelConfig(log_floor=1e-3)])
def test_crops_of_mels_are_padded_with_the_floor_of_the_contract(contract, columns):
    """The floor is -5 for log10, and -6.9 for a natural logarithm above 1e-3."""
    store = make_store(mels=True, contract=contract)
    for sampler in (
        RandomCrops(COUNT, 80 * HOP, HOP, columns=columns, shuffle=False),
        SpeakerBalanced(5, 6, 80 * HOP, HOP, columns=columns),
    ):
        (batch,) = take(store, sampler, 1)
        mel = batch.mel if columns is None else batch.columns["mel"]
        floor = np.float32(-5 if contract.log == "log10" else np.log(1e-3))
        assert np.allclose(mel[..., 60:], floor, atol=1e-6) and mel[..., 0].min() > 0
        assert len({float(row[0, -1]) for row in mel}) == 1


def test_batches_contain_the_lengths_of_padded_columns():
    store = make_store(mels=True)
    (batch,) = take(
        store, RandomCrops(COUNT, 80 * HOP, HOP, mel_padding=-7, columns=("mel", "f0", "audio"), shuffle=False), 1
    )
    np.testing.assert_array_equal(batch.lengths["f0"], store.lengths("f0"))
    np.testing.assert_array_equal(batch.lengths["audio"], store.lengths("audio"))
    for row, length in enumerate(batch.lengths["f0"]):
        assert (batch.columns["mel"][row, :, length:] == -7).all() and not batch.columns["f0"][row, length:].any()


def test_hop_length_makes_crops_start_at_frames():
    plain = make_store()
    for hop, expected in ((None, set(range(HOP))), (HOP, {0})):
        found = [batch.audio for batch in take(plain, RandomCrops(6, 8 * HOP, hop), 50)]
        phases = {int((row[0] == row[:HOP]).sum()) % HOP for audio in found for row in audio}
        assert phases == expected
    with pytest.raises(ConfigError, match=r"mel_padding is None; .* mels without a contract\. Pass the floor"):
        take(make_store(mels=True, contract=None), RandomCrops(6, 8 * HOP, HOP), 1)
    with pytest.raises(ConfigError, match=r"hop_length is None; .* the store's mels"):
        take(make_store(mels=True), RandomCrops(6, 8 * HOP), 1)
    assert take(make_store(mels=True), RandomCrops(6, 30, columns=("audio",)), 1)[0].columns["audio"].shape == (6, 30)


def test_shares_of_processes_make_the_global_batch():
    store, sampler = make_store(), LengthBuckets(6, columns=("audio", "tokens"), fixed=("gain",))
    whole = take(store, sampler, 8, seed=3)
    shares = [take(store, sampler, 8, seed=3, process_index=i, process_count=3) for i in range(3)]
    for step, batch in enumerate(whole):
        for name, value in batch.columns.items():
            np.testing.assert_array_equal(np.concatenate([share[step].columns[name] for share in shares]), value)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: RandomCrops(2, 16, columns=("audio", "f0")), "hop_length is None; .* to crop 'f0' in frames"),
        (lambda: SpeakerBalanced(2, 2, 16, columns=("f0",)), "hop_length is None; .* to crop 'f0' in frames"),
        (lambda: RandomCrops(2, 16, columns=("audio", "audio")), "no name twice"),
        (lambda: RandomCrops(2, 16, columns="audio"), "tuples of names"),  # pyright: ignore
        (lambda: LengthBuckets(2, columns=()), "at least one"),
        (lambda: LengthBuckets(2, fixed=("gain",)), "columns is None"),
    ],
)
def test_samplers_check_names(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_plans_check_names_against_the_store():
    store = make_store()
    with pytest.raises(DataError, match="no column 'phonemes'"):
        Loader(store, LengthBuckets(2, columns=("audio", "phonemes")))
    with pytest.raises(ConfigError, match=r"A bucket is \(500,\); it should be \(samples, tokens\)"):
        Loader(store, LengthBuckets(2, [(500,)], columns=("audio", "tokens")))
    with pytest.raises(DataError, match="fixed contains 'f0', a column whose rows have different shapes"):
        take(store, LengthBuckets(4, columns=("tokens",), fixed=("f0",)), 1)
    with pytest.raises(ConfigError, match=r"u1 has \d+ values in the column 'tokens' and does not fit in 2"):
        collate_columns(store, Selection(np.array([1]), bucket=(2,)), ("tokens",))


@pytest.mark.parametrize(
    "make, name",
    [
        (lambda: RandomCrops(2, 200.5), "segment is 200.5"),  # pyright: ignore
        (lambda: RandomCrops(2.0, 200), "batch_size is 2.0"),  # pyright: ignore
        (lambda: RandomCrops(2, 200, "256"), "hop_length is '256'"),  # pyright: ignore
        (lambda: RandomCrops(2, 200, crops_per_clip=True), "crops_per_clip is True"),
        (lambda: SpeakerBalanced(2.5, 2, 200), "speakers is 2.5"),  # pyright: ignore
        (lambda: LengthBuckets(None), "batch_size is None"),  # pyright: ignore
        (lambda: LengthBuckets(4, pool=1.5), "pool is 1.5"),  # pyright: ignore
        (lambda: Loader(make_store(), RandomCrops(2, 16), prefetch=1.5), "prefetch is 1.5"),  # pyright: ignore
    ],
)
def test_sizes_should_be_whole_numbers(make, name):
    with pytest.raises(ConfigError, match=f"{name}; it should be a whole number of at least 1"):
        make()

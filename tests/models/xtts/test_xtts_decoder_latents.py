"""Vectors for the training of the decoder: crops, references, and batches that equal single recordings."""

import functools
from dataclasses import replace

import equinox as eqx
import jax
import numpy as np
import pytest
import soundfile
from jax import numpy as jnp

from jaxvoice.data import find_corpus, load_store
from jaxvoice.data.samplers import LoaderState
from jaxvoice.errors import ConfigError, DataError, TextError
from jaxvoice.models.xtts import HiFiDecoder, decoder_latents, preset, speaker_audio
from jaxvoice.models.xtts.decoder_columns import (
    InterpolatedColumn,
    interpolated_slice,
    training_sampler,
    training_store,
)
from jaxvoice.models.xtts.decoder_latents import LatentsConfig, compute_latents, reference_rows, usable_utterances
from jaxvoice.models.xtts_dvae import CodecConfig, normalized_log_mel
from jaxvoice.models.xtts_dvae.codec import CodecNetwork
from tests.models.xtts.small import SMALL, random_xtts
from tests.random_networks import random_network

SAMPLES = (9000, 12_000, 14_000, 17_000, 20_000)
TOKENS = {"one": [3, 4, 5], "two": [7, 8], "three": [9] * 12, "four": [1, 2, 3, 4], "five": [6]}


def voiced(samples, seed):
    generator = np.random.default_rng(seed)
    audio = 0.02 * generator.standard_normal(samples)
    audio[:: generator.integers(60, 200)] += 0.6
    return audio


def encode(text, language):
    """The tokens of a text; an error for an unknown one, as of a text that the vocabulary cannot write."""
    if text not in TOKENS:
        raise TextError(f"{text!r} contains unknown characters.")
    return TOKENS[text]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Three recordings of a voice, and two of another."""
    root = tmp_path_factory.mktemp("corpus")
    for number, samples in enumerate(SAMPLES):
        folder = root / ("a" if number < 3 else "b")
        folder.mkdir(exist_ok=True)
        soundfile.write(folder / f"{number}.wav", voiced(samples, number), SMALL.input_rate)
    found = find_corpus(root)
    utterances = tuple(replace(one, text=text) for one, text in zip(found.utterances, TOKENS, strict=True))
    return replace(found, utterances=utterances)


@pytest.fixture(scope="module")
def store(corpus):
    return usable_utterances(load_store(corpus, SMALL.input_rate, peak_normalize=False), encode, SMALL)


@pytest.fixture(scope="module")
def networks():
    return random_xtts(), random_codec()


def random_codec(scale=1.0):
    """A DVAE whose statistics of mel bands are not those of `random_xtts`."""
    codec = random_network(CodecNetwork, CodecConfig(dvae=SMALL.dvae), 1)
    return eqx.tree_at(lambda one: one.mel_stats, codec, scale * jnp.linspace(3.0, 1.5, SMALL.dvae.mel.num_mels))


@functools.cache
def decoder(config=None):
    """The shapes of the decoder of `config`, by default that of the release."""
    return eqx.filter_eval_shape(HiFiDecoder, config or preset("v2"), key=jax.random.key(0))


@pytest.mark.parametrize("codes", [1, 2, 40])
def test_crops_of_interpolated_vectors_are_slices_of_the_whole_utterance(codes):
    latents = np.random.default_rng(codes).standard_normal((3, codes)).astype(np.float32)
    whole = np.asarray(decoder().features(jnp.asarray(latents.T))).T
    row = InterpolatedColumn([latents], decoder().scales)[0]
    assert row.shape == whole.shape and row.dtype == whole.dtype
    for start in range(whole.shape[1]):
        for stop in (start + 1, start + 32, whole.shape[1]):
            np.testing.assert_array_equal(row[..., start:stop], whole[:, start:stop])
    assert row[..., whole.shape[1] :].shape == (3, 0)


def test_crops_that_are_interpolated_alone_are_caught():
    latents = np.random.default_rng(0).standard_normal((3, 100)).astype(np.float32)
    whole = InterpolatedColumn([latents], decoder().scales)[0][..., :]
    # The frame 32 is near the vector 7, but at no multiple of its frames.
    alone = interpolated_slice(latents[:, 7:20], decoder().scales, 0, 32)
    assert np.abs(alone - whole[:, 32:64]).max() > 0.1


def test_batches_contain_crops_of_vectors_and_their_audio(corpus):
    store = load_store(corpus, SMALL.output_rate, peak_normalize=False)
    generator = np.random.default_rng(0)
    latents = [generator.standard_normal((16, 12)).astype(np.float32) for _ in SAMPLES]
    speakers, scales = generator.standard_normal((5, 12)).astype(np.float32), decoder(SMALL).scales
    store = training_store(store, latents, speakers, scales, hop_length=256)
    plan = training_sampler(3, 8, 256).plan(store)
    selection = plan.select(LoaderState(0, 1, 0))
    batch = plan.collate(store, selection)
    assert batch.columns["features"].shape == (3, 16, 8) and batch.columns["audio"].shape == (3, 2048)
    for i, (row, start) in enumerate(zip(selection.utterances, selection.starts, strict=True)):
        whole = InterpolatedColumn(latents, decoder(SMALL).scales)[int(row)][..., :]
        np.testing.assert_array_equal(batch.columns["features"][i], whole[:, start : start + 8])
        np.testing.assert_array_equal(batch.columns["audio"][i], store["audio"][row][256 * start : 256 * (start + 8)])
        np.testing.assert_array_equal(batch.columns["speaker"][i], store["speaker"][row])


def test_recordings_are_silent_after_their_end(corpus):
    recordings = load_store(corpus, SMALL.output_rate, peak_normalize=False)
    scales = decoder(SMALL).scales
    longest = max(len(row) for row in recordings["audio"]) // 256
    codes = int(longest / float(np.prod(scales)))
    latents = [np.zeros((16, codes), np.float32) for _ in SAMPLES]
    store = training_store(recordings, latents, np.zeros((5, 12), np.float32), scales, hop_length=256)
    for before, after, features in zip(recordings["audio"], store["audio"], store["features"], strict=True):
        assert len(after) == max(len(before), 256 * features.shape[-1])
        np.testing.assert_array_equal(after[: len(before)], before)
        assert not after[len(before) :].any()
    assert any(len(after) > len(before) for before, after in zip(recordings["audio"], store["audio"], strict=True))


def direct(networks, store, row, reference, seconds=6.0):
    """The columns of a recording, computed without padding."""
    network, codec = networks
    rate = SMALL.input_rate
    heard = jnp.asarray(store.waveform(reference)[: int(seconds * rate)])
    mel = normalized_log_mel(jnp.asarray(store.waveform(row)), codec.mel_stats, SMALL.dvae.mel)
    codes = codec.dvae.encode(mel)
    followed = jnp.append(codes, SMALL.gpt.stop_audio)
    latents = network.gpt.latents(network.condition(heard), jnp.asarray(store["tokens"][row]), followed)
    return codes, latents.T, network.embed_speaker(speaker_audio(heard, rate))


@pytest.mark.slow
def test_computed_vectors_equal_those_of_single_recordings(networks, store, tmp_path):
    config = LatentsConfig(reference_seconds=0.8, batch_size=2, shapes=1)
    found = compute_latents(*networks, store, config, part=3, cache=tmp_path / "cache")
    references = reference_rows(store.corpus, config)
    call = eqx.filter_jit(lambda networks, row: direct(networks, store, row, references[row], 0.8))
    for row in (0, 4):
        codes, latents, speaker = call(networks, row)
        np.testing.assert_array_equal(found["codes"][row], codes)
        np.testing.assert_allclose(found["latents"][row], latents, atol=2e-5 * np.abs(latents).max())
        np.testing.assert_allclose(found["speaker"][row], speaker, atol=2e-5)
        assert found["latents"][row].shape == (16, -(-(SAMPLES[row] // 256 + 1) // 4) + 1)
    # Control: the text and the reference have an influence.
    other = store.with_columns(tokens=[one[::-1] for one in store["tokens"]])
    changed = compute_latents(*networks, other, config, cache=tmp_path / "other")
    assert np.abs(changed["latents"][0] - found["latents"][0]).max() > 1e-3
    np.testing.assert_array_equal(changed["codes"][0], found["codes"][0])
    same = compute_latents(*networks, store, replace(config, reference="same"), cache=tmp_path / "same")
    assert np.abs(same["latents"][0] - found["latents"][0]).max() > 1e-4
    assert np.abs(same["speaker"][0] - found["speaker"][0]).max() > 1e-3
    # Stored vectors of another model, or of other tokens, are not used.
    for models, texts in (
        ((random_xtts(seed=3), networks[1]), store),
        ((networks[0], random_codec(2.0)), store),
        (networks, other),
    ):
        with pytest.raises(DataError, match="identity is"):
            compute_latents(*models, texts, config, part=3, cache=tmp_path / "cache")


def test_a_known_identity_is_not_computed_again(networks, store, monkeypatch):
    monkeypatch.setattr(decoder_latents, "latents_identity", lambda *given: "computed")
    monkeypatch.setattr(decoder_latents, "computed_columns", lambda *given, identity, **options: identity)
    config = LatentsConfig(batch_size=2, shapes=1)
    assert compute_latents(*networks, store, config, identity="known") == "known"
    assert compute_latents(*networks, store, config) == "computed"


def test_references_are_other_recordings_of_the_speaker(corpus):
    found = [reference_rows(corpus, LatentsConfig(seed=seed)) for seed in range(8)]
    for rows in found:
        assert all(row != other for row, other in enumerate(rows))
        assert [other < 3 for other in rows] == [True, True, True, False, False]
    assert len({tuple(rows) for rows in found}) > 1
    np.testing.assert_array_equal(found[0], reference_rows(corpus, LatentsConfig(seed=0)))
    np.testing.assert_array_equal(reference_rows(corpus, LatentsConfig(reference="same")), np.arange(5))
    anonymous = replace(corpus, utterances=tuple(replace(one, speaker="") for one in corpus.utterances))
    np.testing.assert_array_equal(reference_rows(anonymous, LatentsConfig()), np.arange(5))
    alone = replace(corpus, utterances=corpus.utterances[2:4])
    np.testing.assert_array_equal(reference_rows(alone, LatentsConfig()), [0, 1])


def test_utterances_that_cannot_be_read_are_listed(corpus):
    recordings = load_store(corpus, SMALL.input_rate, peak_normalize=False)
    short = replace(SMALL, gpt=replace(SMALL.gpt, max_audio=20))
    known = {"two": [1] * 21, **{name: TOKENS[name] for name in ("three", "four", "five")}}

    def encode_some(text, language):
        if text not in known:
            raise TextError(f"{text!r} contains unknown characters.")
        return known[text]

    found = usable_utterances(recordings, encode_some, short)
    assert found.counts == {"text": 1, "too many tokens": 1, "too long": 1} and len(found) == 2
    assert "20 codes; it should have at most 17" in found.table() and "'one' contains unknown" in found.table()
    assert found["tokens"][0].tolist() == [5, *[9] * 12, 0]
    with pytest.raises(DataError, match="None of the 5 utterance"):
        usable_utterances(recordings, encode, replace(short, gpt=replace(short.gpt, max_audio=8)))
    with pytest.raises(ConfigError, match="24000 Hz; it should have 22050 Hz"):
        usable_utterances(load_store(corpus, 24000), encode, SMALL)


def test_another_dvae_and_short_references_are_errors(networks, store):
    other = replace(SMALL.dvae, hidden=12)
    with pytest.raises(ConfigError, match=r"hidden=12.*dvae of the model"):
        compute_latents(
            networks[0], eqx.filter_eval_shape(CodecNetwork, CodecConfig(dvae=other), key=jax.random.key(0)), store
        )
    with pytest.raises(ConfigError, match=r"reference_seconds is 0\.1; it should be at least 0\.33"):
        LatentsConfig(reference_seconds=0.1)

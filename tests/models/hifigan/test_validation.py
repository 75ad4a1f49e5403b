"""Validation over whole utterances: padding does not change the metrics."""

import dataclasses
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxvoice.data import Corpus, Store, Utterance
from jaxvoice.dsp import MelConfig, log_mel
from jaxvoice.errors import AudioError
from jaxvoice.models.hifigan import Generator, GeneratorConfig
from jaxvoice.models.hifigan.training import Validation

MEL = MelConfig()
LENGTHS = (3000, 5000, 9001, 20000, 65536, 65537, 70000)


def make_store(lengths=LENGTHS, mels=None) -> Store:
    rng = np.random.default_rng(0)
    clips = [np.rint(8000 * np.sin(np.cumsum(rng.uniform(0, 0.5, n)))).astype(np.int16) for n in lengths]
    utterances = tuple(Utterance(f"clip-{i}", Path(f"{i}.wav")) for i in range(len(clips)))
    columns = {"audio": clips, "gain": np.full(len(clips), 1 / 32768, np.float32)}
    columns |= {} if mels is None else {"mel": mels}
    return Store(Corpus("folder", Path(), utterances), columns, 22050)


@pytest.fixture(scope="module")
def generator() -> Generator:
    sizes = {"resblock_kernel_sizes": (3,), "resblock_dilation_sizes": ((1,),)}
    return Generator(GeneratorConfig(upsample_initial_channel=16, **sizes), key=jax.random.key(0))


@pytest.fixture
def shapes(monkeypatch):
    """The lengths of audio that `log_mel` is called with, beside what is compiled from inside another program."""
    seen = set()

    def watched(audio, config):
        if isinstance(audio, np.ndarray):
            seen.add((len(audio), config))
        return log_mel(audio, config)

    monkeypatch.setattr("jaxvoice.dsp.mel.log_mel", watched)
    return seen


def distance(copy, audio) -> float:
    """Mel L1 between two signals, without padding."""
    mels = [np.asarray(log_mel(signal, MEL.full_band()), np.float64) for signal in (copy, audio)]
    return float(np.abs(mels[0] - mels[1]).mean())


def unpadded(generator: Generator, store: Store, index: int, frames: int, given=None) -> float:
    """Mel L1 between an utterance and its resynthesis, without padding."""
    audio = store.waveform(index)[: 256 * frames]
    mel = log_mel(audio, MEL) if given is None else jnp.asarray(given)
    copy = eqx.filter_jit(generator)(mel.T)[:, 0]
    assert copy.shape == audio.shape
    return distance(copy, audio)


def test_metrics_equal_those_of_single_utterances(generator):
    # Silence in the resynthesis is at the floor of the logarithm, where rounding errors are largest.
    store = make_store((3000, 9001, 66000))
    expected = np.mean([unpadded(generator, store, i, len(store["audio"][i]) // 256) for i in range(len(store))])
    assert Validation(store, MEL)(generator).metrics["mel_l1"] == pytest.approx(expected, abs=1e-5)


def test_metrics_are_independent_of_padding(generator):
    store = make_store((3000, 9001, 66000))
    report, expected = Validation(store, MEL)(generator), []
    for i, sample in enumerate(report.samples):
        whole = store.waveform(i)[: len(store["audio"][i]) // 256 * 256]
        target = np.asarray(log_mel(whole, MEL.full_band()))
        assert sample.pictures["target"].shape == target.shape
        np.testing.assert_allclose(sample.pictures["target"], target, atol=1e-5)
        expected.append(np.abs(sample.pictures["generated"].astype(np.float64) - target).mean())
    assert report.metrics["mel_l1"] == pytest.approx(np.mean(expected), abs=1e-6)


def test_validation_compiles_few_programs(shapes):
    Validation(make_store(), MEL)
    assert len({length // 256 for length in LENGTHS}) == 6
    assert len({length for length, _ in shapes}) == 3 and len(shapes) == 6


def test_stored_mels_determine_the_length(generator):
    given = [np.asarray(log_mel(make_store().waveform(i), MEL))[:, :9] for i in range(2)]
    store = make_store((3000, 5000), given)
    expected = np.mean([unpadded(generator, store, i, 9, given[i]) for i in range(2)])
    assert Validation(store, MEL)(generator).metrics["mel_l1"] == pytest.approx(expected, abs=1e-5)


def test_pre_emphasised_mels_are_exact_to_the_last_frame(generator):
    config = dataclasses.replace(MEL, preemphasis=0.98)
    store = make_store((3000, 9001))
    for index, (_, inputs, *_) in enumerate(Validation(store, config)._utterances):
        audio = store.waveform(index)[: len(store["audio"][index]) // 256 * 256]
        np.testing.assert_allclose(inputs, np.asarray(log_mel(audio, config)), atol=1e-4)


def test_audio_shorter_than_a_frame_raises_an_error():
    with pytest.raises(AudioError, match="too short"):
        Validation(make_store((300,)), MEL)

"""Similarities of generated voices in the benchmark."""

from typing import Any

import numpy as np
import pytest

from experiments import voice_conversion, xtts_corpus, xtts_decoder, xtts_gpt
from experiments.benchmarks import voices as benchmark
from jaxvoice.data.demo import SPEAKER_VOICES, compose_sentences


class Judge:
    """Embeddings are the first two samples."""

    def embed(self, samples, rate):
        assert rate == 8000
        return np.asarray(samples, np.float32)[:2]


def test_sentences_are_compared_with_all_voices():
    voices = {name: np.array(vector, np.float32) for name, vector in {"annie": (1, 0), "sam": (0, 1)}.items()}
    sounds: Any = {"annie": [((0.8, 0.6), 8000), ((0.6, 0.8), 8000)], "sam": [((0.0, 1.0), 8000)]}
    judge: Any = Judge()
    found = benchmark.judged(judge, sounds, voices)
    assert np.allclose(found["annie"], [[0.8, 0.6, 1], [0.6, 0.8, 0]]) and np.allclose(found["sam"], [[1, 0, 1]])
    seen, unseen = benchmark.rows_of({"model": found})
    assert (seen["speakers"], unseen["speakers"]) == ("1 seen", "1 unseen")
    assert (unseen["cosine"], unseen["nearest other"]) == pytest.approx((0.7, 0.7), abs=1e-6)
    assert (seen["identified %"], unseen["identified %"], seen["95 % interval"]) == (100, 50, "1.000 to 1.000")


@pytest.mark.parametrize("voices", [SPEAKER_VOICES, xtts_corpus.DEMO_VOICES])
def test_new_sentences_are_not_those_of_the_demo_corpora(monkeypatch, voices):
    given = {}

    def make(folder, sentences, voices):
        given.update(sentences=sentences, voices=voices)
        return type("Corpus", (), {"utterances": ()})

    monkeypatch.setattr(benchmark, "make_demo_corpus", make)
    assert benchmark.new_recordings(2, voices) == {} and given["voices"] == voices
    assert len(given["sentences"]) == 2 * len(voices)
    count = voice_conversion.DEMO_SENTENCES * len(SPEAKER_VOICES)
    assert not set(given["sentences"]) & set(compose_sentences(count, seed=voice_conversion.DEMO_SEED))
    for experiment in (xtts_gpt, xtts_decoder):
        count = experiment.DEMO_SENTENCES * len(xtts_corpus.DEMO_VOICES)
        assert not set(given["sentences"]) & set(compose_sentences(count, seed=experiment.DEMO_SEED))

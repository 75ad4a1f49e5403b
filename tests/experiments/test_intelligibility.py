"""The sentences and the noise of the benchmark of intelligibility."""

import numpy as np
import pytest

from experiments import text_to_speech, voice_conversion
from experiments.benchmarks import intelligibility as benchmark
from jaxvoice.data.demo import SPEAKER_VOICES, VOICES, compose_sentences


def test_new_sentences_are_in_no_demo_corpus(monkeypatch):
    texts = {}

    def make(folder, sentences, voices):
        texts[voices[0].speaker] = sentences
        return type("Corpus", (), {"utterances": tuple(sentences)})

    monkeypatch.setattr(benchmark, "make_demo_corpus", make)
    clips, trained = benchmark.new_sentences(40, "annie")
    new = texts["annie"]
    assert clips == new and len(new) > 30
    of_one = compose_sentences(text_to_speech.DEMO_SENTENCES, seed=text_to_speech.DEMO_SEED)
    count = voice_conversion.DEMO_SENTENCES * len(SPEAKER_VOICES)
    of_many = compose_sentences(count, seed=voice_conversion.DEMO_SEED)
    assert set(trained) == {*of_one, *of_many} and not set(trained) & set(new)
    known = {word for text in trained for word in benchmark.words(text)}
    assert all(known >= set(benchmark.words(text)) for text in new)


def test_unknown_voices_raise():
    with pytest.raises(SystemExit, match=f"--voice is 'x'; it should be one of {VOICES[0].speaker}, "):
        benchmark.new_sentences(1, "x")


def test_texts_are_spoken_with_noise():
    heard = []

    def recogniser(samples, rate):
        heard.append((samples, rate))
        return ["one", "three"]

    clips = [benchmark.Utterance(id="a", text="One, two three.", audio=None)]
    silence = np.zeros(20_000, np.float32)
    (result,) = benchmark.evaluate(None, clips, read=lambda text: (silence, 8000), recogniser=recogniser, noise=0.1)
    assert result == {"id": "a", "errors": 1, "words": 3, "heard": "one three"}
    assert heard[0][1] == 8000 and np.std(heard[0][0]) == pytest.approx(0.1, rel=0.05)

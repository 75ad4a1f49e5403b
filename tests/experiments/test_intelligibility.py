"""The sentences and the noise of the benchmark of intelligibility."""

from types import SimpleNamespace

import numpy as np
import pytest
import tyro

import jaxvoice
from experiments import text_to_speech, voice_conversion
from experiments.benchmarks import intelligibility as benchmark
from jaxvoice.data import write_wav
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


@pytest.mark.parametrize(
    ("flags", "options"),
    [("", {}), ("--speaker sam", {"speaker": "sam"}), ("--language pt-br", {"language": "pt-br"})],
)
def test_speaker_and_language_are_passed_to_the_model(flags, options, tmp_path, monkeypatch):
    calls = []

    def speak(text, **given):
        calls.append((text, given))
        return SimpleNamespace(audio=np.zeros(800, np.float32), sample_rate=8000)

    write_wav(tmp_path / "a.wav", np.zeros(800, np.float32), 8000)
    clips = [benchmark.Utterance(id="a", text="One, two three.", audio=tmp_path / "a.wav")]
    monkeypatch.setattr(jaxvoice.Synthesizer, "load", lambda path: SimpleNamespace(speak=speak))
    monkeypatch.setattr(benchmark, "clips_of", lambda options, data: clips)
    monkeypatch.setattr(benchmark, "Recogniser", lambda: lambda samples, rate: ["one", "three"])
    arguments = f"--data {tmp_path} --speech {tmp_path} {flags}".split()
    benchmark.main(tyro.cli(benchmark.Options, args=arguments))
    assert calls == [("One, two three.", options)]

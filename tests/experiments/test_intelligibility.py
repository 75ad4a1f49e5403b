"""The sentences and the noise of the benchmark of intelligibility."""

from types import SimpleNamespace

import numpy as np
import pytest
import tyro

import jaxvoice
from experiments import text_to_speech, voice_conversion, xtts_corpus, xtts_decoder, xtts_gpt
from experiments.benchmarks import intelligibility as benchmark
from jaxvoice.data import Audio, write_wav
from jaxvoice.data.demo import SPEAKER_VOICES, VOICES, compose_sentences
from jaxvoice.models.xtts_dvae import FAMILY as DVAE, CodecNetwork
from jaxvoice.pipelines.xtts_synthesizer import XTTSSynthesizer
from tests.models.xtts_dvae.small import SMALL as CODEC
from tests.pipelines.small_xtts import write_small_xtts
from tests.random_networks import random_network


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
    for experiment in (xtts_gpt, xtts_decoder):
        count = experiment.DEMO_SENTENCES * len(xtts_corpus.DEMO_VOICES)
        assert not set(compose_sentences(count, seed=experiment.DEMO_SEED)) & set(new)
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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::jaxvoice.errors.JaxvoiceWarning")  # short references
def test_teacher_forced_speech_is_that_of_the_latents_of_all_codes_and_the_stop(tmp_path) -> None:
    write_small_xtts(tmp_path)
    DVAE.save_network(tmp_path / "dvae", random_network(CodecNetwork, CODEC), CODEC)
    audio = Audio(0.3 * np.random.default_rng(0).standard_normal(22050).astype(np.float32), 22050)
    found, rate = benchmark.teacher_forced(tmp_path)(audio, "hello")
    model, codec = XTTSSynthesizer.load(tmp_path), jaxvoice.Codec.load(tmp_path / "dvae")
    config, voice, codes = model.config.gpt, model.voice(audio), codec.encode(audio)
    text = np.array([config.start_text, *model.tokenizer.encode("hello", "en"), config.stop_text])
    # The latent of the stop is decoded, too; the last input has no influence.
    latents = model.network.gpt.latents(voice.conditioning, text, np.append(codes, np.int32(0)))
    expected = model.network.hifigan_decoder(latents, voice.speaker)[:, 0]
    assert rate == 24000 and found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())

"""Text to speech on unseen sentences: durations, mel spectrograms, and word errors of a recogniser.

    pip install pocketsphinx
    python -m experiments.benchmarks.speech --model runs/tts_ljspeech --vocoder runs/hifigan_demo

Without `--data`, new sentences are composed and read by the voice of the demo corpus of `experiments.tts_ljspeech`.
They are used neither for training nor for the choice of the model and the factor of its durations. Every sentence is
synthesised from its text, from its phonemes with the durations of the corpus, and from the mel of the corpus, with
Griffin-Lim and with each vocoder. Word error rates are compared with that of the recordings.

The recogniser is pocketsphinx with its own English acoustic model, which was not trained on these voices, and bigrams
of the other sentences of the corpus. Noise at -60 dB is added to all audio. The pauses of a formant synthesiser are
digital silence, after which the recogniser makes errors; without the noise, every system would have fewer errors than
the recordings.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from experiments.benchmarks import common
from experiments.benchmarks.intelligibility import NOISE, Recogniser, Waveform, bigram_recogniser, rows_of
from experiments.benchmarks.word_errors import edits, words
from experiments.text_to_speech import DEMO_SEED, DEMO_SENTENCES
from jaxvoice.data import Store, find_aligned, load_aligned, make_demo_corpus, read_audio, split
from jaxvoice.data.demo import VOICES, compose_sentences
from jaxvoice.dsp.mel import bucketed_log_mel
from jaxvoice.models.gaussian_tts.family import FAMILY
from jaxvoice.pipelines import Synthesizer
from jaxvoice.pipelines.sources import find_model_folder
from jaxvoice.pipelines.synthesizer import Speech

Sound = tuple[Waveform, int]
"""Audio (samples,) with full scale at 1, and its sample rate in Hz."""


@dataclass(frozen=True, kw_only=True)
class Options(common.ReportOptions):
    """Settings of the benchmark."""

    model: Path
    """Text-to-speech model: model folder or run folder."""
    vocoder: tuple[Path, ...] = ()
    """HiFi-GAN model folders or run folders to use in addition to Griffin-Lim."""
    data: Path | None = None
    """Aligned corpus with texts, whose last utterances were held out of training; by default new demo sentences."""
    validation: int | None = None
    """Number of utterances of `--data` that were held out; by default as in the experiment."""
    sentences: int = 40
    """Number of sentences to compose without `--data`."""
    recognise: bool = True
    """Also count word errors, which takes about half a second per sentence and system."""
    usual_english: bool = False
    """Also run the recogniser with its own language model, which is three times slower."""
    json: Path | None = None
    """File for the results, with the recognised text of every sentence."""


def mean_mel_difference(made: Sequence[np.ndarray], mels: Iterable[np.ndarray]) -> float:
    """Mean absolute difference over all frames and bands of spectrograms (mels, frames)."""
    return float(np.mean(np.abs(np.concatenate(list(made), axis=1) - np.concatenate(list(mels), axis=1))))


def measures(free: Sequence[Speech], forced: Sequence[Speech], store: Store) -> dict[str, float]:
    """Errors of the durations of `free` in frames, and the mel L1 of `forced`, synthesised with those of the corpus."""
    errors = np.concatenate(
        [np.abs(one.durations - frames) for one, frames in zip(free, store["durations"], strict=True)]
    )
    return {
        "sentences": len(store),
        "phonemes": errors.size,
        "duration error, median (frames)": float(np.median(errors)),
        "mean": float(errors.mean()),
        "within a frame %": 100 * float((errors <= 1).mean()),
        "length %": 100 * sum(one.mel.shape[1] for one in free) / store.frames,
        "mel L1": mean_mel_difference([one.mel for one in forced], store["mel"]),
    }


def systems(options: Options, store: Store) -> tuple[dict[str, list[Sound]], dict[str, float]]:
    """The systems by name, each with a list of audio and sample rate, and the metrics of the model."""
    texts = [utterance.text for utterance in store.corpus.utterances]
    recordings = [read_audio(utterance.audio) for utterance in store.corpus.utterances if utterance.audio is not None]
    heard = {"original": [(audio.samples, audio.sample_rate) for audio in recordings]}
    found: dict[str, float] = {}
    for vocoder in (None, *options.vocoder):
        synthesizer = Synthesizer.load(options.model, vocoder)
        name, rate = "Griffin-Lim" if vocoder is None else str(vocoder), synthesizer.sample_rate
        phones = [store.phones(index) for index in range(len(store))]
        forced = synthesizer.speak_phonemes(phones, list(store["durations"]))
        if vocoder is None:
            found = measures(synthesizer.speak_phonemes(phones), forced, store)
        made = {
            "corpus mel": synthesizer.mel_to_audio(list(store["mel"])),
            "corpus durations": [one.audio for one in forced],
            "text": [one.audio for one in synthesizer.speak(texts)],
        }
        heard |= {f"{given}, {name}": [(one, rate) for one in audio] for given, audio in made.items()}
    return heard, found


def distances(heard: Mapping[str, Sequence[Sound]], store: Store) -> list[dict[str, Any]]:
    """The mel L1 between recordings and the audio of every system that uses the durations of the corpus."""
    rows = []
    assert store.mel is not None
    for name, sounds in heard.items():
        if name != "original" and not name.startswith("text"):
            again = [bucketed_log_mel(np.asarray(sound[0]), store.mel) for sound in sounds]
            rows.append({"system": name, "mel L1 of the audio": mean_mel_difference(again, store["mel"])})
    return rows


def evaluate(recogniser: Recogniser, sounds: Sequence[Sound], store: Store) -> list[dict[str, Any]]:
    """The recognition of each sentence, in the form of `intelligibility.evaluate`."""
    results, random = [], np.random.default_rng(0)
    for utterance, (samples, rate) in zip(store.corpus.utterances, sounds, strict=True):
        noisy = samples + NOISE * random.standard_normal(len(samples), np.float32)
        expected, understood = words(utterance.text), recogniser(noisy, rate)
        errors = edits(expected, understood)
        results.append({"id": utterance.id, "errors": errors, "words": len(expected), "heard": " ".join(understood)})
    return results


def recognisers(texts: Sequence[str], usual_english: bool) -> dict[str, Recogniser]:
    """pocketsphinx with the bigrams of `texts`, and with its own language model if `usual_english`."""
    found = {"bigrams of the corpus": bigram_recogniser(texts)}
    return found | {"its own": Recogniser()} if usual_english else found


def main(options: Options) -> None:
    """Run the benchmark."""
    if options.data is None:
        composed = compose_sentences(DEMO_SENTENCES + options.sentences, seed=DEMO_SEED)
        held_out = find_aligned(make_demo_corpus(None, composed[DEMO_SENTENCES:], VOICES[:1]).root)
        texts = composed[:DEMO_SENTENCES]
    else:
        training, held_out = split(find_aligned(options.data), options.validation)
        texts = [utterance.text for utterance in training.utterances]
    _, config = FAMILY.load_network(find_model_folder(options.model))
    store = load_aligned(held_out, config.mel, peak_normalize=config.peak_normalize)
    if any(not words(utterance.text) or utterance.audio is None for utterance in store.corpus.utterances):
        raise SystemExit(f"{held_out.root} has utterances without text or audio; use a corpus with both.")
    heard, found = systems(options, store)
    rows = distances(heard, store)
    print(f"\n{common.table([found])}\n\n{common.table(rows)}", flush=True)
    results: dict[str, Any] = {}
    if options.recognise:
        for grammar, recogniser in recognisers(texts, options.usual_english).items():
            results[grammar] = {name: evaluate(recogniser, sounds, store) for name, sounds in heard.items()}
            rows += [{"language model": grammar, **row} for row in rows_of(results[grammar])]
    shown = [row for row in rows if "language model" in row] or [found]
    common.report("speech", options, shown, measures=found, all=rows, results=results)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))

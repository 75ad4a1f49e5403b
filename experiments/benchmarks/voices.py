"""Whether generated speech has the voice it should have, judged by a speaker encoder that no training used.

    pip download --no-deps resemblyzer
    python -m experiments.benchmarks.voices --judge Resemblyzer-0.1.4-py3-none-any.whl --model runs/yourtts_vctk
    python -m experiments.benchmarks.voices --judge Resemblyzer-0.1.4-py3-none-any.whl --xtts runs/xtts_decoder

Each voice of the demo corpus of `experiments.yourtts_vctk` speaks new sentences: from their texts, and converted from
recordings of another voice. An XTTS speaks in the voices of its own demo corpus: from the texts, with a recording of
another sentence as the reference, and teacher-forced, with the codes of the recordings. The judge compares them with
the mean embedding of the recordings of every voice. `cosine` is that with the voice it should be, `nearest other` the
largest one with another voice, and `identified` the share of sentences whose voice is the most similar one. New
recordings of the voices show what can be reached. Intervals are those of a bootstrap over speakers.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from jaxtyping import Float32

from experiments import voice_conversion, xtts_corpus, xtts_decoder
from experiments.benchmarks import common
from experiments.benchmarks.intelligibility import Waveform, teacher_forced
from experiments.benchmarks.speaker_similarity import load_encoder
from jaxvoice.data import Audio, Corpus, Utterance, Voice, make_demo_corpus, read_audio
from jaxvoice.data.demo import SPEAKER_VOICES, compose_sentences
from jaxvoice.pipelines import SpeakerEncoder, VITSSynthesizer, XTTSSynthesizer

Vector = Float32[np.ndarray, " dim"]
Sounds = Mapping[str, Sequence[tuple[Waveform, int]]]
"""The audio of each speaker, with full scale at 1, and its sample rates in Hz."""
_COMPARED = 20
"""Recordings of a voice whose mean embedding is compared."""


@dataclass(frozen=True, kw_only=True)
class Options(common.ReportOptions):
    """Settings of the benchmark."""

    judge: Path
    """Speaker encoder that compares the voices: a wheel of Resemblyzer, a checkpoint or a model folder."""
    model: tuple[Path, ...] = ()
    """Model folders or run folders of YourTTS that know the voices of the demo corpus."""
    xtts: tuple[Path, ...] = ()
    """Model folders or run folders of XTTS with a DVAE, instead of --model."""
    language: str = "en"
    """Language of the texts for --xtts."""
    sentences: int = 4
    """Number of new sentences of each voice."""


def new_recordings(sentences: int, voices: Sequence[Voice] = SPEAKER_VOICES) -> dict[str, list[Utterance]]:
    """`sentences` new sentences of each of `voices`, which are in no demo corpus."""
    trained = voice_conversion.DEMO_SENTENCES * len(SPEAKER_VOICES)
    composed = compose_sentences(trained + sentences * len(voices), seed=voice_conversion.DEMO_SEED)
    return by_speaker(make_demo_corpus(None, composed[trained:], voices).utterances)


def by_speaker(utterances: Sequence[Utterance]) -> dict[str, list[Utterance]]:
    """The utterances of each speaker."""
    found = defaultdict(list)
    for utterance in utterances:
        found[utterance.speaker].append(utterance)
    return dict(found)


def sound(utterance: Utterance) -> tuple[Waveform, int]:
    """The recording of an utterance."""
    assert utterance.audio is not None
    audio = read_audio(utterance.audio)
    return audio.samples, audio.sample_rate


def systems(models: Sequence[Path], new: Mapping[str, Sequence[Utterance]]) -> dict[str, Sounds]:
    """New recordings of each speaker, and what each model generates for the speaker."""
    names = list(new)
    heard: dict[str, Sounds] = {"recordings": {name: [sound(one) for one in new[name]] for name in names}}
    for path in models:
        model = VITSSynthesizer.load(path)
        spoken, converted = {}, {}
        for place, name in enumerate(names):
            source = names[place - 1]
            speech = model.speak([one.text for one in new[name]], speaker=name)
            spoken[name] = [(one.audio, one.sample_rate) for one in speech]
            sources = heard["recordings"][source]
            converted[name] = [
                (model.convert(samples, name, speaker=source, sample_rate=rate), model.sample_rate)
                for samples, rate in sources
            ]
        heard |= {f"{path}: text": spoken, f"{path}: conversion": converted}
    return heard


def xtts_systems(models: Sequence[Path], new: Mapping[str, Sequence[Utterance]], language: str) -> dict[str, Sounds]:
    """New recordings of each speaker, and what each XTTS generates for the speaker."""
    heard: dict[str, Sounds] = {"recordings": {name: [sound(one) for one in new[name]] for name in new}}
    for path in models:
        model, forced = XTTSSynthesizer.load(path), teacher_forced(path, language)
        spoken, repeated = {}, {}
        for name, utterances in new.items():
            spoken[name], repeated[name] = [], []
            for place, one in enumerate(utterances):
                reference, rate = heard["recordings"][name][place - 1]
                speech = model.speak(one.text, language, reference=Audio(reference, rate))
                spoken[name].append((np.asarray(speech.audio), speech.sample_rate))
                repeated[name].append(forced(Audio(*heard["recordings"][name][place]), one.text))
        heard |= {f"{path}: text": spoken, f"{path}: teacher-forced": repeated}
    return heard


def mean_vectors(judge: SpeakerEncoder, corpus: Corpus) -> dict[str, Vector]:
    """The mean embedding of the first recordings of each voice in `corpus`, of unit length."""
    found = {}
    for name, utterances in by_speaker(corpus.utterances).items():
        mean = np.mean([judge.embed(*sound(one)) for one in utterances[:_COMPARED]], axis=0)
        found[name] = mean / np.linalg.norm(mean)
    return found


def judged(judge: SpeakerEncoder, sounds: Sounds, voices: Mapping[str, Vector]) -> dict[str, list[list[float]]]:
    """For each sentence of a speaker: the cosine with its voice and with the nearest other one, and whether the former
    is larger."""
    found = {}
    for name, heard in sounds.items():
        others = np.stack([vector for other, vector in voices.items() if other != name])
        rows = []
        for samples, rate in heard:
            embedding = judge.embed(np.asarray(samples), rate)
            own, other = float(embedding @ voices[name]), float((others @ embedding).max())
            rows.append([own, other, float(own > other)])
        found[name] = rows
    return found


def rows_of(results: Mapping[str, Mapping[str, Sequence[Sequence[float]]]]) -> list[dict[str, Any]]:
    """A row for each system and group of speakers."""
    rows = []
    for system, values in results.items():
        unseen = [name for name in values if name in voice_conversion.DEMO_UNSEEN]
        for group, names in (("seen", [name for name in values if name not in unseen]), ("unseen", unseen)):
            means = np.array([np.mean(values[name], axis=0) for name in names])
            picks = np.random.default_rng(0).integers(0, len(means), (2000, len(means)))
            low, high = np.quantile(means[picks, 0].mean(axis=1), [0.025, 0.975])
            cosine, other, identified = means.mean(axis=0)
            rows.append(
                {
                    "system": system,
                    "speakers": f"{len(names)} {group}",
                    "cosine": cosine,
                    "95 % interval": f"{low:.3f} to {high:.3f}",
                    "nearest other": other,
                    "identified %": 100 * identified,
                }
            )
    return rows


def main(options: Options) -> None:
    """Run the benchmark."""
    if bool(options.model) == bool(options.xtts):
        raise SystemExit("Pass model folders with --model or with --xtts.")
    judge = load_encoder(options.judge)
    if options.xtts:
        new = new_recordings(options.sentences, xtts_corpus.DEMO_VOICES)
        heard = xtts_systems(options.xtts, new, options.language)
        corpus = xtts_corpus.demo_corpus(xtts_decoder.DEMO_SENTENCES, xtts_decoder.DEMO_SEED)
    else:
        heard, corpus = systems(options.model, new_recordings(options.sentences)), voice_conversion.demo_corpus()
    voices = mean_vectors(judge, corpus)
    results = {name: judged(judge, sounds, voices) for name, sounds in heard.items()}
    common.report("voices", options, rows_of(results), results=results)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))

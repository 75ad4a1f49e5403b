"""Boundary errors of forced alignment with a trained text-to-speech model, on recordings with known times.

    python -m experiments.benchmarks.alignment --model runs/tts_ljspeech

The recordings are synthesised by espeak-ng, which reports times exact to the sample (extra `demo`). In the voice of the
model, they are the held-out sentences of the corpus of `experiments.tts_ljspeech`. Four other voices read new
sentences. Rows `phonemes` are aligned with the true phonemes, including pauses. Rows `text` are aligned with the text
alone; for these, boundaries are counted if the phonemes on both sides equal those of espeak-ng, ignoring stress.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from jaxtyping import Float64

from experiments.benchmarks import common
from experiments.text_to_speech import DEMO_SEED, DEMO_SENTENCES
from jaxvoice.data import Alignment, Utterance, find_aligned, make_demo_corpus, read_audio, split
from jaxvoice.data.demo import VOICES, compose_sentences
from jaxvoice.errors import JaxvoiceError
from jaxvoice.pipelines import Aligner


@dataclass(frozen=True, kw_only=True)
class Options(common.ReportOptions):
    """Settings of the benchmark."""

    model: str
    """Model folder, run folder or Hub id of a text-to-speech model."""
    sentences: int = 20
    """Number of sentences in each voice."""
    data: Path | None = None
    """An aligned corpus to use instead; its last sentences are aligned."""
    own_voice_only: bool = False
    """Do not align other voices than that of the model."""


def boundary_errors(found: Alignment, true: Alignment) -> Float64[np.ndarray, " boundaries"]:
    """Errors in seconds, positive if late, of boundaries inside the utterance between phones of both alignments.

    As many phones as possible are matched in order; the stress of vowels is ignored.
    """
    plain = [[phone.rstrip("012") for phone in one.phones] for one in (found, true)]
    errors = []
    for block in SequenceMatcher(None, *plain, autojunk=False).get_matching_blocks():
        inside = np.arange(1, block.size)
        errors.append(found.boundaries[block.a + inside] - true.boundaries[block.b + inside])
    return np.concatenate(errors)


def row(voice: str, given: str, errors: Sequence[np.ndarray], costs: Sequence[float], rejected: int) -> dict[str, Any]:
    """Statistics of the boundary errors, in seconds, of one voice."""
    every = 1000 * np.concatenate(errors)
    size = np.abs(every)
    return {
        "voice": voice,
        "given": given,
        "sentences": len(costs),
        "rejected": rejected,
        "boundaries": len(every),
        "median ms": float(np.median(size)),
        "90 % ms": float(np.percentile(size, 90)),
        "under 20 ms %": float(100 * (size < 20).mean()),
        "bias ms": float(np.median(every)),
        "cost": float(np.median(costs)),
    }


def evaluate(aligner: Aligner, voice: str, utterances: Sequence[Utterance]) -> list[dict[str, Any]]:
    """Align the utterances of one voice; returns its rows."""
    rows = []
    for given in ("phonemes", "text"):
        errors, costs, rejected = [], [], 0
        for utterance in utterances:
            assert utterance.audio is not None and utterance.alignment is not None
            audio, true = read_audio(utterance.audio), utterance.alignment
            try:
                if given == "text":
                    fit = aligner.align(audio.samples, audio.sample_rate, utterance.text, name=utterance.id)
                else:
                    fit = aligner.align_phonemes(audio.samples, audio.sample_rate, true.phones, name=utterance.id)
            except JaxvoiceError as failure:
                print(f"{voice}: {failure}")
                rejected += 1
                continue
            errors.append(boundary_errors(fit.alignment, true))
            costs.append(fit.cost)
        if costs:
            rows.append(row(voice, given, errors, costs, rejected))
    return rows


def voices(options: Options) -> Mapping[str, Sequence[Utterance]]:
    """The sentences of each voice, none of which is in the training set."""
    if options.data is not None:
        return {options.data.name: find_aligned(options.data).utterances[-options.sentences :]}
    composed = compose_sentences(DEMO_SENTENCES + options.sentences, seed=DEMO_SEED)
    own = find_aligned(make_demo_corpus(None, composed[:DEMO_SENTENCES], VOICES[:1]).root)
    found = {VOICES[0].speaker: split(own)[1].utterances[-options.sentences :]}
    for voice in VOICES[1:] if not options.own_voice_only else ():
        corpus = make_demo_corpus(None, composed[DEMO_SENTENCES:], [voice])
        found[voice.speaker] = find_aligned(corpus.root).utterances
    return found


def main(options: Options) -> None:
    """Run the benchmark."""
    aligner = Aligner(options.model)
    rows = [row for voice, utterances in voices(options).items() for row in evaluate(aligner, voice, utterances)]
    if not rows:
        raise SystemExit("All utterances failed to align; see the errors above.")
    common.report("alignment", options, rows)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))

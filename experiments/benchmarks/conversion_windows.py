"""The error of windows in voice conversion: a long recording in windows, compared with the whole recording.

    python -m experiments.benchmarks.conversion_windows --model runs/hifivc_vctk

`VoiceConverter` encodes the content of recordings longer than `piece` in windows, whose frames attend to less than the
whole recording. For each voice and overlap, the table shows the root mean square of the difference of the content
features relative to that of the features, over all frames (`content`) and in the worst frame, and the mel L1 between
the two converted recordings (`audio mel L1`).

Without `--source`, the recordings are new sentences by espeak-ng in the voices that `experiments.hifivc_vctk` never
trains on. They are converted to `--voice`, by default to the first of its training voices.
"""

import functools as ft
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from jaxtyping import Float, Float32

from experiments import voice_conversion
from experiments.benchmarks import common
from jaxvoice.data import Audio, make_demo_corpus, read_audio, resample
from jaxvoice.data.demo import SPEAKER_VOICES, compose_sentences
from jaxvoice.dsp import bucketed_log_mel
from jaxvoice.models.hifivc import content_features
from jaxvoice.pipelines import VoiceConverter

SEED = 7
"""Seed of the sentences, which is not that of the demo corpus of the training."""


@dataclass(frozen=True, kw_only=True)
class Options(common.ReportOptions):
    """Settings of the benchmark."""

    model: Path
    """HiFi-VC model: model folder or run folder."""
    source: Path | None = None
    """Recording to convert; by default one for each unseen voice of the demo corpus."""
    voice: Path | None = None
    """Recording of the target voice; by default a sentence of the demo corpus."""
    sentences: int = 24
    """Sentences of each recording of the demo corpus."""
    piece: float = 30.0
    """Length of the windows in seconds."""
    overlaps: tuple[float, ...] = (0.0, 1.0, 2.0, 4.0)
    """Seconds that are discarded at each inner end of a window."""


def demo_recording(name: str, sentences: int, seed: int = SEED) -> Audio:
    """Sentences in one voice of espeak-ng, one after the other."""
    voices = [voice for voice in SPEAKER_VOICES if voice.speaker == name]
    corpus = make_demo_corpus(None, compose_sentences(sentences, seed=seed), voices)
    parts = [read_audio(item.audio) for item in corpus.utterances if item.audio is not None]
    return Audio(np.concatenate([part.samples for part in parts]), parts[0].sample_rate)


def relative_errors(
    found: Float32[np.ndarray, "channels time"], whole: Float32[np.ndarray, "channels time"]
) -> tuple[Float[np.ndarray, " time"], float]:
    """The root mean square of the difference relative to that of `whole`, in each frame and over all frames."""
    squares, sizes = np.square(found - whole, dtype=np.float64), np.square(whole, dtype=np.float64)
    return np.sqrt(squares.mean(0) / sizes.mean(0)), float(np.sqrt(squares.mean() / sizes.mean()))


def rows_of(name: str, source: Audio, reference: Audio, loaded: VoiceConverter, options: Options) -> list[dict]:
    """A row for each overlap."""
    config, network = loaded.config, loaded.network
    mel, seconds = config.content.mel, len(source.samples) / source.sample_rate
    peak = np.float32(np.abs(source.samples).max())
    speech = np.asarray(resample(source.samples / peak, source.sample_rate, mel.sample_rate), np.float32)
    voice = loaded.encode_voice(reference)

    def converted(piece: float, overlap: float) -> Float32[np.ndarray, "mels frames"]:
        converter = VoiceConverter(network, config, piece=piece, overlap=overlap)
        return bucketed_log_mel(converter.convert(source, voice), config.mel)

    encode = ft.partial(content_features, network.content_encoder, speech, config)
    whole = encode(piece=seconds + 1, overlap=0.0)
    audio = converted(seconds + 1, 0.0)
    rows = []
    for overlap in options.overlaps:
        found = encode(piece=options.piece, overlap=overlap)
        errors, mean = relative_errors(found, whole)
        rows.append(
            {
                "recording": name,
                "s": seconds,
                "window s": options.piece,
                "overlap s": overlap,
                "content": mean,
                "worst frame": float(errors.max()),
                "audio mel L1": float(np.abs(converted(options.piece, overlap) - audio).mean()),
            }
        )
    return rows


def main(options: Options) -> None:
    """Run the benchmark."""
    converter = VoiceConverter.load(options.model)
    if options.source is None:
        sources: Mapping[str, Audio] = {
            name: demo_recording(name, options.sentences) for name in voice_conversion.DEMO_UNSEEN
        }
    else:
        sources = {options.source.name: read_audio(options.source)}
    if options.voice is None:
        target = next(voice.speaker for voice in SPEAKER_VOICES if voice.speaker not in voice_conversion.DEMO_UNSEEN)
        reference = demo_recording(target, 1)
    else:
        reference = read_audio(options.voice)
    rows: list[dict[str, Any]] = []
    for name, source in sources.items():
        rows += rows_of(name, source, reference, converter, options)
    common.report("windows of voice conversion", options, rows)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))

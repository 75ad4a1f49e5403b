"""The error of windows in synthesis with a WaveGlow: a long mel spectrogram in windows, compared with the whole.

    python -m experiments.benchmarks.waveglow_windows --model runs/waveglow

`WaveGlowVocoder` decodes long mel spectrograms in windows, whose overlap may be smaller than the receptive field. The
noise of both results is the same. For each overlap, the table shows the root mean square of the difference relative to
that of the audio, over all samples (`relative RMS`) and in the worst frame, and the mean absolute difference of the
log-mels (`mel L1`). An overlap of `exact` frames, the receptive field, has no error but rounding.

Without `--source`, the mel spectrogram is that of new sentences by espeak-ng in the first voice of the demo corpus,
with which `experiments.waveglow` trains.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from jaxtyping import Float, Float32

from experiments.benchmarks import common
from jaxvoice.data import Audio, make_demo_corpus, read_audio
from jaxvoice.data.demo import VOICES, compose_sentences
from jaxvoice.dsp import bucketed_log_mel
from jaxvoice.pipelines import WaveGlowVocoder

SEED = 7
"""Seed of the sentences, which is not that of the demo corpus of the training."""


@dataclass(frozen=True, kw_only=True)
class Options(common.ReportOptions):
    """Settings of the benchmark."""

    model: Path
    """WaveGlow model: model folder or run folder."""
    source: Path | None = None
    """Recording whose mel spectrogram is decoded; by default sentences of the demo corpus."""
    seconds: float = 20.0
    """Longest part of the recording to use."""
    window: int = 256
    """Frames that are decoded at once."""
    overlaps: tuple[int, ...] = (0, 8, 16, 32, 64)
    """Frames that are discarded at each inner end of a window."""
    sigma: float = 0.75
    """Standard deviation of the noise."""


def demo_recording(seconds: float) -> Audio:
    """Sentences in one voice of espeak-ng, one after the other, of at least so many seconds."""
    sentences = compose_sentences(max(2, round(seconds / 2)), seed=SEED)
    corpus = make_demo_corpus(None, sentences, VOICES[:1])
    parts = [read_audio(item.audio) for item in corpus.utterances if item.audio is not None]
    return Audio(np.concatenate([part.samples for part in parts]), parts[0].sample_rate)


def frame_errors(
    found: Float32[np.ndarray, " samples"], whole: Float32[np.ndarray, " samples"], hop: int
) -> tuple[Float[np.ndarray, " frames"], float]:
    """The root mean square of the difference, relative to that of `whole`, in each frame and over all samples."""
    scale = np.sqrt(np.mean(np.square(whole, dtype=np.float64)))
    squares = np.square(found.astype(np.float64) - whole)
    return np.sqrt(squares.reshape(-1, hop).mean(1)) / scale, float(np.sqrt(squares.mean()) / scale)


def rows_of(vocoder: WaveGlowVocoder, recording: Audio, options: Options) -> list[dict[str, Any]]:
    """A row for each overlap."""
    network, config, hop = vocoder.network, vocoder.config, vocoder.hop_length
    mel = vocoder.log_mel(recording.samples, recording.sample_rate)
    mel = mel[:, : max(1, int(options.seconds * vocoder.sample_rate / hop))]
    exact = max(config.receptive_field)

    def audio(overlap: int, window: int) -> Float32[np.ndarray, " samples"]:
        windowed = WaveGlowVocoder(network, config, window=window, overlap=overlap)
        return windowed.synthesize(mel, sigma=options.sigma, denoise=0, check=False)

    whole = audio(0, mel.shape[1] + 1)
    full = config.mel.full_band()
    target = bucketed_log_mel(whole, full)
    rows = []
    for overlap in options.overlaps:
        found = audio(overlap, options.window)
        errors, mean = frame_errors(found, whole, hop)
        rows.append(
            {
                "s": len(whole) / vocoder.sample_rate,
                "window": options.window,
                "overlap": overlap,
                "exact": exact,
                "relative RMS": mean,
                "worst frame": float(errors.max()),
                "mel L1": float(np.abs(bucketed_log_mel(found, full) - target).mean()),
            }
        )
    return rows


def main(options: Options) -> None:
    """Run the benchmark."""
    vocoder = WaveGlowVocoder.load(options.model)
    recording = demo_recording(options.seconds) if options.source is None else read_audio(options.source)
    common.report("windows of WaveGlow", options, rows_of(vocoder, recording, options))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))

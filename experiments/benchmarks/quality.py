"""Distances of vocoders' output to recordings: mel L1, multi-resolution STFT, mel cepstrum, STOI, PESQ.

    python -m experiments.benchmarks.quality --data LJSpeech-1.1 --model runs/hifigan --last 4 --griffin-lim

The results are means over clips. STOI and PESQ need optional packages (`pip install 'jaxvoice[measures]'`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from experiments.benchmarks import common
from experiments.benchmarks.intelligibility import System, Waveform, griffin_lim, vocoder
from jaxvoice import dsp
from jaxvoice.data import Audio, Utterance, find_corpus, read_audio
from jaxvoice.errors import MissingExtraError


@dataclass(frozen=True, kw_only=True)
class Options(common.ReportOptions):
    """Settings of the benchmark."""

    data: Path
    """A corpus of recordings at the models' sample rate."""
    model: tuple[Path, ...] = ()
    """Model folders or run folders to resynthesise with."""
    last: int = 4
    """Number of clips at the end of the corpus, which training holds out."""
    griffin_lim: bool = False
    """Also evaluate Griffin-Lim (32 iterations) from the same mel, which is not trained."""
    kind: Literal["auto", "ljspeech", "vctk", "folder", "filelist"] = "auto"
    """Layout of the corpus."""


def distances(recording: Waveform, copy: Waveform, mel: dsp.MelConfig) -> dict[str, float]:
    """All metrics of `copy` (samples,) against `recording` (samples,), both at the sample rate of `mel`."""
    from jax import numpy as jnp

    truth, estimate = jnp.asarray(recording), jnp.asarray(copy)
    stft = dsp.stft_distance(truth, estimate)
    found = {
        "mel L1": float(dsp.mel_l1(truth, estimate, mel)),
        "spectral convergence": float(stft.spectral_convergence),
        "log magnitude": float(stft.log_magnitude),
        "MCD dB": float(dsp.mel_cepstral_distortion(truth, estimate, mel)),
    }
    for name, measure in (("STOI", dsp.stoi), ("PESQ", dsp.pesq)):
        try:
            found[name] = measure(recording, copy, mel.sample_rate)
        except MissingExtraError:
            continue
    return found


def evaluate(system: System, clips: Sequence[Utterance], mel: dsp.MelConfig) -> list[dict[str, float]]:
    """`distances` of every clip, over their common length in whole frames."""
    results = []
    for clip in clips:
        assert clip.audio is not None
        audio: Audio = read_audio(clip.audio, mel.sample_rate)
        copy, _ = system(audio)
        length = min(len(copy), len(audio.samples)) // mel.hop_length * mel.hop_length
        results.append(distances(audio.samples[:length], np.asarray(copy[:length], np.float32), mel))
    return results


def main(options: Options) -> None:
    """Run the benchmark."""
    import jaxvoice

    clips = find_corpus(options.data, options.kind).utterances[-options.last :]
    systems: dict[str, tuple[System, dsp.MelConfig]] = {}
    if options.griffin_lim:
        systems["Griffin-Lim"] = (griffin_lim, dsp.MelConfig())
    systems |= {str(path): (vocoder(path), jaxvoice.Vocoder.load(path).mel) for path in options.model}
    rows: list[dict[str, Any]] = []
    for name, (system, mel) in systems.items():
        results = evaluate(system, clips, mel)
        means = {measure: float(np.mean([clip[measure] for clip in results])) for measure in results[0]}
        rows.append({"system": name, "clips": len(clips), **means})
    common.report("quality", options, rows)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))

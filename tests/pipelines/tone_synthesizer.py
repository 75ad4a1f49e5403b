"""A synthesizer with known times: each phoneme is a different chord, and a pause is silence."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from jaxvoice.dsp import MelConfig
from jaxvoice.dsp.mel import bucketed_log_mel
from jaxvoice.models.gaussian_tts.inference import SynthesizedMel
from jaxvoice.pipelines import Synthesizer
from jaxvoice.text import ALIGNED

MEL = MelConfig(sample_rate=8000, n_fft=256, win_length=256, hop_length=64, num_mels=20, fmax=4000.0)
HOP = MEL.hop_length


def tone_audio(codes, frames, *, pitch: float = 1.0, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """Audio of `codes`, each `frames` long; fractions of frames are allowed."""
    edges = np.rint(np.concatenate([[0], np.cumsum(frames)]) * HOP).astype(int)
    time = np.arange(edges[-1]) / MEL.sample_rate
    audio = np.zeros(edges[-1])
    for code, start, stop in zip(codes, edges[:-1], edges[1:], strict=True):
        if code != "pau":
            tones = np.random.default_rng(ALIGNED.ids([code])[0]).uniform(200, 3600, 3) * pitch
            audio[start:stop] = 0.2 * np.sin(2 * np.pi * tones[:, None] * time[None, start:stop]).sum(0)
    return (audio + noise * np.random.default_rng(seed).normal(size=len(audio))).astype(np.float32)


class _Inference:
    max_frames = 400

    def __call__(self, lines):
        return [self._said(line) for line in lines]

    def _said(self, line) -> SynthesizedMel:
        usual = 6 + line.ids % 5
        durations = usual.astype(np.int64) if line.durations is None else line.durations
        mel = bucketed_log_mel(tone_audio(line.codes, durations), MEL)
        assert mel.shape[1] == durations.sum()
        return SynthesizedMel(mel, durations, ())


class _ToneSynthesizer(Synthesizer):
    def __init__(self) -> None:
        fake: Any = SimpleNamespace(inference=_Inference(), config=SimpleNamespace(mel=MEL, peak_normalize=True))
        self.acoustic_inference, self.config, self.phone_set = fake.inference, fake.config, ALIGNED


def tone_synthesizer() -> Synthesizer:
    """A synthesizer with the attributes that `Aligner` uses."""
    return _ToneSynthesizer()

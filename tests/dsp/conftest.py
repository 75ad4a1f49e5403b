"""Speech-like audio and the libraries that the signal processing is compared with."""

import warnings
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture(scope="session")
def speech() -> np.ndarray:
    """Two seconds at 22,050 Hz: a gliding voice through three formants, hiss, and pauses with a little noise."""
    rate, rng = 22050, np.random.default_rng(0)
    time = np.arange(2 * rate) / rate
    pitch = 120 + 30 * np.sin(2 * np.pi * 0.7 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    voice = np.zeros_like(time)
    for harmonic in range(1, 60):
        frequency = harmonic * pitch
        gain = sum(np.exp(-(((frequency - formant) / 180) ** 2)) for formant in (600, 1300, 2600))
        voice += (gain + 0.02) / harmonic**0.5 * np.sin(harmonic * phase) * (frequency < 9000)
    hiss = rng.standard_normal(time.size) * 0.15
    talking = np.clip(6 * np.sin(2 * np.pi * 1.6 * time) + 2, 0, 1)
    audio = talking * voice * 0.2 + talking * (np.sin(2 * np.pi * 2.3 * time) > 0.8) * hiss
    audio += 3e-5 * rng.standard_normal(time.size)
    audio[20000:22500] = 0
    return (0.7 * audio / np.abs(audio).max()).astype(np.float32)


@pytest.fixture(scope="session")
def librosa() -> ModuleType:
    """librosa with its lazily imported parts. Their deprecation warnings are ignored."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import librosa
        import librosa.feature.inverse

        librosa.griffinlim(np.ones((5, 8), np.float32), n_iter=1)
        librosa.filters.mel(sr=8000, n_fft=64, n_mels=4)
        librosa.sequence.dtw(C=np.eye(3))
    return librosa

"""Recordings as arguments: the detection of clipping, for tones whose clipping is known."""

import warnings

import numpy as np
import pytest

from jaxvoice.errors import JaxvoiceWarning
from jaxvoice.pipelines.recordings import read_recording


def tone(f0: float, rate: int = 48000, level: float = 1.0) -> np.ndarray:
    return level * np.sin(2 * np.pi * f0 * np.arange(rate // 2) / rate + 0.3)


def rounded(samples: np.ndarray, bits: int) -> np.ndarray:
    """`samples` as integers of so many bits, which clips them to their range."""
    full = 2 ** (bits - 1)
    return np.clip(np.rint(samples * full), -full, full - 1) / full


SMOOTH = {
    "50 Hz": tone(50),
    "20 Hz": tone(20),
    "16 bits": rounded(tone(50, level=0.999), 16),
    "16 bits, 20 Hz": rounded(tone(20, level=0.999), 16),
    "16 bits, quiet": rounded(tone(50, level=0.01), 16),
    "8 bits": rounded(tone(50, level=0.9), 8),
    "two tones": 0.6 * tone(60) + 0.4 * tone(180),
    "louder than full scale": tone(50, level=3.0),
    "constant": np.full(4800, 0.5),
}
CLIPPED = {
    "weakly": np.clip(tone(50, level=1.05), -1, 1),
    "strongly": np.clip(tone(200, level=3.0), -1, 1),
    "quiet": 0.05 * np.clip(tone(200, level=3.0), -1, 1),
    "16 bits": rounded(tone(50, level=1.05), 16),
    "8 bits": rounded(tone(200, level=2.0), 8),
    "one side": np.maximum(tone(100), -0.95),
    "to the ends": np.clip(tone(2, level=4.0), -1, 1)[1000:-1000],
}


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_peaks_are_not_clipped(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_recording(SMOOTH[name].astype(np.float32), 48000, "source")


@pytest.mark.parametrize("name", CLIPPED)
def test_runs_at_an_extreme_are_clipped(name):
    samples = CLIPPED[name].astype(np.float32)
    share = np.mean(samples == samples.min()) + (0 if name == "one side" else np.mean(samples == samples.max()))
    with pytest.warns(JaxvoiceWarning, match=rf"source: {share:.1%} of the samples .* probably clipped"):
        read_recording(samples, 48000, "source")

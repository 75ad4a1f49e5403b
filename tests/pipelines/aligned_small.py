"""A small aligned corpus for the tiny text-to-speech model of `test_synthesizer`."""

from pathlib import Path

import numpy as np
import soundfile

RATE, HOP = 8000, 16
PHONES = {
    "long": (("sil", 0.05), ("HH", 0.1), ("AH0", 0.17), ("L", 0.23), ("OW1", 0.38), ("", 0.45)),
    "short": (("W", 0.04), ("ER1", 0.15), ("L", 0.2), ("D", 0.235)),
    "tiny": (("AY1", 0.06), ("pau", 0.1)),
}


def csv(phones) -> str:
    starts = [0.0, *(end for _, end in phones)]
    rows = [f"{phone},{start},{end}" for (phone, end), start in zip(phones, starts, strict=False)]
    return "\n".join(["phone,start_s,end_s", *rows]) + "\n"


def sound(seconds: float, seed: int = 0, level: float = 0.2) -> np.ndarray:
    """Noise of increasing amplitude, with a peak of about twice `level`."""
    count = round(seconds * RATE)
    return (np.random.default_rng(seed).normal(0, 0.5 * level, count) * np.linspace(0.3, 1.3, count)).astype(np.float32)


def write_corpus(root: Path, **utterances) -> Path:
    """Write `name=(phones, audio or None)` as tables, with recordings in `wavs`."""
    (root / "wavs").mkdir(parents=True, exist_ok=True)
    for name, (phones, audio) in utterances.items():
        (root / f"{name}.csv").write_text(csv(phones), encoding="utf-8")
        if audio is not None:
            soundfile.write(root / "wavs" / f"{name}.wav", audio, RATE)
    return root


def small_corpus(root: Path) -> Path:
    """Three utterances of very different lengths; the audio of `short` ends in the middle of a frame."""
    spoken = {
        name: (phones, sound(phones[-1][1] + 0.0011, number)) for number, (name, phones) in enumerate(PHONES.items())
    }
    return write_corpus(root, **spoken)

"""Corpora written by the tests, good and bad."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

RATE = 22050


def tone(seconds: float = 1.0, rate: int = RATE, frequency: float = 440.0, level: float = 0.5) -> np.ndarray:
    return (level * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


@pytest.fixture
def speech() -> Callable[..., np.ndarray]:
    return tone


@pytest.fixture
def bad_files(tmp_path: Path) -> dict[str, Path]:
    """One unusable file of every kind, by the name of its defect."""
    folder = tmp_path / "bad"
    folder.mkdir()
    files = {name: folder / f"{name.replace(' ', '_')}.wav" for name in ("empty", "truncated", "silent", "nan")}
    files |= {name: folder / f"{name.replace(' ', '_')}.wav" for name in ("zero-length", "non-audio", "too short")}
    files["empty"].touch()
    soundfile.write(files["truncated"], tone(), RATE)
    files["truncated"].write_bytes(files["truncated"].read_bytes()[:20_000])
    soundfile.write(files["silent"], np.zeros(RATE, np.float32), RATE)
    broken = tone()
    broken[5000] = np.nan
    soundfile.write(files["nan"], broken, RATE, subtype="FLOAT")
    files["zero-length"].write_bytes(
        b"RIFF" + struct.pack("<I", 36) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16)
        + b"data" + struct.pack("<I", 0)
    )  # fmt: skip
    files["non-audio"].write_text("These are the minutes of the last meeting.\n" * 40, encoding="utf-8")
    soundfile.write(files["too short"], tone(0.05), RATE)
    return files


@pytest.fixture
def make_corpus(tmp_path: Path) -> Callable[..., Path]:
    """Write `count` tones of rising length as a plain folder of WAV files; returns the folder."""

    def make(count: int = 6, name: str = "clips", rate: int = RATE) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for index in range(count):
            samples = tone(0.5 + 0.1 * index, rate, 200.0 + 50 * index, 0.1 + 0.1 * index)
            soundfile.write(folder / f"clip{index:02d}.wav", samples, rate)
        return folder

    return make

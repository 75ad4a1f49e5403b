"""The benchmark of quality: its measures, and a table over a small corpus."""

import json

import numpy as np

from experiments.benchmarks import quality
from jaxvoice.data import write_wav
from jaxvoice.dsp import MelConfig


def speech_like(seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    time = np.arange(11025) / 22050
    tone = sum(np.sin(2 * np.pi * 140 * k * time + random.uniform(0, 6)) / k for k in range(1, 20))
    return (0.1 * tone * (1 + np.sin(2 * np.pi * 4 * time)) + 0.001 * random.standard_normal(len(time))).astype("f4")


def test_distances_of_an_exact_copy_are_zero():
    audio = speech_like(0)
    same = quality.distances(audio, audio, MelConfig())
    assert all(same[name] < 1e-6 for name in ("mel L1", "spectral convergence", "log magnitude", "MCD dB"))
    worse = quality.distances(audio, np.roll(audio, 4000), MelConfig())
    assert all(worse[name] > 0.1 for name in ("mel L1", "spectral convergence", "log magnitude", "MCD dB"))


def test_griffin_lim_is_evaluated_on_the_last_clips(tmp_path, capsys):
    for i in range(3):
        write_wav(tmp_path / f"clip{i}.wav", speech_like(i), 22050)
    options = quality.Options(data=tmp_path, last=2, griffin_lim=True, json=tmp_path / "out.json")
    quality.main(options)
    (row,) = json.loads(options.json.read_text(encoding="utf-8"))["rows"]
    assert row["system"] == "Griffin-Lim" and row["clips"] == 2 and 0 < row["mel L1"] < 2
    assert "Griffin-Lim" in capsys.readouterr().out

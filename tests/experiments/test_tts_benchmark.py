"""The benchmark of text to speech at its small size: inputs, rows, and the comparison of results."""

import json
from dataclasses import replace

import numpy as np
import pytest

from experiments.benchmarks import common, timing, tts

SMALL = tts.Options(
    size="small",
    phones=12,
    frames=50,
    batch=2,
    batch_phones=9,
    batch_frames=30,
    upsampling=(2, 7, 20),
    repeats=1,
    memory=False,
    force=True,
)


def test_a_batch_is_padded_and_its_durations_add_up() -> None:
    batch = tts.speech_batch(tts.CONFIGS["small"], 3, 10, 40, shortest=0.5)
    assert batch.phone_count.tolist() == [5, 8, 10] and batch.frame_count.tolist() == [20, 30, 40]
    np.testing.assert_array_equal(batch.durations.sum(1), batch.frame_count)
    np.testing.assert_array_equal((batch.phonemes > 0).sum(1), batch.phone_count)
    np.testing.assert_array_equal((batch.durations > 0).sum(1), batch.phone_count)
    assert not batch.mel[0, :, 20:].any() and batch.mel[0, :, :20].all()


@pytest.mark.slow
def test_rows_are_measured(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tts, "keep_freed_memory", lambda: True)
    for name, value in {"PAUSE_SECONDS": 0, "WINDOW_SECONDS": 0, "MATRIX_SIZE": 16}.items():
        monkeypatch.setattr(timing, name, value)
    works: tuple[tts.Work, ...] = ("mel", "duration step", "upsampling")
    tts.main(replace(SMALL, works=works, json=tmp_path / "tts.json"))
    rows = json.loads((tmp_path / "tts.json").read_text(encoding="utf-8"))["rows"]
    assert {row["work"] for row in rows} == set(works)
    assert [row["engine"] for row in rows[:3]] == ["jaxvoice", "jaxvoice AcousticInference", "torch"]
    assert all(row["median ms"] > 0 and row["x real time"] > 0 and row["GFLOP"] > 0 for row in rows)
    exact = {row["difference"] for row in rows if row["engine"] == "jaxvoice" and "step" not in row["work"]}
    assert 0 < max(exact) < 1e-4


def test_other_weights_stop_the_benchmark() -> None:
    from experiments.benchmarks.torch_gaussian_tts import GaussianTTS, arrays_of

    networks = GaussianTTS(tts.CONFIGS["small"])
    weights, statistics = arrays_of(networks)
    mels = [tts.build(engine, "mel", SMALL, (weights, statistics)) for engine in ("jaxvoice", "torch")]
    weights = weights | {"acoustic.linear.bias": weights["acoustic.linear.bias"] + 0.1}
    other = tts.build("jaxvoice", "mel", SMALL, (weights, statistics))
    common.check_agreement("mel", mels[0](), mels[1](), 1e-4)
    with pytest.raises(SystemExit, match="it should be at most"):
        common.check_agreement("mel", other(), mels[1](), 1e-3)

"""The benchmark of XTTS with a small network: engines agree, and rows are measured."""

import dataclasses
import json

import numpy as np
import pytest

from experiments.benchmarks import timing, xtts as benchmark
from tests.models.xtts.small import SMALL

# The text ids that the benchmark draws, and a text of a few tokens.
GPT = dataclasses.replace(SMALL.gpt, text_ids=310, max_audio=60)
CONFIG = dataclasses.replace(SMALL, gpt=GPT)
SHORT = benchmark.Options(seconds=0.3, lengths=(0.5,), codes=6, tokens=7, repeats=1, max_seconds=0.1, force=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small network, no pauses, a small matrix product, and no setting that keeps the memory of this process."""
    monkeypatch.setattr(benchmark, "preset", lambda name: CONFIG)
    monkeypatch.setattr(benchmark, "bandwidth", lambda: 1.0)
    monkeypatch.setattr(benchmark, "keep_freed_memory", lambda: True)
    for name, value in {"PAUSE_SECONDS": 0, "WINDOW_SECONDS": 0, "MATRIX_SIZE": 16}.items():
        monkeypatch.setattr(timing, name, value)


@pytest.mark.slow
def test_codes_and_their_vectors_equal_those_of_torch() -> None:
    calls = benchmark.codes_calls(SHORT, CONFIG)
    ours, theirs = (call() for call in calls.values())
    np.testing.assert_array_equal(ours, theirs)
    assert len(set(ours.tolist())) > 1 and CONFIG.gpt.stop_audio not in ours


def test_the_second_pass_of_torch_returns_the_vectors_of_the_first() -> None:
    import torch

    model = benchmark.torch_language_model(CONFIG)
    conditioning, text = (torch.from_numpy(array) for array in benchmark.prompt_of(SHORT, CONFIG))
    codes, latents = model.generate(conditioning, text.long(), 6)
    np.testing.assert_allclose(model.second_pass(conditioning, text.long(), codes), latents, atol=1e-5)


@pytest.mark.slow
def test_all_but_the_dvae_are_measured(tmp_path) -> None:
    works = ("codes", "decoder", "first audio", "stream")
    benchmark.main(dataclasses.replace(SHORT, works=works, bfloat16=True, json=tmp_path / "x.json"))
    rows = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))["rows"]
    assert [row["work"] for row in rows] == ["codes"] * 3 + ["decoder"] * 2 + ["first audio"] * 3 + ["stream"] * 2
    assert all(row["min s"] > 0 for row in rows)


def test_bytes_of_a_code_are_those_of_the_weights_that_it_needs() -> None:
    model = benchmark.torch_language_model(CONFIG)
    modules = (model.gpt, model.final_norm, model.mel_head)
    weights = sum(weight.numel() for module in modules for weight in module.parameters())
    assert benchmark.weights_per_code(CONFIG) == 4 * weights
    # 378 million weights, by the counts of the release.
    assert benchmark.weights_per_code(benchmark.XTTSConfig()) == pytest.approx(1.51e9, rel=0.005)

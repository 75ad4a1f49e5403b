"""The best validation of a run, as shown by `jaxvoice inspect`."""

import json

import pytest

from jaxvoice.pipelines.folders import run_progress


def best_step(run, rows, model=None, key="rank"):
    """The step of the best validation; `rows` has the step, rank and metric of each validation."""
    run.mkdir()
    (run / "config.json").write_text('{"loop": {"best_metric": "score"}}', encoding="utf-8")
    lines = [{"step": step, "kind": "validation", key: rank, "score": score} for step, rank, score in rows]
    for line in lines:
        if line[key] is None:
            del line[key]
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    if model is not None:
        (run / "model").mkdir()
        (run / "model" / "config.json").write_text(model, encoding="utf-8")
    best = run_progress(run)["best"]
    return None if best is None else best["step"]


def test_best_validation_is_one_of_the_highest_rank(tmp_path):
    rows = [(1, 0, 0.9), (2, 0, 0.5), (3, 1, 0.7), (4, 1, 0.6), (5, 1, 0.8)]
    assert best_step(tmp_path / "ranks", rows) == 4
    assert best_step(tmp_path / "phases", rows, key="phase") == 4  # the name until version 0.2
    assert best_step(tmp_path / "unfinished", [*rows, (6, 2, None)]) == 4
    assert best_step(tmp_path / "first", rows[:2]) == 2
    assert best_step(tmp_path / "none", []) is None


@pytest.mark.parametrize("later", [[], [(5, 1, 0.8)]])
def test_best_validation_without_ranks_is_that_of_the_model(tmp_path, later):
    """Version 0.1 logged no rank; such a run may have been resumed."""
    rows = [(1, None, 0.9), (2, None, 0.5), (3, None, 0.7), (4, None, 0.6), *later]
    assert best_step(tmp_path / "run", rows, '{"info": {"step": 4}}') == 4
    for number, model in enumerate([None, "{}", "[1]", "{", '{"info": {"step": 77}}']):
        assert best_step(tmp_path / str(number), rows, model) == (5 if later else 2)

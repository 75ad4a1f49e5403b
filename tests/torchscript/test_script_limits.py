"""Programs that would take all time or memory are stopped; honest long loops are not."""

import time

import numpy as np
import pytest
import torch

from jaxvoice.errors import CheckpointError
from jaxvoice.torchscript import function
from jaxvoice.torchscript.interpreter import MAX_STEPS
from jaxvoice.weights.reading import open_archive
from tests.torchscript.layer_models import with_code
from tests.torchscript.script_agreement import same, scripted

ONE = np.ones(1, np.float32)


@pytest.fixture
def run_code(tmp_path):
    """Run a forward method of these lines, which need not be what torch would write."""

    def run(body):
        made, changed = tmp_path / "made.pt", tmp_path / "changed.pt"
        torch.jit.save(scripted("return x"), made)
        lines = "".join(f"    {line}\n" for line in f"{body}\nreturn x".split("\n"))

        def change(text):
            return text[: text.index("    return x")] + lines

        with open_archive(with_code(made, change, changed)) as archive:
            return function(archive)({}, ONE)  # type: ignore[arg-type]

    return run


GROWING = {
    "join": "q = [0]\nfor i in range(60):\n  q = torch.add(q, q)",
    "extend in place": "q = [0]\nfor i in range(60):\n  q = torch.add_(q, q)",
    "extend": "q = [0]\nfor i in range(60):\n  torch.extend(q, q)",
    "repeat": "q = [0]\nfor i in range(60):\n  q = torch.mul(q, 2)",
    "repeat in place": "q = [0]\nfor i in range(60):\n  q = torch.mul_(q, 2)",
    "text join": 'q = "ab"\nfor i in range(60):\n  q = torch.join(q, ["", "", ""])',
    "text add": 'q = "a"\nfor i in range(60):\n  q = torch.add(q, q)',
    "text repeat": 'q = "a"\nfor i in range(60):\n  q = torch.mul(q, 2)',
    "replace": 'q = "aa"\nfor i in range(60):\n  q = torch.replace(q, "a", q)',
    "format": 'q = "a"\nfor i in range(60):\n  q = torch.format("{}{}", q, q)',
    "percent format": 'q = "a"\nfor i in range(60):\n  q = torch.percentFormat("%s%s", q, q)',
    "nested": "q = [0]\nfor i in range(60):\n  q = [q, q]\nn = torch.str(q)",
    "nested compared": "q = [0]\nfor i in range(60):\n  q = [q, q]\nn = torch.eq(q, q)",
    "nested text": "q = [0]\nfor i in range(60):\n  q = [q, q]\nn = str(q)",
    "nested given": "q = [0]\nfor i in range(60):\n  q = [q, q]\nn = torch.cat(q)",
    "nested returned": "q = [0]\nfor i in range(60):\n  q = [q, q]\nreturn q",
    "nested told": "q = [0]\nfor i in range(60):\n  q = [q, q]\nn = q.name",
    "whole number": "q = 3\nfor i in range(60):\n  q = torch.mul(q, q)",
    "update": "q = {0: 0}\nn = 0\nwhile True:\n  q[n] = 0\n  n = torch.add(n, 1)",
    "append": "q = [0]\nwhile True:\n  n = torch.append(q, 0)",
    "insert": "q = [0]\nwhile True:\n  torch.insert(q, 0, 0)",
}


@pytest.mark.parametrize("name", GROWING)
def test_what_grows_without_end_is_refused(run_code, name):
    start = time.process_time()
    with pytest.raises(CheckpointError) as caught:
        run_code(GROWING[name])
    assert len(str(caught.value)) < 500
    assert time.process_time() - start < 20


@pytest.fixture(autouse=True)
def _fewer_steps(monkeypatch):
    """A tenth of the steps takes a tenth of the time."""
    monkeypatch.setattr("jaxvoice.torchscript.interpreter.MAX_STEPS", MAX_STEPS // 10)


ENDLESS = {
    "statements": "while True:\n  n = 1",
    "nothing": "for i in range(1000000000):\n  pass",
    "numbers": "n = 0\nwhile torch.ge(n, 0):\n  n = torch.add(n, 1)",
    "long lists": "q = torch.mul([0], 500000)\nwhile True:\n  n = torch.add(q, [0])",
    "tensors": "y = x\nwhile True:\n  y = torch.add(y, 1)",
}


@pytest.mark.parametrize("name", ENDLESS)
def test_loops_without_end_are_stopped(run_code, name, monkeypatch):
    if name == "statements":
        monkeypatch.setattr("jaxvoice.torchscript.interpreter.MAX_STEPS", MAX_STEPS)
    if name == "tensors":
        monkeypatch.setattr("jaxvoice.torchscript.interpreter.MAX_STEPS", MAX_STEPS // 100)
    start = time.process_time()
    with pytest.raises(CheckpointError, match=r"more than [\d,]+ steps; longer loops are refused"):
        run_code(ENDLESS[name])
    assert time.process_time() - start < 20


def test_a_loop_over_thousands_of_frames_is_run(run_code, monkeypatch):
    # A hundredth of 2000 frames at a hundredth of the limit: what one costs does not depend on how many there are.
    monkeypatch.setattr("jaxvoice.torchscript.interpreter.MAX_STEPS", MAX_STEPS // 100)
    operators = "\n".join(["  y = torch.add(y, 1)"] * 30)
    run_code(f"rows = [x]\ny = x\nfor i in range(20):\n{operators}\n  _1 = torch.append(rows, y)\nz = torch.cat(rows)")


def test_lists_of_thousands_of_tensors(load):
    module = scripted("rows = [x]\nfor i in range(2000):\n    rows.append(x)\nreturn torch.cat(rows), len(rows)")
    same(module(torch.ones(1)), load(module)({}, ONE))

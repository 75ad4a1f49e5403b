"""Programs without bounds on time or memory are stopped; long loops of speech models are not."""

import jax
import numpy as np
import pytest
import torch

from jaxvoice.errors import CheckpointError
from jaxvoice.torchscript.interpreter import MAX_STEPS
from jaxvoice.torchscript.operator_calls import OperatorCalls
from tests.torchscript.script_agreement import assert_same, scripted

ONE = np.ones(1, np.float32)


@pytest.fixture
def calls(monkeypatch):
    """The names of the operators that the code calls, including those on numbers and lists."""
    names = []
    call = OperatorCalls._operator
    monkeypatch.setattr(
        OperatorCalls, "_operator", lambda run, name, *args: names.append(name) or call(run, name, *args)
    )
    return names


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
def test_unbounded_growth_raises_an_error(run_code, calls, name):
    with pytest.raises(CheckpointError) as caught:
        run_code(GROWING[name])
    assert len(str(caught.value)) < 500
    assert len(calls) <= MAX_STEPS // 10


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
def test_endless_loops_are_stopped(run_code, calls, name, monkeypatch):
    most = MAX_STEPS // 100
    monkeypatch.setattr("jaxvoice.torchscript.interpreter.MAX_STEPS", most)
    with pytest.raises(CheckpointError, match=r"more than [\d,]+ steps, which is the maximum"):
        run_code(ENDLESS[name])
    assert len(calls) <= most


def test_long_loops_raise_an_error_before_they_are_run(run_code, operators):
    message = r"a loop of {} iterations takes more than .* steps, which is the maximum \(__torch__/.*\.py, line \d+"
    # Detected by the number of statements before the loop, or by their cost after two iterations.
    for rounds, most in (("100,000", 0), ("10,000", 2)):
        operators.clear()
        with pytest.raises(CheckpointError, match=message.format(rounds)):
            run_code(f"y = x\nfor i in range({rounds.replace(',', '')}):\n  y = torch.add(y, 1)")
        assert len(operators) == most


# The branch depends on the round, so that this is no jax.lax.scan.
RECURRENT = "for t in range(x.size(0)):\n    if t < 100:\n        h = torch.tanh(x[t] + h)\nreturn h"
COUNTED = "t = 0\nwhile t < x.size(0):\n    h = torch.tanh(x[t] + h)\n    t += 1\nreturn h"


@pytest.mark.parametrize("source", [RECURRENT, COUNTED])
def test_loops_with_too_many_traced_operators_raise_an_error(load, operators, monkeypatch, source):
    monkeypatch.setattr("jaxvoice.torchscript.operator_calls.MAX_UNROLLED", 60)
    module = scripted(source, "x, h")
    run, h = load(module), np.zeros(2, np.float32)
    short, long = (np.random.default_rng(0).standard_normal((n, 2)).astype(np.float32) for n in (20, 21))
    with torch.no_grad():
        theirs = [module(torch.from_numpy(x), torch.from_numpy(h)) for x in (short, long)]
    assert_same(theirs[0], jax.jit(run)({}, short, h), 1e-5)
    assert_same(theirs[1], run({}, long, h), 1e-5)
    operators.clear()
    with pytest.raises(CheckpointError, match=r"under jax\.jit.* shorter input \(__torch__/.*\.py, line \d+") as caught:
        jax.jit(run)({}, long, h)
    if source == RECURRENT:
        assert "a loop of 21 iterations becomes about 57 operators" in str(caught.value)
        assert "It cannot be a jax.lax.scan: " in str(caught.value) and operators.count("torch.tanh") == 2


def test_a_loop_over_thousands_of_frames_is_run(run_code, monkeypatch):
    # A hundredth of 2000 frames at a hundredth of the limit: what one costs does not depend on how many there are.
    monkeypatch.setattr("jaxvoice.torchscript.interpreter.MAX_STEPS", MAX_STEPS // 100)
    operators = "\n".join(["  y = torch.add(y, 1)"] * 30)
    loop = f"for i in range(20):\n{operators}\n  _1 = torch.append(rows, y)"
    found = run_code(f"rows = [x]\ny = x\n{loop}\nreturn torch.cat(rows)")
    np.testing.assert_array_equal(found, 1 + 30 * np.arange(21))


def test_lists_of_thousands_of_tensors(load):
    module = scripted("rows = [x]\nfor i in range(2000):\n    rows.append(x)\nreturn torch.cat(rows), len(rows)")
    assert_same(module(torch.ones(1)), load(module)({}, ONE))


def nested(*iterations):
    lines = [f"{'  ' * depth}for i{depth} in range({number}):" for depth, number in enumerate(iterations)]
    return "\n".join(["y = x", *lines, f"{'  ' * len(iterations)}y = torch.add(y, 1)", "return y"])


@pytest.mark.parametrize(
    "iterations",
    [(100_000, 100_000, 100_000), (20_000, 20_000), (3, 80_000_000), (5, 9_000, 9_000), (10**12,), (101_000_000,)],
)
def test_nested_scans_with_too_many_operators_raise_an_error(run_code, operators, monkeypatch, iterations):
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=r"execute more than 100,000,000 operators.* maximum \(__torch__"):
        run_code(nested(*iterations), jit=True)


def test_scans_that_append_too_many_tensors_raise_an_error(run_code):
    body = (
        "q = [x]\ny = x\nfor i in range(200000):\n  y = torch.add(y, 1)\n  _1 = torch.append(q, y)\nreturn torch.cat(q)"
    )
    with pytest.raises(CheckpointError, match=r"a loop of 199,998 iterations that appends to lists takes more than"):
        run_code(body, jit=True)


@pytest.mark.parametrize("iterations", [(200_000,), (1_000, 1_000)])
def test_loops_of_more_steps_than_a_run_may_take_are_scanned(run_code, iterations):
    np.testing.assert_array_equal(run_code(nested(*iterations), jit=True), 1 + np.prod(iterations, dtype=np.float32))

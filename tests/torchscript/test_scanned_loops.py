"""Long loops under `jax.jit` as `jax.lax.scan`, against torch."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

from jaxvoice.errors import CheckpointError, UnsupportedOperatorError
from jaxvoice.torchscript import State
from jaxvoice.torchscript.scanned_loops import _carry
from jaxvoice.torchscript.tensors import OperatorError
from tests.torchscript.script_agreement import assert_same, scripted

ROUNDS = 12


@pytest.fixture(autouse=True)
def _short_loops_are_long(monkeypatch):
    monkeypatch.setattr("jaxvoice.torchscript.operator_calls.MIN_SCANNED", 1)


START = "h = torch.zeros([3])\nrows: List[torch.Tensor] = []\n"

FOR = "for t in range(x.size(0)):\n"

PROGRAMS = {
    "recurrent": FOR + "    h = torch.tanh(x[t] + h)\n    rows.append(h)\nreturn torch.stack(rows), h",
    "stack at the end": FOR + "    rows.append(x[t] * t)\nreturn torch.stack(rows, -1), rows[3]",
    "cat": (
        FOR + "    h = h + x[t]\n    rows.append(h[None] * 2)\n"
        "return torch.cat(rows), torch.cat(rows, 1), torch.cat(rows, dim=-1), len(rows)"
    ),
    "two lists": (
        f"more = [x[0], x[1] * 2]\n{FOR}    rows.append(x[t] + 1)\n    rows.append(x[t] + 2)\n"
        "    more.append(rows[0] * x[t])\nreturn torch.stack(rows), torch.stack(more), torch.cat(more)"
    ),
    "written in place": (
        f"y = torch.zeros_like(x)\n{FOR}    h = (h + x[t]) * 0.5\n    y[t] = h\n    y[t, 1:] += 1\nreturn y"
    ),
    "overlap and add": (
        f"y = torch.zeros([2, 2 * x.size(0) + 2])\nw = torch.arange(4)\n{FOR}"
        "    y[:, t * 2:t * 2 + 4] += x[t, 0] * w\nreturn y"
    ),
    "frames": (
        "for t in range(2, x.size(0)):\n    rows.append(x[t - 2:t + 1].mean(0) + x[t - 1:t].sum(0))\n"
        "return torch.stack(rows)"
    ),
    "backwards": (
        "for t in range(x.size(0) - 1, -1, -1):\n    h = h * 0.9 + x[t] - x[x.size(0) - 1 - t]\n    rows.append(h)\n"
        "return torch.stack(rows), h"
    ),
    "slices from the end": (
        "n = x.size(0)\nfor t in range(n - 1):\n    h = h * 0.9 + x[t - n:t - n + 1].sum(0)\nreturn h"
    ),
    "index as tensor": (
        f"{FOR}    h = torch.tanh(h + x[t]) * torch.tensor(t)\n    rows.append(torch.tensor(t, dtype=torch.float32))\n"
        "return h, torch.stack(rows)"
    ),
    "items of a list that grows": (
        f"rows.append(x[0])\n{FOR}    rows.append(x[t] + rows[0])\n    h = h * 0.5 + rows[-1]\n"
        "return torch.stack(rows), h"
    ),
    "steps": "for t in range(1, x.size(0), 3):\n    h = h * 0.9 + x[t] * t\nreturn h",
    "from the end": FOR + "    h = h * 0.9 + x[-1 - t]\nreturn h",
    "over a list": "for row in torch.unbind(x):\n    h = torch.sin(h + row)\nreturn h",
    "list by index": (
        "items = torch.unbind(x * 2)\nfor t in range(len(items)):\n    h = torch.sin(h + items[t])\nreturn h"
    ),
    "counter": f"n = 3\n{FOR}    h = h + x[n - 3 - t * 2] * x[t]\n    n += 2\nreturn h, torch.zeros([n])",
    "temporaries": f"y, n = h, 0\n{FOR}    y = x[t] * 2\n    n = t * 3 + 1\nreturn y, n, torch.ones([n])",
    "pairs": f"p = (h, h + 1)\n{FOR}    p = (p[1] * 0.5, p[0] + x[t])\nreturn p",
    "nested": (
        FOR + "    for i in range(3):\n        h = torch.sin(h + x[t, i])\n    rows.append(h)\nreturn torch.stack(rows)"
    ),
    "scanned in scanned": (FOR + "    for u in range(x.size(0)):\n        h = torch.sin(h + x[t] * x[u])\nreturn h"),
    "minimum": f"m = x[0]\n{FOR}    m = torch.min(m, x[t])\nreturn m",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_scanned_loops_equal_torch(load, monkeypatch, name):
    scans = []
    scan = jax.lax.scan
    monkeypatch.setattr("jaxvoice.torchscript.scanned_loops.lax.scan", lambda *args: scans.append(0) or scan(*args))
    module = scripted(START + PROGRAMS[name])
    run = load(module)
    x = torch.randn(ROUNDS, 3, generator=torch.Generator().manual_seed(0))
    assert_same(module(x), jax.jit(run)({}, x.numpy()))
    assert scans


REFUSED = {
    "branch": ("if t > 5:\n    h = h + 1\nh = h + x[t]", "determines a branch or a shape"),
    "shape": ("h = h + x[:t + 1].sum(0)", "length of a slice depends"),
    "growing": ("h = torch.cat([h, x[t]])", "carry"),
    "number": ("g = g * 0.5\nh = h * g + x[t]", "g is .* in one iteration and .* in the next"),
    "power": ("n = n * 2\nh = h * n + x[t]", "n is .* in one iteration and .* iteration .* in the next"),
    "kind": ("rows = [x[t]]\nh = h + rows[0]", r"rows\d* is \[.* in one iteration"),
    "item": ("rows[0] = h\nh = h + x[t]", "changes the items of a list"),
    "negative": ("h = h + x[t - 3]", "elements -1 to 8 of an axis of size 12"),
    "in place": (
        "k = h\nh = h + x[t]\nk += 1",
        "that a loop returns.*is changed in place",
    ),
    "view": ("h = h + last + x[t]\ny[t] = h\nlast = y[t]", "view of a tensor that a loop changes"),
    "view in a tuple": ("h = h + p[0] + x[t]\ny[t] = h\np = (y[t], h)", r"p\d* is .* in one"),
    "step": ("h = h + x[t:t + 1:2].sum(0)", "has the step 2"),
    "uneven counter": ("n = n + t - 1\nh = h + x[t]", "n does not change by the same number"),
    "axis added in place": ("z.unsqueeze_(0)\nh = h + x[t] + z.sum()", "changes the shape of a tensor in place"),
    "length": ("rows.append(x[t])\nh = h + x[t] * len(rows)", "which the loop appends is read"),
    "item of the iteration before": (
        "h = h + rows[-1]\nrows.append(h + x[t])",
        "which the loop appends is read",
    ),
    "item of an iteration": ("rows.append(x[t])\nh = h + rows[t]", "which the loop appends is read"),
    "list that grows": (
        "rows.append(x[t])\nh = h + torch.stack(rows).sum(0)",
        "which the loop appends is read",
    ),
    "slice that ends at 0": (
        "h = h + x[t - x.size(0):t - x.size(0) + 1].sum(0)",
        "the bounds of a slice range from -10 to 0; only some are negative",
    ),
    "appended numbers": ("numbers.append(t)\nh = h + x[t]", "something other than a tensor is appended"),
    "appended constants": ("numbers.append(3)\nh = h + x[t]", "something other than a tensor is appended"),
    "appended tuples": ("h = h + x[t]\npairs.append((h, h * 2))", "something other than a tensor is appended"),
    "views in a list": ("y[t] = x[t]\nrows.append(y[t])", "view of a tensor that a loop changes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_loops_that_cannot_be_scanned_raise_an_error(load, monkeypatch, name):
    monkeypatch.setattr("jaxvoice.torchscript.operator_calls.MAX_UNROLLED", 15)
    source, message = REFUSED[name]
    body = "".join(f"    {line}\n" for line in source.split("\n"))
    start = "g, n, k, last, p, z = 1.0, 1, h, h, (h, h), x[:3].clone()\ny = torch.zeros_like(x)\nrows.append(h)\n"
    start += "numbers: List[int] = []\npairs: List[Tuple[torch.Tensor, torch.Tensor]] = []\n"
    module = scripted(f"{START}{start}{FOR}{body}return h, y, rows, n, g, last, k, numbers, pairs, p")
    run, x = load(module), torch.randn(ROUNDS, 3, generator=torch.Generator().manual_seed(0))
    reason = rf"It cannot be a jax\.lax\.scan: (?s:.)*{message}(?s:.)*shorter input \(__torch__"
    with pytest.raises(CheckpointError, match=reason):
        jax.jit(run)({}, x.numpy())
    # Without jax.jit it is run as it is.
    assert_same(module(x), run({}, x.numpy()))


def test_loops_that_cannot_be_scanned_are_unrolled(load):
    source = FOR + "    if t > 5:\n        h = h + 1\n    y[t] = h\n    rows.append(h + x[t])\n"
    module = scripted(f"{START}y = torch.zeros_like(x)\n{source}return h, y, rows")
    run, x = load(module), torch.randn(ROUNDS, 3, generator=torch.Generator().manual_seed(0))
    assert_same(module(x), jax.jit(run)({}, x.numpy()))


def test_in_place_changes_of_results_raise_an_error(load):
    module = scripted(f"{START}for t in range(x.size(0)):\n    h = h + x[t]\nh += 1\nreturn h")
    run = load(module)
    with pytest.raises(
        UnsupportedOperatorError,
        match=r"that a loop returns.*is changed in place.*line \d+",
    ):
        jax.jit(run)({}, np.ones((ROUNDS, 3), np.float32))


class Cells(nn.Module):
    """Recurrent cells of torch, with attributes and buffers that change in every iteration."""

    def __init__(self):
        super().__init__()
        self.lstm, self.gru = nn.LSTMCell(3, 4), nn.GRUCell(4, 2)
        self.register_buffer("sum", torch.zeros(2))
        self.register_buffer("rounds", torch.zeros((), dtype=torch.int64))
        self.hidden = torch.zeros(1, 2)
        self.count = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state = (torch.zeros(1, 4), torch.zeros(1, 4))
        rows: list[torch.Tensor] = []
        for t in range(x.size(0)):
            state = self.lstm(x[t : t + 1], state)
            self.hidden = self.gru(state[0], self.hidden)
            self.sum += self.hidden[0]
            self.rounds += 1
            self.count += 1
            rows.append(self.hidden * self.sum)
        return torch.cat(rows)


def test_scanned_loops_change_the_state(load):
    torch.manual_seed(0)
    module = torch.jit.script(Cells())
    run, state = load(module), State()
    step = jax.jit(run.step)
    for seed in range(2):
        x = torch.randn(ROUNDS, 3, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            theirs = module(x)
        ours, state = step(run.weights, state, x.numpy())
        assert_same(theirs, ours)
        for name in ("hidden", "sum", "rounds", "count"):
            assert_same(module._c.getattr(name), state[name])
    assert state["count"] == 2 * ROUNDS and set(state) == {"hidden", "sum", "rounds", "count"}


def test_gradients_of_scanned_loops_equal_torch(load):
    torch.manual_seed(0)
    module = scripted(
        "h = torch.zeros([4])\ny = torch.zeros([12, 4])\nfor t in range(x.size(0)):\n    h = torch.tanh(x[t] @ w + h)\n"
        "    y[t] = h * h\nreturn y",
        "x, w",
    )
    run, x = load(module), torch.randn(ROUNDS, 3)
    w = torch.randn(3, 4, requires_grad=True)
    module(x, w).sum().backward()
    found = jax.jit(jax.grad(lambda w: run({}, x.numpy(), w).sum()))(w.detach().numpy())
    np.testing.assert_allclose(found, w.grad, rtol=1e-4, atol=1e-4)


def test_random_numbers_equal_those_of_the_unrolled_loop(load, key):
    run = load(scripted(f"{START}for t in range(x.size(0)):\n    h = h + torch.randn([3]) * x[t]\nreturn h"))
    x = np.random.default_rng(0).standard_normal((ROUNDS, 3)).astype(np.float32)
    scanned = jax.jit(run)({}, x, key=key)
    np.testing.assert_allclose(scanned, run({}, x, key=key), rtol=1e-5, atol=1e-6)


def test_outputs_of_modules_are_recorded_from_unrolled_loops(load, monkeypatch):
    run, x = load(torch.jit.script(Cells())), jnp.ones((ROUNDS, 3))
    _, outputs = jax.jit(run.record)(run.weights, x)
    assert f"gru#{ROUNDS}" in outputs
    monkeypatch.setattr("jaxvoice.torchscript.operator_calls.MAX_UNROLLED", 30)
    with pytest.raises(CheckpointError, match="outputs of modules are recorded"):
        jax.jit(run.record)(run.weights, x)


def test_loops_of_thousands_of_iterations_are_scanned(load, monkeypatch):
    monkeypatch.undo()
    module = torch.jit.script(Cells())
    run, x = load(module), torch.randn(3000, 3)
    with torch.no_grad():
        theirs = module(x)
    assert_same(theirs, jax.jit(run)(run.weights, x.numpy()), 1e-4)


def test_loops_that_switch_gradients_raise_an_error(run_code, monkeypatch):
    monkeypatch.setattr("jaxvoice.torchscript.operator_calls.MAX_UNROLLED", 15)
    switch = "torch.set_grad_enabled(torch.__not__(torch.is_grad_enabled()))"
    with pytest.raises(CheckpointError, match="switches gradients on or off"):
        run_code(f"y = x\nfor i in range(20):\n  y = torch.add(y, 1)\n  _1 = {switch}\nreturn y", jit=True)


def test_constant_values_are_checked_in_every_iteration():
    run = SimpleNamespace(_key=None)
    snapshot = SimpleNamespace(cells=[({"g": 2.0}, {"g": 1.0})], tensors=[], run=run)
    with pytest.raises(OperatorError, match="g changes"):
        _carry(snapshot, {"cells": [(0, "g", "same")], "tensors": []}, after=True)  # type: ignore[arg-type]

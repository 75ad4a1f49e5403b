"""Control flow, values and classes of scripts against torch, and errors of the interpreter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

from jaxvoice.errors import CheckpointError, ConfigError, UnsupportedOperatorError
from jaxvoice.torchscript import register_operator
from tests.torchscript.script_agreement import scripted

PROGRAMS = {
    "if": "if x.size(0) > 2:\n    y = x + 1\nelse:\n    y = x - 1\nreturn y",
    "elif": (
        "n = x.size(1)\nif n == 1:\n    y = x\nelif n == 4 and n != 3:\n    y = x * 4\nelse:\n    y = -x\nreturn y"
    ),
    "for": "y = x\nfor i in range(3):\n    y = y * i + 1\nreturn y",
    "for with step": "y = x\nfor i in range(6, 0, -2):\n    y = y + i\nreturn y",
    "while": "n = 0\ny = x\nwhile n < 5:\n    y = y + n\n    n += 2\nreturn y, n",
    "break and continue": (
        "y = x\nfor i in range(10):\n    if i == 2:\n        continue\n    if i > 4:\n        break\n"
        "    y = y + i\nreturn y"
    ),
    "early return": "if x.dim() == 2:\n    return x + 1\nfor i in range(3):\n    x = x * 2\nreturn x",
    "nested loops": "total = 0\nfor i in range(3):\n    for j in range(i):\n        total += i * j\nreturn total, x",
    "list": (
        "items = [1, 2]\nitems.append(3)\nitems[0] = 7\nitems.extend([4])\nitems.pop()\nitems.reverse()\n"
        "return items, len(items), items[-1], items[1:], x"
    ),
    "comprehension": "sizes = [n * 2 for n in x.size()]\nreturn sizes, sum(sizes), x",
    "dict": (
        "table: Dict[str, int] = {}\ntable['a'] = 1\ntable['b'] = x.size(0)\ntotal = 0\n"
        "for key, value in table.items():\n    total += value * len(key)\n"
        "return table, total, 'a' in table, list(table.keys())"
    ),
    "tuple": "a, b = x.size(0), x.size(1)\nboth = (a, b, 'text')\nreturn both[2], both[0] + both[1]",
    "text": (
        "name = 'size {} of {}'.format(x.size(0), 'x')\n"
        "return name, name.upper(), '%d and %s' % (3, 'y'), 'a' + 'b', str(2), name == 'no', ' '.join(['a', 'b'])"
    ),
    "numbers": (
        "n = x.size(0)\n"
        "return n // 2, n % 2, n / 2, float(n), int(2.7), 2 ** n, abs(-n), max(n, 2), min(n, 2), -n, round(2.5), "
        "not n == 3, n > 2 or n < 1"
    ),
    "enumerate": "y = x\nfor i, row in enumerate(x):\n    y = y + row * i\nreturn y",
    "zip": "total = 0.0\nfor a, b in zip([1, 2, 3], [0.5, 1.0, 2.0]):\n    total += a * b\nreturn total, x",
    "optional": (
        "m: Optional[torch.Tensor] = None\nif x.size(0) == 3:\n    m = x\ny = x\nif m is not None:\n"
        "    y = y + m\nreturn y"
    ),
    "assert": "assert x.size(1) == 4, 'four columns'\nreturn x",
    "types": "return x.dtype == torch.float32, x.device.type == 'cpu', x.is_cuda, isinstance(x, torch.Tensor)",
    "torch.size in lists": "return torch.zeros([x.size(0), 2]) + x.size(1)",
    "known values": (
        "n = int(torch.tensor([2, 3]).sum())\nm = torch.arange(n).max().item()\nreturn torch.ones(n), m, x"
    ),
    "list of tensors": (
        "rows = [x[i] for i in range(x.size(0))]\nrows[0] = rows[1] * 2\nreturn torch.stack(rows), torch.cat(rows)"
    ),
    "nested lists": "grid = [[1, 2], [3, 4]]\ngrid[1][0] = x.size(0)\nreturn grid, x",
    "sorted": "items = [3, 1, 2]\nitems.sort()\nreturn items, sorted([2, 1]), items.index(2), items.count(1), x",
    "shape arithmetic": "pad = (-x.size(1)) % 8\nreturn F.pad(x, [0, pad]).view(x.size(0), -1, 4)",
    "truth of known": "m = torch.tensor([True, False])\nif bool(m.any()):\n    x = x + 1\nreturn x",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_control_flow_equals_torch(assert_agreement, name):
    assert_agreement(scripted(PROGRAMS[name]), torch.randn(3, 4))


@pytest.mark.parametrize(
    "name", ["while", "known values", "list of tensors", "shape arithmetic", "truth of known", "enumerate"]
)
def test_control_flow_under_jit_equals_torch(load, name):
    module = scripted(PROGRAMS[name])
    run = load(module)
    x = torch.randn(3, 4)
    theirs, ours = module(x), jax.jit(run)(run.weights, x.numpy())
    for one, other in zip(jax.tree.leaves(jax.tree.map(np.asarray, theirs)), jax.tree.leaves(ours), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


class Counter:
    def __init__(self, start: int):
        self.count = start
        self.seen: list[int] = []

    def add(self, n: int) -> int:
        self.seen.append(n)
        self.count += n
        return self.count


def helper(x: torch.Tensor, scale: float = 2.0) -> torch.Tensor:
    return x * scale


class Everything(nn.Module):
    names: list[str]

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.table = nn.ModuleDict({"one": nn.ReLU(), "two": nn.Sigmoid()})
        self.tied = self.parts[0]
        self.names, self.flag, self.scale = ["a", "b"], True, 0.5
        self.free = torch.tensor([1.0, 2.0, 3.0, 4.0])

    @torch.jit.export
    def twice(self, x: torch.Tensor, times: int = 2) -> torch.Tensor:
        return self.shifted(x) * times

    def shifted(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.free

    def forward(self, x: torch.Tensor):
        counter = Counter(1)
        for i, part in enumerate(self.parts):
            x = part(x)
            counter.add(i)
        for name, layer in self.table.items():
            x = layer(x) * len(name)
        if self.flag and "b" in self.names:
            x = helper(x, scale=self.scale) + helper(self.tied(x))
        self.scale = self.scale * 2
        return x + self.scale, counter.count, counter.seen, self.twice(x, 2)


def test_classes_functions_and_attributes_equal_torch(assert_agreement, load):
    torch.manual_seed(0)
    made = torch.jit.script(Everything().eval())
    x = torch.randn(2, 4)
    fresh = torch.jit.script(Everything().eval())
    fresh.load_state_dict(made.state_dict())
    run = assert_agreement(fresh, x)
    # A module of two names has one set of weights; nothing of one call is left for the next.
    assert set(run.weights) == {"parts.0.weight", "parts.0.bias", "parts.1.weight", "parts.1.bias", "free"}
    first, second = (run(run.weights, x.numpy()) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    twice = load(made, method="twice")
    np.testing.assert_allclose(twice(twice.weights, x.numpy(), times=3), made.twice(x, 3).detach(), rtol=1e-6)


def test_branches_on_values_need_eager_calls(load):
    run = load(scripted("if bool((x > 0).all()):\n    y = x + 1\nelse:\n    y = x - 1\nreturn y"))
    for x in (np.ones(3, np.float32), -np.ones(3, np.float32)):
        np.testing.assert_array_equal(run({}, x), x + np.sign(x))
    with pytest.raises(UnsupportedOperatorError, match=r"without jax\.jit"):
        jax.jit(run)({}, np.ones(3, np.float32))


def test_error_for_a_missing_operator_states_its_position(load):
    class Inner(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x + 1
            return torch.special.bessel_j0(y)

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = Inner()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.encoder(x)

    run = load(torch.jit.script(Outer()))
    with pytest.raises(UnsupportedOperatorError) as caught:
        run({}, np.ones(3, np.float32))
    for part in ("torch.special_bessel_j0", "__torch__", "line ", "Inner.forward", "'encoder'", "register_operator"):
        assert part in str(caught.value)
    register_operator("torch.special_bessel_j0")(lambda x: jnp.cos(x))
    np.testing.assert_allclose(run({}, np.ones(3, np.float32)), np.cos(2 * np.ones(3)), rtol=1e-6)
    with pytest.raises(ConfigError, match="replace=True"):
        register_operator("torch.special_bessel_j0")(lambda x: x)
    register_operator("torch.special_bessel_j0", replace=True)(lambda x: x)
    np.testing.assert_array_equal(run({}, np.ones(3, np.float32)), [2, 2, 2])


def test_random_numbers_need_a_key(load, key):
    run = load(scripted("return torch.randn([1000, 3]) + torch.rand_like(x)"))
    with pytest.raises(UnsupportedOperatorError, match="key="):
        run({}, np.zeros(3, np.float32))
    one, again = (np.asarray(jax.jit(run)({}, np.zeros((1000, 3), np.float32), key=key)) for _ in range(2))
    np.testing.assert_array_equal(one, again)
    assert one.mean() == pytest.approx(0.5, abs=0.1) and one.std() == pytest.approx(np.sqrt(1 + 1 / 12), abs=0.1)
    assert not np.array_equal(one, run({}, np.zeros((1000, 3), np.float32), key=jax.random.key(1)))


def test_training_mode_raises_an_error(load):
    run = load(torch.jit.script(nn.Sequential(nn.Dropout(0.5)).train()))
    with pytest.raises(UnsupportedOperatorError, match=r"eval\(\)"):
        run({}, np.ones(3, np.float32))


def test_errors_of_the_program_are_raised(load):
    run = load(scripted("if x.size(0) != 2:\n    raise ValueError('two rows, got {}'.format(x.size(0)))\nreturn x"))
    with pytest.raises(CheckpointError, match="ValueError: two rows, got 3"):
        run({}, np.ones((3, 1), np.float32))


def test_endless_loops_are_stopped(load, monkeypatch):
    monkeypatch.setattr("jaxvoice.torchscript.interpreter.MAX_STEPS", 1000)
    run = load(scripted("n = 0\nwhile n >= 0:\n    n += 1\nreturn x + n"))
    with pytest.raises(CheckpointError, match="steps"):
        run({}, np.ones(1, np.float32))


def test_wrong_weights_raise_an_error(load):
    run = load(torch.jit.script(nn.Linear(2, 3)))
    x = np.ones((1, 2), np.float32)
    for weights, what in (
        ({}, "lack: bias, weight"),
        (run.weights | {"more": x}, "unknown names: more"),
        (run.weights | {"bias": x}, r"bias \(1, 2\) instead of \(3,\)"),
    ):
        with pytest.raises(CheckpointError, match=what):
            run(weights, x)


def test_missing_modules_and_methods_raise_an_error(load):
    made = torch.jit.script(nn.Sequential(nn.Linear(2, 3), nn.ReLU()))
    with pytest.raises(CheckpointError, match=r"there is no module '0.linear'"):
        load(made, "0.linear")
    with pytest.raises(CheckpointError, match="it has forward"):
        load(made, "1", "backward")
    run = load(made)
    with pytest.raises(CheckpointError, match="it should be called with input"):
        run(run.weights)


def test_numbers_beyond_32_bits_raise_an_error(load):
    run = load(scripted("return x + torch.tensor(2 ** 40)".replace("2 ** 40", str(2**40))))
    with pytest.raises(UnsupportedOperatorError, match="64"):
        run({}, np.ones(2, np.int32))

"""The state of modules, chunk by chunk, against torch."""

import operator
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

from jaxvoice.errors import CheckpointError, UnsupportedOperatorError
from jaxvoice.torchscript import State, function
from jaxvoice.weights.formats import open_archive
from tests.torchscript.layer_models import with_code
from tests.torchscript.script_agreement import assert_same


class CachedConv(nn.Module):
    """A causal convolution whose padding is the end of the previous chunk, assigned or written in place."""

    def __init__(self, in_place: bool):
        super().__init__()
        self.conv = nn.Conv1d(2, 3, 4, dilation=2)
        self.in_place = in_place
        self.register_buffer("cache", torch.zeros(1, 2, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cat([self.cache, x], 2)
        if self.in_place:
            self.cache[:, :1] = x[:, :1, -6:]
            self.cache[:, 1].copy_(x[:, 1, -6:])
        else:
            self.cache = x[:, :, -6:]
        return self.conv(x)


class Streams(nn.Module):
    """Convolutions, a recurrent network and changing numbers in nested modules."""

    hidden: torch.Tensor | None
    past: list[torch.Tensor]
    sizes: list[int]
    table: dict[str, float]

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList([CachedConv(False), CachedConv(True)])
        self.gru = nn.GRU(6, 5, batch_first=True)
        self.register_buffer("frames", torch.zeros((), dtype=torch.int64))
        self.calls, self.level, self.mode, self.first = 0, 0.5, "start", True
        self.hidden = None
        self.past, self.sizes, self.table = [torch.zeros(1, 2, 8)], [0], {"sum": 0.0}

    def forward(self, x: torch.Tensor):
        delayed = self.past[0]
        self.past.append(x)
        if len(self.past) > 2:
            self.past.pop(0)
        y = torch.cat([part(x) for part in self.parts], 1)
        y, self.hidden = self.gru(y.transpose(1, 2), self.hidden)
        self.frames += x.size(2)
        self.calls += 1
        self.level = self.level * 0.5 + 0.25 * self.calls
        self.sizes[0] = x.size(2)
        self.sizes.append(self.calls)
        self.table["sum"] += self.level
        if not self.first:
            self.mode = "running"
        self.first = False
        return y, delayed * self.level, self.frames.clone(), self.calls, self.mode, self.sizes[-1]

    @torch.jit.export
    def reset(self):
        self.hidden = None
        self.calls = 0
        for part in self.parts:
            part.cache.zero_()


CHUNKS = [torch.randn(1, 2, 8, generator=torch.Generator().manual_seed(i)) for i in range(5)]


def kept(module: Any, name: str) -> Any:
    """An attribute of a scripted module by dotted name; Python's own attributes may be those of before."""
    return reduce(lambda owner, part: owner.getattr(part), name.split("."), module._c)


def check(module: torch.jit.ScriptModule, state: State) -> None:
    """Assert that a state equals that of torch's module."""
    for name, value in state.items():
        assert_same(kept(module, name), value)


@pytest.fixture
def streams():
    torch.manual_seed(0)
    return torch.jit.script(Streams().eval())


@pytest.mark.parametrize("jit", [False, True])
def test_step_on_chunks_equals_torch(load, streams, jit):
    stream = load(streams)

    def step(weights, state, x):
        outputs, state = stream.step(weights, state, x)
        return outputs[:4], state  # jax.jit returns no text

    if jit:
        step = jax.jit(step)
    state = State()
    for x in CHUNKS[:3]:
        with torch.no_grad():
            theirs = streams(x)
        ours, state = step(stream.weights, state, x.numpy())
        assert_same(theirs[:4], ours)
        check(streams, state)
    numbers = ["calls", "first", "frames", "level", "mode", "sizes", "table"]
    assert sorted(state) == sorted([*numbers, "hidden", "past", "parts.0.cache", "parts.1.cache"])


def test_calls_start_with_the_state_of_the_archive(load, streams):
    stream = load(streams)
    first = [np.asarray(stream(stream.weights, CHUNKS[0].numpy())[0]) for _ in range(2)]
    np.testing.assert_array_equal(*first)
    with torch.no_grad():
        assert_same(streams(CHUNKS[0])[0], first[0])


def test_other_methods_accept_the_state(load, streams):
    run, reset = load(streams), load(streams, method="reset")
    _, state = run.step(run.weights, State(), CHUNKS[0].numpy())
    with torch.no_grad():
        streams(CHUNKS[0])
        streams.reset()
        theirs = streams(CHUNKS[1])
    nothing, state = reset.step(reset.weights, state)
    assert nothing is None and state["hidden"] is None and state["calls"] == 0
    ours, state = run.step(run.weights, state, CHUNKS[1].numpy())
    assert_same(theirs[0], ours[0])
    check(streams, state)


def test_submodules_have_a_state(load, streams):
    stream = load(streams, "parts.1")
    state = State()
    for x in CHUNKS:
        with torch.no_grad():
            theirs = streams.parts[1](x)
        ours, state = stream.step(stream.weights, state, x.numpy())
        assert_same(theirs, ours)
    assert list(state) == ["parts.1.cache"]


@pytest.mark.parametrize("in_place", [False, True])
def test_step_runs_in_a_scan(load, in_place):
    torch.manual_seed(0)
    module = torch.jit.script(CachedConv(in_place))
    stream = load(module)
    with torch.no_grad():
        theirs = torch.stack([module(x) for x in CHUNKS])
    x = np.stack([chunk.numpy() for chunk in CHUNKS])
    state = stream.init_state(x[0])
    np.testing.assert_array_equal(state["cache"], np.zeros((1, 2, 6)))

    def body(state, chunk):
        out, state = stream.step(stream.weights, state, chunk)
        return state, out

    last, ours = jax.jit(lambda state, x: jax.lax.scan(body, state, x))(state, x)
    assert_same(theirs, ours)
    check(module, last)


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.count, self.gain = 0, 1.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count += 2
        self.gain = self.gain * 0.5
        return x * self.count + self.gain


def test_numbers_are_structure_and_can_be_replaced_by_arrays(load):
    module = torch.jit.script(Counting())
    counting, x = load(module), torch.ones(3)
    theirs = torch.stack([module(x) for _ in range(4)])
    compiled = []

    @jax.jit
    def step(state, x):
        compiled.append(0)
        return counting.step({}, state, x)

    state, ours = counting.init_state(x.numpy()), []
    assert dict(state) == {"count": 0, "gain": 1.0}
    for _ in range(4):
        out, state = step(state, x.numpy())
        ours.append(out)
    assert_same(theirs, np.stack(ours))
    assert dict(state) == {"count": 8, "gain": 0.0625} and len(compiled) == 4
    traced = State() | {"count": jnp.asarray(0), "gain": jnp.asarray(1.0)}
    last, ours = jax.lax.scan(lambda s, x: counting.step({}, s, x)[::-1], traced, np.ones((4, 3), np.float32))
    assert_same(theirs, ours)
    assert last["count"] == 8 and last["gain"] == 0.0625


def test_stateless_modules_return_an_empty_state(load):
    linear = load(torch.jit.script(nn.Linear(3, 2)))
    x = np.ones((1, 3), np.float32)
    out, state = linear.step(linear.weights, State(), x)
    np.testing.assert_array_equal(out, linear(linear.weights, x))
    assert dict(state) == {} and not jax.tree.leaves(state) and linear.init_state(x) == state


class Shared(nn.Module):
    """One tensor with two names, changed by either."""

    def __init__(self):
        super().__init__()
        self.part = nn.Module()
        buffer = torch.zeros(3)
        self.register_buffer("mine", buffer)
        self.part.register_buffer("yours", buffer)
        self.part2 = self.part
        self.last = torch.zeros(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.mine += x
        self.last = self.mine
        return self.part.yours * 2 + self.part2.yours

    @torch.jit.export
    def other(self, x: torch.Tensor) -> torch.Tensor:
        self.part2.yours.mul_(2)
        return self.mine + x + self.last

    @torch.jit.export
    def one(self, x: torch.Tensor) -> torch.Tensor:
        self.mine.sub_(x)
        return x

    @torch.jit.export
    def swap(self, x: torch.Tensor) -> torch.Tensor:
        old = self.mine
        self.mine = x * 2
        old.add_(x)
        return x


def test_shared_tensors_stay_shared_in_the_state(load):
    module = torch.jit.script(Shared())
    run, other, one = load(module), load(module, method="other"), load(module, method="one")
    state = State()
    x = torch.tensor([1.0, 2.0, 3.0])
    # The first call reads one name only.
    for call, method in (
        (one, module.one),
        (run, module.forward),
        (other, module.other),
        (run, module.forward),
        (other, module.other),
    ):
        theirs = method(x)
        ours, state = jax.jit(call.step)(call.weights, state, x.numpy())
        assert_same(theirs, ours)
        check(module, state)
    assert [set(group) for group in state.same] == [{"mine", "part.yours", "part2.yours", "last"}]


def test_tensors_changed_after_reassignment_equal_torch(load):
    module = torch.jit.script(Shared())
    swap, run = load(module, method="swap"), load(module)
    x = torch.tensor([1.0, 2.0, 3.0])
    module.swap(x)
    _, state = swap.step(swap.weights, State(), x.numpy())
    check(module, state)
    assert_same(module(x), run.step(run.weights, state, x.numpy())[0])


class Views(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("whole", torch.zeros(4))
        self.end = torch.zeros(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.whole = torch.cat([self.whole[1:], x])
        self.end = self.whole[2:]
        return self.end * 2

    @torch.jit.export
    def write(self, x: torch.Tensor) -> torch.Tensor:
        self.end += x
        return self.whole

    @torch.jit.export
    def window(self, x: torch.Tensor) -> torch.Tensor:
        self.end = self.whole[2:]
        return x


def test_later_in_place_changes_of_views_raise_an_error(load):
    module = torch.jit.script(Views())
    run, write, window = load(module), load(module, method="write"), load(module, method="window")
    x, state = torch.ones(1), State()
    for _ in range(3):
        theirs = module(x).clone()
        ours, state = run.step(run.weights, state, x.numpy())
        assert_same(theirs, ours)
        check(module, state)
    assert state.frozen == ("whole", "end")
    with pytest.raises(UnsupportedOperatorError, match=r"whole|end is changed in place.*\.py, line \d+"):
        write.step(write.weights, state, np.ones(1, np.float32))
    # So is a view of a buffer that does not change itself.
    _, state = window.step(window.weights, State(), x.numpy())
    assert sorted(state) == ["end", "whole"]
    with pytest.raises(UnsupportedOperatorError, match="shared elements"):
        write.step(write.weights, state, np.ones(1, np.float32))


class Cell:
    def __init__(self):
        self.total = torch.zeros(2)
        self.steps = 0

    def add(self, x: torch.Tensor) -> torch.Tensor:
        self.total = self.total + x
        self.steps += 1
        return self.total


class Pair(NamedTuple):
    one: torch.Tensor
    two: torch.Tensor


class Objects(nn.Module):
    cells: list[Cell]
    pair: Pair | None

    def __init__(self):
        super().__init__()
        self.cell = Cell()
        self.cells = [Cell(), Cell()]
        self.pair = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.cell.add(x) + self.cells[1].add(x * 2)

    @torch.jit.export
    def replace(self, x: torch.Tensor) -> torch.Tensor:
        self.cell = Cell()
        return x

    @torch.jit.export
    def named(self, x: torch.Tensor) -> torch.Tensor:
        self.pair = Pair(x, x)
        return x


def test_state_contains_attributes_of_objects_but_no_objects(load):
    module = torch.jit.script(Objects())
    run = load(module)
    x, state = torch.tensor([1.0, -1.0]), State()
    for _ in range(3):
        theirs = module(x)
        ours, state = run.step(run.weights, state, x.numpy())
        assert_same(theirs, ours)
    assert sorted(state) == ["cell.steps", "cell.total", "cells.1.steps", "cells.1.total"]
    assert state["cell.steps"] == 3
    for method, match in (("replace", "assigns to cell an object of"), ("named", "a named tuple to pair")):
        made = load(module, method=method)
        with pytest.raises(CheckpointError, match=match):
            made.step(made.weights, State(), x.numpy())


def test_gradients_through_the_state_equal_torch(load):
    torch.manual_seed(1)
    module = CachedConv(True)
    scripted = torch.jit.script(module)
    run = load(scripted)
    total = torch.zeros(())
    for x in CHUNKS[:3]:
        total = total + scripted(x).pow(2).sum()
        scripted.cache.detach_()

    def loss(weights):
        state, total = State(), 0.0
        for x in CHUNKS[:3]:
            y, state = run.step(weights, state, x.numpy())
            total += (y**2).sum()
        return total

    total.backward()
    found = jax.grad(loss)(run.weights)
    np.testing.assert_allclose(found["conv.weight"], scripted.conv.weight.grad, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found["conv.bias"], scripted.conv.bias.grad, rtol=1e-4, atol=1e-4)


def test_wrong_states_raise_an_error(load):
    run = load(torch.jit.script(CachedConv(True)))
    x = CHUNKS[0].numpy()
    for state, match in (
        ({"cash": x}, "cash, which .* does not have; did you mean cache"),
        ({"cache": 3}, "cache of the state is 3; it should be an array"),
        ({"cache": object()}, "an input is a builtins.object"),
    ):
        with pytest.raises(CheckpointError, match=match):
            run.step(run.weights, state, x)
    with pytest.raises(CheckpointError, match=r"torch\.cat failed"):
        run.step(run.weights, {"cache": np.zeros((1, 3, 6), np.float32)}, x)


class Padding(nn.Module):
    """A buffer that is only written in place, so that its shape and dtype do not change."""

    def __init__(self):
        super().__init__()
        self.register_buffer("cache", torch.zeros(1, 2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cat([self.cache, x], 2)
        self.cache.copy_(x[:, :, -3:])
        return x


def test_tensors_of_a_state_have_the_shapes_and_dtypes_of_the_archive(load):
    run, x = load(torch.jit.script(Padding())), CHUNKS[0].numpy()
    for shape in ((1, 2, 5), (2, 2, 3), (2, 3)):
        with pytest.raises(CheckpointError, match=r"shape of cache in the state is \(.*; it should be \(1, 2, 3\)"):
            run.step(run.weights, {"cache": np.zeros(shape, np.float32)}, x)
    for dtype in (np.int32, bool, np.complex64):
        with pytest.raises(CheckpointError, match=r"dtype of cache in the state is .*; it should be float32"):
            run.step(run.weights, {"cache": np.zeros((1, 2, 3), dtype)}, x)
    _, state = run.step(run.weights, {"cache": jnp.ones((1, 2, 3), jnp.bfloat16)}, x)
    assert state["cache"].dtype == jnp.bfloat16


def test_step_without_a_state_raises_an_error(load):
    run = load(torch.jit.script(CachedConv(True)))
    with pytest.raises(
        CheckpointError, match=r"second argument of step, is a ndarray; it should be a State.*State\(\)"
    ):
        run.step(run.weights, CHUNKS[0].numpy())


class Empty(nn.Module):
    """A cache that is empty until the first call, and one that is assigned and takes the batch size of the input."""

    def __init__(self):
        super().__init__()
        self.register_buffer("empty", torch.zeros(0))
        self.register_buffer("assigned", torch.zeros(1, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.assigned = self.assigned + x
        return self.assigned + self.empty.sum()


def test_shapes_of_states_can_differ_from_the_archive(load):
    run = load(torch.jit.script(Empty()))
    x = np.ones((3, 2), np.float32)
    _, state = run.step({**run.weights}, {"empty": np.ones(4, np.float32)}, x)
    assert state["assigned"].shape == (3, 2)
    y, _ = run.step(run.weights, state, x)
    np.testing.assert_array_equal(y, np.full((3, 2), 6))


class Nested(nn.Module):
    items: list[list[int]]

    def __init__(self):
        super().__init__()
        self.items = [[0]]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_states_with_too_many_items_raise_an_error(tmp_path):
    made, changed = tmp_path / "made.pt", tmp_path / "changed.pt"
    torch.jit.save(torch.jit.script(Nested()), made)
    lines = ["q = self.items", *["q = [q, q]"] * 60, "self.items = q", "return x"]

    def change(text):
        return text.replace("    return x", "\n".join(f"    {line}" for line in lines))

    with open_archive(with_code(made, change, changed)) as archive:
        run = function(archive)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="more than 1,000,000 items"):
        run.step({}, State(), np.ones(1, np.float32))


def test_state_is_a_pytree():
    state = State({"a": jnp.ones(2), "n": 1, "list": [jnp.zeros(1), 2.0, None, "x"]}, same=(("a", "b"),), frozen=("a",))
    paths, structure = jax.tree_util.tree_flatten_with_path(state)
    assert [jax.tree_util.keystr(path) for path, _ in paths] == ["['a']", "['list[0]']"]
    again = jax.tree.map(lambda x: x + 1, state)
    assert again["n"] == 1 and again["list"][1:] == [2.0, None, "x"] and again["list"][0] == 1
    assert again.same == state.same and again.frozen == state.frozen
    for value in (True, 1.0, 2):
        assert jax.tree.structure(state | {"n": value}) != structure
    assert jax.tree.structure(state | {"n": 1}) == structure and hash(structure) is not None
    assert (state | {"a": jnp.zeros(2)}).same == () and operator.length_hint(state) == 3


class OneList(nn.Module):
    """Two attributes that refer to one list, which is changed by one of them."""

    mine: list[torch.Tensor]
    yours: list[torch.Tensor]

    def __init__(self):
        super().__init__()
        self.mine, self.yours = [torch.zeros(2)], []

    @torch.jit.export
    def tie(self):
        self.yours = self.mine

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.mine.append(x)
        return x


def test_shared_lists_raise_an_error(load):
    module = torch.jit.script(OneList())
    module.tie()
    run = load(module)
    with pytest.raises(CheckpointError, match=r"the list of (yours to mine|mine to yours), which a state"):
        run.step(run.weights, State(), np.ones(2, np.float32))


class Number(nn.Module):
    def __init__(self):
        super().__init__()
        self.number = 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.number


@pytest.mark.parametrize("value", [True, 1.0])
def test_numbers_of_another_type_are_part_of_the_state(tmp_path, value):
    made, changed = tmp_path / "made.pt", tmp_path / "changed.pt"
    torch.jit.save(torch.jit.script(Number()), made)
    with open_archive(
        with_code(made, lambda text: text.replace("    number", f"    self.number = {value}\n    number", 1), changed)
    ) as archive:
        run = function(archive)  # type: ignore[arg-type]
    _, state = run.step({}, State(), np.ones(1, np.float32))
    assert type(state["number"]) is type(value)

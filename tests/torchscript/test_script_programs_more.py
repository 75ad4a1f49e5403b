"""Programs with enums, contexts, packed sequences and buffers against torch, and errors for wrong use."""

import enum
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from jaxvoice.errors import CheckpointError, UnsupportedOperatorError
from jaxvoice.torchscript import function, register_operator
from jaxvoice.weights.formats import open_archive
from tests.torchscript.layer_models import with_code
from tests.torchscript.script_agreement import assert_same, inputs_of, scripted, values


class Mode(enum.Enum):
    PLAIN = 1
    DOUBLE = 2


class Settings:
    def __init__(self, factor: int):
        self.factor = factor


class Programs(nn.Module):
    """Scripts with values other than tensors."""

    mask: torch.Tensor
    order: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.mode, self.layer, self.norm = Mode.DOUBLE, nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False)
        self.register_buffer("mask", torch.tensor([True, False, True]))
        self.register_buffer("order", torch.tensor([2, 0]))

    @torch.jit.export
    def unused(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return x + 1

    def forward(this, x: torch.Tensor):
        modes = [Mode.PLAIN, Mode.DOUBLE]
        y = x * 2 if this.mode == Mode.DOUBLE else x
        with torch.no_grad():
            z = y * 3
            on = torch.is_grad_enabled()
        names = [1, 2, 3]
        names.remove(2)
        table = {"a": 1}
        more = table.setdefault("b", 4) + table.setdefault("a", 9)
        w = x.clone()
        w.unsqueeze_(0).mul_(2)
        w.squeeze_(0)
        return (
            y, z, on, torch.is_grad_enabled(), this.layer(y), this.mode.value, this.mode.name,
            modes[0] == this.mode, this.mode != Mode.PLAIN, names, table, more, w,
            this.norm(x), x[this.mask], x[this.order], x.t()[:, this.mask].sum(),
        )  # fmt: skip


def test_programs_equal_torch(load):
    module = torch.jit.script(Programs().eval())
    (x,) = values(0, (3, 4))
    run, theirs = load(module), module(x)
    assert set(run.weights) == {"layer.weight", "layer.bias", "norm.weight", "norm.bias"}
    assert_same(theirs, run(run.weights, x.numpy()))
    # Under jax.jit, what is no array may not come back.
    arrays = jax.jit(lambda weights, x: [part for part in run(weights, x) if isinstance(part, jax.Array)])
    assert_same([part for part in theirs if isinstance(part, torch.Tensor)], arrays(run.weights, x.numpy()))
    unused = load(module, method="unused")
    np.testing.assert_array_equal(unused(unused.weights, x.numpy()), x.numpy() + 1)


def test_no_grad_stops_gradients(load):
    run = load(
        scripted("with torch.no_grad():\n    y = x * 3\nz = x.view(-1) * 2\nreturn (y * x + z.view(2, 2)).sum()")
    )
    (x,) = values(0, (2, 2))
    y = x.clone().requires_grad_()
    (theirs,) = torch.autograd.grad(((y.detach() * 3) * y + y * 2).sum(), y)
    np.testing.assert_allclose(jax.grad(lambda x: run({}, x))(x.numpy()), theirs, rtol=1e-6)


def test_comparing_objects_raises_an_error(load):
    class Comparing(nn.Module):
        def forward(self, x: torch.Tensor):
            return x, [x, x].index(x)

    run = load(torch.jit.script(Comparing()))
    with pytest.raises(UnsupportedOperatorError, match="compared"):
        run({}, np.ones(2, np.float32))


class Packed(nn.Module):
    def __init__(self, kind: type[nn.Module], **options: Any) -> None:
        super().__init__()
        self.rnn = kind(4, 3, batch_first=True, bidirectional=True, **options)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor):
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y, last = self.rnn(packed)
        padded, counts = pad_packed_sequence(y, batch_first=True, padding_value=0.5)
        return padded, counts, last


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("compiled", [False, True])
def test_packed_sequences_equal_torch(load, trace, kind, compiled):
    torch.manual_seed(0)
    model, lengths = Packed(kind, num_layers=2), torch.tensor([3, 6, 1])
    (x,) = values(0, (3, 6, 4))
    for module in (torch.jit.script(model.eval()), trace(model, x, lengths)):
        run = load(module)
        if compiled:
            ours = jax.jit(lambda weights, x, run=run: run(weights, x, lengths.numpy()))(run.weights, x.numpy())
        else:
            ours = run(run.weights, *inputs_of([x, lengths]))
        with torch.no_grad():
            assert_same(module(x, lengths), ours)
    with pytest.raises(UnsupportedOperatorError, match=r"jax\.jit"):
        jax.jit(run)(run.weights, *inputs_of([x, lengths]))


@pytest.mark.parametrize(("count", "matched"), [(3, "64 bits"), (70000, "numbers contains integers of 64 bits")])
def test_integers_of_64_bits_raise_an_error_under_jit(load, count, matched):
    class Wide(nn.Module):
        numbers: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("numbers", torch.full((count,), 2**40))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.numbers[:1] * 2 + x

    run = load(torch.jit.script(Wide()))
    for call in (run, jax.jit(run)):
        with pytest.raises(UnsupportedOperatorError, match="64 bits"):
            call(run.weights, np.ones(1, np.float32))
    with pytest.raises(UnsupportedOperatorError, match=matched):
        jax.jit(run)(run.weights, np.ones(1, np.float32))
    with pytest.raises(CheckpointError, match="64 bits"):
        run(run.weights, np.array([2**40]))


def test_registered_in_place_operators_are_called(load):
    run = load(scripted("y = x.clone()\ny.exp_().neg_()\ny.mvlgamma_(1)\nreturn y"))
    x = np.linspace(0.5, 0.9, 3, dtype=np.float32)
    with pytest.raises(UnsupportedOperatorError, match=r'register_operator\("torch.mvlgamma"\)'):
        run({}, x)
    register_operator("torch.mvlgamma_")(lambda x, p: x * 0 + p)
    np.testing.assert_array_equal(run({}, x), np.ones(3))
    register_operator("torch.mvlgamma_", replace=True)(lambda x, p: jax.lax.lgamma(x))
    assert_same(scripted("return x.exp().neg().mvlgamma(1)")(torch.from_numpy(x)), run({}, x), 1e-4)


def test_errors_for_methods_of_text_state_that_they_cannot_be_registered(load):
    run = load(scripted("y = ''\nif x.size(0) > 1:\n    y = str(x.size(0)).title()\nreturn x, y"))
    with pytest.raises(UnsupportedOperatorError, match=r"torch\.title is not supported.*cannot be registered"):
        run({}, np.ones(2, np.float32))


RAISE = {
    "kernel": ("F.conv1d(x[:1, :11].view(1, 1, 11), torch.ones(1, 1, 12))", "spans 12 elements on 11"),
    "kernel with gaps": ("F.conv1d(x[:1].view(1, 1, 16), torch.ones(1, 1, 9), dilation=2)", "spans 17"),
    "istft without overlap": (
        "torch.istft(torch.complex(x[:9], x[:9]), 16, 4, 16, torch.hann_window(16), center=False)", "not covered",
    ),
    "istft beyond the end": (
        "torch.istft(torch.complex(x[:9], x[:9]), 16, 4, 11, torch.hann_window(11), length=70)", "not covered",
    ),
    "istft hop": ("torch.istft(torch.complex(x[:9], x[:9]), 16, 20, 16, torch.hann_window(16))", "hop_length 20"),
    "window": ("torch.stft(x, 16, 4, 12, torch.hann_window(11), return_complex=True)", "win_length 12"),
    "booleans subtracted": ("(x > 0) - (x > 1)", "subtracted"),
    "factor": ("torch.add(x.int(), x.int(), alpha=0.5)", "factor"),
    "circle": ("F.pad(x, [17, 0], mode='circular')", "circular"),
    "mask beside is_causal": (
        "F.scaled_dot_product_attention(x, x, x, torch.zeros(16, 16), is_causal=True)", "is_causal",
    ),
    "width": ("F.linear(x, torch.ones(3, 5))", r"torch\.linear failed for .*line \d+"),
}  # fmt: skip


def test_invalid_arguments_of_operators_raise_an_error(load):
    (x,) = values(0, (16, 16))
    for name, (source, message) in RAISE.items():
        module = scripted(source)
        with pytest.raises(RuntimeError):
            module(x)
        with pytest.raises(CheckpointError, match=message):
            load(module)({}, x.numpy())
            pytest.fail(name)


def test_istft_returns_nan_for_samples_without_a_window(load):
    run = load(scripted("torch.istft(torch.complex(x, x), 16, 4, 16, y, center=False)", "x, y"))
    y = np.asarray(jax.jit(run)({}, np.ones((9, 5), np.float32), torch.hann_window(16).numpy()))
    assert np.isnan(y[0]) and np.isfinite(y[1:]).all()


def test_wrong_inputs_raise_an_error(load):
    class Two(nn.Module):
        def forward(this, x: torch.Tensor, n: int = 1) -> torch.Tensor:
            return x + n

    run = load(torch.jit.script(Two()))
    x = np.ones(2, np.float32)
    for inputs, message in (
        ((), "called with 0 arguments by .*; it should be called with x, n"),
        ((x, 1, 2), "called with 3 arguments by .*; it should be called with x, n"),
        ((3,), "x of forward is 3; it should be an array"),
        (("text",), "x of forward is 'text'; it should be an array"),
        ((torch.ones(2),), r"an input is a torch\.Tensor; it should be an array"),
        ((np.array(["a"]),), "dtype of an input is <U1; it should be a dtype of numbers"),
    ):
        with pytest.raises(CheckpointError, match=message):
            run({}, *inputs)
    np.testing.assert_array_equal(run({}, x, n=2), [3, 3])


class Pair(NamedTuple):
    first: torch.Tensor
    second: torch.Tensor


class Pairs(nn.Module):
    def made(self, x: torch.Tensor) -> Pair:
        return Pair(x, x * 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pair = self.made(x)
        return pair.first - pair.second * 2


def test_programs_with_named_tuples_equal_torch(assert_agreement):
    assert_agreement(torch.jit.script(Pairs()), torch.tensor([1.0, 2.0]))


def test_named_tuples_have_named_items(tmp_path):
    made, changed = tmp_path / "made.pt", tmp_path / "changed.pt"
    torch.jit.save(torch.jit.script(Pairs()), made)

    def change(text):
        return text.replace("(pair)[0]", "(pair).first").replace("(pair)[1]", "(pair).second")

    with_code(made, change, changed)
    with open_archive(changed) as archive:
        run = function(archive)  # type: ignore[arg-type]
    x = torch.tensor([1.0, 2.0])
    assert_same(torch.jit.load(changed)(x), run({}, x.numpy()))

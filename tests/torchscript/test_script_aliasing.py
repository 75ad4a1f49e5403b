"""In-place operators and views: tensors that share elements in torch change together, or raise an error."""

import functools

import jax
import numpy as np
import pytest
import torch

from jaxvoice.errors import UnsupportedOperatorError
from tests.torchscript.script_agreement import assert_same, scripted_methods, values

AGREE = {
    "add_": "y = x * 1\ny += 2\nreturn y",
    "add_ mixed": "y = x * 1\ny.add_(x, alpha=2).mul_(3)\nreturn y",
    "input seen after": "y = x\ny += 1\nreturn x, y",
    "row": "y = torch.zeros(3, 4)\ny[0] = 2.0\ny[:, 1] += 3\ny[1:, 2:] = x[:2, :2]\nreturn y",
    "view sees base": "y = x * 1\nv = y[:, 1:3]\ny.mul_(2)\nreturn v, y",
    "base sees view": "y = x * 1\nv = y[:, 1:3]\nv.add_(5)\nreturn y, v",
    "view of view": "y = x * 1\nv = y.transpose(0, 1)\nw = v[1:]\nw[0].fill_(7.0)\nreturn y, v, w",
    "siblings": "y = x * 1\na = y[0]\nb = y[:, 0]\na.zero_()\nb.add_(1)\nreturn a, b, y",
    "view shape": "y = x * 1\nv = y.view(2, -1)\nv[0] = 1.0\nreturn y, v",
    "unsqueeze": "y = x * 1\nv = y.unsqueeze(0).squeeze(0).t()\nv[0].neg_()\nreturn y, v",
    "chunks": "y = x * 1\na, b = torch.chunk(y, 2, 1)\na *= 2\nb -= a\nreturn y, a, b",
    "split": "y = x * 1\nfor part in torch.split(y, 1):\n    part.mul_(part)\nreturn y",
    "unbind": "y = x * 1\nfor part in y.unbind(1):\n    part.copy_(part + 1)\nreturn y",
    "detach": "y = x * 1\ny.detach().add_(1)\nreturn y",
    "to is x": "y = x * 1\nz = y.to('cpu')\nz.add_(1)\nreturn y",
    "clone is not x": "y = x * 1\nz = y.clone()\nz.add_(1)\nreturn y, z",
    "mask": "y = x * 1\ny[x > 0] = 0.0\ny.masked_fill_(x < -1, 9.0)\nreturn y",
    "index": "y = x * 1\ny[:, [0, 2]] = 0.5\ny[[1, 0]] = x[:2]\nreturn y",
    "relu_": "y = x * 1\nz = F.relu(y, inplace=True)\nreturn y, z",
    "list of one tensor": "y = x * 1\nitems = [y, y]\nitems[0] += 1\nreturn items[1]",
    "loop": "y = torch.zeros(4, 3)\nfor i in range(4):\n    y[i] = x[:, i] * i\nreturn y",
    "loop over itself": "y = x * 1\nfor i in range(1, 4):\n    y[:, i] += y[:, i - 1]\nreturn y",
    "broadcast copy_": "y = torch.zeros(3, 4)\ny.copy_(x[0])\nreturn y",
    "whole numbers": "y = torch.zeros(3, 4, dtype=torch.long)\ny += 2\ny[0] = 5.7\nreturn y",
    "same shape reshape": "y = x * 1\nz = y.reshape(3, 4)\nz += 1\nreturn y",
    "clamp_ of view": "y = x * 1\ny[1:].clamp_(min=0.0)\nreturn y",
    "step": "y = x * 1\ny[:, ::2] = 0.0\ny[::2, 1] = 4.0\nreturn y",
    "index_put_ adds": "y = x * 1\ny.index_put_([torch.tensor([0, 0])], x[:2], True)\nreturn y",
    "complex parts": (
        "y = torch.complex(x, x)\nv = torch.view_as_real(y)\nv[..., 1] = 3.0\nreturn torch.view_as_real(y)"
    ),
    "real and imaginary part": (
        "y = torch.complex(x, x)\nv = torch.imag(y)\nv.add_(1)\ntorch.real(y).mul_(2)\nreturn torch.view_as_real(y), v"
    ),
    "reshape read only": "y = x.reshape(-1) + x.contiguous().sum()\nreturn y",
    "reshape then only it": "y = (x * 1).t().reshape(-1)\ny += 1\nreturn y",
    "scatter_": "y = x * 1\ny.scatter_(1, torch.tensor([[0], [1], [2]]), 8.0)\nreturn y",
    "expand read only": "y = x * 1\nv = y[:, :1].expand(3, 4)\ny += 1\nreturn v, y",
    "axes in place": "y = x * 1\ny.unsqueeze_(0)\ny.add_(1)\ny.squeeze_()\ny[0] = 2.0\nreturn y",
    "axes of a view in place": "y = x * 1\nv = y[:1]\nv.squeeze_(0)\nv.add_(1)\nreturn y, v",
    "dict": "y = x * 1\ntable = {'a': y}\ny.add_(1)\nreturn table['a']",
}


@functools.cache
def programs():
    """All programs as methods of one module, and their results one after another."""
    methods = {f"m{i}": body for i, body in enumerate(AGREE.values())}
    return scripted_methods(methods | {"forward": f"({', '.join(f'self.{name}(x.clone())' for name in methods)})"})


@pytest.mark.parametrize("jit", [False, True])
def test_in_place_operators_and_views_equal_torch(load, jit):
    (x,) = values(0, (3, 4))
    run = load(programs())
    for name, theirs, ours in zip(AGREE, programs()(x), (jax.jit(run) if jit else run)({}, x.numpy()), strict=True):
        try:
            assert_same(theirs, ours)
        except AssertionError as failure:
            raise AssertionError(f"{name}: {failure}") from failure


def test_traces_write_through_views(assert_agreement, trace):
    class Traced(torch.nn.Module):
        def forward(self, x):
            y = torch.zeros(3, 4)
            y[:, 0] = x[:, 1]
            y[1:, 1:] += 2.5
            row = y[2]
            row.mul_(x[0])
            y[y > 1] = -1
            return y, row

    (x,) = values(0, (3, 4))
    assert_agreement(trace(Traced(), x), x, jit=True)


REFUSED = {
    "dropout": "y = x * 1\nz = F.dropout(y, 0.5, False)\nz.add_(1)\nreturn y",
    "base changed": "y = x * 1\nz = y.t().reshape(-1)\ny += 1\nreturn z",
    "copy changed": "y = x * 1\nz = y.t().reshape(-1)\nz += 1\nreturn y",
    "contiguous": "y = (x * 1).t()\nz = y.contiguous()\nz += 1\nreturn y",
    "flatten": "y = x * 1\nz = y.flatten()\ny[0] = 1.0\nreturn z",
    "view of copy": "y = x * 1\nz = y.t().reshape(2, 6)[0]\nz.zero_()\nreturn y[1]",
    "two copies": "y = x * 1\na = y.contiguous()\nb = y.contiguous()\na += 1\nreturn b",
    "chain": "y = x * 1\na = y.contiguous()\nb = a.t().reshape(-1)\ny += 1\nreturn b",
    "expanded": "y = x[:, :1].clone().expand(3, 4)\ny += 1\nreturn y",
    "windows": "y = x * 1\ny.unfold(1, 2, 1).zero_()\nreturn y",
    "metadata": "y = x * 1\nv = y[0]\ny.unsqueeze_(0)\nreturn y, v",
    "transposed": "y = x * 1\ny.t_()\nreturn y",
    "strides": "return x.as_strided([2], [1])\n",
    "type": "y = x * 1\nz = y.to(torch.float32)\nz += 1\nreturn y",
}


def test_results_that_depend_on_the_memory_layout_raise_an_error(load):
    module = scripted_methods({f"m{i}": body for i, body in enumerate(REFUSED.values())} | {"forward": "return x"})
    for i, name in enumerate(REFUSED):
        run = load(module, method=f"m{i}")
        with pytest.raises(UnsupportedOperatorError, match=r"\.py, line \d+"):
            run(run.weights, np.ones((3, 4), np.float32))
            pytest.fail(name)


def test_inputs_and_weights_are_not_changed(load):
    class Counting(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("total", torch.zeros(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.total += 1
            x += self.total
            return x

    run = load(torch.jit.script(Counting()))
    x = jax.numpy.ones(3)
    for _ in range(2):
        np.testing.assert_array_equal(run(run.weights, x), [2, 2, 2])
    np.testing.assert_array_equal(x, [1, 1, 1])


def test_shared_elements_of_the_archive_are_not_changed(load):
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            whole = torch.zeros(4)
            self.register_buffer("whole", whole)
            self.register_buffer("part", whole[1:3])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.part.add_(x)
            return self.whole

    run = load(torch.jit.script(Tied()))
    with pytest.raises(UnsupportedOperatorError, match="share"):
        run(run.weights, np.ones(2, np.float32))

"""NaN, infinity, ties and numbers out of range beside torch."""

import jax
import pytest
import torch

from tests.torchscript.script_agreement import inputs_of, same, scripted, values

SPECIAL = torch.tensor([float("nan"), float("inf"), -float("inf"), 0.7, -0.7, 0.0])
FUNCTIONS = [
    *("relu", "relu6", "hardswish", "hardsigmoid", "hardtanh", "leaky_relu", "elu", "celu", "selu", "gelu", "silu"),
    *("mish", "logsigmoid", "softplus", "softsign", "hardshrink", "softshrink", "tanhshrink"),
]
EXPRESSIONS = [
    *(f"F.{name}(x)" for name in FUNCTIONS),
    *(f"torch.{name}(x)" for name in ("sign", "sgn", "sigmoid", "tanh", "frac", "abs", "floor", "isfinite", "exp")),
    "F.gelu(x, approximate='tanh')",
    "F.threshold(x, 1.0, 0.0)",
    "F.threshold(x, 0.5, 2.0)",
    "torch.clamp(x, -1.0, 1.0)",
    "torch.clamp(x, min=0.0)",
    "torch.clamp_max(x, 0.0)",
    "torch.maximum(x, x.flip(0))",
    "torch.fmax(x, x.flip(0))",
    "torch.fmin(x, x.flip(0))",
    "torch.heaviside(x, x)",
    "torch.xlogy(x, x)",
    "torch.nan_to_num(x)",
    "torch.softmax(x[1:], 0)",
    "torch.logsumexp(x[2:], 0)",
    "F.prelu(x, torch.tensor([0.1]))",
]
# The last ones are beyond 32 bits; what whole numbers of 64 bits are of these, JAX cannot hold.
NUMBERS = torch.tensor([300.0, -5.0, 70000.0, -129.7, 3.9, float("nan"), float("inf"), -float("inf"), 3e9, -1e10])
CONVERSIONS = [
    *(f"x.to(torch.{kind})" for kind in ("uint8", "int8", "int16")),
    "x.half().to(torch.uint8)",
    "torch.zeros(10, dtype=torch.int8).copy_(x)",
    "x[:6].int()",
    "x.to(torch.int16).to(torch.uint8)",
]
RANKS = [
    "torch.quantile(x, 0.3, interpolation='nearest')",
    "torch.quantile(y, 0.5, interpolation='nearest')",
    "torch.quantile(y, 0.5, 0, True, interpolation='nearest')",
    "torch.quantile(z, torch.tensor([0.1, 0.5, 1.0, 0.25]), 1, True, interpolation='nearest')",
    "torch.quantile(z, torch.tensor([0.1, 0.5]), interpolation='nearest')",
    "torch.quantile(w, 0.5, 1, interpolation='nearest')",
    "torch.nanquantile(w, 0.5, 1, interpolation='nearest')",
    "torch.nanquantile(w, torch.tensor([0.25, 0.5]), 0, interpolation='nearest')",
    *(f"torch.quantile(x, 0.3, interpolation='{how}')" for how in ("lower", "higher", "midpoint", "linear")),
]
HOLES = torch.tensor([[1.0, float("nan"), 2.0, 3.0], [4.0, -1.0, 0.0, 7.0], [float("nan")] * 4])


def agree_on(load, sources, arguments, inputs, tolerance=1e-5):
    module = scripted(f"({', '.join(f'({source},)' for source in sources)})", arguments)
    run = load(module)
    theirs, ours = module(*inputs), jax.jit(run)(run.weights, *inputs_of(inputs))
    failures = []
    for source, one, other in zip(sources, theirs, ours, strict=True):
        try:
            same(one, other, tolerance)
        except AssertionError as failure:
            failures.append(f"{source}: {failure}")
    assert not failures, "\n".join(failures)


def test_functions_of_special_values(load):
    agree_on(load, EXPRESSIONS, "x", [SPECIAL])


def test_conversions_wrap(load):
    agree_on(load, CONVERSIONS, "x", [NUMBERS])


@pytest.mark.parametrize("dim", ["", "dims"])
def test_ranks_at_ties(load, dim):
    x, y, z = values(0, (6,), (100,), (3, 5))
    sources = [source for source in RANKS if ("torch.tensor" in source) == bool(dim)]
    agree_on(load, sources, "x, y, z, w", [x, y, z, HOLES])


NUMERIC = "math.log(a), math.log10(a), math.log1p(a), math.sqrt(a), math.exp(-a * 1e3), math.sin(a), math.tan(a)"


@pytest.mark.parametrize("a", [-3.3, 0.0, -1.0, float("inf"), float("nan"), 2.0, -1e4])
def test_numbers_out_of_the_domain(load, a):
    source = f"return {NUMERIC}, math.pow(a, 0.5), math.pow(a, 3.0), math.fmod(3.0, a), math.log(a, 2.0), a ** 0.5"
    module = scripted(source, "x, a: float")
    for one, other in zip(module(torch.ones(1), a), load(module)({}, torch.ones(1).numpy(), a), strict=True):
        assert other == pytest.approx(one, nan_ok=True)

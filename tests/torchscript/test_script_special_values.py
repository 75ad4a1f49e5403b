"""NaN, infinity and numbers out of range, beside closed forms in double precision.

torch is not the truth here: at infinity, its vectorised kernels differ from one processor to another.
"""

import math

import numpy as np
import pytest
import torch

from tests.torchscript.script_agreement import scripted

SPECIAL = np.array([math.nan, math.inf, -math.inf, 0.7, -0.7, 0.0])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def relu6(x):
    return np.minimum(np.maximum(x, 0), 6)


def softplus(x):
    return np.logaddexp(x, 0)


def erf(x):
    return np.vectorize(math.erf)(x)


def elu(x, alpha=1.0, scale=1.0):
    return scale * np.where(x > 0, x, alpha * np.expm1(x))


CLOSED_FORMS = {
    "F.relu(x)": lambda x: np.maximum(x, 0),
    "F.relu6(x)": relu6,
    "F.hardswish(x)": lambda x: x * relu6(x + 3) / 6,
    "F.hardsigmoid(x)": lambda x: relu6(x + 3) / 6,
    "F.hardtanh(x)": lambda x: np.clip(x, -1, 1),
    "F.leaky_relu(x)": lambda x: np.where(x > 0, x, 0.01 * x),
    "F.prelu(x, torch.tensor([0.1]))": lambda x: np.where(x > 0, x, 0.1 * x),
    "F.elu(x)": elu,
    "F.celu(x)": elu,
    "F.selu(x)": lambda x: elu(x, 1.6732632423543772, 1.0507009873554805),
    "F.gelu(x)": lambda x: x * (1 + erf(x / math.sqrt(2))) / 2,
    "F.gelu(x, approximate='tanh')": lambda x: x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
    "F.silu(x)": lambda x: x * sigmoid(x),
    "F.mish(x)": lambda x: x * np.tanh(softplus(x)),
    "F.logsigmoid(x)": lambda x: -softplus(-x),
    "F.softplus(x)": softplus,
    "F.softsign(x)": lambda x: x / (1 + np.abs(x)),
    "F.hardshrink(x)": lambda x: np.where(np.abs(x) <= 0.5, 0, x),
    "F.softshrink(x)": lambda x: np.where(np.isnan(x), x, np.sign(x) * np.maximum(np.abs(x) - 0.5, 0)),
    "F.tanhshrink(x)": lambda x: x - np.tanh(x),
    "F.threshold(x, 0.5, 2.0)": lambda x: np.where(x <= 0.5, 2.0, x),
    "torch.sign(x)": lambda x: np.where(np.isnan(x), 0, np.sign(x)),
    "torch.sigmoid(x)": sigmoid,
    "torch.tanh(x)": np.tanh,
    "torch.abs(x)": np.abs,
    "torch.floor(x)": np.floor,
    "torch.isfinite(x)": np.isfinite,
    "torch.exp(x)": np.exp,
    "torch.clamp(x, -1.0, 1.0)": lambda x: np.clip(x, -1, 1),
    "torch.clamp(x, min=0.0)": lambda x: np.maximum(x, 0),
    "torch.clamp_max(x, 0.0)": lambda x: np.minimum(x, 0),
    "torch.maximum(x, x.flip(0))": lambda x: np.maximum(x, x[::-1]),
    "torch.softmax(x[2:], 0)": lambda x: np.exp(x[2:]) / np.exp(x[2:]).sum(),
    "torch.softmax(x[2:3], 0)": lambda x: np.array([math.nan]),
    "torch.logsumexp(x[2:], 0)": lambda x: np.log(np.exp(x[2:]).sum()),
}


def test_functions_of_special_values_equal_closed_forms(load):
    run = load(scripted(f"({', '.join(CLOSED_FORMS)})"))
    ours = run(run.weights, SPECIAL.astype(np.float32))
    with np.errstate(all="ignore"):
        for (source, truth), found in zip(CLOSED_FORMS.items(), ours, strict=True):
            np.testing.assert_allclose(found, truth(SPECIAL), rtol=1e-5, atol=1e-6, err_msg=source)


def test_conversions_to_few_bits_drop_the_upper_bits(load):
    run = load(
        scripted("x.to(torch.uint8), x.to(torch.int8), x.to(torch.int16), torch.zeros(8, dtype=torch.int8).copy_(x)")
    )
    x = np.array([300.0, -5.0, 70000.0, -129.7, 3.9, math.nan, math.inf, -1e10], np.float32)
    # The whole parts; NaN, and what 32 bits cannot hold, count as 0.
    whole = np.array([300, -5, 70000, -129, 3, 0, 0, 0])
    for found, dtype in zip(run({}, x), (np.uint8, np.int8, np.int16, np.int8), strict=True):
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, (whole % 2 ** np.iinfo(dtype).bits).astype(dtype))


def test_functions_of_numbers_out_of_the_domain_equal_torch(load):
    source = (
        "return math.log(a), math.log10(a), math.sqrt(a), math.exp(-a * 1e3), math.sin(a), math.pow(a, 0.5), a ** 3.0"
    )
    module = scripted(source, "x, a: float")
    run = load(module)
    for a in (-3.3, 0.0, -1.0, math.inf, math.nan, 2.0, -1e4):
        for one, other in zip(module(torch.ones(1), a), run({}, np.ones(1, np.float32), a), strict=True):
            assert other == pytest.approx(one, nan_ok=True)

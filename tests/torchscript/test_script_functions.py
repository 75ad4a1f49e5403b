"""Functions of each element beside torch, scripted and traced, with their types."""

import pytest
import torch

from tests.torchscript.script_agreement import both, values

FLOAT, POSITIVE, UNIT = (
    (2, 3),
    torch.tensor([[0.3, 1.0, 2.5], [7.0, 0.01, 4.0]]),
    torch.linspace(-0.9, 0.9, 6).reshape(2, 3),
)
WHOLE, SMALL = torch.tensor([[1, -2, 3], [4, 5, -6]]), torch.tensor([[3, 2, -2], [1, 2, 4]])
MASK, OTHER = (
    torch.tensor([[True, False, True], [False, False, True]]),
    torch.tensor([[True, True, False], [False, True, True]]),
)
COMPLEX = torch.complex(torch.randn(2, 3, generator=torch.Generator().manual_seed(1)), torch.ones(2, 3))
SCALAR, COUNT = torch.tensor(1.5), torch.tensor(3)
ROW = (3,)

CASES = [
    *(
        (f"torch.{name}(x)", [FLOAT])
        for name in [
            "abs",
            "neg",
            "sign",
            "square",
            "relu",
            "floor",
            "ceil",
            "trunc",
            "frac",
            "exp",
            "expm1",
            "sin",
            "cos",
            "tan",
            "sinh",
            "cosh",
            "tanh",
            "asinh",
            "atan",
            "erf",
            "erfc",
            "sigmoid",
            "isnan",
            "isinf",
            "isfinite",
            "reciprocal",
            "exp2",
            "sinc",
            "deg2rad",
            "rad2deg",
            "logical_not",
            "signbit",
            "sgn",
            "round",
            "nan_to_num",
        ]
    ),
    *(
        (f"torch.{name}(x)", [POSITIVE])
        for name in ["sqrt", "rsqrt", "log", "log2", "log10", "log1p", "lgamma", "digamma"]
    ),
    *((f"torch.{name}(x)", [UNIT]) for name in ["asin", "acos", "atanh", "arcsin"]),
    ("torch.acosh(x + 1.0)", [POSITIVE]),
    *(
        (f"torch.{name}(x)", [WHOLE])
        for name in [
            "abs",
            "neg",
            "sign",
            "sin",
            "exp",
            "sigmoid",
            "tanh",
            "floor",
            "ceil",
            "trunc",
            "reciprocal",
            "bitwise_not",
            "relu",
            "isnan",
            "round",
            "square",
            "logical_not",
        ]
    ),
    *((f"torch.{name}(x)", [MASK]) for name in ["logical_not", "bitwise_not", "exp"]),
    *(
        (f"torch.{name}(x)", [COMPLEX])
        for name in ["abs", "angle", "neg", "exp", "sqrt", "conj", "real", "imag", "reciprocal"]
    ),
]


@pytest.mark.parametrize(("source", "shapes"), CASES, ids=[f"{n}-{source}" for n, (source, _) in enumerate(CASES)])
def test_equals_torch(agree, source, shapes):
    inputs = values(0, *shapes)
    for module in both(source, inputs):
        agree(module, *inputs)

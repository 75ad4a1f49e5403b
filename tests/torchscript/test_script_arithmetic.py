"""Arithmetic, comparisons and conversions, beside torch, scripted and traced, with mixed types."""

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
        (f"torch.{name}(x, y)", [a, b])
        for name in ["add", "sub", "mul", "div", "maximum", "minimum", "eq", "ne", "lt", "le", "gt", "ge"]
        for a, b in [
            (FLOAT, FLOAT),
            (FLOAT, WHOLE),
            (WHOLE, SMALL),
            (FLOAT, SCALAR),
            (WHOLE, SCALAR),
            (SCALAR, COUNT),
            (FLOAT, ROW),
        ]
    ),
    *(
        (f"torch.{name}(x, y)", [WHOLE, SMALL])
        for name in ["remainder", "fmod", "floor_divide", "bitwise_and", "bitwise_or", "bitwise_xor", "logical_and"]
    ),
    *(
        (f"torch.{name}(x, y)", [FLOAT, POSITIVE])
        for name in ["remainder", "fmod", "floor_divide", "atan2", "hypot", "logical_xor"]
    ),
    *(
        (f"torch.{name}(x, y)", [MASK, OTHER])
        for name in ["logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or", "add", "mul", "eq"]
    ),
    *((f"x {op} {value}", [a]) for op in ["+", "-", "*", "/"] for value in ("2", "2.5") for a in (FLOAT, WHOLE)),
    *((f"{value} {op} x", [a]) for op in ["+", "-", "*"] for value in ("2", "2.5") for a in (FLOAT, WHOLE)),
    ("2 / x", [POSITIVE]),
    ("x % 2", [FLOAT]),
    ("x % 3", [WHOLE]),
    ("x // 2", [WHOLE]),
    ("x // 0.7", [FLOAT]),
    ("-x % 3", [WHOLE]),
    ("x + y", [MASK, COUNT]),
    ("x * 2", [MASK]),
    ("x * 2.0", [MASK]),
    ("x + y", [COMPLEX, FLOAT]),
    ("x * 2.0", [COMPLEX]),
    ("x / 2", [COMPLEX]),
    ("torch.add(x, y, alpha=2)", [FLOAT, FLOAT]),
    ("torch.sub(x, y, alpha=3)", [WHOLE, SMALL]),
    ("torch.rsub(x, 2.0)", [FLOAT]),
    ("torch.div(x, y, rounding_mode='floor')", [FLOAT, POSITIVE]),
    ("torch.div(x, y, rounding_mode='trunc')", [FLOAT, POSITIVE]),
    ("torch.div(x, y, rounding_mode='floor')", [WHOLE, SMALL]),
    ("torch.div(x, y, rounding_mode='trunc')", [WHOLE, SMALL]),
    *((f"x ** {power}", [FLOAT]) for power in ("2", "3", "2.0", "0", "-1")),
    ("x ** 0.5", [POSITIVE]),
    ("x ** -0.5", [POSITIVE]),
    ("x ** 2.5", [POSITIVE]),
    ("x ** 2", [WHOLE]),
    ("x ** 2.0", [WHOLE]),
    ("2.0 ** x", [FLOAT]),
    ("2 ** x", [FLOAT]),
    ("x ** y", [POSITIVE, FLOAT]),
    ("x ** y.abs()", [WHOLE, SMALL]),
    ("torch.pow(x, y)", [POSITIVE, COUNT]),
    ("torch.pow(10000, x)", [FLOAT]),
    ("torch.clamp(x, -0.5, 0.5)", [FLOAT]),
    ("torch.clamp(x, min=0.1)", [FLOAT]),
    ("torch.clamp(x, max=0.1)", [FLOAT]),
    ("torch.clamp(x, min=0)", [WHOLE]),
    ("torch.clamp(x, 0.5, 2.5)", [WHOLE]),
    ("torch.clamp(x, y, z)", [FLOAT, UNIT, POSITIVE]),
    ("torch.clamp_min(x, 0.2)", [FLOAT]),
    ("torch.clamp_max(x, 1)", [WHOLE]),
    ("torch.lerp(x, y, 0.3)", [FLOAT, FLOAT]),
    ("torch.lerp(x, y, z)", [FLOAT, FLOAT, FLOAT]),
    ("torch.addcmul(x, y, z, value=0.5)", [FLOAT, FLOAT, FLOAT]),
    ("torch.addcdiv(x, y, z, value=2)", [FLOAT, FLOAT, POSITIVE]),
    ("torch.where(x > 0, x, y)", [FLOAT, FLOAT]),
    ("torch.where(x > 0, x, 0.0)", [FLOAT]),
    ("torch.where(y, x, 1)", [WHOLE, MASK]),
    ("torch.where(y, 1.0, 0.0)", [WHOLE, MASK]),
    ("torch.where(x > 0, x, y)", [FLOAT, ROW]),
    ("x.masked_fill(y, -inf)", [FLOAT, MASK]),
    ("x.masked_fill(y, 3)", [WHOLE, MASK]),
    ("x.masked_fill(y, z)", [FLOAT, MASK, SCALAR]),
    ("x.masked_fill(y, 1.0)", [ROW, MASK]),
    ("torch.complex(x, y)", [FLOAT, FLOAT]),
    ("torch.polar(x, y)", [POSITIVE, FLOAT]),
    ("x.float()", [WHOLE]),
    ("x.int()", [FLOAT]),
    ("x.long()", [FLOAT]),
    ("x.bool()", [WHOLE]),
    ("x.half().float()", [FLOAT]),
    ("x.to(torch.bfloat16).float()", [FLOAT]),
    ("x.double()", [FLOAT]),
    ("x.type_as(y)", [WHOLE, FLOAT]),
    ("x.to(torch.int16)", [FLOAT]),
    ("x.to(y)", [WHOLE, FLOAT]),
    ("x.half() + y", [FLOAT, SCALAR]),
    ("x.half() + y.float()", [FLOAT, FLOAT]),
    ("x.to(torch.uint8) + y.to(torch.int8)", [SMALL.abs(), SMALL]),
    ("x.half() * 2.5", [FLOAT]),
    ("x.int() / y.int()", [WHOLE, SMALL]),
    ("~x & y", [MASK, OTHER]),
    ("x | y", [MASK, OTHER]),
    ("torch.round(x, decimals=1)", [FLOAT]),
    ("torch.float_power(x, 2)", [FLOAT]),
]
TRACE_ONLY = ("x.bool()",)


@pytest.mark.parametrize(("source", "shapes"), CASES, ids=[f"{n}-{source}" for n, (source, _) in enumerate(CASES)])
def test_equals_torch(agree, source, shapes):
    inputs = values(0, *shapes)
    kinds = "t" if "inf" in source or source in TRACE_ONLY else "ts"
    for module in both(source, inputs, kinds=kinds):
        agree(module, *inputs)

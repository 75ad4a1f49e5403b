"""Distributions of random operators, and the arguments of in-place operators."""

import functools

import jax
import numpy as np
import pytest
import torch

from jaxvoice.errors import CheckpointError
from jaxvoice.torchscript.operators import find_operator, operator_names
from tests.torchscript.script_agreement import scripted

# Expressions with the mean and the deviation of their distribution.
DRAWS = {
    "torch.rand([10000])": (0.5, 12**-0.5),
    "torch.randn([10000])": (0, 1),
    "torch.rand_like(x)": (0.5, 12**-0.5),
    "torch.randn_like(x)": (0, 1),
    "x.clone().normal_()": (0, 1),
    "x.clone().normal_(3.0, 0.5)": (3, 0.5),
    "x.clone().uniform_()": (0.5, 12**-0.5),
    "x.clone().uniform_(-1.0, 3.0)": (1, 4 * 12**-0.5),
}


def test_random_operators_have_the_distributions_of_torch(load, key):
    run = load(scripted(f"[{', '.join(DRAWS)}]"))
    # Elements that a draw must not depend on.
    x = np.full(10000, 7.0, np.float32)
    draws = [np.asarray(drawn) for drawn in jax.jit(run)({}, x, key=key)]
    for drawn, (call, (mean, deviation)) in zip(draws, DRAWS.items(), strict=True):
        assert drawn.mean() == pytest.approx(mean, abs=5 * deviation / 100), call
        assert drawn.std() == pytest.approx(deviation, rel=0.1), call
    correlations = np.corrcoef(draws) - np.eye(len(draws))
    assert np.abs(correlations).max() < 0.05, "each draw takes a key of its own"


def test_random_numbers_in_integer_tensors_raise_an_error(load, key):
    run = load(scripted("return x.normal_()"))
    with pytest.raises(CheckpointError, match="int32"):
        run({}, np.ones(3, np.int32), key=key)


def test_in_place_operators_accept_the_arguments_of_their_operators():
    """An in-place operator is derived from another only if torch declares the same arguments and defaults."""
    schemas: dict[str, list[list[tuple[str, str, str | None]]]] = {}
    for schema in torch._C._jit_get_all_schemas():
        arguments = [
            (one.name, str(one.type), repr(one.default_value) if one.has_default_value() else None)
            for one in schema.arguments
        ]
        if "out" not in schema.overload_name and arguments and arguments[0][1] == "Tensor":
            schemas.setdefault(schema.name.removeprefix("aten::"), []).append(arguments)
    names = [name.removeprefix("torch.") for name in operator_names() if not name.endswith("_")]
    found = {name: find_operator(f"torch.{name}_") for name in names}
    derived = [name for name, operator in found.items() if operator and isinstance(operator.call, functools.partial)]
    assert {"add", "clamp", "scatter", "div"} <= set(derived)
    assert not {"rand", "normal"} & set(derived)
    for name in derived:
        for arguments in schemas.get(f"{name}_", []):
            assert arguments in schemas[name], name


def test_every_method_of_lists_and_dicts_is_implemented():
    missing = []
    for schema in torch._C._jit_get_all_schemas():
        first = str(schema.arguments[0].type) if schema.arguments else ""
        if first.startswith(("List[t]", "t[]", "Dict")) and schema.name.startswith("aten::") and "(a!)" in str(schema):
            name = schema.name.replace("aten::", "torch.")
            if find_operator(name, ([1],)) is None:
                missing.append(name)
    assert not missing

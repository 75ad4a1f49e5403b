"""Random operators: their distributions, and that those that work in place take the arguments that torch gives them."""

import functools

import jax
import numpy as np
import pytest
import torch

from jaxvoice.errors import CheckpointError
from jaxvoice.torchscript.operators import find_operator, operator_names
from tests.torchscript.script_agreement import scripted

# What is drawn, with the mean and the deviation of its distribution.
DRAWS = {
    "normal_()": (0, 1),
    "normal_(3.0, 0.5)": (3, 0.5),
    "uniform_()": (0.5, 12**-0.5),
    "uniform_(-1.0, 3.0)": (1, 4 * 12**-0.5),
    "exponential_(2.0)": (0.5, 0.5),
    "log_normal_(0.0, 0.25)": (1.0317, 0.2620),
    "bernoulli_()": (0.5, 0.5),
    "bernoulli_(0.9)": (0.9, 0.3),
    "bernoulli_(torch.tensor(0.2))": (0.2, 0.4),
    "geometric_(0.5)": (2, 2**0.5),
    "random_(10)": (4.5, (99 / 12) ** 0.5),
    "random_(2, 4)": (2.5, 0.5),
    "random_()": (2**23, 2**24 * 12**-0.5),
}


def test_draws_in_place(load, key):
    body = "\n".join(f"y{n} = x.clone()\ny{n}.{call}" for n, call in enumerate(DRAWS))
    module = scripted(f"{body}\nreturn [{', '.join(f'y{n}' for n in range(len(DRAWS)))}]")
    run = load(module)
    # Elements that a draw must not depend on, and that are no probabilities.
    x = np.full(10000, 7.0, np.float32)
    ours = jax.jit(run)({}, x, key=key)
    for draws, (call, (mean, deviation)), theirs in zip(ours, DRAWS.items(), module(torch.from_numpy(x)), strict=True):
        for found in (np.asarray(draws), theirs.numpy()):
            assert found.mean() == pytest.approx(mean, abs=5 * deviation / 100), call
            assert found.std() == pytest.approx(deviation, rel=0.1), call


def test_random_numbers_do_not_go_into_other_types(load, key):
    run = load(scripted("return x.normal_()"))
    with pytest.raises(CheckpointError, match="int32"):
        run({}, np.ones(3, np.int32), key=key)


def test_what_works_in_place_takes_what_the_other_does():
    """An in-place operator follows from another only where torch declares the same arguments and defaults."""
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
    assert {"add", "clamp", "logit", "scatter_reduce", "div"} <= set(derived)
    assert not {"normal", "bernoulli"} & set(derived)
    for name in derived:
        for arguments in schemas.get(f"{name}_", []):
            assert arguments in schemas[name], name


def test_every_method_of_lists_and_dicts_is_there():
    missing = []
    for schema in torch._C._jit_get_all_schemas():
        first = str(schema.arguments[0].type) if schema.arguments else ""
        if first.startswith(("List[t]", "t[]", "Dict")) and schema.name.startswith("aten::") and "(a!)" in str(schema):
            name = schema.name.replace("aten::", "torch.")
            if find_operator(name, ([1],)) is None:
                missing.append(name)
    assert not missing

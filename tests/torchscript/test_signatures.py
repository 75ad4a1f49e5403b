"""Names and defaults of operators, against torch's own schemas."""

import pytest
import torch

from jaxvoice.torchscript.signatures import REQUIRED, bind, defaults, signatures


@pytest.fixture(scope="module")
def schemas():
    found = {}
    for schema in torch._C._jit_get_all_schemas():
        if schema.name.startswith("aten::"):
            found.setdefault(schema.name.removeprefix("aten::"), []).append(schema)
    return found


@pytest.mark.parametrize("name", sorted(signatures()))
def test_signatures_equal_torch(schemas, name):
    theirs = [
        [(a.name, a.default_value if a.has_default_value() else REQUIRED) for a in schema.arguments]
        for schema in schemas[name]
    ]
    for overload in signatures()[name]:
        # torch's functions call the first argument `input`, its schemas `self`.
        mine = list(overload.items())
        by_name = [[a.name for a in schema.arguments if a.kwarg_only] for schema in schemas[name]]
        assert list(overload)[overload.positional :] in by_name
        assert mine in theirs or [("self", mine[0][1]), *mine[1:]] in theirs, (overload, theirs)


def test_bind_selects_the_overload():
    assert bind("avg_pool1d", ["x", [2]], {}) == {"input": "x", "kernel_size": [2]}
    assert bind("mean", ["x", [1], True], {"dtype": None}) == {"input": "x", "dim": [1], "keepdim": True, "dtype": None}
    assert bind("linear", ["x"], {}) is None and bind("linear", list("abcd"), {}) is None
    assert bind("sum", ["x", [2]], {}) == {"input": "x", "dim": [2]}
    assert bind("std", ["x", [1]], {}) == {"input": "x", "dim": [1]}
    assert bind("std", ["x", False], {}) == {"input": "x", "unbiased": False}
    assert bind("contiguous", ["x", 0], {}) is None  # what has no place has a name
    assert bind("no_such_operator", ["x"], {}) is None
    assert defaults("leaky_relu", ["input"])["negative_slope"] == 0.01

"""Tables of operations, activations and weights: addresses, filters, formats and statistics."""

import csv
import io

import equinox as eqx
import jax
import numpy as np
import pytest
from jax import lax, numpy as jnp

from jaxvoice import dissect
from jaxvoice.errors import ConfigError
from jaxvoice.nn import Conv1d, Linear, Module, fold_weight_norm, operation


class Unit(Module):
    """Two layers and products between them."""

    first: Linear
    second: Linear

    def __init__(self, *, key):
        self.first, self.second = Linear(3, 4, key=key), Linear(4, 3, key=key)

    def __call__(self, x):
        y = jnp.sin(self.first(x))
        return self.second(jnp.square(y)) * jnp.sin(x)


class Stack(Module):
    """Two units, one of which is called by a method, and a loop."""

    units: list[Unit]

    def __init__(self, *, key):
        self.units = [Unit(key=k) for k in jax.random.split(key)]

    @operation
    def half(self, x):
        return self.units[1](x)

    def __call__(self, x):
        x = jax.jit(lambda x: self.units[0](x))(x)
        x, _ = lax.scan(lambda carry, _: (jnp.tanh(carry), None), x, length=2)
        return jax.vmap(self.half)(x) - jnp.sin(x)


@pytest.fixture(scope="module")
def stack() -> Stack:
    return dissect.tag({"stack": Stack(key=jax.random.key(0))})["stack"]


X = jax.ShapeDtypeStruct((2, 3), jnp.float32)


def test_operations_have_their_module_and_two_names(stack):
    sines = dissect.activations(stack, X, op="sin")
    assert [(row.name, row.module) for row in sines] == [
        ("sin", "stack.units.0"),
        ("sin_1", "stack.units.0"),
        ("sin_2", "stack.units.1"),
        ("sin_3", "stack.units.1"),
        ("sin_4", "stack"),
    ]
    x = jnp.ones((2, 3))
    names = ["stack.units.0.first", "sin", "sin_1", "stack/sin", "stack.units.1/sin_1"]
    result, found = dissect.capture(stack, names)(x)
    assert list(found) == ["stack.units.0.first", "sin", "sin_1", "stack.units.1/sin_1", "stack/sin"]
    np.testing.assert_array_equal(found["sin"], jnp.sin(found["stack.units.0.first"]))
    np.testing.assert_array_equal(found["sin_1"], jnp.sin(x))
    looped = stack.units[0](x)
    looped = jnp.tanh(jnp.tanh(looped))
    np.testing.assert_allclose(found["stack/sin"], jnp.sin(looped), atol=1e-6)
    np.testing.assert_allclose(found["stack.units.1/sin_1"], jnp.sin(looped), atol=1e-6)
    np.testing.assert_allclose(result, stack(x), atol=1e-6)


def test_an_operation_can_be_edited(stack):
    x = jnp.ones((2, 3))
    edited, _ = dissect.capture(stack, [], edit={"stack.units.0/square": jnp.zeros_like})(x)
    bias = stack.units[0].second.bias
    looped = jnp.tanh(jnp.tanh(bias * jnp.sin(x[0])))
    np.testing.assert_allclose(edited[0], stack(looped[None])[0] * 0 + _after(stack, looped), atol=1e-6)


def _after(stack, looped):
    return stack.units[1](looped) - jnp.sin(looped)


def test_classes_of_modules_and_loops_are_listed(stack):
    rows = dissect.activations(stack, X, modules=True)
    assert [(row.name, row.op, row.shape) for row in rows] == [
        ("stack.units.0.first", "Linear", (2, 4)),
        ("stack.units.0.second", "Linear", (2, 3)),
        ("stack.units.0", "Unit", (2, 3)),
        ("stack.units.1.first", "Linear", (2, 4)),
        ("stack.units.1.second", "Linear", (2, 3)),
        ("stack.units.1", "Unit", (2, 3)),
        ("stack.half", "Stack", (2, 3)),
        ("stack", "Stack", (2, 3)),
    ]
    (tanh,) = dissect.activations(stack, X, op="tanh")
    assert tanh.loop and tanh.shape == (2, 3)
    with pytest.raises(ConfigError, match="'tanh', a result inside a loop"):
        dissect.capture(stack, "tanh")(jnp.ones((2, 3)))


def test_filters_match_at_the_start_and_all_expressions(stack):
    def names(**filters):
        return dissect.activations(stack, X, **filters).names

    assert names(match="sin") == ["sin", "sin_1", "sin_2", "sin_3", "sin_4"]
    assert names(match=r"stack\.units\.1/sin") == ["sin_2", "sin_3"]
    second = ["stack.units.0.second", "stack.units.1.second"]
    assert names(match=[r"stack\.units", ".*second"], modules=True) == second
    assert len(names(match=[r"stack\.units", ".*second"], modules=False)) > 2  # operations in them
    assert names(match="second") == [] and names(match="second$", search=True) == second
    assert names(match="stack", exclude=["stack.*unit", "stack.*/"]) == ["stack.half", "stack"]
    assert names(op=["tanh", "square"]) == ["square", "tanh", "square_1"]
    with pytest.raises(ConfigError, match=r"pattern is '\('; it should be a regular expression"):
        names(match="(")


def test_the_graph_lists_operands(stack):
    table = dissect.graph(stack, X)
    rows = {row.name: row for row in table}
    assert rows["sin"].inputs == ("stack.units.0.first",) and rows["square"].inputs == ("sin",)
    assert rows["mul"].inputs == ("stack.units.0.second", "sin_1")
    assert rows["sin_1"].inputs == ("1",)
    assert rows["stack.units.0"].inputs == ("mul",)
    assert rows["scan"].inputs == ("stack.units.0",) and rows["tanh"].loop and rows["tanh"].inputs == ("input",)
    assert rows["sub"].inputs == ("stack.half", "sin_4") and rows["stack"].inputs == ("sub",)
    assert "length=2" in rows["scan"].parameters
    # A parameter of 0 is listed, but not one that is False.
    (joined,) = dissect.graph(lambda x: jnp.concatenate([x, x]), X, op="concatenate")
    assert "dimension=0" in joined.parameters and "False" not in "".join(row.parameters for row in table)
    assert len(table) == len(dissect.activations(stack, X))


def test_tables_without_tags_list_operations():
    rows = dissect.activations(lambda x: jnp.split(jnp.exp(x), 3, axis=1), X)
    assert [(row.name, row.shape, row.dtype) for row in rows] == [
        ("exp", (2, 3), "float32"),
        *((f"split[{i}]", (2, 1), "float32") for i in range(3)),
    ]
    _, found = dissect.capture(lambda x: jnp.split(jnp.exp(x), 3, axis=1), "split[1]")(jnp.ones((2, 3)))
    np.testing.assert_allclose(found["split[1]"], np.full((2, 1), np.e), rtol=1e-6)


def test_tables_are_text_html_and_csv(stack, tmp_path):
    table = dissect.graph(stack, X)
    lines = str(table).splitlines()
    assert lines[0].split()[:2] == ["name", "op"] and lines[-1] == f"{len(table)} rows"
    assert max(map(len, lines)) <= 120
    assert any(line.startswith("stack.units.0.first") and "2x4" in line for line in lines)
    shown = table._repr_html_()
    assert "max-height: 300px" in shown and "<td>stack.units.0.first</td>" in shown
    read = list(csv.reader(io.StringIO(table.to_csv())))
    assert read[0] == list(table.columns) and len(read) == len(table) + 1
    for name, start in (("t.csv", "name,alias"), ("t.html", "<div"), ("t.txt", "name ")):
        table.write(tmp_path / name)
        assert (tmp_path / name).read_text(encoding="utf-8").startswith(start)
    with pytest.raises(ConfigError, match="cannot be written"):
        table.write(tmp_path / "missing" / "t.csv")
    assert str(dissect.activations(stack, X, match="nothing")) == "0 rows"
    assert "&lt;b&gt;" in dissect.weights({"<b>": jnp.ones(2)})._repr_html_()


def test_weights_have_statistics_and_kernels(key):
    model = {"conv": Conv1d(2, 3, 5, weight_norm=True, key=key), "scale": np.asarray([1.0, np.nan, 3.0], np.float32)}
    table = dissect.weights(model)
    assert sorted(table.names) == ["conv.bias", "conv.weight_g", "conv.weight_v", "scale"]
    rows = {row.name: row for row in dissect.weights(model, folded=True)}
    kernel = np.asarray(fold_weight_norm(model)["conv"].weight)
    row = rows["conv.weight"]
    assert row.shape == (3, 2, 5) and row.dtype == "float32"
    found = (row.min, row.max, row.mean, row.std)
    np.testing.assert_allclose(found, (kernel.min(), kernel.max(), kernel.mean(), kernel.std()), rtol=1e-5)
    assert (rows["scale"].mean, rows["scale"].max) == (2.0, 3.0)
    assert len(rows) == 5
    assert dissect.weights(np.ones(3, np.float32))[0].shape == (3,) and len(dissect.weights({})) == 0
    with pytest.raises(ConfigError, match="model is of type object, which is no pytree of arrays"):
        dissect.weights(object())
    skeleton = eqx.filter_eval_shape(lambda: model["conv"])
    (shape_only,) = dissect.weights(skeleton, match="weight$", folded=True)
    assert shape_only.shape == (3, 2, 5) and shape_only.mean is None

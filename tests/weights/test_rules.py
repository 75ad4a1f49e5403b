"""Rules on small sets of tensors: conversions, errors and reversed rules."""

import ml_dtypes
import numpy as np
import pytest
import torch
from jax import numpy as jnp

from jaxvoice.errors import CheckpointError
from jaxvoice.nn import weight_norm
from jaxvoice.weights.rules import Ignore, Rule, Spec, make_plan
from jaxvoice.weights.tensor_conversions import (
    AddAxis,
    DropAxis,
    Reshape,
    Transpose,
    fold_norm,
    magnitude_of,
    unfold_norm,
)

FLOAT = np.dtype(np.float32)
CONV = (Rule("layers.{i}", "blocks.{i}.conv", norm="weight"), Rule("layers.{i}.bias", "blocks.{i}.conv.bias"))


def specs(arrays):
    return {name: Spec(array.shape, array.dtype) for name, array in arrays.items()}


def wanted(**shapes):
    return {name.replace("__", "."): Spec(shape, FLOAT) for name, shape in shapes.items()}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


HOOKS = {"layers.0.bias": normal(4), "layers.0.weight_g": np.abs(normal(4, 1, 1)), "layers.0.weight_v": normal(4, 3, 5)}
TARGETS = wanted(blocks__0__conv__bias=(4,), blocks__0__conv__weight_g=(4, 1, 1), blocks__0__conv__weight_v=(4, 3, 5))


def carried_out(sources, targets, rules, **options):
    return dict(make_plan(specs(sources), targets, rules, **options).read(sources))


def spelt(arrays, g, v):
    return {k.replace("weight_g", g).replace("weight_v", v): array for k, array in arrays.items()}


@pytest.mark.parametrize(
    ("g", "v"),
    [("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1")],
)
def test_rules_accept_both_forms_of_weight_norm(g, v):
    found = carried_out(spelt(HOOKS, g, v), TARGETS, CONV)
    assert list(found) == list(TARGETS)
    for (name, array), original in zip(found.items(), HOOKS.values(), strict=True):
        np.testing.assert_array_equal(array, original, err_msg=name)


def test_unfolded_weights_are_folded_bit_for_bit():
    folded = {"layers.0.bias": normal(4), "layers.0.weight": normal(4, 3, 5)}
    plan = make_plan(specs(folded), TARGETS, CONV)
    found = dict(plan.read(folded))
    np.testing.assert_array_equal(found["blocks.0.conv.weight_v"], folded["layers.0.weight"])
    torchs = torch.from_numpy(folded["layers.0.weight"]).norm(dim=(1, 2), keepdim=True).numpy()
    np.testing.assert_allclose(found["blocks.0.conv.weight_g"], torchs, rtol=1e-6)
    assert {remark for _, _, remark in plan.table()} == {"as it is", "norm was removed: g = ||weight||, v = weight"}
    back = carried_out(found, specs(folded), [rule.reversed() for rule in CONV])
    for name, array in folded.items():
        np.testing.assert_array_equal(back[name], array)


def test_fold_weight_norm_equals_torch():
    layer = torch.nn.utils.parametrizations.weight_norm(torch.nn.ConvTranspose1d(6, 3, 4))
    g, v = (getattr(layer.parametrizations.weight, name).detach().numpy() for name in ("original0", "original1"))
    np.testing.assert_allclose(fold_norm(2 * g, v), 2 * layer.weight.detach().numpy(), rtol=1e-6)
    assert magnitude_of(v).shape == g.shape
    np.testing.assert_array_equal(fold_norm(*unfold_norm(v)), v)


@pytest.mark.parametrize("length", [0.0, 1e-44, 1e-25, 1e-13])
def test_kernels_of_zeros_and_short_kernels_have_a_direction(length):
    weight = normal(3, 4, 5)
    weight[1] *= np.float32(length) / np.linalg.norm(weight[1])
    g, v = unfold_norm(weight)
    assert np.all(np.linalg.norm(v.reshape(3, -1), axis=1) > 0.1)
    np.testing.assert_array_equal(g, magnitude_of(weight))
    np.testing.assert_array_equal(v[[0, 2]], weight[[0, 2]])
    np.testing.assert_array_equal(fold_norm(g, v), weight)
    np.testing.assert_allclose(weight_norm(jnp.asarray(v), jnp.asarray(g)), weight, rtol=1e-6, atol=1e-37)


def test_vectors_of_spectral_norm_are_not_parts_of_weight_norm():
    rules = (Rule("first.{i}", "first.{i}", norm="spectral"), Rule("{path*}", "{path*}", norm="weight"))
    sources = {
        "first.0.weight_orig": normal(4, 3, 5),
        "first.0.weight_u": normal(4),
        "first.0.weight_v": normal(15),
        "rest.weight_g": normal(4, 1, 1),
        "rest.weight_v": normal(4, 3, 5),
    }
    found = carried_out(sources, specs(sources), rules)
    for name, array in sources.items():
        np.testing.assert_array_equal(found[name], array)
    new = {name.replace("weight_orig", "parametrizations.weight.original"): array for name, array in sources.items()}
    new = {n.replace("0.weight_u", "0.parametrizations.weight.0._u"): array for n, array in new.items()}
    new = {n.replace("0.weight_v", "0.parametrizations.weight.0._v"): array for n, array in new.items()}
    for name, array in carried_out(new, specs(sources), rules).items():
        np.testing.assert_array_equal(array, sources[name])


@pytest.mark.parametrize(
    ("layout", "shape", "becomes"),
    [
        (Transpose((2, 0, 1)), (2, 3, 4), (4, 2, 3)),
        (Reshape((6, 4), (2, -1, 4)), (6, 4), (2, 3, 4)),
        (AddAxis(1), (5, 2), (5, 1, 2)),
        (DropAxis(2), (5, 2, 1), (5, 2)),
    ],
)
def test_layouts_are_invertible(layout, shape, becomes):
    array = normal(*shape)
    rule = Rule("there", "here", layout)
    target = {"here": Spec(becomes, FLOAT)}
    found = carried_out({"there": array}, target, [rule])
    assert found["here"].shape == becomes and sorted(found["here"].ravel()) == sorted(array.ravel())
    back = carried_out(found, {"there": Spec(shape, FLOAT)}, [rule.reversed()])
    np.testing.assert_array_equal(back["there"], array)
    with pytest.raises(CheckpointError, match=r"! there has shape .* \(after"):
        make_plan({"there": Spec((7, 7, 7, 7), FLOAT)}, target, [rule])


def test_plan_reports_layouts_that_do_not_apply():
    assert Reshape((6, 4), (2, -1, 4)).shape((6, 5)) is None
    assert Reshape((-1,), (4, -1)).shape((6,)) is None
    assert DropAxis(1).shape((3, 2)) is None and Transpose((1, 0)).shape((3,)) is None


def broken(**change):
    return {**HOOKS, **{name.replace("__", "."): array for name, array in change.items()}}


def without(name):
    return {key: array for key, array in HOOKS.items() if key != name}


def renamed(old, new):
    return {new if key == old else key: array for key, array in HOOKS.items()}


@pytest.mark.parametrize(
    ("sources", "lines"),
    [
        (without("layers.0.bias"), ["- blocks.0.conv.bias (4,)"]),
        (
            without("layers.0.weight_g"),
            [
                "- blocks.0.conv.weight_g (4, 1, 1)",
                "- blocks.0.conv.weight_v (4, 3, 5)",
                "+ layers.0.weight_v (4, 3, 5) (without weight_g)",
            ],
        ),
        (broken(layers__0__extra=normal(2)), ["+ layers.0.extra (2,)"]),
        (broken(layers__7__bias=normal(2)), ["+ layers.7.bias (2,)"]),
        (renamed("layers.0.bias", "layers.0.bais"), ["- blocks.0.conv.bias (4,)", "+ layers.0.bais (4,)"]),
        (
            broken(layers__0__weight_v=normal(3, 4, 5)),
            ["! layers.0.weight_v has shape (3, 4, 5), blocks.0.conv.weight_v needs (4, 3, 5) (transposed?)"],
        ),
        (
            broken(layers__0__weight_v=normal(4, 1, 1), layers__0__weight_g=normal(4, 3, 5)),
            [
                "! layers.0.weight_g has shape (4, 3, 5), blocks.0.conv.weight_g needs (4, 1, 1)",
                "! layers.0.weight_v has shape (4, 1, 1), blocks.0.conv.weight_v needs (4, 3, 5)",
            ],
        ),
        (
            broken(layers__0__bias=np.arange(4)),
            ["! layers.0.bias has dtype int64, blocks.0.conv.bias needs float32"],
        ),
        (
            {**HOOKS, **spelt(HOOKS, "parametrizations.weight.original0", "parametrizations.weight.original1")},
            [
                "+ layers.0.parametrizations.weight.original0 (4, 1, 1) (a duplicate of layers.0.weight_g)",
                "+ layers.0.parametrizations.weight.original1 (4, 3, 5) (a duplicate of layers.0.weight_g)",
            ],
        ),
    ],
)
def test_plan_lists_all_mismatches(sources, lines):
    with pytest.raises(CheckpointError) as caught:
        make_plan(specs(sources), TARGETS, CONV)
    assert [line.strip() for line in str(caught.value).splitlines()[1:]] == lines


def test_mismatches_state_the_nearest_names():
    rules = [Rule("a.{path*}", "{path*}")]
    sources = {"a.encoder.bias": normal(2), "a.decoder.weihgt": normal(2)}
    with pytest.raises(CheckpointError) as caught:
        make_plan(specs(sources), wanted(encoder__bias=(2,), decoder__weight=(2,)), rules)
    assert "- decoder.weight (2,)" in str(caught.value) and "+ a.decoder.weihgt (2,)" in str(caught.value)
    rules = [Rule("encoder.bias", "encoder.bias"), Rule("decoder.weight", "decoder.weight")]
    with pytest.raises(CheckpointError) as caught:
        make_plan(
            specs({f"net.{name.removeprefix('a.')}": array for name, array in sources.items()}),
            wanted(encoder__bias=(2,), decoder__weight=(2,)),
            rules,
            prefix="net.",
        )
    assert "- decoder.weight (2,) (the file has net.decoder.weihgt?)" in str(caught.value)
    assert "+ net.decoder.weihgt (2,) (did you mean decoder.weight?)" in str(caught.value)


def test_plan_refuses_two_sources_of_one_target():
    rules = [Rule("a", "x"), Rule("b", "x")]
    with pytest.raises(CheckpointError, match="! x would be written by a and by b"):
        make_plan(specs({"a": normal(2), "b": normal(2)}), wanted(x=(2,)), rules)


def test_plan_records_ignored_tensors():
    sources = broken(step=np.int64(3))
    plan = make_plan(specs(sources), TARGETS, CONV, ignore=[Ignore("step", "counts")])
    assert plan.ignored == {"step": "counts"}
    with pytest.raises(CheckpointError, match=r"\+ step"):
        make_plan(specs(sources), TARGETS, CONV, ignore=[Ignore("ste", "part of a name is not enough")])
    with pytest.raises(CheckpointError, match="should be a regular expression"):
        make_plan(specs(sources), TARGETS, CONV, ignore=[Ignore("(", "broken")])


def test_missing_targets_get_initial_values():
    plan = make_plan(
        specs(without("layers.0.bias")),
        TARGETS,
        CONV,
        allow_missing=[r".*\.bias"],
        initial=lambda name, shape, other: np.full(shape, other("blocks.0.conv.weight_g").sum()),
    )
    assert plan.missing == ("blocks.0.conv.bias",)
    found = dict(plan.read(HOOKS))["blocks.0.conv.bias"]
    assert found.dtype == FLOAT
    np.testing.assert_allclose(found, HOOKS["layers.0.weight_g"].sum())
    assert ((), "blocks.0.conv.bias", "not in the file: initialised") in plan.table()
    with pytest.raises(ValueError, match="initial"):
        make_plan(specs(HOOKS), TARGETS, CONV, allow_missing=["x"])


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_plan_casts_floats_and_records_the_cast(dtype):
    sources = {name: array.astype(dtype) for name, array in HOOKS.items()}
    plan = make_plan(specs(sources), TARGETS, CONV)
    assert {remark for _, _, remark in plan.table()} == {f"{np.dtype(dtype).name} to float32"}
    for (name, array), original in zip(plan.read(sources), sources.values(), strict=True):
        assert array.dtype == FLOAT, name
        np.testing.assert_array_equal(array, original.astype(np.float32))


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_read_refuses_nonfinite_weights(dtype, value):
    sources = {name: array.astype(dtype) for name, array in HOOKS.items()}
    sources["layers.0.weight_v"][1, 2, 3] = value
    plan = make_plan(specs(sources), TARGETS, CONV)
    with pytest.raises(CheckpointError, match=r"layers\.0\.weight_v contains 1 values that are NaN or infinite"):
        list(plan.read(sources))


def test_values_are_read_one_at_a_time_on_request():
    read = []

    class Watched(dict):
        def __getitem__(self, name):
            read.append(name)
            return super().__getitem__(name)

    values = make_plan(specs(HOOKS), TARGETS, CONV).read(Watched(HOOKS))
    assert read == []
    next(values)
    assert read == ["layers.0.bias"]

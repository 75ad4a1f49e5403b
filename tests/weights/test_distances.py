"""Differences of weights, with the forms of norms that torch writes."""

import warnings

import numpy as np
import pytest
import torch

from jaxvoice.weights.distances import CommonPrefixes, common_prefixes, compare_arrays, distance


def layers(norm=lambda layer: layer):
    torch.manual_seed(0)
    return torch.nn.ModuleDict(
        {
            "pre": norm(torch.nn.Conv1d(3, 4, 5)),
            "up": norm(torch.nn.ConvTranspose1d(4, 2, 6)),
            "post": torch.nn.Linear(2, 1),
        }
    )


def arrays(module, prefix=""):
    return {prefix + name: tensor.detach().numpy() for name, tensor in module.state_dict().items()}


def hooks(layer):
    with warnings.catch_warnings(action="ignore"):
        return torch.nn.utils.weight_norm(layer)


def test_equal_models_have_equal_bits():
    rows = compare_arrays(arrays(layers()), arrays(layers()))
    assert [row.status for row in rows] == ["equal"] * 6
    assert [row.name for row in rows] == list(arrays(layers()))


SPELLINGS = {
    "hooks": hooks,
    "parametrizations": torch.nn.utils.parametrizations.weight_norm,
    "folded": lambda layer: layer,
}


@pytest.mark.parametrize("b", SPELLINGS)
@pytest.mark.parametrize("a", SPELLINGS)
def test_compare_arrays_folds_norms_of_different_forms(a, b):
    one = arrays(layers(SPELLINGS[a]), "module.generator.")
    two = arrays(layers(SPELLINGS[b]), "model_g.")
    rows = compare_arrays(one, two)
    names = {"pre.weight", "pre.bias", "up.weight", "up.bias", "post.weight", "post.bias"}
    if a == b:
        assert {row.name for row in rows} == {name.removeprefix("model_g.") for name in two}
    else:
        assert {row.name for row in rows} == names
    assert all(row.status == "equal" or row.distance.relative < 1e-6 for row in rows)
    changed = next(name for name in two if name.startswith("model_g.up.") and not name.endswith("bias"))
    two[changed] = two[changed] * 1.01
    (different,) = [row for row in compare_arrays(one, two) if row.distance.relative > 1e-6]
    assert different.name == (changed.removeprefix("model_g.") if a == b else "up.weight")
    assert different.distance.relative == pytest.approx(0.01 / 1.01, rel=1e-3)


def test_compare_arrays_divides_by_the_spectral_norm():
    torch.manual_seed(0)
    conv = torch.nn.Conv1d(4, 6, 5, groups=2)
    with warnings.catch_warnings(action="ignore"):
        normed = torch.nn.utils.spectral_norm(conv)
    for _ in range(3):
        normed(torch.ones(1, 4, 9))
    normed.eval()
    normed(torch.ones(1, 4, 9))
    folded = {"weight": normed.weight.detach().numpy(), "bias": normed.bias.detach().numpy()}
    one = {f"conv.{name}": tensor for name, tensor in arrays(normed).items()}
    rows = compare_arrays(one, {f"conv.{name}": array for name, array in folded.items()})
    assert {row.name for row in rows} == {"conv.weight", "conv.bias"}
    assert all(row.distance.relative < 1e-6 for row in rows)
    # Of two models under spectral norm the parts are compared, not the product.
    assert [row.name for row in compare_arrays(one, one)] == list(one)


def test_compare_arrays_lists_unmatched_arrays_and_shapes():
    one = {"g.a.weight": np.zeros(3), "g.b.weight": np.zeros((2, 3)), "g.c": np.zeros(1), "steps": np.array(3)}
    two = {"a.weight": np.zeros(3), "b.weight": np.zeros((3, 2)), "d.e": np.zeros(2)}
    rows = {row.name: row for row in compare_arrays(one, two)}
    found = {name: row.status for name, row in rows.items()}
    assert found == {"a.weight": "equal", "b.weight": "shape", "g.c": "only A", "steps": "only A", "d.e": "only B"}
    assert rows["b.weight"].shapes == ((2, 3), (3, 2)) and rows["d.e"].shapes == (None, (2,))


def shapes(names):
    return dict.fromkeys(names, (2,))


def test_common_prefixes_are_as_short_as_possible():
    names = ["conv_pre.weight", "ups.0.weight", "ups.1.weight"]
    for before_a, before_b in (("", ""), ("module.", ""), ("x.y.", "z.")):
        one, two = shapes(before_a + name for name in names), shapes(before_b + name for name in names)
        assert common_prefixes(one, two) == CommonPrefixes(before_a, before_b)
    assert common_prefixes(shapes(["only.weight"]), shapes(["other.bias"])) == CommonPrefixes("", "")
    assert common_prefixes({}, shapes(names)) == CommonPrefixes("", "")


def test_common_prefixes_need_a_third_of_the_names_with_equal_shapes():
    names = [f"layers.{number}.weight" for number in range(5)]
    one, two = shapes(f"net.{name}" for name in names), {**shapes(names), **dict.fromkeys(names[:3], (3,))}
    assert common_prefixes(one, two) == CommonPrefixes("net.", "")
    two[names[3]] = (3,)
    assert common_prefixes(one, two) == CommonPrefixes("", "")
    # The names of a layer are the same in models that are not related.
    one = {"hidden.weight": (8, 80), "hidden.bias": (8,), "samples.weight": (256, 8), "samples.bias": (256,)}
    two = {"conv_pre.weight_g": (8, 1, 1), "conv_pre.weight_v": (8, 80, 7), "conv_pre.bias": (8,)}
    two |= {"ups.0.weight": (8, 4, 16), "ups.0.bias": (4,)}
    rows = compare_arrays(*({name: np.zeros(shape) for name, shape in of.items()} for of in (one, two)))
    assert [row.name for row in rows] == [*one, *two] and {row.status for row in rows} == {"only A", "only B"}


@pytest.mark.parametrize(
    ("a", "b", "absolute", "relative"),
    [
        ([1.0, 2.0], [1.0, 2.5], 0.5, 0.2),
        ([1, 2], [1, 4], 2, 0.5),
        ([np.nan, 1.0], [0.0, 1.0], np.inf, np.inf),
        ([np.inf, 1.0], [np.inf, 2.0], 1.0, 0.5),
        ([1.0], [0.0], 1.0, np.inf),
        ([3 + 4j], [0j + 1], abs(2 + 4j), abs(2 + 4j)),
        ([True, False], [True, True], 1.0, 1.0),
        ([2**53], [2**53 + 1], 1.0, 2.0**-53),
        ([0.0], [-0.0], 0.0, 0.0),
        (np.float16([1.5]), np.float32([1.5]), 0.0, 0.0),
    ],
)
def test_distance_is_the_largest_difference(a, b, absolute, relative):
    found = distance(np.array(a), np.array(b))
    assert found.absolute == pytest.approx(absolute) and found.relative == pytest.approx(relative) and not found.equal


def test_distance_of_equal_arrays_is_zero():
    for array in (np.zeros((0, 3)), np.array([np.nan, np.inf]), np.array([1, 2], np.float16)):
        assert distance(array, array.copy()) == (0.0, 0.0, True)

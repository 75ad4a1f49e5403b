"""Bending: operations against closed forms, composition, controls without compilation, JSON, streaming and exports."""

import json

import equinox as eqx
import jax
import numpy as np
import pytest
from jax import lax, numpy as jnp

from jaxvoice import dissect
from jaxvoice.dissect import (
    Affine,
    Apply,
    Bend,
    BendingConfig,
    Bias,
    Channels,
    Control,
    Mask,
    Mix,
    Noise,
    OrderedMask,
    Permute,
    Scale,
    Threshold,
)
from jaxvoice.errors import ConfigError, ShapeError
from jaxvoice.models.hifigan import Generator, GeneratorConfig
from jaxvoice.nn import Conv1d, Linear, Module
from jaxvoice.weights import named_arrays

CONFIG = GeneratorConfig(
    in_channels=8,
    upsample_rates=(4, 2),
    upsample_kernel_sizes=(8, 4),
    upsample_initial_channel=8,
    resblock_kernel_sizes=(3,),
    resblock_dilation_sizes=((1,),),
)
KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def generator() -> Generator:
    return Generator(CONFIG, key=jax.random.key(0))


@pytest.fixture(scope="module")
def mel() -> jax.Array:
    return jax.random.normal(jax.random.key(1), (2, 7, 8))


def call(model, x):
    return model(x)


class Layers(Module):
    """Two layers."""

    a: Linear
    b: Linear

    def __call__(self, x):
        return self.b(self.a(x))


@pytest.fixture(scope="module")
def layers() -> Layers:
    first, second = jax.random.split(jax.random.key(0))
    return Layers(Linear(3, 4, key=first), Linear(4, 2, key=second))


X = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)


def parts(layers) -> list[np.ndarray]:
    return [np.asarray(array) for array in (layers.a.weight, layers.a.bias, layers.b.weight, layers.b.bias)]


def test_identity_is_exact(layers):
    plain = layers(jnp.asarray(X))
    for rules in ((), (Bend(Scale(1.0), ".*"),), (Bend(Mask(1.0), "b"), Bend(Permute(), r"a.*", amount=0.0))):
        np.testing.assert_array_equal(dissect.bend(call, rules)(layers, jnp.asarray(X)), plain)
    assert layers.a.path is None


def test_rules_for_weights_and_activations_are_composed_in_order(layers):
    w, b, v, c = parts(layers)
    rules = [
        Bend(Bias(1.0), "a"),
        Bend(Scale(-2.0), "a"),
        Bend(Scale(3.0), r"b\.weight"),
        Bend(Bias(0.5), r"b\.w.*"),
    ]
    found = dissect.bend(call, rules)(layers, jnp.asarray(X))
    np.testing.assert_allclose(found, ((X @ w.T + b + 1) * -2) @ (3 * v + 0.5).T + c, rtol=1e-5, atol=1e-6)
    swapped = dissect.bend(call, rules[::-1])(layers, jnp.asarray(X))
    np.testing.assert_allclose(swapped, ((X @ w.T + b) * -2 + 1) @ (3 * (v + 0.5)).T + c, rtol=1e-5, atol=1e-6)
    bent = dissect.bend_weights(layers, rules)
    np.testing.assert_allclose(bent.b.weight, 3 * v + 0.5, rtol=1e-6)
    assert bent.a is not layers.a and np.array_equal(bent.a.weight, w) and np.array_equal(layers.b.weight, v)


def test_kernels_whose_direction_is_masked_are_zero(key):
    layer = Conv1d(2, 3, 1, weight_norm=True, key=key)
    keep = np.asarray([[[0.0], [0.0]], [[1.0], [0.0]], [[1.0], [1.0]]], np.float32)
    rule = Bend(Apply(lambda x: x * jnp.asarray(keep)), "weight_v")
    found = dissect.bend(call, [rule])(layer, jnp.ones((4, 2)))
    assert np.isfinite(found).all()
    v, g, bias = (np.asarray(array) for array in (layer.weight_v, layer.weight_g, layer.bias))
    np.testing.assert_allclose(found[:, 0], np.full(4, bias[0]), rtol=1e-6)
    np.testing.assert_allclose(found[:, 1], np.full(4, np.sign(v[1, 0, 0]) * g[1, 0, 0] + bias[1]), rtol=1e-5)
    kernel = g[2, 0, 0] * v[2, :, 0] / np.linalg.norm(v[2, :, 0])
    np.testing.assert_allclose(found[:, 2], np.full(4, kernel.sum() + bias[2]), rtol=1e-4)


def test_a_pattern_matches_weights_and_activations_unless_restricted(layers):
    w, b, v, c = parts(layers)
    x = jnp.asarray(X)
    both = dissect.bend(call, [Bend(Scale(2.0), r"a(\.bias)?")])(layers, x)
    np.testing.assert_allclose(both, (2 * (X @ w.T + 2 * b)) @ v.T + c, rtol=1e-5, atol=1e-6)
    one = dissect.bend(call, [Bend(Scale(2.0), r"a(\.bias)?", on="weights")])(layers, x)
    np.testing.assert_allclose(one, (X @ w.T + 2 * b) @ v.T + c, rtol=1e-5, atol=1e-6)
    # A whole name is matched: `a` is not `a.bias`, and an operation is only meant if nothing else is.
    other = dissect.bend(call, [Bend(Scale(2.0), r"a(\.bias)?", on="activations")])(layers, x)
    np.testing.assert_allclose(other, (2 * (X @ w.T + b)) @ v.T + c, rtol=1e-5, atol=1e-6)
    op = dissect.bend(lambda model, x: jnp.sin(model(x)), [Bend(Scale(0.0), "sin")])(layers, x)
    assert not op.any()
    alias = dissect.bend(call, [Bend(Scale(2.0), "linear_1")], aliases={"linear_1": "b"})(layers, x)
    np.testing.assert_allclose(alias, 2 * ((X @ w.T + b) @ v.T + c), rtol=1e-5, atol=1e-6)


def test_arithmetic_operations_equal_their_formulas():
    x = jnp.asarray(X)
    none = {}
    np.testing.assert_allclose(Affine(2.0, -1.0)(KEY, x, none), 2 * X - 1, rtol=1e-6)
    np.testing.assert_allclose(Affine(Control("a"), Control("b"))(KEY, x, {"a": 3.0, "b": 1}), 3 * X + 1, rtol=1e-6)
    np.testing.assert_array_equal(Channels((0.0, 1.0, 2.0))(KEY, x, none), X * [0, 1, 2])
    rows = Channels((1.0, 0.0, 1.0, 0.0, 0.0), axis=0)(KEY, x, none)
    np.testing.assert_array_equal(rows, X * np.asarray([[1, 0, 1, 0, 0]]).T)
    np.testing.assert_array_equal(Apply(jnp.abs)(KEY, x, none), np.abs(X))
    permuted = np.asarray(Permute()(KEY, x, none))
    assert sorted(map(tuple, permuted.T)) == sorted(map(tuple, X.T))
    assert not np.array_equal(np.asarray(Permute(0)(KEY, jnp.arange(9.0), none)), np.arange(9.0))
    half = Bend(Scale(0.0), "x", amount=0.25).apply("x", x, none)
    np.testing.assert_allclose(half, 0.75 * X, rtol=1e-6)


def test_masks_keep_their_share():
    x = jnp.ones((4, 50, 2000))
    masked = np.asarray(Mask(0.3)(KEY, x, {}))
    kept = masked[0, 0] > 0
    assert np.array_equal(masked, np.broadcast_to(kept, masked.shape).astype(np.float32))
    # Four deviations of a binomial share of 2000.
    assert abs(kept.mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 2000)
    every = np.asarray(Mask(0.3, axes=None)(KEY, x, {}))
    assert abs(every.mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / every.size)
    other = np.asarray(Mask(0.3)(jax.random.key(4), x, {}))[0, 0] > 0
    assert not np.array_equal(kept, other)
    assert not Mask(0.0)(KEY, x, {}).any() and Mask(1.0)(KEY, x, {}).all()


def test_ordered_masks_are_nested_and_exact():
    x = jnp.ones((3, 10, 40))
    keep, before = Control("keep", 0.5, 0.0, 1.0), np.zeros(40, bool)
    for share in (0.0, 0.1, 0.25, 0.5, 0.9, 1.0):
        kept = np.asarray(OrderedMask(keep)(KEY, x, {"keep": share}))[0, 0] > 0
        assert kept.sum() == round(40 * share) and np.all(kept >= before)
        before = kept
    shaped = np.asarray(OrderedMask(0.5, axes=(0, -1))(KEY, x, {}))
    assert shaped[:, 0].sum() == 60 and np.array_equal(shaped[:, 0], shaped[:, 9])


def test_thresholds_keep_the_channels_with_the_largest_means():
    x = np.random.default_rng(1).standard_normal((2, 30, 8)).astype(np.float32)
    for invert in (False, True):
        found = np.asarray(Threshold(0.25, invert=invert)(KEY, jnp.asarray(x), {}))
        for example, kept in zip(x, found, strict=True):
            order = np.argsort(example.mean(0) if invert else -example.mean(0))
            chosen = np.isin(np.arange(8), order[:2])
            np.testing.assert_array_equal(kept, example * chosen)
    weight = x.transpose(2, 1, 0)
    kept = np.asarray(Threshold(0.5, axis=0, over=(1, 2))(KEY, jnp.asarray(weight), {}))
    assert np.flatnonzero(np.abs(kept).max((1, 2))).tolist() == sorted(np.argsort(-weight.mean((1, 2)))[:4].tolist())


def test_noise_has_its_deviation_and_is_drawn_once():
    x = jnp.full((7, 20000), 3.0)
    added = np.asarray(Noise(0.5)(KEY, x, {})) - 3
    assert np.allclose(added[0], added[6]) and abs(added[0].std() - 0.5) < 0.02 and abs(added[0].mean()) < 0.02
    times = np.asarray(Noise(0.5, "multiply", axes=None)(KEY, x, {}))
    assert abs(times.std() - 1.5) < 0.02 and not np.allclose(times[0], times[1])
    rule = Bend(Noise(), "x", seed=1)
    np.testing.assert_array_equal(rule.apply("x", x, {}), rule.apply("x", x, {}))
    assert not np.allclose(rule.apply("x", x, {}), rule.apply("y", x, {}))
    assert not np.allclose(rule.apply("x", x, {}), Bend(Noise(), "x").apply("x", x, {}))


def test_interpolation_weights_are_normalised(layers):
    other = jax.tree.map(lambda leaf: 3 * leaf + 1, layers)
    mean = dissect.interpolate([layers, other], [2.0, 6.0])
    for name, array in named_arrays(mean).items():
        expected = 0.25 * named_arrays(layers)[name] + 0.75 * named_arrays(other)[name]
        np.testing.assert_allclose(array, expected, rtol=1e-6)
    same = dissect.interpolate([layers, other], [5.0, 0.0])
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(same), jax.tree.leaves(layers), strict=True))
    for weights, message in (
        ([1.0], "1 weights for 2 models"),
        ([0.0, 0.0], "one of them positive"),
        (["a", 1.0], r"weights are \['a', 1.0\]; they should be numbers"),
    ):
        with pytest.raises(ConfigError, match=message):
            dissect.interpolate([layers, other], weights)
    for weights in ([1.0, -1.0], [float("nan"), 1.0]):
        with pytest.raises(ConfigError, match="they should be at least 0"):
            dissect.interpolate([layers, other], weights)
    with pytest.raises(ShapeError, match=r"shapes of a are \[\(2,\), \(3,\)\]"):
        dissect.interpolate([{"a": jnp.ones(2)}, {"a": jnp.ones(3)}], [1.0, 1.0])
    with pytest.raises(ShapeError, match="different structures"):
        dissect.interpolate([{"a": jnp.ones(2)}, {"b": jnp.ones(2)}], [1.0, 1.0])


def test_mixtures_of_captured_activations_and_of_weights(layers):
    x, y = jnp.asarray(X), jnp.asarray(X[::-1])
    _, captured = dissect.capture(lambda model, x: dissect.tag(model)(x))(layers, y)
    amount = Control("amount", 1.0, 0.0, 10.0)
    bent = dissect.bend(call, [Bend(Mix(("other",), (1.0, amount)), "a")])
    w, b, v, c = parts(layers)
    found = bent(layers, x, controls={"amount": 3.0}, sources={"other": captured})
    hidden = 0.25 * (X @ w.T + b) + 0.75 * (X[::-1] @ w.T + b)
    np.testing.assert_allclose(found, hidden @ v.T + c, rtol=1e-5, atol=1e-6)
    aliases = {"linear": "a", "linear_1": "b"}
    by_alias = dissect.bend(call, [Bend(Mix(("other",), (1.0, 3.0)), "linear")], aliases=aliases)
    np.testing.assert_array_equal(by_alias(layers, x, sources={"other": {"linear": captured["a"]}}), found)
    other = jax.tree.map(lambda leaf: leaf + 1, layers)
    versions = dissect.bend(call, [Bend(Mix(("b",), (1.0, 1.0)), r"a\.weight")])
    found = versions(layers, x, sources={"b": other})
    np.testing.assert_allclose(found, (X @ (w + 0.5).T + b) @ v.T + c, rtol=1e-5, atol=1e-5)
    with pytest.raises(ConfigError, match="The source 'other' is missing"):
        bent(layers, x)
    with pytest.raises(ConfigError, match="source 'other' has no 'a'; the nearest are aa"):
        bent(layers, x, sources={"other": {"aa": x}})
    with pytest.raises(ShapeError, match=r"they should be equal"):
        bent(layers, x, sources={"other": {"a": x}})


@pytest.mark.slow
def test_controls_do_not_recompile(generator, mel):
    config = BendingConfig(
        (
            Bend(Scale(Control("gain", 1.0, -4.0, 4.0)), r"ups\.0\.weight_g"),
            Bend(OrderedMask(Control("keep", 1.0, 0.0, 1.0)), "resblocks.0"),
            Bend(Noise(Control("std", 0.0, 0.0, 1.0)), "ups.1", amount=Control("wet", 1.0, 0.0, 1.0)),
        )
    )
    traces = []

    @eqx.filter_jit
    def run(model, mel, controls):
        traces.append(controls)
        return dissect.bend(call, config)(model, mel, controls=controls)

    plain = generator(mel)
    np.testing.assert_allclose(run(generator, mel, config.values()), plain, atol=1e-6)
    results = [
        run(generator, mel, config.values(given))
        for given in ({"gain": -1}, {"keep": 0.5}, {"std": 0.5}, {"std": 0.5, "wet": 0.0})
    ]
    assert len(traces) == 1
    assert all(np.abs(result - plain).max() > 1e-3 for result in results[:3])
    np.testing.assert_allclose(results[3], plain, atol=1e-6)
    eager = dissect.bend(call, config)(generator, mel, controls={"gain": -1.0})
    np.testing.assert_allclose(results[0], eager, atol=1e-6)


def test_wrong_controls_raise_errors(layers):
    gain = Control("gain", 1.0, 0.0, 2.0)
    config, x = BendingConfig((Bend(Scale(gain), "a"),)), jnp.asarray(X)
    bent = dissect.bend(call, config)
    for value, message in (
        (3.0, r"'gain' is 3.0; it should be in \[0.0, 2.0\]"),
        (float("nan"), "'gain' is nan; it should be a finite number"),
        (1e39, r"'gain' is 1e\+39; it should be a finite number \(float32\)"),
        (10**400, "'gain' is a number of 1329 bits; it should be a number"),
        ("loud", "'gain' is 'loud'; it should be a number"),
    ):
        with pytest.raises(ConfigError, match=message):
            bent(layers, x, controls={"gain": value})
    with pytest.raises(ConfigError, match="no control 'gian'; the nearest are gain"):
        config.values({"gian": 1.0})
    with pytest.raises(ShapeError, match=r"'gain' is of shape \(2,\); it should be one number"):
        config.values({"gain": np.ones(2)})
    clamped = BendingConfig((Bend(Scale(Control("gain", 1.0, 0.0, 2.0, clamp=True)), "a"),))
    assert float(clamped.values({"gain": 7.0})["gain"]) == 2.0
    run = eqx.filter_jit(dissect.bend(call, clamped))
    np.testing.assert_allclose(
        run(layers, x, controls={"gain": jnp.asarray(7.0)}), bent(layers, x, controls={"gain": 2})
    )
    with pytest.raises(ConfigError, match=r"'gain' is defined as .* and as"):
        BendingConfig((*config.rules, *clamped.rules))
    for make, message in (
        (lambda: Control("", 1.0), "name is ''; it should not be empty"),
        (lambda: Control("a", 1.0, 2.0, 1.0), "high is 1.0; it should be at least low, 2.0"),
        (lambda: Control("a", 1.0, 2.0, 3.0), r"default is 1.0; it should be in \[2.0, 3.0\]"),
        (lambda: Mask(1.5), r"Mask.keep is 1.5; it should be in \[0, 1\]"),
        (lambda: OrderedMask(Control("k")), r"it should be in \[0, 1\]. Give the control low=0 and high=1"),
        (lambda: Noise(-1.0), "std is -1.0; it should be at least 0"),
        (lambda: Scale(float("nan")), "should be a finite number"),
        (lambda: Control("a", 1e39), r"Control.default is 1e\+39; it should be at most 3.40282e\+38 in size"),
        (lambda: Control("a", low=-1e308), r"Control.low is -1e\+308; it should be at most 3.40282e\+38 in size"),
        (lambda: Channels(()), "a tuple of finite numbers"),
        (lambda: Mix(("a",), (1.0,)), "a number for x and each source"),
        (lambda: Mix(("a",), (1.0, Control("c"))), "at least 0, or controls with low=0"),
        (lambda: Apply("unknown"), "'unknown' is not registered"),
        (lambda: Bend(Scale(), "a", amount=2.0), r"amount is 2.0; it should be in \[0, 1\]"),
        (lambda: Bend(Scale(), "a", on="both"), "on is 'both'"),
        (lambda: Bend(abs, "a"), "operation is .*; it should be one of Scale, "),
        (lambda: Bend(Scale(), "("), "should be a regular expression"),
        (lambda: Bend(Scale(), ()), "have a pattern"),
        (lambda: Bend(Scale(), 3), "names is 3; it should have a pattern"),
        (lambda: BendingConfig((Scale(),)), "should contain Bend only"),
    ):
        with pytest.raises(ConfigError, match=message):
            make()


def test_operations_that_do_not_fit_raise_errors(generator, layers, mel):
    x = jnp.asarray(X)
    with pytest.raises(ConfigError, match=r"'up\.0' matches no weight and no activation; the nearest are ups\.0"):
        dissect.bend(call, [Bend(Scale(), "up.0")])(generator, mel)
    with pytest.raises(ConfigError, match=r"'a\.wieght' matches no weight .*; the nearest are a\.weight"):
        dissect.bend_weights(layers, [Bend(Scale(), r"a.wieght", on="weights")])
    with pytest.raises(ShapeError, match=r"Channels cannot change 'a'\. The mask has 2 factors; it should have 4, the"):
        dissect.bend(call, [Bend(Channels((1.0, 0.0)), "a")])(layers, x)
    with pytest.raises(ShapeError, match=r"axis is 3; it should be an axis of an array of shape \(5, 4\)"):
        dissect.bend(call, [Bend(Mask(0.5, axes=(3,)), "a")])(layers, x)
    with pytest.raises(ShapeError, match="axis of channels is -1; it should not be one of over"):
        dissect.bend(call, [Bend(Threshold(0.5, over=(-1,)), "a")])(layers, x)
    with pytest.raises(ShapeError, match=r"result of Apply for 'a' is float32\[5, 1\]; it should be float32\[5, 4\]"):
        dissect.bend(call, [Bend(Apply(lambda x: x[:, :1]), "a")])(layers, x)

    def rounded(model, x):
        return jnp.abs(jnp.floor(10 * model(x)).astype(jnp.int32))

    for rule in (Bend(Scale(0.5), "floor|abs"), Bend(Mask(0.5), "abs", amount=0.5), Bend(Mix(("a",), (1, 1)), "abs")):
        with pytest.raises(ShapeError, match=r"'abs' is int32\[5, 2\]; it should contain floats for"):
            dissect.bend(rounded, [rule])(layers, x, sources={"a": {"abs": jnp.zeros((5, 2), jnp.int32)}})
    masked = dissect.bend(rounded, [Bend(Mask(0.0), "abs")])(layers, x)
    assert masked.dtype == jnp.int32 and not masked.any() and rounded(layers, x).any()

    def loop(model, x):
        return lax.scan(lambda carry, _: (model.a(carry)[..., :3], None), x, length=2)[0]

    with pytest.raises(ConfigError, match="'a', a result inside a loop"):
        dissect.bend(loop, [Bend(Scale(), "a")])(layers, x)


@dissect.register_function("test_bending.negative")
def negative(x):
    return -x


EVERY = BendingConfig(
    (
        Bend(Scale(Control("gain", 1.0, -2.0, 2.0, clamp=True)), ("a", r"b\..*"), seed=3),
        Bend(Bias(0.5), "a", on="activations"),
        Bend(Affine(Control("gain", 1.0, -2.0, 2.0, clamp=True), 2), "a"),
        Bend(Mask(0.3, axes=None), "a", amount=Control("wet", 0.5, 0.0, 1.0)),
        Bend(OrderedMask(0.25, (0, -1)), "a"),
        Bend(Threshold(0.5, 0, (1, 2), invert=True), "a", on="weights"),
        Bend(Channels((1.0,) * 300), "a"),
        Bend(Noise(0.1, "multiply"), "a"),
        Bend(Permute(-2), "a"),
        Bend(Apply(negative), "a"),
        Bend(Mix(("b", "c"), (1.0, Control("mix", 0.0, 0.0), 2.0)), "a"),
    )
)


def test_configurations_survive_json(tmp_path):
    assert {type(rule.operation) for rule in EVERY.rules} == set(dissect.OPERATIONS.values())
    EVERY.save(tmp_path / "bend.json")
    assert BendingConfig.load(tmp_path / "bend.json") == EVERY
    assert BendingConfig.from_json(EVERY.to_json()) == EVERY
    assert list(EVERY.controls) == ["gain", "wet", "mix"]
    assert Bend(Bias(0.5), "a", on="activations") in EVERY and Bend(Bias(0.6), "a") not in EVERY
    assert len(EVERY + EVERY) == 22
    with pytest.raises(ConfigError, match=r"x\.json cannot be written \(No such file or directory\)"):
        EVERY.save(tmp_path / "missing" / "x.json")
    with pytest.raises(ConfigError, match="has no registered name, so it cannot be saved"):
        BendingConfig((Bend(Apply(lambda x: x), "a"),)).to_json()
    with pytest.raises(ConfigError, match="already registered"):
        dissect.register_function("test_bending.negative")(abs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.update(more=1), "should be an object with a list of rules"),
        (
            lambda t: t["rules"][0].update(naems=[]),
            r"rules\[0\] is .*; it should be an object with operation and names",
        ),
        (lambda t: t["rules"][0].update(names="a"), r"rules\[0\].names is 'a'; it should be a list of text"),
        (lambda t: t["rules"][0]["operation"].update(kind="sclae"), r"kind is 'sclae'; it should be one of scale, "),
        (lambda t: t["rules"][0]["operation"].pop("kind"), "should be an object with a kind"),
        (
            lambda t: t["rules"][1]["operation"].update(bais=1),
            r"rules\[1\].operation has an unknown key 'bais'; did you",
        ),
        (lambda t: t["rules"][1].update(seed=-1), r"rules\[1\]: .*seed is -1; it should be a whole number"),
        (lambda t: t["rules"][3].update(amount={"nam": 1}), r"rules\[3\].amount has an unknown key 'nam'"),
        (lambda t: t["rules"][9]["operation"].update(function="os.system"), "'os.system' is not registered"),
        (lambda t: t["rules"][6]["operation"].update(factors=["x"]), "a tuple of finite numbers"),
    ],
)
def test_damaged_configurations_raise_errors(change, message):
    table = json.loads(EVERY.to_json())
    change(table)
    with pytest.raises(ConfigError, match=message):
        BendingConfig.from_json(json.dumps(table))


def test_invalid_json_raises_an_error():
    with pytest.raises(ConfigError, match="not valid JSON"):
        BendingConfig.from_json("{")


class Running(Module):
    """A layer with state: a sum over time."""

    layer: Linear

    def step(self, x, state):
        sums = state + jnp.cumsum(self.layer(x), axis=-2)
        return sums, sums[..., -1:, :]


def test_a_streaming_step_is_bent_like_the_whole(key):
    model, x = Running(Linear(3, 4, key=key)), jnp.asarray(np.tile(X, (4, 1)))
    rules = [
        Bend(Mask(0.5), "layer"),
        Bend(Scale(Control("gain", 1.0)), "layer"),
        Bend(Noise(0.1), r"layer\.weight"),
    ]
    bent = dissect.bend(lambda model, x, state: model.step(x, state), rules)
    controls, start = BendingConfig(tuple(rules)).values({"gain": -2.0}), jnp.zeros((1, 4))
    whole, _ = bent(model, x, start, controls=controls)

    @eqx.filter_jit
    def stream(model, blocks):
        def step(state, block):
            y, state = bent(model, block, state, controls=controls)
            return state, y

        return lax.scan(step, start, blocks)[1]

    blocks = stream(model, x.reshape(5, 4, 3))
    np.testing.assert_allclose(blocks.reshape(20, 4), whole, rtol=1e-5, atol=1e-5)
    assert np.abs(whole - model.step(x, start)[0]).max() > 0.1


def test_controls_are_inputs_of_exports(layers):
    config = BendingConfig((Bend(Scale(Control("gain", 1.0)), "a"), Bend(Mask(0.5), r"b\.weight")))
    bent = dissect.bend(call, config)
    arrays, static = eqx.partition(layers, eqx.is_array)
    run = jax.jit(lambda arrays, x, controls: bent(eqx.combine(arrays, static), x, controls=controls))
    leaves, structure = jax.tree.flatten(arrays)
    flat = jax.jit(lambda leaves, x, controls: run(structure.unflatten(leaves), x, controls))
    exported = jax.export.export(flat)(leaves, jnp.asarray(X), config.values())
    assert [aval.shape for aval in exported.in_avals][-1] == ()
    for gain in (1.0, -3.0):
        found = exported.call(leaves, jnp.asarray(X), config.values({"gain": gain}))
        np.testing.assert_allclose(found, bent(layers, jnp.asarray(X), controls={"gain": gain}), rtol=1e-5, atol=1e-6)

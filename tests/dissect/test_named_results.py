"""Captured and edited results against torch's hooks on the same weights, untagged calls and closed forms."""

import collections
import dataclasses
import functools
import re

import equinox as eqx
import jax
import numpy as np
import pytest
import torch
from jax import lax, numpy as jnp

from experiments.benchmarks import torch_hifigan
from jaxvoice import dissect
from jaxvoice.errors import ConfigError, ShapeError
from jaxvoice.models.gaussian_tts import (
    DecoderConfig,
    DurationConfig,
    EncoderConfig,
    GaussianTTS,
    GaussianTTSConfig,
    UpsamplingConfig,
)
from jaxvoice.models.hifigan import DiscriminatorConfig, Discriminators, Generator, GeneratorConfig
from jaxvoice.nn import Conv1d, Linear, Module, freeze, operation, submodules
from jaxvoice.weights import load_state

SIZES = {
    "in_channels": 8,
    "upsample_rates": (4, 2),
    "upsample_kernel_sizes": (8, 4),
    "upsample_initial_channel": 16,
    "resblock_kernel_sizes": (3, 5),
    "resblock_dilation_sizes": ((1, 3), (1, 2)),
}
CONFIG = GeneratorConfig(**SIZES)


@pytest.fixture(scope="module")
def generator() -> Generator:
    return Generator(CONFIG, key=jax.random.key(0))


@pytest.fixture(scope="module")
def mel() -> jax.Array:
    return jax.random.normal(jax.random.key(1), (2, 7, 8))


def paths(model) -> set[str]:
    return {path for path, _ in submodules(model)}


def calls(names) -> set[str]:
    """The paths of named results, without the indices of arrays in a call's result."""
    return {name.partition("[")[0] for name in names}


def squares(model):
    return lambda mel: jnp.sum(jnp.square(model(mel)))


def test_captured_results_equal_those_of_torchs_hooks(mel):
    torch.manual_seed(0)
    theirs = torch_hifigan.Generator(**SIZES)
    ours = load_state(
        eqx.filter_eval_shape(Generator, CONFIG, key=jax.random.key(0)),
        {name: tensor.detach().numpy() for name, tensor in theirs.state_dict().items()},
    )
    wanted = {}
    for name, module in theirs.named_modules():
        if name and any(True for _ in module.parameters()):
            module.register_forward_hook(lambda _, __, out, name=name: wanted.update({name: out.detach().mT.numpy()}))
    with torch.no_grad():
        audio = theirs(torch.from_numpy(np.array(mel)).mT).mT.numpy()
    found, captured = eqx.filter_jit(lambda model, mel: dissect.capture(dissect.tag(model))(mel))(ours, mel)
    np.testing.assert_allclose(found, audio, atol=1e-5)
    assert list(captured) == list(wanted)
    for name, value in captured.items():
        np.testing.assert_allclose(value, wanted[name], atol=1e-5, err_msg=name)


def test_every_module_of_a_generator_has_a_name(generator, mel):
    conditioned = dataclasses.replace(CONFIG, cond_channels=3, cond_in_each_stage=True, resblock="2")
    for model, *inputs in (
        (generator, mel),
        (freeze(generator), mel),
        (Generator(conditioned, key=jax.random.key(0)), mel, jnp.ones((2, 3))),
    ):
        values = dissect.named_values(dissect.tag(model), *inputs)
        assert calls(value.name for value in values) == paths(model)
        assert not any(value.in_loop for value in values)


def test_every_module_of_both_discriminators_has_a_name():
    model = eqx.filter_eval_shape(Discriminators, DiscriminatorConfig(), key=jax.random.key(0))
    state = eqx.filter_eval_shape(lambda model: model.msd.init_state(key=jax.random.key(0)), model)
    audio = jax.ShapeDtypeStruct((1, 4096, 1), jnp.float32)
    values = dissect.named_values(lambda model, *given: dissect.tag(model)(*given), model, audio, state)
    assert calls(value.name for value in values) == paths(model)
    shapes = {value.name: value.shape for value in values}
    assert shapes["mpd.discriminators.1.convs.0"] == (1, 3, 456, 32)
    assert shapes["msd.discriminators.0.convs.1[0]"] == (1, 2048, 128)
    assert shapes["msd.discriminators.2[0][logits]"] == (1, 17)


@pytest.mark.slow
def test_every_module_of_gaussian_tts_has_a_name():
    config = GaussianTTSConfig(
        codes=("A", "B"),
        dim=8,
        encoder=EncoderConfig(layers=1, heads=2, feed_forward=8, attn_dim=12),
        decoder=DecoderConfig(layers=1, heads=2, feed_forward=8, postnet_layers=1),
        upsampling=UpsamplingConfig("predicted"),
        durations=DurationConfig(layers=1, hidden=4),
    )
    model = GaussianTTS(config, key=jax.random.key(0))
    counts = {"phone_count": jnp.asarray([3]), "frame_count": jnp.asarray([6]), "frames": 6}
    arguments = jnp.asarray([[1, 2, 1]]), jnp.asarray([[2.0, 3.0, 1.0]]), model.init_state()
    plain = model(*arguments, **counts)
    found, captured = dissect.capture(dissect.tag(model))(*arguments, **counts)
    operations = {"acoustic.encode", "acoustic.decode", "acoustic.upsampling.sigma"}
    assert calls(captured) == paths(model) | operations
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(plain), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(captured["acoustic[mel]"], plain[0].mel)
    np.testing.assert_array_equal(captured["durations"], plain[1])
    assert captured["acoustic.encoder[0]"].shape == (1, 3, 8)
    assert captured["durations.lstm"].shape == (1, 3, 8)


def test_a_captured_call_equals_the_uncaptured_call(generator, mel):
    plain, tagged = generator(mel), dissect.tag(generator)
    found, captured = dissect.capture(tagged)(mel)
    np.testing.assert_array_equal(found, plain)
    compiled, of_compiled = jax.jit(dissect.capture(tagged))(mel)
    np.testing.assert_allclose(compiled, plain, atol=1e-6)
    assert list(of_compiled) == list(captured)
    mapped, of_mapped = jax.vmap(dissect.capture(tagged, "ups.*"))(mel)
    inside, of_inside = dissect.capture(jax.jit(jax.vmap(tagged)), "ups.*")(mel)
    for audio, part in ((mapped, of_mapped), (inside, of_inside)):
        np.testing.assert_allclose(audio, plain, atol=1e-6)
        assert list(part) == ["ups.0", "ups.1"]
        np.testing.assert_allclose(part["ups.1"], captured["ups.1"], atol=1e-6)


@pytest.mark.slow
def test_gradients_pass_through_a_capture(generator, mel):
    def loss(model, mel):
        return squares(lambda mel: dissect.capture(dissect.tag(model))(mel)[0])(mel)

    plain = eqx.filter_grad(lambda model, mel: squares(model)(mel))(generator, mel)
    for one, other in zip(jax.tree.leaves(eqx.filter_grad(loss)(generator, mel)), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    # Captured results of a function that takes a gradient are those of its forward pass.
    gradient, captured = dissect.capture(jax.grad(squares(dissect.tag(generator))), "ups.1")(mel)
    np.testing.assert_allclose(gradient, jax.grad(squares(generator))(mel), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(captured["ups.1"], dissect.capture(dissect.tag(generator))(mel)[1]["ups.1"], atol=1e-6)


@pytest.mark.slow
def test_an_edit_equals_a_change_of_weights(generator, mel):
    """Doubling the output of a layer equals doubling its weights, for results and gradients."""
    doubled = eqx.tree_at(lambda g: (g.ups[0].weight_g, g.ups[0].bias), generator, replace_fn=lambda array: 2 * array)
    run = dissect.capture(dissect.tag(generator), "ups.0", edit={"ups.0": lambda x: 2 * x})
    audio, captured = run(mel)
    np.testing.assert_allclose(audio, doubled(mel), atol=1e-6)
    np.testing.assert_allclose(captured["ups.0"], dissect.capture(dissect.tag(doubled))(mel)[1]["ups.0"], atol=1e-6)
    assert np.abs(audio - generator(mel)).max() > 1e-3
    gradient = jax.jit(jax.grad(squares(lambda mel: run(mel)[0])))(mel)
    np.testing.assert_allclose(gradient, jax.grad(squares(doubled))(mel), rtol=1e-5, atol=1e-6)


class Pair(Module):
    """A module that calls one layer twice, returns a tuple, and has a second operation."""

    layers: dict[str, list[Linear]]
    plain: eqx.nn.Linear

    def __call__(self, x, *, scale=1.0):
        (first,) = self.layers["a"]
        y = first(first(x))
        return y, {"scaled": scale * self.plain(y), "label": "text", "none": None}

    @operation
    def step(self, x):
        return self.layers["a"][0](x)


@pytest.fixture
def pair(key) -> Pair:
    return Pair({"a": [Linear(3, 3, key=key)]}, eqx.nn.Linear(3, 3, key=key))


def test_tuples_second_calls_and_operations_have_names(pair):
    tagged, x, (layer,) = dissect.tag(pair, "net"), jnp.ones(3), pair.layers["a"]
    (result, stepped), captured = dissect.capture(lambda x: (tagged(x, scale=2.0), tagged.step(x)))(x)
    assert list(captured) == [
        *("net.layers.a.0", "net.layers.a.0#2", "net[0]", "net[1][scaled]"),
        *("net.layers.a.0#3", "net.step"),
    ]
    np.testing.assert_array_equal(captured["net.layers.a.0"], layer(x))
    np.testing.assert_array_equal(captured["net.layers.a.0#2"], layer(layer(x)))
    np.testing.assert_array_equal(captured["net[0]"], result[0])
    np.testing.assert_array_equal(captured["net[1][scaled]"], 2 * pair.plain(layer(layer(x))))
    np.testing.assert_array_equal(captured["net.step"], stepped)
    assert result[1]["label"] == "text" and result[1]["none"] is None
    assert dissect.named_values(dissect.tag(pair), x)[-1].name == "layers.a.0#2"


def test_one_of_two_calls_can_be_edited(pair):
    tagged = dissect.tag(pair, "net")
    run = dissect.capture(tagged, ["net", "net.layers.a.0#2"], edit={"net.layers.a.0#2": jnp.zeros_like})
    (y, _), captured = run(jnp.ones(3))
    assert list(captured) == ["net.layers.a.0#2", "net[0]", "net[1][scaled]"]
    assert not y.any() and not captured["net[0]"].any()
    assert dissect.capture(tagged)(jnp.ones(3))[1]["net.layers.a.0"].any()


@jax.custom_vjp
def scaled_gradient(x):
    return x


scaled_gradient.defvjp(lambda x: (x, None), lambda _, upstream: (7 * upstream,))


def test_names_are_found_inside_calls(pair):
    (layer,), x = dissect.tag(pair).layers["a"], jnp.ones(3)
    call = lambda x: layer(x)  # noqa: E731
    through_vjp, through_jvp = jax.custom_vjp(call), jax.custom_jvp(call)
    through_vjp.defvjp(lambda x: (call(x), None), lambda _, upstream: (upstream,))
    through_jvp.defjvp(lambda primals, tangents: (call(*primals), tangents[0]))
    for function in (jax.jit(call), jax.checkpoint(call), through_vjp, through_jvp, jax.jit(through_vjp)):
        result, captured = dissect.capture(function)(x)
        np.testing.assert_array_equal(captured["layers.a.0"], result)
        np.testing.assert_allclose(result, pair.layers["a"][0](x), atol=1e-6)


def test_custom_derivatives_are_kept_unless_something_inside_is_captured(pair):
    (layer,), x = dissect.tag(pair).layers["a"], jnp.ones(3)
    through_vjp = jax.custom_vjp(lambda x: layer(x))
    through_vjp.defvjp(lambda x: (through_vjp(x), None), lambda _, upstream: (7 * upstream,))
    function = lambda x: layer(through_vjp(scaled_gradient(x)))  # noqa: E731
    for names, inner in (("layers.a.0#2", 7 * np.eye(3)), ("layers.a.0", layer.weight)):
        run = dissect.capture(function, names)
        gradient = jax.grad(lambda x, run=run: jnp.sum(run(x)[0]))(x)
        np.testing.assert_allclose(gradient, 7 * (layer.weight @ inner).sum(0), rtol=1e-6)
        assert list(run(x)[1]) == [names]


def test_results_in_loops_are_listed_and_cannot_be_captured(pair):
    (layer,), x = dissect.tag(pair).layers["a"], jnp.ones(3)

    def run(x):
        looped, _ = lax.scan(lambda carry, _: (layer(carry), None), x, length=4)
        chosen = lax.cond(x[0] > 0, lambda x: layer(x), lambda x: x, looped)
        return layer(chosen)

    assert [(value.name, value.in_loop) for value in dissect.named_values(run, x)] == [
        ("layers.a.0", True),
        ("layers.a.0#2", True),
        ("layers.a.0#3", False),
    ]
    result, captured = dissect.capture(run)(x)
    np.testing.assert_array_equal(result, run(x))
    assert list(captured) == ["layers.a.0#3"]
    np.testing.assert_array_equal(captured["layers.a.0#3"], result)
    for names, edit in (("layers.a.0", {}), ([], {"layers.a.0#2": jnp.zeros_like}), ([], {"layers*": jnp.zeros_like})):
        with pytest.raises(ConfigError, match=r"a result inside a loop, branch or.*capture the function that"):
            dissect.capture(run, names, edit=edit)(x)


def test_a_capture_can_be_captured(pair):
    tagged, x = dissect.tag(pair), jnp.ones(3)
    inner = dissect.capture(tagged, "layers.a.0", edit={"layers.a.0": lambda x: 2 * x})
    (_, of_inner), of_outer = dissect.capture(inner, "layers.a.0*")(x)
    assert list(of_outer) == ["layers.a.0", "layers.a.0#2"] and list(of_inner) == ["layers.a.0"]
    np.testing.assert_array_equal(of_inner["layers.a.0"], 2 * pair.layers["a"][0](x))
    np.testing.assert_array_equal(of_outer["layers.a.0"], of_inner["layers.a.0"])

    def body(carry, _):
        result, captured = dissect.capture(tagged, "layers.a.0#2")(carry)
        return result[0], captured["layers.a.0#2"]

    last, every = lax.scan(body, x, length=3)
    np.testing.assert_array_equal(every[-1], last)


class Constant(Module):
    def __call__(self, x):
        return jnp.asarray(2.0), jnp.ones(2), jnp.arange(3), x


def test_constants_are_returned_as_arrays():
    plain = Constant()(1)
    result, captured = dissect.capture(dissect.tag({"constant": Constant()})["constant"])(1)
    for found, expected in zip([*result, *captured.values()], [*plain, *plain[:3]], strict=True):
        assert type(found) is type(expected)
        np.testing.assert_array_equal(found, expected)
        assert getattr(found, "dtype", None) == getattr(expected, "dtype", None)


class Doubled(Linear):
    def __call__(self, x):
        return 2 * super().__call__(x)


def test_a_call_of_the_base_class_has_no_name_of_its_own(key):
    layer = Doubled(3, 3, key=key)
    result, captured = dissect.capture(dissect.tag({"a": layer})["a"])(jnp.ones(3))
    assert list(captured) == ["a"]
    np.testing.assert_array_equal(captured["a"], result)


def test_modules_in_all_containers_are_tagged(pair):
    table = collections.defaultdict(list, a=[pair])
    assert dissect.tag(table)["a"][0].plain is not None and dissect.tag(table)["a"][0].path == "a.0"
    assert isinstance(dissect.tag(table), collections.defaultdict) and pair.path is None
    x = jnp.ones(3)
    for function in (functools.partial(pair, scale=2.0), jax.tree_util.Partial(pair, scale=2.0), pair.step):
        assert "net.layers.a.0" in dissect.capture(dissect.tag(function, "net"))(x)[1]
    merged = dissect.tag(pair.step, merged=["layers"])
    assert list(dissect.capture(merged)(x)[1]) == ["a.0"]
    named = dissect.tag(freeze({"conv": Conv1d(2, 2, 3, key=jax.random.key(0))}))
    assert named["conv"].path == "conv"
    assert freeze(dissect.tag({"conv": Conv1d(2, 2, 3, key=jax.random.key(0))}))["conv"].path == "conv"


def test_unknown_names_and_wrong_edits_raise_an_error(generator, mel):
    tagged = dissect.tag(generator)
    with pytest.raises(ConfigError, match=r"'ups.7' matches none of the 24 named results; the nearest are ups\."):
        dissect.capture(tagged, "ups.7")(mel)
    with pytest.raises(ConfigError, match=r"'conv_pre' matches none of the 0 named.*dissect.tag\(model\)"):
        dissect.capture(generator, "conv_pre")(mel)
    with pytest.raises(ConfigError, match="'asarray' converts an array to NumPy, so that it cannot be traced"):
        dissect.capture(np.asarray)(mel)
    for edit in (lambda x: x[..., :1], lambda x: x.astype(jnp.bfloat16)):
        with pytest.raises(ShapeError, match=r"edit of 'conv_pre' is .*; it should be float32\[2, 7, 16\]"):
            dissect.capture(tagged, edit={"conv_pre": edit})(mel)
    with pytest.raises(ShapeError, match="edit of 'conv_pre' is of type NoneType; it should be an array"):
        dissect.capture(tagged, edit={"conv_pre": lambda x: None})(mel)


def test_tagging_changes_neither_the_model_nor_its_program(generator, mel):
    tagged = dissect.tag({"generator": generator})["generator"]
    assert isinstance(tagged, Generator) and isinstance(tagged.ups[0], type(generator.ups[0]))
    assert tagged.path == "generator" and tagged.ups[1].path == "generator.ups.1"
    assert generator.path is None and generator.ups[1].path is None
    assert all(a is b for a, b in zip(jax.tree.leaves(tagged), jax.tree.leaves(generator), strict=True))
    assert jax.tree.structure(tagged) != jax.tree.structure(generator)
    assert "name" not in {equation.primitive.name for equation in jax.make_jaxpr(generator)(mel).jaxpr.eqns}
    texts = {eqx.filter_jit(lambda model, mel: model(mel)).lower(m, mel).as_text() for m in (generator, tagged)}
    assert len(texts) == 1


def scopes_of(function, *args) -> str:
    return jax.jit(function).lower(*args).as_text(debug_info=True)


def test_scopes_of_operations_and_of_copies_follow_the_paths(pair):
    class Caller(Module):
        inner: Pair

        @operation
        def run(self, x):
            return self.inner.step(x), eqx.filter_jit(self.inner)(x)[0]

        def __call__(self, x):
            return self.run(x)

    text = scopes_of(lambda model, x: model(x), Caller(pair), jnp.ones(3))
    assert "Caller/run/inner.step/layers.a.0/" in text and "Caller/run/jit" in text
    text = scopes_of(lambda model, x: dissect.tag(model)(x), Caller(pair), jnp.ones(3))
    assert "inner/layers.a.0/" in text


def test_profiles_show_the_paths_of_modules(generator, mel):
    compiled = eqx.filter_jit(lambda model, mel: model(mel)).lower(generator, mel).compile()
    scopes = set(re.findall(r'op_name="[^"]*/Generator/([^"]*)"', compiled.compiled.as_text()))
    for path in ("ups.1", "resblocks.3/convs1.1", "conv_post"):
        assert any(scope.startswith(f"{path}/") for scope in scopes), (path, scopes)

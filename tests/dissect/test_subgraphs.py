"""Parts of functions against the whole function."""

import equinox as eqx
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxvoice import dissect
from jaxvoice.errors import ConfigError, ShapeError
from jaxvoice.models.hifigan import Generator, GeneratorConfig

CONFIG = GeneratorConfig(
    in_channels=8,
    upsample_rates=(4, 2),
    upsample_kernel_sizes=(8, 4),
    upsample_initial_channel=8,
    resblock_kernel_sizes=(3,),
    resblock_dilation_sizes=((1,),),
)
LAST = "resblocks.1"


@pytest.fixture(scope="module")
def generator() -> Generator:
    return dissect.tag(Generator(CONFIG, key=jax.random.key(0)))


@pytest.fixture(scope="module")
def mel() -> jax.Array:
    return jax.random.normal(jax.random.key(1), (2, 7, 8))


@pytest.fixture(scope="module")
def captured(generator, mel):
    return dissect.capture(generator)(mel)


@pytest.mark.slow
def test_a_resumed_run_equals_the_full_run(generator, mel, captured):
    audio, found = captured
    for name in ("conv_pre", "ups.0", LAST):
        # The mel is not needed, so its shape is enough.
        resumed = dissect.resume(generator)({name: found[name]}, jax.ShapeDtypeStruct(mel.shape, mel.dtype))
        np.testing.assert_array_equal(resumed, audio)
    changed = dissect.resume(generator)({"ups.0": 2 * found["ups.0"]}, mel)
    edited, _ = dissect.capture(generator, [], edit={"ups.0": lambda x: 2 * x})(mel)
    np.testing.assert_array_equal(changed, edited)
    assert np.abs(changed - audio).max() > 1e-3


def test_a_resumed_run_returns_named_results(generator, mel, captured):
    _, found = captured
    part = dissect.resume(generator, ["ups.1", "resblocks.*"])({"ups.0": found["ups.0"]}, mel)
    assert [name for name in part if "." not in name.partition(".")[2]] == ["resblocks.0", "ups.1", "resblocks.1"]
    for name, array in part.items():
        np.testing.assert_array_equal(array, found[name])


def test_a_subgraph_computes_nothing_after_its_results(generator, mel, captured):
    part = dissect.subgraph(generator, ["ups.0", "conv_pre"])
    found = part(mel)
    assert list(found) == ["conv_pre", "ups.0"]
    for name, array in found.items():
        np.testing.assert_array_equal(array, captured[1][name])
    both = dissect.subgraph(lambda a, b: (jnp.sin(a), jnp.cos(b)), "sin")
    given = both(jnp.ones(2), jax.ShapeDtypeStruct((2,), jnp.float32))
    np.testing.assert_allclose(given["sin"], np.sin(np.ones(2)), rtol=1e-6)
    counted = len(str(jax.make_jaxpr(part)(mel)))
    assert counted < 0.5 * len(str(jax.make_jaxpr(dissect.capture(generator, ["ups.0"]))(mel)))


@pytest.mark.slow
def test_parts_work_under_jit_grad_and_vmap(generator, mel, captured):
    audio, found = captured
    resume = dissect.resume(generator)
    compiled = eqx.filter_jit(lambda x: resume({"ups.0": x}, jax.ShapeDtypeStruct(mel.shape, mel.dtype)))
    np.testing.assert_allclose(compiled(found["ups.0"]), audio, atol=1e-6)
    head = dissect.subgraph(generator, "ups.0")
    whole = jax.grad(lambda mel: jnp.sum(jnp.square(generator(mel))))(mel)
    _, pull = jax.vjp(lambda mel: head(mel)["ups.0"], mel)
    tail = jax.grad(lambda x: jnp.sum(jnp.square(compiled(x))))(found["ups.0"])
    np.testing.assert_allclose(pull(tail)[0], whole, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(jax.vmap(head)(mel)["ups.0"], found["ups.0"], atol=1e-6)


def test_wrong_activations_raise_errors(generator, mel, captured):
    _, found = captured
    resume = dissect.resume(generator)
    with pytest.raises(ConfigError, match=r"'ups.8' matches none of .*; the nearest are ups\."):
        resume({"ups.8": found["ups.0"]}, mel)
    with pytest.raises(ShapeError, match=r"activation 'ups.0' is float32\[2, 28\]; it should be float32\[2, 28, 4\]"):
        resume({"ups.0": found["ups.0"][..., 0]}, mel)
    with pytest.raises(ConfigError, match="'conv_pre' is given, but nothing that is computed depends on it"):
        resume({"ups.0": found["ups.0"], "conv_pre": found["conv_pre"]}, mel)
    with pytest.raises(ConfigError, match=r"'ups\.\*' is the name of 2 results, ups.0 to ups.1"):
        resume({"ups.*": found["ups.0"]}, mel)
    with pytest.raises(ConfigError, match="The argument 1 is a ShapeDtypeStruct; it should be an array"):
        dissect.resume(lambda mel: (generator(mel), mel))(
            {"ups.0": found["ups.0"]}, jax.ShapeDtypeStruct(mel.shape, mel.dtype)
        )
    with pytest.raises(ConfigError, match=r"The argument model\.weight is a ShapeDtypeStruct"):
        struct = jax.ShapeDtypeStruct((2,), jnp.float32)
        dissect.subgraph(lambda *, model: jnp.sin(model["weight"]), "sin")(model={"weight": struct})


def test_one_of_several_results_of_an_operation_can_be_given():
    def function(x):
        first, second = jnp.split(jnp.exp(x), 2)
        return first - second

    x, zero = jnp.asarray([1.0, 2.0]), jnp.zeros(1)
    np.testing.assert_allclose(dissect.resume(function)({"split[1]": zero}, x), np.exp([1.0]), rtol=1e-6)
    both = dissect.resume(function)({"split[1]": zero, "split[0]": zero + 3}, jax.ShapeDtypeStruct((2,), jnp.float32))
    np.testing.assert_array_equal(both, [3.0])

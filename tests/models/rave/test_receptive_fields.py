"""The receptive fields of RAVE compared with those that the release measured, and with gradients."""

import dataclasses

import equinox as eqx
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxvoice.models.rave import (
    NoiseConfig,
    Rave,
    encoder_receptive_field,
    generator_receptive_field,
    preset,
    receptive_field,
)
from jaxvoice.weights import load_state, named_arrays
from tests.models.rave.released import with_capacity


@pytest.mark.parametrize(
    ("name", "measured"),
    [
        ("v1", (24109, 22060)),
        ("v2", (27117, 26428)),
        ("v2_nopqmf", (20973, 20284)),
        ("discrete", (17901, 17724)),
    ],
)
def test_receptive_fields_equal_those_of_the_release(name, measured):
    assert receptive_field(preset(name)) == measured


def test_receptive_field_of_v2_small_is_near_that_of_the_release():
    # The release measured 10604 with random weights, whose noise branch has gradients near the smallest float.
    left, right = receptive_field(preset("v2_small"))
    assert 10604 <= left <= 10606 and right == 10044


def small(name: str, *add_ons: str):
    """A configuration with two stages, whose receptive field is short."""
    config = with_capacity(preset(name, *add_ons), 2)
    dilations = ((1, 2), (1,)) if config.encoder.dilations else ()
    noise = config.generator.noise
    if noise is not None:
        noise = NoiseConfig((2, 2), hidden_size=noise.hidden_size and 2)
    ratios = (8, 16) if config.generator.output == "raw" else (4, 2)
    encoder = dataclasses.replace(config.encoder, ratios=(4, 2), dilations=dilations)
    generator = dataclasses.replace(config.generator, ratios=ratios, dilations=dilations, noise=noise)
    bottleneck = dataclasses.replace(config.bottleneck, latent_size=2)
    return dataclasses.replace(config, encoder=encoder, generator=generator, bottleneck=bottleneck)


def positive_network(config):
    """A network with positive weights, without activations that hide an input: no gradient is 0 by chance."""
    shapes = eqx.filter_eval_shape(Rave, config, key=jax.random.key(0))
    network = eqx.filter_jit(Rave)(config, key=jax.random.key(0))
    arrays = named_arrays(network)
    rng = np.random.default_rng(0)

    def draw(name, shape):
        if name.endswith("bias"):
            return np.zeros(shape, np.float32)
        # Small enough that `tanh` has a gradient everywhere.
        scale = 0.2 if name.endswith("weight_g") else 1 / np.prod(shape[1:])
        return (scale * rng.uniform(0.5, 1, shape)).astype(np.float32)

    drawn = {name: draw(name, array.shape) for name, array in arrays.items() if not name.startswith("pqmf.")}
    return load_state(shapes, {**arrays, **drawn})


def affected(jacobian, center):
    """The inputs before `center`, and from it on, up to the farthest with a gradient."""
    (places,) = np.nonzero(np.abs(np.asarray(jacobian)).sum(axis=tuple(range(1, jacobian.ndim))))
    return center - places[0], places[-1] - center + 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [("v1",), ("v2", "noise"), ("v2_nopqmf",), ("v2", "causal")],
    ids="+".join,
)
def test_receptive_fields_equal_gradients(arguments):
    config = small(*arguments)
    network, hop, frames = positive_network(config), config.hop_length, 64
    state, middle = network.init_state(), frames // 2
    z = jnp.asarray(np.random.default_rng(1).normal(0, 0.01, (frames, 2)), jnp.float32)
    audio = jnp.asarray(np.random.default_rng(2).normal(0, 0.01, (frames * hop, 1)), jnp.float32)
    key = jax.random.key(1)

    @eqx.filter_jit
    def gradients(network, audio, z):
        def whole(audio):
            noise = None if config.generator.version == "v1" else key
            latents, _ = network.encode(audio, state, inference=True)
            return network.decode(latents.z, state, key=noise, inference=True)[0][middle * hop, 0]

        def encoded(audio):
            return jnp.sum(network.encode(audio, state, inference=True)[0].z[middle])

        def decoded(z):
            samples = network.decode(z, state, key=key, inference=True)[0][middle * hop : (middle + 1) * hop, 0]
            return jnp.sum(samples * jnp.linspace(0.1, 1, hop))

        return jax.grad(whole)(audio), jax.grad(encoded)(audio), jax.grad(decoded)(z)

    of_whole, of_encoder, of_generator = gradients(network, audio, z)
    assert affected(of_whole, middle * hop) == receptive_field(config)
    assert affected(of_encoder, middle * hop) == encoder_receptive_field(config)
    assert affected(of_generator, middle) == generator_receptive_field(config)

"""Names and shapes computed from a configuration, compared with those of the networks."""

import dataclasses

import equinox as eqx
import jax
import pytest

from jaxvoice.models.hifigan import PRESETS, DiscriminatorConfig, Discriminators, Generator, GeneratorConfig
from jaxvoice.models.hifigan.weights import generator_shapes, is_vector, period_shapes, scale_shapes
from jaxvoice.weights import named_arrays
from tests.models.hifigan import released

V1 = PRESETS["v1"].generator
CONFIGS = {
    **{name: preset.generator for name, preset in PRESETS.items()},
    "conditioned": dataclasses.replace(V1, cond_channels=7),
    "in each stage": dataclasses.replace(V1, cond_channels=7, cond_in_each_stage=True, in_channels=1024),
    "no norms": dataclasses.replace(V1, conv_pre_weight_norm=False, conv_post_weight_norm=False, conv_post_bias=False),
    "unlike": GeneratorConfig(
        in_channels=3,
        upsample_rates=(5, 3),
        upsample_kernel_sizes=(11, 3),
        upsample_initial_channel=8,
        resblock_kernel_sizes=(1, 9),
        resblock_dilation_sizes=((1,), (2, 2, 2, 2)),
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_generator_names_equal_those_of_the_network(name):
    network = eqx.filter_eval_shape(Generator, CONFIGS[name], key=jax.random.key(0))
    assert generator_shapes(CONFIGS[name]) == {name: array.shape for name, array in named_arrays(network).items()}


@pytest.mark.parametrize("config", [{}, {"in_channels": 12, "cond_channels": 5, "cond_in_each_up_layer": True}])
def test_generator_names_have_the_order_of_torch(config):
    theirs = released.generator(**config).state_dict()
    ours = {name: value for name, value in {**released.SMALL, **config}.items() if name != "cond_in_each_up_layer"}
    ours |= {"cond_in_each_stage": True} if "cond_in_each_up_layer" in config else {}
    found = generator_shapes(GeneratorConfig(**ours))
    assert list(found.items()) == [(name, tuple(tensor.shape)) for name, tensor in theirs.items()]


@pytest.mark.parametrize(
    "config",
    [
        DiscriminatorConfig(),
        DiscriminatorConfig(periods=(2, 3), scales=2, width=1 / 16),
        DiscriminatorConfig(periods=(4,), scales=1, width=0.7),
    ],
)
def test_discriminator_names_equal_those_of_the_network(config):
    network = eqx.filter_eval_shape(Discriminators, config, key=jax.random.key(0))
    vectors = eqx.filter_eval_shape(lambda d: d.msd.init_state(key=jax.random.key(0)), network)
    shapes = {name: array.shape for name, array in named_arrays(network.msd).items()}
    shapes |= {name: array.shape for name, array in named_arrays(vectors).items()}
    assert scale_shapes(config) == shapes
    assert {name for name in scale_shapes(config) if is_vector(name)} == named_arrays(vectors).keys()
    assert period_shapes(config) == {name: array.shape for name, array in named_arrays(network.mpd).items()}

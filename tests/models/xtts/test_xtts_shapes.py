"""The tables of names and shapes, which need no network, compared with the networks and with the release."""

import dataclasses
import math
import subprocess
import sys

import equinox as eqx
import jax
import pytest

from jaxvoice.models.hifigan.config import GeneratorConfig
from jaxvoice.models.xtts import XTTS, ConditioningConfig, preset
from jaxvoice.models.xtts.weights import dtypes, xtts_shapes
from jaxvoice.models.xtts_dvae import CodecConfig, CodecNetwork, DVAEConfig
from jaxvoice.models.xtts_dvae.weights import codec_shapes, dvae_shapes, network_sizes
from jaxvoice.weights import named_arrays
from tests.models.xtts.released import released_shapes
from tests.models.xtts.small import SMALL
from tests.models.xtts_dvae.small import SMALL as CODEC

WITHOUT_PERCEIVER = dataclasses.replace(
    SMALL,
    gpt=dataclasses.replace(SMALL.gpt, conditioning=ConditioningConfig(blocks=2, heads=4, latents=0, norm_groups=4)),
)


@pytest.mark.parametrize("config", [SMALL, WITHOUT_PERCEIVER, preset("v2"), preset("v1_1")])
def test_shapes_match_the_network(config):
    network = named_arrays(eqx.filter_eval_shape(XTTS, config, key=jax.random.key(0)))
    shapes = xtts_shapes(config)
    assert shapes == {name: array.shape for name, array in network.items()}
    types = dtypes(shapes)
    assert {name: types.get(name, "float32") for name in shapes} == {name: a.dtype for name, a in network.items()}


@pytest.mark.parametrize(
    "config",
    [
        CODEC,
        CodecConfig(),
        CodecConfig(DVAEConfig(codes=8192, layers=3, blocks=2, kernel_size=5)),
        CodecConfig(vocoder=GeneratorConfig(resblock="2")),
    ],
)
def test_shapes_match_the_autoencoder(config):
    network = named_arrays(eqx.filter_eval_shape(CodecNetwork, config, key=jax.random.key(0)), merged=("dvae",))
    assert codec_shapes(config) == {name: array.shape for name, array in network.items()}
    assert network_sizes(dvae_shapes(config.dvae), "x.pth") == config.dvae


def test_shapes_are_those_of_the_release():
    for name in ("v2", "v1_1"):
        released = released_shapes(f"xtts_{name}")
        # Leftovers of v1.
        assert xtts_shapes(preset(name)) == {key: shape for key, shape in released.items() if "gpt.prompt_" not in key}
    dvae = {name: shape for name, shape in released_shapes("xtts_dvae").items() if not name.startswith("discrete_")}
    assert dvae_shapes(DVAEConfig()) == dvae


def test_released_sizes_are_counted_without_jax():
    code = (
        "import math, sys; from jaxvoice.models.xtts.config import preset; "
        "from jaxvoice.models.xtts.weights import xtts_shapes; "
        "print(sum(map(math.prod, xtts_shapes(preset('v2')).values())), {'jax', 'equinox'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "466900598 set()"
    assert sum(map(math.prod, dvae_shapes(DVAEConfig()).values())) == 51_567_184 + 1_049_600

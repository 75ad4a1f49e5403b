"""A small generator whose output is loud, so that wrong frames exceed the tolerances."""

import equinox as eqx
import jax
import numpy as np
import pytest

from jaxvoice.dsp import MelConfig
from jaxvoice.models.hifigan import Generator, GeneratorConfig, HiFiGANConfig
from jaxvoice.weights import load_state, named_arrays


def small_config(**generator) -> HiFiGANConfig:
    sizes = {
        "in_channels": 8,
        "upsample_rates": (4, 4),
        "upsample_kernel_sizes": (8, 8),
        "upsample_initial_channel": 16,
        "resblock_kernel_sizes": (3,),
        "resblock_dilation_sizes": ((1, 3),),
    }
    mel = MelConfig(sample_rate=8000, n_fft=64, win_length=64, hop_length=16, num_mels=8, fmax=4000.0)
    return HiFiGANConfig(generator=GeneratorConfig(**(sizes | generator)), mel=mel, segment_size=256)


def loud_generator(config: HiFiGANConfig) -> Generator:
    """Weights drawn by numpy, since drawing them eagerly in JAX compiles fifty small programs."""
    rng = np.random.default_rng(3)
    skeleton = eqx.filter_eval_shape(Generator, config.generator, key=jax.random.key(0))
    arrays = {}
    for name, array in named_arrays(skeleton).items():
        arrays[name] = rng.normal(0, 0.1, array.shape)
        if name.endswith("weight_g"):
            arrays[name] = np.full(array.shape, 0.4 if name.startswith("conv_p") else 1.2)
    return load_state(skeleton, arrays)


@pytest.fixture(scope="session")
def config() -> HiFiGANConfig:
    return small_config()


@pytest.fixture(scope="session")
def generator(config) -> Generator:
    return loud_generator(config)

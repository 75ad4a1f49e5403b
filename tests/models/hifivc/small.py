"""The configuration and weights of a small HiFi-VC."""

import math

import equinox as eqx
import jax
import numpy as np

from jaxvoice.models.conformer import ConformerConfig
from jaxvoice.models.hifivc import DecoderConfig, HiFiVC, HiFiVCConfig, PitchEncoderConfig, SpeakerVAEConfig
from jaxvoice.weights import load_state, named_arrays

SMALL = HiFiVCConfig(
    content=ConformerConfig(layers=1, dim=8, heads=2, feed_forward=16, kernel_size=3, subsampling_channels=4),
    speaker=SpeakerVAEConfig(widths=(4, 6, 6), size=5),
    pitch_encoder=PitchEncoderConfig(channels=4),
    decoder=DecoderConfig(
        upsample_rates=(32, 30),
        upsample_kernel_sizes=(64, 60),
        upsample_initial_channel=16,
        resblock_kernel_sizes=(3,),
        resblock_dilation_sizes=((1, 3),),
        pre_channels=12,
    ),
)


def random_network(config: HiFiVCConfig = SMALL) -> HiFiVC:
    """Weights drawn by numpy, since drawing them in JAX compiles many small programs; the output is loud."""
    random = np.random.default_rng(3)
    skeleton = eqx.filter_eval_shape(HiFiVC, config, key=jax.random.key(0))
    arrays = {}
    for name, array in named_arrays(skeleton).items():
        fan_in = math.prod(array.shape[1:])
        arrays[name] = random.normal(0, 1 / math.sqrt(fan_in), array.shape)
        if name.endswith("weight_g"):
            arrays[name] = np.full(array.shape, 4.0 if name.startswith(("decoder.ups", "decoder.conv_post")) else 0.6)
        elif "norm" in name:
            arrays[name] = np.full(array.shape, 1.0 if name.endswith("weight") else 0.1)
        elif array.ndim == 1:
            arrays[name] = random.normal(0, 0.1, array.shape)
    return load_state(skeleton, arrays)

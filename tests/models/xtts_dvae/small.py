"""The configuration of a small DVAE of XTTS."""

import dataclasses

from jaxvoice.models.hifigan.config import GeneratorConfig
from jaxvoice.models.xtts_dvae import DVAE_MEL, CodecConfig, DVAEConfig

SMALL = CodecConfig(
    DVAEConfig(codes=16, code_channels=6, hidden=8, blocks=1, mel=dataclasses.replace(DVAE_MEL, num_mels=10))
)
VOCODER = GeneratorConfig(
    in_channels=10,
    resblock="2",
    upsample_rates=(16, 16),
    upsample_kernel_sizes=(32, 32),
    upsample_initial_channel=8,
    resblock_kernel_sizes=(3,),
    resblock_dilation_sizes=((1,),),
)
"""A vocoder for its mel spectrograms."""

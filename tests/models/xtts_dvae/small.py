"""The configuration of a small DVAE of XTTS."""

import dataclasses

from jaxvoice.models.xtts_dvae import DVAE_MEL, CodecConfig, DVAEConfig

SMALL = CodecConfig(
    DVAEConfig(codes=16, code_channels=6, hidden=8, blocks=1, mel=dataclasses.replace(DVAE_MEL, num_mels=10))
)

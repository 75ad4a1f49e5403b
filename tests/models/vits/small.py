"""The configuration of a small VITS."""

import dataclasses

from jaxvoice.models.hifigan.config import DiscriminatorConfig
from jaxvoice.models.vits.config import (
    DurationConfig,
    TextEncoderConfig,
    VITSConfig,
    WaveNetConfig,
    decoder_config,
)
from jaxvoice.text.symbol_table import ENGLISH_CHARACTERS

SMALL = VITSConfig(
    symbols=ENGLISH_CHARACTERS,
    channels=8,
    text=TextEncoderConfig(layers=1, feed_forward=12, window=2),
    posterior=WaveNetConfig(layers=2),
    flow=WaveNetConfig(layers=2),
    flows=2,
    durations=DurationConfig(channels=6, flows=2, bins=4),
    decoder=dataclasses.replace(
        decoder_config(8, 10, resblock="2"),
        upsample_rates=(8, 8, 4),
        upsample_kernel_sizes=(16, 16, 8),
        upsample_initial_channel=16,
        resblock_kernel_sizes=(3,),
        resblock_dilation_sizes=((1,),),
    ),
    speaker_channels=10,
    languages=("en", "pt"),
    segment_frames=4,
    discriminators=DiscriminatorConfig(periods=(2, 3), scales=1, width=1 / 8),
)

SHALLOW = dataclasses.replace(
    SMALL,
    posterior=WaveNetConfig(layers=1),
    flow=WaveNetConfig(layers=1),
    flows=1,
    decoder=dataclasses.replace(SMALL.decoder, upsample_rates=(16, 16), upsample_kernel_sizes=(32, 32)),
    discriminators=dataclasses.replace(SMALL.discriminators, periods=(2,)),
)
"""`SMALL` with fewer layers: programs of a whole training step take long to compile."""

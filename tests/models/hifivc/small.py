"""The configuration of a small HiFi-VC."""

from jaxvoice.models.conformer import ConformerConfig
from jaxvoice.models.hifivc import DecoderConfig, HiFiVCConfig, PitchEncoderConfig, SpeakerVAEConfig

SMALL = HiFiVCConfig(
    content=ConformerConfig(layers=1, dim=8, heads=2, feed_forward=16, kernel_size=3, subsampling_channels=4),
    speaker=SpeakerVAEConfig(widths=(4, 6, 6), size=5),
    pitch_encoder=PitchEncoderConfig(channels=4),
    decoder=DecoderConfig(
        upsample_rates=(32, 30),
        upsample_kernel_sizes=(64, 60),
        upsample_initial_channel=16,
        resblock_kernel_sizes=(3, 5),
        resblock_dilation_sizes=((1, 3), (1, 2)),
        pre_channels=12,
    ),
)

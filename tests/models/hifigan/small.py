"""The configuration of a small HiFi-GAN."""

from jaxvoice.models.hifigan import GeneratorConfig, HiFiGANConfig

SMALL = HiFiGANConfig(
    GeneratorConfig(
        upsample_rates=(16, 16),
        upsample_kernel_sizes=(32, 32),
        upsample_initial_channel=16,
        resblock_kernel_sizes=(3,),
        resblock_dilation_sizes=((1, 3, 5),),
    )
)

"""Values that no HiFi-GAN can have; contradictions between values are in `test_networks.py`."""

import dataclasses
import math

import pytest

from jaxvoice.config import from_dict, to_dict
from jaxvoice.dsp import MelConfig
from jaxvoice.errors import ConfigError
from jaxvoice.models.hifigan import DiscriminatorConfig, GeneratorConfig, HiFiGANConfig, LatentConfig
from jaxvoice.models.hifigan.losses import LossWeights
from jaxvoice.models.hifigan.training import TrainingConfig


@pytest.mark.parametrize(
    ("of", "wrong"),
    [
        (GeneratorConfig, {"in_channels": 0}),
        (GeneratorConfig, {"resblock": "3"}),
        (GeneratorConfig, {"resblock": 1}),
        (GeneratorConfig, {"upsample_rates": ()}),
        (GeneratorConfig, {"upsample_rates": (0, 8, 2, 2)}),
        (GeneratorConfig, {"upsample_rates": (-8, -8, 2, 2)}),
        (GeneratorConfig, {"upsample_rates": [8, 8, 2, 2]}),
        (GeneratorConfig, {"upsample_kernel_sizes": (16, 16, 4, 0)}),
        (GeneratorConfig, {"upsample_initial_channel": 0}),
        (GeneratorConfig, {"upsample_initial_channel": -512}),
        (GeneratorConfig, {"resblock_kernel_sizes": (3, 7, -11)}),
        (GeneratorConfig, {"resblock_dilation_sizes": ((1, 3, 5), (1, 3, 0), (1, 3, 5))}),
        (GeneratorConfig, {"resblock_dilation_sizes": ((1, 3, 5), (), (1, 3, 5))}),
        (GeneratorConfig, {"cond_channels": -1}),
        (GeneratorConfig, {"conv_post_bias": None}),
        (DiscriminatorConfig, {"width": math.inf}),
        (DiscriminatorConfig, {"width": 0.0}),
        (DiscriminatorConfig, {"periods": (2, 0)}),
        (DiscriminatorConfig, {"periods": ()}),
        (DiscriminatorConfig, {"scales": 0}),
        (HiFiGANConfig, {"segment_size": 0}),
        (HiFiGANConfig, {"segment_size": -8192}),
        (HiFiGANConfig, {"generator": {"in_channels": 80}}),
        (LossWeights, {"mel": -1.0}),
        (LossWeights, {"feature": math.nan}),
        (LossWeights, {"adversarial": math.inf}),
        (TrainingConfig, {"precision": "float16"}),
        (TrainingConfig, {"ema_decay": math.nan}),
        (TrainingConfig, {"ema_decay": 1.0}),
    ],
    ids=str,
)
def test_invalid_values_raise_an_error_with_their_name(of, wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ConfigError) as failure:
        of(**wrong)
    assert name in str(failure.value) and str(value) in str(failure.value)


def test_config_accepts_small_networks():
    assert DiscriminatorConfig(width=1 / 8).channels(1024) == 128
    assert LossWeights(adversarial=0).adversarial == 0


def test_generator_of_a_larger_model_reads_latents():
    config = HiFiGANConfig(GeneratorConfig(in_channels=192, cond_channels=256), mel=LatentConfig(24000, 256, 192))
    assert from_dict(HiFiGANConfig, to_dict(config)) == config
    with pytest.raises(ConfigError, match="latents with 192 channels"):
        config.mel_contract  # noqa: B018
    assert HiFiGANConfig().mel_contract == MelConfig()
    for latents, message in (
        (LatentConfig(24000, 256, 80), r"in_channels is 192; it should be mel\.channels, 80"),
        (LatentConfig(24000, 300, 192), r"product of upsample_rates .* is 256"),
    ):
        with pytest.raises(ConfigError, match=message):
            dataclasses.replace(config, mel=latents)
    with pytest.raises(ConfigError, match=r"LatentConfig\.channels is .*; it should be positive"):
        LatentConfig(24000, 256, 0)


@pytest.mark.parametrize(
    ("of", "values"),
    [
        (GeneratorConfig, {"upsample_rates": (2,) * 900, "upsample_kernel_sizes": (4,) * 900}),
        (GeneratorConfig, {"resblock_kernel_sizes": (3,) * 900, "resblock_dilation_sizes": ((1,) * 900,) * 900}),
        (GeneratorConfig, {"upsample_rates": (8, 8, 2, 10**300)}),
        (GeneratorConfig, {"resblock_dilation_sizes": ((1, 3, 5), (1, 3, 5), (1, 3, 10**400))}),
        (GeneratorConfig, {"upsample_initial_channel": 2**60}),
        (DiscriminatorConfig, {"scales": 10**9}),
        (DiscriminatorConfig, {"width": 1e300}),
        (LatentConfig, {"sample_rate": 10**400, "hop_length": 256, "channels": 80}),
        (HiFiGANConfig, {"segment_size": 256 * 10**300}),
        (MelConfig, {"n_fft": 2**50}),
        (MelConfig, {"n_fft": 2**17, "num_mels": 1024}),
        (MelConfig, {"hop_length": 10**400}),
    ],
    ids=str,
)
def test_huge_sizes_raise_a_short_error(of, values):
    with pytest.raises(ConfigError) as failure:
        of(**values)
    assert len(str(failure.value)) < 400

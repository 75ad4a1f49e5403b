"""The discriminators of VITS: one of the waveform, and one of the waveform folded at each period."""

from typing import Any

import jax
from jax import numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxvoice.models.hifigan.config import DiscriminatorConfig
from jaxvoice.models.hifigan.discriminators import DiscriminatorOutput, PeriodDiscriminator
from jaxvoice.models.vits.config import waveform_layers
from jaxvoice.nn import Conv1d, Module

_SLOPE = 0.1


class WaveformDiscriminator(Module):
    """Discriminates waveforms with strided grouped convolutions. jaywalnut310/vits `models.py:DiscriminatorS`."""

    convs: list[Conv1d]
    conv_post: Conv1d

    def __init__(self, config: DiscriminatorConfig, *, key: PRNGKeyArray):
        layers = waveform_layers(config)
        *keys, post_key = jax.random.split(key, len(layers) + 1)
        self.convs = [
            Conv1d(
                inputs,
                outputs,
                taps,
                stride=stride,
                groups=groups,
                padding=taps // 2,
                weight_norm=True,
                key=k,
            )
            for (inputs, outputs, taps, stride, groups), k in zip(layers, keys, strict=True)
        ]
        self.conv_post = Conv1d(layers[-1][1], 1, 3, padding=1, weight_norm=True, key=post_key)

    def __call__(self, audio: Float[Array, "*batch samples 1"]) -> DiscriminatorOutput:
        """**Arguments:** `audio` of shape `(*batch, samples, 1)`.

        **Raises:** `ShapeError` if `audio` has a different number of channels, or no samples.
        """
        x, features = audio, []
        for conv in self.convs:
            x = conv(x)
            x = jnp.where(x > 0, x, jnp.asarray(_SLOPE, x.dtype) * x)
            features.append(x)
        x = self.conv_post(x)
        return DiscriminatorOutput(x[..., 0], [*features, x])


class VITSDiscriminators(Module):
    """The discriminator of the waveform, followed by one for each period.

    Attribute paths below `disc` are the names of weights in coqui's releases, such as `nets.0.convs.1.bias`.

    coqui-ai/TTS `layers/vits/discriminator.py`; jaywalnut310/vits `models.py:MultiPeriodDiscriminator`.
    """

    nets: list[Any]

    def __init__(self, config: DiscriminatorConfig, *, key: PRNGKeyArray):
        first_key, *keys = jax.random.split(key, 1 + len(config.periods))
        periods = [PeriodDiscriminator(p, config, key=k) for p, k in zip(config.periods, keys, strict=True)]
        self.nets = [WaveformDiscriminator(config, key=first_key), *periods]

    def __call__(self, audio: Float[Array, "*batch samples 1"]) -> list[DiscriminatorOutput]:
        """The output of each discriminator for `audio` of shape `(*batch, samples, 1)`.

        **Raises:** `ShapeError` if `audio` has a different number of channels, or no samples.
        """
        return [net(audio) for net in self.nets]

"""The encoder of RAVE: sub-bands, or the waveform, to the parameters of latents."""

import math

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from jaxvoice.errors import ShapeError
from jaxvoice.models.rave.config import EncoderConfig
from jaxvoice.models.rave.layers import (
    AdaIN,
    DilatedUnit,
    LeakyReLU,
    NetState,
    Residual,
    activation,
    apply_net,
    conv,
    init_net_state,
    net_form,
)
from jaxvoice.nn import MaskedBatchNorm, Module, SequenceForm, StreamingForm


class Encoder(Module):
    """Strided convolutions, with batch norm in v1, with residual blocks of dilated convolutions in v2.

    Indices of `net` are those of the release. acids-ircam/RAVE `rave/blocks.py:Encoder` and `EncoderV2`.
    """

    net: list[Module]
    ratio: int = eqx.field(static=True)

    def __init__(
        self,
        config: EncoderConfig,
        in_channels: int,
        out_channels: int,
        *,
        groups: int = 1,
        causal: bool = False,
        key: PRNGKeyArray,
    ):
        """**Arguments:** `groups`, the number of groups of the last convolution of v1, which has 2 if it computes means
        and deviations; `causal`, whether all convolutions are padded on the left only.
        """
        self.ratio = math.prod(config.ratios)
        if config.version == "v1":
            self.net = _v1_layers(config, in_channels, out_channels, groups, causal, key)
        else:
            self.net = _v2_layers(config, in_channels, out_channels, causal, key)

    def init_state(self) -> NetState | None:
        """The initial state of batch norms and of adaptive instance norms; `None` if there are none."""
        return init_net_state(self.net)

    def __call__(
        self, x: Float[Array, "*batch time in"], state: NetState | None = None, *, inference: bool = False
    ) -> tuple[Float[Array, "*batch frames out"], NetState | None]:
        """**Arguments:**

        - `x`: `(*batch, time, in)`; `time` is a multiple of `ratio`, the product of the ratios.
        - `state`: running statistics, from `init_state`. With `inference`, those of batch norm are used and not
            changed, and adaptive instance norm acts.

        **Returns:** `(*batch, time / ratio, out)`, and the state.

        **Raises:** `ShapeError` for another length or number of channels; `ConfigError` if `state` is missing.
        """
        if x.ndim < 2 or x.shape[-2] % self.ratio or x.shape[-2] == 0:
            raise ShapeError(
                f"The shape of the encoder's input is {x.shape}; it should be (*batch, time, channels) with a multiple "
                f"of {self.ratio} time steps. Append zeros to the audio, up to a multiple of the hop length."
            )
        return apply_net(self.net, x, state, inference=inference)

    def streaming_form(self, start: int, state: NetState | None = None) -> StreamingForm:
        """The form in inference; `state` and errors as for a call."""
        form = net_form(self.net, start, state)
        return form if self.path is None else SequenceForm([form], path=f"{self.path}[0]")


def _v1_layers(config: EncoderConfig, inputs: int, outputs: int, groups: int, causal: bool, key: PRNGKeyArray):
    first, last, *keys = jax.random.split(key, len(config.ratios) + 2)
    channels = config.capacity
    net: list[Module] = [conv(inputs, channels, 7, weight_norm=False, causal=causal, key=first)]
    for ratio, stage in zip(config.ratios, keys, strict=True):
        taps = 2 * ratio + 1
        down = conv(channels, 2 * channels, taps, stride=ratio, weight_norm=False, causal=causal, key=stage)
        net += [MaskedBatchNorm(channels), LeakyReLU(), down]
        channels *= 2
    out = conv(channels, outputs, 5, groups=groups, weight_norm=False, causal=causal, key=last)
    return [*net, LeakyReLU(), out]


def _v2_layers(config: EncoderConfig, inputs: int, outputs: int, causal: bool, key: PRNGKeyArray):
    first, last, *keys = jax.random.split(key, len(config.ratios) + 2)
    channels = config.capacity
    net: list[Module] = [conv(inputs, channels, 7, causal=causal, key=first)]
    for ratio, dilations, stage in zip(config.ratios, config.dilations, keys, strict=True):
        down, *units = jax.random.split(stage, len(dilations) + 1)
        net += residual_layers(channels, dilations, units, adain=config.adain, causal=causal)
        net.append(activation(channels, snake=config.snake))
        net.append(conv(channels, 2 * channels, 2 * ratio, stride=ratio, causal=causal, key=down))
        channels *= 2
    net.append(activation(channels, snake=config.snake))
    return [*net, conv(channels, outputs, 3, causal=causal, key=last)]


def residual_layers(
    channels: int, dilations: tuple[int, ...], keys: list[PRNGKeyArray], *, adain: bool, causal: bool
) -> list[Module]:
    """The residual blocks of a stage of v2, with an adaptive instance norm before each if `adain`."""
    net: list[Module] = []
    for dilation, key in zip(dilations, keys, strict=True):
        net += [AdaIN(channels)] if adain else []
        net.append(Residual(DilatedUnit(channels, dilation, causal=causal, key=key)))
    return net

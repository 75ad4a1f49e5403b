"""Layers of VITS: norms with the names of the release, and the gated convolutions."""

import equinox as eqx
import jax
from jax import numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from jaxvoice.models.vits.config import WaveNetConfig
from jaxvoice.nn import Conv1d, Module, masked
from jaxvoice.nn._inputs import check_input
from jaxvoice.nn._linear import normalize


class ChannelNorm(Module):
    """Layer norm over the channels of each position, with the names of the release: `gamma` and `beta`."""

    gamma: Float[Array, "..."]
    beta: Float[Array, "..."]
    eps: float = eqx.field(static=True)

    def __init__(self, channels: int, *, eps: float = 1e-5, gain: float = 1.0, rank: int = 1):
        """**Arguments:** `gain`, the initial value of `gamma`; `rank`, 1 for parameters of shape `(channels,)`, 3 for
        `(1, channels, 1)`, as in coqui's deterministic duration predictor."""
        shape = (channels,) if rank == 1 else (1, channels, 1)
        self.gamma, self.beta, self.eps = jnp.full(shape, gain), jnp.zeros(shape), eps

    def __call__(self, x: Float[Array, "*batch channels"]) -> Float[Array, "*batch channels"]:
        """Normalise `x`; statistics are computed in float32, and the output has the dtype of `x`.

        **Raises:** `ShapeError` for a wrong number of channels.
        """
        check_input(x, self.gamma.size)
        return normalize(x, self.gamma.reshape(-1), self.beta.reshape(-1), self.eps)


class WaveNet(Module):
    """Gated convolutions with residual and skip connections, conditioned on a vector (arXiv 2106.06103, appendix B.1).

    Attribute paths are the names of weights in the releases. jaywalnut310/vits `modules.py:WN`; coqui-ai/TTS
    `layers/generic/wavenet.py`.
    """

    in_layers: list[Conv1d]
    res_skip_layers: list[Conv1d]
    cond_layer: Conv1d | None

    def __init__(self, channels: int, config: WaveNetConfig, cond_channels: int, *, key: PRNGKeyArray):
        """**Arguments:** `channels` of the input and the output; `cond_channels`, size of the vector, 0 without one."""
        in_key, out_key, cond_key = jax.random.split(key, 3)
        layers, kernel = config.layers, config.kernel_size
        dilations = [config.dilation_rate**i for i in range(layers)]
        self.in_layers = [
            Conv1d(
                channels,
                2 * channels,
                kernel,
                dilation=dilation,
                padding=(kernel - 1) * dilation // 2,
                weight_norm=True,
                key=k,
            )
            for dilation, k in zip(dilations, jax.random.split(in_key, layers), strict=True)
        ]
        # The last layer has no residual connection.
        widths = [2 * channels] * (layers - 1) + [channels]
        self.res_skip_layers = [
            Conv1d(channels, width, 1, weight_norm=True, key=k)
            for width, k in zip(widths, jax.random.split(out_key, layers), strict=True)
        ]
        self.cond_layer = None
        if cond_channels:
            self.cond_layer = Conv1d(cond_channels, 2 * channels * layers, 1, weight_norm=True, key=cond_key)

    def __call__(
        self,
        x: Float[Array, "*batch time channels"],
        cond: Float[Array, "*batch cond"] | None = None,
        *,
        mask: Bool[Array, "*batch time"] | None = None,
    ) -> Float[Array, "*batch time channels"]:
        """**Arguments:** `x`, zero where `mask` is false; `cond`, the vector, `None` without one; `mask`, true at valid
        positions. Padding does not influence valid positions, and is zero in the output."""
        layers, channels = len(self.in_layers), x.shape[-1]
        conds: list[Array | None] = [None] * layers
        if self.cond_layer is not None and cond is not None:
            conds = list(jnp.split(self.cond_layer(cond[..., None, :].astype(x.dtype)), layers, axis=-1))
        skips = None
        for i, (conv, res_skip) in enumerate(zip(self.in_layers, self.res_skip_layers, strict=True)):
            gates, shift = conv(x), conds[i]
            tanh_in, gate_in = jnp.split(gates if shift is None else gates + shift, 2, axis=-1)
            out = res_skip(jnp.tanh(tanh_in) * jax.nn.sigmoid(gate_in))
            if i < layers - 1:
                x, out = masked(x + out[..., :channels], mask), out[..., channels:]
            skips = out if skips is None else skips + out
        assert skips is not None
        return masked(skips, mask)

"""The layers of WaveGlow's flows: invertible 1x1 convolutions, and the networks of the affine couplings."""

import jax
from jax import numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from jaxvoice.nn import Conv1d, Module, masked, operation


class ChannelMatrix(Module):
    """A square matrix that is applied to the channels of every position, with the weight of a `torch.nn.Conv1d`."""

    weight: Float[Array, "channels channels 1"]

    def __init__(self, channels: int, *, key: PRNGKeyArray):
        """A random rotation: orthonormal, with determinant 1."""
        matrix = jax.random.orthogonal(key, channels)
        sign = jnp.sign(jnp.linalg.det(matrix))
        self.weight = matrix.at[:, 0].multiply(sign)[..., None]

    def __call__(self, x: Float[Array, "*batch time channels"]) -> Float[Array, "*batch time channels"]:
        """The products of the matrix and the channels of each position, in at least float32."""
        return _mix(x, self.matrix())

    def matrix(self) -> Float[Array, "channels channels"]:
        """The matrix, in at least float32."""
        return at_least_float32(self.weight[..., 0])


class InvertibleConv1x1(Module):
    """An invertible matrix for the channels of every position (arXiv 1811.00002, section 2.2).

    `inverse` is the inverse matrix, which `precompute_inverses` stores; it is `None` during training.
    """

    conv: ChannelMatrix
    inverse: Float[Array, "channels channels"] | None

    def __init__(self, channels: int, *, key: PRNGKeyArray):
        self.conv = ChannelMatrix(channels, key=key)
        self.inverse = None

    def __call__(self, x: Float[Array, "*batch time channels"]) -> Float[Array, "*batch time channels"]:
        """Audio to latents: apply the matrix."""
        return self.conv(x)

    @operation
    def reverse(self, x: Float[Array, "*batch time channels"]) -> Float[Array, "*batch time channels"]:
        """Latents to audio: apply the inverse matrix, which is computed if it was not stored."""
        return _mix(x, jnp.linalg.inv(self.conv.matrix()) if self.inverse is None else self.inverse)

    def log_determinant(self) -> Float[Array, ""]:
        """The logarithm of the absolute value of the determinant of the matrix."""
        return jnp.linalg.slogdet(self.conv.matrix())[1]


def at_least_float32(x: Array) -> Array:
    """`x`, converted to float32 if it is narrower."""
    return x.astype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x


def _mix(x: Array, matrix: Array) -> Array:
    # GPUs and TPUs round the inputs of products by default, which the inverse would amplify.
    return jnp.einsum("...i,oi->...o", at_least_float32(x), matrix, precision="highest")


class WaveNet(Module):
    """The network of an affine coupling: dilated convolutions with gates, conditioned on the upsampled mel.

    Attribute paths are the names of weights in the release (NVIDIA/waveglow `glow.py:WN`). The last convolution is
    initialised with zeros, so that a new coupling is the identity.
    """

    in_layers: list[Conv1d]
    res_skip_layers: list[Conv1d]
    start: Conv1d
    end: Conv1d
    cond_layer: Conv1d

    def __init__(
        self,
        inputs: int,
        condition_size: int,
        channels: int,
        *,
        layers: int,
        kernel_size: int,
        key: PRNGKeyArray,
    ):
        """**Arguments:** `inputs`, channels of the signal; `condition_size`, channels of the condition; `channels`,
        `layers` and `kernel_size` of the dilated convolutions."""
        start_key, end_key, cond_key, key = jax.random.split(key, 4)
        in_keys, out_keys = jax.random.split(key, (2, layers))
        self.in_layers = [
            Conv1d(
                channels,
                2 * channels,
                kernel_size,
                dilation=2**i,
                padding=(kernel_size - 1) * 2**i // 2,
                weight_norm=True,
                key=in_keys[i],
            )
            for i in range(layers)
        ]
        # The last layer has no residual connection.
        widths = [2 * channels] * (layers - 1) + [channels]
        self.res_skip_layers = [
            Conv1d(channels, width, 1, weight_norm=True, key=out_keys[i]) for i, width in enumerate(widths)
        ]
        self.start = Conv1d(inputs, channels, 1, weight_norm=True, key=start_key)
        end = Conv1d(channels, 2 * inputs, 1, key=end_key)
        self.end = jax.tree.map(jnp.zeros_like, end)
        self.cond_layer = Conv1d(condition_size, 2 * channels * layers, 1, weight_norm=True, key=cond_key)

    def __call__(
        self,
        x: Float[Array, "*batch time inputs"],
        condition: Float[Array, "*batch time condition"],
        *,
        mask: Bool[Array, "*batch time"] | None = None,
    ) -> Float[Array, "*batch time outputs"]:
        """The shift and the logarithm of the scale, each with as many channels as `x`, one after the other.

        Positions at which `mask` is false do not influence others.
        """
        x, skips = self.start(x), None
        # The transpose of a split is a concatenation, which is faster than that of slices, a sum of padded arrays.
        conditions = jnp.split(self.cond_layer(condition), len(self.in_layers), axis=-1)
        for i, (conv, res_skip) in enumerate(zip(self.in_layers, self.res_skip_layers, strict=True)):
            channels = x.shape[-1]
            tanh_in, gate_in = jnp.split(conv(masked(x, mask)) + conditions[i], 2, axis=-1)
            out = res_skip(jnp.tanh(tanh_in) * jax.nn.sigmoid(gate_in))
            if i < len(self.in_layers) - 1:
                x, out = x + out[..., :channels], out[..., channels:]
            skips = out if skips is None else skips + out
        assert skips is not None
        return self.end(skips)

"""The duration predictors of VITS: a normalising flow of durations, and convolutions."""

import math
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from jaxvoice.models.vits.config import VITSConfig
from jaxvoice.models.vits.layers import ChannelNorm
from jaxvoice.models.vits.splines import rational_quadratic_spline
from jaxvoice.nn import Conv1d, Module, dropout, masked, operation, subkeys

_BOUND = 5.0
"""The splines map [-5, 5] to itself."""
_SHORTEST = 1e-5  # of the durations whose logarithm is taken
_LOG_TWO_PI = math.log(2 * math.pi)


def _mask_sum(x: Float[Array, "*batch time channels"], mask: Bool[Array, "*batch time"]) -> Float[Array, "*batch"]:
    """The sum over the valid positions and the channels of each example."""
    return masked(x, mask).sum((-2, -1))


def _with_conditions(x: Array, *pairs: tuple[Conv1d | None, Array | None]) -> Array:
    """`x` plus the projection of each vector that is not `None`."""
    for layer, vector in pairs:
        if layer is not None and vector is not None:
            x = x + layer(vector[..., None, :].astype(x.dtype))
    return x


class SeparableConvs(Module):
    """Dilated depth-wise convolutions with residual connections. jaywalnut310/vits `modules.py:DDSConv`.

    Layer `i` has the dilation `kernel_size ** i`.
    """

    convs_sep: list[Conv1d]
    convs_1x1: list[Conv1d]
    norms_1: list[ChannelNorm]
    norms_2: list[ChannelNorm]
    dropout: float = eqx.field(static=True)

    def __init__(self, channels: int, kernel_size: int, *, layers: int = 3, dropout: float = 0.0, key: PRNGKeyArray):
        keys = jax.random.split(key, (2, layers))
        self.convs_sep = [
            Conv1d(
                channels,
                channels,
                kernel_size,
                groups=channels,
                dilation=kernel_size**i,
                padding=(kernel_size - 1) * kernel_size**i // 2,
                key=keys[0, i],
            )
            for i in range(layers)
        ]
        self.convs_1x1 = [Conv1d(channels, channels, 1, key=k) for k in keys[1]]
        self.norms_1 = [ChannelNorm(channels) for _ in range(layers)]
        self.norms_2 = [ChannelNorm(channels) for _ in range(layers)]
        self.dropout = dropout

    def __call__(
        self,
        x: Float[Array, "*batch time channels"],
        *,
        mask: Bool[Array, "*batch time"],
        inference: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "*batch time channels"]:
        """The output has the shape of `x`, and is zero where `mask` is false."""
        layers = zip(self.convs_sep, self.norms_1, self.convs_1x1, self.norms_2, strict=True)
        for layer_key, (separable, norm_1, pointwise, norm_2) in zip(
            subkeys(key, len(self.convs_sep)), layers, strict=True
        ):
            y = jax.nn.gelu(norm_1(separable(masked(x, mask))), approximate=False)
            y = jax.nn.gelu(norm_2(pointwise(y)), approximate=False)
            x = x + dropout(y, self.dropout, inference=inference, key=layer_key)
        return masked(x, mask)


class ElementwiseAffine(Module):
    """Scales and shifts each channel; the identity if new. jaywalnut310/vits `modules.py:ElementwiseAffine`."""

    translation: Float[Array, "channels 1"]
    log_scale: Float[Array, "channels 1"]

    def __init__(self, channels: int):
        self.translation, self.log_scale = jnp.zeros((channels, 1)), jnp.zeros((channels, 1))

    def __call__(
        self, z: Float[Array, "*batch time channels"], *, mask: Bool[Array, "*batch time"]
    ) -> tuple[Float[Array, "*batch time channels"], Float[Array, "*batch"]]:
        """The result, zero where `mask` is false, and the logarithm of the determinant."""
        scale, shift = (row[:, 0].reshape((1,) * (z.ndim - 1) + (-1,)) for row in (self.log_scale, self.translation))
        log_determinant = _mask_sum(jnp.broadcast_to(scale, z.shape), mask)
        return masked(z * jnp.exp(scale) + shift, mask), log_determinant

    @operation
    def reverse(
        self, z: Float[Array, "*batch time channels"], *, mask: Bool[Array, "*batch time"]
    ) -> Float[Array, "*batch time channels"]:
        """The inverse of a call."""
        scale, shift = (row[:, 0].reshape((1,) * (z.ndim - 1) + (-1,)) for row in (self.log_scale, self.translation))
        return masked((z - shift) * jnp.exp(-scale), mask)


class SplineCoupling(Module):
    """Maps the second of two channels by a spline whose knots depend on the first (arXiv 1906.04032).

    The last convolution is initialised with zeros. jaywalnut310/vits `modules.py:ConvFlow`.
    """

    pre: Conv1d
    convs: SeparableConvs
    proj: Conv1d
    bins: int = eqx.field(static=True)

    def __init__(self, channels: int, kernel_size: int, bins: int, *, key: PRNGKeyArray):
        pre_key, convs_key, proj_key = jax.random.split(key, 3)
        self.pre = Conv1d(1, channels, 1, key=pre_key)
        self.convs = SeparableConvs(channels, kernel_size, key=convs_key)
        self.proj = jax.tree.map(jnp.zeros_like, Conv1d(channels, 3 * bins - 1, 1, key=proj_key))
        self.bins = bins

    def __call__(
        self,
        z: Float[Array, "*batch time 2"],
        cond: Float[Array, "*batch time channels"],
        *,
        mask: Bool[Array, "*batch time"],
    ) -> tuple[Float[Array, "*batch time 2"], Float[Array, "*batch"]]:
        """The result, zero where `mask` is false, and the logarithm of the determinant."""
        moved, log_slope = self._spline(z, cond, mask, inverse=False)
        return masked(jnp.concatenate([z[..., :1], moved], -1), mask), _mask_sum(log_slope, mask)

    @operation
    def reverse(
        self,
        z: Float[Array, "*batch time 2"],
        cond: Float[Array, "*batch time channels"],
        *,
        mask: Bool[Array, "*batch time"],
    ) -> Float[Array, "*batch time 2"]:
        """The inverse of a call."""
        moved, _ = self._spline(z, cond, mask, inverse=True)
        return masked(jnp.concatenate([z[..., :1], moved], -1), mask)

    def _spline(self, z: Array, cond: Array, mask: Array, *, inverse: bool) -> tuple[Array, Array]:
        hidden = self.convs(self.pre(z[..., :1].astype(cond.dtype)) + cond, mask=mask, inference=True)
        knots = masked(self.proj(hidden), mask)[..., None, :].astype(z.dtype)
        scale = 1 / math.sqrt(hidden.shape[-1])
        widths, heights, slopes = jnp.split(knots, [self.bins, 2 * self.bins], axis=-1)
        return rational_quadratic_spline(
            z[..., 1:], widths * scale, heights * scale, slopes, bound=_BOUND, inverse=inverse
        )


class StochasticDurationPredictor(Module):
    """A normalising flow of durations, conditioned on the text (arXiv 2106.06103, section 2.2.2).

    Durations are whole numbers. In training, a number below 1 is subtracted from each (dequantisation), whose
    distribution is a flow of its own, `post_flows`; a second channel makes the flow more expressive.

    Attribute paths are the names of weights in coqui's releases. jaywalnut310/vits `models.py`; coqui-ai/TTS
    `layers/vits/stochastic_duration_predictor.py`.
    """

    pre: Conv1d
    convs: SeparableConvs
    proj: Conv1d
    flows: list[Any]
    post_pre: Conv1d
    post_convs: SeparableConvs
    post_proj: Conv1d
    post_flows: list[Any]
    cond: Conv1d | None
    cond_lang: Conv1d | None

    def __init__(self, config: VITSConfig, *, key: PRNGKeyArray):
        sizes, keys = config.durations, jax.random.split(key, 10)
        channels, kernel = sizes.channels, sizes.kernel_size

        def flows(key: PRNGKeyArray) -> list[Any]:
            keys = jax.random.split(key, sizes.flows)
            return [ElementwiseAffine(2), *(SplineCoupling(channels, kernel, sizes.bins, key=k) for k in keys)]

        self.pre = Conv1d(config.text_channels, channels, 1, key=keys[0])
        self.convs = SeparableConvs(channels, kernel, dropout=sizes.dropout, key=keys[1])
        self.proj = Conv1d(channels, channels, 1, key=keys[2])
        self.flows = flows(keys[3])
        self.post_pre = Conv1d(1, channels, 1, key=keys[4])
        self.post_convs = SeparableConvs(channels, kernel, dropout=sizes.dropout, key=keys[5])
        self.post_proj = Conv1d(channels, channels, 1, key=keys[6])
        self.post_flows = flows(keys[7])
        self.cond, self.cond_lang = _condition_layers(config, channels, keys[8], keys[9])

    def __call__(
        self,
        hidden: Float[Array, "*batch tokens text_channels"],
        noise: Float[Array, "*batch tokens 2"],
        speaker: Float[Array, "*batch speaker"] | None = None,
        language: Float[Array, "*batch language"] | None = None,
        *,
        mask: Bool[Array, "*batch tokens"],
    ) -> Float[Array, "*batch tokens"]:
        """Sample the logarithms of the durations in frames.

        **Arguments:**

        - `hidden`: hidden states of the text encoder.
        - `noise`: normal noise `(*batch, tokens, 2)`, whose standard deviation controls the variation.
        - `speaker`, `language`: the vectors of the speaker and of the language, `None` without them.
        - `mask`: true at valid tokens; the result is zero elsewhere.
        """
        condition = self._condition(hidden, speaker, language, mask, inference=True, key=None)
        # The release leaves out the first coupling in synthesis; the channels are still reversed after it.
        affine, _, *couplings = self.flows
        z = noise
        for flow in reversed(couplings):
            z = flow.reverse(z[..., ::-1], condition, mask=mask)
        return affine.reverse(z[..., ::-1], mask=mask)[..., 0]

    @operation
    def loss(
        self,
        hidden: Float[Array, "*batch tokens text_channels"],
        durations: Float[Array, "*batch tokens"],
        noise: Float[Array, "*batch tokens 2"],
        speaker: Float[Array, "*batch speaker"] | None = None,
        language: Float[Array, "*batch language"] | None = None,
        *,
        mask: Bool[Array, "*batch tokens"],
        inference: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "*batch"]:
        """An upper bound of the negative log-likelihood of `durations`, summed over the tokens of each example.

        **Arguments:** `durations` in frames, zero in padding; `noise`, standard normal noise for the dequantisation;
        otherwise as for a call. `key` is for dropout, which `inference` disables.
        """
        keys = subkeys(key, 2)
        condition = self._condition(hidden, speaker, language, mask, inference=inference, key=keys[0])
        frames = durations[..., None].astype(np.promote_types(durations.dtype, np.float32))
        posterior = self.post_convs(
            self.post_pre(frames.astype(condition.dtype)), mask=mask, inference=inference, key=keys[1]
        )
        posterior = masked(self.post_proj(posterior), mask)
        noise = masked(noise.astype(frames.dtype), mask)
        z, log_density = _through(self.post_flows, noise, condition + posterior, mask)
        z_u, z_v = z[..., :1], z[..., 1:]
        log_density = log_density + _mask_sum(jax.nn.log_sigmoid(z_u) + jax.nn.log_sigmoid(-z_u), mask)
        log_posterior = _log_normal(noise, mask) - log_density
        dequantised = masked(frames - jax.nn.sigmoid(z_u), mask)
        logs = masked(jnp.log(jnp.maximum(dequantised, _SHORTEST)), mask)
        z, log_determinant = _through(self.flows, jnp.concatenate([logs, z_v], -1), condition, mask)
        log_likelihood = _log_normal(z, mask) + log_determinant - logs.sum((-2, -1))
        return log_posterior - log_likelihood

    def _condition(
        self,
        hidden: Array,
        speaker: Array | None,
        language: Array | None,
        mask: Array,
        *,
        inference: bool,
        key: PRNGKeyArray | None,
    ) -> Float[Array, "*batch tokens channels"]:
        x = _with_conditions(self.pre(hidden), (self.cond, speaker), (self.cond_lang, language))
        return masked(self.proj(self.convs(x, mask=mask, inference=inference, key=key)), mask)


def _condition_layers(
    config: VITSConfig, channels: int, speaker_key: PRNGKeyArray, language_key: PRNGKeyArray
) -> tuple[Conv1d | None, Conv1d | None]:
    """The projections of the speaker vector and of the language embedding to `channels`."""
    speaker = Conv1d(config.speaker_channels, channels, 1, key=speaker_key) if config.speaker_channels else None
    language = Conv1d(config.language_channels, channels, 1, key=language_key) if config.languages else None
    return speaker, language


def _through(flows: list[Any], z: Array, condition: Array, mask: Array) -> tuple[Array, Array]:
    """`z` through the affine map and the couplings, and the logarithm of the determinant.

    The channels are reversed after each coupling.
    """
    affine, *couplings = flows
    z, log_determinant = affine(z, mask=mask)
    for coupling in couplings:
        z, change = coupling(z, condition, mask=mask)
        z, log_determinant = z[..., ::-1], log_determinant + change
    return z, log_determinant


def _log_normal(z: Array, mask: Array) -> Float[Array, "*batch"]:
    """The log-density of `z` under the standard normal distribution, summed over the valid positions."""
    return _mask_sum(-0.5 * (_LOG_TWO_PI + jnp.square(z)), mask)


class DurationPredictor(Module):
    """Convolutions that predict the logarithm of each duration, as in Glow-TTS (arXiv 2005.11129).

    Attribute paths are the names of weights in coqui's releases: coqui-ai/TTS `layers/glow_tts/duration_predictor.py`.
    """

    conv_1: Conv1d
    norm_1: ChannelNorm
    conv_2: Conv1d
    norm_2: ChannelNorm
    proj: Conv1d
    cond: Conv1d | None
    cond_lang: Conv1d | None
    dropout: float = eqx.field(static=True)

    def __init__(self, config: VITSConfig, *, key: PRNGKeyArray):
        sizes, keys = config.durations, jax.random.split(key, 5)
        inputs, channels, kernel = config.text_channels, sizes.channels, sizes.kernel_size
        padding = kernel // 2
        self.conv_1 = Conv1d(inputs, channels, kernel, padding=padding, key=keys[0])
        self.conv_2 = Conv1d(channels, channels, kernel, padding=padding, key=keys[1])
        self.norm_1, self.norm_2 = (
            ChannelNorm(channels, eps=sizes.norm_eps, gain=sizes.norm_gain, rank=3) for _ in range(2)
        )
        self.proj = Conv1d(channels, 1, 1, key=keys[2])
        self.cond, self.cond_lang = _condition_layers(config, inputs, keys[3], keys[4])
        self.dropout = sizes.dropout

    def __call__(
        self,
        hidden: Float[Array, "*batch tokens text_channels"],
        noise: Float[Array, "*batch tokens 2"] | None = None,
        speaker: Float[Array, "*batch speaker"] | None = None,
        language: Float[Array, "*batch language"] | None = None,
        *,
        mask: Bool[Array, "*batch tokens"],
    ) -> Float[Array, "*batch tokens"]:
        """The logarithms of the durations in frames, at least float32; zero where `mask` is false.

        Arguments are those of `StochasticDurationPredictor`; `noise` is not used.
        """
        return self._logs(hidden, speaker, language, mask, inference=True, key=None)

    @operation
    def loss(
        self,
        hidden: Float[Array, "*batch tokens text_channels"],
        durations: Float[Array, "*batch tokens"],
        noise: Float[Array, "*batch tokens 2"] | None = None,
        speaker: Float[Array, "*batch speaker"] | None = None,
        language: Float[Array, "*batch language"] | None = None,
        *,
        mask: Bool[Array, "*batch tokens"],
        inference: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "*batch"]:
        """The squared errors of the logarithms of `durations`, summed over the tokens of each example.

        Arguments are those of `StochasticDurationPredictor.loss`; `noise` is not used. `key` is for dropout, which
        `inference` disables.
        """
        logs = self._logs(hidden, speaker, language, mask, inference=inference, key=key)
        expected = jnp.log(durations.astype(logs.dtype) + 1e-6)
        return jnp.where(mask, jnp.square(logs - expected), jnp.zeros((), logs.dtype)).sum(-1)

    def _logs(
        self,
        hidden: Array,
        speaker: Array | None,
        language: Array | None,
        mask: Array,
        *,
        inference: bool,
        key: PRNGKeyArray | None,
    ) -> Float[Array, "*batch tokens"]:
        keys = subkeys(key, 2)
        x = _with_conditions(hidden, (self.cond, speaker), (self.cond_lang, language))
        for conv, norm, layer_key in ((self.conv_1, self.norm_1, keys[0]), (self.conv_2, self.norm_2, keys[1])):
            x = norm(jax.nn.relu(conv(masked(x, mask))))
            x = dropout(x, self.dropout, inference=inference, key=layer_key)
        logs = masked(self.proj(masked(x, mask)), mask)[..., 0]
        return logs.astype(np.promote_types(logs.dtype, np.float32))

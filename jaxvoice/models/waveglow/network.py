"""The network of WaveGlow: an invertible map between audio and Gaussian noise, conditioned on mel spectrograms."""

import math
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np
from jax import lax, numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from jaxvoice import dissect
from jaxvoice.errors import ShapeError
from jaxvoice.models.waveglow.config import WaveGlowConfig
from jaxvoice.models.waveglow.layers import InvertibleConv1x1, WaveNet, at_least_float32
from jaxvoice.models.waveglow.weights import inverse_matrix
from jaxvoice.nn import ConvTranspose1d, Module, length_mask, masked, operation
from jaxvoice.nn._kernels import computes_on_cpu


class WaveGlowLatents(NamedTuple):
    """The latents of a recording, and the terms of their log-likelihood."""

    latents: Float[Array, "*batch positions group"]
    """The latents, which are normally distributed if the model is perfect; zero in padding."""
    log_scales: Float[Array, "*batch positions"]
    """Sum of the logarithms of the scales of each position, over flows and channels; zero in padding."""
    log_determinant: Float[Array, "*batch"]
    """Sum of `log|det W|` of the invertible convolutions over flows and positions."""
    samples: Int[Array, "*batch"]
    """Number of valid samples."""

    @property
    def log_scale(self) -> Float[Array, "*batch"]:
        """Sum of the logarithms of all scales, over flows, positions and channels."""
        return self.log_scales.sum(-1)

    def select(self, kept: Bool[Array, "*batch positions"]) -> "WaveGlowLatents":
        """The terms of the valid positions at which `kept` is true; the latents of the others are zero."""
        group = self.latents.shape[-1]
        samples = group * kept.sum(-1, dtype=self.samples.dtype)
        share = samples.astype(self.log_determinant.dtype) / self.samples.astype(self.log_determinant.dtype)
        return WaveGlowLatents(
            masked(self.latents, kept),
            jnp.where(kept, self.log_scales, 0),
            share * self.log_determinant,
            samples,
        )


class WaveGlow(Module):
    """Maps noise and a mel spectrogram to a waveform, and a waveform to noise (arXiv 1811.00002).

    Attribute paths are the names of weights in the release (NVIDIA/waveglow `glow.py`): `WN.3.in_layers.0.weight_g`,
    `convinv.0.conv.weight`.
    """

    upsample: ConvTranspose1d
    WN: list[WaveNet]
    convinv: list[InvertibleConv1x1]
    config: WaveGlowConfig = eqx.field(static=True)

    def __init__(self, config: WaveGlowConfig, *, key: PRNGKeyArray):
        """Weights are drawn as in the release: torch's default distribution, random rotations, and zeros for the last
        convolution of each coupling."""
        upsample_key, key = jax.random.split(key)
        keys, mels = jax.random.split(key, (2, config.flows)), config.mel.num_mels
        self.config = config
        self.upsample = ConvTranspose1d(
            mels, mels, config.upsample_kernel, stride=config.mel.hop_length, key=upsample_key
        )
        self.WN = [
            WaveNet(
                channels // 2,
                mels * config.group,
                config.channels,
                layers=config.layers,
                kernel_size=config.kernel_size,
                key=keys[0, k],
            )
            for k, channels in enumerate(config.latent_channels)
        ]
        self.convinv = [InvertibleConv1x1(c, key=keys[1, k]) for k, c in enumerate(config.latent_channels)]

    def __call__(
        self,
        mel: Float[Array, "*batch frames mels"],
        noise: Float[Array, "*batch positions group"],
        *,
        length: Int[Array, "*batch"] | int | None = None,
    ) -> Float[Array, "*batch samples 1"]:
        """**Arguments:**

        - `mel`: log-mel spectrogram `(*batch, frames, mels)`; its dtype is the precision of the couplings.
        - `noise`: latents `(*batch, frames * hop_length / group, group)`, usually normal noise times a standard
            deviation below 1. The channels are in the order of the latents of `encode`.
        - `length`: number of valid frames; the rest is padding. The samples of the valid frames do not depend on the
            padding.

        **Returns:** waveform `(*batch, frames * hop_length, 1)`, at least float32.

        **Raises:** `ShapeError` if the shape of `mel` or `noise` does not match the configuration, or if the shape of
        `noise` or `length` does not match the batch of `mel`.
        """
        config = self.config
        self._check_mel(mel)
        batch, positions = mel.shape[:-2], mel.shape[-2] * config.positions_per_frame
        if noise.shape != (*batch, positions, config.group):
            raise ShapeError(
                f"The shape of noise is {noise.shape}; it should be {(*batch, positions, config.group)}, "
                f"{config.positions_per_frame} positions for each frame of the mel."
            )
        mask = self._mask(length, positions, batch)
        condition = self._condition(mel, positions)
        last = config.latent_channels[-1]
        noise = at_least_float32(noise)
        early, x = noise[..., :-last], noise[..., -last:]
        for k in reversed(range(config.flows)):
            half = x.shape[-1] // 2
            shift, log_scale = self._coupling(k, x[..., :half], _after(x, condition), mask)
            x = jnp.concatenate([x[..., :half], (x[..., half:] - shift) * jnp.exp(-log_scale)], -1)
            x = self.convinv[k].reverse(x)
            if k in config.early_outputs:
                x = jnp.concatenate([early[..., -config.early_size :], x], -1)
                early = early[..., : -config.early_size]
        return x.reshape(*batch, positions * config.group, 1)

    @operation
    def encode(
        self,
        audio: Float[Array, "*batch samples 1"],
        mel: Float[Array, "*batch frames mels"],
        *,
        length: Int[Array, "*batch"] | int | None = None,
    ) -> WaveGlowLatents:
        """The inverse of a call: `network(mel, network.encode(audio, mel).latents)` is `audio`.

        **Arguments:**

        - `audio`: waveform `(*batch, samples, 1)` in [-1, 1]. The number of samples is a multiple of `group`, and at
            most `(frames - 1) * hop_length + upsample_kernel`.
        - `mel`: log-mel spectrogram `(*batch, frames, mels)`; its dtype is the precision of the couplings.
        - `length`: number of valid frames; the samples after `length * hop_length` are padding. Padding influences
            no result.

        **Raises:** `ShapeError` if the shape of `audio` or `mel` does not match the configuration, or if the shape of
        `audio` or `length` does not match the batch of `mel`.
        """
        config = self.config
        self._check_mel(mel)
        batch, samples = mel.shape[:-2], audio.shape[-2] if audio.ndim > 1 else 0
        most = (mel.shape[-2] - 1) * config.mel.hop_length + config.upsample_kernel
        fits = audio.shape == (*batch, samples, 1) and samples % config.group == 0 and 0 < samples <= most
        if not fits:
            raise ShapeError(
                f"The shape of audio is {audio.shape}; it should be {(*batch, '...', 1)}, with a multiple of "
                f"{config.group} samples, and at most {most} for the {mel.shape[-2]} frames of the mel."
            )
        positions = samples // config.group
        mask = self._mask(length, positions, batch)
        condition = self._condition(mel, positions)
        x = masked(at_least_float32(audio).reshape(*batch, positions, config.group), mask)
        latents, log_scales, log_determinants = [], [], []
        for k in range(config.flows):
            if k in config.early_outputs:
                latents.append(x[..., : config.early_size])
                x = x[..., config.early_size :]
            x = self.convinv[k](x)
            half = x.shape[-1] // 2
            shift, log_scale = self._coupling(k, x[..., :half], condition, mask)
            x = jnp.concatenate([x[..., :half], x[..., half:] * jnp.exp(log_scale) + shift], -1)
            log_scales.append(masked(log_scale, mask).sum(-1))
            log_determinants.append(self.convinv[k].log_determinant())
        valid = jnp.full(batch, positions) if mask is None else mask.sum(-1)
        determinants = sum(log_determinants[1:], log_determinants[0])
        return WaveGlowLatents(
            masked(jnp.concatenate([*latents, x], -1), mask),
            sum(log_scales[1:], log_scales[0]),
            valid.astype(determinants.dtype) * determinants,
            valid * config.group,
        )

    def _coupling(
        self, k: int, x: Array, condition: Array, mask: Bool[Array, "*batch positions"] | None
    ) -> tuple[Array, Array]:
        """The shift and the logarithm of the scale of flow `k` from the first half of its channels."""
        output = at_least_float32(self.WN[k](x.astype(condition.dtype), condition, mask=mask))
        return output[..., : x.shape[-1]], output[..., x.shape[-1] :]

    def _condition(self, mel: Array, positions: int) -> Float[Array, "*batch positions mels_times_group"]:
        """The upsampled mel, grouped: channel `band * group + i` belongs to sample `i` of a position."""
        group = self.config.group
        upsampled = self.upsample(mel)[..., : positions * group, :]
        grouped = upsampled.reshape(*mel.shape[:-2], positions, group, mel.shape[-1])
        return grouped.swapaxes(-1, -2).reshape(*mel.shape[:-2], positions, -1)

    def _mask(
        self, length: Array | int | None, positions: int, batch: tuple[int, ...]
    ) -> Bool[Array, "*batch positions"] | None:
        if length is None:
            return None
        return length_mask(jnp.asarray(length) * self.config.positions_per_frame, positions, batch=batch)

    def _check_mel(self, mel: Array) -> None:
        mels = self.config.mel.num_mels
        if mel.ndim < 2 or mel.shape[-1] != mels or mel.shape[-2] == 0:
            raise ShapeError(
                f"The shape of mel is {mel.shape}; it should be (*batch, frames, {mels}), with at least one frame."
            )


def _after(x: Array, condition: Array) -> Array:
    """`condition`, made dependent on `x`, so that XLA uses it only after `x` is known.

    Otherwise XLA projects the condition for all flows first, which takes twelve times the memory. Its CPU backend
    removes `lax.optimization_barrier`. There, the condition is multiplied by a one that depends on `x`: the product of
    two consecutive integers is even, which XLA does not know.
    """
    if not computes_on_cpu() or x.size == 0:
        return lax.optimization_barrier((x, condition))[1]
    number = lax.bitcast_convert_type(lax.stop_gradient(x).reshape(-1)[0].astype(jnp.float32), jnp.int32)
    return condition * (1 - ((number * (number + 1)) & 1)).astype(condition.dtype)


def negative_log_likelihood(latents: WaveGlowLatents, *, sigma: float = 1.0) -> Float[Array, "*batch"]:
    """The negative log-likelihood of each example in nats per sample, without the constant `log(sigma * sqrt(2 pi))`.

    This is the training loss of the release, for latents with the standard deviation `sigma`.

    NVIDIA/waveglow `glow.py:WaveGlowLoss`; arXiv 1811.00002, equation 3.
    """
    squares = jnp.square(latents.latents).sum((-2, -1)) / (2 * sigma**2)
    loss = squares - latents.log_scale - latents.log_determinant
    return loss / latents.samples.astype(loss.dtype)


def bits_per_sample(latents: WaveGlowLatents, *, sigma: float = 1.0) -> Float[Array, "*batch"]:
    """The negative log-likelihood of each example in bits per sample, for the density of samples in [-1, 1].

    It includes the constant that `negative_log_likelihood` omits. The density of a continuous signal can be above 1, so
    the result can be negative.
    """
    nats = negative_log_likelihood(latents, sigma=sigma) + math.log(sigma * math.sqrt(2 * math.pi))
    return nats / math.log(2)


def frame_noise(
    frames: Int[Array, "*batch frames"], config: WaveGlowConfig, *, key: PRNGKeyArray
) -> Float[Array, "*batch positions group"]:
    """Standard normal noise for the frames with the numbers `frames`.

    The noise of a frame depends on `key` and its number only, so that windows of a recording agree in their overlaps.
    """
    shape = (config.positions_per_frame, config.group)
    draw = jax.vmap(lambda frame: jax.random.normal(jax.random.fold_in(key, frame), shape))
    return draw(frames.reshape(-1)).reshape(*frames.shape[:-1], -1, config.group)


def precompute_inverses(network: WaveGlow) -> WaveGlow:
    """`network` for synthesis: the inverses of its matrices are computed once, in float64, and stored.

    A network with stored inverses is not for training, and has more arrays than its model folder.

    **Raises:** `CheckpointError` with the name of the weight, if a matrix is not finite or cannot be inverted in
    float32.
    """
    inverses = [
        jnp.asarray(inverse_matrix(np.asarray(layer.conv.weight), f"convinv.{k}.conv.weight"), jnp.float32)
        for k, layer in enumerate(network.convinv)
    ]
    return eqx.tree_at(
        lambda network: [layer.inverse for layer in network.convinv],
        network,
        inverses,
        is_leaf=lambda leaf: leaf is None,
    )


def find_non_finite_layer(
    network: WaveGlow, mel: Float[Array, "*batch frames mels"], noise: Float[Array, "*batch positions group"]
) -> str | None:
    """The name of the first layer in synthesis whose result contains NaN or infinity; `None` if all are finite.

    A name such as `WN.3.end` means that the shift or the log-scale of flow 3 is not finite, `convinv.3` that its scale
    or its matrix is not.
    """
    run = dissect.capture(
        lambda network, mel, noise: network(mel, noise), ["upsample", "WN.*.end", "convinv.*.reverse"]
    )
    _, results = eqx.filter_jit(run)(dissect.tag(network), mel, noise)
    order = ["upsample"]
    for k in reversed(range(network.config.flows)):
        order += [f"WN.{k}.end", f"convinv.{k}.reverse"]
    return next((name.removesuffix(".reverse") for name in order if not np.isfinite(results[name]).all()), None)

"""The front end inside a speaker encoder: waveform to mel power spectrogram, with the buffers of released models."""

import equinox as eqx
import jax
from jax import numpy as jnp
from jaxtyping import Array, Float, Int

from jaxvoice.dsp.mel_config import PowerMelConfig
from jaxvoice.dsp.power_mels import power_mel
from jaxvoice.errors import ShapeError
from jaxvoice.models.speaker_encoder.config import SpeakerEncoderConfig
from jaxvoice.nn import length_mask, masked
from jaxvoice.nn._inputs import check_input

BUFFERS = ("torch_spec",)
"""Paths of arrays that training does not change, for `Learner.create(frozen=...)`."""
_DEVIATION_FLOOR, _NORM_FLOOR = 1e-5, 1e-24


class PreEmphasis(eqx.Module):
    """The coefficients of the previous sample and of the sample itself."""

    filter: Float[Array, "1 1 2"]


class Spectrogram(eqx.Module):
    """The window of the Fourier transform."""

    window: Float[Array, " win_length"]


class MelScale(eqx.Module):
    """The filterbank."""

    fb: Float[Array, "bins mels"]


class MelSpectrogram(eqx.Module):
    """Window and filterbank."""

    spectrogram: Spectrogram
    mel_scale: MelScale


FrontEnd = tuple[PreEmphasis, MelSpectrogram]


def front_end(config: SpeakerEncoderConfig) -> FrontEnd | None:
    """The buffers of the front end under their released names, `torch_spec.0.filter` and so on.

    `None` if the network reads mels.
    """
    mel = config.mel
    if not isinstance(mel, PowerMelConfig):
        return None
    emphasis = PreEmphasis(jnp.asarray([[[-mel.preemphasis, 1.0]]], jnp.float32))
    window, filters = jnp.asarray(mel.window_values()), jnp.asarray(mel.filterbank().T)
    return emphasis, MelSpectrogram(Spectrogram(window), MelScale(filters))


def read_mels(
    x: Float[Array, "*batch samples"] | Float[Array, "*batch frames mels"],
    config: SpeakerEncoderConfig,
    torch_spec: FrontEnd | None = None,
    *,
    length: Int[Array, "*batch"] | int | None = None,
) -> Float[Array, "*batch frames mels"]:
    """The mels of `x`, which is audio, or mels if the encoder has no front end.

    **Arguments:** `torch_spec`, the buffers of the front end, which get no gradient; computed from `config` by default;
    `length`, the valid samples, or frames of mels, of each row, by default all.

    **Raises:** `ShapeError` for audio that is not floats or too short, for mels of another shape, or no frames.
    """
    if not isinstance(config.mel, PowerMelConfig):
        check_input(x, config.mel.num_mels, "frames")
        if not x.shape[-2]:
            raise ShapeError(f"The shape of the mels is {x.shape}; they should have at least one frame.")
        return x
    if x.ndim < 1:
        raise ShapeError(f"The shape of the audio is {x.shape}; it should be (*batch, samples).")
    arrays = {}
    if torch_spec is not None:
        emphasis, spectrum = jax.lax.stop_gradient(torch_spec)
        arrays = {
            "coefficients": emphasis.filter[0, 0],
            "window": spectrum.spectrogram.window,
            "filters": spectrum.mel_scale.fb.T,
        }
    return power_mel(x, config.mel, length=length, **arrays).swapaxes(-1, -2)


def valid_frames(
    length: Int[Array, "*batch"] | int | None, batch: tuple[int, ...], config: SpeakerEncoderConfig
) -> Int[Array, "*batch"] | None:
    """The valid mel frames of each row of a `batch` of these lengths, in samples or in frames; `None` means all."""
    if length is None:
        return None
    count = jnp.broadcast_to(jnp.asarray(length, jnp.int32), batch)
    return count // config.mel.hop_length + 1 if config.reads_audio else count


def instance_norm(
    x: Float[Array, "*batch frames mels"], count: Int[Array, "*batch"] | None = None
) -> Float[Array, "*batch frames mels"]:
    """`x` with mean 0 and variance 1 over time in each band, as `torch.nn.InstanceNorm1d` without parameters.

    Frames after the first `count` are zero in the result, and have no part in the statistics.
    """
    if count is None:
        x = x - jnp.mean(x, axis=-2, keepdims=True)
        return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-2, keepdims=True) + _DEVIATION_FLOOR)
    mask = length_mask(count, x.shape[-2], batch=x.shape[:-2])
    frames = count[..., None, None].astype(x.dtype)
    x = masked(x - jnp.sum(masked(x, mask), axis=-2, keepdims=True) / frames, mask)
    return x * jax.lax.rsqrt(jnp.sum(jnp.square(x), axis=-2, keepdims=True) / frames + _DEVIATION_FLOOR)


def unit_length(x: Float[Array, "*batch dim"]) -> Float[Array, "*batch dim"]:
    """`x` divided by its Euclidean norm, or by 1e-12 if that is larger."""
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(x), axis=-1, keepdims=True), _NORM_FLOOR))

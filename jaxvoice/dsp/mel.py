"""The log-mel front end."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxvoice.dsp.mel_config import MelConfig, mel_filterbank
from jaxvoice.dsp.transforms import as_audio, frame_spectra


@functools.partial(jax.jit, static_argnames="config")
@jax.named_scope("log_mel")
def log_mel(audio: Float[Array, " samples"], config: MelConfig) -> Float[Array, "mels frames"]:
    """Log-mel spectrogram of one channel of audio, float32 throughout whatever float type comes in.

    Safe under `jit`, `vmap` and `grad`, at digital silence too. `config.num_frames(samples)` frames.

    **Raises:** `ShapeError` if `audio` is not `(samples,)` of floats or shorter than `config.min_samples`.

    jik876/hifi-gan `meldataset.py`, `mel_spectrogram`.
    """
    filters = mel_filterbank(config)
    if config.preemphasis:
        audio = as_audio(audio, config.min_samples)
        audio = audio - config.preemphasis * jnp.pad(audio[:-1], (1, 0))
    used = int(np.flatnonzero(filters.any(axis=0))[-1]) + 1
    spectra = frame_spectra(
        audio, n_fft=config.n_fft, hop_length=config.hop_length, win_length=config.win_length, pad=config.pad
    )[:, :used]
    energy = spectra.real**2 + spectra.imag**2 + config.magnitude_floor
    if config.magnitude_floor == 0 and config.power < 2:
        # The root's slope at zero is infinite: keep zeros out of it, and their gradient is zero instead of NaN.
        silent = energy == 0
        magnitude = jnp.where(silent, 0, _root(jnp.where(silent, 1, energy), config.power))
    else:
        magnitude = _root(energy, config.power)
    # Reduced-precision matmuls (TF32, bfloat16) are visible in the logarithm of weak bands.
    weights = jnp.asarray(filters[:, :used], magnitude.dtype)
    mel = jnp.einsum("mb,fb->mf", weights, magnitude, precision=jax.lax.Precision.HIGHEST)
    mel = jnp.log(jnp.maximum(mel, config.log_floor))
    mel = mel if config.log == "ln" else mel / math.log(10)
    if (config.gain, config.offset) != (1, 0):
        mel = config.gain * mel + config.offset
    return mel if config.clip is None else jnp.clip(mel, *config.clip)


def _root(energy: Float[Array, "frames bins"], power: float) -> Float[Array, "frames bins"]:
    if power == 2:
        return energy
    return jnp.sqrt(energy) if power == 1 else energy ** (power / 2)

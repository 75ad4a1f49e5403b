"""Log-mel spectrograms: of one length, and of recordings of any length with few compiled programs."""

import dataclasses
import functools
import math
from numbers import Integral

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from jaxvoice.dsp.framing import bucket_size, plan_windows
from jaxvoice.dsp.mel_config import MelConfig, mel_filterbank
from jaxvoice.dsp.transforms import as_audio, check_audio, frame_spectra
from jaxvoice.errors import AudioError, ConfigError, ShapeError

_SMALLEST, _WINDOW = 64, 1024  # hops of the shortest compiled program, and usually of the longest


@functools.partial(jax.jit, static_argnames="config")
@jax.named_scope("log_mel")
def log_mel(audio: Float[Array, " samples"], config: MelConfig) -> Float[Array, "mels frames"]:
    """Log-mel spectrogram of one channel of audio, computed in float32 for every float type but float64.

    The function is compiled for each length; use `bucketed_log_mel` for recordings of many lengths. It works under
    `jit`, `vmap` and `grad`, and its gradient at digital silence is finite. The result has
    `config.num_frames(samples)` frames.

    **Raises:** `ShapeError` if `audio` is not `(samples,)` of floats or shorter than `config.min_samples`.

    jik876/hifi-gan `meldataset.py`, `mel_spectrogram`.
    """
    filters = mel_filterbank(config)
    used = int(np.flatnonzero(filters.any(axis=0))[-1]) + 1
    return _log_mels(_magnitudes(audio, config, used), config)


@functools.partial(jax.jit, static_argnames="config")
@jax.named_scope("linear_spectrogram")
def linear_spectrogram(audio: Float[Array, " samples"], config: MelConfig) -> Float[Array, "bins frames"]:
    """The values that the filterbank of `log_mel` is applied to: `n_fft / 2 + 1` linear bins instead of mel bands.

    Arguments, frames and errors are those of `log_mel`; differentiable like it. The posterior encoder of VITS reads
    these spectrograms.

    jaywalnut310/vits `mel_processing.py`, `spectrogram_torch`.
    """
    return _magnitudes(audio, config, None).T


@functools.partial(jax.jit, static_argnames="config")
@jax.named_scope("log_mel_of_linear")
def log_mel_of_linear(spectrogram: Float[Array, "bins frames"], config: MelConfig) -> Float[Array, "mels frames"]:
    """The log-mel spectrogram of a result of `linear_spectrogram` with the same `config`.

    **Raises:** `ShapeError` for another number of bins.

    jaywalnut310/vits `mel_processing.py`, `spec_to_mel_torch`.
    """
    bins = config.n_fft // 2 + 1
    if spectrogram.ndim != 2 or spectrogram.shape[0] != bins:
        raise ShapeError(
            f"The shape of the spectrogram is {spectrogram.shape}; it should be ({bins}, frames) for "
            f"n_fft={config.n_fft}. Use jax.vmap for a batch."
        )
    return _log_mels(spectrogram.T, config)


def _magnitudes(audio: Array, config: MelConfig, bins: int | None) -> Float[Array, "frames bins"]:
    """The first `bins` of the linear spectrogram, by default all."""
    if config.preemphasis:
        audio = as_audio(audio, config.min_samples)
        audio = audio - config.preemphasis * jnp.pad(audio[:-1], (1, 0))
    spectra = frame_spectra(
        audio, n_fft=config.n_fft, hop_length=config.hop_length, win_length=config.win_length, pad=config.pad
    )[:, :bins]
    energy = spectra.real**2 + spectra.imag**2 + config.magnitude_floor
    if config.magnitude_floor == 0 and config.power < 2:
        # The slope of the root at zero is infinite. Without zeros in its input, the gradient is zero instead of NaN.
        silent = energy == 0
        return jnp.where(silent, 0, _root(jnp.where(silent, 1, energy), config.power))
    return _root(energy, config.power)


def _log_mels(magnitude: Float[Array, "frames bins"], config: MelConfig) -> Float[Array, "mels frames"]:
    """The log-mels of the first bins of a linear spectrogram."""
    # Reduced-precision matmuls (TF32, bfloat16) are visible in the logarithm of weak bands.
    weights = jnp.asarray(mel_filterbank(config)[:, : magnitude.shape[1]], magnitude.dtype)
    mel = jnp.einsum("mb,fb->mf", weights, magnitude, precision=jax.lax.Precision.HIGHEST)
    mel = jnp.log(jnp.maximum(mel, config.log_floor))
    mel = mel if config.log == "ln" else mel / math.log(10)
    if (config.gain, config.offset) != (1, 0):
        mel = config.gain * mel + config.offset
    return mel if config.clip is None else jnp.clip(mel, *config.clip)


def bucketed_log_mel(
    audio: Float[np.ndarray, " samples"], config: MelConfig, *, complete: bool = False, window: int | None = None
) -> Float32[np.ndarray, "mels frames"]:
    """The result of `log_mel` for a recording of any length, with few compiled programs and bounded memory.

    Recordings are padded to 64, 96, 128, 192, ... hops. Recordings of more than `window` hops are computed in
    overlapping windows. The result differs from that of `log_mel` by rounding only, because the padding follows the
    reflection at the end, and pre-emphasis precedes the reflection.

    **Arguments:** `audio`, `(samples,)` at `config.sample_rate`, computed in float32; `complete`, append silence until
    the last samples fill a hop; `window`, in hops, by default 1024, or more for frames of more than 512 hops.

    **Raises:** `ShapeError` if `audio` is not one channel of floats; `AudioError` if it is shorter than
    `config.min_samples` or contains NaN or infinity; `ConfigError` for a `window` that is not a whole number of at
    least 64 hops and two frames.
    """
    audio = np.asarray(audio)
    check_audio(audio.shape, audio.dtype)
    window = _checked_window(window, config)
    if len(audio) < config.min_samples:
        raise AudioError(
            f"The audio is too short, {len(audio)} samples; it should have at least {config.min_samples} "
            f"({config.min_samples / config.sample_rate:.3f} s at {config.sample_rate} Hz) for one mel frame."
        )
    hop = config.hop_length
    with np.errstate(over="ignore"):  # values beyond float32 become infinite, which raises an error below
        audio = audio.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(audio))
    if bad.size:
        raise AudioError(
            f"{bad.size} of the {len(audio)} samples are NaN or infinite in float32, the first at {bad[0]}; repair or "
            "leave out the recording."
        )
    if complete:
        audio = np.pad(audio, (0, -len(audio) % hop))
    frames = config.num_frames(len(audio))
    if config.preemphasis:
        audio = audio - np.float32(config.preemphasis) * np.pad(audio[:-1], (1, 0))
        config = dataclasses.replace(config, preemphasis=0.0)
    audio = np.pad(audio, (0, config.pad), mode="reflect")
    context = -(-config.pad // hop)  # frames at either end of a window that depend on samples outside it
    hops = -(-len(audio) // hop)
    size = bucket_size(max(hops, _SMALLEST), window)
    audio = np.pad(audio, (0, max(hops, size) * hop - len(audio)))
    mel = np.empty((config.num_mels, frames), np.float32)
    for part in plan_windows(max(hops, size), size, (context, context), (0, frames)):
        found = np.asarray(log_mel(audio[part.start * hop : part.stop * hop], config))
        mel[:, part.keep_from : part.keep_to] = found[:, part.keep_from - part.start : part.keep_to - part.start]
    return mel


def _checked_window(window: int | None, config: MelConfig) -> int:
    """`window` in hops, by default the usual one. It should exceed the frames that depend on samples outside it."""
    smallest = max(_SMALLEST, 4 * -(-config.pad // config.hop_length))
    if window is None:
        return max(_WINDOW, smallest)
    if not isinstance(window, Integral) or isinstance(window, bool) or window < smallest:
        raise ConfigError(f"window is {window!r}; it should be a whole number of hops, at least {smallest}.")
    return int(window)


def _root(energy: Float[Array, "frames bins"], power: float) -> Float[Array, "frames bins"]:
    if power == 2:
        return energy
    return jnp.sqrt(energy) if power == 1 else energy ** (power / 2)

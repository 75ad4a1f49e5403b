"""Measures of the distance between a recording and an estimate of it, such as a vocoder's output, and of their F0.

Every measure takes the recording, or its F0, first, then the estimate, both one channel of the same length.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxvoice.dsp.dtw import time_warping_path
from jaxvoice.dsp.mel import log_mel
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.dsp.pitch import check_f0
from jaxvoice.dsp.transforms import frame_spectra
from jaxvoice.errors import AudioError, ShapeError

# n_fft, hop length and window length of Parallel WaveGAN's loss (kan-bayashi/ParallelWaveGAN, MultiResolutionSTFTLoss).
STFT_RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
# Energy below which Parallel WaveGAN's loss, and therefore this measure, treats a bin as silent.
_ENERGY_FLOOR = 1e-7


class STFTDistance(NamedTuple):
    """Multi-resolution STFT distance, both parts averaged over the resolutions.

    `spectral_convergence`: Frobenius norm of the magnitudes' difference over that of the recording's magnitudes.
    `log_magnitude`: mean absolute difference of the natural logarithms of the magnitudes.
    """

    spectral_convergence: Float[Array, ""]
    log_magnitude: Float[Array, ""]

    @property
    def total(self) -> Float[Array, ""]:
        """The sum of both parts: Parallel WaveGAN's auxiliary loss."""
        return self.spectral_convergence + self.log_magnitude


@functools.partial(jax.jit, static_argnames="config")
def mel_l1(
    recording: Float[Array, " samples"], estimate: Float[Array, " samples"], config: MelConfig
) -> Float[Array, ""]:
    """Mean absolute difference of the log-mels up to Nyquist, as in HiFi-GAN's published validation curve.

    `config` is the contract of the model's input. Its `full_band` is measured. Differentiable.

    **Raises:** `ShapeError` if the lengths differ or are too short for a frame.

    Source: jik876/hifi-gan `train.py`, validation loop.
    """
    _same_shape(recording, estimate)
    config = config.full_band()
    return jnp.mean(jnp.abs(log_mel(recording, config) - log_mel(estimate, config)))


@functools.partial(jax.jit, static_argnames="resolutions")
def stft_distance(
    recording: Float[Array, "*batch samples"],
    estimate: Float[Array, "*batch samples"],
    resolutions: tuple[tuple[int, int, int], ...] = STFT_RESOLUTIONS,
) -> STFTDistance:
    """Multi-resolution STFT distance: spectral convergence and log-magnitude difference. Differentiable.

    With batch axes, norms and means are those of the whole batch, as in Parallel WaveGAN's loss: the spectral
    convergence of a nearly silent clip has no more weight than its energy.

    **Arguments:** `resolutions`, each `(n_fft, hop_length, win_length)` in samples; frames are centred, with reflect
    padding.

    **Raises:** `ShapeError` if the shapes differ, or the audio is too short for the largest `n_fft`.

    Source: Yamamoto, Song and Kim 2020 (Parallel WaveGAN), equations 4 to 6.
    """
    _same_shape(recording, estimate)
    recordings, estimates = (audio.reshape(-1, audio.shape[-1]) for audio in (recording, estimate))
    convergence, difference = [], []
    for n_fft, hop_length, win_length in resolutions:
        magnitude = jax.vmap(functools.partial(_magnitude, n_fft=n_fft, hop_length=hop_length, win_length=win_length))
        real, made = magnitude(recordings), magnitude(estimates)
        convergence.append(jnp.sqrt(jnp.sum((real - made) ** 2) + _tiny(real)) / jnp.sqrt(jnp.sum(real**2)))
        difference.append(jnp.mean(jnp.abs(jnp.log(real) - jnp.log(made))))
    return STFTDistance(jnp.mean(jnp.stack(convergence)), jnp.mean(jnp.stack(difference)))


@functools.partial(jax.jit, static_argnames=("config", "coefficients"))
def mel_cepstrum(
    log_mel: Float[Array, "mels frames"], config: MelConfig, coefficients: int = 13
) -> Float[Array, "coefficients frames"]:
    """Mel-cepstral coefficients 0 to `coefficients` of a log-mel spectrogram.

    `c_d = 1/K sum_k L_k cos(pi d (k + 1/2) / K)` over the `K` bands, `L_k` the natural logarithm of the band's
    magnitude (another logarithm or power in `config` is converted), so that `L_k = c_0 + 2 sum_d c_d cos(pi d (k + 1/2)
    / K)`.

    **Raises:** `ShapeError` unless `log_mel` is `(config.num_mels, frames)` with `coefficients < config.num_mels`.
    """
    if log_mel.ndim != 2 or log_mel.shape[0] != config.num_mels or not 0 < coefficients < config.num_mels:
        raise ShapeError(
            f"log_mel has shape {log_mel.shape} and coefficients is {coefficients}; they should be ({config.num_mels}, "
            f"frames) and a number from 1 to {config.num_mels - 1}."
        )
    angles = np.pi * np.arange(coefficients + 1)[:, None] * (np.arange(config.num_mels)[None] + 0.5) / config.num_mels
    scale = (1 if config.log == "ln" else math.log(10)) / (config.power * config.num_mels)
    basis = jnp.asarray(np.cos(angles) * scale, log_mel.dtype)
    return jnp.matmul(basis, log_mel, precision=jax.lax.Precision.HIGHEST)


def mel_cepstral_distortion(
    recording: Float[Array, " samples"],
    estimate: Float[Array, " samples"],
    config: MelConfig,
    *,
    coefficients: int = 13,
    align: bool = False,
) -> Float[Array, ""]:
    """Mel-cepstral distortion in decibels, the mean over frames of `10 / ln(10) sqrt(2 sum_{d=1}^{D} (c_d - c'_d)^2)`.

    `c` is `mel_cepstrum` of the log-mel under `config`, without the loudness `c_0`. Values are comparable only for
    equal `config` and `coefficients`. Tools that compute cepstra with SPTK or WORLD, or scale the cosine transform in
    another way, give other values.

    **Arguments:** `coefficients`, `D`; `align`, match the frames by dynamic time warping and average along the path, on
    the host and outside `jit`, so that the lengths may differ.

    **Raises:** `ShapeError` if the lengths differ without `align`, or are too short for a frame.

    Source: Kubichek 1993, "Mel-cepstral distance measure for objective speech quality assessment".
    """
    if not align:
        _same_shape(recording, estimate)
    real, made = (mel_cepstrum(log_mel(audio, config), config, coefficients)[1:] for audio in (recording, estimate))
    factor = 10 / math.log(10) * math.sqrt(2)
    if not align:
        squares = jnp.sum((real - made) ** 2, axis=0)
        return factor * jnp.mean(jnp.sqrt(squares))
    left, right = np.asarray(real, np.float64), np.asarray(made, np.float64)
    squares = np.sum(left**2, axis=0)[:, None] + np.sum(right**2, axis=0)[None] - 2 * left.T @ right
    cost = np.sqrt(np.maximum(squares, 0))
    path = time_warping_path(cost)
    return jnp.asarray(factor * cost[path[:, 0], path[:, 1]].mean(), real.dtype)


def f0_correlation(recording_f0: Float[np.ndarray, " frames"], estimate_f0: Float[np.ndarray, " frames"]) -> float:
    """Pearson's correlation of the log F0 of two tracks, over the frames that are voiced in both; from -1 to 1.

    F0 is in Hz, 0 in unvoiced frames, as `track_pitch` returns it.

    **Raises:** `ShapeError` if the lengths differ or a value is not an F0; `AudioError` if fewer than 2 frames are
    voiced in both, or one F0 is constant there.
    """
    pair = np.log(_voiced_in_both(recording_f0, estimate_f0, at_least=2))
    pair -= pair.mean(axis=1, keepdims=True)
    norms = np.sqrt((pair**2).sum(axis=1))
    if norms.min() <= 1e-9 * math.sqrt(pair.shape[1]):  # rounding of the mean
        raise AudioError(
            f"The F0 of the {'recording' if norms[0] <= norms[1] else 'estimate'} is constant in the frames that are "
            "voiced in both, so the correlation is undefined. Use f0_rmse_cents."
        )
    return float(np.clip(pair[0] @ pair[1] / norms.prod(), -1, 1))


def f0_rmse_cents(recording_f0: Float[np.ndarray, " frames"], estimate_f0: Float[np.ndarray, " frames"]) -> float:
    """Root mean square of the interval between two F0 tracks in cents, over the frames that are voiced in both.

    F0 is in Hz, 0 in unvoiced frames, as `track_pitch` returns it.

    **Raises:** `ShapeError` if the lengths differ or a value is not an F0; `AudioError` if no frame is voiced in both.
    """
    recording, estimate = np.log2(_voiced_in_both(recording_f0, estimate_f0, at_least=1))
    return float(1200 * np.sqrt(np.mean((estimate - recording) ** 2)))


def voicing_error(recording_f0: Float[np.ndarray, " frames"], estimate_f0: Float[np.ndarray, " frames"]) -> float:
    """Share of the frames that are voiced in only one of two F0 tracks, from 0 to 1.

    F0 is in Hz, 0 in unvoiced frames, as `track_pitch` returns it.

    **Raises:** `ShapeError` if the lengths differ or are 0, or a value is not an F0.
    """
    recording, estimate = _f0_pair(recording_f0, estimate_f0)
    return float(np.mean((recording > 0) != (estimate > 0)))


def _voiced_in_both(
    recording_f0: Float[np.ndarray, " frames"], estimate_f0: Float[np.ndarray, " frames"], at_least: int
) -> Float[np.ndarray, "2 voiced"]:
    pair = np.stack(_f0_pair(recording_f0, estimate_f0))
    voiced = pair[:, (pair > 0).all(axis=0)]
    if voiced.shape[1] < at_least:
        raise AudioError(
            f"{voiced.shape[1]} of {pair.shape[1]} frames are voiced in both F0 tracks; there should be at least "
            f"{at_least}. Check that the tracks belong together, or leave the pair out."
        )
    return voiced


def _f0_pair(recording_f0: np.ndarray, estimate_f0: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    recording, estimate = check_f0("recording_f0", recording_f0), check_f0("estimate_f0", estimate_f0)
    if recording.shape != estimate.shape or not recording.size:
        raise ShapeError(
            f"recording_f0 has shape {recording.shape} and estimate_f0 {estimate.shape}; they should have the same "
            "number of frames, at least one. Cut both to the shorter length."
        )
    return recording, estimate


def _magnitude(
    audio: Float[Array, " samples"], *, n_fft: int, hop_length: int, win_length: int
) -> Float[Array, "frames bins"]:
    spectra = frame_spectra(audio, n_fft=n_fft, hop_length=hop_length, win_length=win_length)
    return jnp.sqrt(jnp.maximum(spectra.real**2 + spectra.imag**2, _ENERGY_FLOOR))


def _tiny(values: Float[Array, "..."]) -> float:
    """The smallest normal number: added to a sum of squares, it keeps the gradient of the norm finite at zero."""
    return float(jnp.finfo(values.dtype).tiny)


def _same_shape(recording: Float[Array, "..."], estimate: Float[Array, "..."]) -> None:
    if recording.shape != estimate.shape:
        raise ShapeError(
            f"recording has shape {recording.shape} and estimate {estimate.shape}; they should have the same shape. "
            "Cut both to the shorter length."
        )

"""Reconstruction of audio from magnitudes (Griffin-Lim) and from log-mels."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, PRNGKeyArray

from jaxvoice.dsp.framing import min_samples, num_frames
from jaxvoice.dsp.mel_config import MelConfig, mel_filterbank
from jaxvoice.dsp.transforms import frame_spectra, overlap_add
from jaxvoice.errors import ShapeError


@functools.partial(
    jax.jit, static_argnames=("n_fft", "hop_length", "win_length", "pad", "iterations", "momentum", "length")
)
def griffin_lim(
    magnitude: Float[Array, "bins frames"],
    *,
    n_fft: int,
    hop_length: int,
    win_length: int | None = None,
    pad: int | None = None,
    iterations: int = 32,
    momentum: float = 0.99,
    length: int | None = None,
    key: PRNGKeyArray | None = None,
) -> Float[Array, " samples"]:
    """A signal whose STFT magnitude is close to `magnitude`, found by the fast Griffin-Lim algorithm.

    **Arguments:** `magnitude`, linear; sizes as for `stft`; `momentum`, 0 for the original algorithm; `length`, the
    number of samples to return, by default the number that the frames cover minus the padding; `key` for the initial
    phases, by default `jax.random.key(0)`.

    **Raises:** `ShapeError` if the shape does not fit `n_fft`, or if there are too few frames to reflect `pad` samples.

    Griffin and Lim 1984; Perraudin, Balazs and Soendergaard 2013, "A fast Griffin-Lim algorithm".
    """
    pad = n_fft // 2 if pad is None else pad
    if magnitude.ndim != 2 or magnitude.shape[0] != n_fft // 2 + 1:
        raise ShapeError(
            f"magnitude has shape {magnitude.shape}; it should be ({n_fft // 2 + 1}, frames) for n_fft={n_fft}. Use "
            "jax.vmap for a batch."
        )
    frames = magnitude.shape[1]
    covered = n_fft + (frames - 1) * hop_length - 2 * pad
    missing = min_samples(n_fft=n_fft, pad=pad) - covered
    if missing > 0:
        raise ShapeError(
            f"magnitude has {frames} frames; it should have at least {frames - (-missing // hop_length)}, so that "
            f"{pad} samples can be reflected at each end."
        )
    magnitude = magnitude.T if magnitude.dtype == jnp.float64 else magnitude.T.astype(jnp.float32)
    analyse = functools.partial(frame_spectra, n_fft=n_fft, hop_length=hop_length, win_length=win_length, pad=pad)
    # The length of the original signal determines the reflection at its end. A length that gives another number of
    # frames is not the original one.
    known = length is not None and num_frames(length, n_fft=n_fft, hop_length=hop_length, pad=pad) == frames
    synthesise = functools.partial(
        overlap_add,
        n_fft=n_fft,
        hop_length=hop_length,
        win_length=win_length,
        pad=pad,
        length=length if known else covered,
    )

    def iterate(
        carry: tuple[Complex[Array, "frames bins"], Complex[Array, "frames bins"]], _: None
    ) -> tuple[tuple[Complex[Array, "frames bins"], Complex[Array, "frames bins"]], None]:
        target, before = carry
        rebuilt = analyse(synthesise(target))
        ahead = rebuilt + (momentum * (rebuilt - before) if momentum else 0)
        return (_with_phase(magnitude, ahead), rebuilt), None

    phases = jax.random.uniform(
        jax.random.key(0) if key is None else key, magnitude.shape, magnitude.dtype, -math.pi, math.pi
    )
    start = jax.lax.complex(magnitude * jnp.cos(phases), magnitude * jnp.sin(phases))
    (target, _), _ = jax.lax.scan(iterate, (start, jnp.zeros_like(start)), None, length=iterations)
    return synthesise(target, length=length)


def mel_to_audio(
    log_mel: Float[Array, "mels frames"],
    config: MelConfig,
    iterations: int = 60,
    *,
    length: int | None = None,
    key: PRNGKeyArray | None = None,
) -> Float[Array, " samples"]:
    """Audio whose log-mel under `config` is close to `log_mel`: a vocoder without a network, as a baseline.

    **Arguments:** `iterations` of Griffin-Lim; `length` in samples, by default the number that the frames cover
    (`frames * hop_length` for HiFi-GAN's padding); `key` for the initial phases.

    **Raises:** `ShapeError` if `log_mel` does not have `config.num_mels` bands, or has too few frames.
    """
    magnitude = mel_to_magnitude(log_mel, config)
    return griffin_lim(
        magnitude,
        n_fft=config.n_fft,
        hop_length=config.hop_length,
        win_length=config.win_length,
        pad=config.pad,
        iterations=iterations,
        length=length,
        key=key,
    )


@functools.partial(jax.jit, static_argnames=("config", "iterations"))
def mel_to_magnitude(
    log_mel: Float[Array, "mels frames"], config: MelConfig, iterations: int = 50
) -> Float[Array, "bins frames"]:
    """Linear STFT magnitudes whose mel is close to `log_mel`: non-negative least squares, zero above `fmax`.

    The first estimate is the pseudo-inverse. The `iterations` multiplicative updates (Lee and Seung 2001) keep every
    bin non-negative and never increase the error.

    **Raises:** `ShapeError` if `log_mel` is not `(config.num_mels, frames)`.
    """
    if log_mel.ndim != 2 or log_mel.shape[0] != config.num_mels:
        raise ShapeError(
            f"log_mel has shape {log_mel.shape}; it should be ({config.num_mels}, frames). Use jax.vmap for a batch."
        )
    log_mel = log_mel if log_mel.dtype == jnp.float64 else log_mel.astype(jnp.float32)
    mel = jnp.exp(log_mel * (1 if config.log == "ln" else math.log(10)))
    filters = mel_filterbank(config)
    inverse = jnp.asarray(np.linalg.pinv(filters.astype(np.float64)), mel.dtype)
    weights = jnp.asarray(filters, mel.dtype)
    matmul = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    # A bin at exactly zero would stay zero, so every bin that a filter covers starts with a small value.
    covered = jnp.asarray(filters.any(axis=0), mel.dtype)[:, None]
    projected = matmul(weights.T, mel)
    start = jnp.maximum(matmul(inverse, mel), 0.01 * projected / jnp.sum(weights**2)) * covered

    def update(magnitude: Float[Array, "bins frames"], _: None) -> tuple[Float[Array, "bins frames"], None]:
        explained = matmul(weights.T, matmul(weights, magnitude))
        return magnitude * projected / jnp.maximum(explained, jnp.finfo(mel.dtype).tiny), None

    energy, _ = jax.lax.scan(update, start, None, length=iterations)
    return energy if config.power == 1 else energy ** (1 / config.power)


def _with_phase(
    magnitude: Float[Array, "frames bins"], phase_of: Complex[Array, "frames bins"]
) -> Complex[Array, "frames bins"]:
    scale = magnitude / jnp.maximum(jnp.abs(phase_of), jnp.finfo(magnitude.dtype).tiny)
    return jax.lax.complex(phase_of.real * scale, phase_of.imag * scale)

"""Short-time Fourier transform of audio and its least-squares inverse.

Frames are rows inside this module, because the FFT and the mel matmul run over contiguous bins. `stft` and `istft` use
the usual layout, `(bins, frames)`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from jaxvoice.dsp.framing import hann_window, min_samples
from jaxvoice.errors import ConfigError, ShapeError

# A sample with a smaller sum of squared windows counts as covered by no frame: the division would amplify rounding.
_LEAST_COVERAGE = 1e-8


def frame_spectra(
    audio: Float[Array, " samples"],
    *,
    n_fft: int,
    hop_length: int,
    win_length: int | None = None,
    pad: int | None = None,
) -> Complex[Array, "frames bins"]:
    """The result of `stft` with frames as rows, the layout of the FFT. Arguments and errors are those of `stft`."""
    win_length, pad = _sizes(n_fft, hop_length, win_length, pad)
    audio = as_audio(audio, min_samples(n_fft=n_fft, pad=pad))
    if pad:
        audio = jnp.concatenate([audio[pad:0:-1], audio, audio[-2 : -2 - pad : -1]])
    window = hann_window(win_length, n_fft).astype(audio.dtype)
    return jnp.fft.rfft(overlapping_frames(audio, n_fft, hop_length) * window[None])


@functools.partial(jax.jit, static_argnames=("n_fft", "hop_length", "win_length", "pad"))
def stft(
    audio: Float[Array, " samples"],
    *,
    n_fft: int,
    hop_length: int,
    win_length: int | None = None,
    pad: int | None = None,
) -> Complex[Array, "bins frames"]:
    """Short-time Fourier transform with a periodic Hann window and reflect padding.

    **Arguments:** `audio` in any float type (half precision is computed in float32); `n_fft`, `hop_length` and
    `win_length` (by default `n_fft`; a shorter window is centred in the frame) in samples; `pad`, the samples reflected
    at both ends, by default `n_fft // 2`, so that frame `t` is centred on sample `t * hop_length` (`center=True` of
    librosa and torch). HiFi-GAN uses `(n_fft - hop_length) // 2`; 0 disables padding.

    **Returns:** `n_fft // 2 + 1` bins from 0 to Nyquist, `(samples + 2 * pad - n_fft) // hop_length + 1` frames.

    **Raises:** `ShapeError` if `audio` is not one channel of floats, or is shorter than
    `max(pad + 1, n_fft - 2 * pad)` samples; `ConfigError` for impossible sizes.
    """
    return frame_spectra(audio, n_fft=n_fft, hop_length=hop_length, win_length=win_length, pad=pad).T


@functools.partial(jax.jit, static_argnames=("n_fft", "hop_length", "win_length", "pad", "length"))
def istft(
    spectrum: Complex[Array, "bins frames"],
    *,
    n_fft: int,
    hop_length: int,
    win_length: int | None = None,
    pad: int | None = None,
    length: int | None = None,
) -> Float[Array, " samples"]:
    """The signal whose STFT is nearest to `spectrum` in the least-squares sense; the exact inverse of `stft`.

    **Arguments:** sizes as for `stft`; `length`, the number of samples to return, by default the number that
    the frames cover minus the padding. Samples that no window covers are zero.

    **Raises:** `ShapeError` if `spectrum` is not `(n_fft // 2 + 1, frames)`; `ConfigError` for impossible sizes.

    Source: Griffin and Lim 1984, equation 6: windowed overlap-add, divided by the sum of the squared windows.
    """
    if spectrum.ndim != 2 or spectrum.shape[0] != n_fft // 2 + 1 or spectrum.shape[1] == 0:
        raise ShapeError(
            f"spectrum has shape {spectrum.shape}; it should be ({n_fft // 2 + 1}, frames) for n_fft={n_fft}. Use "
            "jax.vmap for a batch."
        )
    return overlap_add(spectrum.T, n_fft=n_fft, hop_length=hop_length, win_length=win_length, pad=pad, length=length)


def overlap_add(
    spectra: Complex[Array, "frames bins"],
    *,
    n_fft: int,
    hop_length: int,
    win_length: int | None = None,
    pad: int | None = None,
    length: int | None = None,
) -> Float[Array, " samples"]:
    """The result of `istft` for frames as rows, as `frame_spectra` returns them. Arguments are those of `istft`."""
    win_length, pad = _sizes(n_fft, hop_length, win_length, pad)
    count = spectra.shape[0]
    window = hann_window(win_length, n_fft)
    frames = jnp.fft.irfft(spectra, n=n_fft)
    frames = frames * window.astype(frames.dtype)[None]
    parts = -(-n_fft // hop_length)
    frames = jnp.pad(frames, ((0, 0), (0, parts * hop_length - n_fft))).reshape(count, parts, hop_length)
    blocks = sum(jnp.pad(frames[:, i], ((i, parts - 1 - i), (0, 0))) for i in range(parts))
    # Block b is covered by parts low <= i < high of the window. Few pairs occur, so a small table contains their sums.
    block = np.arange(count + parts - 1)
    pairs, which = np.unique(
        np.stack([np.maximum(0, block - count + 1), np.minimum(block + 1, parts)]), axis=1, return_inverse=True
    )
    squares = np.pad(window.astype(np.float64) ** 2, (0, parts * hop_length - n_fft)).reshape(parts, hop_length)
    table = np.stack([squares[low:high].sum(axis=0) for low, high in pairs.T])
    scale = np.divide(1.0, table, out=np.zeros_like(table), where=table > _LEAST_COVERAGE)
    audio = (blocks * jnp.asarray(scale, frames.dtype)[which.reshape(-1)]).reshape(-1)
    covered = n_fft + (count - 1) * hop_length
    length = max(0, covered - 2 * pad) if length is None else length
    audio = audio[pad : min(pad + length, covered)]
    return jnp.pad(audio, (0, length - audio.shape[0]))


def as_audio(audio: Float[Array, " samples"], at_least: int) -> Float[Array, " samples"]:
    """`audio` as float32; float64 does not change.

    **Raises:** `ShapeError` unless `audio` is one channel of at least `at_least` floats.
    """
    audio = jnp.asarray(audio)
    check_audio(audio.shape, audio.dtype)
    if audio.shape[0] < at_least:
        raise ShapeError(
            f"audio has {audio.shape[0]} samples; it should have at least {at_least} for this frame size and reflect "
            "padding. Leave the clip out, or append silence."
        )
    return audio if audio.dtype == jnp.float64 else audio.astype(jnp.float32)


def check_audio(shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Raise `ShapeError` unless `shape` and `dtype` are those of one channel of floats."""
    if len(shape) != 1:
        raise ShapeError(
            f"audio has shape {shape}; it should be one channel, (samples,). Mix the channels down, or use jax.vmap "
            "for a batch."
        )
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ShapeError(f"audio has dtype {dtype}; it should be floats in [-1, 1]. Divide int16 samples by 32768.")


def overlapping_frames(audio: Float[Array, " samples"], length: int, hop_length: int) -> Float[Array, "frames length"]:
    """Overlapping frames of `length` samples. Shifted reshapes replace a gather, whose gradient would be a scatter."""
    count = (audio.shape[0] - length) // hop_length + 1
    parts = -(-length // hop_length)
    needed = (count + parts - 1) * hop_length
    audio = jnp.pad(audio, (0, max(0, needed - audio.shape[0])))[:needed]
    blocks = audio.reshape(count + parts - 1, hop_length)
    frames = jnp.stack([blocks[i : i + count] for i in range(parts)], axis=1)
    return frames.reshape(count, parts * hop_length)[:, :length]


def _sizes(n_fft: int, hop_length: int, win_length: int | None, pad: int | None) -> tuple[int, int]:
    win_length = n_fft if win_length is None else win_length
    pad = n_fft // 2 if pad is None else pad
    if not (0 < hop_length <= win_length <= n_fft) or n_fft % 2:
        raise ConfigError(
            f"hop_length is {hop_length}, win_length {win_length} and n_fft {n_fft}; they should satisfy 0 < "
            "hop_length <= win_length <= n_fft, and n_fft should be even."
        )
    if pad < 0:
        raise ConfigError(f"pad is {pad}; it should be at least 0.")
    return win_length, pad

"""Mel power spectrograms of the front ends of speaker encoders, as torchaudio and librosa compute them."""

import functools

import jax
from jax import numpy as jnp
from jaxtyping import Array, Float, Int

from jaxvoice.dsp.mel_config import PowerMelConfig
from jaxvoice.dsp.transforms import check_audio, overlapping_frames
from jaxvoice.errors import ShapeError


@functools.partial(jax.jit, static_argnames=("config", "padded"))
@jax.named_scope("power_mel")
def power_mel(
    audio: Float[Array, "*batch samples"],
    config: PowerMelConfig,
    *,
    window: Float[Array, " win_length"] | None = None,
    filters: Float[Array, "mels bins"] | None = None,
    coefficients: Float[Array, "2"] | None = None,
    padded: bool = False,
    length: Int[Array, "*batch"] | int | None = None,
) -> Float[Array, "*batch mels frames"]:
    """The mel power spectrogram, computed in float32 for every float type but float64; differentiable everywhere.

    **Arguments:** `audio` at `config.sample_rate`; `window`, `filters` and `coefficients` (of the previous sample and
    of the sample itself), those of a released model, by default computed from `config`;
    `padded`, whether `audio` is pre-emphasised and padded already, as a part of a longer recording is; `length`, the
    samples of each row, by default all, of which the result for the first `length // hop_length + 1` frames depends.

    **Returns:** an array with `samples // hop_length + 1` frames, without `padded`.

    **Raises:** `ShapeError` for audio that is not floats, or shorter than `config.min_samples`.
    """
    check_audio(audio.shape[-1:], audio.dtype)
    samples, batch = audio.shape[-1], audio.shape[:-1]
    least = config.n_fft if padded else config.min_samples
    if samples < least:
        raise ShapeError(
            f"audio has {samples} samples; it should have at least {least}, so that half a frame can be padded. Leave "
            "the clip out, or append silence."
        )
    dtype = jnp.float64 if audio.dtype == jnp.float64 else jnp.float32
    if window is None:
        window = jnp.asarray(config.window_values())
    if filters is None:
        filters = jnp.asarray(config.filterbank())
    if coefficients is None and config.preemphasis:
        coefficients = jnp.asarray([-config.preemphasis, 1.0], dtype)
    flat = audio.reshape(-1, samples).astype(dtype)
    if not padded:
        count = None if length is None else jnp.broadcast_to(jnp.asarray(length, jnp.int32), batch).reshape(-1, 1)
        flat = _padded(flat, config, coefficients, count)
    left = (config.n_fft - config.win_length) // 2
    # The window is zero outside win_length samples in the middle of each frame.
    whole = jnp.pad(window.astype(dtype), (left, config.n_fft - config.win_length - left))
    frames = jax.vmap(lambda row: overlapping_frames(row, config.n_fft, config.hop_length))(flat)
    spectra = jnp.fft.rfft(frames * whole[None, None])
    power = jnp.square(spectra.real) + jnp.square(spectra.imag)
    # Reduced-precision matmuls (TF32, bfloat16) are visible in the logarithm of weak bands.
    mel = jnp.einsum("mb,nfb->nmf", filters.astype(dtype), power, precision=jax.lax.Precision.HIGHEST)
    return mel.reshape(*batch, *mel.shape[1:])


def _padded(
    rows: Float[Array, "rows samples"],
    config: PowerMelConfig,
    coefficients: Float[Array, "2"] | None,
    count: Int[Array, "rows 1"] | None,
) -> Float[Array, "rows padded"]:
    """`rows` with pre-emphasis, and half a frame before the first and after the last of `count` samples."""
    if coefficients is not None:
        previous = jnp.concatenate([rows[:, 1:2], rows[:, :-1]], axis=1)
        rows = coefficients[0].astype(rows.dtype) * previous + coefficients[1].astype(rows.dtype) * rows
    half = config.n_fft // 2
    if count is not None:
        position = jnp.arange(-half, rows.shape[1] + half, dtype=jnp.int32)[None]
        inside = (position >= 0) & (position < count)
        # The reflection at either end. Positions beyond it belong to frames that are not valid.
        source = jnp.where(position < count, jnp.abs(position), 2 * (count - 1) - position)
        found = jnp.take_along_axis(rows, jnp.clip(source, 0, rows.shape[1] - 1), axis=1)
        return found if config.padding == "reflect" else jnp.where(inside, found, jnp.zeros((), rows.dtype))
    if config.padding == "reflect":
        return jnp.concatenate([rows[:, half:0:-1], rows, rows[:, -2 : -2 - half : -1]], axis=1)
    return jnp.pad(rows, ((0, 0), (half, half)))

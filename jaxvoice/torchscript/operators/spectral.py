"""Fourier transforms and short-time Fourier transforms."""

from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array

from jaxvoice.torchscript.dtypes import is_complex
from jaxvoice.torchscript.operators.convolution import pad
from jaxvoice.torchscript.operators.registry import register_operator
from jaxvoice.torchscript.tensors import OperatorError, traced


def _window(window: Array | None, n_fft: int, length: int, dtype: Any) -> Array:
    """The window, padded on both sides to `n_fft` samples."""
    if not 0 < length <= n_fft or (window is not None and window.shape != (length,)):
        given = "" if window is None else f" and a window of shape {window.shape}"
        raise ValueError(f"win_length {length} is not valid with n_fft {n_fft}{given}")
    window = jnp.ones(length, dtype) if window is None else window
    left = (n_fft - length) // 2
    return jnp.pad(window, (left, n_fft - length - left))


@register_operator("torch.stft")
def stft(
    x: Array,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Array | None = None,
    *rest: Any,
    **named: Any,
) -> Array:
    """Short-time Fourier transform of `(batch, samples)` or `(samples,)`, in both overloads of torch."""
    centred = len(rest) > 1 and isinstance(rest[1], str)
    names = ["center", "pad_mode"] * centred + ["normalized", "onesided", "return_complex", "align_to_window"]
    options = {"center": False, "pad_mode": "reflect", "normalized": False, "onesided": None, "return_complex": None}
    options |= dict(zip(names, rest, strict=False)) | named
    if options.get("align_to_window"):
        raise OperatorError("align_to_window")
    hop, length = hop_length or n_fft // 4, win_length or n_fft
    unbatched = x.ndim == 1
    x = x[None] if unbatched else x
    if options["center"]:
        x = pad(x, [n_fft // 2, n_fft // 2], options["pad_mode"])
    if hop < 1:
        raise ValueError(f"hop_length {hop} is below 1")
    count = (x.shape[-1] - n_fft) // hop + 1
    if count < 1:
        raise ValueError(f"{x.shape[-1]} samples are fewer than n_fft {n_fft}")
    frames = _frames(x, n_fft, hop, count)
    if is_complex(frames.dtype) and options["onesided"]:
        raise OperatorError("a one-sided transform of complex samples")
    onesided = not is_complex(frames.dtype) if options["onesided"] is None else options["onesided"]
    frames = frames * _window(window, n_fft, length, x.dtype)[None, None]
    y = (jnp.fft.rfft if onesided else jnp.fft.fft)(frames).swapaxes(-1, -2)
    if options["normalized"]:
        y = y / jnp.sqrt(jnp.asarray(n_fft, jnp.float32)).astype(y.dtype)
    y = y[0] if unbatched else y
    if not options["return_complex"]:
        return jnp.stack([y.real, y.imag], -1)
    return y


def _frames(x: Array, n_fft: int, hop: int, count: int) -> Array:
    """Overlapping windows of `(batch, samples)` as `(batch, count, n_fft)`."""
    if n_fft % hop == 0:
        # Concatenated slices of blocks of one hop are faster than a gather of all samples.
        parts = n_fft // hop
        blocks = x[:, : (count + parts - 1) * hop].reshape(x.shape[0], -1, hop)
        return jnp.concatenate([blocks[:, part : part + count] for part in range(parts)], -1)
    index = np.arange(count)[:, None] * hop + np.arange(n_fft)[None]
    return jnp.take(x, jnp.asarray(index.astype(np.int32)), -1, mode="clip")


@register_operator("torch.istft")
def istft(
    x: Array,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Array | None = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: int | None = None,
    return_complex: bool = False,
) -> Array:
    """Inverse short-time Fourier transform (least squares)."""
    if return_complex or onesided is False or not is_complex(x.dtype):
        raise OperatorError("an inverse transform to complex samples, of a two-sided spectrum, or of real numbers")
    hop, width = hop_length or n_fft // 4, win_length or n_fft
    unbatched = x.ndim == 2
    x = x[None] if unbatched else x
    if not 0 < hop <= width or x.shape[1] != n_fft // 2 + 1:
        raise ValueError(
            f"hop_length {hop} with win_length {width}, or {x.shape[1]} bins with n_fft {n_fft}, is not valid"
        )
    dtype = x.real.dtype
    if normalized:
        x = x * jnp.sqrt(jnp.asarray(n_fft, dtype)).astype(x.dtype)
    shape = _window(window, n_fft, width, dtype)
    frames = jnp.fft.irfft(x.swapaxes(-1, -2), n_fft) * shape[None, None]
    count = frames.shape[1]
    total = n_fft + hop * (count - 1)
    index = jnp.asarray((np.arange(count)[:, None] * hop + np.arange(n_fft)[None]).astype(np.int32))

    def overlap_add(parts: Array) -> Array:
        return jnp.zeros(total, dtype).at[index].add(parts)

    envelope = overlap_add(jnp.broadcast_to(jnp.square(shape)[None], (count, n_fft)))
    start = n_fft // 2 if center else 0
    end = start + length if length is not None else total - (n_fft // 2 if center else 0)
    envelope = envelope[start:end]
    gaps = envelope < jnp.asarray(1e-11, dtype)
    if not envelope.size or (not traced(gaps) and bool(np.any(np.asarray(gaps)))):
        raise ValueError("some samples are not covered by any window")
    # Samples without a window are NaN: under jax.jit, the window may be unknown until the program runs.
    y = jnp.where(gaps[None], jnp.asarray(jnp.nan, dtype), jax.vmap(overlap_add)(frames)[:, start:end] / envelope[None])
    if length is not None:
        y = jnp.pad(y, ((0, 0), (0, max(0, length - y.shape[1]))))
    return y[0] if unbatched else y


def _register(name: str, compute: Any) -> None:
    @register_operator(f"torch.fft_{name}")
    def transform(x: Array, n: int | None = None, dim: int = -1, norm: str | None = None) -> Array:
        """Fourier transform along an axis."""
        return compute(x, n, dim, norm)


for _name in ("rfft", "irfft"):
    _register(_name, getattr(jnp.fft, _name))

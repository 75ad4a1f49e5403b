"""What users hand to a pipeline, looked at before anything is computed."""

import inspect
import warnings
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32

from jaxvoice.dsp.contract import check_mel
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.errors import AudioError, JaxvoiceWarning, MelError, ShapeError


def usable_mel(
    mel: Float[Any, "mels frames"], config: MelConfig, *, values: bool
) -> tuple[Float32[np.ndarray, "mels frames"], list[str]]:
    """`mel` as float32, and warnings; `values` says whether to judge the scale too, not only shape, type and NaN.

    **Raises:** `MelError` as `check_mel` does.
    """
    mel = judged = _in_float32(mel)
    if not values and mel.dtype == np.float32:
        # With finite values all at the floor, only shape, type and NaN are left to object to.
        judged = np.where(np.isfinite(mel), np.float32(config.floor), mel)
    unusual = check_mel(judged, config)
    return mel, unusual if values else []


def usable_latents(latents: Float[Any, "channels frames"], channels: int) -> Float32[np.ndarray, "channels frames"]:
    """`latents` as float32; raises `MelError` for another shape or type, no frames, NaN or infinity.

    Their scale is not judged: only the model that makes them knows it.
    """
    latents = _in_float32(latents)
    if latents.dtype != np.float32 or latents.ndim != 2 or latents.shape[0] != channels or not latents.shape[1]:
        transposed = "; it looks transposed" if latents.ndim == 2 and latents.shape[1] == channels else ""
        raise MelError(
            f"Latents should be floats of shape ({channels}, frames) with at least one frame, got {latents.dtype} of "
            f"shape {latents.shape}{transposed}."
        )
    if not np.isfinite(latents).all():
        raise MelError("The latents hold NaN or infinity; compute them again.")
    return latents


def usable_conditions(cond: Any, size: int, count: int) -> list[Float32[np.ndarray, " cond"] | None]:
    """One conditioning vector for each of `count` mels, or `None` for each where `size` is 0.

    **Arguments:** `cond`, `(size,)` for all or `(count, size)`; `None` where `size` is 0.

    **Raises:** `ShapeError` for another shape, or NaN or infinity.
    """
    if cond is None and not size:
        return [None] * count
    if cond is None or not size:
        wanted = f"takes a conditioning vector of {size} values" if size else "takes no conditioning vector"
        raise ShapeError(f"The generator {wanted}, got {'none' if cond is None else np.shape(cond)}.")
    vectors = np.asarray(cond, np.float32)
    if vectors.shape not in ((size,), (count, size)):
        raise ShapeError(
            f"The conditioning vector has shape {vectors.shape}; expected ({size},), or ({count}, {size}) for one per "
            "mel."
        )
    if not np.isfinite(vectors).all():
        raise ShapeError("The conditioning vector holds NaN or infinity; compute it again.")
    return list(np.broadcast_to(vectors, (count, size)))


def usable_audio(audio: Float[Any, " samples"]) -> Float32[np.ndarray, " samples"]:
    """`audio` as float32; raises `AudioError` for several channels, integers, NaN, or no samples."""
    samples = _in_float32(audio)
    if samples.ndim != 1 or samples.dtype != np.float32:
        raise AudioError(
            f"Audio should be floats of shape (samples,) with full scale at 1, got {samples.dtype} of shape "
            f"{samples.shape}; average its channels, and divide 16-bit integers by 32768."
        )
    if not samples.size:
        raise AudioError("The audio holds no samples; give some.")
    if not np.isfinite(samples).all():
        bad = int(np.count_nonzero(~np.isfinite(samples)))
        raise AudioError(f"The audio holds NaN or infinity in {bad} of {len(samples)} samples; record it again.")
    return samples


def warn_caller(message: str) -> None:
    """Warn with `JaxvoiceWarning` at the line outside the package that the call came from."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "jaxvoice":
        frame, level = frame.f_back, level + 1
    warnings.warn(message, JaxvoiceWarning, stacklevel=level)


def _in_float32(values: Any) -> np.ndarray:
    """`values` as an array, floats of any size (bfloat16 included) in float32; what is too large becomes infinite."""
    array = np.asarray(values)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        return array
    with np.errstate(over="ignore"):
        return array.astype(np.float32, copy=False)

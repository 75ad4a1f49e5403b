"""Checks of the arguments of pipelines: mel spectrograms, audio, conditioning vectors, texts, phonemes, numbers."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32

from jaxvoice.config import format_value
from jaxvoice.dsp.contract import check_mel
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.errors import AudioError, ConfigError, MelError, ShapeError, TextError
from jaxvoice.text.phonemes import PhoneSet

_PHONEMES = "a sequence of codes, or a string of codes separated by spaces"


def validate_mel(
    mel: Float[Any, "mels frames"], config: MelConfig, *, values: bool
) -> tuple[Float32[np.ndarray, "mels frames"], list[str]]:
    """`mel` as float32, and warnings about unusual values.

    **Arguments:** `values`, whether the scale of the values is checked, not only shape, type and finiteness.

    **Raises:** `MelError` as `check_mel`.
    """
    mel = checked = _in_float32(mel)
    if not values and mel.dtype == np.float32:
        # If every finite value is the floor, `check_mel` can only object to the shape, NaN and infinity.
        checked = np.where(np.isfinite(mel), np.float32(config.floor), mel)
    unusual = check_mel(checked, config)
    return mel, unusual if values else []


def validate_latents(latents: Float[Any, "channels frames"], channels: int) -> Float32[np.ndarray, "channels frames"]:
    """`latents` as float32. Their scale is not checked, since it depends on the model that computes them.

    **Raises:** `MelError` for another shape or type, no frames, NaN or infinity.
    """
    latents = _in_float32(latents)
    if latents.dtype != np.float32 or latents.ndim != 2 or latents.shape[0] != channels or not latents.shape[1]:
        transposed = " Transpose the array." if latents.ndim == 2 and latents.shape[1] == channels else ""
        raise MelError(
            f"The input has shape {latents.shape} and type {latents.dtype}; it should be latents of shape "
            f"({channels}, frames) in floats, with at least one frame.{transposed}"
        )
    if not np.isfinite(latents).all():
        raise MelError("The latents contain NaN or infinity; they should be finite. Check how they were computed.")
    return latents


def validate_conditions(cond: Any, size: int, count: int) -> list[Float32[np.ndarray, " cond"] | None]:
    """A list of `count` conditioning vectors `(size,)`, or of `None` if `size` is 0.

    **Arguments:** `cond`, of shape `(size,)` for all mels or `(count, size)` for one per mel; `None` if `size` is 0.

    **Raises:** `ShapeError` for another shape, NaN or infinity.
    """
    if cond is None and not size:
        return [None] * count
    if cond is None:
        raise ShapeError(
            f"cond is None; it should be the conditioning vector of the generator, of shape ({size},). Pass cond "
            "(--cond)."
        )
    if not size:
        raise ShapeError(
            f"cond has shape {np.shape(cond)}; it should be None, since the generator takes no conditioning vector."
        )
    vectors = np.asarray(cond, np.float32)
    if vectors.shape not in ((size,), (count, size)):
        raise ShapeError(
            f"cond has shape {vectors.shape}; it should have shape ({size},), or ({count}, {size}) for one vector per "
            "mel."
        )
    if not np.isfinite(vectors).all():
        raise ShapeError("cond contains NaN or infinity; it should be finite. Check how it was computed.")
    return list(np.broadcast_to(vectors, (count, size)))


def validate_audio(audio: Float[Any, " samples"]) -> Float32[np.ndarray, " samples"]:
    """`audio` as float32; raises `AudioError` for several channels, integers, NaN, infinity or no samples."""
    samples = _in_float32(audio)
    if samples.ndim != 1 or samples.dtype != np.float32:
        raise AudioError(
            f"The audio has shape {samples.shape} and type {samples.dtype}; it should be floats of shape (samples,) "
            "with full scale at 1. Average the channels, and divide 16-bit integers by 32768."
        )
    if not samples.size:
        raise AudioError("The audio is empty; it should have at least one sample.")
    if not np.isfinite(samples).all():
        bad = int(np.count_nonzero(~np.isfinite(samples)))
        raise AudioError(
            f"The audio is NaN or infinite in {bad} of {len(samples)} samples; it should be finite. Check how it was "
            "computed."
        )
    return samples


def _in_float32(values: Any) -> np.ndarray:
    """`values` as an array; floats of any type, bfloat16 included, as float32. Large values become infinite."""
    array = np.asarray(values)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        return array
    with np.errstate(over="ignore"):
        return array.astype(np.float32, copy=False)


@contextmanager
def error_context(name: str) -> Iterator[None]:
    """Prefix the messages of `TextError`, `ShapeError` and `AudioError` with `name`, unless it is empty."""
    try:
        yield
    except (TextError, ShapeError, AudioError) as error:
        if not name:
            raise
        raise type(error)(f"{name}: {error}") from None


def as_list(values: Any, name: str, expected: str) -> list[Any]:
    """`values` as a list; raises `TextError`, with their `name` and what is `expected`, if they are not iterable."""
    if isinstance(values, bytes | bytearray) or not isinstance(values, Iterable):
        raise TextError(f"{name} has type {type(values).__name__}; it should be {expected}.")
    return list(values)


def validate_text(text: Any) -> str:
    """`text`; raises `TextError` if it is not a string."""
    if not isinstance(text, str):
        raise TextError(f"The text has type {type(text).__name__}; it should be a string.")
    return text


def validate_phonemes(phonemes: Any, phone_set: PhoneSet, *, spell: bool = True) -> tuple[str, ...]:
    """`phonemes`, a sequence of codes or a string of codes separated by spaces, in codes of `phone_set`.

    **Arguments:** `spell`, whether an ARPAbet code may be converted to two codes of the set, as ER0 to EU0 R.

    **Raises:** `TextError` for an empty sequence, unknown codes, items that are not strings, and, unless `spell`, for
    a code that is converted to two.
    """
    given = phonemes.split() if isinstance(phonemes, str) else as_list(phonemes, "phonemes", _PHONEMES)
    if not given:
        raise TextError("phonemes is empty; it should contain at least one code.")
    for place, code in enumerate(given, 1):
        if not isinstance(code, str):
            raise TextError(f"Phoneme {place} has type {type(code).__name__}; it should be a code, such as 'pau'.")
    spelt = phone_set.spell(given)
    if len(spelt) != len(given) and not spell:
        for place, code in enumerate(given, 1):
            if len(parts := phone_set.spell([code])) > 1:
                raise TextError(
                    f"Phoneme {place} is {code!r}; it should be one code of the phone set {phone_set.name!r}. Write "
                    f"{' '.join(parts)}, with a duration for each."
                )
    return tuple(spelt)


def durations_per_sequence(durations: Any, sequences: int) -> Sequence[Any]:
    """The durations of each sequence of phonemes; `None` for each if `durations` is `None`.

    **Raises:** `ShapeError` unless `durations` has one item per sequence.
    """
    if durations is None:
        return [None] * sequences
    if isinstance(durations, str | bytes) or not isinstance(durations, Iterable):
        raise ShapeError(
            f"durations has type {type(durations).__name__}; it should be a list with one item for each of the "
            f"{sequences} sequences of phonemes."
        )
    given = list(durations)
    if len(given) != sequences:
        raise ShapeError(
            f"durations has {len(given)} items; it should have one for each of the {sequences} sequences of phonemes."
        )
    return given


def check_seed(seed: Any) -> None:
    """Raise `ConfigError` unless `seed` is a whole number from -2**63 to 2**63 - 1."""
    whole = isinstance(seed, int | np.integer) and not isinstance(seed, bool)
    if not whole or not -(2**63) <= seed < 2**63:
        raise ConfigError(f"seed is {seed!r}; it should be a whole number from -2**63 to 2**63 - 1.")


def check_stream(stream: Any) -> None:
    """Raise `ConfigError` unless `stream` is `True` or `False`, which decide the type of the result."""
    if not isinstance(stream, bool):
        raise ConfigError(f"stream is {format_value(stream)}; it should be True or False.")


def check_noise_options(options: Mapping[str, Any], prefix: str = "") -> None:
    """Raise `ConfigError` unless `sigma` and `denoise`, if they are in `options`, are numbers of at least 0 that are
    finite in float32. Errors state their names after `prefix`, such as `--`."""
    hints = {"sigma": "0 means no noise; 0.6 to 1 is usual.", "denoise": "0 disables the denoiser."}
    for name in (name for name in hints if name in options):
        value = options[name]
        if not _is_number(value) or not 0 <= value <= float(np.finfo(np.float32).max):
            raise ConfigError(
                f"{prefix}{name} is {value!r}; it should be a finite number of at least 0, in float32. {hints[name]}"
            )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def window_frames(piece: float, overlap: float, frame_seconds: float) -> tuple[int, int]:
    """`piece` and `overlap` in seconds as numbers of frames.

    **Raises:** `ConfigError` for values that are not finite numbers, an `overlap` below 0, or a `piece` that is not
    longer than twice `overlap`.
    """
    finite = all(_is_number(value) and math.isfinite(value) for value in (piece, overlap))
    frames = (round(float(piece) / frame_seconds), round(float(overlap) / frame_seconds)) if finite else (0, 0)
    if not finite or overlap < 0 or frames[0] <= 2 * frames[1]:
        raise ConfigError(
            f"piece is {format_value(piece)} s and overlap is {format_value(overlap)} s; overlap should be at least 0, "
            "and piece finite and more than twice as long."
        )
    return frames

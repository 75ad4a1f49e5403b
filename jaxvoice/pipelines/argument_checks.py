"""Checks of the arguments of pipelines: mel spectrograms, audio, conditioning vectors, texts, phonemes, durations."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32, Int64

from jaxvoice.dsp.contract import check_mel
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.errors import AudioError, MelError, ShapeError, TextError
from jaxvoice.text.phonemes import PhoneSet


def validate_mel(
    mel: Float[Any, "mels frames"], config: MelConfig, *, values: bool
) -> tuple[Float32[np.ndarray, "mels frames"], list[str]]:
    """Return `mel` as float32 and a list of warnings. If `values` is true, the scale is also checked.

    **Raises:** `MelError` as `check_mel` does.
    """
    mel = checked = _in_float32(mel)
    if not values and mel.dtype == np.float32:
        # With all finite values replaced by the floor, only shape, type and NaN can be wrong.
        checked = np.where(np.isfinite(mel), np.float32(config.floor), mel)
    unusual = check_mel(checked, config)
    return mel, unusual if values else []


def validate_latents(latents: Float[Any, "channels frames"], channels: int) -> Float32[np.ndarray, "channels frames"]:
    """`latents` as float32; raises `MelError` for another shape or type, no frames, NaN or infinity.

    The scale is not checked, since it depends on the model that computes the latents.
    """
    latents = _in_float32(latents)
    if latents.dtype != np.float32 or latents.ndim != 2 or latents.shape[0] != channels or not latents.shape[1]:
        transposed = "; it looks transposed" if latents.ndim == 2 and latents.shape[1] == channels else ""
        raise MelError(
            f"Latents should be floats of shape ({channels}, frames) with at least one frame, got {latents.dtype} of "
            f"shape {latents.shape}{transposed}."
        )
    if not np.isfinite(latents).all():
        raise MelError("The latents contain NaN or infinity; check how they were computed.")
    return latents


def validate_conditions(cond: Any, size: int, count: int) -> list[Float32[np.ndarray, " cond"] | None]:
    """A list of `count` conditioning vectors, or of `None` if `size` is 0.

    **Arguments:** `cond`, of shape `(size,)` for all mels or `(count, size)`; `None` if `size` is 0.

    **Raises:** `ShapeError` for another shape, or NaN or infinity.
    """
    if cond is None and not size:
        return [None] * count
    if cond is None:
        raise ShapeError(f"The generator takes a conditioning vector of {size} values, but got none.")
    if not size:
        raise ShapeError(f"The generator takes no conditioning vector, but got one of shape {np.shape(cond)}.")
    vectors = np.asarray(cond, np.float32)
    if vectors.shape not in ((size,), (count, size)):
        raise ShapeError(
            f"The conditioning vector has shape {vectors.shape}; expected ({size},), or ({count}, {size}) for one per "
            "mel."
        )
    if not np.isfinite(vectors).all():
        raise ShapeError("The conditioning vector contains NaN or infinity; check how it was computed.")
    return list(np.broadcast_to(vectors, (count, size)))


def validate_audio(audio: Float[Any, " samples"]) -> Float32[np.ndarray, " samples"]:
    """`audio` as float32; raises `AudioError` for several channels, integers, NaN, or no samples."""
    samples = _in_float32(audio)
    if samples.ndim != 1 or samples.dtype != np.float32:
        raise AudioError(
            f"Audio should be floats of shape (samples,) with full scale at 1, got {samples.dtype} of shape "
            f"{samples.shape}; average its channels, and divide 16-bit integers by 32768."
        )
    if not samples.size:
        raise AudioError("The audio is empty; pass at least one sample.")
    if not np.isfinite(samples).all():
        bad = int(np.count_nonzero(~np.isfinite(samples)))
        raise AudioError(
            f"The audio contains NaN or infinity in {bad} of {len(samples)} samples; check how it was computed."
        )
    return samples


def _in_float32(values: Any) -> np.ndarray:
    """`values` as an array, floats of any size (bfloat16 included) in float32; values out of range become infinite."""
    array = np.asarray(values)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        return array
    with np.errstate(over="ignore"):
        return array.astype(np.float32, copy=False)


@contextmanager
def error_context(name: str) -> Iterator[None]:
    """Prefix the messages of `TextError` and `ShapeError` with `name`, unless it is empty."""
    try:
        yield
    except (TextError, ShapeError) as error:
        if not name:
            raise
        raise type(error)(f"{name}: {error}") from None


def as_list(values: Any, what: str) -> list[Any]:
    """`values` as a list; raises `TextError`, whose message starts with `what`, if they are not iterable."""
    if isinstance(values, bytes | bytearray) or not isinstance(values, Iterable):
        raise TextError(f"{what}, got {type(values).__name__}.")
    return list(values)


def validate_text(text: Any) -> str:
    """`text`; raises `TextError` if it is not a string."""
    if not isinstance(text, str):
        raise TextError(f"A text should be a string, got {type(text).__name__}.")
    return text


def validate_phonemes(phonemes: Any, phone_set: PhoneSet, *, spell: bool = True) -> tuple[str, ...]:
    """`phonemes`, a sequence or a string separated by spaces, in codes of `phone_set`.

    **Arguments:** `spell`, whether an ARPAbet code may become two codes of the set, as ER0 becomes EU0 R.

    **Raises:** `TextError` for an empty sequence, unknown codes, items that are not strings, and a code that becomes
    two if `spell` is false.
    """
    given = phonemes.split() if isinstance(phonemes, str) else as_list(phonemes, "Phonemes should be codes")
    if not given:
        raise TextError("There are no phonemes; pass at least one.")
    for place, code in enumerate(given, 1):
        if not isinstance(code, str):
            raise TextError(f"Phonemes should be codes, got {type(code).__name__} as phoneme {place}.")
    spelt = phone_set.spell(given)
    if len(spelt) != len(given) and not spell:
        for place, code in enumerate(given, 1):
            if len(parts := phone_set.spell([code])) > 1:
                raise TextError(
                    f"{code!r} (phoneme {place}) is {len(parts)} phonemes of the phone set {phone_set.name!r}, and "
                    f"each needs a duration of its own; write {' '.join(parts)}."
                )
    return tuple(spelt)


def validate_durations(durations: Any, phones: int) -> Int64[np.ndarray, " phones"]:
    """`durations` as an array; raises `ShapeError` unless they are `phones` whole numbers of at least 1."""
    try:
        frames = np.asarray(durations)
    except ValueError:  # sequences of different lengths
        frames = np.asarray(durations, object)
    if frames.shape != (phones,):
        raise ShapeError(f"There are {phones} phonemes, but durations of shape {frames.shape}; pass one per phoneme.")
    if frames.dtype.kind not in "iu":
        raise ShapeError(f"Durations should be whole numbers of frames, got {frames.dtype}; round them first.")
    if frames.min() < 1:
        place = int(frames.argmin())
        raise ShapeError(f"Durations should be at least 1 frame; that of phoneme {place + 1} is {frames[place]}.")
    return frames.astype(np.int64)


def durations_per_sequence(durations: Any, sequences: int) -> Sequence[Any]:
    """The durations of each sequence, `None` for each if there are none; raises `ShapeError` for another number."""
    if durations is None:
        return [None] * sequences
    if isinstance(durations, str | bytes) or not isinstance(durations, Iterable):
        raise ShapeError(
            f"Durations of {sequences} sequences of phonemes should be a list with an item for each, got "
            f"{type(durations).__name__}."
        )
    given = list(durations)
    if len(given) != sequences:
        raise ShapeError(
            f"There are {sequences} sequences of phonemes, but durations for {len(given)}; pass one item per sequence."
        )
    return given

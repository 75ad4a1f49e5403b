"""What users give to be said or aligned, looked at before anything is computed."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from jaxtyping import Int64

from jaxvoice.errors import ShapeError, TextError
from jaxvoice.text.phonemes import PhoneSet


@contextmanager
def telling(name: str) -> Iterator[None]:
    """Put `name` before the messages of a `TextError` or `ShapeError`; an empty one changes nothing."""
    try:
        yield
    except (TextError, ShapeError) as error:
        if not name:
            raise
        raise type(error)(f"{name}: {error}") from None


def several(values: Any, what: str) -> list[Any]:
    """`values` as a list; raises `TextError`, in which `what` says what they should be, if they are none."""
    if isinstance(values, bytes | bytearray) or not isinstance(values, Iterable):
        raise TextError(f"{what}, got {type(values).__name__}.")
    return list(values)


def usable_text(text: Any) -> str:
    """`text`; raises `TextError` if it is no string."""
    if not isinstance(text, str):
        raise TextError(f"A text should be a string, got {type(text).__name__}.")
    return text


def usable_phonemes(phonemes: Any, phone_set: PhoneSet, *, spell: bool = True) -> tuple[str, ...]:
    """`phonemes`, a sequence or one string with spaces between, in codes of `phone_set`.

    **Arguments:** `spell`, whether an ARPAbet code may become two codes of the set, as ER0 becomes EU0 R.

    **Raises:** `TextError` for no phonemes, unknown ones, what is no string, and a code that would become two if that
    may not be.
    """
    given = phonemes.split() if isinstance(phonemes, str) else several(phonemes, "Phonemes should be codes")
    if not given:
        raise TextError("There are no phonemes; give at least one.")
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


def usable_durations(durations: Any, phones: int) -> Int64[np.ndarray, " phones"]:
    """`durations` as an array; raises `ShapeError` if they are not `phones` whole numbers from 1 on."""
    try:
        frames = np.asarray(durations)
    except ValueError:  # sequences of different lengths
        frames = np.asarray(durations, object)
    if frames.shape != (phones,):
        raise ShapeError(f"There are {phones} phonemes and durations of shape {frames.shape}; give one for each.")
    if frames.dtype.kind not in "iu":
        raise ShapeError(f"Durations should be whole numbers of frames, got {frames.dtype}; round them first.")
    if frames.min() < 1:
        place = int(frames.argmin())
        raise ShapeError(f"Durations should be at least 1 frame; that of phoneme {place + 1} is {frames[place]}.")
    return frames.astype(np.int64)


def durations_of_several(durations: Any, sequences: int) -> Sequence[Any]:
    """What is given for each of `sequences` of phonemes; raises `ShapeError` if that is not one thing for each."""
    if durations is None:
        return [None] * sequences
    if isinstance(durations, str | bytes) or not isinstance(durations, Iterable):
        raise ShapeError(
            f"Durations of {sequences} sequences of phonemes should be a list with an item for each, got "
            f"{type(durations).__name__}."
        )
    given = list(durations)
    if len(given) != sequences:
        raise ShapeError(f"There are {sequences} sequences of phonemes and durations for {len(given)}.")
    return given

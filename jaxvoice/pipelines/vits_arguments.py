"""The arguments of the VITS pipeline: texts in pieces, speakers, languages and scales, checked and converted."""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from jaxvoice.config import format_value, suggest_names
from jaxvoice.errors import ConfigError, warn_caller
from jaxvoice.models.speaker_encoder.family import FAMILY as ENCODER_FAMILY
from jaxvoice.models.vits.config import SamplingConfig
from jaxvoice.pipelines.speaker_encoder import SpeakerEncoder
from jaxvoice.pipelines.synthesizer import check_speed


def sampling_config(
    default: SamplingConfig, noise_scale: Any, duration_noise_scale: Any, length_scale: Any, speed: float
) -> SamplingConfig:
    """`default` with the scales that are not `None`, and durations divided by `speed`.

    **Raises:** `ConfigError` for a scale or a speed out of range.
    """
    check_speed(speed)
    given = {"noise_scale": noise_scale, "duration_noise_scale": duration_noise_scale, "length_scale": length_scale}
    changes = {name: _as_float(value) for name, value in given.items() if value is not None}
    try:
        sampling = dataclasses.replace(default, **changes)
        return dataclasses.replace(sampling, length_scale=sampling.length_scale / speed)
    except ConfigError as failure:
        raise ConfigError(str(failure).removeprefix("SamplingConfig.")) from None


def _as_float(value: Any) -> Any:
    """`value`, as a Python number if it is one of NumPy, since configurations contain no others."""
    scalar = getattr(value, "shape", None) == () and getattr(value, "dtype", np.dtype(bool)).kind in "iuf"
    return float(value) if scalar else value


def language_id(language: Any, names: Sequence[str]) -> int | None:
    """The id of a language; `None` for a model without languages. The only language of a model may be omitted.

    **Raises:** `ConfigError` for an unknown language, with the nearest names, or one that the model does not have.
    """
    if not names:
        if language is not None:
            raise ConfigError(
                f"language is {format_value(language)}, but the model has no language embeddings; omit it."
            )
        return None
    if language is None and len(names) == 1:
        return 0
    if not isinstance(language, str) or language not in names:
        raise ConfigError(f"language is {format_value(language)}; {suggest_names(language, names)}")
    return names.index(language)


def speaker_id(speaker: Any, ids: Mapping[str, int], names: Sequence[str], count: int, name: str) -> int:
    """The id of a speaker of a table of `count` speakers, given as a name or an id. Errors contain `name`.

    **Raises:** `ConfigError` for an unknown speaker, with the nearest names, or an id out of range.
    """
    whole = isinstance(speaker, int | np.integer) and not isinstance(speaker, bool)
    if whole and 0 <= speaker < count:
        return int(speaker)
    if isinstance(speaker, str) and speaker in ids:
        return ids[speaker]
    if whole:
        raise ConfigError(f"{name} is {format_value(speaker)}; it should be a name or an id from 0 to {count - 1}.")
    raise ConfigError(f"{name} is {format_value(speaker)}; {suggest_names(speaker, names)}")


def is_speaker_vector(value: Any, size: int) -> bool:
    """Whether `value` is an array or a list of `size` numbers. Recordings have far more samples."""
    if isinstance(value, list | tuple):
        return len(value) == size and all(isinstance(one, float | np.floating) for one in value)
    return getattr(value, "shape", None) == (size,)


def speaker_vector(vector: Any, size: int, name: str = "speaker") -> Float32[np.ndarray, " dim"]:
    """A vector of a speaker with `size` components, scaled to a largest component of 1. Errors contain `name`.

    **Raises:** `ConfigError` for another shape or type, NaN, infinity, or zeros only.
    """
    expected = f"a name, or a vector of floats of shape ({size},) from the speaker encoder of the model"
    try:
        array = np.asarray(vector)
    except ValueError as failure:  # lists of different lengths
        raise ConfigError(f"{name} is {format_value(vector)}; it should be {expected}.") from failure
    if array.shape != (size,) or not np.issubdtype(array.dtype, np.floating):
        raise ConfigError(f"{name} has shape {array.shape} and type {array.dtype}; it should be {expected}.")
    largest = float(np.max(np.abs(array)))
    if not np.isfinite(largest) or largest == 0:
        raise ConfigError(f"{name} contains only zeros, NaN or infinity; compute the vector again.")
    # The network reads the direction only. The squares of very large or small values are not in float32.
    return (array / largest).astype(np.float32)


def warn_about_encoder(encoder: Any, folder: Path) -> None:
    """Warn with `JaxvoiceWarning` if the `SpeakerEncoder` `encoder` is not the one in `folder`, which belongs to
    the model."""
    own = SpeakerEncoder(*ENCODER_FAMILY.load_network(folder))
    if own.identity != encoder.identity:
        warn_caller(
            f"encoder is another speaker encoder than that in {folder}, with which the model was trained, so that the "
            "voices of recordings will probably be wrong. Omit encoder (--encoder)."
        )


def split_text(text: str, most: int) -> list[str]:
    """`text` in pieces of at most `most` characters if possible, divided at the ends of sentences.

    Longer sentences are divided at commas, and without these at spaces.
    """
    pieces = [text.strip()]
    for pattern in (r"(?<=[.!?…])\s+", r"(?<=[,;:])\s+", r"\s+"):
        pieces = [part for piece in pieces for part in _joined(re.split(pattern, piece), most)]
    return [piece for piece in pieces if any(character.isalnum() for character in piece)]


def _joined(parts: list[str], most: int) -> Iterator[str]:
    """Adjacent `parts`, joined while they have at most `most` characters."""
    held = parts[0]
    for part in parts[1:]:
        if len(held) + 1 + len(part) <= most:
            held = f"{held} {part}"
        else:
            yield held
            held = part
    yield held

"""The inputs of a server: their limits, uploaded recordings, and messages without folders of the machine."""

import contextlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from jaxvoice.config import format_value
from jaxvoice.data.audio import audio_info, read_as, read_audio
from jaxvoice.errors import AudioError, ConfigError, JaxvoiceError, TextError
from jaxvoice.pipelines.recordings import Recording, read_recording

Block = Float32[np.ndarray, "*channels samples"]
"""Audio of one channel without an axis of channels, or of several."""
_MOST_CHANNELS, _HIGHEST_RATE = 8, 192_000  # of recordings
_MOST_SAMPLES = 200_000  # of all channels in a second, which bounds the memory of a decoded recording
_FIELD_BYTES = 1_000_000  # of all fields of a request besides its text
_PATH = re.compile(r"(?<![\w.:/])(?:[A-Za-z]:)?(?:[/\\][^/\\\s\"']+)+[/\\]([^/\\\s\"']+)")


@dataclass(frozen=True)
class Limits:
    """The largest inputs of a server.

    **Raises:** `ConfigError` for a limit that is not positive, or not a whole number where one is expected.
    """

    text_characters: int = 2000
    """Characters of a text."""
    upload_megabytes: float = 20.0
    """The body of a request with all its recordings, in millions of bytes; without recordings, as `field_bytes`."""
    reference_seconds: float = 60.0
    """Duration of the references of a voice together."""
    source_seconds: float = 300.0
    """Duration of a recording that is converted or vocoded."""
    waiting: int = 100
    """Requests that wait while another is computed. Further ones are refused."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            types = int if field.type is int else int | float
            if isinstance(value, bool) or not isinstance(value, types) or not 0 < value < float("inf"):
                kind = "a whole number of at least 1" if field.type is int else "a positive number"
                raise ConfigError(f"Limits.{field.name} is {format_value(value)}; it should be {kind}.")

    @property
    def upload_bytes(self) -> int:
        """The largest body of a request in bytes."""
        return round(self.upload_megabytes * 1e6)

    @property
    def field_bytes(self) -> int:
        """The largest body in bytes of a request without recordings; a character has up to 12 bytes in it."""
        return min(_FIELD_BYTES + 12 * self.text_characters, self.upload_bytes)


def check_text(text: Any, limits: Limits) -> str:
    """`text`; raises `TextError` if it is missing, is no text, or exceeds the limit."""
    if text is None:
        raise TextError("There is no text; send it in the field 'text'.")
    if not isinstance(text, str):
        raise TextError(f"text is {format_value(text)}; it should be the text to speak.")
    if len(text) > limits.text_characters:
        raise TextError(
            f"text has {len(text)} characters; it should have at most {limits.text_characters}. Divide it into several "
            "requests."
        )
    return text


def check_recordings(files: Iterable[tuple[Path, str]], seconds: float, kind: str) -> None:
    """Check the headers of uploaded recordings, before they are decoded.

    **Arguments:** `files`, their paths and names in messages; `seconds`, the largest duration of all; `kind`, what
    they are.

    **Raises:** `AudioError` for a file that is not audio, or recordings that are too long or have too many channels.
    """
    total = 0.0
    for path, name in files:
        with named(path, name):
            info = audio_info(path)
        if info.channels > _MOST_CHANNELS or info.sample_rate > _HIGHEST_RATE:
            raise AudioError(
                f"{name} has {info.channels} channels at {info.sample_rate} Hz; it should have at most "
                f"{_MOST_CHANNELS} at {_HIGHEST_RATE} Hz. Convert it."
            )
        if info.channels * info.sample_rate > _MOST_SAMPLES:
            raise AudioError(
                f"{name} has {info.channels * info.sample_rate} samples a second in {info.channels} channels; it "
                f"should have at most {_MOST_SAMPLES}. Convert it to fewer channels or a lower sample rate."
            )
        total += info.seconds
    if total > seconds:
        raise AudioError(f"The {kind} has {total:.1f} s; it should have at most {seconds:g} s. Send a shorter one.")


def read_upload(path: Path, name: str) -> Recording:
    """The recording in an uploaded file, called `name` in errors and warnings, which are those of `read_recording`."""
    with named(path, name):
        return replace(read_recording(read_audio(path), None, name), name=name)


def read_upload_channels(path: Path, name: str, channels: int) -> tuple[Block, int]:
    """The samples of an uploaded file for a model of so many channels, and their sample rate.

    The samples of one channel have no axis of channels. Errors are those of `read_as`.
    """
    with named(path, name):
        samples, rate = read_as(path, channels)
    return (samples[0] if channels == 1 else samples), rate


@contextlib.contextmanager
def named(path: Path, name: str) -> Iterator[None]:
    """A context whose `AudioError`s contain `name` instead of `path`, the place of an uploaded file."""
    try:
        yield
    except AudioError as failure:
        raise AudioError(str(failure).replace(str(path), name)) from None


def public_message(failure: JaxvoiceError | str) -> str:
    """The message of an error or a warning without folders of the server: only the last names of absolute paths."""
    return _PATH.sub(r"\1", str(failure))


def pcm16(block: Block) -> bytes:
    """Samples as 16-bit integers, least byte first, with alternating channels; values above full scale are clipped."""
    samples = np.clip(np.rint(block * np.float32(32768)), -32768, 32767).astype("<i2")
    return samples.T.tobytes() if samples.ndim == 2 else samples.tobytes()

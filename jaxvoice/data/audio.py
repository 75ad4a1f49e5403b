"""Reading, writing and resampling of audio: one channel of float32 at any sample rate."""

import numbers
import operator
import os
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from jaxtyping import Float, Float32, Int16

from jaxvoice.errors import AudioError, ShapeError

SILENCE = 10 ** (-70 / 20)  # peak of silent audio, full scale at 1; about ten steps of 16-bit audio
_BLOCK = 1 << 16  # samples that are converted and written at once
_UNKNOWN_LENGTH = (0, 0x7FFFFFFF, 0xFFFFFFFF)  # stated in WAV files that were written as streams
_LARGEST_PAGE = 27 + 255 + 255 * 255


@dataclass(frozen=True)
class AudioInfo:
    """The properties of an audio file: sample rate (Hz), channels, frames (samples per channel) and sample format."""

    sample_rate: int
    channels: int
    frames: int
    subtype: str

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.frames / self.sample_rate


@dataclass(frozen=True)
class Audio:
    """A waveform.

    `samples` `(samples,)` is float32 with full scale at 1, `sample_rate` is in Hz, and `source` contains the properties
    of the file.
    """

    samples: Float32[np.ndarray, " samples"]
    sample_rate: int
    source: AudioInfo | None = None

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.samples) / self.sample_rate


def read_audio(path: str | Path, sample_rate: float | None = None) -> Audio:
    """Read a WAV, FLAC, OGG or MP3 file, average its channels, and resample it to `sample_rate` (Hz) if that is given.

    Samples of 16 bits are divided by 32768.

    **Raises:** `AudioError` if the file is missing, empty, truncated or not audio, if it has no samples or contains NaN
    or infinity, or if `sample_rate` is not a positive whole number. Truncation of an MP3 file that does not state its
    length is not detected.
    """
    wanted = None if sample_rate is None else _whole_rate("sample_rate", sample_rate)
    path = _check_path(path)
    samples, info = _decode(path)
    if info.frames == 0:
        raise AudioError(f"{path} is zero-length: it has a header but no samples; record it again.")
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)
    if not np.isfinite(mono).all():
        bad = int(np.count_nonzero(~np.isfinite(mono)))
        raise AudioError(f"{path} contains NaN or infinity in {bad} of {len(mono)} samples; export it again.")
    mono = np.ascontiguousarray(mono, dtype=np.float32)
    if wanted is not None and wanted != info.sample_rate:
        mono = resample(mono, info.sample_rate, wanted)
    return Audio(mono, wanted or info.sample_rate, info)


def _check_path(path: str | Path) -> Path:
    path = Path(path)
    try:
        size = path.stat().st_size if path.is_file() else None
    except OSError as failure:
        raise AudioError(f"{path} cannot be looked up ({failure.strerror}); check the path.") from failure
    if size is None:
        raise AudioError(f"{path} is missing or is not a file; check the path.")
    if size == 0:
        raise AudioError(f"{path} is empty (0 bytes); copy or record it again.")
    return path


def _decode(path: Path) -> tuple[Float32[np.ndarray, "frames channels"], AudioInfo]:
    import soundfile

    try:
        missing = missing_bytes(path)
        if missing:
            raise AudioError(f"{path} is truncated: at least its last {missing} bytes are missing; copy it again.")
        with soundfile.SoundFile(_name(path)) as file:
            promised, rate, channels, subtype = file.frames, file.samplerate, file.channels, file.subtype
            samples = file.read(dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as failure:
        raise _unreadable(path, failure) from failure
    except OSError as failure:
        raise AudioError(f"{path} cannot be opened ({failure.strerror}); check its permissions.") from failure
    if len(samples) < promised:
        raise AudioError(
            f"{path} is truncated: it contains {len(samples)} of the {promised} samples in its header; copy it again."
        )
    return samples, AudioInfo(rate, channels, len(samples), subtype)


def _name(path: Path) -> Any:
    """`path` as soundfile takes it. On POSIX systems, file names are bytes that need not be valid text."""
    return str(path) if sys.platform == "win32" else os.fsencode(path)


def _unreadable(path: Path, failure: Any) -> AudioError:
    reason = failure.error_string.strip().rstrip(".")
    return AudioError(f"{path} is not audio of a supported format, or damaged ({reason}); convert it to WAV or FLAC.")


def audio_info(path: str | Path) -> AudioInfo:
    """Read the header of an audio file.

    **Raises:** `AudioError` if the file is missing, empty or not audio.
    """
    import soundfile

    path = _check_path(path)
    try:
        info = soundfile.info(_name(path))
    except soundfile.LibsndfileError as failure:
        raise _unreadable(path, failure) from failure
    return AudioInfo(info.samplerate, info.channels, info.frames, info.subtype)


def resample(
    samples: Float[np.ndarray, " samples"], from_rate: float, to_rate: float
) -> Float32[np.ndarray, " resampled_samples"]:
    """Resample from `from_rate` to `to_rate` (Hz) with soxr's high quality filter, the default of `librosa.resample`.

    The result has `ceil(samples * to_rate / from_rate)` samples.

    **Raises:** `AudioError` for a rate that is not a positive whole number.
    """
    import soxr

    from_rate, to_rate = _whole_rate("from_rate", from_rate), _whole_rate("to_rate", to_rate)
    if from_rate == to_rate:
        return np.asarray(samples, dtype=np.float32)
    length = -(-len(samples) * to_rate // from_rate)
    result = soxr.resample(np.ascontiguousarray(samples, dtype=np.float32), from_rate, to_rate, quality="HQ")
    return np.pad(result[:length], (0, max(0, length - len(result))))


def _whole_rate(name: str, rate: Any) -> int:
    try:
        whole = int(float(rate)) if isinstance(rate, numbers.Real) else operator.index(rate)
    except (TypeError, ValueError, OverflowError):  # text, NaN, infinity
        whole = 0
    if whole < 1 or whole != rate:
        raise AudioError(f"{name} is {rate!r}; it should be a positive whole number of Hz.")
    return whole


def write_wav(
    path: str | Path, samples: Any, sample_rate: float, subtype: Literal["PCM_16", "FLOAT"] = "PCM_16"
) -> None:
    """Write `samples` `(samples,)`, full scale at 1, as a mono WAV file of 16-bit integers or 32-bit floats.

    16-bit samples are rounded and clipped to [-32768, 32767]. An existing file is replaced only when the new one is
    complete.

    **Raises:** `AudioError` for NaN, infinity, no samples, another `subtype` or rate, or a path that cannot be written;
    `ShapeError` if `samples` is not one-dimensional.
    """
    import soundfile

    path, rate = Path(path), _whole_rate("sample_rate", sample_rate)
    waveform = np.asarray(samples)
    if waveform.ndim != 1:
        raise ShapeError(f"samples has shape {waveform.shape}; it should be (samples,). Write one channel to {path}.")
    if waveform.size == 0:
        raise AudioError(f"samples is empty; it should contain at least one sample. {path} was not written.")
    bad = sum(int(np.count_nonzero(~np.isfinite(block))) for block in _blocks(waveform))
    if bad:
        raise AudioError(f"{bad} of {waveform.size} samples are NaN or infinite; {path} was not written.")
    if subtype not in ("PCM_16", "FLOAT"):
        raise AudioError(f"subtype is {subtype!r}; it should be 'PCM_16' or 'FLOAT'.")
    if path.is_dir():
        raise AudioError(f"{path} is a folder; pass the name of a WAV file.")
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as file, soundfile.SoundFile(file, "w", rate, 1, subtype, format="WAV") as wav:
            for block in _blocks(waveform):
                wav.write(_rounded(block) if subtype == "PCM_16" else block)
        partial.replace(path)
    except (OSError, soundfile.SoundFileError) as failure:
        reason = getattr(failure, "strerror", None) or failure
        raise AudioError(
            f"{path} cannot be written ({reason}); check that its folder exists, is writable and has space."
        ) from failure
    finally:
        partial.unlink(missing_ok=True)


def _blocks(waveform: np.ndarray) -> Iterator[Float32[np.ndarray, " samples"]]:
    """Yield `waveform` in blocks of float32, without a copy of the whole waveform."""
    for start in range(0, len(waveform), _BLOCK):
        yield np.ascontiguousarray(waveform[start : start + _BLOCK], dtype=np.float32)


def _rounded(block: Float32[np.ndarray, " samples"]) -> Int16[np.ndarray, " samples"]:
    return np.clip(np.rint(block * np.float32(32768)), -32768, 32767).astype(np.int16)


def missing_bytes(path: Path) -> int:
    """The smallest number of bytes that are missing from a WAV, AIFF or OGG file according to its headers.

    It is 0 for other formats.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] == b"RIFF" and head[8:] == b"WAVE":
            return _missing_in_chunks(file, size, "<4sI", b"data")
        if head[:4] == b"FORM" and head[8:] in (b"AIFF", b"AIFC"):
            return _missing_in_chunks(file, size, ">4sI", b"SSND")
        if head[:4] == b"OggS":
            return _missing_in_ogg(file, size)
    return 0


def _missing_in_chunks(file: BinaryIO, size: int, layout: str, wanted: bytes) -> int:
    while len(header := file.read(8)) == 8:
        name, length = struct.unpack(layout, header)
        if name == wanted:
            return 0 if length in _UNKNOWN_LENGTH else max(0, file.tell() + length - size)
        file.seek(length + length % 2, os.SEEK_CUR)
    return 0


def _missing_in_ogg(file: BinaryIO, size: int) -> int:
    """The last page of an Ogg stream states the lengths of its segments; RFC 3533, section 6."""
    file.seek(max(0, size - _LARGEST_PAGE))
    tail = file.read()
    start = tail.rfind(b"OggS")
    if start < 0:
        return 0
    page = tail[start:]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return 1
    return max(0, 27 + page[26] + sum(page[27 : 27 + page[26]]) - len(page))

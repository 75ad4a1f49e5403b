"""Reading, writing and resampling of audio: one channel of float32 at any sample rate."""

import contextlib
import math
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np
from jaxtyping import Float, Float32, Int16

from jaxvoice.data.audio_headers import StreamedFile, missing_bytes, streamed_header, wav_header
from jaxvoice.dsp.resampling import resample, resample_blocks, whole_rate
from jaxvoice.errors import AudioError, ShapeError

if TYPE_CHECKING:
    import soundfile

SILENCE = 10 ** (-70 / 20)  # peak of silent audio, full scale at 1; about ten steps of 16-bit audio
_BLOCK = 1 << 16  # samples that are converted and written at once
_READ = 1 << 18  # samples of each channel that `read_blocks` reads at once
_LOWEST_SHARE = 0.01  # of the power that channels without correlation have in their mean; less is cancellation


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

    Samples of 16 bits are divided by 32768. A WAV file that was written as a stream, whose header states 0 bytes, about
    2 or 4 GiB, or 2,000,000,000 bytes, is read to its end.

    **Raises:** `AudioError` if the file is missing, empty, truncated or not audio, cannot be decoded, or does not fit
    into memory, if it has no samples or contains NaN or infinity, if its channels cancel each other in their mean, or
    if `sample_rate` is not a positive whole number. Truncation of an MP3 file that does not state its length is not
    detected.
    """
    wanted = None if sample_rate is None else whole_rate("sample_rate", sample_rate)
    path = _check_path(path)
    samples, info = _decode(path)
    if info.frames == 0:
        raise AudioError(f"{path} is zero-length: it has a header but no samples; record it again.")
    mono = samples[:, 0] if info.channels == 1 else samples.mean(axis=1)
    _check_finite(path, mono)
    if info.channels > 1:
        _check_cancellation(path, samples, mono)
    mono = np.ascontiguousarray(mono, dtype=np.float32)
    if wanted is not None and wanted != info.sample_rate:
        mono = resample(mono, info.sample_rate, wanted)
    return Audio(mono, wanted or info.sample_rate, info)


def read_channels(
    path: str | Path, sample_rate: float | None = None, *, seconds: float | None = None
) -> tuple[Float32[np.ndarray, "channels samples"], int]:
    """Read all channels of an audio file, and resample them to `sample_rate` (Hz) if that is given.

    With `seconds`, only that much of the beginning of the file is decoded and checked, at least one sample.

    **Returns:** samples `(channels, samples)` with full scale at 1, and their sample rate.

    **Raises:** `AudioError` as `read_audio`, except for channels that cancel each other; `AudioError` if `seconds` is
    not a positive number.
    """
    wanted = None if sample_rate is None else whole_rate("sample_rate", sample_rate)
    if seconds is not None and not 0 < seconds < math.inf:
        raise AudioError(f"seconds is {seconds}; it should be a positive number.")
    path = _check_path(path)
    samples, info = _decode(path, seconds)
    if info.frames == 0:
        raise AudioError(f"{path} is zero-length: it has a header but no samples; record it again.")
    _check_finite(path, samples)
    channels = np.ascontiguousarray(samples.T)
    if wanted is not None and wanted != info.sample_rate:
        channels = np.stack([resample(channel, info.sample_rate, wanted) for channel in channels])
    return channels, wanted or info.sample_rate


@dataclass(frozen=True)
class AudioBlocks:
    """All channels of an audio file, in blocks that are read one after another."""

    channels: int
    """Channels of the file."""
    samples: int
    """Samples of each channel in all blocks."""
    sample_rate: int
    """Sample rate of the blocks in Hz."""
    blocks: Iterator[Float32[np.ndarray, "channels samples"]]
    """The blocks with full scale at 1; they can be iterated once."""


def read_blocks(path: str | Path, sample_rate: float | None = None) -> AudioBlocks:
    """Read all channels of an audio file in blocks, and resample them to `sample_rate` (Hz) if that is given.

    Together, the blocks are the result of `read_channels`, but one block at a time is in memory. MP3 files, and others
    in which the decoder cannot seek exactly, are one block.

    **Raises:** `AudioError` as `read_channels`. Errors in samples, such as NaN, are raised when their block is read.
    """
    wanted = None if sample_rate is None else whole_rate("sample_rate", sample_rate)
    path = _check_path(path)
    with _opened(path) as file:
        _check_complete(path)
        info = AudioInfo(file.samplerate, file.channels, file.frames, file.subtype)
        # soundfile seeks after each block. libsndfile then loses samples of MP3 files with low sample rates.
        exact = file.seekable() and not info.subtype.startswith("MPEG")
    rate = wanted or info.sample_rate
    if not exact:
        samples, _ = read_channels(path, rate)
        return AudioBlocks(len(samples), samples.shape[1], rate, iter([samples]))
    if info.frames == 0:
        raise AudioError(f"{path} is zero-length: it has a header but no samples; record it again.")
    blocks = _seekable_blocks(path, info)
    if rate != info.sample_rate:
        blocks = resample_blocks(blocks, info.sample_rate, rate)
    return AudioBlocks(info.channels, -(-info.frames * rate // info.sample_rate), rate, blocks)


def _seekable_blocks(path: Path, info: AudioInfo) -> Iterator[Float32[np.ndarray, "channels samples"]]:
    """Yield the blocks of a file with the properties `info`."""
    done = 0
    with _opened(path) as file:
        while done < info.frames:
            block = file.read(min(_READ, info.frames - done), dtype="float32", always_2d=True)
            if not len(block):
                raise _truncated(path, done, info.frames)
            if not np.isfinite(block).all():
                bad, seconds = int(np.count_nonzero(~np.isfinite(block))), done / info.sample_rate
                raise AudioError(
                    f"{path} contains NaN or infinity in {bad} of {block.size} samples from {seconds:.1f} s on; export "
                    "it again."
                )
            done += len(block)
            yield np.ascontiguousarray(block.T)


def read_as(
    path: str | Path, channels: int, sample_rate: float | None = None
) -> tuple[Float32[np.ndarray, "channels samples"], int]:
    """Read an audio file for a model of so many `channels`, and resample it to `sample_rate` (Hz) if that is given.

    For one channel, the channels of the file are averaged, as by `read_audio`. For several channels, a file with one
    channel is repeated.

    **Returns:** samples `(channels, samples)` with full scale at 1, and their sample rate.

    **Raises:** `AudioError` as `read_audio`, or for another number of channels.
    """
    if channels == 1:
        audio = read_audio(path, sample_rate)
        return audio.samples[None], audio.sample_rate
    samples, rate = read_channels(path, sample_rate)
    if len(samples) not in (1, channels):
        raise AudioError(
            f"{path} has {len(samples)} channels; it should have 1 or {channels}, the channels of the model."
        )
    return np.repeat(samples, channels // len(samples), axis=0), rate


def _check_finite(path: Path, samples: Float32[np.ndarray, "*samples"]) -> None:
    if not np.isfinite(samples).all():
        bad = int(np.count_nonzero(~np.isfinite(samples)))
        raise AudioError(f"{path} contains NaN or infinity in {bad} of {samples.size} samples; export it again.")


def _check_cancellation(path: Path, samples: np.ndarray, mono: np.ndarray) -> None:
    """Raise `AudioError` if the mean `mono` of the channels lacks the sound that the channels have."""
    power = _variance(samples)
    uncorrelated = float(power.sum()) / samples.shape[1] ** 2
    if power.max() > SILENCE**2 and float(_variance(mono)) < _LOWEST_SHARE * uncorrelated:
        raise AudioError(
            f"{path} has {samples.shape[1]} channels that cancel each other in their mean, so one of them is inverted; "
            "export one channel."
        )


def _variance(samples: np.ndarray) -> Any:
    """`samples.var(axis=0, dtype=float64)`, without an array of float64 as large as a long recording."""
    mean = samples.mean(axis=0, dtype=np.float64)
    blocks = (samples[start : start + _BLOCK] for start in range(0, len(samples), _BLOCK))
    return sum(np.square(block - mean).sum(axis=0) for block in blocks) / len(samples)


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


@contextlib.contextmanager
def _opened(path: Path) -> Iterator["soundfile.SoundFile"]:
    """The audio file at `path`. Errors of the decoder while the context is open become `AudioError`s.

    **Raises:** `AudioError` if the file is missing, empty or not audio, cannot be decoded, or does not fit into memory.
    """
    import soundfile

    try:
        streamed = streamed_header(path)
        with contextlib.ExitStack() as stack:
            file: Any = _name(path) if streamed is None else stack.enter_context(StreamedFile(path, streamed))
            yield stack.enter_context(soundfile.SoundFile(file))
    except AudioError:
        raise
    except MemoryError as failure:
        raise AudioError(f"{path} does not fit into memory; split it into shorter files.") from failure
    except OSError as failure:
        raise AudioError(f"{path} cannot be opened ({failure.strerror}); check its permissions.") from failure
    except Exception as failure:  # soundfile raises errors of many classes for files that it does not decode
        raise _unreadable(path, failure) from failure


def _decode(path: Path, seconds: float | None = None) -> tuple[Float32[np.ndarray, "frames channels"], AudioInfo]:
    """The samples of a file, or those of its first `seconds`, and the properties of what was read."""
    with _opened(path) as file:
        _check_complete(path)
        promised, rate, channels, subtype = file.frames, file.samplerate, file.channels, file.subtype
        count = sys.maxsize if seconds is None else max(1, round(min(seconds * rate, 2**62)))
        promised = min(promised, count)
        if file.seekable():
            samples = file.read(promised, dtype="float32", always_2d=True)
        else:  # GSM 6.10 and the kinds of ADPCM that keep a state
            samples = np.concatenate([np.zeros((0, channels), np.float32), *_unseekable_blocks(file, count)])
    if len(samples) < promised:
        raise _truncated(path, len(samples), promised)
    return samples, AudioInfo(rate, channels, len(samples), subtype)


def _check_complete(path: Path) -> None:
    missing = missing_bytes(path)
    if missing:
        end = "its last byte is" if missing == 1 else f"its last {missing} bytes are"
        raise AudioError(f"{path} is truncated: at least {end} missing; copy it again.")


def _truncated(path: Path, found: int, promised: int) -> AudioError:
    return AudioError(
        f"{path} is truncated: it contains {found} of the {promised} samples in its header; copy it again."
    )


def _unseekable_blocks(file: "soundfile.SoundFile", count: int) -> Iterator[Float32[np.ndarray, "frames channels"]]:
    """Yield the blocks of a file up to its end, or at most `count` samples of each channel."""
    while count and len(block := file.read(min(count, _BLOCK), dtype="float32", always_2d=True)):
        yield block
        count -= len(block)


def _name(path: Path) -> Any:
    """`path` as soundfile takes it. On POSIX systems, file names are bytes that need not be valid text."""
    return str(path) if sys.platform == "win32" else os.fsencode(path)


def _unreadable(path: Path, failure: Exception) -> AudioError:
    reason = str(getattr(failure, "error_string", failure)).strip().rstrip(".")
    return AudioError(f"{path} is not audio of a supported format, or damaged ({reason}); convert it to WAV or FLAC.")


def audio_info(path: str | Path) -> AudioInfo:
    """Read the header of an audio file.

    The size in the header of a WAV file that was written as a stream is replaced by that of the file.

    **Raises:** `AudioError` if the file is missing, empty or not audio.
    """
    with _opened(_check_path(path)) as file:
        return AudioInfo(file.samplerate, file.channels, file.frames, file.subtype)


def write_wav(
    path: str | Path, samples: Any, sample_rate: float, subtype: Literal["PCM_16", "FLOAT"] = "PCM_16"
) -> None:
    """Write `samples` `(samples,)`, full scale at 1, as a mono WAV file of 16-bit integers or 32-bit floats.

    16-bit samples are rounded and clipped to [-32768, 32767]. An existing file is replaced only when the new one is
    complete.

    **Raises:** `AudioError` for NaN, infinity, no samples, more than 4 GiB, another `subtype` or rate, a path that
    cannot be written, or a full disk; `ShapeError` if `samples` is not one-dimensional.
    """
    path, rate = Path(path), whole_rate("sample_rate", sample_rate)
    waveform = np.asarray(samples)
    if waveform.ndim != 1:
        raise ShapeError(f"samples has shape {waveform.shape}; it should be (samples,). Write one channel to {path}.")
    if waveform.size == 0:
        raise _empty(path)
    bad = sum(int(np.count_nonzero(~np.isfinite(block))) for block in _blocks(waveform))
    if bad:
        raise AudioError(f"{bad} of {waveform.size} samples are NaN or infinite; {path} was not written.")
    _header(path, waveform.size, rate, _sample_type(path, rate, subtype))
    write_wav_parts(path, [waveform], rate, subtype)


def write_wav_parts(
    path: str | Path,
    parts: Iterable[Float[np.ndarray, "*channels samples"]],
    sample_rate: float,
    subtype: Literal["PCM_16", "FLOAT"] = "PCM_16",
) -> int:
    """Write the concatenation of `parts` as `write_wav` does, with one part at a time in memory.

    Parts of shape `(channels, samples)` are written as a file with as many channels. An error that `parts` raises while
    it is iterated leaves an existing file as it is.

    **Returns:** the number of samples of each channel.

    **Raises:** `AudioError` and `ShapeError` as `write_wav`.
    """
    path, rate, count = Path(path), whole_rate("sample_rate", sample_rate), 0
    sample, shape = _sample_type(path, rate, subtype), None
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        # libsndfile reports a full disk as an AssertionError, and prints the traceback of its callback.
        with partial.open("wb") as file:
            for part in parts:
                if part.ndim not in (1, 2) or shape not in (None, part.shape[:-1]):
                    raise ShapeError(
                        f"A part has shape {part.shape}; it should be (samples,), or (channels, samples) with as many "
                        f"channels as the others. {path} was not written."
                    )
                channels = len(part) if part.ndim == 2 else 1
                if shape is None:
                    file.write(_header(path, 0, rate, sample, channels))
                shape, count = part.shape[:-1], count + part.shape[-1]
                _header(path, count, rate, sample, channels)
                for block in _blocks(part if part.ndim == 1 else part.T.reshape(-1)):
                    if not np.isfinite(block).all():
                        raise AudioError(f"The audio contains NaN or infinity; {path} was not written.")
                    file.write((_rounded(block) if subtype == "PCM_16" else block).astype(sample, copy=False).tobytes())
            if shape is None or not count:
                raise _empty(path)
            file.seek(0)
            file.write(_header(path, count, rate, sample, shape[0] if shape else 1))
        partial.replace(path)
    except OSError as failure:
        raise AudioError(
            f"{path} cannot be written ({failure.strerror or failure}); check that its folder exists, is writable and "
            "has space."
        ) from failure
    finally:
        partial.unlink(missing_ok=True)
    return count


def stream_wav(file: BinaryIO, parts: Iterable[Float[np.ndarray, " samples"]], sample_rate: float) -> int:
    """Write the concatenation of `parts` to `file`, such as a pipe, as a mono WAV file of 16-bit integers.

    Each part is written when it is known, and rounded as by `write_wav`. The header states no size, since the number of
    samples is not known at the start.

    **Returns:** the number of samples.

    **Raises:** `AudioError` for NaN or infinity, before the part that contains them is written; what `file` and `parts`
    raise.
    """
    rate, count = whole_rate("sample_rate", sample_rate), 0
    header = wav_header(None, rate, np.dtype("<i2"))
    if header is None:
        raise AudioError(f"sample_rate is {rate}; it should be less for a WAV file.")
    for part in parts:
        samples = np.asarray(part, np.float32)
        if not np.isfinite(samples).all():
            raise AudioError(f"The audio contains NaN or infinity after {count} samples.")
        file.write((b"" if count else header) + _rounded(samples).astype("<i2").tobytes())
        file.flush()
        count += len(samples)
    return count


def _empty(path: Path) -> AudioError:
    return AudioError(f"samples is empty; it should contain at least one sample. {path} was not written.")


def _sample_type(path: Path, rate: int, subtype: str) -> np.dtype:
    """The type of the samples of a WAV file; raises `AudioError` if `path` or an argument does not allow one."""
    if subtype not in ("PCM_16", "FLOAT"):
        raise AudioError(f"subtype is {subtype!r}; it should be 'PCM_16' or 'FLOAT'.")
    if path.is_dir():
        raise AudioError(f"{path} is a folder; pass the name of a WAV file.")
    sample = np.dtype("<i2" if subtype == "PCM_16" else "<f4")
    highest = (2**32 - 1) // sample.itemsize  # the header has 32 bits for the bytes per second
    if rate > highest:
        raise AudioError(
            f"sample_rate is {rate}; it should be at most {highest} Hz for a WAV file of {8 * sample.itemsize}-bit "
            f"samples. {path} was not written."
        )
    return sample


def _header(path: Path, samples: int, rate: int, sample: np.dtype, channels: int = 1) -> bytes:
    """The header of a WAV file; raises `AudioError` for more than 4 GiB."""
    header = wav_header(samples, rate, sample, channels)
    if header is None:
        raise AudioError(f"{path} would have {samples} samples; a WAV file has at most 4 GiB. Write it in parts.")
    return header


def _blocks(waveform: np.ndarray) -> Iterator[Float32[np.ndarray, " samples"]]:
    """Yield `waveform` in blocks of float32, without a copy of the whole waveform."""
    for start in range(0, len(waveform), _BLOCK):
        yield np.ascontiguousarray(waveform[start : start + _BLOCK], dtype=np.float32)


def _rounded(block: Float32[np.ndarray, " samples"]) -> Int16[np.ndarray, " samples"]:
    return np.clip(np.rint(block * np.float32(32768)), -32768, 32767).astype(np.int16)

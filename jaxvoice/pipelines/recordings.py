"""Recordings as arguments of pipelines: arrays with a sample rate, `Audio`, and files."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from jaxvoice.config import format_value
from jaxvoice.data.audio import SILENCE, Audio, read_audio
from jaxvoice.dsp.resampling import whole_rate
from jaxvoice.errors import AudioError, warn_caller
from jaxvoice.pipelines.argument_checks import error_context, validate_audio

_LOWEST_RATE = 2000  # Hz; a lower number is a rate in kHz
_RUN, _CLIPPED_SHARE = 3, 0.001  # samples in a row at an extreme, and their share of a clipped recording


@dataclass(frozen=True)
class Recording:
    """One channel of audio, with its peak and a name for messages."""

    samples: Float32[np.ndarray, " samples"]
    sample_rate: int
    peak: float
    name: str

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.samples) / self.sample_rate


def several(value: Any) -> bool:
    """Whether `value` is a list or tuple of recordings, not a single one."""
    return isinstance(value, list | tuple)


def read_recordings(values: Iterable[Any], sample_rate: Any, name: str) -> list[Recording]:
    """The recordings `values`, called `name 1`, `name 2`, ... in messages, or `name` if there is only one."""
    values = list(values)
    return [
        read_recording(value, sample_rate, name if len(values) == 1 else f"{name} {number}")
        for number, value in enumerate(values, 1)
    ]


def read_recording(value: Any, sample_rate: Any, name: str) -> Recording:
    """The recording `value`: an array `(samples,)` at `sample_rate`, an `Audio`, or the path of a file.

    The channels of files are averaged. A `Recording` is returned as it is.

    **Arguments:** `sample_rate` in Hz; `None` for an `Audio` or a file, which contain it; `name`, for messages.

    **Raises:** `AudioError` for another type, a file that `read_audio` does not read, an array without a sample rate,
    an `Audio` or a file with another one, a rate that is not a whole number of at least 2000 Hz, several channels,
    integers, NaN, no samples, and digital silence. Warns with `JaxvoiceWarning` about clipped recordings.
    """
    if isinstance(value, Recording):
        return value
    if isinstance(value, str | Path):
        name, value = str(value), read_audio(value)
    elif not isinstance(value, Audio | list | tuple) and not hasattr(value, "__array__"):
        raise AudioError(
            f"{name} has type {type(value).__name__}; it should be the path of a file, an Audio, or an array of shape "
            "(samples,) with its sample_rate. Pass several recordings as a list."
        )
    with error_context(name):
        own = value.sample_rate if isinstance(value, Audio) else None
        rate = recording_rate(sample_rate, own, "Pass an array of another rate as Audio.")
        samples = validate_audio(value.samples if isinstance(value, Audio) else value)
        peak = float(max(samples.max(), -samples.min()))
        if peak < SILENCE:
            raise AudioError(
                f"The audio is silent (its peak is {peak:.1e}); it should contain speech. Record it again."
            )
    share = _clipped_share(samples, peak)
    if share > _CLIPPED_SHARE:
        warn_caller(
            f"{name}: {share:.1%} of the samples are at the peak in runs of {_RUN} or more, so the recording is "
            "probably clipped. Its distortion remains in the result. Record it with a lower level."
        )
    return Recording(samples, rate, peak, name)


def recording_rate(given: Any, own: int | None, hint: str = "") -> int:
    """The sample rate of a recording in Hz.

    **Arguments:** `given`, the argument `sample_rate`, or `None`; `own`, that of the file or `Audio`; `None` for an
    array; `hint`, a sentence for the error about rates that differ.

    **Raises:** `AudioError` if both are `None`, if they differ, or for a rate that is not a whole number of at least
    2000 Hz.
    """
    if given is None and own is None:
        raise AudioError("sample_rate is None; it should be the sample rate of the array in Hz.")
    rate = whole_rate("sample_rate", own if given is None else given)
    if own not in (None, rate):
        expected = f"{own}, that of the recording, or None.{hint and f' {hint}'}"
        raise AudioError(f"sample_rate is {rate}; it should be {expected}")
    if rate < _LOWEST_RATE:
        value = format_value(rate if given is None else given)
        raise AudioError(f"sample_rate is {value}; it should be in Hz and at least {_LOWEST_RATE}.")
    return rate


def _clipped_share(samples: Float32[np.ndarray, " samples"], peak: float) -> float:
    """The share of samples in runs of one value, the largest or the smallest, that are clipped.

    The smooth peaks of low frequencies have such runs too, if the samples were rounded to integers. Therefore, the
    second sample beside a clipped run must be farther from the extreme than that of a parabola whose samples in the run
    differ by one step of the integers.
    """
    step, clipped, outside = _integer_step(samples), 0, np.zeros(1, np.int8)
    for signal in (samples, -samples):
        extreme = signal.max()
        if extreme < 0.9 * peak:
            continue
        edges = np.diff(np.concatenate([outside, (signal == extreme).astype(np.int8), outside]))
        starts, stops = np.flatnonzero(edges > 0), np.flatnonzero(edges < 0)
        before, after = signal[np.maximum(starts - 2, 0)], signal[np.minimum(stops + 1, len(signal) - 1)]
        runs = stops - starts
        smooth = 1 + (1 + 4 / np.maximum(runs - 1, 1)) ** 2  # in steps, one of them for rounding
        clipped += int(runs[(runs >= _RUN) & (extreme - np.minimum(before, after) > smooth * step)].sum())
    return clipped / len(samples)


def _integer_step(samples: Float32[np.ndarray, " samples"]) -> float:
    """The step of the integers that `samples` were, 0 if they are not multiples of one number."""
    values = np.unique(samples[:: -(-len(samples) // 2**16)])
    if len(values) < 2:
        return 0.0
    step = np.diff(values).min()
    multiples = values / step
    return float(step) if np.abs(multiples - np.rint(multiples)).max() < 0.1 else 0.0

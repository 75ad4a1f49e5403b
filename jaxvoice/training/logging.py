"""The logs of a run: progress, metrics.jsonl, TensorBoard events and samples. Only process 0 writes them."""

import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jax
import numpy as np
from jaxtyping import Float, Float32
from tqdm import tqdm

from jaxvoice.console import print_text
from jaxvoice.errors import CheckpointError
from jaxvoice.training.run_folder import RunFolder
from jaxvoice.training.task import Sample, ValidationResult

RESERVED_METRICS = frozenset(("step", "kind", "rank"))
"""Keys of every validation in `metrics.jsonl`."""


def print_once(text: object) -> None:
    """Print `text` to stdout in process 0, above a progress bar if there is one; control characters are escaped."""
    if jax.process_index() == 0:
        with _optional_output(), tqdm.external_write_mode(file=sys.stdout):
            print_text(text)
            sys.stdout.flush()


@contextmanager
def _optional_output() -> Iterator[None]:
    """A context in which output that cannot be written is discarded, from then on.

    A run goes on, or saves its state, if its terminal was closed or the program that reads its output has ended.
    """
    try:
        yield
    except OSError:
        sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def columns(rows: Mapping[str, str]) -> list[str]:
    """A line for each row, with the values in one column."""
    width = max(map(len, rows), default=0) + 2
    return [f"{name:<{width}}{value}" for name, value in rows.items()]


def values_text(value: Any) -> str:
    """A value or a table of values on one line, such as `generator 925,729, mpd 41,093,610`."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {values_text(below)}" for name, below in value.items())
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def format_duration(seconds: float) -> str:
    """Format `seconds` as hours, minutes and seconds, `1:02:03` or `2:03`."""
    hours, rest = divmod(round(seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


@contextmanager
def converted_write_errors(folder: Path) -> Iterator[None]:
    """A context that converts an `OSError` to a `CheckpointError` with the remedy."""
    try:
        yield
    except OSError as failure:
        place = failure.filename or folder
        raise CheckpointError(
            f"{place} could not be written ({failure.strerror or failure}). Free disk space or make the folder "
            "writable, then resume with --resume auto; the checkpoints are intact."
        ) from failure


def file_name(name: str) -> str:
    """Convert the name of a sample, which may be a path, to a file name that is valid on every system.

    `p225/p225_001` becomes `p225%2Fp225_001`, as in URLs. Different names remain different.
    """
    # A name need not be UTF-8; Python decodes other bytes to surrogates.
    return quote(name, safe=" #$&'()+,;=@[]{}!", errors="surrogatepass")


def _playable(audio: Float[np.ndarray, " samples"]) -> Float32[np.ndarray, " samples"]:
    """Finite audio in [-1, 1]."""
    return np.clip(np.nan_to_num(np.asarray(audio, np.float32)), -1.0, 1.0)


class RunLog:
    """The logs of a session of a run that starts after `step`. Without effect in all processes except process 0."""

    def __init__(self, folder: RunFolder, *, step: int, steps: int, minutes: float | None, tensorboard: bool):
        self._folder, self._steps = folder, steps
        self._active = jax.process_index() == 0
        self._deadline = None if minutes is None else time.monotonic() + 60 * minutes
        self._session = None if minutes is None else 60 * minutes
        self._events = None
        self._targets: set[str] = set()
        if not self._active:
            return
        with converted_write_errors(folder.path):
            folder.cut_metrics(step)
            self._metrics = folder.metrics.open("a", encoding="utf-8", newline="\n")
            if tensorboard:
                from jaxvoice.training.tensorboard import Events

                self._events = Events(folder.events, first_step=step + 1)
        self._bar = tqdm(
            total=1.0, disable=not sys.stderr.isatty(), bar_format="{percentage:3.0f}%|{bar:20}| {desc}", leave=False
        )

    def train(self, step: int, metrics: Mapping[str, float], speed: Mapping[str, float]) -> None:
        """Log the metrics of a step, and the speed if it is known (`steps_per_second`, `audio_seconds_per_second`)."""
        if not self._active:
            return
        with converted_write_errors(self._folder.path):
            self._line({"step": step, "kind": "train", **metrics, **speed})
            self._scalars(step, {f"train/{name}": value for name, value in {**metrics, **speed}.items()})
        text = f"step {step}/{self._steps}  " + "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        if speed:
            rate, audio = speed["steps_per_second"], speed["audio_seconds_per_second"]
            left = format_duration(self._time_left(step, rate))
            text += f"  {rate:.3g} steps/s  {audio:.3g} s of audio per second  {left} left"
        with _optional_output():
            if self._bar.disable:
                print(text, flush=True)
            else:
                self._bar.n = self._share_done(step)
                self._bar.set_description_str(text)

    def validation(self, step: int, report: ValidationResult, *, rank: int) -> None:
        """Log the metrics of a validation and write its samples to `samples/step_.../`.

        `rank` is that of the validated model (`Task.rank_of`): models of different ranks are not compared.
        """
        if not self._active:
            return
        print_once(
            f"validation at step {step}: " + "  ".join(f"{name} {value:.4g}" for name, value in report.metrics.items())
        )
        with converted_write_errors(self._folder.path):
            for sample in report.samples:
                self._sample(step, sample)
            self._scalars(step, {f"validation/{name}": value for name, value in report.metrics.items()})
            self._line({"step": step, "kind": "validation", "rank": rank, **report.metrics})

    def newest_model(self, step: int) -> None:
        """Log that the model of `step` was saved without a validation, because there is no held-out data."""
        if self._active:
            with converted_write_errors(self._folder.path):
                self._line({"step": step, "kind": "newest_model"})

    def best_reset(self, step: int) -> None:
        """Log that validations after `step` are not compared with earlier ones."""
        if self._active:
            with converted_write_errors(self._folder.path):
                self._line({"step": step, "kind": "best_reset"})

    def close(self) -> None:
        """Close all files."""
        if self._active:
            with _optional_output():
                self._bar.close()
            with converted_write_errors(self._folder.path):
                self._metrics.close()
                if self._events is not None:
                    self._events.close()

    def _line(self, table: Mapping[str, Any]) -> None:
        finite = {k: v if not isinstance(v, float) or math.isfinite(v) else None for k, v in table.items()}
        self._metrics.write(json.dumps(finite) + "\n")
        self._metrics.flush()

    def _scalars(self, step: int, values: Mapping[str, float]) -> None:
        if self._events is not None:
            self._events.scalars(step, values)
            self._events.flush()

    def _write_wav(self, path: Path, audio: Float32[np.ndarray, " samples"], sample_rate: int) -> None:
        import soundfile

        # With a file object, a full disk raises OSError with the reason, instead of an error of libsndfile.
        with path.open("wb") as file:
            soundfile.write(file, audio, sample_rate, format="WAV", subtype="PCM_16")

    def _sample(self, step: int, sample: Sample) -> None:
        from matplotlib.image import imsave

        from jaxvoice.training.pictures import draw_mels

        folder = self._folder.samples / f"step_{step:08d}"
        folder.mkdir(parents=True, exist_ok=True)
        audio, name = _playable(sample.audio), file_name(sample.name)
        self._write_wav(folder / f"{name}.wav", audio, sample.sample_rate)
        if self._events is not None:
            self._events.audio(step, f"samples/{sample.name}", audio, sample.sample_rate)
        for title, other in sample.others.items():
            samples = _playable(other)
            self._write_wav(folder / f"{name}.{file_name(title)}.wav", samples, sample.sample_rate)
            if self._events is not None:
                self._events.audio(step, f"samples/{sample.name}/{title}", samples, sample.sample_rate)
        if sample.target is not None:
            target = _playable(sample.target)
            self._write_wav(folder / f"{name}.target.wav", target, sample.sample_rate)
            if self._events is not None and sample.name not in self._targets:
                self._targets.add(sample.name)  # once in a session, because it does not change
                self._events.audio(step, f"targets/{sample.name}", target, sample.sample_rate)
        if sample.pictures:
            pixels = draw_mels(f"{sample.name}, step {step}", sample.pictures)
            imsave(folder / f"{name}.png", pixels)
            if self._events is not None:
                self._events.picture(step, f"mels/{sample.name}", pixels)
        for title, drawing in sample.drawings.items():
            imsave(folder / f"{name}.{file_name(title)}.png", drawing)
            if self._events is not None:
                self._events.picture(step, f"{title}/{sample.name}", drawing)

    def _time_left(self, step: int, steps_per_second: float) -> float:
        by_steps = (self._steps - step) / max(steps_per_second, 1e-9)
        return by_steps if self._deadline is None else max(0.0, min(by_steps, self._deadline - time.monotonic()))

    def _share_done(self, step: int) -> float:
        by_time = 0.0
        if self._deadline is not None and self._session:
            by_time = 1 - (self._deadline - time.monotonic()) / self._session
        return min(1.0, max(step / self._steps, by_time))


class SpeedMeter:
    """Steps and seconds of audio per second of training, without compilation, validation and checkpoints."""

    def __init__(self) -> None:
        self._steps, self._audio, self._seconds = 0, 0.0, 0.0
        self._all_steps, self._all_seconds = 0, 0.0
        self._since = time.perf_counter()

    def count(self, audio_seconds: float) -> None:
        """Count a step on a batch with `audio_seconds` seconds of audio."""
        self._steps += 1
        self._audio += audio_seconds

    def restart(self) -> None:
        """Discard the time and the steps since the last measurement or restart."""
        self._steps, self._audio = 0, 0.0
        self._since = time.perf_counter()

    def measure(self) -> dict[str, float]:
        """Speeds since the last measurement or restart; empty if no step was counted."""
        if not self._steps:
            return {}
        seconds = max(time.perf_counter() - self._since, 1e-9)
        found = {"steps_per_second": self._steps / seconds, "audio_seconds_per_second": self._audio / seconds}
        self._all_steps, self._all_seconds = self._all_steps + self._steps, self._all_seconds + seconds
        self.restart()
        return found

    def overall(self) -> float:
        """Steps per second over all measurements."""
        return self._all_steps / self._all_seconds if self._all_steps else 0.0

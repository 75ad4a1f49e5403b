"""Requests for speech: their fields and recordings, checked, and their computations in a queue."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxvoice.config import format_value, list_names, suggest_names
from jaxvoice.errors import AudioError, ConfigError
from jaxvoice.pipelines.served_inputs import (
    Block,
    Limits,
    check_recordings,
    check_text,
    pcm16,
    read_upload,
    read_upload_channels,
)
from jaxvoice.pipelines.served_models import OPTIONS, TASKS, ServedModel, Task, find_model
from jaxvoice.pipelines.work_queue import Job, WorkQueue

_FIELDS: Mapping[Task, tuple[str, ...]] = {
    "speak": ("model", "text", "speaker"),
    "clone": ("model", "text"),
    "convert": ("model", "voice", "speaker"),
    "vocode": ("model",),
}
_RECORDINGS: Mapping[Task, tuple[str, ...]] = {
    "speak": (),
    "clone": ("reference",),
    "convert": ("source", "reference"),
    "vocode": ("source",),
}
_KEPT_RESULTS, _KEPT_BYTES = 32, 1 << 28


@dataclass(frozen=True)
class Upload:
    """An uploaded recording: a temporary file, and its name for messages."""

    path: Path
    name: str


@dataclass(frozen=True)
class Computation:
    """A checked request: what is computed, and the format of its audio, 16-bit integers."""

    model: ServedModel
    work: Callable[[], Iterator[bytes]]
    sample_rate: int
    channels: int


class SpeechService:
    """Loaded models, and the queue of requests for their audio; it depends on no web framework.

    **Attributes:** `models`, `limits`, and `queue`, whose thread computes one request after another.
    """

    def __init__(self, models: Sequence[ServedModel], limits: Limits | None = None):
        """**Raises:** `ConfigError` without models, or for two of one name."""
        names = [model.name for model in models]
        if not models or len(set(names)) < len(names):
            raise ConfigError(f"The names of the models are {names}; there should be at least one, and no equal ones.")
        self.models, self.limits = tuple(models), limits or Limits()
        self.queue = WorkQueue(self.limits.waiting)
        self._results: dict[str, tuple[Job, Computation]] = {}
        self._lock = threading.Lock()

    def of_task(self, task: Task) -> list[ServedModel]:
        """The models with a task."""
        return [model for model in self.models if task in model.tasks]

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks that at least one model has."""
        return tuple(task for task in TASKS if self.of_task(task))

    def plan(
        self, task: Task, given: Mapping[str, Any], uploads: Mapping[str, Sequence[Upload]] | None = None
    ) -> Computation:
        """Check a request, and return its computation, which decodes the recordings when it starts.

        **Arguments:** `given`, the fields by name: `model`, `text`, `speaker`, `voice`, and options of the model; text
        or numbers; `uploads`, the recordings `source` and `reference`.

        **Raises:** `ConfigError` for an unknown or missing field, model or voice; `TextError` for a text that is
        missing or too long; `AudioError` for a recording that is missing, too long or not audio.
        """
        uploads = {name: found for name, found in (uploads or {}).items() if found}
        self._check_names(task, given, uploads)
        model = find_model(self.models, _text(given, "model"), task)
        options = model.check_options(task, {name: value for name, value in given.items() if name in OPTIONS})
        text = check_text(given.get("text"), self.limits) if "text" in _FIELDS[task] else ""
        references, sources = uploads.get("reference", ()), uploads.get("source", ())
        if task == "clone" and not references:
            raise AudioError("There is no reference; send at least one recording of the speaker as reference.")
        if "source" in _RECORDINGS[task] and len(sources) != 1:
            raise AudioError(f"The number of sources is {len(sources)}; send one recording in the field 'source'.")
        for found, seconds, kind in (
            (references, self.limits.reference_seconds, "reference"),
            (sources, self.limits.source_seconds, "source"),
        ):
            check_recordings([(upload.path, upload.name) for upload in found], seconds, kind)
        speaker, voice = _text(given, "speaker"), _text(given, "voice")

        def blocks() -> Iterator[Block]:
            recordings = [read_upload(upload.path, upload.name) for upload in references]
            if task == "vocode":
                samples, rate = read_upload_channels(sources[0].path, sources[0].name, model.channels)
                return model.vocode(samples, rate, **options)
            if task == "convert":
                source = read_upload(sources[0].path, sources[0].name)
                return model.convert(source, voice=voice, references=recordings, speaker=speaker, **options)
            return model.speak(text, speaker=speaker, references=recordings, **options)

        return Computation(
            model,
            lambda: (pcm16(block) for block in blocks()),
            model.sample_rate,
            model.channels if task == "vocode" else 1,
        )

    def _check_names(self, task: Task, given: Mapping[str, Any], uploads: Mapping[str, Any]) -> None:
        known, recordings = (*_FIELDS[task], *OPTIONS), _RECORDINGS[task]
        for name in (*given, *uploads):
            others = [other for other in self.tasks if name in _RECORDINGS[other]]
            if name in recordings and name in given:
                raise ConfigError(f"{name!r} should be a recording; send it as a file in a form (multipart/form-data).")
            if name in known and name in uploads:
                advice = f" Send recordings as {' or '.join(recordings)}." if recordings else ""
                raise ConfigError(f"{name!r} is a file; it should be a field with a value.{advice}")
            if name not in (*known, *recordings):
                advice = suggest_names(name, (*known, *recordings))
                if others:
                    advice = f"these tasks take it: {list_names(others)}."
                raise ConfigError(f"The request has the field {name[:100]!r}; {advice}")

    def keep(self, job: Job, computation: Computation) -> None:
        """Keep the result of a job, so that `result` finds it.

        Of the jobs that have ended, the oldest ones are removed, also when another one ends. The others are as many as
        the queue has places.
        """
        with self._lock:
            self._results[job.identifier] = job, computation
        job.notify_at_end(self._remove_old)

    def _remove_old(self) -> None:
        """Remove the oldest results of jobs that have ended, up to the bounds of their number and size."""
        with self._lock:
            ended = [one for one, _ in self._results.values() if one.is_final]
            sizes = [sum(map(len, one.blocks)) for one in ended]
            while len(ended) > _KEPT_RESULTS or (len(ended) > 1 and sum(sizes) > _KEPT_BYTES):
                del self._results[ended.pop(0).identifier]
                del sizes[0]

    def result(self, identifier: str) -> tuple[Job, Computation] | None:
        """The job with this identifier and its computation; `None` if it is unknown or no longer kept."""
        with self._lock:
            return self._results.get(identifier)

    def close(self) -> None:
        """Cancel all requests, and end the thread, at the latest after the block that is being computed."""
        self.queue.close(timeout=1.0)


def _text(given: Mapping[str, Any], name: str) -> str | None:
    """The text of a field; `None` if it is missing, null or empty."""
    value = given.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise ConfigError(f"{name} is {format_value(value)}; it should be a name.")
    return value

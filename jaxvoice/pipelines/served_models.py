"""What a server offers of the pipelines of any family: their tasks, and computations with audio in blocks."""

import contextlib
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from jaxvoice.config import format_value, list_names, suggest_names
from jaxvoice.errors import AudioError, ConfigError
from jaxvoice.models.family_lookup import find_family
from jaxvoice.pipelines.recordings import Recording
from jaxvoice.pipelines.served_inputs import Block
from jaxvoice.pipelines.sources import find_model_folder, load

Task = Literal["speak", "clone", "convert", "vocode"]
"""What a served model does: speech in a known voice, speech in the voice of recordings, conversion of a recording to a
voice, and a recording through a vocoder or an autoencoder."""
TASKS: tuple[Task, ...] = get_args(Task)
_METHODS: Mapping[Task, str] = {"speak": "speak", "clone": "speak", "convert": "convert", "vocode": "resynthesize"}
OPTIONS = (
    *("language", "speed", "pitch", "seed", "noise_scale", "duration_noise_scale", "length_scale"),
    *("temperature", "top_k", "top_p", "repetition_penalty", "length_penalty", "sigma", "denoise"),
)
"""The arguments of methods of pipelines that requests may contain, if the pipeline has them."""


@dataclass(frozen=True)
class ServedModel:
    """A loaded pipeline under a name.

    **Attributes:** `tasks`, in the order of `TASKS`.

    **Raises:** `ConfigError` for a pipeline without a task.
    """

    name: str
    pipeline: Any

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ConfigError(
                f"{self.name} is a {type(self.pipeline).__name__}, which cannot be served; it should be a model that "
                "speaks, converts speech to another voice, or computes audio from a recording. Omit it."
            )

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks of the pipeline, by its methods and their arguments."""
        speaks, converts = hasattr(self.pipeline, "speak"), hasattr(self.pipeline, "convert")
        vocodes = self._vocoding is not None and _has_mel(self.pipeline)
        found = {
            "speak": speaks and (bool(self.speakers) or not self.reads_references),
            "clone": speaks and self.reads_references,
            "convert": converts and (self.reads_references or bool(self.speakers)),
            "vocode": vocodes,
        }
        return tuple(task for task in TASKS if found[task])

    @property
    def speakers(self) -> tuple[str, ...]:
        """The names of the known speakers."""
        return tuple(getattr(self.pipeline, "speakers", ()))

    @property
    def languages(self) -> tuple[str, ...]:
        """The names of the languages, if the model has several or states one."""
        return tuple(getattr(self.pipeline, "languages", ()))

    @property
    def sample_rate(self) -> int:
        """Sample rate of the audio in Hz."""
        return self.pipeline.sample_rate

    @property
    def channels(self) -> int:
        """Channels of the audio of `vocode`; other tasks have one."""
        return self.pipeline.channels if self._vocoding == "transfer_parts" else 1

    @property
    def reads_references(self) -> bool:
        """Whether the voice can be that of recordings."""
        if not getattr(self.pipeline, "reads_references", True):
            return False
        return hasattr(self.pipeline, "encode_voice") or "reference" in self._parameters("speak")

    @property
    def needs_source_speaker(self) -> bool:
        """Whether `convert` needs the name of the speaker of the source, for models with a table of speakers."""
        return "speaker" in self._parameters("convert") and not self.reads_references

    @property
    def _vocoding(self) -> str | None:
        return next((name for name in ("transfer_parts", "resynthesize") if hasattr(self.pipeline, name)), None)

    def _method(self, task: Task) -> str:
        return str(self._vocoding) if task == "vocode" else _METHODS[task]

    def _parameters(self, method: str) -> Mapping[str, inspect.Parameter]:
        function = getattr(self.pipeline, method, None)
        return {} if function is None else inspect.signature(function).parameters

    def options(self, task: Task) -> tuple[str, ...]:
        """The names of `OPTIONS` that the pipeline has for a task."""
        known = set(self._parameters(self._method(task)))
        known |= set(getattr(self.pipeline, "option_names", tuple)()) if task == "vocode" else set()
        if not self.languages:
            known.discard("language")
        return tuple(name for name in OPTIONS if name in known)

    def describe(self) -> dict[str, Any]:
        """The model as JSON: name, tasks with their options, languages, speakers and sample rate."""
        return {
            "name": self.name,
            "pipeline": type(self.pipeline).__name__,
            "tasks": {task: {"options": list(self.options(task))} for task in self.tasks},
            "languages": list(self.languages),
            "speakers": list(self.speakers),
            "sample_rate": self.sample_rate,
            "channels": self.channels,
        }

    def check_task(self, task: Task) -> None:
        """Raise `ConfigError` for a task that the model does not have."""
        if task not in self.tasks:
            raise ConfigError(f"The model {self.name} has no task {task!r}; its tasks are {', '.join(self.tasks)}.")

    def check_options(self, task: Task, options: Mapping[str, Any]) -> dict[str, Any]:
        """`options` with numbers as such.

        **Raises:** `ConfigError` for an option that the model does not have for this task, or that is not a number.
        """
        known = self.options(task)
        for name in options:
            if name not in known:
                raise ConfigError(
                    f"The model {self.name} has no option {name!r} of {task}; its options are "
                    f"{list_names(known) if known else 'none'}."
                )
        return {name: _option(name, value) for name, value in options.items()}

    def speak(
        self, text: str, *, speaker: str | None = None, references: Sequence[Recording] = (), **options: Any
    ) -> Iterator[Block]:
        """Yield the audio of a text in a known voice, or in that of `references`, block by block.

        Pipelines that compute long texts in pieces yield each piece. Arguments and errors are those of the pipeline's
        `speak`.
        """
        parameters = self._parameters("speak")
        if references:
            options["reference"] = list(references)
        if speaker is not None:
            if "speaker" not in parameters:
                raise ConfigError(f"speaker is {speaker!r}, but the model {self.name} has one voice; omit it.")
            options["speaker"] = speaker
        if "stream" in parameters:
            options["stream"] = True
        return self._blocks(self.pipeline.speak(text, **options))

    def convert(
        self,
        source: Recording,
        *,
        voice: str | None = None,
        references: Sequence[Recording] = (),
        speaker: str | None = None,
        **options: Any,
    ) -> Iterator[Block]:
        """Yield a recording in the voice of a known speaker, or in that of `references`, block by block.

        **Arguments:** `voice`, the name of a speaker; `speaker`, that of the source, for a model with a table of
        speakers; the others and the errors are those of the pipeline's `convert`.

        **Raises:** `ConfigError` without a voice, with two, or for an unknown name.
        """
        if (voice is None) == (not references):
            raise ConfigError("There should be one voice; pass either references or the name of a speaker as voice.")
        if voice is not None and voice not in self.speakers:
            raise ConfigError(f"voice is {voice!r}; {suggest_names(voice, self.speakers) or 'pass references.'}")
        if speaker is not None:
            if "speaker" not in self._parameters("convert"):
                raise ConfigError(f"speaker is {speaker!r}, but the model {self.name} needs none; omit it.")
            options["speaker"] = speaker
        chunks = getattr(self.pipeline, "convert_chunks", self.pipeline.convert)
        return self._blocks(chunks(source, list(references) if voice is None else voice, **options))

    def vocode(self, audio: Block, sample_rate: int, **options: Any) -> Iterator[Block]:
        """Yield a recording `(samples,)`, or `(channels, samples)`, through the model, block by block.

        A vocoder computes it from its mel spectrogram, and an autoencoder from its latents. Other arguments and the
        errors are those of `Vocoder.resynthesize` and `Rave.transfer_parts`.
        """
        return self._blocks(getattr(self.pipeline, str(self._vocoding))(audio, sample_rate, **options))

    def _blocks(self, result: Any) -> Iterator[Block]:
        """The audio of a result in parts of at most a second."""
        parts: Iterable[Any] = result if isinstance(result, Iterator) else [result]
        for part in parts:
            audio = np.asarray(getattr(part, "audio", part), np.float32)
            if not np.isfinite(audio).all():
                raise AudioError(
                    f"The audio of the model {self.name} contains NaN or infinity; its weights are probably damaged."
                )
            for start in range(0, audio.shape[-1], self.sample_rate):
                yield audio[..., start : start + self.sample_rate]


def _has_mel(pipeline: Any) -> bool:
    """Whether a vocoder reads mels, which can be computed from a recording; autoencoders read recordings."""
    try:
        return not hasattr(pipeline, "resynthesize") or pipeline.mel is not None
    except ConfigError:
        return False


def _option(name: str, value: Any) -> Any:
    """The value of an option: text for a language, `match` and `keep` for a pitch, otherwise a number."""
    if name == "language" or (name == "pitch" and value in ("match", "keep")):
        return value
    if isinstance(value, str):
        for kind in (int, float):
            with contextlib.suppress(ValueError):
                return kind(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise ConfigError(f"{name} is {format_value(value)}; it should be a number.")


def load_models(sources: Sequence[str | Path], options: Mapping[str, Any] | None = None) -> list[ServedModel]:
    """The models at `sources`, under the names of their folders.

    **Arguments:** `sources`, model folders, run folders or Hub ids; `options`, keyword arguments of `load` for the
    pipelines that have them, such as `vocoder`.

    **Raises:** `ConfigError` for a model without a task, or an option that no pipeline has; otherwise as `load`.
    """
    used: set[str] = set()
    models: list[ServedModel] = []
    for source in sources:
        pipeline = find_family(find_model_folder(source)).pipeline_class()
        known = inspect.signature(pipeline.load).parameters
        given = {name: value for name, value in (options or {}).items() if name in known}
        used |= given.keys()
        models.append(ServedModel(_unused(_name(source), [one.name for one in models]), load(source, **given)))
    for name in options or {}:
        if name not in used:
            raise ConfigError(f"None of the models has the option {name!r}; omit it.")
    return models


def _name(source: str | Path) -> str:
    """The name of the folder of a model; that of the run for the folder `model` inside it."""
    path = Path(source).expanduser().resolve()
    return path.parent.name if path.name == "model" and path.parent.name else path.name or "model"


def _unused(name: str, names: Sequence[str]) -> str:
    number, found = 2, name
    while found in names:
        number, found = number + 1, f"{name}-{number}"
    return found


def find_model(models: Sequence[ServedModel], name: str | None, task: Task) -> ServedModel:
    """The model with this name, or the only one with the task if `name` is `None`.

    **Raises:** `ConfigError` for an unknown name, a missing one, or a model without the task.
    """
    if name is None:
        able = [model for model in models if task in model.tasks]
        if len(able) != 1:
            expected = list_names(model.name for model in able) if able else f"there is none with the task {task!r}"
            raise ConfigError(f"model is missing; it should be one of the served models: {expected}.")
        return able[0]
    for model in models:
        if model.name == name:
            model.check_task(task)
            return model
    raise ConfigError(f"model is {name!r}; {suggest_names(name, [model.name for model in models])}")

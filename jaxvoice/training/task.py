"""The interface between a model family and the training loop: a task, and the loader of its batches."""

import abc
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, UInt8


@dataclass(frozen=True)
class Sample:
    """A sample of a validation: `audio` `(samples,)` in [-1, 1], and mel spectrograms `(mels, frames)` by name.

    `target` is the recording that `audio` should equal, or the target mel as audio, in [-1, 1]. `others` is further
    audio by name at the same rate, such as the source and the reference of a conversion.
    If `pictures` contains `target` and `generated`, their difference is drawn too. `drawings` are pictures by name, RGB
    in 0..255, such as those of `jaxvoice.training.pictures`.
    """

    name: str
    audio: Float[np.ndarray, " samples"]
    sample_rate: int
    pictures: Mapping[str, Float[np.ndarray, "mels frames"]] = field(default_factory=dict)
    drawings: Mapping[str, UInt8[np.ndarray, "height width 3"]] = field(default_factory=dict)
    target: Float[np.ndarray, " samples"] | None = None
    others: Mapping[str, Float[np.ndarray, " _"]] = field(default_factory=dict)


@dataclass(frozen=True)
class ValidationResult:
    """The result of a validation: `metrics` by name, of which one selects the best checkpoint, and samples."""

    metrics: dict[str, float]
    samples: list[Sample] = field(default_factory=list)


class Task(abc.ABC):
    """The part of training that is specific to a model family; `jaxvoice.training.loop.fit` does the rest."""

    config: Any
    """Frozen dataclass of the settings that do not change when a run is resumed, such as networks and losses."""
    family: str | None = None
    """Name of the `Family`, which identifies runs of the task. If it is `None`, the name of the class does."""
    mel: Any
    """The `MelConfig` of the training data, saved in every checkpoint, or `None`."""

    validation: Any = None
    """The evaluation of held-out data, with the attribute `held_out`, or `None`."""
    metrics: Mapping[str, str] = MappingProxyType({})
    """The metrics of validations that can select the best model, with their meanings; empty if they are not known."""
    columns: Mapping[str, str] = MappingProxyType({})
    """The meanings of the metrics that steps return, which a session prints at its start."""
    constants: Any = None
    """A pytree with arrays that steps read and never change, such as a frozen network; or `None`. They are not part of
    the state, so that optimisers, checkpoints and donation do not reach them, and not constants of the program."""

    @abc.abstractmethod
    def init(self, *, key: PRNGKeyArray) -> Any:
        """The state before the first step: a pytree with the field `counters: Counters`.

        Its arrays are updated by steps and stored in checkpoints.
        """

    @abc.abstractmethod
    def step(self, state: Any, batch: Any, *, key: PRNGKeyArray, phase: int) -> tuple[Any, dict[str, Float[Array, ""]]]:
        """One update: the new state, which `guarded` returns, and scalar metrics.

        The step is a pure function, which the loop compiles for each phase and batch shape. The loop donates the state
        and shards the batch over the devices. If the task has `constants`, the loop also passes them, by this name.

        **Arguments:**

        - `state`: as `init` or an earlier step returned it.
        - `batch`: the global batch.
        - `key`: random key, a function of the loop's seed and of the number of steps before this one.
        - `phase`: the value of `phase_of` for this step.
        """

    def warnings(self, metrics: Mapping[str, float]) -> list[str]:
        """Problems in the logged `metrics` of a step, which the session prints, such as a loss without a gradient."""
        return []

    def phase_of(self, step: int) -> int:
        """The phase of the step that follows `step` steps: 0, 1, ...; by default, the only phase is 0.

        Each phase is compiled to a separate program, because XLA's CPU programs are several times slower inside a
        branch of `jax.lax.cond`.
        """
        return 0

    def rank_of(self, phase: int) -> int:
        """The rank of a model after a step of this phase. The best model of a run has the highest rank.

        By default, the rank is the phase, because parts of the model are not trained yet in earlier phases. Phases that
        alternate have the same rank.
        """
        return phase

    @abc.abstractmethod
    def audio_seconds(self, batch: Any) -> float:
        """Seconds of audio in `batch`, the host arrays of this process, for the logged speed."""

    @abc.abstractmethod
    def validate(self, state: Any) -> ValidationResult:
        """Evaluate `state` on held-out data.

        The arrays are on one device. They are donated to the next step, so do not keep references to them.
        """

    def held_out(self) -> dict[str, Any]:
        """A description of the held-out data as JSON values: that of `validation`, or empty without one.

        A resumed run with another description does not compare its validations with earlier ones.
        """
        return {} if self.validation is None else self.validation.held_out

    @abc.abstractmethod
    def save_model(self, state: Any, folder: str | Path) -> None:
        """Write `config.json` and `model.safetensors` of a model folder to `folder`, which is empty."""

    @abc.abstractmethod
    def describe(self) -> dict[str, Any]:
        """Values that a session prints at its start, such as parameter counts; `config`, which is not printed."""


class ResumableLoader(Protocol):
    """An endless, deterministic iterator of batches that can be resumed, such as `jaxvoice.data.Loader`."""

    def __next__(self) -> Any:
        """The share of this process of the next batch: a pytree of NumPy arrays, batch axis first."""
        ...

    def state(self) -> Any:
        """The position of the next batch as JSON values, the same in every process."""
        ...

    def restore(self, state: Any) -> None:
        """Continue with the batch at the position `state`, as `state()` returned it or as JSON values."""
        ...

    def describe(self) -> dict[str, Any]:
        """A description of data and batches as JSON values. A resumed run prints differences from it."""
        ...

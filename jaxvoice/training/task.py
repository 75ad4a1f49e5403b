"""The interface between a model family and the training loop: a task, and the loader of its batches."""

import abc
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, UInt8


@dataclass(frozen=True)
class Sample:
    """A sample of a validation: `audio` `(samples,)` in [-1, 1], and mel spectrograms `(mels, frames)` by name.

    If there are mels named `target` and `generated`, their difference is drawn too. `drawings` are finished pictures by
    name, RGB in 0..255, such as those of `jaxvoice.training.pictures`.
    """

    name: str
    audio: Float[np.ndarray, " samples"]
    sample_rate: int
    pictures: Mapping[str, Float[np.ndarray, "mels frames"]] = field(default_factory=dict)
    drawings: Mapping[str, UInt8[np.ndarray, "height width 3"]] = field(default_factory=dict)


@dataclass(frozen=True)
class ValidationResult:
    """The result of a validation: `metrics` by name, one of which decides the best checkpoint, and samples."""

    metrics: dict[str, float]
    samples: list[Sample] = field(default_factory=list)


class Task(abc.ABC):
    """The part of training that is specific to a model family; `jaxvoice.training.loop.fit` does the rest."""

    config: Any
    """Frozen dataclass of everything that must not change when a run is resumed (networks, losses, mel)."""
    mel: Any
    """The `MelConfig` of the training data, saved in every checkpoint, or `None`."""

    @abc.abstractmethod
    def init(self, *, key: PRNGKeyArray) -> Any:
        """The state before the first step: a pytree with the field `counters: Counters`.

        Its arrays are updated by steps and stored in checkpoints.
        """

    @abc.abstractmethod
    def step(self, state: Any, batch: Any, *, key: PRNGKeyArray, phase: int) -> tuple[Any, dict[str, Float[Array, ""]]]:
        """One update: the new state, which `guarded` returns, and scalar metrics.

        A pure function, which the loop compiles once per phase and shape of the batch. The loop donates the state and
        shards the batch over the devices.

        **Arguments:**

        - `state`: as `init` or an earlier step returned it.
        - `batch`: the global batch.
        - `key`: random key, a function of the loop's seed and of the number of steps before this one.
        - `phase`: the value of `phase_of` for this step.
        """

    def phase_of(self, step: int) -> int:
        """The phase of the update that follows `step` updates: 0, 1, ...; by default, there is one phase, 0.

        Each phase is a program of its own: inside a branch of `jax.lax.cond`, XLA's CPU programs are several times
        slower.
        """
        return 0

    def rank_of(self, phase: int) -> int:
        """The rank of a model after a step of this phase; the best model of a run is one of the highest rank.

        By default, it is the phase itself, because parts of a model are not trained yet in earlier phases. Phases that
        alternate have the same rank.
        """
        return phase

    @abc.abstractmethod
    def audio_seconds(self, batch: Any) -> float:
        """Seconds of audio in this process's `batch` (host arrays), for the logged speed."""

    @abc.abstractmethod
    def validate(self, state: Any) -> ValidationResult:
        """Evaluate `state` on held-out data.

        Its arrays are on one device. They are donated to the next step, so do not keep references.
        """

    @abc.abstractmethod
    def save_model(self, state: Any, folder: str | Path) -> None:
        """Write a model folder: `config.json` and `model.safetensors`. The loop gives an empty folder."""

    @abc.abstractmethod
    def describe(self) -> dict[str, Any]:
        """The lines that a session prints at its start: configuration, parameter counts, sizes of the data."""


class ResumableLoader(Protocol):
    """An endless, deterministic iterator of batches that can be resumed, such as `jaxvoice.data.Loader`."""

    def __next__(self) -> Any:
        """This process's share of the next batch: a pytree of numpy arrays, batch axis first."""
        ...

    def state(self) -> Any:
        """The position of the next batch as JSON values, the same in every process."""
        ...

    def restore(self, state: Any) -> None:
        """Continue with the batch at the position `state`, which was read from JSON."""
        ...

    def describe(self) -> dict[str, Any]:
        """A description of the data and of the batches as JSON values; a resumed run prints the differences."""
        ...

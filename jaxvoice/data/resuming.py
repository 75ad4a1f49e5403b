"""What all loaders of batches share: where they stand, how they go on from there, and whose share they make."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Generic, NamedTuple, Self, TypeVar

from jaxvoice.errors import ConfigError, DataError

BatchType = TypeVar("BatchType")


class LoaderState(NamedTuple):
    """Where a loader stands: the next batch is number `index` of `epoch`, under `seed`."""

    epoch: int
    index: int
    seed: int


class ResumableLoader(ABC, Generic[BatchType]):
    """An endless iterator of batches that can go on at any of them; also a context manager, which closes it.

    A loader calls `restore` when it is ready to make batches.

    **Arguments:** `batch_size`, over all processes; `process_index` and `process_count`: number `process_index` of so
    many processes makes its share of every batch; `sizes`, other numbers by name that should be at least 1.

    **Raises:** `ConfigError` for sizes below 1 or that do not fit together.
    """

    def __init__(self, *, batch_size: int, process_index: int, process_count: int, sizes: Mapping[str, int]):
        for name, size in {"batch_size": batch_size, **sizes, "process_count": process_count}.items():
            if size < 1:
                raise ConfigError(f"{name} should be at least 1, got {size}.")
        if batch_size % process_count:
            raise ConfigError(
                f"batch_size {batch_size} cannot be shared by {process_count} processes; make it a multiple of them."
            )
        if not 0 <= process_index < process_count:
            raise ConfigError(f"process_index should be from 0 to {process_count - 1}, got {process_index}.")
        share = batch_size // process_count
        self._batch = batch_size
        self._share = slice(process_index * share, (process_index + 1) * share)
        self._closed = False

    @property
    @abstractmethod
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch."""

    @abstractmethod
    def __next__(self) -> BatchType: ...

    def state(self) -> LoaderState:
        """The place of the batch that comes next."""
        return self._next

    def restore(self, state: LoaderState) -> None:
        """Go on with the batch that `state` names; past the end of an epoch, with the next epoch.

        **Raises:** `ConfigError` for negative numbers.
        """
        epoch, index, seed = (int(number) for number in state)
        if epoch < 0 or index < 0:
            raise ConfigError(f"A loader cannot go to batch {index} of epoch {epoch}; both should be at least 0.")
        if index >= self.steps_per_epoch:
            epoch, index = epoch + 1, 0
        self._next = LoaderState(epoch, index, seed)
        self._begin(self._next)

    def close(self) -> None:
        """Make no more batches; the state can still be read."""
        self._closed = True

    def __iter__(self) -> Self:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    @abstractmethod
    def _begin(self, place: LoaderState) -> None:
        """Forget all plans, and plan from `place` on."""

    def _after(self, place: LoaderState) -> LoaderState:
        if place.index + 1 < self.steps_per_epoch:
            return place._replace(index=place.index + 1)
        return place._replace(epoch=place.epoch + 1, index=0)

    def _check_open(self) -> None:
        if self._closed:
            raise DataError("This loader is closed; make a new one and restore its state.")

"""The loader of batches: in background threads, the same for the same seed, resumable at the very next batch."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, Self, TypeVar

from jaxvoice.data.batches import Selection
from jaxvoice.data.buckets import check_sizes
from jaxvoice.data.samplers import LoaderState as LoaderState, Sampler
from jaxvoice.data.store import Store
from jaxvoice.errors import ConfigError, DataError

_BatchT = TypeVar("_BatchT")


class Loader(Generic[_BatchT]):
    """An endless iterator of the batches of `store` that `sampler` selects; also a context manager, which closes it.

    Batches are functions of (seed, epoch, place in the epoch) alone. They do not depend on `workers`, the number of
    threads that make them (0 makes them in the caller's thread), nor on `prefetch`, the number of batches made ahead.
    `close` stops the threads.

    Of several processes, number `process_index` of `process_count` makes its share of every global batch. The shares
    laid end to end are the batch that one process alone would make, and all have the same shape.

    **Arguments:** `collate` makes a batch of the store and a selection of rows, by default in the sampler's way.

    **Raises:** `ConfigError` for sizes that do not fit together; the errors of the sampler for the store.
    """

    def __init__(
        self,
        store: Store,
        sampler: Sampler[_BatchT],
        *,
        collate: Callable[[Store, Selection], _BatchT] | None = None,
        seed: int = 0,
        workers: int = 2,
        prefetch: int = 8,
        process_index: int = 0,
        process_count: int = 1,
    ):
        batch_size = sampler.batch_size
        check_sizes(prefetch=prefetch, process_count=process_count)
        if workers < 0:
            raise ConfigError(f"workers should be at least 0, got {workers}.")
        if batch_size % process_count:
            raise ConfigError(
                f"batch_size {batch_size} cannot be shared by {process_count} processes; make it a multiple of them."
            )
        if not 0 <= process_index < process_count:
            raise ConfigError(f"process_index should be from 0 to {process_count - 1}, got {process_index}.")
        share = batch_size // process_count
        self._share = slice(process_index * share, (process_index + 1) * share)
        self._store, self._plan = store, sampler.plan(store)
        self._collate = collate or self._plan.collate
        self._workers, self._prefetch = workers, prefetch
        self._pool: ThreadPoolExecutor | None = None
        self._ahead: deque[Future[_BatchT]] = deque()
        self._closed = False
        self.restore(LoaderState(0, 0, seed))

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch."""
        return self._plan.steps_per_epoch

    def describe(self) -> dict[str, Any]:
        """The sizes of the store and of the batches, as JSON values.

        Stores with the same number of utterances and of samples or frames have the same description.
        """
        return dict(self._plan.description)

    def state(self) -> LoaderState:
        """The place of the next batch."""
        return self._next

    def restore(self, state: LoaderState) -> None:
        """Continue with the batch at `state`; past the end of an epoch, with the next epoch.

        **Raises:** `ConfigError` for negative numbers.
        """
        epoch, index, seed = (int(number) for number in state)
        if epoch < 0 or index < 0:
            raise ConfigError(f"A loader cannot go to batch {index} of epoch {epoch}; both should be at least 0.")
        if index >= self.steps_per_epoch:
            epoch, index = epoch + 1, 0
        self._drop_ahead()
        self._next = self._planned = LoaderState(epoch, index, seed)

    def close(self) -> None:
        """Stop the threads and make no more batches; the state can still be read."""
        self._closed = True
        self._drop_ahead()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def __iter__(self) -> Self:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def __next__(self) -> _BatchT:
        if self._closed:
            raise DataError("This loader is closed; make a new one and restore its state.")
        try:
            batch = self._take()
        except BaseException:
            self.restore(self._next)  # an interrupted or failed batch is the next one
            raise
        self._next = self._after(self._next)
        return batch

    def _take(self) -> _BatchT:
        if self._workers == 0:
            return self._collate(self._store, self._select())
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="jaxvoice-loader")
        while len(self._ahead) < self._prefetch:
            self._ahead.append(self._pool.submit(self._collate, self._store, self._select()))
        return self._ahead.popleft().result()

    def _select(self) -> Selection:
        """This process's rows of the first batch that is not planned yet."""
        place = self._planned
        self._planned = self._after(place)
        return self._plan.select(place).part(self._share)

    def _drop_ahead(self) -> None:
        while self._ahead:
            self._ahead.pop().cancel()

    def _after(self, place: LoaderState) -> LoaderState:
        if place.index + 1 < self.steps_per_epoch:
            return place._replace(index=place.index + 1)
        return place._replace(epoch=place.epoch + 1, index=0)

"""The loader, which makes batches in background threads. Its batches depend on the seed only, and it can be resumed."""

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
    """An endless iterator of the batches of `store` that `sampler` selects, and a context manager that closes it.

    A batch is a function of the seed, the epoch and its index in the epoch. It does not depend on `workers` or
    `prefetch`. `close` stops the threads.

    Each of `process_count` processes makes its share of every global batch. The shares have the same shape. Their
    concatenation in the order of `process_index` is the batch that a single process makes.

    **Arguments:**

    - `store`: the data.
    - `sampler`: selects the rows of batches.
    - `collate`: makes a batch from the store and a selection of rows; by default that of the sampler.
    - `seed`: seed of all random numbers.
    - `workers`: number of threads; 0 makes batches in the caller's thread.
    - `prefetch`: number of batches that are made in advance.
    - `process_index`, `process_count`: the number of this process, from 0 on, and the number of processes.

    **Raises:** `ConfigError` for inconsistent sizes, and the errors of `sampler.plan`.
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
            raise ConfigError(f"workers is {workers}; it should be at least 0.")
        if batch_size % process_count:
            raise ConfigError(
                f"batch_size is {batch_size}; it should be a multiple of the number of processes, {process_count}."
            )
        if not 0 <= process_index < process_count:
            raise ConfigError(f"process_index is {process_index}; it should be from 0 to {process_count - 1}.")
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
        """The sizes of the store and the settings of the batches, as JSON values.

        Stores with equal numbers of utterances and of samples or frames have the same description.
        """
        return dict(self._plan.description)

    @property
    def source(self) -> str:
        """The absolute path of the corpus."""
        return str(self._store.corpus.root.absolute())

    def state(self) -> LoaderState:
        """The position of the next batch."""
        return self._next

    def restore(self, state: LoaderState) -> None:
        """Continue with the batch at `state`. A position past the end of an epoch is the start of the next epoch.

        **Raises:** `ConfigError` for negative numbers.
        """
        epoch, index, seed = (int(number) for number in state)
        if epoch < 0 or index < 0:
            raise ConfigError(f"The state is batch {index} of epoch {epoch}; both should be at least 0.")
        if index >= self.steps_per_epoch:
            epoch, index = epoch + 1, 0
        self._drop_ahead()
        self._next = self._planned = LoaderState(epoch, index, seed)

    def close(self) -> None:
        """Stop the threads. A closed loader makes no batches, but `state` still works."""
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
            raise DataError("The loader is closed; create another loader and restore its state.")
        try:
            batch = self._take()
        except BaseException:
            self.restore(self._next)  # the next call makes the interrupted or failed batch again
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
        """This process's rows of the next batch to be planned."""
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

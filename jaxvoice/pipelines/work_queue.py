"""A bounded queue of computations that one thread runs in their order, with results in blocks."""

import asyncio
import contextlib
import secrets
import sys
import threading
import time
import traceback
import warnings
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any, Literal

from jaxvoice.config import format_value
from jaxvoice.console import print_message
from jaxvoice.errors import ConfigError, JaxvoiceError, JaxvoiceWarning

State = Literal["receiving", "waiting", "running", "done", "failed", "cancelled"]
"""The states of a `Job`; the last three are final."""
Work = Callable[[], Iterable[bytes]]
"""A computation that yields its result in blocks."""
_RECENT = 0.3  # weight of the last computation in the mean of durations
_LONGEST_RETRY = 120  # seconds


class BusyError(JaxvoiceError):
    """All places of the queue are taken, or the queue was closed."""

    def __init__(self, message: str, retry_after: int):
        """**Arguments:** `retry_after`, seconds after which a place is probably free."""
        super().__init__(message)
        self.retry_after = retry_after


class Job:
    """A place in a `WorkQueue`, and the computation that takes it.

    Readers on any thread see a growing list of blocks. `WorkQueue.reserve` creates jobs.

    **Attributes:** `identifier`, a random text; `state`; `blocks`, the result so far; `failure`, the exception of a
    failed computation; `warnings`, the texts of its warnings.
    """

    def __init__(self, queue: "WorkQueue"):
        self.identifier = secrets.token_urlsafe(16)
        self.state: State = "receiving"
        self.blocks: list[bytes] = []
        self.failure: Exception | None = None
        self.warnings: tuple[str, ...] = ()
        self._queue = queue
        self._work: Work | None = None
        self._readers: list[Callable[[], None]] = []

    @property
    def is_final(self) -> bool:
        """Whether no further block will follow."""
        return self.state in ("done", "failed", "cancelled")

    @property
    def position(self) -> int:
        """The number of computations before this one; 0 if it runs or has ended."""
        return self._queue.position(self)

    def cancel(self) -> None:
        """End the job; nothing happens if it has ended.

        A job that waits frees its place at once. One that runs frees it after the block that is being computed.
        """
        self._queue.cancel(self)

    def notify_at_end(self, ended: Callable[[], None]) -> None:
        """Call `ended` when the state is final, on any thread; at once if it is, and perhaps twice."""
        self._readers.append(lambda: ended() if self.is_final else None)
        if self.is_final:
            ended()

    @contextlib.contextmanager
    def notifying(self, changed: Callable[[], None]) -> Iterator[None]:
        """A context in which `changed` is called after each block and each change of a state, on any thread."""
        self._readers.append(changed)
        try:
            yield
        finally:
            self._readers.remove(changed)

    def _notify(self) -> None:
        for changed in tuple(self._readers):
            changed()


class WorkQueue:
    """Computations in the order of their start, on one thread, since each uses all cores of the machine.

    Results are kept until they are read, so that a slow reader does not delay the others.

    **Attributes:** `places`, the largest number of jobs that receive their inputs, wait or run.
    """

    def __init__(self, waiting: int):
        """**Arguments:** `waiting`, the largest number of jobs besides the one that runs.

        **Raises:** `ConfigError` if `waiting` is not a whole number of at least 1.
        """
        if not isinstance(waiting, int) or isinstance(waiting, bool) or waiting < 1:
            raise ConfigError(f"waiting is {format_value(waiting)}; it should be a whole number of at least 1.")
        self.places = waiting + 1
        self._taken: set[Job] = set()
        self._started: deque[Job] = deque()
        self._running: Job | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._seconds = 1.0  # a moving average of the durations of computations
        self._thread = threading.Thread(target=self._run_all, name="jaxvoice-work", daemon=True)
        self._thread.start()

    @property
    def taken(self) -> int:
        """The number of places that are taken."""
        with self._changed:
            return len(self._taken)

    def reserve(self) -> Job:
        """Take a place for a computation whose inputs are still received.

        **Raises:** `BusyError` if there is none.
        """
        with self._changed:
            retry = min(_LONGEST_RETRY, 1 + int(self._seconds))
            if self._closed:
                raise BusyError("The server is shutting down; try again later.", retry)
            if len(self._taken) >= self.places:
                raise BusyError(
                    f"The number of requests is {len(self._taken)}, the largest that the server accepts at a time; try "
                    f"again in {retry} s.",
                    retry,
                )
            job = Job(self)
            self._taken.add(job)
            return job

    def start(self, job: Job, work: Work) -> None:
        """Append the computation `work` of a reserved job to those that wait. A cancelled job is not started."""
        with self._changed:
            if job.state == "receiving":
                job._work, job.state = work, "waiting"
                self._started.append(job)
                self._changed.notify_all()
        job._notify()

    def position(self, job: Job) -> int:
        """The number of computations before `job`; 0 if it runs or has ended."""
        with self._changed:
            return self._started.index(job) + (self._running is not None) if job in self._started else 0

    def cancel(self, job: Job) -> None:
        """As `Job.cancel`."""
        with self._changed:
            if job.is_final:
                return
            if job is not self._running:
                self._taken.discard(job)
                if job in self._started:
                    self._started.remove(job)
                job._work = None
            job.state = "cancelled"
            waiting = tuple(self._started)
        for changed in (job, *waiting):
            changed._notify()

    def close(self, timeout: float | None = None) -> None:
        """Cancel all jobs, and wait at most `timeout` seconds for the end of the thread."""
        with self._changed:
            self._closed = True
            jobs = tuple(self._taken)
            self._changed.notify_all()
        for job in jobs:
            job.cancel()
        self._thread.join(timeout)

    def _run_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._started or self._closed)
                if self._closed:
                    return
                self._running = job = self._started.popleft()
                job.state = "running"
                waiting = tuple(self._started)
            for changed in (job, *waiting):
                changed._notify()
            start = time.monotonic()
            failure = self._run(job)
            with self._changed:
                self._seconds += _RECENT * (time.monotonic() - start - self._seconds)
                self._running, job._work = None, None
                self._taken.discard(job)
                if job.state == "running":
                    job.failure, job.state = failure, "done" if failure is None else "failed"
            job._notify()

    def _run(self, job: Job) -> Exception | None:
        """Compute the blocks of `job` until it is cancelled; returns the exception that it ended with.

        The warnings of the job are printed at its end.
        """
        assert job._work is not None
        with _caught_warnings() as caught:
            try:
                blocks = iter(job._work())
                try:
                    while job.state == "running" and (block := next(blocks, None)) is not None:
                        job.warnings = tuple(dict.fromkeys(caught))
                        job.blocks.append(block)
                        job._notify()
                finally:
                    close = getattr(blocks, "close", None)  # of generators
                    if close is not None:
                        close()
            except JaxvoiceError as failure:
                return failure
            except Exception as failure:  # a bug should not end the thread, on which all later jobs depend
                with ignoring_closed_stderr():
                    traceback.print_exc(file=sys.stderr)
                return failure
            finally:
                job.warnings = tuple(dict.fromkeys(caught))
                with ignoring_closed_stderr():
                    for text in job.warnings:
                        print_message("warning", text)
        return None


def ignoring_closed_stderr() -> contextlib.AbstractContextManager[None]:
    """A context that ignores the errors of a closed stderr, which should not end the thread."""
    return contextlib.suppress(OSError, ValueError)


@contextlib.contextmanager
def _caught_warnings() -> Iterator[list[str]]:
    """A context with a list of the texts of the warnings of jaxvoice on this thread. All others are shown."""
    texts: list[str] = []
    thread = threading.get_ident()
    with warnings.catch_warnings():
        show = warnings.showwarning

        def collect(message: Warning | str, category: type[Warning], *args: Any, **options: Any) -> None:
            if threading.get_ident() == thread and issubclass(category, JaxvoiceWarning):
                texts.append(str(message))
            else:
                show(message, category, *args, **options)

        warnings.showwarning = collect
        warnings.simplefilter("always", JaxvoiceWarning)
        yield texts


async def changes(job: Job, every: float | None = None) -> AsyncIterator[None]:
    """Yield once, after each change of `job`, and after its end, for a reader in an event loop.

    **Arguments:** `every`, seconds after which it yields without a change.
    """
    changed, loop = asyncio.Event(), asyncio.get_running_loop()

    def notify() -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed
            loop.call_soon_threadsafe(changed.set)

    with job.notifying(notify):
        while not job.is_final:
            yield
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), every)
            changed.clear()
    yield

"""The queue of a server: order, places, cancellation, failures, and readers on other threads. No test depends on time:
computations wait for events."""

import asyncio
import io
import sys
import threading
import warnings

import pytest

from jaxvoice.errors import ConfigError, JaxvoiceWarning, TextError
from jaxvoice.pipelines.work_queue import BusyError, WorkQueue, changes

LONG = 60  # seconds, never reached


@pytest.fixture
def queue():
    found = WorkQueue(waiting=4)
    yield found
    found.close(LONG)


class Gate:
    """A computation of two blocks that waits for an event before each."""

    def __init__(self, order=None, name=""):
        self.order, self.name = order, name
        self.entered, self.first, self.second = threading.Event(), threading.Event(), threading.Event()
        self.closed = threading.Event()

    def __call__(self):
        if self.order is not None:
            self.order.append(self.name)
        try:
            self.entered.set()
            assert self.first.wait(LONG)
            yield b"one"
            assert self.second.wait(LONG)
            yield b"two"
        finally:
            self.closed.set()


def started(queue, work):
    job = queue.reserve()
    queue.start(job, work)
    return job


def end_of(job):
    """Wait for the end of a job, and of its computation."""
    ended = threading.Event()
    with job.notifying(ended.set):
        while not job.is_final:
            assert ended.wait(LONG)
            ended.clear()
    return job


def test_computations_run_in_the_order_of_their_start(queue):
    order, gates = [], []
    jobs = [queue.reserve() for _ in range(4)]
    for number in (2, 0, 3, 1):  # the order in which inputs arrived
        gates.append(Gate(order, number))
        queue.start(jobs[number], gates[-1])
    assert gates[0].entered.wait(LONG)
    assert [jobs[number].position for number in (2, 0, 3, 1)] == [0, 1, 2, 3]
    assert [job.state for job in jobs] == ["waiting", "waiting", "running", "waiting"]
    for gate in gates:
        gate.first.set()
        gate.second.set()
    for job in jobs:
        assert end_of(job).state == "done" and job.blocks == [b"one", b"two"] and job.position == 0
    assert order == [2, 0, 3, 1]


def test_places_are_bounded(queue):
    gate = Gate()
    jobs = [started(queue, gate), *(queue.reserve() for _ in range(4))]
    assert queue.taken == queue.places == 5
    with pytest.raises(BusyError, match="The number of requests is 5, the largest") as failure:
        queue.reserve()
    assert failure.value.retry_after >= 1
    jobs[1].cancel()  # its inputs were still received
    queue.start(jobs[1], Gate())
    assert jobs[1].state == "cancelled" and queue.taken == 4
    assert queue.reserve().state == "receiving"
    gate.first.set()
    gate.second.set()
    assert end_of(jobs[0]).state == "done"


def test_a_cancelled_job_frees_its_place(queue):
    first, second, third = Gate(), Gate(), Gate()
    running, waiting, last = (started(queue, gate) for gate in (first, second, third))
    assert first.entered.wait(LONG)
    notified = threading.Event()
    with last.notifying(notified.set):
        waiting.cancel()
    assert notified.is_set() and last.position == 1  # positions of others change
    assert waiting.state == "cancelled" and queue.taken == 2 and not second.entered.is_set()
    first.first.set()
    end_of_block = threading.Event()
    with running.notifying(end_of_block.set):
        while not running.blocks:
            assert end_of_block.wait(LONG)
    running.cancel()
    running.cancel()
    assert running.state == "cancelled" and not third.entered.is_set()
    first.second.set()  # the block that was being computed ends, and is not the result
    assert third.entered.wait(LONG) and first.closed.is_set()
    assert running.blocks in ([b"one"], [b"one", b"two"]) and queue.taken == 1
    third.first.set()
    third.second.set()
    assert end_of(last).state == "done"


def test_warnings_of_other_threads_are_not_those_of_a_job(queue, monkeypatch):
    shown = []
    monkeypatch.setattr(warnings, "showwarning", lambda message, *_, **__: shown.append(str(message)))
    gate = Gate()
    job = started(queue, gate)
    assert gate.entered.wait(LONG)
    warnings.warn("of another request", JaxvoiceWarning, stacklevel=1)
    gate.first.set()
    gate.second.set()
    assert end_of(job).warnings == () and shown == ["of another request"]


def test_failures_are_kept_and_the_thread_goes_on(queue, capsys):
    def fails():
        yield b"one"
        raise TextError("no words")

    def is_wrong():
        raise KeyError("bug")

    def warns():
        warnings.warn("clipped", JaxvoiceWarning, stacklevel=1)
        warnings.warn("clipped", JaxvoiceWarning, stacklevel=1)
        yield b"one"

    job = end_of(started(queue, fails))
    assert job.state == "failed" and job.blocks == [b"one"] and str(job.failure) == "no words"
    assert capsys.readouterr().err == ""
    job = end_of(started(queue, is_wrong))
    assert job.state == "failed" and isinstance(job.failure, KeyError)
    assert "in is_wrong" in capsys.readouterr().err  # a bug has a traceback
    job = end_of(started(queue, warns))
    assert job.state == "done" and job.warnings == ("clipped",)
    assert capsys.readouterr().err.count("warning: clipped") == 1
    assert queue.taken == 0


def test_a_closed_stderr_does_not_end_the_thread(queue, monkeypatch):
    def warns():
        warnings.warn("clipped", JaxvoiceWarning, stacklevel=1)
        yield b"one"

    def is_wrong():
        raise KeyError("bug")

    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    jobs = [end_of(started(queue, work)) for work in (warns, is_wrong, warns)]
    assert [job.state for job in jobs] == ["done", "failed", "done"]


def test_a_closed_queue_cancels_its_jobs():
    queue, gate = WorkQueue(waiting=2), Gate()
    jobs = [started(queue, gate), started(queue, Gate()), queue.reserve()]
    assert gate.entered.wait(LONG)
    queue.close(0)
    assert [job.state for job in jobs] == ["cancelled"] * 3
    with pytest.raises(BusyError, match="shutting down"):
        queue.reserve()
    gate.first.set()
    gate.second.set()
    queue.close(LONG)
    assert queue.taken == 0


def test_waiting_is_checked():
    for waiting in (0, -1, 1.5, True, "2"):
        with pytest.raises(ConfigError, match=r"waiting is .*; it should be a whole number of at least 1"):
            WorkQueue(waiting)


def test_readers_in_an_event_loop_see_every_block(queue):
    async def read(job, gate):
        seen = []
        async for _ in changes(job):
            seen.append((job.state, len(job.blocks)))
            if job.state == "running" and not job.blocks:
                gate.first.set()
            if job.blocks:
                gate.second.set()
        return seen

    gate = Gate()
    job = queue.reserve()

    async def both():
        readers = [asyncio.create_task(read(job, gate)) for _ in range(2)]
        await asyncio.sleep(0)
        queue.start(job, gate)
        return await asyncio.wait_for(asyncio.gather(*readers), LONG)

    for seen in asyncio.run(both()):
        assert seen[0] == ("receiving", 0) and seen[-1] == ("done", 2)
        assert seen == sorted(seen, key=lambda one: one[1])

    async def ticks():
        async for _ in changes(waiting, every=0.001):
            count.append(waiting.state)
            if len(count) == 3:
                waiting.cancel()

    waiting, count = queue.reserve(), []
    asyncio.run(ticks())
    assert count == ["receiving"] * 3 + ["cancelled"]

"""One process at a time writes a run folder."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from jaxvoice.errors import CheckpointError
from jaxvoice.training import run_lock
from jaxvoice.training.run_folder import RunFolder
from jaxvoice.training.run_lock import LOCK_FILE, RunLock
from training.toy import ToyLoader, losses, one_device, train

posix = pytest.mark.skipif(os.name != "posix", reason="Windows cannot send SIGKILL")
HOLDER = """if True:
    import sys
    from pathlib import Path
    from jaxvoice.training.run_lock import RunLock
    lock = RunLock(Path(sys.argv[1]))
    lock.acquire()
    print("locked", flush=True)
    sys.stdin.read()
    lock.release()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of `tmp_path` until its stdin is closed."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(
        command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def without_locks(monkeypatch):
    """As on a file system without locks."""
    monkeypatch.setattr(run_lock, "_try_lock", lambda *_, **__: None)


def test_lock_of_another_process_is_an_error_with_its_id_and_host(tmp_path, holder):
    message = rf"in use by process {holder.pid} on {socket.gethostname()}; one process at a time.*delete .*run\.lock"
    with pytest.raises(CheckpointError, match=message):
        RunLock(tmp_path).acquire()
    with pytest.raises(CheckpointError, match=message):
        RunLock(tmp_path).check()
    before = (tmp_path / LOCK_FILE).read_bytes()
    with pytest.raises(CheckpointError, match=message):
        train(tmp_path, mesh=one_device())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {LOCK_FILE: before}
    holder.communicate()
    assert train(tmp_path, mesh=one_device(), steps=2).step == 2


@posix
def test_lock_of_a_killed_process_is_taken_over(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert (tmp_path / LOCK_FILE).is_file()
    RunLock(tmp_path).check()
    with RunLock(tmp_path) as lock:
        lock.acquire()
        assert json.loads((tmp_path / LOCK_FILE).read_text())["process"] == os.getpid()
    assert not (tmp_path / LOCK_FILE).exists()


def test_second_session_in_the_same_process_is_an_error(tmp_path):
    run, failures = tmp_path / "run", []

    class Nested(ToyLoader):
        def __next__(self):
            if self.place == 2:
                with pytest.raises(CheckpointError, match=f"process {os.getpid()} on") as failure:
                    train(run, mesh=one_device())
                failures.append(failure)
            return super().__next__()

    train(run, loader=Nested(), mesh=one_device(), steps=5)
    train(tmp_path / "alone", mesh=one_device(), steps=5)
    assert len(failures) == 1 and losses(run) == losses(tmp_path / "alone")
    assert not (run / LOCK_FILE).exists()


def test_run_that_another_process_begins_meanwhile_is_not_overwritten(tmp_path):
    run = tmp_path / "run"

    class Slow(ToyLoader):
        def __next__(self):
            if not run.exists():
                train(run, mesh=one_device(), steps=4)
            return super().__next__()

    with pytest.raises(CheckpointError, match="Another process has begun a run in"):
        train(run, loader=Slow(), mesh=one_device(), steps=5)
    assert max(losses(run)) == 4


def test_failed_sessions_release_the_lock(tmp_path):
    with pytest.raises(Exception, match="after step 3"):
        train(tmp_path, loader=ToyLoader(last=3), mesh=one_device())
    assert not (tmp_path / LOCK_FILE).exists()


def test_folder_with_only_a_lock_may_begin_a_run(tmp_path):
    (tmp_path / LOCK_FILE).write_text("")
    RunFolder(tmp_path).check("auto")
    RunLock(tmp_path).check()
    with RunLock(tmp_path) as lock:
        lock.acquire()
        assert json.loads((tmp_path / LOCK_FILE).read_text())["process"] == os.getpid()


@pytest.mark.skipif(os.name != "posix", reason="Windows does not say whether a process exists")
def test_file_is_the_lock_where_the_file_system_has_none(tmp_path, holder, monkeypatch):
    without_locks(monkeypatch)
    for attempt in (RunLock(tmp_path).check, RunLock(tmp_path).acquire):
        with pytest.raises(CheckpointError, match=f"process {holder.pid} on"):
            attempt()
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with RunLock(tmp_path) as lock:
        lock.acquire()
        with pytest.raises(CheckpointError, match=f"process {os.getpid()} on"):
            RunLock(tmp_path).acquire()
    (tmp_path / LOCK_FILE).write_text(json.dumps({"process": 1, "host": "elsewhere"}))
    with pytest.raises(CheckpointError, match=r"process 1 on elsewhere; .*If no process writes the run, delete"):
        RunLock(tmp_path).acquire()


@posix
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_missing_locks_of_a_file_system_are_recognised(tmp_path, monkeypatch, number):
    import fcntl

    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with RunLock(tmp_path) as lock:
        lock.acquire()
        with pytest.raises(CheckpointError, match=f"process {os.getpid()} on"):
            RunLock(tmp_path).check()


def test_folder_that_cannot_be_locked_is_an_error(tmp_path):
    (tmp_path / LOCK_FILE).mkdir()
    with pytest.raises(CheckpointError, match=r"cannot be locked \(.*\); make the folder writable"):
        RunLock(tmp_path).acquire()


@posix
@pytest.mark.parametrize("exists", [True, False])
def test_symbolic_link_as_lock_file_changes_no_other_file(tmp_path, exists):
    target = tmp_path / "other"
    if exists:
        target.write_text("content of another file")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LOCK_FILE).symlink_to(target)
    for attempt in (RunLock(tmp_path / "run").check, RunLock(tmp_path / "run").acquire):
        with pytest.raises(CheckpointError, match=r"run\.lock is not a regular file.*; delete it"):
            attempt()
    assert target.exists() == exists and (not exists or target.read_text() == "content of another file")


@posix
def test_pipe_as_lock_file_is_an_error(tmp_path):
    os.mkfifo(tmp_path / LOCK_FILE)
    with pytest.raises(CheckpointError, match="not a regular file"):
        RunLock(tmp_path).acquire()


@pytest.mark.parametrize("process", ["own", 10**30, 2**40, 0, -1, True, 1.5, "1", None])
def test_file_of_no_other_process_is_not_a_lock_where_the_file_system_has_none(tmp_path, monkeypatch, process):
    """A container may give every process the same number; other values are no process at all."""
    without_locks(monkeypatch)
    number = os.getpid() if process == "own" else process
    (tmp_path / LOCK_FILE).write_text(json.dumps({"process": number, "host": socket.gethostname()}))
    RunLock(tmp_path).check()
    with RunLock(tmp_path) as lock:
        lock.acquire()
        for attempt in (RunLock(tmp_path).check, RunLock(tmp_path).acquire):
            with pytest.raises(CheckpointError, match=f"process {os.getpid()} on"):
                attempt()
    assert not (tmp_path / LOCK_FILE).exists()


@pytest.mark.parametrize("content", ["[" * 4000, "9" * 4096, "{}", "\0"])
def test_file_with_other_content_is_not_a_lock_where_the_file_system_has_none(tmp_path, monkeypatch, content):
    without_locks(monkeypatch)
    (tmp_path / LOCK_FILE).write_text(content)
    RunLock(tmp_path).check()
    with RunLock(tmp_path) as lock:
        lock.acquire()
        assert json.loads((tmp_path / LOCK_FILE).read_text())["process"] == os.getpid()
    assert not (tmp_path / LOCK_FILE).exists()


FORKING = """if True:
    import os, sys, time
    from pathlib import Path
    from jaxvoice.training.run_lock import RunLock
    with RunLock(Path(sys.argv[1])) as lock:
        lock.acquire()
        child = os.fork()
        if child == 0:
            lock.release()  # the child does not hold the lock
            print(os.getpid(), flush=True)
            time.sleep(600)
        sys.stdin.read()
        os._exit(1)  # as after a kill: the file is not deleted
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows cannot fork")
def test_forked_child_does_not_hold_the_lock(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, "-c", FORKING, str(tmp_path)],
        env=environment,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdin is not None and parent.stdout is not None
        child = int(parent.stdout.readline())
        try:
            with pytest.raises(CheckpointError, match=f"process {parent.pid} on"):
                RunLock(tmp_path).acquire()
            parent.stdin.close()
            parent.wait()
            assert (tmp_path / LOCK_FILE).is_file()
            with RunLock(tmp_path) as lock:
                lock.acquire()
        finally:
            os.kill(child, signal.SIGKILL)

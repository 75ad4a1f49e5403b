"""The lock of a run folder, which one process at a time holds while it writes the run.

The file `run.lock` exists while a run is written, and contains the process id and the host of the process that writes.
The operating system releases its lock when the process ends for any reason, so the file of a killed process does not
lock the folder. On file systems without locks, the file itself is the lock, and a process that does not exist any more
on this host does not hold it. A child that is forked from the process does not hold the lock.
"""

import errno
import json
import os
import socket
import stat
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from jaxvoice.errors import CheckpointError

LOCK_FILE = "run.lock"
_WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}
_TRIES, _PAUSE = 20, 0.01  # another process that checks the lock holds it for a moment


class RunLock:
    """The lock of the run folder `folder`. The folder exists when `acquire` is called. A context manager."""

    def __init__(self, folder: Path):
        self.path = folder / LOCK_FILE
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Lock the folder, until `release` or the end of the process.

        **Raises:** `CheckpointError` with the process id and host of another process that holds the lock, or if the
        file cannot be written.
        """
        try:
            self._acquire()
        except OSError as failure:
            raise CheckpointError(
                f"The run folder {self.path.parent} cannot be locked ({failure.strerror or failure}); make the folder "
                "writable, or choose another --run-dir."
            ) from failure

    def check(self) -> None:
        """Raise `CheckpointError` if another process holds the lock. The folder is not changed."""
        try:
            descriptor = self._open()
        except OSError:
            return  # The folder is not locked, or this process may not write it, which `acquire` reports.
        try:
            locked = _try_lock(descriptor, shared=True)
            if locked is False or (locked is None and _holder_exists(_read(descriptor), descriptor)):
                raise self._held(_read(descriptor))
        finally:
            os.close(descriptor)

    def release(self) -> None:
        """Unlock the folder and delete the file. Without effect if this object does not hold the lock."""
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        _held.discard(self)
        if os.name == "posix":
            # The file is deleted before it is unlocked: after that, it may be the file of another holder.
            self._delete()
            os.close(descriptor)
        else:
            # Windows cannot delete a file that is open, by this process or by another holder.
            os.close(descriptor)
            self._delete()

    def __enter__(self) -> "RunLock":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _open(self, flags: int = 0) -> int:
        """Open the file; raises `CheckpointError` if it is a symbolic link or another kind of file."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | _FLAGS | flags, 0o644)
        except OSError as failure:
            if self.path.is_symlink():
                raise self._irregular() from failure
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode) or self.path.is_symlink():
            os.close(descriptor)
            raise self._irregular()
        return descriptor

    def _irregular(self) -> CheckpointError:
        return CheckpointError(
            f"{self.path} is not a regular file, and a lock should not change another file; delete it, or choose "
            "another --run-dir."
        )

    def _acquire(self) -> None:
        with _acquiring:
            self._acquire_in_this_thread()

    def _acquire_in_this_thread(self) -> None:
        content: dict[str, Any] = {}
        mine = {"process": os.getpid(), "host": socket.gethostname()}
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(_PAUSE)
            descriptor = self._open(os.O_CREAT)
            try:
                locked, content = _try_lock(descriptor, shared=False), _read(descriptor)
                trusted = locked is not None
                if not trusted:
                    locked = not _holder_exists(content, descriptor)
                if locked and self._is_current(descriptor):
                    _write(descriptor, mine)
                    if not trusted:  # two processes may have found the file empty; the last one to write holds it
                        time.sleep(_PAUSE)
                        content = _read(descriptor)
                    if trusted or content == mine:
                        self._descriptor, descriptor = descriptor, -1
                        _held.add(self)
                        return
            finally:
                if descriptor >= 0:
                    os.close(descriptor)
        raise self._held(content)

    def _is_current(self, descriptor: int) -> bool:
        """Whether the open file is still that of the path, and not one that its holder has deleted since."""
        if os.name != "posix":
            return True
        with suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(descriptor), self.path.stat())
        return False

    def holds(self, descriptor: int) -> bool:
        """Whether this object holds the lock of the open file."""
        return self._descriptor is not None and os.path.samestat(os.fstat(self._descriptor), os.fstat(descriptor))

    def forget(self) -> None:
        """Close the file without unlocking it, in a child of the process that holds the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)  # the lock is that of the open file, which is open in the parent too
            self._descriptor = None

    def _delete(self) -> None:
        with suppress(OSError):
            self.path.unlink()

    def _held(self, content: dict[str, Any]) -> CheckpointError:
        known = content.get("process") is not None
        holder = f"process {content['process']} on {content.get('host')}" if known else "another process"
        return CheckpointError(
            f"The run folder {self.path.parent} is in use by {holder}; one process at a time can write a run. Wait for "
            f"it, stop it, or choose another --run-dir. If no process writes the run, delete {self.path}."
        )


def _read(descriptor: int) -> dict[str, Any]:
    os.lseek(descriptor, 0, os.SEEK_SET)
    with suppress(ValueError, OSError, RecursionError):
        table = json.loads(os.read(descriptor, 4096))
        return table if isinstance(table, dict) else {}
    return {}


def _write(descriptor: int, table: dict[str, Any]) -> None:
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, (json.dumps(table) + "\n").encode())


_held: set[RunLock] = set()
"""The locks that this process holds."""
_acquiring = threading.Lock()


def _forget_in_child() -> None:
    global _acquiring
    _acquiring = threading.Lock()  # another thread of the parent may have held it
    for lock in _held:
        lock.forget()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)


def _holder_exists(content: dict[str, Any], descriptor: int) -> bool:
    """Whether the process that wrote `content` to the open file may still hold it, for file systems without locks."""
    process, host = content.get("process"), content.get("host")
    if type(process) is not int or process <= 0 or host is None:
        return False
    if host != socket.gethostname():
        return True  # unknown
    if process == os.getpid():  # of this process, or of an earlier one with the same number, as in containers
        return any(lock.holds(descriptor) for lock in _held)
    if os.name != "posix":
        return True  # os.kill ends processes there
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        pass  # the process of another user
    return True


if sys.platform == "win32":
    import msvcrt

    _FLAGS = os.O_BINARY
    _PLACE = 1 << 30  # behind the content, which other processes read

    def _try_lock(descriptor: int, *, shared: bool) -> bool | None:
        """Whether the file could be locked; `None` on file systems without locks. Closing the file unlocks it."""
        os.lseek(descriptor, _PLACE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as failure:
            return False if failure.errno in (errno.EACCES, errno.EDEADLK) else None
        return True

else:
    _FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC

    def _try_lock(descriptor: int, *, shared: bool) -> bool | None:
        """Whether the file could be locked; `None` on file systems without locks. Closing the file unlocks it."""
        try:
            import fcntl

            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except ImportError:
            return None
        except OSError as failure:
            if failure.errno in (errno.EAGAIN, errno.EACCES):
                return False
            if failure.errno in _WITHOUT_LOCKS:
                return None
            raise
        return True

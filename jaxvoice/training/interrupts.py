"""Ctrl-C and SIGTERM as a wish to stop after the current step."""

import contextlib
import os
import signal
import threading
from types import FrameType


class Interrupts:
    """While open, the first SIGINT or SIGTERM only sets `requested`; a second one acts as it always does, at once."""

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Interrupts":
        # Python delivers signals to the main thread only; elsewhere whoever owns that thread decides.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self._restore()
        # Past Python's buffers: the signal may come in the middle of a print, which must not be entered twice.
        with contextlib.suppress(OSError):
            os.write(1, b"\nStopping after this step and saving; interrupt again to stop at once.\n")

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]
        self._before = {}

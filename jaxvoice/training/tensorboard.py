"""TensorBoard events. The calling thread writes them, so that a full disk raises an error."""

import os
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8


class Events:
    """An event file in `folder`. TensorBoard hides the events of earlier sessions from `first_step` on."""

    def __init__(self, folder: Path, *, first_step: int):
        _import_without_torch()
        from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
        from tensorboardX.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._event = Event
        self._writer = RecordWriter(str(folder / name))
        self._write(file_version="brain.Event:2")
        start = SessionLog(status=SessionLog.START)
        self._write(step=first_step, session_log=start)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write a value for each curve."""
        from tensorboardX.summary import scalar

        for name, value in values.items():
            self._write(step=step, summary=scalar(name, value))

    def audio(self, step: int, name: str, audio: Float[np.ndarray, " samples"], sample_rate: int) -> None:
        """Write audio in [-1, 1]."""
        from tensorboardX.summary import audio as summary

        self._write(step=step, summary=summary(name, audio[:, None], sample_rate))

    def picture(self, step: int, name: str, pixels: UInt8[np.ndarray, "height width 3"]) -> None:
        """Write a picture, RGB in 0..255."""
        from tensorboardX.summary import image

        self._write(step=step, summary=image(name, pixels, dataformats="HWC"))

    def flush(self) -> None:
        """Pass buffered events to the operating system."""
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()

    def _write(self, **fields) -> None:
        self._writer.write(self._event(wall_time=time.time(), **fields).SerializeToString())


def _import_without_torch() -> None:
    """Import tensorboardX without torch, whose import takes three seconds and is not needed."""
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # pyright: ignore[reportArgumentType]
    try:
        import tensorboardX  # noqa: F401
    finally:
        if hidden:
            del sys.modules["torch"]

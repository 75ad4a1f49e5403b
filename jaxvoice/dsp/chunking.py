"""Windows of long signals, and bucket sizes that keep the number of compiled programs small.

     start                                                    stop
       |- left context -|---------- kept ----------|- right context -|
                                            |- left context -|---------- kept ---------- ...

The result of a frame is exact if its receptive field lies in the window or reaches past the end of the signal. Adjacent
windows therefore overlap by both contexts, and only the first and the last window keep their outer edge.
"""

from collections.abc import Iterator
from dataclasses import dataclass

_SMALLEST = 16


@dataclass(frozen=True)
class Window:
    """A window reads the frames from `start` to `stop`, and its results from `keep_from` to `keep_to` are kept."""

    start: int
    stop: int
    keep_from: int
    keep_to: int

    @property
    def frames(self) -> int:
        """Number of frames read."""
        return self.stop - self.start


def plan_windows(
    frames: int, size: int, context: tuple[int, int], wanted: tuple[int, int] | None = None
) -> Iterator[Window]:
    """Windows of at most `size` frames that together keep `wanted` (all by default) of a signal of `frames`, each once.

    **Arguments:** `context`, the frames to the left and to the right that a result depends on; `size` must exceed their
    sum. Where the signal has at least `size` frames, the last window ends with it and is not shorter than the others.
    """
    left, right = context
    position, end = (0, frames) if wanted is None else wanted
    while position < end:
        start = max(0, position - left)
        stop = min(frames, start + size)
        if stop == frames:
            start = max(0, frames - size)
        keep_to = end if stop == frames else min(end, stop - right)
        yield Window(start, stop, position, keep_to)
        position = keep_to


def bucket_size(frames: int, largest: int) -> int:
    """The smallest of 16, 24, 32, 48, 64, 96, ... and `largest` that holds `frames`."""
    size = _SMALLEST
    while size < frames:
        size = size * 3 // 2 if size & (size - 1) == 0 else size * 4 // 3
    return min(size, largest)

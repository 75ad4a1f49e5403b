"""The division of signals into STFT frames, and of long signals into overlapping windows; without jax.

`plan_windows` divides a long signal into overlapping windows. `bucket_size` rounds their sizes, so that few programs
are compiled.

     start                                                    stop
       |- left context -|---------- kept ----------|- right context -|
                                            |- left context -|---------- kept ---------- ...

The result for a frame is exact if the window contains its receptive field, up to the ends of the signal. Adjacent
windows therefore overlap by both contexts, and only the first and the last window keep the results at an outer edge.
"""

import functools
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Float

_SMALLEST = 16

_Item = TypeVar("_Item")
_Size = TypeVar("_Size", bound=Hashable)


@functools.lru_cache(maxsize=64)
def hann_window(win_length: int, n_fft: int | None = None) -> Float[np.ndarray, " n_fft"]:
    """Periodic Hann window of `win_length` samples, zero-padded on both sides to `n_fft`, float32 and read-only.

    It equals `scipy.signal.get_window("hann", n)` and `torch.hann_window(n)`. If the number of zeros is odd, the right
    side has one more, as in torch and librosa.
    """
    n_fft = win_length if n_fft is None else n_fft
    window = np.zeros(n_fft, np.float32)
    left = (n_fft - win_length) // 2
    window[left : left + win_length] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(win_length) / win_length)
    window.flags.writeable = False
    return window


def num_frames(samples: int, *, n_fft: int, hop_length: int, pad: int) -> int:
    """Number of whole frames of `n_fft` samples in a signal of `samples`, padded by `pad` on both sides."""
    return max(0, (samples + 2 * pad - n_fft) // hop_length + 1)


def min_samples(*, n_fft: int, pad: int) -> int:
    """The smallest number of samples that gives one frame, and that can be reflected by `pad` at each end."""
    return max(pad + 1, n_fft - 2 * pad, 1)


@dataclass(frozen=True)
class Window:
    """A window of the frames from `start` to `stop`, whose results from `keep_from` to `keep_to` are kept."""

    start: int
    stop: int
    keep_from: int
    keep_to: int

    @property
    def frames(self) -> int:
        """Number of frames in the window."""
        return self.stop - self.start


def plan_windows(
    frames: int, size: int, context: tuple[int, int], wanted: tuple[int, int] | None = None
) -> Iterator[Window]:
    """Windows of at most `size` frames that keep each frame of the range `wanted`, by default of all `frames`, once.

    `context` is the number of frames to the left and to the right that a result depends on. If the signal has at least
    `size` frames, the last window is not shorter than the others, and ends with it.

    **Raises:** `ValueError` if the signal is longer than `size`, and `size` is not larger than both contexts together.
    """
    left, right = context
    if size < frames and size <= left + right:
        raise ValueError(
            f"size is {size} frames and context is {context}; size should be larger than both contexts together."
        )
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
    """The smallest of 16, 24, 32, 48, 64, 96, ... that is at least `frames`, or `largest` if that is smaller."""
    size = _SMALLEST
    while size < frames:
        size = _following(size)
    return min(size, largest)


def longest_bucket(frames: int, largest: int) -> int:
    """The largest of 16, 24, 32, 48, 64, 96, ... that is at most `frames` and `largest`, or `frames` below 16."""
    size = _SMALLEST
    while _following(size) <= min(frames, largest):
        size = _following(size)
    return min(size, frames)


def _following(size: int) -> int:
    return size * 3 // 2 if size & (size - 1) == 0 else size * 4 // 3


def equal_size_batches(
    items: Iterable[_Item], size_of: Callable[[_Item], _Size], most: Callable[[_Size], int]
) -> Iterator[tuple[_Size, list[_Item]]]:
    """Yield each size with a batch of items of that size, of at most `most(size)` items, or of one.

    The numbers of items are powers of two, so that few programs are compiled.
    """
    groups: dict[_Size, list[_Item]] = defaultdict(list)
    for item in items:
        groups[size_of(item)].append(item)
    for size, group in groups.items():
        while group:
            count = max(1, min(len(group), most(size)))
            batch = group[: 1 << (count.bit_length() - 1)]
            del group[: len(batch)]
            yield size, batch

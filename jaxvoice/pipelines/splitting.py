"""Cutting a long line of phonemes into pieces that a model can say at once.

pau HH AH0 L OW1 pau W EU1 R L D pau
|----- piece ------|
                 |----- piece -----|      the pause between is said by both

"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int


@dataclass(frozen=True)
class Piece:
    """Phonemes `start` to `stop` of a line; with `shares`, the first of them is also the last of the piece before."""

    start: int
    stop: int
    shares: bool = False

    @property
    def phones(self) -> int:
        """How many phonemes are read."""
        return self.stop - self.start


def split_at_pauses(
    frames: Int[np.ndarray, " phones"],
    pauses: Bool[np.ndarray, " phones"],
    word_starts: Bool[np.ndarray, " phones"],
    *,
    most_phones: int,
    most_frames: int,
) -> list[Piece]:
    """Pieces of at most `most_phones` phonemes and `most_frames` frames, each as long as it can be.

    A piece ends with a pause, with which the next one begins. Where none is near enough it ends before a word, or,
    where no word begins, anywhere; the next one then shares nothing with it.

    **Arguments:** `frames`, how long each phoneme lasts, none of them more than `most_frames`; `pauses`, which of them
    are pauses; `word_starts`, with which of them a word begins.
    """
    count, times = len(frames), np.concatenate([[0], np.cumsum(frames)])
    pieces: list[Piece] = []
    start, shares = 0, False
    while True:
        reached = int(np.searchsorted(times, times[start] + most_frames, side="right")) - 1
        stop = min(count, start + most_phones, reached)
        if stop == count:
            return [*pieces, Piece(start, stop, shares)]
        pause = _last(pauses, start + 1, stop)
        if pause is not None:
            pieces.append(Piece(start, pause + 1, shares))
            start, shares = pause, True
            continue
        word = _last(word_starts, start + 1 + shares, stop + 1)
        stop = stop if word is None else word
        pieces.append(Piece(start, stop, shares))
        start, shares = stop, False


def _last(flags: Bool[np.ndarray, " phones"], start: int, stop: int) -> int | None:
    found = np.flatnonzero(flags[start:stop])
    return start + int(found[-1]) if found.size else None

"""The times of the phonemes of the demo corpus in samples, and their durations in spectrogram frames."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int16, Int64

from jaxvoice.errors import DataError

_PAUSE = "_"
_PAUSES = frozenset(("_", "_:", "_!", "_|"))
# Voiced "th" is not a stop, but espeak-ng often starts it with a closure too.
_STOPS = frozenset(("p", "b", "t", "t#", "t2", "d", "k", "g", "tS", "dZ", "D"))
_QUIET = 2  # largest sample value, 16 bit, of a closure
_LONGEST_CLOSURE = 0.1  # seconds


class Phoneme(NamedTuple):
    """A phoneme in espeak-ng's notation (`'` or `,` for stress, then the mnemonic), and the sample of its onset."""

    mnemonic: str
    onset: int

    @property
    def pause(self) -> bool:
        """Whether the phoneme is a pause."""
        return self.mnemonic in _PAUSES


@dataclass(frozen=True)
class Timings:
    """The phonemes of an utterance of `samples` samples at `sample_rate` (Hz).

    Each phoneme lasts until the next one, and the last until the end. `raw` are the phonemes that espeak-ng reported,
    and `phonemes` are those with corrected onsets (see `correct_onsets`).
    """

    id: str
    sample_rate: int
    samples: int
    phonemes: tuple[Phoneme, ...]
    raw: tuple[Phoneme, ...]

    def save(self, path: Path) -> None:
        """Write the timings as JSON to `path`."""
        path.write_text(json.dumps(dataclasses.asdict(self)) + "\n", encoding="utf-8")

    def durations_in_frames(self, hop_length: int) -> tuple[tuple[str, ...], Int64[np.ndarray, " phonemes"]]:
        """The mnemonics, and their durations in frames of `hop_length` samples, whose sum is `samples // hop_length`.

        Boundaries, not durations, are rounded, so errors do not accumulate. A pause of no frames is removed. Any other
        phoneme of no frames takes one from its longer neighbour.

        **Raises:** `DataError` if there are fewer frames than phonemes.
        """
        total = self.samples // hop_length
        edges = [min(total, round(phoneme.onset / hop_length)) for phoneme in self.phonemes] + [total]
        pairs = zip(self.phonemes, np.diff(edges), strict=True)
        kept = [(phoneme.mnemonic, int(frames)) for phoneme, frames in pairs if frames or not phoneme.pause]
        durations = np.array([frames for _, frames in kept], dtype=np.int64)
        for index in np.flatnonzero(durations == 0):
            reach = 1  # distance of the neighbours; the nearest ones may be too short
            while reach < len(durations):
                around = [i for i in (index - reach, index + reach) if 0 <= i < len(durations) and durations[i] > 1]
                if around:
                    durations[max(around, key=lambda i: durations[i])] -= 1
                    durations[index] = 1
                    break
                reach += 1
            else:
                raise DataError(f"Utterance {self.id!r} has {len(kept)} phonemes in {total} frames; use a shorter hop.")
        return tuple(name for name, _ in kept), durations


def read_timings(path: str | Path) -> Timings:
    """Read the timings of an utterance of the demo corpus, `timings/<id>.json`.

    **Raises:** `DataError` if the file is missing or does not contain timings.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        phonemes, raw = (tuple(Phoneme(str(name), int(at)) for name, at in content[key]) for key in ("phonemes", "raw"))
        return Timings(str(content["id"]), int(content["sample_rate"]), int(content["samples"]), phonemes, raw)
    except (OSError, ValueError, KeyError, TypeError) as failure:
        raise DataError(f"{path} contains no phoneme timings ({failure!r}); make the demo corpus again.") from failure


def correct_onsets(
    raw: Sequence[Phoneme], audio: Int16[np.ndarray, " samples"], sample_rate: int
) -> tuple[Phoneme, ...]:
    """Correct the onsets that espeak-ng reports to the audible onsets.

    - espeak-ng reports stops and affricates at the burst, after their closure. Their onset is moved to the start of the
      closure (samples within 2 of zero, up to 0.1 s, not within a pause).
    - Of phonemes reported at the same sample, pauses are removed.
    - Silence before the first phoneme and after the last becomes a pause.

    Onsets of vowels after a liquid or nasal, which are up to 15 ms late, do not change. The onsets of the result start
    at 0 and are inside the audio. They increase strictly, except where phonemes other than pauses share a sample.

    Source: espeak-ng's `synthesize.c`, and measurement.
    """
    quiet = np.abs(audio.astype(np.int32)) <= _QUIET
    loud = np.flatnonzero(~quiet)
    first, end = (int(loud[0]), int(loud[-1]) + 1) if len(loud) else (0, 0)
    kept: list[Phoneme] = []
    for phoneme in sorted(raw, key=lambda item: item.onset):
        onset = min(max(phoneme.onset, 0), len(audio) - (not phoneme.pause))
        if phoneme.mnemonic.lstrip("',") in _STOPS and kept and not kept[-1].pause:
            floor = max(kept[-1].onset + 1, onset - round(_LONGEST_CLOSURE * sample_rate))
            while onset > floor and quiet[onset - 1]:
                onset -= 1
        kept.append(Phoneme(phoneme.mnemonic, onset))
    ends = [phoneme.onset for phoneme in kept[1:]] + [len(audio)]
    kept = [item for item, after in zip(kept, ends, strict=True) if not (item.pause and after <= item.onset)]
    if kept and not kept[0].pause and first > 0 and kept[0].onset > 0:
        kept.insert(0, Phoneme(_PAUSE, 0))
    if kept and not kept[-1].pause and kept[-1].onset < end < len(audio):
        kept.append(Phoneme(_PAUSE, end))
    return tuple(Phoneme(item.mnemonic, item.onset if index else 0) for index, item in enumerate(kept))

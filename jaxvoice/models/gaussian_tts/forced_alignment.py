"""Forced alignment of a mel spectrogram with phonemes, by dynamic time warping of a synthesis onto the recording."""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from jaxvoice.data.alignments.alignment import Alignment, AlignmentError, Interval
from jaxvoice.dsp.dtw import (
    dtw_features,
    durations_between,
    outer_silence,
    silent_frames,
    true_runs,
    warp_boundaries,
)
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.models.gaussian_tts.inference import AcousticInference, PhonemeInput
from jaxvoice.text.phonemes import PAUSE, PhoneSet

# The shortest pauses in seconds: existing ones, new ones, and new ones beside a stop, whose closure is silent too.
_SHORTEST, _SHORTEST_NEW, _SHORTEST_AT_STOPS = 0.035, 0.06, 0.13
# The largest distance in seconds between a phoneme boundary and the silence of its pause.
_SLACK = 0.05
_STOPS = frozenset(["B", "CH", "D", "G", "JH", "K", "P", "T"])
_REVISIONS = 3
_SLOWEST, _FASTEST = 1 / 3, 3.0


class PhonemeSequence(NamedTuple):
    """The phonemes of an utterance, with flags for those that begin a word."""

    codes: tuple[str, ...]
    word_starts: Bool[np.ndarray, " phones"]

    @property
    def pauses(self) -> Bool[np.ndarray, " phones"]:
        """True for phonemes that are pauses."""
        return np.array([code == PAUSE for code in self.codes])


@dataclass(frozen=True)
class ForcedAlignment:
    """The alignment of a recording with its phonemes, and its cost."""

    alignment: Alignment
    """The phonemes and their boundaries in seconds. The boundaries lie between frames; the last is the end of `mel`."""
    durations: Int64[np.ndarray, " phones"]
    """Duration of each phoneme in frames, at least 1; the sum is the number of frames of `mel`."""
    cost: float
    """Mean distance between paired frames of the recording and of the synthesis.

    The cost is about 0.3 for the voice on which the model was trained, and up to 1 for other voices. A wrong text
    multiplies the cost for the voice of the model, and increases it by about 10 % for other voices.
    """
    speed: float
    """Speed of the speaker relative to the model, without pauses; 2 is twice as fast."""
    mel: Float32[np.ndarray, "mels frames"] = field(repr=False)
    """Log-mel spectrogram of the recording, under the model's contract."""
    words: tuple[Interval, ...] = ()
    """The words of the text, normalised, with their times in seconds; empty if phonemes were aligned."""


class ForcedAligner:
    """Aligns mel spectrograms with phonemes by dynamic time warping of a synthesis onto the recording.

    **Arguments:** `inference`, the model; `phone_set` and `mel`, its phonemes and its mel contract.

    Source: Malfrere and Dutoit 1997, "High-quality speech synthesis for phonetic speech segmentation".
    """

    def __init__(self, inference: AcousticInference, phone_set: PhoneSet, mel: MelConfig):
        self._inference, self._phone_set, self._config = inference, phone_set, mel
        self._rate = mel.sample_rate / mel.hop_length

    def __call__(
        self,
        mel: Float32[np.ndarray, "mels frames"],
        phonemes: PhonemeSequence,
        name: str,
        *,
        adjust_pauses: bool,
    ) -> ForcedAlignment:
        """Align the recording `mel` with `phonemes`.

        **Arguments:** `name`, the id of the alignment, also used in errors; `adjust_pauses`, whether to insert pauses
        where the recording is silent between words or at its ends, and to remove pauses where it is not silent.

        **Raises:** `AlignmentError` for more phonemes than frames, or if the speed is not 1/3 to 3 times the model's.
        """
        silent = silent_frames(mel, self._config)
        if adjust_pauses:
            phonemes = adjust_outer_pauses(phonemes, silent, self._rate)
        frames, recorded = mel.shape[1], dtw_features(mel, self._config)
        outside = outer_silence(silent)
        _check_phoneme_count(name, phonemes, frames)
        predicted = self._synthesize(phonemes, None)[1]
        spoken = int(predicted[~phonemes.pauses].sum())
        _check_speed(name, spoken / max(1, frames - sum(outside)), len(phonemes.codes), frames / self._rate)
        wanted = _with_outer_silence(phonemes, predicted, outside)
        durations, cost = self._warp(phonemes, _scale_to(wanted, _outer_pauses(phonemes), frames), recorded)
        for _ in range(_REVISIONS if adjust_pauses else 0):
            adjusted, found = adjust_inner_pauses(phonemes, durations, silent, self._rate)
            if adjusted.codes == phonemes.codes:
                break
            phonemes, pauses = adjusted, adjusted.pauses
            _check_phoneme_count(name, phonemes, frames)
            found[~pauses] = self._synthesize(phonemes, None)[1][~pauses]
            durations, cost = self._warp(phonemes, _scale_to(found, pauses, frames), recorded)
        boundaries = np.concatenate([[0], np.cumsum(durations)]) / self._rate
        voiced = int(durations[~phonemes.pauses].sum())
        alignment = Alignment(name, phonemes.codes, boundaries)
        return ForcedAlignment(alignment, durations, cost, spoken / max(1, voiced), mel)

    def _warp(
        self,
        phonemes: PhonemeSequence,
        durations: Int64[np.ndarray, " phones"],
        recorded: Float[np.ndarray, "features frames"],
    ) -> tuple[Int64[np.ndarray, " phones"], float]:
        """The durations in the recording and the cost, from a synthesis with `durations`."""
        mel, synthesized = self._synthesize(phonemes, durations)
        edges = np.concatenate([[0], np.cumsum(synthesized)])
        warped, cost = warp_boundaries(edges, dtw_features(mel, self._config), recorded)
        return durations_between(warped, recorded.shape[1]), cost

    def _synthesize(
        self, phonemes: PhonemeSequence, durations: Int64[np.ndarray, " phones"] | None
    ) -> tuple[Float32[np.ndarray, "mels synthesized_frames"], Int64[np.ndarray, " phones"]]:
        """The mel spectrogram and its durations; each of `durations` is limited to a quarter of the model's frames."""
        if durations is not None:
            durations = np.minimum(durations, max(1, self._inference.max_frames // 4))
        ids = np.array(self._phone_set.ids(phonemes.codes), np.int32)
        result = self._inference([PhonemeInput(phonemes.codes, ids, phonemes.word_starts, durations)])[0]
        return result.mel, result.durations


def adjust_outer_pauses(phonemes: PhonemeSequence, silent: Bool[np.ndarray, " frames"], rate: float) -> PhonemeSequence:
    """Add a pause at each end where the recording is silent, and remove the pause at an end where it is not.

    `rate` is the number of frames per second.
    """
    codes, starts = list(phonemes.codes), list(phonemes.word_starts)
    least = max(1, math.ceil(_SHORTEST * rate))
    for place, silence in zip((0, -1), outer_silence(silent), strict=True):
        if (codes[place] == PAUSE) == (silence >= least):
            continue
        if silence < least and len(codes) > 1:
            del codes[place], starts[place]
        elif silence >= least:
            where = 0 if place == 0 else len(codes)
            codes.insert(where, PAUSE)
            starts.insert(where, np.False_)
    return PhonemeSequence(tuple(codes), np.array(starts))


def adjust_inner_pauses(
    phonemes: PhonemeSequence,
    durations: Int64[np.ndarray, " phones"],
    silent: Bool[np.ndarray, " frames"],
    rate: float,
) -> tuple[PhonemeSequence, Int64[np.ndarray, " phones"]]:
    """Remove inner pauses where the recording is not silent, and add pauses where it is silent between words.

    **Arguments:** `durations`, those of the current alignment in frames; `rate`, the number of frames per second.

    **Returns:** the phonemes and their durations, whose sum does not change.
    """
    slack, runs = round(_SLACK * rate), true_runs(silent)
    edges = np.concatenate([[0], np.cumsum(durations)])
    last = len(phonemes.codes) - 1
    found = {
        place: _longest(runs, edges[place] - slack, edges[place + 1] + slack)
        for place, code in enumerate(phonemes.codes)
        if code == PAUSE and 0 < place < last
    }
    dropped = {place for place, (_, length) in found.items() if length < _SHORTEST * rate}
    taken = {begin for place, (begin, _) in found.items() if place not in dropped}
    new = _new_pauses(phonemes, edges, runs, taken, rate)
    codes: list[str] = []
    starts: list[bool] = []
    times: list[float] = []
    moved: float | None = None
    for place, code in enumerate(phonemes.codes):
        if place in dropped:
            moved = (edges[place] + edges[place + 1]) / 2  # start of the next phoneme
            continue
        if place in new:
            begin, length = new[place]
            codes.append(PAUSE)
            starts.append(False)
            times.append(begin)
            moved = begin + length
        codes.append(code)
        starts.append(bool(phonemes.word_starts[place]))
        times.append(edges[place] if moved is None else moved)
        moved = None
    frames = int(edges[-1])
    adjusted = durations_between(np.array([*times, frames], np.float64), frames)
    return PhonemeSequence(tuple(codes), np.array(starts)), adjusted


def _new_pauses(
    phonemes: PhonemeSequence,
    edges: Int64[np.ndarray, " edges"],
    runs: Int64[np.ndarray, "runs 2"],
    taken: set[int],
    rate: float,
) -> dict[int, tuple[int, int]]:
    """The first frame and the length of the silence before each word that gets a new pause, by phoneme index.

    Silence at the ends and in existing pauses (whose first frames are `taken`) is excluded. Every word that begins near
    other silence gets a pause; the next warping determines which of these pauses remain.
    """
    slack, found = round(_SLACK * rate), dict[int, tuple[int, int]]()
    for place in range(1, len(phonemes.codes)):
        around = {phonemes.codes[place - 1], phonemes.codes[place]}
        if not phonemes.word_starts[place] or PAUSE in around:
            continue
        begin, length = _longest(runs, edges[place] - slack, edges[place] + slack)
        least = _SHORTEST_AT_STOPS if around & _STOPS else _SHORTEST_NEW
        if length < least * rate or begin in taken or begin == 0 or begin + length == edges[-1]:
            continue
        found[place] = begin, length
    return found


def _longest(runs: Int64[np.ndarray, "runs 2"], start: int, stop: int) -> tuple[int, int]:
    """The first frame and the length of the longest of `runs` that overlaps or touches `start` to `stop`."""
    near = runs[(runs[:, 0] <= stop) & (runs[:, 1] >= start)]
    if not len(near):
        return 0, 0
    begin, end = near[np.argmax(near[:, 1] - near[:, 0])]
    return int(begin), int(end - begin)


def _outer_pauses(phonemes: PhonemeSequence) -> Bool[np.ndarray, " phones"]:
    pauses = phonemes.pauses
    pauses[1:-1] = False
    return pauses


def _with_outer_silence(
    phonemes: PhonemeSequence, predicted: Int64[np.ndarray, " phones"], outside: tuple[int, int]
) -> Int64[np.ndarray, " phones"]:
    """`predicted` with the durations of pauses at the ends replaced by the length of the silence there."""
    durations = predicted.copy()
    for place, silence in zip((0, -1), outside, strict=True):
        if phonemes.codes[place] == PAUSE:
            durations[place] = silence
    return durations


def _scale_to(
    durations: Int64[np.ndarray, " phones"], fixed: Bool[np.ndarray, " phones"], frames: int
) -> Int64[np.ndarray, " phones"]:
    """`durations` with all but the `fixed` ones scaled, so that the sum is `frames`."""
    wanted = durations.astype(np.float64)
    wanted[~fixed] *= max(0.0, frames - wanted[fixed].sum()) / max(1.0, wanted[~fixed].sum())
    return durations_between(np.concatenate([[0], np.cumsum(wanted)]), frames)


def _check_phoneme_count(name: str, phonemes: PhonemeSequence, frames: int) -> None:
    if len(phonemes.codes) > frames:
        raise AlignmentError(
            "too fast",
            f"The number of phonemes in {name} is {len(phonemes.codes)}; it should be at most {frames}, the number of "
            "frames. Check that the text matches the audio.",
        )


def _check_speed(name: str, speed: float, phones: int, seconds: float) -> None:
    if not _SLOWEST <= speed <= _FASTEST:
        raise AlignmentError(
            "length",
            f"The speed of {name} is {speed:.2g} times the speed of the model ({phones} phonemes in {seconds:.2f} s); "
            f"it should be {_SLOWEST:.2g} to {_FASTEST:g} times. Check that the text matches the audio.",
        )

"""Forced alignment: when each phoneme of a recording is heard, found with the help of a text-to-speech model."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from jaxvoice.data.aligned.alignment import Alignment, Misfit
from jaxvoice.data.audio import resample
from jaxvoice.data.preflight import SILENCE
from jaxvoice.data.store import PEAK
from jaxvoice.dsp.mel import bucketed_log_mel
from jaxvoice.errors import AudioError, ConfigError
from jaxvoice.pipelines.acoustics import Line
from jaxvoice.pipelines.checks import usable_audio
from jaxvoice.pipelines.lines import usable_phonemes, usable_text
from jaxvoice.pipelines.quiet import Row, quiet_frames, silence_around, with_inner_pauses, with_outer_pauses
from jaxvoice.pipelines.synthesizer import Synthesizer
from jaxvoice.pipelines.warping import features, warp, whole_frames
from jaxvoice.text.front_end import CustomWords, pronounce
from jaxvoice.text.phonemes import PAUSE

MOST_FRAMES = 4000
"""Longest recording, in frames: the time and memory of the search grow with its square."""
_REVISIONS = 3
_SLOWEST, _FASTEST = 1 / 3, 3.0


@dataclass(frozen=True)
class ForcedAlignment:
    """Which phonemes of a recording are when, and how well they fit."""

    alignment: Alignment
    """The phonemes and their boundaries in seconds, which lie between frames; the last is where the mel ends."""
    durations: Int64[np.ndarray, " phones"]
    """How many frames each phoneme lasts, at least 1; they add up to the frames of `mel`."""
    cost: float
    """Mean distance of the frames of the recording from those of the model. About 0.3 in the model's own voice, up to
    1 in others; a tenth more, or several times as much in its own voice, where the text is not what is said."""
    speed: float
    """How many times faster than the model the voice speaks, pauses left out."""
    mel: Float32[np.ndarray, "mels frames"] = field(repr=False)
    """The log-mel spectrogram of the recording, of the model's contract."""


class Aligner:
    """Finds the phonemes of recordings whose text is known.

    The model says the phonemes, with durations that it predicts; dynamic time warping between what it says and the
    recording carries their boundaries over. The voice need not be that of the model.

    **Attributes:** `mel`, the contract of the mels that are compared; `phone_set`, the model's phonemes.

    Source: Malfrere and Dutoit 1997, "High-quality speech synthesis for phonetic speech segmentation".
    """

    def __init__(self, synthesizer: Synthesizer | str | Path):
        """**Arguments:** `synthesizer`, or the model folder, run folder or Hub id of one.

        **Raises:** what `Synthesizer.load` does if there is no model; `ConfigError` for anything else.
        """
        loaded = Synthesizer.load(synthesizer) if isinstance(synthesizer, str | Path) else synthesizer
        if not isinstance(loaded, Synthesizer):
            raise ConfigError(
                f"An aligner needs a Synthesizer, or the path or Hub id of one, got {type(loaded).__name__}."
            )
        self._acoustics, self._peak_normalize = loaded.acoustics, loaded.config.peak_normalize
        self.mel, self.phone_set = loaded.config.mel, loaded.phone_set

    def align(
        self,
        audio: Float[Any, " samples"],
        sample_rate: float,
        text: str,
        *,
        custom_words: CustomWords | None = None,
        name: str = "utterance",
    ) -> ForcedAlignment:
        """Align `audio`, at `sample_rate` (Hz), with an English text.

        A pause (`pau`) begins and ends the phonemes where the recording does so in silence. Pauses at punctuation are
        left out where it is not silent, and are put between words where it is.

        **Arguments:** `custom_words`, their phonemes, and phonemes in braces are as for `Synthesizer.speak`; `name`,
        the id of the alignment.

        **Raises:** `TextError` for a text that cannot be said; `AudioError` for audio that is silent, no audio, or
        shorter than a frame; `Misfit` (a `DataError`) for audio of more than 4,000 frames, more phonemes than frames,
        and a text that would be said three times faster or slower than the model does; `CheckpointError` for a model
        that makes no numbers.
        """
        said = pronounce(usable_text(text), custom_words, phone_set=self.phone_set)
        starts = np.cumsum([0, *(len(word.codes) for word in said.words)])
        repeated = [(code, after) == (PAUSE, PAUSE) for code, after in pairwise(said.codes)]
        places = np.flatnonzero(~np.array([False, *repeated]))
        row = Row(tuple(said.codes[place] for place in places), np.isin(places, starts))
        mel = self._mel(audio, sample_rate, name)
        row = with_outer_pauses(row, quiet_frames(mel, self.mel), self._rate)
        return self._align(mel, row, name, free=True)

    def align_phonemes(
        self,
        audio: Float[Any, " samples"],
        sample_rate: float,
        phonemes: str | Sequence[str],
        *,
        name: str = "utterance",
    ) -> ForcedAlignment:
        """Align `audio`, at `sample_rate` (Hz), with just these phonemes, pauses included.

        **Arguments:** `phonemes`, codes of `phone_set` or ARPAbet, as a sequence or in one string with spaces between;
        ARPAbet is spelt in codes of the set.

        **Raises:** as `align`; `TextError` for no phonemes, or unknown ones (the nearest are named).
        """
        codes = usable_phonemes(phonemes, self.phone_set)
        row = Row(codes, np.zeros(len(codes), bool))
        return self._align(self._mel(audio, sample_rate, name), row, name, free=False)

    @property
    def _rate(self) -> float:
        return self.mel.sample_rate / self.mel.hop_length

    def _mel(self, audio: Any, sample_rate: float, name: str) -> Float32[np.ndarray, "mels frames"]:
        samples = resample(usable_audio(audio), sample_rate, self.mel.sample_rate)
        if (frames := len(samples) // self.mel.hop_length) > MOST_FRAMES:
            raise Misfit(
                "too long",
                f"{name} lasts {frames / self._rate:.0f} s ({frames} frames), and {MOST_FRAMES} frames can be aligned "
                "at once; cut it at pauses.",
            )
        peak = float(np.abs(samples).max())
        if peak < SILENCE:
            raise AudioError(f"{name} is silent (its peak is {peak:.1e}); remove it or record it again.")
        return bucketed_log_mel(samples * np.float32(PEAK / peak) if self._peak_normalize else samples, self.mel)

    def _align(self, mel: Float32[np.ndarray, "mels frames"], row: Row, name: str, *, free: bool) -> ForcedAlignment:
        """Align `mel` with `row`; `free` says whether pauses may come and go."""
        frames, recorded = mel.shape[1], features(mel, self.mel)
        quiet = quiet_frames(mel, self.mel)
        outside = silence_around(quiet)
        _check_room(name, row, frames)
        predicted = self._say(row, None)[1]
        spoken = int(predicted[~_pauses(row)].sum())
        _check_speed(name, spoken / max(1, frames - sum(outside)), len(row.codes), frames / self._rate)
        wanted = _with_outer_silence(row, predicted, outside)
        durations, cost = self._warped(row, _filling(wanted, _outer_pauses(row), frames), recorded)
        for _ in range(_REVISIONS if free else 0):
            better, found = with_inner_pauses(row, durations, quiet, self._rate)
            if better.codes == row.codes:
                break
            row, pauses = better, _pauses(better)
            _check_room(name, row, frames)
            found[~pauses] = self._say(row, None)[1][~pauses]
            durations, cost = self._warped(row, _filling(found, pauses, frames), recorded)
        boundaries = np.concatenate([[0], np.cumsum(durations)]) / self._rate
        voiced = int(durations[~_pauses(row)].sum())
        return ForcedAlignment(Alignment(name, row.codes, boundaries), durations, cost, spoken / max(1, voiced), mel)

    def _warped(
        self, row: Row, durations: Int64[np.ndarray, " phones"], recorded: Float[np.ndarray, "features frames"]
    ) -> tuple[Int64[np.ndarray, " phones"], float]:
        """Durations in the recording and the cost, once the model has said `row` with `durations`."""
        said, lasting = self._say(row, durations)
        edges, cost = warp(np.concatenate([[0], np.cumsum(lasting)]), features(said, self.mel), recorded)
        return whole_frames(edges, recorded.shape[1]), cost

    def _say(
        self, row: Row, durations: Int64[np.ndarray, " phones"] | None
    ) -> tuple[Float32[np.ndarray, "mels spoken_frames"], Int64[np.ndarray, " phones"]]:
        """The mel of `row`, and its durations: those given, none of them longer than the model is at ease with."""
        if durations is not None:
            durations = np.minimum(durations, max(1, self._acoustics.max_frames // 4))
        ids = np.array(self.phone_set.ids(row.codes), np.int32)
        said = self._acoustics([Line(row.codes, ids, row.word_starts, durations)])[0]
        return said.mel, said.durations


def _pauses(row: Row) -> Bool[np.ndarray, " phones"]:
    return np.array([code == PAUSE for code in row.codes])


def _outer_pauses(row: Row) -> Bool[np.ndarray, " phones"]:
    pauses = _pauses(row)
    pauses[1:-1] = False
    return pauses


def _with_outer_silence(
    row: Row, predicted: Int64[np.ndarray, " phones"], outside: tuple[int, int]
) -> Int64[np.ndarray, " phones"]:
    """`predicted` durations, but those of pauses at the ends are what is silent there."""
    durations = predicted.copy()
    for place, silence in zip((0, -1), outside, strict=True):
        if row.codes[place] == PAUSE:
            durations[place] = silence
    return durations


def _filling(
    durations: Int64[np.ndarray, " phones"], kept: Bool[np.ndarray, " phones"], frames: int
) -> Int64[np.ndarray, " phones"]:
    """`durations` that add up to `frames`, all but those `kept` scaled."""
    wanted = durations.astype(np.float64)
    wanted[~kept] *= max(0.0, frames - wanted[kept].sum()) / max(1.0, wanted[~kept].sum())
    return whole_frames(np.concatenate([[0], np.cumsum(wanted)]), frames)


def _check_room(name: str, row: Row, frames: int) -> None:
    if len(row.codes) > frames:
        raise Misfit(
            "too fast",
            f"{name} has {len(row.codes)} phonemes in {frames} frames; its text is not that of its audio.",
        )


def _check_speed(name: str, speed: float, phones: int, seconds: float) -> None:
    if not _SLOWEST <= speed <= _FASTEST:
        raise Misfit(
            "length",
            f"{name} has {phones} phonemes in {seconds:.2f} s of audio, {speed:.2g} times the speed of the model; "
            f"from {_SLOWEST:.2g} to {_FASTEST:g} can be aligned. Its text is hardly that of its audio.",
        )

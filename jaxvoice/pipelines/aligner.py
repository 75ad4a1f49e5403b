"""Forced alignment of recordings with their text, with a text-to-speech model."""

import dataclasses
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxvoice.data.alignments.alignment import Alignment, AlignmentError, Interval
from jaxvoice.data.audio import SILENCE, resample
from jaxvoice.data.store import PEAK
from jaxvoice.dsp.mel import bucketed_log_mel
from jaxvoice.errors import AudioError, ConfigError
from jaxvoice.models.gaussian_tts.forced_alignment import (
    ForcedAligner,
    ForcedAlignment as ForcedAlignment,
    PhonemeSequence,
)
from jaxvoice.pipelines.argument_checks import validate_audio, validate_phonemes, validate_text
from jaxvoice.pipelines.sources import load_with_method
from jaxvoice.pipelines.synthesizer import Synthesizer
from jaxvoice.pipelines.vocoder import Mel
from jaxvoice.text.custom_words import CustomWords
from jaxvoice.text.front_end import Word, pronounce
from jaxvoice.text.phonemes import PAUSE

MAX_FRAMES = 4000
"""Frames of the longest recording. Time and memory of the alignment grow with the square of its length."""


class Aligner:
    """Forced aligner: finds the times of phonemes in recordings whose text is known.

    The text-to-speech model synthesises the phonemes with predicted durations. Dynamic time warping aligns the
    synthesised mel spectrogram with that of the recording, and maps the phoneme boundaries. The voice of the recording
    may differ from that of the model.

    **Attributes:** `mel`, the mel contract of the comparison; `phone_set`, the model's phonemes.

    Source: Malfrere and Dutoit 1997, "High-quality speech synthesis for phonetic speech segmentation".
    """

    def __init__(self, synthesizer: Synthesizer | str | Path):
        """**Arguments:** `synthesizer`: a `Synthesizer`, or the model folder, run folder or Hub id of one.

        **Raises:** the errors of `Synthesizer.load`; `ConfigError` for another kind of model or argument.
        """
        loaded = synthesizer
        if isinstance(synthesizer, str | Path):
            loaded = load_with_method(synthesizer, "speak", "a text-to-speech model")
        if not isinstance(loaded, Synthesizer):
            raise ConfigError(
                f"synthesizer has type {type(loaded).__name__}; it should be a Synthesizer, or the path or Hub id of "
                "one."
            )
        self._peak_normalize = loaded.config.peak_normalize
        self.mel, self.phone_set = loaded.config.mel, loaded.phone_set
        self._align = ForcedAligner(loaded.acoustic_inference, self.phone_set, self.mel)

    def __repr__(self) -> str:
        return f"Aligner({self.mel.sample_rate} Hz, {len(self.phone_set.codes)} phonemes of {self.phone_set.name!r})"

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

        A pause (`pau`) is inserted at the start, at the end and between words if the recording is silent there. Pauses
        at punctuation are removed if the recording is not silent there. `words` of the result are the times of words.

        **Arguments:** `text`, which may contain phonemes in braces; `custom_words`, as for `Synthesizer.speak`; `name`,
        the id of the alignment, also used in errors.

        **Raises:** `TextError` for a text that cannot be pronounced; `AudioError` for audio that is silent, empty or
        shorter than a frame; `AlignmentError` (a `DataError`) for more than 4,000 frames, more phonemes than frames,
        and speech less than 1/3 or more than 3 times as fast as the model's; `CheckpointError` if the model returns
        NaN or infinity.
        """
        pronunciation = pronounce(validate_text(text), custom_words, phone_set=self.phone_set)
        word_starts = np.cumsum([0, *(len(word.codes) for word in pronunciation.words)])
        repeated_pauses = [(code, after) == (PAUSE, PAUSE) for code, after in pairwise(pronunciation.codes)]
        kept = np.flatnonzero(~np.array([False, *repeated_pauses]))
        phonemes = PhonemeSequence(tuple(pronunciation.codes[index] for index in kept), np.isin(kept, word_starts))
        found = self._align(self._mel(audio, sample_rate, name), phonemes, name, adjust_pauses=True)
        return dataclasses.replace(found, words=_word_times(pronunciation.words, found.alignment))

    def align_phonemes(
        self,
        audio: Float[Any, " samples"],
        sample_rate: float,
        phonemes: str | Sequence[str],
        *,
        name: str = "utterance",
    ) -> ForcedAlignment:
        """Align `audio`, at `sample_rate` (Hz), with exactly the given phonemes; no pause is inserted or removed.

        **Arguments:** `phonemes`, codes of `phone_set` or ARPAbet, as a sequence or as a string separated by spaces.
        ARPAbet is converted to codes of the set. `name`, as for `align`.

        **Raises:** the errors of `align`; `TextError` for an empty sequence and for unknown codes (with the nearest
        ones).
        """
        codes = validate_phonemes(phonemes, self.phone_set)
        sequence = PhonemeSequence(codes, np.zeros(len(codes), bool))
        return self._align(self._mel(audio, sample_rate, name), sequence, name, adjust_pauses=False)

    def _mel(self, audio: Any, sample_rate: float, name: str) -> Mel:
        samples = resample(validate_audio(audio), sample_rate, self.mel.sample_rate)
        if (frames := len(samples) // self.mel.hop_length) > MAX_FRAMES:
            raise AlignmentError(
                "too long",
                f"{name} is {len(samples) / self.mel.sample_rate:.0f} s long ({frames} frames); it should have at most "
                f"{MAX_FRAMES} frames. Cut the recording at pauses.",
            )
        peak = float(np.abs(samples).max())
        if peak < SILENCE:
            raise AudioError(f"{name} is silent (its peak is {peak:.1e}); remove it or record it again.")
        return bucketed_log_mel(samples * np.float32(PEAK / peak) if self._peak_normalize else samples, self.mel)


def _word_times(words: Sequence[Word], alignment: Alignment) -> tuple[Interval, ...]:
    """The times of `words`, without punctuation. Only the pauses of `alignment` differ from the codes of the words."""
    spoken = [place for place, code in enumerate(alignment.phones) if code != PAUSE]
    found: list[Interval] = []
    for word in words:
        count = sum(code != PAUSE for code in word.codes)
        if count:
            first, last, spoken = spoken[0], spoken[count - 1], spoken[count:]
            start, end = alignment.boundaries[[first, last + 1]].tolist()
            found.append(Interval(word.text, start, end))
    return tuple(found)

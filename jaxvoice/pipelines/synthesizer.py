"""Text to speech: text or phonemes to audio, with mel spectrogram, durations and alignment at hand."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
from jaxtyping import Float32, Int64

from jaxvoice.errors import ConfigError
from jaxvoice.models.gaussian_tts.acoustic import BatchNormStates, GaussianTTS
from jaxvoice.models.gaussian_tts.config import GaussianTTSConfig
from jaxvoice.models.gaussian_tts.weights import load_model
from jaxvoice.pipelines.acoustics import Acoustics, Block, Line
from jaxvoice.pipelines.lines import (
    durations_of_several,
    several,
    telling,
    usable_durations,
    usable_phonemes,
    usable_text,
)
from jaxvoice.pipelines.sources import find_model_folder, print_licence
from jaxvoice.pipelines.voices import AnyVocoder, Voice, check_seed
from jaxvoice.text.front_end import CustomWords, Mode, pronounce, spell_custom_words
from jaxvoice.text.phonemes import PhoneSet

_SLOWEST, _FASTEST = 0.1, 10.0

Phonemes = str | Sequence[str]
Durations = Any
"""Whole numbers of frames, one for each phoneme: a sequence or an array."""


@dataclass(frozen=True)
class Speech:
    """What was said, and what it was made from."""

    audio: Float32[np.ndarray, " samples"]
    """Waveform within [-1, 1]: `sum(durations)` times the hop length of the mel contract."""
    sample_rate: int
    """Its sample rate in Hz."""
    mel: Float32[np.ndarray, "mels frames"]
    """The log-mel spectrogram of the model's contract."""
    phonemes: tuple[str, ...]
    """The codes that were said."""
    durations: Int64[np.ndarray, " phones"]
    """How many frames each lasts."""
    blocks: tuple[Block, ...] = field(repr=False)
    """The alignment, one block for each piece that was said at once."""

    @cached_property
    def alignment(self) -> Float32[np.ndarray, "frames phones"]:
        """How much of each phoneme is in each frame; rows sum to 1.

        Made when asked for: for an hour of speech it does not fit into memory, and `blocks` does.
        """
        weights = np.zeros((self.mel.shape[1], len(self.phonemes)), np.float32)
        for block in self.blocks:
            frames, phones = block.weights.shape
            weights[block.frame : block.frame + frames, block.phone : block.phone + phones] = block.weights
        return weights


class Synthesizer:
    """A phoneme-to-mel model and a vocoder made convenient: text in, audio out, of any length, one or many.

    `speak(text).audio[None]` is what `TextToSpeechSynthesizer.synthesize_from_text` of LJ-Speech-aligned's baselines
    returns, of shape `(1, samples)`; `speak_phonemes(phonemes, durations).audio[None]` is what its
    `synthesize_from_phonemes` does.

    **Attributes:** `config`, the model's; `phone_set`, its phonemes; `voice`, what makes audio of mels; `acoustics`,
    what makes mels of phonemes.
    """

    def __init__(
        self,
        model: GaussianTTS,
        norms: BatchNormStates,
        config: GaussianTTSConfig,
        vocoder: AnyVocoder = None,
        *,
        max_phones: int | None = None,
        max_frames: int | None = None,
    ):
        """**Arguments:**

        - `model`, `norms`, `config`: the networks, the running statistics of their batch norms, the configuration, as
            `load_model` gives them.
        - `vocoder`: a `Vocoder`, the path or Hub id of one, any function from mel (mels, frames) to audio (samples,),
            or `None` for Griffin-Lim; see `jaxvoice.pipelines.voices.Voice` for vocoders of another mel flavour.
        - `max_phones`, `max_frames`: the longest piece to say at once, by default the positions that the model has
            learned; give the longest utterance of its corpus where that is shorter.

        **Raises:** `MelError` if the vocoder reads other mel spectrograms than the model makes; `ConfigError` for
        limits beyond the positions; `CheckpointError` if there is no vocoder at the path.
        """
        self.config = config
        self.phone_set = PhoneSet(config.phone_set, config.codes)
        self.acoustics = Acoustics(model, norms, config, max_phones=max_phones, max_frames=max_frames)
        self.voice = Voice(vocoder, config.mel)

    @classmethod
    def load(
        cls,
        path: str | Path,
        vocoder: AnyVocoder = None,
        *,
        max_phones: int | None = None,
        max_frames: int | None = None,
    ) -> "Synthesizer":
        """The model at `path`: a model folder, a run folder (its best model), or a Hub id `owner/name` (extra `hub`).

        The other arguments and errors are those of the class. Prints the licence of the weights to stderr where it is
        known.

        **Raises:** `CheckpointError`, `ConfigError` or `MissingExtraError` if there is no model, or a damaged one.
        """
        if not isinstance(path, str | os.PathLike):
            raise ConfigError(f"A model should be a path or a Hub id, got {type(path).__name__}.")
        folder = find_model_folder(path)
        model, norms, config = load_model(folder)
        print_licence(folder)
        return cls(model, norms, config, vocoder, max_phones=max_phones, max_frames=max_frames)

    @property
    def sample_rate(self) -> int:
        """Sample rate of the audio it makes, in Hz."""
        return self.config.mel.sample_rate

    @property
    def hop_length(self) -> int:
        """Samples it makes of a frame."""
        return self.config.mel.hop_length

    @overload
    def speak(
        self,
        text: str,
        *,
        speed: float = 1.0,
        custom_words: CustomWords | None = None,
        seed: int = 0,
        mode: Mode = "default",
    ) -> Speech: ...

    @overload
    def speak(
        self,
        text: Sequence[str],
        *,
        speed: float = 1.0,
        custom_words: CustomWords | None = None,
        seed: int = 0,
        mode: Mode = "default",
    ) -> list[Speech]: ...

    def speak(
        self,
        text: str | Sequence[str],
        *,
        speed: float = 1.0,
        custom_words: CustomWords | None = None,
        seed: int = 0,
        mode: Mode = "default",
    ) -> Speech | list[Speech]:
        """Say an English text, or each of several.

        **Arguments:**

        - `text`: of any length; long ones are cut at pauses. Phonemes can be written in braces: `{HH AH0 L OW1} you`.
        - `speed`: 2 is twice as fast as usual; from 0.1 to 10.
        - `custom_words`: words and their phonemes, which come before the dictionary.
        - `seed`: of the phases that Griffin-Lim starts from; vocoders need none.
        - `mode`: how text is read, see `jaxvoice.text.pronounce`.

        **Returns:** a `Speech`, or a list of them.

        **Raises:** `TextError` for a text with nothing to say, in another script, or with unknown phonemes, and for
        what is no text; `ConfigError` for a speed or seed out of range; `CheckpointError` for a model that makes no
        numbers. Warns with `JaxvoiceWarning` where a long text has no pause. Of several texts the message says which.
        """
        alone = isinstance(text, str)
        texts = [text] if alone else several(text, "A text should be a string, or several in a list")
        customs = spell_custom_words(custom_words or {}, self.phone_set)
        lines = [self._read(one, customs, mode, "" if alone else f"text {n}") for n, one in enumerate(texts, 1)]
        said = self._say(lines, speed, seed)
        return said[0] if alone else said

    @overload
    def speak_phonemes(
        self, phonemes: Phonemes, durations: Durations | None = None, *, speed: float = 1.0, seed: int = 0
    ) -> Speech: ...

    @overload
    def speak_phonemes(
        self,
        phonemes: Sequence[Sequence[str]],
        durations: Sequence[Durations | None] | None = None,
        *,
        speed: float = 1.0,
        seed: int = 0,
    ) -> list[Speech]: ...

    def speak_phonemes(self, phonemes: Any, durations: Any = None, *, speed: float = 1.0, seed: int = 0) -> Any:
        """Say phonemes, with durations of your own if you like.

        **Arguments:**

        - `phonemes`: codes of `phone_set` or ARPAbet, as a sequence or in one string with spaces between; or a list of
            sequences. ARPAbet is spelt in codes of the set, as in braces: of ER0 come EU0 and R.
        - `durations`: frames for each phoneme, whole numbers from 1 on; `None` predicts them. For a list of sequences a
            list, in which `None` may stand too.
        - `speed`, `seed`: as for `speak`; `speed` is for durations that are predicted.

        **Returns:** a `Speech`, or a list of them.

        **Raises:** `TextError` for no phonemes, or unknown ones (the nearest are named), or one too long to be said,
        or, with durations given, one that is spelt with two codes; `ShapeError` for durations that do not fit;
        `ConfigError` for a speed or seed out of range, or a speed with durations given; `CheckpointError` for a model
        that makes no numbers. Of several sequences the message says which.
        """
        if isinstance(phonemes, str):
            phonemes = phonemes.split()
        phonemes = several(phonemes, "Phonemes should be codes in a sequence or a string, or a list of sequences")
        if not phonemes or isinstance(phonemes[0], str):
            return self._say([self._line(phonemes, durations)], speed, seed)[0]
        pairs = zip(phonemes, durations_of_several(durations, len(phonemes)), strict=True)
        return self._say([self._line(*pair, f"sequence {n}") for n, pair in enumerate(pairs, 1)], speed, seed)

    def warm_up(self, *, longest: float | None = None, batch: int = 1) -> None:
        """Compile beforehand what texts of usual length and tempo need, so that the first is not kept waiting.

        Very short texts, tempos far from the usual, and pieces of long texts that are said at once on a GPU or TPU may
        still compile a program of their own.

        **Arguments:** `longest`, the longest speech to get ready for, in seconds; by default, and at most, what the
        model says at once. `batch`, as many texts as `speak` is given at once.

        **Raises:** `ConfigError` for numbers that are not positive.
        """
        seconds = self.acoustics.max_frames * self.hop_length / self.sample_rate if longest is None else longest
        if not seconds > 0 or batch < 1:
            raise ConfigError(f"longest and batch should be positive, got {longest} and {batch}.")
        most = min(self.acoustics.max_frames, math.ceil(seconds * self.sample_rate / self.hop_length))
        for phones, frames in self.acoustics.usual_sizes(most):
            durations = np.diff(np.arange(phones + 1) * frames // phones)
            line = Line(
                (self.phone_set.codes[0],) * phones, np.ones(phones, np.int32), np.zeros(phones, bool), durations
            )
            self._say([line] * batch, 1.0, 0)

    def _read(self, text: Any, custom_words: CustomWords, mode: Mode, name: str) -> Line:
        with telling(name):
            said = pronounce(usable_text(text), custom_words, mode=mode, phone_set=self.phone_set)
        line = self._line(said.codes, None, name)
        starts = np.cumsum([0, *(len(word.codes) for word in said.words)])
        line.word_starts[starts[starts < len(line.codes)]] = True
        return line

    def _line(self, phonemes: Any, durations: Durations | None, name: str = "") -> Line:
        with telling(name):
            codes = usable_phonemes(phonemes, self.phone_set, spell=durations is None)
            frames = None if durations is None else usable_durations(durations, len(codes))
        ids = np.array(self.phone_set.ids(codes), np.int32)
        return Line(codes, ids, np.zeros(len(codes), bool), frames, name)

    def _say(self, lines: Sequence[Line], speed: float, seed: int) -> list[Speech]:
        _check_speed(speed)
        check_seed(seed)
        if speed != 1 and any(line.durations is not None for line in lines):
            raise ConfigError(f"speed is {speed}, but durations are given; leave one of them out.")
        spoken = self.acoustics(lines, speed=speed)
        audio = self.voice([one.mel for one in spoken], seed=seed)
        return [
            Speech(samples, self.sample_rate, one.mel, line.codes, one.durations, one.blocks)
            for samples, one, line in zip(audio, spoken, lines, strict=True)
        ]


def _check_speed(speed: Any) -> None:
    number = isinstance(speed, int | float | np.floating | np.integer) and not isinstance(speed, bool)
    if not number or not _SLOWEST <= speed <= _FASTEST:
        raise ConfigError(
            f"speed should be a number from {_SLOWEST:g} to {_FASTEST:g}, 1 for the usual and 2 for twice as fast, got "
            f"{speed!r}."
        )

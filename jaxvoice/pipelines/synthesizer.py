"""Text to speech: text or phonemes to audio, with the mel spectrogram, the durations and the alignment."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
from jaxtyping import Float32, Int, Int64

from jaxvoice.data.alignments.frame_durations import validate_durations
from jaxvoice.errors import ConfigError
from jaxvoice.models.gaussian_tts.acoustic import BatchNormStates
from jaxvoice.models.gaussian_tts.config import GaussianTTSConfig
from jaxvoice.models.gaussian_tts.family import FAMILY
from jaxvoice.models.gaussian_tts.inference import AcousticInference, AlignmentBlock, PhonemeInput
from jaxvoice.models.gaussian_tts.networks import GaussianTTS
from jaxvoice.pipelines.argument_checks import (
    as_list,
    check_seed,
    durations_per_sequence,
    error_context,
    validate_phonemes,
    validate_text,
)
from jaxvoice.pipelines.mel_to_audio import AnyVocoder, MelToAudio
from jaxvoice.pipelines.sources import load_for, print_notices
from jaxvoice.text.custom_words import CustomWords, spell_custom_words
from jaxvoice.text.front_end import PronunciationMode, pronounce
from jaxvoice.text.phonemes import PhoneSet

BLANK = "·"
"""The blank between the symbols of a VITS in `Speech.phonemes`."""
_MIN_SPEED, _MAX_SPEED = 0.1, 10.0


@dataclass(frozen=True)
class Speech:
    """Synthesised speech and its intermediate results."""

    audio: Float32[np.ndarray, " samples"]
    """Waveform within [-1, 1]: `sum(durations)` times the hop length of the mel contract."""
    sample_rate: int
    """Its sample rate in Hz."""
    mel: Float32[np.ndarray, "mels frames"]
    """Log-mel spectrogram under the model's contract."""
    phonemes: tuple[str, ...]
    """Codes of the phonemes; for a VITS its symbols, with the `BLANK` between them."""
    durations: Int64[np.ndarray, " phones"]
    """Duration of each phoneme in frames."""
    blocks: tuple[AlignmentBlock, ...]
    """Alignment, in one block for each piece of the text that was synthesised at once."""

    def __repr__(self) -> str:
        seconds = len(self.audio) / self.sample_rate
        return (
            f"Speech({seconds:.2f} s at {self.sample_rate} Hz, {self.num_symbols} symbols, {self.mel.shape[1]} frames)"
        )

    @property
    def num_symbols(self) -> int:
        """Number of phonemes, or of the symbols of a VITS, without blanks."""
        return sum(phoneme != BLANK for phoneme in self.phonemes)

    @cached_property
    def alignment(self) -> Float32[np.ndarray, "frames phones"]:
        """Weight of each phoneme in each frame; rows sum to 1.

        It is computed on first access. For an hour of speech it does not fit in memory; use `blocks` instead.
        """
        weights = np.zeros((self.mel.shape[1], len(self.phonemes)), np.float32)
        for block in self.blocks:
            frames, phones = block.weights.shape
            weights[block.frame : block.frame + frames, block.phone : block.phone + phones] = block.weights
        return weights


class Synthesizer:
    """A phoneme-to-mel model and a vocoder: text of any length to audio, for one text or several.

    `speak(text).audio[None]`, of shape `(1, samples)`, corresponds to the result of
    `TextToSpeechSynthesizer.synthesize_from_text` in the baselines of LJ-Speech-aligned, and
    `speak_phonemes(phonemes, durations).audio[None]` to that of its `synthesize_from_phonemes`.

    **Attributes:** `config`, the configuration of the model; `phone_set`, its phonemes; `acoustic_inference`, which
    computes mels from phonemes; `mel_to_audio`, which computes audio from mels.
    """

    def __init__(
        self,
        model: GaussianTTS,
        norms: BatchNormStates,
        config: GaussianTTSConfig,
        vocoder: AnyVocoder = None,
        *,
        vocoder_options: Mapping[str, Any] | None = None,
        max_phones: int | None = None,
        max_frames: int | None = None,
    ):
        """**Arguments:**

        - `model`, `norms`, `config`: the networks, the running statistics of their batch norms, and their
            configuration.
        - `vocoder`: a `Vocoder`, the path or Hub id of one, a function from mel (mels, frames) to audio (samples,), or
            `None` for Griffin-Lim. See `jaxvoice.pipelines.mel_to_audio.MelToAudio` for vocoders of another contract.
        - `vocoder_options`: keyword arguments of the vocoder's `synthesize`, such as `{"sigma": 0.6}` for a WaveGlow.
        - `max_phones`, `max_frames`: the longest piece that is synthesised at once, by default the number of positions
            of the model. Set them to the longest utterance of its corpus if that is shorter.

        **Raises:** `MelError` if the vocoder reads another mel contract than the model's; `ConfigError` for limits
        above the number of positions, or options that the vocoder does not have; `CheckpointError` if there is no
        vocoder at the path.
        """
        self.config = config
        self.phone_set = PhoneSet(config.phone_set, config.codes)
        self.acoustic_inference = AcousticInference(model, norms, config, max_phones=max_phones, max_frames=max_frames)
        self.mel_to_audio = MelToAudio(vocoder, config.mel, vocoder_options)

    @classmethod
    def load(
        cls,
        path: str | Path,
        vocoder: AnyVocoder = None,
        *,
        vocoder_options: Mapping[str, Any] | None = None,
        max_phones: int | None = None,
        max_frames: int | None = None,
        **options: Any,
    ) -> Any:
        """Load the model at `path`: a model folder, a run folder (its best model), or a Hub id `owner/name`.

        The other arguments and errors are those of the class. The licence of the weights is printed to stderr if it is
        known, and a warning if the model was trained for few steps.

        **Arguments:** `options`, keyword arguments of the `load` of another family's pipeline, such as
        `encoder` of a `VITSSynthesizer`.

        **Returns:** a `Synthesizer`, or for a text-to-speech model of another family the pipeline of this family, which
        also has the method `speak`.

        **Raises:** `CheckpointError` or `ConfigError` for a missing or damaged model, a model of another kind, or an
        option that its pipeline does not have; `MissingExtraError` for a Hub id without the extra `hub`.
        """
        given = {"vocoder_options": vocoder_options, "max_phones": max_phones, "max_frames": max_frames}

        def own(folder: Path) -> Synthesizer:
            model, config = FAMILY.load_network(folder)
            print_notices(folder, FAMILY)
            return cls(model.networks, model.batch_norm, config, vocoder, **given)

        changed = {name: value for name, value in {"vocoder": vocoder, **given}.items() if value is not None}
        expected = "a text-to-speech model"
        return load_for(cls, path, "speak", expected, own=own, own_options=changed, options=options)

    def __repr__(self) -> str:
        vocoder = self.mel_to_audio.vocoder
        name = "Griffin-Lim" if vocoder is None else type(vocoder).__name__
        return f"Synthesizer({self.sample_rate} Hz, {len(self.phone_set.codes)} phonemes, vocoder {name})"

    @property
    def sample_rate(self) -> int:
        """Sample rate of the audio in Hz."""
        return self.config.mel.sample_rate

    @property
    def hop_length(self) -> int:
        """Samples of audio per frame."""
        return self.config.mel.hop_length

    @overload
    def speak(
        self,
        text: str,
        *,
        speed: float = 1.0,
        custom_words: CustomWords | None = None,
        seed: int = 0,
        mode: PronunciationMode = "default",
    ) -> Speech: ...

    @overload
    def speak(
        self,
        text: Sequence[str],
        *,
        speed: float = 1.0,
        custom_words: CustomWords | None = None,
        seed: int = 0,
        mode: PronunciationMode = "default",
    ) -> list[Speech]: ...

    def speak(
        self,
        text: str | Sequence[str],
        *,
        speed: float = 1.0,
        custom_words: CustomWords | None = None,
        seed: int = 0,
        mode: PronunciationMode = "default",
    ) -> Speech | list[Speech]:
        """Synthesise an English text, or each text of a list.

        **Arguments:**

        - `text`: a text of any length; long texts are split at pauses. It may contain phonemes in braces, as in
            `{HH AH0 L OW1} you`.
        - `speed`: relative speed from 0.1 to 10; 2 is twice as fast.
        - `custom_words`: words and their phonemes, which override the dictionary.
        - `seed`: seed of the initial phases of Griffin-Lim, or of the noise of a vocoder that has noise.
        - `mode`: how text is read; see `jaxvoice.text.pronounce`.

        **Returns:** a `Speech`, or a list of them.

        **Raises:** `TextError` for a text that has no words, is in another script or contains unknown phonemes, and for
        an argument that is not a string; `ConfigError` for a speed or seed out of range; `CheckpointError` if the model
        returns NaN or infinity. For a list, the message names the text. Warns with `JaxvoiceWarning` if a long text has
        too few pauses.
        """
        single = isinstance(text, str)
        texts = [text] if single else as_list(text, "text", "a string or a list of strings")
        customs = spell_custom_words(custom_words or {}, self.phone_set)
        inputs = [self._pronounce(one, customs, mode, "" if single else f"text {n}") for n, one in enumerate(texts, 1)]
        speech = self._synthesize(inputs, speed, seed)
        return speech[0] if single else speech

    @overload
    def speak_phonemes(
        self,
        phonemes: str | Sequence[str],
        durations: Int[Any, " phones"] | None = None,
        *,
        speed: float = 1.0,
        seed: int = 0,
    ) -> Speech: ...

    @overload
    def speak_phonemes(
        self,
        phonemes: Sequence[Sequence[str]],
        durations: Sequence[Int[Any, " phones"] | None] | None = None,
        *,
        speed: float = 1.0,
        seed: int = 0,
    ) -> list[Speech]: ...

    def speak_phonemes(self, phonemes: Any, durations: Any = None, *, speed: float = 1.0, seed: int = 0) -> Any:
        """Synthesise phonemes, with predicted or given durations.

        **Arguments:**

        - `phonemes`: codes of `phone_set` or ARPAbet, as a sequence or as a string separated by spaces; or a list of
            sequences. ARPAbet is converted to codes of the set: ER0 becomes EU0 R.
        - `durations`: the duration of each phoneme in frames, whole numbers of at least 1; `None` predicts them. For a
            list of sequences, a list of durations or `None`.
        - `speed`, `seed`: as for `speak`; `speed` applies to predicted durations only.

        **Returns:** a `Speech`, or a list of them.

        **Raises:** `TextError` for an empty sequence, unknown codes (with the nearest ones), a phoneme longer than the
        model's positions, and, with given durations, a code that becomes two; `ShapeError` for durations of another
        number or type; `ConfigError` for a speed or seed out of range, or a speed with given durations;
        `CheckpointError` if the model returns NaN or infinity. For a list, the message names the sequence.
        """
        if isinstance(phonemes, str):
            phonemes = phonemes.split()
        phonemes = as_list(phonemes, "phonemes", "a string or a sequence of codes, or a list of sequences")
        if not phonemes or isinstance(phonemes[0], str):
            return self._synthesize([self._phoneme_input(phonemes, durations)], speed, seed)[0]
        pairs = zip(phonemes, durations_per_sequence(durations, len(phonemes)), strict=True)
        return self._synthesize(
            [self._phoneme_input(*pair, f"sequence {n}") for n, pair in enumerate(pairs, 1)], speed, seed
        )

    def warm_up(self, *, longest: float | None = None, batch: int = 1) -> None:
        """Compile the programs for texts of common lengths and speeds, so that the first call does not compile them.

        Very short texts, unusual speeds, and batches of pieces on a GPU or TPU may still need other programs.

        **Arguments:** `longest`, the longest speech in seconds, by default and at most the longest piece of the model;
        `batch`, the number of texts in a call of `speak`.

        **Raises:** `ConfigError` if `longest` or `batch` is not positive.
        """
        most = self.acoustic_inference.max_frames
        seconds = most * self.hop_length / self.sample_rate if longest is None else longest
        if not seconds > 0:
            raise ConfigError(f"longest is {longest}; it should be positive.")
        if batch < 1:
            raise ConfigError(f"batch is {batch}; it should be at least 1.")
        most = min(most, math.ceil(seconds * self.sample_rate / self.hop_length))
        for phones, frames in self.acoustic_inference.typical_sizes(most):
            durations = np.diff(np.arange(phones + 1) * frames // phones)
            item = PhonemeInput(
                (self.phone_set.codes[0],) * phones, np.ones(phones, np.int32), np.zeros(phones, bool), durations
            )
            self._synthesize([item] * batch, 1.0, 0)

    def _pronounce(self, text: Any, custom_words: CustomWords, mode: PronunciationMode, name: str) -> PhonemeInput:
        with error_context(name):
            pronunciation = pronounce(validate_text(text), custom_words, mode=mode, phone_set=self.phone_set)
        item = self._phoneme_input(pronunciation.codes, None, name)
        starts = np.cumsum([0, *(len(word.codes) for word in pronunciation.words)])
        item.word_starts[starts[starts < len(item.codes)]] = True
        return item

    def _phoneme_input(self, phonemes: Any, durations: Any, name: str = "") -> PhonemeInput:
        with error_context(name):
            codes = validate_phonemes(phonemes, self.phone_set, spell=durations is None)
            frames = None if durations is None else validate_durations(durations, len(codes))
        ids = np.array(self.phone_set.ids(codes), np.int32)
        return PhonemeInput(codes, ids, np.zeros(len(codes), bool), frames, name)

    def _synthesize(self, inputs: Sequence[PhonemeInput], speed: float, seed: int) -> list[Speech]:
        check_speed(speed)
        check_seed(seed)
        if speed != 1 and any(item.durations is not None for item in inputs):
            raise ConfigError(f"speed is {speed}; it should be 1 if durations are given. Pass only one of the two.")
        results = self.acoustic_inference(inputs, speed=speed)
        audio = self.mel_to_audio([one.mel for one in results], seed=seed)
        return [
            Speech(samples, self.sample_rate, one.mel, item.codes, one.durations, one.blocks)
            for samples, one, item in zip(audio, results, inputs, strict=True)
        ]


def check_speed(speed: Any) -> None:
    """Raise `ConfigError` unless `speed` is a number in the allowed range."""
    number = isinstance(speed, int | float | np.floating | np.integer) and not isinstance(speed, bool)
    if not number or not _MIN_SPEED <= speed <= _MAX_SPEED:
        raise ConfigError(
            f"speed is {speed!r}; it should be a number from {_MIN_SPEED:g} to {_MAX_SPEED:g} (2 is twice as fast)."
        )

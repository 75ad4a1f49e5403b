"""VITS and YourTTS as a pipeline: text to speech in known voices and in those of recordings."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, overload

import numpy as np

from jaxvoice.dsp.mel import bucketed_log_mel
from jaxvoice.errors import ConfigError
from jaxvoice.models.gaussian_tts.inference import AlignmentBlock
from jaxvoice.models.vits.config import SamplingConfig
from jaxvoice.models.vits.inference import Speaker, Synthesized
from jaxvoice.pipelines.argument_checks import as_list, check_seed, check_stream, error_context, validate_text
from jaxvoice.pipelines.synthesizer import BLANK, Speech
from jaxvoice.pipelines.vits_arguments import language_id, sampling_config, split_text
from jaxvoice.pipelines.vits_converter import VITSConverter
from jaxvoice.pipelines.vocoder import Waveform
from jaxvoice.text.symbol_texts import check_characters, texts_to_symbols

_LONGEST = 250  # characters that are synthesised at once, more than in the texts of common corpora


class VITSSynthesizer(VITSConverter):
    """Text to speech and voice conversion with VITS or YourTTS.

    A model has one voice, a table of speakers, or reads vectors of a speaker encoder, as YourTTS. With vectors, it
    speaks in the voice of any recording: pass its speaker encoder.

    Use the voice of a recording only with the permission of its speaker, and mark the results as synthetic.

    **Attributes:** `network`, `config`, and `encoder`, a `SpeakerEncoder` or `None`.
    """

    @property
    def languages(self) -> tuple[str, ...]:
        """The names of the languages; empty for a model without language embeddings."""
        return self.config.languages

    @overload
    def speak(
        self,
        text: str,
        *,
        speaker: Any = None,
        language: str | None = None,
        reference: Any = None,
        sample_rate: float | None = None,
        noise_scale: float | None = None,
        duration_noise_scale: float | None = None,
        length_scale: float | None = None,
        speed: float = 1.0,
        seed: int = 0,
        stream: Literal[False] = False,
    ) -> Speech: ...

    @overload
    def speak(
        self,
        text: str,
        *,
        speaker: Any = None,
        language: str | None = None,
        reference: Any = None,
        sample_rate: float | None = None,
        noise_scale: float | None = None,
        duration_noise_scale: float | None = None,
        length_scale: float | None = None,
        speed: float = 1.0,
        seed: int = 0,
        stream: Literal[True],
    ) -> Iterator[Waveform]: ...

    @overload
    def speak(
        self,
        text: Sequence[str],
        *,
        speaker: Any = None,
        language: str | None = None,
        reference: Any = None,
        sample_rate: float | None = None,
        noise_scale: float | None = None,
        duration_noise_scale: float | None = None,
        length_scale: float | None = None,
        speed: float = 1.0,
        seed: int = 0,
        stream: Literal[False] = False,
    ) -> list[Speech]: ...

    def speak(
        self,
        text: Any,
        *,
        speaker: Any = None,
        language: str | None = None,
        reference: Any = None,
        sample_rate: float | None = None,
        noise_scale: float | None = None,
        duration_noise_scale: float | None = None,
        length_scale: float | None = None,
        speed: float = 1.0,
        seed: int = 0,
        stream: bool = False,
    ) -> Any:
        """Synthesise a text, or each text of a list.

        **Arguments:**

        - `text`: a text of any length; long texts are divided at the ends of sentences. For a model that reads
            characters, numbers in digits are spelled if it has languages. For a model that reads the IPA, espeak-ng
            converts the text (extra `demo`); characters that the model does not have, such as brackets, are left out.
        - `speaker`: the name of a known speaker, its id for a model with a table, or a vector `(speaker_channels,)`.
        - `language`: the name of a language of the model; may be omitted if it has only one.
        - `reference`: a recording of the speaker, or a list of recordings, as for `SpeakerEncoder.embed`, or a `Voice`;
            instead of `speaker`.
        - `sample_rate`: of references that are arrays, in Hz.
        - `noise_scale`, `duration_noise_scale`: the variation of the sound and of the durations; 0 disables it. By
            default, those of the model's configuration.
        - `length_scale`: factor of the durations; 2 is half as fast.
        - `speed`: relative speed from 0.1 to 10, by which the durations are divided as well.
        - `seed`: seed of the noise.
        - `stream`: yield the audio of each piece of a long text when it is computed.

        **Returns:** a `Speech`, or a list of them. Its `phonemes` are the symbols with the blanks between them. With
        `stream`, an iterator over float32 waveforms, which together equal the audio of the `Speech`.

        **Raises:** `TextError` for a text that contains nothing to read, or characters that the model does not have,
        with their positions; `ConfigError` for an unknown speaker or language, with the nearest names, for a missing
        one, for a scale, speed or seed out of range, for a `stream` that is not a boolean, or for a list of texts with
        `stream`; `AudioError` as `SpeakerEncoder.embed` for a reference that is silent or too short; `CheckpointError`
        if the model returns NaN or infinity.
        """
        check_stream(stream)
        sampling = sampling_config(self.config.sampling, noise_scale, duration_noise_scale, length_scale, speed)
        given = (text, self._in_symbols, speaker, language, reference, sample_rate, sampling, seed)
        return self._stream(*given) if stream else self._synthesize(*given)

    def speak_phonemes(
        self,
        phonemes: Any,
        *,
        speaker: Any = None,
        language: str | None = None,
        reference: Any = None,
        sample_rate: float | None = None,
        noise_scale: float | None = None,
        duration_noise_scale: float | None = None,
        length_scale: float | None = None,
        speed: float = 1.0,
        seed: int = 0,
    ) -> Any:
        """Synthesise a text in the symbols of the model, such as the letters of the IPA, or each text of a list.

        The text is not converted: `phonemes` is `"həlˈoʊ"` for a model that reads the IPA. Other arguments,
        results and errors are those of `speak`.
        """
        sampling = sampling_config(self.config.sampling, noise_scale, duration_noise_scale, length_scale, speed)
        return self._synthesize(
            phonemes, lambda text, _: text, speaker, language, reference, sample_rate, sampling, seed
        )

    def _synthesize(
        self,
        text: Any,
        convert: Callable[[str, int | None], str],
        speaker: Any,
        language: str | None,
        reference: Any,
        sample_rate: float | None,
        sampling: SamplingConfig,
        seed: int,
    ) -> Any:
        """The result of `speak` for a text, which `convert` converts to the symbols of the model."""
        check_seed(seed)
        chosen = language_id(language, self.languages)
        single = isinstance(text, str)
        texts = [text] if single else as_list(text, "text", "a string or a list of strings")
        pieces = [self._pieces(one, convert, chosen, "" if single else f"text {n}") for n, one in enumerate(texts, 1)]
        voice = self._speaker(speaker, reference, sample_rate)
        speech = [self._speak(one, voice, chosen, sampling, seed) for one in pieces]
        return speech[0] if single else speech

    def _stream(
        self,
        text: Any,
        convert: Callable[[str, int | None], str],
        speaker: Any,
        language: str | None,
        reference: Any,
        sample_rate: float | None,
        sampling: SamplingConfig,
        seed: int,
    ) -> Iterator[Waveform]:
        """The audio of the pieces of one text; the arguments, which are checked at once, are those of `_synthesize`."""
        check_seed(seed)
        chosen = language_id(language, self.languages)
        if not isinstance(text, str):
            raise ConfigError(f"text has type {type(text).__name__}; it should be one text, because stream is True.")
        pieces, voice = self._pieces(text, convert, chosen, ""), self._speaker(speaker, reference, sample_rate)
        return (part.audio for part in self._parts(pieces, voice, chosen, sampling, seed))

    def _parts(
        self, pieces: list[list[int]], speaker: Speaker, language: int | None, sampling: SamplingConfig, seed: int
    ) -> Iterator[Synthesized]:
        for number, ids in enumerate(pieces):
            yield self._inference.synthesize(np.array(ids, np.int32), speaker, language, sampling, seed, number)

    def _in_symbols(self, text: str, language: int | None) -> str:
        """A text in the symbols of the model, with numbers in words, or in the IPA for a model that reads it."""
        symbols, name = self.config.symbols, None if language is None else self.languages[language]
        check_characters(text, symbols, name)
        return texts_to_symbols([text], symbols, name)[0]

    def _pieces(
        self, text: Any, convert: Callable[[str, int | None], str], language: int | None, name: str
    ) -> list[list[int]]:
        """The ids of the symbols of each piece of a text."""
        with error_context(name):
            text = convert(validate_text(text), language)
            self.config.symbols.ids(text)  # for the positions of unknown characters in the whole text
            return [self.config.symbols.ids(piece) for piece in split_text(text, _LONGEST)]

    def _speak(
        self, pieces: list[list[int]], speaker: Speaker, language: int | None, sampling: SamplingConfig, seed: int
    ) -> Speech:
        symbols, hop = self.config.symbols, self.hop_length
        parts = list(self._parts(pieces, speaker, language, sampling, seed))
        audio = np.concatenate([part.audio for part in parts])
        durations = np.concatenate([part.durations for part in parts])
        blank, names = symbols.blank_id, symbols.characters
        written = tuple(BLANK if number == blank else names[number] for ids in pieces for number in ids)
        blocks, frame, phone = [], 0, 0
        for part in parts:
            weights = np.repeat(np.eye(len(part.durations), dtype=np.float32), part.durations, axis=0)
            blocks.append(AlignmentBlock(frame, phone, weights))
            frame, phone = frame + len(weights), phone + len(part.durations)
        mel = bucketed_log_mel(np.pad(audio, (0, max(0, self.config.mel.min_samples - len(audio)))), self.config.mel)
        return Speech(audio, self.sample_rate, mel[:, : len(audio) // hop], written, durations, tuple(blocks))

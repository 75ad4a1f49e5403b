"""XTTS as a pipeline: text to speech in the voices of references, whole or as a stream."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self, overload

import equinox as eqx
import jax
import numpy as np

from jaxvoice.config import format_value, from_dict, list_names, suggest_names
from jaxvoice.errors import CheckpointError, ConfigError, warn_caller
from jaxvoice.models.xtts.bundle import VOCABULARY_FILE, untrained_parts
from jaxvoice.models.xtts.config import SamplingConfig, XTTSConfig
from jaxvoice.models.xtts.family import FAMILY
from jaxvoice.models.xtts.network import XTTS
from jaxvoice.models.xtts.precision import Precision, with_precision
from jaxvoice.models.xtts.tokenizer import Tokenizer
from jaxvoice.models.xtts.transformer import freeze_projections
from jaxvoice.models.xtts.voices import StoredVoice, check_voices, read_voices
from jaxvoice.pipelines.argument_checks import as_list, check_seed, check_stream, error_context, validate_text
from jaxvoice.pipelines.recordings import read_recordings
from jaxvoice.pipelines.sources import find_model_folder, print_notices
from jaxvoice.pipelines.synthesizer import check_speed
from jaxvoice.pipelines.vocoder import Waveform
from jaxvoice.pipelines.voice import list_recordings
from jaxvoice.pipelines.xtts_speech import SpeechEngine, SpeechJob, SpeechSettings, XTTSSpeech, joined_speech
from jaxvoice.pipelines.xtts_voice import (
    XTTSVoice,
    compute_voice,
    is_xtts_voice_file,
    reference_config,
    voice_identity,
)
from jaxvoice.weights.array_names import load_state
from jaxvoice.weights.model_folder import CONFIG_FILE, read_model_folder


class XTTSSynthesizer:
    """Text to speech with XTTS in the voice of any recording, in many languages.

    The language model draws codes of audio from a text and the vectors of a reference, and a HiFi-GAN decodes the
    latents from which it draws them. Long texts are spoken in pieces. Programs are compiled for a few sizes when
    they are first used, so the first texts take longer (see `warm_up`). A step reads the weights of the language model
    once for all pieces that are spoken together.

    Use the voice of a recording only with the permission of its speaker, and mark the results as synthetic.

    **Attributes:** `network`, the networks as `freeze_projections` returns them, which are not those to save; `config`;
    `batch_size`; and `voices`, the stored voices by name. `jaxvoice.models.xtts.FAMILY.load_network` returns the
    networks that can be saved.
    """

    def __init__(
        self,
        network: XTTS,
        config: XTTSConfig,
        tokenizer: Tokenizer | None = None,
        voices: Mapping[str, StoredVoice] | None = None,
        *,
        batch_size: int = 4,
        untrained: Sequence[str] = (),
    ):
        """**Arguments:**

        - `network` and `config`: the networks and their configuration.
        - `tokenizer`: the tokenizer of the vocabulary of the model, without which it cannot speak.
        - `voices`: stored voices by name, by default none.
        - `batch_size`: the most pieces that are spoken together. At full size, each takes 0.1 to 0.3 GB of memory.
        - `untrained`: the parts of the network that are not trained yet, with which the model does not speak.

        **Raises:** `ConfigError` for a network of another configuration, a vocabulary of another size, or a
        `batch_size` below 1; `CheckpointError` for voices of another model.
        """
        if network.config != config:
            raise ConfigError("The network has another configuration than config; pass the configuration it has.")
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ConfigError(f"batch_size is {format_value(batch_size)}; it should be a whole number of at least 1.")
        if tokenizer is not None:
            tokenizer.check(config.gpt)
        check_voices(voices or {}, config, "voices")
        self.network, self.config, self.batch_size = freeze_projections(network), config, batch_size
        self._tokenizer, self.voices, self._untrained = tokenizer, dict(voices or {}), tuple(untrained)

    @classmethod
    def load(cls, path: str | Path, *, precision: Precision = "float32", batch_size: int = 4) -> Self:
        """Load the model at `path`: a model folder, a run folder (its best model), or a Hub id `owner/name`.

        The licence of the weights is printed to stderr if it is known, and a warning if the model was trained for few
        steps.

        **Arguments:** `precision`, that of the matrices of the transformer: `"bfloat16"` halves their memory and, where
        memory bounds the speed, the time of a code. Sums remain in float32. CPUs without instructions for bfloat16 are
        slower with it. `batch_size`, as for the class.

        **Raises:** `CheckpointError` or `ConfigError` for a missing or damaged model, or a vocabulary or voices of
        another model; `ConfigError` for an unknown precision; `MissingExtraError` for a Hub id without the extra `hub`.
        """
        folder = find_model_folder(path)
        data, arrays = read_model_folder(folder, family=FAMILY.name)
        config = from_dict(XTTSConfig, data, where=str(folder / CONFIG_FILE))
        skeleton = with_precision(eqx.filter_eval_shape(XTTS, config, key=jax.random.key(0)), precision)
        network = freeze_projections(load_state(skeleton, arrays, f"the weights in {folder}"))
        del arrays
        print_notices(folder, FAMILY)
        vocabulary = folder / VOCABULARY_FILE
        tokenizer = Tokenizer.load(vocabulary, max_text=config.gpt.max_text) if vocabulary.is_file() else None
        voices, untrained = read_voices(folder, config), untrained_parts(folder)
        return cls(network, config, tokenizer, voices, batch_size=batch_size, untrained=untrained)

    def __repr__(self) -> str:
        voices = "1 voice" if len(self.voices) == 1 else f"{len(self.voices)} voices"
        return f"XTTSSynthesizer({self.sample_rate} Hz, {len(self.languages)} languages, {voices})"

    @property
    def sample_rate(self) -> int:
        """Sample rate of the audio in Hz."""
        return self.config.output_rate

    @property
    def languages(self) -> tuple[str, ...]:
        """The codes of the languages."""
        return self.config.languages

    @property
    def speakers(self) -> tuple[str, ...]:
        """The names of the stored voices."""
        return tuple(self.voices)

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the model; raises `CheckpointError` if the model has no vocabulary."""
        if self._tokenizer is None:
            raise CheckpointError(
                f"The model has no vocabulary, so it cannot read texts. Copy the {VOCABULARY_FILE} of the release into "
                "the model folder, and load it again."
            )
        return self._tokenizer

    def voice(
        self,
        reference: Any,
        *,
        sample_rate: float | None = None,
        seconds: float | None = None,
        part: float | None = None,
    ) -> XTTSVoice:
        """The voice of one or several recordings of a speaker, which `speak` takes as `reference`.

        **Arguments:**

        - `reference`: the path of a file, an `Audio`, or an array `(samples,)`; or a list of these.
        - `sample_rate`: of arrays, in Hz.
        - `seconds`: how much of each recording, and of all together for the language model, is used from the beginning;
            by default that of the configuration, 30 in the release.
        - `part`: the length of the parts of the reference in seconds, whose vectors are averaged; by default that of
            the configuration, 4 in the release. A last part of less than 0.33 s is left out. Models without a perceiver
            read one part.

        **Raises:** `AudioError` for a recording that is silent, shorter than 0.33 s, contains NaN, or cannot be read;
        `ConfigError` for an empty list, a voice instead of recordings, or lengths out of range. Warns with
        `JaxvoiceWarning` about a reference shorter than 3 s, and about clipped recordings.
        """
        lengths = reference_config(self.config.references, seconds, part)
        if isinstance(reference, XTTSVoice) or is_xtts_voice_file(reference):
            raise ConfigError(f"reference is {reference!r}, a voice; pass recordings, or pass the voice to speak.")
        values = list_recordings(reference, "reference")
        return compute_voice(
            self.network, read_recordings(values, sample_rate, "reference"), lengths, self._voice_identity
        )

    @overload
    def speak(
        self,
        text: str,
        language: str = "en",
        *,
        speaker: Any = None,
        reference: Any = None,
        sample_rate: float | None = None,
        stream: Literal[False] = False,
        speed: float = 1.0,
        seed: int = 0,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        repetition_penalty: float | None = None,
        penalize_prefix: bool | None = None,
        length_penalty: float = 1.0,
        max_codes: int | None = None,
    ) -> XTTSSpeech: ...

    @overload
    def speak(
        self,
        text: str,
        language: str = "en",
        *,
        speaker: Any = None,
        reference: Any = None,
        sample_rate: float | None = None,
        stream: Literal[True],
        speed: float = 1.0,
        seed: int = 0,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        repetition_penalty: float | None = None,
        penalize_prefix: bool | None = None,
        length_penalty: float = 1.0,
        max_codes: int | None = None,
    ) -> Iterator[Waveform]: ...

    @overload
    def speak(
        self,
        text: Sequence[str],
        language: str = "en",
        *,
        speaker: Any = None,
        reference: Any = None,
        sample_rate: float | None = None,
        stream: Literal[False] = False,
        speed: float = 1.0,
        seed: int = 0,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        repetition_penalty: float | None = None,
        penalize_prefix: bool | None = None,
        length_penalty: float = 1.0,
        max_codes: int | None = None,
    ) -> list[XTTSSpeech]: ...

    def speak(
        self,
        text: Any,
        language: str = "en",
        *,
        speaker: Any = None,
        reference: Any = None,
        sample_rate: float | None = None,
        stream: bool = False,
        speed: float = 1.0,
        seed: int = 0,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        repetition_penalty: float | None = None,
        penalize_prefix: bool | None = None,
        length_penalty: float = 1.0,
        max_codes: int | None = None,
    ) -> Any:
        """Synthesise a text, or each text of a list, in the voice of a reference or a stored voice.

        **Arguments:**

        - `text`: a text of any length; long texts are divided into pieces at the ends of sentences, as by
            `Tokenizer.split`. No words are left out.
        - `language`: the code of its language, one of `languages`.
        - `speaker`: the name of a stored voice, one of `speakers`; for a list of texts also a list of names.
        - `reference`: recordings of the speaker as for `voice`, an `XTTSVoice`, or the path of its file
            (`.safetensors`), instead of `speaker`; for a list of texts also a list with an `XTTSVoice` or such a path
            for each text.
        - `sample_rate`: of references that are arrays, in Hz.
        - `stream`: whether the audio is returned in blocks as soon as it is known, the first after the first 8 codes
            (0.37 s of speech) at a speed of up to 1.6, and further ones after each 20 codes; for one text. Together,
            the blocks equal the result without `stream`.
        - `speed`: relative speed from 0.1 to 10, by which the latents of the language model are interpolated. The pitch
            does not change. Values far from 1 sound unnatural.
        - `seed`: seed of the drawn codes. A text has the same codes alone and in a list.
        - `temperature`, `top_k`, `top_p`, `repetition_penalty`, `penalize_prefix`: as in `SamplingConfig`, by default
            those of the configuration of the model. `top_k=1` takes the most likely code.
        - `length_penalty`: without effect, since it acts on a search with several beams only, which neither the release
            nor jaxvoice applies; another value than 1 gives a warning.
        - `max_codes`: the most codes of a piece, 21.5 for a second of speech; by default and at most those of the
            model, 602 in the release.

        **Returns:** an `XTTSSpeech`, for a list of texts a list; with `stream` an iterator over float32 waveforms.

        **Raises:** `TextError` for a text without a word, or with characters that the vocabulary does not contain;
        `ConfigError` for an unknown language or speaker, with the nearest names, without a voice or with two, for a
        voice of another model, a number out of range, or a `stream` that is not a boolean; `CheckpointError` for a
        model without a vocabulary, one whose decoder is not trained, or one that returns NaN or infinity; `AudioError`
        as `voice`. Warns with `JaxvoiceWarning` about speech that was ended by `max_codes`.
        """
        self._check_trained()
        check_speed(speed)
        check_seed(seed)
        _check_length_penalty(length_penalty)
        given = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "repetition_penalty": repetition_penalty}
        sampling = _sampling_config(self.config.sampling, {**given, "penalize_prefix": penalize_prefix})
        settings = SpeechSettings(sampling, self._max_codes(max_codes), float(speed), int(seed))
        single = isinstance(text, str)
        check_stream(stream)
        if stream and not single:
            raise ConfigError("text is a list and stream is true; pass one text, or stream=False.")
        texts = [text] if single else as_list(text, "text", "a string or a list of strings")
        code = self._language(language)
        names = [""] if single else [f"text {number}" for number in range(1, len(texts) + 1)]
        pieces = [self._pieces(one, code, name) for one, name in zip(texts, names, strict=True)]
        voices = self._voices(speaker, reference, sample_rate, len(texts), single)
        jobs = [
            [SpeechJob(piece, tokens, voice, number) for number, (piece, tokens) in enumerate(of_text)]
            for of_text, voice in zip(pieces, voices, strict=True)
        ]
        if stream:
            return self._speech_engine.stream(jobs[0], settings)
        spoken = iter(self._speech_engine.speak([job for of_text in jobs for job in of_text], settings))
        speech = [joined_speech([next(spoken) for _ in of_text], self.sample_rate) for of_text in jobs]
        return speech[0] if single else speech

    def warm_up(self, *, batch: int = 1) -> None:
        """Compile the programs for texts of all lengths, so that the first call of `speak` does not compile them.

        The encoders of references are compiled with the first reference, and programs for pieces of more than about
        15 s of speech with the first such piece. Without a perceiver (v1.1), the programs are compiled for
        references of up to 12 s.

        **Arguments:** `batch`, the number of pieces that are spoken together, at most `batch_size`.

        **Raises:** `ConfigError` if `batch` is out of range; `CheckpointError` if the model returns NaN or infinity.
        """
        if isinstance(batch, bool) or not isinstance(batch, int) or not 1 <= batch <= self.batch_size:
            raise ConfigError(
                f"batch is {format_value(batch)}; it should be a whole number from 1 to {self.batch_size}."
            )
        self._speech_engine.warm_up(batch)

    @cached_property
    def _voice_identity(self) -> str:
        return voice_identity(self.network)

    @cached_property
    def _speech_engine(self) -> SpeechEngine:
        return SpeechEngine(self.network, self.batch_size)

    def _check_trained(self) -> None:
        if self._untrained:
            raise CheckpointError(
                f"The weights of {', '.join(self._untrained)} are random, so the model cannot speak. Train the decoder "
                "with python -m experiments.xtts_decoder --model FOLDER, and load the result."
            )

    def _max_codes(self, given: Any) -> int:
        most = self.config.gpt.max_new_codes
        if given is None:
            return most
        if isinstance(given, bool) or not isinstance(given, int | np.integer) or not 1 <= given <= most:
            raise ConfigError(f"max_codes is {format_value(given)}; it should be a whole number from 1 to {most}.")
        return int(given)

    def _language(self, language: Any) -> str:
        """The code of a language of the model and of its vocabulary."""
        code = self.tokenizer.language(language) if isinstance(language, str) else None
        if code not in self.languages:
            raise ConfigError(f"language is {format_value(language)}; {suggest_names(language, self.languages)}")
        return str(code)

    def _pieces(self, text: Any, language: str, name: str) -> list[tuple[str, list[int]]]:
        """The pieces of a text and their tokens."""
        with error_context(name):
            parts = self.tokenizer.split(validate_text(text), language)
            return [(part, self.tokenizer.encode(part, language)) for part in parts]

    def _voices(
        self, speaker: Any, reference: Any, sample_rate: float | None, count: int, single: bool
    ) -> list[XTTSVoice]:
        """The voice of each text."""
        if speaker is not None and reference is not None:
            raise ConfigError("speaker and reference are both given; pass only one of the two.")
        if speaker is None and reference is None:
            known = f"the name of a stored voice as speaker (--speaker): {list_names(self.speakers)}; or "
            raise ConfigError(
                f"The model needs a voice. Pass {known if self.voices else ''}recordings of the speaker as reference "
                "(--reference)."
            )
        name, given = ("speaker", speaker) if reference is None else ("reference", reference)
        lists = isinstance(given, list | tuple)
        voices = lists and any(isinstance(one, XTTSVoice) or is_xtts_voice_file(one) for one in given)
        if not lists or (reference is not None and not voices):
            voice = self._stored(given) if reference is None else self._of_reference(given, sample_rate)
            return [voice] * count
        if single or len(given) != count:
            texts = "1 text" if single else f"{count} texts"
            raise ConfigError(f"{name} is a list of {len(given)} voices for {texts}; pass one voice, or one for each.")
        return [self._stored(one) if reference is None else self._of_reference(one, sample_rate) for one in given]

    def _stored(self, speaker: Any) -> XTTSVoice:
        if not isinstance(speaker, str) or speaker not in self.voices:
            without = "the model has no stored voices. Pass recordings of the speaker as reference (--reference)."
            hint = suggest_names(speaker, self.speakers) if self.voices else without
            raise ConfigError(f"speaker is {format_value(speaker)}; {hint}")
        stored = self.voices[speaker]
        return XTTSVoice(stored.conditioning, stored.speaker, 0.0, 0, "")

    def _of_reference(self, reference: Any, sample_rate: float | None) -> XTTSVoice:
        if is_xtts_voice_file(reference):
            voice = XTTSVoice.load(reference)
            self.check_voice(voice, str(reference))
            return voice
        if not isinstance(reference, XTTSVoice):
            return self.voice(reference, sample_rate=sample_rate)
        self.check_voice(reference)
        return reference

    def check_voice(self, voice: XTTSVoice, name: str = "The voice") -> None:
        """Raise `ConfigError` for a voice that other networks computed than those of this model.

        **Arguments:** `name`, the subject of the message, such as the path of the voice.
        """
        latents, channels = self.config.gpt.conditioning.latents, self.config.gpt.channels
        shapes = voice.conditioning.shape[1:], voice.speaker.shape, latents or len(voice.conditioning)
        expected = (channels,), (self.config.speaker_encoder.dim,), len(voice.conditioning)
        if shapes != expected or voice.model != self._voice_identity:
            raise ConfigError(
                f"{name} was computed by another model ({voice.model[:12] or 'unknown'}) than this one "
                f"({self._voice_identity[:12]}). Compute it again from the recordings."
            )


def _sampling_config(default: SamplingConfig, changes: Mapping[str, Any]) -> SamplingConfig:
    """`default` with the values that are not `None`; raises `ConfigError` for values out of range."""
    given = {name: _plain(value) for name, value in changes.items() if value is not None}
    try:
        return dataclasses.replace(default, **given)
    except ConfigError as failure:
        raise ConfigError(str(failure).removeprefix("SamplingConfig.")) from None


def _plain(value: Any) -> Any:
    """`value` as a number of Python if it is one of NumPy, since configurations contain no others."""
    return value.item() if isinstance(value, np.generic) else value


def _check_length_penalty(value: Any) -> None:
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not number or not -1e6 <= value <= 1e6:
        raise ConfigError(
            f"length_penalty is {format_value(value)}; it should be a number from -1,000,000 to 1,000,000."
        )
    if value != 1:
        warn_caller(
            f"length_penalty is {value}, which has no effect: it acts on a search with several beams, and codes are "
            "drawn one by one. Use speed for the tempo."
        )

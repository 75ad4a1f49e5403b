"""VITS and YourTTS as a pipeline: the voices of known speakers and of recordings, and voice conversion."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
from jaxtyping import Float32

from jaxvoice.config import format_value, list_names, suggest_names
from jaxvoice.dsp.resampling import resample
from jaxvoice.errors import ConfigError, warn_caller
from jaxvoice.models.vits.config import VITSConfig
from jaxvoice.models.vits.family import FAMILY
from jaxvoice.models.vits.inference import Speaker, VITSInference
from jaxvoice.models.vits.network import VITS
from jaxvoice.models.vits.speakers import ENCODER_FOLDER, Speakers, read_speakers
from jaxvoice.pipelines.argument_checks import check_seed
from jaxvoice.pipelines.recordings import Recording, read_recordings, several
from jaxvoice.pipelines.sources import find_model_folder, load_with_method, print_notices
from jaxvoice.pipelines.speaker_encoder import SpeakerEncoder
from jaxvoice.pipelines.vits_arguments import (
    is_speaker_vector,
    speaker_id,
    speaker_vector,
    warn_about_encoder,
)
from jaxvoice.pipelines.vocoder import Waveform
from jaxvoice.pipelines.voice import Voice, is_voice_file, list_recordings

_SHORTEST = 2000
"""Samples below which an array without a sample rate is read as a vector of another size."""


class VITSConverter:
    """Voice conversion with VITS or YourTTS, and the voices of such a model: the base class of `VITSSynthesizer`.

    **Attributes:** `network`, `config`, and `encoder`, a `SpeakerEncoder` or `None`.
    """

    def __init__(self, network: VITS, config: VITSConfig, speakers: Speakers | None = None, *, encoder: Any = None):
        """**Arguments:** `speakers`, the known speakers, by default none; `encoder`, a `SpeakerEncoder`, or the
        path or Hub id of one; it should be the encoder with which the model was trained.

        **Raises:** `ConfigError` for an encoder of another type, or whose embeddings have another size than the vectors
        of the model.
        """
        self.network, self.config = network, config
        if isinstance(encoder, str | Path):
            encoder = load_with_method(encoder, "embed", "a speaker encoder")
        if encoder is not None:
            self._check_encoder(encoder)
        self.encoder = encoder
        self._speakers = Speakers({}, {}) if speakers is None else speakers
        self._inference = VITSInference(network, config)

    def _check_encoder(self, encoder: Any) -> None:
        if not self._reads_vectors:
            kind = "a table of speakers" if self.config.num_speakers else "one voice"
            raise ConfigError(f"encoder is given, but the model has {kind}; omit it.")
        if not isinstance(encoder, SpeakerEncoder):
            raise ConfigError(
                f"encoder is {format_value(encoder)}; it should be a SpeakerEncoder, or the path or Hub id of one."
            )
        if encoder.dim != self.config.speaker_channels:
            raise ConfigError(
                f"The embeddings of the speaker encoder have {encoder.dim} components; they should have "
                f"{self.config.speaker_channels}, the size of the speaker vectors of this model. Pass the encoder with "
                "which the model was trained."
            )

    @classmethod
    def load(cls, path: str | Path, *, encoder: Any = None) -> Self:
        """Load the model at `path`: a model folder, a run folder (its best model), or a Hub id `owner/name`.

        The licence of the weights is printed to stderr if it is known, and a warning if the model was trained for few
        steps.

        **Arguments:** `encoder`, as for the class; by default the model folder `speaker_encoder` inside the
        model folder, if it exists.

        **Raises:** `CheckpointError` or `ConfigError` for a missing or damaged model or speaker encoder, or one that
        does not belong to the model; `MissingExtraError` for a Hub id without the extra `hub`. Warns with
        `JaxvoiceWarning` about an `encoder` that is not the one in the model folder.
        """
        folder = find_model_folder(path)
        network, config = FAMILY.load_network(folder)
        print_notices(folder, FAMILY)
        inside = folder / ENCODER_FOLDER
        has_encoder = inside.is_dir() and config.reads_vectors
        chosen = inside if encoder is None and has_encoder else encoder
        model = cls(network, config, read_speakers(folder, config), encoder=chosen)
        if encoder is not None and has_encoder:
            warn_about_encoder(model.encoder, inside)
        return model

    def __repr__(self) -> str:
        voices = f"{self.config.num_speakers} speakers" if self.config.num_speakers else "one voice"
        if self._reads_vectors:
            voices = f"speaker vectors of {self.config.speaker_channels}"
        return f"{type(self).__name__}({self.sample_rate} Hz, {voices})"

    @property
    def sample_rate(self) -> int:
        """Sample rate of the audio in Hz."""
        return self.config.mel.sample_rate

    @property
    def hop_length(self) -> int:
        """Samples of audio per frame."""
        return self.config.mel.hop_length

    @property
    def speakers(self) -> tuple[str, ...]:
        """The names of the known speakers."""
        return self._speakers.names

    @property
    def reads_references(self) -> bool:
        """Whether the model has the voices of recordings: it reads speaker vectors, and its encoder is loaded."""
        return self._reads_vectors and self.encoder is not None

    @property
    def _encoder(self) -> Any:
        if self.encoder is None:
            raise ConfigError(
                "The model reads vectors of a speaker encoder, which was not loaded; pass encoder (--encoder), the "
                "model folder of the encoder with which the model was trained, or import it to the folder "
                f"{ENCODER_FOLDER} inside the model folder."
            )
        return self.encoder

    def encode_voice(self, reference: Any, sample_rate: float | None = None) -> Voice:
        """The voice of one or several recordings of a speaker, for `speak` and `convert`.

        The embedding is the mean of those of the recordings.

        **Arguments:** `reference`, as for `SpeakerEncoder.embed`; `sample_rate`, of arrays, in Hz.

        **Raises:** `ConfigError` for a model that does not read speaker vectors, without a speaker encoder, for an
        empty list, or for a speaker vector or a voice instead of a recording; otherwise as `SpeakerEncoder.embed`.
        """
        return self._encode_voice(reference, sample_rate, "reference")

    def _encode_voice(self, reference: Any, sample_rate: float | None, name: str) -> Voice:
        self._check_reads_vectors()
        if is_speaker_vector(reference, self.config.speaker_channels):
            raise ConfigError(
                f"{name} has {self.config.speaker_channels} values, as many as a speaker vector of the model; it "
                "should be a recording. Pass a speaker vector as speaker of speak, or as voice of convert."
            )
        shape = getattr(reference, "shape", ())
        if sample_rate is None and len(shape) == 1 and shape[0] < _SHORTEST:
            raise ConfigError(
                f"{name} has shape {shape}; it should be a recording with its sample_rate, or a speaker vector of "
                f"{self.config.speaker_channels} numbers, as speaker of speak or voice of convert."
            )
        values, encoder = list_recordings(reference, name), self._encoder
        recordings = read_recordings(values, sample_rate, name)
        return Voice(
            embedding=np.mean(encoder.embed(recordings), axis=0),
            pitch=None,
            seconds=sum(recording.seconds for recording in recordings),
            references=len(recordings),
            model=encoder.identity,
        )

    def check_voice(self, voice: Voice) -> None:
        """Raise `ConfigError` for a voice of another speaker encoder, or of a model of another kind.

        Warns with `JaxvoiceWarning` if no speaker encoder is loaded, so that this is unknown.
        """
        self._check_reads_vectors()
        if voice.embedding.shape != (self.config.speaker_channels,):
            raise ConfigError(
                f"The voice has {voice.embedding.size} components; it should have {self.config.speaker_channels}, the "
                "size of the speaker vectors of this model. Compute the voice with this model."
            )
        if self.encoder is None:
            warn_caller(
                "The speaker encoder of the model is not loaded, so it is not checked that the voice was computed by "
                "it. The voice of another encoder gives arbitrary speech. Pass encoder (--encoder)."
            )
        elif voice.model != self.encoder.identity:
            raise ConfigError(
                "The voice was computed by another speaker encoder, or one with other settings; compute it again with "
                "this model."
            )

    def check_speaker(self, voice: str) -> None:
        """Raise `ConfigError`, with the nearest names, unless `voice` is the name of a known speaker."""
        self._check_several_voices()
        if not self.speakers:
            raise ConfigError(
                f"voice is {voice!r}, which is not a file, and the model knows no speakers by name. Check the path."
            )
        if voice not in self.speakers:
            raise ConfigError(
                f"voice is {voice!r}, which is neither a known speaker nor a file; "
                f"{suggest_names(voice, self.speakers)}"
            )

    def check_pitch(self, pitch: Any) -> None:
        """Raise `ConfigError` unless `pitch` is `"match"`: the model itself determines F0."""
        if pitch != "match":
            raise ConfigError(
                f'pitch is {format_value(pitch)}; it should be "match", because the model itself determines F0.'
            )

    @overload
    def convert(
        self,
        source: Sequence[Any],
        voice: Any,
        *,
        speaker: Any = None,
        sample_rate: float | None = None,
        pitch: str = "match",
        seed: int = 0,
    ) -> list[Waveform]: ...

    @overload
    def convert(
        self,
        source: Any,
        voice: Any,
        *,
        speaker: Any = None,
        sample_rate: float | None = None,
        pitch: str = "match",
        seed: int = 0,
    ) -> Waveform: ...

    def convert(
        self,
        source: Any,
        voice: Any,
        *,
        speaker: Any = None,
        sample_rate: float | None = None,
        pitch: str = "match",
        seed: int = 0,
    ) -> Any:
        """Convert speech to another voice. Content, timing and duration are kept.

        **Arguments:**

        - `source`: an array `(samples,)` of floats with full scale at 1, an `Audio`, or the path of a file, of any
            length; or a list of these.
        - `voice`: the voice of the result: the name or id of a known speaker; for models with speaker vectors also a
            vector `(speaker_channels,)`, a `Voice`, the path of a voice file (`.json`), or what `encode_voice` accepts.
        - `speaker`: the speaker of the source, as for `speak`. By default, the speaker encoder computes its vector; a
            model with a table of speakers needs it.
        - `sample_rate`: of arrays, in Hz; `None` for files and `Audio`.
        - `pitch`: only `"match"`; the model itself determines F0.
        - `seed`: seed of the noise.

        **Returns:** float32 waveform at `self.sample_rate`; for a list a list.

        **Raises:** `AudioError` for a source that is silent, empty, too short, or contains NaN; `ConfigError` for a
        model of one voice, an unknown speaker, with the nearest names, or a voice of another encoder;
        `CheckpointError` if the model returns NaN or infinity.
        """
        check_seed(seed)
        self.check_pitch(pitch)
        self._check_several_voices()
        sources = list(source) if several(source) else [source]
        recordings = read_recordings(sources, sample_rate, "source")
        target = self._target(voice, sample_rate)
        results = [self._convert(recording, speaker, target, seed) for recording in recordings]
        return results if several(source) else results[0]

    def convert_chunks(
        self,
        source: Any,
        voice: Any,
        *,
        speaker: Any = None,
        sample_rate: float | None = None,
        pitch: str = "match",
        seed: int = 0,
    ) -> Iterator[Waveform]:
        """Yield the result of `convert` for one source, as one part. Arguments and errors are those of `convert`."""
        if several(source):
            raise ConfigError("source is a list; it should be one recording. Call convert_chunks for each of them.")
        options = {"speaker": speaker, "sample_rate": sample_rate, "pitch": pitch, "seed": seed}
        return iter([self.convert(source, voice, **options)])

    def _check_reads_vectors(self) -> None:
        if self.config.num_speakers:
            raise ConfigError(
                "The model has a table of speakers and reads no speaker vectors, so it has no voices of recordings. "
                f"Pass the name of a speaker ({list_names(self.speakers)}), or a model that reads speaker vectors."
            )
        if not self._reads_vectors:
            raise ConfigError(
                "The model has one voice, so it has no voices of recordings. Pass a model that reads speaker vectors."
            )

    def _check_several_voices(self) -> None:
        if not self.config.speaker_channels:
            raise ConfigError("The model has one voice; conversion needs a model of several voices.")

    @property
    def _reads_vectors(self) -> bool:
        return self.config.reads_vectors

    def _target(self, voice: Any, sample_rate: float | None) -> Speaker:
        if self.config.num_speakers:
            return self._speaker_id(voice, "voice")
        if isinstance(voice, str) and voice in self._speakers.vectors:
            return self._speaker(voice)
        if voice is None:
            raise ConfigError("voice is None; it should be the name of a known speaker, a recording, or a voice file.")
        if isinstance(voice, str) and not os.path.exists(voice):
            self.check_speaker(voice)
        if is_speaker_vector(voice, self.config.speaker_channels):
            return self._vector(voice, "voice")
        return self._vector(self._voice(voice, sample_rate, "voice").embedding, "The embedding of voice")

    def _convert(self, recording: Recording, speaker: Any, target: Speaker, seed: int) -> Waveform:
        if speaker is None and self._reads_vectors:
            source: Speaker = self._encoder.embed(recording)
        elif speaker is None:
            raise ConfigError(
                "speaker is None; it should be the speaker of the source, because the model has a table of speakers: "
                f"{list_names(self.speakers)}."
            )
        else:
            source = self._speaker(speaker)
        samples = np.asarray(resample(recording.samples, recording.sample_rate, self.sample_rate), np.float32)
        return self._inference.convert(samples, source, target, seed)

    def _speaker(self, speaker: Any, reference: Any = None, sample_rate: float | None = None) -> Speaker:
        """The speaker as the network reads it."""
        if speaker is not None and reference is not None:
            raise ConfigError("speaker and reference are both given; pass only one of the two.")
        if not self.config.speaker_channels:
            if speaker is not None:
                raise ConfigError(f"speaker is {format_value(speaker)}, but the model has one voice; omit it.")
            if reference is not None:
                raise ConfigError(
                    "The model has one voice and reads no recordings. Omit the reference (jaxvoice speak), or pass a "
                    "model that reads speaker vectors."
                )
            return None
        if self.config.num_speakers:
            if reference is not None:
                raise ConfigError(
                    "reference is given, but the model has a table of speakers and no speaker vectors. Pass the name "
                    f"of a speaker as speaker (jaxvoice speak --speaker): {list_names(self.speakers)}."
                )
            return self._speaker_id(speaker, "speaker")
        if reference is not None:
            return self._vector(
                self._voice(reference, sample_rate, "reference").embedding, "The embedding of reference"
            )
        if speaker is None:
            known = f"the name of a known speaker ({list_names(self.speakers)}) as speaker (--speaker), "
            raise ConfigError(
                f"The model needs the voice of a speaker. Pass {known if self.speakers else ''}a recording of the "
                f"speaker as reference (--reference), or, in Python, a vector of {self.config.speaker_channels} "
                "numbers as speaker."
            )
        if isinstance(speaker, Voice):
            raise ConfigError(f"speaker is {speaker!r}; it should be a name or a vector. Pass a voice as reference.")
        if isinstance(speaker, str):
            if speaker not in self._speakers.vectors:
                raise ConfigError(f"speaker is {speaker!r}; {suggest_names(speaker, self.speakers)}")
            return self._vector(self._speakers.vectors[speaker], f"The vector of speaker {speaker!r}")
        return self._vector(speaker, "speaker")

    def _vector(self, values: Any, name: str) -> Float32[np.ndarray, " dim"]:
        return speaker_vector(values, self.config.speaker_channels, name)

    def _speaker_id(self, speaker: Any, name: str) -> int:
        return speaker_id(speaker, self._speakers.ids, self.speakers, self.config.num_speakers, name)

    def _voice(self, voice: Any, sample_rate: float | None, name: str) -> Voice:
        if is_voice_file(voice):
            voice = Voice.load(voice)
        if isinstance(voice, Voice):
            self.check_voice(voice)
            return voice
        return self._encode_voice(voice, sample_rate, name)

"""HiFi-VC as a pipeline: speech to the same speech in the voice of a reference recording."""

import math
import warnings
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from jaxtyping import Float32

from jaxvoice.config import format_value
from jaxvoice.dsp.mel import bucketed_log_mel
from jaxvoice.dsp.nemo_mel import bucketed_nemo_log_mel
from jaxvoice.dsp.pitch import (
    PitchStatistics,
    match_pitch,
    pitch_features,
    pitch_statistics,
    shift_pitch,
    track_pitch,
)
from jaxvoice.dsp.pitch_tracking import RATE as PITCH_RATE
from jaxvoice.dsp.resampling import resample
from jaxvoice.errors import AudioError, ConfigError, warn_caller
from jaxvoice.models.conformer.config import OVERLAP, PIECE
from jaxvoice.models.hifivc.config import HiFiVCConfig
from jaxvoice.models.hifivc.family import FAMILY
from jaxvoice.models.hifivc.inference import HiFiVCInference, SourceFeatures, padded_size
from jaxvoice.models.hifivc.network import HiFiVC
from jaxvoice.pipelines.argument_checks import window_frames
from jaxvoice.pipelines.recordings import Recording, read_recording, read_recordings, several
from jaxvoice.pipelines.sources import load_for, print_notices
from jaxvoice.pipelines.vocoder import Waveform
from jaxvoice.pipelines.voice import Voice, is_voice_file, list_recordings
from jaxvoice.weights.array_names import identity_of

Pitch = Literal["match", "keep"] | float
"""What happens to the F0 of the source: mapped to the voice's, kept, or shifted by a number of semitones."""

# The settings that determine a speaker vector besides the weights. A change of these lists needs a schema of voices.
_SPEAKER_SETTINGS = ("in_channels", "widths", "size", "slope", "pre_conv_padding", "skip_bias", "head_slope", "pooling")
_MEL_SETTINGS = (
    *("sample_rate", "n_fft", "hop_length", "win_length", "num_mels", "fmin", "fmax", "mel_scale", "mel_norm", "power"),
    *("magnitude_floor", "log_floor", "log", "center", "preemphasis", "gain", "offset", "clip"),
)
_MOST_SEMITONES = 48
_TOP_DB = 10.0  # of HiFi-VC
_TRIM_FRAME, _TRIM_HOP = 2048, 512  # librosa.effects.trim


class VoiceConverter:
    """Converts speech to the voice of a reference: any speaker to any speaker, with a HiFi-VC model.

    Sources of at most `piece` seconds are encoded whole. Longer ones are encoded in windows of `piece` seconds, of
    which `overlap` seconds at each inner end are discarded, because the time and memory of the content encoder's
    attention grow with the square of the length. The results of windows differ from those of the whole recording; see
    `docs/voice_conversion.md`. The decoder works in windows without such a difference.

    Use it only with the permission of the speaker of the reference, and mark the results as synthetic.

    **Attributes:** `network`, `config`, `piece` and `overlap` in seconds.
    """

    def __init__(
        self,
        network: HiFiVC,
        config: HiFiVCConfig,
        *,
        piece: float = PIECE,
        overlap: float = OVERLAP,
        window: int = 128,
    ):
        """**Arguments:** `network` and its configuration `config`; `piece` and `overlap` in seconds; `window`, the
        content frames (40 ms) that are decoded at once. Memory grows with `window` and with the square of `piece`.

        **Raises:** `ConfigError` if `piece` is not longer than twice `overlap`, or if `window` is not larger than the
        receptive field of the decoder.
        """
        self.network, self.config = network, config
        self.piece, self.overlap = piece, overlap
        frames = window_frames(piece, overlap, config.content.frame_seconds)
        self._inference = HiFiVCInference(network, config, piece=frames[0], overlap=frames[1], window=window)

    @classmethod
    def load(
        cls, path: str | Path, *, piece: float = PIECE, overlap: float = OVERLAP, window: int = 128, **options: Any
    ) -> Any:
        """Load the model at `path`: a model folder, a run folder (its best model), or a Hub id `owner/name`.

        The other arguments are those of the class. The licence of the weights is printed to stderr if it is known.

        **Arguments:** `options`, keyword arguments of the `load` of another family's pipeline, such as
        `encoder` of a `VITSSynthesizer`.

        **Returns:** a `VoiceConverter`, or for a voice conversion model of another family the pipeline of this family,
        which also has the method `convert`.

        **Raises:** `CheckpointError` or `ConfigError` for a missing or damaged model, a model of another kind, or an
        option that its pipeline does not have; `MissingExtraError` for a Hub id without the extra `hub`.
        """
        given: dict[str, Any] = {"piece": piece, "overlap": overlap, "window": window}
        defaults = {"piece": PIECE, "overlap": OVERLAP, "window": 128}

        def own(folder: Path) -> VoiceConverter:
            network, config = FAMILY.load_network(folder)
            print_notices(folder, FAMILY)
            return cls(network, config, **given)

        changed = {name: value for name, value in given.items() if value != defaults[name]}
        expected = "a voice conversion model"
        return load_for(cls, path, "encode_voice", expected, own=own, own_options=changed, options=options)

    def __repr__(self) -> str:
        pitch = "no F0" if self.config.pitch_encoder is None else f"F0 by {self.config.pitch.tracker}"
        return f"VoiceConverter({self.sample_rate} Hz, {self.config.content.dim} content channels, {pitch})"

    @property
    def sample_rate(self) -> int:
        """Sample rate of the result in Hz."""
        return self.config.mel.sample_rate

    @cached_property
    def identity(self) -> str:
        """A hash of the speaker encoder's settings and weights, which identifies the model of a `Voice`."""
        settings = [[getattr(self.config.speaker, name) for name in _SPEAKER_SETTINGS],
                    [getattr(self.config.mel, name) for name in _MEL_SETTINGS]]  # fmt: skip
        return identity_of(self.network.speaker_encoder, settings)

    def encode_voice(
        self, reference: Any, sample_rate: float | None = None, *, top_db: float | None = _TOP_DB
    ) -> Voice:
        """The voice of one or several recordings of a speaker, for `convert`.

        Each recording is resampled, trimmed, scaled to a peak of 1 and encoded on its own. The embedding is the mean of
        the means of their distributions.

        **Arguments:**

        - `reference`: an array `(samples,)` of floats with full scale at 1, an `Audio`, or the path of a file; or a
            list of these, of any lengths.
        - `sample_rate`: of arrays, in Hz; `None` for files and `Audio`.
        - `top_db`: silence at both ends is removed, down to so many decibels below the loudest frame; `None` removes
            nothing. HiFi-VC uses 10, so quiet first and last syllables are removed too.

        **Raises:** `AudioError` for a recording that is silent, empty, too short after trimming, or contains NaN, or
        for another sample rate; `ConfigError` for an empty list or a `top_db` that is not positive. Warns with
        `JaxvoiceWarning` about clipped recordings, and if no frame is voiced.
        """
        if top_db is not None and not (isinstance(top_db, int | float) and 0 < top_db < float("inf")):
            raise ConfigError(f"top_db is {format_value(top_db)}; it should be a positive number of decibels, or None.")
        return self._encode_voice(reference, sample_rate, top_db, "reference")

    def _encode_voice(self, reference: Any, sample_rate: float | None, top_db: float | None, name: str) -> Voice:
        recordings = read_recordings(list_recordings(reference, name), sample_rate, name)
        parts = [self._reference(recording, top_db) for recording in recordings]
        embeddings = [self._inference.speaker(bucketed_log_mel(part, self.config.mel)) for part in parts]
        return Voice(
            embedding=np.mean(np.stack(embeddings), axis=0),
            pitch=self._reference_pitch(parts, [recording.name for recording in recordings]),
            seconds=sum(map(len, parts)) / self.sample_rate,
            references=len(parts),
            model=self.identity,
        )

    @overload
    def convert(
        self, source: Sequence[Any], voice: Any, *, sample_rate: float | None = None, pitch: Pitch = "match"
    ) -> list[Waveform]: ...

    @overload
    def convert(
        self, source: Any, voice: Any, *, sample_rate: float | None = None, pitch: Pitch = "match"
    ) -> Waveform: ...

    def convert(self, source: Any, voice: Any, *, sample_rate: float | None = None, pitch: Pitch = "match") -> Any:
        """Convert speech to a voice. Content, timing and duration are kept.

        The source is scaled to a peak of 1 for the model, and the result is scaled by the peak of the source, at most
        1, so that it is about as loud as the source and within [-1, 1].

        **Arguments:**

        - `source`: an array `(samples,)` of floats with full scale at 1, an `Audio`, or the path of a file, of any
            length; or a list of these, which are computed in batches of similar lengths.
        - `voice`: a `Voice`, the path of a voice file (`.json`), or what `encode_voice` accepts.
        - `sample_rate`: of arrays, in Hz; `None` for files and `Audio`.
        - `pitch`: `"match"` maps the median and spread of the source's log F0 to those of the voice, `"keep"` keeps
            the F0, and a number from -48 to 48 shifts it by semitones. A pitch encoder with `instance_norm`, as in the
            preset `full`, removes the mean and scale of F0 itself, so the choice then has little effect.

        **Returns:** float32 waveform `(round(seconds * self.sample_rate),)` at `self.sample_rate`; for a list a list.

        **Raises:** `AudioError` for a source that is silent, empty, too short, or contains NaN, or for another sample
        rate; `ConfigError` for another `pitch`, or a voice of another model; `CheckpointError` if the model returns NaN
        or infinity. Warns with `JaxvoiceWarning` about clipped sources, sources without a voiced frame (their F0 is not
        matched), and a shift that the model removes.
        """
        sources = list(source) if several(source) else [source]
        _check_pitch(pitch, self.config)
        recordings = read_recordings(sources, sample_rate, "source")
        voice = self._voice(voice, sample_rate)
        features = [self._source(recording, voice, pitch) for recording in recordings]
        results: list[Waveform] = [np.empty(0, np.float32)] * len(features)
        for index, samples in self._inference.convert(features, voice.embedding):
            results[index] = samples[: self._samples(recordings[index])] * _gain(recordings[index])
        return results if several(source) else results[0]

    def convert_chunks(
        self, source: Any, voice: Any, *, sample_rate: float | None = None, pitch: Pitch = "match"
    ) -> Iterator[Waveform]:
        """Yield the result of `convert` for one source in parts of at most `piece` seconds, for long recordings.

        The source is read and its features are computed at once; the parts are computed when they are asked for.
        Arguments and errors are those of `convert`.
        """
        if several(source):
            raise ConfigError("source is a list; it should be one recording. Call convert_chunks for each of them.")
        _check_pitch(pitch, self.config)
        recording = read_recording(source, sample_rate, "source")
        voice = self._voice(voice, sample_rate)
        source = self._source(recording, voice, pitch)
        # The generator does not keep the recording in memory.
        return self._chunks(source, voice, self._samples(recording), _gain(recording))

    def warm_up(self, *, longest: float = 10.0) -> None:
        """Compile the programs for sources of at most `longest` seconds, so that the first calls do not compile them.

        Batches and references may still need other programs.

        **Raises:** `ConfigError` if `longest` is not positive.
        """
        if not longest > 0:
            raise ConfigError(f"longest is {longest}; it should be positive.")
        mel = self.config.content.mel
        most = math.ceil(min(longest, self.piece) * mel.sample_rate / mel.hop_length)
        sizes = sorted({padded_size(frames) for frames in range(1, most + 1)})
        voice = Voice(np.zeros(self.config.speaker.size, np.float32), None, 0.0, 1, self.identity)
        for frames in sizes:
            samples = min((frames - 1) * mel.hop_length, round(self.piece * mel.sample_rate))
            noise = np.random.default_rng(0).uniform(-0.5, 0.5, samples).astype(np.float32)
            self.convert(noise, voice, sample_rate=mel.sample_rate, pitch="keep")

    def _voice(self, voice: Any, sample_rate: float | None) -> Voice:
        if is_voice_file(voice):
            voice = Voice.load(voice)
        if not isinstance(voice, Voice):
            return self._encode_voice(voice, sample_rate, _TOP_DB, "voice")
        self.check_voice(voice)
        return voice

    def check_voice(self, voice: Voice) -> None:
        """Raise `ConfigError` unless `voice` was computed by the speaker encoder of this model."""
        if voice.model != self.identity or voice.embedding.shape != (self.config.speaker.size,):
            raise ConfigError(
                f"The voice was computed by the model {voice.model[:12]}; it should be of this model, "
                f"{self.identity[:12]}. Compute it again from the recordings with encode_voice (jaxvoice voice)."
            )

    def check_pitch(self, pitch: Pitch) -> None:
        """Raise `ConfigError` for a `pitch` that `convert` does not accept, and warn about one that has no effect."""
        _check_pitch(pitch, self.config)

    def _reference(self, recording: Recording, top_db: float | None) -> Float32[np.ndarray, " samples"]:
        """The reference at the rate of its mel, trimmed and with a peak of 1."""
        samples = resample(recording.samples / np.float32(recording.peak), recording.sample_rate, self.sample_rate)
        if top_db is not None:
            samples = _trimmed(samples, top_db)
        least = self.config.minimum_reference
        if len(samples) < least:
            trimmed = f" after trimming at {top_db:g} dB" if top_db is not None else ""
            hint = ", or, in Python, pass a larger top_db" if top_db is not None else ""
            raise AudioError(
                f"{recording.name} is {len(samples) / self.sample_rate:.2f} s long{trimmed}; it should be at least "
                f"{least / self.sample_rate:.2f} s. Use a longer recording of the speaker{hint}."
            )
        return samples / np.abs(samples).max()

    def _reference_pitch(
        self, parts: Sequence[Float32[np.ndarray, " samples"]], names: Sequence[str]
    ) -> PitchStatistics | None:
        if self.config.pitch_encoder is None:
            return None
        least = self.config.pitch.min_samples / PITCH_RATE
        long = [part for part in parts if len(part) >= least * self.sample_rate]
        f0s = [track_pitch(part, self.sample_rate, self.config.pitch) for part in long]
        if not any(f0.any() for f0 in f0s):
            warn_caller(
                f"No frame of {', '.join(names[:3])}{' ...' if len(names) > 3 else ''} is voiced, so it is probably "
                "not speech. The F0 of sources is not matched to this voice."
            )
            return None
        return pitch_statistics(f0s)

    def _source(self, recording: Recording, voice: Voice, pitch: Pitch) -> SourceFeatures:
        """What the network reads of a source, with the F0 that it should have."""
        content = self.config.content
        speech = resample(
            recording.samples / np.float32(recording.peak), recording.sample_rate, content.mel.sample_rate
        )
        tracked = self.config.pitch_encoder is not None
        least = content.mel.min_samples / content.mel.sample_rate
        least = max(least, self.config.pitch.min_samples / PITCH_RATE) if tracked else least
        if len(speech) < least * content.mel.sample_rate:
            raise AudioError(
                f"{recording.name} is {recording.seconds:.3f} s long; it should be at least {least:.3f} s. Use a "
                "longer recording, or append silence."
            )
        # Frames of the newer releases end with the last whole hop; the model should hear what follows it, too.
        padded = np.pad(speech, (0, -len(speech) % content.mel.hop_length)) if content.nemo_release == "2.6" else speech
        features = bucketed_nemo_log_mel(padded, content.mel, release=content.nemo_release)
        if self.config.pitch_encoder is None:
            return SourceFeatures(features, None)
        f0 = self._changed_pitch(
            track_pitch(speech, content.mel.sample_rate, self.config.pitch), recording, voice, pitch
        )
        ratio = content.hop_length // content.mel.hop_length
        frames = -(-features.shape[1] // ratio) * self.config.pitch_encoder.downsampling
        phase = self.config.decoder.harmonic_source
        return SourceFeatures(features, pitch_features(f0, frames, phase=phase))

    def _changed_pitch(
        self, f0: Float32[np.ndarray, " frames"], recording: Recording, voice: Voice, pitch: Pitch
    ) -> Float32[np.ndarray, " frames"]:
        if pitch == "keep":
            return f0
        if not f0.any():
            warn_caller(f"No frame of {recording.name} is voiced, so it is probably not speech. Its F0 is kept.")
            return f0
        if not isinstance(pitch, str):
            return shift_pitch(f0, pitch)
        if voice.pitch is None:
            warn_caller(f"The voice has no F0, so that of {recording.name} is kept.")
            return f0
        return match_pitch(f0, pitch_statistics([f0]), voice.pitch, self.config.pitch)

    def _chunks(self, source: SourceFeatures, voice: Voice, left: int, gain: np.float32) -> Iterator[Waveform]:
        for samples in self._inference.stream(source, voice.embedding):
            yield samples[:left] * gain
            left -= min(left, len(samples))
            if not left:
                return

    def _samples(self, recording: Recording) -> int:
        """The number of samples of the result, rounded half up."""
        count = 2 * len(recording.samples) * self.sample_rate
        return (count + recording.sample_rate) // (2 * recording.sample_rate)


def _gain(recording: Recording) -> np.float32:
    """The factor that restores the level of the recording in the result."""
    return np.float32(min(recording.peak, 1.0))


def _trimmed(samples: Float32[np.ndarray, " samples"], top_db: float) -> Float32[np.ndarray, " samples"]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the packages that librosa imports
        from librosa.effects import trim

    return trim(samples, top_db=top_db, frame_length=_TRIM_FRAME, hop_length=_TRIM_HOP)[0]


def _check_pitch(pitch: Any, config: HiFiVCConfig) -> None:
    if isinstance(pitch, str) and pitch in ("match", "keep"):
        return
    number = isinstance(pitch, int | float | np.floating | np.integer) and not isinstance(pitch, bool)
    semitones = float(pitch) if number else math.nan
    if not -_MOST_SEMITONES <= semitones <= _MOST_SEMITONES:
        raise ConfigError(
            f'pitch is {format_value(pitch)}; it should be "match", "keep", or a number of semitones from '
            f"-{_MOST_SEMITONES} to {_MOST_SEMITONES}."
        )
    if config.pitch_encoder is None:
        raise ConfigError(
            f'pitch is {format_value(pitch)}; it should be "keep", because the model has no pitch encoder.'
        )
    if semitones and config.pitch_encoder.instance_norm:
        warn_caller(
            f"pitch is {semitones:g} semitones, but the pitch encoder of this model normalises each channel over the "
            "recording (instance_norm), so a constant shift of F0 has little effect. The voice determines the register."
        )

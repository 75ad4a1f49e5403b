"""The voice of a speaker for XTTS, its computation from recordings, and its file."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Float32, Int, Int32

from jaxvoice.config import to_dict
from jaxvoice.data.audio import SILENCE
from jaxvoice.dsp.resampling import resample
from jaxvoice.errors import AudioError, CheckpointError, ConfigError, warn_caller
from jaxvoice.models.xtts.config import ReferenceConfig
from jaxvoice.models.xtts.network import XTTS
from jaxvoice.models.xtts.references import SHORTEST_PART, reference_parts, speaker_audio
from jaxvoice.models.xtts_dvae.front_end import normalized_log_mel
from jaxvoice.pipelines.recordings import Recording
from jaxvoice.weights.array_names import identity_of
from jaxvoice.weights.file_writing import write_safetensors
from jaxvoice.weights.formats import open_archive

XTTS_VOICE_SUFFIX = ".safetensors"
"""The suffix of files of voices of XTTS."""
_SHORT = 3.0  # seconds
_KIND = "xtts"
_ENCODER_RATE = 16000


@dataclass(frozen=True, eq=False)
class XTTSVoice:
    """The voice of a speaker, computed from recordings by `XTTSSynthesizer.voice`.

    **Raises:** `ConfigError` for vectors of another shape or type, NaN, infinity, or zeros only.
    """

    conditioning: Float32[np.ndarray, "vectors channels"]
    """The vectors that the language model reads."""
    speaker: Float32[np.ndarray, " dim"]
    """The vector of the speaker, which the decoder reads."""
    seconds: float
    """Duration of the recordings together, as far as they were used; 0 for a voice of the model."""
    references: int
    """The number of recordings; 0 for a voice of the model."""
    model: str
    """Identifies the networks that computed the vectors: a hash of their settings and weights."""

    def __post_init__(self) -> None:
        for name, rank in (("conditioning", 2), ("speaker", 1)):
            values = np.asarray(getattr(self, name))
            if values.ndim != rank or not values.size or not np.issubdtype(values.dtype, np.floating):
                raise ConfigError(
                    f"XTTSVoice.{name} has shape {values.shape} and type {values.dtype}; it should be floats with "
                    f"{rank} {'axis' if rank == 1 else 'axes'}."
                )
            if not np.isfinite(values).all() or not values.any():
                raise ConfigError(f"XTTSVoice.{name} contains NaN or infinity, or only zeros; compute the voice again.")
            values = values.astype(np.float32)
            values.flags.writeable = False
            object.__setattr__(self, name, values)

    def __repr__(self) -> str:
        count = "1 recording" if self.references == 1 else f"{self.references} recordings"
        made = f"{count}, {self.seconds:.2f} s" if self.references else "stored in the model"
        return f"XTTSVoice({made}, {len(self.conditioning)} vectors, model {self.model[:12]})"

    def save(self, path: str | Path) -> None:
        """Write the voice to a safetensors file, which `load` reads.

        **Raises:** `ConfigError` unless the suffix of `path` is `.safetensors`; `CheckpointError` if it cannot be
        written.
        """
        path = Path(path)
        if path.suffix.lower() != XTTS_VOICE_SUFFIX:
            raise ConfigError(
                f"path is {path}; it should end in {XTTS_VOICE_SUFFIX}, the suffix of voice files of XTTS."
            )
        arrays = {"conditioning": self.conditioning, "speaker": self.speaker}
        metadata = {
            "voice": _KIND,
            "model": self.model,
            "seconds": repr(float(self.seconds)),
            "references": str(self.references),
        }
        specs = {name: (array.shape, array.dtype) for name, array in arrays.items()}
        write_safetensors(path, specs, arrays.items(), metadata)

    @classmethod
    def load(cls, path: str | Path) -> "XTTSVoice":
        """Read the voice that `save` wrote to `path`.

        **Raises:** `CheckpointError` if the file is missing, damaged, or contains no voice of an XTTS.
        """
        path = Path(path)
        if not path.is_file():
            raise CheckpointError(f"{path} is missing or is not a file; pass a file that XTTSVoice.save wrote.")
        with open_archive(path) as archive:
            about, names = archive.metadata, set(archive.tensors)
            if about.get("voice") != _KIND or names != {"conditioning", "speaker"}:
                raise CheckpointError(
                    f"{path} contains no voice of an XTTS; pass a file that XTTSVoice.save or jaxvoice voice wrote."
                )
            try:
                return cls(
                    np.array(archive.tensors["conditioning"]),
                    np.array(archive.tensors["speaker"]),
                    float(about["seconds"]),
                    int(about["references"]),
                    str(about["model"]),
                )
            except (ConfigError, KeyError, ValueError) as failure:
                raise CheckpointError(
                    f"{path} is not a complete voice: {failure} Write it again from the recordings."
                ) from failure


def is_xtts_voice_file(value: Any) -> bool:
    """Whether `value` is the path of a voice file of XTTS, by its suffix."""
    return isinstance(value, str | Path) and Path(value).suffix.lower() == XTTS_VOICE_SUFFIX


def voice_identity(network: XTTS) -> str:
    """A hash of the networks that compute voices, and of their settings. Other networks compute other vectors."""
    config = network.config
    settings = {
        "conditioning": to_dict(config.gpt.conditioning),
        "speaker_encoder": to_dict(config.speaker_encoder),
        "rate": config.input_rate,
    }
    gpt = network.gpt
    parts = (gpt.conditioning_encoder, gpt.conditioning_perceiver, network.hifigan_decoder.speaker_encoder)
    return identity_of((*parts, network.mel_stats), settings)


def reference_config(default: ReferenceConfig, seconds: Any, part: Any) -> ReferenceConfig:
    """`default` with the lengths in seconds that are not `None`; `seconds` limits each recording too.

    **Raises:** `ConfigError` for lengths out of range.
    """
    given = {"seconds": seconds, "longest": seconds, "part": part}
    changes = {name: _as_float(value) for name, value in given.items() if value is not None}
    try:
        return dataclasses.replace(default, **changes)
    except ConfigError as failure:
        raise ConfigError(str(failure).removeprefix("ReferenceConfig.")) from None


def _as_float(value: Any) -> Any:
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    return float(value) if number else value


def compute_voice(network: XTTS, recordings: Sequence[Recording], lengths: ReferenceConfig, identity: str) -> XTTSVoice:
    """The voice of recordings of one speaker.

    The language model reads the recordings one after another, in parts whose vectors are averaged; without a perceiver
    in one part. The vector of the speaker is the mean of those of the recordings. Programs are compiled for parts and
    recordings of a few lengths.

    coqui-ai/TTS `TTS/tts/models/xtts.py:get_conditioning_latents`.

    **Raises:** `AudioError` for recordings shorter than 0.33 s; `CheckpointError` if the model returns NaN. Warns with
    `JaxvoiceWarning` about recordings that are together shorter than 3 s.
    """
    rate = network.config.input_rate
    clips = [_prepared(recording, rate, lengths.longest) for recording in recordings]
    audio = np.concatenate(clips)[: int(rate * lengths.seconds)]
    if len(audio) / rate < _SHORT:
        warn_caller(
            f"The reference is {len(audio) / rate:.2f} s long; voices of less than {_SHORT:g} s are unreliable. Use "
            "longer recordings of the speaker."
        )
    perceives = network.gpt.conditioning_perceiver is not None
    parts = reference_parts(len(audio), rate, seconds=lengths.seconds, part=lengths.part)
    places = parts if perceives else [(0, len(audio))]
    vectors = [_condition(network, *_padded(audio[start:stop], rate)) for start, stop in places]
    mel = network.config.gpt.conditioning.mel
    frames = len(vectors[0]) if perceives else (places[0][1] - places[0][0]) // mel.hop_length + 1
    conditioning = np.mean([np.asarray(one)[:frames] for one in vectors], axis=0)
    speaker = np.mean([np.asarray(_embed(network, *_padded(clip, rate))) for clip in clips], axis=0)
    if not np.isfinite(conditioning).all() or not np.isfinite(speaker).all():
        raise CheckpointError("The model returned NaN or infinity; its weights are probably damaged. Import it again.")
    seconds = sum(len(clip) for clip in clips) / rate
    return XTTSVoice(conditioning, speaker, seconds, len(clips), identity)


def _prepared(recording: Recording, rate: int, longest: float) -> Float32[np.ndarray, " samples"]:
    """The first `longest` seconds of a recording at `rate`, within [-1, 1]."""
    samples = recording.samples[: int(recording.sample_rate * (longest + 1))]
    clip = np.clip(resample(samples, recording.sample_rate, rate), -1, 1)[: int(rate * longest)]
    if len(clip) < SHORTEST_PART * rate:
        raise AudioError(
            f"{recording.name} is {recording.seconds:.2f} s long; it should be at least {SHORTEST_PART} s, and some "
            "seconds for a reliable voice. Use a longer recording of the speaker."
        )
    if np.abs(clip).max() < SILENCE:
        raise AudioError(
            f"The first {longest:g} s of {recording.name}, which are used, are silent; they should contain speech. Cut "
            "the silence."
        )
    return clip


def _padded(audio: Float32[np.ndarray, " samples"], rate: int) -> tuple[Float32[Array, " samples"], Int32[Array, ""]]:
    """`audio` with zeros up to 1, 2, 3, 4, 6, 8, 12, 16, ... seconds, and its length."""
    size, step = 1, 1
    while size * rate < len(audio):
        size += step
        step = 1 << (size.bit_length() - 2) if size > 2 else 1
    return jnp.asarray(np.pad(audio, (0, size * rate - len(audio)))), jnp.int32(len(audio))


@eqx.filter_jit
def _condition(
    network: XTTS, audio: Float[Array, " samples"], length: Int[Array, ""]
) -> Float[Array, "vectors channels"]:
    """The vectors of the first `length` samples; without a perceiver also of padding."""
    mel = network.config.gpt.conditioning.mel
    frames = normalized_log_mel(audio, network.mel_stats, mel, length=length)
    return network.gpt.condition(frames, count=length // mel.hop_length + 1)


@eqx.filter_jit
def _embed(network: XTTS, audio: Float[Array, " samples"], length: Int[Array, ""]) -> Float[Array, " dim"]:
    """The vector of the speaker of the first `length` samples."""
    rate = network.config.input_rate
    resampled = -(-length * _ENCODER_RATE // rate)
    return network.hifigan_decoder.speaker_encoder(speaker_audio(audio, rate), length=resampled)

"""Embeddings of speakers from recordings of any length."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import equinox as eqx
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Float32, Int

from jaxvoice.config import to_dict
from jaxvoice.dsp.framing import bucket_size
from jaxvoice.dsp.mel import bucketed_log_mel
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.dsp.resampling import resample
from jaxvoice.errors import AudioError, CheckpointError, ConfigError, ShapeError, warn_caller
from jaxvoice.models.speaker_encoder.config import SpeakerEncoderConfig
from jaxvoice.models.speaker_encoder.embedding import (
    FRAMES,
    SpeakerNetwork,
    embed_partial,
    in_partials,
    level_gain,
    partial_windows,
    spread_windows,
    window_length,
)
from jaxvoice.models.speaker_encoder.family import FAMILY
from jaxvoice.pipelines.argument_checks import validate_audio
from jaxvoice.pipelines.recordings import Recording, read_recording, read_recordings, several
from jaxvoice.pipelines.sources import find_model_folder, print_notices
from jaxvoice.weights.array_names import identity_of
from jaxvoice.weights.model_folder import read_config_file

MIN_SECONDS = 0.2
"""The shortest recording that an encoder embeds, in seconds."""
_SHORT = 1.0  # seconds
_MOST_ROWS = 16  # windows of a compiled program

Embedding = Float32[np.ndarray, " dim"]


class SpeakerEncoder:
    """A speaker encoder for recordings of any length and sample rate.

    A recording is scaled to the level of the configuration, and embedded in windows by the rule of the release:
    the mean of ten windows of 2.5 s for coqui's encoders, whose norm is at most 1, and the normalised mean of windows
    of 1.6 s for Resemblyzer's. Silence is not removed. Embeddings of different models cannot be compared.

    **Attributes:** `network` (with its running statistics), `config`, and `info`, the metadata of the model folder,
    such as the licence of the weights.
    """

    def __init__(self, network: SpeakerNetwork, config: SpeakerEncoderConfig, *, info: Mapping[str, Any] | None = None):
        """**Arguments:** `info`, metadata of the network, by default none.

        **Raises:** `ConfigError` for a network of another configuration.
        """
        if network.config != config:
            raise ConfigError("The network has another configuration than config; pass the configuration it has.")
        self.network, self.config, self.info = network, config, dict(info or {})

    @classmethod
    def load(cls, path: str | Path) -> "SpeakerEncoder":
        """Load the encoder at `path`: a model folder, a run folder (its best model), or a Hub id `owner/name`.

        The licence of the weights is printed to stderr if it is known.

        **Raises:** `CheckpointError` or `ConfigError` for a missing or damaged model; `MissingExtraError` for a Hub id
        without the extra `hub`.
        """
        folder = find_model_folder(path)
        network, config = FAMILY.load_network(folder)
        print_notices(folder, FAMILY)
        info = read_config_file(folder).table.get("info")
        return cls(network, config, info=info if isinstance(info, Mapping) else None)

    def __repr__(self) -> str:
        return f"SpeakerEncoder({self.sample_rate} Hz, {self.dim} components)"

    @property
    def sample_rate(self) -> int:
        """Sample rate of the encoder in Hz, to which recordings are resampled."""
        return self.config.sample_rate

    @property
    def dim(self) -> int:
        """Components of an embedding."""
        return self.config.dim

    @cached_property
    def identity(self) -> str:
        """A hash of the configuration and the weights, which identifies the encoder of a `Voice` and of a training.

        Encoders with the same weights and another sample rate, other mels or another level have other embeddings.
        """
        return identity_of(self.network, to_dict(self.config))

    @overload
    def embed(
        self, audio: list[Any] | tuple[Any, ...], sample_rate: float | None = None
    ) -> Float32[np.ndarray, "n dim"]: ...

    @overload
    def embed(self, audio: Any, sample_rate: float | None = None) -> Embedding: ...

    def embed(self, audio: Any, sample_rate: float | None = None) -> Any:
        """The embedding `(dim,)` of a recording, or an array `(n, dim)` of those of a list of recordings.

        **Arguments:** `audio`, the path of a file, an `Audio`, or an array `(samples,)` at `sample_rate` Hz; or a list
        of these, of any lengths. Channels of files are averaged. Besides a few copies of the recording, the memory does
        not grow with its length.

        **Raises:** `AudioError` for another type, a file that cannot be read, an array without a sample rate, audio
        that is silent, contains NaN, or is shorter than 0.2 s; `CheckpointError` if the encoder returns NaN or
        infinity. Warns with `JaxvoiceWarning` about recordings shorter than 1 s, whose embeddings depend on what is
        said, and about clipped recordings.
        """
        if not several(audio):
            return self._embed(read_recording(audio, sample_rate, "audio"))
        recordings = read_recordings(audio, sample_rate, "recording")
        return np.stack([self._embed(one) for one in recordings]) if recordings else np.zeros((0, self.dim), np.float32)

    def similarity(self, a: Any, b: Any, sample_rate: float | None = None) -> Any:
        """The cosine of the angle between two embeddings, from -1 to 1.

        **Arguments:** `a` and `b`, recordings as for `embed`, or embeddings: arrays or lists of numbers of shape
        `(dim,)` or `(n, dim)`, or lists of recordings and embeddings; `sample_rate`, that of recordings that are
        arrays. Without it, arrays are embeddings.

        **Returns:** a number; for several embeddings or recordings, an array with a row for each of `a`, and a column
        for each of `b`.

        **Raises:** `ShapeError` for embeddings with another number of components, whose norm is 0, or with NaN or
        infinity; otherwise as `embed`.
        """
        first, second = (self._embeddings(value, sample_rate, name) for value, name in ((a, "a"), (b, "b")))
        return cosines(first, second)

    def _embeddings(self, value: Any, sample_rate: float | None, name: str) -> Float[np.ndarray, "*n dim"]:
        if several(value):
            if not value or not all(isinstance(item, int | float | np.number) for item in value):
                rows = [self._embedding(item, sample_rate, f"{name}[{place}]") for place, item in enumerate(value)]
                return np.stack(rows) if rows else np.zeros((0, self.dim), np.float32)
            value = np.array(value, np.float64)
        if isinstance(value, np.ndarray | Array) and value.ndim == 2 and value.shape[1] == self.dim:
            return np.asarray(value)
        return self._embedding(value, sample_rate, name)

    def _embedding(self, value: Any, sample_rate: float | None, name: str) -> Float[np.ndarray, " dim"]:
        """The embedding `value` or that of the recording `value`, called `name` in messages."""
        if several(value):
            value = np.array(value)
        if isinstance(value, np.ndarray | Array):
            if value.shape == (self.dim,) and jnp.issubdtype(value.dtype, jnp.number):
                return np.asarray(value)
            if value.ndim != 1 or sample_rate is None:
                raise ShapeError(
                    f"{name} has shape {value.shape}; it should have {self.dim} components, the embedding of this "
                    "encoder, or be a recording (samples,) with its sample_rate. Embeddings of different encoders "
                    "cannot be compared."
                )
        return self._embed(read_recording(value, sample_rate, name))

    def _embed(self, recording: Recording) -> Embedding:
        audio = self._prepared(recording)
        total, count = np.zeros(self.dim), 0
        for windows in _batches(self._windows(audio)):
            rows, length = len(windows), windows.shape[1]
            # Few programs are compiled: the number of rows is a power of two, and short recordings are padded.
            size = 1 << (rows - 1).bit_length()
            padded = np.concatenate([windows, np.repeat(windows[-1:], size - rows, axis=0)])
            if not in_partials(self.config):
                longest = window_length(self.config)
                unit = longest // FRAMES
                width = min(bucket_size(-(-length // unit), FRAMES) * unit, longest)
                padded = np.pad(padded, [(0, 0), (0, width - length), *[(0, 0)] * (padded.ndim - 2)])
            embeddings = np.asarray(self._function(self.network, jnp.asarray(padded), np.int32(length)))[:rows]
            total, count = total + embeddings.sum(axis=0, dtype=np.float64), count + rows
        mean = (total / count).astype(np.float32)
        if not np.isfinite(mean).all():
            raise CheckpointError("The encoder returned NaN or infinity; its weights are probably damaged.")
        if in_partials(self.config):
            mean /= max(float(np.linalg.norm(mean)), 1e-12)
        return mean

    def _prepared(self, recording: Recording) -> Float32[np.ndarray, " samples"]:
        """The samples of `recording` at the rate and the level of the encoder."""
        if recording.seconds < MIN_SECONDS:
            raise AudioError(
                f"{recording.name} is {recording.seconds:.3f} s long; it should be at least {MIN_SECONDS} s, and some "
                "seconds for a reliable embedding. Use a longer recording of the speaker."
            )
        if recording.seconds < _SHORT:
            warn_caller(
                f"{recording.name} is {recording.seconds:.2f} s long; embeddings of less than {_SHORT:g} s depend on "
                "what is said more than on the speaker. Use a longer recording."
            )
        samples = validate_audio(resample(recording.samples, recording.sample_rate, self.sample_rate))
        return scaled_to_level(samples, self.config)

    def _windows(self, audio: Float32[np.ndarray, " samples"]) -> Iterator[np.ndarray]:
        """The windows of which the embedding is the mean: of audio, or of mels."""
        if in_partials(self.config):
            return partial_windows(audio, self.config)
        mel = self.config.mel
        return spread_windows(bucketed_log_mel(audio, mel).T if isinstance(mel, MelConfig) else audio, self.config)

    @cached_property
    def _function(self) -> Any:
        partials = in_partials(self.config)

        @eqx.filter_jit
        def of_windows(
            network: SpeakerNetwork, windows: Float[Array, "rows size"], length: Int[Array, ""]
        ) -> Float[Array, "rows dim"]:
            if partials:
                return embed_partial(network, windows)
            return network(windows, length=jnp.broadcast_to(length, windows.shape[:1]))

        return of_windows


def cosines(a: Float[np.ndarray, "*n dim"], b: Float[np.ndarray, "*m dim"]) -> Any:
    """The cosines of the angles between embeddings: a number for two vectors, otherwise an array `(*n, *m)`.

    **Raises:** `ShapeError` if the numbers of components differ, or if an embedding has a norm of 0 or contains NaN or
    infinity.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape[-1] != b.shape[-1]:
        raise ShapeError(
            f"The embeddings have {a.shape[-1]} and {b.shape[-1]} components; they should be of the same encoder."
        )
    if not all(np.isfinite(one).all() for one in (a, b)):
        raise ShapeError("An embedding contains NaN or infinity; it should be finite. Compute it again.")
    norms = [np.linalg.norm(one, axis=-1, keepdims=True) for one in (a, b)]
    if not all((norm > 0).all() for norm in norms):
        raise ShapeError("An embedding has a norm of 0; the cosine of its angle is undefined. Compute it again.")
    result = np.clip((a / norms[0]) @ (b / norms[1]).T, -1.0, 1.0)
    return float(result) if result.ndim == 0 else result.astype(np.float32)


def scaled_to_level(
    samples: Float32[np.ndarray, " samples"], config: SpeakerEncoderConfig
) -> Float32[np.ndarray, " samples"]:
    """`samples` with the root mean square that `config.level` states; louder ones may keep their level."""
    gain = level_gain(samples, config)
    return samples if gain == 1 else samples * np.float32(gain)


def _batches(windows: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    rows: list[np.ndarray] = []
    for window in windows:
        rows.append(window)
        if len(rows) == _MOST_ROWS:
            yield np.stack(rows)
            rows = []
    if rows:
        yield np.stack(rows)

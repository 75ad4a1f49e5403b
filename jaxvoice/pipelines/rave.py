"""RAVE as a pipeline: audio to latents, latents to audio, and audio through the latents of a model."""

import functools as ft
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Float32, PRNGKeyArray, Shaped

from jaxvoice.config import differences, format_value
from jaxvoice.errors import AudioError, ConfigError
from jaxvoice.models.rave.adaptation import pieces_of, with_statistics
from jaxvoice.models.rave.config import RaveConfig
from jaxvoice.models.rave.family import FAMILY
from jaxvoice.models.rave.generators import GeneratorState
from jaxvoice.models.rave.inference import RaveInference, generator_noise, reconstruct, whole_frames
from jaxvoice.models.rave.latent_pca import LatentPCA
from jaxvoice.models.rave.receptive_fields import ReceptiveField, receptive_field
from jaxvoice.models.rave.streaming import audio_latency, autoencoder_stream
from jaxvoice.models.rave.trained import TrainedRave
from jaxvoice.pipelines.argument_checks import check_seed
from jaxvoice.pipelines.rave_arguments import (
    AudioInput,
    audio_input,
    audio_samples,
    check_results,
    component_count,
    latent_rows,
)
from jaxvoice.pipelines.rave_session import RaveSession
from jaxvoice.pipelines.sources import find_model_folder, print_notices

RaveLatents = Shaped[np.ndarray, "*channels latents frames"]
"""Latents in float32, or the codes of a model that quantises in int32."""
_DECODED = "samples of the decoded audio", "the latents are too large"
_LATENTS, _PADDING, _NOISE = range(3)  # the uses of random numbers, each with its own key


class Rave:
    """Audio to latents at a low rate, and latents to audio, with a RAVE model.

    Audio is `(samples,)`, or `(channels, samples)`. A model of one channel encodes each channel of the audio on its
    own; a model of several channels takes audio with as many. Latents are `(latents, frames)`, or
    `(channels, latents, frames)` if each channel has its own. A frame is `hop_length` samples; the end of the audio is
    padded with zeros to a whole frame.

    Without `latent_size` and `fidelity`, `encode` returns all latents of the model. With one of them, it returns the
    first principal components of the latents, as exports of the release do, and `decode` takes these.

    **Attributes:** `network` and `state` of the model, `config`, and `window` in frames.
    """

    def __init__(
        self,
        model: TrainedRave,
        config: RaveConfig,
        *,
        latent_size: int | None = None,
        fidelity: float | None = None,
        window: int = 128,
    ):
        """**Arguments:**

        - `model` and its configuration `config`.
        - `latent_size`: the number of principal components that `encode` returns and `decode` takes.
        - `fidelity`: instead of `latent_size`, the share of the variance of the latents that the components explain:
            the smallest number of components that explain more than this share. The release takes the next power of two
            instead; see `LatentPCA.export_size_for`.
        - `window`: the frames of latents that are computed at once. Memory grows with it.

        **Raises:** `ConfigError` if `model` has another configuration than `config`, for both or invalid values of
        `latent_size` and `fidelity`, if the model has no principal components, or if `window` is not larger than the
        receptive field.
        """
        unlike = differences(model.network.config, config)
        if unlike:
            raise ConfigError(
                f"The configuration of the network differs from config (network != config: {'; '.join(unlike)}). "
                "Pass the configuration that the network was built from."
            )
        self.network, self.state, self.config, self.window = model.network, model.state, config, window
        self._inference = RaveInference(model, window)
        self._components = component_count(lambda: self.pca, latent_size, fidelity)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        latent_size: int | None = None,
        fidelity: float | None = None,
        window: int = 128,
    ) -> "Rave":
        """Load the model at `path`: a model folder, a run folder (its best model), or a Hub id `owner/name`.

        The other arguments are those of the class. The licence of the weights is printed to stderr if it is known.

        **Raises:** `CheckpointError` or `ConfigError` for a missing or damaged model; `MissingExtraError` for a Hub id
        without the extra `hub`; otherwise as the class.
        """
        folder = find_model_folder(path)
        model, config = FAMILY.load_network(folder)
        print_notices(folder, FAMILY)
        return cls(model, config, latent_size=latent_size, fidelity=fidelity, window=window)

    def __repr__(self) -> str:
        kind = self.config.bottleneck.kind
        return f"Rave({self.sample_rate} Hz, {self.channels} channels, {self.latent_size} {kind} latents)"

    @property
    def sample_rate(self) -> int:
        """Sample rate of the audio in Hz."""
        return self.config.sample_rate

    @property
    def channels(self) -> int:
        """Audio channels of the model."""
        return self.config.n_channels

    @property
    def hop_length(self) -> int:
        """Samples per frame of latents."""
        return self.config.hop_length

    @property
    def latent_rate(self) -> float:
        """Frames of latents per second."""
        return self.config.latent_rate

    @property
    def latent_size(self) -> int:
        """Rows of the latents: principal components, latents, or codes."""
        if self.quantizes:
            return self.config.bottleneck.num_quantizers
        return self.config.bottleneck.latent_size if self._components is None else self._components

    @cached_property
    def quantizes(self) -> bool:
        """Whether latents are codes. A discrete model whose training did not quantise has continuous latents."""
        return self.state.encoder.enabled is not None and bool(self.state.encoder.enabled)

    @cached_property
    def pca(self) -> LatentPCA:
        """The principal components of the latents.

        **Raises:** `ConfigError` if the model has none.
        """
        kind, fidelity = self.config.bottleneck.kind, self.state.fidelity
        if kind != "variational" or not bool(fidelity[-1] > 0):
            reason = "its training computed none" if kind == "variational" else f"its latents are {kind}"
            raise ConfigError(f"The model has no principal components: {reason}. Omit latent_size and fidelity.")
        return LatentPCA(self.state.latent_pca, self.state.latent_mean, fidelity)

    def with_latents(self, *, latent_size: int | None = None, fidelity: float | None = None) -> "Rave":
        """This pipeline with other latents; without arguments, with all latents of the model.

        Arguments and errors are those of the class.
        """
        model = TrainedRave(self.network, self.state)
        return Rave(model, self.config, latent_size=latent_size, fidelity=fidelity, window=self.window)

    def with_statistics(self, *, source: Any = None, target: Any = None, sample_rate: float | None = None) -> "Rave":
        """This pipeline, whose adaptive instance norms give sounds like `source` the statistics of `target`.

        It is for models with such norms (v3 and `adain`). They have an effect when the statistics of both sides are
        known, from this method or from the imported model. Statistics of channels over time are measured in encoder and
        generator, for the means of the latents and without noise, as the mean over windows of `window` frames. The
        release measures them while audio is played, with `learn_source` and `learn_target`.

        **Arguments:** `source` and `target`, recordings as for `encode`; the statistics of a side without a recording
        are kept; `sample_rate` of arrays, in Hz.

        **Raises:** `ConfigError` for a model without adaptive instance norms; `AudioError` for silence, or as `encode`.
        """
        model = TrainedRave(self.network, self.state)
        sides: tuple[tuple[Literal["source", "target"], Any], ...] = (("source", source), ("target", target))
        for side, audio in sides:
            if audio is not None:
                samples = audio_samples(audio, sample_rate, self.config)
                if not np.any(samples):
                    raise AudioError(f"The {side} is silent; it should be a recording. Choose another one.")
                pieces = pieces_of(self._channel_rows(samples), self.config, self.window)
                model = with_statistics(model, pieces, side, quantize=self.quantizes)
        return Rave(model, self.config, latent_size=self._components, window=self.window)

    def encode(self, audio: Any, sample_rate: float | None = None, *, seed: int | None = None) -> RaveLatents:
        """The latents of a recording.

        **Arguments:**

        - `audio`: an array `(samples,)` or `(channels, samples)` of floats with full scale at 1, an `Audio`, or the
            path of a file, all channels of which are read.
        - `sample_rate`: of arrays, in Hz; `None` for files and `Audio`. The audio is resampled to that of the model.
        - `seed`: draws the latents of a variational model from their distribution, as the release does; by default,
            the latents are the means.

        **Returns:** float32 `(latent_size, frames)`, or `(channels, latent_size, frames)` if the channels of
        `(channels, samples)` are encoded on their own; int32 codes if the model quantises.

        **Raises:** `AudioError` for integers, NaN, no samples, another number of channels than that of a model of
        several channels, an invalid sample rate, or latents that are NaN or infinite, because the audio is far above
        full scale or the weights are damaged; `ConfigError` for a `seed` that is not a whole number.
        """
        given = audio_input(audio, sample_rate, self.config)
        latents = self._encode(given, _key(seed, _LATENTS))
        return latents[0] if given.one_channel or self.channels > 1 else latents

    def decode(self, latents: Any, *, seed: int | None = None) -> Float32[np.ndarray, "*channels samples"]:
        """The audio of latents.

        **Arguments:**

        - `latents`: `(latent_size, frames)` or, for a model of one channel, `(channels, latent_size, frames)`, as
            `encode` returns them. Codes are whole numbers; a model that quantises also takes vectors of floats.
        - `seed`: draws what the latents leave open: principal components beyond `latent_size`, and the noise channels
            of Wasserstein and discrete models, as in the release. By default, both are 0, their mean. The generator's
            noise, if it has any, is always drawn, with seed 0 by default.

        **Returns:** float32 `(samples,)`, or `(channels, samples)` for a model or for latents of several channels. If
        the generator computes sub-bands, the audio is `delay` samples late, as in the release.

        **Raises:** `ShapeError` for another shape or type, NaN, or codes outside the codebooks; `AudioError` if the
        audio is NaN or infinite, because the latents are too large or the weights are damaged; `ConfigError` for a
        `seed` that is not a whole number.
        """
        rows = latent_rows(latents, self.latent_size, self.config, codes=self.quantizes)
        audio = self._inference.decode(rows, **self._decoding(rows, _key(seed, _PADDING), seed))
        check_results(*_DECODED, audio)
        if self.channels > 1:
            return audio[0].T
        return audio[..., 0] if np.ndim(latents) == 3 else audio[0, :, 0]

    def transfer(
        self, audio: Any, sample_rate: float | None = None, *, encoder: "Rave | None" = None, seed: int | None = None
    ) -> Float32[np.ndarray, "*channels samples"]:
        """A recording through the latents: its sound in the timbre that the generator was trained on.

        **Arguments:** `encoder`, the model that encodes `audio`, by default this one; the others are those of `encode`
        and `decode`.

        **Returns:** float32 audio at `self.sample_rate`, as long as the recording.

        **Raises:** `ConfigError` if `encoder` has other latents than this model, in kind, number or frame rate;
        otherwise as `encode` and `decode`.
        """
        return np.concatenate(list(self.transfer_parts(audio, sample_rate, encoder=encoder, seed=seed)), -1)

    def transfer_parts(
        self, audio: Any, sample_rate: float | None = None, *, encoder: "Rave | None" = None, seed: int | None = None
    ) -> Iterator[Float32[np.ndarray, "*channels part"]]:
        """`transfer` in parts of at most `window` frames, for recordings of any length.

        Of a file and of the result, a few windows are in memory, beside all latents. Arguments and errors are those of
        `transfer`; errors in the samples of a file are raised when the first part is computed.
        """
        source = self if encoder is None else encoder
        self.check_encoder(source)
        given, keys = audio_input(audio, sample_rate, source.config), (_key(seed, _LATENTS), _key(seed, _PADDING))

        def parts() -> Iterator[Float32[np.ndarray, "*channels part"]]:
            latents = source._encode(given, keys[0]).swapaxes(1, 2)
            left = -(-given.samples * self.sample_rate // source.sample_rate)
            for rows in self._inference.decode_parts(latents, **self._decoding(latents, keys[1], seed)):
                check_results(*_DECODED, rows)
                part = rows[:, :left]
                left -= part.shape[1]
                if self.channels > 1:
                    yield part[0].T
                else:
                    yield part[0, :, 0] if given.one_channel else part[..., 0]

        return parts()

    def stream(self, *, channels: int = 1, seed: int | None = None) -> RaveSession:
        """A session that encodes and decodes audio block by block, for example from a sound card.

        **Arguments:** `channels`, the number of audio channels that are encoded on their own, for a model of one
        channel; `seed`, as for `encode` and `decode`.

        **Raises:** `ConfigError` for a model with several channels and `channels` other than 1, or an invalid `seed`.
        """
        whole = isinstance(channels, int | np.integer) and not isinstance(channels, bool)
        if not whole or channels < 1 or (channels > 1 and self.channels > 1):
            several = self.channels > 1
            raise ConfigError(
                f"channels is {format_value(channels)}; it should be "
                + ("1, because the model itself has several channels." if several else "a whole number of at least 1.")
            )
        return RaveSession(
            self._inference.network,
            self._inference.state,
            pca=None if self._components is None else self.pca,
            latent_size=self.latent_size,
            quantizes=self.quantizes,
            noise_key=_key(0 if seed is None else seed, _NOISE) if self._has_noise else None,
            key=_key(seed, _LATENTS),
            rows=int(channels),
        )

    @property
    def network_function(self) -> Callable[..., Float[Array, "samples channels"]]:
        """A function `function(model, *inputs)` of a `TrainedRave` and of `network_inputs`: the audio of its latents,
        as `transfer` returns it for the means of the latents, without principal components."""
        return ft.partial(reconstruct, quantize=self.quantizes)

    def network_inputs(
        self, audio: Float32[np.ndarray, "channels samples"], sample_rate: int, *, seed: int = 0
    ) -> tuple[Array, ...]:
        """The arrays that `network_function` takes for a recording: audio `(samples, channels)`, padded with zeros to a
        whole frame, and the noise of the generator, if it has any.

        The channels are averaged for a model of one channel. A recording of one channel is repeated for others.

        **Raises:** `AudioError` for another number of channels, NaN, no samples, or an invalid sample rate;
        `ConfigError` for an invalid `seed`.
        """
        check_seed(seed)
        if self.channels == 1:
            audio = np.mean(audio, axis=0, keepdims=True)
        elif len(audio) == 1:
            audio = np.repeat(audio, self.channels, axis=0)
        padded = whole_frames(audio_samples(audio, sample_rate, self.config).T, self.config)
        key = _key(seed, _NOISE)
        if key is None or not self._has_noise:
            return (jnp.asarray(padded),)
        frames = len(padded) // self.hop_length
        return jnp.asarray(padded), generator_noise(self.config, key, 1, jnp.int32(0), frames)[0]

    @property
    def receptive_field(self) -> ReceptiveField:
        """The samples before and after a sample of the output of `transfer` on which it depends."""
        return receptive_field(self.config)

    @cached_property
    def latency(self) -> int:
        """Samples by which the output of a stream through the model is late, without the length of its blocks."""
        stream = autoencoder_stream(self.network, self.state, noise=self._has_noise, quantize=self.quantizes)
        return audio_latency(self.network, stream)

    @property
    def delay(self) -> int:
        """Samples by which decoded audio is late: those of the filter bank, 0 without it."""
        return self.network.pqmf.delay if self.config.generator.output == "pqmf" else 0

    def _channel_rows(
        self, samples: Float32[np.ndarray, "*channels samples"]
    ) -> Float32[np.ndarray, "rows samples channels"]:
        """A row for each channel, or one row with all channels of a model of several."""
        channels = samples.reshape(-1, samples.shape[-1])
        return channels[..., None] if self.channels == 1 else channels.T[None]

    def _encode(self, given: AudioInput, key: PRNGKeyArray | None) -> RaveLatents:
        """Latents `(rows, latent_size, frames)`; a row is a channel, or all channels of a model of several."""
        blocks = map(self._channel_rows, given.blocks)
        z = self._inference.encode(blocks, given.samples, key=key, quantize=self.quantizes)
        check_results("latents of the audio", "its level is too high", z)
        if self._components is not None:
            z = (z - np.asarray(self.pca.mean)) @ np.asarray(self.pca.components)[: self._components].T
        return z.swapaxes(1, 2)

    def _decoding(
        self, latents: Shaped[np.ndarray, "rows frames latents"], key: PRNGKeyArray | None, seed: int | None
    ) -> dict[str, Any]:
        """The arguments of `RaveInference.decode` for `latents`; `key` draws what they leave open."""
        restores = self._components == latents.shape[-1] and not np.issubdtype(latents.dtype, np.integer)
        noise_key = _key(0 if seed is None else seed, _NOISE) if self._has_noise else None
        return {"pca": self.pca if restores else None, "key": key, "noise_key": noise_key}

    @cached_property
    def _has_noise(self) -> bool:
        """Whether the generator adds noise; that of v1 only after the first phase of training."""
        state = self.state.decoder
        first_phase = isinstance(state, GeneratorState) and not bool(state.warmed_up)
        return self.config.generator.noise is not None and not first_phase

    def check_encoder(self, encoder: "Rave | None") -> None:
        """Raise `ConfigError` unless the latents of `encoder` can be those of this model."""
        if encoder is None or encoder is self:
            return
        if not isinstance(encoder, Rave):
            raise ConfigError(
                f"encoder is {format_value(encoder)}; it should be a Rave. Load the model with Rave.load."
            )
        properties = {
            "latents": (encoder._kind_of_latents, self._kind_of_latents),
            "latents per frame": (encoder.latent_size, self.latent_size),
            "frames per second": (encoder.latent_rate, self.latent_rate),
            "audio channels": (encoder.channels, self.channels),
        }
        for name, (theirs, ours) in properties.items():
            if theirs != ours:
                remedy = "Choose a model with the same latents."
                if name.startswith("latents") and "principal components" in properties["latents"]:
                    remedy = "Load both with the same latent_size (--latent-size), instead of a fidelity."
                raise ConfigError(
                    f"The {name} of the encoder are {theirs}; they should be {ours}, those of the decoder. {remedy}"
                )

    @property
    def _kind_of_latents(self) -> str:
        if self.quantizes:
            return "codes"
        return "vectors" if self._components is None else "principal components"


def _key(seed: int | None, use: int) -> PRNGKeyArray | None:
    """The key for one of the uses of random numbers; `None` without a seed."""
    if seed is None:
        return None
    check_seed(seed)
    return jax.random.fold_in(jax.random.key(int(seed)), use)

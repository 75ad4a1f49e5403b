"""RAVE as a pipeline: audio to latents, latents to audio, and audio through the latents of a model."""

import math
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Float32, Int, PRNGKeyArray, Shaped

from jaxvoice.config import differences, format_value
from jaxvoice.data.audio import Audio, read_channels
from jaxvoice.dsp.framing import bucket_size, plan_windows
from jaxvoice.dsp.resampling import resample
from jaxvoice.errors import AudioError, ConfigError, ShapeError
from jaxvoice.models.rave.config import RaveConfig
from jaxvoice.models.rave.family import FAMILY
from jaxvoice.models.rave.generators import GeneratorState, RecurrentLayer
from jaxvoice.models.rave.latent_pca import LatentPCA
from jaxvoice.models.rave.layers import AdaINState, NetState
from jaxvoice.models.rave.network import RaveState
from jaxvoice.models.rave.receptive_fields import (
    ReceptiveField,
    encoder_receptive_field,
    generator_receptive_field,
    receptive_field,
)
from jaxvoice.models.rave.streaming import audio_latency, autoencoder_stream
from jaxvoice.models.rave.trained import TrainedRave, fold_batch_norm
from jaxvoice.nn import freeze
from jaxvoice.pipelines.argument_checks import check_seed
from jaxvoice.pipelines.rave_session import RaveSession
from jaxvoice.pipelines.recordings import recording_rate
from jaxvoice.pipelines.sources import find_model_folder, print_notices

RaveLatents = Shaped[np.ndarray, "*channels latents frames"]
"""Latents in float32, or the codes of a model that quantises in int32."""
_LATENTS, _PADDING, _COMPONENTS, _NOISE = range(4)  # the uses of random numbers, each with its own key


class Rave:
    """Audio to latents at a low rate, and latents to audio, with a RAVE model.

    Audio is `(samples,)`, or `(channels, samples)`. A model of one channel encodes each channel of the audio on its
    own; a model of several channels takes audio with as many. Latents are `(latents, frames)`, or
    `(channels, latents, frames)` if each channel has its own. A frame is `hop_length` samples; the end of the audio is
    padded with zeros to a whole frame.

    Without `latent_size` and `fidelity`, `encode` returns all latents of the model. With one of them, it returns the
    first principal components of the latents, as exports of the release do, and `decode` takes these.

    **Attributes:** `network` and `state` of the model; `config`.
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
        folded = fold_batch_norm(TrainedRave(model.network, _still(model.state)))
        self._still_state = folded.state
        self._recurrent, self._model = _without_recurrence(TrainedRave(freeze(folded.network), folded.state))
        self._components = self._checked_size(latent_size, fidelity)
        least = 1 + max(sum(self._encoder_context), sum(self._decoder_context))
        whole = isinstance(window, int | np.integer) and not isinstance(window, bool)
        if not whole or window < least:
            raise ConfigError(
                f"window is {format_value(window)} frames; it should be a whole number of at least {least}, one more "
                "than the receptive field."
            )

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
        several channels, or an invalid sample rate; `ConfigError` for a `seed` that is not a whole number.
        """
        samples = self._samples(audio, sample_rate)
        key = _key(seed, _LATENTS)
        latents = self._encode(samples, key)
        return latents if samples.ndim == 2 and self.channels == 1 else latents[0]

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

        **Raises:** `ShapeError` for another shape or type, NaN, or codes outside the codebooks; `ConfigError` for a
        `seed` that is not a whole number.
        """
        rows = self._rows(latents)
        audio = self._decode(rows, _key(seed, _PADDING), seed)
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

        **Raises:** `ConfigError` if `encoder` has another latent size, kind of latents or frame rate than this model;
        otherwise as `encode` and `decode`.
        """
        source = self if encoder is None else encoder
        self.check_encoder(source)
        samples = source._samples(audio, sample_rate)
        latents = source._encode(samples, _key(seed, _LATENTS))
        result = self._decode(self._transposed(latents), _key(seed, _PADDING), seed)
        count = -(-samples.shape[-1] * self.sample_rate // source.sample_rate)
        result = result[:, :count]
        if self.channels > 1:
            return result[0].T
        return result[..., 0] if samples.ndim == 2 and source.channels == 1 else result[0, :, 0]

    def stream(self, *, channels: int = 1, seed: int | None = None) -> RaveSession:
        """A session that encodes and decodes audio block by block, for example from a sound card.

        **Arguments:** `channels`, the number of audio channels that are encoded on their own, for a model of one
        channel; `seed`, as for `encode` and `decode`.

        **Raises:** `ConfigError` for a model with several channels and `channels` other than 1, or an invalid `seed`.
        """
        if channels < 1 or (channels > 1 and self.channels > 1):
            raise ConfigError(
                f"channels is {channels}; it should be "
                + ("1, because the model itself has several channels." if self.channels > 1 else "at least 1.")
            )
        network = self._model.network if self._recurrent is None else freeze(self.network)
        return RaveSession(
            network,
            self._still_state,
            pca=None if self._components is None else self.pca,
            latent_size=self.latent_size,
            quantizes=self.quantizes,
            noise_key=_key(0 if seed is None else seed, _NOISE) if self._has_noise else None,
            key=_key(seed, _LATENTS),
            rows=channels,
        )

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

    def _samples(self, audio: Any, sample_rate: Any) -> Float32[np.ndarray, "*channels samples"]:
        """The audio at the sample rate of the model, in the shape in which it was given."""
        if isinstance(audio, str | Path):
            samples, own = read_channels(audio)
            samples = samples[0] if len(samples) == 1 == self.channels else samples
        else:
            own = audio.sample_rate if isinstance(audio, Audio) else None
            samples = audio.samples if isinstance(audio, Audio) else audio
        rate = recording_rate(sample_rate, own)
        samples = _validated_audio(samples)
        if self.channels > 1 and (samples.ndim != 2 or len(samples) != self.channels):
            raise AudioError(
                f"The audio has shape {samples.shape}; it should be ({self.channels}, samples), with the channels of "
                "the model."
            )
        if rate == self.sample_rate:
            return samples
        if samples.ndim == 1:
            return resample(samples, rate, self.sample_rate)
        return np.stack([resample(channel, rate, self.sample_rate) for channel in samples])

    def _encode(self, samples: Float32[np.ndarray, "*channels samples"], key: PRNGKeyArray | None) -> RaveLatents:
        """Latents `(rows, latent_size, frames)`; a row is a channel, or all channels of a model of several."""
        channels, hop = samples.reshape(-1, samples.shape[-1]), self.hop_length
        rows = channels[..., None] if self.channels == 1 else channels.T[None]
        rows = np.pad(rows, ((0, 0), (0, max(-rows.shape[1] % hop, self._shortest - rows.shape[1])), (0, 0)))
        frames = -(-samples.shape[-1] // hop)
        parts = []
        for part in plan_windows(rows.shape[1] // hop, self.window, self._encoder_context, (0, frames)):
            audio = rows[:, part.start * hop : part.stop * hop]
            z = _encode(self._model, jnp.asarray(audio), key, jnp.int32(part.start), quantize=self.quantizes)
            parts.append(np.asarray(z)[:, part.keep_from - part.start : part.keep_to - part.start])
        z = np.concatenate(parts, 1)
        if self._components is not None:
            z = (z - np.asarray(self.pca.mean)) @ np.asarray(self.pca.components)[: self._components].T
        return z.swapaxes(1, 2)

    def _decode(
        self, latents: Shaped[np.ndarray, "rows frames latents"], key: PRNGKeyArray | None, seed: int | None
    ) -> Float32[np.ndarray, "rows samples channels"]:
        rows, frames, _ = latents.shape
        size = bucket_size(frames, max(frames, 2**20))
        padded = np.pad(latents, ((0, 0), (0, size - frames), (0, 0)))
        restores = self._components is not None and latents.shape[-1] == self._components
        pca = self.pca if restores and not np.issubdtype(latents.dtype, np.integer) else None
        z = np.asarray(_decoder_input(self._model, self._recurrent, pca, jnp.asarray(padded), key))[:, :frames]
        noise_key = _key(0 if seed is None else seed, _NOISE) if self._has_noise else None
        hop = self.hop_length
        audio = np.empty((rows, frames * hop, self.channels), np.float32)
        for part in plan_windows(frames, self.window, self._decoder_context):
            inside = jnp.asarray(z[:, part.start : part.stop])
            found = np.asarray(_decode(self._model, inside, noise_key, jnp.int32(part.start)))
            kept = slice((part.keep_from - part.start) * hop, (part.keep_to - part.start) * hop)
            audio[:, part.keep_from * hop : part.keep_to * hop] = found[:, kept]
        return audio

    @cached_property
    def _encoder_context(self) -> tuple[int, int]:
        """The frames before and after a frame of latents on whose samples it depends."""
        field, hop = encoder_receptive_field(self.config), self.hop_length
        return max(0, -(-field.left // hop)), max(0, (field.right - 1) // hop)

    @cached_property
    def _decoder_context(self) -> tuple[int, int]:
        """The frames before and after a frame on which its samples depend."""
        field = generator_receptive_field(self.config)
        return max(0, field.left), max(0, field.right - 1)

    @property
    def _shortest(self) -> int:
        """The fewest samples that the encoder reads: a mel spectrogram continues the ends by reflection."""
        encoder, hop = self.config.encoder, self.hop_length
        return 0 if encoder.input != "mel" else hop * -(-(encoder.mel.n_fft // 2 + 1) // hop)

    @cached_property
    def _has_noise(self) -> bool:
        """Whether the generator adds noise; that of v1 only after the first phase of training."""
        state = self.state.decoder
        first_phase = isinstance(state, GeneratorState) and not bool(state.warmed_up)
        return self.config.generator.noise is not None and not first_phase

    def _rows(self, latents: Any) -> Shaped[np.ndarray, "rows frames latents"]:
        """Checked latents with their last axes exchanged."""
        array = np.asarray(latents)
        codes = self.quantizes and np.issubdtype(array.dtype, np.integer)
        if codes:
            array = array.astype(np.int32)
        elif jnp.issubdtype(array.dtype, jnp.floating):
            array = array.astype(np.float32)
        size = self.latent_size if codes or not self.quantizes else self.config.bottleneck.latent_size
        dimensions = (2,) if self.channels > 1 else (2, 3)
        if array.ndim not in dimensions or array.shape[-2] != size or not array.size or array.dtype.itemsize != 4:
            expected = f"({size}, frames)" + ("" if self.channels > 1 else f" or (channels, {size}, frames)")
            raise ShapeError(
                f"The latents have shape {array.shape} and type {array.dtype}; they should be "
                f"{'codes' if self.quantizes else 'floats'} of shape {expected}."
            )
        if codes and not (array.min() >= 0 and array.max() < self.config.bottleneck.codebook_size):
            raise ShapeError(
                f"The codes are from {array.min()} to {array.max()}; they should be from 0 to "
                f"{self.config.bottleneck.codebook_size - 1}."
            )
        if not np.isfinite(array).all():
            raise ShapeError(
                "The latents contain NaN or infinity; they should be finite. Check how they were computed."
            )
        return self._transposed(array.reshape(-1, *array.shape[-2:]))

    @staticmethod
    def _transposed(rows: Shaped[np.ndarray, "rows latents frames"]) -> Shaped[np.ndarray, "rows frames latents"]:
        return rows.swapaxes(1, 2)

    def check_encoder(self, encoder: "Rave | None") -> None:
        """Raise `ConfigError` unless the latents of `encoder` can be those of this model."""
        if encoder is None or encoder is self:
            return
        properties = {
            "latents per frame": (encoder.latent_size, self.latent_size),
            "frames per second": (encoder.latent_rate, self.latent_rate),
            "kind of latents": tuple("codes" if one.quantizes else "vectors" for one in (encoder, self)),
            "audio channels": (encoder.channels, self.channels),
        }
        for name, (theirs, ours) in properties.items():
            if theirs != ours:
                raise ConfigError(
                    f"The {name} of the encoder are {theirs}; they should be {ours}, those of the decoder. Choose a "
                    "model with the same latents."
                )

    def _checked_size(self, latent_size: Any, fidelity: Any) -> int | None:
        """The number of principal components; `None` for latents without them."""
        if latent_size is None and fidelity is None:
            return None
        if latent_size is not None and fidelity is not None:
            raise ConfigError("latent_size and fidelity are both given; pass one of them.")
        pca, largest = self.pca, self.config.bottleneck.latent_size
        if fidelity is not None:
            return pca.size_for(fidelity)
        size = latent_size if isinstance(latent_size, int | np.integer) and not isinstance(latent_size, bool) else 0
        if not 1 <= size <= largest:
            raise ConfigError(
                f"latent_size is {format_value(latent_size)}; it should be a whole number from 1 to {largest}."
            )
        return int(size)


def _still(state: RaveState) -> RaveState:
    """`state` with which adaptive instance norms do not measure statistics, so that windows do not affect results."""

    def still(state: Any) -> Any:
        return replace(state, learn_x=jnp.zeros(1), learn_y=jnp.zeros(1)) if isinstance(state, AdaINState) else state

    return jax.tree.map(still, state, is_leaf=lambda node: isinstance(node, AdaINState))


def _without_recurrence(model: TrainedRave) -> tuple[RecurrentLayer | None, TrainedRave]:
    """The recurrent layer at the start of the generator, if there is one, and the model without it.

    A recurrent layer depends on all earlier frames, so it is not computed in windows.
    """
    decoder, state = model.network.decoder, model.state.decoder
    first, *rest = decoder.net
    if not isinstance(first, RecurrentLayer):
        return None, model
    model = eqx.tree_at(lambda m: m.network.decoder.net, model, rest)
    if isinstance(state, NetState):
        model = eqx.tree_at(lambda m: m.state.decoder.net, model, state.net[1:], is_leaf=lambda node: node is None)
    return first, model


def _validated_audio(audio: Any) -> Float32[np.ndarray, "*channels samples"]:
    """`audio` as float32; raises `AudioError` for another shape, integers, NaN, infinity or no samples."""
    samples = np.asarray(audio)
    if not jnp.issubdtype(samples.dtype, jnp.floating) or samples.ndim not in (1, 2):
        raise AudioError(
            f"The audio has shape {samples.shape} and type {samples.dtype}; it should be floats of shape (samples,) or "
            "(channels, samples) with full scale at 1. Divide 16-bit integers by 32768."
        )
    if not samples.size:
        raise AudioError("The audio is empty; it should have at least one sample.")
    if samples.ndim == 2 and samples.shape[0] > samples.shape[1]:
        raise AudioError(f"The audio has shape {samples.shape}; it should be (channels, samples). Transpose the array.")
    with np.errstate(over="ignore"):
        samples = samples.astype(np.float32, copy=False)
    if not np.isfinite(samples).all():
        bad = int(np.count_nonzero(~np.isfinite(samples)))
        raise AudioError(
            f"The audio is NaN or infinite in {bad} of {samples.size} samples; it should be finite. Check how it was "
            "computed."
        )
    return samples


def _key(seed: int | None, use: int) -> PRNGKeyArray | None:
    """The key for one of the uses of random numbers; `None` without a seed."""
    if seed is None:
        return None
    check_seed(seed)
    return jax.random.fold_in(jax.random.key(int(seed)), use)


def _each_frame(key: PRNGKeyArray, rows: int, first: Int[Array, ""], frames: int, draw: Any) -> Array:
    """`draw(key)` for each row and frame, `(rows, frames, ...)`.

    The key of a frame depends on its number in the recording only, so that the result does not depend on windows.
    """

    def at(row: Array, frame: Array) -> Array:
        return draw(jax.random.fold_in(jax.random.fold_in(key, row), frame))

    numbers = first + jnp.arange(frames, dtype=jnp.int32)
    return jax.vmap(lambda row: jax.vmap(lambda frame: at(row, frame))(numbers))(jnp.arange(rows, dtype=jnp.int32))


@eqx.filter_jit
def _encode(
    model: TrainedRave,
    audio: Float[Array, "rows samples channels"],
    key: PRNGKeyArray | None,
    first: Int[Array, ""],
    *,
    quantize: bool,
) -> Shaped[Array, "rows frames latents"]:
    """The latents, or codes, of audio that starts at the frame `first` of a recording."""
    network, config = model.network, model.network.config.bottleneck
    noise = None
    if key is not None:
        frames = audio.shape[1] // network.config.hop_length
        shapes = network.encoder.noise_shapes((len(audio), frames, config.encoder_channels))
        noise = [
            _each_frame(
                jax.random.fold_in(key, i),
                len(audio),
                first,
                frames,
                lambda key, shape=shape: jax.random.normal(key, shape[2:]),
            )
            for i, shape in enumerate(shapes)
        ]
    latents, _ = network.encode(audio, model.state, noise=noise, quantize=quantize, inference=True)
    return latents.z[..., : config.latent_size] if latents.codes is None else latents.codes


@eqx.filter_jit
def _decoder_input(
    model: TrainedRave,
    recurrent: RecurrentLayer | None,
    pca: LatentPCA | None,
    latents: Shaped[Array, "rows frames latents"],
    key: PRNGKeyArray | None,
) -> Float[Array, "rows frames channels"]:
    """The input of the convolutions of the generator for latents, codes, or principal components of latents."""
    network, config = model.network, model.network.config.bottleneck
    rows, frames, size = latents.shape
    first, z = jnp.int32(0), latents
    if jnp.issubdtype(latents.dtype, jnp.integer):
        assert network.encoder.rvq is not None and model.state.encoder.rvq is not None
        z = network.encoder.rvq.decode(latents, model.state.encoder.rvq)
    elif pca is not None:
        missing = config.latent_size - size
        rest = jnp.zeros((rows, frames, missing))
        if key is not None and missing:
            own = jax.random.fold_in(key, _COMPONENTS)
            rest = _each_frame(own, rows, first, frames, lambda key: jax.random.normal(key, (missing,)))
        z = pca.restore(jnp.concatenate([latents, rest], -1))
    if config.noise_channels:
        appended = jnp.zeros((rows, frames, config.noise_channels))
        if key is not None:
            appended = _each_frame(
                key, rows, first, frames, lambda key: jax.random.normal(key, (config.noise_channels,))
            )
        z = jnp.concatenate([z, appended], -1)
    return z if recurrent is None else recurrent(z)


@eqx.filter_jit
def _decode(
    model: TrainedRave,
    z: Float[Array, "rows frames channels"],
    noise_key: PRNGKeyArray | None,
    first: Int[Array, ""],
) -> Float[Array, "rows samples channels"]:
    """The audio of the result of `_decoder_input`, which starts at the frame `first` of a recording."""
    config = model.network.config
    noise = None
    if noise_key is not None and config.generator.noise is not None:
        rows, frames, _ = z.shape
        length, outputs = config.generator.noise.frame_length, config.generator_outputs
        per_frame = (math.prod(config.generator.ratios) // length, outputs, length)
        noise = _each_frame(
            noise_key, rows, first, frames, lambda key: jax.random.uniform(key, per_frame, minval=-1, maxval=1)
        ).reshape(rows, -1, outputs, length)
    return model.network.decode(z, model.state, noise=noise, inference=True)[0]

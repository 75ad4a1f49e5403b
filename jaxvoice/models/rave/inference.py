"""Encoding and decoding of recordings of any length with RAVE, in windows and bounded memory."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Float32, Int, PRNGKeyArray, Shaped

from jaxvoice.config import format_value
from jaxvoice.dsp.framing import bucket_size, plan_windows
from jaxvoice.errors import ConfigError
from jaxvoice.models.rave.config import RaveConfig
from jaxvoice.models.rave.generators import RecurrentLayer
from jaxvoice.models.rave.latent_pca import LatentPCA
from jaxvoice.models.rave.layers import AdaINState, NetState
from jaxvoice.models.rave.network import Rave, RaveState
from jaxvoice.models.rave.receptive_fields import encoder_receptive_field, generator_receptive_field
from jaxvoice.models.rave.trained import TrainedRave, fold_batch_norm
from jaxvoice.nn import freeze

_COMPONENTS = 1  # folded into the key of missing principal components


class RaveInference:
    """A model for inference, on numpy arrays of any length.

    Windows overlap by the receptive fields, and random numbers depend on the number of a frame only, so that windows
    change results by rounding only. The program of the longest window is compiled once, and that of each shorter
    recording.

    **Attributes:** `network`, frozen, with batch norms folded; `state`, whose statistics do not change; `config`; and
    `window` in frames.
    """

    def __init__(self, model: TrainedRave, window: int):
        """**Raises:** `ConfigError` if `window` is not a whole number that is larger than the receptive field."""
        self.config, self.window = model.network.config, window
        least = 1 + max(sum(self.encoder_context), sum(self.decoder_context))
        whole = isinstance(window, int | np.integer) and not isinstance(window, bool)
        if not whole or window < least:
            raise ConfigError(
                f"window is {format_value(window)} frames; it should be a whole number of at least {least}, one more "
                "than the receptive field."
            )
        folded = fold_batch_norm(TrainedRave(model.network, _still(model.state)))
        # Windows have few positions in wide layers, for which Winograd's algorithm is slower.
        self.network: Rave = freeze(folded.network, winograd=False)
        self.state = folded.state
        self._recurrent, self._model = _without_recurrence(TrainedRave(self.network, self.state))

    @property
    def encoder_context(self) -> tuple[int, int]:
        """The frames before and after a frame of latents on whose samples it depends."""
        field, hop = encoder_receptive_field(self.config), self.config.hop_length
        return max(0, -(-field.left // hop)), max(0, (field.right - 1) // hop)

    @property
    def decoder_context(self) -> tuple[int, int]:
        """The frames before and after a frame on which its samples depend."""
        field = generator_receptive_field(self.config)
        return max(0, field.left), max(0, field.right - 1)

    def encode(
        self,
        blocks: Iterable[Float32[np.ndarray, "rows block channels"]],
        samples: int,
        *,
        key: PRNGKeyArray | None,
        quantize: bool,
    ) -> Shaped[np.ndarray, "rows frames latents"]:
        """The latents, or the codes, of audio that arrives in blocks of any lengths, together `samples` samples.

        The end is padded with zeros to a whole frame. Only the blocks of one window are in memory.

        **Arguments:** `key` draws latents from their distribution; without it, they are the means.
        """
        hop, frames, parts = self.config.hop_length, -(-samples // self.config.hop_length), []
        signal, total = _Signal(blocks), padded_length(samples, self.config) // hop
        for part in plan_windows(total, self.window, self.encoder_context, (0, frames)):
            inside = jnp.asarray(signal.read(part.start * hop, part.stop * hop))
            z = _encode(self._model, inside, key, jnp.int32(part.start), quantize=quantize)
            parts.append(np.asarray(z)[:, part.keep_from - part.start : part.keep_to - part.start])
        return np.concatenate(parts, 1)

    def decode(
        self,
        latents: Shaped[np.ndarray, "rows frames latents"],
        pca: LatentPCA | None,
        *,
        key: PRNGKeyArray | None,
        noise_key: PRNGKeyArray | None,
    ) -> Float32[np.ndarray, "rows samples channels"]:
        """The audio of latents or codes, or of the first principal components of latents.

        **Arguments:** `pca`, the principal components, for latents that are such; `key`, which draws missing components
        and noise channels, 0 without it; `noise_key`, which draws the noise of the generator; none is added without it.
        """
        rows, frames, _ = latents.shape
        audio, done = np.empty((rows, frames * self.config.hop_length, self.config.n_channels), np.float32), 0
        for part in self.decode_parts(latents, pca, key=key, noise_key=noise_key):
            audio[:, done : done + part.shape[1]] = part
            done += part.shape[1]
        return audio

    def decode_parts(
        self,
        latents: Shaped[np.ndarray, "rows frames latents"],
        pca: LatentPCA | None,
        *,
        key: PRNGKeyArray | None,
        noise_key: PRNGKeyArray | None,
    ) -> Iterator[Float32[np.ndarray, "rows part channels"]]:
        """Yield the result of `decode` in parts of at most `window` frames."""
        frames, hop = latents.shape[1], self.config.hop_length
        size = bucket_size(frames, max(frames, 2**20))
        padded = jnp.asarray(np.pad(latents, ((0, 0), (0, size - frames), (0, 0))))
        z = np.asarray(_decoder_input(self._model, self._recurrent, pca, padded, key))[:, :frames]
        for part in plan_windows(frames, self.window, self.decoder_context):
            inside = jnp.asarray(z[:, part.start : part.stop])
            found = np.asarray(_decode(self._model, inside, noise_key, jnp.int32(part.start)))
            yield found[:, (part.keep_from - part.start) * hop : (part.keep_to - part.start) * hop]


class _Signal:
    """Audio that arrives in blocks, read in overlapping windows; zeros follow the last block."""

    def __init__(self, blocks: Iterable[Float32[np.ndarray, "rows block channels"]]):
        self._blocks, self._first = iter(blocks), 0
        self._held = next(self._blocks)

    def read(self, start: int, stop: int) -> Float32[np.ndarray, "rows window channels"]:
        """The samples from `start` to `stop`, which are not smaller than in the call before."""
        held, first = [self._held[:, start - self._first :]], start
        missing = stop - start - held[0].shape[1]
        while missing > 0:
            rows, _, channels = held[0].shape
            block = next(self._blocks, None)
            block = np.zeros((rows, missing, channels), np.float32) if block is None else block
            held.append(block)
            missing -= block.shape[1]
        self._held, self._first = (held[0] if len(held) == 1 else np.concatenate(held, 1)), first
        return self._held[:, : stop - start]


def padded_length(samples: int, config: RaveConfig) -> int:
    """The samples of whole frames, and of as many as the encoder needs, for a recording of `samples` samples."""
    # A mel spectrogram continues the ends by reflection.
    shortest = config.encoder.mel.n_fft // 2 + 1 if config.encoder.input == "mel" else 0
    return config.hop_length * -(-max(samples, shortest) // config.hop_length)


def whole_frames(
    audio: Float32[np.ndarray, "*rows samples channels"], config: RaveConfig
) -> Float32[np.ndarray, "*rows padded channels"]:
    """`audio` padded with zeros to `padded_length`."""
    padding = padded_length(audio.shape[-2], config) - audio.shape[-2]
    return np.pad(audio, [(0, 0)] * (audio.ndim - 2) + [(0, padding), (0, 0)])


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
    config, noise = model.network.config, None
    if noise_key is not None and config.generator.noise is not None:
        noise = generator_noise(config, noise_key, z.shape[0], first, z.shape[1])
    return model.network.decode(z, model.state, noise=noise, inference=True)[0]


def generator_noise(
    config: RaveConfig, key: PRNGKeyArray, rows: int, first: Int[Array, ""], frames: int
) -> Float[Array, "rows noise_frames outputs length"]:
    """The noise of the generator's noise branch for frames from the number `first`."""
    assert config.generator.noise is not None
    length, outputs = config.generator.noise.frame_length, config.generator_outputs
    per_frame = (math.prod(config.generator.ratios) // length, outputs, length)
    drawn = _each_frame(key, rows, first, frames, lambda key: jax.random.uniform(key, per_frame, minval=-1, maxval=1))
    return drawn.reshape(rows, -1, outputs, length)


def reconstruct(
    model: TrainedRave,
    audio: Float[Array, "*batch samples channels"],
    noise: Float[Array, "*batch noise_frames outputs length"] | None = None,
    *,
    quantize: bool,
) -> Float[Array, "*batch samples channels"]:
    """The audio of the latents of `audio`, which are the means of their distributions.

    **Arguments:** `noise`, of the noise branch; `quantize`, as for `Rave.encode`.
    """
    state = _still(model.state)
    latents, _ = model.network.encode(audio, state, quantize=quantize, inference=True)
    return model.network.decode(latents.z, state, noise=noise, inference=True)[0]

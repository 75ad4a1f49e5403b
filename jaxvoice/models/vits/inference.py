"""Inference of VITS with few compiled programs: synthesis in two halves, and conversion in windows."""

from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Bool, Float, Float32, Int, Int64, PRNGKeyArray

from jaxvoice.dsp.framing import bucket_size, plan_windows
from jaxvoice.dsp.mel import linear_spectrogram
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.models.vits.config import SamplingConfig, VITSConfig
from jaxvoice.models.vits.network import VITS, Conditions, whole_durations
from jaxvoice.models.vits.text_encoder import TextEncoding
from jaxvoice.nn import draw_for_positions, freeze

_MOST_TOKENS, _MOST_FRAMES = 4096, 2**15
_WINDOW = 1024  # frames of a window of a conversion, at least

Speaker = int | Float32[np.ndarray, " dim"] | None
"""The speaker as the network reads it: an id, a vector, or `None` for a model of one voice."""


class Synthesized(NamedTuple):
    """The result of a synthesis."""

    audio: Float32[np.ndarray, " samples"]
    """The waveform, `hop_length` samples for each frame."""
    durations: Int64[np.ndarray, " tokens"]
    """The duration of each token in frames."""


class VITSInference:
    """Synthesis and conversion with one network.

    Lengths are padded to a few sizes, so that few programs are compiled. The noise of a token or a frame depends on the
    seed and its number only, so that results do not depend on the padding.
    """

    def __init__(self, network: VITS, config: VITSConfig):
        self.config = config
        self._network = eqx.filter_jit(freeze)(network)

    def synthesize(
        self,
        tokens: Int[np.ndarray, " tokens"],
        speaker: Speaker,
        language: int | None,
        sampling: SamplingConfig,
        seed: int,
        piece: int = 0,
    ) -> Synthesized:
        """The speech of `tokens`, with the noise of `seed` for the piece number `piece` of a text.

        **Raises:** `ConfigError` for more tokens or frames than one piece of speech can have; `CheckpointError` if the
        network returns NaN or infinity.
        """
        if len(tokens) > _MOST_TOKENS:
            raise ConfigError(
                f"A part of the text that cannot be divided has {len(tokens)} symbols; it should have at most "
                f"{_MOST_TOKENS}. Write spaces between its words."
            )
        padded = np.zeros(bucket_size(len(tokens), _MOST_TOKENS), np.int32)
        padded[: len(tokens)] = tokens
        duration_key, noise_key = jax.random.split(piece_key(seed, piece))
        text, conditions, durations, finite = _read(
            self._network,
            jnp.asarray(padded),
            jnp.asarray(len(tokens)),
            _as_input(speaker),
            _as_input(language),
            duration_key,
            jnp.float32(sampling.duration_noise_scale),
            jnp.float32(sampling.length_scale),
        )
        if not finite:
            raise CheckpointError(
                "The model predicts durations that are NaN or infinite; its weights are damaged. Import "
                "it again, or use an earlier checkpoint."
            )
        found = np.asarray(durations)[: len(tokens)].astype(np.int64)
        frames = max(1, int(found.sum()))
        if frames > _MOST_FRAMES:
            seconds = frames * self.config.mel.hop_length / self.config.mel.sample_rate
            raise ConfigError(
                f"The speech would be {seconds:.0f} s long; a piece should have at most {_MOST_FRAMES} frames. Use a "
                "higher speed (--speed), a smaller length scale (--length-scale), less noise of the durations "
                "(--duration-noise-scale), or train the model for more steps."
            )
        size = bucket_size(frames, _MOST_FRAMES)
        noise_scale = jnp.float32(sampling.noise_scale)
        audio = np.asarray(_speak(self._network, text, durations, conditions, noise_key, noise_scale, size))
        if int(found.sum()) == 0:
            found[-1] = 1  # speech has at least one frame
        return Synthesized(self._checked(audio[: frames * self.config.mel.hop_length]), found)

    def convert(
        self, audio: Float32[np.ndarray, " samples"], source: Speaker, target: Speaker, seed: int
    ) -> Float32[np.ndarray, " samples"]:
        """`audio` of the speaker `source` in the voice of `target`, with as many samples.

        Recordings are converted in windows that overlap by the receptive field of the network, so that the result is
        that of the whole recording.

        **Raises:** `CheckpointError` if the network returns NaN or infinity.
        """
        mel, hop = self.config.mel, self.config.mel.hop_length
        frames = -(-len(audio) // hop)
        missing = max(frames * hop, mel.min_samples + hop) - len(audio)
        # Frames need samples on both sides, which are reflected at the ends of the recording.
        padded = np.pad(np.pad(audio, (0, missing)), mel.pad, mode="reflect")
        context, key = conversion_reach(self.config), seed_key(seed)
        size = bucket_size(frames, max(_WINDOW, 4 * context))
        plain = _without_padding(self.config)
        pieces = []
        for part in plan_windows(frames, size, (context, context)):
            samples = padded[part.start * hop : part.stop * hop + 2 * mel.pad]
            samples = np.pad(samples, (0, size * hop + 2 * mel.pad - len(samples)))
            found = _convert(
                self._network,
                jnp.asarray(samples, jnp.float32),
                _as_input(source),
                _as_input(target),
                key,
                jnp.asarray(part.start, jnp.int32),
                jnp.asarray(part.frames, jnp.int32),
                plain,
            )
            pieces.append(np.asarray(found)[(part.keep_from - part.start) * hop : (part.keep_to - part.start) * hop])
        return self._checked(np.concatenate(pieces)[: len(audio)])

    def _checked(self, audio: np.ndarray) -> Float32[np.ndarray, " samples"]:
        if not np.isfinite(audio).all():
            raise CheckpointError(
                "The model returns audio with NaN or infinity; its weights are damaged. Import "
                "it again, or use an earlier checkpoint."
            )
        return np.array(audio, np.float32)


def seed_key(seed: int) -> PRNGKeyArray:
    """The key of a seed of 64 bits; of a seed from 0 to 2**32 - 1, `jax.random.key(seed)`."""
    high, low = divmod(int(seed) % 2**64, 2**32)
    key = jax.random.key(np.uint32(low))
    return jax.random.fold_in(key, np.uint32(high)) if high else key


def piece_key(seed: int, piece: int) -> PRNGKeyArray:
    """The key of the noise of piece number `piece` of a text, which no other piece has, nor another seed.

    That of piece 0 is the key of the seed.
    """
    key = seed_key(seed)
    # The first two keys of a split are those of the noise of piece 0.
    return key if piece == 0 else jax.random.fold_in(jax.random.split(key, 3)[2], piece)


def conversion_reach(config: VITSConfig) -> int:
    """Number of frames on each side that the audio of a frame depends on in a conversion."""
    return config.posterior.reach + 2 * config.flows * config.flow.reach + max(config.decoder.receptive_field)


def _without_padding(config: VITSConfig) -> int:
    """The number of samples by which `linear_spectrogram` reflects each end, whose frames are discarded."""
    mel = config.mel
    return -(-mel.pad // mel.hop_length)


def _as_input(value: Speaker) -> Array | None:
    if value is None:
        return None
    return jnp.asarray(value, jnp.float32 if isinstance(value, np.ndarray) else jnp.int32)


@eqx.filter_jit
def _read(
    network: VITS,
    tokens: Int[Array, " tokens"],
    count: Int[Array, ""],
    speaker: Array | None,
    language: Array | None,
    key: PRNGKeyArray,
    noise_scale: Float[Array, ""],
    length_scale: Float[Array, ""],
) -> tuple[TextEncoding, Conditions, Int[Array, " tokens"], Bool[Array, ""]]:
    """The text half of a synthesis: the prior of each token, the durations, and whether they are finite."""
    conditions = network.conditions(speaker, language, ())
    text = network.encode_text(tokens, conditions, token_count=count, inference=True)
    noise = _noise(key, jnp.arange(len(tokens), dtype=jnp.int32), 2) * noise_scale
    logs = network.log_durations(text, noise, conditions)
    return text, conditions, whole_durations(logs, text.mask, length_scale=length_scale), jnp.isfinite(logs).all()


@eqx.filter_jit
def _speak(
    network: VITS,
    text: TextEncoding,
    durations: Int[Array, " tokens"],
    conditions: Conditions,
    key: PRNGKeyArray,
    noise_scale: Float[Array, ""],
    frames: int,
) -> Float[Array, " samples"]:
    """The acoustic half of a synthesis, with `frames` frames of audio."""
    noise = _noise(key, jnp.arange(frames, dtype=jnp.int32), network.config.channels) * noise_scale
    return network.decode(network.latents(text, durations, noise, conditions), conditions)[:, 0]


@eqx.filter_jit
def _convert(
    network: VITS,
    audio: Float[Array, " samples"],
    source: Array | None,
    target: Array | None,
    key: PRNGKeyArray,
    start: Int[Array, ""],
    count: Int[Array, ""],
    outer: int,
) -> Float[Array, " samples"]:
    """The conversion of a window that starts with frame `start` and has `count` valid frames.

    `audio` has additional samples at both ends, of which `outer` frames of the spectrogram are discarded.
    """
    mel = network.config.mel
    frames = (len(audio) - 2 * mel.pad) // mel.hop_length
    extra = outer * mel.hop_length - mel.pad
    spectrogram = linear_spectrogram(jnp.pad(audio, extra), mel).T[outer : outer + frames]
    noise = _noise(key, start + jnp.arange(frames, dtype=jnp.int32), network.config.channels)
    return network.convert(spectrogram, noise, source, target, frame_count=count).audio[:, 0]


def _noise(key: PRNGKeyArray, numbers: Int[Array, " time"], channels: int) -> Float[Array, "time {channels}"]:
    return draw_for_positions(lambda one: jax.random.normal(one, (channels,)), key, numbers, 0)

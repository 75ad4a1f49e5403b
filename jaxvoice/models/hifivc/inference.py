"""Inference with HiFi-VC for recordings of any length, in batches, with few compiled programs and bounded memory.

Recordings of at most a piece (30 s) are encoded whole. The attention of longer ones is limited to overlapping windows,
whose content features are cut in the middle of the overlaps; their F0 and the statistics of their features remain those
of the whole recording. The decoder runs on windows with its receptive field, which changes results by rounding only.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import equinox as eqx
import jax
import numpy as np
from jax import lax, numpy as jnp
from jaxtyping import Array, Float, Float32, Int

from jaxvoice.dsp.framing import Window, bucket_size, equal_size_batches, plan_windows
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.models.hifivc.config import HiFiVCConfig, PitchEncoderConfig
from jaxvoice.models.hifivc.decoder import Decoder
from jaxvoice.models.hifivc.network import HiFiVC
from jaxvoice.models.hifivc.pitch_encoder import PitchEncoder
from jaxvoice.models.hifivc.speaker_encoder import SpeakerEncoder
from jaxvoice.nn import freeze

_SMALLEST, _LARGEST = 64, 2**24  # mel frames of the shortest and the longest compiled program
_BLOCK = 1024  # frames of the pitch code that are computed at once
_EPS = 1e-5  # of the pitch encoder's normalisation

_Content = Float32[np.ndarray, "frames channels"]
_Waveform = Float32[np.ndarray, " samples"]
_Indexed = tuple[int, Window]  # a window of the source with this index


@dataclass(frozen=True)
class SourceFeatures:
    """What the network reads of a source."""

    features: Float32[np.ndarray, "mels frames"]
    """Normalised log-mels of the content encoder, of the whole recording."""
    pitch: Float32[np.ndarray, "rows subframes"] | None
    """Log F0, voicing flag and, for a harmonic source, the phase, four values for each content frame; `None` for a
    model without pitch encoder."""


class HiFiVCInference:
    """The networks of HiFi-VC for numpy arrays of any length.

    **Arguments:** `network` and its configuration `config`; `piece`, the frames of content features of the longest
    recording that is encoded whole, and of the windows of longer ones; `overlap`, the frames at each end of such a
    window that are discarded; `window`, the frames that are decoded at once.

    **Raises:** `ConfigError` if `piece` is not larger than twice `overlap`, or `window` than the receptive field of the
    decoder.
    """

    def __init__(self, network: HiFiVC, config: HiFiVCConfig, *, piece: int, overlap: int, window: int):
        if overlap < 0 or piece <= 2 * overlap:
            raise ConfigError(
                f"piece is {piece} frames and overlap is {overlap}; overlap should be at least 0, and piece more than "
                "twice as long."
            )
        self.context = config.decoder.receptive_field
        if window <= sum(self.context):
            raise ConfigError(
                f"window is {window}; it should be larger than the receptive field of the decoder, "
                f"{sum(self.context)} frames. Pass several times this number."
            )
        self.piece, self.overlap, self.window = piece, overlap, window
        self._config, self._content, self._speaker = config, network.content_encoder, network.speaker_encoder
        self._pitch, self._decoder = network.pitch_encoder, freeze(network.decoder)
        self._ratio = mel_frames_per_content_frame(config)

    def frames(self, source: SourceFeatures) -> int:
        """The number of content frames of `source`."""
        return -(-source.features.shape[1] // self._ratio)

    def speaker(self, mel: Float32[np.ndarray, "mels frames"]) -> Float32[np.ndarray, " size"]:
        """The mean of the distribution of the speaker vector of a reference."""
        frames = mel.shape[1]
        padded = np.zeros((padded_size(frames), len(mel)), np.float32)
        padded[:frames] = mel.T
        return _finite(np.asarray(_speaker_mean(self._speaker, jnp.asarray(padded), jnp.asarray(frames, jnp.int32))))

    def convert(
        self, sources: Sequence[SourceFeatures], speaker: Float32[np.ndarray, " size"]
    ) -> Iterator[tuple[int, _Waveform]]:
        """Yield the index of each source and its waveform, one hop for each content frame, in no particular order."""
        short = [index for index, source in enumerate(sources) if self.frames(source) <= self.piece]
        for index, source in enumerate(sources):
            if self.frames(source) > self.piece:
                yield index, np.concatenate(list(self.stream(source, speaker)))
        pieces = [(index, Window(0, count, 0, count)) for index in short for count in [self.frames(sources[index])]]
        contents = {index: content for (index, _), content in self._encode(sources, pieces)}
        codes = {index: self._pitch_code(sources[index]) for index in short}
        hop = self._config.decoder.hop_length
        audio = {index: np.empty(len(contents[index]) * hop, np.float32) for index in short}
        windows = [
            (index, window)
            for index in short
            for window in plan_windows(len(contents[index]), self.window, self.context)
        ]
        for (index, window), samples in self._decode(contents, codes, speaker, windows):
            audio[index][window.keep_from * hop : window.keep_to * hop] = samples
        yield from audio.items()

    def stream(self, source: SourceFeatures, speaker: Float32[np.ndarray, " size"]) -> Iterator[_Waveform]:
        """Yield the waveform of a source of any length in parts, as soon as their content is encoded."""
        frames, (left, right) = self.frames(source), self.context
        code, hop = self._pitch_code(source), self._config.decoder.hop_length
        content = np.zeros((0, self._config.content.dim), np.float32)
        first, done = 0, 0  # frame of the first row of `content`; frames whose waveform was yielded
        for window in plan_windows(frames, self.piece, (self.overlap, self.overlap)):
            ((_, part),) = self._encode([source], [(0, window)])
            content = np.concatenate([content, part])
            ready = frames if window.keep_to == frames else window.keep_to - right
            if ready <= done:
                continue
            kept = None if code is None else code[first : first + len(content)]
            windows = plan_windows(len(content), self.window, self.context, (done - first, ready - first))
            parts = self._decode({0: content}, {0: kept}, speaker, [(0, one) for one in windows])
            audio = np.empty((ready - done) * hop, np.float32)
            for (_, one), samples in parts:
                audio[(one.keep_from + first - done) * hop :][: len(samples)] = samples
            yield audio
            dropped = max(0, ready - left - first)
            content, first, done = content[dropped:], first + dropped, ready

    def _encode(
        self, sources: Sequence[SourceFeatures], pieces: Sequence[_Indexed]
    ) -> Iterator[tuple[_Indexed, _Content]]:
        """Yield the content features that each window keeps; windows of equal padded length are a batch."""
        ratio, largest = self._ratio, self._ratio * self.piece
        room = largest * _batching()

        def mel_frames(piece: _Indexed) -> int:
            return min(sources[piece[0]].features.shape[1], ratio * piece[1].stop) - ratio * piece[1].start

        def size_of(piece: _Indexed) -> int:
            return padded_size(mel_frames(piece), largest)

        for size, batch in equal_size_batches(pieces, size_of, lambda size: room // size):
            parts = [sources[index].features[:, ratio * window.start : ratio * window.stop] for index, window in batch]
            for row, piece in zip(encode_content(self._content, parts, size), batch, strict=True):
                window = piece[1]
                # A copy, since a view would keep the whole batch in memory.
                yield piece, row[window.keep_from - window.start : window.keep_to - window.start].copy()

    def _pitch_code(self, source: SourceFeatures) -> Float32[np.ndarray, "frames channels"] | None:
        if self._pitch is None or source.pitch is None:
            return None
        return pitch_code(self._pitch, source.pitch)

    def _decode(
        self,
        contents: dict[int, _Content],
        codes: dict[int, Float32[np.ndarray, "frames channels"] | None],
        speaker: Float32[np.ndarray, " size"],
        windows: Sequence[_Indexed],
    ) -> Iterator[tuple[_Indexed, _Waveform]]:
        """Yield the samples that each window keeps; windows of equal padded length are decoded as a batch."""
        hop, room = self._config.decoder.hop_length, self.window * _batching()
        for size, batch in equal_size_batches(
            windows, lambda piece: bucket_size(piece[1].frames, self.window), lambda size: room // size
        ):
            lengths = np.array([window.frames for _, window in batch], np.int32)
            content = jnp.asarray(_stacked([contents[index][w.start : w.stop] for index, w in batch], size))
            code = None
            if self._pitch is not None:
                rows = [codes[index] for index, _ in batch]
                parts = [row[w.start : w.stop] for row, (_, w) in zip(rows, batch, strict=True) if row is not None]
                code = jnp.asarray(_stacked(parts, size))
            audio = _finite(
                np.asarray(_decode(self._decoder, content, code, jnp.asarray(speaker[None]), jnp.asarray(lengths)))
            )
            for row, piece in zip(audio, batch, strict=True):
                window = piece[1]
                yield piece, row[(window.keep_from - window.start) * hop : (window.keep_to - window.start) * hop]


def mel_frames_per_content_frame(config: HiFiVCConfig) -> int:
    """The factor by which the content encoder reduces the number of frames."""
    return config.content.hop_length // config.content.mel.hop_length


def padded_size(frames: int, largest: int = _LARGEST) -> int:
    """The length to which `frames` mel frames are padded, so that few programs are compiled; at most `largest`."""
    return max(_SMALLEST, bucket_size(frames, largest))


def encode_content(
    encoder: eqx.Module, features: Sequence[Float32[np.ndarray, "mels frames"]], size: int
) -> Float32[np.ndarray, "batch time channels"]:
    """The output of the content encoder for normalised log-mels, which are padded to `size` frames."""
    padded = _stacked([part.T for part in features], size)
    lengths = np.array([part.shape[1] for part in features], np.int32)
    return np.asarray(_encode(encoder, jnp.asarray(padded), jnp.asarray(lengths)))


def pitch_code(
    encoder: PitchEncoder, pitch: Float32[np.ndarray, "rows subframes"], *, block: int = _BLOCK
) -> Float32[np.ndarray, "frames channels"]:
    """The output of the pitch encoder, of which at most `block` frames are computed at once.

    The normalisations use the statistics of the whole recording: the first blocks of each layer compute those of the
    next one. The result differs from one call of `encoder` by rounding only.
    """
    ratio = encoder.config.downsampling
    frames = pitch.shape[1] // ratio
    if frames <= block:
        padded = _stacked([pitch.T], ratio * bucket_size(frames, block))[0]
        return np.asarray(_encode_pitch(encoder, jnp.asarray(padded), jnp.asarray(frames, jnp.int32)))[:frames]
    windows = list(plan_windows(frames, block, _pitch_context(encoder.config)))
    strides = [conv.stride for conv in encoder.convs]

    def blocks(moments: tuple[Array, ...]) -> Iterator[tuple[Window, Float32[np.ndarray, "time channels"]]]:
        """The windows' parts of the layer after those whose `moments` are given, or of the last layer."""
        layer = min(len(moments), len(strides) - 1) if encoder.config.instance_norm else len(strides) - 1
        rate = ratio // math.prod(strides[: layer + 1])
        for window in windows:
            part = jnp.asarray(pitch[:, ratio * window.start : ratio * window.stop].T)
            if encoder.config.instance_norm:
                found = np.asarray(_pitch_layers(encoder, part, moments))
            else:
                found = np.asarray(_encode_pitch(encoder, part, jnp.asarray(window.frames, jnp.int32)))
            yield window, found[rate * (window.keep_from - window.start) : rate * (window.keep_to - window.start)]

    moments: tuple[Array, ...] = ()
    while encoder.config.instance_norm and len(moments) < len(strides):
        moments = (*moments, jnp.asarray(_moments(part for _, part in blocks(moments))))
    channels = encoder.config.channels
    code = np.empty((frames, channels), np.float32)
    for window, part in blocks(moments):
        code[window.keep_from : window.keep_to] = part[:, :channels]
    return np.concatenate([code, pitch.T.reshape(frames, -1)], axis=1) if encoder.keeps_input else code


def _moments(parts: Iterator[Float32[np.ndarray, "time channels"]]) -> Float32[np.ndarray, "2 channels"]:
    """Mean and variance over time of the concatenated parts, in float64."""
    count, shift = 0, None
    total, squares = np.zeros(1), np.zeros(1)
    for part in parts:
        shift = part[:1].astype(np.float64) if shift is None else shift
        shifted = part - shift
        count, total, squares = count + len(part), total + shifted.sum(0), squares + np.square(shifted).sum(0)
    assert shift is not None
    mean = total / count
    return np.stack([shift[0] + mean, squares / count - np.square(mean)]).astype(np.float32)


def _pitch_context(config: PitchEncoderConfig) -> tuple[int, int]:
    """The frames of the code before and after a frame whose F0 influences it, besides the normalisations."""
    first, last = 0, 0
    for stride, kernel in zip(reversed(config.strides), reversed(config.kernel_sizes), strict=True):
        padding = (kernel - stride) // 2
        first, last = first * stride - padding, last * stride - padding + kernel - 1
    ratio = config.downsampling
    return -(first // ratio), last // ratio


@eqx.filter_jit
def _pitch_layers(
    encoder: PitchEncoder, pitch: Float[Array, "subframes rows"], moments: tuple[Float[Array, "2 channels"], ...]
) -> Float[Array, "time channels"]:
    """The output of the layer after those whose `moments` are given, before its normalisation, or of the last layer."""
    x = pitch[:, :2]  # without the phase
    for number, conv in enumerate(encoder.convs[: len(moments) + 1]):
        x = jax.nn.leaky_relu(conv(x), encoder.config.slope)
        if number < len(moments):
            mean, variance = moments[number]
            x = (x - mean[None]) * lax.rsqrt(variance + _EPS)[None]
    return x


@eqx.filter_jit
def _encode_pitch(
    encoder: PitchEncoder, pitch: Float[Array, "subframes rows"], length: Int[Array, ""]
) -> Float[Array, "frames channels"]:
    return encoder(pitch, length=length)


@eqx.filter_jit
def _speaker_mean(
    encoder: SpeakerEncoder, mel: Float[Array, "frames mels"], length: Int[Array, ""]
) -> Float[Array, " size"]:
    return encoder(mel, length=length).mean


@eqx.filter_jit
def _encode(
    encoder: eqx.Module, features: Float[Array, "batch frames mels"], lengths: Int[Array, " batch"]
) -> Float[Array, "batch time channels"]:
    return encoder(features, length=lengths, inference=True)  # pyright: ignore[reportCallIssue]


@eqx.filter_jit
def _decode(
    decoder: Decoder,
    content: Float[Array, "batch frames channels"],
    code: Float[Array, "batch frames pitch_channels"] | None,
    speaker: Float[Array, "1 size"],
    lengths: Int[Array, " batch"],
) -> Float[Array, "batch samples"]:
    return decoder(content, code, speaker, length=lengths)[..., 0]


def _stacked(
    rows: Sequence[Float32[np.ndarray, "_ channels"]], size: int
) -> Float32[np.ndarray, "batch {size} channels"]:
    stacked = np.zeros((len(rows), size, rows[0].shape[1]), np.float32)
    for row, values in zip(stacked, rows, strict=True):
        row[: len(values)] = values
    return stacked


def _batching() -> int:
    """How many inputs of the largest size are computed at once."""
    # Larger batches gain nothing on a CPU and take more memory.
    return 1 if jax.default_backend() == "cpu" else 8


def _finite(values: np.ndarray) -> np.ndarray:
    if not (np.isfinite(values.min()) and np.isfinite(values.max())):
        raise CheckpointError("The model returned NaN or infinity; check its weights, or use an earlier checkpoint.")
    return values

"""Embeddings of recordings of any length, from windows of fixed length."""

from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxvoice.dsp.mel_config import PowerMelConfig
from jaxvoice.dsp.power_mels import power_mel
from jaxvoice.models.speaker_encoder.config import GE2EConfig, LSTMConfig, SpeakerEncoderConfig
from jaxvoice.models.speaker_encoder.front_end import unit_length
from jaxvoice.models.speaker_encoder.lstm import GE2EEncoder, LSTMEncoder
from jaxvoice.models.speaker_encoder.resnet import ResNetSE, with_state

SpeakerNetwork = ResNetSE | LSTMEncoder | GE2EEncoder
AnyArray = TypeVar("AnyArray", np.ndarray, Array)

WINDOWS, FRAMES = 10, 250
"""coqui's number of windows of a recording, and their length in mel frames."""
PARTIAL_FRAMES, PARTIAL_RATE, PARTIAL_COVERAGE = 160, 1.3, 0.75
"""Resemblyzer's length of windows in mel frames, windows per second, and smallest covered share of the last window."""


def build(config: SpeakerEncoderConfig, *, key: PRNGKeyArray) -> SpeakerNetwork:
    """The encoder of `config` with random weights; a `ResNetSE` contains its initial running statistics."""
    if isinstance(config.network, LSTMConfig):
        return LSTMEncoder(config, key=key)
    if isinstance(config.network, GE2EConfig):
        return GE2EEncoder(config, key=key)
    model = ResNetSE(config, key=key)
    return with_state(model, model.init_state())


def level_gain(samples: Float[np.ndarray, " samples"], config: SpeakerEncoderConfig) -> float:
    """The factor that gives `samples` the root mean square of `config.level`; 1 without a level.

    It is also 1 for louder samples with `config.only_raise`.
    """
    if config.level is None:
        return 1.0
    # Without an array of the squares in float64, which has twice the size of a long recording.
    level = float(np.sqrt(np.einsum("n,n->", samples, samples, dtype=np.float64) / len(samples)))
    gain = 10 ** (config.level / 20) / max(level, 1e-12)
    return 1.0 if config.only_raise and gain < 1 else gain


def window_starts(length: int, window: int, count: int = WINDOWS) -> Int[np.ndarray, " count"]:
    """First positions of `count` windows that are spread evenly over `length` positions, rounded down."""
    return np.floor(np.linspace(0, max(0, length - window), count)).astype(np.int64)


def partial_starts(samples: int, config: SpeakerEncoderConfig) -> Int[np.ndarray, " count"]:
    """First samples of Resemblyzer's windows of a recording; the last may end after it.

    resemble-ai/Resemblyzer `resemblyzer/voice_encoder.py`, `compute_partial_slices`.
    """
    hop = config.mel.hop_length
    frames = samples // hop + 1
    step = round(config.sample_rate / PARTIAL_RATE / hop)
    starts = np.arange(0, max(1, frames - PARTIAL_FRAMES + step + 1), step) * hop
    covered = (samples - starts[-1]) / (PARTIAL_FRAMES * hop)
    return starts[:-1] if covered < PARTIAL_COVERAGE and len(starts) > 1 else starts


def window_length(config: SpeakerEncoderConfig, frames: int = FRAMES) -> int:
    """The samples of a window of `frames` mel frames, or the frames if the encoder reads mels."""
    return frames * config.mel.hop_length if config.reads_audio else frames


def spread_windows(
    x: AnyArray, config: SpeakerEncoderConfig, *, windows: int = WINDOWS, frames: int = FRAMES
) -> Iterator[AnyArray]:
    """The windows of `x`, audio or mels as in a call of the encoder, whose embeddings `embed_windows` averages.

    There are `windows` of `frames` mel frames, or one for a recording that is shorter than a window.
    """
    length, window = x.shape[-1 if config.reads_audio else -2], window_length(config, frames)
    if length <= window:
        yield x
        return
    for start in map(int, window_starts(length, window, windows)):
        yield x[..., start : start + window] if config.reads_audio else x[..., start : start + window, :]


def partial_windows(audio: AnyArray, config: SpeakerEncoderConfig) -> Iterator[AnyArray]:
    """The windows of audio `(*batch, samples)` whose embeddings `embed_partials` averages, for `embed_partial`.

    Each has half an STFT frame more on both sides, so that its mels are those of the whole recording, which zeros
    follow if the last window is longer.
    """
    mel = config.mel
    assert isinstance(mel, PowerMelConfig)
    samples, axes = audio.shape[-1], [(0, 0)] * (audio.ndim - 1)
    starts, half = partial_starts(samples, config), mel.n_fft // 2
    end = int(starts[-1]) + PARTIAL_FRAMES * mel.hop_length
    # That of JAX would compile a program for each length of a recording.
    pad: Any = np.pad if isinstance(audio, np.ndarray) else jnp.pad
    whole = pad(audio, [*axes, (0, max(0, end - samples))])
    padded = pad(whole, [*axes, (half, half)], mode="reflect" if mel.padding == "reflect" else "constant")
    window = (PARTIAL_FRAMES - 1) * mel.hop_length + mel.n_fft
    for start in map(int, starts):
        yield padded[..., start : start + window]


def embed_windows(
    encoder: SpeakerNetwork,
    audio: Float[Array, "*batch samples"] | Float[Array, "*batch frames mels"],
    *,
    windows: int = WINDOWS,
    frames: int = FRAMES,
) -> Float[Array, "*batch dim"]:
    """The mean of the normalised embeddings of windows that are spread evenly over a recording.

    The mean is not normalised. A recording that is shorter than a window is one window. The windows are those of
    coqui-ai/TTS `TTS/encoder/models/base_encoder.py:compute_embedding`, except that windows of mels are cut from their
    time axis; the original cuts the axis of the bands, which gives the embedding of the whole recording.

    **Arguments:** `audio`, audio or mels as in a call of `encoder`, which contains its running statistics; `windows`,
    the number of windows; `frames`, their length in mel frames.

    **Raises:** `ShapeError` as a call of `encoder`.
    """
    cut = list(spread_windows(audio, encoder.config, windows=windows, frames=frames))
    return encoder(cut[0]) if len(cut) == 1 else jnp.mean(encoder(jnp.stack(cut)), axis=0)


def embed_partial(encoder: SpeakerNetwork, window: Float[Array, "*batch samples"]) -> Float[Array, "*batch dim"]:
    """The normalised embedding of a window of `partial_windows`."""
    mel = encoder.config.mel
    assert isinstance(mel, PowerMelConfig)
    return unit_length(encoder.embed_mels(power_mel(window, mel, padded=True).swapaxes(-1, -2)))


def embed_partials(encoder: SpeakerNetwork, audio: Float[Array, "*batch samples"]) -> Float[Array, "*batch dim"]:
    """The normalised mean of the embeddings of windows of 1.6 s, of which 1.3 begin every second.

    Zeros follow the recording if the last window is longer. The mels are those of the whole recording.

    resemble-ai/Resemblyzer `resemblyzer/voice_encoder.py`, `embed_utterance`.

    **Raises:** `ShapeError` as a call of `encoder`.
    """
    return unit_length(
        jnp.mean(embed_partial(encoder, jnp.stack(list(partial_windows(audio, encoder.config)))), axis=0)
    )


def in_partials(config: SpeakerEncoderConfig) -> bool:
    """Whether `embed_partials` embeds recordings with the encoder of `config`, as Resemblyzer's."""
    return isinstance(config.network, GE2EConfig) and config.reads_audio


def embed(encoder: SpeakerNetwork, audio: Float[Array, "*batch samples"]) -> Float[Array, "*batch dim"]:
    """The embedding of recordings by the rule of the encoder: `embed_partials` for Resemblyzer's, else
    `embed_windows`."""
    return (embed_partials if in_partials(encoder.config) else embed_windows)(encoder, audio)

"""Embeddings of recordings of any length, from windows of fixed length."""

import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxvoice.dsp.mel_config import PowerMelConfig
from jaxvoice.models.speaker_encoder.config import GE2EConfig, LSTMConfig, SpeakerEncoderConfig
from jaxvoice.models.speaker_encoder.front_end import read_mels, unit_length
from jaxvoice.models.speaker_encoder.lstm import GE2EEncoder, LSTMEncoder
from jaxvoice.models.speaker_encoder.resnet import ResNetSE, with_state

SpeakerNetwork = ResNetSE | LSTMEncoder | GE2EEncoder

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
    of_audio = encoder.config.reads_audio
    axis = -1 if of_audio else -2
    window = frames * (encoder.config.mel.hop_length if of_audio else 1)
    length = audio.shape[axis]
    if length <= window:
        return encoder(audio)
    starts = window_starts(length, window, windows)
    cut = [audio[..., s : s + window] if of_audio else audio[..., s : s + window, :] for s in map(int, starts)]
    return jnp.mean(encoder(jnp.stack(cut)), axis=0)


def embed_partials(encoder: SpeakerNetwork, audio: Float[Array, "*batch samples"]) -> Float[Array, "*batch dim"]:
    """The normalised mean of the embeddings of windows of 1.6 s, of which 1.3 begin every second.

    Zeros follow the recording if the last window is longer. The mels are those of the whole recording.

    resemble-ai/Resemblyzer `resemblyzer/voice_encoder.py`, `embed_utterance`.

    **Raises:** `ShapeError` as a call of `encoder`.
    """
    mel = encoder.config.mel
    assert isinstance(mel, PowerMelConfig)
    samples = audio.shape[-1]
    starts = partial_starts(samples, encoder.config) // mel.hop_length
    end = int(starts[-1] + PARTIAL_FRAMES) * mel.hop_length
    padding = [(0, 0)] * (audio.ndim - 1) + [(0, max(0, end - samples))]
    mels = read_mels(jnp.pad(audio, padding), encoder.config)
    cut = jnp.stack([mels[..., start : start + PARTIAL_FRAMES, :] for start in map(int, starts)])
    return unit_length(jnp.mean(unit_length(encoder.embed_mels(cut)), axis=0))


def embed(encoder: SpeakerNetwork, audio: Float[Array, "*batch samples"]) -> Float[Array, "*batch dim"]:
    """The embedding of recordings by the rule of the encoder: `embed_partials` for Resemblyzer's, else
    `embed_windows`."""
    if isinstance(encoder.config.network, GE2EConfig) and encoder.config.reads_audio:
        return embed_partials(encoder, audio)
    return embed_windows(encoder, audio)

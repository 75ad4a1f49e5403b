"""The columns of a store that HiFi-VC trains on, and the features of single recordings."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Float32, Shaped

from jaxvoice.data.audio import resample
from jaxvoice.data.features import computed_column
from jaxvoice.data.store import Store, to_int16
from jaxvoice.data.utterances import map_utterances
from jaxvoice.dsp.mel import bucketed_log_mel
from jaxvoice.dsp.nemo_mel import bucketed_nemo_log_mel
from jaxvoice.dsp.pitch import pitch_features, track_pitch
from jaxvoice.models.conformer import ConformerEncoder
from jaxvoice.models.hifivc.config import HiFiVCConfig
from jaxvoice.models.hifivc.inference import encode_content, mel_frames_per_content_frame, padded_size


def pack_pitch(pitch: Float[np.ndarray, "rows subframes"], per_frame: int) -> Float[np.ndarray, "channels frames"]:
    """F0 features with the `per_frame` values of a content frame as channels, so that crops start at content frames."""
    rows = len(pitch)
    return pitch.reshape(rows, -1, per_frame).swapaxes(1, 2).reshape(rows * per_frame, -1)


def unpack_pitch(packed: Float[Array, "batch channels frames"], per_frame: int) -> Float[Array, "batch subframes rows"]:
    """The inverse of `pack_pitch` for a batch, with time first."""
    batch, channels, frames = packed.shape
    rows = channels // per_frame
    return packed.reshape(batch, rows, per_frame, frames).transpose(0, 3, 2, 1).reshape(batch, -1, rows)


def unpack_speech(packed: Shaped[Array, "batch hop frames"]) -> Shaped[Array, "batch samples"]:
    """Audio whose samples of a content frame are channels, as one axis of samples."""
    return packed.swapaxes(1, 2).reshape(packed.shape[0], -1)


def content_frames(samples: int, config: HiFiVCConfig) -> int:
    """The number of content frames of `samples` of audio at the sample rate of the content encoder."""
    mel = config.content.mel
    frames = samples // mel.hop_length + (1 if config.content.nemo_release == "1.7" else 0)
    return -(-frames // mel_frames_per_content_frame(config))


def content_features(
    encoder: ConformerEncoder, speech: Float[np.ndarray, " samples"], config: HiFiVCConfig
) -> Float32[np.ndarray, "channels frames"]:
    """The content features of a recording at the sample rate of the content encoder, with few compiled programs.

    **Raises:** `AudioError` for audio that is shorter than two mel frames, or contains NaN or infinity.
    """
    content = config.content
    features = bucketed_nemo_log_mel(speech, content.mel, release=content.nemo_release)
    (hidden,) = encode_content(encoder, [features], padded_size(features.shape[1]))
    return hidden.T[:, : -(-features.shape[1] // mel_frames_per_content_frame(config))]


def training_columns(
    store: Store,
    encoder: ConformerEncoder,
    config: HiFiVCConfig,
    *,
    identity: str,
    computed_content: bool = False,
    cache: str | Path | None = None,
    progress: bool = False,
) -> Store:
    """`store` with the columns that `HiFiVCTask` needs beside `audio` and `gain`.

    - `mel`: the mel spectrograms of the recordings, from which references are cropped.
    - `pitch`: log F0 and voicing with the values of a content frame as channels (`pack_pitch`), if the model reads F0.
    - `content`: the content features `(channels, frames)`, float16. With `computed_content`, the column is `speech`
        instead, the int16 samples at the sample rate of the content encoder `(hop, frames)`, with `speech_gain`.

    **Arguments:**

    - `store`: recordings at the sample rate of `config.mel`.
    - `encoder`: the content encoder, with folded batch norms.
    - `identity`: identifies the weights of `encoder`, for the cache of its features.
    - `cache`: folder of the content features; by default a folder in the user's cache folder.
    - `progress`: whether to show progress bars on standard error.

    **Raises:** `AudioError` for a recording that is too short; `DataError` if `cache` contains features of another
    encoder, or for features beyond the range of float16.
    """
    rate, content_rate = store.sample_rate, config.content.mel.sample_rate

    def speech(row: int) -> Float32[np.ndarray, " samples"]:
        return np.asarray(resample(store.waveform(row), rate, content_rate), np.float32)

    def signals(row: int) -> dict[str, Any]:
        values: dict[str, Any] = {"mel": bucketed_log_mel(store.waveform(row), config.mel)}
        if config.pitch_encoder is not None:
            per_frame = config.pitch_encoder.downsampling
            f0, frames = track_pitch(speech(row), content_rate, config.pitch), content_frames(len(speech(row)), config)
            phase = config.decoder.harmonic_source
            values["pitch"] = pack_pitch(pitch_features(f0, per_frame * frames, phase=phase), per_frame)
        if computed_content:
            samples, gain = to_int16(speech(row))
            hop = config.content.hop_length
            whole = samples[: len(samples) // hop * hop]
            values |= {"speech": whole.reshape(-1, hop).T, "speech_gain": np.float32(gain)}
        return values

    number = {utterance.id: row for row, utterance in enumerate(store.corpus.utterances)}
    title = "computing mels and F0" if progress else None
    rows = list(map_utterances(lambda item: signals(number[item.id]), store.corpus.utterances, progress=title))
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in rows[0]} if rows else {}
    if "speech_gain" in columns:
        columns["speech_gain"] = np.array(columns["speech_gain"], np.float32)
    if not computed_content:
        columns["content"] = computed_column(
            store,
            "content",
            lambda row: content_features(encoder, speech(row), config),
            identity=identity,
            cache=cache,
            progress=progress,
        )
    return replace(store.with_columns(**columns), mel=config.mel)

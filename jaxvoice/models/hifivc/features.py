"""The columns of a store that HiFi-VC trains on, and the features of single recordings."""

import json
from collections.abc import Callable
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Float32, Int16, Shaped

from jaxvoice.config import to_dict
from jaxvoice.data.audio import resample
from jaxvoice.data.features import computed_column
from jaxvoice.data.store import Column, Store, to_int16
from jaxvoice.dsp.framing import plan_windows
from jaxvoice.dsp.mel import bucketed_log_mel
from jaxvoice.dsp.nemo_mel import bucketed_nemo_log_mel
from jaxvoice.dsp.pitch import pitch_features, track_pitch
from jaxvoice.models.conformer import ConformerEncoder
from jaxvoice.models.conformer.config import OVERLAP, PIECE
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
    encoder: ConformerEncoder,
    speech: Float[np.ndarray, " samples"],
    config: HiFiVCConfig,
    *,
    piece: float = PIECE,
    overlap: float = OVERLAP,
) -> Float32[np.ndarray, "channels frames"]:
    """The content features of a recording at the sample rate of the content encoder, with few compiled programs.

    A recording of more than `piece` seconds is encoded in windows of this length, of which `overlap` seconds at each
    inner end are discarded, as `VoiceConverter` does it, so that the memory of the attention is bounded. `piece` should
    be more than twice as long as `overlap`.

    **Raises:** `AudioError` for audio that is shorter than two mel frames, or contains NaN or infinity.
    """
    content = config.content
    features = bucketed_nemo_log_mel(speech, content.mel, release=content.nemo_release)
    ratio, seconds = mel_frames_per_content_frame(config), content.frame_seconds
    size, context = round(piece / seconds), round(overlap / seconds)
    kept = []
    for window in plan_windows(-(-features.shape[1] // ratio), size, (context, context)):
        part = features[:, ratio * window.start : ratio * window.stop]
        (hidden,) = encode_content(encoder, [part], padded_size(part.shape[1], ratio * size))
        kept.append(hidden[window.keep_from - window.start : window.keep_to - window.start])
    return np.concatenate(kept).T


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

    - `mel`: the mel spectrograms of the recordings, float32, from which references are cropped.
    - `pitch`: log F0 and voicing with the values of a content frame as channels (`pack_pitch`), if the model reads F0.
    - `content`: the content features `(channels, frames)`, float16. With `computed_content`, the column is `speech`
        instead, the int16 samples at the sample rate of the content encoder `(hop, frames)`, with `speech_gain`.

    All columns are computed once, stored with the settings that determine them, and memory-mapped (`computed_column`).

    **Arguments:**

    - `store`: recordings at the sample rate of `config.mel`.
    - `encoder`: the content encoder, with folded batch norms.
    - `identity`: identifies the weights of `encoder`, for the cache of its features.
    - `cache`: folder with a folder for each column; by default in the user's cache folder.
    - `progress`: whether to show progress bars on standard error.

    **Raises:** `AudioError` for a recording that is too short; `DataError` if `cache` contains features of another
    encoder, or for features beyond the range of float16.
    """
    rate, content_rate = store.sample_rate, config.content.mel.sample_rate

    def speech(row: int) -> Float32[np.ndarray, " samples"]:
        return np.asarray(resample(store.waveform(row), rate, content_rate), np.float32)

    def pitch(row: int) -> Float32[np.ndarray, "channels frames"]:
        samples = speech(row)
        f0, frames = track_pitch(samples, content_rate, config.pitch), content_frames(len(samples), config)
        return pack_pitch(pitch_features(f0, per_frame * frames, phase=phase), per_frame)

    def packed_speech(row: int) -> Int16[np.ndarray, "hop frames"]:
        samples = to_int16(speech(row))[0]
        return samples[: len(samples) // hop * hop].reshape(-1, hop).T

    def column(name: str, function: Callable[[int], np.ndarray], identity: str, **options: Any) -> Column:
        folder = None if cache is None else Path(cache).expanduser() / name
        return computed_column(store, name, function, identity=identity, cache=folder, progress=progress, **options)

    hop, phase = config.content.hop_length, config.decoder.harmonic_source
    columns = {
        "mel": column(
            "mel",
            lambda row: bucketed_log_mel(store.waveform(row), config.mel),
            _settings(config.mel),
            dtype=np.float32,
            threads=None,
        )
    }
    if config.pitch_encoder is not None:
        per_frame = config.pitch_encoder.downsampling
        settings = _settings(config.pitch, [content_rate, per_frame, phase, config.content.nemo_release])
        columns["pitch"] = column("pitch", pitch, settings, dtype=np.float32, threads=None)
    if computed_content:
        settings = _settings([content_rate, hop])
        columns["speech"] = column("speech", packed_speech, settings, dtype=np.int16, threads=None)
        columns["speech_gain"] = column(
            "speech_gain", lambda row: np.asarray(to_int16(speech(row))[1]), settings, dtype=np.float32, threads=None
        )
    else:
        columns["content"] = column(
            "content",
            lambda row: content_features(encoder, speech(row), config, piece=PIECE, overlap=OVERLAP),
            f"{identity}, windows of {PIECE:g} s without {OVERLAP:g} s",
        )
    return replace(store.with_columns(**columns), mel=config.mel)


def _settings(*parts: Any) -> str:
    """The settings that determine a column, as JSON."""
    return json.dumps([to_dict(part) if is_dataclass(part) else part for part in parts], sort_keys=True)

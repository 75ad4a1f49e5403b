"""The log-mel front end of NVIDIA NeMo's speech recognisers, as two groups of its releases compute it.

Until release 2.4 ("1.7"), both ends of the signal are reflected, and the frame at its end counts. Since release 2.5
("2.6"), zeros are added at both ends, and the frame at the end is left out.
"""

import functools
from typing import Literal, get_args

import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Float32, Int

from jaxvoice.dsp.framing import bucket_size
from jaxvoice.dsp.mel_config import NemoMelConfig, mel_filterbank
from jaxvoice.dsp.transforms import check_audio, overlapping_frames
from jaxvoice.errors import AudioError, ConfigError, ShapeError

NemoRelease = Literal["1.7", "2.6"]
"""A release of NeMo whose padding is used: "1.7" stands for the releases until 2.4, "2.6" for those since 2.5."""

_SMALLEST, _LARGEST = 64, 4096  # frames of the shortest and the longest compiled program
_DEVIATION_FLOOR = 1e-5  # NeMo, features.py: CONSTANT, added to the standard deviation


@functools.partial(jax.jit, static_argnames=("config", "release"))
@jax.named_scope("nemo_log_mel")
def nemo_log_mel(
    audio: Float[Array, "*batch samples"],
    config: NemoMelConfig,
    *,
    length: Int[Array, "*batch"] | int | None = None,
    release: NemoRelease = "2.6",
) -> tuple[Float32[Array, "*batch mels frames"], Int[Array, "*batch"]]:
    """Normalised log-mel features of a batch of recordings, computed in float32.

    With release "1.7", the features of a row depend on the padding of the batch, as in that release: the padded row is
    reflected, and the first sample of the padding is pre-emphasised.

    **Arguments:** `audio`, with zeros past the length of each row; `length`, the samples of each row, by default all;
    `release`, the padding rule.

    **Returns:** the features, with `samples // hop_length + 1` frames, and the number of valid frames of each row:
    `length // hop_length + 1` with release "1.7", `length // hop_length` with "2.6". Later frames are zero.

    **Raises:** `ShapeError` for audio that is not floats, or shorter than `config.min_samples`; `ConfigError` for an
    unknown release.
    """
    _check_release(release)
    check_audio(audio.shape[-1:], audio.dtype)
    samples, batch = audio.shape[-1], audio.shape[:-1]
    if samples < config.min_samples:
        raise ShapeError(
            f"audio has {samples} samples; it should have at least {config.min_samples} for two frames. Leave the clip "
            "out, or append silence."
        )
    count = jnp.broadcast_to(jnp.asarray(samples if length is None else length, jnp.int32), batch)
    emphasised = _emphasise(audio.astype(jnp.float32), config)
    pad = [(0, 0)] * len(batch) + [(config.n_fft // 2, config.n_fft // 2)]
    if release == "2.6":
        positions = jnp.arange(samples, dtype=jnp.int32).reshape(*(1 for _ in batch), samples)
        padded = jnp.pad(jnp.where(positions < count[..., None], emphasised, jnp.float32(0)), pad)
    else:
        padded = jnp.pad(emphasised, pad, mode="reflect")
    valid = _valid_frames(count, config, release)
    return _features(padded, valid, config), valid


def bucketed_nemo_log_mel(
    audio: Float[np.ndarray, " samples"], config: NemoMelConfig, *, release: NemoRelease = "2.6"
) -> Float32[np.ndarray, "mels frames"]:
    """The valid frames of `nemo_log_mel` for a recording of any length, with few compiled programs and bounded memory.

    Recordings are padded to 64, 96, 128, 192, ... frames, which does not change the result, also with release "1.7".
    Recordings of more than 4096 frames are computed in parts, and then normalised as a whole.

    **Raises:** `ShapeError` if `audio` is not one channel of floats; `AudioError` if it is shorter than
    `config.min_samples`, or contains NaN or infinity; `ConfigError` for an unknown release.
    """
    _check_release(release)
    audio = np.asarray(audio)
    check_audio(audio.shape, audio.dtype)
    if len(audio) < config.min_samples:
        raise AudioError(
            f"The audio is too short, {len(audio)} samples; it should have at least {config.min_samples} "
            f"({config.min_samples / config.sample_rate:.3f} s at {config.sample_rate} Hz) for two frames."
        )
    with np.errstate(over="ignore"):  # values beyond float32 become infinite, which raises an error below
        samples = audio.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(samples))
    if bad.size:
        raise AudioError(
            f"{bad.size} of the {len(samples)} samples are NaN or infinite in float32, the first at {bad[0]}; repair "
            "or leave out the recording."
        )
    emphasised = samples - np.float32(config.preemphasis) * np.pad(samples[:-1], (1, 0))
    half = config.n_fft // 2
    padded = np.pad(emphasised, half, mode="reflect") if release == "1.7" else np.pad(emphasised, half)
    valid = int(_valid_frames(len(samples), config, release))
    if valid > _LARGEST:
        return _features_in_parts(padded, valid, config)
    padded = _with_frames(padded, max(bucket_size(valid, _LARGEST), _SMALLEST), config)
    return np.asarray(_bucketed_features(padded, np.int32(valid), config))[:, :valid].copy()


def _with_frames(
    padded: Float32[np.ndarray, " samples"], frames: int, config: NemoMelConfig
) -> Float32[np.ndarray, " window"]:
    """`padded`, cut to the samples of so many `frames`, or continued by zeros."""
    size = (frames - 1) * config.hop_length + config.n_fft
    return np.pad(padded[:size], (0, max(0, size - len(padded))))


def _features_in_parts(
    padded: Float32[np.ndarray, " samples"], valid: int, config: NemoMelConfig
) -> Float32[np.ndarray, "mels frames"]:
    """The features of the first `valid` frames, whose spectra are computed for a part of the frames at a time."""
    log = np.empty((config.num_mels, valid), np.float32)
    for start in range(0, valid, _LARGEST):
        part = _with_frames(padded[start * config.hop_length :], _LARGEST, config)
        log[:, start : start + _LARGEST] = np.asarray(_log_mel_part(part, config))[:, : valid - start]
    log -= log.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
    deviation = [np.sqrt(np.square(band, dtype=np.float64).sum() / (valid - 1)) for band in log]
    log /= np.array(deviation, np.float32)[:, None] + np.float32(_DEVIATION_FLOOR)
    return log


def _valid_frames(samples, config: NemoMelConfig, release: NemoRelease):
    return samples // config.hop_length + (1 if release == "1.7" else 0)


def _emphasise(audio: Float[Array, "*batch samples"], config: NemoMelConfig) -> Float[Array, "*batch samples"]:
    pad = [(0, 0)] * (audio.ndim - 1) + [(1, 0)]
    return audio - jnp.float32(config.preemphasis) * jnp.pad(audio[..., :-1], pad)


def _log_mel(flat: Float[Array, "rows samples"], config: NemoMelConfig) -> Float32[Array, "rows mels frames"]:
    """The log-mels of pre-emphasised audio with the padding of the first and last frame."""
    window = np.zeros(config.n_fft, np.float32)
    left = (config.n_fft - config.win_length) // 2
    window[left : left + config.win_length] = np.hanning(config.win_length)
    filters = mel_filterbank(config.spectrum)
    used = int(np.flatnonzero(filters.any(axis=0))[-1]) + 1
    frames = jax.vmap(lambda row: overlapping_frames(row, config.n_fft, config.hop_length))(flat)
    spectra = jnp.fft.rfft(frames * window[None, None])[..., :used]
    power = spectra.real**2 + spectra.imag**2
    # Reduced-precision matmuls (TF32, bfloat16) are visible in the logarithm of weak bands.
    mel = jnp.einsum("mb,nfb->nmf", filters[:, :used], power, precision=jax.lax.Precision.HIGHEST)
    return jnp.log(mel + jnp.float32(config.log_guard))


def _features(
    padded: Float[Array, "*batch samples"], valid: Int[Array, "*batch"], config: NemoMelConfig
) -> Float32[Array, "*batch mels frames"]:
    """The normalised features of pre-emphasised audio with the padding of the first and last frame."""
    log = _log_mel(padded.reshape(-1, padded.shape[-1]), config)
    count = valid.reshape(-1, 1, 1).astype(jnp.float32)
    mask = jnp.arange(log.shape[-1], dtype=jnp.float32)[None, None] < count
    zero = jnp.float32(0)
    mean = jnp.sum(jnp.where(mask, log, zero), -1, keepdims=True) / jnp.maximum(count, 1)
    centred = jnp.where(mask, log - mean, zero)
    variance = jnp.sum(jnp.square(centred), -1, keepdims=True) / jnp.maximum(count - 1, 1)
    normalised = centred / (jnp.sqrt(variance) + _DEVIATION_FLOOR)
    return normalised.reshape(*padded.shape[:-1], *normalised.shape[1:])


_bucketed_features = functools.partial(jax.jit, static_argnums=2)(_features)
_log_mel_part = functools.partial(jax.jit, static_argnums=1)(lambda part, config: _log_mel(part[None], config)[0])


def _check_release(release: str) -> None:
    if release not in get_args(NemoRelease):
        known = " or ".join(map(repr, get_args(NemoRelease)))
        raise ConfigError(f"release is {release!r}; it should be {known}.")

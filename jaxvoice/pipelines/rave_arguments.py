"""The arguments of the RAVE pipeline: recordings, latents and numbers of components, checked and converted."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jax import numpy as jnp
from jaxtyping import Float32, Shaped

from jaxvoice.config import format_value
from jaxvoice.data.audio import Audio, audio_info, read_blocks, read_channels
from jaxvoice.dsp.resampling import resample
from jaxvoice.errors import AudioError, ConfigError, ShapeError
from jaxvoice.models.rave.config import RaveConfig
from jaxvoice.models.rave.latent_pca import LatentPCA
from jaxvoice.pipelines.recordings import recording_rate


class AudioInput(NamedTuple):
    """A recording that is encoded block by block."""

    blocks: Iterable[Float32[np.ndarray, "channels samples"]]
    """The blocks at the sample rate of the model, which can be iterated once."""
    samples: int
    """The samples of each channel in all blocks."""
    one_channel: bool
    """Whether the recording was given as `(samples,)`, or as a file of one channel for a model of one channel."""


def audio_input(audio: Any, sample_rate: Any, config: RaveConfig) -> AudioInput:
    """The audio at the sample rate of the model, of a file in blocks that are read one after another.

    Arguments and errors are those of `audio_samples`. Errors in the samples of files are raised when they are read.
    """
    if not isinstance(audio, str | Path):
        samples = audio_samples(audio, sample_rate, config)
        return AudioInput([samples.reshape(-1, samples.shape[-1])], samples.shape[-1], samples.ndim == 1)
    recording_rate(sample_rate, audio_info(audio).sample_rate)
    file = read_blocks(audio, config.sample_rate)
    if config.n_channels not in (1, file.channels):
        raise _wrong_channels((file.channels, file.samples), config)
    return AudioInput(file.blocks, file.samples, file.channels == 1 == config.n_channels)


def audio_samples(audio: Any, sample_rate: Any, config: RaveConfig) -> Float32[np.ndarray, "*channels samples"]:
    """The audio at the sample rate of the model, in the shape in which it was given.

    **Arguments:** `audio`, an array `(samples,)` or `(channels, samples)`, an `Audio`, or the path of a file;
    `sample_rate` of arrays in Hz, otherwise `None`.

    **Raises:** `AudioError` for integers, NaN, no samples, another number of channels than that of a model of several
    channels, an invalid sample rate, or a file that cannot be read.
    """
    from_file = isinstance(audio, str | Path)
    if isinstance(audio, str | Path):
        samples, own = read_channels(audio)
        samples = samples[0] if len(samples) == 1 == config.n_channels else samples
    else:
        own = audio.sample_rate if isinstance(audio, Audio) else None
        samples = audio.samples if isinstance(audio, Audio) else audio
    rate = recording_rate(sample_rate, own)
    samples = _validated_audio(samples, from_file=from_file)
    if config.n_channels > 1 and (samples.ndim != 2 or len(samples) != config.n_channels):
        raise _wrong_channels(samples.shape, config)
    if rate == config.sample_rate:
        return samples
    if samples.ndim == 1:
        return resample(samples, rate, config.sample_rate)
    return np.stack([resample(channel, rate, config.sample_rate) for channel in samples])


def _wrong_channels(shape: tuple[int, ...], config: RaveConfig) -> AudioError:
    return AudioError(
        f"The audio has shape {shape}; it should be ({config.n_channels}, samples), with the channels of the model. "
        "Use a recording with as many channels."
    )


def _validated_audio(audio: Any, *, from_file: bool) -> Float32[np.ndarray, "*channels samples"]:
    """`audio` as float32; raises `AudioError` for another shape, integers, NaN, infinity or no samples.

    An array with more channels than samples is an error, since its axes are probably exchanged. A file may be short.
    """
    samples = np.asarray(audio)
    if not jnp.issubdtype(samples.dtype, jnp.floating) or samples.ndim not in (1, 2):
        raise AudioError(
            f"The audio has shape {samples.shape} and type {samples.dtype}; it should be floats of shape (samples,) or "
            "(channels, samples) with full scale at 1. Divide 16-bit integers by 32768."
        )
    if not samples.size:
        raise AudioError("The audio is empty; it should have at least one sample.")
    if not from_file and samples.ndim == 2 and samples.shape[0] > samples.shape[1]:
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


def latent_rows(
    latents: Any, latent_size: int, config: RaveConfig, *, codes: bool
) -> Shaped[np.ndarray, "rows frames latents"]:
    """Latents of `Rave.decode` with a row for each channel that is decoded on its own, in float32, or codes in int32.

    **Arguments:** `latents`, `(latent_size, frames)` or, for a model of one channel, `(rows, latent_size, frames)`;
    `codes`, whether whole numbers are codes. A model that quantises also takes floats, all latents of the bottleneck.

    **Raises:** `ShapeError` for another shape or type, NaN, or codes outside the codebooks.
    """
    array = np.asarray(latents)
    are_codes = codes and np.issubdtype(array.dtype, np.integer)
    valid_type = are_codes or jnp.issubdtype(array.dtype, jnp.floating)
    size = latent_size if are_codes or not codes else config.bottleneck.latent_size
    dimensions = (2,) if config.n_channels > 1 else (2, 3)
    if array.ndim not in dimensions or array.shape[-2] != size or not array.size or not valid_type:
        expected = f"({size}, frames)" + ("" if config.n_channels > 1 else f" or (channels, {size}, frames)")
        raise ShapeError(
            f"The latents have shape {array.shape} and type {array.dtype}; they should be "
            f"{'codes' if codes else 'floats'} of shape {expected}. Pass latents as encode returns them."
        )
    if are_codes and not (array.min() >= 0 and array.max() < config.bottleneck.codebook_size):
        raise ShapeError(
            f"The codes are from {array.min()} to {array.max()}; they should be from 0 to "
            f"{config.bottleneck.codebook_size - 1}. Check how they were computed."
        )
    with np.errstate(over="ignore"):
        array = array.astype(np.int32 if are_codes else np.float32)
    if not np.isfinite(array).all():
        raise ShapeError("The latents contain NaN or infinity; they should be finite. Check how they were computed.")
    return array.reshape(-1, *array.shape[-2:]).swapaxes(1, 2)


def check_results(what: str, cause: str, array: Shaped[np.ndarray, "..."], remedy: str = "") -> None:
    """Raise `AudioError` if a result of the network contains NaN or infinity.

    **Arguments:** `what` the result is, and its possible `cause`, for the message; `remedy`, a further sentence.
    """
    if not np.isfinite(array).all():
        raise AudioError(
            f"The {what} contain NaN or infinity; {cause}, or the weights of the model are damaged. Check the input, "
            f"or restore the model folder.{remedy}"
        )


def component_count(pca: Callable[[], LatentPCA], latent_size: Any, fidelity: Any) -> int | None:
    """The number of principal components for one of `latent_size` and `fidelity`; `None` without either.

    **Arguments:** `pca`, which returns the components or raises `ConfigError` if the model has none.

    **Raises:** `ConfigError` if both are given, or for a value that is out of range.
    """
    if latent_size is None and fidelity is None:
        return None
    if latent_size is not None and fidelity is not None:
        raise ConfigError("latent_size and fidelity are both given; pass one of them.")
    components = pca()
    if fidelity is not None:
        return components.size_for(fidelity)
    largest = len(components.components)
    size = latent_size if isinstance(latent_size, int | np.integer) and not isinstance(latent_size, bool) else 0
    if not 1 <= size <= largest:
        raise ConfigError(
            f"latent_size is {format_value(latent_size)}; it should be a whole number from 1 to {largest}."
        )
    return int(size)

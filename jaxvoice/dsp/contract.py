"""The check of a mel spectrogram against a model's mel contract, by its shape and values alone."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxvoice.dsp.framing import hann_window
from jaxvoice.dsp.mel_config import MelConfig, mel_filterbank
from jaxvoice.errors import MelError

# Under any contract, speech has bands and pauses below this magnitude. A higher minimum indicates another scale.
_QUIET_MAGNITUDE = 1e-3
# The logarithm of a mel magnitude, natural or to base 10, does not reach this value; decibels of pauses do.
_LOWEST_LOG = -30.0
_TOLERANCE = 1e-3


def check_mel(mel: Float[np.ndarray, "mels frames"], config: MelConfig) -> list[str]:
    """Check that a mel spectrogram follows a mel contract.

    **Arguments:** `mel`, `(mels, frames)` in any float type, bfloat16 included; `config`, the contract of the model
    whose input it is.

    **Returns:** warnings about properties that are unusual but may be correct.

    **Raises:** `MelError`, with the range of the values and the range that the contract expects, for a wrong shape or
    number of bands, a transposed mel, no frames, NaN or infinity, linear values, another logarithm, decibels, or values
    normalised to [0, 1], [-1, 1], [-4, 4] or unit variance.
    """
    mel = np.asarray(mel)
    _check_shape(mel, config)
    bad = ~np.isfinite(mel)
    if bad.any():
        band, frame = np.argwhere(bad)[0]
        raise MelError(
            f"The mel contains {int(bad.sum())} values that are NaN or infinite, the first in band {band} at frame "
            f"{frame}; compute it again, and check for the logarithm of zero."
        )
    padding = zero_frames(mel, config)
    padding = padding if padding < mel.shape[1] else 0
    hard, soft = _unscaled_mismatch(mel[:, : mel.shape[1] - padding].astype(np.float64), config)
    if hard:
        raise MelError(f"{hard} {_expectation(config)}")
    warnings = [f"{line} {_expectation(config)}" for line in soft]
    if padding:
        warnings.append(
            f"The mel ends with zeros ({padding} frames), which is padding and not silence, {config.floor:.2f}. Cut "
            "them off."
        )
    return warnings


def zero_frames(mel: Float[np.ndarray, "mels frames"], config: MelConfig) -> int:
    """The number of frames at the end of `mel` that are 0 in all bands, as padding of batches is.

    It is 0 for a contract in which 0 is close to silence.
    """
    if config.floor > -1:
        return 0
    heard = np.flatnonzero(np.any(mel != 0, axis=0))
    return mel.shape[1] - (int(heard[-1]) + 1 if len(heard) else 0)


def _unscaled_mismatch(mel: np.ndarray, config: MelConfig) -> tuple[str, list[str]]:
    """The result of `_mismatch` after the gain, offset and clipping of the contract are undone."""
    plain = config.unscaled()
    if config.clip is not None:
        low, high = config.clip
        if mel.min() < low - _TOLERANCE or mel.max() > high + _TOLERANCE:
            return (
                f"The mel contains values from {mel.min():.2f} to {mel.max():.2f}; they should lie between {low:g} and "
                f"{high:g}, where the contract clips. The mel was computed with another scaling.",
                [],
            )
        # Clipped values are silence too, so the lower bound of the clipping is the floor.
        base = math.e if config.log == "ln" else 10.0
        lowest = (low - config.offset) / config.gain
        plain = dataclasses.replace(plain, log_floor=max(plain.log_floor, base**lowest))
    if plain == config:
        return _mismatch(mel, plain)
    if config.floor < -1.5 and (mel.min() >= 0 or np.abs(mel).max() <= 1 + _TOLERANCE):
        # The contract allows these values too, but speech under the contract has pauses near the floor.
        kind = "linear or normalised to [0, 1]" if mel.min() >= 0 else "normalised to [-1, 1]"
        return f"The mel looks {kind} (values from {mel.min():.2f} to {mel.max():.2f}).", []
    hard, soft = _mismatch((mel - config.offset) / config.gain, plain)
    how = f"With the model's scaling undone, (value - {config.offset:g}) / {config.gain:g}: "
    return (how + hard if hard else ""), [how + line for line in soft]


def _check_shape(mel: np.ndarray, config: MelConfig) -> None:
    if not jnp.issubdtype(mel.dtype, jnp.floating):
        raise MelError(f"The mel has dtype {mel.dtype}; it should be a float dtype. Save the mel as float32.")
    if mel.ndim != 2:
        raise MelError(
            f"The mel has shape {mel.shape}; it should be ({config.num_mels}, frames). Pass one utterance at a time."
        )
    bands, frames = mel.shape
    if bands != config.num_mels:
        if frames == config.num_mels:
            raise MelError(
                f"The mel has shape {mel.shape}; it should be ({config.num_mels}, frames). It is transposed; pass "
                "mel.T."
            )
        raise MelError(
            f"The mel has {bands} bands; it should have {config.num_mels}. Compute it with num_mels={config.num_mels}, "
            f"or use a model with {bands} bands."
        )
    if frames == 0:
        raise MelError(f"The mel has shape {mel.shape}; it should have at least one frame.")


def _mismatch(mel: np.ndarray, config: MelConfig) -> tuple[str, list[str]]:
    """The reason why `mel` cannot follow `config`, or an empty string, and warnings about unusual properties."""
    low, high, mean, spread = float(mel.min()), float(mel.max()), float(mel.mean()), float(mel.std())
    seen = f"values from {low:.2f} to {high:.2f} with mean {mean:.2f}"
    log = np.log if config.log == "ln" else np.log10
    quiet = max(0.6 * config.floor, float(log(_QUIET_MAGNITUDE)) * config.power)
    loudest = _upper_bound(config)
    if low >= 0:
        if high <= 1 and np.median(mel) > 0.1 * max(high, 1e-12):
            return f"The mel looks normalised to [0, 1] ({seen}); undo the normalisation.", []
        return f"The mel looks linear, not logarithmic ({seen}, none negative); take its logarithm.", []
    if low < _LOWEST_LOG:
        return (
            f"The mel looks like decibels ({seen}); convert it to magnitudes and take the logarithm.",
            [],
        )
    if high > loudest + 1:
        return (
            f"The mel is louder than that of full-scale audio ({seen}; the highest possible value is {loudest:.2f}); "
            "it may be in decibels, computed from unscaled integers, or normalised.",
            [],
        )
    if config.log == "log10" and low < 1.5 * config.floor:
        return f"The mel looks like a natural logarithm ({seen}); divide it by ln(10) = 2.3026.", []
    if float(np.percentile(mel, 1)) > quiet:
        hard = _rescaled(low, high, mean, spread, config)
        if hard:
            return f"The mel looks {hard} ({seen}).", []
        return "", [
            f"The mel has few low values ({seen}; 99% are above {quiet:.1f}). Speech in this scale has many, in its "
            "pauses. The mel may be in log10 or normalised, or the recording may be noisy or clipped."
        ]
    if low < config.floor - 0.5:
        return "", [
            f"The mel contains values below the logarithm's floor ({seen}), which the model was not trained on."
        ]
    return "", []


def _rescaled(low: float, high: float, mean: float, spread: float, config: MelConfig) -> str:
    """The common rescaling that explains a log-mel without low values, in words; an empty string for none."""
    if config.log == "ln" and abs(low - math.log10(config.log_floor)) < _TOLERANCE:
        return "like a logarithm to base 10; multiply it by ln(10) = 2.3026"
    if low >= -1 - _TOLERANCE and high <= 1 + _TOLERANCE:
        return "normalised to [-1, 1]; undo the normalisation"
    if abs(low + 4) < _TOLERANCE and high <= 4 + _TOLERANCE:
        return "normalised to [-4, 4]; undo the normalisation"
    if abs(mean) < 0.2 and abs(spread - 1) < 0.2:
        return "normalised to zero mean and unit variance; undo the normalisation"
    return ""


def _upper_bound(config: MelConfig) -> float:
    """An upper bound of the log-mel of audio within [-1, 1]: every bin at the sum of the window."""
    magnitude = float(hann_window(config.win_length).sum()) ** config.power
    value = float(mel_filterbank(config).sum(axis=1).max()) * magnitude
    return config.scaled(math.log(value) if config.log == "ln" else math.log10(value))


def _expectation(config: MelConfig) -> str:
    name = "natural logarithm" if config.log == "ln" else "logarithm to base 10"
    kind = {1.0: "magnitudes", 2.0: "powers"}.get(config.power, f"magnitudes to the power {config.power}")
    scaling = "not normalised"
    if config.unscaled() != config:
        clipped = "" if config.clip is None else f", clipped to {config.clip[0]:g} and {config.clip[1]:g}"
        scaling = f"times {config.gain:g} plus {config.offset:g}{clipped}"
    return (
        f"The model expects the {name} of mel {kind}, {scaling}: {config.floor:.2f} for silence, at most "
        f"{_upper_bound(config):.2f}."
    )

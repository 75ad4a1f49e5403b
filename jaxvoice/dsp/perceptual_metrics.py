"""PESQ and STOI, computed by their published packages (extra `measures`)."""

import importlib
import warnings
from types import ModuleType

import numpy as np
from jaxtyping import Float

from jaxvoice.errors import AudioError, MissingExtraError, ShapeError

_PESQ_RATE = 16000


def pesq(recording: Float[np.ndarray, " samples"], estimate: Float[np.ndarray, " samples"], sample_rate: int) -> float:
    """Wide-band PESQ (ITU-T P.862.2), 1.04 to 4.64, higher is better; both signals are resampled to 16 kHz.

    **Raises:** `MissingExtraError` without the package `pesq`; `ShapeError` if the lengths differ; `AudioError` if the
    measure fails, for example on signals without speech.
    """
    package = _package("pesq")
    recording, estimate = _pair(recording, estimate)
    if sample_rate != _PESQ_RATE:
        import soxr

        recording, estimate = (soxr.resample(audio, sample_rate, _PESQ_RATE) for audio in (recording, estimate))
    try:
        return float(package.pesq(_PESQ_RATE, recording, estimate, "wb"))
    except Exception as failure:
        raise AudioError(
            f"PESQ failed ({type(failure).__name__}: {failure}); it needs at least a quarter of a second of speech."
        ) from failure


def stoi(
    recording: Float[np.ndarray, " samples"],
    estimate: Float[np.ndarray, " samples"],
    sample_rate: int,
    *,
    extended: bool = False,
) -> float:
    """Short-time objective intelligibility, at most 1, higher is better; the package resamples to 10 kHz.

    With `extended`, the measure is ESTOI, which does not assume that bands are degraded independently.

    **Raises:** `MissingExtraError` without the package `pystoi`; `ShapeError` if the lengths differ; `AudioError` if
    less than about 0.4 s of the recording is not silent.

    Source: Taal et al. 2011; Jensen and Taal 2016.
    """
    package = _package("pystoi")
    recording, estimate = _pair(recording, estimate)
    if not recording.any():
        raise AudioError("The recording is silent, so STOI is undefined; pass the recording first, then the estimate.")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = float(package.stoi(recording, estimate, sample_rate, extended=extended))
    if any(issubclass(warning.category, RuntimeWarning) for warning in caught) or not np.isfinite(value):
        raise AudioError(
            f"STOI is undefined for this recording of {len(recording) / sample_rate:.2f} s; it should contain about "
            "0.4 s of sound. Use a longer recording."
        )
    return value


def _package(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as failure:
        raise MissingExtraError(
            f"This measure needs the package {name!r}, which is not installed; run pip install 'jaxvoice[measures]'. "
            "Without a wheel for this system, pesq is compiled, which needs a C compiler."
        ) from failure


def _pair(recording: np.ndarray, estimate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    recording, estimate = np.asarray(recording, np.float64), np.asarray(estimate, np.float64)
    if recording.ndim != 1 or recording.shape != estimate.shape or recording.size == 0:
        raise ShapeError(
            f"recording has shape {recording.shape} and estimate {estimate.shape}; they should be one channel of the "
            "same length. Cut both to the shorter length."
        )
    return recording, estimate

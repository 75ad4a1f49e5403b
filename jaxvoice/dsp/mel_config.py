"""The mel contract: how a model's mel spectrograms are computed, and their filterbank; without jax."""

import dataclasses
import functools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from jaxvoice.config import check_positive, check_types, format_value
from jaxvoice.dsp.framing import min_samples, num_frames
from jaxvoice.errors import ConfigError

# Far above the sizes of real mel spectrograms, and small enough for the memory and time of a filterbank.
_LARGEST, _LARGEST_FILTERBANK = {"sample_rate": 10**7, "n_fft": 2**17, "num_mels": 1024}, 2**22


@dataclass(frozen=True)
class MelConfig:
    """How a model's mel spectrograms are computed; saved with its weights. The defaults are HiFi-GAN's for LJSpeech.

    `(re^2 + im^2 + magnitude_floor) ^ (power / 2)` of a periodic-Hann STFT is multiplied with the mel filterbank. The
    logarithm of the result, or of `log_floor` where that is larger, is multiplied by `gain`, increased by `offset`
    and clipped to `clip`. Frequencies are in Hz, lengths in samples; `fmax=None` is Nyquist.

    `center=False` reflects `(n_fft - hop_length) / 2` samples at both ends, which gives `samples // hop_length` frames,
    as in HiFi-GAN. `center=True` reflects `n_fft / 2`, which gives one more, as in librosa and torchaudio.

    The front ends of XTTS are `MelConfig(mel_scale="htk", power=2.0, magnitude_floor=0.0, center=True)` with its
    `n_fft`, `win_length` and `hop_length`, divided by its `mel_stats` afterwards. coqui's normalised decibels,
    20 log10(x) - 20 mapped from [-100, 0] to [-4, 4], are `MelConfig(magnitude_floor=0.0, center=True, log="log10",
    gain=1.6, offset=2.4, clip=(-4.0, 4.0))`.

    **Raises:** `ConfigError`, with the fix, for values of the wrong type or range, contradictory sizes or frequencies,
    and filters without a bin.

    jik876/hifi-gan `meldataset.py`.
    """

    sample_rate: int = 22050
    """Sample rate in Hz."""
    n_fft: int = 1024
    """Length of the Fourier transform in samples; even."""
    hop_length: int = 256
    """Distance between frames in samples."""
    win_length: int = 1024
    """Length of the window in samples."""
    num_mels: int = 80
    """Number of mel bands."""
    fmin: float = 0.0
    """Lowest frequency of the filterbank in Hz."""
    fmax: float | None = 8000.0
    """Highest frequency of the filterbank in Hz; None is Nyquist."""
    mel_scale: Literal["slaney", "htk"] = "slaney"
    """Mel scale of the filterbank."""
    mel_norm: Literal["slaney", "none"] = "slaney"
    """Scaling of the filters: equal area (slaney) or equal height (none)."""
    power: float = 1.0
    """Exponent of the magnitude: 1 is amplitude, 2 is power."""
    magnitude_floor: float = 1e-9
    """Constant added to the squared magnitude, for a finite gradient at zero."""
    log_floor: float = 1e-5
    """Lower bound of the values whose logarithm is taken."""
    log: Literal["ln", "log10"] = "ln"
    """Logarithm: natural or base 10."""
    center: bool = False
    """Pad `n_fft / 2` samples at both ends, as librosa does, instead of HiFi-GAN's `(n_fft - hop_length) / 2`."""
    preemphasis: float = 0.0
    """Fraction of the previous sample that is subtracted from each sample of the audio; 0 disables it."""
    gain: float = 1.0
    """Scale of the logarithm."""
    offset: float = 0.0
    """Offset added to the scaled logarithm."""
    clip: tuple[float, float] | None = None
    """Lowest and highest value of the result; None clips nothing."""

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "sample_rate", "n_fft", "hop_length", "win_length", "num_mels")
        for name, most in _LARGEST.items():
            if getattr(self, name) > most:
                raise ConfigError(f"MelConfig.{name} is {format_value(getattr(self, name))}; use at most {most}.")
        if self.n_fft * self.num_mels > _LARGEST_FILTERBANK:
            raise ConfigError(
                f"MelConfig.n_fft={self.n_fft} times num_mels={self.num_mels} makes too large a filterbank; use "
                f"at most {_LARGEST_FILTERBANK // self.n_fft} bands."
            )
        if self.n_fft % 2:
            raise ConfigError(f"MelConfig.n_fft={self.n_fft} is odd; use {self.n_fft + 1}.")
        if self.win_length > self.n_fft:
            raise ConfigError(
                f"MelConfig.win_length={format_value(self.win_length)} does not fit in n_fft={self.n_fft}; raise "
                f"n_fft to at least {format_value(self.win_length)} or shorten the window."
            )
        if self.hop_length > self.win_length:
            raise ConfigError(
                f"MelConfig.hop_length={format_value(self.hop_length)} exceeds win_length={self.win_length}, so "
                "samples between frames would be ignored; use a quarter of win_length."
            )
        if not self.center and (self.n_fft - self.hop_length) % 2:
            raise ConfigError(
                f"n_fft - hop_length = {self.n_fft - self.hop_length} is odd and cannot be padded evenly; use an even "
                "hop_length or center=True."
            )
        nyquist = self.sample_rate / 2
        if self.fmax is not None and self.fmax > nyquist:
            raise ConfigError(
                f"MelConfig.fmax={format_value(self.fmax)} Hz lies above Nyquist ({nyquist} Hz at "
                f"sample_rate={self.sample_rate}); use fmax=None for the full band."
            )
        if not 0 <= self.fmin < self.upper_frequency:
            raise ConfigError(
                f"MelConfig.fmin={format_value(self.fmin)} Hz should lie between 0 and "
                f"fmax={format_value(self.upper_frequency)} Hz."
            )
        if not (self.power > 0 and self.magnitude_floor >= 0 and self.log_floor > 0):
            raise ConfigError(
                f"MelConfig needs power > 0, magnitude_floor >= 0 and log_floor > 0, got {self.power}, "
                f"{self.magnitude_floor} and {self.log_floor}."
            )
        if not self.gain > 0 or not 0 <= self.preemphasis < 1:
            raise ConfigError(
                f"MelConfig needs gain > 0 and preemphasis in [0, 1), got {self.gain} and {self.preemphasis}."
            )
        if self.clip is not None and not self.clip[0] < self.clip[1]:
            raise ConfigError(f"MelConfig.clip={self.clip} must be (lowest, highest).")
        empty = np.flatnonzero(mel_filterbank(self).max(axis=1) == 0)
        if empty.size:
            raise ConfigError(
                f"{empty.size} of {self.num_mels} mel filters contain no FFT bin (the first is number {empty[0]}), so "
                f"their output would always be the floor; use fewer num_mels or an n_fft above {self.n_fft}."
            )

    def full_band(self) -> "MelConfig":
        """This contract up to Nyquist and unscaled: the mel of HiFi-GAN's training loss and validation curve."""
        return dataclasses.replace(self.unscaled(), fmax=None)

    def unscaled(self) -> "MelConfig":
        """This contract without `preemphasis`, `gain`, `offset` and `clip`."""
        return dataclasses.replace(self, preemphasis=0.0, gain=1.0, offset=0.0, clip=None)

    @property
    def upper_frequency(self) -> float:
        """`fmax` in Hz, or Nyquist where it is `None`."""
        return self.sample_rate / 2 if self.fmax is None else self.fmax

    @property
    def pad(self) -> int:
        """Samples reflected at each end before framing."""
        return self.n_fft // 2 if self.center else (self.n_fft - self.hop_length) // 2

    @property
    def floor(self) -> float:
        """The value of silence: the logarithm of `log_floor`, scaled and clipped."""
        return self.scaled(math.log(self.log_floor) if self.log == "ln" else math.log10(self.log_floor))

    def scaled(self, log: float) -> float:
        """The mel value for `log`, the logarithm of a filter's output, after `gain`, `offset` and `clip`."""
        value = self.gain * log + self.offset
        return value if self.clip is None else min(max(value, self.clip[0]), self.clip[1])

    @property
    def min_samples(self) -> int:
        """The fewest samples for which `log_mel` gives a frame."""
        return min_samples(n_fft=self.n_fft, pad=self.pad)

    def num_frames(self, samples: int) -> int:
        """Number of frames of `log_mel` for `samples`: `samples // hop_length`, and one more with `center`."""
        return num_frames(samples, n_fft=self.n_fft, hop_length=self.hop_length, pad=self.pad)


@functools.lru_cache(maxsize=32)
def mel_filterbank(config: MelConfig) -> Float[np.ndarray, "mels bins"]:
    """Triangular mel filters over the `n_fft // 2 + 1` FFT bins, float32 and read-only; equal to `librosa.filters.mel`.

    Corner frequencies are evenly spaced on the mel scale (Slaney's Auditory Toolbox: linear below 1 kHz, logarithmic
    above; or HTK's 2595 log10(1 + f / 700)); `mel_norm="slaney"` gives every triangle the same area.
    """
    first, last = _hz_to_mel(np.array([config.fmin, config.upper_frequency]), config.mel_scale)
    edges = np.linspace(first, last, config.num_mels + 2)
    low, peak, high = (_mel_to_hz(edges, config.mel_scale)[i : config.num_mels + i, None] for i in range(3))
    bins = np.linspace(0, config.sample_rate / 2, config.n_fft // 2 + 1)[None]
    filters = np.maximum(0, np.minimum((bins - low) / (peak - low), (high - bins) / (high - peak)))
    if config.mel_norm == "slaney":
        filters *= 2 / (high - low)
    filters = filters.astype(np.float32)
    filters.flags.writeable = False
    return filters


# Slaney's scale: 200/3 Hz per mel up to 1 kHz (mel 15), then 27 mels per factor of 6.4.
_HZ_PER_MEL, _BREAK_HZ, _BREAK_MEL, _LOG_STEP = 200 / 3, 1000.0, 15.0, math.log(6.4) / 27


def _hz_to_mel(hz: np.ndarray, scale: str) -> np.ndarray:
    if scale == "htk":
        return 2595 * np.log10(1 + hz / 700)
    above = _BREAK_MEL + np.log(np.maximum(hz, _BREAK_HZ) / _BREAK_HZ) / _LOG_STEP
    return np.where(hz < _BREAK_HZ, hz / _HZ_PER_MEL, above)


def _mel_to_hz(mel: np.ndarray, scale: str) -> np.ndarray:
    if scale == "htk":
        return 700 * (10 ** (mel / 2595) - 1)
    above = _BREAK_HZ * np.exp((np.maximum(mel, _BREAK_MEL) - _BREAK_MEL) * _LOG_STEP)
    return np.where(mel < _BREAK_MEL, mel * _HZ_PER_MEL, above)


WAVEGLOW_MEL = MelConfig(magnitude_floor=0.0, center=True)
"""The mel spectrograms of LJ-Speech-aligned, NVIDIA's Tacotron 2 and WaveGlow."""

MEL_CONTRACTS = {"hifigan": MelConfig(), "waveglow": WAVEGLOW_MEL}
"""The published mel contracts by the name of their vocoder."""

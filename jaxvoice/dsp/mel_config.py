"""The mel contract, which defines how a model's mel spectrograms are computed, and the filterbank; without jax."""

import dataclasses
import functools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from jaxvoice.config import (
    check_at_most,
    check_field,
    check_not_negative,
    check_positive,
    check_types,
    format_value,
)
from jaxvoice.dsp.framing import min_samples, num_frames
from jaxvoice.errors import ConfigError

# Far above the sizes of published models; a filterbank of this size is computed in seconds.
_LARGEST, _LARGEST_FILTERBANK = {"sample_rate": 10**7, "n_fft": 2**17, "num_mels": 1024}, 2**22


@dataclass(frozen=True)
class MelConfig:
    """The definition of a model's mel spectrograms, saved with its weights. The defaults are HiFi-GAN's for LJSpeech.

    `(re^2 + im^2 + magnitude_floor) ^ (power / 2)` of an STFT with a periodic Hann window is multiplied with the mel
    filterbank. The logarithm of the result, or of `log_floor` where that is larger, is multiplied by `gain`, increased
    by `offset` and clipped to `clip`. Frequencies are in Hz, lengths in samples; `fmax=None` is Nyquist.

    `center=False` reflects `(n_fft - hop_length) / 2` samples at both ends, which gives `samples // hop_length` frames,
    as in HiFi-GAN. `center=True` reflects `n_fft / 2`, which gives one more, as in librosa and torchaudio.

    coqui's normalised decibels, 20 log10(x) - 20 mapped from [-100, 0] to [-4, 4], are `MelConfig(magnitude_floor=0.0,
    center=True, log="log10", gain=1.6, offset=2.4, clip=(-4.0, 4.0))`.

    **Raises:** `ConfigError`, with the fix, for values of the wrong type or range, contradictory sizes or frequencies,
    and filters without a bin.

    Source: jik876/hifi-gan `meldataset.py`.
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
            check_at_most(self, most, name)
        if self.n_fft * self.num_mels > _LARGEST_FILTERBANK:
            raise ConfigError(
                f"MelConfig.num_mels is {self.num_mels}; it should be at most {_LARGEST_FILTERBANK // self.n_fft} for "
                f"n_fft={self.n_fft}."
            )
        if self.n_fft % 2:
            raise ConfigError(f"MelConfig.n_fft is {self.n_fft}; it should be even. Use {self.n_fft + 1}.")
        if self.win_length > self.n_fft:
            raise ConfigError(
                f"MelConfig.win_length is {format_value(self.win_length)}; it should be at most n_fft, {self.n_fft}. "
                f"Raise n_fft to at least {format_value(self.win_length)}, or shorten the window."
            )
        if self.hop_length > self.win_length:
            raise ConfigError(
                f"MelConfig.hop_length is {format_value(self.hop_length)}; it should be at most win_length, "
                f"{self.win_length}, so that frames cover all samples. A quarter of win_length is usual."
            )
        if not self.center and (self.n_fft - self.hop_length) % 2:
            raise ConfigError(
                f"MelConfig.n_fft - hop_length is {self.n_fft - self.hop_length}; it should be even, so that both ends "
                "are padded equally. Use an even hop_length, or center=True."
            )
        nyquist = self.sample_rate / 2
        if self.fmax is not None and self.fmax > nyquist:
            raise ConfigError(
                f"MelConfig.fmax is {format_value(self.fmax)} Hz; it should be at most the Nyquist frequency, "
                f"{nyquist} Hz for sample_rate={self.sample_rate}. Use fmax=None for the full band."
            )
        if not 0 <= self.fmin < self.upper_frequency:
            raise ConfigError(
                f"MelConfig.fmin is {format_value(self.fmin)} Hz; it should lie between 0 and fmax, "
                f"{format_value(self.upper_frequency)} Hz."
            )
        check_positive(self, "power", "log_floor", "gain")
        check_not_negative(self, "magnitude_floor")
        check_field(self, "preemphasis", 0 <= self.preemphasis < 1, "be in [0, 1)")
        check_field(self, "clip", self.clip is None or self.clip[0] < self.clip[1], "be (lowest, highest)")
        empty = np.flatnonzero(mel_filterbank(self).max(axis=1) == 0)
        if empty.size:
            raise ConfigError(
                f"MelConfig.num_mels is {self.num_mels}; it should be smaller for n_fft={self.n_fft}: {empty.size} mel "
                f"filters (the first is number {empty[0]}) contain no FFT bin. Use fewer bands, or a larger n_fft."
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


@dataclass(frozen=True)
class NemoMelConfig:
    """The definition of the log-mel features of a NeMo speech recogniser, saved with its weights.

    The features are `log(mel + log_guard)` of the power spectrum of pre-emphasised audio, with mean 0 and standard
    deviation 1 over each utterance in every band. The window is a symmetric Hann window. The defaults are those of
    NVIDIA's Conformer-CTC models. Frequencies are in Hz, lengths in samples; `fmax=None` is Nyquist.

    **Raises:** `ConfigError` as `MelConfig` does.

    Source: NVIDIA NeMo, `FilterbankFeatures`.
    """

    sample_rate: int = 16000
    """Sample rate in Hz."""
    n_fft: int = 512
    """Length of the Fourier transform in samples; even."""
    hop_length: int = 160
    """Distance between frames in samples."""
    win_length: int = 400
    """Length of the window in samples."""
    num_mels: int = 80
    """Number of mel bands."""
    fmin: float = 0.0
    """Lowest frequency of the filterbank in Hz."""
    fmax: float | None = None
    """Highest frequency of the filterbank in Hz; None is Nyquist."""
    preemphasis: float = 0.97
    """Fraction of the previous sample that is subtracted from each sample of the audio; 0 disables it."""
    log_guard: float = 2.0**-24
    """Constant added to the mel energies before the logarithm."""

    def __post_init__(self) -> None:
        check_types(self)
        check_field(self, "preemphasis", 0 <= self.preemphasis < 1, "be in [0, 1)")
        check_positive(self, "log_guard")
        _ = self.spectrum

    @property
    def spectrum(self) -> MelConfig:
        """A `MelConfig` with the same frames and filterbank."""
        return MelConfig(
            self.sample_rate,
            self.n_fft,
            self.hop_length,
            self.win_length,
            self.num_mels,
            self.fmin,
            self.fmax,
            power=2.0,
            magnitude_floor=0.0,
            center=True,
        )

    @property
    def min_samples(self) -> int:
        """The fewest samples for which every release computes two frames, which the standard deviation needs."""
        return max(2 * self.hop_length, self.n_fft // 2 + 1)


@dataclass(frozen=True)
class PowerMelConfig:
    """The definition of the mel power spectrograms of a speaker encoder, saved with its weights.

    Pre-emphasised audio is padded by `n_fft / 2` samples at both ends, and the power of its spectrum is multiplied with
    the mel filterbank, without a logarithm. The defaults are those of coqui's encoders, with torchaudio's filterbank.
    Frequencies are in Hz, lengths in samples; `fmax=None` is Nyquist.

    **Raises:** `ConfigError` as `MelConfig` does. Filters without a bin are valid, since released encoders have some.

    Source: torchaudio `transforms.MelSpectrogram`; librosa `feature.melspectrogram`.
    """

    sample_rate: int = 16000
    """Sample rate in Hz."""
    n_fft: int = 512
    """Length of the Fourier transform in samples; even."""
    hop_length: int = 160
    """Distance between frames in samples."""
    win_length: int = 400
    """Length of the window in samples, which is centred in the frame."""
    num_mels: int = 64
    """Number of mel bands."""
    fmin: float = 0.0
    """Lowest frequency of the filterbank in Hz."""
    fmax: float | None = None
    """Highest frequency of the filterbank in Hz; None is Nyquist."""
    window: Literal["hamming", "hann"] = "hamming"
    """The window, a periodic one."""
    mel_scale: Literal["slaney", "htk"] = "htk"
    """Mel scale of the filterbank."""
    mel_norm: Literal["slaney", "none"] = "none"
    """Scaling of the filters: equal area (slaney) or equal height (none)."""
    preemphasis: float = 0.97
    """Fraction of the previous sample that is subtracted from each sample of the audio; 0 disables it. The sample
    before the first is the second one."""
    padding: Literal["reflect", "zeros"] = "reflect"
    """What both ends of the audio are padded with: its reflection, or zeros."""

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "sample_rate", "n_fft", "hop_length", "win_length", "num_mels")
        for name, most in _LARGEST.items():
            check_at_most(self, most, name)
        check_field(self, "num_mels", self.n_fft * self.num_mels <= _LARGEST_FILTERBANK, "be smaller for this n_fft")
        check_field(self, "n_fft", self.n_fft % 2 == 0, "be even", f"Use {self.n_fft + 1}")
        check_field(self, "win_length", self.win_length <= self.n_fft, f"be at most n_fft, {self.n_fft}")
        check_field(self, "hop_length", self.hop_length <= self.win_length, f"be at most win_length, {self.win_length}")
        nyquist = self.sample_rate / 2
        check_field(self, "fmax", self.fmax is None or self.fmax <= nyquist, f"be at most Nyquist, {nyquist} Hz")
        valid = 0 <= self.fmin < self.upper_frequency
        check_field(self, "fmin", valid, f"lie between 0 and fmax, {format_value(self.upper_frequency)} Hz")
        check_field(self, "preemphasis", 0 <= self.preemphasis < 1, "be in [0, 1)")

    @property
    def upper_frequency(self) -> float:
        """`fmax` in Hz, or Nyquist where it is `None`."""
        return self.sample_rate / 2 if self.fmax is None else self.fmax

    @property
    def min_samples(self) -> int:
        """The fewest samples whose ends can be reflected."""
        return self.n_fft // 2 + 1

    def num_frames(self, samples: int) -> int:
        """Number of frames for `samples`."""
        return samples // self.hop_length + 1

    def window_values(self) -> Float[np.ndarray, " win_length"]:
        """The window of `win_length` samples, float32."""
        angles = 2 * np.pi * np.arange(self.win_length) / self.win_length
        raised = 0.54 if self.window == "hamming" else 0.5
        return (raised - (1 - raised) * np.cos(angles)).astype(np.float32)

    def filterbank(self) -> Float[np.ndarray, "mels bins"]:
        """The mel filters over the `n_fft // 2 + 1` bins; read-only float32."""
        return mel_filterbank(self)


@functools.lru_cache(maxsize=32)
def mel_filterbank(config: MelConfig | PowerMelConfig) -> Float[np.ndarray, "mels bins"]:
    """Triangular mel filters over the `n_fft // 2 + 1` FFT bins, equal to `librosa.filters.mel`; read-only float32.

    Corner frequencies are evenly spaced on the mel scale (Slaney's Auditory Toolbox: linear below 1 kHz, logarithmic
    above; or HTK's 2595 log10(1 + f / 700)); `mel_norm="slaney"` gives every triangle the same area.
    """
    first, last = _hz_to_mel(np.array([config.fmin, config.upper_frequency]), config.mel_scale)
    edges = np.linspace(first, last, config.num_mels + 2)
    return triangular_filters(
        _mel_to_hz(edges, config.mel_scale), config.sample_rate, config.n_fft, equal_area=config.mel_norm == "slaney"
    )


def triangular_filters(
    corners: Float[np.ndarray, " filters_plus_2"], sample_rate: int, n_fft: int, *, equal_area: bool
) -> Float[np.ndarray, "filters bins"]:
    """Triangular filters over the `n_fft // 2 + 1` FFT bins between `corners` in Hz; read-only float32.

    Filter `i` rises from corner `i`, is 1 at corner `i + 1`, and falls to corner `i + 2`. With `equal_area`, filters
    are scaled to the same area. A filter that is narrower than the distance of bins may be 0 everywhere.
    """
    low, peak, high = (corners[i : corners.size - 2 + i, None] for i in range(3))
    bins = np.linspace(0, sample_rate / 2, n_fft // 2 + 1)[None]
    filters = np.maximum(0, np.minimum((bins - low) / (peak - low), (high - bins) / (high - peak)))
    if equal_area:
        filters *= 2 / (high - low)
    filters = filters.astype(np.float32)
    filters.flags.writeable = False
    return filters


def htk_corners(num_mels: int, highest: float) -> Float[np.ndarray, " mels_plus_2"]:
    """The corners in Hz of `num_mels` filters from 0 to `highest`, evenly spaced on HTK's mel scale."""
    first, last = _hz_to_mel(np.array([0.0, highest]), "htk")
    return _mel_to_hz(np.linspace(first, last, num_mels + 2), "htk")


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
"""The mel contract of LJ-Speech-aligned, NVIDIA's Tacotron 2 and WaveGlow."""

MEL_CONTRACTS = {"hifigan": MelConfig(), "waveglow": WAVEGLOW_MEL}
"""Published mel contracts by the name of their vocoder."""

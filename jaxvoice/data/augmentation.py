"""Random changes of crops of audio for training, as in RAVE; functions of a seed and of nothing else."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32

from jaxvoice.config import check_at_most, check_field, check_not_negative, check_positive, check_types, to_dict
from jaxvoice.data.batches import Selection
from jaxvoice.data.samplers import BatchPlan, LoaderState, RandomCrops, random_bits, uniform
from jaxvoice.data.store import Store

Crop = Float[np.ndarray, "channels samples"]
# Streams of random numbers, after those of the samplers and of references.
_ROWS = 7
_MASK_SIZE = 4096
_PITCH, _POLES, _STEP, _COMPRESS, _GAIN, _MASK, _MUTE = range(10, 17)


@dataclass(frozen=True)
class AugmentationConfig:
    """Random changes of crops, in the order in which they are applied; the defaults are those of RAVE.

    `probability` of a change is that of each crop. Changes of the release that are optional are off.

    **Raises:** `ConfigError` for values of the wrong type or range.
    """

    pitch: tuple[float, float] | None = None
    """Lowest and highest change of pitch in semitones, by resampling, which changes the duration too; None changes
    nothing."""
    allpass_probability: float = 0.8
    """Probability of a random all-pass filter, which changes phases but not magnitudes."""
    dequantize: bool = True
    """Add uniform noise in [0, 2^-16), half a step of 16-bit audio."""
    normalize: bool = False
    """Scale each crop to a peak of 1, by at most 30 dB."""
    derivative: bool = False
    """Replace each crop by half of its first difference, which emphasises high frequencies; see `integrate`."""
    mute_probability: float = 0.0
    """Probability that the whole crop is silent; 0.1 in the release's augmentation."""
    compress_probability: float = 0.0
    """Probability of a random compression or expansion of the dynamics; see `compress`."""
    compress_range: tuple[float, float] = (-60.0, 0.0)
    """Range of the output level in dB for an input level of -40 dB."""
    gain_probability: float = 0.0
    """Probability of a random gain. The release draws gains but does not apply them."""
    gain_range: tuple[float, float] = (-6.0, 3.0)
    """Range of gains in dB; a crop is not amplified beyond full scale."""
    mask_probability: float = 0.0
    """Probability that a band of frequencies is removed."""
    mask_bins: int = 80
    """Largest width of the removed band in bins of an FFT of 4096 samples; at most 2048."""

    def __post_init__(self) -> None:
        check_types(self)
        names = [name for name in vars(self) if name.endswith("_probability")]
        for name in names:
            check_field(self, name, 0 <= getattr(self, name) <= 1, "be in [0, 1]")
        for name in ("pitch", "compress_range", "gain_range"):
            given = getattr(self, name)
            check_field(self, name, given is None or given[0] <= given[1], "contain a lowest and a highest value")
        check_field(self, "compress_range", self.compress_range[1] <= 0, "contain levels of at most 0 dB")
        check_field(self, "pitch", self.pitch is None or max(map(abs, self.pitch)) <= 24, "be within 24 semitones")
        check_positive(self, "mask_bins")
        check_at_most(self, _MASK_SIZE // 2, "mask_bins")
        check_not_negative(self, "mute_probability")

    @property
    def longest(self) -> float:
        """The largest number of samples that are read for each sample of a crop."""
        return 1.0 if self.pitch is None else 2 ** (max(self.pitch[1], 0.0) / 12)


class AudioBatch(NamedTuple):
    """Crops of recordings: `audio` `(batch, samples, channels)` float32, full scale at 1."""

    audio: Float32[np.ndarray, "batch samples channels"]


@dataclass(frozen=True)
class AudioCrops:
    """Random crops of `segment` samples of all channels, with random changes: batches of `AudioBatch`.

    The crops are those of `RandomCrops`, and the changes of a row are functions of the seed, the epoch and the row.
    Recordings shorter than a crop are padded with zeros at the end.

    **Raises:** `ConfigError` as `RandomCrops`.
    """

    batch_size: int
    segment: int
    sample_rate: int
    """Sample rate of the store in Hz."""
    augmentation: AugmentationConfig = AugmentationConfig()
    crops_per_clip: int = 1

    def __post_init__(self) -> None:
        self._crops()

    def _crops(self) -> RandomCrops:
        # Pitch is raised by playing more samples in the same time.
        length = math.ceil(self.segment * self.augmentation.longest)
        return RandomCrops(
            self.batch_size, length, crops_per_clip=self.crops_per_clip, columns=("audio",), fixed=("gain",)
        )

    def plan(self, store: Store) -> BatchPlan[AudioBatch]:
        """The batches of `store`, which has the columns `audio` and `gain`."""
        inner = self._crops().plan(store)

        def select(place: LoaderState) -> Selection:
            rows = place.index * self.batch_size + np.arange(self.batch_size)
            seeds = random_bits(place.seed, _ROWS, place.epoch, rows).astype(np.int64)
            return inner.select(place)._replace(seeds=seeds)

        def collate(store: Store, selection: Selection) -> AudioBatch:
            assert selection.seeds is not None
            columns = inner.collate(store, selection).columns
            audio = columns["audio"].astype(np.float32)
            audio = audio.reshape(len(audio), -1, audio.shape[-1]) * columns["gain"][:, None, None]
            changed = [
                augment(crop, self.augmentation, self.sample_rate, seed=int(seed), segment=self.segment)
                for crop, seed in zip(audio, selection.seeds, strict=True)
            ]
            return AudioBatch(np.stack(changed).swapaxes(1, 2))

        description = {**inner.description, "segment": self.segment, "augmentation": to_dict(self.augmentation)}
        return BatchPlan(inner.steps_per_epoch, select, collate, description)


def augment(
    crop: Crop, config: AugmentationConfig, sample_rate: int, *, seed: int, segment: int
) -> Float32[np.ndarray, "channels segment"]:
    """The first `segment` samples of `crop` after the random changes of `config`, which are functions of `seed`.

    Each change is the same for all channels, except for the noise of `dequantize`. `crop` has at least
    `config.longest * segment` samples.

    acids-ircam/RAVE `rave/dataset.py:get_dataset` and `rave/transforms.py`.
    """
    x = np.asarray(crop, np.float64)
    draw = lambda stream, count=1: uniform(seed, stream, np.arange(count))  # noqa: E731
    if config.pitch is not None:
        x = change_pitch(x, _between(config.pitch, draw(_PITCH)[0]), segment)
    x = x[:, :segment]
    chance, frequency = draw(_POLES, 2)
    if chance < config.allpass_probability:
        x = allpass(x, 20 * 100**frequency, sample_rate)
    if config.dequantize:
        x = x + draw(_STEP, x.size).reshape(x.shape) / 2**16
    if config.normalize:
        x = normalize(x)
    if config.derivative:
        x = differentiate(x)
    chance, place = draw(_COMPRESS, 2)
    if chance < config.compress_probability:
        x = compress(x, _between(config.compress_range, place), sample_rate)
    chance, place = draw(_GAIN, 2)
    if chance < config.gain_probability:
        x = change_gain(x, _between(config.gain_range, place))
    chance, width, place = draw(_MASK, 3)
    if chance < config.mask_probability:
        x = mask_frequencies(x, int(width * (config.mask_bins + 1)), place)
    if draw(_MUTE)[0] < config.mute_probability:
        x = np.zeros_like(x)
    return x.astype(np.float32)


def change_pitch(x: Crop, semitones: float, length: int) -> Crop:
    """`length` samples of `x` at a speed that changes the pitch by `semitones`, with soxr's filter."""
    import soxr

    factor = 2 ** (semitones / 12)
    played = np.ascontiguousarray(x[:, : math.ceil(length * factor)].T)
    found = soxr.resample(played, factor, 1.0, quality="HQ").T[:, :length]
    return np.pad(found, ((0, 0), (0, length - found.shape[1])))


def allpass(x: Crop, frequency: float, sample_rate: int, *, radius: float = 0.99) -> Crop:
    """`x` after an all-pass filter of second order with poles at `frequency` (Hz) and `radius`.

    With `c = 2 radius cos(2 pi frequency / sample_rate)`, its transfer function is
    `(radius^2 - c z^-1 + z^-2) / (1 - c z^-1 + radius^2 z^-2)`. acids-ircam/RAVE `rave/transforms.py`.
    """
    from scipy.signal import lfilter

    c = 2 * radius * math.cos(2 * math.pi * frequency / sample_rate)
    return np.asarray(lfilter([radius**2, -c, 1.0], [1.0, -c, radius**2], x, axis=-1))


def normalize(x: Crop, *, most: float = 30.0) -> Crop:
    """`x` scaled to a peak of 1, by at most `most` dB; silence remains silence."""
    peak = float(np.abs(x).max(initial=0.0))
    return x * min(10 ** (most / 20), 1 / peak if peak else math.inf)


def differentiate(x: Crop) -> Crop:
    """`(x[n] - x[n - 1]) / 2`, with silence before the crop."""
    return np.diff(x, axis=-1, prepend=0.0) / 2


def integrate(x: Crop, sample_rate: int) -> Crop:
    """The signal whose `differentiate` is `x`, without frequencies below about 10 Hz.

    The exact inverse, `2 / (1 - z^-1)`, would accumulate any offset. A high-pass of second order at 10 Hz, a
    Butterworth filter, removes it.
    """
    from scipy.signal import butter, lfilter, sosfilt

    sections = butter(2, 10.0, "highpass", fs=sample_rate, output="sos")
    # The high-pass has two zeros at 1, so that it may be applied before the accumulation.
    filtered = sosfilt(sections, np.asarray(x, np.float64), axis=-1)
    return np.asarray(lfilter([2.0], [1.0, -1.0], filtered, axis=-1))


def compress(
    x: Crop, level: float, sample_rate: int, *, threshold: float = -40.0, floor: float = -80.0, seconds: float = 0.1
) -> Crop:
    """`x` with other dynamics: where its level is `threshold` dB, the output has the level `level` dB.

    The level of a sample is that of the largest absolute value of the channels after a low-pass of first order with the
    time constant `seconds`, `e[n] = e[n - 1] + (1 - exp(-1 / (seconds sample_rate))) (|x[n]| - e[n - 1])`. The gain in
    dB is a function of the level that is linear between `floor` (gain 0), `threshold` (gain `level - threshold`) and 0
    dB (gain 0), and 0 outside. A `level` above `threshold` compresses loud parts; a lower one expands them.

    It corresponds to `compand` of SoX with equal times of attack and decay, as in acids-ircam/RAVE
    `rave/transforms.py:RandomCompress`, without SoX.
    """
    from scipy.signal import lfilter

    rate = 1 - math.exp(-1 / (seconds * sample_rate))
    envelope = lfilter([rate], [1.0, rate - 1], np.abs(x).max(axis=0))
    levels = 20 * np.log10(np.maximum(envelope, 1e-10))
    gain = np.interp(levels, [floor, threshold, 0.0], [0.0, level - threshold, 0.0])
    return x * 10 ** (gain / 20)


def change_gain(x: Crop, decibels: float) -> Crop:
    """`x` amplified by `decibels`, but not beyond full scale: then by less, and not at all if it is there already."""
    peak, gain = float(np.abs(x).max(initial=0.0)), 10 ** (decibels / 20)
    if gain > 1 and peak * gain > 1:
        gain = max(1.0, 1 / peak)
    return x * gain


def mask_frequencies(x: Crop, bins: int, place: float, *, fft_size: int = _MASK_SIZE) -> Crop:
    """`x` without a band of `bins` frequencies of a short-time Fourier transform of `fft_size` samples.

    `place` in [0, 1) is the position of the band among all possible ones. Crops shorter than a frame are not changed.
    """
    from scipy.signal import istft, stft

    if bins < 1 or x.shape[-1] < fft_size:
        return x
    options: dict[str, Any] = {"nperseg": fft_size, "noverlap": 3 * fft_size // 4}
    _, _, spectra = stft(x, **options)
    first = int(place * (spectra.shape[-2] - bins + 1))
    spectra[..., first : first + bins, :] = 0
    return np.asarray(istft(spectra, **options)[1])[..., : x.shape[-1]]


def _between(limits: tuple[float, float], place: float) -> float:
    return limits[0] + (limits[1] - limits[0]) * float(place)

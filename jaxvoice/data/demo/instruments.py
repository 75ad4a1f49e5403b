"""Phrases of synthetic instruments: a corpus of musical tones that needs no recordings and no other program."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from jaxvoice.data.atomic_folders import atomic_folder, cache_folder, remove_folder
from jaxvoice.data.audio import audio_info, write_wav
from jaxvoice.data.corpora import find_corpus
from jaxvoice.data.utterances import Corpus
from jaxvoice.errors import AudioError, ConfigError, DataError

INSTRUMENTS = ("plucked", "bowed", "struck")
"""The instruments of the corpus."""
_VERSION = 1
_PHRASE_SECONDS, _NOTES = 6.0, 12
_SCALE = (0, 2, 4, 7, 9)  # semitones of a pentatonic scale
_HELD_OUT = 2  # phrases of each instrument

Note = Float[np.ndarray, " samples"]


def make_instrument_corpus(folder: str | Path | None = None, *, sample_rate: int = 44100, phrases: int = 16) -> Corpus:
    """Synthesise `phrases` phrases of six seconds of each of `INSTRUMENTS`, with the same sound in every call.

    A phrase is a sequence of notes of a pentatonic scale in three octaves, with random lengths and levels. `plucked` is
    a string of Karplus and Strong (1983) with its delay line and filter. `bowed` has harmonics that fall by 6 dB per
    octave, formants, vibrato, a slow onset and the noise of a bow. `struck` has the partials of a free bar, which decay
    faster the higher they are.

    **Arguments:** `folder`, by default one in the user's cache folder; `sample_rate` in Hz; `phrases`, at least 3. The
    last two phrases of each instrument are held out for validation. Files are `INSTRUMENT/NUMBER.wav`. A folder that is
    complete is used as it is.

    **Raises:** `ConfigError` for too few phrases or a sample rate below 8000; `DataError` if the folder cannot be
    written, or has other content.
    """
    if phrases <= _HELD_OUT:
        raise ConfigError(f"phrases is {phrases}; it should be at least {_HELD_OUT + 1}.")
    if sample_rate < 8000:
        raise ConfigError(f"sample_rate is {sample_rate}; it should be at least 8000 Hz.")
    name = f"instruments-{_VERSION}-{sample_rate}-{phrases}"
    target = Path(folder).expanduser() if folder is not None else cache_folder("demo", name)
    names = [f"{instrument}/{number:03}" for instrument in INSTRUMENTS for number in range(phrases)]
    if not _is_complete(target, names, sample_rate):
        if folder is not None and target.is_dir() and any(target.iterdir()):
            raise DataError(f"{target} has other content than this corpus; choose an empty or a new folder.")
        try:
            if target.exists():
                remove_folder(target)
            with atomic_folder(target) as making:
                _write(making, names, sample_rate)
        except OSError as failure:
            raise DataError(
                f"The instruments cannot be written to {target} ({failure.strerror}); choose another folder, or set "
                "JAXVOICE_CACHE to one with space."
            ) from failure
    held_out = {f"{instrument}/{phrases - 1 - i:03}" for instrument in INSTRUMENTS for i in range(_HELD_OUT)}
    return replace(find_corpus(target, "folder"), validation_ids=frozenset(held_out))


def instrument_phrase(instrument: str, number: int, sample_rate: int) -> Note:
    """The phrase `number` of one of `INSTRUMENTS`: six seconds with a peak of 0.8.

    **Raises:** `ConfigError` for another instrument.
    """
    if instrument not in INSTRUMENTS:
        raise ConfigError(f"instrument is {instrument!r}; it should be one of {', '.join(INSTRUMENTS)}.")
    random = np.random.default_rng([_VERSION, INSTRUMENTS.index(instrument), number])
    play = {"plucked": _plucked, "bowed": _bowed, "struck": _struck}[instrument]
    total = round(_PHRASE_SECONDS * sample_rate)
    phrase = np.zeros(total)
    ends = np.cumsum(random.choice([1, 1, 2, 3], _NOTES))
    starts = np.concatenate([[0], ends[:-1]]) / ends[-1]
    for start, end in zip(starts, ends / ends[-1], strict=True):
        degree, octave = random.choice(_SCALE), random.integers(3)
        frequency = 130.81 * 2 ** (octave + degree / 12)
        first = round(start * total)
        # A note sounds a little into the next one.
        samples = min(total, round((end + 0.02) * total)) - first
        note = play(frequency, samples, sample_rate, random) * random.uniform(0.4, 1.0)
        fade = min(samples, round(0.01 * sample_rate))
        note[samples - fade :] *= np.linspace(1, 0, fade)
        phrase[first : first + samples] += note
    return 0.8 * phrase / np.abs(phrase).max()


def _plucked(frequency: float, samples: int, sample_rate: int, random: np.random.Generator) -> Note:
    from scipy.signal import lfilter

    # The filter of two taps delays by half a sample.
    delay = sample_rate / frequency - 0.5
    whole, rest = int(delay), delay - int(delay)
    loss = 10 ** (-3 / (frequency * 2.5))  # 60 dB in 2.5 s
    feedback = np.zeros(whole + 3)
    feedback[0] = 1.0
    # Linear interpolation between samples after the mean of two samples.
    feedback[whole : whole + 3] -= loss * np.convolve([0.5, 0.5], [1 - rest, rest])
    burst = np.zeros(samples)
    length = min(samples, whole)
    burst[:length] = random.uniform(-1, 1, length)
    burst[:length] -= burst[:length].mean()  # an offset would decay as slowly as the lowest harmonic
    return _normalized(np.asarray(lfilter([1.0], feedback, burst)))


def _bowed(frequency: float, samples: int, sample_rate: int, random: np.random.Generator) -> Note:
    time = np.arange(samples) / sample_rate
    vibrato = 0.006 * np.minimum(time / 0.3, 1) * np.sin(2 * np.pi * random.uniform(4.5, 6) * time)
    phase = 2 * np.pi * np.cumsum(frequency * (1 + vibrato)) / sample_rate
    note = np.zeros(samples)
    for harmonic in range(1, int(0.45 * sample_rate / frequency)):
        pitch = harmonic * frequency
        body = sum(gain * math.exp(-(((pitch - at) / 350) ** 2)) for at, gain in ((300, 1), (1100, 1), (2700, 0.8)))
        note += (0.15 + body) / harmonic * np.sin(harmonic * phase)
    note = _normalized(note) + 0.01 * random.normal(size=samples)
    onset = np.minimum(time / random.uniform(0.05, 0.12), 1)
    return note * onset * (0.85 + 0.15 * np.sin(2 * np.pi * 0.7 * time))


def _struck(frequency: float, samples: int, sample_rate: int, random: np.random.Generator) -> Note:
    time, note = np.arange(samples) / sample_rate, np.zeros(samples)
    # Partials of a bar with free ends (Fletcher and Rossing 1998, section 2.15).
    for number, ratio in enumerate((1.0, 2.756, 5.404, 8.933)):
        if ratio * frequency < 0.45 * sample_rate:
            decay = np.exp(-time * (3 + 6 * number) * (frequency / 261.6) ** 0.5)
            note += random.uniform(0.7, 1) / (1 + number) * decay * np.sin(2 * np.pi * ratio * frequency * time)
    strike = np.exp(-time / 0.003) * random.normal(size=samples)
    return _normalized(note) + 0.2 * strike


def _normalized(note: Note) -> Note:
    return note / max(float(np.abs(note).max(initial=0.0)), 1e-9)


def _write(folder: Path, names: list[str], sample_rate: int) -> None:
    for name in names:
        instrument, _, number = name.partition("/")
        (folder / instrument).mkdir(exist_ok=True)
        write_wav(folder / f"{name}.wav", instrument_phrase(instrument, int(number), sample_rate), sample_rate)


def _is_complete(folder: Path, names: list[str], sample_rate: int) -> bool:
    """Whether `folder` contains a phrase of the right length for each of `names`."""
    try:
        found = [audio_info(folder / f"{name}.wav") for name in names]
    except AudioError:
        return False
    samples = round(_PHRASE_SECONDS * sample_rate)
    return all((one.sample_rate, one.frames) == (sample_rate, samples) for one in found)

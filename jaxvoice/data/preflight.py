"""Look at every file of a corpus before training: what can be used, what cannot, and why."""

import os
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from jaxvoice.data.audio import Audio, read_audio
from jaxvoice.data.corpora import Corpus
from jaxvoice.data.layouts import Utterance
from jaxvoice.data.mels import read_mel
from jaxvoice.data.threads import map_in_threads
from jaxvoice.errors import AudioError, DataError, MelError

SILENCE = 10 ** (-70 / 20)  # peak, full scale at 1; about ten steps of 16-bit audio
_COARSE = {"PCM_U8": "8 bit", "PCM_S8": "8 bit", "ULAW": "8 bit (mu-law)", "ALAW": "8 bit (A-law)"}
_WIDTH = 80


@dataclass(frozen=True)
class Rejected:
    """An utterance that cannot be used, and the reason."""

    utterance: Utterance
    reason: str


@dataclass(frozen=True)
class Preflight:
    """What a preflight found; `corpus` holds only the utterances that can be used.

    `seconds` are those of the usable files in the order of `corpus`, `rates` the number of files per sample rate (Hz),
    `notes` the number of files per conversion that will be made.
    """

    corpus: Corpus
    seconds: tuple[float, ...]
    rates: dict[int, int]
    rejected: tuple[Rejected, ...] = ()
    notes: dict[str, int] = field(default_factory=dict)

    @property
    def hours(self) -> float:
        return sum(self.seconds) / 3600

    def table(self) -> str:
        """The findings as lines of at most 80 characters."""
        rows = [("corpus", f"{self.corpus.root} ({self.corpus.kind})"), ("usable files", f"{len(self.corpus)}")]
        if self.corpus.speakers:
            rows.append(("speakers", f"{len(self.corpus.speakers)}"))
        rates = ", ".join(f"{rate} Hz ({count})" for rate, count in sorted(self.rates.items()))
        rows += [("duration", _duration(sum(self.seconds))), ("sample rates", rates)]
        for name, pick in (("shortest", np.argmin), ("longest", np.argmax)):
            index = int(pick(self.seconds))
            rows.append((name, f"{self.seconds[index]:.2f} s, {self.corpus.utterances[index].id}"))
        rows += [("note", f"{count} file(s): {note}") for note, count in sorted(self.notes.items())]
        rows.append(("rejected", f"{len(self.rejected)}"))
        lines = [line for name, value in rows for line in _wrapped(f"{name:<14}", value, 14)]
        return "\n".join(lines + _reasons(self.rejected, self.corpus))

    def __str__(self) -> str:
        return self.table()


def preflight(
    corpus: Corpus,
    sample_rate: int,
    segment: int,
    *,
    hop_length: int = 256,
    num_mels: int = 80,
    shortest: float = 0.1,
    threads: int | None = None,
    progress: bool = False,
) -> Preflight:
    """Decode every file of `corpus` once and sort out those that training at `sample_rate` (Hz) cannot use.

    Rejected are files that are missing, empty, truncated or no audio, hold no samples or NaN, are silent (no sample
    further than -70 dBFS from the mean) or shorter than `shortest` seconds, and mels that do not fit: unreadable, with
    other than `num_mels` bands, or with a length that differs from the audio's by more than 8 frames of `hop_length`
    samples. Kept, with a note, are other sample rates, several channels, 8-bit audio, and clips shorter than `segment`
    samples, which are padded with zeros at their end as in HiFi-GAN.

    **Raises:** `DataError`, with every reason, if no file is left.
    """

    def look(utterance: Utterance) -> tuple[Audio, list[str]] | str:
        try:
            return _look(utterance, sample_rate, segment, hop_length, num_mels, shortest)
        except (AudioError, MelError) as failure:
            return str(failure)

    kept: list[Utterance] = []
    rejected: list[Rejected] = []
    seconds: list[float] = []
    rates: Counter[int] = Counter()
    notes: Counter[str] = Counter()
    found = map_in_threads(look, corpus.utterances, threads, "checking audio" if progress else None)
    for utterance, result in zip(corpus.utterances, found, strict=True):
        if isinstance(result, str):
            rejected.append(Rejected(utterance, result))
            continue
        audio, remarks = result
        kept.append(utterance)
        seconds.append(audio.seconds)
        rates[audio.sample_rate] += 1
        notes.update(remarks)
    if not kept:
        reasons = "\n".join(_reasons(rejected, corpus))
        raise DataError(f"None of the {len(rejected)} file(s) of {corpus.root} can be used:\n{reasons}")
    usable = replace(corpus, utterances=tuple(kept))
    return Preflight(usable, tuple(seconds), dict(rates), tuple(rejected), dict(notes))


def _look(
    utterance: Utterance, sample_rate: int, segment: int, hop_length: int, num_mels: int, shortest: float
) -> tuple[Audio, list[str]]:
    audio = read_audio(utterance.path)
    assert audio.source is not None
    loudest = float(np.abs(audio.samples - audio.samples.mean()).max())
    if loudest < SILENCE:
        level = f"{20 * np.log10(loudest):.0f} dBFS" if loudest > 0 else "digital silence"
        raise AudioError(f"{utterance.path} is silent ({level}); remove it or record it again.")
    if audio.seconds < shortest:
        raise AudioError(
            f"{utterance.path} is too short: {audio.seconds:.3f} s, at least {shortest:g} s are needed; remove it."
        )
    length = -(-len(audio.samples) * sample_rate // audio.sample_rate)
    if utterance.mel_path is not None:
        frames = read_mel(utterance.mel_path, num_mels).shape[1]
        if abs(frames - length / hop_length) > 8:
            raise MelError(
                f"{utterance.mel_path} has {frames} frames, but its audio is {length / hop_length:.1f} hops of "
                f"{hop_length} samples long at {sample_rate} Hz; make the mel from this audio with this hop length."
            )
    return audio, _remarks(audio, sample_rate, length < segment)


def _remarks(audio: Audio, sample_rate: int, padded: bool) -> list[str]:
    assert audio.source is not None
    remarks = []
    if audio.sample_rate > sample_rate:
        remarks.append(f"resampled from {audio.sample_rate} Hz to {sample_rate} Hz")
    elif audio.sample_rate < sample_rate:
        remarks.append(f"resampled up from {audio.sample_rate} Hz: nothing above {audio.sample_rate // 2} Hz to learn")
    if audio.source.channels > 1:
        remarks.append(f"{audio.source.channels} channels averaged to one")
    if audio.source.subtype in _COARSE:
        remarks.append(f"{_COARSE[audio.source.subtype]}, audible noise of quantisation")
    if padded:
        remarks.append("shorter than a training segment, padded with zeros")
    return remarks


def _reasons(rejected: Sequence[Rejected], corpus: Corpus) -> list[str]:
    prefix = f"{corpus.root}{os.sep}"  # the table names the root once, and paths that fit a line can be copied
    reasons = [item.reason.replace(prefix, "") for item in rejected]
    return [line for reason in reasons for line in _wrapped("  - ", reason, 4)]


def _wrapped(head: str, text: str, indent: int) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=head, subsequent_indent=" " * indent, break_on_hyphens=False)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} minutes" if seconds < 3600 else f"{seconds / 3600:.2f} hours"

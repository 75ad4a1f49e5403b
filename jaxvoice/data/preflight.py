"""Look at every file of a corpus before training: what can be used, what cannot, and why."""

import os
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxvoice.data.audio import Audio, read_audio
from jaxvoice.data.corpora import Corpus
from jaxvoice.data.layouts import Utterance
from jaxvoice.data.mels import read_mel
from jaxvoice.data.threads import map_in_threads
from jaxvoice.errors import AudioError, DataError, MelError

if TYPE_CHECKING:
    from jaxvoice.dsp.mel_config import MelConfig

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
    mel: "MelConfig | None" = None,
    shortest: float = 0.1,
    threads: int | None = None,
    progress: bool = False,
) -> Preflight:
    """Decode every file of `corpus` once and sort out those that training at `sample_rate` (Hz) cannot use.

    Rejected are files that are missing, empty, truncated or no audio, hold no samples or NaN, are silent (no sample
    further than -70 dBFS from the mean) or shorter than `shortest` seconds, and given mels that do not follow the
    contract `mel` (by default HiFi-GAN's): unreadable, with a length that differs from the audio's by more than 8
    frames, or what `check_mel` refuses, such as another number of bands, decibels, or normalised values. Kept, with a
    note, are other sample rates, several channels, 8-bit audio, mels that `check_mel` warns of, and clips shorter than
    `segment` samples, which are padded with zeros at their end as in HiFi-GAN.

    **Raises:** `DataError`, with every reason, if no file is left.
    """

    def look(utterance: Utterance) -> tuple[Audio, dict[str, str]] | str:
        try:
            return _look(utterance, sample_rate, segment, mel, shortest)
        except (AudioError, MelError) as failure:
            return str(failure)

    kept: list[Utterance] = []
    rejected: list[Rejected] = []
    seconds: list[float] = []
    rates: Counter[int] = Counter()
    notes: Counter[str] = Counter()
    wording: dict[str, str] = {}
    found = map_in_threads(look, corpus.utterances, threads, "checking audio" if progress else None)
    for utterance, result in zip(corpus.utterances, found, strict=True):
        if isinstance(result, str):
            rejected.append(Rejected(utterance, result))
            continue
        audio, remarks = result
        kept.append(utterance)
        seconds.append(audio.seconds)
        rates[audio.sample_rate] += 1
        notes.update(wording.setdefault(kind, remark) for kind, remark in remarks.items())
    if not kept:
        reasons = "\n".join(_reasons(rejected, corpus))
        raise DataError(f"None of the {len(rejected)} file(s) of {corpus.root} can be used:\n{reasons}")
    usable = replace(corpus, utterances=tuple(kept))
    return Preflight(usable, tuple(seconds), dict(rates), tuple(rejected), dict(notes))


def _look(
    utterance: Utterance, sample_rate: int, segment: int, mel: "MelConfig | None", shortest: float
) -> tuple[Audio, dict[str, str]]:
    """The audio, and remarks by their kind: those of one kind are counted as one, worded as in the first file."""
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
    remarks = {remark: remark for remark in _remarks(audio, sample_rate, length < segment)}
    return audio, remarks | _mel_remarks(utterance.mel_path, length, sample_rate, mel)


def _mel_remarks(path: Path | None, length: int, sample_rate: int, config: "MelConfig | None") -> dict[str, str]:
    """What is unusual about the mel given beside `length` samples of audio; `MelError` where it cannot be right."""
    if path is None:
        return {}
    # Here, so that corpora without mels are looked through without JAX.
    from jaxvoice.dsp.contract import check_mel
    from jaxvoice.dsp.mel_config import MelConfig

    config = MelConfig() if config is None else config
    mel, hop = read_mel(path), config.hop_length
    try:
        lines = check_mel(mel, config)
    except MelError as failure:
        raise MelError(f"{path}: {failure}") from failure
    frames = mel.shape[1]
    if abs(frames - length / hop) > 8:
        raise MelError(
            f"{path} has {frames} frames, but its audio is {length / hop:.1f} hops of {hop} samples long at "
            f"{sample_rate} Hz; make the mel from this audio with this hop length."
        )
    return {line.partition("(")[0]: f"{line} (seen in {path.name})" for line in lines}


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

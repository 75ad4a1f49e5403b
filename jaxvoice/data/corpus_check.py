"""The preflight, which checks every file of a corpus before training."""

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxvoice.data.audio import SILENCE, Audio, audio_info, read_as, read_audio
from jaxvoice.data.mel_files import read_mel
from jaxvoice.data.store import audio_of
from jaxvoice.data.utterances import Corpus, RejectedUtterance, Utterance, map_utterances, report_table
from jaxvoice.errors import AudioError, DataError, MelError

if TYPE_CHECKING:
    from jaxvoice.dsp.mel_config import MelConfig

_COARSE = {
    "PCM_U8": "8 bit",
    "PCM_S8": "8 bit",
    "ULAW": "8 bit (mu-law)",
    "ALAW": "8 bit (A-law)",
    "GSM610": "GSM 6.10",
}
_COARSE |= dict.fromkeys(("IMA_ADPCM", "MS_ADPCM", "G721_32", "NMS_ADPCM_16", "NMS_ADPCM_24", "NMS_ADPCM_32"), "ADPCM")


@dataclass(frozen=True)
class Preflight:
    """The result of a preflight. `corpus` contains the usable and the rejected utterances.

    `seconds` are the durations of the usable files in the order of `corpus`, `rates` is the number of files for each
    sample rate (Hz), and `notes` the number of files for each remark, for example about resampling.
    """

    corpus: Corpus
    seconds: tuple[float, ...]
    rates: dict[int, int]
    notes: dict[str, int] = field(default_factory=dict)

    @property
    def hours(self) -> float:
        """Duration of the usable files, in hours."""
        return sum(self.seconds) / 3600

    @property
    def rejected(self) -> tuple[RejectedUtterance, ...]:
        """The utterances that cannot be used."""
        return self.corpus.rejected

    def table(self) -> str:
        """The result in lines of at most 80 characters."""
        rows = [("corpus", f"{self.corpus.root} ({self.corpus.kind})"), ("usable files", f"{len(self.corpus)}")]
        if self.corpus.list_fields:
            rows.append(("list fields", self.corpus.list_fields))
        if self.corpus.speakers:
            rows.append(("speakers", f"{len(self.corpus.speakers)}"))
        rates = ", ".join(f"{rate} Hz ({count})" for rate, count in sorted(self.rates.items()))
        rows += [("duration", _duration(sum(self.seconds))), ("sample rates", rates)]
        for name, pick in (("shortest", np.argmin), ("longest", np.argmax)):
            index = int(pick(self.seconds))
            rows.append((name, f"{self.seconds[index]:.2f} s, {self.corpus.utterances[index].id}"))
        return report_table(rows, self.rejected, self.corpus.root, self.notes, shown=None)

    def __str__(self) -> str:
        return self.table()


def preflight(
    corpus: Corpus,
    sample_rate: int,
    segment: int,
    *,
    mel: "MelConfig | None" = None,
    channels: int = 1,
    shortest: float = 0.1,
    longest: float | None = None,
    threads: int | None = None,
    progress: bool = False,
) -> Preflight:
    """Decode every file of `corpus` once, and reject those that cannot be used for training at `sample_rate` (Hz).

    A recording is rejected if it is missing, empty, truncated or not audio, has no samples or contains NaN, is silent
    (no sample deviates from the mean by more than -70 dBFS), is shorter than `shortest` seconds, or longer than
    `longest` seconds, if given. A mel of the corpus is rejected if it cannot be read, if its length differs from that
    of the audio by more than 8 frames, or if `check_mel` rejects it under the contract `mel`, by default that of the
    corpus, else HiFi-GAN's. A given `mel` is the contract of the returned corpus if it has mels.

    For models of several `channels`, a recording has one channel, which is repeated, or as many; others are rejected.

    Other sample rates, several channels, 8-bit audio, mels for which `check_mel` returns warnings, and recordings
    shorter than `segment` samples are noted. Short recordings are padded with zeros at their end, as in HiFi-GAN.

    **Raises:** `DataError`, with every reason, if no file is left.
    """

    def check(utterance: Utterance) -> tuple[Audio, dict[str, str]] | RejectedUtterance:
        try:
            return _check(utterance, sample_rate, segment, mel or corpus.mel, (shortest, longest), channels)
        except (AudioError, MelError) as failure:
            kind = "audio" if isinstance(failure, AudioError) else "mel"
            return RejectedUtterance(utterance.id, kind, str(failure))

    kept: list[Utterance] = []
    rejected: list[RejectedUtterance] = []
    seconds: list[float] = []
    rates: Counter[int] = Counter()
    notes: Counter[str] = Counter()
    wording: dict[str, str] = {}
    found = map_utterances(check, corpus.utterances, threads, "checking audio" if progress else None)
    for utterance, result in zip(corpus.utterances, found, strict=True):
        if isinstance(result, RejectedUtterance):
            rejected.append(result)
            continue
        audio, remarks = result
        kept.append(utterance)
        seconds.append(audio.seconds)
        rates[audio.sample_rate] += 1
        notes.update(wording.setdefault(kind, remark) for kind, remark in remarks.items())
    if not kept:
        reasons = report_table((), rejected, corpus.root, shown=None)
        raise DataError(f"None of the {len(rejected)} file(s) of {corpus.root} can be used:\n{reasons}")
    contract = mel if mel is not None and any(utterance.mel for utterance in kept) else corpus.mel
    usable = replace(corpus, utterances=tuple(kept), rejected=(*corpus.rejected, *rejected), mel=contract)
    return Preflight(usable, tuple(seconds), dict(rates), dict(notes))


def _check(
    utterance: Utterance,
    sample_rate: int,
    segment: int,
    mel: "MelConfig | None",
    limits: tuple[float, float | None],
    channels: int,
) -> tuple[Audio, dict[str, str]]:
    """The audio, and remarks by kind. Remarks of a kind are counted together under the text of the first one.

    `limits` are the shortest and the longest length in seconds.
    """
    path = audio_of(utterance)
    audio = read_audio(path) if channels == 1 else _loudest_channel(path, channels)
    assert audio.source is not None
    loudest = float(np.abs(audio.samples - audio.samples.mean()).max())
    if loudest < SILENCE:
        level = f"{20 * np.log10(loudest):.0f} dBFS" if loudest > 0 else "digital silence"
        raise AudioError(f"{path} is silent ({level}); remove it or record it again.")
    shortest, longest = limits
    if longest is not None and audio.seconds > longest:
        raise AudioError(
            f"{path} is too long, {audio.seconds:.3f} s; it should last at most {longest:g} s. Cut it, or "
            "raise the limit (--max-seconds)."
        )
    if audio.seconds < shortest:
        raise AudioError(
            f"{path} is too short, {audio.seconds:.3f} s; it should last at least {shortest:g} s. Remove it."
        )
    length = -(-len(audio.samples) * sample_rate // audio.sample_rate)
    remarks = {remark: remark for remark in _remarks(audio, sample_rate, channels, length < segment)}
    return audio, remarks | _mel_remarks(utterance.mel, length, sample_rate, mel)


def _mel_remarks(path: Path | None, length: int, sample_rate: int, config: "MelConfig | None") -> dict[str, str]:
    """Remarks about the mel at `path`, by kind, for `length` samples of audio.

    **Raises:** `MelError` if the mel cannot be used.
    """
    if path is None:
        return {}
    # Corpora without mels are checked without importing JAX.
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
            f"{path} has {frames} frames; it should have about {length / hop:.1f}, the hops of {hop} samples of its "
            f"audio at {sample_rate} Hz. Compute the mel from this audio with this hop length."
        )
    return {line.partition("(")[0]: f"{line} (seen in {path.name})" for line in lines}


def _loudest_channel(path: Path, channels: int) -> Audio:
    samples, rate = read_as(path, channels)
    deviations = np.abs(samples - samples.mean(axis=1, keepdims=True)).max(axis=1)
    return Audio(samples[int(np.argmax(deviations))], rate, audio_info(path))


def _remarks(audio: Audio, sample_rate: int, channels: int, padded: bool) -> list[str]:
    assert audio.source is not None
    remarks = []
    if audio.sample_rate > sample_rate:
        remarks.append(f"resampled from {audio.sample_rate} Hz to {sample_rate} Hz")
    elif audio.sample_rate < sample_rate:
        remarks.append(
            f"resampled from {audio.sample_rate} Hz, so nothing above {audio.sample_rate // 2} Hz is learned"
        )
    if audio.source.channels > channels:
        remarks.append(f"{audio.source.channels} channels averaged to one")
    elif audio.source.channels < channels:
        remarks.append(f"one channel repeated in {channels}")
    if audio.source.subtype in _COARSE:
        remarks.append(f"{_COARSE[audio.source.subtype]}, with audible quantisation noise")
    if padded:
        remarks.append("shorter than a training segment, padded with zeros")
    return remarks


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} minutes" if seconds < 3600 else f"{seconds / 3600:.2f} hours"

"""Mel spectrograms, phoneme ids and durations of an aligned corpus, in memory."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32

from jaxvoice.data.aligned.alignment import Misfit
from jaxvoice.data.aligned.corpus import AlignedCorpus, AlignedUtterance
from jaxvoice.data.aligned.durations import durations_in_frames
from jaxvoice.data.aligned.report import RejectedUtterance, counted, table
from jaxvoice.data.audio import read_audio
from jaxvoice.data.mels import read_mel
from jaxvoice.data.preflight import SILENCE
from jaxvoice.data.store import PEAK
from jaxvoice.data.threads import map_in_threads
from jaxvoice.dsp.contract import check_mel
from jaxvoice.dsp.mel import bucketed_log_mel
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.errors import AudioError, DataError, MelError


@dataclass(frozen=True)
class AlignedStore:
    """What an acoustic model learns from: number i is `corpus.utterances[i]`.

    `mels[i]` (mels, frames) float32, under the contract `mel`, not normalised; `phones[i]`, their `ids[i]` (phones,)
    int32 from 1 on, and `durations[i]` (phones,) int32, in frames, at least 1, which add up to `frames`.
    A day of speech with 80 bands takes 2.2 GiB. `rejected` are those of the corpus and those that loading found;
    `notes` counts what is unusual but was kept. `peak_normalize`: whether recordings were scaled to a peak of 0.95.
    """

    corpus: AlignedCorpus
    mel: MelConfig
    mels: Sequence[Float32[np.ndarray, "mels _"]]
    phones: Sequence[tuple[str, ...]]
    ids: Sequence[Int32[np.ndarray, " _"]]
    durations: Sequence[Int32[np.ndarray, " _"]]
    rejected: tuple[RejectedUtterance, ...] = ()
    notes: dict[str, int] = field(default_factory=dict)
    peak_normalize: bool = False

    def __len__(self) -> int:
        return len(self.mels)

    @property
    def frames(self) -> int:
        """Frames of all utterances."""
        return sum(mel.shape[1] for mel in self.mels)

    @property
    def seconds(self) -> float:
        """Duration of all mels."""
        return self.frames * self.mel.hop_length / self.mel.sample_rate

    @property
    def counts(self) -> dict[str, int]:
        """How many utterances were rejected for each kind of reason."""
        return counted(self.rejected)

    def table(self) -> str:
        """The findings as lines of at most 80 characters."""
        rows = [("corpus", f"{self.corpus.root} ({self.corpus.kind})"), ("usable", f"{len(self)} utterance(s)")]
        rows += [("duration", f"{self.seconds / 60:.1f} minutes"), ("phones", f"{sum(map(len, self.ids))}")]
        most = max(map(len, self.ids))
        rows.append(("longest", f"{max(mel.shape[1] for mel in self.mels)} frames, {most} phones"))
        return table(rows, self.rejected, self.corpus.root, self.notes)

    def __str__(self) -> str:
        return self.table()


class CorpusStatistics(NamedTuple):
    """Mean and standard deviation of all mel values, and of ln(1 + d) of all durations d in frames."""

    mel_mean: float
    mel_std: float
    duration_mean: float
    duration_std: float


def measure_statistics(store: AlignedStore) -> CorpusStatistics:
    """The statistics of `store` by which a model normalises; a spread of zero is given as 1."""
    count = sum(mel.size for mel in store.mels)
    mean = sum(float(mel.sum(dtype=np.float64)) for mel in store.mels) / count
    variance = sum(float(np.square(mel.astype(np.float64) - mean).sum()) for mel in store.mels) / count
    logs = np.log1p(np.concatenate(store.durations).astype(np.float64))
    return CorpusStatistics(mean, variance**0.5 or 1.0, float(logs.mean()), float(logs.std()) or 1.0)


class _Loaded(NamedTuple):
    sound: Float32[np.ndarray, "..."]  # audio (samples,), or the given mel (mels, frames)
    notes: tuple[str, ...] = ()


def load_aligned(
    corpus: AlignedCorpus,
    mel: MelConfig | None = None,
    *,
    peak_normalize: bool = False,
    max_frames: int | None = None,
    max_phones: int | None = None,
    threads: int | None = None,
    progress: bool = False,
) -> AlignedStore:
    """Read or compute the mels of `corpus` under the contract `mel`, and make the durations add up to their lengths.

    `mel` is by default that of the corpus's own mels, else HiFi-GAN's. Where the corpus brings mels under this very
    contract they are read; otherwise mels are computed from audio, resampled to `mel.sample_rate`, and with
    `peak_normalize` scaled to a peak of 0.95, as the audio is that HiFi-GAN trains on.

    Rejected, counted and told by `table()` are utterances without such a mel or audio; files that cannot be read;
    silent audio; mels that `check_mel` refuses; alignments more than 8 frames longer or shorter than the mel, or with
    more phones than frames (see `durations_in_frames`); and more than `max_frames` frames or `max_phones` phones.

    **Raises:** `DataError`, with every kind of reason, if no utterance is left.
    """
    contract = mel or corpus.mel or MelConfig()

    def load(utterance: AlignedUtterance) -> _Loaded | RejectedUtterance:
        try:
            return _load(utterance, corpus, contract, peak_normalize)
        except Misfit as failure:
            return RejectedUtterance(utterance.id, failure.kind, str(failure))
        except (AudioError, MelError) as failure:
            return RejectedUtterance(utterance.id, "audio" if isinstance(failure, AudioError) else "mel", str(failure))

    store = AlignedStore(corpus, contract, [], [], [], [], peak_normalize=peak_normalize)
    kept: list[AlignedUtterance] = []
    rejected: list[RejectedUtterance] = list(corpus.rejected)
    notes: Counter[str] = Counter()
    mels, phones, ids, durations = [], [], [], []
    found = map_in_threads(load, corpus.utterances, threads, "loading mels" if progress else None)
    for utterance, loaded in zip(corpus.utterances, found, strict=True):
        if isinstance(loaded, RejectedUtterance):
            rejected.append(loaded)
            continue
        try:
            computed = loaded.sound if loaded.sound.ndim == 2 else bucketed_log_mel(loaded.sound, contract)
            lasting = durations_in_frames(
                utterance.alignment,
                computed.shape[1],
                sample_rate=contract.sample_rate,
                hop_length=contract.hop_length,
            )
            _check_size(utterance.id, computed.shape[1], len(lasting.phones), max_frames, max_phones)
        except (Misfit, AudioError) as failure:
            rejected.append(RejectedUtterance(utterance.id, getattr(failure, "kind", "audio"), str(failure)))
            continue
        kept.append(utterance)
        mels.append(computed)
        phones.append(lasting.phones)
        ids.append(np.array(corpus.phone_set.ids(lasting.phones), np.int32))
        durations.append(lasting.frames.astype(np.int32))
        notes.update(loaded.notes)
    usable = replace(corpus, utterances=tuple(kept))
    if not kept:
        reasons = table((), rejected, corpus.root, {})
        raise DataError(f"None of the {len(rejected)} utterance(s) of {corpus.root} can be used:\n{reasons}")
    return replace(
        store,
        corpus=usable,
        mels=mels,
        phones=phones,
        ids=ids,
        durations=durations,
        rejected=tuple(rejected),
        notes=dict(notes),
    )


def _load(utterance: AlignedUtterance, corpus: AlignedCorpus, contract: MelConfig, peak_normalize: bool) -> _Loaded:
    if utterance.mel is not None and corpus.mel == contract and not peak_normalize:
        return _given(utterance.mel, contract)
    if utterance.audio is None:
        other = "" if utterance.mel is None else " (its mel follows another contract)"
        raise Misfit(
            "no audio", f"{utterance.id} has no audio{other}; give the folder of the audio, or the mel of the corpus."
        )
    return _Loaded(utterance_audio(utterance.audio, contract.sample_rate, peak_normalize=peak_normalize))


def utterance_audio(path: Path, sample_rate: int, *, peak_normalize: bool) -> Float32[np.ndarray, " samples"]:
    """The recording at `path` as mels are computed from it: resampled to `sample_rate` (Hz) and, with `peak_normalize`,
    scaled to a peak of 0.95.

    **Raises:** `AudioError` if it cannot be read, or is silent.
    """
    samples = read_audio(path, sample_rate).samples
    peak = float(np.abs(samples).max())
    if peak < SILENCE:
        raise AudioError(f"{path} is silent (its peak is {peak:.1e}); remove it or record it again.")
    return samples * np.float32(PEAK / peak) if peak_normalize else samples


def _given(path: Path, contract: MelConfig) -> _Loaded:
    mel = read_mel(path, contract.num_mels)
    try:
        lines = check_mel(mel, contract)
    except MelError as failure:
        raise MelError(f"{path}: {failure}") from failure
    return _Loaded(mel, tuple(line.partition(" (")[0] for line in lines))


def _check_size(name: str, frames: int, phones: int, max_frames: int | None, max_phones: int | None) -> None:
    if max_frames is not None and frames > max_frames:
        raise Misfit("too long", f"{name} has {frames} frames, and {max_frames} are allowed; cut it or allow more.")
    if max_phones is not None and phones > max_phones:
        raise Misfit("too long", f"{name} has {phones} phones, and {max_phones} are allowed; cut it or allow more.")

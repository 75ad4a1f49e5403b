"""Loading of corpora with alignments: mel spectrograms, phoneme ids and durations of whole utterances."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from jaxvoice.data.alignments.alignment import AlignmentError
from jaxvoice.data.alignments.frame_durations import durations_in_frames
from jaxvoice.data.audio import SILENCE, read_audio
from jaxvoice.data.mel_files import read_mel
from jaxvoice.data.store import PEAK, Column, Store, to_int16
from jaxvoice.data.utterances import Corpus, RejectedUtterance, Utterance, map_utterances, report_table
from jaxvoice.dsp.contract import check_mel
from jaxvoice.dsp.mel import bucketed_log_mel
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.errors import AudioError, DataError, MelError


class CorpusStatistics(NamedTuple):
    """Mean and standard deviation of all mel values, and of ln(1 + d) of all durations d in frames."""

    mel_mean: float
    mel_std: float
    duration_mean: float
    duration_std: float


def measure_statistics(store: Store) -> CorpusStatistics:
    """Measure the statistics of `store`, by which a model normalises. A standard deviation of 0 is replaced by 1."""
    mels = store["mel"]
    count = sum(mel.size for mel in mels)
    mean = sum(float(mel.sum(dtype=np.float64)) for mel in mels) / count
    variance = sum(float(np.square(mel.astype(np.float64) - mean).sum()) for mel in mels) / count
    logs = np.log1p(np.concatenate(list(store["durations"])).astype(np.float64))
    return CorpusStatistics(mean, variance**0.5 or 1.0, float(logs.mean()), float(logs.std()) or 1.0)


class _Loaded(NamedTuple):
    audio: Float32[np.ndarray, " samples"] | None
    mel: Float32[np.ndarray, "mels frames"] | None
    notes: tuple[str, ...] = ()


def load_aligned(
    corpus: Corpus,
    mel: MelConfig | None = None,
    *,
    audio: bool = False,
    peak_normalize: bool = False,
    max_frames: int | None = None,
    max_phones: int | None = None,
    threads: int | None = None,
    progress: bool = False,
) -> Store:
    """Load the columns `mel`, `phonemes` and `durations` of `corpus`, which has alignments, into memory.

    `mel` is the contract, by default that of the mels in the corpus, else HiFi-GAN's. If the corpus contains mels under
    this contract, they are read. Otherwise mels are computed from the recordings, which are resampled to
    `mel.sample_rate` and, with `peak_normalize`, scaled to a peak of 0.95, as in HiFi-GAN's training. Durations are
    adjusted to the lengths of the mels (see `durations_in_frames`). A day of speech with 80 bands takes 2.2 GiB. With
    `audio`, the store also has the columns `audio` and `gain`, which take another 3.5 GiB at 22,050 Hz.

    The store's `rejected` contains utterances without a mel under the contract and without a recording; files that
    cannot be read; silent audio; mels that `check_mel` rejects; alignments more than 8 frames longer or shorter than
    the mel, or with more phones than frames; and utterances of more than `max_frames` frames or `max_phones` phones.

    **Raises:** `DataError`, with every kind of reason, if no utterance is left, or if the corpus has no alignments.
    """
    contract, phone_set = mel or corpus.mel or MelConfig(), corpus.phone_set
    if phone_set is None:
        raise DataError(f"The corpus {corpus.root} ({corpus.kind}) has no alignments; read it with find_aligned.")

    def load(utterance: Utterance) -> _Loaded | RejectedUtterance:
        try:
            return _load(utterance, corpus, contract, peak_normalize, audio)
        except AlignmentError as failure:
            return RejectedUtterance(utterance.id, failure.kind, str(failure))
        except (AudioError, MelError) as failure:
            return RejectedUtterance(utterance.id, "audio" if isinstance(failure, AudioError) else "mel", str(failure))

    kept: list[Utterance] = []
    rejected: list[RejectedUtterance] = list(corpus.rejected)
    notes: Counter[str] = Counter()
    mels, phonemes, durations, recordings, gains = [], [], [], [], []
    found = map_utterances(load, corpus.utterances, threads, "loading mels" if progress else None)
    for utterance, loaded in zip(corpus.utterances, found, strict=True):
        if isinstance(loaded, RejectedUtterance):
            rejected.append(loaded)
            continue
        try:
            computed = loaded.mel
            if computed is None:
                assert loaded.audio is not None
                computed = bucketed_log_mel(loaded.audio, contract)
            if utterance.alignment is None:
                raise AlignmentError("no alignment", f"{utterance.id} has no alignment; align it first.")
            rounded = durations_in_frames(
                utterance.alignment,
                computed.shape[1],
                sample_rate=contract.sample_rate,
                hop_length=contract.hop_length,
            )
            _check_size(utterance.id, computed.shape[1], len(rounded.phones), max_frames, max_phones)
        except (AlignmentError, AudioError) as failure:
            rejected.append(RejectedUtterance(utterance.id, getattr(failure, "kind", "audio"), str(failure)))
            continue
        kept.append(utterance)
        mels.append(computed)
        phonemes.append(np.array(phone_set.ids(rounded.phones), np.int32))
        durations.append(rounded.frames.astype(np.int32))
        notes.update(loaded.notes)
        if audio:
            assert loaded.audio is not None
            samples, gain = to_int16(loaded.audio)
            recordings.append(samples)
            gains.append(gain)
    if not kept:
        reasons = report_table((), rejected, corpus.root)
        raise DataError(f"None of the {len(rejected)} utterance(s) of {corpus.root} can be used:\n{reasons}")
    columns: dict[str, Column] = {"mel": mels, "phonemes": phonemes, "durations": durations}
    if audio:
        columns |= {"audio": recordings, "gain": np.array(gains, np.float32)}
    return Store(
        replace(corpus, utterances=tuple(kept), rejected=tuple(rejected)),
        columns,
        contract.sample_rate,
        contract,
        notes=dict(notes),
        peak_normalize=peak_normalize,
    )


def _load(utterance: Utterance, corpus: Corpus, contract: MelConfig, peak_normalize: bool, audio: bool) -> _Loaded:
    """The mel of the corpus under `contract`, else the recording; with `audio`, both."""
    mel, notes = None, ()
    if utterance.mel is not None and corpus.mel == contract and not peak_normalize:
        mel, notes = _read_checked_mel(utterance.mel, contract)
        if not audio:
            return _Loaded(None, mel, notes)
    if utterance.audio is None:
        other = "" if utterance.mel is None or mel is not None else " (its mel follows another contract)"
        remedy = "pass the folder of the audio (audio_dir, --audio-dir)" + (
            "." if mel is not None else ", or the mel of the corpus."
        )
        raise AlignmentError("no audio", f"{utterance.id} has no audio{other}; {remedy}")
    samples = utterance_audio(utterance.audio, contract.sample_rate, peak_normalize=peak_normalize)
    return _Loaded(samples, mel, notes)


def utterance_audio(path: Path, sample_rate: int, *, peak_normalize: bool) -> Float32[np.ndarray, " samples"]:
    """Read a recording, resampled to `sample_rate` (Hz) and, with `peak_normalize`, scaled to a peak of 0.95.

    **Raises:** `AudioError` if it cannot be read, or is silent.
    """
    samples = read_audio(path, sample_rate).samples
    peak = float(np.abs(samples).max())
    if peak < SILENCE:
        raise AudioError(f"{path} is silent (its peak is {peak:.1e}); remove it or record it again.")
    return samples * np.float32(PEAK / peak) if peak_normalize else samples


def _read_checked_mel(path: Path, contract: MelConfig) -> tuple[Float32[np.ndarray, "mels frames"], tuple[str, ...]]:
    """The mel at `path`, and the warnings of `check_mel`."""
    mel = read_mel(path, contract.num_mels)
    try:
        lines = check_mel(mel, contract)
    except MelError as failure:
        raise MelError(f"{path}: {failure}") from failure
    return mel, tuple(line.partition(" (")[0] for line in lines)


def _check_size(name: str, frames: int, phones: int, max_frames: int | None, max_phones: int | None) -> None:
    if max_frames is not None and frames > max_frames:
        raise AlignmentError(
            "too long", f"{name} has {frames} frames; it should have at most {max_frames}. Cut it or raise the limit."
        )
    if max_phones is not None and phones > max_phones:
        raise AlignmentError(
            "too long", f"{name} has {phones} phones; it should have at most {max_phones}. Cut it or raise the limit."
        )

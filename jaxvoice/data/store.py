"""The audio of a corpus as 16-bit integers, in memory or memory-mapped, ready to be cut into crops."""

import hashlib
import json
import logging
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int16

from jaxvoice.data.audio import audio_info, read_audio
from jaxvoice.data.corpora import Corpus
from jaxvoice.data.folders import cache_folder, folder_in_the_making, remove_folder
from jaxvoice.data.layouts import Utterance
from jaxvoice.data.mels import read_mel
from jaxvoice.data.threads import map_in_threads
from jaxvoice.errors import DataError

PEAK = 0.95  # HiFi-GAN, meldataset.py: librosa.util.normalize(audio) * 0.95
_VERSION = 1
_INDEX, _AUDIO, _MELS = "index.json", "audio.i16", "mels.f32"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Store:
    """Clips (samples,) int16 at `sample_rate` (Hz), with `gains` (clips,): what one integer step of each is worth.

    `clips[i] * gains[i]` is the waveform, full scale at 1. `mels[i]` (mels, frames) are the given mel spectrograms,
    where the corpus consists of pairs. `folder` is where the clips are memory-mapped from, `None` if in memory.
    """

    corpus: Corpus
    sample_rate: int
    clips: Sequence[Int16[np.ndarray, " _"]]
    gains: Float32[np.ndarray, " clips"]
    mels: Sequence[Float32[np.ndarray, "mels _"]] | None = None
    folder: Path | None = None

    def __len__(self) -> int:
        return len(self.clips)

    def waveform(self, index: int) -> Float32[np.ndarray, " samples"]:
        """The whole clip `index` as it is trained on, full scale at 1."""
        return self.clips[index].astype(np.float32) * self.gains[index]

    @property
    def seconds(self) -> float:
        return sum(len(clip) for clip in self.clips) / self.sample_rate


class _Clip(NamedTuple):
    samples: Int16[np.ndarray, " samples"]
    step: float
    mel: Float32[np.ndarray, "mels frames"] | None


def load_store(
    corpus: Corpus,
    sample_rate: int,
    *,
    peak_normalize: bool = True,
    memory_limit: int = 4 * 2**30,
    cache: str | Path | None = None,
    threads: int | None = None,
    progress: bool = False,
) -> Store:
    """Decode and resample every clip of `corpus` to 16 bit at `sample_rate` (Hz).

    With `peak_normalize` the gains bring every clip's peak to 0.95, as HiFi-GAN does before it crops; without, clips
    keep their level, as it does when fine-tuning on given mels. Up to `memory_limit` bytes stay in memory. Larger
    corpora go once to a folder below `cache` (by default the user's cache folder) and are memory-mapped; the folder
    is found again as long as the files' names, sizes, times and the rate are the same.

    **Raises:** `AudioError` or `MelError` for a file that the preflight would reject, `DataError` if `corpus` is empty
    or the cache cannot be written.
    """
    if not corpus.utterances:
        raise DataError(f"The corpus {corpus.root} has no utterances; there is nothing to load.")
    paired = [utterance for utterance in corpus.utterances if utterance.mel_path is not None]
    if paired and len(paired) < len(corpus):
        raise DataError(f"Only {len(paired)} of the {len(corpus)} utterances of {corpus.root} have a mel spectrogram.")
    if _expected_bytes(corpus, sample_rate) <= memory_limit:
        clips = list(_clips(corpus, sample_rate, threads, progress))
        mels = [clip.mel for clip in clips if clip.mel is not None]
        samples = [clip.samples for clip in clips]
        gains = _gains((_peak(clip) for clip in samples), (clip.step for clip in clips), peak_normalize)
        return Store(corpus, sample_rate, samples, gains, mels if paired else None)
    folder = Path(cache).expanduser() if cache is not None else cache_folder("corpora")
    folder = folder / _fingerprint(corpus, sample_rate)
    index = _read_index(folder)
    if index is None:
        if folder.exists():
            _log.warning("%s is damaged; making it again", folder)
            remove_folder(folder)
        try:
            with folder_in_the_making(folder) as making:
                _write(making, _clips(corpus, sample_rate, threads, progress))
        except OSError as failure:
            needed = _expected_bytes(corpus, sample_rate) / 2**30
            raise DataError(
                f"The audio cache {folder} ({needed:.1f} GiB) cannot be written ({failure.strerror}); "
                "choose another folder for it or raise the memory limit."
            ) from failure
        index = _read_index(folder)
        if index is None:
            raise DataError(f"The audio cache {folder} was damaged while it was written; delete it and try again.")
    return _mapped(corpus, sample_rate, folder, index, peak_normalize)


def to_int16(samples: Float[np.ndarray, " samples"]) -> tuple[Int16[np.ndarray, " samples"], float]:
    """Round to 16 bit; returns the integers and what one of their steps is worth.

    That is 1/32768, or more for samples beyond full scale, which are scaled down rather than clipped.
    """
    top, bottom = float(samples.max(initial=0.0)), float(samples.min(initial=0.0))
    if round(top * 32768) <= 32767 and round(bottom * 32768) >= -32768:
        return np.rint(samples * np.float32(32768)).astype(np.int16), 1 / 32768
    peak = max(top, -bottom)
    return np.rint(samples * np.float32(32767 / peak)).astype(np.int16), peak / 32767


def _decode(utterance: Utterance, sample_rate: int) -> _Clip:
    samples, step = to_int16(read_audio(utterance.path, sample_rate).samples)
    return _Clip(samples, step, None if utterance.mel_path is None else read_mel(utterance.mel_path))


def _clips(corpus: Corpus, sample_rate: int, threads: int | None, progress: bool) -> Iterable[_Clip]:
    title = "loading audio" if progress else None
    return map_in_threads(lambda utterance: _decode(utterance, sample_rate), corpus.utterances, threads, title)


def _peak(samples: Int16[np.ndarray, " samples"]) -> int:
    return max(int(samples.max(initial=0)), -int(samples.min(initial=0)))


def _gains(peaks: Iterable[int], steps: Iterable[float], peak_normalize: bool) -> Float32[np.ndarray, " clips"]:
    pairs = zip(peaks, steps, strict=True)
    return np.array([PEAK / peak if peak_normalize and peak else step for peak, step in pairs], dtype=np.float32)


def _expected_bytes(corpus: Corpus, sample_rate: int) -> int:
    total = 0
    for utterance in corpus.utterances:
        total += math.ceil(2 * sample_rate * audio_info(utterance.path).seconds)
        if utterance.mel_path is not None:
            total += utterance.mel_path.stat().st_size
    return total


def _fingerprint(corpus: Corpus, sample_rate: int) -> str:
    digest = hashlib.sha256(f"{_VERSION} {sample_rate}".encode())
    for utterance in corpus.utterances:
        for path in filter(None, (utterance.path, utterance.mel_path)):
            stat = path.stat()
            digest.update(os.fsencode(f"\n{path.resolve()}\t{stat.st_size}\t{stat.st_mtime_ns}"))
    return digest.hexdigest()[:24]


def _write(folder: Path, clips: Iterable[_Clip]) -> None:
    index: dict[str, Any] = {"lengths": [], "peaks": [], "steps": [], "frames": [], "num_mels": 0}
    with (folder / _AUDIO).open("wb") as audio, (folder / _MELS).open("wb") as mels:
        for clip in clips:
            audio.write(clip.samples.tobytes())
            index["lengths"].append(len(clip.samples))
            index["peaks"].append(_peak(clip.samples))
            index["steps"].append(clip.step)
            if clip.mel is not None:
                mels.write(clip.mel.tobytes())
                index["num_mels"], frames = clip.mel.shape
                index["frames"].append(frames)
    (folder / _INDEX).write_text(json.dumps(index), encoding="utf-8")


def _read_index(folder: Path) -> dict[str, Any] | None:
    """The index of a whole cache folder; `None` if there is none, or files do not have the sizes it says."""
    try:
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        whole = (folder / _AUDIO).stat().st_size == 2 * sum(index["lengths"])
        whole &= (folder / _MELS).stat().st_size == 4 * index["num_mels"] * sum(index["frames"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return index if whole else None


def _mapped(corpus: Corpus, sample_rate: int, folder: Path, index: dict[str, Any], peak_normalize: bool) -> Store:
    clips = _views(folder / _AUDIO, np.int16, [(length,) for length in index["lengths"]])
    gains = _gains(index["peaks"], index["steps"], peak_normalize)
    shapes = [(index["num_mels"], frames) for frames in index["frames"]]
    return Store(corpus, sample_rate, clips, gains, _views(folder / _MELS, np.float32, shapes) or None, folder)


def _views(path: Path, dtype: type, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    if not shapes:
        return []
    whole = np.asarray(np.memmap(path, dtype=dtype, mode="r"))
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    return [part.reshape(shape) for part, shape in zip(np.split(whole, ends[:-1]), shapes, strict=True)]

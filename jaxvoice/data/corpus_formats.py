"""Formats of corpora of recordings: one function for each format lists the utterances of a folder."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxvoice.data.listed_audio import AUDIO_FOLDERS, AUDIO_SUFFIXES, has_stem, list_ids, locate, with_stem
from jaxvoice.data.listings import Line, Listing, read_lists
from jaxvoice.data.utterances import Utterance
from jaxvoice.errors import DataError

VCTK_FOLDERS = ("wav48_silence_trimmed", "wav48")
_UNREADABLE_SUFFIXES = (".m4a", ".mp4", ".aac", ".wma", ".webm", ".amr", ".3gp", ".sph")


def is_audio(path: Path) -> bool:
    """Whether `path` has the suffix of an audio file and is not hidden."""
    return path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith(".")


class Recordings(NamedTuple):
    """The utterances of a corpus, the ids that it holds out for validation, and the fields of its lists.

    `places` are the places of the utterances in the lists, for messages; without lists, they are empty.
    """

    utterances: list[Utterance]
    validation_ids: frozenset[str] = frozenset()
    fields: str = ""
    places: Sequence[str] = ()


def ljspeech(root: Path, audio_dir: Path | None = None) -> Recordings:
    """List the utterances of `metadata.csv` and `wavs/`, in the order of `metadata.csv` (LJSpeech 1.1).

    **Raises:** `DataError` if one of the two is missing, or the listing is not UTF-8 text.
    """
    listing, folder = root / "metadata.csv", audio_dir or root / "wavs"
    folders = [audio_dir] if audio_dir else [folder, root]
    (read,) = read_lists([listing], folders, normalized=True) if listing.is_file() else [Listing([], "")]
    lines = read.lines
    files = locate([line.name for line in lines], folders)
    if files is None:
        if not listing.is_file() or not folder.is_dir():
            raise DataError(f"{root} is not laid out like LJSpeech: looked for {listing} and the folder {folder}.")
        files = {line.name: with_stem(folder, line.name) for line in lines}
    ids = (_without_audio_folder(name) for name in list_ids([line.name for line in lines]))
    found = [_utterance(name, files[line.name], line) for name, line in zip(ids, lines, strict=True)]
    return Recordings(found, fields=read.fields, places=[line.place for line in lines])


def _without_audio_folder(name: str) -> str:
    first, _, rest = name.partition("/")
    return rest if rest and first in AUDIO_FOLDERS else name


def vctk(root: Path) -> list[Utterance]:
    """List `<speaker>/<utterance>` below `root` or one of `VCTK_FOLDERS`, with texts in `txt/` (VCTK 0.80 and 0.92).

    **Raises:** `DataError` if `root` is not a folder, or has no audio in folders of speakers.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; pass the folder of VCTK. The kind of a list of files is 'filelist'.")
    top = next((root / name for name in VCTK_FOLDERS if (root / name).is_dir()), root)
    utterances = []
    for folder in sorted(path for path in top.iterdir() if path.is_dir() and not path.name.startswith(".")):
        stems = {path.stem for path in folder.iterdir() if is_audio(path)}
        for path in sorted(path for path in folder.iterdir() if is_audio(path)):
            name = path.stem.removesuffix("_mic1").removesuffix("_mic2")
            if path.stem.endswith("_mic2") and f"{name}_mic1" in stems:
                continue
            written = root / "txt" / folder.name / f"{name}.txt"
            text = written.read_text(encoding="utf-8-sig", errors="replace").strip() if written.is_file() else ""
            utterances.append(Utterance(f"{folder.name}/{name}", path, text, folder.name))
    if not utterances:
        raise DataError(f"{root} is not laid out like VCTK: looked for audio as {top / '<speaker>' / '<utterance>'}.")
    return utterances


def filelist(root: Path, audio_dir: Path | None) -> Recordings:
    """List the utterances of a list of recordings (see `read_lists`), or of HiFi-GAN's `training.txt` and
    `validation.txt`, and the ids that the latter holds out.

    **Raises:** `DataError` if there is no list, it is empty or not UTF-8 text, or none of its first files is found.
    """
    if root.is_file():
        if is_audio(root):
            raise DataError(f"{root} is a recording, not a list of recordings. Its kind is 'folder'.")
        return _listed([root], audio_dir)
    training, validation = root / "training.txt", root / "validation.txt"
    if not training.is_file():
        raise DataError(f"{root} has no file list: looked for {training}. Pass the path of the list, or another kind.")
    if not validation.is_file():
        return _listed([training], audio_dir)
    return _listed([training, validation], audio_dir)


def pairs(root: Path, audio_dir: Path | None) -> list[Utterance]:
    """List mel spectrograms with their audio, for fine-tuning, sorted by stem.

    **Raises:** `DataError` if there is no `.npy` file.
    """
    mels = root / "mels" if (root / "mels").is_dir() else root
    paths = sorted(mels.glob("*.npy"))
    if not paths:
        raise DataError(f"{root} has no mel spectrograms: looked for {root / 'mels' / '*.npy'} and {root / '*.npy'}.")
    options = [audio_dir] if audio_dir else [root / "wavs", root / "audio", root]
    folder = next((option for option in options if has_stem(option, paths[0].stem)), options[0])
    return [Utterance(path.stem, with_stem(folder, path.stem), mel=path) for path in paths]


def any_folder(root: Path) -> list[Utterance]:
    """List every audio file below `root`, sorted by its path relative to `root`, or `root` itself if it is one.

    **Raises:** `DataError` if `root` is not a folder or an audio file, or contains no audio in a supported format.
    """
    if root.is_file() and is_audio(root):
        return [Utterance(root.stem, root)]
    if not root.is_dir():
        raise DataError(
            f"{root} is not a folder or a recording; pass a folder of recordings. The kind of a list of files is "
            "'filelist'."
        )
    everything = sorted(_walk(root), key=lambda path: path.relative_to(root).as_posix())
    paths = [path for path in everything if is_audio(path)]
    if not paths:
        others = Counter(path.suffix.lower() for path in everything)
        unreadable = [f"{others[suffix]} {suffix}" for suffix in _UNREADABLE_SUFFIXES if others[suffix]]
        hint = f" {', '.join(unreadable)} file(s) cannot be read; convert them to WAV or FLAC." if unreadable else ""
        raise DataError(f"No audio below {root}: looked for {', '.join(AUDIO_SUFFIXES)} in all its folders.{hint}")
    relative = [path.relative_to(root) for path in paths]
    names = Counter(path.with_suffix("").as_posix() for path in relative)
    speakers = {path.parts[0] for path in relative if len(path.parts) > 1}
    utterances = []
    for path, inside in zip(paths, relative, strict=True):
        name = inside.with_suffix("").as_posix()
        speaker = inside.parts[0] if len(inside.parts) > 1 and len(speakers) > 1 else ""
        utterances.append(Utterance(name if names[name] == 1 else inside.as_posix(), path, speaker=speaker))
    return utterances


def _listed(listings: list[Path], audio_dir: Path | None) -> Recordings:
    """The utterances of `listings`, lists in the same folder. The second one is that of the validation."""
    folder = listings[0].parent
    folders = [audio_dir] if audio_dir else [folder / "wavs", folder]
    lists = read_lists(listings, folders)
    ids = iter(list_ids([line.name for read in lists for line in read.lines]))
    parts: list[list[Utterance]] = []
    for listing, (lines, _) in zip(listings, lists, strict=True):
        files = locate([line.name for line in lines], folders)
        if files is None:
            looked = " and ".join(str(with_stem(option, lines[0].name)) for option in folders)
            raise DataError(
                f"{listing} names audio that is missing: looked for {looked}. Pass the folder of the audio "
                "(audio_dir, --audio-dir)."
            )
        parts.append([_utterance(next(ids), files[line.name], line) for line in lines])
    return Recordings(
        [utterance for part in parts for utterance in part],
        frozenset(utterance.id for part in parts[1:] for utterance in part),
        "; ".join(dict.fromkeys(read.fields for read in lists)),
        [line.place for read in lists for line in read.lines],
    )


def _utterance(name: str, path: Path, line: Line) -> Utterance:
    return Utterance(name, path, line.text, line.speaker, language=line.language)


def _walk(root: Path) -> Iterator[Path]:
    """Yield every visible file below `root`. Links are followed, and every folder is visited once."""
    seen = set()
    for folder, inner, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            inner.clear()
            continue
        seen.add(real)
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        yield from (Path(folder, name) for name in files if not name.startswith("."))

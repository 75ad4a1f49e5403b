"""Formats of corpora of recordings: one function for each format lists the utterances of a folder."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from jaxvoice.data.utterances import Utterance
from jaxvoice.errors import DataError

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff")
VCTK_FOLDERS = ("wav48_silence_trimmed", "wav48")
_UNREADABLE_SUFFIXES = (".m4a", ".mp4", ".aac", ".wma", ".webm", ".amr", ".3gp", ".sph")


def is_audio(path: Path) -> bool:
    """Whether `path` has the suffix of an audio file and is not hidden."""
    return path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith(".")


def ljspeech(root: Path) -> list[Utterance]:
    """List the utterances of `metadata.csv` and `wavs/`, in the order of `metadata.csv` (LJSpeech 1.1).

    **Raises:** `DataError` if one of the two is missing, or the listing is not UTF-8 text.
    """
    listing, folder = root / "metadata.csv", root / "wavs"
    if not listing.is_file() or not folder.is_dir():
        raise DataError(f"{root} is not laid out like LJSpeech: looked for {listing} and the folder {folder}.")
    utterances = []
    for fields in _rows(listing):
        text = next((field for field in reversed(fields[1:3]) if field), "")
        speaker = fields[3] if len(fields) > 3 else ""
        utterances.append(Utterance(_without_suffix(fields[0]), _with_stem(folder, fields[0]), text, speaker))
    return utterances


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


def filelist(root: Path, audio_dir: Path | None) -> tuple[list[Utterance], frozenset[str]]:
    """List the utterances of HiFi-GAN's lists of lines `stem|...`, and the ids that `validation.txt` holds out.

    **Raises:** `DataError` if there is no list, it is empty or not UTF-8 text, or none of its first files is found.
    """
    if root.is_file():
        return _listed(root, audio_dir), frozenset()
    training, validation = root / "training.txt", root / "validation.txt"
    if not training.is_file():
        raise DataError(f"{root} has no file list: looked for {training}. Pass the path of the list, or another kind.")
    utterances = _listed(training, audio_dir)
    held_out = _listed(validation, audio_dir) if validation.is_file() else []
    return utterances + held_out, frozenset(utterance.id for utterance in held_out)


def pairs(root: Path, audio_dir: Path | None) -> list[Utterance]:
    """List mel spectrograms with their audio, for fine-tuning, sorted by stem.

    **Raises:** `DataError` if there is no `.npy` file.
    """
    mels = root / "mels" if (root / "mels").is_dir() else root
    paths = sorted(mels.glob("*.npy"))
    if not paths:
        raise DataError(f"{root} has no mel spectrograms: looked for {root / 'mels' / '*.npy'} and {root / '*.npy'}.")
    options = [audio_dir] if audio_dir else [root / "wavs", root / "audio", root]
    folder = next((option for option in options if _has_stem(option, paths[0].stem)), options[0])
    return [Utterance(path.stem, _with_stem(folder, path.stem), mel=path) for path in paths]


def any_folder(root: Path) -> list[Utterance]:
    """List every audio file below `root`, sorted by its path relative to `root`.

    **Raises:** `DataError` if `root` is not a folder, or contains no audio in a supported format.
    """
    if not root.is_dir():
        raise DataError(
            f"{root} is not a folder; pass a folder of recordings. The kind of a list of files is 'filelist'."
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


def _listed(listing: Path, audio_dir: Path | None) -> list[Utterance]:
    rows = list(_rows(listing))
    if not rows:
        raise DataError(f"{listing} lists nothing; it should contain one utterance per line, as 'stem|text'.")
    options = [audio_dir] if audio_dir else [listing.parent / "wavs", listing.parent]
    folder = next((option for option in options if any(_has_stem(option, row[0]) for row in rows[:100])), None)
    if folder is None:
        looked = " and ".join(str(_with_stem(option, rows[0][0])) for option in options)
        raise DataError(f"{listing} names audio that is missing: looked for {looked}. Pass the folder of the audio.")
    return [
        Utterance(_without_suffix(row[0]), _with_stem(folder, row[0]), row[1] if len(row) > 1 else "") for row in rows
    ]


def _rows(listing: Path) -> Iterator[list[str]]:
    try:
        lines = listing.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as failure:
        raise DataError(f"{listing} cannot be read as UTF-8 text ({failure}); check the file.") from failure
    for line in lines:
        fields = [field.strip() for field in line.split("|")]
        if fields[0]:
            yield fields


def _without_suffix(name: str) -> str:
    path = Path(name)
    return path.with_suffix("").as_posix() if path.suffix.lower() in AUDIO_SUFFIXES else path.as_posix()


def _with_stem(folder: Path, name: str) -> Path:
    """The audio file `name` (with or without suffix) in `folder`; the path of a WAV file if there is none."""
    if Path(name).suffix.lower() in AUDIO_SUFFIXES:
        return folder / name
    options = [folder / f"{name}{suffix}" for suffix in AUDIO_SUFFIXES]
    return next((path for path in options if _is_file(path)), options[0])


def _has_stem(folder: Path, name: str) -> bool:
    return _is_file(_with_stem(folder, name))


def _is_file(path: Path) -> bool:
    """Whether `path` is a file. `Path.is_file` raises for names that the system refuses, such as too long ones."""
    return os.path.isfile(path)


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

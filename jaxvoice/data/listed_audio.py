"""The audio files that lists name: their paths, the search for them, and ids."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff")
AUDIO_FOLDERS = ("wavs", "wav", "audio")
SAMPLED = 100  # lines from which the folder of the audio is determined
_MOST_FOLDERS = 8  # folders of a listed path that are left out


class AudioPath(NamedTuple):
    """The names of a path of POSIX or Windows without `..`, and whether the path is absolute."""

    absolute: bool
    parts: tuple[str, ...]


def locate(names: Sequence[str], folders: Sequence[Path]) -> dict[str, Path] | None:
    """The audio file of each of `names`, paths in a list; `None` if none of the first ones is found.

    Files are searched in each of `folders`, with the folders in the names, and then without the first ones of them, if
    the names stay different. The same folder, and the same number of folders left out, are used for all names.
    """
    sample = list(dict.fromkeys(names))[:SAMPLED]
    deepest = max((len(audio_path(name).parts) for name in sample), default=0)
    best, most = None, 0
    for dropped in range(min(deepest, _MOST_FOLDERS) + 1):  # the last one leaves out a path with `..`
        if dropped and len({_inside(name, dropped) for name in names}) < len(set(names)):
            break
        for folder in folders:
            if (count := count_found(sample, folder, dropped)) > most:
                best, most = (folder, dropped), count
        if most == len(sample):
            break
    if best is None:
        return None
    folder, dropped = best
    return {name: with_stem(folder, _inside(name, dropped)) for name in names}


def count_found(names: Sequence[str], folder: Path, dropped: int) -> int:
    """The number of `names` whose audio is in `folder`, without the first `dropped` folders of the names."""
    return sum(has_stem(folder, _inside(name, dropped)) for name in names)


def _inside(name: str, dropped: int) -> str:
    """The path `name` without its first `dropped` folders, with `/` between names."""
    if not dropped:
        return name.replace("\\", "/")
    parts = audio_path(name).parts
    return "/".join(parts[min(dropped, len(parts) - 1) :])


def list_ids(names: Sequence[str]) -> list[str]:
    """The ids of listed paths: without suffix, and without the folders that all absolute paths share."""
    paths = [audio_path(name) for name in names]
    shared = shared_folders([path.parts for path in paths if path.absolute])
    return ["/".join(path.parts[len(shared) if path.absolute else 0 :]) for path in paths]


def audio_path(name: str) -> AudioPath:
    """The names in the path `name`, of POSIX or Windows, without `..` and the suffix of the audio file.

    The first names of an absolute path of Windows are its drive, or its server and share.
    """
    path = PureWindowsPath(name)  # parses drives and both kinds of slashes
    if path.drive and not path.root:
        path = PureWindowsPath(f"./{name}")  # "a:1" is a file name, "a:/1" is on a drive
    names = [part for part in path.drive.replace("\\", "/").split("/") if part]
    drive = len(names)
    for part in path.parts[bool(path.anchor) :]:
        if part != "..":
            names.append(part)
        elif len(names) > drive:
            names.pop()
    if len(names) > drive and PurePosixPath(names[-1]).suffix.lower() in AUDIO_SUFFIXES:
        names[-1] = PurePosixPath(names[-1]).stem
    return AudioPath(bool(path.anchor), tuple(names))


def shared_folders(paths: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The folders with which all `paths` start."""
    if not paths:
        return ()
    first, last = min(path[:-1] for path in paths), max(path[:-1] for path in paths)
    same = next((place for place, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), None)
    return first[:same] if same is not None else min(first, last, key=len)


def with_stem(folder: Path, name: str) -> Path:
    """The audio file `name` in `folder`, with or without suffix, whose case may differ; else the path of a WAV file."""
    stem, suffix = os.path.splitext(name)
    if suffix.lower() not in AUDIO_SUFFIXES:
        stem, suffix = name, ""
    options = [folder / f"{stem}{option}" for option in _spellings(suffix)]
    return next((path for path in options if is_file(path)), options[0])


def _spellings(suffix: str) -> Iterator[str]:
    yield from (suffix,) if suffix else ()
    for option in (suffix.lower(),) if suffix else AUDIO_SUFFIXES:
        yield from (option, option.upper(), f".{option[1:].capitalize()}")


def has_stem(folder: Path, name: str) -> bool:
    """Whether the audio file `name` is in `folder`, with or without suffix."""
    return is_file(with_stem(folder, name))


def is_file(path: Path) -> bool:
    """Whether `path` is a file. `Path.is_file` raises for names that the system refuses, such as too long ones."""
    try:
        return os.path.isfile(path)
    except ValueError:
        return False

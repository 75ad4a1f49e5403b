"""Find corpora of recordings on disk; `find_aligned` finds corpora with alignments."""

import os
import stat
from collections import Counter
from pathlib import Path
from typing import Literal

from jaxvoice.data import corpus_formats
from jaxvoice.data.utterances import Corpus
from jaxvoice.errors import DataError

RecordedKind = Literal["ljspeech", "vctk", "folder", "filelist", "pairs"]
_KINDS: tuple[RecordedKind, ...] = ("ljspeech", "vctk", "folder", "filelist", "pairs")


def find_corpus(
    root: str | Path, kind: RecordedKind | Literal["auto"] = "auto", audio_dir: str | Path | None = None
) -> Corpus:
    """List the utterances of the corpus of recordings at `root`, without opening audio files.

    - `ljspeech`: `metadata.csv` (`id|text|normalised text`, optionally with the speaker as fourth field) and `wavs/`.
    - `vctk`: `<speaker>/<utterance>`, also below `wav48_silence_trimmed/` or `wav48/` with texts in `txt/`. Only the
      first of two microphones is listed.
    - `filelist`: a text file with one utterance in each line; or a folder with `training.txt` and `validation.txt`. A
      line is `audio|text`, `audio|speaker|text` or `audio|text|speaker`, a JSON object as in NeMo (`audio_filepath`,
      `text` and `speaker`), or a row of a table with a header such as `path|text`, separated by `|`, tabs or commas.
      `audio` is a stem or a path, of POSIX or Windows. The audio is in `audio_dir`, else in `wavs/` beside the list, or
      beside the list itself. If it is not there under its path, the first folders of the path are left out.
    - `pairs`: `mels/*.npy`, and audio of the same stem in `audio_dir`, else in `wavs/`, `audio/` or `root`.
    - `folder`: every audio file below `root`; the first folder in its path is the speaker. `root` may be one file.

    `metadata.csv` may have any form of a list too. An id is the listed path without suffix, and without the folders
    that all absolute paths share. Suffixes may be in upper case.

    An audio file that a list names is listed even if it is missing. The preflight reports it.

    **Raises:** `DataError`, with the expected names, if no utterance is found or `root` does not exist.
    """
    root = _home_expanded(root)
    if kind != "auto" and kind not in _KINDS:
        raise DataError(f"kind is {kind!r}; it should be 'auto' or one of {', '.join(_KINDS)}.")
    _check_root(root)
    folder = None if audio_dir is None else _home_expanded(audio_dir)
    if folder is not None and not folder.is_dir():
        raise DataError(f"The folder of audio {folder} does not exist; check the path.")
    found = detect(root) if kind == "auto" else kind
    validation: frozenset[str] = frozenset()
    match found:
        case "ljspeech":
            utterances = corpus_formats.ljspeech(root, folder)
        case "vctk":
            utterances = corpus_formats.vctk(root)
        case "filelist":
            utterances, validation = corpus_formats.filelist(root, folder)
        case "pairs":
            utterances = corpus_formats.pairs(root, folder)
        case _:
            utterances = corpus_formats.any_folder(root)
    if not utterances:
        raise DataError(f"{root} contains no utterances of a corpus of kind {found!r}; check the path and the kind.")
    repeated = [name for name, count in Counter(utterance.id for utterance in utterances).items() if count > 1]
    if repeated:
        raise DataError(
            f"{root} lists {len(repeated)} utterance(s) more than once, for example {repeated[0]!r}; "
            "remove the repeated lines or files."
        )
    return Corpus(found, root, tuple(utterances), validation_ids=validation)


def _home_expanded(path: str | Path) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as failure:
        raise DataError(f"{path} cannot be found: {failure} Check the path.") from failure


def _check_root(root: Path) -> None:
    try:
        mode = root.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"There is no corpus at {root}: no such file or folder; check the path.") from None
    except OSError as failure:
        raise DataError(f"There is no corpus at {root}: {failure.strerror}; check the path.") from failure
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise DataError(f"There is no corpus at {root}: it is neither a folder nor a regular file; check the path.")


def detect(root: Path) -> RecordedKind:
    """The kind of the corpus at `root`, from the names of its files and folders (see `find_corpus`)."""
    if root.is_file():
        return "folder" if corpus_formats.is_audio(root) else "filelist"
    mels = root / "mels"
    if mels.is_dir() and any(mels.glob("*.npy")):
        return "pairs"
    if (root / "metadata.csv").is_file():
        return "ljspeech"
    if (root / "training.txt").is_file():
        return "filelist"
    if any((root / name).is_dir() for name in corpus_formats.VCTK_FOLDERS):
        return "vctk"
    with os.scandir(root) as entries:
        inside = sorted(entries, key=lambda entry: entry.name)
    speakers = [entry for entry in inside if entry.is_dir() and not entry.name.startswith(".")]
    if len(speakers) > 1 and not any(corpus_formats.is_audio(Path(entry.path)) for entry in inside):
        holds_audio = [any(corpus_formats.is_audio(path) for path in Path(entry.path).iterdir()) for entry in speakers]
        nested = any(child.is_dir() for entry in speakers for child in Path(entry.path).iterdir())
        if all(holds_audio) and not nested:
            return "vctk"
    return "folder"

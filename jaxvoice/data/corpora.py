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
_SHOWN = 4  # utterances with the same id in a message
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
      The columns of a list without a header are recognised by their values, and `list_fields` of the corpus states
      them. `audio` is a stem or a path, of POSIX or Windows. The audio is in `audio_dir`, else in `wavs/` beside the
      list, or beside the list itself. If it is not there under its path, the first folders of the path are left out.
    - `pairs`: `mels/*.npy`, and audio of the same stem in `audio_dir`, else in `wavs/`, `audio/` or `root`.
    - `folder`: every audio file below `root`; the first folder in its path is the speaker. `root` may be one file.

    `metadata.csv` may have any form of a list too. An id is the listed path without suffix, and without the folders
    that all absolute paths share. Suffixes may be in upper case.

    An audio file that a list names is listed even if it is missing. The preflight reports it.

    **Raises:** `DataError`, with the expected names, if no utterance is found or `root` does not exist, and with lines
    or files, if a line of a list has another number of fields than the others, or two utterances have the same id.
    """
    root = _home_expanded(root)
    if kind != "auto" and kind not in _KINDS:
        raise DataError(f"kind is {kind!r}; it should be 'auto' or one of {', '.join(_KINDS)}.")
    _check_root(root)
    folder = None if audio_dir is None else _home_expanded(audio_dir)
    if folder is not None and not folder.is_dir():
        raise DataError(f"The folder of audio {folder} does not exist; check the path.")
    found = detect(root) if kind == "auto" else kind
    match found:
        case "ljspeech":
            read = corpus_formats.ljspeech(root, folder)
        case "vctk":
            read = corpus_formats.Recordings(corpus_formats.vctk(root))
        case "filelist":
            read = corpus_formats.filelist(root, folder)
        case "pairs":
            read = corpus_formats.Recordings(corpus_formats.pairs(root, folder))
        case _:
            read = corpus_formats.Recordings(corpus_formats.any_folder(root))
    if not read.utterances:
        raise DataError(f"{root} contains no utterances of a corpus of kind {found!r}; check the path and the kind.")
    _check_ids(root, read)
    return Corpus(found, root, tuple(read.utterances), validation_ids=read.validation_ids, list_fields=read.fields)


def _check_ids(root: Path, read: corpus_formats.Recordings) -> None:
    """**Raises:** `DataError`, with lines or files, if utterances have the same id."""
    counts = Counter(utterance.id for utterance in read.utterances)
    repeated = [name for name, count in counts.items() if count > 1]
    if not repeated:
        return
    same = [place for place, utterance in enumerate(read.utterances) if utterance.id == repeated[0]]
    files = [str(read.utterances[place].audio) for place in same]
    where = [f"{read.places[place]}: {file}" if read.places else file for place, file in zip(same, files, strict=True)]
    shown = "; ".join(where[:_SHOWN]) + (f"; and {len(where) - _SHOWN} more" if len(where) > _SHOWN else "")
    if len(set(files)) == 1:
        raise DataError(
            f"{root} lists {len(repeated)} recording(s) more than once. The first is {repeated[0]!r} ({shown}). Keep "
            "one line for each recording."
        )
    raise DataError(
        f"{root} has {len(repeated)} id(s) that belong to several recordings. The first is {repeated[0]!r} ({shown}). "
        "An id is the path without its suffix; rename these recordings, or remove all but one."
    )


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

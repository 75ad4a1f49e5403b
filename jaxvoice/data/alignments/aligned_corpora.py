"""Find corpora with alignments on disk."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

from jaxvoice.data.alignments.alignment import AlignmentError, Interval, align_intervals
from jaxvoice.data.alignments.filelist import (
    ListedUtterance,
    is_filelist,
    parse_line,
    read_filelist,
    utterance_ids,
)
from jaxvoice.data.alignments.mfa_files import is_mfa_json, is_mfa_table, read_mfa_json, read_mfa_table
from jaxvoice.data.alignments.phone_mapping import arpabet_parts, demo_alignment
from jaxvoice.data.alignments.text_files import read_labels, read_lj_aligned, read_table
from jaxvoice.data.alignments.textgrid import read_textgrid
from jaxvoice.data.audio import audio_info
from jaxvoice.data.corpora import find_corpus
from jaxvoice.data.corpus_formats import is_audio
from jaxvoice.data.demo.timings import read_timings
from jaxvoice.data.listed_audio import AUDIO_FOLDERS, AUDIO_SUFFIXES, is_file, with_stem
from jaxvoice.data.utterances import Corpus, RejectedUtterance, Utterance
from jaxvoice.dsp.mel_config import WAVEGLOW_MEL
from jaxvoice.errors import AudioError, DataError
from jaxvoice.text.phonemes import ALIGNED, PhoneSet

AlignedKind = Literal["lj_aligned", "textgrid", "labels", "table", "json", "filelist", "demo"]
_KINDS: tuple[AlignedKind, ...] = ("lj_aligned", "textgrid", "labels", "table", "json", "filelist", "demo")
LJ_VALIDATION = 100
_MOST_LISTS = 100  # files that are opened to find lists
_SUFFIXES: dict[str, str] = {
    "lj_aligned": ".json",
    "textgrid": ".TextGrid",
    "labels": ".lab",
    "table": ".csv",
    "json": ".json",
}
_OTHER_TABLES = ("metadata.csv", "alignment_analysis.csv")  # the latter is a report of the Montreal Forced Aligner


class _Source(NamedTuple):
    """An utterance whose alignment has not been read yet: its id, the path of the alignment, and other properties."""

    id: str
    path: Path
    audio: Path | None
    line: ListedUtterance | None = None
    text: str = ""
    speaker: str = ""

    @property
    def place(self) -> str:
        """The path of the alignment, with the number of its line in a list."""
        return f"{self.path}, line {self.line.row}" if self.line is not None else str(self.path)


def find_aligned(
    path: str | Path,
    kind: AlignedKind | Literal["auto"] = "auto",
    *,
    audio_dir: str | Path | None = None,
    phone_set: PhoneSet = ALIGNED,
) -> Corpus:
    """Read the alignments of the corpus at `path`, with phones of `phone_set`, without decoding audio or mels.

    - `lj_aligned`: `<id>.json` and `<id>.mel.npy` (see `read_lj_aligned`). The first 100 utterances are for validation,
      or the first twentieth of at most 200.
    - `textgrid`: `.TextGrid` files of Praat or the Montreal Forced Aligner (MFA), tier `phones`.
    - `labels`: `.lab` files of HTK or HTS. `table`: CSV files with `phone,start_s,end_s`, or of MFA. `json`: JSON files
      of MFA. CSV files of MFA do not contain the silence at the end, whose duration is read from the audio.
    - `filelist`: a text file with lines `text|starts|durations|codes|wav`, times in frames of 256 samples at 22,050 Hz.
    - `demo`: the demo corpus, with times exact to the sample.

    Files may be in folders below `path`. An id is the path relative to `path` without suffix, or, for a list, the path
    in the list without the folders that all lines share (see `utterance_ids`). The first folder in an id is the
    speaker. Audio with the name of the id, with or without its folders, is searched in `audio_dir`, else in `path` and
    in the folders `wavs`, `wav` and `audio` in it and beside it. `rejected` of the corpus contains the utterances that
    cannot be used.

    **Raises:** `DataError` if `path` does not exist, contains no such files, or none of them can be used.
    """
    root = Path(path).expanduser()
    if kind != "auto" and kind not in _KINDS:
        raise DataError(f"kind is {kind!r}; it should be 'auto' or one of {', '.join(_KINDS)}.")
    if not root.exists():
        raise DataError(f"There is no aligned corpus at {root}: no such file or folder; check the path.")
    folder = None if audio_dir is None else Path(audio_dir).expanduser()
    if folder is not None and not folder.is_dir():
        raise DataError(f"The folder of audio {folder} does not exist; check the path.")
    found = detect_aligned(root) if kind == "auto" else kind
    sources = list(_sources(found, root, folder))
    if not sources:
        raise DataError(
            f"{root} contains no files of an aligned corpus of kind {found!r}; check the path and the kind."
        )
    utterances: dict[str, Utterance] = {}
    places: dict[str, str] = {}
    rejected: list[RejectedUtterance] = []
    for source in sources:
        try:
            if source.id in utterances:
                raise AlignmentError(
                    "repeated",
                    f"{source.place} has the same id as {places[source.id]}, {source.id!r}, and was skipped. Remove or "
                    "rename one of them.",
                )
            utterances[source.id] = _read(found, source, phone_set)
            places[source.id] = source.place
        except DataError as failure:
            rejected.append(RejectedUtterance(source.id, getattr(failure, "kind", "broken"), str(failure)))
    corpus = Corpus(found, root, tuple(utterances.values()), tuple(rejected), phone_set=phone_set)
    if not utterances:
        raise DataError(f"None of the {len(rejected)} alignment(s) of {root} can be used:\n{corpus.table()}")
    if found == "lj_aligned":
        count = LJ_VALIDATION if len(corpus) > 2 * LJ_VALIDATION else max(1, len(corpus) // 20)
        held_out = frozenset(utterance.id for utterance in corpus.utterances[:count])
        return replace(corpus, validation_ids=held_out, mel=WAVEGLOW_MEL)
    return corpus


def detect_aligned(root: Path) -> AlignedKind:
    """The kind of the aligned corpus at `root`, from the names of its files and folders (see `find_aligned`).

    **Raises:** `DataError` if no kind matches.
    """
    if root.is_file():
        if is_audio(root):
            raise DataError(
                f"{root} is a recording without an alignment; pass the folder of its alignment, or align it first: "
                "`jaxvoice align` (docs/aligning.md)."
            )
        return "filelist"
    if (root / "timings").is_dir() and (root / "metadata.csv").is_file():
        return "demo"
    if next(root.rglob("*.mel.npy"), None) is not None:
        return "lj_aligned"
    for kind in ("textgrid", "labels", "table"):  # the Montreal Forced Aligner reads transcripts from .lab files too
        if next(_files(root, _SUFFIXES[kind]), None) is not None:
            return kind
    if any(is_mfa_json(path) for path in islice(_files(root, ".json"), _MOST_LISTS)):
        return "json"
    raise DataError(
        f"No alignments in {root}: looked for .TextGrid, .lab, .csv, .json with tiers, .mel.npy with .json, and "
        f"timings/ with metadata.csv, in all its folders; {_remedy(root)}."
    )


def _remedy(root: Path) -> str:
    """The remedy for a folder `root` without alignments, for the error message."""
    lists = sorted(path for path in root.glob("*") if path.suffix.lower() != ".npy" and path.is_file())
    if found := next(filter(is_filelist, lists[:_MOST_LISTS]), None):
        return f"it contains the list {found.name}: pass its path, {found}"
    if (root / "metadata.csv").is_file() or (_has(root, AUDIO_SUFFIXES) and _has(root, (".txt",))):
        return "align the recordings with their texts first: `jaxvoice align` (docs/aligning.md)"
    return "check the path"


def _has(root: Path, suffixes: tuple[str, ...]) -> bool:
    return any(path.suffix.lower() in suffixes for path in root.rglob("*"))


def _sources(kind: AlignedKind, root: Path, audio_dir: Path | None) -> Iterator[_Source]:
    if kind == "demo":
        for utterance in find_corpus(root, "ljspeech", audio_dir).utterances:
            path = root / "timings" / f"{utterance.id}.json"
            audio = utterance.audio if utterance.audio is not None and utterance.audio.is_file() else None
            yield _Source(utterance.id, path, audio, text=utterance.text, speaker=utterance.speaker)
    elif kind == "filelist":
        if not root.is_file():
            raise DataError(f"{root} is not a file; pass the path of the list of utterances.")
        lines = read_filelist(root)
        for line, name in zip(lines, utterance_ids(lines), strict=True):
            written = Path(line.audio.replace("\\", "/"))
            yield _Source(name, root, _audio((written, Path(name)), root.parent, audio_dir), line, line.text)
    else:
        if not root.is_dir():
            raise DataError(f"{root} is not a folder; pass the folder of the {_SUFFIXES[kind]} files.")
        for path in _files(root, _SUFFIXES[kind]):
            inside = path.relative_to(root).with_suffix("")
            yield _Source(inside.as_posix(), path, _audio((inside,), root, audio_dir))


def _read(kind: AlignedKind, source: _Source, phone_set: PhoneSet) -> Utterance:
    name, path, text, mel = source.id, source.path, source.text, None
    intervals: list[Interval]
    match kind:
        case "demo":
            alignment = demo_alignment(read_timings(path), phone_set)
            return Utterance(name, source.audio, text, source.speaker, alignment=alignment)
        case "textgrid":
            intervals = read_textgrid(path)
        case "labels":
            intervals = read_labels(path)
        case "table" if is_mfa_table(path):
            intervals = read_mfa_table(path, _seconds(source.audio))
        case "table":
            intervals = read_table(path)
        case "json":
            intervals = read_mfa_json(path)
        case "filelist":
            assert source.line is not None
            intervals = parse_line(source.line, path)
        case _:
            intervals, text = read_lj_aligned(path)
            given = path.with_suffix(".mel.npy")
            mel = given if given.is_file() else None
    speaker = Path(name).parts[0] if len(Path(name).parts) > 1 else ""
    alignment = align_intervals(name, intervals, arpabet_parts(phone_set))
    return Utterance(name, source.audio, text, speaker, alignment=alignment, mel=mel)


def _seconds(path: Path | None) -> float | None:
    """The duration of a recording, `None` if it cannot be read; loading the corpus rejects the recording."""
    try:
        return None if path is None else audio_info(path).seconds
    except AudioError:
        return None


def _files(root: Path, suffix: str) -> Iterator[Path]:
    """The visible files below `root` with `suffix` in any case, sorted by their path relative to `root`."""
    found = (
        path for path in root.rglob("*") if path.suffix.lower() == suffix.lower() and path.name not in _OTHER_TABLES
    )
    inside = ((path.relative_to(root).as_posix(), path) for path in found)
    yield from (path for name, path in sorted(inside) if not any(part.startswith(".") for part in name.split("/")))


def _audio(inside: tuple[Path, ...], root: Path, audio_dir: Path | None) -> Path | None:
    """The audio file with one of the names `inside`, with or without its folders."""
    folders = [root, *(base / name for name in AUDIO_FOLDERS for base in (root, root.parent))]
    for folder in folders if audio_dir is None else [audio_dir]:
        for name in dict.fromkeys((*inside, Path(inside[-1].name))):
            stem = name.with_suffix("") if name.suffix.lower() in AUDIO_SUFFIXES else name
            if is_file(found := with_stem(folder, stem.as_posix())):
                return found
    return None

"""`jaxvoice embed`: the embeddings of the speakers of recordings."""

import os
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Annotated

import tyro

from jaxvoice.cli._audio_files import AUDIO_SUFFIXES, input_files, split_output
from jaxvoice.cli._setup import printed_warnings, use_compilation_cache
from jaxvoice.console import print_message, print_text
from jaxvoice.errors import ConfigError, JaxvoiceError


@dataclass(frozen=True)
class Embed:
    """Compute the embeddings of the speakers of recordings, and write them to one file.

    A .json file has the form of coqui's speakers.json: {clip: {"name": speaker, "embedding": [...]}}. An .npz file
    contains the arrays clips, speakers and embeddings. A clip is named by its path below the folder that all files
    share, without suffix, and its speaker by the folder of the file.

    Embeddings identify voices, so treat them as personal data: docs/consent.md.
    """

    paths: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE ... OUTPUT", help_behavior_hint="")
    ]
    """Recordings (WAV, FLAC, OGG, MP3), or folders with recordings or with a folder for each speaker, followed by the
    .json or .npz file to write."""
    model: str
    """Speaker encoder: model folder, run folder, or Hub id (owner/name)."""
    speaker: str | None = None
    """Name of the speaker of all files; by default the name of the folder of each file."""
    debug: bool = False
    """Stop at the first error and show its traceback."""

    def run(self) -> int:
        """Write the embeddings; returns 2 if a file failed, else 0."""
        given, output = split_output(self.paths, "FILE")
        if output.suffix.lower() not in (".json", ".npz") or not output.absolute().parent.is_dir() or output.is_dir():
            raise ConfigError(f"OUTPUT is {output}; it should be a .json or .npz file in an existing folder.")
        files = input_files([folder for path in given for folder in _speaker_folders(path)])
        clips = clip_names(files)
        use_compilation_cache()
        import numpy as np
        from tqdm import tqdm

        from jaxvoice.data.speaker_table import SpeakerTable
        from jaxvoice.pipelines.sources import load_with_method

        encoder = load_with_method(self.model, "embed", "a speaker encoder")
        found, shown = {}, set()
        for file in tqdm(files, unit="file", disable=True if len(files) == 1 else None):
            try:
                with printed_warnings(shown):
                    found[file] = encoder.embed(file)
            except JaxvoiceError as failure:
                if self.debug:
                    raise
                print_message("error", failure if str(file) in str(failure) else f"{file}: {failure}")
        if found:
            speakers = [self.speaker or file.absolute().parent.name for file in found]
            table = SpeakerTable(tuple(clips[file] for file in found), tuple(speakers), np.stack(list(found.values())))
            table.save(output)
            print_text(f"{output}: {table!r}")
        failed = len(files) - len(found)
        if failed and len(files) > 1:
            print_message("error", f"{failed} of {len(files)} files failed; OUTPUT does not contain them.")
        return 2 if failed else 0


def _speaker_folders(path: Path) -> list[Path]:
    """`path`, or the folders in it if it contains no recordings itself, each with those of a speaker.

    **Raises:** `ConfigError` for a folder that contains recordings beside folders with recordings.
    """
    if not path.is_dir():
        return [path]
    folders = sorted(entry for entry in path.iterdir() if entry.is_dir() and any(entry.iterdir()))
    if not _contains_audio(path):
        return folders or [path]
    of_speakers = [folder.name for folder in folders if _contains_audio(folder)]
    if of_speakers:
        raise ConfigError(
            f"{path} contains recordings and also folders with recordings, such as {of_speakers[0]}, so that the "
            "speakers are ambiguous. Move the recordings to a folder of their speaker, or pass the files and folders "
            "to embed one by one."
        )
    return [path]


def _contains_audio(folder: Path) -> bool:
    return any(entry.suffix.lower() in AUDIO_SUFFIXES and entry.is_file() for entry in folder.iterdir())


def clip_names(files: list[Path]) -> dict[Path, str]:
    """The path of each file below the folder that all share, without suffix, with slashes.

    **Raises:** `ConfigError` if two files have the same name.
    """
    absolute = {file: Path(os.path.abspath(file)) for file in files}
    shared = os.path.commonpath([str(path.parent) for path in absolute.values()])
    names = {file: PurePath(path).relative_to(shared).with_suffix("").as_posix() for file, path in absolute.items()}
    owners: dict[str, Path] = {}
    for file, name in names.items():
        if owners.setdefault(name, file) != file:
            raise ConfigError(f"{owners[name]} and {file} would both be the clip {name!r}; rename one of them.")
    return names

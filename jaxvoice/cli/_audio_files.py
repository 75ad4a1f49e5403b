"""Shared by the commands that convert audio files one by one: names of outputs, and the loop over the inputs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from jaxvoice.cli._setup import check_folder, make_folder, option_names
from jaxvoice.console import print_message, print_text, with_flag
from jaxvoice.errors import AudioError, ConfigError, JaxvoiceError

if TYPE_CHECKING:
    import numpy as np

# Several inputs are written to a folder of any name, except one with these suffixes, which is probably a mistake.
_FILE_SUFFIXES = {".wav", ".flac", ".ogg", ".mp3", ".npy", ".npz", ".pt", ".pth"}
AUDIO_SUFFIXES = {".wav", ".flac", ".ogg", ".mp3"}
"""The suffixes of the audio files of a folder."""


class FileCommand(Protocol):
    """A command that converts files one by one, with the options of `convert_files`."""

    @property
    def subtype(self) -> Literal["pcm16", "float"]:
        """The format of the samples of WAV files."""
        ...

    @property
    def debug(self) -> bool:
        """Whether the first error is raised."""
        ...


def split_output(paths: Sequence[Path], name: str, hint: str = "") -> tuple[list[Path], Path]:
    """The inputs and the output of `paths`, the positional arguments of a command.

    **Arguments:** `name` of the inputs in the help of the command; `hint`, a sentence for the error.

    **Raises:** `ConfigError` for fewer than two paths.
    """
    if len(paths) < 2:
        raise ConfigError(
            f"The number of paths is {len(paths)}; it should be at least 2: one or more {name}, followed by OUTPUT."
            f"{hint and f' {hint}'}"
        )
    return list(paths[:-1]), paths[-1]


def into_folder(inputs: Sequence[Path], output: Path) -> bool:
    """Whether `output` is a folder, not a file."""
    if output.is_dir() or not output.suffix:
        return True
    return len(inputs) > 1 and output.suffix.lower() not in _FILE_SUFFIXES


def input_files(paths: Sequence[Path]) -> list[Path]:
    """`paths` with folders replaced by their audio files, sorted by name.

    **Raises:** `ConfigError` for a folder without audio files.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(file for file in path.iterdir() if file.suffix.lower() in AUDIO_SUFFIXES and file.is_file())
        if not inside:
            raise ConfigError(f"{path} contains no audio files (WAV, FLAC, OGG, MP3); pass a folder with recordings.")
        found += inside
    return found


def output_files(inputs: Sequence[Path], output: Path) -> dict[Path, Path]:
    """The WAV file to write for each input: `output`, or a file of the same stem in the folder `output`.

    **Raises:** `ConfigError` if inputs and output do not match, or OUTPUT cannot be written; `AudioError` if an input
    would be overwritten.
    """
    folder = into_folder(inputs, output)
    if not folder and (len(inputs) > 1 or output.suffix.lower() != ".wav"):
        expected = "a folder for several inputs" if len(inputs) > 1 else "a .wav file or a folder"
        raise ConfigError(
            f"OUTPUT is {output}; it should be {expected}. If the name of the folder has a suffix, create the "
            "folder first."
        )
    if folder:
        check_folder(output)
    elif not output.parent.is_dir():
        raise ConfigError(f"OUTPUT is {output}; it should be in an existing folder.")
    targets = {path: output / f"{path.stem}.wav" if folder else output for path in inputs}
    sources: dict[Path, Path] = {}
    for path, target in targets.items():
        if path.resolve() == target.resolve():
            raise AudioError(f"The output would overwrite the input {path}; choose another OUTPUT.")
        if sources.setdefault(target, path) != path:
            both = f"{sources[target]} and {path}"
            raise ConfigError(f"{both} would both be written to {target}; rename one of them.")
    return targets


def convert_files(
    command: FileCommand,
    outputs: Mapping[Path, Path],
    output: Path,
    convert: "Callable[[Path], Iterable[np.ndarray]]",
    sample_rate: int,
) -> int:
    """Write the audio that `convert` returns for each input in parts, of which one at a time is in memory.

    A failed file is reported, and the others are converted.

    **Arguments:** `command`, whose options errors name; `outputs`, the result of `output_files` for `output`;
    `sample_rate` of the audio.

    **Returns:** the exit code, 2 if a file failed, else 0.
    """
    from tqdm import tqdm

    from jaxvoice.data.audio import write_wav_parts

    if into_folder(list(outputs), output):
        make_folder(output)
    options, subtype = option_names(command), "PCM_16" if command.subtype == "pcm16" else "FLOAT"
    failed, seconds, target = 0, 0.0, output
    # disable=None: no bar unless stderr is a terminal.
    for path, target in tqdm(outputs.items(), unit="file", disable=True if len(outputs) == 1 else None):
        try:
            samples = write_wav_parts(target, convert(path), sample_rate, subtype)
            seconds += samples / sample_rate
        except JaxvoiceError as failure:
            if command.debug:
                raise
            failed += 1
            message = with_flag(str(failure), options)
            print_message("error", message if str(path) in message else f"{path}: {message}")
    if len(outputs) == 1 and not failed:
        print_text(f"{target}: {seconds:.2f} s at {sample_rate} Hz")
    elif failed < len(outputs):
        written = f"{len(outputs) - failed} WAV files" if len(outputs) - failed > 1 else "1 WAV file"
        print_text(f"{output}: {written}, {seconds:.2f} s at {sample_rate} Hz")
    if failed and len(outputs) > 1:
        others = f"the outputs of the others are in {output}" if failed < len(outputs) else "see above"
        print_message("error", f"{failed} of {len(outputs)} files failed; {others}.")
    return 2 if failed else 0

"""`jaxvoice convert`: speech to the same speech in another voice."""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from jaxvoice.cli._audio_files import convert_files, input_files, output_files, split_output
from jaxvoice.cli._setup import printed_warnings, use_compilation_cache
from jaxvoice.console import flag_name
from jaxvoice.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from jaxvoice.pipelines.voice import Voice

_OF_SOME_MODELS = ("speaker", "seed")
"""The options that some models do not have."""


@dataclass(frozen=True)
class Convert:
    """Convert recordings of speech to the voice of a reference, and write WAV files.

    One SOURCE is written to the file OUTPUT.wav or to the folder OUTPUT. Several, and the audio files of folders, are
    written to the folder OUTPUT under their own names. If a file fails, its error is printed, the others are converted,
    and the exit code is 2.

    Convert only to the voices of speakers who have agreed to it, and mark the results as synthetic: docs/consent.md.
    """

    # One list, since argparse does not support options after a list and a further positional argument.
    paths: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE ... OUTPUT", help_behavior_hint="")
    ]
    """Recordings (WAV, FLAC, OGG, MP3) or folders of them, followed by the output: a .wav file or a (new) folder."""
    # Text, since ./anna is a file, and anna may be a speaker.
    voice: Annotated[tuple[str, ...], tyro.conf.arg(metavar="REF [REF ...]")]
    """Recordings of the voice, one voice file (.json) of jaxvoice voice, or the name of a speaker of the model."""
    model: str
    """Voice conversion model: model folder, run folder, or Hub id (owner/name)."""
    encoder: str | None = None
    """Speaker encoder of models that read its vectors: model folder or Hub id; by default that in the model folder."""
    speaker: str | None = None
    """Name of the speaker of the sources, for models with a table of speakers."""
    pitch: Annotated[str, tyro.conf.arg(metavar="match|keep|SEMITONES")] = "match"
    """F0 of the result: matched to the voice, kept, or shifted by semitones."""
    seed: int = 0
    """Seed of the noise, for models that draw noise, such as VITS."""
    subtype: Literal["pcm16", "float"] = "pcm16"
    """Samples of the WAV file: 16-bit integers or 32-bit floats."""
    debug: bool = False
    """Stop at the first error and show its traceback."""

    def run(self) -> int:
        """Convert every source; returns 2 if one failed, else 0."""
        given, output = split_output(
            self.paths, "SOURCE", "Write them before --voice, which takes all paths that follow it."
        )
        outputs, pitch = output_files(input_files(given), output), self.pitch_option()
        use_compilation_cache()
        from jaxvoice.pipelines.argument_checks import check_seed
        from jaxvoice.pipelines.sources import load_with_method

        check_seed(self.seed)
        given = {} if self.encoder is None else {"encoder": self.encoder}
        shown: set[str] = set()
        with printed_warnings(shown):
            converter = load_with_method(self.model, "encode_voice", "a voice conversion model", **given)
            options = {"pitch": pitch, **self.options_of_model(converter)}
            converter.check_pitch(pitch)
            voice = read_voice(converter, self.voice)

        def convert(path: Path) -> "Iterator[np.ndarray]":
            with printed_warnings(shown):
                return converter.convert_chunks(path, voice, **options)

        return convert_files(self, outputs, output, convert, converter.sample_rate)

    def options_of_model(self, converter: Any) -> dict[str, Any]:
        """The options in the command line that only some models have.

        **Raises:** `ConfigError` for one that the model of the pipeline `converter` does not have.
        """
        known = inspect.signature(converter.convert_chunks).parameters
        given = {name: getattr(self, name) for name in _OF_SOME_MODELS}
        chosen = {name: value for name, value in given.items() if value != Convert.__dataclass_fields__[name].default}
        for name in chosen:
            if name not in known:
                raise ConfigError(f"{flag_name(name)} is not an option of {self.model}; omit it.")
        return chosen

    def pitch_option(self) -> Literal["match", "keep"] | float:
        """The value of --pitch.

        **Raises:** `ConfigError` for anything but `match`, `keep` and a number from -48 to 48.
        """
        if self.pitch == "match" or self.pitch == "keep":
            return self.pitch
        try:
            semitones = float(self.pitch)
        except ValueError:
            semitones = float("nan")
        if not -48 <= semitones <= 48:
            raise ConfigError(
                f"--pitch is {self.pitch}; it should be match, keep, or a number of semitones from -48 to 48."
            )
        return semitones


def read_voice(converter: Any, values: Sequence[str]) -> "Voice | str":
    """The voice of recordings, computed by the pipeline `converter`, that of one voice file, or the name of a speaker.

    A name that the model knows is that of the speaker, not of a file.

    **Raises:** `ConfigError` for a folder, for a voice file or a speaker among several values, for the voice of another
    model, or for an unknown speaker, with the nearest names; otherwise as `encode_voice` and `Voice.load`.
    """
    from jaxvoice.pipelines.voice import Voice, is_voice_file

    names, paths = getattr(converter, "speakers", None), [Path(value) for value in values]
    missing = [value for value, path in zip(values, paths, strict=True) if not path.exists()]
    if names is not None and len(values) == 1 and (missing or values[0] in names):
        converter.check_speaker(values[0])
        return values[0]
    for value in values:
        if value in (names or ()):
            raise ConfigError(
                f"--voice contains {value}, a speaker of the model, and other values; pass the name of one speaker, or "
                "recordings."
            )
    folder = next((path for path in paths if path.is_dir()), None)
    if folder is not None:
        raise ConfigError(f"--voice contains {folder}, a folder; pass recordings of the voice, or one voice file.")
    files = [path for path in paths if is_voice_file(path)]
    if not files:
        return converter.encode_voice(list(paths))
    if len(paths) > 1:
        raise ConfigError(f"--voice contains {files[0]} and other files; pass one voice file, or recordings.")
    voice = Voice.load(files[0])
    converter.check_voice(voice)
    return voice

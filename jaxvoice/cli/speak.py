"""`jaxvoice speak`: text to speech."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from jaxvoice.cli.caching import use_compilation_cache
from jaxvoice.console import print_message, print_text
from jaxvoice.errors import ConfigError, JaxvoiceWarning

if TYPE_CHECKING:
    from jaxvoice.pipelines import Synthesizer
    from jaxvoice.pipelines.synthesizer import Speech

_PICTURED = 120  # phonemes: more cannot be told apart in a picture


@dataclass(frozen=True)
class Speak:
    """Say a text: TEXT, or what the file FILE of -f holds, becomes the WAV file OUTPUT.

    Phonemes can be written in braces inside the text, {HH AH0 L OW1}. Long texts are said in pieces, cut at pauses.
    """

    words: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[TEXT] OUTPUT", help_behavior_hint="")
    ]
    """The text in quotes, unless -f names a file that holds it; last, the .wav file to write."""
    model: str
    """Text-to-speech model: model folder, run folder, or Hub id (owner/name)."""
    vocoder: str | None = None
    """Vocoder of the same mel contract: model folder, run folder, or Hub id; without one Griffin-Lim is used."""
    file: Annotated[Path | None, tyro.conf.arg(aliases=["-f"], metavar="FILE")] = None
    """Text file in UTF-8 to read instead of TEXT."""
    speed: float = 1.0
    """2 is twice as fast as usual; from 0.1 to 10."""
    phonemes: bool = False
    """The text is phoneme codes with spaces between, all of it."""
    plot: Annotated[Path | None, tyro.conf.arg(metavar="FILE.png")] = None
    """Draw mel spectrogram, alignment and durations into this file."""
    custom_words: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Text file with a word and its phonemes on each line, which come before the dictionary."""
    mode: Literal["default", "compat"] = "default"
    """How the text is read; compat does as lj_speech.py of LJ-Speech-aligned."""
    seed: int = 0
    """Of the phases that Griffin-Lim starts from."""
    debug: bool = False
    """Show the traceback of an error."""

    def run(self) -> int:
        """Say it; returns 0."""
        text, output = self.text(), self.output()
        use_compilation_cache()
        from jaxvoice.data import write_wav
        from jaxvoice.pipelines import Synthesizer

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", JaxvoiceWarning)
            said = self.say(Synthesizer.load(self.model, self.vocoder), text)
        for warning in caught:
            print_message("warning", warning.message)
        write_wav(output, said.audio, said.sample_rate)
        seconds, frames = len(said.audio) / said.sample_rate, said.mel.shape[1]
        print_text(f"{output}: {seconds:.2f} s of speech from {len(said.phonemes)} phonemes in {frames} frames")
        if self.plot is not None:
            _draw(said, self.plot)
            print_text(f"{self.plot}: mel spectrogram, alignment and durations")
        return 0

    def say(self, synthesizer: "Synthesizer", text: str) -> "Speech":
        """What `synthesizer` makes of the text or phonemes."""
        if self.phonemes:
            return synthesizer.speak_phonemes(text, speed=self.speed, seed=self.seed)
        from jaxvoice.text import read_custom_words

        words = None if self.custom_words is None else read_custom_words(self.custom_words, synthesizer.phone_set)
        return synthesizer.speak(text, speed=self.speed, custom_words=words, seed=self.seed, mode=self.mode)

    def text(self) -> str:
        """The text, from the command line or the file; raises `ConfigError` or `TextError` if there is not just one."""
        wanted = "OUTPUT alone, since -f names the text" if self.file is not None else "TEXT in quotes and then OUTPUT"
        if len(self.words) != (1 if self.file is not None else 2):
            raise ConfigError(f"speak got {len(self.words)} words; give {wanted}.")
        if self.phonemes and (self.custom_words is not None or self.mode != "default"):
            raise ConfigError("--phonemes says how all is said; leave --custom-words and --mode away.")
        if self.file is None:
            return self.words[0]
        from jaxvoice.text.custom_words import read_text

        return read_text(self.file)

    def output(self) -> Path:
        """The WAV file to write.

        **Raises:** `ConfigError` if it is none, its folder is missing, or one file would be written over another.
        """
        output = Path(self.words[-1])
        _check_target(output, ".wav", "OUTPUT")
        if self.plot is not None:
            _check_target(self.plot, ".png", "--plot")
        for target in (output, self.plot):
            if target is not None and self.file is not None and target.resolve() == self.file.resolve():
                raise ConfigError(f"{self.file} would be overwritten with what is made of it; choose another name.")
        return output


def _check_target(path: Path, suffix: str, name: str) -> None:
    if path.suffix.lower() != suffix:
        raise ConfigError(f"{name} is {path}; name a {suffix} file.")
    if path.is_dir() or not path.parent.is_dir():
        trouble = "is a folder" if path.is_dir() else "lies in a folder that is missing"
        raise ConfigError(f"{path} {trouble}; choose another {name}.")


def _draw(said: "Speech", path: Path) -> None:
    """The pictures of what was said below each other; of long speech the beginning."""
    import numpy as np
    from matplotlib.image import imsave

    from jaxvoice.training.pictures import draw_alignment, draw_durations, draw_mels

    phonemes, durations = said.phonemes[:_PICTURED], said.durations[:_PICTURED]
    frames = int(durations.sum())
    weights = np.zeros((frames, len(phonemes)), np.float32)
    for block in said.blocks:
        part = block.weights[: max(0, frames - block.frame), : max(0, len(phonemes) - block.phone)]
        weights[block.frame :, block.phone :][: part.shape[0], : part.shape[1]] = part
    title = " ".join(phonemes[:12]) + (" ..." if len(said.phonemes) > 12 else "")
    pictures = [
        draw_mels(title, {"mel spectrogram": said.mel[:, :frames]}),
        draw_alignment("alignment", weights, phonemes),
        draw_durations("durations", {"frames": durations.astype(np.float64)}, phonemes),
    ]
    width = max(picture.shape[1] for picture in pictures)
    padded = [
        np.pad(picture, ((0, 0), (0, width - picture.shape[1]), (0, 0)), constant_values=255) for picture in pictures
    ]
    imsave(path, np.concatenate(padded))

"""`jaxvoice speak`: text to speech."""

import inspect
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from jaxvoice.cli._dashed_texts import unmarked
from jaxvoice.cli._setup import printed_warnings, use_compilation_cache
from jaxvoice.console import flag_name, print_text
from jaxvoice.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from jaxvoice.pipelines import Synthesizer
    from jaxvoice.pipelines.synthesizer import Speech

_KIND = "a text-to-speech model"
_STANDARD_OUTPUT = "-"
_OF_LOADING = ("vocoder", "phonemes", "encoder", "precision", "plot")
_OF_SOME_MODELS = (
    *_OF_LOADING,
    *("custom_words", "mode", "speaker", "reference", "language"),
    *("noise_scale", "duration_noise_scale", "length_scale"),
    *("temperature", "top_k", "top_p", "repetition_penalty"),
)
"""The options that some models do not have."""
_PLOTTED = 120  # phonemes in a row of the plot; labels of more are too small to read
_ROWS = 10  # of the plot; programs do not display higher pictures


@dataclass(frozen=True)
class Speak:
    """Synthesise TEXT, or the content of FILE (-f), and write the WAV file OUTPUT.

    For models that read English phonemes, the text may contain phonemes in braces, {HH AH0 L OW1}. Long texts are
    split at pauses. A text may begin with a dash. If it has the form of an option, put it and OUTPUT last, after --.
    With - as OUTPUT, a WAV file is written to standard output, by models that synthesise audio while it is computed:
    jaxvoice speak "Some text." - --model DIR | aplay

    Use recordings (--reference) only with the permission of their speaker, and mark the results as synthetic:
    docs/consent.md.
    """

    words: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[TEXT] OUTPUT", help_behavior_hint="")
    ]
    """The text in quotes (omit it with -f), followed by the .wav file to write, or - for standard output."""
    model: str
    """Text-to-speech model: model folder, run folder, or Hub id (owner/name)."""
    vocoder: str | None = None
    """Vocoder with the same mel contract: model folder, run folder, or Hub id; by default Griffin-Lim."""
    file: Annotated[Path | None, tyro.conf.arg(aliases=["-f"], metavar="FILE")] = None
    """Text file in UTF-8 to read instead of TEXT."""
    speed: float = 1.0
    """Relative speed from 0.1 to 10, by which all durations are divided; 2 is twice as fast."""
    phonemes: bool = False
    """Read the text as phoneme codes separated by spaces, or as the symbols of a model that synthesises audio."""
    plot: Annotated[Path | None, tyro.conf.arg(metavar="FILE.png")] = None
    """Plot mel spectrogram, alignment and durations to this file."""
    custom_words: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Text file with one word and its phonemes per line. These pronunciations override the dictionary."""
    mode: Literal["default", "compat"] = "default"
    """How the text is read; compat follows lj_speech.py of LJ-Speech-aligned."""
    seed: int = 0
    """Seed of the initial phases of Griffin-Lim, the noise of WaveGlow or VITS, or the codes that an XTTS draws."""
    sigma: float | None = None
    """Standard deviation of the noise of a WaveGlow vocoder; by default 0.75."""
    denoise: float | None = None
    """Strength of the denoiser of a WaveGlow vocoder; by default 0.04; 0 disables it."""
    speaker: str | None = None
    """Name of a speaker of the model, for models of several voices."""
    reference: Annotated[tuple[str, ...], tyro.conf.arg(metavar="REF [REF ...]")] = ()
    """Recordings of the voice, or one file of jaxvoice voice, instead of --speaker, for models that clone voices."""
    encoder: str | None = None
    """Speaker encoder of models that read its vectors: model folder or Hub id; by default that in the model folder."""
    language: str | None = None
    """Name of a language of the model, for models of several languages; by default en for an XTTS."""
    noise_scale: float | None = None
    """Variation of the sound, for models that synthesise audio; by default the model's; 0 disables it."""
    duration_noise_scale: float | None = None
    """Variation of the durations, for models that synthesise audio; by default the model's; 0 disables it."""
    length_scale: float | None = None
    """Factor of the durations, for models that synthesise audio; by default the model's, which --speed divides."""
    temperature: float | None = None
    """Variation of the speech, for models that draw codes; by default the model's."""
    top_k: int | None = None
    """Most likely codes among which one is drawn, for models that draw codes; by default the model's; 0 means all."""
    top_p: float | None = None
    """Sum of the probabilities of the codes among which one is drawn; by default the model's."""
    repetition_penalty: float | None = None
    """Divisor of the logits of codes that were already drawn; by default the model's."""
    precision: Literal["float32", "bfloat16"] | None = None
    """Precision of the weights of the transformer of an XTTS; bfloat16 halves their memory. By default float32."""
    debug: bool = False
    """Show the traceback of an error."""

    def run(self) -> int:
        """Synthesise the text; returns 0."""
        text, output = self.text(), self.output()
        self.check(text)
        use_compilation_cache()
        from jaxvoice.data import write_wav
        from jaxvoice.pipelines.sources import load_with_method

        self.check_options(text)
        given = {"vocoder": self.vocoder, "encoder": self.encoder, "precision": self.precision}
        options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if self.vocoder_options():
            options["vocoder_options"] = self.vocoder_options()
        with printed_warnings():
            synthesizer = load_with_method(self.model, "speak", _KIND, **options)
            if output is None:
                return self.write_to_standard_output(synthesizer, text)
            speech = self.synthesize(synthesizer, text)
        write_wav(output, speech.audio, speech.sample_rate)
        seconds = len(speech.audio) / speech.sample_rate
        if not hasattr(speech, "mel"):
            read, codes = len(speech.tokens), len(speech.codes)
            print_text(f"{output}: {seconds:.2f} s of speech from {read} text tokens in {codes} codes")
            return 0
        frames = speech.mel.shape[1]
        read, kind = speech.num_symbols, "phonemes" if hasattr(synthesizer, "phone_set") else "symbols"
        print_text(f"{output}: {seconds:.2f} s of speech from {read} {kind} in {frames} frames")
        if self.plot is not None:
            _plot(speech, self.plot)
            count, most = len(speech.phonemes), _ROWS * _PLOTTED
            blanks = " and blanks" if read < count else ""
            part = f" of the first {most} of {count} {kind}{blanks}" if count > most else ""
            print_text(f"{self.plot}: mel spectrogram, alignment and durations{part}")
        return 0

    def write_to_standard_output(self, synthesizer: "Synthesizer", text: str) -> int:
        """Write the speech as a WAV file to standard output, in blocks if the model returns them; returns 0."""
        from jaxvoice.data.audio import stream_wav

        method = synthesizer.speak_phonemes if self.phonemes else synthesizer.speak
        if "stream" in inspect.signature(method).parameters:
            blocks = self.synthesize(synthesizer, text, stream=True)
        else:
            blocks = [self.synthesize(synthesizer, text).audio]
        stream_wav(sys.stdout.buffer, blocks, synthesizer.sample_rate)
        return 0

    def check(self, text: str) -> None:
        """Check what does not depend on the model, before it is loaded.

        **Raises:** `ConfigError` for numbers out of range, options that exclude each other, or options of a vocoder
        without a vocoder; `TextError` for a text that is in another script or contains nothing to pronounce, no
        phonemes, or a file of custom words that cannot be read.
        """
        from jaxvoice.errors import TextError
        from jaxvoice.pipelines.argument_checks import check_noise_options, check_seed
        from jaxvoice.pipelines.synthesizer import check_speed
        from jaxvoice.text.custom_words import read_utf8_file

        check_speed(self.speed)
        check_seed(self.seed)
        if self.speed != 1 and self.length_scale is not None:
            raise ConfigError("--speed and --length-scale are both given; pass only one of the two.")
        if self.speaker is not None and self.reference:
            raise ConfigError("--speaker and --reference are both given; pass only one of the two.")
        check_noise_options(self.vocoder_options(), "--")
        for name in self.vocoder_options():
            if self.vocoder is None:
                raise ConfigError(f"--{name} is an option of a vocoder; pass --vocoder, or omit --{name}.")
        if self.custom_words is not None:
            read_utf8_file(self.custom_words)
        if self.phonemes:
            if not text.split():
                raise TextError(
                    f"{'TEXT' if self.file is None else self.file} is empty; with --phonemes, it should contain "
                    "phoneme codes separated by spaces, or symbols of the model."
                )
            return
        if any(character.isalnum() for character in text):
            return
        self.check_english(text)

    def check_english(self, text: str) -> None:
        """Raise `TextError` for a text that is in another script or contains nothing to pronounce."""
        from jaxvoice.text import pronounce
        from jaxvoice.text.folding import fold_to_ascii
        from jaxvoice.text.text_normalization import extract_braces

        in_braces, rest = extract_braces(fold_to_ascii(text))
        if not in_braces and not any(character.isalnum() for character in rest):
            pronounce(text, mode=self.mode)

    def check_options(self, text: str) -> None:
        """Check, before the model is loaded, that models of this kind have the options of the command line, and that
        one of English phonemes can read the text.

        **Raises:** `ConfigError` for an option that the model does not have; `TextError` as `check_english`.
        """
        from jaxvoice.pipelines.sources import find_model_with_method

        _, family = find_model_with_method(self.model, "speak", _KIND)
        pipeline = family.pipeline_class()
        known = {*inspect.signature(pipeline.speak).parameters, *inspect.signature(pipeline.load).parameters}
        if hasattr(pipeline, "speak_phonemes"):
            known |= {"phonemes", "plot"}
        for name in (*_OF_SOME_MODELS, *self.vocoder_options()):
            of_load = "vocoder_options" if name in self.vocoder_options() else name
            if getattr(self, name) != Speak.__dataclass_fields__[name].default and of_load not in known:
                raise ConfigError(f"{flag_name(name)} is not an option of {self.model}; omit it.")
        if "mode" in known and not self.phonemes:
            self.check_english(text)

    def vocoder_options(self) -> dict[str, float]:
        """The options of the vocoder in the command line."""
        given = {"sigma": self.sigma, "denoise": self.denoise}
        return {name: value for name, value in given.items() if value is not None}

    def synthesize(self, synthesizer: "Synthesizer", text: str, **more: Any) -> Any:
        """The speech of the text or the phonemes, with the options of the command line and those of `more`."""
        options: dict[str, Any] = more | {
            name: value
            for name in _OF_SOME_MODELS
            if name not in _OF_LOADING and (value := getattr(self, name)) != Speak.__dataclass_fields__[name].default
        }
        if self.reference:
            references = self.references()
            options["reference"] = references if len(references) > 1 else references[0]  # a voice file is no list
        if self.phonemes:
            return synthesizer.speak_phonemes(text, speed=self.speed, seed=self.seed, **options)
        if self.custom_words is not None:
            from jaxvoice.text import read_custom_words

            options["custom_words"] = read_custom_words(self.custom_words, synthesizer.phone_set)
        return synthesizer.speak(text, speed=self.speed, seed=self.seed, **options)

    def references(self) -> list[str]:
        """The recordings of the voice, or one voice file, in the command line."""
        return [unmarked(reference) for reference in self.reference]

    def text(self) -> str:
        """The text of the command line or the file.

        **Raises:** `ConfigError` for a wrong number of arguments; `TextError` for a text file that cannot be read.
        """
        expected = "1 with -f: OUTPUT" if self.file is not None else "2: TEXT in quotes, followed by OUTPUT"
        if len(self.words) != (1 if self.file is not None else 2):
            hint = " Write them before --reference, which takes all paths that follow it." if self.reference else ""
            raise ConfigError(f"The number of arguments is {len(self.words)}; it should be {expected}.{hint}")
        if self.phonemes and (self.custom_words is not None or self.mode != "default"):
            raise ConfigError("--phonemes cannot be combined with --custom-words or --mode; pass only one of them.")
        if self.file is None:
            return unmarked(self.words[0])
        from jaxvoice.text.custom_words import read_utf8_file

        return read_utf8_file(self.file)

    def output(self) -> Path | None:
        """The WAV file to write; `None` for standard output.

        **Raises:** `ConfigError` for another suffix, a missing folder, a file that would overwrite the input, or a
        terminal as standard output.
        """
        if unmarked(self.words[-1]) == _STANDARD_OUTPUT:
            if self.plot is not None:
                raise ConfigError("--plot cannot be combined with - as OUTPUT; pass a .wav file.")
            if sys.stdout.isatty():
                raise ConfigError("OUTPUT is -, but standard output is a terminal; redirect it to a program or a file.")
            return None
        output = Path(unmarked(self.words[-1]))
        _check_target(output, ".wav", "OUTPUT")
        if self.plot is not None:
            _check_target(self.plot, ".png", "--plot")
        inputs = [*map(Path, self.references()), *([] if self.file is None else [self.file])]
        targets = [output] if self.plot is None else [output, self.plot]
        for source in inputs:
            if source.resolve() in (target.resolve() for target in targets):
                raise ConfigError(f"The output would overwrite the input {source}; choose another name.")
        return output


def _check_target(path: Path, suffix: str, name: str) -> None:
    if path.is_dir() or not path.parent.is_dir():
        problem = "is a folder" if path.is_dir() else "is in a folder that does not exist"
        raise ConfigError(f"{path} {problem}; choose a {suffix} file in an existing folder as {name}.")
    if path.suffix.lower() != suffix:
        raise ConfigError(f"{name} is {path}; it should be a {suffix} file.")


def _plot(speech: "Speech", path: Path) -> None:
    """Plot the mel spectrogram, the alignment and the durations below each other, for one row of phonemes at a time."""
    import numpy as np
    from matplotlib.image import imsave

    edges = np.concatenate([[0], np.cumsum(speech.durations)])
    count = min(len(speech.phonemes), _ROWS * _PLOTTED)
    pictures = []
    for first in range(0, count, _PLOTTED):
        pictures += _row(speech, edges, first, min(first + _PLOTTED, count))
    width = max(picture.shape[1] for picture in pictures)
    padded = [
        np.pad(picture, ((0, 0), (0, width - picture.shape[1]), (0, 0)), constant_values=255) for picture in pictures
    ]
    imsave(path, np.concatenate(padded))


def _row(speech: "Speech", edges: "np.ndarray", first: int, last: int) -> "list[np.ndarray]":
    """The plots of the phonemes from `first` up to `last`; `edges` are the boundaries of all phonemes in frames."""
    import numpy as np

    from jaxvoice.training.pictures import draw_alignment, draw_durations, draw_mels

    phonemes, start, stop = speech.phonemes[first:last], int(edges[first]), int(edges[last])
    weights = np.zeros((stop - start, len(phonemes)), np.float32)
    for block in speech.blocks:
        frames, phones = block.weights.shape
        low, high = max(start, block.frame), min(stop, block.frame + frames)
        left, right = max(first, block.phone), min(last, block.phone + phones)
        if low < high and left < right:
            part = block.weights[low - block.frame : high - block.frame, left - block.phone : right - block.phone]
            weights[low - start : high - start, left - first : right - first] = part
    title = " ".join(phonemes[:12]) + (" ..." if len(phonemes) > 12 else "")
    if len(speech.phonemes) > _PLOTTED:
        title = f"phonemes {first + 1} to {last}: {title}"
    return [
        draw_mels(title, {"mel spectrogram": speech.mel[:, start:stop]}),
        draw_alignment("alignment", weights, phonemes),
        draw_durations("durations", {"frames": np.diff(edges[first : last + 1]).astype(np.float64)}, phonemes),
    ]

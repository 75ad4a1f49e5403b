"""`jaxvoice clone`: text to speech in the voice of a recording."""

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from jaxvoice.cli._dashed_texts import unmarked
from jaxvoice.cli._setup import printed_warnings, use_compilation_cache
from jaxvoice.console import print_text
from jaxvoice.errors import ConfigError


@dataclass(frozen=True)
class Clone:
    """Speak TEXT in the voice of the recordings REF, and write the WAV file OUTPUT.

    A few seconds of clean speech of one speaker are enough; more recordings give a more typical voice. REF can also be
    one voice file (.json) of jaxvoice voice. TEXT may begin with a dash. If it has the form of an option, put REF, TEXT
    and OUTPUT last, after --.

    Clone only the voices of speakers who have agreed to it, and mark the results as synthetic: docs/consent.md.
    """

    words: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="REF ... TEXT OUTPUT", help_behavior_hint="")
    ]
    """Recordings of the voice (WAV, FLAC, OGG, MP3), followed by the text in quotes and the .wav file to write."""
    model: str
    """Text-to-speech model that reads speaker vectors: model folder, run folder, or Hub id (owner/name)."""
    encoder: str | None = None
    """Speaker encoder with which the model was trained: model folder or Hub id; by default that in its folder."""
    language: str | None = None
    """Name of a language of the model, for models of several languages."""
    speed: float = 1.0
    """Relative speed from 0.1 to 10, by which all durations are divided; 2 is twice as fast."""
    noise_scale: float | None = None
    """Variation of the sound; by default the model's; 0 disables it."""
    duration_noise_scale: float | None = None
    """Variation of the durations; by default the model's; 0 disables it."""
    length_scale: float | None = None
    """Factor of the durations; by default the model's, which --speed divides."""
    seed: int = 0
    """Seed of the noise."""
    debug: bool = False
    """Show the traceback of an error."""

    def run(self) -> int:
        """Synthesise the text; returns 0."""
        if len(self.words) < 3:
            raise ConfigError(
                f"The number of arguments is {len(self.words)}; it should be at least 3: one or more REF, TEXT in "
                "quotes, and OUTPUT."
            )
        *references, text, output = map(unmarked, self.words)
        target = Path(output)
        if target.suffix.lower() != ".wav" or not target.parent.is_dir() or target.is_dir():
            raise ConfigError(f"OUTPUT is {output}; it should be a .wav file in an existing folder.")
        if any(Path(one).resolve() == target.resolve() for one in references):
            raise ConfigError(f"The output would overwrite the input {output}; choose another name.")
        if self.speed != 1 and self.length_scale is not None:
            raise ConfigError("--speed and --length-scale are both given; pass only one of the two.")
        use_compilation_cache()
        from jaxvoice.data import write_wav
        from jaxvoice.pipelines.sources import find_model_with_method, load_with_method

        kind = "a text-to-speech model"
        _, family = find_model_with_method(self.model, "speak", kind)
        if "reference" not in inspect.signature(family.pipeline_class().speak).parameters:
            raise ConfigError(
                f"{self.model} cannot speak in the voice of a recording; pass a model that reads speaker vectors."
            )
        options: dict[str, Any] = {} if self.encoder is None else {"encoder": self.encoder}
        with printed_warnings():
            synthesizer = load_with_method(self.model, "speak", kind, **options)
            reference = references[0] if len(references) == 1 else references
            speech = synthesizer.speak(text, reference=reference, **self.sampling())
        write_wav(target, speech.audio, speech.sample_rate)
        seconds, voice = len(speech.audio) / speech.sample_rate, " and ".join(references[:2])
        if len(references) > 2:
            voice = f"{references[0]} and {len(references) - 1} other recordings"
        print_text(f"{output}: {seconds:.2f} s of speech in the voice of {voice}")
        return 0

    def sampling(self) -> dict[str, Any]:
        """The options of the synthesis in the command line."""
        given = {
            "language": self.language,
            "noise_scale": self.noise_scale,
            "duration_noise_scale": self.duration_noise_scale,
            "length_scale": self.length_scale,
        }
        chosen = {name: value for name, value in given.items() if value is not None}
        return {**chosen, "speed": self.speed, "seed": self.seed}

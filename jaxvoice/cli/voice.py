"""`jaxvoice voice`: the voice of recordings, for `jaxvoice convert` and `jaxvoice clone`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from jaxvoice.cli._audio_files import split_output
from jaxvoice.cli._setup import printed_warnings, use_compilation_cache
from jaxvoice.console import print_text
from jaxvoice.errors import ConfigError


@dataclass(frozen=True)
class WriteVoice:
    """Compute the voice of one speaker from recordings, and write it to the file OUTPUT.json.

    jaxvoice convert reads the file, and with a VITS also jaxvoice clone. It contains a vector, and for a HiFi-VC the
    statistics of F0. It identifies the voice, so treat it as personal data, and write it only with the permission of
    the speaker: docs/consent.md.
    """

    paths: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="REF ... OUTPUT", help_behavior_hint="")
    ]
    """Recordings of the speaker (WAV, FLAC, OGG, MP3), followed by the .json file to write."""
    model: str
    """Voice conversion model: model folder, run folder, or Hub id (owner/name)."""
    encoder: str | None = None
    """Speaker encoder of models that read its vectors: model folder or Hub id; by default that in the model folder."""
    debug: bool = False
    """Show the traceback of an error."""

    def run(self) -> int:
        """Write the voice; returns 0."""
        references, output = split_output(self.paths, "REF")
        if output.suffix.lower() != ".json" or not output.parent.is_dir() or output.is_dir():
            raise ConfigError(f"OUTPUT is {output}; it should be a .json file in an existing folder.")
        use_compilation_cache()
        from jaxvoice.pipelines.sources import load_with_method

        options = {} if self.encoder is None else {"encoder": self.encoder}
        with printed_warnings():
            converter = load_with_method(self.model, "encode_voice", "a voice conversion model", **options)
            voice = converter.encode_voice(references)
        voice.save(output)
        print_text(f"{output}: {voice!r}")
        return 0

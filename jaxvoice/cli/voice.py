"""`jaxvoice voice`: the voice of recordings, for `jaxvoice convert`, `clone` and `speak`."""

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
    """Compute the voice of one speaker from recordings, and write it to the file OUTPUT.

    jaxvoice convert reads the file, and with a VITS also jaxvoice clone and jaxvoice speak. It contains a vector, and
    for a HiFi-VC the statistics of F0. The file of an XTTS ends in .safetensors, and jaxvoice speak reads it. It
    identifies the voice, so treat it as personal data, and write it only with the permission of the speaker:
    docs/consent.md.
    """

    paths: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="REF ... OUTPUT", help_behavior_hint="")
    ]
    """Recordings of the speaker (WAV, FLAC, OGG, MP3), followed by the .json (XTTS: .safetensors) file to write."""
    model: str
    """Voice conversion model, VITS with speaker encoder, or XTTS: model folder, run folder, or Hub id (owner/name)."""
    encoder: str | None = None
    """Speaker encoder of models that read its vectors: model folder or Hub id; by default that in the model folder."""
    debug: bool = False
    """Show the traceback of an error."""

    def run(self) -> int:
        """Write the voice; returns 0."""
        references, output = split_output(self.paths, "REF")
        if not output.parent.is_dir() or output.is_dir():
            raise ConfigError(f"OUTPUT is {output}; it should be a file in an existing folder.")
        use_compilation_cache()
        from jaxvoice.models.family_lookup import find_family
        from jaxvoice.pipelines.sources import find_model_folder, load_with_method

        pipeline = find_family(find_model_folder(self.model)).pipeline_class()
        method, suffix = ("voice", ".safetensors") if hasattr(pipeline, "voice") else ("encode_voice", ".json")
        if output.suffix.lower() != suffix:
            raise ConfigError(f"OUTPUT is {output}; it should be a {suffix} file for this model.")
        options = {} if self.encoder is None else {"encoder": self.encoder}
        with printed_warnings():
            model = load_with_method(self.model, method, "a voice conversion model or an XTTS", **options)
            voice = getattr(model, method)(references)
        voice.save(output)
        print_text(f"{output}: {voice!r}")
        return 0

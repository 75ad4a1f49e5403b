"""`jaxvoice panel`: a web page for live bending of a model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from jaxvoice.cli._setup import use_compilation_cache
from jaxvoice.console import print_message, print_text
from jaxvoice.errors import ConfigError


@dataclass(frozen=True)
class Panel:
    """Serve a web page on which layers are chosen and bent, and the result is heard.

    A recording runs through the model: a RAVE encodes and decodes it, a vocoder converts it to a mel spectrogram and
    back. Rules are saved as JSON, for jaxvoice.dissect. Ctrl-C ends the program. It needs pip install
    'jaxvoice[panel]'.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Model folder, run folder, or Hub id (owner/name)."""
    audio: Annotated[
        Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[AUDIO]", help_behavior_hint="(optional)")
    ] = None
    """Recording that the page has first; others are chosen or recorded on the page."""
    rules: Path | None = None
    """JSON file with the first rules, from the page or from BendingConfig.save."""
    seconds: float = 10.0
    """Longest part of a recording that is used. Memory grows with it."""
    host: str = "127.0.0.1"
    """Address to listen on. By default, only this machine can open the page."""
    port: int | None = None
    """Port to listen on; by default the first free one from 7860."""
    debug: bool = False
    """Show the traceback of an error."""

    def run(self) -> int:
        """Serve the page until the process is interrupted; returns 0."""
        if self.port is not None and not 1 <= self.port <= 65535:
            raise ConfigError(f"--port is {self.port}; it should be from 1 to 65535.")
        if self.audio is not None and not self.audio.is_file():
            raise ConfigError(f"AUDIO is {self.audio}, which is not a file; pass a recording.")
        from jaxvoice.pipelines.bending_panel import bending_panel, gradio_module, serve

        gradio_module()  # before the model is loaded, which takes time
        use_compilation_cache()
        from jaxvoice.dissect import BendingConfig
        from jaxvoice.pipelines.bender import Bender
        from jaxvoice.pipelines.request_guard import is_loopback

        config = None if self.rules is None else BendingConfig.load(self.rules)
        bender = Bender.load(self.model, seconds=self.seconds)
        page = bending_panel(bender, self.audio, config=config, title=Path(self.model).name)
        if not is_loopback(self.host):
            print_message("warning", f"Everyone who can reach {self.host} can use the page; it asks for no password.")
        print_text(f"{serve(page, host=self.host, port=self.port, wait=False)} (Ctrl-C ends the program)")
        page.block_thread()
        return 0

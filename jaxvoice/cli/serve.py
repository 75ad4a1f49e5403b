"""`jaxvoice serve`: a web page and an HTTP endpoint for models."""

import signal
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro

from jaxvoice.cli._setup import printed_warnings, use_compilation_cache
from jaxvoice.console import print_message, print_text
from jaxvoice.errors import ConfigError


@dataclass(frozen=True)
class Serve:
    """Serve a web page and an HTTP endpoint with which MODEL ... speak, clone and convert voices, and vocode.

    Requests are computed one after another, and their audio is sent while it is computed. Ctrl-C ends the program. It
    needs pip install 'jaxvoice[serve]'. The endpoint is described in docs/serving.md.

    Use recordings only with the permission of their speakers, and mark the results as synthetic: docs/consent.md.
    """

    models: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="MODEL [MODEL ...]", help_behavior_hint="")
    ]
    """Model folders, run folders, or Hub ids (owner/name): text to speech, voice conversion, vocoders, codecs, RAVE."""
    vocoder: str | None = None
    """Vocoder of text-to-speech models that compute mels: model folder or Hub id; by default Griffin-Lim."""
    encoder: str | None = None
    """Speaker encoder of models that read its vectors: model folder or Hub id; by default that in the model folder."""
    precision: Literal["float32", "bfloat16"] | None = None
    """Precision of the weights of the transformer of an XTTS; bfloat16 halves their memory. By default float32."""
    warm_up: bool = False
    """Compile the programs of the models before the first request, which then does not wait for them."""
    host: str = "127.0.0.1"
    """Address to listen on. By default, only this machine has access."""
    port: int | None = None
    """Port to listen on; by default the first free one from 7860."""
    allow_host: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME [NAME ...]")] = ()
    """Names of the server, besides its address, under which browsers may open it."""
    no_page: bool = False
    """Serve the HTTP endpoint only."""
    text_characters: int = 2000
    """Largest number of characters of a text."""
    upload_megabytes: float = 20.0
    """Largest size of the recordings of a request, in millions of bytes."""
    reference_seconds: float = 60.0
    """Longest references of a voice, together."""
    source_seconds: float = 300.0
    """Longest recording that is converted or vocoded."""
    waiting: int = 100
    """Requests that wait while one is computed; others are refused with status 503."""
    debug: bool = False
    """Show the traceback of an error."""

    def run(self) -> int:
        """Serve until the process is interrupted; returns 0."""
        if not self.models:
            raise ConfigError("There is no MODEL; pass at least one model folder.")
        if self.port is not None and not 1 <= self.port <= 65535:
            raise ConfigError(f"--port is {self.port}; it should be from 1 to 65535.")
        from jaxvoice.pipelines.request_guard import is_loopback
        from jaxvoice.pipelines.served_inputs import Limits
        from jaxvoice.pipelines.server import address_of, check_extra, create_app, make_server, open_socket

        check_extra()  # before models are loaded, which takes time
        limits = Limits(
            self.text_characters, self.upload_megabytes, self.reference_seconds, self.source_seconds, self.waiting
        )
        with open_socket(self.host, self.port) as listener:
            service = self.service(limits)
            page = None
            if not self.no_page:
                from jaxvoice.pipelines.speech_page import SpeechPage

                page = SpeechPage(service)
            server = make_server(create_app(service, page, host=self.host, names=self.allow_host))
            if not is_loopback(self.host):
                print_message("warning", f"Everyone who can reach {self.host} has access; there is no password.")
            for model in service.models:
                print_text(f"{model.name}: {', '.join(model.tasks)}")
            print_text(f"{address_of(listener)} (Ctrl-C ends the program)")
            before = signal.signal(signal.SIGTERM, _interrupt)  # so that temporary files are removed
            try:
                server.run(sockets=[listener])
            except KeyboardInterrupt:
                pass
            finally:
                signal.signal(signal.SIGTERM, before)
                service.close()
                if page is not None:
                    page.close()
        return 0

    def service(self, limits: Any) -> Any:
        """The `SpeechService` of the models."""
        use_compilation_cache()
        from jaxvoice.pipelines.served_models import load_models
        from jaxvoice.pipelines.speech_service import SpeechService

        given = {"vocoder": self.vocoder, "encoder": self.encoder, "precision": self.precision}
        options = {name: value for name, value in given.items() if value is not None}
        with printed_warnings():
            models = load_models([*self.models], options)
            for model in models if self.warm_up else ():
                if hasattr(model.pipeline, "warm_up"):
                    print_text(f"{model.name}: compiling")
                    model.pipeline.warm_up()
            return SpeechService(models, limits)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt

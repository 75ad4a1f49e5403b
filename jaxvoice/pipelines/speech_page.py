"""A web page for speech: texts, voices and recordings, and audio that plays while it is computed."""

import asyncio
import contextlib
import html
import inspect
import os
import sys
import tempfile
import traceback
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxvoice.errors import ConfigError, JaxvoiceError
from jaxvoice.pipelines.request_guard import BUG
from jaxvoice.pipelines.served_inputs import public_message
from jaxvoice.pipelines.served_models import ServedModel, Task, find_model
from jaxvoice.pipelines.server import missing_extra, upload_name
from jaxvoice.pipelines.speech_service import Computation, SpeechService, Upload
from jaxvoice.pipelines.work_queue import Job, changes

_TITLES: Mapping[Task, str] = {
    "speak": "Speak",
    "clone": "Clone a voice",
    "convert": "Convert a voice",
    "vocode": "Vocode",
}
_TEXTS: Mapping[Task, str] = {
    "speak": "A text in a voice that the model knows.",
    "clone": "A text in the voice of a recording.",
    "convert": "A recording of speech in another voice, with the same words and timing.",
    "vocode": "A recording through a vocoder or an autoencoder.",
}
_CONSENT = "Use a voice only with the permission of its speaker, and mark the result as synthetic."
_DELETION = (60, 600)  # uploaded files are removed after 600 s; they are looked for every 60 s
_INTERVAL = 0.5  # seconds between changes of the status


class SpeechPage:
    """The page of a `SpeechService`, which uses gradio.

    **Attributes:** `service`, and `blocks`, the `gradio.Blocks`.

    **Raises:** `MissingExtraError` without the extra `serve`.
    """

    def __init__(self, service: SpeechService):
        self.service = service
        self._gradio = gradio_module()
        self._folder = tempfile.TemporaryDirectory(prefix="jaxvoice-page-", ignore_cleanup_errors=True)
        self._jobs: dict[str, dict[Job, Task]] = {}  # the current ones of each page
        with self._uploads_in_folder():
            self.blocks = self._layout()

    def mount(self, app: Any) -> None:
        """Add the page to a Starlette application, at the address `/`."""
        gr, limits = self._gradio, self.service.limits
        theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
        self.blocks.queue(default_concurrency_limit=None, max_size=limits.waiting + 1, api_open=False)
        options = {
            "theme": theme,  # fonts of the system, so that the page sends no request to a font server
            "max_file_size": limits.upload_bytes,
            "footer_links": [],
            "run_history": False,
            "ssr_mode": False,
            "show_error": True,
        }
        known = inspect.signature(gr.mount_gradio_app).parameters
        with self._uploads_in_folder():
            gr.mount_gradio_app(app, self.blocks, "/", **{name: one for name, one in options.items() if name in known})

    def close(self) -> None:
        """Remove the uploaded files."""
        self._folder.cleanup()

    @contextlib.contextmanager
    def _uploads_in_folder(self) -> Iterator[None]:
        """A context in which gradio takes the folder of the page for uploaded files."""
        before = os.environ.get("GRADIO_TEMP_DIR")
        os.environ["GRADIO_TEMP_DIR"] = self._folder.name
        try:
            yield
        finally:
            if before is None:
                del os.environ["GRADIO_TEMP_DIR"]
            else:
                os.environ["GRADIO_TEMP_DIR"] = before

    def _layout(self) -> Any:
        gr = self._gradio
        with gr.Blocks(title="jaxvoice", analytics_enabled=False, delete_cache=_DELETION) as blocks:
            gr.Markdown(f"# Speech with jaxvoice\n{_CONSENT}")
            with gr.Tabs():
                for task in self.service.tasks:
                    with gr.Tab(_TITLES[task]):
                        self._tab(task)
            blocks.unload(self._leaver())
        return blocks

    def _tab(self, task: Task) -> None:
        gr, models = self._gradio, self.service.of_task(task)
        inputs: dict[str, Any] = {}
        gr.Markdown(_TEXTS[task])
        with gr.Row():
            with gr.Column():
                names = [model.name for model in models]
                inputs["model"] = gr.Dropdown(names, value=names[0], label="Model", interactive=True)
                if task in ("speak", "clone"):
                    limit = self.service.limits.text_characters
                    # Without max_length: browsers cut longer texts without a message, and the service reports them.
                    label = f"Text (at most {limit} characters)"
                    inputs["text"] = gr.Textbox(label=label, lines=4, elem_id=f"{task}-text")
                else:
                    inputs["source"] = _recording(gr, "Recording", self.service.limits.source_seconds, f"{task}-source")
                if task in ("clone", "convert"):
                    label = "Recording of the voice"
                    inputs["reference"] = _recording(
                        gr, label, self.service.limits.reference_seconds, f"{task}-reference"
                    )
                    inputs["more"] = gr.File(
                        label="More recordings of the voice (optional)", file_count="multiple", height=165
                    )
            with gr.Column():
                inputs |= self._choices(task, models[0])
                with gr.Row():
                    button = gr.Button(_TITLES[task].split()[0], variant="primary", elem_id=f"{task}-start")
                    stop = gr.Button("Stop", elem_id=f"{task}-stop")
                status = gr.Textbox(label="Progress", interactive=False, lines=2, elem_id=f"{task}-status")
                player = gr.HTML(elem_id=f"{task}-result")
        chosen = [name for name in choices_of(self.service, task, models[0]) if name in inputs]
        inputs["model"].change(
            lambda name: [
                gr.update(**choices_of(self.service, task, find_model(models, name, task))[one]) for one in chosen
            ],
            inputs["model"],
            [inputs[name] for name in chosen],
            show_progress="hidden",
            api_visibility="private",
        )
        button.click(
            self._runner(task, tuple(inputs)),
            list(inputs.values()),
            [status, player],
            show_progress="hidden",
            trigger_mode="multiple",
            api_visibility="private",
        )
        stop.click(self._stopper(task), None, None, show_progress="hidden", api_visibility="private")

    def _choices(self, task: Task, model: ServedModel) -> dict[str, Any]:
        """The components of voices, languages and options, as `model` has them."""
        gr, states = self._gradio, choices_of(self.service, task, model)
        found: dict[str, Any] = {}
        for name, label in (("voice", "Voice"), ("speaker", "Speaker"), ("language", "Language")):
            if name in states:
                if name == "voice":
                    label = "Known voice, instead of a recording"
                elif task == "convert":
                    label = "Speaker of the recording"
                found[name] = gr.Dropdown(label=label, interactive=True, elem_id=f"{task}-{name}", **states[name])
        if "pitch" in states:
            label = "Pitch: match, keep, or a number of semitones"
            found["pitch"] = gr.Textbox("match", label=label, **states["pitch"])
        with gr.Row():
            if "speed" in states:
                found["speed"] = gr.Slider(0.5, 2.0, 1.0, step=0.05, label="Speed", **states["speed"])
            if "seed" in states:
                found["seed"] = gr.Number(0, label="Seed", precision=0, minimum=0, **states["seed"])
        return found

    def _runner(self, task: Task, names: tuple[str, ...]) -> Any:
        """The handler that computes audio from the values of the components `names`."""
        gr = self._gradio

        async def run(
            request: gr.Request,  # pyright: ignore[reportInvalidTypeForm]
            *values: Any,
        ) -> AsyncIterator[tuple[Any, ...]]:
            job: Job | None = None
            kept = contextlib.ExitStack()
            try:
                job = self.service.queue.reserve()
                self._jobs.setdefault(str(request.session_hash), {})[job] = task
                fields, uploads = request_of(
                    self.service, Path(self._folder.name), task, dict(zip(names, values, strict=True))
                )
                uploads = kept.enter_context(linked(uploads, Path(self._folder.name)))
                computation = await asyncio.to_thread(self.service.plan, task, fields, uploads)
                self.service.keep(job, computation)
                self.service.queue.start(job, computation.work)
                playing = False
                async for _ in changes(job, _INTERVAL):
                    plays = bool(job.blocks)
                    shown = player_html(job) if plays and not playing else gr.skip()
                    playing = playing or plays
                    yield status_text(job, computation), shown
                if job.failure is not None:
                    raise job.failure
            except Exception as failure:
                message = public_message(failure) if isinstance(failure, JaxvoiceError) else BUG
                if message == BUG and (job is None or failure is not job.failure):  # otherwise, the queue printed it
                    traceback.print_exc(file=sys.stderr)
                raise gr.Error(message, duration=None, print_exception=False) from None
            finally:
                if job is not None:
                    job.cancel()
                    self._jobs.get(str(request.session_hash), {}).pop(job, None)
                kept.close()

        return run

    def _stopper(self, task: Task) -> Any:
        """The handler that cancels the requests of a page for `task`."""
        gr = self._gradio

        def stop(request: gr.Request) -> None:  # pyright: ignore[reportInvalidTypeForm]
            for job, of_task in tuple(self._jobs.get(str(request.session_hash), {}).items()):
                if of_task == task:
                    job.cancel()

        return stop

    def _leaver(self) -> Any:
        """The handler that cancels the requests of a page that was closed."""
        gr = self._gradio

        def leave(request: gr.Request) -> None:  # pyright: ignore[reportInvalidTypeForm]
            for job in tuple(self._jobs.pop(str(request.session_hash), {})):
                job.cancel()

        return leave


def _recording(gr: Any, label: str, seconds: float, identifier: str) -> Any:
    text = f"{label} (at most {seconds:g} s)"
    buttons = ["download"]  # without sharing
    return gr.Audio(label=text, type="filepath", sources=["upload", "microphone"], buttons=buttons, elem_id=identifier)


def choices_of(service: SpeechService, task: Task, model: ServedModel) -> dict[str, dict[str, Any]]:
    """The properties of the components of options and voices for a model: whether they are visible, and choices."""
    options = model.options(task)
    found = {
        name: {"visible": name in options}
        for name in ("speed", "seed", "pitch")
        if any(name in one.options(task) for one in service.of_task(task))
    }

    def names(values: tuple[str, ...], visible: bool, optional: bool = False) -> dict[str, Any]:
        choices = [("none", ""), *((value, value) for value in values)] if optional else list(values)
        first = "" if optional else (values[0] if values else None)
        return {"choices": choices, "value": first, "visible": visible and bool(values)}

    if task in ("speak", "clone"):
        found["language"] = names(model.languages, "language" in options)
    if task == "speak":
        found["speaker"] = names(model.speakers, True)
    if task == "convert":
        found["voice"] = names(model.speakers, True, optional=True)
        found["speaker"] = names(model.speakers, model.needs_source_speaker)
    return found


def request_of(
    service: SpeechService, folder: Path, task: Task, values: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, list[Upload]]]:
    """The fields and recordings of a request from the values of components by name.

    **Arguments:** `folder`, that of the files that were uploaded to the page.

    **Raises:** `ConfigError` for another file, recordings that are too large, or two voices.
    """
    model = find_model(service.models, values["model"], task)
    options = model.options(task)
    paths = {
        "source": [values.pop("source", None)],
        "reference": [values.pop("reference", None), *(values.pop("more", None) or ())],
    }
    uploads = {name: [Upload(Path(path), upload_name(path)) for path in found if path] for name, found in paths.items()}
    for upload in (one for found in uploads.values() for one in found):
        if not upload.path.resolve().is_relative_to(folder.resolve()):
            raise ConfigError(f"{upload.name} is no file that was uploaded to the page; upload it.")
        if not upload.path.is_file():
            raise ConfigError(
                f"{upload.name} is no longer kept, since uploads are removed after ten minutes. Upload it again."
            )
    size = sum(upload.path.stat().st_size for found in uploads.values() for upload in found)
    if size > service.limits.upload_bytes:
        raise ConfigError(
            f"The recordings have {size} bytes; they should have at most {service.limits.upload_bytes}. Send "
            "shorter or fewer ones."
        )
    fields: dict[str, Any] = {}
    for name, value in values.items():
        of_model = name in ("model", "text") or name in options or (name in ("voice", "speaker") and model.speakers)
        if (of_model and value not in (None, "")) or name == "text":
            fields[name] = value
    if task == "convert" and not model.needs_source_speaker:
        fields.pop("speaker", None)
    if fields.get("voice") and uploads["reference"]:
        raise ConfigError("There are two voices; remove the recording of the voice, or choose none as known voice.")
    return fields, uploads


@contextlib.contextmanager
def linked(uploads: Mapping[str, Sequence[Upload]], folder: Path) -> Iterator[dict[str, list[Upload]]]:
    """A context with links to the files of `uploads` in `folder`, which remain if the files are removed."""
    with tempfile.TemporaryDirectory(prefix="request-", dir=folder, ignore_cleanup_errors=True) as place:
        found: dict[str, list[Upload]] = {}
        for name, several in uploads.items():
            found[name] = [replace(one, path=Path(place, f"{name}{i}")) for i, one in enumerate(several)]
            for old, new in zip(several, found[name], strict=True):
                os.link(old.path, new.path)
        yield found


def player_html(job: Job) -> str:
    """A player for the result of a job, and a link to it."""
    address = html.escape(f"/api/results/{job.identifier}", quote=True)
    return (
        f'<audio controls autoplay src="{address}" style="width: 100%"></audio>'
        f'<p><a href="{address}" download="speech.wav">Download (WAV)</a></p>'
    )


def status_text(job: Job, computation: Computation) -> str:
    """The state of a job in words, with its warnings."""
    rate, frame = computation.sample_rate, 2 * computation.channels
    seconds = sum(map(len, job.blocks)) / frame / rate
    if job.state == "waiting":
        number = job.position
        text = f"Waiting for {number} other request{'s' * (number != 1)}."
    elif job.state == "running":
        text = f"Computing: {seconds:.1f} s of audio so far."
    elif job.state == "done":
        text = f"Done: {seconds:.2f} s at {rate} Hz."
    elif job.state == "failed":
        text = "Failed."
    else:
        text = f"Stopped after {seconds:.1f} s of audio."
    return "\n".join([text, *job.warnings])


def gradio_module() -> Any:
    """The package gradio; raises `MissingExtraError` if it is not installed."""
    try:
        import gradio  # pyright: ignore[reportMissingImports]
    except ImportError as failure:
        raise missing_extra() from failure
    return gradio

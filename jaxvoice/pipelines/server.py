"""An HTTP server for speech: requests with texts and recordings, and audio as it is computed."""

import asyncio
import contextlib
import importlib.util
import json
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxvoice.console import print_message
from jaxvoice.data.audio_headers import wav_header
from jaxvoice.errors import ConfigError, JaxvoiceError, MissingExtraError
from jaxvoice.pipelines.request_guard import (
    BUG,
    App,
    Receive,
    RequestError,
    RequestGuard,
    Scope,
    Send,
    respond_with_error,
)
from jaxvoice.pipelines.served_inputs import public_message
from jaxvoice.pipelines.served_models import TASKS, Task
from jaxvoice.pipelines.speech_service import Computation, SpeechService, Upload
from jaxvoice.pipelines.work_queue import BusyError, Job, changes, ignoring_closed_stderr

FIRST_PORT = 7860
_PORTS = 100
_RECEIVE_SECONDS = 120.0  # in which the body of a request should arrive
_SEND_SECONDS = 120.0  # in which a client should accept a block
_READ_SECONDS = 600.0  # in which a client should accept the rest of a complete result
_MOST_FILES, _MOST_FIELDS = 16, 32
_MOST_WARNING = 2000  # characters of a header


class TaskEndpoint:
    """The endpoint of a task: receives a request, waits for its turn, and sends the audio as it is computed."""

    def __init__(self, service: SpeechService, task: Task):
        self.service = service
        self.task: Task = task

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a POST request."""
        from starlette.requests import ClientDisconnect  # pyright: ignore[reportMissingImports]

        job: Job | None = None
        try:
            job = self.service.queue.reserve()
            with tempfile.TemporaryDirectory(prefix="jaxvoice-serve-", ignore_cleanup_errors=True) as folder:
                async with asyncio.timeout(_RECEIVE_SECONDS):
                    fields, uploads = await self._received(scope, receive, Path(folder))
                in_wav = _in_wav(fields.pop("format", "wav"))
                computation = await asyncio.to_thread(self.service.plan, self.task, fields, uploads)
                self.service.queue.start(job, computation.work)
                await _send_audio(job, computation, in_wav, scope, receive, send)
        except ClientDisconnect:
            pass
        except TimeoutError:
            failure = RequestError(408, f"The request did not arrive within {_RECEIVE_SECONDS:g} s; send it again.")
            await respond_with_error(failure, scope, receive, send)
        except Exception as failure:
            await respond_with_error(failure, scope, receive, send)
        finally:
            if job is not None:
                job.cancel()

    async def _received(
        self, scope: Scope, receive: Receive, folder: Path
    ) -> tuple[dict[str, Any], dict[str, list[Upload]]]:
        """The fields of a request, and its recordings as files in `folder`."""
        from starlette.exceptions import HTTPException  # pyright: ignore[reportMissingImports]
        from starlette.requests import Request  # pyright: ignore[reportMissingImports]

        received = 0

        async def limited() -> MutableMapping[str, Any]:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > most:
                raise too_large
            return message

        request = Request(scope, limited)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        limits, has_files = self.service.limits, kind == "multipart/form-data"
        most = limits.upload_bytes if has_files else limits.field_bytes
        advice = "send shorter or fewer recordings" if has_files else "send a shorter text"
        too_large = RequestError(413, f"The body should have at most {most} bytes; {advice}.")
        if int(request.headers.get("content-length") or 0) > most:
            raise too_large
        if kind == "application/json":
            return _json_object(await request.body()), {}
        if kind not in ("multipart/form-data", "application/x-www-form-urlencoded"):
            raise RequestError(
                415,
                f"The content type is {kind[:100]!r}; it should be application/json, multipart/form-data or "
                "application/x-www-form-urlencoded.",
            )
        try:
            form = await request.form(max_files=_MOST_FILES, max_fields=_MOST_FIELDS)
        except HTTPException as failure:
            raise RequestError(400, f"The form cannot be read: {failure.detail}") from None
        fields: dict[str, Any] = {}
        uploads: dict[str, list[Upload]] = {}
        try:
            for number, (name, value) in enumerate(form.multi_items()):
                if isinstance(value, str):
                    if name in fields:
                        raise RequestError(400, f"The field {name[:100]!r} is there twice; send it once.")
                    fields[name] = value
                else:
                    path = folder / f"upload{number}"
                    await asyncio.to_thread(_copy, value.file, path)
                    uploads.setdefault(name, []).append(Upload(path, upload_name(value.filename)))
        finally:
            await form.close()
        return fields, uploads


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise RequestError(400, "The body is not a JSON object; it should have the fields of the request.")
    return found


def _copy(source: Any, path: Path) -> None:
    with path.open("wb") as file:
        shutil.copyfileobj(source, file)


def upload_name(name: str | None) -> str:
    """The name of an uploaded file for messages, without folders and control characters."""
    last = (name or "").replace("\\", "/").rpartition("/")[2]
    return "".join(character for character in last if character.isprintable())[:100] or "the recording"


def _in_wav(kind: Any) -> bool:
    """Whether the audio is sent as a WAV file, not as samples without a header."""
    if kind not in ("wav", "pcm"):
        raise RequestError(400, f"format is {str(kind)[:100]!r}; it should be 'wav' or 'pcm'.")
    return kind == "wav"


def audio_header(computation: Computation, size: int | None = None) -> bytes:
    """The header of a WAV file for the audio of a computation, of `size` bytes, or of a size that is not known yet."""
    frames = None if size is None else size // (2 * computation.channels)
    header = wav_header(frames, computation.sample_rate, np.dtype("<i2"), computation.channels)
    assert header is not None
    return header


def _headers(computation: Computation, in_wav: bool) -> dict[str, str]:
    rate, channels = computation.sample_rate, computation.channels
    kind = "audio/wav" if in_wav else f"audio/pcm;rate={rate};channels={channels};encoding=s16le"
    return {
        "Content-Type": kind,
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "X-Sample-Rate": str(rate),
        "X-Channels": str(channels),
    }


async def _send_audio(
    job: Job, computation: Computation, in_wav: bool, scope: Scope, receive: Receive, send: Send
) -> None:
    """Send the blocks of a job as they are computed. It is cancelled if the client disconnects.

    The warnings known at the first block are in the header X-Warning.

    An error before the first block is raised. After it, the response ends without its last chunk, which clients report.
    """
    waits = asyncio.ensure_future(_disconnected(receive))
    waits.add_done_callback(lambda _: job.cancel())
    started, end = False, float("inf")
    now = asyncio.get_running_loop().time
    try:
        async for block in blocks_of(job):
            if not started:
                await _start(send, _headers(computation, in_wav) | _warning_header(job))
                started = True
                block = (audio_header(computation) if in_wav else b"") + block
            if job.is_final:
                end = min(end, now() + _READ_SECONDS)
            async with asyncio.timeout_at(min(now() + _SEND_SECONDS, end)):
                await send({"type": "http.response.body", "body": block, "more_body": True})
        if job.state == "done":
            if not started:
                raise ConfigError("The model computed no audio; send a longer text or recording.")
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        elif not started and job.failure is not None:
            raise job.failure if isinstance(job.failure, JaxvoiceError) else RequestError(500, BUG)
        elif not started and not waits.done():
            raise BusyError("The server is shutting down; try again later.", 1)
    except TimeoutError:
        pass  # of a client that does not read
    finally:
        waits.cancel()
        if started and job.failure is not None:
            with ignoring_closed_stderr():
                print_message("error", f"The audio of a response is incomplete: {job.failure}")


def _warning_header(job: Job) -> dict[str, str]:
    """The warnings of a job as a header; other characters than those of ASCII are replaced."""
    text = " ".join(public_message(" ".join(job.warnings)).split())[:_MOST_WARNING]
    shown = "".join(character for character in text if character.isprintable())
    return {"X-Warning": shown.encode("ascii", "replace").decode()} if shown else {}


async def blocks_of(job: Job) -> AsyncIterator[bytes]:
    """Yield the blocks of a job from the first on, as they are computed."""
    sent = 0
    async for _ in changes(job):
        while sent < len(job.blocks):
            sent += 1
            yield job.blocks[sent - 1]


async def _start(send: Send, headers: dict[str, str], status: int = 200) -> None:
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class ResultEndpoint:
    """The endpoint of results that a page plays: a WAV file, which is sent while it is computed."""

    def __init__(self, service: SpeechService):
        self.service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a GET request; of a complete result, also with a part of it."""
        from starlette.requests import Request  # pyright: ignore[reportMissingImports]

        request = Request(scope)
        found = self.service.result(request.path_params["identifier"])
        if found is None:
            failure = RequestError(404, "There is no such result, or it is no longer kept; compute it again.")
            await respond_with_error(failure, scope, receive, send)
            return
        job, computation = found
        headers = _headers(computation, in_wav=True) | {"Content-Disposition": 'inline; filename="speech.wav"'}
        if job.state != "done":
            await _send_unfinished(job, audio_header(computation), headers, scope, receive, send)
            return
        blocks = [audio_header(computation, sum(map(len, job.blocks))), *job.blocks]
        size = sum(map(len, blocks))
        first, last = _byte_range(request.headers.get("range", ""), size)
        headers |= {"Accept-Ranges": "bytes", "Content-Length": str(last - first)}
        partial = last - first < size
        if partial:
            headers["Content-Range"] = f"bytes {first}-{last - 1}/{size}"
        with contextlib.suppress(TimeoutError):  # of a client that does not read
            async with asyncio.timeout(_READ_SECONDS):
                await _start(send, headers, 206 if partial else 200)
                for part in _parts(blocks, first, last):
                    await send({"type": "http.response.body", "body": part, "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})


def _parts(blocks: Iterable[bytes], first: int, last: int) -> Iterator[bytes]:
    """The bytes `first` to `last`, exclusive, of `blocks` one after another, in parts of at most a block."""
    start = 0
    for block in blocks:
        part = block[max(0, first - start) : max(0, last - start)]
        start += len(block)
        if part:
            yield part


async def _send_unfinished(
    job: Job, header: bytes, headers: dict[str, str], scope: Scope, receive: Receive, send: Send
) -> None:
    """Send the blocks of a job that is computed or has failed; the last chunk follows only if the job is complete."""
    started = False
    async for block in blocks_of(job):
        if not started:
            await _start(send, headers)
            block = header + block
        started = True
        try:
            async with asyncio.timeout(_SEND_SECONDS):
                await send({"type": "http.response.body", "body": block, "more_body": True})
        except TimeoutError:  # of a client that does not read
            return
    if started:
        if job.state == "done":
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        return
    reason = "It was stopped." if job.state == "cancelled" else "The model computed none."
    if job.failure is not None:
        reason = public_message(job.failure) if isinstance(job.failure, JaxvoiceError) else BUG
    await respond_with_error(RequestError(404, f"The result has no audio. {reason}"), scope, receive, send)


def _byte_range(header: str, size: int) -> tuple[int, int]:
    """The first byte and the end of the range of a header; all bytes if the header is not a single valid range."""
    unit, _, given = header.partition("=")
    first, dash, last = given.partition("-")
    is_range = first.isdecimal() and (not last or last.isdecimal()) and max(len(first), len(last)) <= 18
    if unit.strip() == "bytes" and dash and is_range:
        start, end = int(first), min(int(last) + 1 if last else size, size)
        if start < end:
            return start, end
    return 0, size


def create_app(
    service: SpeechService, page: Any = None, *, host: str = "127.0.0.1", names: tuple[str, ...] = ()
) -> App:
    """The ASGI application of a service: its endpoints, and a page.

    **Arguments:** `page`, as `speech_page` returns it, by default none; `host` and `names`, as for `RequestGuard`.

    **Raises:** `MissingExtraError` without the extra `serve`.
    """
    check_extra()
    from starlette.applications import Starlette  # pyright: ignore[reportMissingImports]
    from starlette.requests import Request  # pyright: ignore[reportMissingImports]
    from starlette.responses import JSONResponse  # pyright: ignore[reportMissingImports]
    from starlette.routing import Route  # pyright: ignore[reportMissingImports]

    async def health(_: Request) -> Any:
        taken = service.queue.taken
        return JSONResponse({"status": "ok", "requests": taken, "places": service.queue.places})

    async def models(_: Request) -> Any:
        return JSONResponse({"models": [model.describe() for model in service.models]})

    async def not_found(request: Request) -> Any:
        path, known = request.url.path[:100], ", ".join(f"/api/{task}" for task in service.tasks)
        message = f"There is no {request.method} of {path}; there are GET of /api/health and /api/models, and POST of "
        task = path.removeprefix("/api/")
        reason = f" No loaded model has the task {task!r}." if task in TASKS and task not in service.tasks else ""
        return JSONResponse({"error": f"{message}{known}.{reason}"}, 404)

    @contextlib.asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.close)

    app = Starlette(
        routes=[
            Route("/api/health", health),
            Route("/api/models", models),
            Route("/api/results/{identifier}", ResultEndpoint(service), methods=["GET"]),
            *(Route(f"/api/{task}", TaskEndpoint(service, task), methods=["POST"]) for task in service.tasks),
            Route("/api/{rest:path}", not_found, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
        ],
        lifespan=lifespan,
    )
    if page is not None:
        page.mount(app)
    return RequestGuard(app, host, names)


def check_extra() -> None:
    """Raise `MissingExtraError` if the packages of the extra `serve` are not installed."""
    missing = [name for name in ("gradio", "starlette", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise missing_extra()


def missing_extra() -> MissingExtraError:
    """The error for a missing web framework."""
    return MissingExtraError(
        "The server needs gradio and the web framework that comes with it, which are not installed: pip install "
        "'jaxvoice[serve]'."
    )


def open_socket(host: str = "127.0.0.1", port: int | None = None) -> socket.socket:
    """A socket that listens at `host` and `port`, by default the first free port from 7860.

    **Raises:** `ConfigError` if the port is not free, or for an address that the machine does not have.
    """
    reason: OSError | None = None
    try:
        family, *_, address = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0]
        for candidate in range(FIRST_PORT, FIRST_PORT + _PORTS) if port is None else (port,):
            try:
                return socket.create_server((str(address[0]), candidate), family=family, backlog=1024)
            except OSError as failure:
                reason = failure
    except OSError as failure:  # an unknown name
        reason = failure
    given = "" if port is None else f":{port}"
    raise ConfigError(f"The server cannot listen at {host}{given} ({reason}); choose another --host or --port.")


def address_of(listener: socket.socket) -> str:
    """The address of the server at a socket, for a browser."""
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(str(host), str(host))
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def make_server(app: App) -> Any:
    """A `uvicorn.Server` for an application; its method `run(sockets=[...])` serves until it is interrupted.

    **Raises:** `MissingExtraError` without the extra `serve`.
    """
    check_extra()
    import uvicorn  # pyright: ignore[reportMissingImports]

    return uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,  # the default closes the handlers of other packages
            log_level="critical",  # errors are printed where they are caught
            access_log=False,
            server_header=False,
            ws="none",
            lifespan="on",
            timeout_graceful_shutdown=2,
        )
    )

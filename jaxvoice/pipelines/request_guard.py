"""Protection of an HTTP server against pages of other sites, and its responses to invalid requests."""

import ipaddress
import socket
import sys
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from jaxvoice.errors import CheckpointError, JaxvoiceError, MissingExtraError
from jaxvoice.pipelines.served_inputs import public_message
from jaxvoice.pipelines.work_queue import BusyError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
"""An ASGI application."""


BUG = "The server failed because of a bug; its output has the details."
"""The answer to a request for which an exception was raised that is no error of the library."""


class RequestError(Exception):
    """A request that cannot be answered, with the status of the response."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address, is this machine for itself only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class RequestGuard:
    """Refuses requests that a page of another site made in the user's browser.

    The header Host should be an address or a known name of the server, so that a foreign name that resolves to it
    (DNS rebinding) has no access. The header Origin, if there is one, should be the same as Host.
    """

    def __init__(self, app: App, host: str, names: tuple[str, ...] = ()):
        """**Arguments:** `host`, the address on which the server listens; `names`, further names of the server."""
        self.app, self.loopback = app, is_loopback(host)
        own = () if self.loopback else (socket.gethostname(),)
        self.names = {name.lower() for name in ("localhost", host, *own, *names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with status 403."""
        if scope["type"] == "http" and (problem := self.problem(scope)):
            await respond_with_error(RequestError(403, problem), scope, receive, send)
        elif scope["type"] in ("http", "lifespan"):
            await self.app(scope, receive, send)

    def problem(self, scope: Scope) -> str:
        """Why a request is refused; an empty text if it is not."""
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        hosts, origins = headers.get("host", []), headers.get("origin", [])
        if len(hosts) != 1 or not self.is_known(_hostname(hosts[0])):
            return (
                "The header Host is not an address of this server. Open the address that jaxvoice serve prints, or "
                "pass the name to --allow-host."
            )
        if any(_netloc(origin) != hosts[0].lower() for origin in origins):
            return "The request comes from a page of another site, which this server does not answer."
        if not origins and scope["method"] not in ("GET", "HEAD") and "cross-site" in headers.get("sec-fetch-site", []):
            return "The request comes from a page of another site, which this server does not answer."
        return ""

    def is_known(self, name: str) -> bool:
        """Whether `name` is a name of the server: an address needs no name server, so it cannot be rebound."""
        if name in self.names or is_loopback(name):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return not self.loopback


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _hostname(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


async def respond_with_error(failure: Exception, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the status and the text of an error as JSON. Bugs are printed to stderr, not sent."""
    from starlette.responses import JSONResponse  # pyright: ignore[reportMissingImports]

    headers = {"Cache-Control": "no-store"}
    if isinstance(failure, RequestError):
        status, message = failure.status, str(failure)
    elif isinstance(failure, BusyError):
        status, message = 503, str(failure)
        headers["Retry-After"] = str(failure.retry_after)
    elif isinstance(failure, JaxvoiceError):
        status = 500 if isinstance(failure, CheckpointError | MissingExtraError) else 400
        message = public_message(failure)
    else:
        traceback.print_exception(failure, file=sys.stderr)
        status, message = 500, BUG
    await JSONResponse({"error": message}, status, headers)(scope, receive, send)

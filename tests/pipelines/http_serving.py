"""A server on another thread for tests, and its clients."""

import contextlib
import io
import threading
import time
from collections.abc import Callable

import pytest
import soundfile

from jaxvoice.pipelines.served_inputs import Limits
from jaxvoice.pipelines.served_models import ServedModel
from jaxvoice.pipelines.server import address_of, create_app, make_server, open_socket
from jaxvoice.pipelines.speech_service import SpeechService
from tests.pipelines.served_pipelines import LONG, Gated

httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")


@contextlib.contextmanager
def serving(models, limits=None, **options):
    """A server on another thread, as its service and its address."""
    service = SpeechService(models, limits)
    with open_socket() as listener:
        server = make_server(create_app(service, **options))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield service, address_of(listener)
        finally:
            server.should_exit = True
            service.close()
            thread.join(LONG)
            assert not thread.is_alive()


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for `condition`, at most `LONG` seconds."""
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end, "The server is not in the expected state."
        time.sleep(0.001)


@contextlib.contextmanager
def client(address):
    with httpx.Client(base_url=address, timeout=LONG, trust_env=False) as found:
        yield found


def audio_of(response):
    assert response.status_code == 200, response.text
    return soundfile.read(io.BytesIO(response.content), dtype="int16")


def gated_server(waiting=100):
    pipeline = Gated()
    return pipeline, serving([ServedModel("gated", pipeline)], Limits(waiting=waiting))

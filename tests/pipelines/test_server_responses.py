"""The responses of the HTTP server: warnings, failures, slow clients, and the results that a page plays."""

import asyncio
import threading

import numpy as np
import pytest

from jaxvoice.errors import ConfigError, warn_caller
from jaxvoice.pipelines import server as server_module
from jaxvoice.pipelines.served_inputs import pcm16
from jaxvoice.pipelines.served_models import ServedModel
from jaxvoice.pipelines.speech_service import SpeechService
from tests.pipelines.http_serving import audio_of, client, gated_server, serving
from tests.pipelines.served_pipelines import LONG, RATE, Gated, Speaker, tone

httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")


def test_a_failure_after_the_first_block_ends_the_response_early(capsys):
    class Failing(Gated):
        def _blocks(self, text):
            yield tone(0.1)
            raise ConfigError("the model failed")

    with serving([ServedModel("failing", Failing())]) as (_, address), client(address) as connection:
        with pytest.raises(httpx.RemoteProtocolError), connection.stream("POST", "/api/speak", json={"text": "x"}) as r:
            assert r.status_code == 200 and r.read()
        assert "The audio of a response is incomplete: the model failed" in capsys.readouterr().err


def test_warnings_are_sent_before_the_audio_and_printed(capsys):
    goes_on = threading.Event()

    class Clipped(Speaker):
        def speak(self, text, *, seed=0, stream=False):
            warn_caller("The file /srv/é.wav is clipped.")
            yield tone(0.1)
            assert goes_on.wait(LONG)
            warn_caller("The speech was ended.")

    with serving([ServedModel("clipped", Clipped())]) as (_, address), client(address) as connection:
        with connection.stream("POST", "/api/speak", json={"text": "x"}) as response:
            assert response.headers["x-warning"] == "The file ?.wav is clipped."
            goes_on.set()
            assert len(response.read()) == 44 + 2 * RATE // 10
        printed = capsys.readouterr().err
        assert "warning: The file /srv/é.wav is clipped." in printed and "warning: The speech was ended." in printed


@pytest.mark.parametrize("failure", [None, ConfigError("the model failed")])
def test_clients_that_accept_blocks_slowly_are_left(failure, monkeypatch, capsys):
    """The time of a whole result is bounded besides that of each block, since it is kept in memory."""
    monkeypatch.setattr(server_module, "_READ_SECONDS", 0.0)
    service = SpeechService([ServedModel("speaker", Speaker())])
    computation, job = service.plan("speak", {"text": "x"}), service.queue.reserve()
    job.blocks, job.state, job.failure = [b"x", b"x"], "done" if failure is None else "failed", failure
    sent = []

    async def receive():
        await asyncio.Event().wait()

    async def send(message):
        sent.append(message["type"])
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    async def answer():
        async with asyncio.timeout(LONG):
            await server_module._send_audio(job, computation, True, {}, receive, send)

    asyncio.run(answer())
    assert sent == ["http.response.start", "http.response.body"]
    assert ("The audio of a response is incomplete: the model failed" in capsys.readouterr().err) == (
        failure is not None
    )
    service.close()


def test_results_are_sent_whole_in_parts_and_while_they_are_computed():
    pipeline, server = gated_server()
    with server as (service, address), client(address) as connection:
        computation = service.plan("speak", {"text": "x"})
        job = service.queue.reserve()
        service.keep(job, computation)
        service.queue.start(job, computation.work)
        path = f"/api/results/{job.identifier}"
        pipeline.first.set()
        with connection.stream("GET", path) as response:
            pipeline.second.set()
            streamed = response.read()
        expected = pcm16(np.concatenate([tone(0.1)] * 2))
        assert streamed[44:] == expected and streamed[4:8] == streamed[40:44] == b"\xff" * 4
        whole = connection.get(path)
        assert whole.status_code == 200 and whole.headers["content-length"] == str(len(streamed))
        assert np.array_equal(audio_of(whole)[0], np.frombuffer(expected, np.int16))
        for header, part in (("bytes=0-99", slice(0, 100)), ("bytes=100-", slice(100, None))):
            response = connection.get(path, headers={"Range": header})
            assert response.status_code == 206 and response.content == whole.content[part]
            first, last = range(len(whole.content))[part][0], range(len(whole.content))[part][-1]
            assert response.headers["content-range"] == f"bytes {first}-{last}/{len(whole.content)}"
        for header in ("bytes=9-2", "bytes=-5", "items=0-1", "bytes=0-1,5-6", "bytes=99999-", f"bytes={'9' * 5000}-"):
            assert connection.get(path, headers={"Range": header}).content == whole.content
        assert connection.get("/api/results/unknown").status_code == 404


@pytest.mark.parametrize("failure", [ConfigError("/srv/a.json: the model failed."), None])
def test_results_that_failed_or_were_stopped_are_not_complete(failure):
    """Their responses have no last chunk, while they are computed and later; without audio, they are errors."""
    with serving([ServedModel("speaker", Speaker())]) as (service, address), client(address) as connection:
        for blocks in (1, 0):
            goes_on = threading.Event()

            def work(blocks=blocks, goes_on=goes_on):
                yield from [pcm16(tone(0.1))] * blocks
                assert goes_on.wait(LONG)
                if failure is not None:
                    raise failure
                yield pcm16(tone(0.1))

            job = service.queue.reserve()
            service.keep(job, service.plan("speak", {"text": "x"}))
            service.queue.start(job, work)
            path = f"/api/results/{job.identifier}"

            def end(job=job, goes_on=goes_on):
                if failure is None:
                    job.cancel()
                goes_on.set()

            if blocks:
                with connection.stream("GET", path) as response, pytest.raises(httpx.RemoteProtocolError):
                    end()
                    response.read()
                with pytest.raises(httpx.RemoteProtocolError):
                    connection.get(path)
            else:
                end()
                response = connection.get(path)
                reason = "It was stopped." if failure is None else "a.json: the model failed."
                assert response.status_code == 404
                assert response.json()["error"] == f"The result has no audio. {reason}"

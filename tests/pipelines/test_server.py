"""The HTTP server over loopback: audio, limits, its queue with many requests, cancellation, and other sites.

Pipelines without networks wait for events, so that no test depends on time.
"""

import concurrent.futures
import dataclasses
import http.client
import io
import json
import socket
from urllib.parse import urlsplit

import jax
import numpy as np
import pytest
import soundfile

from jaxvoice.errors import ConfigError, MissingExtraError
from jaxvoice.models.gaussian_tts import FAMILY as TTS
from jaxvoice.models.hifigan import FAMILY as HIFIGAN
from jaxvoice.pipelines import server as server_module
from jaxvoice.pipelines.request_guard import RequestGuard, is_loopback
from jaxvoice.pipelines.served_inputs import Limits, pcm16
from jaxvoice.pipelines.served_models import ServedModel, load_models
from jaxvoice.pipelines.server import address_of, create_app, make_server, open_socket, upload_name
from jaxvoice.pipelines.speech_service import SpeechService
from jaxvoice.text import ALIGNED
from tests.models.gaussian_tts.small import SMALL
from tests.pipelines.conftest import loud_generator, small_config
from tests.pipelines.http_serving import audio_of, client, gated_server, serving, wait_until
from tests.pipelines.served_pipelines import LONG, RATE, Autoencoder, Cloner, Speaker, Vocoder, tone
from tests.pipelines.small_xtts import small_synthesizer, stored_voices

httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")


@pytest.fixture(scope="module")
def served():
    """A server of pipelines that compute at once."""
    pipelines = {"speaker": Speaker(), "cloner": Cloner(), "vocoder": Vocoder(), "autoencoder": Autoencoder()}
    limits = Limits(text_characters=50, upload_megabytes=0.2, reference_seconds=2.0, source_seconds=3.0, waiting=100)
    models = [ServedModel(*item) for item in pipelines.items()]
    with serving(models, limits) as (service, address), client(address) as connection:
        yield service, connection


def wav(seconds=0.5, channels=1):
    file = io.BytesIO()
    soundfile.write(file, np.repeat(tone(seconds)[:, None], channels, axis=1), RATE, format="WAV")
    return file.getvalue()


def test_models_and_health(served):
    _, connection = served
    models = connection.get("/api/models").json()["models"]
    assert [model["name"] for model in models] == ["speaker", "cloner", "vocoder", "autoencoder"]
    assert models[1]["languages"] == ["en", "pt"] and models[1]["sample_rate"] == RATE
    assert connection.get("/api/health").json() == {"status": "ok", "requests": 0, "places": 101}


def test_every_task_returns_audio(served):
    service, connection = served
    speech = connection.post("/api/speak", json={"model": "speaker", "text": "Hello"})
    samples, rate = audio_of(speech)
    assert rate == RATE and np.array_equal(samples, np.frombuffer(pcm16(tone(0.5)), np.int16))
    assert speech.headers["content-type"] == "audio/wav" and speech.headers["transfer-encoding"] == "chunked"
    assert speech.headers["x-sample-rate"] == str(RATE) and speech.headers["cache-control"] == "no-store"
    raw = connection.post("/api/speak", data={"model": "speaker", "text": "Hello", "format": "pcm"})
    assert raw.content == pcm16(tone(0.5)) and raw.headers["content-type"].startswith("audio/pcm;rate=8000;channels=1")
    references = [("reference", ("a.wav", wav(0.3))), ("reference", ("b.flac", wav(0.4)))]
    cloned = connection.post("/api/clone", data={"text": "Hi", "language": "pt"}, files=references)
    assert len(audio_of(cloned)[0]) == 0.75 * RATE
    assert service.models[1].pipeline.calls[-1] == [("a.wav", 0.3), ("b.flac", 0.4)]
    source = {"source": ("me.wav", wav(0.5))}
    converted = connection.post("/api/convert", data={"voice": "anna"}, files=source)
    assert len(audio_of(converted)[0]) == 0.5 * RATE
    assert service.models[1].pipeline.calls[-1] == ("me.wav", "anna", None, 0)
    vocoded = connection.post("/api/vocode", data={"model": "vocoder"}, files=source)
    assert np.array_equal(audio_of(vocoded)[0], soundfile.read(io.BytesIO(wav(0.5)), dtype="int16")[0])
    stereo = connection.post("/api/vocode", data={"model": "autoencoder"}, files={"source": ("s", wav(0.5, 2))})
    assert audio_of(stereo)[0].shape == (0.5 * RATE, 2) and stereo.headers["x-channels"] == "2"


@pytest.mark.parametrize(
    ("path", "request_", "status", "message"),
    [
        ("speak", {"json": {"model": "speaker", "text": "x" * 51}}, 400, "text has 51 characters"),
        ("speak", {"json": {"model": "speaker", "text": " "}}, 400, "text is empty; see config.json."),
        ("speak", {"json": {"model": "speaker", "text": "x", "format": "mp3"}}, 400, "format is 'mp3'"),
        ("speak", {"json": ["x"]}, 400, "not a JSON object"),
        ("speak", {"content": b"[" * 100_000, "headers": {"Content-Type": "application/json"}}, 400, "not a JSON"),
        ("speak", {"content": b"\xff", "headers": {"Content-Type": "application/json"}}, 400, "not a JSON object"),
        ("speak", {"content": b"x", "headers": {"Content-Type": "text/plain"}}, 415, "content type is 'text/plain'"),
        ("clone", {"data": {"text": "x"}, "files": {"reference": ("../../b.wav", b"no audio")}}, 400, "b.wav is not"),
        ("clone", {"data": {"text": "x"}, "files": {"reference": ("b.wav", wav(2.5))}}, 400, "reference has 2.5 s"),
        ("vocode", {"files": {"source": ("b.wav", b"x" * 300_000)}}, 413, "at most 200000 bytes"),
        ("speak", {"content": iter([b"x" * 300_000]), "headers": {"Content-Type": "application/json"}}, 413, "at most"),
        ("vocode", {"data": {"model": "vocoder"}, "files": [("source", ("a", wav())) for _ in range(17)]}, 400, "form"),
        ("convert", {"data": {"voice": "anna"}, "files": {"source": ("", wav())}}, 400, "send it as a file"),
        ("nothing", {"json": {}}, 404, "no POST of /api/nothing; there are GET of /api/health"),
    ],
)
def test_invalid_requests_are_answered_with_json(path, request_, status, message, served):
    service, connection = served
    response = connection.post(f"/api/{path}", **request_)
    assert response.status_code == status and message in response.json()["error"]
    assert "/tmp" not in response.text and "Traceback" not in response.text
    assert service.queue.taken == 0


def test_bodies_without_recordings_are_smaller():
    limits = Limits(text_characters=10)
    assert limits.field_bytes == 1_000_120 < limits.upload_bytes
    with serving([ServedModel("speaker", Speaker())], limits) as (_, address), client(address) as connection:
        text = "\N{GRINNING FACE}" * 10
        assert connection.post("/api/speak", json={"text": text}).status_code == 200
        for kind in ("application/json", "application/x-www-form-urlencoded"):
            for content in (b"x" * 1_000_121, iter([b"x" * 1_000_121])):
                response = connection.post("/api/speak", content=content, headers={"Content-Type": kind})
                assert response.status_code == 413 and "1000120 bytes; send a shorter text" in response.json()["error"]


def test_fields_are_sent_once(served):
    _, connection = served
    body = b'--b\r\nContent-Disposition: form-data; name="text"\r\n\r\nx\r\n' * 2 + b"--b--\r\n"
    response = connection.post("/api/speak", content=body, headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert response.status_code == 400 and "'text' is there twice" in response.json()["error"]
    response = connection.get("/api/speak")
    assert response.status_code == 404 and "no GET of /api/speak" in response.json()["error"]


def test_bugs_are_answered_without_details(capsys):
    class Wrong(Speaker):
        def speak(self, text, *, seed=0):
            raise KeyError("/srv/secret")

    with serving([ServedModel("wrong", Wrong())]) as (_, address), client(address) as connection:
        response = connection.post("/api/speak", json={"text": "x"})
        assert response.status_code == 500 and "because of a bug" in response.json()["error"]
        assert "secret" not in response.text and capsys.readouterr().err.count("Traceback") == 1


def wait_for_requests(connection, number):
    """Wait until so many requests have a place, by asking the server."""
    wait_until(lambda: connection.get("/api/health").json()["requests"] == number)


def open_request(address, text):
    """A request on a connection of its own, without reading the answer."""
    place = urlsplit(address)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=LONG)
    connection.request("POST", "/api/speak", json.dumps({"text": text}), {"Content-Type": "application/json"})
    return connection


def test_a_hundred_requests_are_answered_in_their_order():
    pipeline, server = gated_server(waiting=99)
    with server as (service, address), client(address) as connection:
        opened = []
        for number in range(100):
            opened.append(open_request(address, str(number)))
            queue = service.queue
            wait_until(lambda queue=queue, n=number: queue._running is not None and len(queue._started) >= n)
        refused = connection.post("/api/speak", json={"text": "one too many"})
        assert refused.status_code == 503 and int(refused.headers["retry-after"]) >= 1
        assert "The number of requests is 100, the largest" in refused.json()["error"]
        pipeline.first.set()
        pipeline.second.set()
        for one in opened:
            response = one.getresponse()
            assert response.status == 200 and len(response.read()) == 44 + 2 * 2 * RATE // 10
            one.close()
        assert pipeline.calls == [str(number) for number in range(100)]
        wait_for_requests(connection, 0)
        assert connection.post("/api/speak", json={"text": "free again"}).status_code == 200


def test_audio_is_sent_while_it_is_computed():
    pipeline, server = gated_server()
    with server as (_, address):
        connection = open_request(address, "hello")
        pipeline.first.set()
        response = connection.getresponse()
        first = response.read(44 + 2 * RATE // 10)
        assert first[:4] == b"RIFF" and first[44:] == pcm16(tone(0.1)) and not pipeline.second.is_set()
        pipeline.second.set()
        assert response.read() == pcm16(tone(0.1))
        connection.close()


def test_clients_that_disconnect_free_their_places():
    pipeline, server = gated_server(waiting=2)
    with server as (service, address), client(address) as connection:
        opened = []
        for number in range(3):
            opened.append(open_request(address, str(number)))
            wait_for_requests(connection, number + 1)
        assert connection.post("/api/speak", json={"text": "x"}).status_code == 503
        opened[1].close()  # waits
        wait_for_requests(connection, 2)
        opened[0].close()  # runs, until its block ends
        wait_until(lambda: service.queue._running.state == "cancelled")
        pipeline.first.set()
        pipeline.second.set()
        response = opened[2].getresponse()
        assert response.status == 200 and len(response.read()) == 44 + 2 * 2 * RATE // 10
        opened[2].close()
        assert pipeline.calls == ["0", "2"]
        wait_for_requests(connection, 0)


def test_a_client_that_disconnects_while_it_sends_frees_its_place():
    _, server = gated_server()
    with server as (_, address), client(address) as connection:
        place = urlsplit(address)
        with socket.create_connection((place.hostname, place.port)) as opened:
            head = f"POST /api/speak HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\n"
            opened.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
            wait_for_requests(connection, 1)
        wait_for_requests(connection, 0)


def test_bodies_should_arrive_in_time(monkeypatch):
    monkeypatch.setattr(server_module, "_RECEIVE_SECONDS", 0.05)
    _, server = gated_server()
    with server as (_, address):
        place = urlsplit(address)
        connection = http.client.HTTPConnection(place.hostname, place.port, timeout=LONG)
        connection.putrequest("POST", "/api/speak")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", "100")
        connection.endheaders(b"{")
        response = connection.getresponse()
        assert response.status == 408 and "did not arrive within 0.05 s" in response.read().decode()
        connection.close()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:9"}, 200),
        ({"Host": "[::1]:9"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "192.168.0.1"}, 403),
        ({"Host": "["}, 403),
        ({"Host": "localhost", "Origin": "http://localhost"}, 200),
        ({"Host": "localhost:9", "Origin": "https://localhost:9"}, 200),
        ({"Host": "localhost:9", "Origin": "http://localhost:8"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[x"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_pages_of_other_sites_have_no_access(headers, status, served):
    _, connection = served
    response = connection.post("/api/speak", json={"model": "speaker", "text": "x"}, headers=headers)
    assert response.status_code == status
    if status == 403:
        assert "Host is not" in response.json()["error"] or "another site" in response.json()["error"]


def test_names_and_addresses_of_servers():
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.1.2.3", "::1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "example.org", "192.168.0.1", "")))
    everywhere = RequestGuard(lambda *_: None, "0.0.0.0", ("Speech.example",))
    assert all(map(everywhere.is_known, ("192.168.0.1", "speech.example", "localhost", socket.gethostname().lower())))
    assert not everywhere.is_known("evil.example") and not everywhere.is_known("")
    assert upload_name("../..\\a\x00b.wav") == "ab.wav" and upload_name(None) == upload_name("a/") == "the recording"


def test_ports(monkeypatch):
    with open_socket() as first:
        port = first.getsockname()[1]
        assert address_of(first) == f"http://127.0.0.1:{port}"
        with pytest.raises(ConfigError, match=rf"cannot listen at 127\.0\.0\.1:{port} \(.*another --host or --port"):
            open_socket(port=port)
        with open_socket() as second:
            assert second.getsockname()[1] != port
    with pytest.raises(ConfigError, match=r"cannot listen at 203\.0\.113\.1 "):
        open_socket("203.0.113.1")
    asked = []

    def unknown(host, *_, **__):
        asked.append(host)
        raise socket.gaierror("unknown name")

    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", unknown)
        with pytest.raises(ConfigError, match=r"cannot listen at a\.invalid \(unknown name\)"):
            open_socket("a.invalid")
    assert asked == ["a.invalid"]
    monkeypatch.setattr(server_module.importlib.util, "find_spec", lambda name: None)
    service = SpeechService([ServedModel("speaker", Speaker())])
    for call in (lambda: create_app(service), lambda: make_server(lambda *_: None)):
        with pytest.raises(MissingExtraError, match=r"pip install 'jaxvoice\[serve\]'"):
            call()
    service.close()


@pytest.mark.slow
def test_xtts_is_streamed_in_stored_voices_and_those_of_recordings():
    xtts, text = small_synthesizer(voices=stored_voices()), "The cat sat on the mat. A dog came in, and it ran away."
    with serving([ServedModel("xtts", xtts)]) as (_, address), client(address) as connection:
        (described,) = connection.get("/api/models").json()["models"]
        assert list(described["tasks"]) == ["speak", "clone"] and described["speakers"] == ["Ann", "Ben"]
        options = {"text": text, "language": "en", "seed": 3}
        with connection.stream("POST", "/api/speak", json=options | {"speaker": "Ann", "format": "pcm"}) as response:
            blocks = list(response.iter_raw())
        spoken = np.frombuffer(b"".join(blocks), np.int16)
        expected = xtts.speak(**options, speaker="Ann").audio
        assert len(blocks) > 2
        np.testing.assert_allclose(spoken, np.frombuffer(pcm16(expected), np.int16), atol=1)
        recording = np.repeat(tone(4.0), 3)
        file = io.BytesIO()
        soundfile.write(file, recording, 3 * RATE, "FLOAT", format="WAV")
        cloned = connection.post("/api/clone", data=options, files={"reference": ("me.wav", file.getvalue())})
        voice = xtts.voice(recording, sample_rate=3 * RATE)
        expected = np.frombuffer(pcm16(xtts.speak(**options, reference=voice).audio), np.int16)
        np.testing.assert_allclose(audio_of(cloned)[0], expected, atol=1)
        unknown = connection.post("/api/speak", json=options | {"speaker": "An"})
        assert unknown.status_code == 400 and "speaker is 'An'; the nearest known" in unknown.json()["error"]


@pytest.mark.slow
def test_a_hundred_requests_for_small_models(tmp_path):
    """Text to speech and vocoding with networks: a hundred requests at once, none of which is lost."""
    config = small_config()
    HIFIGAN.save_network(tmp_path / "vocoder", loud_generator(config), config)
    tts_config = dataclasses.replace(SMALL, codes=ALIGNED.codes)
    TTS.save_network(tmp_path / "tts", TTS.build(tts_config, key=jax.random.key(0)), tts_config)
    vocoder, tts = models = load_models([tmp_path / "vocoder", tmp_path / "tts"])
    text = "Hello there."
    spoken = np.frombuffer(b"".join(map(pcm16, tts.speak(text))), np.int16)
    vocoded = np.frombuffer(b"".join(map(pcm16, vocoder.vocode(tone(0.5), RATE))), np.int16)
    with serving(models) as (_, address), concurrent.futures.ThreadPoolExecutor(100) as threads:

        def request(number):
            if number % 2:
                options = {"json": {"text": text}}
            else:
                file = io.BytesIO()
                soundfile.write(file, tone(0.5), RATE, "FLOAT", format="WAV")
                options = {"files": {"source": ("a.wav", file.getvalue())}}
            path = "speak" if number % 2 else "vocode"
            return httpx.post(f"{address}/api/{path}", timeout=10 * LONG, trust_env=False, **options)

        results = list(threads.map(request, range(100)))
        for number, result in enumerate(results):
            np.testing.assert_array_equal(audio_of(result)[0], spoken if number % 2 else vocoded)
        with client(address) as connection:
            wait_for_requests(connection, 0)

"""The page of a server: what it shows and sends, and its use in a browser."""

import dataclasses
import importlib.util
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from jaxvoice.errors import ConfigError, MissingExtraError
from jaxvoice.models import speaker_encoder, vits
from jaxvoice.pipelines.served_inputs import Limits, pcm16
from jaxvoice.pipelines.served_models import ServedModel, load_models
from jaxvoice.pipelines.server import address_of, create_app, make_server, open_socket
from jaxvoice.pipelines.speech_page import SpeechPage, choices_of, linked, player_html, request_of, status_text
from jaxvoice.pipelines.speech_service import SpeechService
from tests.models.speaker_encoder.small import SMALL as ENCODER, random_encoder
from tests.models.vits.small import SMALL
from tests.pipelines.http_serving import wait_until
from tests.pipelines.served_pipelines import LONG, RATE, Cloner, Gated, Speaker, Table, Vocoder, tone
from tests.random_networks import random_network

ROOT = Path(__file__).parents[2]
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MISSING = [name for name in ("gradio", "playwright") if importlib.util.find_spec(name) is None]
MISSING += [] if BROWSER else ["chromium"]
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
]
in_browser = pytest.mark.skipif(bool(MISSING), reason=f"missing: {', '.join(MISSING)}")


@pytest.fixture
def service():
    models = {"speaker": Speaker(), "cloner": Cloner(), "table": Table(), "vocoder": Vocoder()}
    found = SpeechService([ServedModel(*item) for item in models.items()], Limits(upload_megabytes=0.01))
    yield found
    found.close()


def test_uploads_that_were_removed_are_errors_and_requests_keep_theirs(service, tmp_path):
    path = tmp_path / "me.wav"
    soundfile.write(path, tone(0.1), RATE)
    given = {"model": "cloner", "text": "x", "reference": str(path)}
    _, uploads = request_of(service, tmp_path, "clone", dict(given))
    with linked(uploads, tmp_path) as kept:
        path.unlink()
        (upload,) = kept["reference"]
        assert upload.name == "me.wav" and len(soundfile.read(upload.path)[0]) == RATE // 10
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match=r"me\.wav is no longer kept, .* after ten minutes\. Upload it again"):
        request_of(service, tmp_path, "clone", dict(given))


def test_components_follow_from_the_model(service):
    speaker, cloner, table, _ = service.models
    choices = choices_of(service, "speak", speaker)
    assert choices["speed"] == {"visible": True} and not choices["language"]["visible"]
    assert not choices["speaker"]["visible"] and "pitch" not in choices
    choices = choices_of(service, "speak", cloner)
    assert choices["speed"] == {"visible": False}
    assert choices["language"] == {"choices": ["en", "pt"], "value": "en", "visible": True}
    assert choices["speaker"]["choices"] == ["anna", "ben"] and choices["speaker"]["visible"]
    choices = choices_of(service, "convert", table)
    assert choices["voice"]["choices"] == [("none", ""), ("anna", "anna"), ("ben", "ben")]
    assert choices["speaker"]["visible"] and not choices_of(service, "convert", cloner)["speaker"]["visible"]


def test_values_become_a_request(service, tmp_path):
    folder = tmp_path / "uploads"
    folder.mkdir()
    uploaded = folder / "a.wav"
    soundfile.write(uploaded, tone(0.1), RATE)
    given = {"model": "speaker", "text": "", "speaker": "anna", "language": "en", "speed": 1.5, "seed": 3}
    assert request_of(service, folder, "speak", given)[0] == {"model": "speaker", "text": "", "speed": 1.5, "seed": 3}
    path = str(uploaded)
    given = {"model": "cloner", "source": path, "reference": None, "more": None, "voice": "anna", "speaker": "anna"}
    fields, uploads = request_of(service, folder, "convert", dict(given))
    assert fields == {"model": "cloner", "voice": "anna"} and uploads["reference"] == []
    assert [(one.path, one.name) for one in uploads["source"]] == [(uploaded, "a.wav")]
    shutil.copy(uploaded, tmp_path / "private.wav")
    for other in (tmp_path / "private.wav", tmp_path / "uploads" / ".." / "private.wav"):
        with pytest.raises(ConfigError, match=r"^private\.wav is no file that was uploaded"):
            request_of(service, folder, "convert", given | {"source": str(other)})
    with pytest.raises(ConfigError, match="There are two voices; remove the recording"):
        request_of(service, folder, "convert", given | {"more": [path]})
    with pytest.raises(ConfigError, match=r"The recordings have \d+ bytes; they should have at most 10000"):
        request_of(service, folder, "clone", {"model": "cloner", "text": "x", "reference": path, "more": [path] * 9})


def test_states_are_shown_in_words(service):
    computation = service.plan("speak", {"model": "speaker", "text": "Hello"})
    job = service.queue.reserve()
    assert f'src="/api/results/{job.identifier}"' in player_html(job)
    job.blocks, job.warnings = [pcm16(tone(1.5))], ("The recording is clipped.",)
    for state, text in (
        ("waiting", "Waiting for 0 other requests."),
        ("running", "Computing: 1.5 s of audio so far."),
        ("done", "Done: 1.50 s at 8000 Hz."),
        ("failed", "Failed."),
        ("cancelled", "Stopped after 1.5 s of audio."),
    ):
        job.state = state
        assert status_text(job, computation) == f"{text}\nThe recording is clipped."


def test_gradio_is_an_extra(service, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'jaxvoice\[serve\]'"):
        SpeechPage(service)


@pytest.fixture
def browser_page():
    """A page of a browser, and the addresses that it requests."""
    from playwright.sync_api import expect, sync_playwright

    requested: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        page = browser.new_page()
        page.set_default_timeout(1000 * LONG)
        expect.set_options(timeout=1000 * LONG)
        page.on("request", lambda request: requested.append(request.url))
        yield page, requested
        browser.close()


@pytest.fixture
def model_folder(tmp_path):
    """A small VITS with two speakers, its speaker encoder, and a recording."""
    dim = ENCODER.dim
    config = dataclasses.replace(
        SMALL, speaker_channels=dim, decoder=dataclasses.replace(SMALL.decoder, cond_channels=dim)
    )
    folder = tmp_path / "voices"
    vits.FAMILY.save_network(folder, random_network(vits.VITS, config), config)
    speaker_encoder.FAMILY.save_network(folder / "speaker_encoder", random_encoder(ENCODER), ENCODER)
    vectors = np.random.default_rng(3).normal(size=(2, dim)).tolist()
    table = {name: {"name": name, "embedding": one} for name, one in zip(("anna", "ben"), vectors, strict=True)}
    (folder / "speakers.json").write_text(json.dumps(table))
    soundfile.write(tmp_path / "me.wav", tone(2.0), RATE, "FLOAT")
    return folder


@pytest.mark.slow
@in_browser
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_models_are_used_in_a_browser(model_folder, browser_page, tmp_path):
    from playwright.sync_api import expect

    command = [sys.executable, "-m", "jaxvoice", "serve", str(model_folder)]
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONUNBUFFERED": "1", "TMPDIR": str(temporary)}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    page, requested = browser_page
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "voices: speak, clone, convert\n"
            address = process.stdout.readline().split()[0]
            assert address.startswith("http://127.0.0.1:")
            page.goto(address)

            def result(task: str) -> np.ndarray:
                expect(page.locator(f"#{task}-status textarea")).to_have_value(re.compile("^Done: "))
                player = page.locator(f"#{task}-result audio")
                path = str(player.get_attribute("src"))
                page.wait_for_function(f"document.querySelector('#{task}-result audio').currentTime > 0")
                return soundfile.read(io.BytesIO(page.request.get(address + path).body()), dtype="int16")[0]

            # A text in a known voice; texts with nothing to read and long texts are errors, which are shown.
            page.locator("#speak-start").click()
            expect(page.get_by_test_id("toast-body")).to_contain_text("contains nothing to read")
            page.locator("#speak-text textarea").fill("x" * 2001)
            # The attribute would cut pasted texts.
            assert page.locator("#speak-text textarea").get_attribute("maxlength") is None
            page.locator("#speak-start").click()
            long = page.get_by_test_id("toast-body").filter(
                has_text="text has 2001 characters; it should have at most 2000"
            )
            expect(long).to_be_visible()
            page.locator("#speak-text textarea").fill("one two")
            page.locator("#speak-start").click()
            pipeline = load_models([model_folder])[0].pipeline
            expected = pipeline.speak("one two", speaker="anna", language="en").audio
            np.testing.assert_allclose(result("speak"), np.frombuffer(pcm16(expected), np.int16), atol=2)

            # A text in the voice of an uploaded recording.
            page.get_by_role("tab", name="Clone a voice").click()
            page.locator("#clone-text textarea").fill("one two")
            page.locator("#clone-reference input[type=file]").set_input_files(tmp_path / "me.wav")
            expect(page.locator("#clone-reference").get_by_label("Play", exact=True)).to_be_visible()
            page.locator("#clone-start").click()
            expected = pipeline.speak("one two", reference=tmp_path / "me.wav", language="en").audio
            np.testing.assert_allclose(result("clone"), np.frombuffer(pcm16(expected), np.int16), atol=2)

            # The conversion of speech that is recorded on the page to a known voice.
            page.get_by_role("tab", name="Convert a voice").click()
            source = page.locator("#convert-source")
            source.get_by_label("Microphone").or_(source.get_by_label("Record audio")).first.click()
            source.get_by_role("button", name="Record", exact=True).click()
            expect(source.locator("time.duration").first).to_have_text(re.compile("0:0[1-9]"))  # of the fake microphone
            source.get_by_role("button", name="Stop", exact=True).click()
            expect(source.get_by_label("Play", exact=True)).to_be_visible()
            page.locator("#convert-voice input").click()
            page.get_by_role("option", name="ben").click()
            page.locator("#convert-start").click()
            assert len(result("convert")) > 0.5 * pipeline.sample_rate
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(LONG) == 0
    elsewhere = [url for url in requested if not url.startswith((address, "data:", "blob:"))]
    assert requested and not elsewhere, elsewhere
    assert not [path for path in temporary.iterdir() if path.name.startswith("jaxvoice-")]


@pytest.mark.slow
@in_browser
@pytest.mark.filterwarnings("ignore")
def test_progress_and_cancellation_in_a_browser(browser_page):
    from playwright.sync_api import expect

    page, _ = browser_page
    pipeline = Gated()
    service = SpeechService([ServedModel("gated", pipeline)])
    shown = SpeechPage(service)
    with open_socket() as listener:
        server = make_server(create_app(service, shown))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            page.goto(address_of(listener))
            page.locator("#speak-text textarea").fill("one")
            status = page.locator("#speak-status textarea")
            page.locator("#speak-start").click()
            expect(status).to_have_value("Computing: 0.0 s of audio so far.")
            # The player appears with the first audio, before the end.
            pipeline.first.set()
            expect(status).to_have_value("Computing: 0.1 s of audio so far.")
            expect(page.locator("#speak-result audio")).to_be_visible()
            # Stop frees the place when the block ends.
            page.locator("#speak-stop").click()
            expect(status).to_have_value("Stopped after 0.1 s of audio.")
            pipeline.second.set()
            wait_until(lambda: not service.queue.taken)
            # It also stops a request that waits.
            pipeline.first.clear()
            for taken in (1, 2):
                page.locator("#speak-start").click()
                wait_until(lambda taken=taken: service.queue.taken == taken)
            page.locator("#speak-stop").click()
            wait_until(lambda: service.queue.taken == 1 and service.queue._running.state == "cancelled")
            pipeline.first.set()
            wait_until(lambda: not service.queue.taken)
            # A closed page frees its place too.
            pipeline.first.clear()
            page.locator("#speak-start").click()
            expect(status).to_have_value("Computing: 0.0 s of audio so far.")
            page.goto("about:blank")
            wait_until(lambda: service.queue._running is None or service.queue._running.state == "cancelled")
            pipeline.first.set()
            wait_until(lambda: not service.queue.taken)
        finally:
            pipeline.first.set()
            pipeline.second.set()
            server.should_exit = True
            service.close()
            thread.join(LONG)
            shown.close()
    assert pipeline.calls == ["one"] * 3 and not Path(shown._folder.name).exists()

"""`jaxvoice serve`: its options and errors. The server and its page are tested in `tests/pipelines`."""

import signal
import types

import jax
import pytest

from jaxvoice.cli import main
from jaxvoice.models.gaussian_tts import FAMILY as TTS
from jaxvoice.models.hifigan import FAMILY
from jaxvoice.models.speaker_encoder import FAMILY as ENCODER
from jaxvoice.pipelines import Synthesizer, served_models, server, speech_page
from jaxvoice.pipelines.served_models import load_models
from tests.models.gaussian_tts.small import SMALL as TTS_SMALL
from tests.models.speaker_encoder.small import LSTM_SMALL, random_encoder
from tests.pipelines.conftest import loud_generator, small_config

pytest.importorskip("uvicorn")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve")
    config = small_config()
    FAMILY.save_network(folder / "vocoder", loud_generator(config), config)
    TTS.save_network(folder / "tts", TTS.build(TTS_SMALL, key=jax.random.key(0)), TTS_SMALL)
    ENCODER.save_network(folder / "encoder", random_encoder(LSTM_SMALL), LSTM_SMALL)
    return folder


@pytest.fixture
def served(monkeypatch, folder):
    """The applications that were served, with their page and options; the server ends at once."""
    found = []
    create = server.create_app

    def recorded(service, page=None, **options):
        found.append((service, page, options))
        return create(service, **options)

    monkeypatch.chdir(folder)
    monkeypatch.setattr(server, "create_app", recorded)
    monkeypatch.setattr(server, "make_server", lambda app: types.SimpleNamespace(run=lambda sockets: None))
    return found


def test_options(served, capsys):
    limits = ["--text-characters", "9", "--upload-megabytes", "0.5", "--reference-seconds", "3", "--waiting", "4"]
    assert main(["serve", "vocoder", "tts", *limits, "--source-seconds", "5", "--no-page"]) == 0
    ((service, page, options),) = served
    assert [(model.name, model.tasks) for model in service.models] == [("vocoder", ("vocode",)), ("tts", ("speak",))]
    chosen = service.limits
    assert (chosen.text_characters, chosen.upload_bytes, chosen.reference_seconds) == (9, 500_000, 3.0)
    assert (chosen.source_seconds, chosen.waiting) == (5.0, 4)
    assert page is None and options == {"host": "127.0.0.1", "names": ()}
    printed = capsys.readouterr()
    assert printed.out.startswith("vocoder: vocode\ntts: speak\nhttp://127.0.0.1:") and "password" not in printed.err


def test_options_of_loading_reach_the_models(served, monkeypatch):
    given = []

    def load(sources, options):
        given.append(options)
        return load_models(["vocoder"])

    monkeypatch.setattr(served_models, "load_models", load)
    options = {"vocoder": "a", "encoder": "b", "precision": "bfloat16"}
    assert main(["serve", "vocoder", "--no-page", *(f"--{name}={value}" for name, value in options.items())]) == 0
    assert given == [options]


@pytest.mark.parametrize("flags", [(), ("--warm-up",)])
def test_programs_are_compiled_before_the_first_request(flags, served, monkeypatch, capsys):
    compiled = []
    monkeypatch.setattr(Synthesizer, "warm_up", lambda self: compiled.append(len(served)))
    assert main(["serve", "vocoder", "tts", "--no-page", *flags]) == 0
    assert compiled == ([0] if flags else [])
    assert capsys.readouterr().out.startswith("tts: compiling\nvocoder: vocode\n" if flags else "vocoder: vocode\n")


def test_servers_for_others_give_a_warning(served, monkeypatch, capsys):
    closed = []
    page = types.SimpleNamespace(mount=lambda app: None, close=lambda: closed.append(True))
    monkeypatch.setattr(speech_page, "SpeechPage", lambda service: page)
    assert main(["serve", "vocoder", "--host", "0.0.0.0", "--allow-host", "speech.example"]) == 0
    assert served[0][1] is page and served[0][2] == {"host": "0.0.0.0", "names": ("speech.example",)} and closed
    assert "Everyone who can reach 0.0.0.0 has access" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("vocoder", "--port", "70000"), "--port is 70000; it should be from 1 to 65535"),
        (("vocoder", "--waiting", "0"), "--waiting is 0; it should be a whole number of at least 1"),
        (("vocoder", "--source-seconds", "-1"), "--source-seconds is -1.0; it should be a positive number"),
        (("encoder",), "encoder is a SpeakerEncoder, which cannot be served; it should be a model that speaks"),
        (("vocoder", "--encoder", "encoder"), "None of the models has the option 'encoder'"),
        (("vocoder", "--precision", "bfloat16"), "None of the models has the option 'precision'"),
        (("missing",), "There is no folder missing"),
        (("vocoder", "--host", "203.0.113.1"), "cannot listen at 203.0.113.1"),
    ],
)
def test_errors(arguments, message, served, capsys):
    assert main(["serve", *arguments]) == 2
    assert message in capsys.readouterr().err and not served


def test_the_extra_is_named(folder, capsys, monkeypatch):
    monkeypatch.setattr(server.importlib.util, "find_spec", lambda name: None)
    assert main(["serve", str(folder / "vocoder")]) == 2
    assert "pip install 'jaxvoice[serve]'" in capsys.readouterr().err


def test_a_signal_ends_the_program(folder, capsys, monkeypatch):
    """SIGTERM ends the server like Ctrl-C, so that temporary files are removed."""
    make = server.make_server

    def make_and_stop(app):
        made = make(app)
        startup = made.startup

        async def then_stop(sockets=None):
            await startup(sockets=sockets)
            signal.raise_signal(signal.SIGTERM)

        made.startup = then_stop
        return made

    monkeypatch.setattr(server, "make_server", make_and_stop)
    before = signal.getsignal(signal.SIGTERM)
    assert main(["serve", str(folder / "vocoder"), "--no-page"]) == 0
    assert signal.getsignal(signal.SIGTERM) is before and "Ctrl-C ends the program" in capsys.readouterr().out

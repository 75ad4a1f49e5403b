"""`jaxvoice panel`: its options and errors. The page is tested in `tests/pipelines/test_bending_panel.py`."""

import sys
import types

import jax
import numpy as np
import pytest
import soundfile

from jaxvoice.cli import main
from jaxvoice.dissect import Bend, BendingConfig, Control, Scale
from jaxvoice.models.gaussian_tts import FAMILY as TTS
from jaxvoice.models.hifigan import FAMILY
from jaxvoice.pipelines import bending_panel
from tests.models.gaussian_tts.small import SMALL as TTS_SMALL
from tests.models.hifigan.small import SMALL
from tests.pipelines.conftest import loud_generator


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("panel")
    FAMILY.save_network(folder / "model", loud_generator(SMALL), SMALL)
    TTS.save_network(folder / "tts", TTS.build(TTS_SMALL, key=jax.random.key(0)), TTS_SMALL)
    soundfile.write(folder / "in.wav", np.zeros(100, np.float32), 22050)
    BendingConfig((Bend(Scale(Control("gain")), "ups.0"),)).save(folder / "rules.json")
    return folder


@pytest.fixture
def pages(monkeypatch):
    """The pages that were made, and the addresses at which they were served, without gradio."""
    made = []
    page = types.SimpleNamespace(block_thread=lambda: None)
    monkeypatch.setattr(bending_panel, "gradio_module", lambda: None)
    monkeypatch.setattr(bending_panel, "bending_panel", lambda *args, **options: made.append((args, options)) or page)
    monkeypatch.setattr(bending_panel, "serve", lambda page, **options: made.append(options) or "http://there/")
    return made


def test_options(folder, pages, capsys):
    arguments = ["panel", str(folder / "model"), str(folder / "in.wav"), "--rules", str(folder / "rules.json")]
    assert main([*arguments, "--seconds", "2.5", "--port", "7000"]) == 0
    ((bender, recording), options), served = pages
    assert bender.seconds == 2.5 and recording == folder / "in.wav"
    assert list(options["config"].controls) == ["gain"] and options["title"] == "model"
    assert served == {"host": "127.0.0.1", "port": 7000, "wait": False}
    printed = capsys.readouterr()
    assert printed.out.startswith("http://there/ ") and "password" not in printed.err
    assert main(["panel", str(folder / "model"), "--host", "0.0.0.0"]) == 0
    assert "Everyone who can reach 0.0.0.0 can use the page" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("model", "missing.wav"), "missing.wav, which is not a file"),
        (("model", "--port", "70000"), "--port is 70000; it should be from 1 to 65535"),
        (("model", "--seconds", "0"), "seconds is 0.0; it should be a positive number (--seconds)"),
        (("model", "--rules", "in.wav"), "in.wav"),
        (("tts",), "it should be a model that computes audio from a recording"),
        (("missing",), "There is no folder"),
    ],
)
def test_errors(arguments, message, folder, pages, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    assert main(["panel", *arguments]) == 2
    assert message in capsys.readouterr().err and not pages


def test_the_extra_is_named(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["panel", str(folder / "model")]) == 2
    assert "pip install 'jaxvoice[panel]'" in capsys.readouterr().err


def test_a_port_in_use_is_an_error(folder, capsys, monkeypatch):
    class Page:
        def queue(self, **_):
            pass

        def launch(self, *, server_name, server_port, **_):
            raise OSError(f"Cannot find empty port in range: {server_port}-{server_port}.")

    gradio = types.SimpleNamespace(themes=types.SimpleNamespace(Default=lambda **_: None))
    monkeypatch.setattr(bending_panel, "gradio_module", lambda: gradio)
    monkeypatch.setattr(bending_panel, "bending_panel", lambda *args, **options: Page())
    assert main(["panel", str(folder / "model"), "--port", "7001"]) == 2
    message = capsys.readouterr().err
    assert "cannot be served at 127.0.0.1:7001 (Cannot find empty port" in message and "--port" in message

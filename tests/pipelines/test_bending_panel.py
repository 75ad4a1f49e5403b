"""The page for live bending: what it computes, and the page itself in a headless browser."""

import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from jaxvoice.dissect import Bend, BendingConfig, Control, Mix, Scale
from jaxvoice.errors import AudioError, ConfigError, MissingExtraError
from jaxvoice.models.hifigan import FAMILY
from jaxvoice.pipelines.bender import Bender
from jaxvoice.pipelines.bending_panel import (
    CHOICES,
    SLIDERS,
    PanelSession,
    bending_panel,
    checked,
    make_rule,
    pcm16,
    rules_html,
    slider_range,
)
from tests.models.hifigan.small import SMALL
from tests.pipelines.conftest import loud_generator

ROOT = Path(__file__).parents[2]
RATE = 22050
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MISSING = [name for name in ("gradio", "playwright") if importlib.util.find_spec(name) is None]
MISSING += [] if BROWSER else ["chromium"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, and a recording of one second."""
    folder = tmp_path_factory.mktemp("panel")
    FAMILY.save_network(folder / "model", loud_generator(SMALL), SMALL)
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, RATE).astype(np.float32)
    soundfile.write(folder / "in.wav", audio, RATE, "FLOAT")
    return folder


@pytest.fixture(scope="module")
def session(folder):
    return PanelSession(Bender.load(folder / "model", seconds=1))


def test_every_operation_starts_with_the_original_and_changes_it(session, folder):
    path = str(folder / "in.wav")
    moved = {"scale": -1.0, "bias": 1.0, "keep": 0.4, "std": 2.0, "amount": 1.0}
    config = BendingConfig()
    for choice in CHOICES:
        config = session.add(config, "conv_pre", "activations", choice, 3)
    assert len(config) == len(CHOICES)
    original, bent, text = session.play(path, 0, config, {})
    np.testing.assert_array_equal(bent, original)
    assert text == "1.00 s at 22050 Hz, seed 0. The bent audio is equal to the original."
    for number in range(1, len(CHOICES) + 1):
        values = {name: moved[name.split()[0]] for name in config.controls if name.endswith(f" {number}")}
        assert values
        _, bent, text = session.play(path, 0, config, values)
        assert np.abs(bent - original).max() > 1e-3 and "difference from the original" in text


@pytest.mark.parametrize("choice", CHOICES)
def test_operations_on_weights_choose_channels(choice, session):
    rule = make_rule(BendingConfig(), r"ups\.0\.weight_v", "weights", choice)
    weights = session.bender.network.ups[0].weight_v
    controls = {"keep 1": 0.5, "scale 1": 2.0, "bias 1": 1.0, "std 1": 1.0, "amount 1": 1.0}
    bent = np.asarray(rule.apply("ups.0.weight_v", weights, controls))
    assert bent.shape == weights.shape and np.abs(bent - weights).max() > 1e-3
    if "mask" in choice or choice == "threshold":
        zero = np.all(bent == 0, axis=(1, 2))
        assert zero.any() and not zero.all()
        np.testing.assert_array_equal(bent[~zero], weights[~zero])


def test_names_of_controls_are_new(session):
    config = BendingConfig((Bend(Scale(Control("gain 1")), "a"), Bend(Scale(Control("keep 3")), "a")))
    names = [*make_rule(config, "b", "activations", "scale").operation.__dict__.values()]
    assert names[0].name == "scale 2"
    two = session.add(session.add(config, "ups.0", "activations", "mask", 0), "ups.0", "activations", "mask", 0)
    assert list(two.controls) == ["gain 1", "keep 3", "keep 2", "amount 2", "keep 4", "amount 4"]


def test_tables_are_escaped_and_errors_are_shown(session):
    assert "<td>ups.0</td><td>activations</td>" in session.matches_html(r"ups\.\d", "activations")
    assert session.matches_html(r"ups\.\d", "activations").startswith("<p>2 matches</p>")
    shown = session.matches_html("<script>", "weights")
    assert "&lt;script&gt;" in shown and "No weight has a name" in shown and "<script>" not in shown
    assert "should be a regular expression" in session.matches_html("(", "weights")
    rules = rules_html(BendingConfig((Bend(Scale(2.0), ("<b>", "c")),)))
    assert "Scale (scale=2.0)" in rules and "<td>&lt;b&gt;, c</td>" in rules
    assert rules_html(BendingConfig()) == "<p>There are no rules.</p>"


def test_errors(session, folder):
    path = str(folder / "in.wav")
    with pytest.raises(AudioError, match="There is no recording"):
        session.play(None, 0, BendingConfig(), {})
    for seed in (None, 0.5, -1, 2**32, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="should be a whole number from 0"):
            session.play(path, seed, BendingConfig(), {})
    with pytest.raises(ConfigError, match="No activation has a name"):
        session.add(BendingConfig(), "missing", "activations", "scale", 0)
    many = BendingConfig(tuple(Bend(Scale(Control(str(i))), "ups.0") for i in range(SLIDERS)))
    assert checked(many) is many
    with pytest.raises(ConfigError, match="26 controls; there should be at most 24"):
        session.add(many, "ups.0", "activations", "scale", 0)
    with pytest.raises(ConfigError, match="mixes arrays of other models"):
        checked(BendingConfig((Bend(Mix(("other",), (1.0, 1.0)), "ups.0"),)))


def test_long_recordings_and_high_peaks_are_stated(session, folder, tmp_path):
    soundfile.write(tmp_path / "long.wav", np.tile(soundfile.read(folder / "in.wav")[0], 3), RATE)
    config = session.add(BendingConfig(), "conv_post", "activations", "bias", 0)
    _, bent, text = session.play(str(tmp_path / "long.wav"), 0, config, {})
    assert len(bent) == RATE and "The recording has 3.0 s, of which the first 1 s are used." in text
    loud = np.float32([[0.5], [-2.0], [0.0]])
    np.testing.assert_array_equal(pcm16(loud), [8192, -32767, 0])
    np.testing.assert_array_equal(pcm16(np.float32([[0.5, -1.0]])), [[16384, -32767]])
    np.testing.assert_array_equal(pcm16(np.zeros((2, 1), np.float32)), [0, 0])


@pytest.mark.parametrize(
    ("control", "ends"),
    [
        (Control("a", 1.0, low=-2, high=3), (-2, 3)),
        (Control("a"), (-10, 10)),
        (Control("a", 50.0), (-10, 50)),
        (Control("a", 20.0, low=20), (20, 30)),
        (Control("a", -20.0, high=-20), (-30, -20)),
        (Control("a", 0.5, low=0.5, high=0.5), (0.5, 1.5)),
        (Control("a", 1e30, low=1e30, high=1e30), (1e30, 2e30)),
    ],
)
def test_sliders_have_two_ends(control, ends):
    assert slider_range(control, control.default) == ends


def test_gradio_is_an_extra(session, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'jaxvoice\[panel\]'"):
        bending_panel(session.bender)


@pytest.fixture
def address(folder):
    """The address of the page, which another process serves."""
    command = [sys.executable, "-m", "jaxvoice", "panel", str(folder / "model"), str(folder / "in.wav")]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONUNBUFFERED": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    with subprocess.Popen([*command, "--seconds", "1"], stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            assert line.endswith("(Ctrl-C ends the program)\n"), line
            yield line.split()[0]
        finally:
            process.terminate()


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"missing: {', '.join(MISSING)}")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_page_bends_in_a_browser(address, session, folder, tmp_path):
    from playwright.sync_api import expect, sync_playwright

    assert address.startswith("http://127.0.0.1:")
    requested: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(60_000)
        expect.set_options(timeout=60_000)
        page.on("request", lambda request: requested.append(request.url))
        page.goto(address)
        result, play = page.locator("#result textarea"), page.get_by_role("button", name="Bend and play")

        def sound(name: str) -> np.ndarray:
            link = page.locator(f"#{name} a.download-link").get_attribute("href")
            return soundfile.read(io.BytesIO(page.request.get(str(link)).body()), dtype="int16")[0]

        # Layers are chosen by a pattern, whose matches are listed.
        page.get_by_label("Names").fill("up")
        expect(page.locator("#matches")).to_contain_text("the nearest are ups.1, ups.0")
        page.get_by_role("button", name="Add rule").click()
        expect(page.get_by_test_id("toast-body")).to_contain_text("No activation has a name that matches 'up'")
        page.get_by_label("Names").fill(r"ups\.\d")
        expect(page.locator("#matches")).to_contain_text("2 matches")
        expect(page.locator("#matches")).to_contain_text("1392x8")
        page.get_by_role("button", name="Add rule").click()
        scale = page.get_by_label("number input for scale 1")
        expect(scale).to_have_value("1")
        play.click()
        expect(result).to_have_value("1.00 s at 22050 Hz, seed 0. The bent audio is equal to the original.")
        np.testing.assert_array_equal(sound("bent"), sound("original"))

        # A moved control changes the sound.
        scale.fill("-2")
        scale.press("Tab")
        play.click()
        expect(result).to_have_value(re.compile("difference from the original"))
        rule = make_rule(BendingConfig(), r"ups\.\d", "activations", "scale")
        source = session.bender.read(folder / "in.wav")
        expected = [session.bender.play(source, BendingConfig((rule,)), {"scale 1": value}) for value in (1.0, -2.0)]
        for name, audio in zip(("original", "bent"), expected, strict=True):
            np.testing.assert_allclose(sound(name), pcm16(audio), atol=2)
        assert np.abs(np.int32(sound("bent")) - sound("original")).max() > 300

        # Rules are saved with the values of controls, removed, and loaded.
        page.get_by_role("button", name="Save rules").click()
        with page.expect_download() as download:
            page.locator("#saved a").first.click()
        saved = tmp_path / "bending.json"
        download.value.save_as(saved)
        assert json.loads(saved.read_text())["rules"][0]["operation"]["scale"]["default"] == -2.0
        page.get_by_role("button", name="Remove rule").click()
        expect(page.locator("#rules")).to_contain_text("There are no rules.")
        expect(scale).to_be_hidden()
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Load rules").click()
        chooser.value.set_files(saved)
        expect(scale).to_have_value("-2")
        browser.close()
    elsewhere = [url for url in requested if not url.startswith((address, "data:", "blob:"))]
    assert requested and not elsewhere, elsewhere

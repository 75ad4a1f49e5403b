import dataclasses
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType
from urllib.parse import unquote

import numpy as np
import pytest
import soundfile
from matplotlib.image import imread

from jaxvoice.training.logging import RunLog, columns, format_duration, values_text
from jaxvoice.training.pictures import draw_alignment, draw_durations, draw_mels
from jaxvoice.training.run_folder import RunFolder
from jaxvoice.training.task import ValidationResult
from training.toy import ToyTask, logged, one_device, train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two sessions with all logs."""
    folder = tmp_path_factory.mktemp("logged") / "run"
    for steps in (4, 8):
        train(folder, task=ToyTask(samples=True), mesh=one_device(), steps=steps, validate_every=4, tensorboard=True)
    return folder


def events(run):
    """Events of all sessions as (step, tag, kind), read by TensorBoard's format alone: length, checksum, message."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted((run / "events").iterdir()):
        content, place = path.read_bytes(), 0
        while place < len(content):
            size = int.from_bytes(content[place : place + 8], "little")
            event = Event.FromString(content[place + 12 : place + 12 + size])
            found += [(event.step, value.tag, value.WhichOneof("value"), value) for value in event.summary.value]
            if event.HasField("session_log"):
                found.append((event.step, "session", event.session_log.status, None))
            place += 16 + size
    return found


def test_tensorboard_receives_curves_audio_and_pictures(run):
    found = events(run)
    curves = {(step, tag): value.simple_value for step, tag, kind, value in found if kind == "simple_value"}
    lines = logged(run)
    for step in range(1, 9):
        assert curves[step, "train/student"] == pytest.approx(lines[step]["student"])
    assert curves[8, "validation/mel_l1"] == pytest.approx(logged(run, "validation")[8]["mel_l1"])
    assert {step for step, tag, kind, _ in found if kind == "audio" and tag.startswith("samples/clip")} == {4, 8}
    assert {step for step, tag, kind, _ in found if kind == "image" and tag.startswith("mels/clip")} == {4, 8}
    assert {step for step, tag, kind, _ in found if kind == "audio" and tag.startswith("targets/clip")} == {4, 8}
    # A session hides what an earlier one wrote from its own first step on.
    assert [step for step, tag, _, _ in found if tag == "session"] == [1, 5]


def test_torch_is_not_imported_for_tensorboard(tmp_path):
    code = """if True:
        import sys
        from pathlib import Path
        from jaxvoice.training.tensorboard import Events
        Events(Path(sys.argv[1]), first_step=1).close()
        print("torch" in sys.modules)
    """
    command = [sys.executable, "-c", code, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


def test_samples_are_written_as_audio_and_pictures(run):
    audio, rate = soundfile.read(run / "samples/step_00000008/clip.wav")
    assert rate == 8000
    np.testing.assert_allclose(audio, np.sin(np.arange(800) / 5), rtol=0, atol=1.5 / 32768)
    target, _ = soundfile.read(run / "samples/step_00000008/clip.target.wav")
    np.testing.assert_allclose(target, np.sin(np.arange(800) / 5) / 2, rtol=0, atol=1.5 / 32768)
    assert imread(run / "samples/step_00000008/clip.png").shape[2] in (3, 4)


def test_session_begins_with_a_short_table(tmp_path, capsys):
    class Explained(ToyTask):
        columns = MappingProxyType({"student": "squared error of the student"})
        metrics = MappingProxyType({"mel_l1": "absolute error"})

    train(tmp_path / "run", task=Explained(), mesh=one_device(), steps=1, minutes=2.0)
    lines = capsys.readouterr().out.split("compiled")[0].splitlines()
    assert len(lines) <= 12
    assert lines[0] == f"run folder     {tmp_path / 'run'} (all settings: config.json)"
    assert "parameters     64" in lines and "batch size     16" in lines
    assert "end            step 1, or 2 minutes from now" in lines
    assert "best model     smallest mel_l1 of a validation: absolute error" in lines
    assert lines[-1] == "student  squared error of the student"


def test_drawings_are_written_beside_the_mels(tmp_path):
    weights = np.repeat(np.eye(4, dtype=np.float32), 5, axis=0)  # five frames of each of four phonemes
    alignment = draw_alignment("a", weights, ["pau", "HH", "AH0", "L"])

    class Drawing(ToyTask):
        def validate(self, state):
            report = super().validate(state)
            drawn = [dataclasses.replace(sample, drawings={"alignment": alignment}) for sample in report.samples]
            return ValidationResult(report.metrics, drawn)

    Drawing.__name__ = "ToyTask"
    run = tmp_path / "run"
    train(run, task=Drawing(samples=True), mesh=one_device(), steps=1, validate_every=0, tensorboard=True)
    kept = imread(run / "samples/step_00000001/clip.alignment.png")
    np.testing.assert_array_equal(np.rint(255 * kept[..., :3]).astype(np.uint8), alignment)
    assert (1, "alignment/clip", "image") in {(step, tag, kind) for step, tag, kind, _ in events(run)}


def test_other_audio_is_written_beside_a_sample(tmp_path):
    class Converting(ToyTask):
        def validate(self, state):
            report = super().validate(state)
            others = {"source": np.full(80, 0.25), "p225/reference": np.full(90, 2.0)}
            return ValidationResult(report.metrics, [dataclasses.replace(one, others=others) for one in report.samples])

    Converting.__name__ = "ToyTask"
    run = tmp_path / "run"
    train(run, task=Converting(samples=True), mesh=one_device(), steps=1, validate_every=0, tensorboard=True)
    for name, value, length in (("source", 0.25, 80), ("p225%2Freference", 1.0, 90)):
        audio, rate = soundfile.read(run / f"samples/step_00000001/clip.{name}.wav")
        assert rate == 8000
        np.testing.assert_allclose(audio, np.full(length, value), rtol=0, atol=1.5 / 32768)
    tags = {tag for _, tag, kind, _ in events(run) if kind == "audio"}
    assert {"samples/clip/source", "samples/clip/p225/reference"} <= {tag.removesuffix("/audio") for tag in tags}


def test_drawings_show_alignments_and_durations():
    weights = np.repeat(np.eye(4, dtype=np.float32), 5, axis=0)
    drawn = draw_alignment("", weights, ["pau", "HH", "AH0", "L"]).astype(int)
    left, right = drawn.shape[1] // 8, drawn.shape[1] // 2
    bright = (drawn[..., 0] > 200) & (drawn[..., 1] > 200) & (drawn[..., 2] < 90)  # the yellow of weight 1
    rows = [np.flatnonzero(bright[:, column : column + 20].any(1)).mean() for column in (left, right)]
    assert rows[0] > rows[1] + drawn.shape[0] // 10, "later frames should belong to phonemes further up"
    bars = draw_durations("", {"target": np.array([8.0, 2.0])}, ["AH0", "L"]).astype(int)
    blue = (abs(bars - [31, 119, 180]).sum(2) < 30).sum(0)  # pixels of the first colour in each column
    middle = int(0.6 * blue.size)
    tall, low = blue[:middle].max(), blue[middle:-100].max()
    assert tall == pytest.approx(4 * low, rel=0.1)


@pytest.mark.parametrize("name", ["p225/p225_001", "a:b*?", "..", "C:\\x"])
def test_names_of_samples_that_are_paths_become_file_names(name, tmp_path):
    class Named(ToyTask):
        def validate(self, state):
            report = super().validate(state)
            return ValidationResult(
                report.metrics, [dataclasses.replace(sample, name=name) for sample in report.samples]
            )

    Named.__name__ = "ToyTask"
    train(tmp_path / "run", task=Named(samples=True), mesh=one_device(), steps=1, validate_every=0)
    (folder,) = (tmp_path / "run" / "samples").iterdir()
    picture, target, sound = sorted(folder.iterdir())
    assert (sound.suffix, picture.suffix) == (".wav", ".png") and sound.stem == picture.stem
    assert target.name == f"{sound.stem}.target.wav"
    assert unquote(sound.stem) == name and not set(sound.stem) & set("/\\:*?")


def test_picture_shows_target_generated_and_difference():
    target = np.zeros((20, 60), np.float32)
    target[3] = 5.0
    same = draw_mels("t", {"target": target, "generated": target})
    louder = draw_mels("t", {"target": target, "generated": np.pad(target + 2.0, ((0, 0), (0, 7)))})
    alone = draw_mels("t", {"target": target})
    assert same.dtype == np.uint8 and same.shape[0] == 3 * alone.shape[0]
    row = slice(int(same.shape[0] * 0.75), int(same.shape[0] * 0.85))  # inside the lowest panel
    column = same.shape[1] // 2
    grey, red = same[row, column].mean(0), louder[row, column].mean(0)
    assert np.ptp(grey) < 12 and grey.min() > 200  # no difference is drawn white
    assert red[0] > red[2] + 60  # more than the target is drawn red
    # The one loud band stands low in the picture, as low bands do.
    panel = alone[:, column].astype(int).sum(-1)
    inside = np.arange(int(len(panel) * 0.16), int(len(panel) * 0.78))
    assert inside[panel[inside].argmax()] > 0.6 * len(panel)


def test_log_prints_lines_to_a_pipe_and_a_bar_to_a_terminal(tmp_path, monkeypatch, capsys):
    folder = RunFolder(tmp_path)
    speed = {"steps_per_second": 2.0, "audio_seconds_per_second": 31.0}

    def log():
        log = RunLog(folder, step=0, steps=100, minutes=None, tensorboard=False)
        log.train(10, {"generator": 1.25}, {})
        log.train(20, {"generator": 1.25}, speed)
        log.close()

    log()
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "step 10/100  generator 1.25"
    assert out[1] == "step 20/100  generator 1.25  2 steps/s  31 s of audio per second  0:40 left"

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    log()
    assert capsys.readouterr().out == ""
    assert re.search(r"20%\|.*step 20/100  generator 1.25 .*0:40 left", terminal.getvalue())


class Closed(io.StringIO):
    def write(self, text):
        raise OSError(5, "Input/output error")


@pytest.mark.parametrize("terminal", [False, True])
def test_run_goes_on_if_its_terminal_is_closed(tmp_path, monkeypatch, terminal):
    closed = Closed()
    monkeypatch.setattr(closed, "isatty", lambda: terminal, raising=False)
    monkeypatch.setattr(sys, "stdout", closed)
    monkeypatch.setattr(sys, "stderr", closed)
    try:
        assert train(tmp_path / "run", mesh=one_device(), steps=6).stopped == "steps"
    finally:
        sys.stdout.close()
    assert sorted(logged(tmp_path / "run")) == list(range(1, 7))


def test_time_left_respects_the_time_budget(tmp_path, capsys):
    log = RunLog(RunFolder(tmp_path), step=0, steps=10**9, minutes=2.0, tensorboard=False)
    log.train(1, {}, {"steps_per_second": 1.0, "audio_seconds_per_second": 1.0})
    log.close()
    assert re.search(r"(2:00|1:5\d) left", capsys.readouterr().out)


def test_cut_metrics_keeps_complete_lines_up_to_the_step(tmp_path):
    folder = RunFolder(tmp_path)
    folder.cut_metrics(3)  # nothing there yet
    lines = [json.dumps({"step": step, "kind": "train"}) for step in range(1, 6)]
    folder.metrics.write_text("\n".join([*lines, "[1]", '{"step": 2, "ki']))
    folder.cut_metrics(3)
    assert [json.loads(line)["step"] for line in folder.metrics.read_text().splitlines()] == [1, 2, 3]


def test_durations_and_tables_are_formatted():
    assert [format_duration(x) for x in (5.4, 125, 3725)] == ["0:05", "2:05", "1:02:05"]
    assert columns({"a": "1", "long": "b"}) == ["a     1", "long  b"] and columns({}) == []
    assert values_text({"a": 12345, "b": {"c": "x"}}) == "a 12,345, b c x"

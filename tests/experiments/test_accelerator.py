"""The benchmark of an accelerator with tiny networks on a CPU: every part, errors of parts, and the time budget."""

import json

import pytest

from experiments.benchmarks import accelerator, accelerator_settings, accelerator_speeds, timing
from jaxvoice.data import read_audio
from tests.experiments.test_tts_ljspeech import tones  # noqa: F401 - a fixture

pytestmark = pytest.mark.usefixtures("own_cache", "one_device")


@pytest.mark.slow
def test_tiny_run_measures_and_trains_everything(tones, tmp_path):  # noqa: F811
    out = tmp_path / "out"
    accelerator.main(["--tiny", "--out", str(out), "--data", str(tones), "--aligned", str(tones)])
    table = json.loads((out / "results.json").read_text(encoding="utf-8"))
    parts = table["parts"]
    assert not {name: part for name, part in parts.items() if "error" in part or "skipped" in part}
    assert table["machine"]["devices"][0]["platform"] == "cpu"
    assert parts["V1 training step, bfloat16"]["hours_to_13000"] > 0
    assert parts["torch"]["device"] == "cpu"
    assert parts["torch"]["training step, bfloat16, release's order"]["min_s"] > 0
    training = parts["V1 training"]
    assert [line["step"] for line in training["validations"]] == [2, 4] and training["hours_to_35000"] > 0
    assert all(line["mel_l1"] > 0 for line in training["validations"])
    speech = parts["text to speech training"]
    assert (speech["step"], speech["duration_model"]["step"]) == (4, 2)
    files = {path.name for path in out.iterdir()}
    assert files == {"results.json", *training["samples"], *speech["samples"]} | {
        "spoken_griffin_lim.wav",
        "spoken_vocoder.wav",
    }
    assert training["samples"] and len(read_audio(out / "spoken_vocoder.wav").samples) > 1000


def test_error_of_a_part_is_recorded_and_the_next_part_runs(tmp_path, capsys):
    report = accelerator.Report(accelerator_settings.Options(tmp_path, minutes=1))

    def failing() -> dict:
        raise SystemExit("no such corpus")

    report.part("first", failing)
    report.part("second", lambda: {"value": float("nan")})
    report.part("third", lambda: {"value": 1}, needs=61)
    parts = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["parts"]
    assert parts["first"]["error"] == "SystemExit: no such corpus" and "failing" in parts["first"]["traceback"]
    assert parts["second"]["value"] is None
    assert "it needs 61 s" in parts["third"]["skipped"] and "value" not in parts["third"]
    assert "first: SystemExit: no such corpus" in capsys.readouterr().out


def test_missing_torch_is_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(accelerator_speeds, "find_spec", lambda name: None)
    assert accelerator_speeds.torch_process(accelerator_settings.Options(tmp_path), 1.0) == {
        "missing": "torch is not installed"
    }


def test_torch_that_exceeds_its_time_leaves_the_finished_results(tmp_path, monkeypatch):
    script = tmp_path / "torch_stub.py"
    script.write_text('import time\nprint(\'RESULT ["version", "2"]\', flush=True)\ntime.sleep(60)\n', encoding="utf-8")
    popen = accelerator_speeds.subprocess.Popen
    monkeypatch.setattr(
        accelerator_speeds.subprocess, "Popen", lambda command, **options: popen([command[0], str(script)], **options)
    )
    record = accelerator_speeds.torch_process(accelerator_settings.Options(tmp_path, tiny=True), 1.0)
    assert record["version"] == "2" and "exit code -9" in record["error"]


def test_estimates_are_hours_up_to_the_milestones():
    assert accelerator_settings.estimates(10.0) == {
        "steps_per_s": 10,
        "hours_to_13000": pytest.approx(0.3611, abs=1e-4),
        "hours_to_35000": pytest.approx(0.9722, abs=1e-4),
    }
    assert accelerator_settings.estimates(0.0) == {"steps_per_s": 0}


def test_measured_calls_have_a_minimum_and_a_rate(monkeypatch):
    seconds = iter([3.0, 1.0, 2.0])
    monkeypatch.setattr(timing, "timed", lambda call: next(seconds))
    row = accelerator_speeds.measured(lambda: None, accelerator_settings.TINY, gflop=4.0)
    assert row == {"min_s": 1, "median_s": 2, "repeats": 3, "gflop": 4, "gflop_per_s": 4}

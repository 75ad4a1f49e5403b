"""Two real processes on loopback, each with two devices, are one training."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from jaxvoice.errors import ConfigError
from jaxvoice.training.parallel import initialize_distributed
from training.toy import ToyTask, logged, losses, train


def two_processes(run, cache, **options):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]),
        "JAX_PLATFORMS": "cpu",
    }
    started = []
    for number in range(2):
        extra = options if number == 0 else {k: v for k, v in options.items() if k != "signal_at"}
        table = {"run": str(run), "port": port, "processes": 2, "process": number, "devices": 2, **extra}
        command = [sys.executable, "-m", "training.toy", json.dumps(table)]
        started.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    try:
        found = [process.communicate(timeout=150) for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], "\n".join(out + err for out, err in found)
    return [out for out, _ in found]


def test_two_processes_train_save_and_resume_as_one(tmp_path, compilation_cache):
    run, alone = tmp_path / "run", tmp_path / "alone"
    options = {"steps": 10, "checkpoint_every": 4, "validate_every": 6}
    # A signal to one process stops both at the same step.
    first = two_processes(run, compilation_cache, **options, signal_at=[7, 15])
    stopped = [next(line for line in out.splitlines() if line.startswith("RESULT")) for out in first]
    assert stopped[0] == stopped[1] and "interrupted" in stopped[0]
    assert "resuming" not in first[0] and "step 1/" not in first[1]  # only the first process talks
    step = int(stopped[0].split()[-1])
    assert (run / "checkpoints" / str(step)).is_dir() and step < 10
    second = two_processes(run, compilation_cache, **options, resume="must")
    assert f"resuming after step {step}" in second[0]
    train(alone, task=ToyTask(), **options)
    assert sorted(losses(run)) == list(range(1, 11))
    for number, line in logged(alone).items():
        for name in ("student", "critic"):
            assert logged(run)[number][name] == pytest.approx(line[name], rel=1e-5)
    metric = logged(run, "validation")[10]["mel_l1"]
    assert metric == pytest.approx(logged(alone, "validation")[10]["mel_l1"], rel=1e-4)
    assert (run / "model" / "weight.npy").exists()


def test_joining_after_jax_was_used_is_refused():
    with pytest.raises(ConfigError, match="before any other use of JAX"):
        initialize_distributed("127.0.0.1:1", 1, 0)

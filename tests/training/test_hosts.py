"""A training on two processes over loopback, each with two devices, equals that on one."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jaxvoice.errors import ConfigError
from jaxvoice.training.parallel import initialize_distributed
from training.toy import ToyConfig, ToyTask, logged, losses, train


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port of loopback that no other program receives, but that a program may bind again."""
    with socket.socket() as held:
        if hasattr(socket, "SO_REUSEPORT"):  # as the coordinator of `jax.distributed` does
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        if not hasattr(socket, "SO_REUSEPORT"):
            held.close()
        yield port


def two_processes(run, cache, **options):
    with reserved_port() as port:
        return _two_processes(run, cache, port, **options)


def _two_processes(run, cache, port, **options):
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]),
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
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


OPTIONS = {"steps": 10, "checkpoint_every": 4, "validate_every": 6}


def results(out):
    return [line for line in out.splitlines() if line.startswith("RESULT")]


def check_against_one_process(run, alone):
    train(alone, task=ToyTask(), **OPTIONS)
    assert sorted(losses(run)) == list(range(1, 11))
    for number, line in logged(alone).items():
        for name in ("student", "error_model"):
            assert logged(run)[number][name] == pytest.approx(line[name], rel=1e-5)
    metric = logged(run, "validation")[10]["mel_l1"]
    assert metric == pytest.approx(logged(alone, "validation")[10]["mel_l1"], rel=1e-4)
    assert (run / "model" / "weight.npy").exists()


@pytest.mark.slow
def test_two_processes_equal_one_process(tmp_path, compilation_cache):
    run = tmp_path / "run"
    # A signal to one process stops both at the same step.
    first, second = two_processes(run, compilation_cache, **OPTIONS, signal_at=[7, signal.SIGTERM.value], again=True)
    assert results(first) == results(second)
    stopped, finished = results(first)
    step = int(stopped.split()[-1])
    assert "interrupted" in stopped and step < 10 and finished == "RESULT steps 10"
    assert f"resuming after step {step}" in first
    assert "step 1/" in first and "step 1/" not in second  # only the first process talks
    check_against_one_process(run, tmp_path / "alone")


@pytest.mark.slow
def test_two_processes_resume_the_run_of_two_others(tmp_path, compilation_cache):
    run = tmp_path / "run"
    two_processes(run, compilation_cache, **OPTIONS, signal_at=[7, signal.SIGTERM.value])
    first, second = two_processes(run, compilation_cache, **OPTIONS, resume="must")
    assert "resuming after step" in first and results(first) == results(second) == ["RESULT steps 10"]
    check_against_one_process(run, tmp_path / "alone")


@pytest.mark.slow
def test_two_processes_split_their_parameters_and_resume(tmp_path, compilation_cache):
    run, wide = tmp_path / "run", {"width": 256, "shard_parameters": True}
    two_processes(run, compilation_cache, **OPTIONS | {"steps": 5}, **wide)
    first, second = two_processes(run, compilation_cache, **OPTIONS, **wide, resume="must")
    assert results(first) == results(second) == ["RESULT steps 10"]
    train(tmp_path / "alone", task=ToyTask(ToyConfig(width=256)), **OPTIONS)
    for number, line in logged(tmp_path / "alone").items():
        assert logged(run)[number]["student"] == pytest.approx(line["student"], rel=1e-4)


def test_initialize_distributed_raises_after_use_of_jax():
    with pytest.raises(ConfigError, match="before any other use of JAX"):
        initialize_distributed("127.0.0.1:1", 1, 0)

"""After a kill at any moment, a run can be resumed with the same results."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from jaxvoice.training.run_folder import RunFolder
from training import toy
from training.toy import ToyLoader, losses, one_device, train

OPTIONS = {"width": 16, "steps": 24, "validate_every": 7, "checkpoint_every": 3}
posix = pytest.mark.skipif(os.name != "posix", reason="Windows cannot send SIGKILL")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    run = tmp_path_factory.mktemp("whole") / "run"
    session(run)
    return run


def session(run, **changes):
    options = {**OPTIONS, **changes}
    task = toy.ToyTask(toy.ToyConfig(width=options.pop("width")))
    return train(run, task=task, mesh=one_device(), **options)


def process(run, cache, **options):
    """A session in a new process."""
    table = json.dumps({"run": str(run), **OPTIONS, **options})
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]),
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
        "JAX_PLATFORMS": "cpu",
    }
    command = [sys.executable, "-m", "training.toy", table]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=170, check=False)


def check_resumable(run, whole):
    session(run)
    assert losses(run) == losses(whole)
    assert not list((run / "checkpoints").glob("*tmp*"))


@pytest.mark.slow
@posix
def test_run_resumes_after_a_kill_while_training(whole, tmp_path, compilation_cache):
    done = process(tmp_path / "run", compilation_cache, kill_at=17)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert 0 < len(losses(tmp_path / "run")) < 24
    check_resumable(tmp_path / "run", whole)


@pytest.mark.slow
@posix
def test_run_resumes_after_a_kill_while_saving(whole, tmp_path, compilation_cache):
    done = process(tmp_path / "run", compilation_cache, kill_while_saving=[0.0, 2], step_seconds=0.02)
    assert done.returncode == -signal.SIGKILL, done.stderr
    check_resumable(tmp_path / "run", whole)


WIDE = {"width": 4096}
"""Large enough for a save to take a while."""


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    run = tmp_path_factory.mktemp("wide") / "run"
    session(run, **WIDE)
    return losses(run)


@posix
@pytest.mark.slow
@pytest.mark.parametrize("skip", [0, 4])
@pytest.mark.parametrize("delay", [0.0, 0.003, 0.01, 0.06])
def test_run_resumes_after_a_kill_at_many_moments_of_saving(tmp_path, compilation_cache, wide, delay, skip):
    killed = process(tmp_path / "run", compilation_cache, kill_while_saving=[delay, skip], step_seconds=0.05, **WIDE)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    session(tmp_path / "run", **WIDE)
    assert losses(tmp_path / "run") == wide


@posix
@pytest.mark.slow
@pytest.mark.parametrize("place", [1, 2, 4, 8, 9, 16, 23])
def test_run_resumes_after_a_kill_at_many_steps(whole, tmp_path, compilation_cache, place):
    """Twice in a row, so that a resumed session is killed as well."""
    for kill_at in (place, min(place + 5, 24)):
        done = process(tmp_path / "run", compilation_cache, kill_at=kill_at)
        assert done.returncode == -signal.SIGKILL, done.stderr
    check_resumable(tmp_path / "run", whole)


@posix
@pytest.mark.slow
def test_run_resumes_after_an_interrupt(whole, tmp_path, compilation_cache):
    done = process(tmp_path / "run", compilation_cache, signal_at=[9, signal.SIGINT.value])
    assert "RESULT interrupted" in done.stdout, done.stderr
    assert "--resume auto" in done.stdout
    check_resumable(tmp_path / "run", whole)


def record_states(monkeypatch, run: Path, into: Path) -> list[Path]:
    """Copy the run folder before everything that renames, replaces, makes or removes a file within it."""
    copies: list[Path] = []
    one_at_a_time = threading.RLock()

    def copy():
        if run.exists() and len(copies) < 400:
            copies.append(into / str(len(copies)))
            with contextlib.suppress(shutil.Error):  # a file that TensorStore is just writing
                shutil.copytree(run, copies[-1])

    def spy_on(name):
        original = getattr(os, name)

        def call(*args, **options):
            with one_at_a_time:
                if str(run) in " ".join(map(str, args)):
                    copy()
                return original(*args, **options)

        monkeypatch.setattr(os, name, call)

    for name in ("rename", "replace", "unlink", "rmdir", "mkdir"):
        spy_on(name)
    return copies


@pytest.mark.parametrize("most", [4, pytest.param(1000, marks=pytest.mark.slow)])
def test_run_resumes_from_every_state_after_a_kill(whole, tmp_path, monkeypatch, most):
    """A kill leaves the files that are on disk at that moment, so copies of the folder at many moments are resumed."""
    run, options = tmp_path / "run", {"steps": 10, "validate_every": 4, "checkpoint_every": 3}
    with monkeypatch.context() as patch:
        states = record_states(patch, run, tmp_path / "states")
        session(run, **options)
    expected = {step: value for step, value in losses(whole).items() if step <= 10}
    assert losses(run) == expected
    kinds = {state: fingerprint(state) for state in states}
    distinct = list({kind: state for state, kind in kinds.items()}.values())
    assert len(distinct) >= 20
    assert any("tmp" in name for kind in kinds.values() for name in kind)
    for state in distinct[:: max(1, len(distinct) // most)]:
        session(state, **options)
        assert losses(state) == expected, fingerprint(state)


def fingerprint(folder: Path) -> tuple[str, ...]:
    """The names two levels deep."""
    return tuple(sorted(str(path.relative_to(folder)) for path in [*folder.glob("*"), *folder.glob("*/*")]))


def test_run_starts_in_a_folder_without_files(whole, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json.tmp").write_text('{"tas')
    RunFolder(run).check("auto")
    session(run)
    assert losses(run) == losses(whole)


def test_checkpoint_has_the_loader_position_of_the_last_used_batch(tmp_path):
    loader = ToyLoader()
    train(tmp_path / "run", loader=loader, mesh=one_device(), steps=5, checkpoint_every=1)
    table = json.loads((tmp_path / "run/checkpoints/4/meta/metadata").read_text())
    assert table["loader"] == [4, 0]

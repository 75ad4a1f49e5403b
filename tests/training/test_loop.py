import json
import os
import re
import shutil
import signal
import threading
import time
from dataclasses import replace
from types import MappingProxyType

import equinox as eqx
import jax
import numpy as np
import pytest

from jaxvoice.errors import CheckpointError, ConfigError, DataError, TrainingError
from jaxvoice.pipelines.folders import run_progress
from jaxvoice.training.checkpoints import read_state
from jaxvoice.training.loop import LoopConfig
from jaxvoice.training.optimizers import OptimizerConfig
from jaxvoice.training.task import ValidationResult
from training.toy import ToyConfig, ToyLoader, ToyMel, ToyTask, logged, losses, one_device, train


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run of 12 steps."""
    run = tmp_path_factory.mktemp("whole") / "run"
    train(run, mesh=one_device())
    return run


def go(run, **options):
    return train(run, mesh=one_device(), **options)


def steps_kept(run):
    return sorted(int(path.name) for path in (run / "checkpoints").iterdir())


def test_run_folder_contains_all_files(whole):
    names = {path.name for path in whole.iterdir()}
    assert names == {"config.json", "checkpoints", "model", "metrics.jsonl"}
    assert steps_kept(whole) == [6, 8, 12]
    assert sorted(logged(whole)) == list(range(1, 13))
    assert sorted(logged(whole, "validation")) == [6, 12]
    table = json.loads((whole / "config.json").read_text())
    assert table["config"]["optimizer"]["decay_steps"] == 5 and table["mel"] == {"num_mels": 8}
    assert table["loop"]["steps"] == 12 and table["versions"]["jax"] == jax.__version__


def test_training_reduces_the_loss(tmp_path):
    result = go(tmp_path / "run", steps=400, log_every=100, validate_every=50, checkpoint_every=1000)
    validation = logged(tmp_path / "run", "validation")
    assert result.metrics["mel_l1"] < 0.5 * validation[50]["mel_l1"]
    assert result.best["value"] == min(line["mel_l1"] for line in validation.values())
    assert result.steps_per_second > 0 and result.stopped == "steps" and result.step == 400


@pytest.mark.parametrize("cut", [5, 6, 8])
def test_losses_of_a_resumed_run_equal_those_of_an_uninterrupted_run(whole, tmp_path, cut):
    first = go(tmp_path / "run", steps=cut)
    second = go(tmp_path / "run", resume="must")
    assert (first.step, second.step) == (cut, 12)
    assert losses(tmp_path / "run") == losses(whole)
    np.testing.assert_array_equal(np.load(tmp_path / "run/model/weight.npy"), np.load(whole / "model/weight.npy"))


def test_resuming_removes_logs_after_the_checkpoint(whole, tmp_path):
    run = tmp_path / "run"
    go(run, steps=6)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "kind": "train", "student": 0.0, "error_model": 0.0}\n{"step": 8, "kind": "tr')
    go(run)
    assert losses(run) == losses(whole)


def test_finished_runs_are_not_changed(tmp_path, capsys):
    go(tmp_path / "run", steps=4)
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    result = go(tmp_path / "run", steps=4)
    assert result.step == 4 and (tmp_path / "run" / "metrics.jsonl").read_bytes() == before
    assert "increase --steps" in capsys.readouterr().out


def test_initial_state_is_used_by_new_runs_only(tmp_path):
    task = ToyTask()
    state = task.init(key=jax.random.key(77))
    go(tmp_path / "given", steps=2, initial_state=lambda: state)
    go(tmp_path / "own", steps=2)
    assert losses(tmp_path / "given")[1] != losses(tmp_path / "own")[1]
    go(tmp_path / "own", steps=3, initial_state=lambda: state)
    go(tmp_path / "plain", steps=3)
    assert losses(tmp_path / "own") == losses(tmp_path / "plain")


def test_initial_state_continues_the_count_of_steps(tmp_path):
    state = ToyTask().init(key=jax.random.key(77))
    state = eqx.tree_at(lambda s: s.counters.step, state, jax.numpy.asarray(5, jax.numpy.int32))
    run = tmp_path / "run"
    assert go(run, steps=7, log_every=1, initial_state=lambda: state).step == 7
    assert list(losses(run)) == [6, 7]
    assert go(run, steps=8, log_every=1).step == 8
    assert list(losses(run)) == [6, 7, 8]


class KeyedToy(ToyTask):
    """A task that logs a random number of every step."""

    def step(self, state, batch, *, key, phase):
        new, metrics = super().step(state, batch, key=key, phase=phase)
        return new, {**metrics, "random": jax.random.uniform(key)}


def test_random_numbers_depend_on_seed_and_step_only(tmp_path):
    def numbers(run, steps, **loop):
        for last in steps:
            go(tmp_path / run, task=KeyedToy(), steps=last, **loop)
        return [line["random"] for line in logged(tmp_path / run).values()]

    whole, other = numbers("whole", (6,), seed=3), numbers("other", (6,), seed=4)
    assert len({*whole, *other}) == 12
    assert numbers("parts", (2, 6), seed=3) == whole
    of_init = {float(jax.random.uniform(key)) for key in jax.random.split(jax.random.key(3), 64)}
    assert not of_init & set(whole)


def test_the_best_model_and_checkpoint_are_kept(tmp_path):
    run = tmp_path / "run"
    scores = (3.0, 1.0, 2.0, float("nan"), 5.0)
    result = go(run, task=ToyTask(scores=scores), steps=10, validate_every=2, checkpoint_every=100, keep_last=1)
    assert steps_kept(run) == [4, 10]
    assert result.best == {"step": 4, "value": 1.0, "rank": 0}
    assert logged(run, "validation")[8]["mel_l1"] is None
    go(tmp_path / "short", steps=4)
    np.testing.assert_array_equal(np.load(run / "model/weight.npy"), np.load(tmp_path / "short/model/weight.npy"))
    task = ToyTask(scores=(4.0, 0.5))
    assert go(run, task=task, steps=14, validate_every=2, checkpoint_every=100, keep_last=1).best["step"] == 14


class AlternatingToy(ToyTask):
    """Phases that alternate, which the validation returns too."""

    def phase_of(self, step: int) -> int:
        return step % 2

    def rank_of(self, phase: int) -> int:
        return 0

    def validate(self, state):
        found = super().validate(state)
        return ValidationResult({**found.metrics, "phase": float(self.phase_of(int(state.counters.step) - 1))})


def test_rank_and_phase_of_a_validation_are_two_values(tmp_path):
    run = tmp_path / "run"
    result = go(run, task=AlternatingToy(), steps=6, validate_every=3, best_metric="phase")
    assert [(row["step"], row["rank"], row["phase"]) for row in logged(run, "validation").values()] == [
        (3, 0, 0.0),
        (6, 0, 1.0),
    ]
    assert result.best == {"step": 3, "value": 0.0, "rank": 0}
    assert run_progress(run)["best"].items() >= {"step": 3, "rank": 0, "phase": 0.0}.items()


@pytest.mark.parametrize("name", ["rank", "step", "kind"])
def test_metrics_with_reserved_names_raise_an_error(tmp_path, name):
    class Colliding(ToyTask):
        def validate(self, state):
            return ValidationResult({"mel_l1": 1.0, name: 2.0})

    with pytest.raises(TrainingError, match=f"returned the metric '{name}'; it should have another name"):
        go(tmp_path / "run", task=Colliding(), steps=2)


class FamilyToy(ToyTask):
    family = "toy"


class RenamedToy(FamilyToy):
    pass


class OtherToy(ToyTask):
    family = "other"


def test_runs_are_identified_by_the_family_of_their_task(tmp_path):
    run = tmp_path / "run"
    go(run, task=FamilyToy(), steps=2)
    assert go(run, task=RenamedToy(), steps=3).step == 3
    for task, name in (
        (OtherToy(), "'toy'; it should be 'other'"),
        (ToyTask(), "'RenamedToy'; it should be 'ToyTask'"),
    ):
        with pytest.raises(CheckpointError, match=f"the task of .*config.json is {name}"):
            go(run, task=task, steps=4)
    go(tmp_path / "plain", steps=2)
    with pytest.raises(CheckpointError, match="is 'ToyTask'; it should be 'FamilyToy'"):
        go(tmp_path / "plain", task=FamilyToy(), steps=3)


class PhasedToy(ToyTask):
    """The second phase, after six updates, does not change the metrics of the first."""

    def phase_of(self, step: int) -> int:
        return int(step >= 6)

    def step(self, state, batch, *, key, phase):
        new, metrics = super().step(state, batch, key=key, phase=phase)
        return new, {**metrics, "phase": jax.numpy.asarray(phase, jax.numpy.float32)}


def test_best_model_has_the_highest_rank(tmp_path):
    run = tmp_path / "run"
    kept = {"validate_every": 2, "checkpoint_every": 100, "keep_last": 1}
    scores = (3.0, 1.0, 2.0, 2.5, 2.2)  # after steps 2, 4, 6 | 8, 10
    result = go(run, task=PhasedToy(scores=scores), steps=10, **kept)
    assert result.best == {"step": 10, "value": 2.2, "rank": 1}
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {row["phase"] for row in rows if row["kind"] == "train" and row["step"] > 6} == {1.0}
    assert [row["rank"] for row in rows if row["kind"] == "validation"] == [0, 0, 0, 1, 1]
    assert run_progress(run)["best"] == {"step": 10, "rank": 1, "mel_l1": 2.2, "double": 4.4}
    # After a stop, too: 2.3 is worse than 2.2 and better than all of the first phase but one.
    result = go(run, task=PhasedToy(scores=(2.3, 2.4)), steps=14, **kept)
    assert result.best == {"step": 10, "value": 2.2, "rank": 1} and steps_kept(run) == [10, 14]
    go(tmp_path / "short", task=PhasedToy(), steps=10)
    np.testing.assert_array_equal(np.load(run / "model/weight.npy"), np.load(tmp_path / "short/model/weight.npy"))


def test_bad_steps_are_skipped(tmp_path):
    result = go(tmp_path / "run", loader=ToyLoader(poison=(3, 4)), steps=8, max_skipped_in_a_row=3)
    assert result.skipped == 2 and result.step == 8
    lines = logged(tmp_path / "run")
    assert lines[3]["student"] is None and lines[4]["student"] is None
    assert all(np.isfinite(lines[step]["student"]) for step in (1, 2, 5, 6, 7, 8))
    assert np.isfinite(np.load(tmp_path / "run/model/weight.npy")).all()


def test_too_many_bad_steps_stop_the_run_and_save_a_checkpoint(tmp_path):
    poisoned = ToyLoader(poison=range(6, 100))
    with pytest.raises(
        TrainingError,
        match=r"3 consecutive steps, up to step 8; checkpoint 8 contains.*--init-from .*run and "
        r"a lower --optimizer\.learning-rate or a lower --optimizer\.clip-norm\.$",
    ):
        go(tmp_path / "run", loader=poisoned, steps=50, max_skipped_in_a_row=3, validate_every=0)
    assert steps_kept(tmp_path / "run") == [4, 8]
    go(tmp_path / "five", steps=5)
    saved, expected = (read_state(tmp_path / name, ToyTask()) for name in ("run", "five"))
    for ours, theirs in zip(
        *(jax.tree.leaves(eqx.filter(s.student, eqx.is_array)) for s in (saved, expected)), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(TrainingError, match="no checkpoint exists yet"):
        go(tmp_path / "new", loader=ToyLoader(poison=(1, 2, 3)), max_skipped_in_a_row=3)


class Interrupting(ToyTask):
    """Sends this process a signal while the batch for `at` is made."""

    at, number, count = 5, signal.SIGINT, 0

    def audio_seconds(self, batch):
        self.count += 1
        if self.count == self.at:
            os.kill(os.getpid(), self.number)
        return super().audio_seconds(batch)


Interrupting.__name__ = "ToyTask"


HANGUP = [signal.SIGHUP] if hasattr(signal, "SIGHUP") else []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, *HANGUP])
def test_signal_saves_a_checkpoint_and_prints_how_to_resume(whole, tmp_path, capfd, number):
    run, task = tmp_path / "run", Interrupting()
    task.number = number
    before = signal.getsignal(number)
    result = go(run, task=task)
    assert result.stopped == "interrupted" and result.step in (4, 5)
    assert signal.getsignal(number) is before
    out = capfd.readouterr().out
    assert f"--run-dir {run} --resume auto" in out and "interrupt again" in out
    assert (run / "model" / "weight.npy").is_file()
    go(run, resume="must")
    assert losses(run) == losses(whole)


@pytest.mark.parametrize("number", HANGUP)
def test_second_hangup_does_not_stop_the_process(tmp_path, number):
    class Twice(Interrupting):
        def audio_seconds(self, batch):
            seconds = super().audio_seconds(batch)
            if self.count == self.at:
                for _ in range(3):  # handled before the function returns
                    signal.raise_signal(number)
            return seconds

    def fail(*_):
        raise KeyboardInterrupt

    before = signal.signal(number, fail)
    try:
        assert go(tmp_path / "run", task=Twice()).stopped == "interrupted"
        assert signal.getsignal(number) is fail
    finally:
        signal.signal(number, before)
    assert list((tmp_path / "run" / "checkpoints").glob("[45]"))


@pytest.mark.parametrize("number", HANGUP)
def test_hangup_is_ignored_under_nohup(tmp_path, number):
    task = Interrupting()
    task.number = number
    before = signal.signal(number, signal.SIG_IGN)
    try:
        assert go(tmp_path / "run", task=task, steps=7).stopped == "steps"
        assert signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, before)


@pytest.fixture
def interrupts_raise():
    """Python's own handler of SIGINT, which a process does not install if its shell made it ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts_raise")
def test_second_interrupt_stops_the_process(tmp_path):
    class Twice(Interrupting):
        def audio_seconds(self, batch):
            catching = signal.getsignal(signal.SIGINT)
            seconds = super().audio_seconds(batch)
            if self.count == self.at:
                # Two signals of a kind that wait to be handled are one.
                while signal.getsignal(signal.SIGINT) == catching:
                    time.sleep(0.001)
                # To this thread: a signal to the process is handled some instructions later, and what it raises is
                # lost where these belong to a finaliser.
                signal.raise_signal(signal.SIGINT)
            return seconds

    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "run", task=Twice())
    assert not list((tmp_path / "run" / "checkpoints").glob("5*"))


def test_time_budget_includes_the_last_validation(tmp_path):
    task = ToyTask(validation_seconds=0.3)
    result = go(tmp_path / "run", task=task, steps=10**6, minutes=0.03, validate_every=10, log_every=50)
    assert result.stopped == "minutes" and result.step < 10**6
    assert max(logged(tmp_path / "run", "validation")) == result.step
    assert steps_kept(tmp_path / "run")[-1] == result.step


def test_training_works_outside_the_main_thread(tmp_path):
    found = []
    thread = threading.Thread(target=lambda: found.append(go(tmp_path / "run", steps=2)))
    thread.start()
    thread.join()
    assert found[0].step == 2


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (ToyConfig(width=32), "config.width: 16 != 32"),
        (ToyConfig(optimizer=OptimizerConfig(learning_rate=5e-3, decay_steps=5)), "learning_rate: 0.01 != 0.005"),
    ],
)
def test_other_configurations_raise_an_error_with_the_differences(whole, config, line):
    before = (whole / "metrics.jsonl").read_bytes()
    with pytest.raises(CheckpointError, match=line):
        go(whole, task=ToyTask(config))
    assert (whole / "metrics.jsonl").read_bytes() == before


def test_other_mels_and_tasks_raise_an_error(whole):
    with pytest.raises(CheckpointError, match=r"mel\.num_mels: 8 != 9"):
        go(whole, task=ToyTask(mel=ToyMel(9)))

    class Another(ToyTask):
        pass

    with pytest.raises(CheckpointError, match="is 'ToyTask'; it should be 'Another'"):
        go(whole, task=Another())


def test_resumed_run_reports_other_data(tmp_path, capsys):
    run = tmp_path / "run"
    go(run, steps=4)
    go(run, steps=6)
    assert "data differ from those" not in capsys.readouterr().out
    go(run, steps=8, loader=ToyLoader(8))
    assert "the data differ from those of the checkpoint (batch_size 16 -> 8)" in capsys.readouterr().out


def test_resume_must_and_never_raise_errors(whole, tmp_path):
    with pytest.raises(CheckpointError, match="no run to resume"):
        go(tmp_path / "none", resume="must")
    assert not (tmp_path / "none").exists()
    with pytest.raises(CheckpointError, match="already contains a run"):
        go(whole, resume="never")
    assert go(tmp_path / "new", resume="never", steps=1).step == 1


def test_other_folders_are_not_changed(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(CheckpointError, match=r"not a run folder.*'thesis\.tex'"):
        go(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="is a file"):
        go(tmp_path / "file")
    with pytest.raises(CheckpointError, match="cannot be written"):
        go(tmp_path / "file" / "run")


def test_folder_is_created_after_the_first_batch(tmp_path):
    with pytest.raises(DataError, match="after step 0"):
        go(tmp_path / "run", loader=ToyLoader(last=0))
    with pytest.raises(ConfigError, match="batch_size"):
        train(tmp_path / "run", loader=ToyLoader(12))
    assert not (tmp_path / "run").exists()
    with pytest.raises(DataError, match="after step 3"):
        go(tmp_path / "run", loader=ToyLoader(last=3))


def test_failed_loader_loses_no_step(whole, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(DataError):
        go(run, loader=ToyLoader(last=3))
    assert steps_kept(run) == [3]
    go(run, resume="must")
    assert losses(run) == losses(whole)


def leave_before_the_first_checkpoint(run, **options):
    """The state of the folder after a kill in step 3."""
    with pytest.raises(DataError):
        go(run, loader=ToyLoader(last=3), **options)
    shutil.rmtree(run / "checkpoints" / "3")


def test_folder_without_checkpoint_starts_a_new_run(whole, tmp_path):
    run = tmp_path / "run"
    other = ToyTask(ToyConfig(width=7))
    leave_before_the_first_checkpoint(run, task=other)
    go(run)
    assert losses(run) == losses(whole)
    with pytest.raises(CheckpointError, match="width"):
        go(run, task=other, steps=14)


def test_initial_state_is_used_again_before_the_first_checkpoint(tmp_path):
    state = ToyTask().init(key=jax.random.key(77))
    go(tmp_path / "whole", initial_state=lambda: state)
    leave_before_the_first_checkpoint(tmp_path / "run", initial_state=lambda: state)
    go(tmp_path / "run", initial_state=lambda: state)
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


def test_newest_model_is_saved_without_held_out_data(whole, tmp_path):
    run = tmp_path / "run"
    result = go(run, task=Unjudged())
    assert result.metrics == {} and result.best is None and steps_kept(run)[-1] == 12
    assert losses(run) == losses(whole) and (run / "model" / "weight.npy").is_file()


def test_finished_run_without_held_out_data_is_not_changed(tmp_path, capsys):
    run = tmp_path / "run"
    go(run, task=Unjudged(), steps=4)
    before = {
        path: path.stat().st_mtime_ns for folder in ("model", "checkpoints") for path in (run / folder).rglob("*")
    }
    capsys.readouterr()
    for _ in range(2):
        assert go(run, task=Unjudged(), steps=4).step == 4
        assert "has finished 4 steps; increase --steps" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert run_progress(run)["last"] is None


def test_model_that_was_not_saved_is_saved_when_the_run_is_resumed(tmp_path):
    run = tmp_path / "run"

    class Full(Unjudged):
        def save_model(self, state, folder):
            raise OSError("no space")

    Full.__name__ = "ToyTask"
    with pytest.raises(CheckpointError, match="could not be written"):
        go(run, task=Full(), steps=4)
    go(run, task=Unjudged(), steps=4)
    assert (run / "model" / "weight.npy").is_file()


class Unjudged(ToyTask):
    def validate(self, state):
        return ValidationResult({})


Unjudged.__name__ = "ToyTask"


def test_metrics_that_cannot_be_written_stop_the_run(tmp_path):
    run = tmp_path / "run"
    go(run, steps=4)
    (run / "metrics.jsonl").unlink()
    (run / "metrics.jsonl").mkdir()
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl.* could not be written.*--resume auto"):
        go(run)
    assert steps_kept(run) == [4]


def test_steps_that_change_shapes_dtypes_or_structure_raise_an_error(tmp_path):
    class Growing(ToyTask):
        def step(self, state, batch, *, key, phase):
            state, metrics = super().step(state, batch, key=key, phase=phase)
            bias = jax.numpy.concatenate([state.error_model.bias] * 2)
            return eqx.tree_at(lambda s: s.error_model.bias, state, bias), metrics

    with pytest.raises(TrainingError, match=r"changed error_model\.bias from float32\[1\] to float32\[2\]"):
        go(tmp_path / "run", task=Growing())


def test_validation_without_the_best_metric_raises_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"metric is 'wer'; it should be a metric of the validation: mel_l1, double"):
        go(tmp_path / "run", best_metric="wer")
    assert steps_kept(tmp_path / "run") == [4, 6]


def test_unknown_best_metric_raises_an_error_at_the_start(tmp_path):
    class Named(ToyTask):
        metrics = MappingProxyType({"mel_l1": "mean absolute error"})

    with pytest.raises(ConfigError, match=r"best_metric is 'wer'; .*: mel_l1\."):
        go(tmp_path / "run", task=Named(), best_metric="wer")
    assert not (tmp_path / "run").exists()


class Failing(ToyTask):
    """Fails in the validation of `at`, after an external event if there is one."""

    at, event = 6, staticmethod(lambda: None)

    def validate(self, state):
        if int(state.counters.step) == self.at:
            self.event()
            raise TrainingError("The disk of the held-out clips is gone.")
        return super().validate(state)


Failing.__name__ = "ToyTask"


@pytest.mark.parametrize("at", [6, 12])
def test_failed_validation_is_repeated_when_the_run_is_resumed(whole, tmp_path, at):
    run, task, found = tmp_path / "run", Failing(), []
    task.at, task.event = at, lambda: found.append(steps_kept(run))
    with pytest.raises(TrainingError, match="held-out clips"):
        go(run, task=task)
    assert found[0][-1] == steps_kept(run)[-1] == at, "the checkpoint is on disk before the validation"
    result = go(run, resume="must")
    assert result.step == 12 and result.best is not None
    assert losses(run) == losses(whole) and logged(run, "validation") == logged(whole, "validation")
    np.testing.assert_array_equal(np.load(run / "model/weight.npy"), np.load(whole / "model/weight.npy"))
    assert go(run, resume="must").best == result.best


def test_validation_that_was_logged_is_not_repeated(whole, tmp_path):
    run = tmp_path / "run"
    first = go(run, steps=6, task=ToyTask(scores=(0.5,)))
    lines = (run / "metrics.jsonl").read_bytes()
    again = go(run, steps=6)
    assert again.best == first.best == {"step": 6, "value": 0.5, "rank": 0} and again.metrics == first.metrics
    assert (run / "metrics.jsonl").read_bytes() == lines
    assert go(run, task=ToyTask(scores=(0.7,))).best == first.best  # 0.7 after step 12
    assert steps_kept(run) == [6, 8, 12]


def test_validation_of_a_state_that_was_interrupted_is_not_lost(whole, tmp_path):
    run, task = tmp_path / "run", Interrupting()
    task.at = 6
    stopped = go(run, task=task, validate_every=1, checkpoint_every=100)
    assert stopped.step not in logged(run, "validation")
    go(run, validate_every=1, checkpoint_every=100)
    assert sorted(logged(run, "validation")) == list(range(1, 13)) and losses(run) == losses(whole)


@pytest.mark.parametrize("change", [{"task": ToyTask(scores=(3.0, 2.0), held_out_clips=2)}, {"best_metric": "double"}])
def test_other_held_out_data_or_metric_resets_the_best_model(tmp_path, capsys, change):
    run = tmp_path / "run"
    go(run, task=ToyTask(scores=(1.0,)), steps=6, keep_last=1)
    task = change.get("task", ToyTask(scores=(3.0, 2.0)))
    result = go(run, keep_last=1, **{"task": task, "validate_every": 3, **change})
    factor = 1 if "task" in change else 2
    assert result.best == {"step": 12, "value": 2.0 * factor, "rank": 0}
    assert run_progress(run)["best"]["step"] == 12 and steps_kept(run) == [12]
    said = "held-out data differ .*clips 1 -> 2" if "task" in change else "best metric was mel_l1 and is double"
    assert re.search(said + ".*, so the best model is chosen from the validations after", capsys.readouterr().out)
    go(run, task=replace(task, scores=(2.5,)), steps=13, **{k: v for k, v in change.items() if k != "task"})
    assert run_progress(run)["best"]["step"] == 12
    assert "best model is chosen" not in capsys.readouterr().out


def test_resumed_run_keeps_its_seed(tmp_path, capsys):
    go(tmp_path / "whole", task=KeyedToy(), seed=3)
    run = tmp_path / "run"
    go(run, task=KeyedToy(), steps=5, seed=3)
    assert "new runs" not in capsys.readouterr().out
    go(run, task=KeyedToy(), seed=4)
    assert "the run has the seed 3; --seed 4 is for new runs and has no effect here" in capsys.readouterr().out
    for name in ("student", "random"):
        assert [line[name] for line in logged(run).values()] == [x[name] for x in logged(tmp_path / "whole").values()]
    assert json.loads((run / "config.json").read_text())["loop"]["seed"] == 3


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"minutes": 0.0}, {"keep_last": 0}, {"validate_every": -1}])
def test_loop_config_names_impossible_settings(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        LoopConfig(**wrong)

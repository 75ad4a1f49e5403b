"""The training loop for any task and any number of devices and hosts. Runs can be stopped and resumed."""

import math
import shlex
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import equinox as eqx
import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, PyTree

from jaxvoice.config import check_not_negative, check_positive, check_types, to_dict
from jaxvoice.data.loader import Loader
from jaxvoice.errors import CheckpointError, ConfigError, DataError, TrainingError
from jaxvoice.training import parallel
from jaxvoice.training.checkpoints import Checkpoints, Restored
from jaxvoice.training.compiled_step import CompiledStep
from jaxvoice.training.logging import (
    RESERVED_METRICS,
    RunLog,
    SpeedMeter,
    columns,
    converted_write_errors,
    format_duration,
    print_once,
    values_text,
)
from jaxvoice.training.process import Interrupts
from jaxvoice.training.provenance import check_same_config, devices, provenance
from jaxvoice.training.run_folder import Resume, RunFolder
from jaxvoice.training.run_lock import RunLock
from jaxvoice.training.task import ResumableLoader, Task, ValidationResult
from jaxvoice.training.training_state import Skeleton

Stop = Literal["steps", "minutes", "interrupted"]
# Stop codes, which processes exchange inside the step. A larger code has priority.
_STOP_CODES: tuple[Stop | None, ...] = (None, "minutes", "interrupted")


@dataclass(frozen=True)
class LoopConfig:
    """Settings of the loop: limits of the training, and intervals of validation, checkpoints and logs.

    The settings may differ between the sessions of a run. `minutes` is the wall time of this session, compilation and
    the last validation included. `steps` counts over all sessions of the run. The best checkpoint is the one with the
    smallest `best_metric` among those of the highest rank (`Task.rank_of`).

    **Raises:** `ConfigError` for values of the wrong type or range.
    """

    steps: int = 2_500_000
    """Steps over all sessions of the run."""
    minutes: float | None = None
    """Wall time of this session in minutes; None sets no limit."""
    resume: Resume = "auto"
    """auto: resume the run if it exists; must: fail without a run; never: fail if a run exists."""
    validate_every: int = 1000
    """Steps between validations; 0 validates only at the end."""
    checkpoint_every: int = 5000
    """Steps between checkpoints."""
    log_every: int = 50
    """Steps between lines of the log."""
    keep_last: int = 3
    """Checkpoints to keep besides the best."""
    best_metric: str = "mel_l1"
    """Validation metric whose smallest value marks the best checkpoint."""
    max_skipped_in_a_row: int = 20
    """Consecutive steps with losses or gradients that are not finite, after which training stops with an error."""
    seed: int = 1234
    """Seed of the initial weights, of the crops and of random numbers within steps, such as dropout."""
    tensorboard: bool = True
    """Write TensorBoard events too."""

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "steps", "checkpoint_every", "log_every", "keep_last", "max_skipped_in_a_row")
        check_positive(self, "minutes", hint="None sets no time budget")
        check_not_negative(self, "validate_every", hint="0 validates at the end")


@dataclass(frozen=True)
class TrainingResult:
    """The result of a session: the reason for its end, the number of steps of the run, and metrics.

    `metrics` are those of the last validation. `best` has the keys `step`, `value` and `rank` (`Task.rank_of`).
    `steps_per_second` excludes compilation, validation and checkpoints. `skipped` is the number of skipped updates.
    """

    stopped: Stop
    step: int
    metrics: dict[str, float]
    best: dict[str, float] | None
    folder: Path
    steps_per_second: float
    compile_seconds: float
    seconds: float
    skipped: int


def fit(
    task: Task,
    loader: ResumableLoader,
    config: LoopConfig,
    run: Path,
    *,
    initial_state: Callable[[], PyTree] | None = None,
    mesh: Mesh | None = None,
) -> TrainingResult:
    """Train `task` on `loader` in the run folder `run`, or resume the run in it.

    On the same kind of machine, the results of a resumed run equal those of an uninterrupted run bit for bit. On GPUs,
    this needs deterministic kernels (`XLA_FLAGS=--xla_gpu_deterministic_ops=true`).

    **Arguments:**

    - `task`: the networks, losses and validation of a model family.
    - `loader`: the batches of this process.
    - `config`: limits and intervals.
    - `run`: the run folder, which is created after the loader has returned its first batch.
    - `initial_state`: makes the state before the first step, for example with pretrained weights; by default
        `task.init`. It is not called if the run has a checkpoint. Only the arrays of the state are used: settings such
        as learning rates are those of `task`.
    - `mesh`: a mesh of devices with the axis `data`; by default of all devices.

    **Raises:** `ConfigError` for a batch size that is not a multiple of the number of devices; `CheckpointError` if
    the folder is not a run folder, has another configuration, is damaged, is written by another process, or cannot be
    written; `TrainingError` after too many updates that are not finite, or if the initial state does not match `task`;
    `DataError` if the loader ends.
    """
    mesh = parallel.data_mesh() if mesh is None else mesh
    folder = RunFolder(run)
    folder.check(config.resume)
    with RunLock(run) as lock:
        session = _Session(task, loader, config, folder, mesh, lock, time.monotonic())
        return session.run(initial_state)


@dataclass
class _Session:
    """A session of a run. `leaves` are the arrays of the task's state on the devices; other fields are on the host."""

    task: Task
    loader: ResumableLoader
    config: LoopConfig
    folder: RunFolder
    mesh: Mesh
    lock: RunLock
    start: float
    step: int = 0
    leaves: list[Array] = field(default_factory=list)
    position: Any = None
    best: dict[str, float] | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    batch_size: int = 0
    skipped: int = 0
    saved: int = -1
    validation_due: bool = False  # the state of the checkpoint is not validated yet
    best_reset: bool = False
    closing_seconds: float = 0.0  # duration of the last validation and checkpoint, reserved at the end of a time budget

    def run(self, initial_state: Callable[[], PyTree] | None) -> TrainingResult:
        self._check_best_metric(self.task.metrics)
        initial_state = initial_state or (lambda: self.task.init(key=jax.random.key(self.config.seed)))
        exists = self.folder.exists()
        if exists:
            self._lock(exists)
        resuming = self.folder.has_progress()
        if resuming:
            stored = self.folder.read_config()
            check_same_config(self.task, stored, str(self.folder.config))
            self._keep_seed(stored)
        key = jax.random.key(self.config.seed)
        shapes = eqx.filter_eval_shape(self.task.init, key=key)
        self.skeleton = Skeleton(shapes)
        state = None if resuming else initial_state()
        if state is not None:
            self.skeleton.adopt(state)  # before anything is written
        upcoming = None if resuming else self._next_batch()
        parallel.barrier("every process has read the run folder")
        if not exists:
            self._lock(exists)  # after the first batch, because a failure before it leaves no folder
        if jax.process_index() == 0:
            self.folder.begin(self._description())
        parallel.barrier("the run folder exists")
        config = self.config  # after `_keep_seed`
        with Checkpoints(self.folder.checkpoints, keep_last=config.keep_last) as store:
            self.store = store
            if resuming:
                restored = self._restore(shapes)
                if restored is None:
                    if config.resume == "must":
                        raise CheckpointError(f"{self.folder.path} contains no complete checkpoint; use --resume auto.")
                    state = initial_state()
                else:
                    state = None
                    self._adopt(restored)
                upcoming = self._next_batch() if self.step < config.steps else None
            if state is not None:
                self.step = int(state.counters.step)  # above 0 if the initial state is that of another training
                self.leaves = parallel.replicate(self.skeleton.adopt(state), self.mesh)
            del state
            if self.step >= config.steps and not self.validation_due:
                print_once(
                    f"The run in {self.folder.path} has finished {self.step} steps; increase --steps to continue."
                )
                return self._result("steps", 0.0, 0.0)
            self._print_settings()
            log = RunLog(
                self.folder,
                step=self.step,
                steps=config.steps,
                minutes=config.minutes,
                tensorboard=config.tensorboard,
            )
            try:
                with Interrupts() as interrupts:
                    if self.best_reset:
                        log.best_reset(self.step)
                    if self.validation_due:
                        self._validate(log)
                    if self.step >= config.steps:
                        result = self._result("steps", 0.0, 0.0)
                    else:
                        result = self._train(log, interrupts, upcoming)
                    store.wait()
            finally:
                log.close()
        self._print_end(result)
        return result

    def _lock(self, existed: bool) -> None:
        """Lock the run folder in process 0, which writes it. `existed`: whether it contained a run at the start.

        **Raises:** `CheckpointError` in every process if another run holds the lock.
        """
        failure = None
        if jax.process_index() == 0:
            try:
                self.folder.create()
                self.lock.acquire()
                if self.folder.exists() != existed:
                    raise CheckpointError(f"Another process has begun a run in {self.folder.path}; repeat the command.")
            except CheckpointError as error:
                failure = error
        failed = parallel.in_every_process(int(failure is not None))[0]
        if failure is not None:
            raise failure
        if failed:
            raise CheckpointError(f"Process 0 could not lock the run folder {self.folder.path}; see its error.")

    def _train(self, log: RunLog, interrupts: Interrupts, upcoming: Any) -> TrainingResult:
        config = self.config
        program = CompiledStep(self.task, self.skeleton, self.mesh, seed=config.seed)
        # A GPU computes while the host prepares the next step. A CPU computes in the threads of the host.
        ahead = 1 if jax.default_backend() == "cpu" else 2
        pending: deque[tuple[int, Array]] = deque()
        speed = SpeedMeter()
        stop: Stop | None = None
        while stop is None:
            batch, self.position, audio_seconds = upcoming
            compiled = program.count
            phase = self.task.phase_of(self.step)
            self.leaves, metrics, status = program(self.leaves, batch, self._stop_codes(interrupts), phase)
            self.step += 1
            if program.count > compiled:
                print_once(f"compiled the training step in {program.seconds:.1f} s ({program.count} program(s) so far)")
                jax.block_until_ready(status)
                speed.restart()
            else:
                speed.count(audio_seconds)
            pending.append((self.step, status))
            upcoming, loader_failure = None, None
            try:
                upcoming = self._next_batch() if self.step < config.steps else None
            except Exception as failure:
                loader_failure = failure
            requested = self._drain_status(pending, keep=ahead - 1)
            if self.step >= config.steps:
                stop = "steps"
            elif jax.process_count() == 1:
                stop = self._local_stop(interrupts)
            else:
                stop = requested
            if self.step % config.log_every == 0 or stop is not None:
                values = {name: float(value) for name, value in metrics.items()}
                log.train(self.step, values, speed.measure())
                self.store.check()
            if loader_failure is not None:
                self._save_progress()
                raise loader_failure
            self._validate_and_save(log, stop, speed)
        self._drain_status(pending, keep=0)
        return self._result(stop, speed.overall(), program.seconds)

    def _validate_and_save(self, log: RunLog, stop: Stop | None, speed: SpeedMeter) -> None:
        config, began = self.config, time.monotonic()
        finished = stop in ("steps", "minutes")
        due = finished or self._validation_is_scheduled()
        if not due and stop is None and self.step % config.checkpoint_every:
            return
        self._save(validation_due=due)
        if due and stop != "interrupted":
            self.store.wait()  # a validation that fails or does not fit into memory loses no step
            self._validate(log)
            self.closing_seconds = time.monotonic() - began
        elif stop is not None and not self.folder.model.exists():
            self._save_model(self.skeleton.build(parallel.on_one_device(self.leaves)))
        speed.restart()

    def _validation_is_scheduled(self) -> bool:
        return bool(self.config.validate_every) and self.step % self.config.validate_every == 0

    def _save_progress(self) -> None:
        """Save a checkpoint before an error ends the run. With several processes, the others may not have failed."""
        if jax.process_count() == 1:
            self._save(validation_due=self._validation_is_scheduled())
            self.store.wait()

    def _save(self, *, validation_due: bool) -> None:
        """Start to write a checkpoint. `validation_due`: the state is validated next, also if the run is resumed."""
        if self.step == self.saved:
            return
        meta = {**provenance(self.task), "data": self.loader.describe(), "loader": self.position}
        meta |= {"metrics": self.metrics, "best": self.best, "best_metric": self.config.best_metric}
        meta |= {"held_out": self.task.held_out(), "validation_due": validation_due}
        arrays = dict(zip(self.skeleton.names, self.leaves, strict=True))
        self.store.save(self.step, arrays, meta)
        self.saved = self.step

    def _validate(self, log: RunLog) -> None:
        state = self.skeleton.build(parallel.on_one_device(self.leaves))
        found = self.task.validate(state)
        self.validation_due = False
        if not found.metrics:
            # Without held-out data there is no best model, so the newest model is saved.
            self._save_model(state)
            return
        reserved = sorted(RESERVED_METRICS & set(found.metrics))
        if reserved:
            raise TrainingError(
                f"the validation returned the metric {reserved[0]!r}; it should have another name, because lines of "
                "metrics.jsonl contain this key already."
            )
        self._check_best_metric(found.metrics)
        self.metrics = parallel.from_first_process({name: float(value) for name, value in found.metrics.items()})
        rank = self._rank
        if self._is_best(rank):
            self._save_model(state)
        # Last, because a validation in metrics.jsonl is not repeated when the run is resumed.
        log.validation(self.step, ValidationResult(self.metrics, found.samples), rank=rank)

    def _check_best_metric(self, metrics: Collection[str]) -> None:
        """Raise `ConfigError` if `metrics` does not contain the best metric. Unknown metrics are empty."""
        if metrics and self.config.best_metric not in metrics:
            raise ConfigError(
                f"best_metric is {self.config.best_metric!r}; it should be a metric of the validation: "
                f"{', '.join(metrics)}."
            )

    def _is_best(self, rank: float) -> bool:
        """Whether the last validation, of a model of this rank, is the best so far; it becomes `best` then."""
        value = self.metrics.get(self.config.best_metric, math.nan)
        # A model of a lower rank is not compared, because parts of it were not trained yet.
        if not math.isfinite(value):
            return False
        if self.best is not None and (-rank, value) >= (-self.best["rank"], self.best["value"]):
            return False
        self.best = {"step": self.step, "value": value, "rank": rank}
        self.store.set_best(self.step)
        return True

    @property
    def _rank(self) -> int:
        """The rank of the model after the last step."""
        return self._rank_after(self.step)

    def _rank_after(self, step: int) -> int:
        return self.task.rank_of(self.task.phase_of(max(step - 1, 0)))

    def _save_model(self, state: PyTree) -> None:
        if jax.process_index() == 0:
            with converted_write_errors(self.folder.model):
                self.folder.replace_model(lambda into: self.task.save_model(state, into))

    def _restore(self, shapes: PyTree) -> Restored | None:
        everywhere = parallel.replicated(self.mesh)
        structs = [
            jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere) for leaf in self.skeleton.flatten(shapes)
        ]
        where = f"A checkpoint in {self.folder.checkpoints}"
        return self.store.restore(
            dict(zip(self.skeleton.names, structs, strict=True)),
            accept=lambda meta: check_same_config(self.task, meta, where),
            log=print_once,
        )

    def _adopt(self, restored: Restored) -> None:
        self.step, self.position = restored.step, restored.meta["loader"]
        self.loader.restore(self.position)
        self.best, self.metrics = restored.meta["best"], restored.meta["metrics"]
        if self.best is not None and "rank" not in self.best:  # written by version 0.1
            self.best = {**self.best, "rank": self._rank_after(int(self.best["step"]))}
        self._reset_best_of_other_data(restored.meta)
        self.store.set_best(None if self.best is None else int(self.best["step"]))
        self._adopt_validation(restored.meta)
        self.leaves = [restored.arrays[name] for name in self.skeleton.names]
        print_once(f"resuming after step {self.step}")
        before, now = restored.meta.get("data", {}), self.loader.describe()
        if changed := _changes(before, now):
            print_once(f"the data differ from those of the checkpoint ({changed}), so their order changes")

    def _adopt_validation(self, meta: Mapping[str, Any]) -> None:
        """Use the logged validation of the checkpoint, which is written before it, or note that it is due."""
        if not meta.get("validation_due"):
            return
        logged = self.folder.logged_validation(self.step)
        self.validation_due = bool(parallel.in_every_process(int(logged is None))[0])
        if logged is not None and not self.validation_due:
            values = {name: value for name, value in logged.items() if name not in RESERVED_METRICS}
            self.metrics = {name: math.nan if value is None else float(value) for name, value in values.items()}
            if not self.best_reset:
                self._is_best(logged["rank"])

    def _reset_best_of_other_data(self, meta: Mapping[str, Any]) -> None:
        """Forget the best validation if it has another metric or other held-out data than validations of this run."""
        before, held_out = meta.get("held_out"), self.task.held_out()
        metric = meta.get("best_metric", self.config.best_metric)
        if before is not None and before != held_out:
            reason = f"the held-out data differ from those of the checkpoint ({_changes(before, held_out)})"
        elif metric != self.config.best_metric:
            reason = f"the best metric was {metric} and is {self.config.best_metric}"
        else:
            return
        self.best, self.best_reset = None, True
        print_once(f"{reason}, so the next validation begins a new choice of the best model")

    def _keep_seed(self, stored: Mapping[str, Any]) -> None:
        """Use the seed of the run in the `config.json` `stored`, with which its random numbers continue."""
        loop = stored.get("loop")
        seed = loop.get("seed") if isinstance(loop, Mapping) else None
        if isinstance(seed, int) and seed != self.config.seed:
            print_once(f"the run has the seed {seed}; --seed {self.config.seed} is for new runs and has no effect here")
            self.config = replace(self.config, seed=seed)

    def _next_batch(self) -> tuple[PyTree, Any, float]:
        """The next batch on the devices, the loader's position after it, and its seconds of audio."""
        try:
            batch = next(self.loader)
        except StopIteration:
            raise DataError(
                f"The loader returned no batch after step {self.step}; check that the corpus is complete."
            ) from None
        self.batch_size = jax.tree.leaves(batch)[0].shape[0] * jax.process_count()
        parallel.check_batch_size(self.batch_size, self.mesh)
        seconds = self.task.audio_seconds(batch) * jax.process_count()
        return parallel.shard_batch(batch, self.mesh), self.loader.state(), seconds

    def _local_stop(self, interrupts: Interrupts) -> Stop | None:
        if interrupts.requested:
            return "interrupted"
        spent = time.monotonic() - self.start + self.closing_seconds
        return "minutes" if self.config.minutes is not None and spent >= 60 * self.config.minutes else None

    def _stop_codes(self, interrupts: Interrupts) -> Array:
        """This process's stop code, as data of the step, so that all processes stop at the same step."""
        code = 0 if jax.process_count() == 1 else _STOP_CODES.index(self._local_stop(interrupts))
        return parallel.shard_batch(np.full(len(self.mesh.local_devices), code, np.int32), self.mesh)

    def _drain_status(self, pending: deque[tuple[int, Array]], *, keep: int) -> Stop | None:
        """Wait for all steps except the newest `keep`, and return the stop of the largest of their stop codes.

        **Raises:** `TrainingError` after too many skipped updates in a row.
        """
        stop_code = 0
        while len(pending) > keep:
            step, status = pending.popleft()
            self.skipped, in_a_row, code = (int(number) for number in np.asarray(status.addressable_data(0)))
            stop_code = max(stop_code, code)
            if in_a_row >= self.config.max_skipped_in_a_row:
                if in_a_row < step:
                    self._save(validation_due=False)  # every process comes here at the same step
                self.store.wait()
                steps = self.store.steps()
                kept = f"checkpoint {steps[-1]} contains the state before them" if steps else "no checkpoint exists yet"
                raise TrainingError(
                    f"Losses or gradients were not finite in {in_a_row} consecutive steps, up to step {step}; {kept}. "
                    f"Check the audio and resume with --resume auto, or start a new run with --init-from "
                    f"{self.folder.path} and a lower learning rate, a lower clip_norm, or precision float32."
                )
        return _STOP_CODES[stop_code]

    def _description(self) -> dict[str, Any]:
        """The content of `config.json`."""
        source = {"corpus": self.loader.source} if isinstance(self.loader, Loader) else {}
        data = {"data": {**source, **self.loader.describe()}, "held_out": self.task.held_out()}
        return {**provenance(self.task), "loop": to_dict(self.config), **data}

    def _print_settings(self) -> None:
        config, about, held_out = self.config, provenance(self.task), self.task.held_out()
        rows = {"run folder": f"{self.folder.path} (all settings: {self.folder.config.name})", "devices": devices()}
        rows["versions"] = values_text({name: about["versions"][name] for name in ("python", "jaxvoice", "jax")})
        for name, value in self.task.describe().items():
            if name != "config":
                rows[name] = values_text(value)
        if isinstance(self.loader, Loader):
            rows["corpus"] = self.loader.source
        if "ids" in held_out:
            rows["held out"] = f"{len(held_out['ids'])} utterances"
        rows["batch size"] = f"{self.batch_size}"
        limit = "" if config.minutes is None else f", or {config.minutes:.3g} minutes from now"
        rows["end"] = f"step {config.steps:,}{limit}"
        validation = f"{config.validate_every:,}" if config.validate_every else "at the end"
        rows["steps between"] = (
            f"validations {validation}, checkpoints {config.checkpoint_every:,}, lines of the log {config.log_every:,}"
        )
        rows["best model"] = f"smallest {config.best_metric} of a validation"
        if meaning := self.task.metrics.get(config.best_metric):
            rows["best model"] += f": {meaning}"
        print_once("\n".join([*columns(rows), *(["", *columns(self.task.columns)] if self.task.columns else [])]))

    def _result(self, stop: Stop, steps_per_second: float, compile_seconds: float) -> TrainingResult:
        return TrainingResult(
            stopped=stop,
            step=self.step,
            metrics=self.metrics,
            best=self.best,
            folder=self.folder.path,
            steps_per_second=steps_per_second,
            compile_seconds=compile_seconds,
            seconds=time.monotonic() - self.start,
            skipped=self.skipped,
        )

    def _print_end(self, result: TrainingResult) -> None:
        done = f"step {result.step} of {self.config.steps} after {format_duration(result.seconds)}"
        if result.skipped:
            done += f", {result.skipped} updates skipped as not finite"
        print_once(
            {"steps": "finished", "minutes": "time is up", "interrupted": "interrupted and saved"}[result.stopped]
            + f": {done}"
        )
        if result.stopped != "steps":
            print_once(f"to resume, repeat the command (--run-dir {shlex.quote(str(self.folder.path))} --resume auto)")


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    def text(value: Any) -> str:
        return f"{len(value)} values" if isinstance(value, list) and len(value) > 4 else str(value)

    names = [name for name in dict.fromkeys([*before, *now]) if before.get(name) != now.get(name)]
    return ", ".join(f"{name} {text(before.get(name))} -> {text(now.get(name))}" for name in names)

"""The training loop for any task and any number of devices and hosts. Runs can be stopped and resumed."""

import dataclasses
import shlex
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, PyTree

from jaxvoice.config import to_dict
from jaxvoice.console import flag_name
from jaxvoice.data.loader import Loader
from jaxvoice.errors import CheckpointError, DataError, TrainingError
from jaxvoice.training import parallel
from jaxvoice.training.checkpoints import Checkpoints, Restored
from jaxvoice.training.compiled_step import CompiledStep
from jaxvoice.training.logging import RunLog, SpeedMeter, print_once
from jaxvoice.training.loop_config import (
    LoopConfig as LoopConfig,
    Stop,
    TrainingResult as TrainingResult,
    end_text,
    settings_text,
)
from jaxvoice.training.optimizers import OptimizerConfig
from jaxvoice.training.process import Interrupts
from jaxvoice.training.provenance import check_same_config, provenance
from jaxvoice.training.run_folder import RunFolder
from jaxvoice.training.run_lock import RunLock
from jaxvoice.training.task import ResumableLoader, Task
from jaxvoice.training.training_state import Skeleton
from jaxvoice.training.validations import Validations, changes_text, check_best_metric

# Stop codes, which processes exchange inside the step. A larger code has priority.
_STOP_CODES: tuple[Stop | None, ...] = (None, "minutes", "interrupted")


def fit(
    task: Task,
    loader: ResumableLoader,
    config: LoopConfig,
    run: Path,
    *,
    initial_state: Callable[[], PyTree] | None = None,
    settings: Mapping[str, Any] | None = None,
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
    - `settings`: JSON values that chose the data, such as held-out speakers, which `config.json` stores.
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
        session = _Session(task, loader, config, folder, mesh, lock, time.monotonic(), settings)
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
    settings: Mapping[str, Any] | None = None
    step: int = 0
    leaves: list[Array] = field(default_factory=list)
    position: Any = None
    batch_size: int = 0
    skipped: int = 0
    saved: int = -1
    closing_seconds: float = 0.0  # duration of the last validation and checkpoint, reserved at the end of a time budget

    def run(self, initial_state: Callable[[], PyTree] | None) -> TrainingResult:
        check_best_metric(self.config.best_metric, self.task.metrics)
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
        self.skeleton = Skeleton(eqx.filter_eval_shape(self.task.init, key=key))
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
            self.validations = Validations(self.task, self.folder, store, config.best_metric)
            if resuming:
                restored = self._restore()
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
                shard = config.shard_parameters
                self.leaves = parallel.place(self.skeleton.adopt(state), self.mesh, shard=shard)
            del state
            if self.step >= config.steps and not self.validations.due:
                print_once(
                    f"The run in {self.folder.path} has finished {self.step} steps; increase --steps to continue."
                )
                return self._result("steps", 0.0, 0.0)
            print_once(settings_text(config, self.task, self.loader, self.folder, self.batch_size))
            log = RunLog(
                self.folder,
                step=self.step,
                steps=config.steps,
                minutes=config.minutes,
                tensorboard=config.tensorboard,
            )
            try:
                with Interrupts() as interrupts:
                    if self.validations.reset:
                        log.best_reset(self.step)
                    if self.validations.due:
                        self._validate(log)
                    if self.step >= config.steps:
                        result = self._result("steps", 0.0, 0.0)
                    else:
                        result = self._train(log, interrupts, upcoming)
                    store.wait()
            finally:
                log.close()
        print_once(end_text(config, result))
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
        shard = config.shard_parameters
        program = CompiledStep(self.task, self.skeleton, self.mesh, seed=config.seed, shard_parameters=shard)
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
                for line in self.task.warnings(values):
                    print_once(f"warning at step {self.step}: {line}")
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
            self.validations.save_model(self._state_on_one_device())
        speed.restart()

    def _validation_is_scheduled(self) -> bool:
        return bool(self.config.validate_every) and self.step % self.config.validate_every == 0

    def _save_progress(self) -> None:
        """Save a checkpoint before an error ends the run. With several processes, the others may not have failed."""
        if jax.process_count() == 1:
            self._save(validation_due=self._validation_is_scheduled())
            self.store.wait()

    def _validate(self, log: RunLog) -> None:
        self.validations.validate(self.step, self._state_on_one_device(), log)

    def _state_on_one_device(self) -> PyTree:
        return self.skeleton.build(parallel.on_one_device(self.leaves))

    def _save(self, *, validation_due: bool) -> None:
        """Start to write a checkpoint of this step, unless there is one.

        `validation_due`: whether the state should be validated. A run that is resumed from the checkpoint performs
        this validation first if it is not in the log.
        """
        if self.step == self.saved:
            return
        meta = {**provenance(self.task), "data": self.loader.describe(), "loader": self.position}
        meta |= {**self.validations.table(), "validation_due": validation_due}
        arrays = dict(zip(self.skeleton.names, self.leaves, strict=True))
        self.store.save(self.step, arrays, meta)
        self.saved = self.step

    def _restore(self) -> Restored | None:
        types = self.skeleton.types
        shardings = parallel.state_shardings(types, self.mesh, shard=self.config.shard_parameters)
        structs = [
            jax.ShapeDtypeStruct(one.shape, one.dtype, sharding=sharding)
            for one, sharding in zip(types, shardings, strict=True)
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
        self.validations.restore(self.step, restored.meta)
        self.leaves = [restored.arrays[name] for name in self.skeleton.names]
        print_once(f"resuming after step {self.step}")
        before, now = restored.meta.get("data", {}), self.loader.describe()
        if changed := changes_text(before, now):
            print_once(f"the data differ from those of the checkpoint ({changed}), so their order changes")

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
                    f"{shlex.quote(str(self.folder.path))} and {_remedies(self.task.config)}."
                )
        return _STOP_CODES[stop_code]

    def _description(self) -> dict[str, Any]:
        """The content of `config.json`."""
        source = {"corpus": self.loader.source} if isinstance(self.loader, Loader) else {}
        settings = {} if self.settings is None else {"settings": dict(self.settings)}
        data = {"data": {**source, **settings, **self.loader.describe()}, "held_out": self.task.held_out()}
        return {**provenance(self.task), "loop": to_dict(self.config), **data}

    def _result(self, stop: Stop, steps_per_second: float, compile_seconds: float) -> TrainingResult:
        return TrainingResult(
            stopped=stop,
            step=self.step,
            metrics=self.validations.metrics,
            best=self.validations.best,
            folder=self.folder.path,
            steps_per_second=steps_per_second,
            compile_seconds=compile_seconds,
            seconds=time.monotonic() - self.start,
            skipped=self.skipped,
        )


def _remedies(config: Any) -> str:
    """What to change in the configuration of a task after updates that are not finite, as flags of its experiment."""
    names = [field.name for field in dataclasses.fields(config)] if dataclasses.is_dataclass(config) else []
    values = {name: getattr(config, name) for name in names}
    optimizers = [name for name, value in values.items() if isinstance(value, OptimizerConfig)]
    lower = [flag_name(name, setting) for setting in ("learning_rate", "clip_norm") for name in optimizers]
    remedies = [f"a lower {flag}" for flag in lower]
    if values.get("precision", "float32") != "float32":
        remedies.append("--precision float32")
    return " or ".join(remedies) or "other settings"

"""Checkpoints of a run, which are written atomically in the background, and verified when they are read.

Orbax's `CheckpointManager` writes them; only this file uses Orbax. Beside the arrays, each checkpoint contains a JSON
object with the number of its schema, the CRC-32 of every array (Orbax does not detect flipped bits), the position of
the loader, the configuration, the versions and the best metric.
"""

import errno
import gc
import inspect
import json
import logging
import shutil
import sys
import time
import traceback
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import SingleDeviceSharding
from jaxtyping import Array
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, LatestN, PreservationPolicy

from jaxvoice.errors import CheckpointError
from jaxvoice.training.parallel import barrier, in_every_process, whole_array
from jaxvoice.training.provenance import check_same_config
from jaxvoice.training.run_folder import RunFolder
from jaxvoice.training.task import Task
from jaxvoice.training.training_state import Skeleton
from jaxvoice.weights.schemas import migrate, with_schema_number


@dataclass(frozen=True)
class Restored:
    """The content of a checkpoint: the step after which it was written, its arrays by name, and its JSON object."""

    step: int
    arrays: dict[str, Array]
    meta: dict[str, Any]


class Checkpoints:
    """The checkpoints in `folder`, of which the last `keep_last` and that of the step `best` are kept.

    Every process of a run opens the folder. `best` is `None` until `set_best` is called. With `read_only`, the folder
    is not changed. A context manager.

    **Raises:** `CheckpointError` if `folder` is a file or cannot be opened.
    """

    def __init__(self, folder: Path, *, keep_last: int, read_only: bool = False):
        self.folder = folder.absolute()
        self.best: int | None = None
        self._read_only, self._keep_last = read_only, keep_last
        if self.folder.exists() and not self.folder.is_dir():
            raise CheckpointError(f"{self.folder} is a file, not a folder of checkpoints; choose another run folder.")
        self._quiet = ExitStack()
        try:
            with ExitStack() as stack:
                stack.enter_context(_quiet_orbax())
                options = ocp.CheckpointManagerOptions(
                    preservation_policy=AnyPreservationPolicy([LatestN(keep_last), _KeepBest(self)]),
                    read_only=read_only,
                    create=not read_only,
                )
                if not read_only:
                    self._remove_unfinished()
                self._manager = ocp.CheckpointManager(self.folder, options=options)
                self._quiet = stack.pop_all()  # until __exit__
        except OSError as failure:
            raise CheckpointError(
                f"The checkpoint folder {self.folder} cannot be opened ({failure}); check that it is a folder and can "
                "be written, or choose another run folder."
            ) from failure

    def _remove_unfinished(self) -> None:
        """Delete unfinished checkpoints of killed runs. Orbax's own option deletes them in a background thread."""
        if jax.process_index() == 0:
            for path in self.folder.glob(f"*{ocp.utils.TMP_DIR_SUFFIX}*"):
                shutil.rmtree(path)
        # No process reads the folder before this is done.
        barrier("unfinished checkpoints")

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait for unfinished writes, except after an interrupt. A failed write does not hide an earlier error."""
        with self._quiet:
            if kind is None:
                self.wait()
            elif issubclass(kind, Exception):
                try:
                    self.wait()
                except CheckpointError as failure:
                    print(failure)
            if kind is None or issubclass(kind, Exception):
                self._manager.close()

    def steps(self) -> list[int]:
        """The steps of all complete checkpoints on disk, oldest first."""
        return sorted(self._manager.all_steps(read=True))

    def set_best(self, step: int | None) -> None:
        """Keep the checkpoint of `step` instead of that of the earlier `best`, which is deleted if it is not recent.

        **Raises:** `CheckpointError` if it cannot be deleted.
        """
        before, self.best = self.best, step
        steps = sorted(self._manager.all_steps())  # contains a checkpoint that is still being written
        if before in steps[: -self._keep_last] and before != step:
            self._attempt(lambda: self._manager.delete(before))

    def save(self, step: int, arrays: Mapping[str, Array], meta: Mapping[str, Any]) -> None:
        """Start to write a checkpoint in the background. `arrays` may be donated afterwards; `meta` has JSON values.

        **Raises:** `CheckpointError` if this or an earlier checkpoint could not be written. If the write fails later,
        a later call raises the error.
        """
        fingerprints = {name: _fingerprint(array) for name, array in arrays.items()}
        table = with_schema_number("run", {**meta, "step": step, "arrays": fingerprints})
        args = ocp.args.Composite(state=ocp.args.StandardSave(dict(arrays)), meta=ocp.args.JsonSave(table))
        self._attempt(lambda: self._manager.save(step, args=args, force=True))

    def check(self) -> None:
        """Raise `CheckpointError` if a write in the background has failed."""
        self._attempt(self._manager.check_for_errors)

    def wait(self) -> None:
        """Wait until all checkpoints are on disk.

        **Raises:** `CheckpointError` if a write failed.
        """
        self._attempt(self._manager.wait_until_finished)

    def _attempt(self, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception as failure:  # Orbax and TensorStore raise many types, ValueError among them, for a full disk
            _silence_abandoned_writes()
            _wait_for_other_arrays()
            intact = ", ".join(map(str, self.steps())) or "none"
            raise CheckpointError(
                f"A checkpoint could not be written to {self.folder} ({_write_problem(failure)}). Free disk space or "
                f"make the folder writable, then resume with --resume auto; intact checkpoints: {intact}."
            ) from failure

    def restore(
        self,
        abstract: Mapping[str, jax.ShapeDtypeStruct],
        accept: Callable[[Mapping[str, Any]], None],
        log: Callable[[str], None] = print,
    ) -> Restored | None:
        """The newest intact checkpoint in the current schema, or `None` without checkpoints.

        Damaged newer checkpoints are moved to the folder `damaged`.

        **Arguments:**

        - `abstract`: shape, dtype and sharding of every array.
        - `accept`: takes the JSON object of a checkpoint, and raises `CheckpointError` if it does not fit the run.
        - `log`: prints messages.

        **Raises:** `CheckpointError` if all checkpoints are damaged, if `accept` raises it, if arrays differ from
        `abstract`, if the schema is newer than this version supports, if a checkpoint cannot be read for another reason
        than damage, or if processes read different checkpoints.
        """
        damaged: dict[int, str] = {}
        for step in reversed(self.steps()):
            try:
                restored = self._read(step, abstract, accept)
            except CheckpointError:
                raise
            except Exception as failure:
                if _is_temporary(failure):
                    raise CheckpointError(
                        f"Checkpoint {step} in {self.folder} cannot be read ({_first_line(failure)}). The error does "
                        "not indicate damage, so nothing was changed. Check memory, permissions and the disk, and try "
                        "again."
                    ) from failure
                # Damage raises errors of JSON, keys, attributes, types and values, and `Exception`.
                damaged[step] = _damage(failure)
                restored = None
            if restored is not None:
                self._check_same_step(step)
                if not self._read_only:
                    self._move_damaged(list(damaged), log)
                return restored
            _wait_for_other_arrays()
            log(f"Checkpoint {step} in {self.folder} is damaged: {damaged[step]}. Trying the previous one.")
        if damaged:
            found = "; ".join(f"{step}: {why}" for step, why in damaged.items())
            raise CheckpointError(
                f"Every checkpoint in {self.folder} is damaged ({found}). Restore the folder from a copy, or start "
                "again in another run folder, with --init-from if a model folder was saved."
            )
        return None

    def _read(
        self, step: int, abstract: Mapping[str, jax.ShapeDtypeStruct], accept: Callable[[Mapping[str, Any]], None]
    ) -> Restored:
        where = f"Checkpoint {step} in {self.folder}"
        stored = self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]
        migrated = migrate("run", stored, where)
        names = migrated.tensors(stored["arrays"])
        meta = {**migrated.table, "arrays": {name: stored["arrays"][old] for name, old in names.items()}}
        accept(meta)
        _check_arrays(where, meta["arrays"], abstract)
        args = ocp.args.StandardRestore({names[name]: struct for name, struct in abstract.items()})
        found = self._manager.restore(step, args=ocp.args.Composite(state=args))["state"]
        arrays = {name: found[names[name]] for name in abstract}
        broken = [name for name, array in arrays.items() if _fingerprint(array) != meta["arrays"][name]]
        if broken:
            raise _DifferentArrays(f"{len(broken)} of {len(arrays)} arrays differ from their checksums")
        return Restored(step, arrays, meta)

    def _check_same_step(self, step: int) -> None:
        steps = in_every_process(step)
        if len(set(steps)) > 1:
            raise CheckpointError(
                f"The processes read checkpoints of different steps from {self.folder} ({steps}, in process order). "
                "Nothing was changed. Check that all processes can read the same files."
            )

    def _move_damaged(self, steps: list[int], log: Callable[[str], None]) -> None:
        """Move damaged checkpoints to the folder `damaged`, because their steps will be written again."""
        barrier("all processes have read the checkpoints")
        if steps and jax.process_index() == 0:
            target = self.folder.parent / "damaged"
            target.mkdir(exist_ok=True)
            for step in steps:
                shutil.rmtree(target / str(step), ignore_errors=True)
                (self.folder / str(step)).rename(target / str(step))
            log(f"Moved {len(steps)} damaged checkpoint(s) to {target}.")
        barrier("damaged checkpoints are moved")
        self._manager.reload()


def read_state(run: Path, task: Task) -> Any:
    """Read the state in the newest intact checkpoint of the run folder `run`, without changing the folder.

    `task` should have the configuration of the run. The arrays are on the first device of this process.

    **Raises:** `CheckpointError` if there is no intact checkpoint, or the run has another configuration.
    """
    folder = RunFolder(run)
    if not folder.checkpoints.is_dir():
        raise CheckpointError(f"{run} contains no checkpoints; pass a run folder.")
    shapes = eqx.filter_eval_shape(task.init, key=jax.random.key(0))
    skeleton, here = Skeleton(shapes), SingleDeviceSharding(jax.local_devices()[0])
    structs = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here) for leaf in skeleton.flatten(shapes)]
    with Checkpoints(folder.checkpoints, keep_last=1, read_only=True) as store:
        restored = store.restore(
            dict(zip(skeleton.names, structs, strict=True)),
            accept=lambda meta: check_same_config(task, meta, f"A checkpoint in {folder.checkpoints}"),
        )
    if restored is None:
        raise CheckpointError(
            f"{run} contains no complete checkpoint yet; wait for the first one, or pass a model folder."
        )
    return skeleton.build([restored.arrays[name] for name in skeleton.names])


@dataclass
class _KeepBest(PreservationPolicy):
    """Keeps the checkpoint of the step `of.best`. It may be validated after it is written."""

    of: Checkpoints

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        return [checkpoint.step == self.of.best for checkpoint in checkpoints]


def _fingerprint(array: Array) -> list[Any]:
    """Shape, dtype and CRC-32 of an array as JSON values. All processes call this function."""
    local = whole_array(array)
    data = jax.random.key_data(local) if jax.numpy.issubdtype(local.dtype, jax.dtypes.prng_key) else local
    raw = np.ascontiguousarray(np.asarray(data)).reshape(-1).view(np.uint8)
    return [list(array.shape), str(array.dtype), zlib.crc32(raw.data)]


def _check_arrays(where: str, stored: Mapping[str, Any], wanted: Mapping[str, jax.ShapeDtypeStruct]) -> None:
    lines = [f"+ {name} (in the model only)" for name in wanted if name not in stored]
    lines += [f"- {name} (in the checkpoint only)" for name in stored if name not in wanted]
    for name, want in wanted.items():
        if name in stored and stored[name][:2] != [list(want.shape), str(want.dtype)]:
            lines.append(f"! {name}: {stored[name][1]}{stored[name][0]} stored, {want.dtype}{list(want.shape)} wanted")
    if lines:
        more = f"\n  ... and {len(lines) - 20} more" if len(lines) > 20 else ""
        raise CheckpointError(
            f"{where} does not match this model; use the version and configuration that wrote it, or another run "
            "folder:\n  " + "\n  ".join(lines[:20]) + more
        )


def _first_line(failure: BaseException) -> str:
    text = str(failure).strip() or type(failure).__name__
    return text.splitlines()[0][:300]


def _write_problem(failure: BaseException) -> str:
    """The reason for a failed write. TensorStore's errors are long and contain only a status code."""
    if isinstance(failure, OSError) and failure.strerror:
        return failure.strerror
    text = str(failure)
    reasons = {"RESOURCE_EXHAUSTED": "no space left on the disk", "PERMISSION_DENIED": "permission denied"}
    reasons["OUT_OF_RANGE"] = "a file is larger than the system allows"
    return next((reason for code, reason in reasons.items() if code in text), _first_line(failure))


def _damage(failure: BaseException) -> str:
    """The damage that `failure` indicates, which is raised when a checkpoint is read."""
    if isinstance(failure, _DifferentArrays):
        return str(failure)
    if isinstance(failure, json.JSONDecodeError):
        return "its file meta/metadata is not valid JSON"
    if isinstance(failure, KeyError) or "was not found" in str(failure):
        return "files are missing"
    return "its arrays cannot be read"


class _DifferentArrays(ValueError):
    """Arrays that differ from their checksums."""


def _is_temporary(failure: Exception) -> bool:
    """Whether `failure` indicates a problem of the machine (memory, permissions, a disk) rather than damage."""
    if isinstance(failure, MemoryError | jax.errors.JaxRuntimeError):
        return True
    if isinstance(failure, OSError):
        return failure.errno not in (None, errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
    return any(code in str(failure) for code in ("RESOURCE_EXHAUSTED", "PERMISSION_DENIED", "UNAVAILABLE"))


def _wait_for_other_arrays() -> None:
    """Wait for the operations on other arrays after a failure, and free them while their messages are suppressed."""
    time.sleep(0.2)
    gc.collect()


@contextmanager
def _quiet_orbax() -> Iterator[None]:
    """A context that suppresses the messages of Orbax, whose errors are raised as exceptions.

    Messages to absl's logger are suppressed. If reading or writing an array fails, the operations on the other arrays
    are abandoned, and each would print a traceback ("Event loop is closed") from another thread or the garbage
    collector.
    """
    absl, before = logging.getLogger("absl"), sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if not _is_abandoned(unraisable):
            before(unraisable)

    absl.addFilter(_not_from_orbax)
    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before
        absl.removeFilter(_not_from_orbax)


def _is_abandoned(unraisable: Any) -> bool:
    if str(unraisable.exc_value) == "Event loop is closed":
        return True
    task = unraisable.object
    return inspect.iscoroutine(task) and "orbax" in task.cr_code.co_filename


def _silence_abandoned_writes() -> None:
    """Suppress the messages of asyncio about the writes of other arrays, which fail after the first.

    asyncio logs them when the garbage collector finds them, which may be at the end of the process.
    """
    logging.getLogger("asyncio").addFilter(_not_of_orbax)


def _not_of_orbax(record: logging.LogRecord) -> bool:
    frames = [] if record.exc_info is None else traceback.extract_tb(record.exc_info[2])
    return "orbax" not in record.getMessage() and not any("orbax" in frame.filename for frame in frames)


def _not_from_orbax(record: logging.LogRecord) -> bool:
    return "orbax" not in record.pathname

"""The provenance of a checkpoint (task, configuration, versions), and its comparison with a task."""

import dataclasses
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import jax

from jaxvoice._version import __version__
from jaxvoice.config import differences, format_value, from_dict, to_dict
from jaxvoice.data.store import Store
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.training.task import Task


def provenance(task: Task) -> dict[str, Any]:
    """The task's class, family, configuration and mel contract, and the versions of packages, as JSON values."""
    return {
        "task": type(task).__name__,
        "family": task.family,
        "config": to_dict(task.config),
        "mel": None if task.mel is None else to_dict(task.mel),
        "versions": versions(),
    }


def describe_held_out(store: Store) -> dict[str, Any]:
    """The ids of the utterances in `store`, and the lengths of their recordings or mels, as JSON values."""
    lengths = store.lengths("audio" if "audio" in store else "mel")
    ids = [utterance.id for utterance in store.corpus.utterances]
    return {"ids": ids, "lengths": lengths.tolist(), "peak_normalize": store.peak_normalize}


def versions() -> dict[str, str]:
    """Versions of Python, jaxvoice and the packages that affect numerical results or file formats."""
    found = {"python": platform.python_version(), "jaxvoice": __version__}
    for name in ("jax", "jaxlib", "equinox", "optax", "orbax-checkpoint", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def devices() -> str:
    """The devices in use as text, such as `8 x NVIDIA L40 (gpu), 1 process`."""
    kinds = sorted({device.device_kind for device in jax.devices()})
    processes = jax.process_count()
    noun = "process" if processes == 1 else "processes"
    return f"{jax.device_count()} x {', '.join(kinds)} ({jax.default_backend()}), {processes} {noun}"


def check_same_config(task: Task, table: Mapping[str, Any], where: str) -> None:
    """Raise `CheckpointError` with the differences unless `table`, a result of `provenance`, describes `task`."""
    names = (table.get("family"), task.family)
    # A task without a family, such as one that the user wrote, is identified by its class.
    stored, mine = names if None not in names else (table.get("task"), type(task).__name__)
    if stored != mine:
        raise CheckpointError(
            f"the task of {where} is {format_value(stored)}; it should be {mine!r}. Choose another --run-dir."
        )
    lines = []
    for part, mine in (("config", task.config), ("mel", task.mel)):
        stored = table.get(part)
        if stored is None or not dataclasses.is_dataclass(mine) or isinstance(mine, type):
            if stored is not None or mine is not None:
                lines.append(f"{part}: {stored!r} != {mine!r}")
            continue
        try:
            lines += differences(from_dict(type(mine), stored, part), mine, f"{part}.")
        except ConfigError as failure:
            lines.append(str(failure))
    if lines:
        raise CheckpointError(
            f"{where} was created with a different configuration (stored != requested); use the stored values, or "
            "choose another --run-dir:\n  " + "\n  ".join(lines)
        )

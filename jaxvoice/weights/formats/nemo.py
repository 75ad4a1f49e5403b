"""NeMo files: a tar file, optionally gzipped, with a configuration and a torch file."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from jaxvoice.errors import CheckpointError, RefusedError
from jaxvoice.weights.archive import Source
from jaxvoice.weights.formats import limits
from jaxvoice.weights.formats.error_messages import DAMAGED, error_prefix, short_text
from jaxvoice.weights.formats.limits import Budget
from jaxvoice.weights.formats.mapped_file import Bytes, FileSlice
from jaxvoice.weights.formats.pickle_archives import PickleArchive

CONFIG, WEIGHTS = "model_config.yaml", "model_weights.ckpt"

Torch = Callable[[Bytes, Path, Callable[[], None], Sequence[str], Budget], PickleArchive]


def open_nemo(
    members: Mapping[str, FileSlice],
    path: Path,
    close: Callable[[], None],
    inert: Sequence[str],
    budget: Budget,
    torch: Torch,
) -> PickleArchive:
    """Read a NeMo file. `torch` reads the weights in it.

    `metadata["model_config.yaml"]` is the text of the configuration.

    **Raises:** `CheckpointError` if the file is not a NeMo file, or is damaged.
    """
    if {"storages", "tensors", "pickle"} <= members.keys():
        raise CheckpointError("it was written by torch before 0.2 (2017); load it with torch < 2 and save it again.")
    if WEIGHTS not in members:
        raise CheckpointError(
            f"it is a tar file without {WEIGHTS}, so it is not a NeMo file (it contains {_some(members)}); if it "
            "contains a weight file, extract that file and use it."
        )
    with error_prefix(WEIGHTS):
        archive = torch(members[WEIGHTS], path, close, inert, budget)
    details = {"weights": archive.source.format, **archive.source.details}
    archive.source = Source(path, "NeMo", details)
    beside = {"weights": archive.metadata} if archive.metadata else {}
    archive.metadata = {CONFIG: _config(members), **beside}
    return archive


def _config(members: Mapping[str, FileSlice]) -> str:
    block = members[CONFIG].view if CONFIG in members else memoryview(b"")
    if len(block) > limits.CONFIG:
        raise RefusedError(f"its {CONFIG} has {len(block)} bytes; at most {limits.CONFIG} are read.")
    try:
        return str(block, "utf-8")
    except UnicodeDecodeError as failure:
        raise CheckpointError(f"its {CONFIG} is not text; {DAMAGED}.") from failure


def _some(members: Mapping[str, FileSlice]) -> str:
    return ", ".join(short_text(name) for name in list(members)[:5]) or "nothing"

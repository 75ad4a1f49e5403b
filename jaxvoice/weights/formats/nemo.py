"""NeMo's files: a tar file, gzipped or not, with a configuration and a file of torch."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from jaxvoice.errors import CheckpointError, RefusedError
from jaxvoice.weights.archive import Source
from jaxvoice.weights.formats import limits
from jaxvoice.weights.formats.error_messages import DAMAGED, naming, shown
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
    """Read a NeMo file; `torch` reads the weights in it. Raises `CheckpointError`.

    The configuration is kept as text: `metadata["model_config.yaml"]`.
    """
    if {"storages", "tensors", "pickle"} <= members.keys():
        raise CheckpointError("is a file of torch before 0.2 (2017); load it with torch < 2 and save it again.")
    if WEIGHTS not in members:
        raise CheckpointError(
            f"is a tar file without {WEIGHTS}, so not one of NeMo (it has {_some(members)}); if it holds a weight "
            "file, unpack it and give that one."
        )
    with naming(WEIGHTS):
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
    return ", ".join(shown(name) for name in list(members)[:5]) or "nothing"

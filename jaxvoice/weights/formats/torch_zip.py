"""Files of `torch.save` since torch 1.6 and of `torch.jit.save`: a zip file with pickles and one entry per storage."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxvoice.errors import CheckpointError, RefusedError
from jaxvoice.weights.archive import Source, TensorKind
from jaxvoice.weights.formats import limits
from jaxvoice.weights.formats.error_messages import DAMAGED, safe_text
from jaxvoice.weights.formats.limits import Budget
from jaxvoice.weights.formats.pickle_archives import PickleArchive, Storages, Texts, TorchScriptArchive, unknown_storage
from jaxvoice.weights.formats.pickle_objects import Record, StorageRef
from jaxvoice.weights.formats.state_dict import Members, torch_members, walk
from jaxvoice.weights.formats.torch_dtypes import storage_dtype
from jaxvoice.weights.formats.unpickler import Unpickler
from jaxvoice.weights.formats.zip_files import Zip
from jaxvoice.weights.schemas import EXPORT_KEY


def find_prefix(archive: Zip) -> str | None:
    """The folder of the single `data.pkl`, with a trailing slash; `None` if there is none."""
    pickles = [name for name in archive if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(pickles) > 1:
        raise RefusedError(f"it has {len(pickles)} entries called data.pkl; it is ambiguous which one to read.")
    return pickles[0].removesuffix("data.pkl") if pickles else None


def open_torch_zip(
    archive: Zip, prefix: str, path: Path, close: Callable[[], None], inert: Sequence[str], budget: Budget
) -> PickleArchive:
    """Read the structure of a torch file or a TorchScript archive.

    **Raises:** `CheckpointError` if the file is damaged; `RefusedError` as `open_archive` does.
    """
    details = _details(archive, prefix)
    order = details.get("byte order", "little")
    if order not in ("little", "big"):
        raise CheckpointError(f"its byte order is {safe_text(order)}, which is neither little nor big.")
    code = {name.removeprefix(f"{prefix}code/"): name for name in archive if _is_code(name, prefix)}
    content = _unpickle(archive, prefix, "data", inert, budget)
    options: dict[str, Any] = {
        "block": lambda key: archive.open(prefix + key),
        "swap": order == "big",
        "close": close,
        "budget": budget,
    }
    if f"{prefix}constants.pkl" not in archive:
        if f"{prefix}bytecode.pkl" in archive:
            raise CheckpointError("it is a model for mobile devices; export the model with torch.jit.save.")
        found = walk(content, torch_members, "its data.pkl", budget)
        if prefix + EXPORT_KEY in archive:
            found.metadata[EXPORT_KEY] = archive.text(prefix + EXPORT_KEY, 100).strip()
        return PickleArchive(content, found, Source(path, "torch zip", details), **options)
    if not isinstance(content, Record):
        raise CheckpointError(
            f"it is a TorchScript archive whose data.pkl is {safe_text(content)}, not a module; {DAMAGED}."
        )
    constants = _unpickle(archive, prefix, "constants", inert, budget)
    if not isinstance(constants, tuple):
        raise CheckpointError(f"it is a TorchScript archive whose constants.pkl is {safe_text(constants)}; {DAMAGED}.")
    length = sum(archive.size(name) for name in code.values())
    if length > limits.CODE:
        raise RefusedError(f"it has more than {limits.CODE} bytes of code; no model needs so many.")
    budget.charge("its code", work=length // 32)
    texts = Texts(code, lambda name: archive.text(name, limits.CODE_FILE))
    found = walk(content, _script_members(_declared(texts)), "its data.pkl", budget)
    if constants:
        named = {f"c{index}": value for index, value in enumerate(constants)}
        more = walk({"CONSTANTS": named}, torch_members, "its constants.pkl", budget)
        if more.tensors.keys() & found.tensors.keys():
            raise RefusedError("it has both constants and a module called CONSTANTS; rename the module.")
        found.tensors |= more.tensors
        found.kinds |= dict.fromkeys(more.tensors, "constant")
    found.metadata = _extra(archive, prefix, budget)
    script = TorchScriptArchive(content, found, Source(path, "TorchScript", details), **options)
    script.code, script.constants = texts, constants
    return script


def _is_code(name: str, prefix: str) -> bool:
    return name.startswith(f"{prefix}code/") and name.endswith(".py")


def _details(archive: Zip, prefix: str) -> dict[str, str]:
    """Version and byte order, from their entries."""
    places = {"version": ("version", ".data/version"), "byte order": ("byteorder",)}
    details = {}
    for key, names in places.items():
        for name in names:
            if prefix + name in archive:
                details[key] = archive.text(prefix + name, 100).strip()
    return details


def _unpickle(archive: Zip, prefix: str, part: str, inert: Sequence[str], budget: Budget) -> Any:
    """The value of `<part>.pkl`, whose storages are the entries `<part>/...`."""
    what = f"its {part}.pkl"
    storages = Storages(what, budget)

    def storage(persistent_id: Any) -> StorageRef:
        match persistent_id:
            case ("storage", kind, str() as key, str() | None, int() as numel):
                dtype = storage_dtype(kind, what)
            case _:
                raise unknown_storage(persistent_id)

        def make() -> StorageRef:
            if not 0 <= numel <= limits.ELEMENTS or archive.size(f"{prefix}{part}/{key}") != numel * dtype.itemsize:
                raise CheckpointError(
                    f"according to {what}, the storage {safe_text(key)} has {safe_text(numel)} elements "
                    f"of {dtype}, but its entry has {archive.size(f'{prefix}{part}/{key}')} bytes; {DAMAGED}."
                )
            return StorageRef(f"{part}/{key}", dtype, numel)

        return storages.get(key, make, dtype, numel)

    data = archive.open(f"{prefix}{part}.pkl", limits.PICKLE)
    # A compressed pickle is unpacked as a whole. Of an uncompressed pickle, only the part that was read takes memory.
    counted = archive.unpacked(f"{prefix}{part}.pkl")
    reader = Unpickler(data, what=what, budget=budget, counted=counted, persistent=storage, inert=inert)
    content = reader.load()
    storages.release()
    if reader.position != len(data):
        raise CheckpointError(f"{what} continues for {len(data) - reader.position} bytes after its end; {DAMAGED}.")
    return content


_CLASS = re.compile(r"^class ([\w]{1,200})\(Module\):\n((?:  __\w{1,100}__ = [^\n]{0,200000}\n){0,10})", re.MULTILINE)
_DECLARED = re.compile(r"^  __(parameters|buffers)__ = \[([^\n]*)\]", re.MULTILINE)


def _declared(code: Mapping[str, str]) -> dict[str, dict[str, TensorKind]]:
    """By class, the parameters and buffers that its code declares."""
    kinds: dict[str, dict[str, TensorKind]] = {}
    for file, text in code.items():
        package = file.removesuffix(".py").replace("/", ".")
        for name, lines in _CLASS.findall(text):
            own = kinds.setdefault(f"{package}.{name}", {})
            for kind, names in _DECLARED.findall(lines):
                own |= dict.fromkeys(re.findall(r'"([^"]*)"', names), "parameter" if kind == "parameters" else "buffer")
    return kinds


def _script_members(declared: Mapping[str, Mapping[str, TensorKind]]) -> Members:
    """A function that returns the members of a record, with kinds from the declarations of its class."""

    def members(record: Record) -> list[tuple[Any, Any, TensorKind | None]] | None:
        if record.args:  # a named tuple, or a member of an enumeration
            return None
        kinds = declared.get(record.class_name, {})
        if isinstance(record.state, dict):
            listed = ((key, value) for key, value in record.state.items() if key != "_is_full_backward_hook")
            return [(key, value, kinds.get(key)) for key, value in listed]
        return [("state", record.state, None)]

    return members


def _extra(archive: Zip, prefix: str, budget: Budget) -> dict[str, Any]:
    """Extra files that the author stored with the module, as text."""
    start = f"{prefix}extra/"
    names = [name for name in archive if name.startswith(start)][: limits.EXTRA_FILES]
    texts = {}
    for name in names:
        if archive.size(name) <= limits.EXTRA_FILE:
            # With one wide character, all characters take four bytes.
            budget.charge(f"the entry {safe_text(name)}", work=archive.size(name) // 64, memory=4 * archive.size(name))
            texts[name.removeprefix(start)] = str(archive.open(name), "utf-8", "replace")
    return {"extra": texts} if texts else {}

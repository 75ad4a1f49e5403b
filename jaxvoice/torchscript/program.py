"""The program of an archive: its code, instances of its classes, its weights by name, and its constants."""

import difflib
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Array, Shaped

from jaxvoice.errors import CheckpointError
from jaxvoice.torchscript.code import ClassCode, Code, assigned_attributes, parse_code
from jaxvoice.torchscript.tensors import SMALL, OperatorError, Tensor, needs_64_bits
from jaxvoice.weights.formats import Global, Record, TensorRef, TorchScriptArchive

Weights = Mapping[str, Shaped[Array | np.ndarray, "..."]]


@dataclass(eq=False)
class Instance:
    """A module, or an instance of another class, in one run of the program."""

    code: ClassCode
    """Its class."""
    path: str = ""
    """Dotted name of a module."""
    state: dict[str, Any] = field(default_factory=dict)
    """Attributes as stored in the archive."""
    attributes: dict[str, Any] = field(default_factory=dict)
    """Attributes that the program has read or set."""

    @property
    def is_module(self) -> bool:
        """Whether it is a module."""
        return self.code.kind == "module"


@dataclass(frozen=True)
class EnumMember:
    """A member of an enum in the code."""

    enum: str
    name: str
    value: Any


class NamedTuple(tuple[Any, ...]):
    """A tuple with named items."""

    names: tuple[str, ...]


def _identity(ref: TensorRef) -> tuple[Any, ...]:
    return ref.storage.key, ref.offset, ref.shape, ref.stride


class Program:
    """The code of an archive and the module to run. A program is immutable; every run creates its own instances."""

    def __init__(self, archive: TorchScriptArchive, path: str):
        self.code: Code = parse_code(archive.code)
        self.archive = archive
        self.record = self._find(archive.content, path)
        self.path = path
        self.names: dict[tuple[Any, ...], str] = {}
        self.refs: dict[tuple[Any, ...], TensorRef] = {}
        self.known: dict[tuple[Any, ...], np.ndarray] = {}
        self.shared: set[str] = set()
        self.wide: set[str] = set()
        functions = [*self.code.functions.values()]
        functions += [method for code in self.code.classes.values() for method in code.methods.values()]
        self.assigned = assigned_attributes(functions)
        """Names of attributes that the code assigns, and whose tensors may therefore change their shapes."""
        self.paths: dict[int, str] = {}
        """Dotted names of modules and other objects."""
        self.slots: dict[str, tuple[Record, str]] = {}
        """Their attributes by dotted name: the record and the attribute's own name."""
        self.holders: dict[Any, list[str]] = {}
        """For each tensor and list, the dotted names of the attributes that contain it."""
        refs: dict[str, TensorRef] = {}
        self._collect(self.record, path, refs, "")
        for index, value in enumerate(archive.constants):
            if isinstance(value, TensorRef):
                refs[f"CONSTANTS.c{index}"] = value
        self._name(refs)

    def class_code(self, name: str) -> ClassCode:
        """The class with this qualified name; raises `CheckpointError` if the code does not define it."""
        if name not in self.code.classes:
            raise CheckpointError(f"the code of the archive lacks the class {name}; the archive is damaged.")
        return self.code.classes[name]

    def _find(self, top: Record, path: str) -> Record:
        record, done = top, []
        for part in path.split(".") if path else []:
            state = record.state if isinstance(record.state, dict) else {}
            children = [key for key, value in state.items() if isinstance(value, Record)]
            if part not in children:
                near = difflib.get_close_matches(part, children, n=3, cutoff=0.4) or children[:8]
                where = ".".join(done) or "the top module"
                raise CheckpointError(
                    f"there is no module {path!r}: {where} has no {part!r}; it has {', '.join(near) or 'no modules'}."
                )
            record = state[part]
            done.append(part)
        return record

    def _collect(self, value: Any, path: str, refs: dict[str, TensorRef], slot: str) -> None:
        """Register every tensor, object and attribute in `value`, the value of attribute `slot`, by dotted name."""
        if isinstance(value, TensorRef):
            refs.setdefault(path, value)
            self.holders.setdefault(_identity(value), []).append(slot)
        elif isinstance(value, Record):
            if id(value) in self.paths:
                return
            self.paths[id(value)] = path
            code = self.code.classes.get(value.class_name)
            for key, part in value.state.items() if isinstance(value.state, dict) else ():
                name = f"{path}.{key}" if path else str(key)
                if code is not None and code.kind in ("module", "class"):
                    self.slots[name] = (value, str(key))
                self._collect(part, name, refs, name)
        elif isinstance(value, (dict, list, tuple)):
            holders = self.holders.setdefault(id(value), [])
            holders.append(slot)
            if len(holders) == 1:
                for key, part in value.items() if isinstance(value, dict) else enumerate(value):
                    self._collect(part, f"{path}.{key}" if path else str(key), refs, slot)

    def _name(self, refs: dict[str, TensorRef]) -> None:
        """Choose one name for every tensor. Names of parameters and buffers are preferred."""
        infos = self.archive.tensors.infos()
        storages: dict[str, set[tuple[Any, ...]]] = {}
        kinds = {name: infos[name].kind if name in infos else "tensor" for name in refs}
        for name in sorted(refs, key=lambda name: kinds[name] == "tensor"):
            ref = refs[name]
            identity = _identity(ref)
            storages.setdefault(ref.storage.key, set()).add(identity)
            if identity in self.names or identity in self.known:
                continue
            if _is_static(ref, name):
                self.known[identity] = np.array(self.archive.read(ref))
            else:
                self.names[identity], self.refs[identity] = name, ref
                # Under jax.jit the values cannot be checked.
                if ref.storage.dtype.kind in "iu" and needs_64_bits(np.asarray(self.archive.read(ref))):
                    self.wide.add(name)
        self.shared = {key for key, identities in storages.items() if len(identities) > 1}


def _is_static(ref: TensorRef, name: str) -> bool:
    """Whether a tensor is part of the program instead of its weights, because it may determine shapes and branches.

    These are small tensors of integers and booleans, and constants other than arrays of real numbers.
    """
    whole = ref.storage.dtype.kind in "biu"
    if name.startswith("CONSTANTS."):
        return whole or not ref.shape
    return whole and math.prod(ref.shape) <= SMALL


def iter_tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in a value and in its lists, tuples and dicts; a list that occurs twice is read once."""
    pending, seen = [value], set()
    while pending:
        one = pending.pop()
        if isinstance(one, Tensor):
            yield one
        elif isinstance(one, (list, tuple, dict)) and id(one) not in seen:
            seen.add(id(one))
            pending.extend(one.values() if isinstance(one, dict) else one)


def _member(code: ClassCode, record: Record) -> EnumMember:
    """The member of an enum with the value in `record`."""
    value = record.args[0] if record.args else None
    for name, known in code.constants.items():
        if type(known) is type(value) and known == value:
            return EnumMember(code.name, name, value)
    raise CheckpointError(f"the enum {code.original_name} of the archive has no member with the value {value!r}.")


class Instances:
    """The instances, tensors and constants of one run.

    **Arguments:** `overrides`: values of attributes by dotted name, which replace those of the archive.
    """

    def __init__(self, program: Program, weights: Weights, overrides: Mapping[str, Any] | None = None):
        self.program, self._weights = program, weights
        self._overrides = overrides or {}
        self._instances: dict[int, Instance] = {}
        self._tensors: dict[tuple[Any, ...], Tensor] = {}
        self._lists: dict[int, Any] = {}

    def value(self, value: Any, path: str) -> Any:
        """Convert a value of the archive to a value of the program."""
        if isinstance(value, TensorRef):
            return self._tensor(value)
        if isinstance(value, Record):
            return self._instance(value, path)
        if isinstance(value, Global):
            return value.name
        if isinstance(value, (list, tuple, dict)):
            if id(value) not in self._lists:
                self._lists[id(value)] = self._collection(value, path)
            return self._lists[id(value)]
        return value

    def _collection(self, value: Any, path: str) -> Any:
        if isinstance(value, dict):
            return {key: self.value(part, f"{path}.{key}") for key, part in value.items()}
        parts = [self.value(part, f"{path}.{index}") for index, part in enumerate(value)]
        return parts if isinstance(value, list) else tuple(parts)

    def _instance(self, record: Record, path: str) -> Any:
        if record.class_name == "torch.device":
            return str(record.args[0]) if record.args else "cpu"
        if record.class_name in self.program.code.classes:
            code = self.program.code.classes[record.class_name]
            if code.kind == "enum":
                return _member(code, record)
        if id(record) not in self._instances:
            state = record.state if isinstance(record.state, dict) else {}
            path = self.program.paths.get(id(record), path)  # the first of several paths
            self._instances[id(record)] = Instance(self.program.class_code(record.class_name), path, dict(state))
        return self._instances[id(record)]

    def attribute(self, instance: Instance, name: str) -> Any:
        """An attribute of an instance; raises `OperatorError` if it does not exist."""
        if name not in instance.attributes:
            path = f"{instance.path}.{name}" if instance.path else name
            if name in instance.state and path in self._overrides:
                instance.attributes[name] = self._overrides[path]
            elif name in instance.state:
                instance.attributes[name] = self.value(instance.state[name], path)
            elif name in instance.code.constants:
                instance.attributes[name] = instance.code.constants[name]
            else:
                raise OperatorError(f"{instance.code.original_name} has no attribute {name!r}")
        return instance.attributes[name]

    def slots(self, names: Collection[str]) -> dict[str, Any]:
        """The values of the attributes `names` by dotted name, in the order of the archive."""
        found = {}
        for slot, (record, name) in self.program.slots.items():
            if slot in names:
                instance = self._instance(record, slot.rpartition(".")[0])
                found[slot] = self.attribute(instance, name)
        return found

    def changed_slots(self) -> dict[str, Any]:
        """Attributes that the run has changed and overrides, by dotted name.

        Attributes whose tensors share elements with one of these are included.
        """
        names = set(self._overrides)
        self._unchanged: dict[int, bool] = {}
        for slot, (record, name) in self.program.slots.items():
            instance = self._instances.get(id(record))
            if instance is not None and name in instance.attributes and slot not in names:
                raw = record.state[name]
                if not self._is_unchanged(raw, instance.attributes[name], slot):
                    names |= {slot, *self.program.holders.get(id(raw), ())}
        storages = {id(tensor.storage) for value in self.slots(names).values() for tensor in iter_tensors(value)}
        for identity, tensor in self._tensors.items():
            if tensor.changed or id(tensor.storage) in storages:
                names |= set(self.program.holders.get(identity, ()))
        return self.slots(names)

    def _is_unchanged(self, raw: Any, value: Any, path: str) -> bool:
        """Whether a value equals that of the archive."""
        original = self.value(raw, path)
        if isinstance(original, Tensor):
            return value is original and not original.changed
        if value is original and isinstance(original, (list, tuple, dict)):
            if id(raw) not in self._unchanged:
                self._unchanged[id(raw)] = True  # lists may contain each other
                keys, now = (list(one) if isinstance(one, dict) else list(range(len(one))) for one in (raw, original))
                unchanged = keys == now and all(self._is_unchanged(raw[key], original[key], path) for key in keys)
                self._unchanged[id(raw)] = unchanged
            return self._unchanged[id(raw)]
        plain = (bool, int, float, complex, str, EnumMember, type(None))
        return value is original or (isinstance(value, plain) and type(value) is type(original) and value == original)

    def constant(self, name: str) -> Any:
        """The constant `CONSTANTS.c0`, ...; raises `OperatorError` if it does not exist."""
        index = int(name[1:]) if name[:1] == "c" and name[1:].isdecimal() else -1
        if not 0 <= index < len(self.program.archive.constants):
            raise OperatorError(f"the archive has no constant {name!r}; it is damaged")
        return self.value(self.program.archive.constants[index], f"CONSTANTS.{name}")

    def _tensor(self, ref: TensorRef) -> Tensor:
        identity = _identity(ref)
        if identity not in self._tensors:
            program = self.program
            frozen = None
            if ref.storage.key in program.shared:
                frozen = "a tensor of the archive that shares elements with other tensors is changed in place"
            known = program.known.get(identity)
            name = program.names.get(identity, "")
            array = self._weights[name] if known is None else known
            invalid_reason = None
            if name in program.wide and not isinstance(array, np.ndarray) and array.dtype != np.int64:
                invalid_reason = f"{name} contains integers of 64 bits; set jax_enable_x64 to compute with them"
            self._tensors[identity] = Tensor(array, frozen=frozen, invalid_reason=invalid_reason)
        return self._tensors[identity]

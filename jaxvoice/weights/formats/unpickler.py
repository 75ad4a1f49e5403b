"""Reading of pickles without the module `pickle`. The functions in `allowed_globals` replace those of the file.

Nothing is imported, and no function of the file is called.

Source of the format: Python's documentation of `pickletools`. Extension codes, persistent ids as text, and buffers
outside the file are not supported.
"""

import re
import struct
from collections.abc import Callable, Sequence
from typing import Any

from jaxvoice.errors import CheckpointError, RefusedError
from jaxvoice.weights.formats import limits
from jaxvoice.weights.formats.allowed_globals import CLASSES, FACTORIES, InvalidArguments
from jaxvoice.weights.formats.error_messages import MALICIOUS, safe_text
from jaxvoice.weights.formats.global_names import STANDARD_VALUES, is_clean, is_suspicious, qualified
from jaxvoice.weights.formats.inline_arrays import build
from jaxvoice.weights.formats.limits import CONTAINER, ITEM, RECORD, Budget
from jaxvoice.weights.formats.pickle_objects import Global, Record
from jaxvoice.weights.formats.pickle_stream import Stream

_BLOCK = range(512)


class Unpickler(Stream):
    """Reads one pickle.

    - `data`: bytes that contain it, from `position` on; after `load`, `position` is the end of the pickle.
    - `what`: name of the pickle in messages.
    - `budget`: remaining budget of the file. `counted`: the position up to which memory was already charged.
    - `persistent`: returns the storage for a persistent id; with `None`, all are refused.
    - `inert`: regular expressions; a call of a class or function whose full name matches one returns a `Record`.
    """

    def __init__(
        self,
        data: memoryview,
        *,
        what: str,
        budget: Budget,
        position: int = 0,
        counted: int = 0,
        persistent: Callable[[Any], Any] | None = None,
        inert: Sequence[str] = (),
    ):
        super().__init__(data, position, what, budget, max(position, counted))
        self._persistent, self._inert = persistent, inert
        self._stack: list[Any] = []
        self._outer_stacks: list[list[Any]] = []
        self._memo: list[Any] = []
        self._sparse_memo: dict[int, Any] = {}
        self._globals: dict[str, Global] = {}
        self._unknown_names: dict[str, None] = {}

    def load(self) -> Any:
        """Return the value of the pickle.

        **Raises:** `CheckpointError` if it is damaged, or `RefusedError`.
        """
        data, operations = self._data, _OPERATIONS
        try:
            while True:
                for _ in _BLOCK:
                    code = data[self.position]
                    if code == 46:  # "." ends a pickle
                        return self._end()
                    self.position += 1
                    operations[code](self)
                self.settle(len(_BLOCK))
                if len(self._stack) > limits.STACK:
                    raise self._too_much("values on the stack", limits.STACK)
        except KeyError as failure:
            code = data[self.position - 1]
            if code in _OPERATIONS:
                raise self.damaged("uses a value that is not in the memo") from failure
            raise self._unknown(code) from failure
        except (IndexError, struct.error) as failure:
            past = self.position >= len(data) or isinstance(failure, struct.error)
            raise self.damaged("ends too early" if past else "takes values from an empty stack") from failure

    def _end(self) -> Any:
        self.position += 1
        self.settle(len(_BLOCK))
        if len(self._stack) != 1 or self._outer_stacks:
            raise self.damaged("does not end with one value")
        if self._unknown_names:
            raise _unknown_classes(self.what, list(self._unknown_names))
        self._budget.memory += 8 * len(self._memo) + ITEM * len(self._sparse_memo)
        self._memo.clear()
        self._sparse_memo.clear()
        return self._stack.pop()

    def key(self, value: Any) -> Any:
        """Return `value` if it is allowed as a key of a dict or an element of a set."""
        kind = type(value)
        if kind is int and abs(value) >= limits.INTEGER_KEY:
            raise RefusedError(f"{self.what} has {safe_text(value)} as a key; keys are names or small numbers.")
        if kind is tuple:
            self._budget.tuple_keys -= 1
            if self._budget.tuple_keys < 0 or len(value) > 16:
                raise self._too_much("tuples as keys", limits.TUPLE_KEYS)
            for part in value:
                if type(part) is tuple:
                    raise RefusedError(f"{self.what} has nested tuples as keys, which weight files do not need.")
                self.key(part)
        elif kind in (list, dict, set, frozenset, complex) or isinstance(value, dict):
            raise self.damaged(f"has {safe_text(value)} as a key")
        return value

    def _too_much(self, what: str, bound: int) -> RefusedError:
        return RefusedError(f"{self.what} has more than {bound:,} {what}; no weight file needs so many.")

    def _unknown(self, code: int) -> CheckpointError:
        if code in (0x82, 0x83, 0x84, 0x50, 0x97, 0x98):
            return RefusedError(
                f"{self.what} refers to something outside the file (opcode {code:#04x}), which is not read; "
                "save it again with torch.save."
            )
        return self.damaged(f"has {code:#04x} where an opcode should be")

    # Names, calls, instances

    def _name(self, module: Any, name: Any) -> Global:
        if not isinstance(module, str) or not isinstance(name, str) or len(module) + len(name) > 2 * limits.LINE:
            raise self.damaged("refers to a class by a name that is not text")
        if not is_clean(module, name):
            raise RefusedError(
                f"{self.what} refers to {safe_text(module)}, {safe_text(name)}, which is not the name of a class."
            )
        full = qualified(module, name)
        if full not in self._globals:
            if is_suspicious(full) and full not in FACTORIES and full not in STANDARD_VALUES:
                raise RefusedError(
                    f"{self.what} refers to {safe_text(full)}, a part of Python that weights do not need; {MALICIOUS}."
                )
            self.charge(work=40, memory=300 + 8 * len(full))
            self._globals[full] = Global(full)
        return self._globals[full]

    def call(self, function: Any, args: Any) -> Any:
        """Return the result of a call in the file, if the function is allowed."""
        name = function.name if isinstance(function, Global) else ""
        if name.startswith("__torch__."):
            # Named tuples and members of enumerations in TorchScript; their classes exist only in the file.
            self.charge(work=12, memory=RECORD)
            return Record(name, args if isinstance(args, tuple) else (args,))
        if not name or not isinstance(args, tuple):
            raise RefusedError(
                f"{self.what} calls {safe_text(function)}, which is not a function, or has no arguments."
            )
        if name in FACTORIES:
            try:
                return FACTORIES[name](self, args)
            except InvalidArguments as failure:
                raise self.damaged(f"calls {safe_text(name)}, which {failure}") from failure
        if is_suspicious(name):
            raise RefusedError(f"{self.what} calls {safe_text(name)}; {MALICIOUS}.")
        return self.unknown_call(name, args)

    def unknown_call(self, name: str, args: tuple[Any, ...]) -> Record:
        """Return a record of a call of `name`. Unless a pattern of `inert` matches it, `load` raises an error later.

        The error lists all unknown names, so reading continues.
        """
        self.charge(work=8, memory=RECORD)
        if not any(re.fullmatch(pattern, name) for pattern in self._inert):
            self._unknown_names[name] = None
        return Record(name, args)

    def instance(self, kind: Any, args: Any) -> Any:
        """Return the replacement of an instance of the class `kind`: a `Record`, or a plain value for a few classes."""
        if not isinstance(kind, Global) or not isinstance(args, tuple):
            raise RefusedError(f"{self.what} makes an instance of {safe_text(kind)}, which is not a class.")
        if kind.name in CLASSES:
            return self.call(kind, args)
        if is_suspicious(kind.name):
            raise RefusedError(f"{self.what} makes an instance of {safe_text(kind.name)}, which weights do not need.")
        self.charge(work=12, memory=RECORD)
        return Record(kind.name, args)

    # Opcodes

    def _empty_list(self) -> None:
        self._stack.append([])
        self._pending += CONTAINER

    def _empty_dict(self) -> None:
        self._stack.append({})
        self._pending += CONTAINER

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _push_sized(self, value: Any, memory: int) -> None:
        self._stack.append(value)
        self._pending += memory

    def _mark(self) -> None:
        if len(self._outer_stacks) >= 1000:
            raise self._too_much("open marks", 1000)
        self._outer_stacks.append(self._stack)
        self._stack = []

    def _to_mark(self) -> list[Any]:
        values = self._stack
        self._stack = self._outer_stacks.pop()
        return values

    def _memo_put(self, index: int) -> None:
        memo = self._memo
        if index == len(memo):  # the usual numbering
            memo.append(self._stack[-1])
        elif 0 <= index < len(memo):
            memo[index] = self._stack[-1]
        elif index < 0:
            raise self.damaged("stores a value at a negative index of the memo")
        else:
            self._pending += ITEM
            self._sparse_memo[index] = self._stack[-1]

    def _memo_get(self, index: int) -> None:
        self._stack.append(self._memo[index] if 0 <= index < len(self._memo) else self._sparse_memo[index])

    def _memo_put_u1(self) -> None:
        self._memo_put(self._data[self.position])
        self.position += 1

    def _memo_put_u4(self) -> None:
        (index,) = _U4.unpack_from(self._data, self.position)
        self.position += 4
        if index == len(self._memo):
            self._memo.append(self._stack[-1])
        else:
            self._memo_put(index)

    def _byte(self) -> None:
        self._stack.append(self._data[self.position])
        self.position += 1

    def _memo_get_u1(self) -> None:
        index = self._data[self.position]
        self.position += 1
        self._stack.append(self._memo[index] if index < len(self._memo) else self._sparse_memo[index])

    def _append(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, Record):
            if target.items is None:
                target.items = []
            target = target.items
        if type(target) is not list:
            raise RefusedError(f"{self.what} appends to {safe_text(target)}, which is not a list.")
        self._pending += 8 * len(values)
        target.extend(values)

    def _set_items(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, Record):
            if target.items is None:
                target.items = {}
            target = target.items
        if not isinstance(target, dict) or len(values) % 2:
            raise RefusedError(f"{self.what} puts items into {safe_text(target)}, which is not a dict.")
        self._pending += 64 + ITEM * len(values) // 2
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[key if type(key) is str else self.key(key)] = value

    def _new_dict(self, values: list[Any]) -> dict[Any, Any]:
        self._pending += CONTAINER
        self._push({})
        self._set_items(values)
        return self._stack.pop()

    def _new_list(self, values: list[Any]) -> list[Any]:
        self._pending += CONTAINER + 2 * len(values)
        return values

    def new_set(self, values: Any) -> set[Any]:
        """Return a set of `values`, all of which must be allowed as keys."""
        self.charge(work=8 + len(values), memory=248 + 150 * len(values))
        return {self.key(value) for value in values}

    def _add_items(self) -> None:
        values = self._to_mark()
        target = self._stack[-1]
        if type(target) is not set:
            raise RefusedError(f"{self.what} adds to {safe_text(target)}, which is not a set.")
        target.update(self.new_set(values))

    def _pop(self) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._to_mark()

    def _tuple(self, count: int) -> None:
        if len(self._stack) < count:
            raise self.damaged("takes values from an empty stack")
        self._pending += CONTAINER
        self._stack[-count:] = [tuple(self._stack[-count:])]

    def _long_tuple(self) -> None:
        values = self._to_mark()
        self._pending += CONTAINER + 8 * len(values)
        self._stack.append(tuple(values))

    def _persistent_id(self) -> None:
        if self._persistent is None:
            raise RefusedError(f"{self.what} refers to a storage where none is expected.")
        self._push(self._persistent(self._stack.pop()))

    def _reduce(self) -> None:
        self._budget.work -= 12
        args = self._stack.pop()
        self._push(self.call(self._stack.pop(), args))

    def _new_object(self) -> None:
        args = self._stack.pop()
        self._push(self.instance(self._stack.pop(), args))

    def _new_object_with_names(self) -> None:
        names, args, kind = self._stack.pop(), self._stack.pop(), self._stack.pop()
        if not isinstance(args, tuple) or not isinstance(names, dict):
            raise self.damaged("makes an instance with invalid arguments")
        self._push(self.instance(kind, (*args, names) if names else args))

    def _inst(self) -> None:
        kind = self._name(self._line(), self._line())
        self._push(self.call(kind, tuple(self._to_mark())))

    def _obj(self) -> None:
        values = self._to_mark()
        self._push(self.call(values[0], tuple(values[1:])))

    def _build(self) -> None:
        state = self._stack.pop()
        self.charge(work=16, memory=RECORD)
        build(self._stack[-1], state, self)

    def _stack_global(self) -> None:
        name = self._stack.pop()
        self._push(self._name(self._stack.pop(), name))

    def _memoize(self) -> None:
        self._memo_put(len(self._memo) + len(self._sparse_memo))

    def _protocol(self) -> None:
        version = self._number(_U1)
        if version > 5:
            raise self.damaged(f"has pickle protocol {version}; 0 to 5 are supported")


_LISTED = 100
"""Maximum number of unknown names that an error lists."""


def _unknown_classes(what: str, names: list[str]) -> RefusedError:
    packages = dict.fromkeys(name.split(".")[0] for name in names)
    patterns = [re.escape(names[0])] if len(names) == 1 else [rf"{re.escape(package)}\..*" for package in packages]
    shown = ", ".join(map(safe_text, names[:_LISTED])) + (", ..." if len(names) > _LISTED else "")
    kind = "an unknown class or function" if len(names) == 1 else f"{len(names)} unknown classes or functions"
    return RefusedError(
        f"{what} calls {kind}, {shown}, but no code from a file is executed. If you need only its tensors, read the "
        f"results as inert records: --inert {' '.join(map(_quoted, patterns[:_LISTED]))} (in Python, inert=)."
    )


def _quoted(pattern: str) -> str:
    return f"'{pattern}'" if pattern.isascii() and pattern.isprintable() and "'" not in pattern else ascii(pattern)


_U1, _U2, _I4, _U4, _U8 = (struct.Struct(form) for form in ("<B", "<H", "<i", "<I", "<Q"))
_F8 = struct.Struct(">d")

_Operation = Callable[[Unpickler], None]
_OPERATIONS: dict[int, _Operation] = {
    ord("("): Unpickler._mark,
    ord("0"): Unpickler._pop,
    ord("1"): lambda r: _drop(r._to_mark()),
    ord("2"): lambda r: r._stack.append(r._stack[-1]),
    ord("F"): lambda r: r._push_sized(r._parsed(r._line(), float), 24),
    ord("G"): lambda r: r._push_sized(r._number(_F8), 24),
    ord("I"): lambda r: r._push_sized(r._bool_or_int(), 32),
    ord("J"): lambda r: r._push_sized(r._number(_I4), 32),
    ord("K"): Unpickler._byte,
    ord("L"): lambda r: r._push_sized(r._parsed(r._line().removesuffix("L"), int), 32),
    ord("M"): lambda r: r._push_sized(r._number(_U2), 32),
    ord("N"): lambda r: r._stack.append(None),
    ord("Q"): Unpickler._persistent_id,
    ord("R"): Unpickler._reduce,
    ord("S"): lambda r: r._stack.append(r._quoted()),
    ord("T"): lambda r: r._stack.append(r._string(_I4)),
    ord("U"): lambda r: r._stack.append(r._string(_U1)),
    ord("V"): lambda r: r._stack.append(r._raw_unicode()),
    ord("X"): lambda r: r._stack.append(r._text(_U4)),
    ord("a"): lambda r: r._append([r._stack.pop()]),
    ord("b"): lambda r: r._build(),
    ord("c"): lambda r: r._stack.append(r._name(r._line(), r._line())),
    ord("d"): lambda r: r._push(r._new_dict(r._to_mark())),
    ord("}"): Unpickler._empty_dict,
    ord("e"): lambda r: r._append(r._to_mark()),
    ord("g"): lambda r: r._memo_get(r._parsed(r._line(), int)),
    ord("h"): Unpickler._memo_get_u1,
    ord("i"): lambda r: r._inst(),
    ord("j"): lambda r: r._memo_get(r._number(_U4)),
    ord("l"): lambda r: r._push(r._new_list(r._to_mark())),
    ord("]"): Unpickler._empty_list,
    ord("o"): lambda r: r._obj(),
    ord("p"): lambda r: r._memo_put(r._parsed(r._line(), int)),
    ord("q"): Unpickler._memo_put_u1,
    ord("r"): Unpickler._memo_put_u4,
    ord("s"): lambda r: r._set_items([r._stack.pop(-2), r._stack.pop()]),
    ord("t"): Unpickler._long_tuple,
    ord(")"): lambda r: r._stack.append(()),
    ord("u"): lambda r: r._set_items(r._to_mark()),
    ord("B"): lambda r: r._stack.append(r._raw(_U4)),
    ord("C"): lambda r: r._stack.append(r._raw(_U1)),
    0x80: lambda r: r._protocol(),
    0x81: lambda r: r._new_object(),
    0x85: lambda r: r._tuple(1),
    0x86: lambda r: r._tuple(2),
    0x87: lambda r: r._tuple(3),
    0x88: lambda r: r._stack.append(True),
    0x89: lambda r: r._stack.append(False),
    0x8A: lambda r: r._stack.append(r._integer(_U1)),
    0x8B: lambda r: r._stack.append(r._integer(_I4)),
    0x8C: lambda r: r._stack.append(r._text(_U1)),
    0x8D: lambda r: r._stack.append(r._text(_U8)),
    0x8E: lambda r: r._stack.append(r._raw(_U8)),
    0x8F: lambda r: r._stack.append(r.new_set(())),
    0x90: lambda r: r._add_items(),
    0x91: lambda r: r._push(frozenset(r.new_set(r._to_mark()))),
    0x92: lambda r: r._new_object_with_names(),
    0x93: lambda r: r._stack_global(),
    0x94: lambda r: r._memoize(),
    0x95: lambda r: _drop(r._number(_U8)),
    0x96: lambda r: r._stack.append(r._raw(_U8)),
}


def _drop(_: Any) -> None:
    """Ignore a value."""

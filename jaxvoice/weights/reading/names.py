"""Which names a file may use, and how each is treated. Nothing here is ever looked up in Python."""

import sys

# Modules of Python 2 under today's names: pickles up to protocol 2 spell them the old way.
_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg", "exceptions": "builtins"}

# Modules that can run programs or change the interpreter, also where a name only passes through them.
_DANGEROUS = {
    *("__builtin__", "builtins", "cPickle", "code", "codeop", "commands", "ctypes", "importlib", "nt", "os", "pickle"),
    *("popen2", "posix", "pty", "runpy", "shutil", "socket", "subprocess", "sys", "webbrowser"),
}
_STANDARD = (
    sys.stdlib_module_names | _DANGEROUS | {"StringIO", "UserDict", "cStringIO", "dummy_thread", "thread", "urllib2"}
)

# Types of the standard library that may stand in a file as a value: as a key, as what a field should hold.
_TYPES = (
    *("bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "object", "set", "slice"),
    *("str", "tuple", "type"),
)
STANDARD_VALUES = frozenset(f"builtins.{name}" for name in _TYPES) | {"typing.Any", "typing.Dict", "typing.List"}


def qualified(module: str, name: str) -> str:
    """One dotted name in today's spelling from what a file says."""
    return f"{_PYTHON_2.get(module, module)}.{name}"


def is_clean(module: str, name: str) -> bool:
    """Whether both are dotted names as classes have; no empty parts, blanks or unprintable characters."""
    text = f"{module}.{name}"
    return text.isprintable() and " " not in text and all(text.split("."))


def is_standard(name: str) -> bool:
    """Whether a dotted name lies in Python's own library, in that of an earlier Python, or leads through it."""
    module, *rest = name.split(".")
    return module in _STANDARD or any(part in _DANGEROUS for part in rest) or any(map(_is_inner, rest[:-1]))


def _is_inner(part: str) -> bool:
    return part.startswith("__") and part.endswith("__")

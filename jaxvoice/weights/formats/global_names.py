"""The names of functions and classes in pickles: their current spelling, and whether they can run programs."""

import builtins
import sys

# Current names of modules, classes and functions of Python 2. Pickles up to protocol 2 contain the old names, also if
# Python 3 wrote them.
_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg", "exceptions": "builtins", "Queue": "queue"}
_PYTHON_2_NAMES = {
    "__builtin__.long": "builtins.int",
    "__builtin__.unicode": "builtins.str",
    "__builtin__.basestring": "builtins.str",
    "__builtin__.xrange": "builtins.range",
    "__builtin__.unichr": "builtins.chr",
    "__builtin__.reduce": "functools.reduce",
    "itertools.izip": "builtins.zip",
    "itertools.imap": "builtins.map",
    "itertools.ifilter": "builtins.filter",
    "UserDict.UserDict": "collections.UserDict",
    "UserDict.IterableUserDict": "collections.UserDict",
    "UserList.UserList": "collections.UserList",
    "UserString.UserString": "collections.UserString",
}

# Modules that can run programs or change the interpreter. Names that contain one of them are refused, too.
_DANGEROUS = {
    *("__builtin__", "builtins", "cPickle", "code", "codeop", "commands", "ctypes", "importlib", "nt", "os", "pickle"),
    *("popen2", "posix", "pty", "runpy", "shutil", "socket", "subprocess", "sys", "webbrowser"),
}
_STANDARD = (
    sys.stdlib_module_names | _DANGEROUS | {"StringIO", "UserDict", "cStringIO", "dummy_thread", "thread", "urllib2"}
)

# Types of the standard library that a file may contain as values, for example as the declared type of a field.
_TYPES = (
    *("bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "object", "set", "slice"),
    *("str", "tuple", "type"),
)
STANDARD_VALUES = frozenset(f"builtins.{name}" for name in _TYPES) | {"typing.Any", "typing.Dict", "typing.List"}


# Classes and functions of the standard library that cannot run programs or read files. They are unknown, like those of
# other packages.
_HARMLESS_MODULES = frozenset(
    (
        *(
            "abc",
            "array",
            "calendar",
            "collections",
            "contextlib",
            "copy",
            "dataclasses",
            "datetime",
            "decimal",
            "enum",
        ),
        *("fractions", "functools", "ipaddress", "itertools", "logging", "math", "numbers", "pathlib", "queue"),
        *(
            "random",
            "re",
            "statistics",
            "string",
            "threading",
            "time",
            "types",
            "typing",
            "uuid",
            "warnings",
            "weakref",
        ),
        *("zoneinfo", "_thread"),
    )
)
_HARMLESS_BUILTINS = frozenset(
    (
        *(
            "abs",
            "all",
            "any",
            "chr",
            "divmod",
            "enumerate",
            "filter",
            "hash",
            "id",
            "isinstance",
            "issubclass",
            "iter",
        ),
        *("len", "map", "max", "min", "next", "ord", "pow", "print", "property", "repr", "reversed", "round"),
        *("sorted", "range", "slice", "sum", "zip", "Ellipsis", "NotImplemented", "staticmethod", "classmethod"),
        *(name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, Exception)),
    )
)
# Names in harmless modules that evaluate text or code, or start processes and threads.
_HARMFUL_NAMES = frozenset(
    (
        *("typing.get_type_hints", "typing.ForwardRef", "types.FunctionType", "types.LambdaType", "types.CodeType"),
        *("collections.namedtuple", "dataclasses.make_dataclass", "logging.FileHandler", "_thread.start_new_thread"),
        *("_thread.start_new", "threading.Thread", "threading.Timer", "types.new_class", "enum.Enum", "_thread.exit"),
    )
)


def qualified(module: str, name: str) -> str:
    """The dotted name of `name` in `module`, with the current name for one of Python 2."""
    return _PYTHON_2_NAMES.get(f"{module}.{name}") or f"{_PYTHON_2.get(module, module)}.{name}"


def is_clean(module: str, name: str) -> bool:
    """Whether both are dotted names without empty parts, blanks and unprintable characters."""
    text = f"{module}.{name}"
    return text.isprintable() and " " not in text and all(text.split("."))


def is_standard(name: str) -> bool:
    """Whether a dotted name belongs to the standard library of Python 2 or 3, or contains one of its modules."""
    module, *rest = name.split(".")
    return module in _STANDARD or any(part in _DANGEROUS for part in rest) or any(map(_is_inner, rest[:-1]))


def is_suspicious(name: str) -> bool:
    """Whether a dotted name belongs to the part of the standard library that can run programs, or contains it."""
    if not is_standard(name):
        return False
    module, *rest = name.split(".")
    if len(rest) != 1 or rest[0].startswith("__") or name in _HARMFUL_NAMES:
        return True
    return rest[0] not in _HARMLESS_BUILTINS if module == "builtins" else module not in _HARMLESS_MODULES


def _is_inner(part: str) -> bool:
    return part.startswith("__") and part.endswith("__")

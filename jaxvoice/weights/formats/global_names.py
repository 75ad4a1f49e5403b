"""The names of functions and classes in pickles: their current spelling, and whether they are harmless."""

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

# Modules that run programs, open files or change the interpreter. Names in other packages with one of them as a part,
# such as `torch.os.system`, belong to the standard library, too.
_DANGEROUS = {
    *("__builtin__", "builtins", "cPickle", "code", "codeop", "commands", "ctypes", "importlib", "nt", "os", "pickle"),
    *("popen2", "posix", "pty", "runpy", "shutil", "socket", "subprocess", "sys", "webbrowser"),
}
# Modules that later versions of Python removed. The result must not depend on the version that reads the file.
_REMOVED = {
    *("StringIO", "UserDict", "asyncore", "cStringIO", "cgi", "cgitb", "distutils", "dummy_thread", "imp", "lib2to3"),
    *("mailcap", "nntplib", "pipes", "smtpd", "telnetlib", "thread", "urllib2"),
}
_STANDARD = sys.stdlib_module_names | _DANGEROUS | _REMOVED

# Types that a file may contain as values, for example as the declared type of a field.
_TYPES = "bool bytearray bytes complex dict float frozenset int list object set slice str tuple type"
STANDARD_VALUES = frozenset(f"builtins.{name}" for name in _TYPES.split())

# Classes and functions of the standard library that run no programs, evaluate no text and open no files. They are
# unknown, like those of other packages. All other names of the standard library are suspicious: most modules contain
# functions that start processes or execute code, and modules that they import.
_HARMLESS = frozenset(
    f"{module}.{name}"
    for module, names in {
        "array": "_array_reconstructor array",
        "builtins": "Ellipsis NotImplemented abs all any bool chr classmethod divmod enumerate filter float hash id "
        "int isinstance issubclass iter len map max min next object ord pow print property range repr reversed round "
        "slice sorted staticmethod str sum zip",
        "collections": "ChainMap Counter OrderedDict UserDict UserList UserString defaultdict deque",
        "contextlib": "nullcontext",
        "datetime": "date datetime time timedelta timezone",
        "decimal": "Decimal",
        "fractions": "Fraction",
        "functools": "partial reduce",
        "ipaddress": "IPv4Address IPv4Network IPv6Address IPv6Network",
        "itertools": "accumulate chain combinations count cycle islice permutations product repeat starmap",
        "logging": "getLogger",
        "math": "ceil cos exp floor log pow sin sqrt tanh",
        "numbers": "Integral Number Real",
        "pathlib": "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
        "queue": "Empty Full LifoQueue PriorityQueue Queue SimpleQueue",
        "random": "Random",
        "re": "_compile",
        "statistics": "NormalDist",
        "string": "Formatter Template",
        "threading": "Condition Event Lock RLock local",
        "time": "monotonic perf_counter struct_time time",
        "types": "GenericAlias MappingProxyType SimpleNamespace",
        "typing": "Any Callable ClassVar Dict FrozenSet Generic Iterable Iterator List Literal Mapping Optional "
        "Sequence Set Tuple Type Union",
        "uuid": "SafeUUID UUID",
    }.items()
    for name in names.split()
) | {
    f"builtins.{name}"
    for name, kind in vars(builtins).items()
    if isinstance(kind, type) and issubclass(kind, Exception)
}


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
    """Whether a dotted name belongs to the standard library, or contains it, and is not known to be harmless."""
    return is_standard(name) and name not in _HARMLESS


def _is_inner(part: str) -> bool:
    return part.startswith("__") and part.endswith("__")

"""Weight files that mean harm or are broken on purpose: by name, how to make each and what its refusal says."""

import struct
import tarfile
from collections.abc import Callable
from dataclasses import dataclass

from tests.weights.reading.forge import (
    CODE,
    FLOATS,
    SOUND_HEADER,
    SOUND_NPY,
    call,
    gzipped,
    many,
    name,
    nemo,
    npy,
    number,
    numbers,
    safetensors,
    script,
    storage,
    table,
    tarred,
    tensor,
    text,
    torch_legacy,
    torch_zip,
    whole,
    zipped,
)

MARKER = "something_ran"
_RUN = text(f"echo > {MARKER}")
_WRITE = text(f"open({MARKER!r}, 'w')")


@dataclass(frozen=True)
class Case:
    """A file that must be refused."""

    make: Callable[[], bytes]
    """Its bytes."""
    says: str
    """A regular expression that the message fits."""
    read: bool = False
    """Whether opening may pass and reading the tensor `weight` is refused."""


CASES: dict[str, Case] = {}


def _case(title: str, make: Callable[[], bytes], says: str, *, read: bool = False) -> None:
    assert title not in CASES
    CASES[title] = Case(make, says, read)


def _pickle(title: str, value: Callable[[], bytes] | bytes, says: str) -> None:
    """A case that is a pickle, in a zip file of torch."""
    _case(
        title, lambda: torch_zip(table({"weight": tensor(), "x": value if isinstance(value, bytes) else value()})), says
    )


# Running something: every name and every opcode that leads there

for _function, _argument in {
    "os.system": _RUN,
    "posix.system": _RUN,
    "nt.system": _RUN,
    "subprocess.Popen": _RUN,
    "subprocess.check_output": _RUN,
    "commands.getoutput": _RUN,
    "builtins.eval": _WRITE,
    "builtins.exec": _WRITE,
    "builtins.open": text(MARKER),
    "builtins.getattr": name("builtins.list") + text("append"),
    "builtins.__import__": text("os"),
    "__builtin__.eval": _WRITE,
    "importlib.import_module": text("os"),
    "runpy.run_path": text(MARKER),
    "functools.partial": name("builtins.print"),
    "operator.attrgetter": text("system"),
    "pickle.loads": b"C\x00",
    "ctypes.CDLL": text("libc.so.6"),
    "pty.spawn": _RUN,
    "webbrowser.open": text("http://localhost"),
    "timeit.timeit": _WRITE,
    "cProfile.run": _WRITE,
    "code.interact": _WRITE,
    "shutil.rmtree": text("nowhere"),
    "socket.create_connection": text("localhost"),
    "multiprocessing.util.spawnv_passfds": _RUN,
    "typing.get_type_hints": _WRITE,
}.items():
    _pickle(f"call of {_function}", call(_function, _argument), _function.replace("__builtin__", "builtins"))

for _function in (
    "torch.load", "torch.jit.load", "torch.hub.load", "torch.utils.collect_env.run", "torch.storage._load_from_bytes",
    "numpy.load", "numpy.testing._private.utils.runstring", "pip.main", "__main__.evil", "joblib.load",
    "torch._dynamo.guards.GuardBuilder.get", "torch.classes.load_library", "torch.utils._config_module.ConfigModule.load_config",
):  # fmt: skip
    _pickle(f"call of {_function}", call(_function, _RUN), "nothing in a file is ever run|file in a file")

_pickle("STACK_GLOBAL", text("os") + text("system") + b"\x93" + many([_RUN]) + b"R", "os.system")
_pickle("STACK_GLOBAL through torch", text("torch") + text("os.system") + b"\x93" + many([_RUN]) + b"R", "os.system")
_pickle(
    "STACK_GLOBAL through a class", text("collections") + text("OrderedDict.__init__.__globals__") + b"\x93", "Ordered"
)
_pickle("STACK_GLOBAL of numbers", number(1) + number(2) + b"\x93", "not text")
_pickle("GLOBAL with a path", b"c../../evil\nrun\n" + many([]) + b"R", "no class is called that")
_pickle("GLOBAL with nothing", b"c\n\n", "no class is called that")
_pickle("GLOBAL with a blank", b"ctorch \nload\n", "no class is called that")
_pickle("GLOBAL without end", b"c" + b"a" * 5000, "a line of more than")
_pickle("a standard function as a value", name("os.system"), "os.system")
_pickle("a standard function as a key", b"}" + name("os.system") + b"Ns", "os.system")
_pickle("a standard function in defaultdict", call("collections.defaultdict", name("os.system")), "os.system")
_pickle("INST", b"(" + _RUN + b"ios\nsystem\n", "os.system")
_pickle("INST of a user's class", b"(" + _RUN + b"ievil\nRun\n", "nothing in a file is ever run")
_pickle("OBJ", b"(" + name("os.system") + _RUN + b"o", "os.system")
_pickle("OBJ of a user's class", b"(" + name("evil.Run") + _RUN + b"o", "nothing in a file is ever run")
_pickle("NEWOBJ of a standard class", name("subprocess.Popen") + many([_RUN]) + b"\x81", "subprocess.Popen")
_pickle("NEWOBJ of a type", name("builtins.type") + many([text("T"), b")", b"}"]) + b"\x81", "builtins.type")
_pickle("NEWOBJ_EX", name("subprocess.Popen") + many([]) + table({"args": _RUN}) + b"\x92", "subprocess.Popen")
_pickle("NEWOBJ of what is no class", text("x") + b")\x81", "not a class")
_pickle("REDUCE of what is no function", text("x") + b")R", "not a function")
_pickle("REDUCE of a tensor", tensor() + b")R", "not a function")
_pickle("REDUCE with a list", name("collections.OrderedDict") + b"]R", "not a function")
_pickle("REDUCE from the memo", name("posix.system") + b"q\x070h\x07" + many([_RUN]) + b"R", "posix.system")
_pickle(
    "_reconstructor", call("copyreg._reconstructor", name("subprocess.Popen"), name("builtins.object"), b"N"), "Popen"
)
_pickle("copy_reg.__newobj__", call("copy_reg.__newobj__", name("evil.Run")), "copyreg.__newobj__")
_pickle("rebuilding by another function", call("torch._tensor._rebuild_from_type_v2", name("torch.load"), name("torch.Tensor"), many([_RUN]), b"N"), "torch.load")  # fmt: skip  # noqa: E501
_pickle("BUILD of a class", name("torch.Tensor") + table({"__init__": _RUN}) + b"b", "sets attributes")
_pickle(
    "BUILD of a function", name("torch._utils._rebuild_tensor_v2") + table({"__code__": _RUN}) + b"b", "sets attrib"
)
_pickle("BUILD of a list", b"]" + table({"x": _RUN}) + b"b", "sets attributes")
_pickle("BUILD of a tensor", tensor() + table({"data": _RUN}) + b"b", "sets attributes")
_pickle("BUILD with slots", name("torch.Tensor") + many([b"N", table({"__class__": _RUN})]) + b"b", "sets attributes")
_pickle("items set on a class", name("torch.Tensor") + text("x") + _RUN + b"s", "not a dict")
_pickle("items appended to a tensor", tensor() + _RUN + b"a", "not a list")
_pickle("items added to a list", b"](" + _RUN + b"\x90", "not a set")
for _code, _argument in {"EXT1": b"\x82\x01", "EXT2": b"\x83\x01\x00", "EXT4": b"\x84\x01\x00\x00\x00"}.items():
    _pickle(_code, _argument, "outside the file")
_pickle("PERSID", b"Pevil\n", "outside the file")
_pickle("NEXT_BUFFER", b"\x97", "outside the file")
_pickle(
    "persistent id of another kind", many([text("module"), name("evil.Net"), text("a.py"), _WRITE]) + b"Q", "not follow"
)
_pickle("persistent id that is text", _RUN + b"Q", "not followed")
_pickle("storage of another class", storage(kind="evil.FloatStorage"), "not one of torch's")
_pickle(
    "inline numpy objects", call("numpy.core.multiarray.scalar", call("numpy.dtype", text("O8")), b"C\x00"), "of type"
)
_pickle("protocol 9", b"\x80\x09N", "protocol 9")
_pickle("unknown opcode", b"\xff", "where an opcode should be")
_pickle("empty stack", b"0" * 100, "not there")
_pickle("unknown memo", b"h\x63", "never kept")

_EVIL = call("posix.system", _RUN)
_case("call in constants.pkl", lambda: script(constants=many([_EVIL])), "posix.system")
_case(
    "call in the attributes of a module",
    lambda: script(name("__torch__.Net") + b")\x81" + table({"x": _EVIL}) + b"b"),
    "posix",
)
_case("call in a NeMo file", lambda: nemo(torch_zip(_EVIL)), "model_weights.ckpt: .*posix.system")
_case("call in a gzipped NeMo file", lambda: nemo(torch_legacy(_EVIL), zip_it=True), "posix.system")
_case("call in a legacy file", lambda: torch_legacy(_EVIL), "posix.system")
_case("call before the magic number", lambda: whole(_EVIL), "a pickle, but not of torch")
for _index, _what in enumerate(("version", "system", "value", "keys")):

    def _evil_legacy(index: int = _index) -> bytes:
        parts = [number(0x1950A86A20F9469CFC6C), number(1001), b"}", b"}", b"]"]
        parts[index + 1] = _EVIL
        return b"".join(map(whole, parts))

    _case(f"call in a legacy file's {_what}", _evil_legacy, "posix.system")

# Bombs


def _doubling(levels: int, make: Callable[[bytes], bytes]) -> bytes:
    """Each level holds the one before ten times, through the memo."""
    out = make(b"N" * 10) + b"q\x010"
    for _ in range(levels):
        out += make(b"h\x01" * 10) + b"q\x010"
    return out + b"h\x01"


_pickle("lists in lists", lambda: b"]" * 90_000 + b"a" * 89_999, "deep")
_pickle("tuples in tuples", lambda: b")" + b"\x85" * 400_000, "deep")
_pickle("dicts in dicts", lambda: (b"}" + text("a")) * 45_000 + b"N" + b"s" * 45_000, "deep|names of more than")
_pickle("records in records", lambda: name("a.B") + b"q\x010" + b"h\x01)\x81" * 40_000 + b"b" * 39_999, "deep")
_pickle("tuples in tuples as a key", lambda: b"}" + b")" + b"\x85" * 90_000 + b"Ns", "tuples in tuples")
_pickle("lists of shared lists", _doubling(30, lambda inside: b"](" + inside + b"e"), "each is counted|counted where")
_pickle("tuples of shared tuples", _doubling(30, lambda inside: b"(" + inside + b"t"), "counted where")
_pickle("dicts of shared dicts", lambda: _shared_dicts(30), "counted where|names of")
_pickle("steps", lambda: b"N0" * 2_000_000, "more than .* steps")
_pickle("stack", lambda: b"N" * 400_000, "values waiting")
_pickle("copies of the top of the stack", lambda: b"N" + b"2" * 400_000, "values waiting")
_pickle("marks", lambda: b"(" * 100_000, "open marks")
_pickle("memo", lambda: b"N" + b"".join(b"r" + struct.pack("<I", index) for index in range(500_000)), "kept values")
_pickle("lists", lambda: b"](" + (b"]" * 1000 + b"e(") * 400 + b"e", "lists, dicts and records")
_pickle("sets", lambda: b"](" + (b"\x8f" * 1000 + b"e(") * 400 + b"e", "lists, dicts and records")
_pickle(
    "copied lists",
    lambda: b"](" + b"N" * 50_000 + b"eq\x010(" + (name("builtins.list") + b"h\x01\x85R") * 1000 + b"l",
    "steps",
)
_pickle("copied text", lambda: text("a" * 2**20) + b"q\x010(" + (name("_codecs.encode") + b"h\x01" + text("latin1") + b"\x86R") * 500 + b"l", "bytes of text")  # fmt: skip  # noqa: E501
_pickle("much text", lambda: (text("a" * 2**24) + b"0") * 3, "bytes of text")
_pickle("text of 4 GB", b"X\xff\xff\xff\xffabc", "claims 4294967295 bytes")
_pickle("text of 2**62 bytes", b"\x8d" + struct.pack("<Q", 2**62) + b"abc", "claims")
_pickle("bytes of 2**62 bytes", b"\x8e" + struct.pack("<Q", 2**62) + b"abc", "claims")
_pickle("bytearray of 2**62 bytes", b"\x96" + struct.pack("<Q", 2**62) + b"abc", "claims")
_pickle("bytes of a negative size", b"T" + struct.pack("<i", -5), "claims -5 bytes")
_pickle("integer of 2 GB", b"\x8b" + struct.pack("<i", 2**31 - 1), "integer of")
_pickle("integer of a negative size", b"\x8b" + struct.pack("<i", -1), "integer of")
_pickle("integer of a million digits", lambda: b"L" + b"9" * 1_000_000 + b"L\n", "a line of more than")
_pickle(
    "keys of one hash",
    lambda: b"}(" + b"".join(number((2**61 - 1) * i) + b"N" for i in range(30_000)) + b"u",
    "as a key",
)
_pickle("tuples of one hash", lambda: b"}(" + b"".join(numbers([-1 - (i >> b & 1) for b in range(15)]) + b"N" for i in range(2**12)) + b"u", "tuples as keys")  # fmt: skip  # noqa: E501
_pickle("a list as a key", b"}]Ns", "as a key")
_pickle("a list in a set", b"\x8f(]\x90", "as a key")
_pickle("a list in itself", b"]q\x01h\x01a", "holds itself")
_pickle("a dict in itself", b"}q\x01" + text("a") + b"h\x01s", "holds itself")
_pickle("a tuple in itself", b"]q\x01(h\x01tq\x020h\x02a", "holds itself")
_pickle("long names", lambda: (b"}" + text("a" * 500)) * 20 + b"N" + b"s" * 20, "names of more than")
_pickle("a name with many parts", lambda: table({"a." * 900 + "b": tensor()}), "names of more than|too deep")
_pickle("many names", lambda: _many_names(), "too large|names of more than")
_pickle(
    "two tensors of one name",
    lambda: table({"a": table({"b": tensor()}), "a.b": tensor()}),
    "two tensors that are called",
)


def _shared_dicts(levels: int) -> bytes:
    keys = [text(key) for key in "abcdefghij"]
    out = b"}q\x010"
    for _ in range(levels):
        out += b"}(" + b"".join(key + b"h\x01" for key in keys) + b"u" + b"q\x010"
    return out + b"h\x01"


def _many_names() -> bytes:
    """Names that imply a large tree: each tensor below a hundred modules of its own."""
    value = tensor() + b"q\x020"
    return value + b"}(" + b"".join(text(f"{index}." * 100 + "w") + b"h\x02" for index in range(3000)) + b"u"


# Tensors


def _tensor(title: str, value: Callable[[], bytes] | bytes, says: str) -> None:
    _pickle(f"tensor with {title}", value, says)


_tensor("a negative stride", tensor(stride=(-3, 1)), "none of the numbers negative")
_tensor("a negative offset", tensor(offset=-1), "none of the numbers negative")
_tensor("a negative size", tensor(shape=(-2, -3)), "none of the numbers negative")
_tensor("nine axes", tensor(shape=(1,) * 9, stride=(1,) * 9), "axes")
_tensor("more sizes than strides", tensor(shape=(2, 3, 1)), "axes")
_tensor("an end past its storage", tensor(shape=(3, 3)), "past the end")
_tensor("a start past its storage", tensor(offset=6), "past the end")
_tensor("a stride past its storage", tensor(stride=(2**40, 1)), "past the end")
_tensor("a stride that overflows", tensor(stride=(2**63, 1)), "axes")
_tensor("sizes that overflow", tensor(shape=(2**33, 2**33), stride=(0, 0)), "more than can be")
_tensor("sizes of no elements that overflow", tensor(shape=(0, 2**40, 2**40), stride=(0, 0, 0)), "more than can be")
_tensor("a terabyte of one element", tensor(shape=(2**38,), stride=(0,)), "lie on each other")
_tensor(
    "a size that is true",
    call("torch._utils._rebuild_tensor", storage(), number(0), many([b"\x88"]), numbers([1])),
    "axes",
)
_tensor("a size that is a fraction", call("torch._utils._rebuild_tensor", storage(), number(0), many([b"G" + bytes(8)]), numbers([1])), "axes")  # fmt: skip  # noqa: E501
_tensor(
    "a size that is text", call("torch._utils._rebuild_tensor", storage(), number(0), text("66"), numbers([1])), "axes"
)
_tensor(
    "no storage",
    call("torch._utils._rebuild_tensor", text("x"), number(0), numbers([1]), numbers([1])),
    "not a storage",
)
_tensor("no arguments", call("torch._utils._rebuild_tensor_v2"), "without storage")
_tensor("a storage that is not there", tensor(block=storage("7")), "has no entry")
_tensor("a storage outside the file", tensor(block=storage("../../../etc/passwd")), "has no entry")
_tensor("a storage larger than its entry", tensor(block=storage(numel=7)), "has 24 bytes|elsewhere")
_tensor("a storage smaller than its entry", tensor(block=storage(numel=5)), "has 24 bytes|elsewhere")
_tensor("a storage of 2**60 elements", tensor(block=storage(numel=2**60)), "has 24 bytes|elsewhere")
_tensor("a storage of a negative size", tensor(block=storage(numel=-6)), "has 24 bytes|elsewhere")
_tensor(
    "a storage of two types",
    many([tensor(block=storage("0")), tensor(block=storage("0", 6, "torch.IntStorage"))]),
    "elsewhere",
)
_tensor("a type that does not divide it", call("torch._utils._rebuild_tensor_v3", storage(numel=6, kind="torch.ByteStorage"), number(0), numbers([1]), numbers([1]), b"\x89", b"}", name("torch.float64")), "elsewhere")  # fmt: skip  # noqa: E501
_tensor("an unknown type", call("torch._utils._rebuild_tensor_v3", storage(), number(0), numbers([1]), numbers([1]), b"\x89", b"}", name("torch.bits8")), "no counterpart")  # fmt: skip  # noqa: E501
_tensor("quantisation", call("torch._utils._rebuild_qtensor", storage()), "quantised")
_tensor("a sparse layout", call("torch._utils._rebuild_sparse_tensor", storage()), "sparse")
_tensor("no values", call("torch._utils._rebuild_meta_tensor_no_storage", name("torch.float32")), "without values")
_tensor("the conjugate bit", call("torch._utils._rebuild_tensor_v2", storage(), number(0), numbers([1]), numbers([1]), b"\x89", b"}", table({"conj": b"\x88"})), "conjugate")  # fmt: skip  # noqa: E501
_tensor("a parameter of text", call("torch._utils._rebuild_parameter", text("x"), b"\x88", b"}"), "not a tensor")
_tensor("views beyond measure", lambda: _views(), "although the file has")


def _views() -> bytes:
    """Two thousand tensors that each claim 16 MiB of 6 elements."""
    big = tensor(shape=(2**22,), stride=(0,)) + b"q\x010"
    return big + b"](" + b"h\x01" * 2000 + b"e"


# Zip files


def _patched(raw: bytes, at: bytes, offset: int, new: bytes, *, last: bool = False) -> bytes:
    place = (raw.rindex(at) if last else raw.index(at)) + offset
    return raw[:place] + new + raw[place + len(new) :]


def _entry_field(raw: bytes, entry: str, offset: int, new: bytes, *, local: bool = False) -> bytes:
    """The file with a field changed in the description of `entry`, at both places with `local`."""
    place = raw.rindex(entry.encode())
    raw = raw[: place - 46 + offset] + new + raw[place - 46 + offset + len(new) :]
    if local:
        place = raw.index(entry.encode())
        raw = raw[: place - 30 + offset - 2] + new + raw[place - 30 + offset - 2 + len(new) :]
    return raw


_PAIR = [("archive/data.pkl", whole(b"}")), ("archive/data/0", FLOATS)]
_ZIP = "archive/data/0"


def _wrong_names(entry: str) -> bytes:
    return zipped([*_PAIR, ("archive/" + "x" * len(entry.encode()), b"")]).replace(
        b"archive/" + b"x" * len(entry.encode()),
        (entry + "/" * 8)[: len(entry) + 8].encode()[: len(entry.encode()) + 8],
    )


def _zip_twice() -> bytes:
    return zipped([*_PAIR, ("archive/data/1", FLOATS)]).replace(b"archive/data/1", b"archive/data/0")


_case("two entries of one name", _zip_twice, "two entries called")
_case("two data.pkl", lambda: zipped([*_PAIR, ("other/data.pkl", whole(b"}"))]), "2 entries called data.pkl")
for _entry in (
    "/etc/passwd",
    "../evil",
    "archive/../../evil",
    "C:/evil",
    "archive\\data\\1",
    "archive/./data",
    "archive//data",
    "a\x00b",
    "a\nb",
):
    _case(f"entry called {_entry!r}", lambda entry=_entry: zipped([*_PAIR, ("q" * len(entry), b"")]).replace(b"q" * len(entry), entry.encode()), "leads out of the file")  # fmt: skip  # noqa: E501
_case("an encrypted entry", lambda: _entry_field(torch_zip(), _ZIP, 8, b"\x01\x00"), "encrypted")
for _method in (12, 14, 93, 99):
    _case(
        f"an entry packed by method {_method}",
        lambda m=_method: _entry_field(torch_zip(), _ZIP, 10, bytes([m, 0])),
        "by method",
    )
_case("an entry of two sizes", lambda: _entry_field(torch_zip(), _ZIP, 24, struct.pack("<I", 2000)), "two sizes")
_case(
    "an entry larger than the file",
    lambda: _entry_field(torch_zip(), _ZIP, 20, struct.pack("<II", 2**31, 2**31)),
    "not where",
)
_case("an entry elsewhere", lambda: _entry_field(torch_zip(), _ZIP, 42, struct.pack("<I", 3)), "not where")
_case("an entry after the end", lambda: _entry_field(torch_zip(), _ZIP, 42, struct.pack("<I", 2**31)), "not where")
_case(
    "an entry of another local name",
    lambda: _patched(torch_zip(), b"archive/data/0", 0, b"archive/data/9"),
    "not where",
)
_case("entries that share bytes", lambda: _overlapping(), "share bytes")
_case("a zip file of many entries", lambda: _patched(torch_zip(), b"PK\x05\x06", 8, b"\xfe\xff\xfe\xff"), "entries")
_case(
    "a zip file of fewer entries",
    lambda: _patched(torch_zip(), b"PK\x05\x06", 8, b"\x01\x00\x01\x00"),
    "more than the 1 entries",
)
_case(
    "a table of contents elsewhere",
    lambda: _patched(torch_zip(), b"PK\x05\x06", 16, struct.pack("<I", 1)),
    "not where it says",
)
_case(
    "a comment that is not there",
    lambda: _patched(torch_zip(), b"PK\x05\x06", 20, b"\xff\x00"),
    "does not fit the rest",
)
_case("bytes after the zip file", lambda: torch_zip() + b"PK", "does not fit the rest")
_case("bytes before the zip file", lambda: b"PK\x03\x04" + torch_zip(), "not where")
_case("zip64 sizes that are not there", lambda: _entry_field(torch_zip(), _ZIP, 20, b"\xff" * 8), "sizes of its entry")
_case("a second end elsewhere", lambda: _zip64(2**63, 1), "second end")
_case("two ends that differ", lambda: _zip64(None, 2**40), "contradict")
_case("an empty zip file", lambda: zipped([]), "an empty zip file")
_case("a zip file of something else", lambda: zipped({"readme.txt": b"hello"}), "without data.pkl")
_case("a model for mobile devices", lambda: zipped({"a/bytecode.pkl": whole(b")")}), "mobile devices")
_case("FlatBuffers", lambda: b"\x10\x00\x00\x00PTMF" + bytes(100), "mobile devices")
_case("bytes after data.pkl", lambda: zipped({"a/data.pkl": whole(b"}") + b"}."}), "goes on after its end")
_case("data.pkl without end", lambda: zipped({"a/data.pkl": b"\x80\x02}"}), "ends too early")
_case("data.pkl of nothing", lambda: zipped({"a/data.pkl": b""}), "ends too early")
_case("data.pkl of two values", lambda: torch_zip(b"NN"), "one value")
_case("a storage that unpacks to a gigabyte", lambda: _zip_bomb(), "would unpack")
_case("a pickle that unpacks to a gigabyte", lambda: _zip_bomb("archive/data.pkl"), "would unpack")
_case("an entry that unpacks to more than it says", lambda: _packed_lie(), "another size")
_case("an entry that cannot be unpacked", lambda: _entry_field(torch_zip(), "archive/data.pkl", 10, b"\x08\x00", local=True), "cannot be unpacked")  # fmt: skip  # noqa: E501
_case("an unknown order of bytes", lambda: torch_zip(**{"archive/byteorder": b"middle"}), "order of bytes")


def _overlapping() -> bytes:
    """Two descriptions of the same bytes, under names that differ only in the table of contents and one local name."""
    inner = zipped([("b/data.pkl", whole(b"}"))])
    local = inner[: inner.index(b"PK\x01\x02")]
    outer = zipped([("a/data.pkl", whole(b"}")), ("a/data/0", local), ("b/data/1", b"")])
    begin = outer.index(local)
    raw = _entry_field(outer, "b/data/1", 42, struct.pack("<I", begin))
    raw = raw.replace(b"b/data/1", b"b/data.p")  # shorter than data.pkl on purpose: see below
    raw = raw.replace(b"b/data.pkl", b"b/data.p\x00\x00") if False else raw
    place = raw.rindex(b"b/data.p")
    size = len(whole(b"}"))
    raw = raw[: place - 46 + 20] + struct.pack("<II", size, size) + raw[place - 46 + 28 :]
    header = begin + 26
    return raw[:header] + struct.pack("<HH", 8, 2) + raw[header + 4 :]


def _zip64(end: int | None, count: int) -> bytes:
    raw = torch_zip()
    at = raw.index(b"PK\x05\x06")
    fields = struct.unpack_from("<4sHHHHIIH", raw, at)
    second = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, fields[5], fields[6])
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, at if end is None else end, 1)
    return raw[:at] + second + locator + raw[at:]


def _zip_bomb(entry: str = "archive/data/0") -> bytes:
    raw = zipped([("archive/x", bytes(2**20)), ("archive/data.pk", b"")], packed=True)
    packed = raw.index(b"archive/data.pk") - 30 - raw.index(b"archive/x") - 9
    raw = raw.replace(b"archive/x", entry.encode()[:9]) if len(entry) == 9 else zipped([(entry, bytes(2**20)), *_PAIR[: entry != _PAIR[0][0]]], packed=True)  # fmt: skip  # noqa: E501
    assert packed < 2000
    return _entry_field(raw, entry, 24, struct.pack("<I", 2**30))


def _packed_lie() -> bytes:
    raw = zipped([("a/data.pkl", whole(b"](" + b"N" * 3000 + b"e"))], packed=True)
    return _entry_field(raw, "a/data.pkl", 24, struct.pack("<I", 2000))


# TorchScript

_case("a script that is a list", lambda: script(b"]"), "not a module")
_case("a script whose constants are a list", lambda: script(constants=b"]"), "constants.pkl is")
_case(
    "a script of too much code",
    lambda: script(code=CODE, **{f"code/{i}.py": b"a = 1\n" * 1_400_000 for i in range(6)}),
    "bytes of code",
)
_case(
    "a script whose constants overflow",
    lambda: script(constants=many([tensor(shape=(7,), stride=(1,))])),
    "past the end",
)

# Legacy files

_OLD = storage("0", 6, "torch.FloatStorage", b"N")
_case(
    "legacy: another version",
    lambda: torch_legacy().replace(number(1001) + b".", number(1002) + b".", 1),
    "version 1002",
)
_case("legacy: more storages listed", lambda: torch_legacy(keys=["0", "1"]), "not all the same")
_case("legacy: fewer storages listed", lambda: torch_legacy(keys=[]), "not all the same")
_case("legacy: a storage listed twice", lambda: torch_legacy(keys=["0", "0"]), "list of storages")
_case(
    "legacy: storages listed as text",
    lambda: torch_legacy().replace(b"](" + text("0") + b"e", text("0000000"), 1),
    "list of stor",
)
_case(
    "legacy: another number of elements",
    lambda: torch_legacy().replace(struct.pack("<q", 6), struct.pack("<q", 2)),
    "6 elements or 2",
)
_case("legacy: elements missing", lambda: torch_legacy()[:-1], "in the middle of the storage")
_case("legacy: elements too many", lambda: torch_legacy() + b"1", "after its last storage")
_case("legacy: 2**40 elements", lambda: torch_legacy(tensor(block=storage("0", 2**40))), "in the middle of the storage")
_case("legacy: a negative number of elements", lambda: torch_legacy(tensor(block=storage("0", -1))), "cannot be")
_case("legacy: a part outside", lambda: torch_legacy(tensor(block=storage("0", 6, "torch.FloatStorage", many([text("v"), number(4), number(3)])))), "reaches outside")  # fmt: skip  # noqa: E501
_case("legacy: a tensor beyond its part", lambda: torch_legacy(tensor(block=storage("0", 6, "torch.FloatStorage", many([text("v"), number(3), number(3)])))), "past the end")  # fmt: skip  # noqa: E501

# Tar files


def _tar_field(offset: int, new: bytes) -> bytes:
    raw = nemo()
    header = raw[:512]
    header = header[:offset] + new + header[offset + len(new) :]
    header = header[:148] + b" " * 8 + header[156:]
    return header[:148] + b"%06o\0 " % sum(header) + header[156:] + raw[512:]


_case("tar: a link", lambda: tarred([("./model_weights.ckpt", b"")], kind=tarfile.SYMTYPE), "link or a device")
_case("tar: a hard link", lambda: tarred([("./model_weights.ckpt", b"")], kind=tarfile.LNKTYPE), "link or a device")
_case("tar: a device", lambda: tarred([("./model_weights.ckpt", b"")], kind=tarfile.CHRTYPE), "link or a device")
_case("tar: an absolute name", lambda: tarred([("/etc/passwd", b"x")]), "leads out")
_case("tar: a name with ..", lambda: tarred([("../evil", b"x")]), "leads out")
_case("tar: a name twice", lambda: tarred([("./a", b"x"), ("a", b"y")]), "two members")
_case("tar: no weights", lambda: tarred([("./model_config.yaml", b"x")]), "without model_weights.ckpt")
_case(
    "tar: weights elsewhere", lambda: tarred([("evil/model_weights.ckpt", torch_zip())]), "without model_weights.ckpt"
)
_case("tar: weights of another kind", lambda: nemo(b"hello"), "none of the formats")
_case("tar: torch 0.1", lambda: tarred([("storages", b"x"), ("tensors", b"x"), ("pickle", b"x")]), "before 0.2")
_case("tar: a size beyond the file", lambda: _tar_field(124, b"77777777777\0"), "more than the file")
_case("tar: a size of 2**80", lambda: _tar_field(124, b"\x80" + b"\x01" * 11), "more than the file")
_case("tar: a negative size", lambda: _tar_field(124, b"\xff" * 12), "a number of the tar file")
_case("tar: another checksum", lambda: nemo().replace(b"ustar", b"ustaR", 2).replace(b"ustaR", b"ustar", 1), "checksum")
_case("tar: thousands of members", lambda: tarred([(f"{index}", b"") for index in range(10_100)]), "members")
_case(
    "tar: a huge extended header",
    lambda: tarred([("x", b"a")]).replace(b"x", b"x", 1)[:0] + _pax(b"a" * 100_000),
    "header of",
)
_case("tar: an extended header of nonsense", lambda: _pax(b"99999 path=x\n"), "cannot be understood")
_case("tar: an extended header without end", lambda: _pax(b"0 path=x\n" * 100), "cannot be understood")
_case("tar: a configuration that is not text", lambda: tarred([("model_config.yaml", b"\xff\xfe\x00"), ("model_weights.ckpt", torch_zip())]), "not text")  # fmt: skip  # noqa: E501
_case("tar: a name that is not text", lambda: _tar_field(0, b"\xff\xfe"), "not UTF-8")
_case("gzip: a bomb", lambda: gzipped(bytes(300 * 2**20)), "unpacks to more than")
_case("gzip: something else", lambda: gzipped(b"hello" * 1000), "no tar file")
_case("gzip: cut", lambda: nemo(zip_it=True)[:-20], "missing|cannot be unpacked")
_case(
    "gzip: damaged", lambda: _patched(nemo(zip_it=True), b"\x1f\x8b", 200, b"\xff" * 20), "cannot be unpacked|missing"
)


def _pax(block: bytes) -> bytes:
    info = tarfile.TarInfo("pax")
    info.type, info.size = b"x", len(block)
    header = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    return bytes(header) + block + bytes(-len(block) % 512) + nemo()


# safetensors


def _safe(title: str, make: Callable[[], bytes], says: str) -> None:
    _case(f"safetensors: {title}", make, says)


_safe("a header of 2**39 bytes", lambda: struct.pack("<Q", 2**39) + SOUND_HEADER, "says that its header")
_safe("a header of 20 MB", lambda: safetensors(SOUND_HEADER + b" " * 20_000_000), "header of")
_safe("no JSON", lambda: safetensors(b'{"weight'), "not a sound")
_safe("JSON in JSON", lambda: safetensors(b'{"a":' * 200_000), "not a sound")
_safe("a name twice", lambda: safetensors(SOUND_HEADER[:-1] + b"," + SOUND_HEADER[1:]), "not a sound")
_safe(
    "bytes that are shared",
    lambda: safetensors(SOUND_HEADER[:-1] + b"," + SOUND_HEADER[1:].replace(b"weight", b"w")),
    "not a sound",
)
_safe("bytes beyond the file", lambda: safetensors(SOUND_HEADER.replace(b"24", b"48")), "not a sound")
_safe("bytes that no tensor has", lambda: safetensors(SOUND_HEADER, FLOATS + b"x"), "not a sound")
_safe("bytes missing", lambda: safetensors(SOUND_HEADER, FLOATS[:-1]), "not a sound")
_safe("another shape", lambda: safetensors(SOUND_HEADER.replace(b"[2,3]", b"[2,4]")), "not a sound")
_safe("a negative shape", lambda: safetensors(SOUND_HEADER.replace(b"[2,3]", b"[-2,-3]")), "not a sound")
_safe(
    "a shape that overflows",
    lambda: safetensors(SOUND_HEADER.replace(b"[2,3]", b"[4611686018427387904,16]")),
    "not a sound",
)
_safe("an unknown type", lambda: safetensors(SOUND_HEADER.replace(b"F32", b"F99")), "not a sound")
_safe(
    "many axes",
    lambda: safetensors(SOUND_HEADER.replace(b"[2,3]", b"[2,3" + b",1" * 40 + b"]")),
    "the shape|more than can be",
)
_safe("large empty shapes", lambda: safetensors(b'{"w":{"dtype":"F32","shape":[0,1099511627776,1024],"data_offsets":[0,0]}}', b""), "more than can be")  # fmt: skip  # noqa: E501
_safe("a deep name", lambda: safetensors(SOUND_HEADER.replace(b"weight", b"a." * 5000)), "too deep")

# npz


def _npz(title: str, make: Callable[[], bytes], says: str) -> None:
    _case(f"npz: {title}", lambda: zipped({"weight.npy": make()}), says)


_npz("objects", lambda: npy(SOUND_NPY.replace("<f4", "|O"), whole(_EVIL)), "objects")
_npz("fields", lambda: npy(SOUND_NPY.replace("'<f4'", "[('a', '<f4')]")), "not of plain numbers")
_npz("text", lambda: npy(SOUND_NPY.replace("<f4", "<U1")), "only numbers")
_npz("code in the header", lambda: npy(f"{{'descr': open({MARKER!r}, 'w')}}"), "cannot be understood")
_npz("brackets in the header", lambda: npy("(" * 3000), "cannot be understood")
_npz("powers in the header", lambda: npy("{'descr': 9**9**9**9}"), "cannot be understood")
_npz("a header of 60 KB", lambda: npy(SOUND_NPY + " " * 60_000), "longer than")
_npz("a header cut short", lambda: npy(SOUND_NPY)[:40], "cut short|cannot be")
_npz("no header", lambda: b"hello", "not an array")
_npz("another version", lambda: b"\x93NUMPY\x09\x00" + npy(SOUND_NPY)[8:], "not an array")
_npz("a huge shape", lambda: npy(SOUND_NPY.replace("(2, 3)", "(2, 1152921504606846976)")), "more than can be|has")
_npz("a negative shape", lambda: npy(SOUND_NPY.replace("(2, 3)", "(-2, -3)")), "the shape")
_npz("a shape of fractions", lambda: npy(SOUND_NPY.replace("(2, 3)", "(2.0, 3)")), "the shape")
_npz("forty axes", lambda: npy(SOUND_NPY.replace("(2, 3)", f"(2, 3{', 1' * 40})")), "the shape|more than can be")
_npz("elements missing", lambda: npy(SOUND_NPY)[:-1], "has 23 bytes")
_case("npz: an entry that unpacks to a gigabyte", lambda: _npz_bomb(), "would unpack")
_case("npz: elements that cannot be unpacked", lambda: _npz_damaged(), "cannot be unpacked|another size", read=True)


def _npz_bomb() -> bytes:
    shape = SOUND_NPY.replace("(2, 3)", "(268435456,)")
    return _entry_field(
        zipped({"weight.npy": npy(shape, bytes(2**20))}, packed=True), "weight.npy", 24, struct.pack("<I", 2**30 + 80)
    )


def _npz_damaged() -> bytes:
    values = bytes(range(256)) * 40
    raw = zipped({"weight.npy": npy(SOUND_NPY.replace("(2, 3)", f"({len(values) // 4},)"), values)}, packed=True)
    end = raw.index(b"PK\x01\x02")
    return raw[: end - 30] + bytes(byte ^ 0x5A for byte in raw[end - 30 : end]) + raw[end:]


# No weights at all

_case("an empty file", lambda: b"", "is empty")
_case("one byte", lambda: b"P", "none of the formats")
_case("noise", lambda: bytes((i * 197 + 13) % 251 for i in range(5000)), "none of the formats")
_case("a web page", lambda: b"<!DOCTYPE html><html></html>", "a web page")
_case("a pointer of git-lfs", lambda: b"version https://git-lfs.github.com/spec/v1\n", "git-lfs")
_case("HDF5", lambda: b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5")
_case("one array of numpy", lambda: npy(SOUND_NPY), "one array")
_case("a plain pickle", lambda: whole(b"}"), "not of torch")

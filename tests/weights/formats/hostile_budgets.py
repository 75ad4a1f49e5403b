"""Files that exhaust the budget with one kind of value, with all kinds at once, or with several pickles."""

import random
import struct
from collections.abc import Callable

from tests.weights.formats.cases import add, add_pickle
from tests.weights.formats.forge import (
    call,
    many,
    name,
    number,
    script,
    storage,
    table,
    tensor,
    text,
    torch_legacy,
    whole,
    zipped,
)

_SPENT = "takes more than|has more than"
_END = name("os.system")
"""Refused in any case, so that what fits the budget is measured as well."""


def _lists(value: bytes, count: int) -> bytes:
    """A list of lists of 1000 values each."""
    return b"](" + (b"](" + value * 1000 + b"e") * (count // 1000) + b"e"


def _numbered(make: Callable[[int], bytes], count: int) -> bytes:
    return b"](" + b"".join(map(make, range(count))) + b"e"


_TEXT, _WIDE = "a" * 60, "\U0001f600" + "a" * 200
_KINDS: dict[str, Callable[[], bytes]] = {
    "integers": lambda: _lists(b"J\xff\xff\xff\x7f", 2_000_000),
    "large integers": lambda: _lists(b"\x8a\xff" + b"\x7f" * 255, 170_000),
    "integers as text": lambda: _lists(b"I" + b"9" * 900 + b"\n", 40_000),
    "fractions": lambda: _lists(b"G" + bytes(8), 2_000_000),
    "empty lists": lambda: _lists(b"]", 2_000_000),
    "short lists": lambda: _lists(b"]Na", 1_000_000),
    "tuples": lambda: _lists(b"N\x85", 2_000_000),
    "kept tuples": lambda: b"](" + b"".join(b"N\x85r" + struct.pack("<I", i) for i in range(90_000)) + b"e",
    "dicts": lambda: _lists(b"}", 2_000_000),
    "short dicts": lambda: _lists(b"}NNs", 700_000),
    "sets": lambda: _lists(b"\x8f", 1_000_000),
    "a long dict": lambda: b"}(" + b"".join(b"J" + struct.pack("<i", i) + b"N" for i in range(48_000)) + b"u" + b"0N",
    "short texts": lambda: _lists(b"X\x01\x00\x00\x00a", 1_500_000),
    "texts": lambda: _lists(text(_TEXT), 700_000),
    "wide texts": lambda: _lists(text(_WIDE), 200_000),
    "a wide text": lambda: _lists(text("\U0001f600" + "a" * 100_000), 0) + b"0" + text("\U0001f600" + "a" * 45_000_000),
    "raw texts": lambda: _lists(b"V" + _TEXT.encode() + b"\\U0001f600\n", 500_000),
    "bytes": lambda: _lists(b"C\x20" + bytes(32), 1_000_000),
    "records": lambda: name("a.B") + b"q\x000" + _lists(b"h\x00)\x81", 800_000),
    "records with a state": lambda: name("a.B") + b"q\x000" + _lists(b"h\x00)\x81}b", 600_000),
    "ordered dicts": lambda: name("collections.OrderedDict") + b"q\x000" + _lists(b"h\x00)R", 800_000),
    "ordered dicts with attributes": lambda: (
        name("collections.OrderedDict") + b"q\x000" + _lists(b"h\x00)R}b", 600_000)
    ),
    "names": lambda: _numbered(lambda i: b"ca\nB%d\n" % i, 200_000),
    "complex numbers": lambda: name("builtins.complex") + b"q\x000" + _lists(b"h\x00K\x01K\x01\x86R", 500_000),
    "types of numpy": lambda: (
        name("numpy.dtype") + b"q\x00" + text("<f4") + b"\x85q\x0100" + _lists(b"h\x00h\x01R", 600_000)
    ),
    "arrays of numpy": lambda: (
        name("numpy.core.numeric._frombuffer")
        + b"q\x000"
        + many([b"C\x00", call("numpy.dtype", text("<f4")), many([b"K\x00"]), text("C")])
        + b"q\x010"
        + _lists(b"h\x00h\x01R", 300_000)
    ),
    "devices": lambda: (
        name("torch.device") + b"q\x000" + text("cuda") + b"q\x010" + _lists(b"h\x00h\x01K\x00\x86R", 400_000)
    ),
    "devices of a long name": lambda: (
        text("a" * 2**22) + b"q\x010](" + (name("torch.device") + b"h\x01" + number(0) + b"\x86R") * 400 + b"e"
    ),
    "tensors": lambda: (
        name("torch._utils._rebuild_tensor")
        + b"q\x00"
        + storage()
        + b"q\x0100"
        + _lists(b"h\x00(h\x01K\x00K\x02\x85K\x01\x85tR", 200_000)
    ),
    "tensors by name": lambda: (
        tensor() + b"q\x010}(" + b"".join(text(f"{i}.w.weight") + b"h\x01" for i in range(59_000)) + b"u"
    ),
    "storages": lambda: _numbered(lambda i: storage(str(i)), 30_000),
    "modules": lambda: (
        tensor() + b"q\x010}(" + b"".join(text(f"{i:05}.a.b.c.d.e.w") + b"h\x01" for i in range(30_000)) + b"u"
    ),
}
for _title, _make in _KINDS.items():
    add(
        f"as many {_title} as can be",
        lambda make=_make: _packed(make()),
        f"{_SPENT}|os.system|has no entry|refers to a device",
        costly=True,
    )


def _packed(value: bytes) -> bytes:
    """A minimal file. It starts with noise, because files that compress too well are refused at once."""
    noise = random.Random(0).randbytes(len(value) // 90)
    pickle = b"]B" + struct.pack("<I", len(noise)) + noise + b"0" + value + b"a" + _END
    return zipped({"a/data.pkl": whole(pickle), "a/data/0": struct.pack("<6f", *range(6))}, packed=True)


_JUNK = b"N0" * 799_000
_MAGIC = number(0x1950A86A20F9469CFC6C)


def _joint(end: bytes = b"") -> bytes:
    """Wide text, sets, incompressible bytes and large integers; each as much as one pickle may contain."""
    wide = text("\U0001f600" + "a" * (20 * 2**20))
    noise = random.Random(0).randbytes(800_000)
    sets = (b"(" + b"\x8f" * 1000 + b"e") * 250
    numbers = (b"(" + (b"\x8a\xff" + b"\x7f" * 255) * 1000 + b"e") * 80
    return b"](" + b"B" + struct.pack("<I", len(noise)) + noise + wide + b"e" + sets + numbers + end


def _script_of_junk() -> bytes:
    module = name("__torch__.Net") + b")\x81" + table({"weight": tensor()}) + b"b"
    return script(_JUNK + module, constants=_JUNK + b")")


def _legacy_of_junk() -> bytes:
    parts = [_MAGIC, _JUNK + number(1001), _JUNK + b"}", _JUNK + b"}", _JUNK + b"]"]
    return b"".join(map(whole, parts))


def _large_integers() -> bytes:
    return whole(_MAGIC) + whole(b"]" + (b"(" + (b"\x8a\xff" + b"\x7f" * 255) * 1000 + b"e") * 250)


def _joint_script() -> bytes:
    data = name("__torch__.Net") + b")\x81" + table({"k": _joint()}) + b"b"
    entries = {"a/data.pkl": whole(data), "a/constants.pkl": whole(_joint(_END)), "a/version": b"3"}
    return zipped(entries, packed=True)


add("steps in four pickles of a legacy file", _legacy_of_junk, "steps", costly=True)
add("steps in both pickles of a script", _script_of_junk, "steps", costly=True)
add("large integers in a legacy file", _large_integers, _SPENT, costly=True)
add(
    "a legacy pickle of 60 MB",
    lambda: torch_legacy(b"B" + struct.pack("<I", 60 * 2**20) + bytes(60 * 2**20)),
    _SPENT,
    costly=True,
)
add(
    "much of everything",
    lambda: zipped({"a/data.pkl": whole(_joint(_END)), "a/x": b""}, packed=True),
    _SPENT,
    costly=True,
)
add("much of everything in both pickles of a script", _joint_script, _SPENT, costly=True)
add_pickle("lists in excess", lambda: b"](" + (b"]" * 1000 + b"e(") * 900 + b"e", _SPENT)

# Calls with arguments that Python or numpy refuses


def _dtype(code: str) -> bytes:
    return call("numpy.dtype", text(code))


def _buffer(code: str, *sizes: int) -> bytes:
    return call("numpy.core.numeric._frombuffer", b"C\x00", _dtype(code), many(list(map(number, sizes))), text("C"))


add_pickle("a complex number of 10**400", call("builtins.complex", number(10**400), number(0)), "too large")
add_pickle(
    "a text of numpy that is none",
    call("numpy.core.multiarray.scalar", _dtype("<U1"), b"C\x04\xff\xff\xff\x7f"),
    "invalid characters",
)
add_pickle("an array of empty texts", _buffer("S0", 5), "do not match")
add_pickle("an empty array of 2**96 elements", _buffer("<f4", 0, 2**48, 2**48), "do not match")
add_pickle(
    "items of an instance that has none",
    call("copyreg._reconstructor", name("collections.OrderedDict"), name("builtins.list"), b"]"),
    "items that this class cannot have",
)
add_pickle("a layout that is no text", call("torch.serialization._get_layout", number(1)), "layout")
add_pickle(
    "a sparse tensor as torch writes it",
    call(
        "torch._utils._rebuild_sparse_tensor",
        call("torch.serialization._get_layout", text("torch.sparse_coo")),
        many([tensor(), tensor(), many([])]),
    ),
    "save it as a dense tensor",
)
add_pickle("an enumeration of Python", call("http.HTTPStatus", number(200)), "http.HTTPStatus")

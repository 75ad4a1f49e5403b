"""Pickles that would exhaust memory or time, and tensors outside their storage."""

import struct
from collections.abc import Callable

from tests.weights.formats.cases import add_pickle
from tests.weights.formats.forge import (
    call,
    many,
    name,
    number,
    numbers,
    storage,
    table,
    tensor,
    text,
)

# Values that grow exponentially


def _doubling(levels: int, make: Callable[[bytes], bytes]) -> bytes:
    """Nested lists; each level contains the previous level ten times, by the memo."""
    out = make(b"N" * 10) + b"q\x010"
    for _ in range(levels):
        out += make(b"h\x01" * 10) + b"q\x010"
    return out + b"h\x01"


add_pickle("lists in lists", lambda: b"]" * 90_000 + b"a" * 89_999, "deep")
add_pickle("nested tuples", lambda: b")" + b"\x85" * 250_000, "deep")
add_pickle("dicts in dicts", lambda: (b"}" + text("a")) * 45_000 + b"N" + b"s" * 45_000, "deep|names of more than")
add_pickle("records in records", lambda: name("a.B") + b"q\x010" + b"h\x01)\x81" * 40_000 + b"b" * 39_999, "deep")
add_pickle("nested tuples as a key", lambda: b"}" + b")" + b"\x85" * 90_000 + b"Ns", "nested tuples")
add_pickle("lists of shared lists", _doubling(30, lambda inside: b"](" + inside + b"e"), "counting repeated")
add_pickle("tuples of shared tuples", _doubling(30, lambda inside: b"(" + inside + b"t"), "counting repeated")
add_pickle("dicts of shared dicts", lambda: _shared_dicts(30), "counting repeated|names of")
add_pickle("steps", lambda: b"N0" * 2_000_000, "more than .* steps")
add_pickle("stack", lambda: b"N" * 400_000, "values on the stack")
add_pickle("copies of the top of the stack", lambda: b"N" + b"2" * 400_000, "values on the stack")
add_pickle("marks", lambda: b"(" * 100_000, "open marks")
add_pickle(
    "memo",
    lambda: b"N" + b"".join(b"r" + struct.pack("<I", 2**32 - 1 - index) for index in range(1_500_000)),
    "of memory|steps",
)
add_pickle(
    "copied lists",
    lambda: b"](" + b"N" * 50_000 + b"eq\x010(" + (name("builtins.list") + b"h\x01\x85R") * 1000 + b"l",
    "steps",
)
add_pickle(
    "copied text",
    lambda: (
        text("a" * 2**20) + b"q\x010(" + (name("_codecs.encode") + b"h\x01" + text("latin1") + b"\x86R") * 500 + b"l"
    ),
    "of memory",
)
add_pickle("much text", lambda: (text("a" * 2**24) + b"0") * 3, "at most 50331648 are read")
add_pickle("text of 4 GB", b"X\xff\xff\xff\xffabc", "requires 4294967295 bytes")
add_pickle("text of 2**62 bytes", b"\x8d" + struct.pack("<Q", 2**62) + b"abc", "requires")
add_pickle("bytes of 2**62 bytes", b"\x8e" + struct.pack("<Q", 2**62) + b"abc", "requires")
add_pickle("bytearray of 2**62 bytes", b"\x96" + struct.pack("<Q", 2**62) + b"abc", "requires")
add_pickle("bytes of a negative size", b"T" + struct.pack("<i", -5), "requires -5 bytes")
add_pickle("integer of 2 GB", b"\x8b" + struct.pack("<i", 2**31 - 1), "integer of")
add_pickle("integer of a negative size", b"\x8b" + struct.pack("<i", -1), "integer of")
add_pickle("integer of a million digits", lambda: b"L" + b"9" * 1_000_000 + b"L\n", "a line of more than")
add_pickle(
    "keys of one hash",
    lambda: b"}(" + b"".join(number((2**61 - 1) * i) + b"N" for i in range(30_000)) + b"u",
    "as a key",
)
add_pickle(
    "tuples of one hash",
    lambda: b"}(" + b"".join(numbers([-1 - (i >> b & 1) for b in range(15)]) + b"N" for i in range(2**12)) + b"u",
    "tuples as keys",
)
add_pickle("a list as a key", b"}]Ns", "as a key")
add_pickle("a list in a set", b"\x8f(]\x90", "as a key")
add_pickle("a list in itself", b"]q\x01h\x01a", "contains itself")
add_pickle("a dict in itself", b"}q\x01" + text("a") + b"h\x01s", "contains itself")
add_pickle("a tuple in itself", b"]q\x01(h\x01tq\x020h\x02a", "contains itself")
add_pickle("long names", lambda: (b"}" + text("a" * 500)) * 20 + b"N" + b"s" * 20, "names of more than")
add_pickle("a name with many parts", lambda: table({"a." * 900 + "b": tensor()}), "names of more than|too deep")
add_pickle("many names", lambda: _many_names(), "too large|names of more than")
add_pickle(
    "two tensors of one name",
    lambda: table({"a": table({"b": tensor()}), "a.b": tensor()}),
    "two tensors with the name",
)


def _shared_dicts(levels: int) -> bytes:
    keys = [text(key) for key in "abcdefghij"]
    out = b"}q\x010"
    for _ in range(levels):
        out += b"}(" + b"".join(key + b"h\x01" for key in keys) + b"u" + b"q\x010"
    return out + b"h\x01"


def _many_names() -> bytes:
    """Names that imply a large module tree: each tensor is in a hundred nested modules that contain no other tensor."""
    value = tensor() + b"q\x020"
    return value + b"}(" + b"".join(text(f"{index}." * 100 + "w") + b"h\x02" for index in range(3000)) + b"u"


# Tensors


def _tensor(title: str, value: Callable[[], bytes] | bytes, says: str) -> None:
    add_pickle(f"tensor with {title}", value, says)


_tensor("a negative stride", tensor(stride=(-3, 1)), "no negative numbers")
_tensor("a negative offset", tensor(offset=-1), "no negative numbers")
_tensor("a negative size", tensor(shape=(-2, -3)), "no negative numbers")
_tensor("nine axes", tensor(shape=(1,) * 9, stride=(1,) * 9), "axes")
_tensor("more sizes than strides", tensor(shape=(2, 3, 1)), "axes")
_tensor("an end past its storage", tensor(shape=(3, 3)), "past the end")
_tensor("a start past its storage", tensor(offset=6), "past the end")
_tensor("a stride past its storage", tensor(stride=(2**40, 1)), "past the end")
_tensor("a stride that overflows", tensor(stride=(2**63, 1)), "axes")
_tensor("sizes that overflow", tensor(shape=(2**33, 2**33), stride=(0, 0)), "too large")
_tensor("sizes of no elements that overflow", tensor(shape=(0, 2**40, 2**40), stride=(0, 0, 0)), "too large")
_tensor("a terabyte of one element", tensor(shape=(2**38,), stride=(0,)), "overlap")
_tensor(
    "a size that is true",
    call("torch._utils._rebuild_tensor", storage(), number(0), many([b"\x88"]), numbers([1])),
    "axes",
)
_tensor(
    "a size that is a fraction",
    call("torch._utils._rebuild_tensor", storage(), number(0), many([b"G" + bytes(8)]), numbers([1])),
    "axes",
)
_tensor(
    "a size that is text", call("torch._utils._rebuild_tensor", storage(), number(0), text("66"), numbers([1])), "axes"
)
_tensor(
    "no storage",
    call("torch._utils._rebuild_tensor", text("x"), number(0), numbers([1]), numbers([1])),
    "not a storage",
)
_tensor("no arguments", call("torch._utils._rebuild_tensor_v2"), "without storage")
_tensor("a storage that is missing", tensor(block=storage("7")), "has no entry")
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
_tensor(
    "a type that does not divide it",
    call(
        "torch._utils._rebuild_tensor_v3",
        storage(numel=6, kind="torch.ByteStorage"),
        number(0),
        numbers([1]),
        numbers([1]),
        b"\x89",
        b"}",
        name("torch.float64"),
    ),
    "elsewhere",
)
_tensor(
    "an unknown type",
    call(
        "torch._utils._rebuild_tensor_v3",
        storage(),
        number(0),
        numbers([1]),
        numbers([1]),
        b"\x89",
        b"}",
        name("torch.bits8"),
    ),
    "which numpy does not have",
)
_tensor("quantisation", call("torch._utils._rebuild_qtensor", storage()), "quantised")
_tensor("a sparse layout", call("torch._utils._rebuild_sparse_tensor", storage()), "sparse")
_tensor("no values", call("torch._utils._rebuild_meta_tensor_no_storage", name("torch.float32")), "without values")
_tensor(
    "the conjugate bit",
    call(
        "torch._utils._rebuild_tensor_v2",
        storage(),
        number(0),
        numbers([1]),
        numbers([1]),
        b"\x89",
        b"}",
        table({"conj": b"\x88"}),
    ),
    "conjugate",
)
_tensor("a parameter of text", call("torch._utils._rebuild_parameter", text("x"), b"\x88", b"}"), "not a tensor")
_tensor("views beyond measure", lambda: _views(), "although the file has")


def _views() -> bytes:
    """Two thousand tensors of 16 MiB in a storage of 6 elements."""
    big = tensor(shape=(2**22,), stride=(0,)) + b"q\x010"
    return big + b"](" + b"h\x01" * 2000 + b"e"

"""The functions that a pickle may refer to, each with a replacement that returns tensor references or plain values."""

from collections.abc import Callable
from typing import Any, Protocol

from jaxvoice.errors import RefusedError
from jaxvoice.weights.formats.error_messages import MALICIOUS, safe_text
from jaxvoice.weights.formats.global_names import is_standard
from jaxvoice.weights.formats.inline_arrays import BudgetedReader, decode_array, decode_scalar, plain_dtype
from jaxvoice.weights.formats.limits import CONTAINER, ITEM, RECORD
from jaxvoice.weights.formats.pickle_objects import DictWithState, Global, InlineArray, Record, StorageRef, TensorRef
from jaxvoice.weights.formats.strided_views import tensor_reference
from jaxvoice.weights.formats.torch_dtypes import UNTYPED, tensor_dtype


class Reader(BudgetedReader, Protocol):
    """The part of the unpickler that a factory may use."""

    def call(self, function: Any, args: Any) -> Any:
        """Return the result of a call in the file, if the function is allowed."""
        ...

    def instance(self, kind: Any, args: Any) -> Any:
        """Return the replacement of an instance of a class."""
        ...

    def unknown_call(self, name: str, args: tuple[Any, ...]) -> Any:
        """Return a `Record` of a call of an unknown class or function."""
        ...

    def new_set(self, values: Any) -> set[Any]:
        """Return a set of `values`, all of which must be allowed as keys."""
        ...

    def key(self, value: Any) -> Any:
        """Return `value` if it is allowed as a key."""
        ...


class InvalidArguments(Exception):
    """The arguments of a call are not valid for its function. The message is a verb phrase, without a subject."""


Factory = Callable[[Reader, tuple[Any, ...]], Any]
"""Returns the replacement of a call from its arguments."""


# Tensors


def _tensor(reader: Reader, args: tuple[Any, ...]) -> TensorRef:
    match args:
        case (storage, offset, shape, stride) | (storage, offset, shape, stride, _, _):
            pass
        case (storage, offset, shape, stride, _, _, metadata) if not metadata:
            pass
        case (storage, offset, shape, stride, _, _, _):
            raise RefusedError(f"{reader.what} has a tensor with the conjugate or negative bit; save its `clone`.")
        case _:
            raise InvalidArguments("rebuilds a tensor without storage, offset, shape and strides")
    reader.charge(work=50, memory=CONTAINER)
    return tensor_reference(storage, offset, shape, stride, len(args) > 4 and args[4], reader.what)


def _tensor_with_dtype(reader: Reader, args: tuple[Any, ...]) -> TensorRef:
    match args:
        case (StorageRef() as storage, offset, shape, stride, requires_grad, _, dtype, *rest) if not any(rest):
            pass
        case _:
            raise InvalidArguments("rebuilds a tensor without storage, offset, shape, strides and type")
    reader.charge(work=60, memory=RECORD)
    kind = tensor_dtype(dtype, reader.what)
    if storage.dtype.itemsize != 1 or storage.numel % kind.itemsize:
        raise InvalidArguments(f"rebuilds a tensor of {kind} from a storage of {storage.numel} {storage.dtype}")
    storage = StorageRef(storage.key, kind, storage.numel // kind.itemsize)
    return tensor_reference(storage, offset, shape, stride, requires_grad, reader.what)


def _parameter(reader: Reader, args: tuple[Any, ...]) -> Any:
    match args:
        case (TensorRef() as ref, requires_grad, _) | (TensorRef() as ref, requires_grad, _, _):
            reader.charge(work=8, memory=RECORD)
            return TensorRef(ref.storage, ref.offset, ref.shape, ref.stride, bool(requires_grad), True)
        case _:
            raise InvalidArguments("rebuilds a parameter from a value that is not a tensor")


def _tensor_of_type(reader: Reader, args: tuple[Any, ...]) -> Any:
    match args:
        case (Global() as function, _, tuple() as inner, _) if function.name in _REBUILDING:
            return _REBUILDING[function.name](reader, inner)
        case (Global() as function, *_):
            return reader.call(Global(f"{function.name} through torch._tensor._rebuild_from_type_v2"), ())
        case _:
            raise InvalidArguments("rebuilds a tensor with a value that is not a function")


def _unsupported(name: str, value: str, remedy: str) -> tuple[str, Factory]:
    def refuse(reader: Reader, _: tuple[Any, ...]) -> Any:
        raise RefusedError(f"{reader.what} contains {value}, which cannot be read ({name}); {remedy}.")

    return name, refuse


_REBUILDING: dict[str, Factory] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_with_dtype,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
}

# Containers and plain values


def _layout_name(_: Reader, args: tuple[Any, ...]) -> str:
    """A layout of tensors, which torch refers to by name."""
    match args:
        case (str() as name,):
            return name
        case _:
            raise InvalidArguments("refers to a layout by a value that is not text")


def _list_copy(reader: Reader, args: tuple[Any, ...]) -> list[Any]:
    match args:
        case ():
            values: Any = ()
        case (list() | tuple() | set() | frozenset() as values,):
            pass
        case _:
            raise InvalidArguments("makes a list from a value that is not a collection")
    reader.charge(work=2 + len(values) // 4, memory=CONTAINER + 16 * len(values))
    return list(values)


def _dict_copy(reader: Reader, args: tuple[Any, ...]) -> dict[Any, Any]:
    match args:
        case ():
            reader.charge(memory=CONTAINER)
            return {}
        case (dict() as values,):
            reader.charge(work=2 + len(values), memory=CONTAINER + ITEM * len(values))
            return dict(values)
        case (list() | tuple() as pairs,) if all(isinstance(p, list | tuple) and len(p) == 2 for p in pairs):
            reader.charge(work=2 + 2 * len(pairs), memory=CONTAINER + ITEM * len(pairs))
            return {reader.key(key): value for key, value in pairs}
        case _:
            raise InvalidArguments("makes a dict from a value that has no items")


def _ordered_dict(reader: Reader, args: tuple[Any, ...]) -> DictWithState:
    reader.charge(work=4, memory=CONTAINER)
    return DictWithState(_dict_copy(reader, args))


def _default_dict(reader: Reader, args: tuple[Any, ...]) -> dict[Any, Any]:
    return _dict_copy(reader, args[1:])


def _bytes(reader: Reader, args: tuple[Any, ...]) -> bytes:
    match args:
        case ():
            return b""
        case (bytes() as raw,):
            return raw
        case (str() as text, "latin1" | "latin-1"):
            reader.charge(work=4 + len(text) // 1024, memory=2 * CONTAINER + len(text))
            return text.encode("latin-1", "replace")
        case _:
            raise InvalidArguments("makes bytes from a value that is neither bytes nor text")


def _complex(reader: Reader, args: tuple[Any, ...]) -> complex:
    match args:
        case (int() | float() as real, int() | float() as imaginary):
            reader.charge(memory=CONTAINER)
            try:
                return complex(float(real), float(imaginary))
            except OverflowError as failure:
                raise InvalidArguments("makes a complex number from a number that is too large") from failure
        case _:
            raise InvalidArguments("makes a complex number from values that are not numbers")


def _device(reader: Reader, args: tuple[Any, ...]) -> str:
    match args:
        case (str() as kind,) | (str() as kind, None):
            return kind
        case (str() as kind, int() as index) if len(kind) < 40:
            reader.charge(work=6, memory=RECORD)
            return f"{kind}:{safe_text(index)}"
        case _:
            raise InvalidArguments("refers to a device by values that are not its kind and number")


def _path(reader: Reader, args: tuple[Any, ...]) -> str:
    if not all(isinstance(part, str) for part in args):
        raise InvalidArguments("makes a path from a value that is not text")
    length = sum(map(len, args))
    reader.charge(work=4 + length // 256, memory=CONTAINER + 8 * length)
    first = args[0] if args else "."
    return "/".join([first.rstrip("/\\") if len(args) > 1 else first, *args[1:]])


def _record(name: str) -> Factory:
    def make(reader: Reader, args: tuple[Any, ...]) -> Record:
        reader.charge(work=6, memory=RECORD)
        return Record(name, args)

    return make


def _reconstructed_instance(reader: Reader, args: tuple[Any, ...]) -> Any:
    match args:
        case (Global() as kind, Global(name="builtins.object"), None):
            return reader.instance(kind, ())
        case (Global() as kind, Global(name="builtins.dict" | "builtins.list"), dict() | list() as items):
            instance = reader.instance(kind, ())
            if isinstance(instance, Record):
                instance.items = items
                return instance
            if not isinstance(instance, dict) or not isinstance(items, dict):
                raise InvalidArguments(f"makes an instance of {safe_text(kind)} with items that this class cannot have")
            reader.charge(work=2 + len(items), memory=ITEM * len(items))
            instance.update(items)
            return instance
        case (Global() as kind, Global() as base, value) if base.name in _VALUE_TYPES:
            return reader.instance(kind, (value,))
        case _:
            raise InvalidArguments("makes an instance of an unknown kind")


def _attribute(reader: Reader, args: tuple[Any, ...]) -> Any:
    """A member of an enumeration, or a method of an object, as Python 3.11 pickles them."""
    match args:
        case (Global() as kind, str()) if not is_standard(kind.name):
            return reader.unknown_call(kind.name, args[1:])
        case (Record() as record, str()) if not is_standard(record.class_name):
            return reader.unknown_call(record.class_name, args)
        case _:
            raise RefusedError(
                f"{reader.what} calls 'builtins.getattr', but not for a member of an enumeration; {MALICIOUS}."
            )


# TorchScript


def _typed_list(_: Reader, args: tuple[Any, ...]) -> list[Any]:
    match args:
        case (list() as values,):
            return values
        case _:
            raise InvalidArguments("makes a typed list from a value that is not a list")


def _without_type_tag(_: Reader, args: tuple[Any, ...]) -> Any:
    match args:
        case (value, str()):
            return value
        case _:
            raise InvalidArguments("tags a value with a value that is not a type")


# numpy


def _numpy_dtype(reader: Reader, args: tuple[Any, ...]) -> InlineArray:
    reader.charge(work=8, memory=2 * RECORD)
    return InlineArray(dtype=plain_dtype(args[0] if args else None, reader.what))


def _numpy_array(reader: Reader, args: tuple[Any, ...]) -> InlineArray:
    match args:
        case (Global(name="numpy.ndarray"), (0,), bytes() | str()):
            reader.charge(work=6, memory=RECORD)
            return InlineArray()
        case _:
            raise InvalidArguments("makes a numpy array in an unknown form")


def _numpy_scalar(reader: Reader, args: tuple[Any, ...]) -> Any:
    match args:
        case (dtype, raw):
            reader.charge(work=20)
            return decode_scalar(raw, dtype, reader)
        case _:
            raise InvalidArguments("makes a numpy number from values that are not its type and bytes")


def _numpy_buffer(reader: Reader, args: tuple[Any, ...]) -> InlineArray:
    match args:
        case (raw, dtype, shape, "C" | "F" as order):
            return InlineArray(array=decode_array(raw, dtype, shape, order, reader))
        case _:
            raise InvalidArguments("makes a numpy array in an unknown form")


_VALUE_TYPES = frozenset(f"builtins.{name}" for name in ("str", "bytes", "int", "float", "tuple", "set", "frozenset"))
_SYSTEMS = ("", "Pure", "Posix", "Windows", "PurePosix", "PureWindows")
_DENSE = "save it as a dense tensor"
_UNSUPPORTED = (
    _unsupported("torch._utils._rebuild_sparse_tensor", "a sparse tensor", _DENSE),
    _unsupported("torch._utils._rebuild_sparse_csr_tensor", "a sparse tensor", _DENSE),
    _unsupported("torch._utils._rebuild_nested_tensor", "a nested tensor", _DENSE),
    _unsupported("torch._utils._rebuild_qtensor", "a quantised tensor", "save the model before quantisation"),
    _unsupported("torch._utils._rebuild_meta_tensor_no_storage", "a tensor without values", "save the real weights"),
    _unsupported("torch._utils._rebuild_wrapper_subclass", "a tensor subclass without storage", _DENSE),
    _unsupported("torch._utils._rebuild_device_tensor_from_numpy", "a tensor of a device", "move it to the CPU first"),
    _unsupported("torch.storage._load_from_bytes", "a nested file", "save the model again with torch.save"),
)
FACTORIES: dict[str, Factory] = {
    **_REBUILDING,
    "torch._tensor._rebuild_from_type": _tensor_of_type,
    "torch._tensor._rebuild_from_type_v2": _tensor_of_type,
    **dict(_UNSUPPORTED),
    "torch.serialization._get_layout": _layout_name,
    "torch.Size": lambda reader, args: tuple(_list_copy(reader, args)),
    "torch.device": _device,
    "torch.nn.backends.thnn._get_thnn_function_backend": _record("torch.nn.backends.thnn.THNNFunctionBackend"),
    "torch.jit._pickle.build_intlist": _typed_list,
    "torch.jit._pickle.build_doublelist": _typed_list,
    "torch.jit._pickle.build_boollist": _typed_list,
    "torch.jit._pickle.build_tensorlist": _typed_list,
    "torch.jit._pickle.restore_type_tag": _without_type_tag,
    "collections.OrderedDict": _ordered_dict,
    "collections.Counter": _dict_copy,
    "collections.defaultdict": _default_dict,
    "collections.deque": lambda reader, args: _list_copy(reader, args[:1]),
    "builtins.list": _list_copy,
    "builtins.tuple": lambda reader, args: tuple(_list_copy(reader, args)),
    "builtins.dict": _dict_copy,
    "builtins.set": lambda reader, args: reader.new_set(_list_copy(reader, args)),
    "builtins.frozenset": lambda reader, args: frozenset(reader.new_set(_list_copy(reader, args))),
    "builtins.bytearray": _bytes,
    "builtins.bytes": _bytes,
    "builtins.complex": _complex,
    "builtins.range": _record("builtins.range"),
    "builtins.slice": _record("builtins.slice"),
    "builtins.getattr": _attribute,
    "_codecs.encode": _bytes,
    "copyreg._reconstructor": _reconstructed_instance,
    "argparse.Namespace": _record("argparse.Namespace"),
    "types.SimpleNamespace": _record("types.SimpleNamespace"),
    "decimal.Decimal": _record("decimal.Decimal"),
    "fractions.Fraction": _record("fractions.Fraction"),
    "uuid.UUID": _record("uuid.UUID"),
    "numpy.dtype": _numpy_dtype,
    **{f"pathlib{inner}.{system}Path": _path for inner in ("", "._local") for system in _SYSTEMS},
    **{
        f"datetime.{kind}": _record(f"datetime.{kind}")
        for kind in ("date", "datetime", "time", "timedelta", "timezone")
    },
    **{f"numpy.{core}.multiarray._reconstruct": _numpy_array for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _numpy_scalar for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _numpy_buffer for core in ("core", "_core")},
}
"""Replacements of functions, by the names of the functions in files."""

CLASSES: frozenset[str] = frozenset(
    (
        *("argparse.Namespace", "types.SimpleNamespace", "collections.OrderedDict", "collections.Counter"),
        *("builtins.dict", "uuid.UUID"),
    )
)
"""Classes whose instances are created like results of a call."""

assert not FACTORIES.keys() & UNTYPED

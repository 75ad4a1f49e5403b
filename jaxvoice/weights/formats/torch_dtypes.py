"""Dtypes by torch's names."""

from typing import Any

import ml_dtypes
import numpy as np

from jaxvoice.errors import RefusedError
from jaxvoice.weights.formats.error_messages import safe_text
from jaxvoice.weights.formats.pickle_objects import Global

_STORAGES: dict[str, Any] = {
    "Float": np.float32,
    "Half": np.float16,
    "Double": np.float64,
    "BFloat16": ml_dtypes.bfloat16,
    "Long": np.int64,
    "Int": np.int32,
    "Short": np.int16,
    "Char": np.int8,
    "Byte": np.uint8,
    "Bool": np.bool_,
    "ComplexFloat": np.complex64,
    "ComplexDouble": np.complex128,
}
_UNTYPED = ("torch.storage.UntypedStorage", "torch.storage._UntypedStorage", "torch.UntypedStorage")

STORAGES: dict[str, np.dtype] = {
    f"{place}.{name}Storage": np.dtype(kind) for name, kind in _STORAGES.items() for place in ("torch", "torch.cuda")
}
"""Dtypes by the class of a storage."""
UNTYPED: frozenset[str] = frozenset(_UNTYPED)
"""Classes of untyped storages."""

_NUMPY = (
    *("bool", "float16", "float32", "float64", "complex64", "complex128"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)
_EXTENSIONS = ("bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu")
_ALIASES = {
    "float": "float32", "double": "float64", "half": "float16", "long": "int64", "int": "int32", "short": "int16",
    "cfloat": "complex64", "cdouble": "complex128",
}  # fmt: skip
DTYPES: dict[str, np.dtype] = {f"torch.{name}": np.dtype(name) for name in _NUMPY}
DTYPES |= {f"torch.{name}": np.dtype(getattr(ml_dtypes, name)) for name in _EXTENSIONS if hasattr(ml_dtypes, name)}
DTYPES |= {f"torch.{alias}": DTYPES[f"torch.{name}"] for alias, name in _ALIASES.items()}


def storage_dtype(kind: Any, what: str) -> np.dtype:
    """The dtype of a storage of class `kind`, `uint8` if it is untyped.

    **Raises:** `RefusedError` if it is unknown.
    """
    if isinstance(kind, Global):
        if kind.name in UNTYPED:
            return np.dtype(np.uint8)
        if kind.name in STORAGES:
            return STORAGES[kind.name]
        if kind.name.startswith("torch.Q") or kind.name.startswith("torch.cuda.Q"):
            raise RefusedError(f"{what} has quantised weights ({kind.name}); save the model before quantisation.")
    raise RefusedError(f"{what} has a storage of class {safe_text(kind)}, which is not one of torch's.")


def tensor_dtype(name: Any, what: str) -> np.dtype:
    """The dtype `torch.<name>`.

    **Raises:** `RefusedError` if numpy has none.
    """
    if isinstance(name, Global) and name.name in DTYPES:
        return DTYPES[name.name]
    raise RefusedError(
        f"{what} has a tensor of type {safe_text(name)}, which numpy does not have; save it as another type "
        "(torch.float32, torch.complex64)."
    )

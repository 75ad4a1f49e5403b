"""Names of the arrays of a model: dotted attribute paths, which are the names of weights in released checkpoints."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import equinox as eqx
import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array

from jaxvoice.weights.archive import Tensors
from jaxvoice.weights.mismatches import Mismatches

_Model = TypeVar("_Model")


def _is_weight(leaf: Any) -> bool:
    """Whether `leaf` is an array, or a shape that `eqx.filter_eval_shape` returns instead of one."""
    return eqx.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)


def _name(path: tuple[Any, ...], merged: Sequence[str]) -> str:
    parts = []
    for entry in path:
        for attribute in ("name", "idx", "key"):
            if hasattr(entry, attribute):
                parts.append(str(getattr(entry, attribute)))
                break
    return ".".join(parts[1:] if parts and parts[0] in merged else parts)


def named_arrays(model: Any, *, merged: Sequence[str] = ()) -> dict[str, Array]:
    """The arrays of `model` by name (`ups.0.weight_v`), in the order of its fields.

    **Arguments:** `merged`, attributes of `model` whose names are left out: with `("network", "state")`, the arrays of
    both have names that start with their own attributes.

    **Raises:** `ValueError` if two arrays have the same name.
    """
    leaves = jax.tree_util.tree_leaves_with_path(eqx.filter(model, _is_weight))
    named = {_name(path, merged): leaf for path, leaf in leaves}
    if merged and len(named) != len(leaves):
        raise ValueError(f"merged is {tuple(merged)!r}; it should not give the same name to several arrays.")
    return named


def count_parameters(model: Any) -> int:
    """The number of elements of all arrays of `model`."""
    return sum(leaf.size for leaf in named_arrays(model).values())


def identity_of(model: Any, settings: Any) -> str:
    """A SHA-256 of `settings`, values of JSON, and of the arrays of `model`, in hexadecimal digits."""
    digest = hashlib.sha256(json.dumps(settings).encode())
    for name, array in sorted(named_arrays(model).items()):
        values = np.asarray(array)
        digest.update(f"{name} {values.dtype} {values.shape}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def load_state(
    model: _Model, arrays: Mapping[str, Any], where: str = "the given weights", *, merged: Sequence[str] = ()
) -> _Model:
    """A copy of `model` in which every array is replaced by the array of its name, cast to the model's dtype.

    Constants of TorchScript code (`CONSTANTS.c0`) in an archive are ignored, because they are not weights.

    **Arguments:** `merged`, as for `named_arrays`.

    **Raises:** `CheckpointError` if weights do not match. The error lists missing names (`-`), unknown names (`+`) and
    wrong shapes (`!`), with the nearest names.
    """
    if isinstance(arrays, Tensors):
        arrays = arrays.weights()
    known = named_arrays(model, merged=merged)
    given, wanted = ({name: (np.shape(array),) for name, array in some.items()} for some in (arrays, known))
    mismatches = Mismatches(where, given, wanted, advice="Check that the configuration belongs to these weights")
    for name in known:
        if name not in arrays:
            mismatches.missing(name)
    for name, (shape,) in given.items():
        if name not in known:
            mismatches.unused(name)
        elif shape != wanted[name][0]:
            mismatches.shape(name, shape, name, wanted[name][0])
    mismatches.check()
    names = iter(known)
    return jax.tree.map(lambda leaf: jnp.asarray(arrays[next(names)], leaf.dtype) if _is_weight(leaf) else leaf, model)

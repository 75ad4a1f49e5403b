"""Every array of a model by the dotted path of its attribute, which is its weight's name in released checkpoints."""

from collections.abc import Mapping
from typing import Any, TypeVar

import equinox as eqx
import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array

from jaxvoice.weights.archive import Tensors
from jaxvoice.weights.mismatches import Mismatches

Model = TypeVar("Model")


def _is_weight(leaf: Any) -> bool:
    """Arrays, and the shapes that `eqx.filter_eval_shape` leaves in their place."""
    return eqx.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)


def _name(path: tuple[Any, ...]) -> str:
    parts = []
    for entry in path:
        for attribute in ("name", "idx", "key"):
            if hasattr(entry, attribute):
                parts.append(str(getattr(entry, attribute)))
                break
    return ".".join(parts)


def named_arrays(model: Any) -> dict[str, Array]:
    """The arrays of `model` by name (`ups.0.weight_v`), in the order of its fields."""
    leaves = jax.tree_util.tree_leaves_with_path(eqx.filter(model, _is_weight))
    return {_name(path): leaf for path, leaf in leaves}


def count_parameters(model: Any) -> int:
    """How many numbers the arrays of `model` hold."""
    return sum(leaf.size for leaf in named_arrays(model).values())


def load_state(model: Model, arrays: Mapping[str, Any], where: str = "the given weights") -> Model:
    """`model` with every array replaced by the one of its name, cast to the model's dtype.

    Of the tensors of an archive, the constants of a program's code (`CONSTANTS.c0`) are left out: they are no weights.

    **Raises:** `CheckpointError` listing missing names (`-`), unused ones (`+`) and wrong shapes (`!`), the nearest
    names beside them, if there is any; nothing is loaded in part.
    """
    if isinstance(arrays, Tensors):
        arrays = arrays.weights()
    known = named_arrays(model)
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
    mismatches.refuse()
    names = iter(known)
    return jax.tree.map(lambda leaf: jnp.asarray(arrays[next(names)], leaf.dtype) if _is_weight(leaf) else leaf, model)

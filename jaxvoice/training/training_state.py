"""Training states: counters, skipped updates, the structure and names of arrays; and the precision of computation."""

from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float32, Inexact, Int32, PyTree

from jaxvoice.errors import TrainingError


class Counters(eqx.Module):
    """Numbers of steps, of skipped updates, and of the latest consecutive skipped updates."""

    step: Int32[Array, ""]
    skipped: Int32[Array, ""]
    skipped_in_a_row: Int32[Array, ""]

    @staticmethod
    def zero() -> "Counters":
        """The counters before the first step. They are separate arrays, so that each can be donated."""
        return Counters(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))


@runtime_checkable
class TrainingState(Protocol):
    """A training state, which is an Equinox pytree with `counters`."""

    @property
    def counters(self) -> Counters:
        """The numbers of steps and of skipped updates."""
        ...


_StateT = TypeVar("_StateT", bound=TrainingState)
_TreeT = TypeVar("_TreeT")
Precision = Literal["float32", "bfloat16"]
"""Precision of the networks' computation; parameters and losses stay float32."""


def all_finite(tree: PyTree) -> Bool[Array, ""]:
    """Whether all floating-point and complex arrays in `tree`, such as losses and gradients, are finite.

    An array whose sum exceeds float32 counts as infinite.
    """
    leaves = [_real(leaf) for leaf in jax.tree.leaves(tree) if eqx.is_inexact_array(leaf)]
    if not leaves:
        return jnp.array(True)
    # A sum is finite only if every term is. On a CPU, a sum is a library call, and `isfinite(leaf).all()` would be
    # three kernels to compile, a thousand in a step of HiFi-GAN.
    finite = jnp.isfinite(jnp.stack([jnp.sum(leaf) for leaf in leaves])).astype(jnp.float32)
    # XLA does not fuse a dot product into its consumers. It would repeat an `all` over these hundreds of flags in every
    # `where` of `guarded`, and compilation would take minutes.
    return jnp.dot(finite, jnp.ones_like(finite), precision=jax.lax.Precision.HIGHEST) == len(leaves)


def _real(leaf: Inexact[Array, "*shape"]) -> Float32[Array, "*shape"]:
    return (jnp.abs(leaf) if jnp.iscomplexobj(leaf) else leaf).astype(jnp.float32)


def array_names(tree: PyTree) -> list[str]:
    """The attribute path of every leaf of `tree`, such as `generator.ups.0.weight_v`, in flattening order."""
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]]
    return [jax.tree_util.keystr(path, simple=True, separator=".") for path in paths]


def guarded(finite: Bool[Array, ""], new: _StateT, old: _StateT) -> _StateT:
    """The state after a step: `new` if `finite`, otherwise `old`, with the counters of the next step.

    `counters.step` is the number of batches, so it increases in skipped updates too. A skipped update changes no other
    array, such as the counts of optimisers. The counters of `new` are ignored.
    """
    new_arrays, static = eqx.partition(new, eqx.is_array)
    old_arrays = eqx.filter(old, eqx.is_array)
    kept = eqx.combine(jax.tree.map(lambda a, b: jnp.where(finite, a, b), new_arrays, old_arrays), static)
    before, bad = old.counters, (~finite).astype(jnp.int32)
    after = Counters(before.step + 1, before.skipped + bad, (before.skipped_in_a_row + 1) * bad)
    return eqx.tree_at(lambda state: state.counters, kept, after)


class Skeleton:
    """The structure of a state without its arrays. It is computed once, because it takes milliseconds.

    `names` and `types` are the attribute paths, and the shapes and dtypes of the arrays.
    """

    def __init__(self, state: PyTree):
        arrays, self._static = eqx.partition(state, _is_array)
        self.names = array_names(arrays)
        leaves, self._structure = jax.tree.flatten(arrays)
        self.types = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]

    def flatten(self, state: PyTree) -> list[Any]:
        """The arrays of `state`, or their shapes.

        **Raises:** `TrainingError` for a state of another structure.
        """
        leaves, structure = jax.tree.flatten(eqx.filter(state, _is_array))
        if structure != self._structure:
            raise TrainingError(
                f"The task's step returned a state with the structure\n{structure}\nit should be that of its input,\n"
                f"{self._structure}\nA step may change arrays only."
            )
        return leaves

    def adopt(self, state: PyTree) -> list[Any]:
        """The arrays of `state` in the order of this structure. Static fields of `state` may differ.

        Arrays of weak type become those of their dtype, as checkpoints restore them: otherwise, a resumed run would
        compile another program than a new one.

        **Raises:** `TrainingError` if the names, shapes or types of the arrays differ.
        """
        arrays = eqx.filter(state, _is_array)
        found = dict(zip(array_names(arrays), jax.tree.leaves(arrays), strict=True))
        wanted = {name: (one.shape, one.dtype) for name, one in zip(self.names, self.types, strict=True)}
        types = {name: (leaf.shape, leaf.dtype) for name, leaf in found.items()}
        differing = [name for name in {**wanted, **types} if wanted.get(name) != types.get(name)]
        if differing:
            lines = [f"{name}: {_type_text(types.get(name))} != {_type_text(wanted.get(name))}" for name in differing]
            raise TrainingError(
                f"The initial state does not match the task in {len(lines)} arrays (state != task): "
                f"{'; '.join(lines[:5])}{'; ...' if len(lines) > 5 else ''}. Use a task with the state's configuration."
            )
        return [_without_weak_type(found[name]) for name in self.names]

    def build(self, leaves: list[Any]) -> Any:
        """The state with the arrays `leaves`."""
        return eqx.combine(jax.tree.unflatten(self._structure, leaves), self._static)


def _without_weak_type(leaf: Any) -> Any:
    return jax.lax.convert_element_type(leaf, leaf.dtype) if getattr(leaf, "weak_type", False) else leaf


def _type_text(of_array: tuple[tuple[int, ...], Any] | None) -> str:
    return "missing" if of_array is None else f"{of_array[1]}{list(of_array[0])}"


def _is_array(leaf: Any) -> bool:
    return eqx.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)


def to_compute(tree: _TreeT, precision: Precision) -> _TreeT:
    """Cast the float32 arrays of `tree`, such as a network and its inputs, to `precision`.

    Gradients through this cast are float32. On CPUs, bfloat16 is not faster, because XLA computes in float32.
    """
    return _cast(tree, jnp.float32, jnp.bfloat16) if precision == "bfloat16" else tree


def to_float32(tree: _TreeT) -> _TreeT:
    """Cast the bfloat16 arrays of `tree`, such as outputs of a network, to float32, for losses, mels and norms."""
    return _cast(tree, jnp.bfloat16, jnp.float32)


def _cast(tree: _TreeT, source: DTypeLike, target: DTypeLike) -> _TreeT:
    def cast(leaf):
        return leaf.astype(target) if eqx.is_array(leaf) and leaf.dtype == source else leaf

    return jax.tree.map(cast, tree)

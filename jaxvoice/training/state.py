"""What every training state carries beside its networks, and how a bad update is refused."""

from typing import Protocol, TypeVar, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float32, Inexact, Int32, PyTree


class Counters(eqx.Module):
    """How far training is: steps taken, updates skipped in all, and skipped since the last good one."""

    step: Int32[Array, ""]
    skipped: Int32[Array, ""]
    skipped_in_a_row: Int32[Array, ""]

    @staticmethod
    def zero() -> "Counters":
        """Counters of a run that has not begun (three arrays of their own, so that each can be donated)."""
        return Counters(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))


@runtime_checkable
class State(Protocol):
    """A training state: any Equinox pytree with `counters`."""

    @property
    def counters(self) -> Counters: ...


AnyState = TypeVar("AnyState", bound=State)


def all_finite(tree: PyTree) -> Bool[Array, ""]:
    """Whether every floating-point or complex array in `tree` (losses, gradients) is free of NaN and infinity.

    Numbers whose sum over an array is beyond float32 count as infinite.
    """
    leaves = [_real(leaf) for leaf in jax.tree.leaves(tree) if eqx.is_inexact_array(leaf)]
    if not leaves:
        return jnp.array(True)
    # A sum is finite where every term is, and on a CPU it is a call into a library, where `isfinite(leaf).all()` is
    # three kernels to compile: a thousand in a step of HiFi-GAN.
    finite = jnp.isfinite(jnp.stack([jnp.sum(leaf) for leaf in leaves])).astype(jnp.float32)
    # A dot product, because XLA does not fuse it into what depends on it: an `all` over these hundreds of flags is
    # repeated in every `where` that `guarded` makes, and compiling takes minutes.
    return jnp.dot(finite, jnp.ones_like(finite), precision=jax.lax.Precision.HIGHEST) == len(leaves)


def _real(leaf: Inexact[Array, "*shape"]) -> Float32[Array, "*shape"]:
    return (jnp.abs(leaf) if jnp.iscomplexobj(leaf) else leaf).astype(jnp.float32)


def array_names(tree: PyTree) -> list[str]:
    """The attribute path of every leaf of `tree`, such as `generator.ups.0.weight_v`, in flattening order."""
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]]
    return [jax.tree_util.keystr(path, simple=True, separator=".") for path in paths]


def guarded(finite: Bool[Array, ""], new: AnyState, old: AnyState) -> AnyState:
    """The state after a step: `new` where `finite`, else `old` untouched, with the counters moved on either way.

    `counters.step` counts batches seen and so advances on a skipped update too; everything else, optimiser schedules
    and random keys included, stays as it was. The counters of `new` are not looked at.
    """
    new_arrays, static = eqx.partition(new, eqx.is_array)
    old_arrays = eqx.filter(old, eqx.is_array)
    kept = eqx.combine(jax.tree.map(lambda a, b: jnp.where(finite, a, b), new_arrays, old_arrays), static)
    before, bad = old.counters, (~finite).astype(jnp.int32)
    after = Counters(before.step + 1, before.skipped + bad, (before.skipped_in_a_row + 1) * bad)
    return eqx.tree_at(lambda state: state.counters, kept, after)

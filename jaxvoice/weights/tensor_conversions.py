"""Conversions of tensors between checkpoints: layouts of elements, and forms of weight norm and spectral norm."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from jaxtyping import Float, Shaped

_SHORTEST = 2.0**-40  # of slices whose squares do not vanish in float32

Shape = tuple[int, ...]
Norm = Literal["weight", "spectral"]

SPELLINGS: dict[Norm, dict[str, tuple[str, ...]]] = {
    "weight": {
        "hooks": ("weight_g", "weight_v"),
        "parametrizations": ("parametrizations.weight.original0", "parametrizations.weight.original1"),
        "folded": ("weight",),
    },
    "spectral": {
        "hooks": ("weight_orig", "weight_u", "weight_v"),
        "parametrizations": (
            "parametrizations.weight.original",
            "parametrizations.weight.0._u",
            "parametrizations.weight.0._v",
        ),
    },
}
"""Names of the parts of a weight with a norm in torch: with `torch.nn.utils.weight_norm` and `spectral_norm` ("hooks"),
with `torch.nn.utils.parametrizations`, and after the norm was removed ("folded")."""


class Layout(Protocol):
    """A reversible rearrangement of the elements of a tensor."""

    def apply(self, array: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
        """The rearranged array; a view if possible."""
        ...

    def shape(self, shape: Shape) -> Shape | None:
        """The shape of the result; `None` if the layout does not apply to `shape`."""
        ...

    def inverse(self) -> "Layout":
        """The inverse layout."""
        ...


@dataclass(frozen=True)
class Transpose:
    """Axes in another order, as in `numpy.transpose`."""

    axes: tuple[int, ...]
    """For each axis of the result, its axis in the input."""

    def apply(self, array: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
        """`array` with its axes in the new order."""
        return array.transpose(self.axes)

    def shape(self, shape: Shape) -> Shape | None:
        """The sizes in the new order."""
        return tuple(shape[axis] for axis in self.axes) if len(shape) == len(self.axes) else None

    def inverse(self) -> "Transpose":
        """The inverse order."""
        return Transpose(tuple(int(axis) for axis in np.argsort(self.axes)))

    def __str__(self) -> str:
        return f"axes {self.axes}"


@dataclass(frozen=True)
class Reshape:
    """The same elements with another shape. One size of each shape may be -1."""

    before: tuple[int, ...]
    """Shape of the input."""
    after: tuple[int, ...]
    """Shape of the result."""

    def apply(self, array: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
        """`array` with the new shape."""
        return array.reshape(self.after)

    def shape(self, shape: Shape) -> Shape | None:
        """The new shape, with the size for -1."""
        fits = len(shape) == len(self.before)
        if not fits or any(want not in (-1, size) for want, size in zip(self.before, shape, strict=True)):
            return None
        known = math.prod(size for size in self.after if size != -1)
        rest = math.prod(shape) // known if known else 0
        filled = tuple(rest if size == -1 else size for size in self.after)
        return filled if math.prod(filled) == math.prod(shape) else None

    def inverse(self) -> "Reshape":
        """The inverse layout."""
        return Reshape(self.after, self.before)

    def __str__(self) -> str:
        return f"shape {self.before} to {self.after}"


@dataclass(frozen=True)
class AddAxis:
    """A new axis of size 1."""

    axis: int
    """Its index in the result."""

    def apply(self, array: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
        """`array` with an additional axis."""
        return np.expand_dims(array, self.axis)

    def shape(self, shape: Shape) -> Shape | None:
        """The shape with an additional 1."""
        return (*shape[: self.axis], 1, *shape[self.axis :]) if self.axis <= len(shape) else None

    def inverse(self) -> "DropAxis":
        """The inverse layout."""
        return DropAxis(self.axis)

    def __str__(self) -> str:
        return f"new axis {self.axis}"


@dataclass(frozen=True)
class DropAxis:
    """Removal of an axis of size 1."""

    axis: int
    """Its index in the input."""

    def apply(self, array: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
        """`array` without the axis."""
        return np.squeeze(array, self.axis)

    def shape(self, shape: Shape) -> Shape | None:
        """The shape without that axis; `None` if its size is not 1."""
        fits = self.axis < len(shape) and shape[self.axis] == 1
        return (*shape[: self.axis], *shape[self.axis + 1 :]) if fits else None

    def inverse(self) -> "AddAxis":
        """The inverse layout."""
        return AddAxis(self.axis)

    def __str__(self) -> str:
        return f"without axis {self.axis}"


def magnitude_of(v: Float[np.ndarray, "first *rest"]) -> Float[np.ndarray, "first *ones"]:
    """Euclidean norm over all axes except the first, computed in double precision. The reduced axes have length 1."""
    flat = v.reshape(len(v), -1)
    squares = np.einsum("ij,ij->i", flat, flat, dtype=np.float64, casting="unsafe")
    return np.sqrt(squares).astype(v.dtype).reshape(-1, *(1 for _ in v.shape[1:]))


def unfold_norm(weight: Float[np.ndarray, "..."]) -> list[Float[np.ndarray, "..."]]:
    """The parts `[g, v]` of weight norm for `weight`: its norms, and `weight` itself.

    Models divide by the norm of `v`, so slices of `v` whose squares would vanish in float32 are multiplied by a power
    of two, and slices of zeros are replaced by ones. Their `g` is unchanged, so that the product is `weight`.
    """
    norm = magnitude_of(weight)
    if (norm >= _SHORTEST).all():
        return [norm, weight]
    wide = norm.astype(np.float64)
    scale = np.where(wide >= _SHORTEST, 1.0, np.exp2(-np.frexp(wide)[1]))
    return [norm, np.where(norm == 0, 1.0, weight * scale).astype(weight.dtype)]


def fold_norm(g: Float[np.ndarray, "..."], v: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """`g * v / ||v||`; the exact inverse of `unfold_norm`.

    If `g` is bitwise equal to the norm of `v`, the result is `v`.
    """
    norm = magnitude_of(v)
    if np.array_equal(norm, g):
        return v
    return (v * (g.astype(np.float64) / norm)).astype(v.dtype)


def spelling_of(parts: Sequence[str], norm: Norm) -> str | None:
    """The form of `norm` of a layer with these tensors; `None` if no form is complete."""
    return next((name for name, names in SPELLINGS[norm].items() if set(names) <= set(parts)), None)

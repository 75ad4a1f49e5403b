"""Operations that bend weights and activations: masks, gains, noise, permutations, any function, mixtures.

An operation is a frozen dataclass, called as `operation(key, x, controls)`: a pure function of a key, an array and the
values of its controls. The result has the shape and dtype of `x`. A number of an operation may be a `Control`, whose
value is given at each call, and changes without a compilation.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

import jax
import numpy as np
from jax import numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Int, PRNGKeyArray, Shaped

from jaxvoice.config import check_field, check_types, format_value
from jaxvoice.dissect.controls import Control, Controls, Number, number_range, value_of
from jaxvoice.errors import ConfigError, ShapeError

_Function = TypeVar("_Function", bound=Callable[[Array], Array])


class Operation(Protocol):
    """A pure function of a key, an array and the values of controls."""

    def __call__(self, key: PRNGKeyArray, x: Shaped[Array, "*shape"], controls: Controls) -> Shaped[Array, "*shape"]:
        """The result has the shape and dtype of `x`."""
        ...


@dataclass(frozen=True)
class Scale:
    """Multiply by a number."""

    scale: Number = 1.0
    """The factor."""

    def __post_init__(self) -> None:
        check_types(self)

    def __call__(self, key: PRNGKeyArray, x: Shaped[Array, "*shape"], controls: Controls) -> Shaped[Array, "*shape"]:
        """`scale * x`."""
        return x * _like(value_of(self.scale, controls), x)


@dataclass(frozen=True)
class Bias:
    """Add a number."""

    bias: Number = 0.0
    """The number."""

    def __post_init__(self) -> None:
        check_types(self)

    def __call__(self, key: PRNGKeyArray, x: Shaped[Array, "*shape"], controls: Controls) -> Shaped[Array, "*shape"]:
        """`x + bias`."""
        return x + _like(value_of(self.bias, controls), x)


@dataclass(frozen=True)
class Affine:
    """Multiply by a number, and add another."""

    scale: Number = 1.0
    """The factor."""
    bias: Number = 0.0
    """The number that is added to the product."""

    def __post_init__(self) -> None:
        check_types(self)

    def __call__(self, key: PRNGKeyArray, x: Shaped[Array, "*shape"], controls: Controls) -> Shaped[Array, "*shape"]:
        """`scale * x + bias`."""
        return x * _like(value_of(self.scale, controls), x) + _like(value_of(self.bias, controls), x)


@dataclass(frozen=True)
class Mask:
    """Set random elements to zero. Masks of the same key are nested: one that keeps more keeps all of the others."""

    keep: Number = 0.5
    """The probability of keeping an element, in [0, 1]."""
    axes: tuple[int, ...] | None = (-1,)
    """The axes along which elements are chosen; others are kept or set to zero together. `None` for all axes.

    For activations whose length changes, as in streaming, leave out the axis of time, -2."""

    def __post_init__(self) -> None:
        check_types(self)
        _check_fraction(self, "keep")

    def __call__(self, key: PRNGKeyArray, x: Shaped[Array, "*shape"], controls: Controls) -> Shaped[Array, "*shape"]:
        """`x` where a random number is less than `keep`, otherwise 0."""
        drawn = jax.random.uniform(key, _shape_along(x, self.axes))
        return jnp.where(drawn < _like(value_of(self.keep, controls), drawn), x, jnp.zeros_like(x))


@dataclass(frozen=True)
class OrderedMask:
    """Set a number of random elements to zero, in a fixed random order: exactly the share `keep` is kept."""

    keep: Number = 0.5
    """The share of the elements that is kept, in [0, 1]; the number is rounded."""
    axes: tuple[int, ...] | None = (-1,)
    """As for `Mask`."""

    def __post_init__(self) -> None:
        check_types(self)
        _check_fraction(self, "keep")

    def __call__(self, key: PRNGKeyArray, x: Shaped[Array, "*shape"], controls: Controls) -> Shaped[Array, "*shape"]:
        """`x` where the rank in a random permutation is below the number of kept elements, otherwise 0."""
        shape = _shape_along(x, self.axes)
        ranks = jax.random.permutation(key, math.prod(shape)).reshape(shape)
        return _keep(x, ranks, value_of(self.keep, controls), math.prod(shape))


@dataclass(frozen=True)
class Threshold:
    """Keep the channels with the largest means, and set the others to zero."""

    keep: Number = 0.5
    """The share of the channels that is kept, in [0, 1]; the number is rounded."""
    axis: int = -1
    """The axis of channels; 0 for the output channels of weights."""
    over: tuple[int, ...] = (-2,)
    """The axes over which means are taken, time by default. Each example of a batch has its own channels. For the
    output channels of a kernel, use `(1, 2)`."""
    invert: bool = False
    """Whether the channels with the smallest means are kept."""

    def __post_init__(self) -> None:
        check_types(self)
        _check_fraction(self, "keep")

    def __call__(self, key: PRNGKeyArray, x: Shaped[Array, "*shape"], controls: Controls) -> Shaped[Array, "*shape"]:
        """`x` in the kept channels, otherwise 0."""
        axis, over = _axis(x, self.axis), tuple(_axis(x, a) for a in self.over)
        if axis in over:
            raise ShapeError(f"The axis of channels is {self.axis}; it should not be one of over, {self.over}.")
        means = jnp.mean(x, axis=over, keepdims=True)
        order = jnp.argsort(means if self.invert else -means, axis=axis)
        return _keep(x, jnp.argsort(order, axis=axis), value_of(self.keep, controls), x.shape[axis])


@dataclass(frozen=True)
class Channels:
    """Multiply each channel by a number of a list: a mask that is chosen by hand, such as a cluster."""

    factors: tuple[float, ...]
    """One number for each channel: 1 keeps it, and 0 removes it."""
    axis: int = -1
    """The axis of channels."""

    def __post_init__(self) -> None:
        # `check_types` limits the number of items.
        factors = self.factors
        valid = isinstance(factors, tuple) and all(type(f) in (int, float) and math.isfinite(f) for f in factors)
        check_field(self, "factors", valid and len(factors) > 0, "be a tuple of finite numbers, one for each channel")
        check_field(self, "axis", isinstance(self.axis, int), "be a whole number")

    def __call__(self, key: PRNGKeyArray, x: Shaped[Array, "*shape"], controls: Controls) -> Shaped[Array, "*shape"]:
        """The product of each channel and its factor.

        **Raises:** `ShapeError` for another number of channels.
        """
        axis = _axis(x, self.axis)
        if x.shape[axis] != len(self.factors):
            raise ShapeError(
                f"The mask has {len(self.factors)} factors; it should have {x.shape[axis]}, the length of axis "
                f"{self.axis} of an array of shape {x.shape}."
            )
        shape = [len(self.factors) if i == axis else 1 for i in range(x.ndim)]
        return x * jnp.asarray(self.factors, x.dtype).reshape(shape)


@dataclass(frozen=True)
class Noise:
    """Add normal random numbers, or multiply by them. The same numbers are drawn at each call."""

    std: Number = 1.0
    """The standard deviation of the numbers, at least 0. Their mean is 0."""
    how: Literal["add", "multiply"] = "add"
    """What is done with the numbers."""
    axes: tuple[int, ...] | None = (-1,)
    """The axes along which numbers are drawn; they are equal along others. `None` for all axes."""

    def __post_init__(self) -> None:
        check_types(self)
        check_field(self, "std", all(std is None or std >= 0 for std in number_range(self.std)), "be at least 0")

    def __call__(self, key: PRNGKeyArray, x: Shaped[Array, "*shape"], controls: Controls) -> Shaped[Array, "*shape"]:
        """`x + std * noise` or `x * std * noise`."""
        drawn = jax.random.normal(key, _shape_along(x, self.axes)).astype(x.dtype)
        drawn = drawn * _like(value_of(self.std, controls), x)
        return x + drawn if self.how == "add" else x * drawn


@dataclass(frozen=True)
class Permute:
    """Permute the elements of an axis at random."""

    axis: int = -1
    """The axis, by default that of channels."""

    def __post_init__(self) -> None:
        check_types(self)

    def __call__(self, key: PRNGKeyArray, x: Shaped[Array, "*shape"], controls: Controls) -> Shaped[Array, "*shape"]:
        """`x` with its elements in another order."""
        axis = _axis(x, self.axis)
        return jnp.take(x, jax.random.permutation(key, x.shape[axis]), axis=axis)


@dataclass(frozen=True)
class Apply:
    """Apply any function of an array. A function that `register_function` has named can be saved."""

    function: Callable[[Array], Array] | str
    """The function, or its registered name."""

    def __post_init__(self) -> None:
        if isinstance(self.function, str):
            find_function(self.function)
        elif not callable(self.function):
            raise ConfigError(
                f"Apply.function is {format_value(self.function)}; it should be a function, or a registered name."
            )

    def __call__(self, key: PRNGKeyArray, x: Shaped[Array, "*shape"], controls: Controls) -> Shaped[Array, "*shape"]:
        """`function(x)`."""
        return (find_function(self.function) if isinstance(self.function, str) else self.function)(x)


@dataclass(frozen=True)
class Mix:
    """Interpolate between the array and other arrays of its name: activations of other inputs, or other weights.

    The other arrays are given at each call, by the names of their sources.
    """

    sources: tuple[str, ...]
    """The names of the other arrays."""
    weights: tuple[Number, ...]
    """The weight of the array itself, and of each source. They are divided by their sum."""

    def __post_init__(self) -> None:
        check_types(self)
        check_field(self, "sources", bool(self.sources), "have a name")
        check_field(self, "weights", len(self.weights) == 1 + len(self.sources), "have a number for x and each source")
        valid = all(end is not None and end >= 0 for weight in self.weights for end in (number_range(weight)[0],))
        check_field(self, "weights", valid, "be numbers of at least 0, or controls with low=0 or more")

    def __call__(
        self, key: PRNGKeyArray, x: Shaped[Array, "*shape"], controls: Controls, others: Sequence[Array] = ()
    ) -> Shaped[Array, "*shape"]:
        """The weighted mean of `x` and `others`, the arrays of the sources."""
        return interpolate([x, *others], [value_of(weight, controls) for weight in self.weights])


OPERATIONS: Mapping[str, type] = {
    kind.__name__.lower(): kind
    for kind in (Scale, Bias, Affine, Mask, OrderedMask, Threshold, Channels, Noise, Permute, Apply, Mix)
}
"""The operations by the names that they have in files."""

_functions: dict[str, Callable[[Array], Array]] = {}


def register_function(name: str) -> Callable[[_Function], _Function]:
    """Decorate a function of an array to give it a name, by which files and `Apply` refer to it.

    **Raises:** `ConfigError` if another function has the name.
    """

    def register(function: _Function) -> _Function:
        if _functions.setdefault(name, function) is not function:
            raise ConfigError(f"The function {name!r} is already registered; use another name.")
        return function

    return register


def find_function(name: str) -> Callable[[Array], Array]:
    """The function that was registered with this name; raises `ConfigError` if there is none."""
    if name not in _functions:
        known = ", ".join(sorted(_functions)) or "none"
        raise ConfigError(
            f"The function {name!r} is not registered; the registered functions: {known}. Decorate it with "
            "register_function before the file is read."
        )
    return _functions[name]


def registered_name(function: Callable[[Array], Array]) -> str | None:
    """The name of a registered function; None for others."""
    return next((name for name, other in _functions.items() if other is function), None)


def interpolate(trees: Sequence[Any], weights: Sequence[Any]) -> Any:
    """The weighted mean of pytrees of one structure: versions of a model, or captured activations.

    **Arguments:** `trees`; `weights`: numbers or scalars, one for each; they are divided by their sum.

    **Returns:** a pytree whose floating arrays are weighted means. Other leaves are those of the first. If all weights
    are zero and traced by JAX, it is the first.

    **Raises:** `ConfigError` for another number of weights, for weights that are negative or not finite, or if all are
    zero; `ShapeError` for arrays of different shapes or names.
    """
    if len(trees) != len(weights) or not trees:
        raise ConfigError(f"There are {len(weights)} weights for {len(trees)} models; there should be one for each.")
    if not any(isinstance(weight, Tracer) for weight in weights):
        try:
            given = [float(weight) for weight in weights]
        except (TypeError, ValueError):
            raise ConfigError(f"The weights are {format_value(list(weights))}; they should be numbers.") from None
        if not all(math.isfinite(weight) and weight >= 0 for weight in given) or sum(given) <= 0:
            raise ConfigError(f"The weights are {given}; they should be at least 0, and one of them positive.")
    scalars = jnp.stack([jnp.asarray(weight, jnp.float32) for weight in weights])
    total = jnp.sum(scalars)
    # Weights that JAX traces may all be 0, which cannot be an error; the result is then the first.
    shares = jnp.where(total > 0, scalars / jnp.where(total > 0, total, 1), jnp.eye(len(trees))[0])
    structures = [jax.tree.structure(tree) for tree in trees]
    if any(structure != structures[0] for structure in structures):
        raise ShapeError("The models have different structures; they should have the same arrays and names.")

    def mean(path: Any, *leaves: Any) -> Any:
        shapes = [np.shape(leaf) for leaf in leaves if isinstance(leaf, jax.Array | np.ndarray)]
        if len(set(shapes)) > 1:
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            raise ShapeError(f"The shapes of {name or 'the arrays'} are {shapes}; they should be equal.")
        first = leaves[0]
        if not shapes or not jnp.issubdtype(first.dtype, jnp.floating):
            return first
        terms = [share.astype(first.dtype) * leaf for share, leaf in zip(shares, leaves, strict=True)]
        return sum(terms[1:], terms[0])

    return jax.tree_util.tree_map_with_path(mean, *trees)


def _like(number: Any, x: Array) -> Array:
    """`number` as a scalar of the dtype of `x`, of rank 0."""
    scalar = jnp.asarray(number, x.dtype) if not isinstance(number, Tracer) else number.astype(x.dtype)
    return scalar.reshape((1,) * x.ndim)


def _axis(x: Array, axis: int) -> int:
    """`axis` counted from the front; raises `ShapeError` if `x` does not have it."""
    if not -x.ndim <= axis < x.ndim:
        raise ShapeError(f"The axis is {axis}; it should be an axis of an array of shape {x.shape}.")
    return axis % x.ndim


def _shape_along(x: Array, axes: tuple[int, ...] | None) -> tuple[int, ...]:
    """The shape of `x` with length 1 along all axes but `axes`."""
    if axes is None:
        return x.shape
    chosen = {_axis(x, axis) for axis in axes}
    return tuple(length if i in chosen else 1 for i, length in enumerate(x.shape))


def _keep(x: Array, ranks: Int[Array, "..."], keep: Any, count: int) -> Array:
    """`x` where `ranks` is below the share `keep` of `count`, otherwise 0."""
    limit = jnp.round(jnp.asarray(keep, jnp.float32) * count)
    return jnp.where(ranks.astype(jnp.float32) < limit.reshape((1,) * x.ndim), x, jnp.zeros_like(x))


def _check_fraction(operation: Any, name: str) -> None:
    number = getattr(operation, name)
    ends = number_range(number)
    valid = all(end is not None and 0 <= end <= 1 for end in ends)
    hint = "Give the control low=0 and high=1" if isinstance(number, Control) else ""
    check_field(operation, name, valid, "be in [0, 1]", hint)

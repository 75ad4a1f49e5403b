"""The table of operators: from the name that the text of an archive writes to the JAX function that computes it."""

import functools as ft
import inspect
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import numpy as np

from jaxvoice.errors import ConfigError
from jaxvoice.torchscript.dtypes import is_inexact
from jaxvoice.torchscript.tensors import Refused, Tensor

Implementation = TypeVar("Implementation", bound=Callable[..., Any])
NewKey = Callable[[], jax.Array]
IGNORED = frozenset({"device", "layout", "pin_memory", "memory_format", "non_blocking", "generator"})
"""Keywords of devices and memory layouts, which have no meaning in JAX."""


@dataclass(frozen=True)
class Operator:
    """An operator of the code text."""

    name: str
    """As the code text calls it, `torch.add` or `ops.prim.dtype`."""
    call: Callable[..., Any]
    """The function that computes it."""
    on_tensors: bool
    """Whether the function takes `Tensor`s, because it makes views or changes elements, and not arrays."""
    signature: inspect.Signature
    """The arguments that the function accepts."""
    random: bool
    """Whether the function takes a `key`."""
    plain: bool = False
    """Whether the function computes with Python's values alone."""

    def accepts(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether the function takes these arguments; it may not implement every overload of torch."""
        try:
            self.signature.bind(*args, **kwargs, **({"key": None} if self.random else {}))
        except TypeError:
            return False
        return True

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any], new_key: NewKey) -> Any:
        if self.random:
            kwargs = kwargs | {"key": new_key()}
        if self.plain:
            return self.call(*args, **kwargs)
        tensors = tensors_in([*args, *kwargs.values()])
        # Operators on known values are computed at once, also while an outer function is traced.
        known = bool(tensors) and all(tensor.known for tensor in tensors)
        with jax.ensure_compile_time_eval() if known else nullcontext():
            if self.on_tensors:
                return self.call(*args, **kwargs)
            args, kwargs = arrays_of(list(args)), {name: arrays_of(value) for name, value in kwargs.items()}
            return tensors_of(self.call(*args, **kwargs))


_OPERATORS: dict[str, Operator] = {}
_ON_VALUES: dict[str, Operator] = {}
_ON_CONTAINERS: dict[str, Operator] = {}


def register_operator(*names: str, replace: bool = False) -> Callable[[Implementation], Implementation]:
    """Add an operator to the interpreter: a decorator for the JAX function that computes it.

        @register_operator("ops.mylib.gate")
        def gate(x, slope=0.5):
            return jnp.where(x > 0, x, slope * x)

    **Arguments:** `names` as the code text has them (`torch.erfinv`, `ops.mylib.gate`); `replace` to register a name
    again. The function takes arrays for tensors, in lists too, and Python values for all else, by position and by
    torch's keywords, and returns an array or a tuple of arrays. A keyword-only parameter `key` takes a random key.

    The in-place form (`torch.erfinv_`) follows from the operator, unless it draws random numbers. A function under a
    name that ends in `_` returns the new elements of its first argument. The operators on numbers, text, lists and
    dicts cannot be replaced; a function under a name of one of these is for tensors only.

    **Raises:** `ConfigError` for a name that is known already, without `replace`.
    """
    return _registering(names, on_tensors=False, replace=replace)


def on_tensors(*names: str) -> Callable[[Implementation], Implementation]:
    """The same for a function that takes and returns `Tensor`s: views, and what changes its arguments."""
    return _registering(names, on_tensors=True, replace=False)


def _registering(
    names: tuple[str, ...], *, on_tensors: bool, replace: bool
) -> Callable[[Implementation], Implementation]:
    def register(implementation: Implementation) -> Implementation:
        signature = inspect.signature(implementation)
        parameter = signature.parameters.get("key")
        random = parameter is not None and parameter.kind is inspect.Parameter.KEYWORD_ONLY
        for name in names:
            if name in _OPERATORS and not replace:
                raise ConfigError(f"the operator {name} is known already; pass replace=True to replace it.")
            made = Operator(name, implementation, on_tensors, signature, random)
            _OPERATORS[name] = _in_place(name, made) if _is_in_place(name) and not on_tensors else made
        return implementation

    return register


def _adding(table: dict[str, Operator]) -> Callable[..., Callable[[Implementation], Implementation]]:
    def register(*names: str) -> Callable[[Implementation], Implementation]:
        def add(implementation: Implementation) -> Implementation:
            for name in names:
                table[name] = Operator(name, implementation, True, inspect.signature(implementation), False, True)
            return implementation

        return add

    return register


on_values = _adding(_ON_VALUES)
"""A decorator for what operators compute where none of their arguments is a tensor."""
on_containers = _adding(_ON_CONTAINERS)
"""A decorator for what operators compute where their first argument is a list, a tuple, a dict or text."""


def find_operator(name: str, args: tuple[Any, ...] = ()) -> Operator | None:
    """The operator called `name` for `args`, or None.

    In-place operators (`torch.add_`) follow from those that return a new tensor, except random ones, whose two forms
    take different arguments in torch.
    """
    if name in _ON_CONTAINERS and args and isinstance(args[0], (list, tuple, dict, str)):
        return _ON_CONTAINERS[name]
    if name in _ON_VALUES and not tensors_in(list(args)):
        return _ON_VALUES[name]
    if name in _OPERATORS:
        return _OPERATORS[name]
    if _is_in_place(name):
        plain = _OPERATORS.get(name[:-1])
        if plain is not None and not plain.on_tensors and not plain.random:
            return _in_place(name, plain)
    return None


def operator_names() -> list[str]:
    """Names of all operators, sorted, without the in-place ones that follow from others."""
    return sorted(_OPERATORS | _ON_VALUES | _ON_CONTAINERS)


def _is_in_place(name: str) -> bool:
    return name.endswith("_") and not name.endswith("__")


def _in_place(name: str, plain: Operator) -> Operator:
    """The operator that writes the result of `plain` into its first argument."""
    return Operator(name, ft.partial(_assign, plain), True, plain.signature, plain.random)


def _assign(plain: Operator, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    rest = arrays_of(list(args))
    new = plain.call(x.values, *rest, **{name: arrays_of(value) for name, value in kwargs.items()})
    if is_inexact(new.dtype) and not is_inexact(x.dtype):
        raise Refused(f"an in-place operator would put {new.dtype} into a tensor of {x.dtype}")
    x.assign(new)
    return x


def arrays_of(value: Any) -> Any:
    """`value` with arrays in the place of tensors, in lists and tuples too."""
    if isinstance(value, Tensor):
        return value.values
    if isinstance(value, (list, tuple)):
        return [arrays_of(item) for item in value]
    return value


def tensors_of(value: Any) -> Any:
    """`value` with new tensors in the place of arrays, in lists and tuples too."""
    if isinstance(value, (jax.Array, np.ndarray)):
        return Tensor(value)
    if isinstance(value, list):
        return [tensors_of(item) for item in value]
    return tuple(tensors_of(item) for item in value) if isinstance(value, tuple) else value


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors of `value`, in lists and tuples too."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in tensors_in(item)]
    return []


def items_in(values: Iterable[Any], most: int) -> int:
    """The number of items of the lists, tuples and dicts of `values`, nested ones included; text counts its length.

    Counting ends above `most`, because nested lists may share their items and hold more of them than fit in memory.
    """
    count, pending = 0, list(values)
    while pending and count <= most:
        value = pending.pop()
        if isinstance(value, str):
            count += len(value)
        elif isinstance(value, (list, tuple, dict)):
            count += len(value)
            parts = [*value, *value.values()] if isinstance(value, dict) else value
            pending += [part for part in parts if isinstance(part, (list, tuple, dict, str))]
    return count

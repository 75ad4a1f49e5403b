"""The registry of operators: it maps names in the code of archives to JAX functions."""

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
from jaxvoice.torchscript.tensors import OperatorError, Tensor

Implementation = TypeVar("Implementation", bound=Callable[..., Any])
NewKey = Callable[[], jax.Array]
IGNORED = frozenset({"device", "layout", "pin_memory", "memory_format", "non_blocking", "generator"})
"""Keywords for devices and memory layouts, which are ignored."""


@dataclass(frozen=True)
class Operator:
    """An operator in the code of archives."""

    name: str
    """Its name in the code, such as `torch.add` or `ops.prim.dtype`."""
    call: Callable[..., Any]
    """The function that computes it."""
    on_tensors: bool
    """Whether the function takes `Tensor`s instead of arrays, because it returns views or changes elements."""
    signature: inspect.Signature
    """The arguments that the function accepts."""
    random: bool
    """Whether the function takes a `key`."""
    plain: bool = False
    """Whether the function takes Python values only."""

    def accepts(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether the function accepts these arguments; it may not implement every overload of torch."""
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
        tensors = find_tensors([*args, *kwargs.values()])
        # Operators on known values are evaluated immediately, also while an outer function is traced.
        known = bool(tensors) and all(tensor.known for tensor in tensors)
        with jax.ensure_compile_time_eval() if known else nullcontext():
            if self.on_tensors:
                return self.call(*args, **kwargs)
            args, kwargs = to_arrays(list(args)), {name: to_arrays(value) for name, value in kwargs.items()}
            return to_tensors(self.call(*args, **kwargs))


_OPERATORS: dict[str, Operator] = {}
_ON_VALUES: dict[str, Operator] = {}
_ON_CONTAINERS: dict[str, Operator] = {}


def register_operator(*names: str, replace: bool = False) -> Callable[[Implementation], Implementation]:
    """Register an operator: a decorator for the JAX function that computes it.

        @register_operator("ops.mylib.gate")
        def gate(x, slope=0.5):
            return jnp.where(x > 0, x, slope * x)

    **Arguments:** `names`: the names of the operator in code of archives (`torch.erfinv`, `ops.mylib.gate`);
    `replace`: whether to replace a registered operator.

    Tensors are passed to the function as arrays, also in lists, and other arguments as Python values, by position and
    by torch's keywords. The function returns an array or a tuple of arrays. If it has a keyword-only parameter `key`,
    it receives a random key.

    The in-place operator (`torch.erfinv_`) is derived from the operator, unless it draws random numbers. A function
    that is registered with a name ending in `_` returns the new elements of its first argument. The operators on
    numbers, text, lists and dicts cannot be replaced; a function with the name of one of them is used for tensors only.

    **Raises:** `ConfigError` for a registered name without `replace`.
    """
    return _decorator(names, on_tensors=False, replace=replace)


def on_tensors(*names: str) -> Callable[[Implementation], Implementation]:
    """Register a function that takes and returns `Tensor`s: views and in-place operators."""
    return _decorator(names, on_tensors=True, replace=False)


def _decorator(
    names: tuple[str, ...], *, on_tensors: bool, replace: bool
) -> Callable[[Implementation], Implementation]:
    def register(implementation: Implementation) -> Implementation:
        signature = inspect.signature(implementation)
        parameter = signature.parameters.get("key")
        random = parameter is not None and parameter.kind is inspect.Parameter.KEYWORD_ONLY
        for name in names:
            if name in _OPERATORS and not replace:
                raise ConfigError(f"the operator {name} is already registered; pass replace=True to replace it.")
            made = Operator(name, implementation, on_tensors, signature, random)
            _OPERATORS[name] = _in_place(name, made) if _is_in_place(name) and not on_tensors else made
        return implementation

    return register


def _table_decorator(table: dict[str, Operator]) -> Callable[..., Callable[[Implementation], Implementation]]:
    def register(*names: str) -> Callable[[Implementation], Implementation]:
        def add(implementation: Implementation) -> Implementation:
            for name in names:
                table[name] = Operator(name, implementation, True, inspect.signature(implementation), False, True)
            return implementation

        return add

    return register


on_values = _table_decorator(_ON_VALUES)
"""A decorator for implementations of operators without tensors among their arguments."""
on_containers = _table_decorator(_ON_CONTAINERS)
"""A decorator for implementations of operators whose first argument is a list, a tuple, a dict or text."""


def find_operator(name: str, args: tuple[Any, ...] = ()) -> Operator | None:
    """The operator `name` for the arguments `args`, or None.

    In-place operators (`torch.add_`) are derived from those that return a new tensor. Random operators are an
    exception, since their in-place forms have other arguments in torch.
    """
    if name in _ON_CONTAINERS and args and isinstance(args[0], (list, tuple, dict, str)):
        return _ON_CONTAINERS[name]
    if name in _ON_VALUES and not find_tensors(list(args)):
        return _ON_VALUES[name]
    if name in _OPERATORS:
        return _OPERATORS[name]
    if _is_in_place(name):
        plain = _OPERATORS.get(name[:-1])
        if plain is not None and not plain.on_tensors and not plain.random:
            return _in_place(name, plain)
    return None


def operator_names() -> list[str]:
    """Sorted names of all operators, without in-place operators that are derived from others."""
    return sorted(_OPERATORS | _ON_VALUES | _ON_CONTAINERS)


def _is_in_place(name: str) -> bool:
    return name.endswith("_") and not name.endswith("__")


def _in_place(name: str, plain: Operator) -> Operator:
    """The operator that writes the result of `plain` into its first argument."""
    return Operator(name, ft.partial(_assign, plain), True, plain.signature, plain.random)


def _assign(plain: Operator, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    rest = to_arrays(list(args))
    new = plain.call(x.values, *rest, **{name: to_arrays(value) for name, value in kwargs.items()})
    if is_inexact(new.dtype) and not is_inexact(x.dtype):
        raise OperatorError(f"an in-place operator would assign {new.dtype} to a tensor of {x.dtype}")
    x.assign(new)
    return x


def to_arrays(value: Any) -> Any:
    """Replace tensors by arrays in `value` and its lists and tuples."""
    if isinstance(value, Tensor):
        return value.values
    if isinstance(value, (list, tuple)):
        return [to_arrays(item) for item in value]
    return value


def to_tensors(value: Any) -> Any:
    """Replace arrays by new tensors in `value` and its lists and tuples."""
    if isinstance(value, (jax.Array, np.ndarray)):
        return Tensor(value)
    if isinstance(value, list):
        return [to_tensors(item) for item in value]
    return tuple(to_tensors(item) for item in value) if isinstance(value, tuple) else value


def find_tensors(value: Any) -> list[Tensor]:
    """The tensors in `value` and its lists and tuples."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in find_tensors(item)]
    return []


def count_items(values: Iterable[Any], most: int) -> int:
    """The number of items in the lists, tuples and dicts of `values`, including nested ones, and of characters of text.

    Counting stops above `most`, because nested lists may share items and contain more of them than fit in memory.
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

"""The base class of every layer and network: an Equinox module whose results can be named."""

import functools as ft
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Concatenate, NamedTuple, ParamSpec, TypeVar

import equinox as eqx
import jax
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import AxisType, NamedSharding

from jaxvoice.errors import ConfigError

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")
_Self = TypeVar("_Self", bound="Module")


class Module(eqx.Module):
    """An `equinox.Module` whose results `jaxvoice.dissect` can capture.

    A call runs in a `jax.named_scope` with the module's attribute path, which profiles show. If `path` is set, every
    array that the call returns also passes through `jax.ad_checkpoint.checkpoint_name`, which is the identity;
    `jaxvoice.dissect.capture` finds the array by this name. `path` is part of the tree structure. It is `None` in every
    model that is trained, saved or loaded; `jaxvoice.dissect.tag` sets it in a copy.

    Subclasses define `__call__`. Other methods that map inputs to outputs (`encode`, `decode`, `step`) are decorated
    with `operation`; their results are named `<path>.<method>`.
    """

    no_streaming_form: ClassVar[str] = (
        "it does not define one. Stream its layers, if each output position depends on a limited number of later input "
        "positions."
    )
    """Why `streaming_form` raises an error."""

    path: str | None = eqx.field(static=True, default=None, kw_only=True)

    def streaming_form(self, start: int, *state: Any) -> Any:
        """The `StreamingForm` of the layer, which computes a long signal block by block; see `jaxvoice.nn.Stream`.

        **Arguments:** `start`, the number of the first position of the stream; `state`, the state of a layer that takes
        one.

        **Raises:** `ConfigError` for a layer that cannot be computed block by block.
        """
        raise ConfigError(f"A {type(self).__name__} has no streaming form: {self.no_streaming_form}")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__call__" in vars(cls):
            cls.__call__ = _named(vars(cls)["__call__"], "")

    def __check_init__(self) -> None:
        # Without this, an `__init__` that does not set `path` would give another tree structure than a model whose
        # path was set and removed.
        if "path" not in vars(self):
            object.__setattr__(self, "path", None)


def operation(
    method: Callable[Concatenate[_Self, _Parameters], _Result],
) -> Callable[Concatenate[_Self, _Parameters], _Result]:
    """Decorate a method of a `Module`. As in a call, its operations get a scope and its results a name."""
    return _named(method, f".{method.__name__}")


def submodules(module: Any) -> Iterator[tuple[str, "Module"]]:
    """Yield every `Module` inside the pytree `module` with its dotted attribute path, parents first.

    `module` itself is not included.
    """
    for name, value in _children(module):
        if isinstance(value, Module):
            yield name, value
        for path, submodule in submodules(value):
            yield f"{name}.{path}", submodule


def _children(node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, eqx.Module):
        items = vars(node).items()
    elif isinstance(node, dict):
        items = node.items()
    elif isinstance(node, list | tuple):
        items = enumerate(node)
    else:
        return
    for name, value in items:
        if isinstance(value, eqx.Module | dict | list | tuple):
            yield str(name), value


def _named(
    method: Callable[Concatenate[_Self, _Parameters], _Result], suffix: str
) -> Callable[Concatenate[_Self, _Parameters], _Result]:
    @ft.wraps(method)
    def call(self: _Self, /, *args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        if not _calls.stack:
            _check_sharding((self, args, kwargs))
        elif _calls.stack[-1].module is self and _calls.stack[-1].suffix == suffix:
            return method(self, *args, **kwargs)  # a method of a base class, called by the method that overrides it
        with _scope(self, suffix):
            result = method(self, *args, **kwargs)
        return result if self.path is None else _with_names(result, self.path + suffix, type(self).__name__)

    return call


def _with_names(result: _Result, name: str, class_name: str) -> _Result:
    """`result` with its arrays named: `name` for a single array, otherwise `name` and the array's path in `result`.

    The scope of the names ends with the class, which the tables of `jaxvoice.dissect` show.
    """

    def named(path: tuple[Any, ...], leaf: Any) -> Any:
        keys = (jax.tree_util.keystr((key,), simple=True) for key in path)
        return checkpoint_name(leaf, name + "".join(f"[{key}]" for key in keys)) if eqx.is_array(leaf) else leaf

    with jax.named_scope(f"{class_name}()"):
        return jax.tree_util.tree_map_with_path(named, result)


def _check_sharding(tree: Any) -> None:
    """Raise `ConfigError` for an array in `tree` that is split over an axis of explicit sharding.

    With explicit sharding, JAX requires an output sharding for every product and convolution, also in gradients.
    """
    for x in jax.tree.leaves(tree):
        sharding = jax.typeof(x).sharding if eqx.is_array(x) else None
        if not isinstance(sharding, NamedSharding):
            continue
        axis_types = dict(zip(sharding.mesh.axis_names, sharding.mesh.axis_types, strict=True))
        for axis in jax.tree.leaves(tuple(sharding.spec)):
            if axis_types.get(axis) == AxisType.Explicit:
                raise ConfigError(
                    f"The mesh axis {axis!r}, over which an array of shape {x.shape} is split, is Explicit; it should "
                    "be Auto. Create the mesh with jax.make_mesh(..., axis_types=(jax.sharding.AxisType.Auto,)), one "
                    "AxisType for each axis, or with jaxvoice.training.parallel.data_mesh()."
                )


class _Call(NamedTuple):
    module: "Module"
    suffix: str


class _Calls(threading.local):
    """The calls in progress in this thread, innermost last."""

    def __init__(self) -> None:
        self.stack: list[_Call] = []


_calls = _Calls()


@contextmanager
def _scope(module: Module, suffix: str) -> Iterator[None]:
    """The named scope of a call: the path of the called module relative to the calling module.

    Transformations such as `eqx.filter_jit` and `jax.lax.scan` call a copy of the module, which is not an attribute of
    the caller. The scope of such a copy, and of a module that no other module calls, is its path if it is tagged,
    otherwise its class.
    """
    name = (module.path or type(module).__name__) + suffix
    if _calls.stack:
        caller = _calls.stack[-1].module
        if caller is module:
            name = suffix.removeprefix(".")
        else:
            name = next((path + suffix for path, found in submodules(caller) if found is module), name)
    _calls.stack.append(_Call(module, suffix))
    try:
        with jax.named_scope(name or type(module).__name__):
            yield
    finally:
        _calls.stack.pop()

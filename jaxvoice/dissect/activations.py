"""What every layer of a model puts out, by the layer's name."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import equinox as eqx
import jax
from jaxtyping import Array, Shaped

Model = TypeVar("Model", bound=eqx.Module)

# How models of this library call their layers, and which of the ways have channels in the last axis.
_METHODS = {"__call__": False, "time_major": True, "columns_major": True}

# Tables of this kind keep their order under transformations; JAX sorts the keys of others.
Outputs = OrderedDict[str, Shaped[Array, "..."]]


def record(model: Model, run: Callable[[Model], Any]) -> tuple[Any, Outputs]:
    """`run(model)`, and what each submodule of `model` put out meanwhile.

    **Arguments:** `run` calls the model in any way, under `jax.jit` too as long as it does not transform it within.

    **Returns:** what `run` returns, and the outputs by the submodule's path (`resblocks.3.convs1.0`), in the order in
    which the calls ended; a second call of a submodule is `path#2`. Outputs of calls with channels last are turned to
    channels first: `(..., channels, time)`. Only arrays are recorded, not tuples or other structures.
    """
    outputs: Outputs = OrderedDict()
    return run(_with_recorders(model, "", outputs)), outputs


class _Recorder:
    """Stands in the place of a layer, calls it and keeps what it returns."""

    def __init__(self, layer: Any, path: str, outputs: Outputs):
        self._layer, self._path, self._outputs = layer, path, outputs

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._layer, name)
        if name not in _METHODS:
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            result = found(*args, **kwargs)
            if isinstance(result, jax.Array):
                self._keep(result.swapaxes(-1, -2) if _METHODS[name] and result.ndim > 1 else result)
            return result

        return call

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__getattr__("__call__")(*args, **kwargs)

    def _keep(self, result: Array) -> None:
        name, calls = self._path, 1
        while name in self._outputs:
            calls += 1
            name = f"{self._path}#{calls}"
        self._outputs[name] = result


def _with_recorders(model: Any, path: str, outputs: Outputs) -> Any:
    for name, find in _children(model):
        below = f"{path}.{name}" if path else name
        child = _with_recorders(find(model), below, outputs)
        model = eqx.tree_at(find, model, _Recorder(child, below, outputs), is_leaf=lambda leaf: leaf is None)
    return model


def _children(model: Any) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    """Submodules one step below `model`, also those in lists, tuples and dictionaries, and how to get at each."""
    for field in vars(model):
        yield from _modules_in(vars(model)[field], field, lambda node, field=field: getattr(node, field))


def _modules_in(value: Any, name: str, find: Callable[[Any], Any]) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    if isinstance(value, eqx.Module):
        yield name, find
    elif isinstance(value, list | tuple | dict):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from _modules_in(value[key], f"{name}.{key}", lambda node, key=key: find(node)[key])

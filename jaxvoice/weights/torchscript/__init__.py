"""TorchScript archives understood: their code text parsed, never executed, and interpreted as JAX.

`function` is imported when asked for, since it needs jax and nothing else here does.
"""

from typing import TYPE_CHECKING, Any

from jaxvoice.weights.torchscript.code import ClassCode as ClassCode, Code as Code, parse_code as parse_code

if TYPE_CHECKING:
    from jaxvoice.weights.torchscript.interpreter import Function as Function, function as function
    from jaxvoice.weights.torchscript.operators import register_operator as register_operator

_LAZY = {"Function": "interpreter", "function": "interpreter", "register_operator": "operators"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)

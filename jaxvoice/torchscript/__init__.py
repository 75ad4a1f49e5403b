"""TorchScript archives: their code is parsed without executing it, and run as JAX functions.

Only `function`, `Function`, `State` and `register_operator` import jax.
"""

from typing import TYPE_CHECKING

from jaxvoice._lazy import lazy_imports

if TYPE_CHECKING:
    from jaxvoice.torchscript.code import ClassCode as ClassCode, Code as Code, parse_code as parse_code
    from jaxvoice.torchscript.functions import Function as Function, function as function
    from jaxvoice.torchscript.layers import Layer as Layer, read_layers as read_layers
    from jaxvoice.torchscript.operators import register_operator as register_operator
    from jaxvoice.torchscript.printer import module_code as module_code
    from jaxvoice.torchscript.state import State as State

__getattr__, __dir__ = lazy_imports(
    __name__,
    globals(),
    {
        "code": ("ClassCode", "Code", "parse_code"),
        "functions": ("Function", "function"),
        "layers": ("Layer", "read_layers"),
        "printer": ("module_code",),
        "state": ("State",),
        "operators": ("register_operator",),
    },
)

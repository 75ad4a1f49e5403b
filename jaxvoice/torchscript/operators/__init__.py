"""TorchScript's operators in JAX, one module per topic, and the registry of their names."""

from jaxvoice.torchscript.operators import (  # noqa: F401
    arithmetic,
    attention,
    convolution,
    creation,
    elementwise,
    indexing,
    normalization,
    pooling,
    properties,
    recurrent,
    reductions,
    spectral,
    values,
    views,
)
from jaxvoice.torchscript.operators.registry import (
    Operator as Operator,
    find_operator as find_operator,
    operator_names as operator_names,
    register_operator as register_operator,
)

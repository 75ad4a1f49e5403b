"""The operators of TorchScript in JAX, one file for each theme, and the table that finds them."""

from jaxvoice.weights.torchscript.operators import (  # noqa: F401
    activations,
    arithmetic,
    assignment,
    attention,
    convolution,
    creation,
    elements,
    functions,
    indexing,
    joining,
    linear,
    normalization,
    padding,
    pooling,
    random,
    recurrent,
    reductions,
    resampling,
    spectral,
    values,
    views,
)
from jaxvoice.weights.torchscript.operators.registry import (
    Operator as Operator,
    find_operator as find_operator,
    operator_names as operator_names,
    register_operator as register_operator,
)

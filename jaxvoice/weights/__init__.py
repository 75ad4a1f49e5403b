"""Reading and writing weights: names, strict loading, safetensors, model folders. No knowledge of any model."""

from typing import TYPE_CHECKING

from jaxvoice._lazy import lazily

if TYPE_CHECKING:
    from jaxvoice.weights.folder import read_model_folder as read_model_folder, write_model_folder as write_model_folder
    from jaxvoice.weights.names import (
        count_parameters as count_parameters,
        load_state as load_state,
        named_arrays as named_arrays,
    )

__getattr__, __dir__ = lazily(
    __name__,
    globals(),
    {
        "folder": ("read_model_folder", "write_model_folder"),
        "names": ("count_parameters", "load_state", "named_arrays"),
    },
)

"""Reading, conversion and writing of weights. This package is independent of the models."""

from typing import TYPE_CHECKING

from jaxvoice._lazy import lazy_imports

if TYPE_CHECKING:
    from jaxvoice.weights.archive import (
        Archive as Archive,
        ModuleNode as ModuleNode,
        Source as Source,
        TensorInfo as TensorInfo,
        Tensors as Tensors,
    )
    from jaxvoice.weights.array_names import (
        count_parameters as count_parameters,
        load_state as load_state,
        named_arrays as named_arrays,
    )
    from jaxvoice.weights.distances import compare_arrays as compare_arrays, distance as distance
    from jaxvoice.weights.file_writing import write_torch as write_torch
    from jaxvoice.weights.formats import (
        PickleArchive as PickleArchive,
        TorchScriptArchive as TorchScriptArchive,
        open_archive as open_archive,
    )
    from jaxvoice.weights.model_folder import (
        read_model_folder as read_model_folder,
        write_model_folder as write_model_folder,
    )

__getattr__, __dir__ = lazy_imports(
    __name__,
    globals(),
    {
        "archive": ("Archive", "ModuleNode", "Source", "TensorInfo", "Tensors"),
        "distances": ("compare_arrays", "distance"),
        "model_folder": ("read_model_folder", "write_model_folder"),
        "array_names": ("count_parameters", "load_state", "named_arrays"),
        "formats": ("PickleArchive", "TorchScriptArchive", "open_archive"),
        "file_writing": ("write_torch",),
    },
)

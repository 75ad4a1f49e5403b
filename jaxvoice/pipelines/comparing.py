"""Comparison of two models: their weights, and the outputs of their layers for the same input."""

import zipfile
import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from jaxvoice.console import printable
from jaxvoice.errors import CheckpointError, JaxvoiceError, ShapeError
from jaxvoice.models.family import contract_differences
from jaxvoice.pipelines.compared_models import ComparedModel, Recorded
from jaxvoice.weights.archive import Tensors
from jaxvoice.weights.distances import Difference, Distance, common_prefixes, compare_arrays, distance
from jaxvoice.weights.mismatches import format_name

_TOLERANCE = 1e-4  # exceeds the rounding errors of float32


@dataclass(frozen=True)
class LayerDifference:
    """The difference between the outputs of one layer of two models."""

    name: str
    """Its path, without the prefixes that only one of them has."""
    shape: tuple[int, ...]
    """Shape of its output, without leading axes of size 1."""
    distance: Distance
    """Distance between the outputs."""


@dataclass(frozen=True)
class Comparison:
    """The result of `compare`."""

    labels: tuple[str, str]
    """Descriptions of A and B."""
    weights: list[Difference]
    """Every weight of either."""
    layers: list[LayerDifference] = field(default_factory=list)
    """Every layer that ran in both, in the order of A, results last; empty if the models were not run."""
    tolerance: float = _TOLERANCE
    """Relative difference above which layers count as different."""
    contract: tuple[str, ...] = ()
    """The differences of the mel contracts; empty if they are equal, or if that of A or B is unknown."""
    remarks: tuple[str, ...] = ()
    """The reason why layers were not compared, or the inputs that were used."""

    def __repr__(self) -> str:
        result = "same" if self.same else "different"
        return f"Comparison({result}: {len(self.weights)} weights, {len(self.layers)} layers)"

    @property
    def diverging(self) -> LayerDifference | None:
        """The first layer whose outputs differ by more than the tolerance."""
        return next((layer for layer in self.layers if layer.distance.relative > self.tolerance), None)

    @property
    def same(self) -> bool:
        """Whether every weight is in both models, all weights and layers are within the tolerance, and the mel
        contracts are equal."""
        weights = all(row.distance is not None and row.distance.relative <= self.tolerance for row in self.weights)
        return weights and self.diverging is None and not self.contract


def compare(a: str | Path, b: str | Path, *, inputs: Path | None = None, tolerance: float = _TOLERANCE) -> Comparison:
    """Compare two models: model folders, run folders, Hub ids, or weight files of any origin.

    Weights are compared by name after prefixes that only one model has are removed. If names differ, those of a file
    that can be imported are the names in the model. Tensors that an import stores in the configuration, such as the
    statistics of the input, are compared with those in the configuration. If the two models store weight norm
    differently, the folded weights are compared. Constants in TorchScript code are compared only if neither file has
    other tensors. If both models can be run (a jaxvoice model, a file that can be imported as one, a TorchScript
    archive), both are run on the same input, and layers with the same path are compared. The mel contracts are compared
    if both are known: that of a file is in `config.json` beside it.

    **Arguments:** `inputs`, a `.npy` file with one array, or a `.npz` file with several in the order of the models'
    arguments, such as a mel spectrogram `(mels, frames)`; by default random arrays, if the input shapes of A or B are
    known. Two-dimensional arrays get a batch axis when they are passed to a TorchScript archive. Without `inputs`,
    models whose inputs differ in shape, such as models of two families, are compared by weights alone.

    **Raises:** `CheckpointError` or `ConfigError` if a model cannot be read; `ShapeError` if the inputs cannot be read
    or have the wrong shape.
    """
    with ExitStack() as stack:
        models = [ComparedModel(path, stack) for path in (a, b)]
        weights = _compare_weights(*models)
        contract = tuple(contract_differences(models[0].config, models[1].config)) if _known(models) else ()
        labels = (models[0].label, models[1].label)
        layers, remarks = _layers(models, inputs, tolerance)
        return Comparison(labels, weights, layers, tolerance, contract, remarks)


def _known(models: Sequence[ComparedModel]) -> bool:
    return all(model.config is not None for model in models)


def _compare_weights(a: ComparedModel, b: ComparedModel) -> list[Difference]:
    """The comparison under the names in the files, or under those in the models if more weights are then in both."""
    rows = compare_arrays(*_weights(a.archive.tensors, b.archive.tensors))
    if not _unmatched(rows):
        return rows
    planned = a.planned_tensors(), b.planned_tensors()
    if planned == (None, None):
        return rows
    under_model_names = compare_arrays(
        *_weights(*(model.archive.tensors if own is None else own for model, own in zip((a, b), planned, strict=True)))
    )
    return min((rows, under_model_names), key=_unmatched)


def _unmatched(rows: Sequence[Difference]) -> int:
    return sum(row.status in ("only A", "only B") for row in rows)


def _weights(a: Tensors, b: Tensors) -> tuple[Tensors, Tensors]:
    """The tensors without the constants of TorchScript code; the constants if neither side has other tensors."""
    # Traced code contains constants that scripted code does not contain; in frozen code, weights are constants.
    return (a.weights(), b.weights()) if a.weights() or b.weights() else (a, b)


def _layers(
    models: Sequence[ComparedModel], path: Path | None, tolerance: float
) -> tuple[list[LayerDifference], tuple[str, ...]]:
    """The differences of layers, and remarks; no differences if a model cannot be run on the inputs."""
    runs = []
    for name, model in zip("AB", models, strict=True):
        try:
            runs.append(model.runner())
        except JaxvoiceError as failure:
            return [], (f"layers not compared: {name} cannot run ({failure})",)
    if path is not None:
        inputs, remark = _read_inputs(path), f"layers on the input in {path}"
    else:
        known = [model.example for model in models if model.example is not None]
        if not known:
            return [], ("layers not compared: the input shapes of A and B are unknown; pass inputs with --inputs.",)
        a, b = _shapes(known[0]), _shapes(known[-1])
        if a != b:
            return [], (f"layers not compared: A takes inputs of shape {a}, B of shape {b}.",)
        inputs, remark = known[0], f"layers on a random input of shape {a}"
    recorded = []
    for model, run in zip(models, runs, strict=True):
        try:
            recorded.append(run(inputs))
        except (JaxvoiceError, TypeError, ValueError) as failure:
            if path is not None and isinstance(failure, CheckpointError):
                raise
            message = (str(failure).splitlines() or [""])[0][:200]
            problem = f"{model.label} cannot run on inputs of shape {_shapes(inputs)} ({message})"
            if path is None:
                return [], (f"layers not compared: {problem}; pass other inputs with --inputs.",)
            raise ShapeError(f"{problem}; use other inputs.") from failure
    layers, remarks = _compare_outputs(*recorded)
    return layers, (remark, *remarks[:4])


def _compare_outputs(a: Recorded, b: Recorded) -> tuple[list[LayerDifference], list[str]]:
    """The differences of layers with the same path and of results with the same name, and remarks about others."""
    (results_a, outputs_a), (results_b, outputs_b) = a, b
    remarks = [
        f"the output of {name} contains NaN or infinity"
        for name, results in (("A", results_a), ("B", results_b))
        if not all(np.isfinite(array).all() for array in results.values())
    ]
    prefixes = common_prefixes(
        *({name: _squeezed(array).shape for name, array in of.items()} for of in (outputs_a, outputs_b))
    )
    names = {layer: prefixes.b + layer.removeprefix(prefixes.a) for layer in outputs_a}
    pairs = [(layer, outputs_a[layer], outputs_b[name]) for layer, name in names.items() if name in outputs_b]
    pairs += [(name, results_a[name], results_b[name]) for name in results_a if name in results_b]
    layers = []
    for layer, left, right in pairs:
        left, right = _squeezed(left), _squeezed(right)
        if left.shape != right.shape:
            remarks.append(f"{layer} has output shape {left.shape} in A and {right.shape} in B")
            continue
        layers.append(LayerDifference(layer.removeprefix(prefixes.a), left.shape, distance(left, right)))
    return layers, remarks


def _shapes(arrays: Sequence[Shaped[np.ndarray, "..."]]) -> str:
    return ", ".join(str(array.shape) for array in arrays)


def _squeezed(array: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    """`array` without leading axes of size 1."""
    while array.ndim > 1 and array.shape[0] == 1:
        array = array[0]
    return array


_UNREADABLE = (
    *(OSError, ValueError, EOFError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error),
    *(NotImplementedError, RuntimeError),  # zipfile raises these for unknown compression methods and encryption
)


def _read_inputs(path: Path) -> list[Shaped[np.ndarray, "..."]]:
    try:
        # numpy leaves files open that it cannot read.
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            arrays = {"": loaded} if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except _UNREADABLE as failure:
        message = (str(failure).splitlines() or [type(failure).__name__])[0][:200]
        raise ShapeError(
            f"{path} is missing or contains no numeric arrays ({printable(message)}); save the inputs with "
            "numpy.save or numpy.savez."
        ) from failure
    if not arrays:
        raise ShapeError(f"{path} contains no arrays; save at least one with numpy.savez.")
    for name, array in arrays.items():
        # numpy.load opens any zip file, and returns entries that are not arrays as bytes.
        if not isinstance(array, np.ndarray):
            raise ShapeError(
                f"{path} contains {format_name(name)}, which is not a numpy array; save the inputs with numpy.save or "
                "numpy.savez."
            )
        if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
            raise ShapeError(
                f"{path} contains values that are not finite numbers (dtype {array.dtype}); use finite inputs."
            )
    return list(arrays.values())

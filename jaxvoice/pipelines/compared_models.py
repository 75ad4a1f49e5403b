"""The models of a comparison: weights, configuration and the outputs of their layers."""

import functools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from jaxvoice.config import from_dict
from jaxvoice.errors import CheckpointError, JaxvoiceError
from jaxvoice.models.checkpoint_layout import Checkpoint, ImportPlan
from jaxvoice.weights.archive import Archive, TensorInfo, Tensors
from jaxvoice.weights.model_folder import CONFIG_FILE, WEIGHTS_FILE, read_config_file
from jaxvoice.weights.rules import TensorMapping

_OUTPUT = "output"  # the name of a model's result; several results are `output[0]`, `output[mel]`, ...

Outputs = Mapping[str, Shaped[np.ndarray, "..."]]
"""Arrays by name."""
Recorded = tuple[Outputs, Outputs]
"""The results of a model by name, and the outputs of its layers by path."""
Run = Callable[[Sequence[Shaped[np.ndarray, "..."]]], Recorded]
"""A model as a function of its inputs."""


class ComparedModel:
    """A model that is compared, open for reading.

    **Arguments:** `path`, a model folder, a run folder, a Hub id or a weight file; `stack`, which closes its files.

    **Raises:** `CheckpointError` or `ConfigError` if the model cannot be read.
    """

    def __init__(self, path: str | Path, stack: ExitStack):
        from jaxvoice.pipelines.sources import find_model_folder
        from jaxvoice.weights.formats import open_archive

        self._stack = stack
        self.path, self.folder = Path(path).expanduser(), None
        if not self.path.is_file():
            self.folder = find_model_folder(path)
        file = self.path if self.folder is None else self.folder / WEIGHTS_FILE
        self.archive: Archive = stack.enter_context(open_archive(file))
        if self.folder is not None and (self.folder / CONFIG_FILE).is_file():
            self.archive.tensors = read_config_file(self.folder).renamed(self.archive.tensors)
            self.archive.tensors = _with_arrays(self.archive.tensors, self._config_arrays(self.folder))
        self.label = f"{self.archive.source.format} {self.path}" if self.folder is None else f"model {path}"
        self.example: list[np.ndarray] | None = None

    def _config_arrays(self, folder: Path) -> Mapping[str, np.ndarray]:
        """The arrays in the configuration that are tensors in released files; empty if it cannot be read."""
        from jaxvoice.models.family_lookup import find_family

        config = self.config
        if config is None:
            return {}
        arrays = find_family(folder).config_arrays
        return {} if arrays is None else arrays(config)

    @property
    def config(self) -> Any:
        """The configuration of the model; `None` if the family or the configuration is unknown."""
        from jaxvoice.models.family_lookup import find_family

        try:
            if self.folder is not None:
                table = read_config_file(self.folder).table.get("config")
                return from_dict(find_family(self.folder).config, table or {})
            checkpoint, plan = self._import
        except JaxvoiceError:
            return None
        configured = (
            checkpoint.config is not None
            or plan.config_file is not None
            or isinstance(self.archive.metadata.get("config"), Mapping)
        )
        return plan.config if configured else None

    def planned_tensors(self) -> Tensors | None:
        """The tensors under their names in the model, and the ignored ones; `None` if there is no import of a file."""
        if self.folder is not None:
            return None
        try:
            _, found = self._import
        except JaxvoiceError:
            return None
        # A layout may plan from a copy of the archive with other tensors.
        archive, plan = next(part for part in found.parts if part[0].source is self.archive.source)
        given = archive.tensors
        rows = {target: row for row in plan.rows for target in row.targets}
        infos = {found.in_config.get(name, name): given.info(name) for name in plan.ignored}
        ignored = {found.in_config.get(name, name): name for name in plan.ignored}
        for target, row in rows.items():
            spec, info = plan.wanted[target], given.info(row.sources[0])
            # A renamed tensor keeps its dtype, so that equal files are bitwise equal.
            infos[target] = info if _is_renamed(row) else TensorInfo(spec.shape, spec.dtype, target, info.kind)

        def read(name: str) -> np.ndarray:
            row = rows.get(name)
            if row is None:
                return given[ignored[name]]
            if _is_renamed(row):
                return given[row.sources[0]]
            return row.apply([given[source] for source in row.sources])[row.targets.index(name)]

        return Tensors(infos, read)

    @functools.cached_property
    def _import(self) -> tuple[Checkpoint, ImportPlan]:
        """The checkpoint in the file and the plan of its import; raises `JaxvoiceError` if it cannot be imported."""
        from jaxvoice.models.checkpoint_layout import ImportOptions
        from jaxvoice.models.family_lookup import recognise_checkpoint
        from jaxvoice.pipelines.importing import config_beside, read_checkpoint

        checkpoint = read_checkpoint(self.archive, config_beside(self.path))
        _, layout = recognise_checkpoint(checkpoint)
        try:
            return checkpoint, layout.plan_import(checkpoint, ImportOptions())
        except JaxvoiceError as failure:
            raise CheckpointError(
                f"{failure} The options are those of `jaxvoice import`: import the file, and compare the model folder."
            ) from failure

    def runner(self) -> Run:
        """A function that runs this model; raises `JaxvoiceError` if the model cannot be run."""
        from jaxvoice.weights.formats import TorchScriptArchive

        if isinstance(self.archive, TorchScriptArchive):
            return _torchscript(self.archive)
        folder = self.folder
        if folder is None:
            from jaxvoice.pipelines.importing import import_model

            _ = self._import
            folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="jaxvoice-"))) / "model"
            import_model(self.path, folder, training=False)
        return self._network(folder)

    def _network(self, folder: Path) -> Run:
        import jax

        from jaxvoice.models.family_lookup import find_family

        family = find_family(folder)
        network, config = family.load_network(folder)
        args, kwargs = family.example_inputs(config, key=jax.random.key(0))
        values = [*args, *kwargs.values()]
        given = [place for place, value in enumerate(values) if _is_input(value)]
        self.example = [_channels_first(values[place]) for place in given]

        def run(inputs: Sequence[np.ndarray]) -> Recorded:
            if len(inputs) != len(given):
                raise ValueError(f"{len(inputs)} arrays for the {len(given)} arguments of {family.name}")
            arguments = list(values)
            for place, array in zip(given, inputs, strict=True):
                arguments[place] = _argument(array, values[place])
            keywords = dict(zip(kwargs, arguments[len(args) :], strict=True))
            result, outputs = _captured()(network, *arguments[: len(args)], **keywords)
            results = {name: _channels_first(output) for name, output in _results(result).items()}
            return results, {layer: _channels_first(output) for layer, output in outputs.items()}

        return run


def _with_arrays(tensors: Tensors, arrays: Mapping[str, np.ndarray]) -> Tensors:
    """`tensors` with `arrays` of other names."""
    infos = {name: TensorInfo(array.shape, array.dtype, name) for name, array in arrays.items() if name not in tensors}
    return Tensors({**tensors.infos(), **infos}, lambda name: arrays[name] if name in infos else tensors[name])


def _is_renamed(row: TensorMapping) -> bool:
    return row.conversion == "keep" and row.layout is None


def _is_input(value: Any) -> bool:
    """Whether an argument is an array or a whole number, which files can contain, and not a key or a flag."""
    import jax

    if isinstance(value, np.ndarray | jax.Array):
        return not jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key)
    return isinstance(value, int) and not isinstance(value, bool)


def _results(result: Any) -> dict[str, Any]:
    """The arrays in the result of a model, by name."""
    import jax

    leaves, _ = jax.tree_util.tree_flatten_with_path(result)
    return {
        _OUTPUT + "".join(f"[{jax.tree_util.keystr((key,), simple=True)}]" for key in path): leaf
        for path, leaf in leaves
        if isinstance(leaf, jax.Array)
    }


def _argument(array: Shaped[np.ndarray, "..."], example: Any) -> Any:
    """Convert an array from a file to an argument like `example`: channels last, without a batch axis of size 1."""
    if isinstance(example, int):
        return int(np.asarray(array).reshape(()))
    array = np.asarray(array, example.dtype)
    if example.ndim < 2:
        return array.reshape(-1 if example.ndim else ())
    while array.ndim > example.ndim and array.shape[0] == 1:
        array = array[0]
    return array.swapaxes(-1, -2)


def _channels_first(output: Any) -> Shaped[np.ndarray, "..."]:
    """Convert `(*batch, time, channels)` to the layout of archives and files; numbers and vectors are unchanged."""
    array = np.asarray(output)
    return array.swapaxes(-1, -2) if array.ndim > 1 else array


@functools.cache
def _captured() -> Callable[..., Any]:
    """A model's result and the results of its modules, compiled; models of one configuration share the program."""
    import equinox as eqx

    from jaxvoice.dissect import capture, tag

    return eqx.filter_jit(lambda model, *args, **kwargs: capture(tag(model))(*args, **kwargs))


def _torchscript(archive: Any) -> Run:
    import jax

    from jaxvoice.torchscript.functions import function

    model = function(archive)

    def run(inputs: Sequence[np.ndarray]) -> Recorded:
        batched = [array[None] if array.ndim == 2 else array for array in inputs]
        result, outputs = jax.jit(model.record)(model.weights, *batched)
        results = _results(result)
        if not results:
            raise CheckpointError(f"{archive.source.path} returns {type(result).__name__}, which contains no array.")
        layers = {layer: np.asarray(output) for layer, output in outputs.items()}
        return {name: np.asarray(output) for name, output in results.items()}, layers

    return run

"""Export of programs with their weights, which run in JAX or in ONNX Runtime without jaxvoice."""

import contextlib
import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from jaxvoice._version import __version__
from jaxvoice.config import to_dict
from jaxvoice.errors import CheckpointError, ConfigError, MissingExtraError
from jaxvoice.models.family import Family
from jaxvoice.models.family_lookup import find_family
from jaxvoice.nn import Stream, fold_weight_norm, freeze
from jaxvoice.nn._kernels import portable_kernels
from jaxvoice.pipelines.sources import find_model_folder
from jaxvoice.weights.file_writing import atomic_write

ProgramFormat = Literal["jax", "onnx"]
PROGRAM_FILE, STATE_FILE, ABOUT_FILE = "step.jax", "state.npz", "stream.json"
_TOLERANCE = 1e-4


class ExportedProgram(NamedTuple):
    """The result of `export_program`."""

    inputs: dict[str, tuple[int, ...]]
    """Names and shapes of the inputs."""
    outputs: list[tuple[int, ...]]
    """Shapes of the outputs."""
    difference: float | None
    """Largest difference between the outputs of the program and of jaxvoice, relative to the largest output; `None` if
    ONNX Runtime is not installed."""


def export_program(
    folder: str | Path,
    to: str | Path,
    format: ProgramFormat,
    *,
    length: int | None = None,
    platforms: Sequence[str] = ("cpu",),
) -> ExportedProgram:
    """Write the network of a model as a program for inputs of fixed shapes, and compare its output with jaxvoice's.

    Shapes are those of the example inputs of the family, without batch axes. Names and shapes of the inputs and the
    configuration, with the mel contract, are written to `<to>.json`.

    **Arguments:**

    - `folder`: a model folder, a run folder or a Hub id; `to`: the file to write.
    - `format`: `"jax"`, a serialised function of `jax.export`, which takes and returns lists of arrays; `"onnx"`, an
        ONNX model.
    - `length`: positions of the first input, such as mel frames or samples; those of other inputs with a time axis are
        in the same proportion.
    - `platforms` of a JAX program: of "cpu", "cuda", "rocm" and "tpu".

    **Raises:** `CheckpointError` if the model folder is damaged, or if `to` exists or cannot be written; `ConfigError`
    for a length that the network does not support, for a network with operators that the exporter does not support,
    or if the program computes something else; `MissingExtraError` without the extra `export` or `onnx`.
    """
    to = Path(to).expanduser()
    family, network, config = _load(folder)
    for path in (to, _about_file(to)):
        if path.exists():
            raise CheckpointError(f"{path} exists; choose another file name.")
    args, kwargs = family.example_inputs(config, key=jax.random.key(0))
    if length is not None:
        args = _with_length(args, length)
    arrays, rest = eqx.partition((args, kwargs), eqx.is_array)
    inputs, tree = jax.tree.flatten(arrays)
    names = _input_names(network, arrays)

    def run(*inputs: Array) -> list[Array]:
        args, kwargs = eqx.combine(tree.unflatten(inputs), rest)
        return [leaf for leaf in jax.tree.leaves(network(*args, **kwargs)) if eqx.is_array(leaf)]

    expected = jax.jit(run)(*inputs)
    if format == "jax":
        content, found = _jax_program(run, inputs, platforms)
    else:
        content, found = _onnx_program(run, inputs, names, family)
    difference = None if found is None else _difference(found, expected)
    if difference is not None and not difference < _TOLERANCE:
        raise ConfigError(
            f"The outputs of the program differ from those of the network by {difference:.1e} of the largest; it "
            f"should be less than {_TOLERANCE:.0e}. The exporter computes an operator in another way; use --format jax."
        )
    shapes = {name: tuple(array.shape) for name, array in zip(names, inputs, strict=True)}
    about = {
        "jaxvoice": __version__,
        "format": format,
        "family": family.name,
        "inputs": {name: _described(array) for name, array in zip(names, inputs, strict=True)},
        "outputs": [_described(array) for array in expected],
        "config": to_dict(config),
    }
    with atomic_write(to) as file:
        file.write(content)
    _write_json(_about_file(to), about)
    return ExportedProgram(shapes, [tuple(array.shape) for array in expected], difference)


def export_model_stream(
    folder: str | Path, to: str | Path, *, block: int | None = None, platforms: Sequence[str] = ("cpu",)
) -> dict[str, Any]:
    """Write the stream of a model with `export_stream`.

    **Arguments:** `folder`, a model folder, a run folder or a Hub id; `to`, the folder to write; `block`, positions of
    a block, by default the shortest. The others are those of `export_stream`.

    **Returns:** the content of `stream.json`.

    **Raises:** `ConfigError` for a family without streams; otherwise as `export_stream`.
    """
    family, network, config = _load(folder)
    if family.stream is None:
        raise ConfigError(
            f"{folder} is a model of the family {family.name}, which cannot be computed block by block. Omit --block."
        )
    # In blocks, the transposes of kernels that freeze computes in advance would take longer than the convolutions.
    stream = family.stream(freeze(network, winograd=False))
    info = {"family": family.name, "config": to_dict(config)}
    length = stream.multiple if block is None else block
    return export_stream(stream, to, block=length, key=jax.random.key(0), platforms=platforms, info=info)


def export_stream(
    stream: Stream,
    folder: str | Path,
    *,
    block: int,
    batch: tuple[int, ...] = (),
    key: PRNGKeyArray | None = None,
    platforms: Sequence[str] = ("cpu",),
    info: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write a stream as a program that runs in JAX without jaxvoice.

    The folder contains:

    - `step.jax`: the serialised function `step(state, block) -> (state, output)` of `jax.export`, with the weights.
        `state` is a list of arrays.
    - `state.npz`: the arrays of the first state, `0`, `1`, ...
    - `stream.json`: the shapes of blocks and outputs `(*batch, time, channels)`, both delays, and `info`.

    **Arguments:** `block`, positions of a block; `batch` and `key` as for `Stream.init_state`; `platforms`, of "cpu",
    "cuda", "rocm" and "tpu"; `info`, further JSON values, such as the sample rate.

    **Returns:** the content of `stream.json`.

    **Raises:** `ConfigError` if `block` is no multiple of `stream.multiple`; `CheckpointError` if the folder exists
    or cannot be written; `MissingExtraError` without the extra `export`.
    """
    folder = Path(folder).expanduser()
    if block <= 0 or block % stream.multiple:
        raise ConfigError(f"block is {block}; it should be a positive multiple of {stream.multiple} positions.")
    arrays, tree = jax.tree.flatten(jax.jit(lambda: stream.init_state(batch=batch, key=key))())

    def step(state: list[Array], x: Array) -> tuple[list[Array], Array]:
        new, y = stream.step(tree.unflatten(state), x)
        return jax.tree.leaves(new), y

    x = jax.ShapeDtypeStruct((*batch, block, stream.channels), jnp.float32)
    program = _serialized(step, ([_shape(array) for array in arrays], x), platforms)
    about = {
        "jaxvoice": __version__,
        "jax": jax.__version__,
        "platforms": list(platforms),
        "block": _described(x),
        "output": _described(program.out_avals[-1]),
        "input_delay": stream.input_delay,
        "output_delay": stream.output_delay,
        **(info or {}),
    }
    content = program.serialize()
    try:
        folder.mkdir(parents=True)
    except FileExistsError as failure:
        raise CheckpointError(f"{folder} exists; choose another folder.") from failure
    except OSError as failure:
        raise CheckpointError(f"{folder} cannot be created ({failure.strerror or failure}).") from failure
    with atomic_write(folder / PROGRAM_FILE) as file:
        file.write(content)
    with atomic_write(folder / STATE_FILE) as file:
        named: dict[str, Any] = {str(i): np.asarray(array) for i, array in enumerate(arrays)}
        np.savez(file, **named)
    _write_json(folder / ABOUT_FILE, about)
    return about


def _load(folder: str | Path) -> tuple[Family, Any, Any]:
    path = find_model_folder(folder)
    family = find_family(path)
    network, config = family.load_network(path)
    network = fold_weight_norm(network)
    return family, network if family.prepared is None else family.prepared(network), config


def _about_file(to: Path) -> Path:
    return to.with_name(f"{to.name}.json")


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with atomic_write(path) as file:
        file.write((json.dumps(content, indent=2) + "\n").encode())


def _described(array: Any) -> dict[str, Any]:
    return {"shape": list(array.shape), "dtype": str(array.dtype)}


def _shape(array: Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


def _with_length(args: tuple[Any, ...], length: int) -> tuple[Any, ...]:
    """Example inputs whose first one has `length` positions, repeated or cut."""
    first = args[0]
    is_audio = eqx.is_array(first) and first.ndim == 1 and jnp.issubdtype(first.dtype, jnp.floating)
    if not eqx.is_array(first) or (first.ndim != 2 and not is_audio):
        raise ConfigError(
            f"length is {length}; it should be omitted, because the first input of this network has no time axis."
        )
    if length < 1:
        raise ConfigError(f"length is {length}; it should be at least 1.")

    def resized(x: Any) -> Any:
        if x is not first and (not eqx.is_array(x) or x.ndim != 2):
            return x
        positions, rest = divmod(x.shape[0] * length, first.shape[0])
        if rest:
            raise ConfigError(
                f"length is {length}; it should be a multiple of {first.shape[0]}, so that all inputs have whole "
                "lengths."
            )
        return jnp.tile(x, (-(-positions // x.shape[0]), *(1 for _ in x.shape[1:])))[:positions]

    return tuple(map(resized, args))


def _input_names(network: Any, arrays: tuple[tuple[Any, ...], dict[str, Any]]) -> list[str]:
    """The names of the parameters of a call that are arrays."""
    args, kwargs = arrays
    bound = inspect.signature(network.__call__).bind_partial(*args, **kwargs).arguments
    paths = jax.tree_util.tree_leaves_with_path(dict(bound))
    given = {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in paths}
    return [next(name for name, leaf in given.items() if leaf is array) for array in jax.tree.leaves(arrays)]


@contextlib.contextmanager
def _kernels_for(platforms: Sequence[str]) -> Iterator[None]:
    """Kernels for CPUs if the program runs on these only."""
    with contextlib.nullcontext() if tuple(platforms) == ("cpu",) else portable_kernels():
        yield


def _serialized(function: Any, shapes: tuple[Any, ...], platforms: Sequence[str]) -> Any:
    from jax import export

    try:
        import flatbuffers  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError as failure:
        raise MissingExtraError(
            "Programs are serialised with flatbuffers, which is not installed: pip install 'jaxvoice[export]'."
        ) from failure
    known = ("cpu", "cuda", "rocm", "tpu")
    if not platforms or not set(platforms) <= set(known):
        raise ConfigError(f"platforms are {list(platforms)}; they should be some of {', '.join(known)}.")
    with _kernels_for(platforms):
        # A new function, so that a cached trace with other kernels is not used.
        return export.export(jax.jit(lambda *args: function(*args)), platforms=tuple(platforms))(*shapes)


def _jax_program(run: Any, inputs: list[Array], platforms: Sequence[str]) -> tuple[bytes, list[Array] | None]:
    """The serialised program and its outputs, which are not computed if it is for other platforms."""
    from jax import export

    program = _serialized(run, tuple(map(_shape, inputs)), platforms)
    content = bytes(program.serialize())
    runs_here = jax.default_backend() in {"gpu": ("cuda", "rocm")}.get(jax.default_backend(), tuple(platforms))
    return content, jax.jit(export.deserialize(bytearray(content)).call)(*inputs) if runs_here else None


def _onnx_program(
    run: Any, inputs: list[Array], names: list[str], family: Family
) -> tuple[bytes, Sequence[Any] | None]:
    """The ONNX model, and its outputs in ONNX Runtime if that is installed."""
    try:
        import jax2onnx  # pyright: ignore[reportMissingImports]
    except ImportError as failure:
        raise MissingExtraError(
            "ONNX models are written with jax2onnx, which is not installed: pip install 'jaxvoice[onnx]'."
        ) from failure
    try:
        with portable_kernels():
            model = jax2onnx.to_onnx(
                lambda *args: tuple(run(*args)), inputs=[_shape(array) for array in inputs], input_names=names
            )
    except Exception as failure:  # of jax2onnx and of onnx; the class depends on the operator
        raise ConfigError(
            f"The network of the family {family.name} has an operator that jax2onnx does not support "
            f"({type(failure).__name__}: {failure}). Use --format jax."
        ) from failure
    content = model.SerializeToString()
    try:
        import onnxruntime  # pyright: ignore[reportMissingImports]
    except ImportError:
        return content, None
    try:
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        return content, session.run(None, {name: np.asarray(x) for name, x in zip(names, inputs, strict=True)})
    except Exception as failure:  # the class depends on the cause
        raise ConfigError(
            f"ONNX Runtime cannot run the network of the family {family.name} ({failure}). Use --format jax."
        ) from failure


def _difference(found: Sequence[Any], expected: Sequence[Array]) -> float:
    """The largest difference, relative to the largest value of an output."""
    differences = [0.0]
    for ours, theirs in zip(expected, found, strict=True):
        scale = max(float(jnp.max(jnp.abs(ours))), float(np.finfo(np.float32).tiny))
        differences.append(float(np.max(np.abs(np.asarray(ours) - np.asarray(theirs)))) / scale)
    return max(differences)

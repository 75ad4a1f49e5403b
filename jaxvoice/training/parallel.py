"""Data parallelism: one program on all devices of all hosts, with a replicated or sharded state and sharded batches."""

import functools as ft
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from jaxvoice.errors import ConfigError

_TreeT = TypeVar("_TreeT")
AXIS = "data"
_SMALLEST_SPLIT = 1024
"""Numbers of an array below which it is replicated, because a transfer would cost more than its memory."""
_split_mesh: ContextVar[Mesh | None] = ContextVar("split_mesh", default=None)


def initialize_distributed(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Connect the processes of several hosts; call it once in every process, before any other use of JAX.

    Slurm, Kubernetes and TPU pods need no arguments. Otherwise, `coordinator` is `host:port` of process 0.

    **Raises:** `ConfigError` if JAX was used before, or if the processes cannot connect.
    """
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(coordinator, num_processes, process_id)
    except (RuntimeError, ValueError) as failure:
        raise ConfigError(
            f"The processes cannot be connected (coordinator={coordinator!r}, num_processes={num_processes!r}, "
            f"process_id={process_id!r}): {failure} Call initialize_distributed before any other use of JAX, and check "
            "that every process can reach the coordinator."
        ) from failure


def data_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh with one axis, `data`, over `devices`, by default all devices."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def auto_mesh(mesh: Mesh) -> Mesh:
    """`mesh` with automatic axes. Explicit axes, the default of `jax.make_mesh`, need the sharding of each result."""
    return Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of the state, which every device holds completely."""
    return NamedSharding(auto_mesh(mesh), PartitionSpec())


def sharded(mesh: Mesh) -> NamedSharding:
    """The sharding of batches, whose first axis is split over the devices."""
    return NamedSharding(auto_mesh(mesh), PartitionSpec(AXIS))


def split_largest(shape: Sequence[int], mesh: Mesh) -> NamedSharding:
    """The sharding of an array of the state whose memory is divided among the devices of `mesh`.

    The array is split along its largest axis that is divisible by the number of devices. Arrays without such an axis
    and small ones are replicated.
    """
    axes = [axis for axis, size in enumerate(shape) if size and size % mesh.size == 0]
    if not axes or int(np.prod(shape)) < _SMALLEST_SPLIT:
        return replicated(mesh)
    largest = max(axes, key=lambda axis: (shape[axis], -axis))
    return NamedSharding(auto_mesh(mesh), PartitionSpec(*(None,) * largest, AXIS))


def state_shardings(arrays: Sequence[Any], mesh: Mesh, *, shard: bool) -> list[NamedSharding]:
    """The sharding of each of `arrays` (or of their shapes): `split_largest` with `shard`, otherwise replicated."""
    return [split_largest(array.shape, mesh) if shard else replicated(mesh) for array in arrays]


@contextmanager
def split_parameters(mesh: Mesh) -> Iterator[None]:
    """A context of the compilation of a step whose parameters are split over `mesh`; see `gather`."""
    token = _split_mesh.set(mesh)
    try:
        yield
    finally:
        _split_mesh.reset(token)


def gather(params: _TreeT) -> _TreeT:
    """The parameters of a computation: in a step whose parameters are split, complete on every device.

    Without this, the compiler may split activations like the parameters instead of like the batch. The gradient of a
    parameter is split like the parameter. Otherwise, `params` are returned unchanged.
    """
    mesh = _split_mesh.get()
    return params if mesh is None else jax.tree.map(ft.partial(_gather, mesh), params)


@ft.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _gather(mesh: Mesh, array: Array) -> Array:
    return jax.lax.with_sharding_constraint(array, replicated(mesh))


def _gather_forward(mesh: Mesh, array: Array) -> tuple[Array, None]:
    return _gather(mesh, array), None


def _gather_backward(mesh: Mesh, _: None, gradient: Array) -> tuple[Array]:
    return (jax.lax.with_sharding_constraint(gradient, split_largest(gradient.shape, mesh)),)


_gather.defvjp(_gather_forward, _gather_backward)


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Raise `ConfigError` unless `batch_size` splits evenly over the devices of `mesh`."""
    if batch_size < 1 or batch_size % mesh.size:
        below, above = batch_size // mesh.size * mesh.size, (batch_size // mesh.size + 1) * mesh.size
        options = f"{below} or {above}" if below > 0 else f"{above}"
        raise ConfigError(
            f"batch_size is {batch_size}; it should be a multiple of the number of devices, {mesh.size}. Set it to "
            f"{options}."
        )


def replicate(tree: _TreeT, mesh: Mesh) -> _TreeT:
    """Copy the arrays of `tree` to every device. No two leaves share a buffer, so that all can be donated.

    With several processes, all pass the same values.
    """
    # An explicit copy, because device_put(may_alias=False) of jax 0.10 reuses the buffer on its device.
    if jax.process_count() == 1:
        return jax.device_put(jax.tree.map(lambda array: array.copy(), tree), replicated(mesh))

    def copy_to_devices(array):
        copies = [jax.device_put(array.copy(), device) for device in mesh.local_devices]
        return jax.make_array_from_single_device_arrays(array.shape, replicated(mesh), copies)

    return jax.tree.map(copy_to_devices, tree)


def place(arrays: Sequence[Array], mesh: Mesh, *, shard: bool) -> list[Array]:
    """Copy `arrays` to the devices, with `state_shardings`. No two results share a buffer, so that all can be donated.

    With several processes, all pass the same values.
    """

    def placed(array: Array, sharding: NamedSharding) -> Array:
        if sharding.is_fully_replicated:
            return replicate(array, mesh)
        if jax.process_count() == 1:
            return jax.device_put(array, sharding)
        whole = np.asarray(array)
        return jax.make_array_from_callback(whole.shape, sharding, lambda part: whole[part])

    shardings = state_shardings(arrays, mesh, shard=shard)
    return [placed(array, sharding) for array, sharding in zip(arrays, shardings, strict=True)]


def shard_batch(batch: PyTree, mesh: Mesh) -> PyTree:
    """The global batch from the share of this process, NumPy arrays with the batch axis first."""
    sharding = sharded(mesh)
    return jax.tree.map(lambda array: jax.make_array_from_process_local_data(sharding, np.asarray(array)), batch)


def on_one_device(tree: _TreeT) -> _TreeT:
    """The arrays of `tree` on the first device of this process, without a copy of replicated ones.

    All processes call this function if arrays are split.
    """
    return jax.tree.map(whole_array, tree)


def whole_array(array: Array) -> Array:
    """`array` on the first device of this process. All processes call this function for a split array."""
    if array.is_fully_replicated:
        return array.addressable_data(0)
    if jax.process_count() == 1:
        return jax.device_put(array, jax.local_devices()[0])
    everywhere = replicated(array.sharding.mesh)  # pyright: ignore[reportAttributeAccessIssue]
    return jax.jit(lambda x: x, out_shardings=everywhere)(array).addressable_data(0)


def barrier(name: str) -> None:
    """Wait for all processes. Without effect in a single process."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def in_every_process(number: int) -> list[int]:
    """The `number` of every process, in the order of processes. All processes call this function."""
    if jax.process_count() == 1:
        return [number]
    return np.asarray(multihost_utils.process_allgather(np.int32(number))).tolist()


def from_first_process(values: dict[str, float]) -> dict[str, float]:
    """The `values` of process 0, so that all processes make the same decisions."""
    if jax.process_count() == 1:
        return values
    numbers = multihost_utils.broadcast_one_to_all(np.array(list(values.values()), np.float32))
    return dict(zip(values, np.asarray(numbers).tolist(), strict=True))

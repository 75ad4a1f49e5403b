"""Data parallelism: one program on all devices of all hosts, with replicated state and sharded batches."""

from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from jaxvoice.errors import ConfigError

_TreeT = TypeVar("_TreeT")
AXIS = "data"


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


def shard_batch(batch: PyTree, mesh: Mesh) -> PyTree:
    """The global batch from the share of this process, NumPy arrays with the batch axis first."""
    sharding = sharded(mesh)
    return jax.tree.map(lambda array: jax.make_array_from_process_local_data(sharding, np.asarray(array)), batch)


def on_one_device(tree: _TreeT) -> _TreeT:
    """The replicated arrays of `tree` on the first device of this process, without a copy."""
    return jax.tree.map(lambda array: array.addressable_data(0), tree)


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

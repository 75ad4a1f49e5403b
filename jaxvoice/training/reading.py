"""The newest state of a run, for whoever wants to look at it or to begin another run with it."""

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
from jax.sharding import SingleDeviceSharding

from jaxvoice.errors import CheckpointError
from jaxvoice.training.checkpoints import Checkpoints
from jaxvoice.training.compiled_step import Skeleton
from jaxvoice.training.provenance import check_same_config
from jaxvoice.training.run_folder import RunFolder
from jaxvoice.training.task import Task


def read_state(run: Path, task: Task) -> Any:
    """The state in the newest intact checkpoint of the run folder `run`; nothing in the folder changes.

    `task` must have the run's configuration. Arrays come to this process's first device.

    **Raises:** `CheckpointError` if there is no intact checkpoint, or one of another configuration.
    """
    folder = RunFolder(run)
    if not folder.checkpoints.is_dir():
        raise CheckpointError(f"{run} holds no checkpoints; give the folder of a run.")
    shapes = eqx.filter_eval_shape(task.init, key=jax.random.key(0))
    skeleton, here = Skeleton(shapes), SingleDeviceSharding(jax.local_devices()[0])
    structs = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here) for leaf in skeleton.flatten(shapes)]
    with Checkpoints(folder.checkpoints, keep_last=1, metric="", read_only=True) as store:
        restored = store.restore(
            dict(zip(skeleton.names, structs, strict=True)),
            accept=lambda meta: check_same_config(task, meta, f"A checkpoint in {folder.checkpoints}"),
        )
    if restored is None:
        raise CheckpointError(f"{run} holds no complete checkpoint yet; wait for its first, or give a model folder.")
    return skeleton.build([restored.arrays[name] for name in skeleton.names])

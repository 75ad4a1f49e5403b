"""A task with its compiled step, as `fit` compiles it."""

import equinox as eqx
import jax
import numpy as np
from jax import numpy as jnp

from jaxvoice.models.hifigan.training import HiFiGANTask
from jaxvoice.training.compiled_step import CompiledStep
from jaxvoice.training.parallel import data_mesh, on_one_device, replicate, shard_batch
from jaxvoice.training.training_state import Skeleton


class Trainer:
    """Training steps of HiFi-GAN on one device, or on the devices of `mesh`. An epoch is longer than any test."""

    def __init__(self, config, mesh=None):
        self.task = HiFiGANTask(config, steps_per_epoch=1000)
        self.mesh = mesh or data_mesh(jax.devices()[:1])
        self.skeleton = Skeleton(eqx.filter_eval_shape(self.task.init, key=jax.random.key(0)))
        self.program = CompiledStep(self.task, self.skeleton, self.mesh)

    def __call__(self, state, *batches):
        """The state after every one of `batches`, and the metrics of each step."""
        leaves, codes = replicate(self.skeleton.flatten(state), self.mesh), np.zeros(self.mesh.size, np.int32)
        states, metrics = [], []
        for batch in batches:
            leaves, found, _ = self.program(leaves, shard_batch(batch, self.mesh), shard_batch(codes, self.mesh))
            states.append(jax.tree.map(jnp.copy, self.skeleton.build(on_one_device(leaves))))
            metrics.append({name: float(value) for name, value in found.items()})
        return states, metrics

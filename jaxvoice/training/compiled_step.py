"""Compilation of a task's step to programs over flat lists of arrays."""

import contextlib
import functools as ft
import os
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from jaxvoice.errors import TrainingError
from jaxvoice.training.parallel import replicate, replicated, sharded, split_parameters, state_shardings
from jaxvoice.training.process import return_freed_memory
from jaxvoice.training.task import Task
from jaxvoice.training.training_state import Skeleton


def compiler_options() -> dict[str, Any]:
    """Compiler options of steps. On CPUs, they disable LLVM's costly optimisations.

    A step on a CPU spends its time in library kernels. For HiFi-GAN V1, these optimisations take 11 of 46 seconds of
    compilation and do not change the speed. An optimisation level in `XLA_FLAGS` has precedence.
    """
    option = "xla_backend_optimization_level"
    chosen = jax.default_backend() != "cpu" or option in os.environ.get("XLA_FLAGS", "")
    return {} if chosen else {option: 1}


def step_key(seed: int, step: Int[Array, ""] | int) -> PRNGKeyArray:
    """The random key of the step that follows `step` steps in a run with `seed`."""
    # `jax.random.split` also counts from 0. Without the first number, steps would repeat keys of `init`.
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 2**32 - 1), step)


class CompiledStep:
    """`task.step`, compiled for each batch shape and phase.

    The state is donated and replicated over `mesh`, or split with `shard_parameters`, and batches are sharded.
    `task.constants` are replicated, too, but not donated. The key of a step is a function of `seed` and the number of
    steps of the state, see `step_key`. `seconds` is the total time of compilation.
    """

    def __init__(self, task: Task, skeleton: Skeleton, mesh: Mesh, *, seed: int = 0, shard_parameters: bool = False):
        self._programs: dict[Any, jax.stages.Compiled] = {}
        self.seconds = 0.0
        same, split = replicated(mesh), sharded(mesh)
        arrays, fixed = eqx.partition(task.constants, eqx.is_array)
        self._constants = replicate(arrays, mesh)
        self._context = ft.partial(split_parameters, mesh) if shard_parameters else contextlib.nullcontext
        of_state = state_shardings(skeleton.types, mesh, shard=shard_parameters)

        def step(phase: int, leaves: list[Array], batch: PyTree, stop_codes: Int[Array, " devices"], arrays: PyTree):
            state = skeleton.build(leaves)
            given = {} if task.constants is None else {"constants": eqx.combine(arrays, fixed)}
            state, metrics = task.step(state, batch, key=step_key(seed, state.counters.step), phase=phase, **given)
            after = skeleton.flatten(state)
            for name, old, new in zip(skeleton.names, leaves, after, strict=True):
                if (old.shape, old.dtype) != (new.shape, new.dtype):
                    raise TrainingError(
                        f"The task's step changed {name} from {old.dtype}{list(old.shape)} to "
                        f"{new.dtype}{list(new.shape)}; it should keep shapes and dtypes."
                    )
            counters = state.counters
            return after, metrics, jnp.stack([counters.skipped, counters.skipped_in_a_row, stop_codes.max()])

        self._jitted = ft.cache(
            lambda phase: jax.jit(
                ft.partial(step, phase),
                in_shardings=(of_state, split, split, same),
                out_shardings=(of_state, same, same),
                donate_argnums=0,
            )
        )

    def __call__(
        self, leaves: list[Array], batch: PyTree, stop_codes: Int[Array, " devices"], phase: int = 0
    ) -> tuple[list[Array], dict[str, Array], Int[Array, "3"]]:
        """The arrays of the new state, metrics, and status: updates skipped, skipped in a row, largest stop code."""
        program = self._programs.get(kind := (phase, self._shape(batch)))
        if program is None:
            program = self.compile(leaves, batch, stop_codes, phase)
            self._programs[kind] = program
        return program(leaves, batch, stop_codes, self._constants)

    def compile(
        self, leaves: list[Array], batch: PyTree, stop_codes: Int[Array, " devices"], phase: int = 0
    ) -> jax.stages.Compiled:
        """Compile the program for `phase` and the shapes of `batch`, and add the time to `seconds`.

        **Raises:** `TrainingError` if the step changes the structure of its state, a shape or a dtype.
        """
        start = time.perf_counter()
        with self._context():
            lowered = self._jitted(phase).lower(leaves, batch, stop_codes, self._constants)
        program = lowered.compile(compiler_options())
        return_freed_memory()
        self.seconds += time.perf_counter() - start
        return program

    @property
    def count(self) -> int:
        """The number of compiled programs."""
        return len(self._programs)

    @staticmethod
    def _shape(batch: PyTree) -> tuple:
        return tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(batch))

"""New trainings that start from a released HiFi-GAN with its training state, or from the weights of a model or run."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
import optax
from jax import numpy as jnp

from jaxvoice.config import differences, from_dict
from jaxvoice.errors import CheckpointError
from jaxvoice.models.hifigan.config import DiscriminatorConfig, HiFiGANConfig
from jaxvoice.models.hifigan.discriminators import Discriminators, MultiScaleState
from jaxvoice.models.hifigan.family import FAMILY
from jaxvoice.models.hifigan.training import HiFiGANState, HiFiGANTask, TrainingConfig, read_run
from jaxvoice.models.hifigan.weights import NAME, load_discriminators
from jaxvoice.training.logging import print_once
from jaxvoice.training.optimizers import OptimizerConfig, decays_to
from jaxvoice.training.run_folder import RunFolder, model_folder
from jaxvoice.training.training_state import Counters
from jaxvoice.weights import load_state, read_model_folder
from jaxvoice.weights.torch_optimizers import adam_settings, step_count
from jaxvoice.weights.training_files import MOMENTS, TRAINING_FILE, arrays_below, read_training_file


@dataclass(frozen=True)
class Progress:
    """Progress of the training state in a model folder."""

    steps: int
    """Batches seen."""
    epoch: int
    """Epochs finished."""
    optimizers: dict[str, dict[str, Any]]
    """Settings and updates of the optimisers of `generator` and `discriminators`."""
    decay: float
    """Factor of the learning rates after each epoch."""


def continued_config(folder: Path) -> TrainingConfig:
    """The training configuration of the model in `folder`: its sizes and optimisers, with the release's loss weights.

    **Raises:** `CheckpointError` if `folder` is not a model folder with a `training.safetensors`, as `jaxvoice import`
    writes it from a `do_` file.
    """
    progress, _ = _read(folder, arrays=False)
    data, _ = read_model_folder(folder, family=NAME)
    model = from_dict(HiFiGANConfig, data, where=str(folder / "config.json"))
    about = (progress.optimizers["generator"], progress.optimizers["discriminators"])
    generator, discriminators = (_optimizer(one, progress.decay) for one in about)
    return TrainingConfig(model, generator, discriminators)


def continued_state(task: HiFiGANTask, folder: Path) -> HiFiGANState:
    """The training state in `folder`, as the initial state of `task`.

    Networks, spectral norm's vectors, AdamW's moments and number of updates, and the step are those of the file. The
    learning rate is the rate of `task`'s schedule, after a whole number of decays, that is nearest to the stored rate.
    (The released script decays the stored rate once more when it resumes.)

    **Raises:** `CheckpointError` if `folder` contains no training state, or if the sizes of its networks are not those
    of `task`.
    """
    generator, config = FAMILY.load_network(folder)
    wanted = task.config.model
    lines = differences(config.generator, wanted.generator, "--model.generator.")
    lines += differences(config.discriminators, wanted.discriminators, "--model.discriminators.")
    lines += [] if config.mel == wanted.mel else [f"--model.mel: {config.mel} != {wanted.mel}"]
    if lines:
        raise CheckpointError(
            f"{folder} contains a different network or mel contract (stored != requested): "
            f"{'; '.join(lines)}. Omit these flags."
        )
    progress, arrays = _read(folder)
    mpd, msd = arrays_below(arrays, "mpd."), arrays_below(arrays, "msd.")
    discriminators, vectors = load_discriminators(wanted.discriminators, mpd, msd)
    state = task.state_of(generator, discriminators, vectors)
    moments = {
        name: [arrays_below(arrays, f"{name}.{moment}.") for moment in MOMENTS]
        for name in ("generator", "discriminators")
    }
    counters = Counters(jnp.asarray(progress.steps, jnp.int32), state.counters.skipped, state.counters.skipped_in_a_row)
    return eqx.tree_at(
        lambda s: (s.counters, s.generator.optimizer_state, s.discriminators.optimizer_state),
        state,
        (
            counters,
            _with_moments(
                state.generator.optimizer_state,
                moments["generator"],
                progress.optimizers["generator"],
                task.config.generator_optimizer,
                task.steps_per_epoch,
            ),
            _with_moments(
                state.discriminators.optimizer_state,
                moments["discriminators"],
                progress.optimizers["discriminators"],
                task.config.discriminator_optimizer,
                task.steps_per_epoch,
            ),
        ),
    )


def trained_discriminators(folder: Path, config: DiscriminatorConfig) -> tuple[Discriminators, MultiScaleState] | None:
    """The discriminators stored in a model folder, and their spectral-norm vectors.

    `None` if the folder contains no discriminators, or discriminators of other sizes than `config`.

    **Raises:** `CheckpointError` if they are damaged.
    """
    if not (folder / TRAINING_FILE).is_file():
        return None
    data, _ = read_model_folder(folder, family=NAME)
    if from_dict(HiFiGANConfig, data, where=str(folder / "config.json")).discriminators != config:
        return None
    _, arrays = _read(folder)
    return load_discriminators(config, arrays_below(arrays, "mpd."), arrays_below(arrays, "msd."))


def _with_moments(
    state: optax.OptState,
    moments: list[dict[str, np.ndarray]],
    about: dict[str, Any],
    config: OptimizerConfig,
    steps_per_epoch: int,
) -> optax.OptState:
    """`state` with the moments, the number of updates and the learning rate of a released AdamW."""
    updates = decays_to(about["lr"], config, steps_per_epoch=steps_per_epoch)

    def replace_part(part):
        if isinstance(part, optax.ScaleByAdamState):
            mu, nu = (load_state(tree, arrays, "the moments") for tree, arrays in zip(part[1:], moments, strict=True))
            return optax.ScaleByAdamState(jnp.asarray(about["updates"], jnp.int32), mu, nu)
        if isinstance(part, optax.ScaleByScheduleState):
            return optax.ScaleByScheduleState(jnp.asarray(updates, jnp.int32))
        return part

    kinds = (optax.ScaleByAdamState, optax.ScaleByScheduleState)
    return jax.tree.map(replace_part, state, is_leaf=lambda part: isinstance(part, kinds))


def _optimizer(about: dict[str, Any], decay: float) -> OptimizerConfig:
    return OptimizerConfig(
        learning_rate=float(about.get("initial_lr", about["lr"])),
        b1=float(about["betas"][0]),
        b2=float(about["betas"][1]),
        eps=float(about["eps"]),
        weight_decay=float(about["weight_decay"]),
        decay=decay,
    )


def _read(folder: Path, *, arrays: bool = True) -> tuple[Progress, dict[str, np.ndarray]]:
    """The progress and the arrays in `training.safetensors`; without `arrays`, only the progress."""
    about, found = read_training_file(folder, arrays=arrays)
    path = folder / TRAINING_FILE
    optimizers = {name: _adam(about.get(name), f"{path}: {name}") for name in ("generator", "discriminators")}
    # A file of step n is written after n + 1 batches.
    steps, epoch = (step_count(about.get(name), f"{path}: {name}") for name in ("steps", "epoch"))
    return Progress(steps + 1, epoch, optimizers, about.get("decay", math.nan)), found


def _adam(about: Any, where: str) -> dict[str, Any]:
    settings = adam_settings(about, where)
    return {**settings, "updates": step_count(about.get("updates"), f"{where}.updates")}


def initial_state(task: HiFiGANTask, source: Path, *, seed: int) -> HiFiGANState:
    """The state before the first step, with the networks of a run folder, or the generator of a model folder.

    Discriminators come from a run, or from a model folder that contains discriminators, if their sizes are those of
    `task`. Otherwise they are initialised from `seed`. Prints which networks are used.

    **Raises:** `CheckpointError` if `source` contains no model, or if its generator or mel contract is not that of
    `task`.
    """
    wanted, new = task.config.model, task.init(key=jax.random.key(seed))
    discriminators, vectors = new.discriminators.model, new.discriminators.model_state
    if RunFolder(source).checkpoints.is_dir():
        trained, state = read_run(source)
        generator, config = state.generator.eval_model, trained.config.model
        place = f"step {int(state.counters.step)} of {source}"
        if config.discriminators == wanted.discriminators:
            discriminators, vectors = state.discriminators.model, state.discriminators.model_state
            print_once(f"starting with the generator and the discriminators of {place}")
        else:
            print_once(
                f"starting with the generator of {place} and new discriminators, because its discriminators have other "
                "sizes"
            )
    else:
        folder = model_folder(source)
        generator, config = FAMILY.load_network(folder)
        stored = trained_discriminators(folder, wanted.discriminators)
        discriminators, vectors = stored or (discriminators, vectors)
        print_once(f"starting with the generator of {source} and {'its' if stored else 'new'} discriminators")
    lines = differences(config.generator, wanted.generator, "--model.generator.")
    lines += differences(config.mel_contract, wanted.mel_contract, "--model.mel.")
    if lines:
        raise CheckpointError(
            f"{source} contains a different network or mel contract (stored != requested): "
            f"{'; '.join(lines)}. Use the --preset or the sizes of that model."
        )
    return task.state_of(generator, discriminators, vectors)

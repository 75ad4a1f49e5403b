"""New runs of HiFi-GAN that start with trained networks."""

from pathlib import Path
from typing import Any

import jax

from jaxvoice.config import differences
from jaxvoice.errors import CheckpointError
from jaxvoice.models.hifigan.resuming import trained_discriminators
from jaxvoice.models.hifigan.training import HiFiGANState, HiFiGANTask, read_run
from jaxvoice.models.hifigan.weights import load_generator
from jaxvoice.training.logging import print_once
from jaxvoice.training.run_folder import RunFolder, model_folder
from jaxvoice.weights.file_layout import kept_when_trained
from jaxvoice.weights.model_folder import read_about


def initial_state(task: HiFiGANTask, source: Path, *, seed: int) -> HiFiGANState:
    """The state before the first step, with the networks of a run folder, or the generator of a model folder.

    Discriminators come from a run, or from a model folder whose import brought some, if their sizes are those of
    `task`; otherwise they are new ones of `seed`. Prints which networks it takes.

    **Raises:** `CheckpointError` if there is no model, or if its generator or mel contract differs.
    """
    wanted, new = task.config.model, task.init(key=jax.random.key(seed))
    discriminators, vectors = new.discriminators.model, new.discriminators.model_state
    if RunFolder(source).checkpoints.is_dir():
        trained, state = read_run(source)
        generator, config = state.generator.eval_model, trained.config.model
        place = f"step {int(state.counters.step)} of {source}"
        if config.discriminators == wanted.discriminators:
            discriminators, vectors = state.discriminators.model, state.discriminators.model_state
            print_once(f"beginning with generator and discriminators of {place}")
        else:
            print_once(f"beginning with the generator of {place}; its discriminators have other sizes: new ones")
    else:
        folder = model_folder(source)
        generator, config = load_generator(folder)
        stored = trained_discriminators(folder, wanted.discriminators)
        discriminators, vectors = stored or (discriminators, vectors)
        print_once(f"beginning with the generator of {source} and {'its' if stored else 'new'} discriminators")
    lines = differences(config.generator, wanted.generator, "--model.generator.")
    lines += differences(config.mel_contract, wanted.mel_contract, "--model.mel.")
    if lines:
        raise CheckpointError(
            f"{source} holds another network or mel contract than this run's (stored != asked for): "
            f"{'; '.join(lines)}. Give its --preset or sizes."
        )
    return task.state_of(generator, discriminators, vectors)


def kept_info(*sources: Path | None) -> dict[str, Any]:
    """The metadata of the first model in `sources`, run or model folders, that a model trained from it keeps.

    **Raises:** `ConfigError` or `CheckpointError` if that model's `config.json` cannot be read.
    """
    for source in sources:
        file = None if source is None else model_folder(source) / "config.json"
        if file is not None and file.is_file():
            return kept_when_trained(read_about(file.parent).table.get("info"), str(file))
    return {}

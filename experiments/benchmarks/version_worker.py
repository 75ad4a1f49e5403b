"""Runs one work of one checkout of jaxvoice, once for every line on its standard input; used by `versions`.

The file imports nothing of the benchmarks, because it also runs with older checkouts.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np


def main(work: str, preset: str, frames: int, batch: int) -> None:
    """Prepare the work, and do it once for every line of input, answering with a line."""
    call = vocode(preset, frames) if work == "vocode" else train_step(preset, batch)
    for _ in sys.stdin:
        call()
        print("done", flush=True)


def vocode(preset: str, frames: int) -> Callable[[], Any]:
    """Vocode a mel spectrogram with random weights."""
    import jax

    from jaxvoice import pipelines
    from jaxvoice.models import hifigan

    config = hifigan.preset(preset)
    pipeline: Any = getattr(pipelines, "HiFiGANVocoder", pipelines.Vocoder)  # earlier versions' name
    vocoder = pipeline(hifigan.Generator(config.generator, key=jax.random.key(0)), config)
    mel = np.random.default_rng(0).normal(-4, 2, (config.generator.in_channels, frames)).astype(np.float32)
    return lambda: vocoder.synthesize(mel, check=False)


def train_step(preset: str, batch: int) -> Callable[[], Any]:
    """A training step of generator and discriminators on noise."""
    import equinox as eqx
    import jax

    from jaxvoice import data
    from jaxvoice.models import hifigan
    from jaxvoice.models.hifigan.training import HiFiGANTask, TrainingConfig

    task = HiFiGANTask(TrainingConfig(model=hifigan.preset(preset)), steps_per_epoch=1000)
    state = task.init(key=jax.random.key(0))
    audio = np.random.default_rng(0).integers(-3000, 3000, (batch, task.config.model.segment_size), np.int16)
    make_batch = getattr(data, "CropBatch", None) or data.Batch  # version 0.1's name
    given = make_batch(audio, np.full(batch, 1 / 32768, np.float32))
    # Version 0.1's step takes neither key nor phase.
    keywords = {"key": jax.random.key(0), "phase": 0} if hasattr(task, "phase_of") else {}
    step = eqx.filter_jit(lambda state, batch: task.step(state, batch, **keywords))
    return lambda: jax.block_until_ready(jax.tree.leaves(eqx.filter(step(state, given), eqx.is_array)))


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))

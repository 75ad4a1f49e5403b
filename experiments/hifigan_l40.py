"""HiFi-GAN from nothing to speech within an hour on one NVIDIA L40.

    python -m experiments.hifigan_l40 [--data PATH] [--run-dir DIR] [--minutes M] ...

On a GPU or TPU it trains HiFi-GAN V1 (`--preset` for others) in bfloat16 for at most 60 minutes; on a CPU, a small
HiFi-GAN against small discriminators, for at most five minutes altogether. Without `--data` it makes a few minutes of
English speech with espeak-ng (extra `demo`) and trains on that. The same command goes on with a run that was stopped.

What to expect: on two shared CPU cores, 283 steps in 4.2 minutes and a validation mel L1 of 0.72 on the demo corpus:
the mel shows phrases and vowels, but no harmonics yet. An hour on an L40 has not been measured. All measurements are in
docs/results.md.
"""

import functools as ft
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import jax
import tyro

from jaxvoice.cli.usage import one_line_usage
from jaxvoice.data import Corpus, Loader, find_corpus, load_store, make_demo_corpus, preflight, split
from jaxvoice.errors import CheckpointError, JaxvoiceError
from jaxvoice.models.hifigan import DiscriminatorConfig, GeneratorConfig, HiFiGANConfig, preset
from jaxvoice.models.hifigan.training import HiFiGANState, HiFiGANTask, TrainingConfig, read_run
from jaxvoice.models.hifigan.weights import load_generator
from jaxvoice.training.compilation_cache import enable_compilation_cache
from jaxvoice.training.host_memory import keep_freed_memory
from jaxvoice.training.loop import LoopConfig, Result, fit
from jaxvoice.training.optimizers import OptimizerConfig
from jaxvoice.training.parallel import check_batch_size, data_mesh, initialize_distributed

CPU_MODEL = HiFiGANConfig(
    generator=GeneratorConfig(
        resblock="2",
        upsample_rates=(8, 8, 4),
        upsample_kernel_sizes=(16, 16, 8),
        upsample_initial_channel=128,
        resblock_kernel_sizes=(3, 5, 7),
        resblock_dilation_sizes=((1, 2), (2, 6), (3, 12)),
    ),
    discriminators=DiscriminatorConfig(periods=(2, 3, 5), scales=1, width=1 / 8),
)
"""V3 at half the width, judged by a few narrow discriminators: some hundred steps fit into a few CPU minutes."""


@dataclass(frozen=True)
class Experiment:
    """Train a HiFi-GAN vocoder; every setting is a flag."""

    data: Path | None = None
    """Corpus to train on; without it, the demo corpus spoken by espeak-ng."""
    corpus: Literal["auto", "ljspeech", "vctk", "folder", "filelist", "pairs"] = "auto"
    """Layout of the corpus, where it is not to be detected."""
    run_dir: Path = Path("runs/hifigan_l40")
    """Where checkpoints, logs, samples and the best model go."""
    preset: str | None = None
    """Released or larger sizes: v1, v2, v3, v1_16k, v1_24k, v1_44k, v1_48k. By default V1, on a CPU a small one."""
    init_from: Path | None = None
    """Run folder whose networks, or model folder whose generator, a new run begins with."""
    validation: int | None = None
    """Clips to hold out, the last of the corpus; by default what the corpus says, else 5 %."""
    batch_size: int = 16
    """Crops in a step, over all devices."""
    crops_per_clip: int = 1
    """Crops of every clip in an epoch."""
    workers: int = 2
    """Threads that cut crops."""
    distributed: bool = False
    """Join the other hosts of this job before anything else (arguments from SLURM, Kubernetes or the TPU runtime)."""
    debug: bool = False
    """Show the traceback of an error."""
    training: Annotated[TrainingConfig, tyro.conf.arg(name="")] = field(default_factory=TrainingConfig)
    loop: Annotated[LoopConfig, tyro.conf.arg(name="")] = field(default_factory=LoopConfig)


def default_experiment(platform: str, preset_name: str | None) -> Experiment:
    """What runs without flags on a `platform` of JAX (`cpu`, `gpu`, `tpu`)."""
    if platform == "cpu":
        # Small corpora make short epochs, so the rate decays by steps; it is high because the steps are few.
        optimizer = OptimizerConfig(learning_rate=1e-3, decay=0.999, decay_steps=10)
        model = CPU_MODEL if preset_name is None else preset(preset_name)
        training = TrainingConfig(model, optimizer, optimizer)
        loop = LoopConfig(minutes=4.0, validate_every=0, checkpoint_every=1000, log_every=20)
        return Experiment(preset=preset_name, batch_size=8, crops_per_clip=4, training=training, loop=loop)
    optimizer = OptimizerConfig(decay=0.999, decay_steps=1000)
    training = TrainingConfig(preset(preset_name or "v1"), optimizer, optimizer, precision="bfloat16", ema_decay=0.999)
    loop = LoopConfig(minutes=60.0, validate_every=2000, checkpoint_every=5000, log_every=50)
    return Experiment(preset=preset_name, batch_size=32, crops_per_clip=16, workers=4, training=training, loop=loop)


def parse(argv: Sequence[str]) -> Experiment:
    """The experiment that the command line `argv` asks for, on this machine's devices."""
    name = None
    for i, argument in enumerate(argv):
        if argument == "--preset" and i + 1 < len(argv):
            name = argv[i + 1]
        elif argument.startswith("--preset="):
            name = argument.removeprefix("--preset=")
    if "--distributed" in argv:
        initialize_distributed()
    default = default_experiment(jax.default_backend(), name)
    prog = "python -m experiments.hifigan_l40"
    return one_line_usage(
        lambda: tyro.cli(Experiment, args=list(argv), default=default, prog=prog, description=__doc__)
    )


def find(experiment: Experiment) -> Corpus:
    """The corpus to train on, checked; prints what was found."""
    mel, segment = experiment.training.model.mel, experiment.training.model.segment_size
    if experiment.data is None:
        print("No --data given: training on the demo corpus, English speech made by espeak-ng.")
        corpus = make_demo_corpus()
    else:
        corpus = find_corpus(experiment.data, experiment.corpus)
    checked = preflight(corpus, mel.sample_rate, segment, hop_length=mel.hop_length, num_mels=mel.num_mels)
    print(checked.table())
    return checked.corpus


def pretrained(task: HiFiGANTask, source: Path, seed: int) -> HiFiGANState:
    """A new state around the networks of a run folder, or the generator of a model folder.

    **Raises:** `CheckpointError` if there is none, or if the generator's sizes differ.
    """
    wanted, new = task.config.model, task.init(key=jax.random.key(seed))
    if (source / "checkpoints").is_dir():
        trained, state = read_run(source)
        generator, config = state.generator if state.average is None else state.average, trained.config.model
        place, discriminators, vectors = f"step {int(state.counters.step)} of {source}", new.discriminators, new.vectors
        if config.discriminators == wanted.discriminators:
            discriminators, vectors = state.discriminators, state.vectors
            print(f"beginning with generator and discriminators of {place}")
        else:
            print(f"beginning with the generator of {place}; its discriminators have other sizes: new ones")
    else:
        folder = source / "model" if (source / "model" / "config.json").is_file() else source
        generator, config = load_generator(folder)
        discriminators, vectors = new.discriminators, new.vectors
        print(f"beginning with the generator of {source} and new discriminators")
    if (config.generator, config.mel) != (wanted.generator, wanted.mel):
        raise CheckpointError(
            f"{source} holds another network or mel contract than this run's: {config.generator}, {config.mel}; give "
            "its --preset or sizes."
        )
    return task.state_of(generator, discriminators, vectors)


def run(experiment: Experiment) -> Result:
    """Train as `experiment` says and return how it ended."""
    config, loop = experiment.training, experiment.loop
    mel = config.model.mel
    check_batch_size(experiment.batch_size, data_mesh())
    if jax.default_backend() == "cpu" and experiment.preset is None:
        print("No GPU or TPU found: a small HiFi-GAN for a few minutes; it will be recognisable, not good.")
    train, held_out = split(find(experiment), experiment.validation)
    normalize = train.kind != "pairs"
    store = load_store(train, mel.sample_rate, peak_normalize=normalize)
    validation = load_store(held_out, mel.sample_rate, peak_normalize=normalize) if len(held_out) else None
    with Loader(
        store,
        batch_size=experiment.batch_size,
        segment=config.model.segment_size,
        seed=loop.seed,
        hop_length=mel.hop_length,
        crops_per_clip=experiment.crops_per_clip,
        workers=experiment.workers,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        mel_padding=mel.floor,
    ) as loader:
        task = HiFiGANTask(config, steps_per_epoch=loader.steps_per_epoch, validation=validation)
        begin = None
        if experiment.init_from is not None:
            begin = ft.partial(pretrained, task, experiment.init_from, loop.seed)
        return fit(task, loader, loop, experiment.run_dir, begin=begin)


def summary(result: Result, experiment: Experiment, seconds: float) -> str:
    """The lines a run ends with: quality, speed, where to listen and look, what to type next."""
    folder, model = result.folder, experiment.training.model
    audio = result.steps_per_second * experiment.batch_size * model.segment_size / model.mel.sample_rate
    quality = f"{result.metrics['mel_l1']:.4f}" if "mel_l1" in result.metrics else "none in this run so far"
    more = "the same command with a larger --steps" if result.stopped == "steps" else "the same command"
    lines = [
        f"step {result.step} after {seconds / 60:.1f} minutes (stopped by {result.stopped})",
        f"validation mel L1  {quality}",
        f"speed              {result.steps_per_second:.2f} steps/s, {audio:.1f} s of audio per second",
        f"listen and look    {folder / 'samples'}; tensorboard --logdir {folder}",
        f"the model          {folder / 'model'}",
        f"next               jaxvoice vocode RECORDING.wav OUTPUT.wav --model {folder}",
        f"train on           {more}; more time with --minutes",
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the experiment; the exit code is 0, or 2 after an error told in one line."""
    start = time.monotonic()
    argv = sys.argv[1:] if argv is None else argv
    try:
        experiment = parse(argv)
        enable_compilation_cache()
        result = run(experiment)
    except JaxvoiceError as failure:
        if "--debug" in argv:
            raise
        print(f"error: {failure}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    if jax.process_index() == 0:
        print(summary(result, experiment, time.monotonic() - start))
    return 0


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())

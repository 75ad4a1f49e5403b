"""HiFi-GAN from nothing to speech within an hour on one NVIDIA L40.

    python -m experiments.hifigan_l40 [--data PATH] [--run-dir DIR] [--minutes M] ...

On a GPU or TPU it trains HiFi-GAN V1 (`--preset` for others) in bfloat16 for at most 60 minutes; on a CPU, a small
HiFi-GAN against small discriminators, for at most five minutes altogether. Without `--data` it makes a few minutes of
English speech with espeak-ng (extra `demo`) and trains on that. The same command goes on with a run that was stopped.
The minutes count from the start of the command: looking through the corpus and decoding it are part of them.

What to expect: on two shared CPU cores, 250 to 280 steps in 4.2 minutes and a validation mel L1 of 0.7 to 0.8 on the
demo corpus: the mel shows phrases and vowels, but no harmonics yet. An hour on an L40 has not been measured. All
measurements are in docs/results.md.
"""

import functools as ft
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import tyro

from experiments.running import Loop, check_writable, remaining, tell
from jaxvoice.config import differences
from jaxvoice.console import one_line_usage, run_command
from jaxvoice.data import Corpus, Loader, find_corpus, load_store, make_demo_corpus, preflight, split
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.models.hifigan import DiscriminatorConfig, GeneratorConfig, HiFiGANConfig, preset
from jaxvoice.models.hifigan.resuming import continued_config, continued_state, trained_discriminators
from jaxvoice.models.hifigan.training import HiFiGANState, HiFiGANTask, TrainingConfig, read_run
from jaxvoice.models.hifigan.weights import load_generator
from jaxvoice.training.compilation_cache import enable_compilation_cache
from jaxvoice.training.host_memory import keep_freed_memory
from jaxvoice.training.loop import Result, fit
from jaxvoice.training.optimizers import OptimizerConfig
from jaxvoice.training.parallel import check_batch_size, data_mesh, initialize_distributed
from jaxvoice.training.run_folder import RunFolder
from jaxvoice.weights.file_layout import kept_when_trained
from jaxvoice.weights.model_folder import read_about

NAME = "hifigan_l40"

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
    """Run folder whose networks, or model folder whose generator (and discriminators, where an import brought some), a
    new run begins with."""
    continue_from: Path | None = None
    """Model folder of `jaxvoice import` with training.safetensors: a new run goes on from that step, with the sizes and
    optimisers stored there unless flags say otherwise."""
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
    training: Annotated[TrainingConfig, tyro.conf.arg(name=""), tyro.conf.AvoidSubcommands] = field(
        default_factory=TrainingConfig
    )
    loop: Annotated[Loop, tyro.conf.arg(name="")] = field(default_factory=Loop)

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ConfigError(f"--workers should be at least 0, got {self.workers}; 0 cuts crops between the steps.")
        if self.crops_per_clip < 1:
            raise ConfigError(f"--crops-per-clip should be at least 1, got {self.crops_per_clip}.")
        if self.continue_from is not None and self.init_from is not None:
            raise ConfigError("--continue-from goes on with a training, --init-from begins one; give one of them.")
        conditions = self.training.model.generator.cond_channels
        if conditions != 0:
            raise ConfigError(
                f"--model.generator.cond-channels is {conditions}, but no corpus gives conditioning vectors to train "
                "with; leave it at 0."
            )


def default_experiment(platform: str, preset_name: str | None, continued: Path | None = None) -> Experiment:
    """What runs without flags on a `platform` of JAX (`cpu`, `gpu`, `tpu`), or with `--continue-from` alone.

    **Raises:** `CheckpointError` or `ConfigError` if there is nothing to go on with in the folder `continued`.
    """
    if continued is not None:
        loop = Loop(steps=5_000_000, validate_every=1000, checkpoint_every=5000, log_every=50)
        return Experiment(continue_from=continued, training=continued_config(continued), loop=loop)
    if platform == "cpu":
        # Small corpora make short epochs, so the rate decays by steps; it is high because the steps are few.
        optimizer = OptimizerConfig(learning_rate=1e-3, decay=0.999, decay_steps=10)
        model = CPU_MODEL if preset_name is None else preset(preset_name)
        training = TrainingConfig(model, optimizer, optimizer)
        loop = Loop(minutes=4.0, validate_every=0, checkpoint_every=100, log_every=20)
        return Experiment(preset=preset_name, batch_size=8, crops_per_clip=4, training=training, loop=loop)
    optimizer = OptimizerConfig(decay=0.999, decay_steps=1000)
    training = TrainingConfig(preset(preset_name or "v1"), optimizer, optimizer, precision="bfloat16", ema_decay=0.999)
    loop = Loop(minutes=60.0, validate_every=2000, checkpoint_every=5000, log_every=50)
    return Experiment(preset=preset_name, batch_size=32, crops_per_clip=16, workers=4, training=training, loop=loop)


def parse(argv: Sequence[str]) -> Experiment:
    """The experiment that the command line `argv` asks for, on this machine's devices."""
    name, continued = _value_of("--preset", argv), _value_of("--continue-from", argv)
    if continued is not None and name is not None:
        raise ConfigError("--continue-from takes the sizes that are stored; leave --preset away.")
    if "--distributed" in argv:
        initialize_distributed()
    default = default_experiment(jax.default_backend(), name, None if continued is None else Path(continued))
    prog = "python -m experiments.hifigan_l40"
    return one_line_usage(
        lambda: tyro.cli(Experiment, args=list(argv), default=default, prog=prog, description=__doc__),
        name=NAME,
        unnamed=("Experiment", "training", "loop"),
    )


def _value_of(flag: str, argv: Sequence[str]) -> str | None:
    """The value of `flag` in `argv`, which is needed before the defaults of the others are known."""
    found = None
    for i, argument in enumerate(argv):
        if argument == flag and i + 1 < len(argv):
            found = argv[i + 1]
        elif argument.startswith(f"{flag}="):
            found = argument.removeprefix(f"{flag}=")
    return None if found == "None" else found  # as the help offers it


def check(experiment: Experiment) -> None:
    """Refuse what cannot work on any corpus, before one is decoded.

    **Raises:** `ConfigError` or `CheckpointError` for a batch size that the devices cannot share, a run folder that
    cannot be made or that `--resume` does not allow, or nothing to begin with at `--init-from`.
    """
    check_batch_size(experiment.batch_size, data_mesh())
    folder = RunFolder(experiment.run_dir)
    folder.check(experiment.loop.resume)
    check_writable(experiment.run_dir)
    source = experiment.init_from
    if source is None or folder.exists():
        return
    if not (source / "checkpoints").is_dir() and not (model_in(source) / "config.json").is_file():
        raise CheckpointError(
            f"--init-from {source} is neither a run folder with checkpoints nor a model folder; check the path."
        )


def model_in(source: Path) -> Path:
    """The model folder of a run folder, or `source` itself."""
    return source / "model" if (source / "model" / "config.json").is_file() else source


def kept_of(experiment: Experiment) -> dict[str, Any]:
    """What the model folder of a run keeps of the model that the run begins with, or began with: licence and layout.

    **Raises:** `ConfigError` or `CheckpointError` if that model's `config.json` cannot be read.
    """
    for source in (experiment.init_from, experiment.continue_from, experiment.run_dir):
        file = None if source is None else model_in(source) / "config.json"
        if file is not None and file.is_file():
            return kept_when_trained(read_about(file.parent).table.get("info"), str(file))
    return {}


def find(experiment: Experiment) -> Corpus:
    """The corpus to train on, checked; prints what was found."""
    mel, segment = experiment.training.model.mel_contract, experiment.training.model.segment_size
    if experiment.data is None:
        tell("No --data given: training on the demo corpus, English speech made by espeak-ng.")
        corpus = make_demo_corpus()
    else:
        corpus = find_corpus(experiment.data, experiment.corpus)
    checked = preflight(corpus, mel.sample_rate, segment, mel=mel, progress=jax.process_index() == 0)
    tell(checked.table())
    return checked.corpus


def pretrained(task: HiFiGANTask, source: Path, seed: int) -> HiFiGANState:
    """A new state around the networks of a run folder, or the generator of a model folder.

    **Raises:** `CheckpointError` if there is none, or if the generator's sizes differ.
    """
    wanted, new = task.config.model, task.init(key=jax.random.key(seed))
    if (source / "checkpoints").is_dir():
        trained, state = read_run(source)
        generator, config = state.generator.eval_model, trained.config.model
        place = f"step {int(state.counters.step)} of {source}"
        discriminators, vectors = new.discriminators.model, new.discriminators.model_state
        if config.discriminators == wanted.discriminators:
            discriminators, vectors = state.discriminators.model, state.discriminators.model_state
            tell(f"beginning with generator and discriminators of {place}")
        else:
            tell(f"beginning with the generator of {place}; its discriminators have other sizes: new ones")
    else:
        generator, config = load_generator(model_in(source))
        stored = trained_discriminators(model_in(source), wanted.discriminators)
        discriminators, vectors = stored or (new.discriminators.model, new.discriminators.model_state)
        tell(f"beginning with the generator of {source} and {'its' if stored else 'new'} discriminators")
    lines = differences(config.generator, wanted.generator, "--model.generator.")
    lines += differences(config.mel_contract, wanted.mel_contract, "--model.mel.")
    if lines:
        raise CheckpointError(
            f"{source} holds another network or mel contract than this run's (stored != asked for): "
            f"{'; '.join(lines)}. Give its --preset or sizes."
        )
    return task.state_of(generator, discriminators, vectors)


def run(experiment: Experiment, started: float | None = None) -> Result:
    """Train as `experiment` says and return how it ended; its minutes count from `started` (`time.monotonic()`)."""
    started = time.monotonic() if started is None else started
    config, loop = experiment.training, experiment.loop
    mel = config.model.mel_contract
    check(experiment)
    if jax.default_backend() == "cpu" and experiment.preset is None and experiment.continue_from is None:
        tell("No GPU or TPU found: a small HiFi-GAN for a few minutes; it will be recognisable, not good.")
    train, held_out = split(find(experiment), experiment.validation)
    load = ft.partial(
        load_store,
        sample_rate=mel.sample_rate,
        peak_normalize=train.kind != "pairs",
        progress=jax.process_index() == 0,
    )
    store, validation = load(train), load(held_out) if len(held_out) else None
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
        kept = kept_of(experiment)
        task = HiFiGANTask(config, steps_per_epoch=loader.steps_per_epoch, validation=validation, kept=kept)
        begin = None
        if experiment.init_from is not None:
            begin = ft.partial(pretrained, task, experiment.init_from, loop.seed)
        elif experiment.continue_from is not None:
            begin = ft.partial(continued_state, task, experiment.continue_from)
        return fit(task, loader, remaining(loop, time.monotonic() - started), experiment.run_dir, begin=begin)


def summary(result: Result, experiment: Experiment, seconds: float) -> str:
    """The lines a run ends with: quality, speed, where to listen and look, what to type next."""
    folder = result.folder
    more = "the same command with a larger --steps" if result.stopped == "steps" else "the same command"
    samples = [f"{folder / 'samples'}"] if (folder / "samples").is_dir() else []
    curves = [f"tensorboard --logdir {folder}"] if experiment.loop.tensorboard else []
    rows = [("validation mel L1", quality(result)), ("speed", speed(result, experiment))]
    rows += [("listen and look", "; ".join(samples + curves))] if samples + curves else []
    if (folder / "model" / "config.json").is_file():
        step = read_about(folder / "model").table.get("info", {}).get("step")
        rows.append(("the model", f"{folder / 'model'}" + _of_step(step, result)))
        rows.append(("next", f"jaxvoice vocode RECORDING.wav OUTPUT.wav --model {folder}"))
    else:
        rows.append(("the model", "none yet"))
    rows.append(("train on", f"{more}; more time with --minutes"))
    head = f"step {result.step} after {seconds / 60:.1f} minutes (stopped by {result.stopped})"
    return "\n".join([head, *(f"{name:<19}{value}" for name, value in rows)])


def quality(result: Result) -> str:
    """The best validation so far in words, and the last one where it was worse."""
    last = result.metrics.get("mel_l1")
    if result.best is None:
        return "none in this run so far" if last is None else "not finite so far"
    best = result.best["value"]
    found = f"{best:.4f}{_of_step(int(result.best['step']), result)}"
    if last is None or last == best:
        return found
    return f"{found}, {last:.4f} at the last look" if math.isfinite(last) else f"{found}, not finite at the last look"


def _of_step(step: int | None, result: Result) -> str:
    return "" if step in (None, result.step) else f" (of step {step})"


def speed(result: Result, experiment: Experiment) -> str:
    """Steps and audio per second in words."""
    if not result.steps_per_second > 0:
        return "not measured in this session"
    model = experiment.training.model
    audio = result.steps_per_second * experiment.batch_size * model.segment_size / model.mel.sample_rate
    return f"{result.steps_per_second:.3g} steps/s, {audio:.3g} s of audio per second"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the experiment; the exit code is 0, or 2 after an error told in one line."""
    started = time.monotonic()
    arguments = sys.argv[1:] if argv is None else argv

    def train() -> int:
        experiment = parse(arguments)
        enable_compilation_cache()
        result = run(experiment, started)
        tell(summary(result, experiment, time.monotonic() - started))
        return 0

    return run_command(train, name=NAME, debug="--debug" in arguments)


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())

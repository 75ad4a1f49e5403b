"""Code shared by the experiments: flags and their defaults, checks, the time budget, and the commands."""

import contextlib
import functools as ft
import os
import shlex
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

import jax
import tyro

from jaxvoice.config import differences, format_value, from_dict, to_dict
from jaxvoice.console import flag_name, parse_command_line, run_command, with_flag, without_flags
from jaxvoice.data import (
    Corpus,
    Loader,
    Store,
    Voice,
    find_corpus,
    load_store,
    make_demo_corpus,
    preflight,
    split,
)
from jaxvoice.data.atomic_folders import cache_folder
from jaxvoice.data.samplers import Sampler
from jaxvoice.dsp import MelConfig
from jaxvoice.errors import CheckpointError, ConfigError, JaxvoiceError
from jaxvoice.models.family import Family
from jaxvoice.pipelines.sources import find_model_folder
from jaxvoice.training.logging import print_once
from jaxvoice.training.loop import LoopConfig, TrainingResult, fit
from jaxvoice.training.parallel import check_batch_size, data_mesh, initialize_distributed
from jaxvoice.training.process import enable_compilation_cache
from jaxvoice.training.run_folder import RunFolder, model_folder
from jaxvoice.training.run_lock import RunLock
from jaxvoice.training.task import Task
from jaxvoice.weights.model_folder import CONFIG_FILE, read_config_file

UNNAMED = ("training", "loop")
"""Fields of experiments whose own fields are flags without a prefix."""
RecordingsKind = Literal["auto", "ljspeech", "vctk", "folder", "filelist", "pairs"]


@dataclass(frozen=True)
class Loop(LoopConfig):
    """How long to train, and how often to validate, save and log; the time counts from the start of the command."""

    minutes: float | None = None
    """Wall time in minutes from the start of the command, preflight and decoding included; None sets no limit."""


@dataclass(frozen=True)
class Experiment:
    """The settings of every experiment; each is a flag.

    `kept` are the names of those that choose what a run is trained on, besides the flags that describe the corpus. They
    are stored with the run, and a resumed run keeps them. `hidden` are the names of fields that are not flags, by their
    class: values that the experiment sets, or that have no use in it.
    """

    kept: ClassVar[tuple[str, ...]] = ("validation",)
    hidden: ClassVar[Mapping[type, Collection[str]]] = MappingProxyType({})
    data: Path | None = None
    """Corpus to train on; by default a corpus synthesised by espeak-ng."""
    run_dir: Path = Path("runs/experiment")
    """Folder for checkpoints, logs, samples and the best model."""
    preset: str | None = None
    """Named set of defaults for the other flags, with the same values on every machine; by default tiny on a CPU, and
    the full size on a GPU or TPU."""
    init_from: Path | None = None
    """Run folder, model folder or Hub id (owner/name) with trained networks for a new run. Sizes and mel contract must
    be equal."""
    validation: int | None = None
    """Number of utterances to hold out, from the end of the corpus; by default the validation set of the corpus, or
    else 5 %, at most 150."""
    batch_size: int = 16
    """Examples per step, summed over all devices."""
    distributed: bool = False
    """Train on several hosts, which are detected from SLURM, Kubernetes or the TPU runtime."""
    debug: bool = False
    """Show the traceback of an error."""
    loop: Annotated[Loop, tyro.conf.arg(name="")] = field(default_factory=Loop)

    def with_training(self, training: Any, **sizes: int) -> Self:
        """This experiment with the stored `training` of a run, which is the configuration of its task, and `sizes`."""
        return replace(self, training=training, **sizes)  # pyright: ignore[reportCallIssue]


_BatchT = TypeVar("_BatchT")
AnyExperiment = TypeVar("AnyExperiment", bound=Experiment)


def check_at_least(experiment: Experiment, **limits: int) -> None:
    """Raise `ConfigError`, with the flag's name, if a field of `experiment` is below its limit."""
    for name, limit in limits.items():
        value = getattr(experiment, name)
        if value < limit:
            raise ConfigError(f"{flag_name(name)} is {value}; it should be at least {limit}.")


def check_choice(flag: str, value: str, choices: Collection[str]) -> None:
    """Raise `ConfigError` unless the `value` of `flag` is one of `choices`."""
    if value not in choices:
        raise ConfigError(f"{flag} is {value!r}; it should be one of {', '.join(choices)}.")


@contextlib.contextmanager
def flags_in_errors(experiment: Experiment) -> Iterator[None]:
    """A context in which a `ConfigError` about a field of `experiment` names its flag: `--steps`, not `Loop.steps`."""
    try:
        yield
    except ConfigError as failure:
        configs = [experiment, *(getattr(experiment, name) for name in UNNAMED if hasattr(experiment, name))]
        names = {field.name for config in configs for field in fields(config)}
        raise ConfigError(with_flag(str(failure), names)) from failure


def flag_value(flag: str, argv: Sequence[str]) -> str | None:
    """The value of `flag` in `argv`, for a flag on which other defaults depend; `None` if it is absent."""
    found = None
    for i, argument in enumerate(argv):
        name, equals, value = argument.partition("=")
        if name.replace("_", "-") != flag:
            continue
        if equals:
            found = value
        elif i + 1 < len(argv):
            found = argv[i + 1]
    return None if found == "None" else found  # the default that the help shows


def chosen_preset(argv: Sequence[str], presets: Collection[str], full: str) -> str:
    """The preset that `argv` names; without one, `tiny` on a CPU and `full` on an accelerator.

    **Raises:** `ConfigError` if `--preset` names none of `presets`.
    """
    name = flag_value("--preset", argv)
    if name is None:
        return "tiny" if jax.default_backend() == "cpu" else full
    check_choice("--preset", name, presets)
    return name


def with_stored_settings(given: AnyExperiment, argv: Sequence[str]) -> AnyExperiment:
    """The defaults `given` with the settings of the run that `argv` resumes, if there is one.

    So a run keeps its settings if the defaults change. `--preset` replaces them all by those of the preset. `--minutes`
    and `--resume` are settings of one session.
    """
    folder = RunFolder(Path(flag_value("--run-dir", argv) or given.run_dir))
    if flag_value("--preset", argv) is not None or not folder.has_progress():
        return given
    where = str(folder.config)
    try:
        table, data = folder.read_config(), folder.read_data_description()
        config = type(given.training)  # pyright: ignore[reportAttributeAccessIssue]
        sizes = {name: data.get(name) for name in ("batch_size", "crops_per_clip") if hasattr(given, name)}
        sizes = {name: size for name, size in sizes.items() if type(size) is int}
        given = replace(given.with_training(from_dict(config, table["config"], where), **sizes), preset=None)
    except (CheckpointError, ConfigError, KeyError):
        return given  # the run is damaged, or that of another family: the training loop raises an error
    with contextlib.suppress(ConfigError):
        loop = from_dict(Loop, table.get("loop") or {}, where)
        given = replace(given, loop=replace(loop, minutes=given.loop.minutes, resume=given.loop.resume))
    for name, value in stored_settings(folder.path, given.kept).items():
        table = to_dict(given) | {name: value}  # the checks of an experiment compare its settings
        try:
            given = replace(given, **{name: getattr(from_dict(type(given), table, where), name)})
        except ConfigError as failure:
            print_once(f"the stored {flag_name(name)} is not used: {failure}")
    return given


def kept_settings(experiment: Experiment) -> dict[str, Any]:
    """The settings that a run of `experiment` keeps, as JSON values, for `fit`."""
    return {name: value for name, value in to_dict(experiment).items() if name in experiment.kept}


def stored_settings(run: Path, names: Collection[str]) -> dict[str, Any]:
    """Those of the settings `names` that the run folder `run` contains, as JSON values; none for a new run.

    **Raises:** `CheckpointError` if its `config.json` cannot be read.
    """
    folder = RunFolder(run)
    stored = folder.read_data_description().get("settings") if folder.has_progress() else None
    return {name: stored[name] for name in names if name in stored} if isinstance(stored, Mapping) else {}


def parse(argv: Sequence[str], default: Callable[[], AnyExperiment], *, name: str, description: str) -> AnyExperiment:
    """The experiment for the command line `argv`; flags that are not given have the values of `default()`, or those of
    the run that it resumes.

    With `--distributed`, the hosts are connected before `default` is called, because it may use JAX.

    **Raises:** `SystemExit` after `--help` and after usage errors.
    """
    if "--distributed" in argv:
        initialize_distributed()
    given = default()
    with flags_in_errors(given):
        given = with_stored_settings(given, argv)
        with without_flags(given.hidden):
            parsed = parse_command_line(
                lambda: tyro.cli(
                    type(given),
                    args=list(argv),
                    default=given,
                    prog=f"python -m experiments.{name}",
                    description=description,
                ),
                name=name,
                unnamed=(type(given).__name__, *UNNAMED),
            )
    return parsed if parsed.preset is not None else replace(parsed, preset=given.preset)


def check(experiment: Experiment) -> None:
    """Check the settings that do not depend on the corpus.

    **Raises:** `ConfigError` or `CheckpointError` for a batch size that is not a multiple of the number of devices, a
    run folder that cannot be created, that another process writes or that `--resume` does not allow, a resumed run
    without its `--data`, or an `--init-from` without a model.
    """
    with flags_in_errors(experiment):
        check_batch_size(experiment.batch_size, data_mesh())
    RunFolder(experiment.run_dir).check(experiment.loop.resume)
    if jax.process_index() == 0:  # which locks the folder later
        RunLock(experiment.run_dir).check()
    check_writable(experiment.run_dir)
    _check_data(experiment)
    find_initial_model(experiment)


def _check_data(experiment: Experiment) -> None:
    """Raise `ConfigError` if a run on another corpus than the demo corpus is resumed without `--data`."""
    folder = RunFolder(experiment.run_dir)
    if experiment.data is not None or not folder.has_progress():
        return
    corpus = folder.read_data_description().get("corpus")
    if isinstance(corpus, str) and Path(corpus).exists() and cache_folder("demo") not in Path(corpus).parents:
        raise ConfigError(
            f"--data is not set, but the run in {experiment.run_dir} was trained on {corpus}; pass --data "
            f"{shlex.quote(corpus)}, or choose another --run-dir."
        )


def find_initial_model(experiment: Experiment) -> Path | None:
    """The folder for `--init-from`: a run folder with checkpoints, or a model folder; `None` without the flag.

    The model of a Hub id is downloaded. A resumed run does not use `--init-from`, so its value is returned unchecked.

    **Raises:** `CheckpointError` if there is no model.
    """
    source = experiment.init_from
    if source is None or RunFolder(experiment.run_dir).has_progress() or RunFolder(source).checkpoints.is_dir():
        return source
    try:
        return find_model_folder(source)
    except JaxvoiceError as failure:
        raise CheckpointError(
            f"--init-from is {source}; it should be a run folder with checkpoints or a model. {failure}"
        ) from failure


def find_model(flag: str, path: str | Path, family: Family, example: str, *, inside: str | None = None) -> Path:
    """The model folder of `family` that the value `path` of `flag` names.

    **Arguments:** `example` of what to pass, for errors; `inside`, the name of a folder inside models of other
    families that may contain it.

    **Raises:** as `find_model_folder`, with the flag, if there is no model; `ConfigError` for one of another family.
    """
    try:
        folder = find_model_folder(path)
    except JaxvoiceError as failure:
        raise type(failure)(f"{flag}: {failure}") from failure
    if inside is not None and (folder / inside / CONFIG_FILE).is_file():
        folder = folder / inside
    found = read_config_file(folder).table.get("family")
    if found != family.name:
        raise ConfigError(
            f"{flag} is {path}, a model of the family {format_value(found)}; it should be one of the family "
            f"{family.name!r}, such as {example}."
        )
    return folder


def initial_network(
    experiment: Experiment,
    family: Family,
    config: Any,
    *,
    adapt: Callable[[Any, Any, Path], tuple[Any, Any]] | None = None,
) -> Any:
    """The network of `--init-from` for a new run; `None` without the flag, and for a resumed run.

    **Arguments:** `adapt`, returns the network and the configuration to use for those in a model folder; by default,
    they are used as they are.

    **Raises:** `CheckpointError` if there is no model, or if its configuration is not `config`.
    """
    source = find_initial_model(experiment)
    if source is None or RunFolder(experiment.run_dir).has_progress():
        return None
    folder = model_folder(source)
    network, stored = family.load_network(folder)
    if adapt is not None:
        network, stored = adapt(network, stored, folder)
    lines = differences(stored, config, "--model.")
    if lines:
        raise CheckpointError(
            f"--init-from is {experiment.init_from}, which contains another network or mel contract (stored != "
            f"requested): {'; '.join(lines)}. Set these flags to the stored values."
        )
    print_once(f"starting with the networks of {folder}")
    return network


def check_writable(folder: Path) -> None:
    """Raise `CheckpointError` unless `folder` can be written or created; creates nothing."""
    absolute = folder.absolute()
    existing = next((path for path in (absolute, *absolute.parents) if os.path.lexists(path)), absolute)
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        problem = "is not writable" if existing.is_dir() else "is not a folder"
        raise CheckpointError(
            f"The run folder {folder} cannot be created: {existing} {problem}. Choose another --run-dir."
        )


def find_recordings(
    experiment: Experiment,
    kind: RecordingsKind,
    mel: MelConfig,
    segment: int,
    *,
    audio_dir: Path | None = None,
    voices: Sequence[Voice] | None = None,
) -> Corpus:
    """Find and check the recordings to train a vocoder on, by default the demo corpus, and print a table of them.

    `kind` and `audio_dir` are those of `find_corpus`, `voices` those of `make_demo_corpus`.

    **Raises:** `DataError` or `ConfigError` if there is no corpus, or none of its recordings can be used.
    """
    if experiment.data is None:
        print_once("--data is not set; training on the demo corpus, English speech synthesised by espeak-ng.")
        corpus = make_demo_corpus(voices=voices)
    else:
        corpus = find_corpus(experiment.data, kind, audio_dir)
    checked = preflight(corpus, mel.sample_rate, segment, mel=mel, progress=jax.process_index() == 0)
    print_once(checked.table())
    return checked.corpus


def load_recordings(
    corpus: Corpus, validation: int | None, mel: MelConfig, *, peak_normalize: bool = True
) -> tuple[Store, Store | None]:
    """The stores of the decoded training and validation recordings; the second is `None` if nothing is held out.

    With `peak_normalize`, recordings are scaled to a peak of 0.95, except those of a corpus with mels.
    """
    # Mels in a corpus were computed from the unscaled audio.
    load = ft.partial(
        load_store,
        sample_rate=mel.sample_rate,
        peak_normalize=peak_normalize and corpus.kind != "pairs",
        progress=jax.process_index() == 0,
    )
    return load_split(load, split(corpus, validation))


def load_split(load: Callable[[Corpus], Store], parts: tuple[Corpus, Corpus]) -> tuple[Store, Store | None]:
    """The stores of the training and validation parts of a split; the second is `None` if nothing is held out."""
    train, held_out = parts
    return load(train), load(held_out) if len(held_out) else None


def loader(store: Store, sampler: Sampler[_BatchT], *, seed: int, workers: int = 0) -> Loader[_BatchT]:
    """A loader of the batches for this process."""
    index, count = jax.process_index(), jax.process_count()
    return Loader(store, sampler, seed=seed, workers=workers, process_index=index, process_count=count)


def remaining(loop: Loop, spent: float) -> Loop:
    """`loop` with its time budget reduced by `spent` seconds; at least one second remains, so one step is performed."""
    return loop if loop.minutes is None else replace(loop, minutes=max(loop.minutes - spent / 60, 1 / 60))


def train(
    experiment: Experiment,
    task: Task,
    loader: Loader[Any],
    started: float,
    initial_state: Callable[[], Any] | None = None,
) -> TrainingResult:
    """Train `task` in the run folder of `experiment`; the minutes count from `started` (`time.monotonic()`).

    The run stores the settings that it keeps.
    """
    left = remaining(experiment.loop, time.monotonic() - started)
    return fit(task, loader, left, experiment.run_dir, initial_state=initial_state, settings=kept_settings(experiment))


def main(
    argv: Sequence[str] | None,
    *,
    name: str,
    parse: Callable[[Sequence[str]], AnyExperiment],
    run: Callable[[AnyExperiment, float], TrainingResult],
    summary: Callable[[TrainingResult, AnyExperiment, float], str],
) -> int:
    """Run an experiment, print its summary and return 0. An error is printed on one line, and the result is 2.

    **Arguments:** `run` takes the experiment and the time at which the command started (`time.monotonic()`). `summary`
    takes the result, the experiment and the seconds since the start.
    """
    started = time.monotonic()
    arguments = sys.argv[1:] if argv is None else argv

    def action() -> int:
        experiment = parse(arguments)
        enable_compilation_cache()
        result = run(experiment, started)
        print_once(summary(result, experiment, time.monotonic() - started))
        return 0

    return run_command(action, name=name, debug="--debug" in arguments)

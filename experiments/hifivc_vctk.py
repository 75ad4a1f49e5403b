"""Train HiFi-VC, any-to-any voice conversion, on VCTK, or on 14 synthetic voices.

    python -m experiments.hifivc_vctk [--data VCTK] [--content-encoder PATH] [--run-dir DIR] [--preset NAME] ...

The content encoder is a speech recogniser that is not trained here. `--content-encoder` is its model folder, for
example NVIDIA's `stt_en_conformer_ctc_large_ls` from `jaxvoice import`, or a run of `experiments.phoneme_recogniser`.
The training speakers of VCTK are the 103 of NVC-Net's list. Six others are never trained on (`--unseen`), and `s5`,
which is in neither list, is not used as long as `--unseen` contains these six. On a GPU or TPU the preset `full` trains
the networks of the released size.

Without `--data`, espeak-ng (extra `demo`) synthesises sentences in 16 voices, two of which are never trained on, and a
small content encoder is trained first as phoneme recogniser (in `DIR_content_encoder`), for a third of `--minutes`, or
for five minutes without a time limit. On a CPU, the preset `tiny` then trains small networks; both take at most fifteen
minutes. It trains without discriminators, because it makes fewer than its 30,000 `--reconstruction-steps` in this time.
The same command resumes a run that was stopped, in either part.

Results: on two CPU cores, after fifteen minutes, 87.5 % of the conversions between held-out utterances are closer to
the target's voice than to the source's, and the F0 correlation is 0.99. All measurements are in docs/results.md.
"""

import functools as ft
import shlex
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal, Self

import jax
import numpy as np
import tyro

from experiments import common, phoneme_recogniser, summaries, voice_conversion
from experiments.common import Loop
from jaxvoice.data import Corpus, Store, find_corpus, load_store, preflight
from jaxvoice.data.utterances import rows_of_speakers
from jaxvoice.errors import CheckpointError, ConfigError, DataError
from jaxvoice.models import hifivc
from jaxvoice.models.conformer import ConformerConfig, ConformerEncoder, fold_batch_norm, mask_padding
from jaxvoice.models.hifivc import HiFiVC, HiFiVCConfig
from jaxvoice.models.hifivc.features import training_columns
from jaxvoice.models.hifivc.training import HiFiVCState, HiFiVCTask, LossWeights, TrainingConfig, training_sampler
from jaxvoice.models.hifivc.validation import METRICS, Validation
from jaxvoice.pipelines.content_encoder import ContentEncoder
from jaxvoice.training.logging import print_once
from jaxvoice.training.loop import TrainingResult
from jaxvoice.training.optimizers import OptimizerConfig
from jaxvoice.training.process import keep_freed_memory
from jaxvoice.training.run_folder import RunFolder, inherited_info
from jaxvoice.weights import named_arrays

NAME = "hifivc_vctk"
CONTENT_SHARE = 1 / 3
"""Share of `--minutes` in which the content encoder is trained, if there is none. Without a time limit, its training
takes the time of the preset `tiny` of `experiments.phoneme_recogniser`."""


@dataclass(frozen=True)
class Experiment(common.Experiment):
    """Train HiFi-VC; every setting is a flag."""

    kept = (*common.Experiment.kept, "content_encoder")
    hidden = MappingProxyType({TrainingConfig: ["content_identity"]})
    run_dir: Path = Path("runs/hifivc_vctk")
    """Folder for checkpoints, logs, samples and the best model."""
    corpus: Literal["auto", "ljspeech", "vctk", "folder", "filelist"] = "auto"
    """Layout of the corpus, which names the speaker of each recording; auto detects it."""
    content_encoder: Path | None = None
    """Model folder or run folder of the content encoder; by default one is trained on the demo corpus, beside the run
    folder."""
    workers: int = 2
    """Number of loader threads; with 0, batches are prepared in the main thread."""
    training: Annotated[TrainingConfig, tyro.conf.arg(name=""), tyro.conf.AvoidSubcommands] = field(
        default_factory=TrainingConfig
    )

    def __post_init__(self) -> None:
        common.check_at_least(self, workers=0)
        common.check_choice("--best-metric", self.loop.best_metric, METRICS)
        if self.data is not None and self.content_encoder is None:
            raise ConfigError(
                "--content-encoder is not set; it should be the model folder of a speech recogniser, because a corpus "
                "without phoneme times cannot train one. Import a .nemo file with jaxvoice import, or run "
                "experiments.phoneme_recogniser."
            )

    def with_training(self, training: TrainingConfig, **sizes: int) -> Self:
        """This experiment with the stored `training` of a run, and `sizes`."""
        return replace(self, training=training, **sizes)


def default_experiment(preset: str) -> Experiment:
    """The settings of a preset, `tiny` or `full`."""
    model = hifivc.preset(preset)
    if preset == "tiny":
        optimizer = OptimizerConfig(learning_rate=1e-3, decay=0.999, decay_steps=5)
        weights = LossWeights(stft=10.0, kl_warmup_steps=1000)
        training = TrainingConfig(
            model, optimizer, optimizer, weights, segment_frames=16, ema_decay=0.995, reconstruction_steps=30_000
        )
        loop = Loop(minutes=14.5, validate_every=0, checkpoint_every=500, log_every=100)
        return Experiment(preset=preset, batch_size=4, training=training, loop=loop)
    optimizer = OptimizerConfig(decay=0.999, decay_steps=1000)
    training = TrainingConfig(
        model,
        optimizer,
        optimizer,
        LossWeights(stft=10.0),
        precision="bfloat16",
        ema_decay=0.999,
        reconstruction_steps=1000,
    )
    loop = Loop(steps=500_000, validate_every=5000, checkpoint_every=5000)
    return Experiment(preset=preset, batch_size=16, workers=4, training=training, loop=loop)


def parse(argv: Sequence[str]) -> Experiment:
    """The experiment for the command line `argv`."""

    def default() -> Experiment:
        return default_experiment(common.chosen_preset(argv, hifivc.PRESETS, full="full"))

    return common.parse(argv, default, name=NAME, description=__doc__ or "")


def find_speakers(experiment: Experiment) -> tuple[Corpus, Corpus, tuple[str, ...]]:
    """The utterances to train on, those of unseen speakers, and the names of the unseen speakers."""
    model = experiment.training.model
    unseen = experiment.training.unseen
    if experiment.data is None:
        corpus = voice_conversion.demo_corpus()
        unseen = voice_conversion.DEMO_UNSEEN if unseen is None else unseen
    else:
        found = find_corpus(experiment.data, experiment.corpus)
        rows_of_speakers(found)  # raises an error before files are decoded
        segment = experiment.training.segment_samples
        checked = preflight(found, model.mel.sample_rate, segment, progress=jax.process_index() == 0)
        print_once(checked.table())
        corpus = checked.corpus
        unseen = voice_conversion.VCTK_UNSEEN if unseen is None else unseen
    training, rest = voice_conversion.without_speakers(corpus, unseen)
    if set(voice_conversion.VCTK_UNSEEN) <= set(unseen):
        training = voice_conversion.without_unlisted(training)
    return training, rest, unseen


def check_new_content_encoder(experiment: Experiment) -> None:
    """Raise `ConfigError` for flags that contradict a content encoder that is yet to be trained."""
    if experiment.content_encoder is not None or _content_run(experiment).has_validation():
        return
    _check_content(experiment.training.model.content)
    if experiment.init_from is not None and not RunFolder(experiment.run_dir).has_progress():
        raise ConfigError(
            f"--init-from is {experiment.init_from}, but --content-encoder is not set, and a new content encoder would "
            "be trained. Pass the content encoder that this model was trained with."
        )


def _check_content(given: ConformerConfig, *others: ConformerConfig) -> None:
    """Raise `ConfigError` unless `given` is the configuration in a preset, or one of `others`."""
    if given not in (*others, *(model.content for model in hifivc.PRESETS.values())):
        raise ConfigError(
            "--model.content is changed, but the content encoder is not trained here, and has its own configuration. "
            "Leave these flags out, or pass another --content-encoder."
        )


def _content_run(experiment: Experiment) -> RunFolder:
    """The run folder of the content encoder that is trained without `--content-encoder`."""
    return RunFolder(experiment.run_dir.with_name(f"{experiment.run_dir.name}_content_encoder"))


def content_encoder(experiment: Experiment, corpus: Corpus, started: float) -> ContentEncoder:
    """The content encoder of `--content-encoder`, or one that is trained on `corpus` in a folder beside the run."""
    source = experiment.content_encoder
    if source is None:
        folder = _content_run(experiment)
        source = folder.path
        # Without validations in between, a run is validated when it has reached its limit.
        if not folder.has_validation():
            print_once("Training the content encoder as a phoneme recogniser.")
            given = phoneme_recogniser.default_experiment("tiny")
            minutes, whole = given.loop.minutes, experiment.loop.minutes
            loop = replace(
                given.loop,
                minutes=minutes if whole is None else CONTENT_SHARE * whole,
                validate_every=0,
                tensorboard=experiment.loop.tensorboard,
            )
            result = phoneme_recogniser.run(replace(given, run_dir=source, loop=loop), started, corpus)
            if result.stopped == "interrupted":
                print_once("The training of the content encoder was interrupted; the same command resumes it.")
                raise KeyboardInterrupt
    return ContentEncoder.load(source)


def run(experiment: Experiment, started: float | None = None) -> TrainingResult:
    """Train and return the result; the minutes count from `started` (`time.monotonic()`), by default from now."""
    started = time.monotonic() if started is None else started
    loop = experiment.loop
    common.check(experiment)
    check_new_content_encoder(experiment)
    corpus, unseen, names = find_speakers(experiment)
    encoder = content_encoder(experiment, corpus, started)
    content = replace(encoder.config, classes=None, symbols=())
    if experiment.training.content_identity not in (None, encoder.identity):
        raise ConfigError(
            f"--content-encoder is {experiment.content_encoder}, the model {encoder.identity[:12]}; it should be "
            f"{str(experiment.training.content_identity)[:12]}, with whose features the run was trained. Pass that "
            "model, or choose another --run-dir."
        )
    _check_content(experiment.training.model.content, content)
    model = replace(experiment.training.model, content=content)
    config = replace(experiment.training, model=model, content_identity=encoder.identity, unseen=names)
    frozen = fold_batch_norm(mask_padding(encoder.network.encoder))
    network = common.initial_network(experiment, hifivc.FAMILY, config.model)
    if network is not None and not _equal(network.content_encoder, frozen):
        raise CheckpointError(
            f"--init-from is {experiment.init_from}, whose content encoder is not that of --content-encoder; pass the "
            "content encoder that it was trained with."
        )
    rate, progress = config.model.mel.sample_rate, jax.process_index() == 0

    def load(part: Corpus, *, computed: bool = False) -> Store:
        store = _without_short(load_store(part, rate, progress=progress), config.model)
        return training_columns(
            store, frozen, config.model, identity=encoder.identity, computed_content=computed, progress=progress
        )

    train, held_out = voice_conversion.hold_out(corpus, experiment.validation)
    store = load(train, computed=config.content == "computed")
    held_out = load(held_out) if len(held_out) else None  # validations read stored features
    _, unseen = voice_conversion.hold_out(unseen, experiment.validation)
    others = load(unseen) if len(unseen) else None
    loader = common.loader(
        store, training_sampler(config, store, experiment.batch_size), seed=loop.seed, workers=experiment.workers
    )
    _print_single_utterances(store.corpus, config)
    validation = None if held_out is None else Validation(held_out, config.model, unseen=others)
    inherited = inherited_info(experiment.run_dir, common.find_initial_model(experiment), experiment.init_from)
    with loader:
        task = HiFiVCTask(
            config,
            frozen,
            steps_per_epoch=loader.steps_per_epoch,
            validation=validation,
            info={**inherited, "content_encoder": encoder.identity},
        )
        initial_state = None if network is None else ft.partial(_initial_state, task, network, loop.seed)
        return common.train(experiment, task, loader, started, initial_state)


def _initial_state(task: HiFiVCTask, networks: HiFiVC, seed: int) -> HiFiVCState:
    """The state before the first step, with trained networks and new discriminators."""
    new = task.init(key=jax.random.key(seed)).discriminators
    return task.state_of(networks, new.model, new.model_state)


def _without_short(store: Store, config: HiFiVCConfig) -> Store:
    """`store` without recordings that are too short as a reference, which are printed.

    **Raises:** `DataError` if no recording is left.
    """
    lengths, least = store.lengths("audio"), config.minimum_reference
    short = [store.corpus.utterances[row].id for row in np.flatnonzero(lengths < least)]
    if not short:
        return store
    seconds, names = least / store.sample_rate, f"{', '.join(short[:5])}{', ...' if short[5:] else ''}"
    if len(short) == len(store):
        raise DataError(f"All {len(short)} recordings are shorter than {seconds:.2f} s: {names}; use longer ones.")
    print_once(f"note: {len(short)} recordings shorter than {seconds:.2f} s are not used: {names}")
    return store.subset(np.flatnonzero(lengths >= least).tolist())


def _print_single_utterances(corpus: Corpus, config: TrainingConfig) -> None:
    """Print the speakers with one utterance, which is its own reference."""
    counts = Counter(utterance.speaker for utterance in corpus.utterances)
    single = sorted(speaker for speaker, count in counts.items() if count == 1)
    if single and config.reference == "other":
        print_once(
            f"note: {len(single)} of {len(counts)} speakers ({', '.join(single[:5])}{', ...' if single[5:] else ''}) "
            "have one utterance for training, so their references are parts of the same utterance."
        )


def _equal(a: ConformerEncoder, b: ConformerEncoder) -> bool:
    ours, theirs = named_arrays(a), named_arrays(b)
    return ours.keys() == theirs.keys() and all(np.array_equal(ours[name], theirs[name]) for name in ours)


def summary(result: TrainingResult, experiment: Experiment, seconds: float) -> str:
    """The closing lines: quality, speed, samples, and the next command."""
    folder = shlex.quote(str(result.folder))
    config = experiment.training
    rows = [
        *summaries.metrics_rows(result),
        summaries.speed_row(result, experiment.batch_size * config.segment_samples / config.model.mel.sample_rate),
        *summaries.samples_rows(result, experiment),
        *summaries.model_rows(result, f"jaxvoice convert SOURCE.wav OUTPUT.wav --voice REFERENCE.wav --model {folder}"),
    ]
    return summaries.summary_text(result, seconds, rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the experiment and return its exit code."""
    return common.main(argv, name=NAME, parse=parse, run=run, summary=summary)


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())

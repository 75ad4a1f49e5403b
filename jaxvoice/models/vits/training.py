"""The `Task` that trains VITS and YourTTS."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, Float32, PRNGKeyArray

from jaxvoice.config import check_not_negative, check_types, to_dict
from jaxvoice.data.batches import ColumnBatch
from jaxvoice.errors import ConfigError
from jaxvoice.models import speaker_encoder as speaker_encoders
from jaxvoice.models.speaker_encoder import SpeakerNetwork
from jaxvoice.models.speaker_encoder.consistency import check_encoder, gradient_warnings
from jaxvoice.models.vits.config import VITSConfig
from jaxvoice.models.vits.discriminators import VITSDiscriminators
from jaxvoice.models.vits.family import FAMILY
from jaxvoice.models.vits.losses import LossWeights
from jaxvoice.models.vits.network import VITS
from jaxvoice.models.vits.objective import (
    Generated,
    discriminators_loss,
    draw_noise,
    generate,
    generator_losses,
    recorded_segments,
    step_inputs,
)
from jaxvoice.models.vits.speakers import ENCODER_FOLDER, SPEAKERS_FILE
from jaxvoice.models.vits.validation import METRICS, Validation
from jaxvoice.models.vits.warm_start import save_discriminators
from jaxvoice.training.adversarial_training import adversarial_step
from jaxvoice.training.learner import Learner, check_ema_decay
from jaxvoice.training.optimizers import OptimizerConfig
from jaxvoice.training.task import Task, ValidationResult
from jaxvoice.training.training_state import Counters, Precision, guarded
from jaxvoice.weights import count_parameters

COLUMNS = MappingProxyType(
    {
        "generator": "weighted sum of the losses of the generator",
        "mel_l1": "mel L1 of the segments, without its weight",
        "kl": "divergence of the posterior from the prior, per frame, without its weight; it may be negative",
        "durations": "loss of the duration predictor per token, without its weight; it may be negative",
        "adversarial, feature": "adversarial and feature-matching losses, with their weights",
        "speaker_similarity": "mean cosine of the speaker encoder for recorded and generated segments",
        "compared_segments": "number of segments in which the recording is not silent, so that voices are compared",
        "speaker_gradient, mel_gradient": "norms of the gradients of these losses at the generated samples",
        "discriminator": "loss of all discriminators",
        "gradient_norm, learning_rate": "of the generator, before clipping; disc_*: of the discriminators",
    }
)
"""Meanings of the values that training logs."""
_SPEAKER_METRICS = ("speaker_similarity", "compared_segments", "speaker_gradient, mel_gradient")


def vits_optimizer() -> OptimizerConfig:
    """AdamW as in the release, with a learning rate that falls by 0.0125 % per epoch."""
    return OptimizerConfig(eps=1e-9, decay=0.999875)


@dataclass(frozen=True)
class TrainingConfig:
    """The networks of VITS and their training; the defaults are those of the release.

    `precision` is that of the networks' computation; parameters, spectrograms, durations, alignment, losses and the
    speaker encoder stay float32. `ema_decay` keeps a moving average of the generator's weights, which is validated and
    saved; `None` keeps none.

    The speaker consistency loss begins after `speaker_steps` steps: the embeddings of noise are of no use. In YourTTS,
    it is a part of fine-tuning only.

    **Raises:** `ConfigError` for values of the wrong type or range.
    """

    model: VITSConfig = field(default_factory=VITSConfig)
    """The networks."""
    generator_optimizer: OptimizerConfig = field(default_factory=vits_optimizer)
    """Optimiser of the generator."""
    discriminator_optimizer: OptimizerConfig = field(default_factory=vits_optimizer)
    """Optimiser of the discriminators."""
    loss_weights: LossWeights = field(default_factory=LossWeights)
    """Weights of the losses."""
    precision: Precision = "float32"
    """Precision of the networks' computation; parameters, spectrograms and losses stay float32."""
    ema_decay: float | None = None
    """Decay per step of the moving average of the generator's weights; None keeps no average."""
    reconstruction_steps: int = 0
    """Steps at the start without discriminators."""
    speaker_steps: int = 0
    """Steps at the start without the speaker consistency loss."""
    encoder_identity: str | None = None
    """Identity of the speaker encoder, which a run stores, so that it is not resumed with another one; None allows
    any."""

    def __post_init__(self) -> None:
        check_types(self)
        check_ema_decay(self.ema_decay)
        check_not_negative(self, "reconstruction_steps", hint="0 trains with discriminators from the start")
        check_not_negative(self, "speaker_steps", hint="0 uses the loss from the start")

    @property
    def phase_starts(self) -> tuple[int, ...]:
        """The steps after which the losses change, in order; the first is 0."""
        changes = {0, self.reconstruction_steps, self.speaker_steps if self.loss_weights.speaker else 0}
        return tuple(sorted(changes))


class VITSState(eqx.Module):
    """Everything that a training step updates. A speaker encoder is no part of it, see `Task.constants`."""

    counters: Counters
    generator: Learner[VITS]
    discriminators: Learner[VITSDiscriminators]


class VITSTask(Task):
    """The training task of VITS and YourTTS, for `jaxvoice.training.loop.fit`.

    Batches have the columns `audio` and `tokens`, and the fixed columns `gain`, and where the model has them, `speaker`
    and `language` (see `training_columns`).

    **Arguments:**

    - `config`: networks, losses and optimisers.
    - `steps_per_epoch`: number of steps per epoch, for learning rates that decay after every epoch.
    - `speaker_encoder`: the frozen encoder of the speaker consistency loss, which contains its running statistics. For
        a model that reads vectors, it is saved with the model.
    - `speaker_encoder_info`: metadata of the encoder, such as its licence, that is saved with it.
    - `speakers`: the id or the vector of each speaker by name, which model folders contain; ids are those of all
        rows of the table.
    - `validation`: evaluates the networks; without it, `validate` returns no metrics.
    - `inherited_info`: metadata of the initial model, such as its licence, that is copied into model folders.

    **Attributes:** `config`, `steps_per_epoch`, `speakers` and `validation`, as given; `columns`, the meanings of the
    values that are logged, those of the speaker consistency loss only if it has a weight.

    **Raises:** `ConfigError` for a speaker consistency loss without an encoder, or with one that reads mels, or whose
    input is longer than the segments; or for `speakers` that do not match the table of the model.
    """

    family = FAMILY.name
    metrics = METRICS

    def __init__(
        self,
        config: TrainingConfig,
        *,
        steps_per_epoch: int,
        speaker_encoder: SpeakerNetwork | None = None,
        speaker_encoder_info: Mapping[str, Any] | None = None,
        speakers: Mapping[str, int | Float32[np.ndarray, " dim"]] | None = None,
        validation: Validation | None = None,
        inherited_info: Mapping[str, Any] | None = None,
    ):
        self.config, self.mel = config, config.model.mel
        self.steps_per_epoch, self.validation = steps_per_epoch, validation
        self._inherited_info, self.speakers = dict(inherited_info or {}), dict(speakers or {})
        with_encoder = config.loss_weights.speaker > 0
        self.columns = {name: text for name, text in COLUMNS.items() if with_encoder or name not in _SPEAKER_METRICS}
        self._speaker_encoder, self._encoder_info = speaker_encoder, dict(speaker_encoder_info or {})
        ids, rows = sorted(v for v in self.speakers.values() if isinstance(v, int)), config.model.num_speakers
        if rows and self.speakers and ids != list(range(rows)):
            raise ConfigError(
                f"speakers has {len(ids)} names; it should give each of the ids from 0 to {rows - 1} to one name, "
                f"because model.num_speakers is {rows}."
            )
        if with_encoder:
            if speaker_encoder is None:
                raise ConfigError(
                    f"loss_weights.speaker is {config.loss_weights.speaker}, but there is no speaker encoder; pass one "
                    "(--speaker-encoder), or set the weight to 0."
                )
            model = config.model
            samples, rate, flag = model.segment_samples, model.mel.sample_rate, "--model.segment-frames"
            check_encoder(speaker_encoder, samples=samples, sample_rate=rate, flag=flag)
            self.constants = speaker_encoder

    def init(self, *, key: PRNGKeyArray) -> VITSState:
        """The initial state, with random networks."""
        generator_key, discriminators_key = jax.random.split(key)
        generator = VITS(self.config.model, key=generator_key)
        return self.state_of(generator, VITSDiscriminators(self.config.model.discriminators, key=discriminators_key))

    def state_of(self, generator: VITS, discriminators: VITSDiscriminators) -> VITSState:
        """The state before the first step, for given networks, such as pretrained ones."""
        config, epoch = self.config, self.steps_per_epoch
        return VITSState(
            Counters.zero(),
            Learner.create(generator, config.generator_optimizer, steps_per_epoch=epoch, ema_decay=config.ema_decay),
            Learner.create(discriminators, config.discriminator_optimizer, steps_per_epoch=epoch),
        )

    def phase_of(self, step: int) -> int:
        """The number of times that the losses have changed: discriminators or the speaker consistency loss were
        added."""
        return sum(step >= start for start in self.config.phase_starts) - 1

    def step(
        self,
        state: VITSState,
        batch: ColumnBatch,
        *,
        key: PRNGKeyArray,
        phase: int,
        constants: SpeakerNetwork | None = None,
    ) -> tuple[VITSState, dict[str, Float[Array, ""]]]:
        """One update of the discriminators, and one of the generator with the updated discriminators.

        `constants` is the speaker encoder, by default that of the task. The order of the updates is that of
        jaywalnut310/vits `train.py`.
        """
        config, model, start = self.config, self.config.model, self.config.phase_starts[phase]
        encoder = self.constants if constants is None else constants
        speaks = bool(config.loss_weights.speaker) and start >= config.speaker_steps
        noise_key, dropout_key = jax.random.split(key)
        inputs = step_inputs(batch, model)
        noise = draw_noise(inputs, model, key=noise_key)
        recorded = recorded_segments(inputs, noise.starts, model)

        def run(network: VITS) -> tuple[Generated, None]:
            return generate(network, inputs, noise, precision=config.precision, key=dropout_key), None

        def of_discriminators(discriminators: VITSDiscriminators, _: None, generated: Generated):
            return discriminators_loss(discriminators, recorded, generated, precision=config.precision), {}, None

        def of_generator(discriminators: VITSDiscriminators | None, _: None, generated: Generated):
            losses, metrics = generator_losses(
                discriminators,
                recorded,
                generated,
                config.loss_weights,
                model,
                speaker_encoder=encoder if speaks else None,
                precision=config.precision,
            )
            first, *others = losses.values()
            return sum(others, first), metrics, None

        after = adversarial_step(
            state.generator,
            state.discriminators,
            generate=run,
            discriminator_loss=of_discriminators,
            generator_loss=of_generator,
            mode="both" if start >= config.reconstruction_steps else "reconstruction",
        )
        new = VITSState(state.counters, after.generator, after.discriminators)
        return guarded(after.finite, new, state), after.metrics

    def warnings(self, metrics: Mapping[str, float]) -> list[str]:
        """A loss whose gradient at the generated samples is zero or not finite, so that it trains nothing."""
        return gradient_warnings(metrics)

    def audio_seconds(self, batch: ColumnBatch) -> float:
        """Seconds of audio in `batch`, without padding."""
        return float(batch.lengths["audio"].sum()) / self.mel.sample_rate

    def validate(self, state: VITSState) -> ValidationResult:
        """The metrics and samples of `Validation`."""
        return ValidationResult({}) if self.validation is None else self.validation(state.generator.eval_model)

    def save_model(self, state: VITSState, folder: str | Path) -> None:
        """Write the generator, or its moving average if one is kept, to a model folder.

        The folder also contains the discriminators, the speakers, and in the model folder `speaker_encoder` the encoder
        of their vectors.
        """
        folder, step = Path(folder), int(state.counters.step)
        info = {**self._inherited_info, "step": step}
        FAMILY.save_network(folder, state.generator.eval_model, self.config.model, info=info)
        save_discriminators(folder, state.discriminators.model, step=step)
        if self._speaker_encoder is not None and not self.config.model.num_speakers:
            encoder, about = self._speaker_encoder, self._encoder_info
            speaker_encoders.FAMILY.save_network(folder / ENCODER_FOLDER, encoder, encoder.config, info=about)
        if self.speakers:
            table = {name: _speaker_json(name, value) for name, value in self.speakers.items()}
            text = json.dumps(table, ensure_ascii=False) + "\n"
            (folder / SPEAKERS_FILE).write_text(text, encoding="utf-8")

    def describe(self) -> dict[str, Any]:
        """The training configuration and parameter counts."""
        state = eqx.filter_eval_shape(self.init, key=jax.random.key(0))
        network = state.generator.model
        names = ("text_encoder", "posterior_encoder", "flow", "duration_predictor", "waveform_decoder")
        counts = {name.replace("_", " "): count_parameters(getattr(network, name)) for name in names}
        counts["discriminators"] = count_parameters(state.discriminators.model)
        if self.constants is not None:
            counts["speaker encoder (frozen)"] = count_parameters(self.constants)
        return {"config": to_dict(self.config), "parameters": counts}


def _speaker_json(name: str, value: int | Float32[np.ndarray, " dim"]) -> Any:
    """The entry of a speaker in the file of speakers: its id, or an embedding with its name."""
    if isinstance(value, int):
        return value
    return {"name": name, "embedding": [float(x) for x in value]}

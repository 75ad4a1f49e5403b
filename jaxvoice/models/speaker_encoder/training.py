"""The `Task` that trains speaker encoders, and its batches."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import equinox as eqx
import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxvoice.config import check_field, check_positive, check_types, to_dict
from jaxvoice.data.batches import ColumnBatch
from jaxvoice.data.samplers import SpeakerBalanced
from jaxvoice.data.store import Store
from jaxvoice.data.utterances import rows_of_speakers
from jaxvoice.errors import ConfigError, DataError
from jaxvoice.losses import (
    angular_prototypical_loss,
    ge2e_contrast_loss,
    ge2e_softmax_loss,
    speaker_classification_loss,
)
from jaxvoice.models.speaker_encoder.config import PRESETS, SpeakerEncoderConfig
from jaxvoice.models.speaker_encoder.embedding import SpeakerNetwork, build, level_gain
from jaxvoice.models.speaker_encoder.family import FAMILY
from jaxvoice.models.speaker_encoder.front_end import BUFFERS
from jaxvoice.models.speaker_encoder.resnet import ResNetSE, with_state, without_state
from jaxvoice.models.speaker_encoder.validation import METRICS, Validation
from jaxvoice.nn import Linear
from jaxvoice.training.learner import Learner
from jaxvoice.training.optimizers import OptimizerConfig
from jaxvoice.training.task import Task, ValidationResult
from jaxvoice.training.training_state import Counters, all_finite, guarded
from jaxvoice.weights import count_parameters

Loss = Literal["angleproto", "ge2e_softmax", "ge2e_contrast", "softmax", "softmax_angleproto"]

COLUMNS, FIXED = ("audio",), ("gain", "speaker")
"""The columns of a batch: for `SpeakerBalanced(columns=COLUMNS, fixed=FIXED)`."""
_BETWEEN = {
    "angleproto": angular_prototypical_loss,
    "softmax_angleproto": angular_prototypical_loss,
    "ge2e_softmax": ge2e_softmax_loss,
    "ge2e_contrast": ge2e_contrast_loss,
}
_METRICS_OF_STEPS = MappingProxyType(
    {
        "loss": "loss of the batch",
        "scale, bias": "of the cosines in the loss, which are trained",
        "gradient_norm, learning_rate": "before clipping",
    }
)


@dataclass(frozen=True)
class TrainingConfig:
    """A speaker encoder and its training on batches of several recordings of several speakers.

    **Raises:** `ConfigError` for values of the wrong type or range.
    """

    model: SpeakerEncoderConfig = field(default_factory=lambda: PRESETS["hasp"])
    """The encoder."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            learning_rate=1e-4,
            b1=0.9,
            b2=0.999,
            weight_decay=1e-6,
            weight_decay_on="matrices",  # not the scale and the bias of the loss
            schedule="constant",
            clip_norm=3.0,
        )
    )
    """Its optimiser, which also trains the scale and the bias of the loss, and its classifier."""
    loss: Loss = "angleproto"
    """Loss: angular prototypical, generalised end-to-end (softmax or contrast), or classification of the speakers of
    the training data (softmax), alone or added to the angular prototypical loss."""
    classes: int | None = None
    """Speakers of the training data, for losses with a classifier; by default, the experiment counts them."""
    speakers: int = 100
    """Speakers of a batch."""
    utterances: int = 4
    """Recordings of each speaker in a batch."""
    seconds: float = 2.0
    """Length of the crops in seconds."""

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "classes", "seconds")
        check_field(self, "speakers", self.speakers >= 2, "be at least 2, since the loss compares speakers")
        check_field(self, "utterances", self.utterances >= 2, "be at least 2, since the loss compares recordings")
        if not self.model.reads_audio:
            raise ConfigError("model.mel is a MelConfig; it should be a PowerMelConfig, because batches contain audio.")

    @property
    def has_classifier(self) -> bool:
        """Whether the loss classifies speakers."""
        return self.loss in ("softmax", "softmax_angleproto")

    @property
    def segment(self) -> int:
        """Samples of a crop."""
        return round(self.seconds * self.model.sample_rate)


class TrainedEncoder(eqx.Module):
    """An encoder, and the parameters of its loss."""

    encoder: SpeakerNetwork
    scale: Float[Array, ""]
    """Factor of the cosines."""
    bias: Float[Array, ""]
    """Sum of the scaled cosines."""
    classifier: Linear | None


class SpeakerTrainingState(eqx.Module):
    """Everything that a training step updates."""

    counters: Counters
    network: Learner[TrainedEncoder]
    """`model_state` contains the running statistics of a `ResNetSE`, and is `None` for other encoders."""


class SpeakerTask(Task):
    """The training task of a speaker encoder, for `jaxvoice.training.loop.fit`.

    Batches are those of `training_sampler` for a store of `training_store`.

    **Arguments:**

    - `config`: the training configuration.
    - `steps_per_epoch`: number of steps per epoch, for learning rates that decay after every epoch.
    - `validation`: evaluates the encoder; without it, `validate` returns no metrics.
    - `inherited_info`: metadata of the initial model, such as its licence, that is copied into model folders.

    **Raises:** `ConfigError` if the loss has a classifier, and `config.classes` is not set.
    """

    family = FAMILY.name
    metrics = METRICS
    columns = _METRICS_OF_STEPS

    def __init__(
        self,
        config: TrainingConfig,
        *,
        steps_per_epoch: int,
        validation: Validation | None = None,
        inherited_info: Mapping[str, Any] | None = None,
    ):
        if config.has_classifier and config.classes is None:
            raise ConfigError(
                f"classes is None; it should be the number of speakers to train on, for the loss {config.loss!r}."
            )
        self.config, self.mel = config, config.model.mel
        self.steps_per_epoch, self.validation = steps_per_epoch, validation
        self._inherited_info = dict(inherited_info or {})

    def init(self, *, key: PRNGKeyArray) -> SpeakerTrainingState:
        """The initial state, with a random encoder."""
        encoder_key, key = jax.random.split(key)
        return self.state_of(build(self.config.model, key=encoder_key), key=key)

    def state_of(self, encoder: SpeakerNetwork, *, key: PRNGKeyArray) -> SpeakerTrainingState:
        """The state before the first step for a given encoder from a model folder.

        **Raises:** `ConfigError` if `encoder` has another configuration, or contains no running statistics.
        """
        config = self.config
        if encoder.config != config.model:
            raise ConfigError("The encoder has another configuration than config.model; pass its configuration.")
        statistics = None
        if isinstance(encoder, ResNetSE):
            encoder, statistics = without_state(encoder)
        classifier = None
        if config.has_classifier:
            assert config.classes is not None
            classifier = Linear(config.model.dim, config.classes, key=key)
        model = TrainedEncoder(encoder, jnp.asarray(10.0), jnp.asarray(-5.0), classifier)
        learner = Learner.create(
            model,
            config.optimizer,
            steps_per_epoch=self.steps_per_epoch,
            model_state=statistics,
            # The window and the filterbank are constants.
            frozen=[f"encoder.{name}" for name in BUFFERS if getattr(encoder, name, None) is not None],
        )
        return SpeakerTrainingState(Counters.zero(), learner)

    def step(
        self, state: SpeakerTrainingState, batch: ColumnBatch, *, key: PRNGKeyArray, phase: int
    ) -> tuple[SpeakerTrainingState, dict[str, Array]]:
        """One update of the encoder and of the parameters of the loss."""
        config, learner = self.config, state.network
        audio = jnp.asarray(batch.columns["audio"]).astype(jnp.float32)
        audio = audio * jnp.asarray(batch.columns["gain"], jnp.float32)[:, None]
        speakers = jnp.asarray(batch.columns["speaker"]).astype(jnp.int32)

        def loss_of(params: Any) -> tuple[Array, tuple[Any, TrainedEncoder]]:
            model, statistics = learner.combine(params), None
            if isinstance(model.encoder, ResNetSE):
                embeddings, statistics = model.encoder(audio, learner.model_state, normalize=False)
            else:
                embeddings = model.encoder(audio, normalize=False)
            loss = jnp.zeros(())
            if model.classifier is not None:
                loss = loss + speaker_classification_loss(model.classifier(embeddings), speakers)
            if config.loss != "softmax":
                grouped = embeddings.reshape(config.speakers, config.utterances, -1)
                loss = loss + _BETWEEN[config.loss](grouped, model.scale, model.bias)
            return loss, (statistics, model)

        (loss, (statistics, model)), gradient = eqx.filter_value_and_grad(loss_of, has_aux=True)(learner.params)
        new = replace(state, network=learner.update(gradient, model_state=statistics))
        metrics = {"loss": loss, "scale": model.scale, "bias": model.bias, **learner.metrics(gradient)}
        return guarded(all_finite((loss, gradient, statistics)), new, state), metrics

    def encoder(self, state: SpeakerTrainingState) -> SpeakerNetwork:
        """The encoder for inference, with its running statistics."""
        encoder = state.network.eval_model.encoder
        return with_state(encoder, state.network.eval_state) if isinstance(encoder, ResNetSE) else encoder

    def audio_seconds(self, batch: ColumnBatch) -> float:
        """Seconds of audio in `batch`."""
        return batch.columns["audio"].size / self.config.model.sample_rate

    def validate(self, state: SpeakerTrainingState) -> ValidationResult:
        """The metrics of `Validation`."""
        return ValidationResult({}) if self.validation is None else self.validation(self.encoder(state))

    def save_model(self, state: SpeakerTrainingState, folder: str | Path) -> None:
        """Write the encoder with its running statistics as a model folder."""
        info = {**self._inherited_info, "step": int(state.counters.step)}
        FAMILY.save_network(folder, self.encoder(state), self.config.model, info=info)

    def describe(self) -> dict[str, Any]:
        """The training configuration and parameter counts."""
        model = eqx.filter_eval_shape(self.init, key=jax.random.key(0)).network.model
        encoder = eqx.tree_at(lambda one: one.torch_spec, model.encoder, None) if _has_buffers(model) else model.encoder
        counts = {"encoder": count_parameters(encoder)}
        if model.classifier is not None:
            counts["classifier"] = count_parameters(model.classifier)
        return {"config": to_dict(self.config), "parameters": counts}


def _has_buffers(model: TrainedEncoder) -> bool:
    return getattr(model.encoder, "torch_spec", None) is not None


def training_store(store: Store, config: SpeakerEncoderConfig) -> Store:
    """`store` with the column `speaker`, a number from 0 on, and with recordings at the level of the encoder.

    **Raises:** `DataError` for recordings without a speaker.
    """
    numbers = np.zeros(len(store), np.int32)
    for number, rows in enumerate(rows_of_speakers(store.corpus).values()):
        numbers[rows] = number
    store = store.with_columns(speaker=numbers)
    if config.level is None:
        return store
    gains = np.asarray(store["gain"], np.float32).copy()
    for row in range(len(store)):
        gains[row] *= level_gain(store.waveform(row), config)
    return store.with_columns(gain=gains)


def training_sampler(config: TrainingConfig, store: Store) -> SpeakerBalanced:
    """The sampler of `SpeakerTask`: crops of the recordings of `config.speakers` speakers.

    **Raises:** `DataError` if the store has fewer speakers than a batch, or another number than `config.classes`.
    """
    known = len(rows_of_speakers(store.corpus))
    if known < config.speakers:
        raise DataError(
            f"speakers is {config.speakers}; it should be at most {known}, the number of speakers to train on."
        )
    if config.has_classifier and known != config.classes:
        raise DataError(f"classes is {config.classes}; it should be {known}, the number of speakers to train on.")
    return SpeakerBalanced(config.speakers, config.utterances, config.segment, columns=COLUMNS, fixed=FIXED)

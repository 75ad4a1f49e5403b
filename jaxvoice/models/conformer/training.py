"""The `Task` that trains a Conformer as a frame-wise phoneme recogniser, with phonemes from exact timings."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import equinox as eqx
import jax
from jax import numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxvoice.config import check_field, check_not_negative, check_types, to_dict
from jaxvoice.data.batches import ColumnBatch
from jaxvoice.errors import ConfigError
from jaxvoice.models.conformer.config import PRESETS, ConformerConfig
from jaxvoice.models.conformer.family import FAMILY
from jaxvoice.models.conformer.network import Conformer, ConformerState, with_state, without_state
from jaxvoice.models.conformer.validation import (
    COLUMNS as COLUMNS,
    FIXED as FIXED,
    METRICS,
    Validation,
    batch_features,
    batch_labels,
    frame_losses,
)
from jaxvoice.nn import length_mask
from jaxvoice.text.phonemes import ALIGNED, PhoneSet
from jaxvoice.training.learner import Learner, check_ema_decay
from jaxvoice.training.optimizers import OptimizerConfig, noam_peak
from jaxvoice.training.task import Task, ValidationResult
from jaxvoice.training.training_state import Counters, Precision, all_finite, guarded, to_compute
from jaxvoice.weights import count_parameters

_METRICS_OF_STEPS = MappingProxyType(
    {
        "cross_entropy": "mean over frames with a label, in nats",
        "frame_accuracy": "share of frames whose most probable phoneme is the true one, with masks and dropout",
        "gradient_norm, learning_rate": "of the update, before clipping",
    }
)


def with_phonemes(config: ConformerConfig, phone_set: PhoneSet) -> ConformerConfig:
    """`config` with a recogniser of the phonemes of `phone_set`."""
    return replace(config, classes=len(phone_set.codes), symbols=phone_set.codes)


def conformer_optimizer(width: int = 144, warmup_steps: int = 2000, factor: float = 2.0) -> OptimizerConfig:
    """AdamW with the schedule of arXiv 1706.03762 and the settings of NeMo's `conformer_ctc_bpe.yaml`.

    NeMo warms up over 10,000 steps. The default is shorter, for smaller corpora.
    """
    return OptimizerConfig(
        learning_rate=noam_peak(width, warmup_steps, factor=factor),
        b1=0.9,
        b2=0.98,
        weight_decay=1e-3,
        weight_decay_on="matrices",
        schedule="noam",
        warmup_steps=warmup_steps,
        clip_norm=1.0,
    )


@dataclass(frozen=True)
class MaskingConfig:
    """Configuration of the masks of SpecAugment (arXiv 1904.08779). Masked features are zero, their mean.

    **Raises:** `ConfigError` for values of the wrong type or range.
    """

    time_masks: int = 5
    """Number of masks over time."""
    time_width: float = 0.05
    """Largest width of a mask over time, as a share of the utterance."""
    frequency_masks: int = 2
    """Number of masks over mel bands."""
    frequency_width: int = 27
    """Largest width of a mask over mel bands."""

    def __post_init__(self) -> None:
        check_types(self)
        check_not_negative(self, "time_masks", "frequency_masks", "frequency_width", hint="0 turns the masks off")
        check_field(self, "time_width", 0 <= self.time_width <= 1, "be in [0, 1]")


def mask_features(
    features: Float[Array, "batch frames mels"],
    length: Int[Array, " batch"],
    config: MaskingConfig,
    *,
    key: PRNGKeyArray,
) -> Float[Array, "batch frames mels"]:
    """`features` with random spans of frames and of mel bands set to zero.

    Widths are uniform from 0 to the largest width, and starts are uniform over the valid frames or bands. `length` is
    the number of valid frames of each row.
    """
    (rows, frames, mels), time_key, frequency_key = features.shape, *jax.random.split(key)
    sizes = length.astype(jnp.float32)
    bands = jnp.full((rows,), mels, jnp.float32)
    over_time = _spans(config.time_masks, jnp.floor(config.time_width * sizes), sizes, frames, time_key)
    widest = jnp.full((rows,), min(config.frequency_width, mels), jnp.float32)
    over_bands = _spans(config.frequency_masks, widest, bands, mels, frequency_key)
    return jnp.where(over_time[:, :, None] | over_bands[:, None], jnp.zeros((), features.dtype), features)


def _spans(count: int, widest: Array, sizes: Array, length: int, key: PRNGKeyArray) -> Array:
    """A mask `(batch, length)` of `count` random spans in the first `sizes` positions of each row."""
    width_key, start_key = jax.random.split(key)
    shape = (len(sizes), count)
    widths = jnp.floor(jax.random.uniform(width_key, shape) * (widest[:, None] + 1))
    starts = jnp.floor(jax.random.uniform(start_key, shape) * (sizes[:, None] - widths + 1))
    positions = jnp.arange(length, dtype=jnp.float32)[None, None]
    inside = (positions >= starts[..., None]) & (positions < (starts + widths)[..., None])
    return jnp.any(inside, axis=1)


@dataclass(frozen=True)
class TrainingConfig:
    """A recogniser and its training.

    `precision` is the precision of the network's computation; parameters, softmax, norms and losses stay float32. With
    `ema_decay`, a moving average of the network is validated and saved. The parts under the paths in `frozen`, such as
    `encoder.pre_encode`, do not change; with `encoder`, the encoder also runs in inference mode.

    **Raises:** `ConfigError` for values of the wrong type or range, or a network without a recogniser of symbols.
    """

    model: ConformerConfig = field(default_factory=lambda: with_phonemes(PRESETS["small"], ALIGNED))
    """The network, with one class for each phoneme."""
    optimizer: OptimizerConfig = field(default_factory=conformer_optimizer)
    """Its optimiser."""
    masking: MaskingConfig = field(default_factory=MaskingConfig)
    """The masks of its input."""
    precision: Precision = "float32"
    """Precision of the network's computation; parameters and losses stay float32."""
    ema_decay: float | None = None
    """Decay per step of the moving average of the network; None keeps no average."""
    frozen: tuple[str, ...] = ()
    """Dotted paths of parts that do not change."""

    def __post_init__(self) -> None:
        check_types(self)
        check_ema_decay(self.ema_decay)
        classes, symbols = self.model.classes, len(self.model.symbols)
        if not symbols or classes != symbols:
            raise ConfigError(
                f"model.classes is {classes} and model.symbols has {symbols} symbols; they should be equal, one class "
                "for each phoneme. Use with_phonemes."
            )


class ConformerTrainingState(eqx.Module):
    """Everything that a training step updates."""

    counters: Counters
    network: Learner[Conformer]
    """`model_state` contains the running statistics of the batch norms."""


class ConformerTask(Task):
    """The training task of a frame-wise phoneme recogniser, for `jaxvoice.training.loop.fit`.

    Batches are `ColumnBatch` with the columns `audio` at the sample rate of the front end, `labels` (as `label_column`
    computes them) and `gain`, such as those of `LengthBuckets(size, columns=COLUMNS, fixed=FIXED)`. The loop needs
    `best_metric` in its `LoopConfig`, such as "phoneme_error_rate".

    **Arguments:**

    - `config`: the training configuration.
    - `steps_per_epoch`: number of steps per epoch, for learning rates that decay after every epoch.
    - `validation`: evaluates the network; without it, `validate` returns no metrics.
    - `inherited_info`: metadata of the initial model, such as its licence, that is copied into model folders.
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
        self.config, self.mel = config, config.model.mel
        self.steps_per_epoch, self.validation = steps_per_epoch, validation
        self._inherited_info = dict(inherited_info or {})

    def init(self, *, key: PRNGKeyArray) -> ConformerTrainingState:
        """The initial state, with a random network."""
        model = Conformer(self.config.model, key=key)
        return self._state(model, model.init_state())

    def state_of(self, network: Conformer) -> ConformerTrainingState:
        """The state before the first step for a given network, such as a pretrained one.

        **Raises:** `ConfigError` if `network` has another configuration, or contains no running statistics.
        """
        if network.config != self.config.model:
            raise ConfigError("The network has another configuration than config.model; pass its configuration.")
        return self._state(*without_state(network))

    def _state(self, model: Conformer, state: ConformerState) -> ConformerTrainingState:
        config = self.config
        learner = Learner.create(
            model,
            config.optimizer,
            steps_per_epoch=self.steps_per_epoch,
            model_state=state,
            ema_decay=config.ema_decay,
            frozen=config.frozen,
        )
        return ConformerTrainingState(Counters.zero(), learner)

    def step(
        self, state: ConformerTrainingState, batch: ColumnBatch, *, key: PRNGKeyArray, phase: int
    ) -> tuple[ConformerTrainingState, dict[str, Array]]:
        """One update of the network."""
        config, learner = self.config, state.network
        mask_key, model_key = jax.random.split(key)
        features, count = batch_features(batch, config.model)
        features = mask_features(features, count, config.masking, key=mask_key)
        features = to_compute(features, config.precision)

        def loss_of(params: Any) -> tuple[Array, tuple[Array, ConformerState]]:
            model = to_compute(learner.combine(params), config.precision)
            options = {"inference": "encoder" in config.frozen, "key": model_key}
            output = model(features, learner.model_state, length=count, **options)
            assert output.logits is not None and output.state is not None
            labels = batch_labels(batch, output.logits.shape[1])
            valid = length_mask(model.encoder.output_length(count), labels.shape[1])
            labels = jnp.where(valid, labels, 0)
            number = jnp.maximum(jnp.sum((labels > 0).astype(jnp.float32)), 1)
            right = (jnp.argmax(output.logits, -1).astype(jnp.int32) + 1 == labels) & (labels > 0)
            accuracy = jnp.sum(right.astype(jnp.float32)) / number
            return jnp.sum(frame_losses(output.logits, labels)) / number, (accuracy, output.state)

        (loss, (accuracy, statistics)), gradient = eqx.filter_value_and_grad(loss_of, has_aux=True)(learner.params)
        new = replace(state, network=learner.update(gradient, model_state=statistics))
        metrics = {"cross_entropy": loss, "frame_accuracy": accuracy, **learner.metrics(gradient)}
        return guarded(all_finite((loss, gradient, statistics)), new, state), metrics

    def audio_seconds(self, batch: ColumnBatch) -> float:
        """Seconds of audio in `batch`, without padding."""
        return float(batch.lengths["audio"].sum()) / self.mel.sample_rate

    def validate(self, state: ConformerTrainingState) -> ValidationResult:
        """The metrics of `Validation`, with the moving average of the network if one is kept."""
        if self.validation is None:
            return ValidationResult({})
        return self.validation(state.network.eval_model, state.network.eval_state)

    def save_model(self, state: ConformerTrainingState, folder: str | Path) -> None:
        """Write the network with its running statistics as a model folder."""
        network = with_state(state.network.eval_model, state.network.eval_state)
        info = {**self._inherited_info, "step": int(state.counters.step)}
        FAMILY.save_network(folder, network, self.config.model, info=info)

    def describe(self) -> dict[str, Any]:
        """The training configuration and parameter counts."""
        model = eqx.filter_eval_shape(self.init, key=jax.random.key(0)).network.model
        parts = {"encoder": model.encoder, "recogniser": model.decoder}
        return {"config": to_dict(self.config), "parameters": {k: count_parameters(v) for k, v in parts.items()}}

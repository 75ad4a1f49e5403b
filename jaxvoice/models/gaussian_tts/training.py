"""The `Task` that trains the acoustic model and then the duration model."""

import functools as ft
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float32, Int64, PRNGKeyArray

from jaxvoice.config import check_not_negative, check_types, from_dict, to_dict
from jaxvoice.data.alignments.frame_durations import validate_durations
from jaxvoice.data.batches import UtteranceBatch
from jaxvoice.dsp.contract import check_mel
from jaxvoice.errors import CheckpointError, ConfigError, MelError, ShapeError, TextError
from jaxvoice.losses import duration_loss, mel_loss
from jaxvoice.losses.masked import DurationLoss
from jaxvoice.models.gaussian_tts.acoustic import AcousticModel, BatchNormStates
from jaxvoice.models.gaussian_tts.config import GaussianTTSConfig, Statistics
from jaxvoice.models.gaussian_tts.family import FAMILY
from jaxvoice.models.gaussian_tts.networks import DurationModel, GaussianTTS, InferenceModel
from jaxvoice.models.gaussian_tts.statistics import normalise_durations, normalise_mel
from jaxvoice.models.gaussian_tts.validation import METRICS, Validation
from jaxvoice.text.phonemes import ALIGNED, PhoneSet
from jaxvoice.training.learner import Learner, check_ema_decay
from jaxvoice.training.optimizers import OptimizerConfig, noam_peak
from jaxvoice.training.run_folder import RunFolder
from jaxvoice.training.task import Task, ValidationResult
from jaxvoice.training.training_state import Counters, Precision, all_finite, guarded, to_compute
from jaxvoice.weights import count_parameters

COLUMNS = MappingProxyType(
    {
        "first, second": "mel L1 of the decoder's output before and after the postnet, in standard deviations",
        "sigma": "mean width of the Gaussians of the upsampling, in frames",
        "batch_norm_mean": "largest running mean of the batch norms; a growing value indicates divergence",
        "duration": "loss of the log durations, in the second phase",
        "gradient_norm, learning_rate": "of the part that is trained, before clipping",
    }
)
"""Meanings of the values that training logs."""


def acoustic_optimizer(width: int = 256, warmup_steps: int = 4000, factor: float = 1.0) -> OptimizerConfig:
    """Adam with the schedule of arXiv 1706.03762, gradients clipped to a norm of 1."""
    return OptimizerConfig(
        learning_rate=noam_peak(width, warmup_steps, factor=factor),
        b1=0.9,
        b2=0.98,
        eps=1e-9,
        weight_decay=0.0,
        schedule="noam",
        warmup_steps=warmup_steps,
        clip_norm=1.0,
    )


def duration_optimizer(decay_steps: int = 53) -> OptimizerConfig:
    """Adam with gradients clipped to a norm of 1; its learning rate falls from 1e-3 by 3 % every `decay_steps`.

    With the default, the learning rate is 1e-4 after about 4,000 steps. For a different number of steps, set
    `decay_steps` to 1/76 of it, since 0.97^76 is 0.1.
    """
    return OptimizerConfig(
        learning_rate=1e-3,
        b1=0.9,
        b2=0.98,
        eps=1e-9,
        weight_decay=0.0,
        decay=0.97,
        decay_steps=decay_steps,
        clip_norm=1.0,
    )


@dataclass(frozen=True)
class TrainingConfig:
    """A text-to-speech model and its training in two phases.

    For `acoustic_steps` steps, everything but the duration model is trained, with the durations of the corpus. Then the
    duration model alone is trained, on features of the encoder, which no longer changes.

    `precision` is the precision of the networks' computation; parameters, softmax, norms, widths and weights of the
    Gaussians, and losses stay float32. With `ema_decay`, a moving average of the acoustic model is kept. The duration
    model is trained on the hidden states of this average, which is also the model that is validated and saved.

    **Raises:** `ConfigError` for values of the wrong type or range.
    """

    model: GaussianTTSConfig = field(default_factory=lambda: GaussianTTSConfig(ALIGNED.codes))
    """The networks."""
    acoustic_steps: int = 30_000
    """Steps of the first phase; later steps train the duration model."""
    acoustic_optimizer: OptimizerConfig = field(default_factory=acoustic_optimizer)
    """Optimiser of the acoustic model."""
    duration_optimizer: OptimizerConfig = field(default_factory=duration_optimizer)
    """Optimiser of the duration model."""
    duration_loss: DurationLoss = "huber"
    """Loss of normalised log durations: Huber with delta 1, or squared error."""
    precision: Precision = "float32"
    """Precision of the networks' computation; parameters and losses stay float32."""
    ema_decay: float | None = 0.999
    """Decay per step of the moving average of the acoustic model; None keeps no average."""

    def __post_init__(self) -> None:
        check_types(self)
        check_not_negative(self, "acoustic_steps", hint="0 trains the duration model from the start")
        check_ema_decay(self.ema_decay)


class GaussianTTSState(eqx.Module):
    """Everything that a training step updates."""

    counters: Counters
    acoustic: Learner[AcousticModel]
    """`model_state` contains the running statistics of the batch norms."""
    durations: Learner[DurationModel]


class GaussianTTSTask(Task):
    """The training task of a text-to-speech model, for `jaxvoice.training.loop.fit`.

    **Arguments:**

    - `config`: the training configuration, with the statistics of the corpus in `config.model.statistics`.
    - `steps_per_epoch`: number of steps per epoch, for learning rates that decay after every epoch.
    - `validation`: evaluates the networks; without it, `validate` returns no metrics.
    - `inherited_info`: metadata of the initial model, such as its licence, that is copied into model folders.
    """

    family = FAMILY.name
    metrics = METRICS
    columns = COLUMNS

    def __init__(
        self,
        config: TrainingConfig,
        *,
        steps_per_epoch: int,
        validation: Validation | None = None,
        inherited_info: Mapping[str, Any] | None = None,
    ):
        self.config, self._inherited_info = config, dict(inherited_info or {})
        self.mel = config.model.mel
        """The mel contract of the model."""
        self.steps_per_epoch = steps_per_epoch
        self.validation = validation
        self._phone_set = PhoneSet(config.model.phone_set, config.model.codes)

    def init(self, *, key: PRNGKeyArray) -> GaussianTTSState:
        """The initial state, with random networks."""
        model = GaussianTTS(self.config.model, key=key)
        return self.state_of(model, model.init_state())

    def state_of(self, model: GaussianTTS, norms: BatchNormStates) -> GaussianTTSState:
        """The state before the first step, for given networks, such as pretrained ones."""
        config = self.config
        create = ft.partial(Learner.create, steps_per_epoch=self.steps_per_epoch)
        return GaussianTTSState(
            Counters.zero(),
            create(model.acoustic, config.acoustic_optimizer, model_state=norms, ema_decay=config.ema_decay),
            create(model.durations, config.duration_optimizer),
        )

    def phase_of(self, step: int) -> int:
        """0 for the first `acoustic_steps` steps, which train the acoustic model; 1 for later steps."""
        return int(step >= self.config.acoustic_steps)

    def step(
        self, state: GaussianTTSState, batch: UtteranceBatch, *, key: PRNGKeyArray, phase: int
    ) -> tuple[GaussianTTSState, dict[str, Array]]:
        """One update of the acoustic model (`phase` 0) or of the duration model (1); the other does not change."""
        new, finite, metrics = (self._duration_step if phase else self._acoustic_step)(state, batch, key)
        return guarded(finite, new, state), metrics

    def _acoustic_step(self, state: GaussianTTSState, batch: Any, key: PRNGKeyArray):
        precision, learner = self.config.precision, state.acoustic
        target = normalise_mel(jnp.asarray(batch.mel), self.config.model.statistics)

        @ft.partial(eqx.filter_value_and_grad, has_aux=True)
        def loss_of(params: AcousticModel):
            model = _to_compute(learner.combine(params), precision)
            decoded = model(
                batch.phonemes,
                batch.durations,
                learner.model_state,
                phone_count=batch.phone_count,
                frame_count=batch.frame_count,
                frames=target.shape[1],
                key=key,
            )
            losses = [mel_loss(mel, target, batch.frame_count) for mel in (decoded.decoder_mel, decoded.mel)]
            metrics = {
                "first": losses[0],
                "second": losses[1],
                "sigma": model.upsampling.mean_sigma(decoded.hidden, batch.durations, phone_count=batch.phone_count),
                "batch_norm_mean": _largest_mean(decoded.state),
            }
            return losses[0] + losses[1], (metrics, decoded.state)

        (loss, (metrics, norms)), gradient = loss_of(learner.params)
        metrics = {name: jnp.asarray(value, jnp.float32) for name, value in metrics.items()}
        new = replace(state, acoustic=learner.update(gradient, model_state=norms))
        return new, all_finite((loss, gradient)), {**metrics, **learner.metrics(gradient)}

    def _duration_step(self, state: GaussianTTSState, batch: Any, key: PRNGKeyArray):
        config, learner = self.config, state.durations
        hidden, _ = _to_compute(state.acoustic.eval_model, config.precision).encode(
            batch.phonemes, state.acoustic.eval_state, phone_count=batch.phone_count, inference=True
        )
        hidden = jax.lax.stop_gradient(hidden)
        target = normalise_durations(jnp.asarray(batch.durations), config.model.statistics)

        @eqx.filter_value_and_grad
        def loss_of(params: DurationModel):
            model = to_compute(learner.combine(params), config.precision)
            predicted = model(hidden, phone_count=batch.phone_count, key=key)
            return duration_loss(predicted, target, batch.phone_count, kind=config.duration_loss)

        loss, gradient = loss_of(learner.params)
        new = replace(state, durations=learner.update(gradient))
        return new, all_finite((loss, gradient)), {"duration": loss, **learner.metrics(gradient)}

    def batch(
        self,
        phonemes: Sequence[str | Sequence[str]],
        durations: Sequence[Sequence[int]],
        mels: Sequence[Float32[np.ndarray, "mels frames"]],
    ) -> UtteranceBatch:
        """Combine utterances into a batch, padded to the longest.

        **Arguments:** for each utterance, `phonemes`, codes of the model or a string of codes separated by spaces;
        `durations`, in frames; and `mels`, its mel spectrogram `(mels, frames)` under the model's contract.

        **Raises:** `TextError` for no phonemes, or a code that the model does not have; `ShapeError` if the numbers of
        utterances differ or are 0, if the durations are not one positive integer per phoneme, or if their sum is not
        the number of frames; `MelError` for a mel spectrogram that `check_mel` rejects.
        """
        counts = [len(phonemes), len(durations), len(mels)]
        if isinstance(phonemes, str) or len(set(counts)) > 1 or not counts[0]:
            given = "a string" if isinstance(phonemes, str) else f"a list of {counts[0]}"
            raise ShapeError(
                f"phonemes is {given}, durations has {counts[1]} items and mels has {counts[2]}; they should be lists "
                "with one item per utterance, and at least one item."
            )
        rows = []
        for number, utterance in enumerate(zip(phonemes, durations, mels, strict=True), 1):
            try:
                rows.append(self._validated(*utterance))
            except (TextError, ShapeError, MelError) as error:
                raise type(error)(f"Utterance {number} of the batch: {error}") from None
        phones, longest = max(len(ids) for ids, _, _ in rows), max(mel.shape[1] for _, _, mel in rows)
        return UtteranceBatch(
            np.stack([np.pad(np.asarray(ids, np.int32), (0, phones - len(ids))) for ids, _, _ in rows]),
            np.array([len(ids) for ids, _, _ in rows], np.int32),
            np.stack([np.pad(np.asarray(frames, np.float32), (0, phones - len(frames))) for _, frames, _ in rows]),
            np.stack([np.pad(mel, ((0, 0), (0, longest - mel.shape[1]))) for _, _, mel in rows]),
            np.array([mel.shape[1] for _, _, mel in rows], np.int32),
        )

    def _validated(
        self, phonemes: str | Sequence[str], durations: Sequence[int], mel: Float32[np.ndarray, "mels frames"]
    ) -> tuple[list[int], Int64[np.ndarray, " phones"], Float32[np.ndarray, "mels frames"]]:
        """The ids, durations and mel spectrogram of an utterance; raises as `batch` does."""
        ids = self._phone_set.ids(phonemes.split() if isinstance(phonemes, str) else phonemes)
        if not ids:
            raise TextError("phonemes is empty; it should contain at least one code.")
        frames, mel = validate_durations(durations, len(ids)), np.asarray(mel)
        check_mel(mel, self.mel)
        if frames.sum() != mel.shape[1]:
            raise ShapeError(
                f"The sum of the durations is {frames.sum()} frames; it should be {mel.shape[1]}, the number of mel "
                "frames."
            )
        return ids, frames, mel.astype(np.float32)

    def audio_seconds(self, batch: UtteranceBatch) -> float:
        """Seconds of audio in `batch`, without padding."""
        return float(batch.frame_count.sum()) * self.mel.hop_length / self.mel.sample_rate

    def validate(self, state: GaussianTTSState) -> ValidationResult:
        """The metrics and samples of `Validation`, with the moving average of the acoustic model if one is kept."""
        if self.validation is None:
            return ValidationResult({})
        return self.validation(state.acoustic.eval_model, state.acoustic.eval_state, state.durations.eval_model)

    def save_model(self, state: GaussianTTSState, folder: str | Path) -> None:
        """Write the networks to a model folder.

        If there is a `validation`, `duration_scale` in the saved statistics is measured on its utterances.
        """
        acoustic, norms, durations = state.acoustic.eval_model, state.acoustic.eval_state, state.durations.eval_model
        model = self.config.model
        if self.validation is not None:
            scale = self.validation.duration_scale(acoustic, norms, durations)
            model = replace(model, statistics=replace(model.statistics, duration_scale=scale))
        network = InferenceModel(acoustic, norms, durations)
        info = {**self._inherited_info, "step": int(state.counters.step)}
        FAMILY.save_network(folder, network, model, info=info)

    def describe(self) -> dict[str, Any]:
        """The training configuration and parameter counts."""
        state = eqx.filter_eval_shape(self.init, key=jax.random.key(0))
        acoustic = state.acoustic.model
        parts = {
            "encoder": acoustic.encoder,
            "decoder": (acoustic.decoder, acoustic.linear, acoustic.postnet),
            "durations": state.durations.model,
        }
        return {"config": to_dict(self.config), "parameters": {k: count_parameters(v) for k, v in parts.items()}}


def run_statistics(folder: RunFolder) -> Statistics:
    """The normalisation statistics of a run: those of its corpus when it started, even if the corpus has changed since.

    **Raises:** `CheckpointError` if `folder` contains no text-to-speech run.
    """
    table = folder.read_config().get("config") or {}
    try:
        return from_dict(TrainingConfig, table, str(folder.config)).model.statistics
    except ConfigError as failure:
        raise CheckpointError(
            f"{folder.path} does not contain a text-to-speech run ({failure}); choose a different --run-dir."
        ) from failure


def _to_compute(model: AcousticModel, precision: Precision) -> AcousticModel:
    """`model` in `precision`, except for the upsampling, which stays float32."""
    return eqx.tree_at(lambda tree: tree.upsampling, to_compute(model, precision), model.upsampling)


def _largest_mean(norms: BatchNormStates) -> Float32[Array, ""]:
    """The largest running mean of all channels, which is logged to detect diverging channels."""
    states = norms.encoder + norms.decoder + norms.postnet
    return jnp.max(jnp.concatenate([state.running_mean for state in states]))

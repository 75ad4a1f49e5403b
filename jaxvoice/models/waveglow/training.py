"""The `Task` that trains WaveGlow: the likelihood of recordings, one update, and model folders."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import equinox as eqx
import jax
from jax import numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxvoice.config import check_positive, check_types, to_dict
from jaxvoice.data.batches import CropBatch
from jaxvoice.data.store import Store
from jaxvoice.dsp.mel import log_mel
from jaxvoice.errors import ConfigError
from jaxvoice.models.waveglow.config import WaveGlowConfig
from jaxvoice.models.waveglow.family import FAMILY
from jaxvoice.models.waveglow.network import WaveGlow, bits_per_sample, negative_log_likelihood
from jaxvoice.models.waveglow.validation import METRICS, Validation, dequantize
from jaxvoice.nn import fold_weight_norm
from jaxvoice.training.learner import Learner, check_ema_decay
from jaxvoice.training.optimizers import OptimizerConfig
from jaxvoice.training.task import Task, ValidationResult
from jaxvoice.training.training_state import Counters, Precision, all_finite, guarded
from jaxvoice.weights import count_parameters

COLUMNS = MappingProxyType(
    {
        "loss": "negative log-likelihood in nats per sample, without the constant of the normal distribution",
        "bits_per_sample": "negative log-likelihood in bits per sample, for samples in [-1, 1]",
        "log_scale": "sum of the log-scales of the couplings per sample",
        "log_determinant": "sum of log|det W| of the 1x1 convolutions per sample",
        "gradient_norm, learning_rate": "of the network, before clipping",
    }
)
"""Meanings of the values that training logs."""


def waveglow_optimizer() -> OptimizerConfig:
    """The optimiser of the release: Adam with a constant learning rate of 1e-4 (NVIDIA/waveglow `config.json`)."""
    return OptimizerConfig(learning_rate=1e-4, b1=0.9, b2=0.999, weight_decay=0.0, schedule="constant")


@dataclass(frozen=True)
class TrainingConfig:
    """A WaveGlow and its training; the defaults are those of the release (NVIDIA/waveglow `config.json`).

    With `dequantize`, uniform noise of one integer step is added to the samples of crops and of held-out recordings.
    Without it, as in the release, the likelihood of digital silence has no upper bound, and training on recordings
    that contain it, such as those of a speech synthesiser, becomes unstable.

    `precision` is that of the networks of the couplings; parameters, mels, latents, log-scales, determinants and the
    loss stay float32. `ema_decay` keeps a moving average of the weights, which is validated and saved; `None` keeps
    none. A new network has random rotations as in the release, or the matrices of `initial_matrices="exchanges"`,
    which increases the likelihood faster in the first steps.

    **Raises:** `ConfigError` for values of the wrong type or range, or if `segment_size` is not a multiple of
    `model.group` or too short for a mel frame.
    """

    model: WaveGlowConfig = field(default_factory=WaveGlowConfig)
    """The network."""
    optimizer: OptimizerConfig = field(default_factory=waveglow_optimizer)
    """Its optimiser."""
    sigma: float = 1.0
    """Standard deviation of the latents in the likelihood."""
    segment_size: int = 16_000
    """Number of samples in a training crop."""
    dequantize: bool = False
    """Add uniform noise of one integer step to the samples."""
    synthesis_sigma: float = 0.75
    """Standard deviation of the noise from which validations synthesise."""
    precision: Precision = "float32"
    """Precision of the networks of the couplings; parameters, latents and the loss stay float32."""
    ema_decay: float | None = None
    """Decay per step of the moving average of the weights; None keeps no average."""
    initial_matrices: Literal["rotations", "exchanges"] = "rotations"
    """Matrices of the 1x1 convolutions of a new network: random rotations, or exchanges of the halves of channels."""

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "sigma", "segment_size", "synthesis_sigma")
        check_ema_decay(self.ema_decay)
        group, least = self.model.group, self.model.mel.min_samples
        if self.segment_size % group or self.segment_size < least:
            nearest = max(-(-least // group), round(self.segment_size / group)) * group
            raise ConfigError(
                f"segment_size is {self.segment_size}; it should be a multiple of model.group, {group}, and at least "
                f"{least}, the fewest samples of a mel frame. The nearest such size is {nearest}."
            )


def exchange_halves(network: WaveGlow) -> WaveGlow:
    """`network` with 1x1 convolutions that exchange the halves of the channels.

    Every two flows then scale all channels. After a random rotation, which mixes scaled channels with others, training
    takes many more steps until all channels have the scale of the latents.
    """
    matrices = [layer.conv.weight for layer in network.convinv]
    exchanges = [jnp.roll(jnp.eye(len(one), dtype=one.dtype), len(one) // 2, axis=0)[..., None] for one in matrices]
    return eqx.tree_at(lambda one: [layer.conv.weight for layer in one.convinv], network, exchanges)


class WaveGlowState(eqx.Module):
    """Everything that a training step updates."""

    counters: Counters
    network: Learner[WaveGlow]


class WaveGlowTask(Task):
    """The training task of WaveGlow, for `jaxvoice.training.loop.fit`.

    Batches are `CropBatch`, such as those of `RandomCrops(size, segment_size)`. The mel spectrogram of a crop is that
    of the crop alone, as in the release (NVIDIA/waveglow `mel2samp.py`): the audio is reflected at both ends. The mels
    of a store that has them are used instead. `LoopConfig(best_metric="bits_per_sample")` selects the best model
    by its likelihood, and the default "mel_l1" by its synthesis.

    The loss is that of the release, except for the sign of the determinants. The release computes log det W, which is
    NaN if a determinant becomes negative. Here it is log |det W|, the term of the likelihood.

    **Arguments:**

    - `config`: the training configuration.
    - `steps_per_epoch`: number of steps per epoch, for learning rates that decay after every epoch.
    - `validation`: held-out recordings; without them, validation returns no metrics.
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
        validation: Store | None = None,
        inherited_info: Mapping[str, Any] | None = None,
    ):
        self.config, self.mel = config, config.model.mel
        self.steps_per_epoch, self._inherited_info = steps_per_epoch, dict(inherited_info or {})
        if validation is not None:
            self.validation = Validation(
                validation,
                config.model,
                sigma=config.sigma,
                synthesis_sigma=config.synthesis_sigma,
                add_noise=config.dequantize,
            )

    def init(self, *, key: PRNGKeyArray) -> WaveGlowState:
        """The initial state, with a random network, whose couplings do not change their input."""
        network = WaveGlow(self.config.model, key=key)
        return self.state_of(exchange_halves(network) if self.config.initial_matrices == "exchanges" else network)

    def state_of(self, network: WaveGlow) -> WaveGlowState:
        """The state before the first step, for a given network, such as a pretrained one."""
        config = self.config
        learner = Learner.create(
            network, config.optimizer, steps_per_epoch=self.steps_per_epoch, ema_decay=config.ema_decay
        )
        return WaveGlowState(Counters.zero(), learner)

    def step(
        self, state: WaveGlowState, batch: CropBatch, *, key: PRNGKeyArray, phase: int
    ) -> tuple[WaveGlowState, dict[str, Float[Array, ""]]]:
        """One update of the network."""
        learner, config = state.network, self.config
        gain = jnp.asarray(batch.gain)[:, None]
        audio = jnp.asarray(batch.audio).astype(jnp.float32) * gain
        mel = jax.vmap(log_mel, in_axes=(0, None))(audio, self.mel) if batch.mel is None else jnp.asarray(batch.mel)
        if config.dequantize:
            audio = dequantize(audio, gain, key=key)

        def loss_of(params: Any) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
            inputs = mel.swapaxes(1, 2).astype(config.precision)
            latents = learner.combine(params).encode(audio[..., None], inputs)
            loss = jnp.mean(negative_log_likelihood(latents, sigma=config.sigma))
            samples = audio.shape[1]
            parts = {
                "bits_per_sample": jnp.mean(bits_per_sample(latents, sigma=config.sigma)),
                "log_scale": jnp.mean(latents.log_scale) / samples,
                "log_determinant": jnp.mean(latents.log_determinant) / samples,
            }
            return loss, parts

        (loss, parts), gradient = eqx.filter_value_and_grad(loss_of, has_aux=True)(learner.params)
        new = WaveGlowState(state.counters, learner.update(gradient))
        metrics = {"loss": loss, **parts, **learner.metrics(gradient)}
        return guarded(all_finite((loss, gradient)), new, state), metrics

    def audio_seconds(self, batch: CropBatch) -> float:
        """Seconds of audio in `batch`."""
        return batch.audio.size / self.mel.sample_rate

    def network(self, state: WaveGlowState) -> WaveGlow:
        """The network for inference: the moving average if one is kept, with weight norm folded."""
        return fold_weight_norm(state.network.eval_model)

    def validate(self, state: WaveGlowState) -> ValidationResult:
        """The metrics and samples of `Validation`."""
        return ValidationResult({}) if self.validation is None else self.validation(self.network(state))

    def save_model(self, state: WaveGlowState, folder: str | Path) -> None:
        """Write the network, or its moving average if one is kept, to a model folder.

        Weight norm is not folded, so that the model can be fine-tuned.
        """
        info = {**self._inherited_info, "step": int(state.counters.step)}
        FAMILY.save_network(folder, state.network.eval_model, self.config.model, info=info)

    def describe(self) -> dict[str, Any]:
        """The training configuration and the number of parameters."""
        model = eqx.filter_eval_shape(self.init, key=jax.random.key(0)).network.model
        return {"config": to_dict(self.config), "parameters": {"network": count_parameters(model)}}

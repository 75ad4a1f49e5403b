"""The `Task` that trains RAVE in two phases, and its steps."""

import functools as ft
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import equinox as eqx
import jax
from jax import lax, numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxvoice.config import to_dict
from jaxvoice.data.augmentation import AudioBatch
from jaxvoice.models.rave import losses
from jaxvoice.models.rave.discriminators import build_discriminators
from jaxvoice.models.rave.family import FAMILY
from jaxvoice.models.rave.generators import GeneratorState
from jaxvoice.models.rave.network import Rave, RaveState
from jaxvoice.models.rave.receptive_fields import receptive_field
from jaxvoice.models.rave.trained import TrainedRave
from jaxvoice.models.rave.training_config import RaveTrainingConfig, StepKind
from jaxvoice.models.rave.validation import METRICS, Validation
from jaxvoice.models.rave.warm_start import save_discriminators
from jaxvoice.training.adversarial_training import adversarial_step
from jaxvoice.training.learner import Learner
from jaxvoice.training.task import Task, ValidationResult
from jaxvoice.training.training_state import Counters, guarded
from jaxvoice.weights import count_parameters

COLUMNS = MappingProxyType(
    {
        "generator": "weighted sum of the losses of encoder and generator",
        "fullband, multiband": "spectral distances of the audio and of its sub-bands, without their weights",
        "regularization, beta": "regularisation of the latents, and its weight",
        "adversarial, feature_matching": "losses with discriminators, in the second phase, without their weights",
        "discriminator": "loss of the discriminators, in the second phase",
        "logit_real, logit_fake": "mean outputs of the discriminators for recordings and reconstructions",
        "gradient_norm, learning_rate": "of encoder and generator; disc_*: of the discriminators",
    }
)
"""Meanings of the values that training logs."""


class RaveTrainingState(eqx.Module):
    """Everything that a training step updates."""

    counters: Counters
    networks: Learner[Rave]
    """Encoder and generator; `model_state` is the `RaveState` with batch norms and codebooks."""
    discriminators: Learner[Any]


class RaveTask(Task):
    """The training task of RAVE, for `jaxvoice.training.loop.fit`.

    Batches are `AudioBatch`, such as those of `AudioCrops`. The loop compiles a program for each kind of step: steps of
    the first phase, and steps of the second phase that update the discriminators or the generator.
    `LoopConfig(best_metric="spectral_distance")` selects the best model; models of the second phase are preferred to
    those of the first.

    **Arguments:**

    - `config`: the training configuration.
    - `steps_per_epoch`: number of steps per epoch, for learning rates that decay after every epoch.
    - `validation`: evaluates the network; without it, validation returns no metrics, and principal components of the
        latents are not computed.
    - `inherited_info`: metadata of the initial model, such as its licence, that is copied into model folders.
    """

    family = FAMILY.name
    metrics = METRICS
    columns = COLUMNS
    mel = None

    def __init__(
        self,
        config: RaveTrainingConfig,
        *,
        steps_per_epoch: int,
        validation: Validation | None = None,
        inherited_info: Mapping[str, Any] | None = None,
    ):
        self.config, self.steps_per_epoch = config, steps_per_epoch
        self.validation, self._inherited_info = validation, dict(inherited_info or {})

    def init(self, *, key: PRNGKeyArray) -> RaveTrainingState:
        """The initial state, with random networks."""
        network_key, discriminators_key = jax.random.split(key)
        network = Rave(self.config.model, key=network_key)
        discriminators = build_discriminators(
            self.config.model.discriminators, self.config.model.n_channels, key=discriminators_key
        )
        return self.state_of(network, network.init_state(), discriminators)

    def state_of(self, network: Rave, state: RaveState, discriminators: Any) -> RaveTrainingState:
        """The state before the first step, for given networks, such as pretrained ones."""
        config, epoch = self.config, self.steps_per_epoch
        return RaveTrainingState(
            Counters.zero(),
            Learner.create(
                network,
                config.generator_optimizer,
                steps_per_epoch=epoch,
                model_state=state,
                ema_decay=config.ema_decay,
                frozen=("pqmf",),
            ),
            Learner.create(discriminators, config.discriminator_optimizer, steps_per_epoch=epoch),
        )

    def phase_of(self, step: int) -> int:
        """The number of the kind of the step, `RaveTrainingConfig.step_kind`."""
        return self.config.step_kind(step).number

    def rank_of(self, phase: int) -> int:
        """Models that were trained against discriminators, or with quantisation, rank above others."""
        kind = StepKind.of(phase)
        return kind.adversarial + kind.quantize

    def step(
        self, state: RaveTrainingState, batch: AudioBatch, *, key: PRNGKeyArray, phase: int
    ) -> tuple[RaveTrainingState, dict[str, Float[Array, ""]]]:
        """One update of encoder and generator, or of the discriminators."""
        kind, config, audio = StepKind.of(phase), self.config, jnp.asarray(batch.audio)
        frozen = ("encoder",) if kind.adversarial and config.freezes_encoder else ()
        encode_key, decode_key = jax.random.split(key)
        # v1 adds noise in the second phase only.
        noise_key = decode_key if kind.adversarial or config.model.generator.version == "v2" else None
        pqmf, buffers = state.networks.model.pqmf, state.networks.model_state
        real = losses.recorded_signals(config, pqmf, audio)

        def generate(network: Rave) -> tuple[tuple[Array, Array], RaveState]:
            latents, new = network.encode(audio, buffers, key=encode_key, quantize=kind.quantize)
            # A loss of the encoder has no gradient where it is frozen.
            z = lax.stop_gradient(latents.z) if frozen else latents.z
            output, new = network.decode_bands(z, new, key=noise_key)
            return (output, latents.regularization), lax.stop_gradient(new)

        def discriminator_loss(discriminators: Any, _: None, outputs: tuple[Array, Array]):
            fake = losses.generated_signals(config, pqmf, outputs[0]).audio
            loss, parts = losses.discriminators_loss(config, *losses.judge(discriminators, audio, fake))
            return loss, parts, None

        after = adversarial_step(
            state.networks,
            state.discriminators,
            generate=generate,
            discriminator_loss=discriminator_loss,
            generator_loss=ft.partial(self._generator_loss, state, audio, real),
            mode=kind.mode,
            frozen=frozen,
            # The statistics of the batch norms of v1 follow the recordings in the second phase too.
            frozen_state=(),
        )
        new = RaveTrainingState(state.counters, after.generator, after.discriminators)
        return guarded(after.finite, new, state), after.metrics

    def _generator_loss(self, state, audio, real, discriminators, _, outputs):
        config, (output, regularization) = self.config, outputs
        fake = losses.generated_signals(config, state.networks.model.pqmf, output)
        parts = losses.spectral_losses(config, real, fake)
        beta = config.beta(state.counters.step)
        total = losses.reconstruction_loss(config, parts, regularization, beta)
        parts |= {"regularization": regularization, "beta": beta}
        if discriminators is not None:
            more, judged = losses.adversarial_losses(config, *losses.judge(discriminators, audio, fake.audio))
            total, parts = total + more, parts | judged
        return total, parts, None

    def audio_seconds(self, batch: AudioBatch) -> float:
        """Seconds of audio in `batch`."""
        rows, samples, _ = batch.audio.shape
        return rows * samples / self.config.model.sample_rate

    def _kind(self, state: RaveTrainingState) -> StepKind:
        """The kind of the last step."""
        return self.config.step_kind(max(int(state.counters.step) - 1, 0))

    def model(self, state: RaveTrainingState) -> TrainedRave:
        """The network, or its moving average if one is kept, with its state, for inference.

        The state has the flags and the receptive field that checkpoints of the release contain.
        """
        kind, buffers = self._kind(state), state.networks.model_state
        flags = {
            "adversarial": jnp.asarray(kind.adversarial, jnp.int32),
            "quantize": jnp.asarray(kind.quantize, jnp.int32),
        }
        if buffers.encoder.warmed_up is not None:
            buffers = eqx.tree_at(lambda s: s.encoder.warmed_up, buffers, flags["adversarial"])
        if buffers.encoder.enabled is not None:
            buffers = eqx.tree_at(lambda s: s.encoder.enabled, buffers, flags["quantize"])
        if isinstance(buffers.decoder, GeneratorState):
            buffers = eqx.tree_at(lambda s: s.decoder.warmed_up, buffers, flags["adversarial"])
        field = jnp.asarray(receptive_field(self.config.model), jnp.int32)
        buffers = eqx.tree_at(lambda s: s.receptive_field, buffers, field)
        return TrainedRave(state.networks.eval_model, buffers)

    def validate(self, state: RaveTrainingState) -> ValidationResult:
        """The metrics and samples of `Validation`."""
        if self.validation is None:
            return ValidationResult({})
        networks, step = state.networks, int(state.counters.step)
        return self.validation(networks.eval_model, networks.model_state, self._kind(state), step=step)

    def save_model(self, state: RaveTrainingState, folder: str | Path) -> None:
        """Write the network, or its moving average if one is kept, its state and the discriminators to a model folder.

        The state contains the principal components of the latents of the held-out recordings.
        """
        step, model = int(state.counters.step), self.model(state)
        if self.validation is not None:
            components = self.validation.with_components(model.network, model.state, step=step)
            model = TrainedRave(model.network, components)
        info = {**self._inherited_info, "step": step}
        FAMILY.save_network(folder, model, self.config.model, info=info)
        save_discriminators(Path(folder), state.discriminators.model, self.config, step=step)

    def describe(self) -> dict[str, Any]:
        """The training configuration and the numbers of parameters."""
        state = eqx.filter_eval_shape(self.init, key=jax.random.key(0))
        network = state.networks.model
        parameters = {"encoder": network.encoder, "generator": network.decoder}
        parameters |= {"discriminators": state.discriminators.model}
        return {
            "config": to_dict(self.config),
            "parameters": {name: count_parameters(part) for name, part in parameters.items()},
        }

"""The `Task` that trains the DVAE of XTTS, and then a vocoder for its mel spectrograms."""

import functools as ft
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax import lax, numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from jaxvoice.config import check_field, check_not_negative, check_positive, check_types, to_dict
from jaxvoice.data import CropBatch
from jaxvoice.dsp.mel import log_mel
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.models.hifigan.config import DiscriminatorConfig
from jaxvoice.models.hifigan.discriminators import Discriminators
from jaxvoice.models.hifigan.generator import Generator
from jaxvoice.models.hifigan.losses import LossWeights, adversarial_losses, discriminators_loss, stft_loss
from jaxvoice.models.xtts_dvae.codec import CodecNetwork
from jaxvoice.models.xtts_dvae.config import CodecConfig
from jaxvoice.models.xtts_dvae.family import FAMILY
from jaxvoice.models.xtts_dvae.front_end import normalized_log_mel
from jaxvoice.models.xtts_dvae.network import DVAE, CodeBook
from jaxvoice.models.xtts_dvae.validation import METRICS, Validation
from jaxvoice.training.adversarial_training import adversarial_step
from jaxvoice.training.learner import Learner, check_ema_decay
from jaxvoice.training.optimizers import OptimizerConfig
from jaxvoice.training.task import Task, ValidationResult
from jaxvoice.training.training_state import Counters, Precision, all_finite, guarded
from jaxvoice.weights import count_parameters

COLUMNS = MappingProxyType(
    {
        "loss": "reconstruction + weighted commitment, in the first phase",
        "reconstruction": "mean squared error of the normalised log-mels of the batch",
        "commitment": "mean squared difference of latents and the vectors of their codes, without its weight",
        "perplexity": "exponential of the entropy of the codes of the batch",
        "restarted": "vectors of the code book that were replaced by latents of the batch",
        "generator": "weighted sum of the losses of the vocoder, in the later phases",
        "mel_l1": "mel L1 of the audio of the batch up to the Nyquist frequency, without its weight",
        "stft": "multi-resolution STFT loss, with its weight",
        "adv_*, feature_*": "adversarial and feature-matching losses, in the last phase",
        "discriminator": "loss of all discriminators: disc_period and disc_scale",
        "gradient_norm, learning_rate": "of the trained network, before clipping; disc_*: of the discriminators",
    }
)
"""Meanings of the values that training logs."""


@dataclass(frozen=True)
class TrainingConfig:
    """The training of a DVAE, which was not published, and of a vocoder for it.

    In the first phase, `dvae_steps` steps train the DVAE; without a vocoder, all steps do. Then the DVAE is frozen, and
    the vocoder learns to compute the recordings from the mel spectrograms of their decoded codes:
    `reconstruction_steps` steps with its mel and STFT losses alone, and all further steps against discriminators.

    **Raises:** `ConfigError` for values of the wrong type or range, or lengths of crops that do not fit the mel.
    """

    model: CodecConfig = field(default_factory=CodecConfig)
    """The networks."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(3e-4, 0.9, 0.99, weight_decay=0.0, decay_steps=1000)
    )
    """Optimiser of the DVAE."""
    commitment: float = 1.0
    """Weight of the commitment loss."""
    restart_below: float = 0.3
    """Vectors of the code book whose clusters are smaller than this share of the mean size are replaced by random
    latents of the batch; 0 replaces none after the first step."""
    dvae_steps: int = 100_000
    """Steps that train the DVAE, before those of the vocoder."""
    reconstruction_steps: int = 0
    """Steps that then train the vocoder on its mel and STFT losses alone, without discriminators."""
    segment_size: int = 32768
    """Samples of a crop."""
    vocoder_segment_size: int = 8192
    """Samples of a part of each crop, at random, that the vocoder computes; the DVAE decodes the whole crop."""
    vocoder_optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(decay_steps=1000))
    """Optimiser of the vocoder."""
    discriminator_optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(decay_steps=1000))
    """Optimiser of the discriminators."""
    discriminators: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    """The discriminators of the vocoder."""
    loss_weights: LossWeights = field(default_factory=LossWeights)
    """Weights of the vocoder's losses."""
    precision: Precision = "float32"
    """Precision of the vocoder's computation; the DVAE, parameters, mels and losses stay float32."""
    ema_decay: float | None = None
    """Decay per step of the moving average of the vocoder's weights; None keeps no average."""

    def __post_init__(self) -> None:
        check_types(self)
        check_ema_decay(self.ema_decay)
        check_positive(self, "segment_size", "vocoder_segment_size")
        check_not_negative(self, "commitment", hint="0 disables the loss")
        check_not_negative(self, "dvae_steps", "reconstruction_steps", hint="0 leaves the phase out")
        check_field(self, "restart_below", 0 <= self.restart_below < 1, "be in [0, 1)")
        mel, code = self.model.mel, self.model.dvae.samples_per_code
        least = max(mel.n_fft, code)
        fits = self.segment_size % code == 0 and self.segment_size >= least
        check_field(self, "segment_size", fits, f"be a multiple of the samples of a code, {code}, and at least {least}")
        if self.model.vocoder is None:
            return
        size, longest = self.vocoder_segment_size, max(self.loss_weights.stft_sizes)
        least = max(mel.n_fft, longest // 2 + 1 if self.loss_weights.stft else 0)
        fits = size % mel.hop_length == 0 and least <= size <= self.segment_size
        check_field(
            self,
            "vocoder_segment_size",
            fits,
            f"be a multiple of the hop length, {mel.hop_length}, of at least {least} and at most segment_size, "
            f"{self.segment_size}",
        )
        _ = self.loss_mel  # which checks its own sizes

    @property
    def loss_mel(self) -> MelConfig:
        """The mel spectrograms of the vocoder's loss: those of HiFi-GAN, up to the Nyquist frequency."""
        mel = self.model.mel
        return MelConfig(mel.sample_rate, mel.n_fft, mel.hop_length, mel.win_length, mel.num_mels, fmax=None)


class DVAEState(eqx.Module):
    """Everything that a training step updates, and the statistics of the mel spectrograms."""

    counters: Counters
    mel_stats: Float[Array, " mels"]
    dvae: Learner[DVAE]
    vocoder: Learner[Generator] | None
    discriminators: Learner[Discriminators] | None
    """`model_state` contains the vectors of spectral norm."""


class DVAETask(Task):
    """The training task of the DVAE of XTTS and of its vocoder, for `jaxvoice.training.loop.fit`.

    Batches are crops of recordings, such as those of `RandomCrops`. The loop compiles a program for each phase.

    **Arguments:**

    - `config`: the training configuration.
    - `steps_per_epoch`: number of steps per epoch, for learning rates that decay after every epoch.
    - `mel_stats`: the divisors of the log-mels `(mels,)`, such as those of `mel_statistics`, for a new run; by default
        ones. A run keeps them in its state.
    - `validation`: evaluates the networks; without it, validation returns no metrics.
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
        mel_stats: Float[ArrayLike, " mels"] | None = None,
        validation: Validation | None = None,
        inherited_info: Mapping[str, Any] | None = None,
    ):
        self.config, self.mel, self.steps_per_epoch = config, config.model.mel, steps_per_epoch
        self._mel_stats = np.ones(self.mel.num_mels, np.float32) if mel_stats is None else mel_stats
        self.validation, self._inherited_info = validation, dict(inherited_info or {})

    def init(self, *, key: PRNGKeyArray) -> DVAEState:
        """The initial state, with random networks."""
        network_key, discriminators_key = jax.random.split(key)
        network = CodecNetwork(self.config.model, key=network_key)
        network = eqx.tree_at(lambda n: n.mel_stats, network, jnp.asarray(self._mel_stats, jnp.float32))
        return self.state_of(network, key=discriminators_key)

    def state_of(self, network: CodecNetwork, *, key: PRNGKeyArray) -> DVAEState:
        """The state before the first step, for a given network, with new discriminators."""
        config, epoch = self.config, self.steps_per_epoch
        dvae = Learner.create(network.dvae, config.optimizer, steps_per_epoch=epoch, frozen=("codebook",))
        if network.vocoder is None:
            return DVAEState(Counters.zero(), network.mel_stats, dvae, None, None)
        networks_key, vectors_key = jax.random.split(key)
        discriminators = Discriminators(config.discriminators, key=networks_key)
        return DVAEState(
            Counters.zero(),
            network.mel_stats,
            dvae,
            Learner.create(
                network.vocoder, config.vocoder_optimizer, steps_per_epoch=epoch, ema_decay=config.ema_decay
            ),
            Learner.create(
                discriminators,
                config.discriminator_optimizer,
                steps_per_epoch=epoch,
                model_state=discriminators.msd.init_state(key=vectors_key),
            ),
        )

    def phase_of(self, step: int) -> int:
        """0 for steps of the DVAE, 1 for steps of the vocoder alone, and 2 for steps against discriminators."""
        config = self.config
        if config.model.vocoder is None or step < config.dvae_steps:
            return 0
        return 1 if step < config.dvae_steps + config.reconstruction_steps else 2

    def step(
        self, state: DVAEState, batch: CropBatch, *, key: PRNGKeyArray, phase: int
    ) -> tuple[DVAEState, dict[str, Float[Array, ""]]]:
        """One update of the DVAE and its code book, or of the vocoder and, in the last phase, its discriminators."""
        audio = jnp.asarray(batch.audio, jnp.float32) * jnp.asarray(batch.gain)[:, None]
        # The last of the centred frames has no code of its own in a crop of whole codes.
        mel = normalized_log_mel(audio, state.mel_stats, self.mel)[:, :-1]
        if phase == 0:
            return self._dvae_step(state, mel, key)
        return self._vocoder_step(state, audio, mel, key, adversarial=phase == 2)

    def _dvae_step(
        self, state: DVAEState, mel: Float[Array, "batch frames mels"], key: PRNGKeyArray
    ) -> tuple[DVAEState, dict[str, Float[Array, ""]]]:
        learner, config = state.dvae, self.config.model.dvae

        def loss_of(params: DVAE) -> tuple[Float[Array, ""], tuple[CodeBook, dict[str, Float[Array, ""]]]]:
            dvae = learner.combine(params)
            latents = dvae.latents(mel)
            book, restarted = dvae.codebook.restarted(latents, below=self.config.restart_below, key=key)
            quantized = book(latents)
            reconstruction = jnp.mean(jnp.square(dvae.decode_vectors(quantized.vectors) - mel))
            book = book.updated(latents, quantized.codes, decay=config.decay, eps=config.eps)
            loss = reconstruction + self.config.commitment * quantized.commitment
            return loss, (book, _metrics(loss, reconstruction, quantized, restarted, config.codes))

        (loss, (book, metrics)), gradient = eqx.filter_value_and_grad(loss_of, has_aux=True)(learner.params)
        new = eqx.tree_at(lambda one: one.model.codebook, learner.update(gradient), book)
        after = eqx.tree_at(lambda one: one.dvae, state, new)
        finite = all_finite((loss, gradient, book))
        return guarded(finite, after, state), {**metrics, **learner.metrics(gradient)}

    def _vocoder_step(
        self,
        state: DVAEState,
        audio: Float[Array, "batch samples"],
        mel: Float[Array, "batch frames mels"],
        key: PRNGKeyArray,
        *,
        adversarial: bool,
    ) -> tuple[DVAEState, dict[str, Float[Array, ""]]]:
        assert state.vocoder is not None and state.discriminators is not None
        hop, size = self.mel.hop_length, self.config.vocoder_segment_size
        decoded = lax.stop_gradient(state.dvae.model(mel).mel)
        starts = jax.random.randint(key, mel.shape[:1], 0, mel.shape[1] - size // hop + 1)
        decoded = jax.vmap(lambda row, at: lax.dynamic_slice_in_dim(row, at, size // hop))(decoded, starts)
        real = jax.vmap(lambda row, at: lax.dynamic_slice_in_dim(row, at * hop, size))(audio, starts)
        target_mel = jax.vmap(log_mel, in_axes=(0, None))(real, self.config.loss_mel)

        def generate(generator: Generator) -> tuple[Float[Array, "batch samples"], None]:
            return generator(decoded.astype(self.config.precision))[..., 0].astype(jnp.float32), None

        after = adversarial_step(
            state.vocoder,
            state.discriminators,
            generate=generate,
            discriminator_loss=ft.partial(self._discriminator_loss, real),
            generator_loss=ft.partial(self._generator_loss, real, target_mel),
            mode="both" if adversarial else "reconstruction",
        )
        new = DVAEState(state.counters, state.mel_stats, state.dvae, after.generator, after.discriminators)
        return guarded(after.finite, new, state), after.metrics

    def _discriminator_loss(self, real, discriminators, state, fake):
        return discriminators_loss(discriminators, state, real, fake, precision=self.config.precision)

    def _generator_loss(self, real, target_mel, discriminators, state, fake):
        weights, parts = self.config.loss_weights, {}
        if discriminators is not None:
            parts, state = adversarial_losses(
                discriminators, state, real, fake, weights, precision=self.config.precision
            )
        mel_l1 = jnp.mean(jnp.abs(target_mel - jax.vmap(log_mel, in_axes=(0, None))(fake, self.config.loss_mel)))
        parts |= stft_loss(real, fake, weights)
        return sum(parts.values()) + weights.mel * mel_l1, {**parts, "mel_l1": mel_l1}, state

    def audio_seconds(self, batch: CropBatch) -> float:
        """Seconds of audio in `batch`."""
        return batch.audio.size / self.mel.sample_rate

    def network(self, state: DVAEState) -> CodecNetwork:
        """The network for inference, with the moving average of the vocoder if one is kept.

        Its configuration has no vocoder while the vocoder is not trained.
        """
        config, step = self.config.model, int(state.counters.step)
        trained = state.vocoder is not None and self.phase_of(max(step - 1, 0)) > 0
        config = config if trained else CodecConfig(config.dvae)
        network = eqx.filter_eval_shape(CodecNetwork, config, key=jax.random.key(0))
        vocoder = state.vocoder.eval_model if trained and state.vocoder is not None else None
        parts = state.dvae.eval_model, state.mel_stats, vocoder
        return eqx.tree_at(lambda n: (n.dvae, n.mel_stats, n.vocoder), network, parts, is_leaf=lambda n: n is None)

    def validate(self, state: DVAEState) -> ValidationResult:
        """The metrics and samples of `Validation`."""
        return ValidationResult({}) if self.validation is None else self.validation(self.network(state))

    def save_model(self, state: DVAEState, folder: str | Path) -> None:
        """Write the DVAE, its statistics and, once it is trained, the vocoder to a model folder."""
        network = self.network(state)
        info = {**self._inherited_info, "step": int(state.counters.step)}
        FAMILY.save_network(folder, network, network.config, info=info)

    def describe(self) -> dict[str, Any]:
        """The training configuration and the numbers of parameters."""
        state = eqx.filter_eval_shape(self.init, key=jax.random.key(0))
        parts: dict[str, Any] = {"dvae": state.dvae.model}
        if state.vocoder is not None and state.discriminators is not None:
            parts |= {"vocoder": state.vocoder.model, "discriminators": state.discriminators.model}
        return {"config": to_dict(self.config), "parameters": {k: count_parameters(v) for k, v in parts.items()}}


def _metrics(loss, reconstruction, quantized, restarted, codes) -> dict[str, Float[Array, ""]]:
    used = jnp.mean(jax.nn.one_hot(quantized.codes.reshape(-1), codes), 0)
    entropy = -jnp.sum(jnp.where(used > 0, used * jnp.log(jnp.where(used > 0, used, 1.0)), 0.0))
    return {
        "loss": loss,
        "reconstruction": reconstruction,
        "commitment": quantized.commitment,
        "perplexity": jnp.exp(entropy),
        "restarted": restarted.astype(jnp.float32),
    }

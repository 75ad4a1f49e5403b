"""The `Task` that trains the decoder of XTTS on latents of the language model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import equinox as eqx
import jax
from jax import numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxvoice.config import check_not_negative, check_positive, check_types, to_dict
from jaxvoice.data.batches import ColumnBatch
from jaxvoice.dsp.mel import log_mel
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.errors import ConfigError
from jaxvoice.models.hifigan.config import DiscriminatorConfig, GeneratorConfig
from jaxvoice.models.hifigan.discriminators import Discriminators, MultiScaleState
from jaxvoice.models.hifigan.generator import Generator
from jaxvoice.models.hifigan.losses import LossWeights, adversarial_losses, discriminators_loss, stft_loss
from jaxvoice.models.speaker_encoder.consistency import (
    audible,
    check_encoder,
    gradient_warnings,
    speaker_similarity,
    with_gradient,
)
from jaxvoice.models.speaker_encoder.resnet import ResNetSE
from jaxvoice.models.xtts.config import XTTSConfig, decoder_config
from jaxvoice.models.xtts.decoder_folder import write_decoder
from jaxvoice.models.xtts.decoder_validation import METRICS, DecoderValidation
from jaxvoice.models.xtts.weights import NAME
from jaxvoice.training.adversarial_training import adversarial_step
from jaxvoice.training.learner import Learner, check_ema_decay
from jaxvoice.training.optimizers import OptimizerConfig
from jaxvoice.training.task import Task, ValidationResult
from jaxvoice.training.training_state import Counters, Precision, guarded
from jaxvoice.weights import count_parameters

COLUMNS = MappingProxyType(
    {
        "generator": "weighted sum of the losses of the decoder",
        "mel_l1": "mel L1 of the crops, without its weight",
        "stft": "multi-resolution STFT loss, with its weight",
        "adv_*, feature_*": "adversarial and feature-matching losses of the discriminators of periods and scales",
        "speaker_similarity": "mean cosine of the speaker encoder for recorded and generated crops",
        "compared_segments": "number of crops in which the recording is not silent, so that voices are compared",
        "speaker_gradient, mel_gradient": "norms of the gradients of these losses at the generated samples",
        "discriminator": "loss of all discriminators: disc_period and disc_scale",
        "gradient_norm, learning_rate": "of the decoder, before clipping; disc_*: of the discriminators",
    }
)
"""Meanings of the values that training logs."""
_SPEAKER_METRICS = ("speaker_similarity", "compared_segments", "speaker_gradient, mel_gradient")


def decoder_optimizer() -> OptimizerConfig:
    """AdamW for fine-tuning, with a learning rate that falls by 0.0125 % per epoch."""
    return OptimizerConfig(learning_rate=1e-4, decay=0.999875)


@dataclass(frozen=True)
class DecoderTrainingConfig:
    """The decoder of XTTS and its training. The makers of XTTS published no training of it.

    The losses are those of HiFi-GAN in coqui-ai/TTS, whose adversarial loss is the mean over the eight discriminators,
    and the speaker consistency loss of YourTTS with its weight. It begins after `speaker_steps` steps: the embeddings
    of noise are of no use. The default learning rate is that of fine-tuning; a new decoder needs about 2e-4.

    `precision` is that of the networks' computation; parameters, mels, losses and the speaker encoder stay float32.
    `ema_decay` keeps a moving average of the decoder's weights, which is validated and saved; `None` keeps none.

    **Raises:** `ConfigError` for values of the wrong type or range, or crops that are shorter than `mel.n_fft`.

    arXiv 2406.04904, section 2.3; arXiv 2112.02418, equation 1; coqui-ai/TTS `TTS/vocoder/layers/losses.py`.
    """

    decoder: GeneratorConfig = field(default_factory=decoder_config)
    """The decoder."""
    discriminators: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    """The discriminators."""
    mel: MelConfig = field(default_factory=lambda: MelConfig(sample_rate=24000, fmax=None))
    """The mel spectrograms of the loss, at the sample rate of the speech."""
    segment_frames: int = 32
    """Frames of the decoder in a crop, 256 samples each."""
    generator_optimizer: OptimizerConfig = field(default_factory=decoder_optimizer)
    """Optimiser of the decoder."""
    discriminator_optimizer: OptimizerConfig = field(default_factory=decoder_optimizer)
    """Optimiser of the discriminators."""
    loss_weights: LossWeights = field(default_factory=lambda: LossWeights(adversarial=1 / 8))
    """Weights of the losses."""
    speaker_weight: float = 9.0
    """Weight of the speaker consistency loss; 0 disables it."""
    precision: Precision = "float32"
    """Precision of the networks' computation; parameters, mels and losses stay float32."""
    ema_decay: float | None = None
    """Decay per step of the moving average of the decoder's weights; None keeps no average."""
    reconstruction_steps: int = 0
    """Steps at the start without discriminators."""
    speaker_steps: int = 0
    """Steps at the start without the speaker consistency loss."""
    latents_identity: str | None = None
    """Identity of the models that computed the latents, which a run stores, so that it is not resumed with others; None
    allows any."""

    def __post_init__(self) -> None:
        check_types(self)
        check_ema_decay(self.ema_decay)
        check_positive(self, "segment_frames")
        check_not_negative(self, "speaker_weight", hint="0 disables the loss")
        check_not_negative(self, "reconstruction_steps", hint="0 trains with discriminators from the start")
        check_not_negative(self, "speaker_steps", hint="0 uses the loss from the start")
        longest = max([self.mel.n_fft, *(self.loss_weights.stft_sizes if self.loss_weights.stft else ())])
        if self.segment < longest:
            raise ConfigError(
                f"segment_frames is {self.segment_frames}, {self.segment} samples; a crop should have at least "
                f"{longest} samples, the longest frame of a loss. Raise segment_frames."
            )

    @property
    def segment(self) -> int:
        """Samples of a crop."""
        return self.segment_frames * self.decoder.hop_length

    @property
    def phase_starts(self) -> tuple[int, ...]:
        """The steps after which the losses change, in order; the first is 0."""
        changes = {0, self.reconstruction_steps, self.speaker_steps if self.speaker_weight else 0}
        return tuple(sorted(changes))


class DecoderState(eqx.Module):
    """Everything that a training step updates. The speaker encoder is no part of it, see `Task.constants`."""

    counters: Counters
    generator: Learner[Generator]
    discriminators: Learner[Discriminators]
    """`model_state` contains the vectors of spectral norm."""


class DecoderTask(Task):
    """The training task of the decoder of XTTS, for `jaxvoice.training.loop.fit`.

    Batches are those of `training_sampler` for a store of `training_store`. The language model is not part of the
    training: its latents are columns of the store. The speaker encoder is frozen.

    **Arguments:**

    - `config`: networks, losses and optimisers.
    - `model`: the configuration of the model folders that are saved; its `decoder` is that of `config`, and its
        `speaker_encoder` that of `encoder`.
    - `encoder`: the speaker encoder of the model, which contains its running statistics.
    - `source`: the model folder from which all other parts of saved models are copied; `None` for a task that saves no
        models.
    - `new_encoder`: whether `encoder` is not that of `source`, so that saved models contain it, and no voices of
        `source`.
    - `steps_per_epoch`: number of steps per epoch, for learning rates that decay after every epoch.
    - `validation`: evaluates the decoder; without it, `validate` returns no metrics.
    - `inherited_info`: metadata of `source`, such as its licence, that is copied into model folders.

    **Raises:** `ConfigError` for another decoder, encoder or sample rate than those of `model`.
    """

    family = NAME
    metrics = METRICS

    def __init__(
        self,
        config: DecoderTrainingConfig,
        model: XTTSConfig,
        encoder: ResNetSE,
        *,
        source: Path | None = None,
        new_encoder: bool = False,
        steps_per_epoch: int,
        validation: DecoderValidation | None = None,
        inherited_info: Mapping[str, Any] | None = None,
    ):
        self.config, self.mel, self.model = config, config.mel, model
        self.steps_per_epoch, self.validation = steps_per_epoch, validation
        self._source, self._encoder, self._new_encoder = source, encoder, new_encoder
        self._inherited_info = dict(inherited_info or {})
        with_encoder = config.speaker_weight > 0
        self.columns = {name: text for name, text in COLUMNS.items() if with_encoder or name not in _SPEAKER_METRICS}
        if config.decoder != model.decoder or encoder.config != model.speaker_encoder:
            raise ConfigError(
                "config.decoder or encoder.config differs from model; they should be model.decoder and "
                "model.speaker_encoder."
            )
        if config.mel.sample_rate != model.output_rate:
            raise ConfigError(
                f"mel.sample_rate is {config.mel.sample_rate}; it should be {model.output_rate}, the sample rate of "
                "the speech."
            )
        check_encoder(encoder, samples=config.segment, sample_rate=model.output_rate, flag="--segment-frames")
        if with_encoder:
            self.constants = encoder

    def init(self, *, key: PRNGKeyArray) -> DecoderState:
        """The initial state, with random networks."""
        generator_key, others_key = jax.random.split(key)
        return self.state_of(Generator(self.config.decoder, key=generator_key), key=others_key)

    def state_of(self, generator: Generator, *, key: PRNGKeyArray) -> DecoderState:
        """The state before the first step for a given decoder, with random discriminators."""
        config, epoch = self.config, self.steps_per_epoch
        discriminators_key, vectors_key = jax.random.split(key)
        discriminators = Discriminators(config.discriminators, key=discriminators_key)
        vectors = discriminators.msd.init_state(key=vectors_key)
        return DecoderState(
            Counters.zero(),
            Learner.create(generator, config.generator_optimizer, steps_per_epoch=epoch, ema_decay=config.ema_decay),
            Learner.create(discriminators, config.discriminator_optimizer, steps_per_epoch=epoch, model_state=vectors),
        )

    def phase_of(self, step: int) -> int:
        """The number of times that the losses have changed: discriminators or the speaker consistency loss were
        added."""
        return sum(step >= start for start in self.config.phase_starts) - 1

    def step(
        self,
        state: DecoderState,
        batch: ColumnBatch,
        *,
        key: PRNGKeyArray,
        phase: int,
        constants: ResNetSE | None = None,
    ) -> tuple[DecoderState, dict[str, Float[Array, ""]]]:
        """One update of the discriminators, and one of the decoder with the updated discriminators.

        `constants` is the speaker encoder, by default that of the task.
        """
        config, start = self.config, self.config.phase_starts[phase]
        encoder = self.constants if constants is None else constants
        speaks = bool(config.speaker_weight) and start >= config.speaker_steps
        columns = {name: jnp.asarray(column) for name, column in batch.columns.items()}
        audio = columns["audio"].astype(jnp.float32) * columns["gain"][:, None]
        features = columns["features"].swapaxes(1, 2).astype(config.precision)
        target_mel = self._mels(audio)

        def generate(generator: Generator) -> tuple[Float[Array, "batch samples"], None]:
            return generator(features, columns["speaker"])[..., 0].astype(jnp.float32), None

        def of_discriminators(discriminators: Discriminators, vectors: MultiScaleState, fake: Array):
            return discriminators_loss(discriminators, vectors, audio, fake, precision=config.precision)

        def of_generator(discriminators: Discriminators | None, vectors: MultiScaleState | None, fake: Array):
            losses, metrics, vectors = self._adversarial(discriminators, vectors, audio, fake)

            def mel_loss(fake: Float[Array, "batch samples"]) -> tuple[Array, Array]:
                distance = jnp.mean(jnp.abs(target_mel - self._mels(fake)))
                return config.loss_weights.mel * distance, distance

            mel, metrics["mel_l1"], mel_gradient = with_gradient(mel_loss, fake)
            losses.append(mel)
            if speaks:

                def speaker_loss(fake: Float[Array, "batch samples"]) -> tuple[Array, Array]:
                    found = speaker_similarity(encoder, audio, fake, sample_rate=self.mel.sample_rate)
                    return -config.speaker_weight * found, found

                speaker, metrics["speaker_similarity"], gradient = with_gradient(speaker_loss, fake)
                losses.append(speaker)
                metrics |= {"speaker_gradient": gradient, "mel_gradient": mel_gradient}
                metrics["compared_segments"] = jnp.sum(audible(audio), dtype=jnp.float32)
            return sum(losses[1:], losses[0]), metrics, vectors

        after = adversarial_step(
            state.generator,
            state.discriminators,
            generate=generate,
            discriminator_loss=of_discriminators,
            generator_loss=of_generator,
            mode="both" if start >= config.reconstruction_steps else "reconstruction",
        )
        new = DecoderState(state.counters, after.generator, after.discriminators)
        return guarded(after.finite, new, state), after.metrics

    def _adversarial(
        self, discriminators: Discriminators | None, vectors: MultiScaleState | None, real: Array, fake: Array
    ) -> tuple[list[Array], dict[str, Array], MultiScaleState | None]:
        """The losses of the decoder besides those of mel and speaker, as a list and for the log; new vectors."""
        weights, parts = self.config.loss_weights, {}
        if discriminators is not None and vectors is not None:
            precision = self.config.precision
            parts, vectors = adversarial_losses(discriminators, vectors, real, fake, weights, precision=precision)
        parts |= stft_loss(real, fake, weights)
        return list(parts.values()), dict(parts), vectors

    def _mels(self, audio: Float[Array, "batch samples"]) -> Float[Array, "batch mels frames"]:
        return jax.vmap(log_mel, in_axes=(0, None))(audio, self.mel)

    def warnings(self, metrics: Mapping[str, float]) -> list[str]:
        """A loss whose gradient at the generated samples is zero or not finite, so that it trains nothing."""
        return gradient_warnings(metrics)

    def audio_seconds(self, batch: ColumnBatch) -> float:
        """Seconds of audio in `batch`."""
        return batch.columns["audio"].size / self.mel.sample_rate

    def validate(self, state: DecoderState) -> ValidationResult:
        """The metrics and samples of `DecoderValidation`."""
        return ValidationResult({}) if self.validation is None else self.validation(state.generator.eval_model)

    def save_model(self, state: DecoderState, folder: str | Path) -> None:
        """Write a complete model of XTTS: the decoder, or its moving average if one is kept, and all other parts of the
        source.

        **Raises:** `ConfigError` for a task without a source.
        """
        if self._source is None:
            raise ConfigError("The task has no source; pass the model folder whose other parts are copied.")
        info = {**self._inherited_info, "step": int(state.counters.step)}
        encoder = self._encoder if self._new_encoder else None
        write_decoder(Path(folder), self._source, self.model, state.generator.eval_model, encoder, info=info)

    def describe(self) -> dict[str, Any]:
        """The training configuration and parameter counts."""
        state = eqx.filter_eval_shape(self.init, key=jax.random.key(0))
        networks = state.discriminators.model
        parts = {"decoder": state.generator.model, "mpd": networks.mpd, "msd": networks.msd}
        return {"config": to_dict(self.config), "parameters": {k: count_parameters(v) for k, v in parts.items()}}

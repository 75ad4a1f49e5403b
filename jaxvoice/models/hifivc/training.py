"""The `Task` that trains HiFi-VC, and its losses."""

import functools as ft
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import equinox as eqx
import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxvoice.config import check_field, check_not_negative, check_positive, check_types, to_dict
from jaxvoice.data.batches import ColumnBatch
from jaxvoice.data.references import ReferenceSource, WithReferences
from jaxvoice.data.samplers import SpeakerBalanced
from jaxvoice.data.store import Store
from jaxvoice.dsp.mel import log_mel
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.dsp.nemo_mel import nemo_log_mel
from jaxvoice.errors import ConfigError, DataError
from jaxvoice.models.conformer import ConformerEncoder, fold_batch_norm, mask_padding
from jaxvoice.models.hifigan import losses
from jaxvoice.models.hifigan.discriminators import Discriminators, MultiScaleState
from jaxvoice.models.hifivc.config import HiFiVCConfig
from jaxvoice.models.hifivc.family import FAMILY
from jaxvoice.models.hifivc.features import unpack_pitch, unpack_speech
from jaxvoice.models.hifivc.network import HiFiVC
from jaxvoice.models.hifivc.speaker_encoder import kl_divergence
from jaxvoice.models.hifivc.validation import METRICS, Validation
from jaxvoice.training.adversarial_training import adversarial_step
from jaxvoice.training.learner import Learner, check_ema_decay
from jaxvoice.training.optimizers import OptimizerConfig
from jaxvoice.training.task import Task, ValidationResult
from jaxvoice.training.training_state import Counters, Precision, guarded
from jaxvoice.weights import count_parameters

COLUMNS = MappingProxyType(
    {
        "generator": "weighted sum of the losses of encoders and decoder",
        "mel_l1": "mel L1 of the batch, without its weight",
        "stft": "multi-resolution STFT loss, with its weight",
        "kl": "Kullback-Leibler divergence of the speaker vectors in nats, without its weight",
        "adv_*, feature_*": "adversarial and feature-matching losses of the discriminators of periods and scales",
        "discriminator": "loss of all discriminators: disc_period and disc_scale",
        "gradient_norm, learning_rate": "of encoders and decoder, before clipping; disc_*: of the discriminators",
    }
)
"""Meanings of the values that training logs."""


@dataclass(frozen=True)
class LossWeights(losses.LossWeights):
    """Weights of the losses of encoders and decoder.

    The weights of the paper are unknown. The defaults are those of HiFi-GAN, and 0.01 for the divergence.

    **Raises:** `ConfigError` for weights that are negative or not finite.
    """

    kl: float = 0.01
    """Weight of the Kullback-Leibler divergence of the speaker vectors from the standard normal distribution."""
    kl_warmup_steps: int = 10_000
    """Steps over which the weight of the divergence rises linearly from 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative(self, "kl", hint="0 disables the loss")
        check_not_negative(self, "kl_warmup_steps", hint="0 begins with the full weight")


@dataclass(frozen=True)
class TrainingConfig:
    """The networks of HiFi-VC and their training.

    The content encoder is not trained. With `content="stored"`, its features are a column of the store, computed once
    from whole utterances. With `content="computed"`, every step computes them from the crops, whose features differ
    from those of whole utterances.

    `precision` is that of the networks' computation; parameters, norms, F0, mels and losses stay float32. `ema_decay`
    keeps a moving average of the weights, which is validated and saved; `None` keeps none.

    **Raises:** `ConfigError` for values of the wrong type or range.
    """

    model: HiFiVCConfig = field(default_factory=HiFiVCConfig)
    """The networks."""
    generator_optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Optimiser of encoders and decoder."""
    discriminator_optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Optimiser of the discriminators."""
    loss_weights: LossWeights = field(default_factory=LossWeights)
    """Weights of the losses."""
    segment_frames: int = 32
    """Length of crops in frames of the content features, 25 per second."""
    reference_frames: int = 160
    """Longest part of a reference in mel frames, 100 per second."""
    reference: ReferenceSource = "other"
    """Where references come from: other utterances of the speaker, or the same utterance; an assumption."""
    reference_pieces: tuple[int, int] | None = None
    """Shortest and longest piece in mel frames into which references are cut and shuffled; None does not shuffle. With
    references of the same utterance, pieces of 30 to 45 frames hide its content."""
    content: Literal["stored", "computed"] = "stored"
    """Whether content features are columns of the store, or are computed in every step."""
    precision: Precision = "float32"
    """Precision of the networks' computation; parameters, F0, mels and losses stay float32."""
    ema_decay: float | None = None
    """Decay per step of the moving average of the weights; None keeps no average."""
    reconstruction_steps: int = 0
    """Steps at the start without discriminators."""
    content_identity: str | None = None
    """Identity of the content encoder, which a run stores, so that it is not resumed with another one; None allows
    any."""
    unseen: tuple[str, ...] | None = None
    """Speakers that are never trained on; those that the corpus does not have are ignored. By default, two voices of
    the demo corpus, or the six speakers of VCTK that NVC-Net does not train on."""

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "segment_frames", "reference_frames")
        check_ema_decay(self.ema_decay)
        check_not_negative(self, "reconstruction_steps", hint="0 trains with discriminators from the start")
        least = self.model.speaker.minimum_frames
        if self.reference_frames < least:
            raise ConfigError(
                f"reference_frames is {self.reference_frames}; it should be at least {least}, the shortest reference "
                "of the speaker encoder."
            )
        pieces = self.reference_pieces
        ordered = pieces is None or 1 <= pieces[0] <= pieces[1]
        check_field(self, "reference_pieces", ordered, "contain a shortest and a longest length, at least 1")
        longest = max(self.loss_weights.stft_sizes)
        if self.loss_weights.stft and self.segment_samples <= longest // 2:
            raise ConfigError(
                f"loss_weights.stft_sizes contains {longest}; with segment_frames={self.segment_frames}, it should "
                f"contain sizes below {2 * self.segment_samples}."
            )

    @property
    def segment_samples(self) -> int:
        """Length of crops in samples of the output."""
        return self.segment_frames * self.model.decoder.hop_length


class HiFiVCState(eqx.Module):
    """Everything that a training step updates."""

    counters: Counters
    networks: Learner[HiFiVC]
    """Speaker encoder, pitch encoder and decoder; with `content="computed"`, also the content encoder, which is
    frozen."""
    discriminators: Learner[Discriminators]
    """`model_state` contains the vectors of spectral norm."""


class HiFiVCTask(Task):
    """The training task of HiFi-VC, for `jaxvoice.training.loop.fit`.

    **Arguments:**

    - `config`: networks, losses and optimisers.
    - `content_encoder`: the frozen content encoder, which is saved with the model.
    - `steps_per_epoch`: number of steps per epoch, for learning rates that decay after every epoch.
    - `validation`: evaluates the networks; without it, `validate` returns no metrics.
    - `info`: metadata for model folders, such as the identity of the content encoder.
    """

    family = FAMILY.name
    metrics = METRICS
    columns = COLUMNS

    def __init__(
        self,
        config: TrainingConfig,
        content_encoder: ConformerEncoder,
        *,
        steps_per_epoch: int,
        validation: Validation | None = None,
        info: Mapping[str, Any] | None = None,
    ):
        self.config, self.mel = config, config.model.mel
        self.steps_per_epoch = steps_per_epoch
        self._content_encoder = mask_padding(fold_batch_norm(content_encoder))
        self.validation, self._info = validation, dict(info or {})

    def init(self, *, key: PRNGKeyArray) -> HiFiVCState:
        """The initial state, with random networks."""
        networks_key, discriminators_key, vectors_key = jax.random.split(key, 3)
        networks = HiFiVC(self.config.model, content_encoder=self._content_encoder, key=networks_key)
        discriminators = Discriminators(self.config.model.discriminators, key=discriminators_key)
        return self.state_of(networks, discriminators, discriminators.msd.init_state(key=vectors_key))

    def state_of(self, networks: HiFiVC, discriminators: Discriminators, vectors: MultiScaleState) -> HiFiVCState:
        """The state before the first step, for given networks, such as pretrained ones."""
        config, epoch = self.config, self.steps_per_epoch
        stored = config.content == "stored"
        if stored:
            networks = eqx.tree_at(lambda one: one.content_encoder, networks, None)
        return HiFiVCState(
            Counters.zero(),
            Learner.create(
                networks,
                config.generator_optimizer,
                steps_per_epoch=epoch,
                ema_decay=config.ema_decay,
                frozen=() if stored else ("content_encoder",),
            ),
            Learner.create(discriminators, config.discriminator_optimizer, steps_per_epoch=epoch, model_state=vectors),
        )

    def phase_of(self, step: int) -> int:
        """1 after the steps without discriminators, if there are any; otherwise 0."""
        return int(0 < self.config.reconstruction_steps <= step)

    def step(
        self, state: HiFiVCState, batch: ColumnBatch, *, key: PRNGKeyArray, phase: int
    ) -> tuple[HiFiVCState, dict[str, Float[Array, ""]]]:
        """One update of the discriminators, and one of encoders and decoder with the updated discriminators.

        The batch has the columns `audio`, `gain`, `pitch`, `content` or `speech`, and `reference`.
        """
        columns, precision = batch.columns, self.config.precision
        audio = jnp.asarray(columns["audio"]).astype(jnp.float32) * jnp.asarray(columns["gain"])[:, None]
        pitch, encoder = None, self.config.model.pitch_encoder
        if encoder is not None:
            pitch = unpack_pitch(jnp.asarray(columns["pitch"]), encoder.downsampling)
        reference, length = jnp.asarray(columns["reference"]).swapaxes(1, 2), jnp.asarray(batch.lengths["reference"])
        target = _mels(audio, self.mel)

        def generate(networks: HiFiVC) -> tuple[tuple[Float[Array, "batch samples"], Float[Array, ""]], None]:
            posterior = networks.encode_speaker(reference.astype(precision), length=length)
            audio = networks.decode(
                self._content(networks, columns).astype(precision),
                pitch,  # in float32, since bfloat16 rounds log F0 by up to 27 cents
                posterior.sample(key).astype(precision),
            )
            return (audio[..., 0].astype(jnp.float32), jnp.mean(kl_divergence(posterior))), None

        after = adversarial_step(
            state.networks,
            state.discriminators,
            generate=generate,
            discriminator_loss=ft.partial(self._discriminator_loss, audio),
            generator_loss=ft.partial(self._generator_loss, audio, target, state.counters.step),
            mode="reconstruction" if phase == 0 and self.config.reconstruction_steps else "both",
        )
        new = HiFiVCState(state.counters, after.generator, after.discriminators)
        return guarded(after.finite, new, state), after.metrics

    def _content(self, networks: HiFiVC, columns: Mapping[str, Any]) -> Float[Array, "batch frames channels"]:
        if self.config.content == "stored":
            return jnp.asarray(columns["content"]).swapaxes(1, 2).astype(jnp.float32)
        content = self.config.model.content
        speech = unpack_speech(jnp.asarray(columns["speech"])).astype(jnp.float32) * columns["speech_gain"][:, None]
        features, length = nemo_log_mel(speech, content.mel, release=content.nemo_release)
        found = networks.encode_content(features.swapaxes(1, 2), length=length)
        return found[:, : self.config.segment_frames]

    def _discriminator_loss(self, real, discriminators, state, outputs):
        return losses.discriminators_loss(discriminators, state, real, outputs[0], precision=self.config.precision)

    def _generator_loss(self, real, target, step, discriminators, state, outputs):
        (fake, kl), weights, parts = outputs, self.config.loss_weights, {}
        if discriminators is not None:
            parts, state = losses.adversarial_losses(
                discriminators, state, real, fake, weights, precision=self.config.precision
            )
        parts |= losses.stft_loss(real, fake, weights)
        mel_l1 = jnp.mean(jnp.abs(target - _mels(fake, self.mel)))
        warmup = jnp.minimum(1.0, (step + 1) / max(1, weights.kl_warmup_steps)).astype(jnp.float32)
        total = sum(parts.values()) + weights.mel * mel_l1 + weights.kl * warmup * kl
        return total, {**parts, "mel_l1": mel_l1, "kl": kl}, state

    def audio_seconds(self, batch: ColumnBatch) -> float:
        """Seconds of audio in `batch`."""
        return batch.columns["audio"].size / self.mel.sample_rate

    def networks(self, state: HiFiVCState) -> HiFiVC:
        """The networks for inference: the moving average if one is kept, with the content encoder."""
        found = state.networks.eval_model
        return eqx.tree_at(lambda one: one.content_encoder, found, self._content_encoder, is_leaf=lambda x: x is None)

    def validate(self, state: HiFiVCState) -> ValidationResult:
        """The metrics and samples of `Validation`."""
        return ValidationResult({}) if self.validation is None else self.validation(self.networks(state))

    def save_model(self, state: HiFiVCState, folder: str | Path) -> None:
        """Write encoders and decoder, or their moving average if one is kept, to a model folder."""
        info = {**self._info, "step": int(state.counters.step)}
        FAMILY.save_network(folder, self.networks(state), self.config.model, info=info)

    def describe(self) -> dict[str, Any]:
        """The training configuration and parameter counts."""
        state = eqx.filter_eval_shape(self.init, key=jax.random.key(0))
        networks, discriminators = state.networks.model, state.discriminators.model
        parts = {
            "content encoder (frozen)": self._content_encoder,
            "speaker encoder": networks.speaker_encoder,
            "pitch encoder": networks.pitch_encoder,
            "decoder": networks.decoder,
            "mpd": discriminators.mpd,
            "msd": discriminators.msd,
        }
        counts = {name: count_parameters(part) for name, part in parts.items() if part is not None}
        return {"config": to_dict(self.config), "parameters": counts}


def training_sampler(config: TrainingConfig, store: Store, batch_size: int) -> WithReferences:
    """The sampler of `HiFiVCTask`: crops of as many speakers as possible, with references of the same speakers.

    The speakers of a batch differ, or, with fewer speakers than `batch_size`, each has the same number of rows.

    **Raises:** `DataError` for recordings without a speaker, or shorter than a reference of the speaker encoder.
    """
    least = config.model.speaker.minimum_frames
    short = np.flatnonzero(store.lengths("mel") < least)
    if len(short):
        raise DataError(
            f"{len(short)} recording(s), for example {store.corpus.utterances[short[0]].id!r}, have fewer than {least} "
            "mel frames, the shortest reference of the speaker encoder; remove them, for example with Store.subset."
        )
    model, stored = config.model, config.content == "stored"
    columns = ["audio", "content" if stored else "speech", *(["pitch"] if model.pitch_encoder is not None else [])]
    known = len(store.corpus.speakers)
    speakers = max(count for count in range(1, batch_size + 1) if batch_size % count == 0 and count <= max(1, known))
    crops = SpeakerBalanced(
        speakers,
        batch_size // speakers,
        config.segment_samples,
        hop_length=model.decoder.hop_length,
        columns=tuple(columns),
        fixed=("gain",) if stored else ("gain", "speech_gain"),
    )
    return WithReferences(
        crops,
        config.reference_frames,
        source=config.reference,
        pieces=config.reference_pieces,
        padding=model.mel.floor,
    )


def _mels(audio: Float[Array, "batch samples"], config: MelConfig) -> Float[Array, "batch mels frames"]:
    return jax.vmap(log_mel, in_axes=(0, None))(audio, config)

"""The `Task` that trains HiFi-GAN, its losses, and its validation."""

import functools as ft
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, PRNGKeyArray

from jaxvoice.config import check_not_negative, check_types, from_dict, to_dict
from jaxvoice.data import CropBatch, Store
from jaxvoice.dsp.mel import bucketed_log_mel, log_mel
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.errors import AudioError, CheckpointError, ConfigError, ShapeError
from jaxvoice.models.hifigan.config import HiFiGANConfig
from jaxvoice.models.hifigan.discriminators import Discriminators, MultiScaleState
from jaxvoice.models.hifigan.family import FAMILY
from jaxvoice.models.hifigan.generator import Generator
from jaxvoice.models.hifigan.losses import LossWeights, adversarial_losses, discriminators_loss, stft_loss
from jaxvoice.nn import fold_weight_norm
from jaxvoice.training.adversarial_training import adversarial_step
from jaxvoice.training.checkpoints import read_state
from jaxvoice.training.learner import Learner, check_ema_decay
from jaxvoice.training.optimizers import OptimizerConfig
from jaxvoice.training.provenance import describe_held_out
from jaxvoice.training.run_folder import RunFolder
from jaxvoice.training.task import Sample, Task, ValidationResult
from jaxvoice.training.training_state import Counters, Precision, guarded
from jaxvoice.weights import count_parameters

METRICS = MappingProxyType({"mel_l1": "mean absolute difference of log-mels up to the Nyquist frequency"})
"""Metrics that can select the best model; lower is better."""
COLUMNS = MappingProxyType(
    {
        "generator": "weighted sum of the generator's losses",
        "mel_l1": "mel L1 of the batch, without its weight",
        "stft": "multi-resolution STFT loss, with its weight",
        "adv_*, feature_*": "adversarial and feature-matching losses of the discriminators of periods and scales",
        "discriminator": "loss of all discriminators: disc_period and disc_scale",
        "gradient_norm, learning_rate": "of the generator, before clipping; disc_*: of the discriminators",
    }
)
"""Meanings of the values that training logs."""
_BUCKET = 256  # frames; utterances are padded to a multiple of it, so that few lengths are compiled


@dataclass(frozen=True)
class TrainingConfig:
    """The networks of a HiFi-GAN and their training; the defaults are those of the release.

    `precision` is that of the networks' computation; parameters, norms, mels and losses stay float32. `ema_decay`
    keeps a moving average of the generator's weights, which is validated and saved; `None` keeps none.

    **Raises:** `ConfigError` for values of the wrong type, if `ema_decay` is not in [0, 1), for negative
    `reconstruction_steps`, or for a generator with a conditioning vector.
    """

    model: HiFiGANConfig = field(default_factory=HiFiGANConfig)
    """The networks."""
    generator_optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Optimiser of the generator."""
    discriminator_optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Optimiser of the discriminators."""
    loss_weights: LossWeights = field(default_factory=LossWeights)
    """Weights of the generator's losses."""
    precision: Precision = "float32"
    """Precision of the networks' computation; parameters, mels and losses stay float32."""
    ema_decay: float | None = None
    """Decay per step of the moving average of the generator's weights; None keeps no average."""
    reconstruction_steps: int = 0
    """Steps at the start that train the generator on its mel and STFT losses alone, without discriminators."""

    def __post_init__(self) -> None:
        check_types(self)
        check_ema_decay(self.ema_decay)
        check_not_negative(self, "reconstruction_steps", hint="0 trains with discriminators from the start")
        conditions = self.model.generator.cond_channels
        if conditions != 0:
            raise ConfigError(
                f"--model.generator.cond-channels is {conditions}, but corpora have no conditioning vectors; use 0."
            )
        segment, longest = self.model.segment_size, max(self.loss_weights.stft_sizes)
        if self.loss_weights.stft and segment <= longest // 2:
            raise ConfigError(
                f"loss_weights.stft_sizes contains {longest}; with segment_size={segment}, it should contain sizes "
                f"below {2 * segment}."
            )


class HiFiGANState(eqx.Module):
    """Everything that a training step updates."""

    counters: Counters
    generator: Learner[Generator]
    discriminators: Learner[Discriminators]
    """`model_state` contains the vectors of spectral norm."""


class HiFiGANTask(Task):
    """The training task of HiFi-GAN, for `jaxvoice.training.loop.fit`.

    **Arguments:**

    - `config`: networks, losses and optimisers.
    - `steps_per_epoch`: number of steps per epoch, for learning rates that decay after every epoch
        (`OptimizerConfig.decay_steps`).
    - `validation`: held-out clips; without them, validation returns no metrics.
    - `inherited_info`: metadata of the initial model, such as its licence, that is copied into model folders.

    **Raises:** `ConfigError` for a generator of latents, which cannot be computed from recordings.
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
        self.config, self._inherited_info = config, dict(inherited_info or {})
        self.mel = config.model.mel_contract
        """The mel contract of the generator."""
        self.steps_per_epoch = steps_per_epoch
        self.validation = None if validation is None else Validation(validation, self.mel)

    def init(self, *, key: PRNGKeyArray) -> HiFiGANState:
        """The initial state, with random networks."""
        generator_key, discriminators_key, vectors_key = jax.random.split(key, 3)
        generator = Generator(self.config.model.generator, key=generator_key)
        discriminators = Discriminators(self.config.model.discriminators, key=discriminators_key)
        return self.state_of(generator, discriminators, discriminators.msd.init_state(key=vectors_key))

    def state_of(self, generator: Generator, discriminators: Discriminators, vectors: MultiScaleState) -> HiFiGANState:
        """The state before the first step, for given networks, such as pretrained ones."""
        config, epoch = self.config, self.steps_per_epoch
        return HiFiGANState(
            Counters.zero(),
            Learner.create(generator, config.generator_optimizer, steps_per_epoch=epoch, ema_decay=config.ema_decay),
            Learner.create(discriminators, config.discriminator_optimizer, steps_per_epoch=epoch, model_state=vectors),
        )

    def phase_of(self, step: int) -> int:
        """1 after the steps without discriminators, if there are any; otherwise 0."""
        return int(0 < self.config.reconstruction_steps <= step)

    def step(
        self, state: HiFiGANState, batch: CropBatch, *, key: PRNGKeyArray, phase: int
    ) -> tuple[HiFiGANState, dict[str, Float[Array, ""]]]:
        """One update of the discriminators, and one of the generator with the updated discriminators.

        The order of the updates and the results are those of jik876/hifi-gan `train.py`.
        """
        audio = batch.audio.astype(jnp.float32) * batch.gain[:, None]
        frames_of = jax.vmap(log_mel, in_axes=(0, None))
        mel = frames_of(audio, self.mel) if batch.mel is None else jnp.asarray(batch.mel)
        target_mel = frames_of(audio, self.mel.full_band())

        def generate(generator: Generator) -> tuple[Float[Array, "batch samples"], None]:
            inputs = mel.swapaxes(1, 2).astype(self.config.precision)
            return generator(inputs)[..., 0].astype(jnp.float32), None

        after = adversarial_step(
            state.generator,
            state.discriminators,
            generate=generate,
            discriminator_loss=ft.partial(self._discriminator_loss, audio),
            generator_loss=ft.partial(self._generator_loss, audio, target_mel),
            mode="reconstruction" if phase == 0 and self.config.reconstruction_steps else "both",
        )
        new = HiFiGANState(state.counters, after.generator, after.discriminators)
        return guarded(after.finite, new, state), after.metrics

    def _discriminator_loss(self, real, discriminators, state, fake):
        return discriminators_loss(discriminators, state, real, fake, precision=self.config.precision)

    def _generator_loss(self, real, target_mel, discriminators, state, fake):
        weights, parts = self.config.loss_weights, {}
        if discriminators is not None:
            parts, state = adversarial_losses(
                discriminators, state, real, fake, weights, precision=self.config.precision
            )
        mel = jax.vmap(log_mel, in_axes=(0, None))(fake, self.mel.full_band())
        mel_l1 = jnp.mean(jnp.abs(target_mel - mel))
        parts |= stft_loss(real, fake, weights)
        return sum(parts.values()) + weights.mel * mel_l1, {**parts, "mel_l1": mel_l1}, state

    def batch(self, audio: Float[ArrayLike, "batch samples"]) -> CropBatch:
        """Combine recordings in [-1, 1] of equal length, at the sample rate of the mel contract, into a batch.

        **Raises:** `ShapeError` if the shape is not `(batch, samples)`, for recordings of different lengths, and for a
        length that is not a multiple of the hop length or is shorter than `n_fft`; `AudioError` for integers, for NaN
        or infinity, and for samples outside [-1, 1].
        """
        recordings = _validated(audio)
        length, hop, n_fft = recordings.shape[1], self.mel.hop_length, self.mel.n_fft
        if length % hop or length < n_fft:
            raise ShapeError(
                f"The length of the recordings is {length} samples; it should be a multiple of the hop length, {hop}, "
                f"and at least n_fft, {n_fft}. Crop the recordings, or append silence."
            )
        samples = np.rint(32767 * recordings).astype(np.int16)
        return CropBatch(samples, np.full(len(samples), 1 / 32767, np.float32))

    def audio_seconds(self, batch: CropBatch) -> float:
        """Seconds of audio in `batch`."""
        return batch.audio.size / self.mel.sample_rate

    def generator(self, state: HiFiGANState) -> Generator:
        """The generator for inference: the moving average if one is kept, with weight norm folded."""
        return fold_weight_norm(state.generator.eval_model)

    def validate(self, state: HiFiGANState) -> ValidationResult:
        """The metrics and samples of `Validation`."""
        return ValidationResult({}) if self.validation is None else self.validation(self.generator(state))

    def save_model(self, state: HiFiGANState, folder: str | Path) -> None:
        """Write the generator, or its moving average if one is kept, to a model folder.

        Weight norm is not folded, so that the model can be fine-tuned.
        """
        info = {**self._inherited_info, "step": int(state.counters.step)}
        FAMILY.save_network(folder, state.generator.eval_model, self.config.model, info=info)

    def describe(self) -> dict[str, Any]:
        """The training configuration and parameter counts."""
        state = eqx.filter_eval_shape(self.init, key=jax.random.key(0))
        networks = state.discriminators.model
        parts = {"generator": state.generator.model, "mpd": networks.mpd, "msd": networks.msd}
        return {"config": to_dict(self.config), "parameters": {k: count_parameters(v) for k, v in parts.items()}}


def read_run(run: Path) -> tuple[HiFiGANTask, HiFiGANState]:
    """The task of a run folder and its newest state. The folder is not changed.

    **Raises:** `CheckpointError` if it is not a run of HiFi-GAN, or contains no intact checkpoint.
    """
    table = RunFolder(run).read_config()
    if table.get("family") != FAMILY.name:
        raise CheckpointError(f"{run} is a run of {table.get('task')!r}, not of HiFi-GAN; pass a run of HiFi-GAN.")
    try:
        # The state does not contain learning rates, so steps_per_epoch does not matter here.
        task = HiFiGANTask(from_dict(TrainingConfig, table.get("config", {})), steps_per_epoch=1)
    except ConfigError as failure:
        raise CheckpointError(f"The configuration of {run} cannot be used: {failure}") from failure
    return task, read_state(run, task)


def _validated(audio: Float[ArrayLike, "batch samples"]) -> Float[np.ndarray, "batch samples"]:
    try:
        recordings = np.asarray(audio)
    except ValueError as failure:
        raise ShapeError(
            "The recordings of a batch have different lengths; crop them to the same number of samples."
        ) from failure
    if not jnp.issubdtype(recordings.dtype, jnp.floating):
        raise AudioError(
            f"The dtype of the recordings is {recordings.dtype}; it should be a floating-point one. Divide 16-bit "
            "integers by 32768."
        )
    if recordings.ndim != 2 or not recordings.size:
        raise ShapeError(
            f"The shape of the recordings is {recordings.shape}; it should be (batch, samples). For one recording, "
            "add the axis: audio[None]."
        )
    recordings = recordings.astype(np.float32, copy=False) if recordings.itemsize < 4 else recordings
    if not np.isfinite(recordings).all():
        raise AudioError("The recordings of a batch contain NaN or infinity; check how they were computed.")
    largest = np.abs(recordings).max()
    if largest > 1 + 0.5 / 32767:  # largest value that is rounded to full scale
        raise AudioError(
            f"The largest magnitude of the recordings is {largest:.4g}; it should be at most 1. Divide the recordings "
            "by it, or by their full scale."
        )
    return np.clip(recordings, -1, 1)


class Validation:
    """Mean over held-out utterances of the mel L1 between the recording and its resynthesis, up to Nyquist.

    The resynthesis is computed from the utterance's own mel spectrogram (or the one stored with it) over its whole
    length, so the metric is comparable with the release's validation curve (jik876/hifi-gan `train.py`,
    `validation_loss.png`).
    """

    def __init__(self, store: Store, mel: MelConfig, *, samples: int = 4):
        self.mel, self._samples = mel, samples
        self._utterances = []
        self.held_out = describe_held_out(store)
        for i in range(len(store)):
            stored = store["mel"][i] if "mel" in store else None
            audio, frames = store.waveform(i), len(store["audio"][i]) // mel.hop_length
            frames = frames if stored is None else min(frames, stored.shape[1])
            audio = audio[: frames * mel.hop_length]
            inputs = bucketed_log_mel(audio, mel) if stored is None else stored
            target = bucketed_log_mel(audio, mel.full_band())
            recording = audio if i < samples else None
            self._utterances.append((store.corpus.utterances[i].id, inputs[:, :frames], target[:, :frames], recording))

    def __call__(self, generator: Generator) -> ValidationResult:
        """The metric `mel_l1`, and samples of the first utterances with their mel spectrograms."""
        errors, samples = [], []
        for name, inputs, target, recording in self._utterances:
            frames = inputs.shape[1]
            padded = jnp.asarray(np.pad(inputs, ((0, 0), (0, -frames % _BUCKET))))
            audio, mel = _resynthesise(generator, padded, jnp.asarray(frames), self.mel)
            mel = np.asarray(mel)[:, :frames]
            errors.append(float(np.abs(mel - target).mean(dtype=np.float64)))
            if len(samples) < self._samples:
                audio = np.asarray(audio)[: frames * self.mel.hop_length]
                pictures = {"target": target, "generated": mel}
                samples.append(Sample(name, audio, self.mel.sample_rate, pictures, target=recording))
        return ValidationResult({"mel_l1": float(np.mean(errors))}, samples)


@eqx.filter_jit
def _resynthesise(
    generator: Generator, mel: Float[Array, "mels frames"], frames: Int[Array, ""], config: MelConfig
) -> tuple[Float[Array, " samples"], Float[Array, "mels _"]]:
    """The generated audio and its full-band log-mel; both are valid for the first `frames` frames."""
    audio = generator(mel.T, length=frames)[:, 0]
    samples, pad = frames * config.hop_length, -(-config.pad // config.hop_length) * config.hop_length
    # Reflect the signal at the end of its valid part, as in the log-mel of the unpadded signal.
    place = jnp.arange(audio.shape[0] + pad)
    place = jnp.where(place < samples, place, jnp.maximum(2 * (samples - 1) - place, 0))
    return audio, log_mel(audio[place], config.full_band())

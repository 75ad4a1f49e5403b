"""Settings of the training of RAVE, and the schedules of its two phases as functions of the number of the step."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from jax import numpy as jnp
from jaxtyping import Array, Float32, Int

from jaxvoice.config import check_field, check_not_negative, check_positive, check_types
from jaxvoice.errors import ConfigError
from jaxvoice.losses.distances import SCALES
from jaxvoice.models.rave.config import RaveConfig, preset
from jaxvoice.models.rave.receptive_fields import receptive_field
from jaxvoice.training.adversarial_training import AdversarialMode
from jaxvoice.training.learner import check_ema_decay
from jaxvoice.training.optimizers import OptimizerConfig

AdversarialLoss = Literal["hinge", "least_squares", "nonsaturating"]
FullbandTarget = Literal["audio", "round_trip"]


@dataclass(frozen=True)
class BetaSchedule:
    """The weight of the regularisation of the latents, which changes from `initial` to `target` in `steps` steps.

    **Raises:** `ConfigError` for values of the wrong type or range.
    """

    target: float = 0.1
    """Weight after `steps` steps."""
    initial: float = 0.1
    """Weight at the start."""
    steps: int = 0
    """Steps in which the weight changes; 0 begins with `target`."""
    shape: Literal["logarithmic", "linear"] = "logarithmic"
    """Whether the logarithm of the weight or the weight changes linearly."""

    def __post_init__(self) -> None:
        check_types(self)
        check_not_negative(self, "target", "initial", "steps")
        if self.steps and self.shape == "logarithmic":
            check_positive(self, "target", "initial", hint='with shape="linear" it may be 0')

    def __call__(self, step: int | Int[Array, ""]) -> Float32[Array, ""]:
        """The weight in the step that follows `step` steps.

        The release counts the step itself too: the first step does not have the initial weight.
        acids-ircam/RAVE `rave/model.py:BetaWarmupCallback`.
        """
        target = jnp.asarray(self.target, jnp.float32)
        if not self.steps:
            return target
        share = jnp.minimum((jnp.asarray(step, jnp.float32) + 1) / self.steps, 1)
        if self.shape == "linear":
            return jnp.asarray(self.initial + (self.target - self.initial) * share, jnp.float32)
        first, last = math.log(self.initial), math.log(self.target)
        return jnp.where(share < 1, jnp.exp(first + (last - first) * share), target)


@dataclass(frozen=True)
class LossWeights:
    """Weights of the losses of encoder and generator.

    The release multiplies two of them by their weights twice: a `feature_matching` of 20 has the effect of 400. This is
    an error of the release (acids-ircam/RAVE, pull request 358), with which its models were trained. With `twice`, the
    weights are applied as in the release.

    **Raises:** `ConfigError` for weights that are negative or not finite.
    """

    fullband: float = 1.0
    """Weight of the spectral distance of the audio."""
    multiband: float = 1.0
    """Weight of the spectral distance of the sub-bands."""
    adversarial: float = 1.0
    """Weight of the adversarial loss."""
    feature_matching: float = 20.0
    """Weight of the distance of the discriminators' features."""
    twice: bool = False
    """Apply `adversarial` and `feature_matching` twice, as the release does."""

    def __post_init__(self) -> None:
        check_types(self)
        check_not_negative(self, "fullband", "multiband", "adversarial", "feature_matching", hint="0 disables it")

    @property
    def effective(self) -> "LossWeights":
        """The weights that are applied once for the same result."""
        if not self.twice:
            return self
        return replace(self, adversarial=self.adversarial**2, feature_matching=self.feature_matching**2, twice=False)


def generator_optimizer(phase_1_steps: int = 1_000_000) -> OptimizerConfig:
    """Adam of encoder and generator: a rate that falls linearly from 1e-3 to 1e-4 in the first phase.

    acids-ircam/RAVE `rave/model.py:configure_optimizers`.
    """
    return OptimizerConfig(
        learning_rate=1e-3, b1=0.5, b2=0.9, weight_decay=0.0, schedule="linear", decay=0.1, decay_steps=phase_1_steps
    )


def discriminator_optimizer() -> OptimizerConfig:
    """Adam of the discriminators, with a constant rate of 1e-4.

    acids-ircam/RAVE `rave/model.py:configure_optimizers`.
    """
    return OptimizerConfig(learning_rate=1e-4, b1=0.5, b2=0.9, weight_decay=0.0, schedule="constant")


class StepKind(NamedTuple):
    """What a step does; the phase of the training loop is its number."""

    mode: AdversarialMode
    """`reconstruction` in the first phase; `discriminators` or `generator` in the second."""
    quantize: bool
    """Whether latents of `discrete` are quantised."""

    @property
    def adversarial(self) -> bool:
        """Whether this is a step of the second phase."""
        return self.mode != "reconstruction"

    @property
    def number(self) -> int:
        """The number of the phase of the training loop."""
        return _MODES.index(self.mode) + len(_MODES) * self.quantize

    @classmethod
    def of(cls, number: int) -> "StepKind":
        """The kind with this number."""
        return cls(_MODES[number % len(_MODES)], number >= len(_MODES))


_MODES: tuple[AdversarialMode, ...] = ("reconstruction", "discriminators", "generator")


@dataclass(frozen=True)
class RaveTrainingConfig:
    """A RAVE and its training (acids-ircam/RAVE 2.3.1); the defaults are those of `v2`.

    In the first phase, encoder and generator learn to reconstruct spectrograms. In the second phase, the generator is
    trained against the discriminators: one step in `update_discriminator_every` updates the discriminators, the others
    the generator. The encoder does not change then, except for `discrete` and `spherical` latents, and except for the
    running statistics of its batch norms.

    **Raises:** `ConfigError` for values of the wrong type or range, or crops that are too short for the spectrograms.
    """

    model: RaveConfig = field(default_factory=RaveConfig)
    """The network."""
    generator_optimizer: OptimizerConfig = field(default_factory=generator_optimizer)
    """Optimiser of encoder and generator."""
    discriminator_optimizer: OptimizerConfig = field(default_factory=discriminator_optimizer)
    """Optimiser of the discriminators."""
    phase_1_steps: int = 1_000_000
    """Steps of the first phase."""
    update_discriminator_every: int = 4
    """One step in so many of the second phase updates the discriminators; the others update the generator."""
    beta: BetaSchedule = field(default_factory=lambda: BetaSchedule(0.05, 1e-6, 20_000))
    """Weight of the regularisation of the latents."""
    weights: LossWeights = field(default_factory=LossWeights)
    """Weights of the other losses."""
    adversarial_loss: AdversarialLoss = "hinge"
    """Kind of the adversarial loss."""
    relative_features: bool = True
    """Whether distances of features are divided by the mean absolute value of the features of the recording."""
    skipped_features: int = 1
    """First features of each discriminator that are not compared."""
    scales: tuple[int, ...] = SCALES
    """Lengths in samples of the frames of the spectrograms of the audio."""
    multiband_scales: tuple[int, ...] = SCALES
    """Lengths in samples of the frames of the spectrograms of the sub-bands."""
    log_epsilon: float = 1e-7
    """Constant that is added to magnitudes before the logarithm."""
    crop_to_valid: bool = True
    """Whether sub-bands are compared without the ends of the crop, on whose reconstruction the padding has an
    influence (`valid_signal_crop` of the release). The audio is compared over the whole crop, as in the release."""
    fullband_target: FullbandTarget = "audio"
    """What the reconstructed audio is compared with: the recording, or the recording after the filter bank, which has
    the same delay as the reconstruction."""
    warmup_quantize: int | None = 0
    """Steps at the start in which the latents of `discrete` are not quantised; None never quantises. The callback of
    the release is never called, so that version 2.3.1 never quantises in training."""
    segment_size: int = 131_072
    """Number of samples in a training crop."""
    ema_decay: float | None = None
    """Decay per update of the moving average of the weights, which is validated and saved; None keeps no average."""

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "phase_1_steps", "scales", "multiband_scales", "log_epsilon", "segment_size")
        check_field(self, "update_discriminator_every", self.update_discriminator_every >= 2, "be at least 2")
        check_not_negative(self, "skipped_features", "warmup_quantize")
        check_ema_decay(self.ema_decay)
        scales = (*self.scales, *self.multiband_scales)
        check_field(self, "scales", all(scale % 4 == 0 for scale in scales), "hold multiples of 4")
        hop = self.model.hop_length
        if self.segment_size % hop:
            nearest = max(1, round(self.segment_size / hop)) * hop
            raise ConfigError(
                f"segment_size is {self.segment_size}; it should be a multiple of the hop length of the model, {hop}, "
                f"such as {nearest}."
            )
        self._check_lengths("scales", self.segment_size, "samples")
        self._check_lengths("multiband_scales", self.compared_frames, "frames of sub-bands that are compared")

    def _check_lengths(self, name: str, length: int, unit: str) -> None:
        longest = max(getattr(self, name))
        if length <= longest // 2:
            raise ConfigError(
                f"{name} is {getattr(self, name)}; it should hold less than twice the {max(length, 0)} {unit} of a "
                f"crop of {self.segment_size} samples (segment_size). Use longer crops or shorter frames."
            )

    @property
    def crop(self) -> tuple[int, int]:
        """Frames of the sub-bands that are not compared, at the start and at the end of a crop.

        The release divides its receptive field by the number of bands of all channels, so that it removes too few
        frames for stereo.
        """
        if not self.crop_to_valid:
            return 0, 0
        bands, found = self.model.pqmf.num_bands, receptive_field(self.model)
        return found.left // bands, -(-found.right // bands)

    @property
    def compared_frames(self) -> int:
        """Frames of the sub-bands of a crop that are compared."""
        return self.segment_size // self.model.pqmf.num_bands - sum(self.crop)

    @property
    def freezes_encoder(self) -> bool:
        """Whether the encoder is not trained in the second phase."""
        return self.model.bottleneck.kind in ("variational", "wasserstein")

    def step_kind(self, step: int) -> StepKind:
        """What the step that follows `step` steps does: a function of this number alone."""
        warmup = self.warmup_quantize
        quantize = self.model.bottleneck.kind == "discrete" and warmup is not None and step >= warmup
        if step < self.phase_1_steps:
            return StepKind("reconstruction", quantize)
        judges = step % self.update_discriminator_every == 0
        return StepKind("discriminators" if judges else "generator", quantize)


_V1: Mapping[str, Any] = {
    "update_discriminator_every": 2,
    "beta": BetaSchedule(0.1),
    "weights": LossWeights(feature_matching=10.0),
    "relative_features": False,
    "skipped_features": 0,
    "crop_to_valid": False,
}
_DISCRETE: Mapping[str, Any] = {"phase_1_steps": 200_000, "beta": BetaSchedule(0.1), "log_epsilon": 1.0}

_CHANGES: MappingProxyType[str, Mapping[str, Any]] = MappingProxyType(
    {
        "v1": _V1,
        "v2": {},
        "v2_small": {"update_discriminator_every": 2, "beta": BetaSchedule(0.01)},
        "v2_nopqmf": {"beta": BetaSchedule(0.01, 1e-6, 500_000)},
        "v2_with_augs": {"beta": BetaSchedule(0.1)},
        "v3": {},
        "hybrid": {},
        "discrete": _DISCRETE,
        "discrete_v3": {**_DISCRETE, "beta": BetaSchedule(0.05, 1e-6, 20_000)},
        "wasserstein": {
            "phase_1_steps": 200_000,
            "beta": BetaSchedule(100.0),
            "weights": LossWeights(fullband=2.0, multiband=2.0, adversarial=2.0),
        },
        "spherical": {"phase_1_steps": 200_000},
        "onnx": _V1,
        "raspberry": _V1,
    }
)
"""The settings of each configuration of the release that differ from those of `v2`."""


def training_preset(name: str, *add_ons: str) -> RaveTrainingConfig:
    """The training of `preset(name, *add_ons)` with the settings of the release.

    With causal padding, the filter bank delays the audio by 528 samples. The release compares it with the recording
    itself, which a causal network cannot predict. Here, `fullband_target` is `round_trip` for causal models that
    generate sub-bands.

    **Raises:** `ConfigError` as `preset`.
    """
    model = preset(name, *add_ons)
    delayed = model.padding == "causal" and model.generator.output == "pqmf"
    changes: dict[str, Any] = {"fullband_target": "round_trip"} if delayed else {}
    for part in (name, *add_ons):
        changes |= _CHANGES.get(part, {})
    steps = changes.get("phase_1_steps", 1_000_000)
    return RaveTrainingConfig(model, generator_optimizer(steps), **changes)

"""Optimisers of optax with the definitions of PyTorch, and the moving average of weights."""

import itertools
import math
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, ArrayLike, Float, Int, PyTree

from jaxvoice.config import check_field, check_not_negative, check_positive, check_types
from jaxvoice.errors import ConfigError
from jaxvoice.nn import Embedding

_TreeT = TypeVar("_TreeT")


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with a learning-rate schedule. The defaults are those of HiFi-GAN (`train.py` of jik876/hifi-gan).

    `decay_steps` is the number of updates after which the rate is multiplied by `decay`; `None` means one epoch.
    `warmup_steps` raises the rate linearly from 0 before the decay starts. `clip_norm` bounds the global gradient norm.
    With `schedule="linear"`, the rate falls from `learning_rate` to `decay * learning_rate` in `decay_steps` updates
    and then stays there, as with `torch.optim.lr_scheduler.LinearLR`.
    With `schedule="noam"`, the rate rises linearly to `learning_rate` in `warmup_steps` updates, and then falls with
    the inverse square root of the number of updates (arXiv 1706.03762, equation 3). `noam_peak` computes this peak from
    the model dimension and factor of the equation. `decay` and `decay_steps` have no effect then.
    With `schedule="milestones"`, the rate is multiplied by `decay` after each number of updates in `milestones`, as
    with `torch.optim.lr_scheduler.MultiStepLR`. `decay_steps` has no effect then.

    **Raises:** `ConfigError` for values of the wrong type or range, or not finite.
    """

    learning_rate: float = 2e-4
    """Learning rate after the warm-up, before any decay."""
    b1: float = 0.8
    """Decay rate of AdamW's first moment."""
    b2: float = 0.99
    """Decay rate of AdamW's second moment."""
    eps: float = 1e-8
    """Constant that AdamW adds to the denominator."""
    weight_decay: float = 0.01
    """Decoupled weight decay, multiplied by the learning rate; 0 disables it."""
    weight_decay_on: Literal["all", "matrices", "kernels"] = "all"
    """Arrays that decay: all, or only those of two or more axes, which leaves out biases and the scales of norms, or
    only the weights of linear maps and convolutions, which also leaves out embeddings and tables of positions."""
    schedule: Literal["exponential", "constant", "linear", "noam", "milestones"] = "exponential"
    """Learning-rate schedule: exponential or linear decay, constant, Noam (warm-up, then inverse square root), or decay
    at milestones."""
    milestones: tuple[int, ...] = ()
    """Numbers of updates, in rising order, after each of which the schedule milestones multiplies the rate by decay."""
    decay: float = 0.999
    """Factor of the learning rate after every `decay_steps`; of the schedule linear, after `decay_steps` in all."""
    decay_steps: int | None = None
    """Steps between decays, or of the whole linear decay; None means one epoch."""
    warmup_steps: int = 0
    """Steps in which the learning rate rises from 0; 0 means no warm-up."""
    clip_norm: float | None = None
    """Largest global norm of the gradient; None disables clipping."""

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "learning_rate", "eps")
        check_positive(self, "decay_steps", hint="None decays once per epoch")
        check_positive(self, "clip_norm", hint="None clips nothing")
        check_not_negative(self, "weight_decay", "warmup_steps", hint="0 turns it off")
        for name in ("b1", "b2"):
            check_field(self, name, 0 <= getattr(self, name) < 1, "be in [0, 1)")
        check_field(self, "decay", 0 < self.decay <= 1, "be in (0, 1]", "1 keeps the rate constant")
        warms_up = self.schedule != "noam" or self.warmup_steps > 0
        check_field(self, "warmup_steps", warms_up, "be positive for the schedule noam", "4000 is usual")
        marks = self.milestones
        rising = all(before < after for before, after in itertools.pairwise((0, *marks)))
        check_field(self, "milestones", rising, "contain positive numbers in rising order")
        fits = bool(marks) == (self.schedule == "milestones")
        check_field(self, "milestones", fits, "contain numbers for the schedule milestones, and be empty for others")


def noam_peak(width: int, warmup_steps: int, *, factor: float = 1.0) -> float:
    """The highest rate of the schedule noam, `factor * width^-0.5 * min(step^-0.5, step * warmup_steps^-1.5)`.

    `width` is the dimension of the model. Source: arXiv 1706.03762, equation 3.
    """
    return factor * (width * warmup_steps) ** -0.5


def learning_rate(config: OptimizerConfig, *, steps_per_epoch: int) -> optax.Schedule:
    """The learning rate as a function of the number of updates, without skipped updates.

    **Raises:** `ConfigError` if the rate decays once per epoch and `steps_per_epoch` is below 1.
    """
    if config.schedule == "noam":
        return _noam(config.learning_rate, config.warmup_steps)
    schedule = optax.constant_schedule(config.learning_rate)
    if config.schedule in ("exponential", "linear"):
        every = steps_per_epoch if config.decay_steps is None else config.decay_steps
        if every < 1:
            raise ConfigError(
                f"steps_per_epoch is {every}; it should be at least 1 for a decay per epoch. Otherwise set decay_steps."
            )
        if config.schedule == "exponential":
            schedule = optax.exponential_decay(config.learning_rate, every, config.decay, staircase=True)
        else:
            schedule = optax.linear_schedule(config.learning_rate, config.decay * config.learning_rate, every)
    elif config.schedule == "milestones":
        schedule = _decay_at(config.milestones, config.learning_rate, config.decay)
    if config.warmup_steps:
        warmup = optax.linear_schedule(0.0, config.learning_rate, config.warmup_steps)
        schedule = optax.join_schedules([warmup, schedule], [config.warmup_steps])
    return schedule


def _noam(peak: float, warmup_steps: int) -> optax.Schedule:
    def schedule(count: ArrayLike) -> Float[Array, ""]:
        step = jnp.asarray(count, jnp.float32) + 1  # the first update is number 1: at 0 the rate would be 0
        return peak * jnp.minimum(jnp.sqrt(warmup_steps / step), step / warmup_steps)

    return schedule


def _decay_at(milestones: tuple[int, ...], rate: float, decay: float) -> optax.Schedule:
    def schedule(count: ArrayLike) -> Float[Array, ""]:
        passed = jnp.asarray(count, jnp.int32) >= jnp.asarray(milestones, jnp.int32)
        return rate * jnp.power(jnp.float32(decay), jnp.sum(passed, dtype=jnp.float32))

    return schedule


def decays_to(rate: float, config: OptimizerConfig, *, steps_per_epoch: int) -> int:
    """The number of updates after which the learning rate of `config` is nearest to `rate`.

    For an exponential decay, it is the warm-up and a whole number of decays, and for milestones one of these.

    **Raises:** `ConfigError` as `learning_rate` does.
    """
    every = steps_per_epoch if config.decay_steps is None else config.decay_steps
    learning_rate(config, steps_per_epoch=steps_per_epoch)
    if not 0 < rate < config.learning_rate:
        return config.warmup_steps
    if config.schedule == "noam":
        return round(config.warmup_steps * (config.learning_rate / rate) ** 2) - 1
    if config.schedule == "constant" or config.decay == 1:
        return config.warmup_steps
    if config.schedule == "milestones":
        passed = round(math.log(rate / config.learning_rate) / math.log(config.decay))
        return config.warmup_steps + (0, *config.milestones)[min(passed, len(config.milestones))]
    if config.schedule == "linear":
        share = (1 - rate / config.learning_rate) / (1 - config.decay)
        return config.warmup_steps + round(every * min(share, 1.0))
    return config.warmup_steps + every * round(math.log(rate / config.learning_rate) / math.log(config.decay))


def adamw(config: OptimizerConfig, *, steps_per_epoch: int) -> optax.GradientTransformation:
    """The equivalent of `torch.optim.AdamW` with the schedule of `config`, and clipping by the global norm.

    **Raises:** `ConfigError` as `learning_rate` does.
    """
    rate = learning_rate(config, steps_per_epoch=steps_per_epoch)
    # Without a mask, the structure of the optimiser's state is that of earlier versions.
    mask = {"all": None, "matrices": _are_matrices, "kernels": _are_kernels}[config.weight_decay_on]
    update = optax.adamw(rate, config.b1, config.b2, config.eps, weight_decay=config.weight_decay, mask=mask)
    if config.clip_norm is not None:
        update = optax.chain(optax.clip_by_global_norm(config.clip_norm), update)
    return _with_standard_promotion(update)


def _are_matrices(params: PyTree) -> PyTree:
    return jax.tree.map(lambda param: param.ndim > 1, params)


def _are_kernels(params: PyTree) -> PyTree:
    """Whether each array is the weight of a linear map or a convolution.

    These arrays have two or more axes and are called `weight`, as in torch, or `weight_v` with weight norm; those of
    recurrent layers begin with `weight_ih` and `weight_hh`. The weight of an `Embedding` is a table, and so are arrays
    of other names.
    """

    def of_module(path: Any, node: Any) -> Any:
        if isinstance(node, Embedding):
            return jax.tree.map(lambda _: False, node)
        name = jax.tree_util.keystr(path[-1:], simple=True)
        named = name in ("weight", "weight_v") or name.startswith(("weight_ih", "weight_hh"))
        return named and node.ndim > 1

    return jax.tree_util.tree_map_with_path(of_module, params, is_leaf=lambda node: isinstance(node, Embedding))


def _with_standard_promotion(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """`inner` under standard dtype promotion, since optax raises floats to integer powers."""

    def init(params):
        with jax.numpy_dtype_promotion("standard"):
            return inner.init(params)

    def update(updates, state, params=None):
        with jax.numpy_dtype_promotion("standard"):
            return inner.update(updates, state, params)

    return optax.GradientTransformation(init, update)


def ema_update(average: _TreeT, params: _TreeT, *, decay: float, step: Int[Array, ""] | None = None) -> _TreeT:
    """The exponential moving average after an update to `params`. Leaves other than floating-point arrays are replaced.

    With `step`, the number of updates before this one, the decay is `min(decay, (1 + step) / (10 + step))`, as in
    TensorFlow's `ExponentialMovingAverage`. This reduces the weight of the random initial parameters.
    """
    keep = jnp.asarray(decay, jnp.float32)
    if step is not None:
        done = step.astype(jnp.float32)
        keep = jnp.minimum(keep, (1 + done) / (10 + done))

    def mix(old, new):
        if not eqx.is_inexact_array(new):
            return new
        weight = keep.astype(new.dtype)
        return weight * old + (1 - weight) * new

    return jax.tree.map(mix, average, params)

"""The training step of a generator against discriminators."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, Literal, NamedTuple, TypeVar, get_args

import equinox as eqx
from jaxtyping import Array, Bool, Float, PyTree

from jaxvoice.errors import ConfigError
from jaxvoice.training.learner import Learner
from jaxvoice.training.training_state import all_finite

_GeneratorT = TypeVar("_GeneratorT")
_DiscriminatorT = TypeVar("_DiscriminatorT")
Metrics = dict[str, Float[Array, ""]]
AdversarialMode = Literal["both", "discriminators", "generator", "reconstruction"]
"""The networks that a step updates, see `adversarial_step`."""


class AdversarialStep(NamedTuple, Generic[_GeneratorT, _DiscriminatorT]):
    """The result of `adversarial_step`."""

    generator: Learner[_GeneratorT]
    """The generator after its update."""
    discriminators: Learner[_DiscriminatorT]
    """The discriminators after their update."""
    finite: Bool[Array, ""]
    """Whether all losses and gradients are finite: the first argument of `guarded`."""
    metrics: Metrics
    """The losses `generator` and `discriminator` of the updated networks, the metrics of their loss functions, and
    `gradient_norm` and `learning_rate` of the generator's update, with the prefix `disc_` of the discriminators'."""


def adversarial_step(
    generator: Learner[_GeneratorT],
    discriminators: Learner[_DiscriminatorT],
    *,
    generate: Callable[[_GeneratorT], tuple[PyTree, PyTree]],
    discriminator_loss: Callable[[_DiscriminatorT, PyTree, PyTree], tuple[Float[Array, ""], Metrics, PyTree]],
    generator_loss: Callable[[_DiscriminatorT | None, PyTree, PyTree], tuple[Float[Array, ""], Metrics, PyTree]],
    mode: AdversarialMode = "both",
    frozen: Sequence[str] = (),
    frozen_state: Sequence[str] | None = None,
) -> AdversarialStep[_GeneratorT, _DiscriminatorT]:
    """Update the discriminators, and then the generator against the updated discriminators.

    The generator runs once, and both updates use its outputs. The update of the discriminators computes no gradient of
    the generator, and the update of the generator computes no gradient of the discriminators' weights. The functions
    close over inputs, conditions and recordings.

    **Arguments:**

    - `generator`, `discriminators`: their learners.
    - `generate`: takes the generator's model and returns its outputs and its new state, `None` for a model without
        state. The outputs are a pytree of arrays: audio, and other inputs of the losses such as a Kullback-Leibler
        divergence.
    - `discriminator_loss`: takes the discriminators' model, their state and the outputs, and returns the loss, metrics
        for the log, and the new state. It is not differentiated with respect to the outputs.
    - `generator_loss`: has the same arguments and results. It is differentiated with respect to the outputs only.
    - `mode`: `both` updates all networks. `discriminators` and `generator` update these networks only, for trainings
        that alternate. `reconstruction` updates the generator without discriminators, for example in the first steps of
        a training: `generator_loss` receives `None` as their model and state.
    - `frozen`: paths of the generator that this step does not change, as in `Learner.update`. No gradient of these
        parts is computed.
    - `frozen_state`: paths of the generator's state that this step does not change, by default those of `frozen`; see
        `Learner.update`.

    **Raises:** `ConfigError` for another `mode`, or if a path in `frozen` names no array of the generator.
    """
    if mode not in get_args(AdversarialMode):
        raise ConfigError(f"mode is {mode!r}; it should be one of {', '.join(map(repr, get_args(AdversarialMode)))}.")
    train_generator, train_discriminators = mode != "discriminators", mode in ("both", "discriminators")

    def forward(params: _GeneratorT) -> tuple[PyTree, PyTree]:
        return generate(generator.combine(params))

    params = generator.params_without(frozen)
    if train_generator:
        outputs, pull_back, generator_state = eqx.filter_vjp(forward, params, has_aux=True)
    else:
        outputs, generator_state = forward(params)
    checked, metrics, discriminator_metrics, optimisation = [], {}, {}, {}
    if train_discriminators:
        before = discriminators

        def discriminators_loss_of(params: _DiscriminatorT) -> tuple[Array, tuple[Metrics, PyTree]]:
            loss, parts, state = discriminator_loss(before.combine(params), before.model_state, outputs)
            return loss, (parts, state)

        value_and_gradient = eqx.filter_value_and_grad(discriminators_loss_of, has_aux=True)
        (loss, (parts, state)), gradient = value_and_gradient(before.params)
        discriminators = before.update(gradient, model_state=state)
        discriminator_metrics = {"discriminator": loss, **parts}
        optimisation |= {f"disc_{name}": value for name, value in before.metrics(gradient).items()}
        checked += [loss, gradient]
    if train_generator:
        against = (None, None) if mode == "reconstruction" else (discriminators.model, discriminators.model_state)

        def generator_loss_of(outputs: Any) -> tuple[Array, tuple[Metrics, PyTree]]:
            loss, parts, state = generator_loss(*against, outputs)
            return loss, (parts, state)

        (loss, (parts, state)), gradient = eqx.filter_value_and_grad(generator_loss_of, has_aux=True)(outputs)
        (gradient,) = pull_back(gradient)
        optimisation = {**generator.metrics(gradient), **optimisation}
        generator = generator.update(gradient, model_state=generator_state, frozen=frozen, frozen_state=frozen_state)
        if mode != "reconstruction" and state is not None:
            discriminators = discriminators.with_state(state)
        metrics = {"generator": loss, **parts}
        checked += [loss, gradient]
    elif generator_state is not None:
        generator = generator.with_state(generator_state, frozen=frozen if frozen_state is None else frozen_state)
    return AdversarialStep(
        generator, discriminators, all_finite(checked), {**metrics, **discriminator_metrics, **optimisation}
    )

"""The training step of a generator against discriminators."""

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import equinox as eqx
from jaxtyping import Array, Bool, Float, PyTree

from jaxvoice.training.learner import Learner
from jaxvoice.training.state import all_finite

GeneratorModel = TypeVar("GeneratorModel")
DiscriminatorModel = TypeVar("DiscriminatorModel")
Metrics = dict[str, Float[Array, ""]]


class AdversarialStep(NamedTuple, Generic[GeneratorModel, DiscriminatorModel]):
    """The result of `adversarial_step`."""

    generator: Learner[GeneratorModel]
    """The generator after its update."""
    discriminators: Learner[DiscriminatorModel]
    """The discriminators after their update."""
    finite: Bool[Array, ""]
    """Whether all losses and gradients are finite: the first argument of `guarded`."""
    metrics: Metrics
    """`generator` and `discriminator`, the sums of the losses, and the metrics of both loss functions."""


def adversarial_step(
    generator: Learner[GeneratorModel],
    discriminators: Learner[DiscriminatorModel],
    *,
    generate: Callable[[GeneratorModel], tuple[PyTree, PyTree]],
    discriminator_loss: Callable[[DiscriminatorModel, PyTree, PyTree], tuple[Float[Array, ""], Metrics, PyTree]],
    generator_loss: Callable[[DiscriminatorModel | None, PyTree, PyTree], tuple[Float[Array, ""], Metrics, PyTree]],
    adversarial: bool = True,
) -> AdversarialStep[GeneratorModel, DiscriminatorModel]:
    """One update of the discriminators and then, against the updated ones, of the generator.

    The generator runs once, and its outputs serve both updates. No gradient of the generator is computed for the
    discriminators' update, and none of the discriminators for the generator's. Inputs, conditions and recordings are
    variables that the functions close over.

    **Arguments:**

    - `generator`, `discriminators`: the learners of both sides.
    - `generate`: takes the generator's model and returns its outputs and its new state (`None` without one). The
        outputs are a pytree of arrays: audio, and values such as a Kullback-Leibler divergence that the loss reads.
    - `discriminator_loss`: takes the discriminators' model, their state and the outputs, and returns the loss, metrics
        for the log, and the new state. It is not differentiated by the outputs.
    - `generator_loss`: takes the same, and returns the same. It is differentiated by the outputs only. Without
        discriminators, both model and state are `None`.
    - `adversarial`: False is a step without discriminators, such as the first ones of a training. The discriminators
        do not change, and `discriminator_loss` is not called.
    """

    def forward(params: GeneratorModel) -> tuple[PyTree, PyTree]:
        return generate(generator.combine(params))

    outputs, pull_back, generator_state = eqx.filter_vjp(forward, generator.params, has_aux=True)
    checked, metrics = [], {}
    if adversarial:
        before = discriminators

        def discriminators_loss_of(params: DiscriminatorModel) -> tuple[Array, tuple[Metrics, PyTree]]:
            loss, parts, state = discriminator_loss(before.combine(params), before.model_state, outputs)
            return loss, (parts, state)

        (loss, (metrics, state)), gradient = eqx.filter_value_and_grad(discriminators_loss_of, has_aux=True)(
            before.params
        )
        discriminators = before.update(gradient, model_state=state)
        metrics = {"discriminator": loss, **metrics}
        checked += [loss, gradient]
    after = discriminators

    def generator_loss_of(outputs: Any) -> tuple[Array, tuple[Metrics, PyTree]]:
        judges = (after.model, after.model_state) if adversarial else (None, None)
        loss, parts, state = generator_loss(*judges, outputs)
        return loss, (parts, state)

    (loss, (parts, state)), output_gradient = eqx.filter_value_and_grad(generator_loss_of, has_aux=True)(outputs)
    (gradient,) = pull_back(output_gradient)
    if adversarial and state is not None:
        discriminators = after.with_state(state)
    return AdversarialStep(
        generator.update(gradient, model_state=generator_state),
        discriminators,
        all_finite((*checked, loss, gradient)),
        {"generator": loss, **parts, **metrics},
    )

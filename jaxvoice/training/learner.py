"""Learners, which hold a network, the state of its optimiser and the moving average of its weights."""

import difflib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float32, Int32, PyTree

from jaxvoice.errors import ConfigError
from jaxvoice.training.optimizers import OptimizerConfig, adamw, ema_update, learning_rate
from jaxvoice.training.parallel import gather
from jaxvoice.training.training_state import array_names

_ModelT = TypeVar("_ModelT")


def check_ema_decay(decay: float | None) -> None:
    """Raise `ConfigError` unless `decay` lies in [0, 1) or is `None`."""
    if decay is not None and not 0 <= decay < 1:
        raise ConfigError(f"ema_decay is {decay}; it should be in [0, 1). None keeps no average.")


class Learner(eqx.Module, Generic[_ModelT]):
    """A model with the state of its optimiser and, if `ema_decay` is given, the moving average of its weights.

    A learner is part of a task's state. `Learner.create` makes a learner, and `update` returns it after an update. Loss
    functions take `params`, the trained arrays, and rebuild the model with `combine`, so that no gradient of a frozen
    part is computed:

    ```python
    loss, gradient = eqx.filter_value_and_grad(lambda params: loss_of(learner.combine(params)))(learner.params)
    learner = learner.update(gradient)
    ```

    Parts under the paths in `frozen` never change: they are not in `params` and the optimiser's state, they do not
    decay, and `update` keeps their part of `model_state`.
    """

    model: _ModelT
    """The networks."""
    model_state: PyTree
    """The state that calls of the model take and return, such as the running statistics of batch norm; or `None`."""
    optimizer_state: optax.OptState
    """State of the optimiser of `params`."""
    average: _ModelT | None
    """Moving average of `model`."""
    average_state: PyTree
    """Moving average of `model_state`."""
    optimizer: OptimizerConfig = eqx.field(static=True)
    """Settings of the optimiser."""
    steps_per_epoch: int = eqx.field(static=True)
    """Updates in an epoch, for learning rates that decay by epochs."""
    ema_decay: float | None = eqx.field(static=True)
    """Decay per update of the moving average; `None` keeps no average."""
    frozen: tuple[str, ...] = eqx.field(static=True)
    """Dotted paths below `model` (and `model_state`) that do not change."""

    @classmethod
    def create(
        cls,
        model: _ModelT,
        optimizer: OptimizerConfig,
        *,
        steps_per_epoch: int,
        model_state: PyTree = None,
        ema_decay: float | None = None,
        frozen: Sequence[str] = (),
    ) -> "Learner[_ModelT]":
        """Create the learner before its first update. The moving average starts at `model`.

        **Raises:** `ConfigError` if a path in `frozen` names no array of `model`, or `ema_decay` is not in [0, 1).
        """
        check_ema_decay(ema_decay)
        _check_paths(model, frozen)
        average = None if ema_decay is None else model
        average_state = None if ema_decay is None else model_state
        learner = cls(
            model, model_state, (), average, average_state, optimizer, steps_per_epoch, ema_decay, tuple(frozen)
        )
        return replace(learner, optimizer_state=learner._transformation().init(learner.params))

    @property
    def params(self) -> PyTree:
        """The model with `None` in place of all leaves that are not trained: frozen parts and integer arrays."""
        return self._trained(self.model)

    def params_without(self, frozen: Sequence[str]) -> PyTree:
        """`params` without the parts under the paths in `frozen`, for an update that does not change these parts.

        **Raises:** `ConfigError` if a path in `frozen` names no array of the model.
        """
        _check_paths(self.model, frozen)
        return _without(self.params, frozen)

    def combine(self, params: PyTree) -> _ModelT:
        """The model with `params` in place of its trained arrays, complete on every device."""
        return eqx.combine(gather(params), self.model)

    def update(
        self,
        gradient: PyTree,
        *,
        model_state: PyTree = None,
        frozen: Sequence[str] = (),
        frozen_state: Sequence[str] | None = None,
    ) -> "Learner[_ModelT]":
        """The learner after one update.

        **Arguments:**

        - `gradient`: has the structure of `params`, of `params_without(frozen)` or of the model. Gradients of frozen
            parts are not used.
        - `model_state`: replaces the model's state, frozen parts excluded; `None` keeps it.
        - `frozen`: paths below the model (and `model_state`) of parts that are trained in other phases only. Like the
            parts that are always frozen, this update does not change them or their optimiser state. Their moving
            averages are updated.
        - `frozen_state`: paths below `model_state` of parts that this update does not change, by default those of
            `frozen`. With `()`, the running statistics of frozen parts change although their weights do not.

        **Raises:** `ConfigError` if a path in `frozen` names no array of the model.
        """
        _check_paths(self.model, frozen)
        params = self.params

        def used(path: Any, param: Array | None, part: Array | None) -> Array | None:
            # The optimiser has moments of the parts that only this update freezes, so it needs gradients for them.
            return None if param is None else jnp.zeros_like(param) if _is_frozen(path, frozen) else part

        is_none = lambda leaf: leaf is None  # noqa: E731
        gradient = jax.tree_util.tree_map_with_path(used, params, gradient, is_leaf=is_none)
        updates, optimizer_state = self._transformation().update(gradient, self.optimizer_state, params)
        model = eqx.apply_updates(self.model, updates)
        if frozen:
            model = _keep(self.model, model, frozen)
            optimizer_state = self._with_kept_moments(optimizer_state, params, frozen)
        new = replace(self, model=model, optimizer_state=optimizer_state)
        kept = frozen if frozen_state is None else frozen_state
        new = new if model_state is None else new.with_state(model_state, frozen=kept)
        if self.ema_decay is None:
            return new
        return replace(
            new,
            average=self._averaged(self.average, new.model),
            average_state=self._averaged(self.average_state, new.model_state),
        )

    def with_state(self, model_state: PyTree, *, frozen: Sequence[str] = ()) -> "Learner[_ModelT]":
        """The learner with another `model_state`. Frozen parts of the state do not change, as in `update`."""
        changed = _without(model_state, (*self.frozen, *frozen))
        return replace(self, model_state=eqx.combine(changed, self.model_state))

    def _averaged(self, average: Any, new: Any) -> Any:
        assert self.ema_decay is not None
        mixed = ema_update(self._trained(average), self._trained(new), decay=self.ema_decay, step=self.updates)
        # A weighted mean of equal numbers is rounded, so frozen arrays are copied instead.
        return eqx.combine(mixed, new)

    def _with_kept_moments(self, new: optax.OptState, params: PyTree, frozen: Sequence[str]) -> optax.OptState:
        """The optimiser's state `new` with the old moments of frozen parameters."""
        # Moments are trees with the structure of the parameters.
        structure = jax.tree.structure(params)
        return jax.tree.map(
            lambda before, after: _keep(before, after, frozen) if jax.tree.structure(before) == structure else after,
            self.optimizer_state,
            new,
            is_leaf=lambda node: jax.tree.structure(node) == structure,
        )

    @property
    def eval_model(self) -> _ModelT:
        """The model to validate and to save: the moving average, if one is kept."""
        return self.model if self.average is None else self.average

    @property
    def eval_state(self) -> PyTree:
        """The state that belongs to `eval_model`."""
        return self.model_state if self.average is None else self.average_state

    @property
    def updates(self) -> Int32[Array, ""]:
        """The number of updates, on which the learning rate depends. Skipped updates are not counted."""
        is_count = lambda node: isinstance(node, optax.ScaleByScheduleState)  # noqa: E731
        nodes = jax.tree.leaves(self.optimizer_state, is_leaf=is_count)
        return jnp.asarray(next(node.count for node in nodes if is_count(node)))

    def metrics(self, gradient: PyTree) -> dict[str, Float32[Array, ""]]:
        """The metrics `gradient_norm` and `learning_rate` of the update by `gradient`, for the log."""
        schedule = learning_rate(self.optimizer, steps_per_epoch=self.steps_per_epoch)
        values = {"gradient_norm": optax.tree_utils.tree_norm(gradient), "learning_rate": schedule(self.updates)}
        return {name: jnp.asarray(value, jnp.float32) for name, value in values.items()}

    def _transformation(self) -> optax.GradientTransformation:
        return adamw(self.optimizer, steps_per_epoch=self.steps_per_epoch)

    def _trained(self, tree: Any) -> Any:
        """`tree` with `None` in place of frozen leaves and of leaves that are not floating-point arrays."""
        return eqx.filter(_without(tree, self.frozen), eqx.is_inexact_array)


def _check_paths(model: Any, frozen: Sequence[str]) -> None:
    """Raise `ConfigError` unless every path in `frozen` names an array of `model`, or a part with arrays."""
    if not frozen:
        return
    names = array_names(eqx.filter(model, eqx.is_array))
    for path in frozen:
        if not any(_is_below(name, path) for name in names):
            paths = {".".join(name.split(".")[: i + 1]) for name in names for i in range(name.count(".") + 1)}
            near = difflib.get_close_matches(path, sorted(paths), n=1, cutoff=0.0)
            raise ConfigError(
                f"frozen contains {path!r}, but {type(model).__name__} has no array with this path or below it"
                + (f"; did you mean {near[0]!r}?" if near else ".")
            )


def _without(tree: Any, frozen: Sequence[str]) -> Any:
    """`tree` with `None` in place of the leaves at the paths in `frozen`."""
    if not frozen:
        return tree
    return jax.tree_util.tree_map_with_path(lambda path, leaf: None if _is_frozen(path, frozen) else leaf, tree)


def _keep(old: PyTree, new: PyTree, frozen: Sequence[str]) -> PyTree:
    """`new` with the leaves of `old` at the paths in `frozen`."""
    return jax.tree_util.tree_map_with_path(
        lambda path, before, after: before if _is_frozen(path, frozen) else after, old, new
    )


def _is_frozen(path: Any, frozen: Sequence[str]) -> bool:
    name = jax.tree_util.keystr(path, simple=True, separator=".")
    return any(_is_below(name, above) for above in frozen)


def _is_below(name: str, path: str) -> bool:
    return name == path or name.startswith(f"{path}.")

"""Recurrent layers over padded sequences `(*batch, time, channels)`, with torch's names and layouts."""

import functools as ft
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax
from jax import lax, numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from jaxvoice.nn._inputs import check_at_least, check_input, check_mask, check_rate
from jaxvoice.nn._linear import linear
from jaxvoice.nn._module import Module
from jaxvoice.nn._random import dropout, subkeys, torch_uniform


class LSTMShape(NamedTuple):
    """Sizes of an `LSTM`, named as in torch."""

    input_size: int
    hidden_size: int
    num_layers: int
    bidirectional: bool
    dropout: float

    def weights(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield name and shape of every array, in torch's order."""
        gates, directions = 4 * self.hidden_size, 1 + self.bidirectional
        for layer in range(self.num_layers):
            inputs = self.hidden_size * directions if layer else self.input_size
            for suffix in self.suffixes(layer):
                yield f"weight_ih_{suffix}", (gates, inputs)
                yield f"weight_hh_{suffix}", (gates, self.hidden_size)
                yield f"bias_ih_{suffix}", (gates,)
                yield f"bias_hh_{suffix}", (gates,)

    def suffixes(self, layer: int) -> list[str]:
        """The suffixes of the names of a layer's weights: forward, then backward."""
        return [f"l{layer}", f"l{layer}_reverse"][: 1 + self.bidirectional]


class LSTM(Module):
    """Long short-term memory of one or more layers, in one or both directions, as `torch.nn.LSTM` with `batch_first`.

    Weights have torch's names: `weight_ih_l0`, `weight_hh_l0`, `bias_ih_l0`, `bias_hh_l0`, `weight_ih_l0_reverse`, ...
    Their number depends on the layers and directions, but an Equinox module has the fields that its class declares.
    `LSTM(...)` therefore returns an instance of a subclass that is generated for each number of layers and directions.
    Subclasses of `LSTM` are treated the same way.
    """

    shape: LSTMShape = eqx.field(static=True)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        key: PRNGKeyArray,
    ):
        """**Arguments:** as in torch. `dropout` is the rate between layers. Weights are drawn from torch's default
        distribution, U(-b, b) with b = 1/sqrt(hidden_size).

        **Raises:** `ConfigError` for sizes below 1, or `dropout` outside [0, 1).
        """
        check_at_least(1, input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        check_rate(dropout)
        # Equinox lets __init__ assign only fields of the class.
        object.__setattr__(self, "__class__", _with_fields(_declared_class(self), num_layers, bidirectional))
        self.shape = LSTMShape(input_size, hidden_size, num_layers, bidirectional, dropout)
        shapes = list(self.shape.weights())
        for (name, shape), weight_key in zip(shapes, jax.random.split(key, len(shapes)), strict=True):
            setattr(self, name, torch_uniform(shape, hidden_size, key=weight_key))

    def __reduce__(self) -> tuple[Any, ...]:
        # Generated classes cannot be imported by name; pickle and copy generate them again.
        arguments = (_declared_class(self), self.shape.num_layers, self.shape.bidirectional)
        return _without_weights, arguments, dict(vars(self))

    def __call__(
        self,
        x: Float[Array, "*batch time in"],
        *,
        mask: Bool[Array, "*batch time"] | None = None,
        inference: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "*batch time directions_times_hidden"]:
        """**Arguments:**

        - `x`: `(*batch, time, input_size)`; products are computed in its dtype, cell states in float32.
        - `mask`: true at valid positions. Padding does not change the state, and outputs at padding are zero. Outputs
            at valid positions equal those of torch's packed sequences.

        **Returns:** an array `(*batch, time, hidden_size)`. If the layer is bidirectional, the array has
        `2 * hidden_size` channels: forward, then backward.

        **Raises:** `ShapeError` for a wrong number of channels, or a mask whose shape does not match `x`; `ConfigError`
        for dropout without `key` unless `inference`.
        """
        check_input(x, self.shape.input_size, "time")
        check_mask(mask, x.shape[:-1])
        valid = jnp.ones(x.shape[:-1], bool) if mask is None else mask
        for layer, layer_key in enumerate(subkeys(key, self.shape.num_layers)):
            if layer:
                x = dropout(x, self.shape.dropout, inference=inference, key=layer_key)
            suffixes = self.shape.suffixes(layer)
            x = jnp.concatenate([self._direction(x, valid, suffix) for suffix in suffixes], axis=-1)
        return x

    def _direction(self, x: Array, valid: Array, suffix: str) -> Array:
        weight_ih, weight_hh, bias_ih, bias_hh = (
            getattr(self, f"{name}_{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        # The input projection does not depend on the state: one product for all time steps.
        projected = jnp.moveaxis(linear(x, weight_ih, bias_ih + bias_hh), -2, 0)
        recurrent = weight_hh.astype(x.dtype)

        def step(carry, now):
            hidden, cell = carry
            projected_now, valid_now = now
            gates = (projected_now + jnp.einsum("...h,gh->...g", hidden, recurrent)).astype(jnp.float32)
            input_gate, forget_gate, candidate, output_gate = jnp.split(gates, 4, axis=-1)
            new_cell = jax.nn.sigmoid(forget_gate) * cell + jax.nn.sigmoid(input_gate) * jnp.tanh(candidate)
            new_hidden = (jax.nn.sigmoid(output_gate) * jnp.tanh(new_cell)).astype(hidden.dtype)
            carry = jnp.where(valid_now, new_hidden, hidden), jnp.where(valid_now, new_cell, cell)
            return carry, jnp.where(valid_now, new_hidden, jnp.zeros((), hidden.dtype))

        zeros = jnp.zeros((*x.shape[:-2], self.shape.hidden_size), x.dtype)
        times = (projected, jnp.moveaxis(valid[..., None], -2, 0))
        _, outputs = lax.scan(step, (zeros, zeros.astype(jnp.float32)), times, reverse=suffix.endswith("_reverse"))
        return jnp.moveaxis(outputs, 0, -2)


@ft.cache
def _with_fields(cls: type[LSTM], num_layers: int, bidirectional: bool) -> type[LSTM]:
    """The subclass of `cls` whose fields are the weights of `num_layers` layers."""
    names = [name for name, _ in LSTMShape(1, 1, num_layers, bidirectional, 0.0).weights()]
    namespace = {
        "_generated": True,
        "__module__": cls.__module__,
        "__doc__": cls.__doc__,
        "__annotations__": dict.fromkeys(names, Array),
    }
    return types.new_class(cls.__name__, (cls,), exec_body=lambda body: body.update(namespace))


def _declared_class(lstm: LSTM) -> type[LSTM]:
    """The class of `lstm`; if that class is generated, its declared base class."""
    cls = type(lstm)
    return cls.__bases__[0] if "_generated" in vars(cls) else cls


def _without_weights(cls: type[LSTM], num_layers: int, bidirectional: bool) -> LSTM:
    """An instance without attributes, which pickle and copy then set."""
    return object.__new__(_with_fields(cls, num_layers, bidirectional))

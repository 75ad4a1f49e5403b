"""Recurrent layers over padded sequences `(*batch, time, channels)`, with torch's names and layouts."""

import abc
import functools as ft
import types
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jax import lax, numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from jaxvoice.errors import ConfigError
from jaxvoice.nn._inputs import check_at_least, check_input, check_mask, check_rate
from jaxvoice.nn._kernels import sum_dtype
from jaxvoice.nn._linear import linear
from jaxvoice.nn._module import Module
from jaxvoice.nn._random import dropout, subkeys, torch_uniform
from jaxvoice.nn._streaming_forms import Block, Prefix, StreamingForm, Timing, inside_signal, materialised


class LSTMShape(NamedTuple):
    """Sizes of an `LSTM` or a `GRU`, named as in torch."""

    input_size: int
    hidden_size: int
    num_layers: int
    bidirectional: bool
    dropout: float
    gates: int = 4
    """Rows of a weight for each hidden unit: 4 for an LSTM, 3 for a GRU."""

    def weights(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield name and shape of every array, in torch's order."""
        gates, directions = self.gates * self.hidden_size, 1 + self.bidirectional
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


class _Recurrent(Module):
    """A recurrent network of one or more layers in one or both directions, with torch's names.

    The number of weights depends on the layers and directions, but an Equinox module has the fields that its class
    declares. Subclasses therefore return instances of classes that are generated for each number of layers and
    directions.
    """

    shape: LSTMShape = eqx.field(static=True)
    _gates: ClassVar[int]

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
        object.__setattr__(
            self, "__class__", _with_fields(_declared_class(self), self._gates, num_layers, bidirectional)
        )
        self.shape = LSTMShape(input_size, hidden_size, num_layers, bidirectional, dropout, self._gates)
        shapes = list(self.shape.weights())
        for (name, shape), weight_key in zip(shapes, jax.random.split(key, len(shapes)), strict=True):
            setattr(self, name, torch_uniform(shape, hidden_size, key=weight_key))

    def __reduce__(self) -> tuple[Any, ...]:
        # Generated classes cannot be imported by name; pickle and copy generate them again.
        arguments = (_declared_class(self), self._gates, self.shape.num_layers, self.shape.bidirectional)
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

        - `x`: `(*batch, time, input_size)`; products are computed in its dtype, states at least in float32.
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
            carry = self._zero_carry(x)
            outputs = [self._direction(x, valid, suffix, carry)[1] for suffix in self.shape.suffixes(layer)]
            x = jnp.concatenate(outputs, axis=-1)
        return x

    def streaming_form(self, start: int) -> StreamingForm:
        """The form in inference, with the states of all layers as state.

        **Raises:** `ConfigError` for a bidirectional layer.
        """
        if self.shape.bidirectional:
            raise ConfigError(
                f"This {_declared_class(self).__name__} is bidirectional; a streaming form needs one direction, "
                "because the backward direction starts at the end of the signal."
            )
        return RecurrentForm(self, start)

    @abc.abstractmethod
    def _zero_carry(self, x: Array) -> Any:
        """The state before the first of the times of `x`."""

    @abc.abstractmethod
    def _direction(self, x: Array, valid: Array, suffix: str, carry: Any) -> tuple[Any, Array]:
        """The state after the last time of `x`, and the outputs, of one layer in one direction."""

    def _parts(self, suffix: str) -> tuple[Array, Array, Array, Array]:
        weight_ih, weight_hh, bias_ih, bias_hh = (
            getattr(self, f"{name}_{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        return weight_ih, weight_hh, bias_ih, bias_hh


class LSTM(_Recurrent):
    """Long short-term memory of one or more layers, in one or both directions, as `torch.nn.LSTM` with `batch_first`.

    Weights have torch's names: `weight_ih_l0`, `weight_hh_l0`, `bias_ih_l0`, `bias_hh_l0`, `weight_ih_l0_reverse`, ...
    `LSTM(...)` returns an instance of a subclass that is generated for each number of layers and directions, because an
    Equinox module has the fields that its class declares. Subclasses of `LSTM` are treated the same way.
    """

    _gates = 4
    # Without its own __init__, the class would have that of a dataclass for type checkers.
    __init__ = _Recurrent.__init__

    def _zero_carry(self, x: Array) -> Any:
        zeros = jnp.zeros((*x.shape[:-2], self.shape.hidden_size), x.dtype)
        return zeros, zeros.astype(sum_dtype(x.dtype))

    def _direction(self, x: Array, valid: Array, suffix: str, carry: Any) -> tuple[Any, Array]:
        weight_ih, weight_hh, bias_ih, bias_hh = self._parts(suffix)
        # The input projection does not depend on the state: one product for all time steps.
        bias_ih, bias_hh = (one.astype(np.promote_types(one.dtype, x.dtype)) for one in (bias_ih, bias_hh))
        projected = jnp.moveaxis(linear(x, weight_ih, bias_ih + bias_hh), -2, 0)
        recurrent = weight_hh.astype(x.dtype)

        def step(carry, now):
            hidden, cell = carry
            projected_now, valid_now = now
            gates = (projected_now + jnp.einsum("...h,gh->...g", hidden, recurrent)).astype(cell.dtype)
            input_gate, forget_gate, candidate, output_gate = jnp.split(gates, 4, axis=-1)
            new_cell = jax.nn.sigmoid(forget_gate) * cell + jax.nn.sigmoid(input_gate) * jnp.tanh(candidate)
            new_hidden = (jax.nn.sigmoid(output_gate) * jnp.tanh(new_cell)).astype(hidden.dtype)
            carry = jnp.where(valid_now, new_hidden, hidden), jnp.where(valid_now, new_cell, cell)
            return carry, jnp.where(valid_now, new_hidden, jnp.zeros((), hidden.dtype))

        times = (projected, jnp.moveaxis(valid[..., None], -2, 0))
        carry, outputs = lax.scan(step, carry, times, reverse=suffix.endswith("_reverse"))
        return carry, jnp.moveaxis(outputs, 0, -2)


class GRU(_Recurrent):
    """Gated recurrent units of one or more layers, in one or both directions, as `torch.nn.GRU` with `batch_first`.

    Weights have torch's names, as those of `LSTM`; instances are of generated subclasses too.
    """

    _gates = 3
    __init__ = _Recurrent.__init__

    def _zero_carry(self, x: Array) -> Any:
        return jnp.zeros((*x.shape[:-2], self.shape.hidden_size), sum_dtype(x.dtype))

    def _direction(self, x: Array, valid: Array, suffix: str, carry: Any) -> tuple[Any, Array]:
        weight_ih, weight_hh, bias_ih, bias_hh = self._parts(suffix)
        projected = jnp.moveaxis(linear(x, weight_ih, bias_ih), -2, 0)
        recurrent, bias = weight_hh.astype(x.dtype), bias_hh.astype(carry.dtype)

        def step(hidden, now):
            projected_now, valid_now = now
            product = jnp.einsum("...h,gh->...g", hidden.astype(x.dtype), recurrent).astype(hidden.dtype)
            product = product + bias.reshape((1,) * (product.ndim - 1) + (-1,))
            of_input = jnp.split(projected_now.astype(hidden.dtype), 3, axis=-1)
            of_hidden = jnp.split(product, 3, axis=-1)
            reset, update = (jax.nn.sigmoid(of_input[i] + of_hidden[i]) for i in range(2))
            candidate = jnp.tanh(of_input[2] + reset * of_hidden[2])
            new = (1 - update) * candidate + update * hidden
            return jnp.where(valid_now, new, hidden), jnp.where(valid_now, new, 0.0).astype(x.dtype)

        times = (projected, jnp.moveaxis(valid[..., None], -2, 0))
        carry, outputs = lax.scan(step, carry, times, reverse=suffix.endswith("_reverse"))
        return carry, jnp.moveaxis(outputs, 0, -2)


class RecurrentForm(StreamingForm):
    """An `LSTM` or a `GRU` in one direction. Positions before and after the signal do not change its state."""

    layer: _Recurrent
    timing: Timing = eqx.field(static=True)

    def __init__(self, layer: _Recurrent, start: int):
        self.layer = layer
        self.timing = Timing(start, start, settled=Fraction(max(0, -start)))

    def init_state(self, prefix: Prefix, *, key: PRNGKeyArray | None = None) -> tuple[Any, Prefix]:
        """The states of all layers after the prefix."""
        shape = self.layer.shape
        x = materialised(prefix)
        carries = [self.layer._zero_carry(x)] * shape.num_layers
        if x.shape[-2] == 0:
            out = jax.ShapeDtypeStruct((*x.shape[:-1], shape.hidden_size), x.dtype)
            return carries, out
        return self._run(carries, x, jnp.ones(x.shape[:-1], bool))

    def step(self, state: Any, block: Block) -> tuple[Any, Block]:
        """Advance the states of all layers."""
        x = inside_signal(block, self.start)
        inside = inside_signal(block._replace(values=jnp.ones((x.shape[-2], 1))), self.start)[:, 0] > 0
        valid = jnp.broadcast_to(inside.reshape((1,) * (x.ndim - 2) + (-1,)), x.shape[:-1])
        state, y = self._run(state, x, valid)
        return state, block._replace(values=y)

    def _run(self, carries: Any, x: Array, valid: Array) -> tuple[Any, Array]:
        new = []
        for layer, carry in enumerate(carries):
            carry, x = self.layer._direction(x, valid, f"l{layer}", carry)
            new.append(carry)
        return new, x if self.layer.path is None else checkpoint_name(x, self.layer.path)

    def end(self, remaining: Any) -> Any:
        """As many positions remain."""
        return remaining


@ft.cache
def _with_fields(cls: type[_Recurrent], gates: int, num_layers: int, bidirectional: bool) -> type[_Recurrent]:
    """The subclass of `cls` whose fields are the weights of `num_layers` layers."""
    names = [name for name, _ in LSTMShape(1, 1, num_layers, bidirectional, 0.0, gates).weights()]
    namespace = {
        "_generated": True,
        "__module__": cls.__module__,
        "__doc__": cls.__doc__,
        "__annotations__": dict.fromkeys(names, Array),
    }
    return types.new_class(cls.__name__, (cls,), exec_body=lambda body: body.update(namespace))


def _declared_class(layer: _Recurrent) -> type[_Recurrent]:
    """The class of `layer`; if that class is generated, its declared base class."""
    cls = type(layer)
    return cls.__bases__[0] if "_generated" in vars(cls) else cls


def _without_weights(cls: type[_Recurrent], gates: int, num_layers: int, bidirectional: bool) -> _Recurrent:
    """An instance without attributes, which pickle and copy then set."""
    return object.__new__(_with_fields(cls, gates, num_layers, bidirectional))

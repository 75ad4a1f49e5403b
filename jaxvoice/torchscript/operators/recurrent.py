"""Recurrent layers and cells, on padded batches."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax, numpy as jnp
from jaxtyping import Array

from jaxvoice.torchscript.operators.linear import linear
from jaxvoice.torchscript.operators.registry import arrays_of, on_tensors, register_operator, tensors_of
from jaxvoice.torchscript.operators.sequences import known_sizes, places_of
from jaxvoice.torchscript.tensors import Refused, Tensor

Cell = Callable[[Any, Array, Array, Array | None], Any]


def _lstm_cell(state: tuple[Array, Array], inputs: Array, w_hh: Array, b_hh: Array | None) -> tuple[Array, Array]:
    hidden, cell = state
    i, f, g, o = jnp.split(inputs + linear(hidden, w_hh, b_hh), 4, -1)
    cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(cell), cell


def _gru_cell(state: tuple[Array], inputs: Array, w_hh: Array, b_hh: Array | None) -> tuple[Array]:
    (hidden,) = state
    r_in, z_in, n_in = jnp.split(inputs, 3, -1)
    r_hid, z_hid, n_hid = jnp.split(linear(hidden, w_hh, b_hh), 3, -1)
    update = jax.nn.sigmoid(z_in + z_hid)
    new = jnp.tanh(n_in + jax.nn.sigmoid(r_in + r_hid) * n_hid)
    return (new + update * (hidden - new),)


def _plain_cell(activation: Callable[[Array], Array]) -> Cell:
    def cell(state: tuple[Array], inputs: Array, w_hh: Array, b_hh: Array | None) -> tuple[Array]:
        return (activation(inputs + linear(state[0], w_hh, b_hh)),)

    return cell


_CELLS: dict[str, Cell] = {
    "lstm": _lstm_cell,
    "gru": _gru_cell,
    "rnn_tanh": _plain_cell(jnp.tanh),
    "rnn_relu": _plain_cell(jax.nn.relu),
}


def _direction(
    cell: Cell, x: Array, state: Any, weights: list[Any], reverse: bool, counts: Array | None
) -> tuple[Array, Any]:
    """One layer in one direction over `(time, batch, features)`; the state stays where a step does not count."""
    w_ih, w_hh, b_ih, b_hh, w_hr = weights

    def step(state: Any, inputs: tuple[Array, Array | None]) -> tuple[Any, Array]:
        new = cell(state, inputs[0], w_hh, b_hh)
        if w_hr is not None:
            new = (jnp.matmul(new[0], w_hr.T), *new[1:])
        if inputs[1] is not None:
            here = inputs[1][:, None]
            new = tuple(jnp.where(here, a, b) for a, b in zip(new, state, strict=True))
        return new, new[0]

    state, outputs = lax.scan(step, state, (linear(x, w_ih, b_ih), counts), reverse=reverse)
    return outputs, state


def _layers(
    kind: str,
    x: Array,
    states: list[Array],
    params: list[Array],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
    counts: Array | None = None,
) -> tuple[Array, ...]:
    if train and dropout:
        raise Refused("dropout in training mode; save the archive after eval()")
    x = x.swapaxes(0, 1) if batch_first else x
    directions = 2 if bidirectional else 1
    each = len(params) // (num_layers * directions)
    projected = each - 2 - 2 * has_biases
    ends: list[Any] = []
    for layer in range(num_layers):
        outputs = []
        for direction in range(directions):
            index = layer * directions + direction
            given = params[index * each : (index + 1) * each]
            biases = given[2:4] if has_biases else [None, None]
            weights = [*given[:2], *biases, given[-1] if projected else None]
            y, end = _direction(_CELLS[kind], x, tuple(s[index] for s in states), weights, direction == 1, counts)
            outputs.append(y)
            ends.append(end)
        x = jnp.concatenate(outputs, -1) if directions == 2 else outputs[0]
    finals = [jnp.stack([end[i] for end in ends]) for i in range(len(states))]
    return (x.swapaxes(0, 1) if batch_first else x, *finals)


def _register(kind: str) -> None:
    @on_tensors(f"torch.{kind}")
    def recurrent(x: Tensor, *args: Any) -> tuple[Tensor, ...]:
        """Layers in one or two directions: outputs, then the last states; of padded batches or of packed steps."""
        if isinstance(args[2], bool):
            states, params, *options = arrays_of(list(args))
            return tensors_of(_layers(kind, x.values, _listed(states), params, *options))
        sizes = known_sizes(args[0], "lengths")
        places = places_of(sizes)
        counts = np.arange(sizes[0])[None] < sizes[:, None]
        padded = jnp.zeros((*counts.shape, x.shape[-1]), x.dtype).at[places].set(x.values)
        states, params, *options = arrays_of(list(args[1:]))
        has_biases, layers, dropout, train, bidirectional = options
        y, *ends = _layers(
            kind, padded, _listed(states), params, has_biases, layers, dropout, train, bidirectional, False,
            jnp.asarray(counts),
        )  # fmt: skip
        return tensors_of((y[places], *ends))


def _listed(states: Any) -> list[Array]:
    return states if isinstance(states, list) else [states]


for _kind in _CELLS:
    _register(_kind)


@register_operator("torch.lstm_cell")
def lstm_cell(
    x: Array, hx: list[Array], w_ih: Array, w_hh: Array, b_ih: Array | None = None, b_hh: Array | None = None
) -> tuple[Array, Array]:
    """One step of an LSTM."""
    return _lstm_cell((hx[0], hx[1]), linear(x, w_ih, b_ih), w_hh, b_hh)


def _register_cell(kind: str) -> None:
    @register_operator(f"torch.{kind}_cell")
    def cell(
        x: Array, hx: Array, w_ih: Array, w_hh: Array, b_ih: Array | None = None, b_hh: Array | None = None
    ) -> Array:
        """One step of a recurrent layer."""
        return _CELLS[kind]((hx,), linear(x, w_ih, b_ih), w_hh, b_hh)[0]


for _kind in ("gru", "rnn_tanh", "rnn_relu"):
    _register_cell(_kind)

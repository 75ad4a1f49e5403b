"""Recurrent layers and cells, on padded batches."""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax, numpy as jnp
from jaxtyping import Array

from jaxvoice.weights.torchscript.operators.registry import register_operator
from jaxvoice.weights.torchscript.tensors import Refused

Cell = Callable[[Any, Array, Array, Array | None], Any]


def _linear(x: Array, weight: Array, bias: Array | None) -> Array:
    y = jnp.matmul(x, weight.T)
    return y if bias is None else y + bias.reshape((1,) * (y.ndim - 1) + bias.shape)


def _lstm_cell(state: tuple[Array, Array], inputs: Array, w_hh: Array, b_hh: Array | None) -> tuple[Array, Array]:
    hidden, cell = state
    i, f, g, o = jnp.split(inputs + _linear(hidden, w_hh, b_hh), 4, -1)
    cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(cell), cell


def _gru_cell(state: tuple[Array], inputs: Array, w_hh: Array, b_hh: Array | None) -> tuple[Array]:
    (hidden,) = state
    r_in, z_in, n_in = jnp.split(inputs, 3, -1)
    r_hid, z_hid, n_hid = jnp.split(_linear(hidden, w_hh, b_hh), 3, -1)
    update = jax.nn.sigmoid(z_in + z_hid)
    new = jnp.tanh(n_in + jax.nn.sigmoid(r_in + r_hid) * n_hid)
    return (new + update * (hidden - new),)


def _plain_cell(activation: Callable[[Array], Array]) -> Cell:
    def cell(state: tuple[Array], inputs: Array, w_hh: Array, b_hh: Array | None) -> tuple[Array]:
        return (activation(inputs + _linear(state[0], w_hh, b_hh)),)

    return cell


_CELLS: dict[str, Cell] = {
    "lstm": _lstm_cell,
    "gru": _gru_cell,
    "rnn_tanh": _plain_cell(jnp.tanh),
    "rnn_relu": _plain_cell(jax.nn.relu),
}


def _direction(cell: Cell, x: Array, state: Any, weights: list[Any], reverse: bool) -> tuple[Array, Any]:
    """One layer in one direction over `(time, batch, features)`."""
    w_ih, w_hh, b_ih, b_hh, w_hr = weights

    def step(state: Any, inputs: Array) -> tuple[Any, Array]:
        state = cell(state, inputs, w_hh, b_hh)
        if w_hr is not None:
            state = (jnp.matmul(state[0], w_hr.T), *state[1:])
        return state, state[0]

    state, outputs = lax.scan(step, state, _linear(x, w_ih, b_ih), reverse=reverse)
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
) -> tuple[Array, ...]:
    if train and dropout:
        raise Refused("dropout in training mode; save the archive after eval()")
    if x.ndim != 3 or not isinstance(has_biases, bool):
        raise Refused("recurrent layers on packed sequences; run them on padded ones")
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
            y, end = _direction(_CELLS[kind], x, tuple(s[index] for s in states), weights, direction == 1)
            outputs.append(y)
            ends.append(end)
        x = jnp.concatenate(outputs, -1) if directions == 2 else outputs[0]
    finals = [jnp.stack([end[i] for end in ends]) for i in range(len(states))]
    return (x.swapaxes(0, 1) if batch_first else x, *finals)


@register_operator("torch.lstm")
def lstm(x: Array, hx: Any, params: Any, *options: Any) -> tuple[Array, ...]:
    """LSTM of several layers and directions: outputs, last hidden states, last cell states."""
    if not isinstance(hx, list) or len(options) != 6:
        raise Refused("recurrent layers on packed sequences; run them on padded ones")
    return _layers("lstm", x, hx, params, *options)


def _register(kind: str) -> None:
    @register_operator(f"torch.{kind}")
    def layers(x: Array, hx: Any, params: Any, *options: Any) -> tuple[Array, ...]:
        """Recurrent layers in several directions: outputs, last hidden states."""
        if not isinstance(params, list) or len(options) != 6:
            raise Refused("recurrent layers on packed sequences; run them on padded ones")
        return _layers(kind, x, [hx], params, *options)


for _kind in ("gru", "rnn_tanh", "rnn_relu"):
    _register(_kind)


@register_operator("torch.lstm_cell")
def lstm_cell(
    x: Array, hx: list[Array], w_ih: Array, w_hh: Array, b_ih: Array | None = None, b_hh: Array | None = None
) -> tuple[Array, Array]:
    """One step of an LSTM."""
    return _lstm_cell((hx[0], hx[1]), _linear(x, w_ih, b_ih), w_hh, b_hh)


def _register_cell(kind: str) -> None:
    @register_operator(f"torch.{kind}_cell")
    def cell(
        x: Array, hx: Array, w_ih: Array, w_hh: Array, b_ih: Array | None = None, b_hh: Array | None = None
    ) -> Array:
        """One step of a recurrent layer."""
        return _CELLS[kind]((hx,), _linear(x, w_ih, b_ih), w_hh, b_hh)[0]


for _kind in ("gru", "rnn_tanh", "rnn_relu"):
    _register_cell(_kind)


@register_operator("torch._pack_padded_sequence", "torch._pad_packed_sequence")
def _pack(*args: Any) -> Array:
    raise Refused("recurrent layers on packed sequences; run them on padded ones")

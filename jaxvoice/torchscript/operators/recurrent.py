"""Recurrent layers and cells, on padded batches and packed sequences.

A packed sequence contains the steps of several sequences without padding, sorted by time. Its number of steps depends
on the lengths, which must be known.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax, numpy as jnp
from jaxtyping import Array

from jaxvoice.torchscript.dtypes import default_int
from jaxvoice.torchscript.operators.arithmetic import cast
from jaxvoice.torchscript.operators.attention import linear
from jaxvoice.torchscript.operators.elementwise import check_evaluation_mode
from jaxvoice.torchscript.operators.registry import on_tensors, register_operator, to_arrays, to_tensors
from jaxvoice.torchscript.tensors import OperatorError, Tensor

CellState = tuple[Array, ...]
Cell = Callable[[CellState, Array, Array, Array | None], CellState]


def _lstm(state: CellState, inputs: Array, w_hh: Array, b_hh: Array | None) -> CellState:
    hidden, cell = state
    i, f, g, o = jnp.split(inputs + linear(hidden, w_hh, b_hh), 4, -1)
    cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(cell), cell


def _gru(state: CellState, inputs: Array, w_hh: Array, b_hh: Array | None) -> CellState:
    (hidden,) = state
    r_in, z_in, n_in = jnp.split(inputs, 3, -1)
    r_hid, z_hid, n_hid = jnp.split(linear(hidden, w_hh, b_hh), 3, -1)
    update = jax.nn.sigmoid(z_in + z_hid)
    new = jnp.tanh(n_in + jax.nn.sigmoid(r_in + r_hid) * n_hid)
    return (new + update * (hidden - new),)


def _simple_cell(activation: Callable[[Array], Array]) -> Cell:
    def cell(state: CellState, inputs: Array, w_hh: Array, b_hh: Array | None) -> CellState:
        (hidden,) = state
        return (activation(inputs + linear(hidden, w_hh, b_hh)),)

    return cell


_CELLS: dict[str, Cell] = {
    "lstm": _lstm,
    "gru": _gru,
    "rnn_tanh": _simple_cell(jnp.tanh),
    "rnn_relu": _simple_cell(jax.nn.relu),
}


def _direction(
    cell: Cell, x: Array, state: CellState, weights: list[Any], reverse: bool, valid: Array | None
) -> tuple[Array, CellState]:
    """One layer in one direction over `(time, batch, features)`; invalid steps do not change the state."""
    w_ih, w_hh, b_ih, b_hh, w_hr = weights

    def step(state: CellState, inputs: tuple[Array, Array | None]) -> tuple[CellState, Array]:
        new = cell(state, inputs[0], w_hh, b_hh)
        if w_hr is not None:
            new = (jnp.matmul(new[0], w_hr.T), *new[1:])
        if inputs[1] is not None:
            is_valid = inputs[1][:, None]
            new = tuple(jnp.where(is_valid, a, b) for a, b in zip(new, state, strict=True))
        return new, new[0]

    state, outputs = lax.scan(step, state, (linear(x, w_ih, b_ih), valid), reverse=reverse)
    return outputs, state


def _layers(
    cell: Cell,
    x: Array,
    states: list[Array],
    params: list[Array],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool = False,
    valid: Array | None = None,
) -> tuple[Array, ...]:
    """Return the outputs of the last layer and the last states of all layers and directions."""
    check_evaluation_mode(train and dropout, "dropout in training mode")
    x = x.swapaxes(0, 1) if batch_first else x
    directions = 2 if bidirectional else 1
    per_direction = len(params) // (num_layers * directions)
    projected = per_direction - 2 - 2 * has_biases
    ends: list[CellState] = []
    for layer in range(num_layers):
        outputs = []
        for direction in range(directions):
            index = layer * directions + direction
            given = params[index * per_direction : (index + 1) * per_direction]
            biases = given[2:4] if has_biases else [None, None]
            weights = [*given[:2], *biases, given[-1] if projected else None]
            y, end = _direction(cell, x, tuple(s[index] for s in states), weights, direction == 1, valid)
            outputs.append(y)
            ends.append(end)
        x = jnp.concatenate(outputs, -1) if directions == 2 else outputs[0]
    finals = [jnp.stack([end[i] for end in ends]) for i in range(len(states))]
    return (x.swapaxes(0, 1) if batch_first else x, *finals)


def _register_layers(kind: str, cell: Cell) -> None:
    @on_tensors(f"torch.{kind}")
    def recurrent(x: Tensor, *args: Any) -> tuple[Tensor, ...]:
        """Run recurrent layers in one or two directions; returns outputs and last states."""
        if isinstance(args[2], bool):
            states, params, *options = to_arrays(list(args))
            return to_tensors(_layers(cell, x.values, _as_list(states), params, *options))
        # The first argument of the overload for packed sequences is their sizes.
        sizes = _known_lengths(args[0])
        indices = _packed_indices(sizes)
        valid = np.arange(sizes[0])[None] < sizes[:, None]
        padded = jnp.zeros((*valid.shape, x.shape[-1]), x.dtype).at[indices].set(x.values)
        states, params, *options = to_arrays(list(args[1:]))
        y, *ends = _layers(cell, padded, _as_list(states), params, *options, valid=jnp.asarray(valid))
        return to_tensors((y[indices], *ends))

    @register_operator(f"torch.{kind}_cell")
    def cell_step(
        x: Array, hx: Any, w_ih: Array, w_hh: Array, b_ih: Array | None = None, b_hh: Array | None = None
    ) -> Any:
        """One step of a layer."""
        state = cell(tuple(_as_list(hx)), linear(x, w_ih, b_ih), w_hh, b_hh)
        return state[0] if len(state) == 1 else state


def _as_list(states: Any) -> list[Array]:
    return states if isinstance(states, list) else [states]


for _kind, _cell in _CELLS.items():
    _register_layers(_kind, _cell)


# Packed sequences


def _known_lengths(lengths: Tensor) -> np.ndarray:
    if not lengths.known:
        raise OperatorError(
            "the lengths of packed sequences determine shapes; call the function without jax.jit, or pass the lengths "
            "as a NumPy array that is not traced"
        )
    return np.asarray(lengths.array).astype(np.int64)


def _packed_indices(batch_sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of time and row of every packed step."""
    times = np.repeat(np.arange(len(batch_sizes)), batch_sizes)
    rows = np.concatenate([np.arange(size) for size in batch_sizes]) if len(batch_sizes) else np.zeros(0, np.int64)
    return times.astype(np.int32), rows.astype(np.int32)


@on_tensors("torch._pack_padded_sequence")
def pack_padded_sequence(x: Tensor, lengths: Tensor, batch_first: bool) -> tuple[Tensor, Tensor]:
    """The valid steps of a padded batch sorted by decreasing length, and the number of valid steps at each time."""
    counts = _known_lengths(lengths)
    padded = x.values.swapaxes(0, 1) if batch_first else x.values
    if counts.shape != (padded.shape[1],) or not len(counts) or counts.min() < 1 or counts.max() > padded.shape[0]:
        raise ValueError(
            f"lengths {counts.tolist()} are not valid for a batch of {padded.shape[1]} with {padded.shape[0]} steps"
        )
    if np.any(np.diff(counts) > 0):
        raise ValueError(f"lengths {counts.tolist()} are not sorted in decreasing order")
    sizes = (counts[None] > np.arange(counts.max())[:, None]).sum(1)
    return Tensor(padded[_packed_indices(sizes)]), Tensor(sizes.astype(default_int()))


@on_tensors("torch._pad_packed_sequence")
def pad_packed_sequence(
    data: Tensor, batch_sizes: Tensor, batch_first: bool, padding_value: Any, total_length: int
) -> tuple[Tensor, Tensor]:
    """The padded batch of packed steps, and its lengths."""
    sizes = _known_lengths(batch_sizes)
    if 0 < total_length < len(sizes):
        raise ValueError(f"total_length {total_length} is shorter than sequences of {len(sizes)} steps")
    steps = total_length if total_length > 0 else len(sizes)
    shape = (steps, int(sizes[0]), *data.shape[1:])
    padded = jnp.full(shape, cast(padding_value, data.dtype)).at[_packed_indices(sizes)].set(data.values)
    lengths = (sizes[:, None] > np.arange(sizes[0])[None]).sum(0).astype(default_int())
    return Tensor(padded.swapaxes(0, 1) if batch_first else padded), Tensor(lengths)

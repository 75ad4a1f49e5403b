"""The LSTM and the GRU against those of torch on packed sequences, with the same weights."""

import copy
import pickle

import equinox as eqx
import jax
import numpy as np
import pytest
import torch
from jax import numpy as jnp
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import jaxvoice.nn
from jaxvoice.errors import ConfigError, ShapeError
from jaxvoice.nn import GRU, LSTM
from jaxvoice.training.training_state import to_compute
from jaxvoice.weights.array_names import load_state, named_arrays

COUNT = np.array([11, 4, 1], np.int32)
VALID = np.arange(11) < COUNT[:, None]


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def pair(
    inputs: int, hidden: int, layers: int, bidirectional: bool, dropout: float = 0.0
) -> tuple[LSTM, torch.nn.LSTM]:
    """The same network in jaxvoice and in torch."""
    torch.manual_seed(0)
    theirs = torch.nn.LSTM(inputs, hidden, layers, batch_first=True, bidirectional=bidirectional)
    skeleton = eqx.filter_eval_shape(
        lambda: LSTM(
            inputs, hidden, num_layers=layers, bidirectional=bidirectional, dropout=dropout, key=jax.random.key(0)
        )
    )
    return load_state(skeleton, {name: array.numpy() for name, array in theirs.state_dict().items()}), theirs


@eqx.filter_jit
def call(lstm, x, mask=None, key=None, inference=False):
    return lstm(x, mask=mask, key=key, inference=inference)


def check_packed_sequences(ours, theirs, inputs: int) -> None:
    """Outputs and gradients of padded sequences equal those of torch's packed sequences."""
    x = draw(3, 11, inputs)
    torch_x = torch.tensor(x, requires_grad=True)
    packed = pack_padded_sequence(torch_x, torch.tensor(COUNT), batch_first=True)
    expected, _ = pad_packed_sequence(theirs(packed)[0], batch_first=True)
    cotangent = draw(*expected.shape, seed=1)
    expected.backward(torch.tensor(cotangent))

    @eqx.filter_jit
    @eqx.filter_grad(has_aux=True)
    def gradients(both):
        layer, x = both
        y = layer(x, mask=jnp.asarray(VALID))
        return jnp.sum(y * cotangent), y

    # Values in padding must not change the outputs.
    (of_layer, of_x), y = gradients((ours, jnp.where(VALID[..., None], x, 1e4)))
    np.testing.assert_allclose(y, expected.detach(), atol=1e-5)
    np.testing.assert_allclose(of_x, torch_x.grad, atol=1e-5)
    for name, parameter in theirs.named_parameters():
        scale = max(1.0, float(parameter.grad.abs().max()))
        np.testing.assert_allclose(named_arrays(of_layer)[name], parameter.grad, atol=1e-5 * scale, err_msg=name)


@pytest.mark.parametrize(("hidden", "layers", "bidirectional"), [(256, 3, True), (16, 2, False)])
def test_padded_batches_equal_torchs_packed_sequences(hidden, layers, bidirectional):
    check_packed_sequences(*pair(24, hidden, layers, bidirectional), 24)


def test_without_the_mask_the_backward_direction_starts_in_padding():
    ours, _ = pair(8, 8, 1, True)
    x = jnp.asarray(draw(3, 11, 8))
    masked, unmasked = (np.asarray(call(ours, x, mask)) for mask in (jnp.asarray(VALID), None))
    np.testing.assert_allclose(masked[..., :8][VALID], unmasked[..., :8][VALID], atol=1e-6)
    assert np.abs(masked[1, :4, 8:] - unmasked[1, :4, 8:]).max() > 1e-2
    assert not masked[~VALID].any()


def test_one_sequence_without_a_batch_axis():
    ours, theirs = pair(8, 8, 1, True)
    x = draw(5, 8)
    np.testing.assert_allclose(call(ours, jnp.asarray(x)), theirs(torch.tensor(x))[0].detach(), atol=1e-6)


def test_dropout_is_between_layers_only(key):
    x = jnp.asarray(draw(2, 11, 8))
    ours, theirs = pair(8, 8, 2, True, dropout=0.5)
    still = call(ours, x, inference=True)
    np.testing.assert_allclose(still, theirs(torch.tensor(np.asarray(x)))[0].detach(), atol=1e-6)
    assert np.abs(call(ours, x, key=key) - still).max() > 1e-2
    assert np.all(np.asarray(call(ours, x, key=key)) != 0), "the output itself is not dropped"
    single, _ = pair(8, 8, 1, True, dropout=0.5)
    np.testing.assert_array_equal(call(single, x, key=key), call(single, x, inference=True))
    with pytest.raises(ConfigError, match="Pass key="):
        ours(x)


def test_bfloat16_is_close_to_float32():
    ours, _ = pair(8, 32, 1, True)
    x = jnp.asarray(draw(2, 11, 8))
    y = call(*to_compute((ours, x), "bfloat16"))
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(jnp.float32), call(ours, x), atol=0.02)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_float64_is_computed_in_float64(kind, key):
    ours, theirs = getattr(jaxvoice.nn, kind)(6, 8, num_layers=2, key=key), getattr(torch.nn, kind)(6, 8, 2)
    theirs.load_state_dict({name: torch.tensor(np.asarray(array)) for name, array in named_arrays(ours).items()})
    x = draw(11, 6).astype(np.float64)
    with jax.enable_x64(True):
        y = call(ours, jnp.asarray(x))
    assert y.dtype == np.float64
    np.testing.assert_allclose(y, theirs.double()(torch.tensor(x))[0].detach(), atol=1e-12)


def test_bias_gradients_of_bfloat16_are_summed_in_float32():
    """If gates hardly change, the gradients at thousands of positions are nearly equal numbers."""
    ours, _ = pair(2, 2, 1, True)
    ours = jax.tree.map(lambda leaf: 1e-3 * leaf, ours)
    x, upstream = draw(400, 12, 2), np.ones((400, 12, 4), np.float32)

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(lstm, x, precision):
        low, low_x = to_compute((lstm, x), precision)
        return jnp.sum(low(low_x).astype(jnp.float32) * upstream)

    exact, found = (named_arrays(gradient(ours, jnp.asarray(x), precision)) for precision in ("float32", "bfloat16"))
    for name in ("bias_ih_l0", "bias_hh_l0_reverse"):
        assert np.linalg.norm(found[name] - exact[name]) < 0.01 * np.linalg.norm(exact[name])


def test_an_lstm_is_an_immutable_pytree_with_torchs_initial_distribution(key):
    lstm = eqx.filter_jit(lambda key: LSTM(6, 16, bidirectional=True, key=key))(key)
    arrays = named_arrays(lstm)
    assert list(arrays) == list(torch.nn.LSTM(6, 16, bidirectional=True).state_dict())
    assert all(0.75 / 4 < np.abs(array).max() <= 1 / 4 for array in arrays.values())
    zeroed = eqx.tree_at(lambda one: one.bias_hh_l0_reverse, lstm, jnp.zeros(64))
    assert not np.any(zeroed.bias_hh_l0_reverse) and np.any(lstm.bias_hh_l0_reverse)
    with pytest.raises(AttributeError, match="cannot assign"):
        lstm.weight_ih_l0 = jnp.zeros((64, 6))


def test_wrong_sizes_raise_an_error(key):
    with pytest.raises(ConfigError, match="num_layers is 0;"):
        LSTM(3, 4, num_layers=0, key=key)
    with pytest.raises(ShapeError, match=r"is \(2, 5, 7\); it should be \(\*batch, time, 8\), with channels last"):
        pair(8, 8, 1, True)[0](jnp.zeros((2, 5, 7)))


class Renamed(LSTM):
    """A subclass without fields or methods of its own."""


class Scaled(LSTM):
    """A subclass with a field and arguments of its own."""

    scale: jax.Array

    def __init__(self, scale: float, *, key: jax.Array):
        super().__init__(3, 4, num_layers=2, bidirectional=True, key=key)
        self.scale = jnp.asarray(scale)


@pytest.mark.parametrize(
    "make",
    [
        lambda key: LSTM(3, 4, num_layers=2, bidirectional=True, key=key),
        lambda key: Renamed(3, 4, bidirectional=True, key=key),
        lambda key: Scaled(2.0, key=key),
    ],
)
def test_an_lstm_and_its_subclasses_can_be_pickled_and_copied(make, key):
    lstm, x = make(key), jnp.asarray(draw(5, 3))
    for other in (pickle.loads(pickle.dumps(lstm)), copy.deepcopy(lstm), copy.copy(lstm)):
        assert type(other) is type(lstm) and eqx.tree_equal(other, lstm)
        np.testing.assert_array_equal(call(other, x), call(lstm, x))
        with pytest.raises(AttributeError, match="cannot assign"):
            other.weight_ih_l0 = jnp.zeros((16, 3))


def test_subclasses_compute_what_the_lstm_computes(key):
    x = jnp.asarray(draw(5, 3))
    plain = LSTM(3, 4, num_layers=2, bidirectional=True, key=key)
    scaled = Scaled(2.0, key=key)
    assert isinstance(scaled, Scaled) and float(scaled.scale) == 2
    np.testing.assert_array_equal(call(scaled, x), call(plain, x))
    np.testing.assert_array_equal(call(Renamed(3, 4, num_layers=2, bidirectional=True, key=key), x), call(plain, x))


@pytest.mark.parametrize(("hidden", "layers", "bidirectional"), [(24, 2, False), (16, 2, True)])
def test_gru_equals_torchs_packed_sequences(hidden, layers, bidirectional, key):
    torch.manual_seed(0)
    theirs = torch.nn.GRU(8, hidden, layers, batch_first=True, bidirectional=bidirectional)
    skeleton = eqx.filter_eval_shape(lambda: GRU(8, hidden, num_layers=layers, bidirectional=bidirectional, key=key))
    ours = load_state(skeleton, {name: array.numpy() for name, array in theirs.state_dict().items()})
    check_packed_sequences(ours, theirs, 8)
    copied = copy.deepcopy(ours)
    assert type(copied) is type(ours) and eqx.tree_equal(copied, ours)

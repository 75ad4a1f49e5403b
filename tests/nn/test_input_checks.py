"""Errors for invalid inputs and options; batches of size 0 are valid."""

import math

import equinox as eqx
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxvoice.errors import ConfigError, ShapeError
from jaxvoice.nn import (
    LSTM,
    ColumnConv,
    Conv1d,
    ConvTranspose1d,
    GroupNorm,
    LayerNorm,
    Linear,
    MaskedBatchNorm,
    MultiHeadAttention,
    SpectralConv1d,
    TransformerLayer,
    average_pool1d,
    dropout,
    freeze,
    length_mask,
    masked,
)

KEY = jax.random.key(0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: SpectralConv1d(3, 4, 3, groups=2, key=KEY),
            "in_channels is 3 and out_channels is 4; they should be multiples of groups, which is 2",
        ),
        *[
            (
                lambda layer=layer, name=name: layer(4, 4, **{"kernel_size": 3, name: 0}, key=KEY),
                f"{name} is 0; it should be at least 1",
            )
            for layer, names in (
                (Conv1d, ("stride", "groups", "dilation", "kernel_size")),
                (ConvTranspose1d, ("stride", "groups", "kernel_size")),
                (SpectralConv1d, ("stride", "groups", "kernel_size")),
                (ColumnConv, ("stride", "kernel_size")),
            )
            for name in names
        ],
        *[
            (lambda layer=layer: layer(4, 4, 3, padding=-1, key=KEY), "padding is -1; it should be at least 0")
            for layer in (Conv1d, ConvTranspose1d, SpectralConv1d, ColumnConv)
        ],
        (lambda: ConvTranspose1d(4, 4, 3, stride=2, output_padding=-1, key=KEY), "output_padding is -1;"),
        (lambda: Conv1d(0, 4, 3, key=KEY), "in_channels is 0;"),
        (lambda: Linear(3, 0, key=KEY), "out_features is 0;"),
        (lambda: LayerNorm(0), "channels is 0;"),
        (lambda: GroupNorm(3, 4), "multiples of groups, which is 3"),
        (lambda: MaskedBatchNorm(0), "channels is 0;"),
        (lambda: MultiHeadAttention(4, 2, dropout=1.0, key=KEY), r"dropout is 1\.0; it should be in \[0, 1\)"),
        (lambda: TransformerLayer(4, 2, 8, dropout=-0.1, key=KEY), r"dropout is -0\.1;"),
        (
            lambda: TransformerLayer(4, 2, 8, norm="foo", key=KEY),
            "norm is 'foo'; it should be one of 'post', 'pre', 'none'",
        ),
        (lambda: LSTM(3, 4, num_layers=2, dropout=1.5, key=KEY), r"dropout is 1\.5;"),
        (lambda: dropout(jnp.ones(3), 1.0, inference=True, key=None), r"dropout is 1\.0;"),
        (lambda: average_pool1d(jnp.ones((9, 2)), window=2, stride=0, padding=0), "stride is 0;"),
        (lambda: average_pool1d(jnp.ones((9, 2)), window=2, stride=1, padding=-1), "padding is -1;"),
    ],
)
def test_invalid_options_raise_an_error(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


SHORTEST = {
    "convolution": (Conv1d(4, 4, 7, padding=1, key=KEY), 5),
    "dilated": (Conv1d(4, 4, 3, dilation=4, key=KEY), 9),
    "padded": (Conv1d(4, 4, 3, padding=4, key=KEY), 1),
    "grouped": (Conv1d(4, 4, 5, groups=2, padding=1, stride=3, key=KEY), 3),
    "column": (ColumnConv(4, 4, 5, stride=3, padding=1, key=KEY), 3),
    "transposed": (ConvTranspose1d(4, 4, 2, stride=2, padding=5, key=KEY), 6),
    "upsampling": (ConvTranspose1d(4, 4, 4, stride=2, padding=1, key=KEY), 1),
    "frozen": (freeze(Conv1d(4, 4, 7, padding=1, key=KEY)), 5),
    "frozen transposed": (freeze(ConvTranspose1d(4, 4, 2, stride=2, padding=5, key=KEY)), 6),
    "fast": (freeze(Conv1d(128, 128, 5, padding=1, key=KEY)), 3),
    "pooling": (lambda x: average_pool1d(x, window=4, stride=2, padding=1), 2),
}


@pytest.mark.parametrize("name", SHORTEST)
def test_error_for_too_short_input_states_the_shortest_length(name):
    layer, least = SHORTEST[name]
    channels = 128 if name == "fast" else 4
    assert layer(jnp.ones((2, least, channels))).shape[1] >= 1
    for time in (least - 1, 0):
        with pytest.raises(ShapeError, match=rf"length of the input is {time}; it should be at least {least} for"):
            layer(jnp.ones((2, time, channels)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LayerNorm(3)(jnp.ones((2, 1))), r"is \(2, 1\); it should be \(\*batch, 3\), with channels last"),
        (lambda: LayerNorm(1)(jnp.ones((2, 5))), r"is \(2, 5\); it should be \(\*batch, 1\), with channels last"),
        (
            lambda: Linear(3, 4, key=KEY)(jnp.ones((2, 5))),
            r"is \(2, 5\); it should be \(\*batch, 3\), with channels last",
        ),
        (lambda: Linear(3, 4, key=KEY)(jnp.ones(())), r"is \(\); it should be \(\*batch, 3\), with channels last"),
        (lambda: LSTM(3, 4, key=KEY)(jnp.ones((2, 5, 3)), mask=jnp.ones(5, bool)), r"is \(5,\); it should be \(2, 5\)"),
        (
            lambda: LSTM(3, 4, key=KEY)(jnp.ones((2, 5, 3)), mask=jnp.ones((1, 5), bool)),
            r"is \(1, 5\); it should be \(2, 5\)",
        ),
        (
            lambda: MultiHeadAttention(4, 2, key=KEY)(jnp.ones((2, 5, 4)), mask=jnp.ones((5, 2), bool)),
            r"mask is \(5, 2\); it should be \(2, 5\)",
        ),
        (
            lambda: MultiHeadAttention(4, 2, key=KEY)(jnp.ones((2, 5, 4)), attention_mask=jnp.ones((5, 5), bool)),
            r"attention_mask is \(5, 5\); it should be \(2, 5, 5\)",
        ),
        (
            lambda: MaskedBatchNorm(4)(
                jnp.ones((2, 5, 4)), MaskedBatchNorm(4).init_state(), mask=jnp.ones((2, 1), bool)
            ),
            r"mask is \(2, 1\); it should be \(2, 5\)",
        ),
        (lambda: masked(jnp.ones((2, 5, 4)), jnp.ones((2, 4), bool)), r"is \(2, 4\); it should be \(2, 5\)"),
        (
            lambda: length_mask(jnp.asarray([1, 2]), 5, batch=(3,)),
            r"lengths is \(2,\); it should be \(\) or the batch shape \(3,\)",
        ),
        (
            lambda: length_mask(jnp.asarray([1, 2]), 5, batch=()),
            r"lengths is \(2,\); it should be \(\) or the batch shape \(\)",
        ),
        (
            lambda: average_pool1d(jnp.ones(4), window=2, stride=1, padding=0),
            r"is \(4,\); it should be \(\*batch, time, channels\)",
        ),
    ],
)
def test_arrays_of_other_shapes_raise_an_error(call, message):
    with pytest.raises(ShapeError, match=message):
        call()


def test_error_for_a_state_with_batch_axes_that_the_input_lacks():
    layer = SpectralConv1d(4, 4, 3, key=KEY)
    pair = jax.tree.map(lambda vector: jnp.stack([vector, vector]), layer.init_state(key=KEY))
    assert layer(jnp.ones((3, 2, 9, 4)), pair)[0].shape == (3, 2, 7, 4)
    for shape in ((9, 4), (3, 9, 4)):
        with pytest.raises(ShapeError, match=r"batch axes of state are \(2,\); they should be the last batch axes"):
            layer(jnp.ones(shape), pair)


def test_length_mask_accepts_numbers_and_broadcasts_to_a_batch():
    np.testing.assert_array_equal(length_mask(2, 3), [True, True, False])
    np.testing.assert_array_equal(length_mask(2, 3, batch=(2,)), [[True, True, False]] * 2)
    np.testing.assert_array_equal(length_mask(jnp.asarray([[1], [3]]), 3, batch=(2, 1))[:, 0], [[1, 0, 0], [1, 1, 1]])


SPECTRAL = SpectralConv1d(4, 4, 3, groups=2, padding=1, key=KEY)
EMPTY = {
    "Conv1d": Conv1d(4, 6, 3, padding=1, key=KEY),
    "Conv1d dilated": Conv1d(4, 6, 3, padding=2, dilation=2, groups=2, key=KEY),
    "Conv1d grouped": Conv1d(4, 6, 3, stride=2, padding=1, groups=2, weight_norm=True, key=KEY),
    "ConvTranspose1d": ConvTranspose1d(4, 6, 4, stride=2, padding=1, key=KEY),
    "ColumnConv": ColumnConv(4, 6, 3, padding=1, weight_norm=True, key=KEY),
    "SpectralConv1d": lambda x: SPECTRAL(x, SPECTRAL.init_state(key=KEY))[0],
    "frozen": freeze(Conv1d(4, 6, 3, padding=1, key=KEY)),
    "frozen transposed": freeze(ConvTranspose1d(4, 6, 4, stride=2, groups=2, key=KEY)),
    "average_pool1d": lambda x: average_pool1d(x, window=4, stride=2, padding=1),
    "Linear": Linear(4, 6, key=KEY),
    "LayerNorm": LayerNorm(4),
    "GroupNorm": GroupNorm(2, 4),
    "MaskedBatchNorm": lambda x: MaskedBatchNorm(4)(x, MaskedBatchNorm(4).init_state())[0],
    "LSTM": lambda x: LSTM(4, 3, num_layers=2, bidirectional=True, dropout=0.5, key=KEY)(x, key=KEY),
    "TransformerLayer": lambda x: TransformerLayer(4, 2, 6, dropout=0.5, key=KEY)(
        x, mask=jnp.ones(x.shape[:-1], bool), key=KEY
    ),
}


@pytest.mark.parametrize("name", EMPTY)
def test_a_batch_of_size_0_has_a_result_of_size_0(name):
    layer = EMPTY[name]
    call = eqx.filter_jit(lambda x: layer(x))
    full = call(jnp.ones((2, 3, 8, 4)))
    for batch in ((0,), (0, 3)):
        assert call(jnp.ones((*batch, 8, 4))).shape == (*batch, *full.shape[2:])
    gradient = eqx.filter_jit(jax.grad(lambda x: jnp.sum(layer(x))))(jnp.ones((0, 8, 4)))
    assert gradient.shape == (0, 8, 4)


def test_winograd_convolutions_accept_a_batch_of_size_0():
    frozen = freeze(Conv1d(128, 128, 5, padding=2, key=KEY))
    assert frozen(jnp.ones((0, 9, 128))).shape == (0, 9, 128)


@pytest.mark.parametrize("groups", [1, 2])
def test_weight_gradients_of_a_batch_of_size_0_are_zero(groups):
    layer = Conv1d(4, 6, 3, stride=2, padding=1, groups=groups, key=KEY)
    gradient = eqx.filter_grad(lambda layer: jnp.sum(layer(jnp.ones((0, 9, 4)))))(layer)
    assert gradient.weight.shape == layer.weight.shape and not np.any(gradient.weight)
    assert math.prod(gradient.bias.shape) == 6 and not np.any(gradient.bias)

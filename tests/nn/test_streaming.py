"""Streaming forms of layers against torch and against the layers on the whole signal."""

import equinox as eqx
import jax
import numpy as np
import pytest
import torch
from jax import lax, numpy as jnp

from jaxvoice import dissect, nn
from jaxvoice.errors import ConfigError, ShapeError

KEY = jax.random.key(0)


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def with_biases(network):
    """All arrays redrawn by numpy, so that biases and running statistics are not zero."""
    leaves, tree = jax.tree.flatten(network)
    rng = np.random.default_rng(7)
    return tree.unflatten(
        [
            jnp.asarray(np.abs(rng.normal(0.5, 0.2, leaf.shape)), leaf.dtype)
            if eqx.is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.floating)
            else leaf
            for leaf in leaves
        ]
    )


step = eqx.filter_jit(lambda stream, state, block: stream.step(state, block))
finish = eqx.filter_jit(lambda stream, state: stream.finish(state))


def run(stream: nn.Stream, x: np.ndarray, lengths: list[int], *, key=None) -> np.ndarray:
    """The output of `stream` for `x`, divided into blocks of `lengths`."""
    state = stream.init_state(batch=x.shape[:-2], key=key)
    outputs = []
    for block in np.split(x, np.cumsum(lengths)[:-1], -2):
        state, y = step(stream, state, block)
        outputs.append(y)
    return np.concatenate([*outputs, finish(stream, state)], -2)


def check(network, offline, channels: int, *, length: int, blocks: list[list[int]], input_delay: int | None = None):
    """Assert that streams equal `offline` on the delayed input, from the first to the last position."""
    stream = nn.Stream(network, channels, input_delay=input_delay)
    x = draw(2, length, channels)
    expected = np.asarray(offline(jnp.pad(x, ((0, 0), (stream.input_delay, 0), (0, 0)))))
    for lengths in blocks:
        assert sum(lengths) == length
        y = run(stream, x, lengths)
        delay = stream.output_delay
        assert not np.any(y[:, :delay])
        # A transposed convolution with gaps between its outputs ends within a block.
        extra = max(0, length * stream.ratio - delay - expected.shape[1])
        assert y.shape[1] == delay + expected.shape[1] + extra
        y = y[:, : delay + expected.shape[1]]
        np.testing.assert_allclose(y[:, delay:], expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))
    return stream


def conv(inputs, outputs, taps, **options):
    return with_biases(nn.Conv1d(inputs, outputs, taps, key=KEY, **options))


LAYERS = {
    "conv": lambda: conv(3, 4, 5, padding=2),
    "pointwise": lambda: conv(3, 4, 1),
    "even": lambda: conv(3, 4, 4, padding=(1, 2)),
    "valid": lambda: conv(3, 4, 4),
    "padded": lambda: conv(3, 4, 3, padding=(5, 4)),
    "dilated": lambda: conv(3, 4, 3, padding=(9, 0), dilation=4),
    "grouped": lambda: conv(3, 6, 3, padding=1, groups=3),
    "weight_norm": lambda: conv(3, 4, 3, padding=1, weight_norm=True),
    "strided": lambda: conv(3, 4, 8, padding=(3, 4), stride=4),
    "short": lambda: conv(3, 4, 2, padding=(0, 1), stride=4),
    "one_tap": lambda: conv(3, 4, 1, stride=3),
    "up": lambda: with_biases(nn.ConvTranspose1d(3, 4, 8, stride=4, padding=2, key=KEY)),
    "up_uneven": lambda: with_biases(
        nn.ConvTranspose1d(3, 4, 7, stride=3, padding=2, output_padding=1, weight_norm=True, key=KEY)
    ),
    "up_short": lambda: with_biases(nn.ConvTranspose1d(3, 4, 2, stride=3, key=KEY)),
    "up_grouped": lambda: with_biases(nn.ConvTranspose1d(3, 6, 11, stride=2, padding=5, groups=3, key=KEY)),
    "repeated": lambda: with_biases(nn.UpsampledConv1d(3, 4, 3, key=KEY)),
    "repeated_wide": lambda: with_biases(nn.UpsampledConv1d(3, 4, 7, key=KEY)),
    "repeated_frozen": lambda: nn.freeze(with_biases(nn.UpsampledConv1d(3, 4, 3, key=KEY))),
    "linear": lambda: with_biases(nn.Linear(3, 4, key=KEY)),
    "layer_norm": lambda: with_biases(nn.LayerNorm(3)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer_equals_the_offline_layer(name):
    layer = LAYERS[name]()
    blocks = [[12] * 3, [24, 12]]
    for delay in (0, 5):
        check(layer, eqx.filter_jit(layer), 3, length=36, blocks=blocks, input_delay=delay)


def test_padding_that_is_longer_than_the_window_needs_no_delay():
    """The outputs of such a layer are known before the inputs of their block."""
    layers = [conv(3, 4, 3, padding=(7, 0), stride=2), conv(4, 2, 1)]
    stream = check(layers, lambda x: layers[1](layers[0](x)), 3, length=12, blocks=[[2] * 6, [8, 4]])
    assert (stream.input_delay, stream.output_delay) == (0, 0)


@pytest.mark.parametrize("taps", [3, 5])
@pytest.mark.parametrize("channels", [4, 256])
def test_frozen_layers_equal_the_offline_layers(taps, channels):
    layers = nn.freeze(
        [
            conv(channels, channels, taps, padding=taps // 2, dilation=2, weight_norm=True),
            with_biases(nn.ConvTranspose1d(channels, 2, 8, stride=4, padding=2, key=KEY)),
        ]
    )
    check(layers, lambda x: layers[1](layers[0](x)), channels, length=12, blocks=[[3, 9], [1] * 12])


@pytest.mark.parametrize("count", [0, 1, 5, 8])
def test_the_end_of_a_last_block_equals_the_offline_end(count):
    """The signal ends inside the last block of 8 positions, after `count` of them."""
    layers = [conv(2, 3, 7, padding=3), with_biases(nn.ConvTranspose1d(3, 2, 8, stride=4, padding=2, key=KEY))]
    layers.append(conv(2, 2, 3, padding=1))
    stream, x = nn.Stream(layers, 2), draw(1, 8 + count, 2)
    expected = layers[2](layers[1](layers[0](jnp.asarray(x))))
    state, y = step(stream, stream.init_state(batch=(1,)), x[:, :8])
    block = np.pad(x[:, 8:], ((0, 0), (0, 8 - count), (0, 0)), constant_values=7)
    rest = eqx.filter_jit(lambda stream, *args: stream.finish_block(*args))(stream, state, block, count)
    found = np.concatenate([y, rest[:, : stream.rest(count)]], 1)[:, stream.output_delay :]
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_convolutions_equal_torch():
    """A network of strided and transposed convolutions with biases, whose delays are computed by hand."""
    layers = [
        conv(2, 4, 7, padding=3),
        conv(4, 4, 8, stride=4, padding=(3, 4)),
        conv(4, 3, 3, padding=1),
        with_biases(nn.ConvTranspose1d(3, 2, 8, stride=4, padding=2, key=KEY)),
        conv(2, 2, 3, padding=1),
    ]
    x = draw(1, 40, 2)

    def reference(delay: int) -> np.ndarray:
        y = torch.nn.functional.pad(torch.tensor(x).swapaxes(1, 2), (delay, 0))
        for layer in layers:
            weight, bias = torch.tensor(np.asarray(layer.weight)), torch.tensor(np.asarray(layer.bias))
            if isinstance(layer, nn.ConvTranspose1d):
                y = torch.nn.functional.conv_transpose1d(y, weight, bias, layer.stride, layer.padding)
            else:
                sides = layer.padding if isinstance(layer.padding, tuple) else (layer.padding,) * 2
                y = torch.nn.functional.conv1d(torch.nn.functional.pad(y, sides), weight, bias, layer.stride)
        return y.swapaxes(1, 2).numpy()

    for delay, output_delay in ((3 + 4 + 4 * 1, 2 + 1), (7, 4 + 2 + 1), (0, 2 * 4 + 2 + 1)):
        stream = nn.Stream(layers, 2, input_delay=delay)
        assert (stream.ratio, stream.multiple, stream.output_delay) == (1, 4, output_delay), delay
        expected = reference(delay)
        for lengths in ([4, 4, 32], [32, 4, 4]):
            y = run(stream, x, lengths)[:, output_delay:]
            np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    down = nn.Stream(layers[:3], 2)
    assert (down.input_delay, down.output_delay, down.latency) == (11, 0, 11)
    up = nn.Stream(layers[2:], 3)
    assert (up.input_delay, up.output_delay) == (0, 1 * 4 + 2 + 1)
    assert up.latency == up.output_delay / 4


def test_two_dimensional_layers_and_columns_stream_along_the_height():
    x = draw(2, 12, 5, 3)
    layer = with_biases(nn.Conv2d(3, 2, 3, stride=(2, 1), padding=1, dilation=(2, 1), key=KEY))
    form = layer.streaming_form(0)
    state, _ = form.init_state(jax.ShapeDtypeStruct((2, 0, 5, 3), jnp.float32))
    outputs = []
    for i, block in enumerate(np.split(x, 3, 1)):
        state, block = form.step(state, nn.Block(jnp.asarray(block), jnp.asarray(4 * i)))
        outputs.append(block.values)
    y = np.concatenate(outputs, 1)[:, -form.next_start :]
    np.testing.assert_allclose(y, layer(jnp.asarray(x))[:, : y.shape[1]], rtol=0, atol=1e-5)
    columns = with_biases(nn.ColumnConv(3, 2, 5, stride=3, padding=2, weight_norm=True, key=KEY))
    check(columns, columns, 3, length=12, blocks=[[3, 9]])


def test_layers_with_state_use_it():
    norm = with_biases(nn.MaskedBatchNorm(3))
    statistics = with_biases(norm.init_state())
    fixed = nn.FixedBatchNorm(norm, statistics)
    after = conv(3, 2, 3, padding=1)
    layers = [conv(3, 3, 5, padding=2, stride=2), norm, after]

    def build(start):
        return nn.streaming_form(layers, start, [None, statistics, None])

    def offline(x):
        return after(norm(layers[0](x), statistics, inference=True)[0])

    # The input is delayed, so that the convolution after the norm reads the norm of the delayed zeros.
    stream = check(build, offline, 3, length=24, blocks=[[2] * 12, [8, 16]])
    assert stream.input_delay == 2 + 2 * 1
    check([layers[0], fixed, after], offline, 3, length=24, blocks=[[2, 22]], input_delay=6)
    spectral = with_biases(nn.SpectralConv1d(3, 2, 4, stride=2, padding=1, key=KEY))
    vectors = spectral.init_state(key=KEY)
    check(
        lambda start: nn.streaming_form(spectral, start, vectors),
        lambda x: spectral(x, vectors, inference=True)[0],
        3,
        length=12,
        blocks=[[2, 10]],
    )


@pytest.mark.slow
@pytest.mark.parametrize(("layer", "delay"), [(nn.LSTM, 0), (nn.GRU, 3)])
def test_recurrent_layers_keep_their_state(layer, delay):
    lstm = layer(3, 4, num_layers=2, dropout=0.5, key=KEY)
    after, before = conv(4, 2, 3, padding=1), conv(3, 3, 3, padding=1)

    def offline(x):
        return after(lstm(before(x), inference=True))

    check([before, lstm, after], eqx.filter_jit(offline), 3, length=10, blocks=[[1, 9], [4, 6]], input_delay=delay)


def test_average_pooling_equals_torch():
    x = draw(2, 24, 3)
    for window, stride, padding in ((4, 2, 2), (2, 2, 0), (5, 1, 2)):
        expected = torch.nn.functional.avg_pool1d(torch.tensor(x).swapaxes(1, 2), window, stride, padding)
        stream = nn.Stream(
            lambda start, w=window, s=stride, p=padding: nn.average_pool_form(start, window=w, stride=s, padding=p),
            3,
            input_delay=0,
        )
        y = run(stream, x, [stride] * (24 // stride))[:, stream.output_delay :]
        np.testing.assert_allclose(y, expected.swapaxes(1, 2).numpy(), rtol=0, atol=1e-6)
    with pytest.raises(ConfigError, match="window is 0"):
        nn.average_pool_form(window=0, stride=1, padding=0)


def test_branches_are_aligned():
    slow, fast = conv(3, 3, 9, padding=4), conv(3, 3, 3, padding=(2, 0))

    def build(start):
        branches = [nn.streaming_form(layer, start) for layer in (slow, fast)]
        form = nn.ParallelForm(branches, lambda outputs: outputs[0] * outputs[1])
        return nn.SequenceForm([form, nn.residual_form([slow], form.next_start)])

    def offline(x):
        y = slow(x) * fast(x)
        return slow(y) + y

    stream = check(build, offline, 3, length=30, blocks=[[1, 29], [10] * 3])
    assert stream.output_delay == 8
    check(build, offline, 3, length=30, blocks=[[5, 25]], input_delay=6)
    with pytest.raises(ConfigError, match="rates of the branches are 1, 1/2"):
        nn.ParallelForm([slow.streaming_form(0), conv(3, 3, 2, stride=2).streaming_form(0)], sum)
    with pytest.raises(ConfigError, match="start of a form is 0; it should be -4"):
        nn.SequenceForm([slow.streaming_form(0), fast.streaming_form(0)])


def test_numbered_positions_do_not_depend_on_the_division():
    def noisy(x, numbers, key):
        draws = jax.vmap(lambda n: jax.random.normal(jax.random.fold_in(key, n), (3,)))(numbers)
        return x + draws * numbers[:, None].astype(x.dtype)

    def build(start):
        convolution = conv(3, 3, 3, padding=1).streaming_form(start)
        return nn.SequenceForm([convolution, nn.IndexForm(noisy, convolution.next_start, draws=True)])

    stream = nn.Stream(build, 3)
    x, key = draw(12, 3), jax.random.key(5)
    found = [run(stream, x, lengths, key=key) for lengths in ([12], [1, 3, 8], [6, 6])]
    for other in found[1:]:
        np.testing.assert_allclose(found[0], other, rtol=0, atol=1e-5)
    expected = noisy(conv(3, 3, 3, padding=1)(jnp.asarray(x)), jnp.arange(12), key)
    np.testing.assert_allclose(found[0][1:], expected, rtol=0, atol=1e-5)


def test_steps_can_be_scanned_and_differentiated():
    layers = [conv(3, 3, 3, padding=1), conv(3, 2, 4, stride=2, padding=1)]
    stream, x = nn.Stream(layers, 3), draw(12, 3)

    @jax.jit
    def scanned(x):
        _, y = lax.scan(lambda state, block: stream.step(state, block), stream.init_state(), x.reshape(6, 2, 3))
        return y.reshape(6, 2)

    def offline(x):
        return layers[1](layers[0](jnp.pad(x, ((stream.input_delay, 0), (0, 0)))))[:6]

    np.testing.assert_allclose(scanned(x), offline(x), rtol=0, atol=1e-5)
    gradients = [jax.grad(lambda x, f=f: jnp.sum(f(x) ** 2))(jnp.asarray(x)) for f in (scanned, offline)]
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=1e-4, atol=1e-4)


def test_results_have_the_names_of_the_offline_network():
    layers = dissect.tag([conv(3, 3, 3, padding=1), nn.Linear(3, 2, key=KEY)], "net")
    stream = nn.Stream(layers, 3)
    state = stream.init_state()
    _, captured = dissect.capture(stream.step)(state, jnp.ones((4, 3)))
    assert list(captured) == ["net.0", "net.1"]
    run_edited = dissect.capture(stream.step, edit={"net.0": lambda x: 0 * x})
    (_, y), _ = run_edited(state, jnp.ones((4, 3)))
    np.testing.assert_allclose(y[1:], jnp.broadcast_to(layers[1].bias, (3, 2)), rtol=0, atol=1e-6)


def test_layers_without_a_streaming_form_give_the_reason():
    for layer in (
        nn.MultiHeadAttention(4, 2, key=KEY),
        nn.TransformerLayer(4, 2, 8, key=KEY),
        nn.RelativeAttention(4, 2, key=KEY),
    ):
        with pytest.raises(ConfigError, match="no streaming form: its attention is global"):
            nn.Stream([layer], 4)
    with pytest.raises(ConfigError, match="backward direction starts at the end"):
        nn.Stream(nn.LSTM(3, 4, bidirectional=True, key=KEY), 3)

    class Unknown(nn.Module):
        def __call__(self, x):
            return x

    with pytest.raises(ConfigError, match="Unknown has no streaming form: it does not define one"):
        nn.Stream(Unknown(), 3)
    with pytest.raises(ConfigError, match="The layer has type function"):
        nn.streaming_form([lambda x: x])


def subclasses(cls):
    for one in cls.__subclasses__():
        yield one
        yield from subclasses(one)


def test_every_layer_has_a_streaming_form_or_a_reason():
    """A layer without either would raise the error of modules that are composed of others."""
    layers = {
        cls
        for cls in subclasses(nn.Module)
        if cls.__module__.startswith("jaxvoice.nn.") and not issubclass(cls, nn.StreamingForm | nn.Stream)
    }
    without = {
        cls.__name__
        for cls in layers
        if cls.streaming_form is nn.Module.streaming_form and cls.no_streaming_form == nn.Module.no_streaming_form
    }
    assert without == {"AbstractConv"}  # whose subclasses have one
    assert {nn.Conv1d, nn.Conv2d, nn.ColumnConv, nn.ConvTranspose1d, nn.Linear, nn.LSTM, nn.GRU} < layers


def test_invalid_blocks_raise():
    stream = nn.Stream(conv(3, 4, 8, padding=(3, 4), stride=4), 3)
    state = stream.init_state(batch=(2,))
    for block, message in (
        (np.zeros((2, 6, 3)), "6 positions; it should have a multiple of 4"),
        (np.zeros((2, 0, 3)), "0 positions; it should have a multiple of 4"),
        (np.zeros((2, 4, 2)), r"\(2, 4, 2\); it should be float32 of shape \(2, time, 3\)"),
        (np.zeros((1, 4, 3)), r"it should be float32 of shape \(2, time, 3\)"),
        (np.zeros(3), r"float32 of shape \(3,\)"),
    ):
        with pytest.raises(ShapeError, match=message):
            stream.step(state, jnp.asarray(block, jnp.float32))
    with pytest.raises(ShapeError, match="block is int32"):
        stream.step(state, jnp.zeros((2, 4, 3), jnp.int32))
    with pytest.raises(ConfigError, match="input_delay is -1"):
        nn.Stream(conv(3, 3, 3), 3, input_delay=-1)

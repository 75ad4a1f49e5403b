"""Convolutions against torch on the same weights, forward and gradient."""

import functools
import re

import equinox as eqx
import jax
import numpy as np
import pytest
import torch
from jax import numpy as jnp
from jax.extend.core import jaxpr_as_fun
from jax.sharding import NamedSharding, PartitionSpec

from jaxvoice.errors import ConfigError, ShapeError
from jaxvoice.nn import ColumnConv, Conv1d, Conv2d, ConvTranspose1d, Linear, average_pool1d, fold_weight_norm, freeze
from jaxvoice.nn._kernels import portable_kernels
from jaxvoice.nn._ops import conv1d
from jaxvoice.training.parallel import data_mesh
from jaxvoice.training.training_state import to_compute


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def channels_last(x):
    return x.swapaxes(1, -1)  # of two-dimensional convolutions, (batch, width, height, channels)


def channels_first(x):
    return x.swapaxes(1, -1)


def assert_same_as_torch(layer, reference, x, **tolerance):
    """Assert that outputs and gradients (input, kernel, bias) of a batch agree."""
    torch_x = torch.tensor(x, requires_grad=True)
    expected = reference(torch_x)
    cotangent = draw(*expected.shape, seed=1)
    expected.backward(torch.tensor(cotangent))

    def loss(layer, x):
        y = channels_first(layer(channels_last(x)))
        return jnp.sum(y * cotangent), y

    gradient = eqx.filter_jit(eqx.filter_value_and_grad(lambda pair: loss(*pair), has_aux=True))
    (_, y), (layer_gradient, x_gradient) = gradient((layer, jnp.asarray(x)))
    scale = float(expected.detach().abs().max())
    np.testing.assert_allclose(y, expected.detach(), atol=2e-6 * max(scale, 1), **tolerance)
    for ours, theirs in [
        (x_gradient, torch_x.grad),
        (layer_gradient.weight, reference.weight.grad),
        (layer_gradient.bias, reference.bias.grad),
    ]:
        np.testing.assert_allclose(ours, theirs, atol=3e-6 * max(1, float(theirs.abs().max())))


def with_weights_of(layer, reference):
    weights = (jnp.asarray(reference.weight.detach().numpy()), jnp.asarray(reference.bias.detach().numpy()))
    return eqx.tree_at(lambda conv: (conv.weight, conv.bias), layer, weights)


@pytest.mark.parametrize(
    ("channels", "taps", "stride", "padding", "dilation", "groups", "time"),
    [
        ((3, 5), 7, 1, 3, 1, 1, 20),
        ((4, 6), 11, 1, 25, 5, 1, 40),
        ((4, 8), 41, 4, 20, 1, 4, 50),
        ((8, 8), 41, 2, 20, 1, 4, 51),
        ((16, 32), 41, 4, 20, 1, 16, 33),
        ((8, 4), 5, 1, 2, 1, 4, 9),
        ((4, 4), 4, 3, 0, 1, 2, 13),
        ((4, 6), 4, 3, 7, 1, 2, 13),
        ((4, 6), 3, 1, 2, 2, 2, 13),
        ((2, 3), 2, 1, 4, 1, 1, 6),
        ((2, 3), 5, 3, 2, 1, 1, 1),
    ],
)
def test_conv1d(channels, taps, stride, padding, dilation, groups, time, key):
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    reference = torch.nn.Conv1d(*channels, taps, **options)
    layer = with_weights_of(Conv1d(*channels, taps, **options, key=key), reference)
    assert_same_as_torch(layer, reference, draw(3, channels[0], time))


@pytest.mark.parametrize(("taps", "stride", "padding"), [(8, 4, (3, 4)), (5, 1, (4, 0)), (1, 1, (0, 2))])
def test_conv1d_with_different_padding_on_the_left_and_right(taps, stride, padding, key):
    reference = torch.nn.Conv1d(4, 6, taps, stride=stride)
    layer = with_weights_of(Conv1d(4, 6, taps, stride=stride, padding=padding, key=key), reference)
    x = draw(3, 4, 17)
    expected = reference(torch.nn.functional.pad(torch.tensor(x), padding)).detach()
    for form in (layer, freeze(layer)):
        np.testing.assert_allclose(channels_first(form(channels_last(x))), expected, atol=2e-6)


def test_grouped_conv_with_a_batch_axis_and_under_vmap(key):
    """Gradients over a batch axis, per-example gradients under `vmap`, and kernels under `vmap` agree."""
    layer, x = Conv1d(8, 16, 9, stride=2, padding=4, groups=4, key=key), jnp.asarray(draw(3, 21, 8))
    gradient = eqx.filter_grad(lambda layer, x: jnp.sum(jnp.square(layer(x))))
    each = jnp.stack([gradient(layer, x_i).weight for x_i in x])
    np.testing.assert_allclose(jax.vmap(lambda x: gradient(layer, x).weight)(x), each, rtol=2e-5, atol=1e-5)
    np.testing.assert_allclose(gradient(layer, x).weight, each.sum(0), rtol=2e-5, atol=1e-5)
    kernels = jnp.stack([layer.weight, 2 * layer.weight])
    replace = lambda kernel: eqx.tree_at(lambda conv: conv.weight, layer, kernel)  # noqa: E731
    together = jax.vmap(lambda kernel: replace(kernel)(x))(kernels)
    np.testing.assert_allclose(together[1], replace(kernels[1])(x), rtol=1e-5, atol=1e-6)


def image_convolutions(function, *arguments) -> list[str]:
    """The output shapes of the convolutions in the compiled `function`. Fails unless YNNPACK can compute all of them.

    On CPUs, XLA passes convolutions to YNNPACK that are two-dimensional, channels last, and without groups.
    """
    text = jax.jit(lambda *arguments: function(*arguments)).lower(*arguments).compile().as_text()
    found = re.findall(r" = f32\[([\d,]+)\]\S* convolution\(.*?dim_labels=([\w>-]+)(.*)", text)
    assert all(labels == "b01f_01io->b01f" and "group" not in rest for _, labels, rest in found), text
    return [shape for shape, *_ in found]


def test_dense_conv_is_an_image_convolution(key):
    layer, x = Conv1d(32, 32, 5, padding=4, dilation=2, key=key), jnp.asarray(draw(2, 400, 32))
    assert image_convolutions(layer, x) == ["2,1,400,32"]
    assert image_convolutions(freeze(layer), x) == ["2,1,400,32"]
    assert image_convolutions(jax.grad(lambda x: jnp.sum(jnp.square(layer(x)))), x) == ["2,1,400,32"] * 2


@pytest.mark.parametrize("weight_norm", [False, True])
def test_a_kernel_with_one_tap_is_a_product_forwards_and_backwards(weight_norm, key):
    layer = Conv1d(32, 48, 1, weight_norm=weight_norm, key=key)
    x, cotangent = jnp.asarray(draw(2, 60, 32)), jnp.asarray(draw(2, 60, 48, seed=1))

    def product(layer, x):
        return jnp.einsum("bti,oi->bto", x, layer.kernel()[..., 0]) + layer.bias[None, None]

    def gradients(call, layer, x):
        return jax.grad(lambda pair: jnp.sum(call(*pair) * cotangent))((layer, x))

    np.testing.assert_allclose(layer(x), product(layer, x), rtol=1e-5, atol=1e-5)
    both = [gradients(call, layer, x) for call in (lambda layer, x: layer(x), product)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4), *both)
    text = jax.jit(lambda layer, x: gradients(lambda layer, x: layer(x), layer, x)).lower(layer, x).compile().as_text()
    assert " convolution(" not in text and text.count(" dot(") >= 2


def test_strided_conv_of_images_needs_no_columns(key):
    """Its gradient needs them, because the product is transposed."""
    layer, x = Conv2d(32, 48, 3, stride=2, padding=1, key=key), jnp.asarray(draw(2, 30, 24, 32))
    assert image_convolutions(layer, x) == ["2,15,12,48"]
    with_kernel = lambda kernel: eqx.tree_at(lambda conv: conv.weight, layer, kernel)(x)  # noqa: E731
    gradient = jax.grad(lambda kernel: jnp.sum(jnp.square(with_kernel(kernel))))
    columns = [
        "15x12x288xf32" in jax.jit(function).lower(layer.weight).as_text() for function in (with_kernel, gradient)
    ]
    assert columns == [False, True]


def test_grouped_conv_is_a_loop_over_image_convolutions(key):
    """The output and the input gradient (for both phases of the input) of one group. The kernel gradient is a product.

    Its rows are the blocks of output positions of the batch (2 for each of 3 signals); its columns are 23 positions of
    2 inputs, and 8 positions of 4 outputs.
    """
    layer, x = Conv1d(8, 16, 9, stride=2, padding=4, groups=4, key=key), jnp.asarray(draw(3, 21, 8))
    with_kernel = lambda kernel, x: eqx.tree_at(lambda conv: conv.weight, layer, kernel)(x)  # noqa: E731
    gradient = jax.grad(lambda kernel, x: jnp.sum(jnp.square(with_kernel(kernel, x))), (0, 1))
    shapes = image_convolutions(gradient, layer.weight, x)
    assert sorted(shapes) == ["3,1,11,4", "3,1,15,4"]
    program = jax.jit(gradient).lower(layer.weight, x).as_text()
    assert program.count("stablehlo.while") == 3
    assert re.search(r"dot_general .*-> tensor<46x32xf32>", program)


# Of `Conv1d`: groups in one matrix product each, one channel per group, dilation, padding, a long kernel, no groups.
DIFFERENTIATED = [
    {"in_channels": 8, "out_channels": 4, "kernel_size": 5, "stride": 2, "padding": 2, "groups": 2},
    {"in_channels": 4, "out_channels": 8, "kernel_size": 3, "padding": 4, "groups": 2},
    {"in_channels": 4, "out_channels": 8, "kernel_size": 3, "stride": 2, "padding": 1, "groups": 4},
    {"in_channels": 4, "out_channels": 6, "kernel_size": 3, "padding": 2, "dilation": 2, "groups": 2},
    {"in_channels": 4, "out_channels": 4, "kernel_size": 12, "padding": 6, "groups": 2},
    {"in_channels": 32, "out_channels": 32, "kernel_size": 3, "padding": 1},
]


def plain_conv(options, x, kernel):
    """The convolution of `Conv1d(**options)` without a bias, as one convolution of XLA."""
    stride, padding, dilation, groups = (options.get(name, 1) for name in ("stride", "padding", "dilation", "groups"))
    padding = padding if "padding" in options else 0
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride,),
        [(padding, padding)],
        rhs_dilation=(dilation,),
        dimension_numbers=("NHC", "OIH", "NHC"),
        feature_group_count=groups,
    )


@pytest.fixture(params=DIFFERENTIATED, ids=lambda options: "-".join(map(str, options.values())))
def both_convs(request, key):
    """`Conv1d` and XLA's convolution as functions of a signal and a kernel, and both arguments."""
    layer = Conv1d(**request.param, use_bias=False, key=key)
    ours = lambda x, kernel: eqx.tree_at(lambda conv: conv.weight, layer, kernel)(x)  # noqa: E731
    arguments = jnp.asarray(draw(2, 10, layer.in_channels)), layer.weight
    return ours, lambda x, kernel: plain_conv(request.param, x, kernel), arguments


def assert_same_derivatives(derivative, both_convs):
    ours, plain, arguments = both_convs
    for found, expected in zip(
        *(jax.tree.leaves(jax.jit(derivative(function))(*arguments)) for function in (ours, plain)), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=3e-6 * max(1.0, float(jnp.abs(expected).max())))


def squares(function):
    """The squared norm of the input gradient of a loss: the R1 penalty."""
    loss = lambda x, kernel: jnp.sum(jnp.tanh(function(x, kernel)))  # noqa: E731
    return lambda x, kernel: jnp.sum(jnp.square(jax.grad(loss)(x, kernel)))


@pytest.mark.parametrize("tangents", ["both", "input", "kernel"])
def test_forward_mode_equals_xla(tangents, both_convs):
    dx, dkernel = (jnp.asarray(draw(*array.shape, seed=i)) for i, array in enumerate(both_convs[2], 3))

    def derivative(function):
        def push(x, kernel):
            if tangents == "input":
                return jax.jvp(lambda x: function(x, kernel), (x,), (dx,))
            if tangents == "kernel":
                return jax.jvp(lambda kernel: function(x, kernel), (kernel,), (dkernel,))
            return jax.jvp(function, (x, kernel), (dx, dkernel))

        return push

    assert_same_derivatives(derivative, both_convs)


@pytest.mark.parametrize(
    "derivative",
    [
        lambda function: jax.grad(squares(function), (0, 1)),
        lambda function: jax.jacfwd(jax.grad(squares(function))),
        lambda function: jax.vmap(jax.grad(squares(lambda x, kernel: function(x[None], kernel)), (0, 1)), (0, None)),
        lambda function: jax.jacfwd(lambda x, kernel: jnp.sum(jnp.sin(function(x, kernel)), 1)),
        lambda function: jax.jacrev(lambda x, kernel: jnp.sum(jnp.sin(function(x, kernel)), 1), (0, 1)),
        lambda function: lambda x, kernel: jax.linearize(jax.checkpoint(function), x, kernel)[1](x, kernel),
    ],
    ids=["penalty", "forward over reverse", "vmap", "jacfwd", "jacrev", "linearize"],
)
def test_higher_derivatives_and_jacobians_equal_xla(derivative, both_convs):
    assert_same_derivatives(derivative, both_convs)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0), (1, 2)])
def test_gradients_under_vmap_equal_xla(axes, both_convs):
    ours, plain, arguments = both_convs
    stacked = [
        array if axis is None else jnp.stack([scale * array for scale in (1.0, -0.5, 2.0)], axis)
        for array, axis in zip(arguments, axes, strict=True)
    ]
    gradient = lambda function: jax.grad(lambda x, k: jnp.sum(jnp.square(function(x, k))), (0, 1))  # noqa: E731
    assert_same_derivatives(lambda function: jax.vmap(gradient(function), axes), (ours, plain, stacked))


def test_gradients_of_empty_batches_under_vmap_are_zero(key):
    layer = Conv1d(8, 16, 9, stride=2, padding=4, groups=4, use_bias=False, key=key)
    gradient = jax.grad(lambda kernel, x: jnp.sum(eqx.tree_at(lambda conv: conv.weight, layer, kernel)(x)), (0, 1))
    for x in (jnp.zeros((3, 0, 21, 8)), jnp.zeros((0, 3, 21, 8))):
        dkernel, dx = jax.vmap(gradient, (None, 0))(layer.weight, x)
        assert dx.shape == x.shape and dkernel.shape == (len(x), *layer.weight.shape) and not dkernel.any()


def test_gradients_of_grouped_convolutions_under_shard_map(key):
    """The kernel gradients of the parts of a batch are summed over the devices."""
    layer, x = Conv1d(8, 16, 9, stride=2, padding=4, groups=4, key=key), jnp.asarray(draw(8, 21, 8))
    gradient = eqx.filter_grad(lambda layer, x: jnp.sum(jnp.square(layer(x))))
    split = jax.shard_map(
        gradient, mesh=data_mesh(), in_specs=(PartitionSpec(), PartitionSpec("data")), out_specs=PartitionSpec()
    )
    np.testing.assert_allclose(jax.jit(split)(layer, x).weight, gradient(layer, x).weight, rtol=2e-5, atol=1e-5)


def test_grouped_conv_with_a_kernel_longer_than_the_input_is_an_image_convolution(key):
    layer, x = Conv1d(64, 64, 9, padding=4, groups=2, key=key), jnp.asarray(draw(3, 7, 64))
    assert image_convolutions(layer, x) == ["3,1,7,32"]
    assert image_convolutions(jax.grad(lambda x: jnp.sum(jnp.square(layer(x)))), x) == ["3,1,7,32", "3,1,15,32"]


@pytest.mark.parametrize(("taps", "stride"), [(1, 1), (1, 3), (4, 2), (4, 5), (7, 1), (7, 2), (7, 3), (16, 8)])
@pytest.mark.parametrize(("padding", "groups"), [(0, 1), (2, 1), (1, 2)])
def test_conv_transpose1d(taps, stride, padding, groups, key):
    output_padding = stride - 1
    options = {"stride": stride, "padding": padding, "output_padding": output_padding, "groups": groups}
    reference = torch.nn.ConvTranspose1d(4, 6, taps, **options)
    layer = with_weights_of(ConvTranspose1d(4, 6, taps, **options, key=key), reference)
    assert_same_as_torch(layer, reference, draw(2, 4, 7))


def test_conv_transpose1d_is_the_transpose_of_conv1d(key):
    down = Conv1d(3, 4, 7, stride=3, padding=2, use_bias=False, key=key)
    up = ConvTranspose1d(4, 3, 7, stride=3, padding=2, use_bias=False, key=key)
    up = eqx.tree_at(lambda layer: layer.weight, up, down.weight)
    down_jacobian = jax.jacobian(down)(draw(21, 3)).reshape(7 * 4, 21 * 3)
    up_jacobian = jax.jacobian(up)(draw(7, 4)).reshape(21 * 3, 7 * 4)
    np.testing.assert_allclose(up_jacobian, down_jacobian.T, atol=1e-6)


@pytest.mark.parametrize(("taps", "stride", "padding"), [(5, 3, 2), (3, 1, 1), (1, 1, 0)])
def test_column_conv(taps, stride, padding, key):
    reference = torch.nn.Conv2d(3, 5, (taps, 1), stride=(stride, 1), padding=(padding, 0))
    layer = with_weights_of(ColumnConv(3, 5, taps, stride=stride, padding=padding, key=key), reference)
    assert_same_as_torch(layer, reference, draw(2, 3, 16, 7))


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"),
    [
        (3, 2, 1, 1),
        (3, 2, 0, 1),
        (4, 3, 2, 1),
        (2, 3, 0, 1),
        (1, 2, 0, 1),
        (1, 1, 0, 1),
        (3, 1, 0, 1),
        ((5, 3), (2, 1), (2, 2), (1, 2)),
        ((2, 3), (1, 3), (1, 0), (3, 2)),
    ],
)
@pytest.mark.parametrize("channels", [pytest.param(2, marks=pytest.mark.slow), 32])
def test_conv2d(kernel, stride, padding, dilation, channels, key):
    layer = Conv2d(channels, 5, kernel, stride=stride, padding=padding, dilation=dilation, key=key)
    reference = torch.nn.Conv2d(channels, 5, kernel, stride, padding, dilation)
    reference.load_state_dict({name: torch.from_numpy(np.array(getattr(layer, name))) for name in ("weight", "bias")})
    x = np.random.default_rng(0).normal(size=(2, 3, 9, 6, channels)).astype(np.float32)
    given = torch.from_numpy(x.reshape(6, 9, 6, channels)).permute(0, 3, 1, 2).requires_grad_()
    expected = reference(given)
    torch.square(expected).sum().backward()

    @eqx.filter_jit
    @functools.partial(eqx.filter_value_and_grad, has_aux=True)
    def squares(pair):
        y = pair[0](pair[1])
        return jnp.sum(jnp.square(y)), y

    (_, y), (gradient, dx) = squares((layer, jnp.asarray(x)))
    np.testing.assert_allclose(y.reshape(6, *y.shape[2:]), expected.detach().permute(0, 2, 3, 1), atol=1e-5)
    np.testing.assert_allclose(gradient.weight, reference.weight.grad, atol=1e-3)
    assert given.grad is not None
    np.testing.assert_allclose(dx.reshape(6, 9, 6, channels), given.grad.permute(0, 2, 3, 1), atol=1e-4)
    with pytest.raises(ShapeError, match=rf"it should be \(\*batch, height, width, {channels}\)"):
        layer(x[..., :1])


def test_conv2d_with_weight_norm_equals_torch(key):
    layer = Conv2d(3, 4, (5, 3), padding=(2, 1), weight_norm=True, key=key)
    layer = eqx.tree_at(lambda conv: conv.weight_g, layer, jnp.asarray(draw(4, 1, 1, 1)))
    x = draw(2, 8, 7, 3)
    g, v, bias = (torch.from_numpy(np.array(a)) for a in (layer.weight_g, layer.weight_v, layer.bias))
    kernel = torch._weight_norm(v, g, 0)
    expected = torch.nn.functional.conv2d(torch.from_numpy(x).permute(0, 3, 1, 2), kernel, bias, padding=(2, 1))
    for form in (layer, fold_weight_norm(layer)):
        np.testing.assert_allclose(form(jnp.asarray(x)), expected.permute(0, 2, 3, 1), atol=2e-6)


def test_average_pool1d():
    x = draw(2, 3, 17)
    expected = torch.nn.AvgPool1d(4, 2, padding=2)(torch.tensor(x))
    pooled = average_pool1d(jnp.asarray(x).mT, window=4, stride=2, padding=2)
    np.testing.assert_allclose(pooled.mT, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "reference"),
    [
        (lambda key: Conv1d(64, 512, 5, groups=2, key=key), lambda: torch.nn.Conv1d(64, 512, 5, groups=2)),
        (lambda key: ConvTranspose1d(512, 64, 5, key=key), lambda: torch.nn.ConvTranspose1d(512, 64, 5)),
        (lambda key: ColumnConv(64, 512, 5, key=key), lambda: torch.nn.Conv2d(64, 512, (5, 1))),
    ],
)
def test_initial_distribution_equals_torch(layer, reference, key):
    """Weights are uniform with torch's bound: the largest of many draws is close to the bound, and none exceeds it."""
    torch.manual_seed(0)
    layer, reference = layer(key), reference()
    for ours, theirs in [(layer.weight, reference.weight), (layer.bias, reference.bias)]:
        assert ours.shape == tuple(theirs.shape)
        largest = float(theirs.detach().abs().max())
        assert float(jnp.abs(ours).max()) == pytest.approx(largest, rel=0.05)
        assert float(jnp.abs(ours).mean()) == pytest.approx(float(theirs.detach().abs().mean()), rel=0.2)


def test_bfloat16_computes_in_bfloat16_with_float32_parameters(key):
    layer, x = Conv1d(8, 8, 5, padding=2, weight_norm=True, key=key), draw(30, 8)
    y = layer(jnp.asarray(x, jnp.bfloat16))
    assert y.dtype == jnp.bfloat16
    assert layer.weight_v.dtype == jnp.float32
    np.testing.assert_allclose(y.astype(jnp.float32), layer(x), atol=0.05)


BIASED = {
    "Linear": lambda key: Linear(2, 3, key=key),
    "Conv1d": lambda key: Conv1d(2, 3, 3, padding=1, key=key),
}


@pytest.mark.parametrize("layer", BIASED)
def test_bias_gradients_of_bfloat16_are_summed_in_float32(layer, key):
    """The terms are nearly equal; in bfloat16 their sum stops growing far below its true value."""
    module = BIASED[layer](key)
    upstream = jnp.asarray(0.01 * draw(32, 573, 3) + 0.3, jnp.bfloat16)

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(module, x, upstream):
        low, x = to_compute((module, x), "bfloat16")
        y = low(x)
        assert y.dtype == jnp.bfloat16
        return jnp.sum((y * upstream).astype(jnp.float32))

    expected = np.asarray(upstream, np.float64).sum((0, 1))
    found = gradient(module, jnp.asarray(draw(32, 573, 2)), upstream)
    assert found.bias.dtype == jnp.float32
    np.testing.assert_allclose(found.bias, expected, rtol=0.01)


@pytest.mark.parametrize(
    "options",
    [
        {"in_channels": 4, "out_channels": 4, "groups": 2},
        {"in_channels": 4, "out_channels": 4, "groups": 4},
        {"in_channels": 4, "out_channels": 4, "groups": 2, "dilation": 2},
        {"in_channels": 4, "out_channels": 4},
        {"in_channels": 32, "out_channels": 32},
        {"in_channels": 2, "out_channels": 1024},
    ],
    ids=["groups", "depthwise", "dilated groups", "dense", "image", "im2col"],
)
def test_kernel_gradients_of_bfloat16_are_summed_in_float32(options, key):
    """The terms are nearly equal, as those of biases above. The expected values are computed in float64."""
    batch, time = (2, 500) if options["out_channels"] == 1024 else (8, 2000)
    layer = Conv1d(**options, kernel_size=3, use_bias=False, key=key)
    x = jnp.asarray(0.1 * draw(batch, time, layer.in_channels) + 1, jnp.bfloat16)
    upstream = draw(batch, time - 2 * layer.dilation, options["out_channels"], seed=1)
    upstream = jnp.asarray(0.001 * upstream + 0.3, jnp.bfloat16)
    weight = layer.weight.astype(jnp.bfloat16)

    @jax.jit
    @jax.grad
    def gradient(weight):
        y = eqx.tree_at(lambda conv: conv.weight, layer, weight)(x)
        return jnp.sum((y * upstream).astype(jnp.float32))

    reference = torch.nn.Conv1d(**options, kernel_size=3, bias=False, dtype=torch.float64)
    torch_x, torch_upstream = (torch.tensor(np.asarray(array, np.float64)).mT for array in (x, upstream))
    (reference(torch_x) * torch_upstream).sum().backward()
    np.testing.assert_allclose(gradient(weight).astype(jnp.float32), reference.weight.grad, rtol=2**-8)


@pytest.mark.parametrize("padding", [(-2, 1), (3, -4), (-1, -2)])
@pytest.mark.parametrize("channels", [(4, 8, 1), (4, 8, 2), (4, 4, 4), (4, 96, 1), (32, 32, 1)])
@pytest.mark.parametrize("stride", [1, 2])
def test_negative_padding_removes_positions(padding, channels, stride):
    inputs, outputs, groups = channels
    x, kernel = draw(2, inputs, 40), draw(outputs, inputs // groups, 5, seed=1) / 5
    torch_x, torch_kernel = (torch.tensor(array, requires_grad=True) for array in (x, kernel))
    padded = torch.nn.functional.pad(torch_x, padding)
    expected = torch.nn.functional.conv1d(padded, torch_kernel, stride=stride, groups=groups)
    expected.square().sum().backward()

    @jax.jit
    def gradients(x, kernel):
        y, pull = jax.vjp(lambda x, k: conv1d(x, k, stride=stride, padding=padding, groups=groups), x, kernel)
        return y, *pull(2 * y)

    y, dx, dkernel = gradients(jnp.asarray(x.swapaxes(1, 2)), jnp.asarray(kernel))
    for found, truth in ((y, expected.detach().mT), (dx, torch_x.grad.mT), (dkernel, torch_kernel.grad)):
        np.testing.assert_allclose(found, truth, atol=3e-6 * max(1, float(truth.abs().max())))


def test_float32_biases_are_added_without_a_cast(key):
    program = str(jax.make_jaxpr(Linear(2, 3, key=key))(jnp.zeros((4, 2))))
    assert " add " in program and "convert_element_type" not in program


def slow_convolutions(compiled_text: str) -> list[str]:
    marks = ("rhs_reversal", "outer_dimension_partitions")
    return [line for line in compiled_text.splitlines() if " convolution(" in line and any(m in line for m in marks)]


def test_no_gradient_is_lowered_to_the_naive_convolution_loop(key):
    """XLA:CPU has an unoptimised loop for some convolutions; no layer may be lowered to it."""

    def compiled(layers, x, call=lambda layer, x: layer(x)):
        def loss(layers, x):
            for layer in layers:
                x = call(layer, x)
            return jnp.sum(jnp.square(x))

        return eqx.filter_jit(eqx.filter_grad(loss)).lower(layers, x).compile().compiled.as_text()

    keys = jax.random.split(key, 4)
    layers = [
        ConvTranspose1d(20, 20, 8, stride=4, padding=2, key=keys[0]),
        Conv1d(20, 20, 3, padding=6, dilation=3, key=keys[1]),
        Conv1d(20, 40, 9, stride=2, padding=4, groups=4, key=keys[2]),
    ]
    assert not slow_convolutions(compiled(layers, draw(2, 50, 20)))
    for channels in (20, 32):
        images = [Conv2d(channels, channels, 3, stride=2, padding=1, key=k) for k in keys[:2]]
        assert not slow_convolutions(compiled(images, draw(2, 30, 24, channels)))
    # The check detects the loop: Equinox's transposed convolution is lowered to it.
    theirs = [eqx.nn.ConvTranspose1d(20, 20, 8, stride=4, padding=2, key=keys[3])]
    assert slow_convolutions(compiled(theirs, draw(2, 20, 50), lambda layer, x: jax.vmap(layer)(x)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda key: Conv1d(3, 4, 5, groups=2, key=key),
            "in_channels is 3 and out_channels is 4; they should be multiples of groups, which is 2",
        ),
        (lambda key: ConvTranspose1d(4, 4, 5, stride=2, output_padding=2, key=key), "output_padding is 2;"),
    ],
)
def test_invalid_options_raise_an_error(make, message, key):
    with pytest.raises(ConfigError, match=message):
        make(key)


@pytest.mark.parametrize("shape", [(10, 3), (2, 4, 10), (4,)])
def test_input_of_another_shape_raises_an_error(shape, key):
    with pytest.raises(
        ShapeError, match=rf"is {re.escape(str(shape))}; it should be \(\*batch, time, 4\), with channels last"
    ):
        Conv1d(4, 4, 3, key=key)(jnp.zeros(shape))


LAYERS = {
    "Conv1d": lambda key: Conv1d(4, 6, 3, stride=2, padding=1, groups=2, weight_norm=True, key=key),
    "ConvTranspose1d": lambda key: ConvTranspose1d(4, 6, 4, stride=2, padding=1, key=key),
    "ColumnConv": lambda key: ColumnConv(4, 6, 3, stride=2, padding=1, weight_norm=True, key=key),
}


@pytest.mark.parametrize("name", LAYERS)
def test_explicit_sharding_raises_an_error_and_automatic_sharding_works(name, key):
    layer = LAYERS[name](key)
    x = jnp.asarray(draw(8, 9, 4))
    call = eqx.filter_jit(lambda layer, x: layer(x))
    explicit = jax.device_put(x, NamedSharding(jax.make_mesh((8,), ("data",)), PartitionSpec("data")))
    wide = eqx.tree_at(lambda layer: layer.bias, layer, jnp.zeros(8))
    split_bias = jax.device_put(wide.bias, NamedSharding(jax.make_mesh((8,), ("data",)), PartitionSpec("data")))
    with pytest.raises(
        ConfigError, match=r"mesh axis 'data', over which an array of shape \(8,\) is split, is Explicit"
    ):
        eqx.tree_at(lambda layer: layer.bias, wide, split_bias)(x)
    with pytest.raises(ConfigError, match=r"mesh axis 'data', over which .* is Explicit"):
        layer(x=explicit)
    for run in (layer, lambda x: call(layer, x), jax.grad(lambda x: jnp.sum(layer(x)))):
        with pytest.raises(ConfigError, match=r"mesh axis 'data', over which .* is Explicit.*AxisType.Auto"):
            run(explicit)
    split = jax.device_put(x, NamedSharding(data_mesh(), PartitionSpec("data")))
    np.testing.assert_allclose(call(layer, split), layer(x), atol=1e-6)


@pytest.mark.parametrize("name", LAYERS)
def test_batch_axes_and_vmap_equal_single_examples(name, key):
    layer = LAYERS[name](key)
    x = jnp.asarray(draw(2, 3, 9, 4))
    single = jnp.stack([jnp.stack([layer(example) for example in row]) for row in x])
    for together in (layer(x), jax.vmap(jax.vmap(layer))(x), jax.vmap(layer)(x)):
        np.testing.assert_allclose(together, single, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weight_norm", [False, True])
@pytest.mark.parametrize(
    ("taps", "stride", "padding", "dilation"), [(5, 3, 2, 1), (5, 1, 2, 1), (3, 2, 4, 3), (1, 1, 0, 1), (4, 5, 0, 1)]
)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_a_layer_with_more_channels_than_positions(taps, stride, padding, dilation, weight_norm, key):
    """On CPUs, this is one matrix product: three examples of eleven samples have fewer than 96 positions."""
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    reference = torch.nn.Conv1d(6, 96, taps, **options)
    layer = with_weights_of(Conv1d(6, 96, taps, **options, key=key), reference)
    x = draw(3, 6, 11)
    if weight_norm:
        reference = torch.nn.utils.weight_norm(reference)
        with torch.no_grad():
            reference.weight_g.mul_(1.5)
        g, v = (jnp.asarray(getattr(reference, name).detach().numpy()) for name in ("weight_g", "weight_v"))
        names = ("weight", "weight_g", "weight_v")
        layer = eqx.tree_at(lambda c: [getattr(c, n) for n in names], layer, (None, g, v), is_leaf=lambda n: n is None)
    torch_x = torch.tensor(x, requires_grad=True)
    expected = reference(torch_x)
    cotangent = draw(*expected.shape, seed=1)
    expected.backward(torch.tensor(cotangent))

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(pair):
        layer, x = pair
        return jnp.sum(layer(x) * cotangent.swapaxes(1, 2))

    x = jnp.asarray(x.swapaxes(1, 2))
    of_layer, of_x = gradient((layer, x))
    np.testing.assert_allclose(layer(x), expected.detach().mT, atol=3e-6)
    np.testing.assert_allclose(of_x, torch_x.grad.mT, atol=1e-5)
    for name in ("weight_g", "weight_v", "bias") if weight_norm else ("weight", "bias"):
        theirs = getattr(reference, name).grad
        np.testing.assert_allclose(getattr(of_layer, name), theirs, atol=3e-6 * max(1, float(theirs.abs().max())))


FROZEN = [
    Conv1d(8, 6, 5, stride=2, padding=3, dilation=2, groups=2, weight_norm=True, key=jax.random.key(1)),
    Conv1d(8, 3, 3, padding=4, use_bias=False, key=jax.random.key(2)),
    Conv1d(8, 5, 1, weight_norm=True, key=jax.random.key(5)),
    ConvTranspose1d(8, 6, 16, stride=8, padding=4, weight_norm=True, key=jax.random.key(3)),
    ConvTranspose1d(8, 4, 7, stride=3, padding=1, output_padding=2, groups=2, use_bias=False, key=jax.random.key(4)),
]


@pytest.mark.parametrize("layer", FROZEN, ids=lambda layer: f"{type(layer).__name__} groups={layer.groups}")
def test_freezing_only_changes_the_layout_of_kernels(layer):
    model = {"layer": layer, "other": jnp.ones(3)}
    frozen = freeze(model)
    x = jnp.asarray(draw(13, 8))
    assert not hasattr(frozen["layer"], "weight") and frozen["other"] is model["other"]
    np.testing.assert_allclose(frozen["layer"](x), layer(x), atol=1e-6)
    with pytest.raises(ShapeError, match="time, 8"):
        frozen["layer"](x[:, :5])
    batch = jnp.asarray(draw(2, 3, 13, 8))
    np.testing.assert_allclose(frozen["layer"](batch), layer(batch), atol=1e-6)


@pytest.mark.parametrize("options", [{"groups": 2}, {"groups": 4}, {"groups": 2, "dilation": 3}, {"stride": 2}])
def test_portable_kernels_equal_those_for_cpus(options):
    """Programs for other platforms are traced with JAX's own convolutions, without primitives of this library."""
    layer = Conv1d(4, 8, 3, padding=2, key=jax.random.key(0), **options)
    x = jnp.asarray(draw(2, 9, 4))
    expected = layer(x)
    with portable_kernels():
        program = jax.make_jaxpr(lambda x: layer(x))(x)
    assert "grouped_conv" not in str(program) and "conv_general_dilated" in str(program)
    (found,) = jaxpr_as_fun(program)(x)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)

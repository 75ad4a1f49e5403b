"""Convolution as one matrix product, for layers with more weights than positions.

A convolution of XLA's CPU backend reads kernels as `(tap, in, out)`. Bringing the five million weights of a critic's
layer there and their gradient back takes longer than convolving two crops with them. A product with the kernel as an
`(out, in * tap)` matrix needs no such move, in either direction; what is rearranged instead are the activations.
"""

from jax import lax, numpy as jnp
from jaxtyping import Array, Float


def column_conv(
    x: Float[Array, "batch time in"],
    kernel: Float[Array, "out in taps"],
    stride: int,
    padding: tuple[int, int],
    dilation: int,
) -> Float[Array, "batch new_time out"]:
    """`jaxvoice.nn._ops.conv1d` without groups."""
    (batch, time, channels), (out, _, taps) = x.shape, kernel.shape
    reach = dilation * (taps - 1) + 1
    frames = (time + sum(padding) - reach) // stride + 1
    # Splitting time into (frame, phase) turns the strided reads of every tap into plain slices.
    blocks = frames + (reach - 1) // stride
    x = jnp.pad(x, ((0, 0), (padding[0], max(0, blocks * stride - time - padding[0])), (0, 0)))
    x = x[:, : blocks * stride].reshape(batch, blocks, stride, channels)
    reads = [divmod(tap * dilation, stride) for tap in range(taps)]
    columns = jnp.stack([lax.slice_in_dim(x[:, :, phase], at, at + frames, axis=1) for at, phase in reads], -1)
    columns = columns.reshape(batch * frames, channels * taps)
    y = lax.dot_general(columns, kernel.reshape(out, channels * taps), (((1,), (1,)), ((), ())))
    return y.reshape(batch, frames, out)

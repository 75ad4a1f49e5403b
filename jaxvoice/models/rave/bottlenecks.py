"""The bottlenecks of RAVE: an encoder, and how latents are drawn from its output and regularised."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import equinox as eqx
import jax
from jax import numpy as jnp
from jaxtyping import Array, Float, Int, Int32, PRNGKeyArray

from jaxvoice.errors import ShapeError
from jaxvoice.losses import maximum_mean_discrepancy
from jaxvoice.models.rave.config import BottleneckConfig
from jaxvoice.models.rave.encoder import Encoder
from jaxvoice.models.rave.layers import NetState
from jaxvoice.models.rave.quantizer import ResidualQuantizer, ResidualQuantizerState
from jaxvoice.nn import IndexForm, Module, SequenceForm, StreamingForm, draw_for_positions, operation
from jaxvoice.nn._window_forms import with_options


class EncoderState(eqx.Module):
    """The state of an encoder with its bottleneck, with the names of the released buffers."""

    encoder: NetState | None
    rvq: ResidualQuantizerState | None
    warmed_up: Int32[Array, ""] | None
    """1 after the first phase of training, in which the encoder is trained, otherwise 0; `None` for `spherical`."""
    enabled: Int32[Array, ""] | None
    """1 if the latents of `discrete` are quantised, otherwise 0; `None` for other bottlenecks.

    The release trains with 0, because the callback that sets it is never called.
    """


class Latents(NamedTuple):
    """Latents drawn by a bottleneck."""

    z: Float[Array, "*batch frames channels"]
    """The input of the generator: latents, and noise channels after them."""
    regularization: Float[Array, ""]
    """The loss of the bottleneck, before it is weighted."""
    codes: Int[Array, "*batch frames quantizers"] | None = None
    """The codes of `discrete`, otherwise `None`."""


class Bottleneck(Module):
    """An encoder with the bottleneck of the configuration.

    acids-ircam/RAVE `rave/blocks.py:VariationalEncoder`, `WasserteinEncoder`, `DiscreteEncoder`, `SphericalEncoder`.
    """

    encoder: Encoder
    rvq: ResidualQuantizer | None
    config: BottleneckConfig = eqx.field(static=True)

    def __init__(self, encoder: Encoder, config: BottleneckConfig):
        self.encoder, self.config = encoder, config
        self.rvq = ResidualQuantizer(config) if config.kind == "discrete" else None

    def init_state(self) -> EncoderState:
        """The initial state of the encoder and of the codebooks."""
        codebooks = None if self.rvq is None else self.rvq.init_state()
        enabled = None if self.rvq is None else jnp.ones((), jnp.int32)
        warmed_up = None if self.config.kind == "spherical" else jnp.zeros((), jnp.int32)
        return EncoderState(self.encoder.init_state(), codebooks, warmed_up, enabled)

    def __call__(
        self, x: Float[Array, "*batch time in"], state: EncoderState, *, inference: bool = False
    ) -> tuple[Float[Array, "*batch frames out"], EncoderState]:
        """The output of the encoder, from which `draw` draws latents. Arguments and errors are those of `Encoder`."""
        encoded, encoder = self.encoder(x, state.encoder, inference=inference)
        return encoded, replace(state, encoder=encoder)

    def mean(self, encoded: Float[Array, "*batch frames out"]) -> Float[Array, "*batch frames latents"]:
        """The latents without randomness and quantisation: the means of `variational`, unit vectors of `spherical`.

        A vector of zeros becomes the unit vector with equal components.
        """
        if self.config.kind == "variational":
            return encoded[..., : self.config.latent_size]
        if self.config.kind == "spherical":
            squares = jnp.sum(jnp.square(encoded), axis=-1, keepdims=True)
            positive = squares > 0
            unit = encoded / jnp.sqrt(jnp.where(positive, squares, jnp.ones_like(squares)))
            # The release divides zeros, the output for digital silence, by zero.
            return jnp.where(positive, unit, jnp.asarray(self.config.latent_size**-0.5, encoded.dtype))
        return encoded

    def noise_shapes(self, encoded_shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        """Shapes of the normal random arrays that `draw` uses, for an encoder output of `encoded_shape`."""
        batch, config = encoded_shape[:-1], self.config
        appended = ((*batch, config.noise_channels),) if config.noise_channels else ()
        if config.kind in ("variational", "wasserstein"):
            return (*batch, config.latent_size), *appended
        return appended

    def frame_noise(
        self, key: PRNGKeyArray, numbers: Int32[Array, " frames"], *, batch: tuple[int, ...] = ()
    ) -> list[Float[Array, "*batch frames channels"]]:
        """The argument `noise` of `draw` that a stream with `key` uses for frames with the given numbers.

        The noise of a frame depends on its number, and not on the blocks in which frames arrive. Frame 0 is the first
        one of the signal, which is delayed.
        """
        shapes = self.noise_shapes((*batch, 1, self.config.encoder_channels))
        keys = jax.random.split(key, len(shapes) + 1)[1:]
        return [
            draw_for_positions(lambda k, size=shape[-1]: jax.random.normal(k, (*batch, size)), k, numbers, len(batch))
            for k, shape in zip(keys, shapes, strict=True)
        ]

    def streaming_form(
        self,
        start: int,
        state: EncoderState,
        *,
        draws: bool = True,
        quantize: bool = True,
        codes: bool = False,
    ) -> StreamingForm:
        """The form of the encoder, and of `draw` in inference with noise of `frame_noise`; its output is `Latents.z`.

        The latents are those of `mean` if the state of the stream was made without a key, or without `draws`.
        `quantize` is that of `draw`; with `codes`, the output is `Latents.codes`.

        **Raises:** `ConfigError` if `state` lacks the state of the encoder.
        """
        encoder = self.encoder.streaming_form(start, state.encoder)
        # Without the encoder, whose weights the form would otherwise contain twice.
        draw = _Draw(with_options(self, encoder=None), replace(state, encoder=None), quantize, codes)
        return SequenceForm([encoder, IndexForm(draw, encoder.next_start, draws=draws)])

    @operation
    def draw(
        self,
        encoded: Float[Array, "*batch frames out"],
        state: EncoderState,
        *,
        key: PRNGKeyArray | None = None,
        noise: Sequence[Float[Array, "..."]] | None = None,
        quantize: bool = True,
        inference: bool = False,
    ) -> tuple[Latents, EncoderState]:
        """Draw latents.

        **Arguments:**

        - `encoded`: the output of a call.
        - `state`: contains the codebooks of `discrete`, which are updated unless `inference`.
        - `key`: draws random numbers. Without `key` and `noise`, the latents are those of `mean`, noise channels are
            zero, and the regularisation of `wasserstein`, for which random vectors are needed, is 0. Codebooks are only
            updated with `key`, and without `inference`; otherwise, the regularisation of `discrete` is 0.
        - `noise`: standard normal arrays of `noise_shapes` to use instead.
        - `quantize`: whether `discrete` quantises. The release contains a warm-up without quantisation, but its
            callback is never called, and its models are trained without quantisation.

        **Raises:** `ShapeError` for another number of channels, or other shapes of `noise`.
        """
        if encoded.shape[-1] != self.config.encoder_channels:
            raise ShapeError(
                f"The shape of encoded is {encoded.shape}; it should be (*batch, frames, "
                f"{self.config.encoder_channels})."
            )
        shapes = self.noise_shapes(encoded.shape)
        if noise is not None and tuple(array.shape for array in noise) != shapes:
            raise ShapeError(f"The shapes of noise are {[array.shape for array in noise]}; they should be {shapes}.")
        if noise is None and key is not None:
            keys = jax.random.split(key, len(shapes) + 1)[1:]
            noise = [jax.random.normal(k, shape, encoded.dtype) for k, shape in zip(keys, shapes, strict=True)]
        mean = self.mean(encoded)
        latents = Latents(mean, jnp.zeros(()))
        if self.config.kind == "variational":
            latents = _variational(encoded, None if noise is None else noise[0])
        elif self.config.kind == "wasserstein" and noise is not None:
            rows = (-1, self.config.latent_size)
            latents = Latents(mean, maximum_mean_discrepancy(mean.reshape(rows), noise[0].reshape(rows)))
        elif self.rvq is not None and quantize:
            assert state.rvq is not None
            options = {"key": key, "inference": inference or key is None}
            quantized, codebooks = self.rvq(encoded, state.rvq, **options)
            latents = Latents(quantized.vectors, jnp.zeros(()), quantized.codes)
            if not options["inference"]:
                latents = latents._replace(regularization=quantized.commitment)
            state = replace(state, rvq=codebooks)
        if self.config.noise_channels:
            shape = shapes[-1]
            appended = jnp.zeros(shape, encoded.dtype) if noise is None else noise[-1]
            latents = latents._replace(z=jnp.concatenate([latents.z, appended], axis=-1))
        return latents, state


class _Draw(Module):
    """`Bottleneck.draw` in a stream."""

    bottleneck: Bottleneck
    state: EncoderState
    quantize: bool = eqx.field(static=True)
    codes: bool = eqx.field(static=True)

    def __call__(self, encoded: Array, numbers: Array, key: PRNGKeyArray | None) -> Array:
        noise = None
        if key is not None:
            noise = self.bottleneck.frame_noise(key, numbers, batch=encoded.shape[:-2])
            noise = [array.astype(encoded.dtype) for array in noise]
        options = {"noise": noise, "quantize": self.quantize, "inference": True}
        latents, _ = self.bottleneck.draw(encoded, self.state, **options)
        if not self.codes:
            return latents.z
        assert latents.codes is not None
        return latents.codes


def _variational(encoded: Array, noise: Array | None) -> Latents:
    """Latents from a Gaussian; the regularisation is twice its KL divergence from N(0, 1), mean over frames."""
    mean, scale = jnp.split(encoded, 2, axis=-1)
    deviation = jax.nn.softplus(scale) + jnp.asarray(1e-4, encoded.dtype)
    variance = jnp.square(deviation)
    divergence = jnp.sum(jnp.square(mean) + variance - jnp.log(variance) - 1, axis=-1)
    return Latents(mean if noise is None else mean + deviation * noise, jnp.mean(divergence))


def to_angles(vectors: Float[Array, "*batch dim"]) -> Float[Array, "*batch dim_minus_1"]:
    """The spherical coordinates of unit vectors, scaled to [-1, 1]: all but the last by pi, the last by 2 pi.

    **Raises:** `ShapeError` for fewer than two dimensions.

    acids-ircam/RAVE `rave/core.py:unit_norm_vector_to_angles`.
    """
    if vectors.ndim < 1 or vectors.shape[-1] < 2:
        raise ShapeError(f"The shape of the vectors is {vectors.shape}; the last axis should have 2 or more numbers.")
    # norms[i] is the length of the vector without its first i coordinates.
    norms = jnp.sqrt(jnp.flip(jnp.cumsum(jnp.flip(jnp.square(vectors), -1), -1), -1))
    angles = jnp.arctan2(norms[..., 1:-1], vectors[..., :-2])
    last = jnp.arctan2(vectors[..., -1:], vectors[..., -2:-1]) % (2 * jnp.pi)
    return jnp.concatenate([angles / jnp.pi, last / (2 * jnp.pi)], axis=-1) * 2 - 1


def from_angles(angles: Float[Array, "*batch dim_minus_1"]) -> Float[Array, "*batch dim"]:
    """The unit vectors of the angles of `to_angles`; angles outside [-1, 1] are wrapped.

    acids-ircam/RAVE `rave/core.py:angles_to_unit_norm_vector`.
    """
    inside = jnp.abs(angles) <= 1
    scaled = jnp.where(inside, angles + 1, (angles + 1) % 2) / 2
    radians = jnp.concatenate([scaled[..., :-1] * jnp.pi, scaled[..., -1:] * (2 * jnp.pi)], axis=-1)
    sines = jnp.cumprod(jnp.sin(radians), -1)
    ones = jnp.ones_like(angles[..., :1])
    return jnp.concatenate([ones, sines], -1) * jnp.concatenate([jnp.cos(radians), ones], -1)

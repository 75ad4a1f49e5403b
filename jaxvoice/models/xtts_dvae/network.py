"""The discrete variational autoencoder of XTTS: mel spectrograms to codes and back."""

import itertools
from typing import NamedTuple

import equinox as eqx
import jax
from jax import lax, numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Int32, PRNGKeyArray

from jaxvoice.errors import ShapeError
from jaxvoice.models.xtts_dvae.config import DVAEConfig
from jaxvoice.nn import Conv1d, Module, UpsampledConv1d, length_mask, masked, operation

_Length = Int[Array, "*batch"] | int | None
_Mask = Bool[Array, "*batch time"] | None


class Quantized(NamedTuple):
    """Latents, and the nearest vectors of the code book."""

    latents: Float[Array, "*batch time channels"]
    """The output of the encoder."""
    vectors: Float[Array, "*batch time channels"]
    """The nearest vector of each, through which the gradient reaches `latents` unchanged."""
    codes: Int32[Array, "*batch time"]
    """The numbers of these vectors."""
    commitment: Float[Array, ""]
    """Mean squared difference of `latents` and the vectors, whose gradient reaches `latents` only."""


class Reconstruction(NamedTuple):
    """The output of a `DVAE`."""

    mel: Float[Array, "*batch frames mels"]
    """The decoded mel spectrogram."""
    quantized: Quantized
    """The latents and codes from which it was decoded."""


class ResidualBlock(Module):
    """Three convolutions with ReLU between them, and a shortcut. The attribute paths have torch's numbers."""

    net: tuple[Conv1d, None, Conv1d, None, Conv1d]

    def __init__(self, channels: int, kernel_size: int, *, key: PRNGKeyArray):
        keys, padding = jax.random.split(key, 3), kernel_size // 2
        first, second = (Conv1d(channels, channels, kernel_size, padding=padding, key=k) for k in keys[:2])
        self.net = (first, None, second, None, Conv1d(channels, channels, 1, key=keys[2]))

    def __call__(
        self, x: Float[Array, "*batch time channels"], *, mask: _Mask = None
    ) -> Float[Array, "*batch time channels"]:
        """The output has the shape of `x`. Inputs of the convolutions are zero where `mask` is false."""
        y = self.net[2](masked(jax.nn.relu(self.net[0](masked(x, mask))), mask))
        return x + self.net[4](jax.nn.relu(y))


class CodeBook(Module):
    """Vectors that are moving averages of the latents nearest to them (arXiv 1711.00937, appendix A.1).

    The vectors are columns, as in the release. No gradient reaches them; `updated` moves them.

    coqui-ai/TTS `TTS/tts/layers/xtts/dvae.py:Quantize`.
    """

    embed: Float[Array, "channels codes"]
    cluster_size: Float[Array, " codes"]
    embed_avg: Float[Array, "channels codes"]

    def __init__(self, channels: int, codes: int, *, key: PRNGKeyArray):
        self.embed = jax.random.normal(key, (channels, codes))
        self.cluster_size, self.embed_avg = jnp.zeros(codes), self.embed

    def __call__(self, latents: Float[Array, "*batch time channels"]) -> Quantized:
        """The nearest vector of each latent, by the squared distance; the first one of several."""
        embed = lax.stop_gradient(self.embed.astype(latents.dtype))
        flat = lax.stop_gradient(latents)
        # Codes must not depend on the precision of matrix products on GPUs and TPUs.
        product = jnp.einsum("...c,ck->...k", flat, embed, precision=lax.Precision.HIGHEST)
        distances = jnp.sum(jnp.square(flat), -1, keepdims=True) - 2 * product
        distances = distances + jnp.sum(jnp.square(embed), 0).reshape((1,) * (latents.ndim - 1) + (-1,))
        codes = jnp.argmin(distances, -1).astype(jnp.int32)
        vectors = self.vectors(codes).astype(latents.dtype)
        commitment = jnp.mean(jnp.square(vectors - latents))
        return Quantized(latents, latents + lax.stop_gradient(vectors - latents), codes, commitment)

    @operation
    def vectors(self, codes: Int[Array, "*batch time"]) -> Float[Array, "*batch time channels"]:
        """The vectors of `codes`; NaN for codes outside the book. No gradient reaches them."""
        table = lax.stop_gradient(self.embed).T
        return table.at[codes].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)

    def updated(
        self,
        latents: Float[Array, "*batch time channels"],
        codes: Int[Array, "*batch time"],
        *,
        decay: float,
        eps: float,
    ) -> "CodeBook":
        """The code book after a training step on `latents` with the nearest vectors `codes`.

        Sums and sizes of clusters are moving averages, and each vector becomes its sum, divided by its size, which is
        smoothed with `eps`, so that no vector is divided by zero.
        """
        count, channels = self.cluster_size.shape[0], self.embed.shape[0]
        flat = lax.stop_gradient(latents).astype(jnp.float32).reshape(-1, channels)
        members = jax.nn.one_hot(codes.reshape(-1), count, dtype=jnp.float32)
        size = decay * self.cluster_size + (1 - decay) * jnp.sum(members, 0)
        sums = jnp.einsum("nc,nk->ck", flat, members, precision=lax.Precision.HIGHEST)
        total = decay * self.embed_avg + (1 - decay) * sums
        whole = jnp.sum(size)
        smoothed = (size + eps) / (whole + count * eps) * whole
        return self._with(total / smoothed[None, :], size, total)

    def restarted(
        self, latents: Float[Array, "*batch time channels"], *, below: float, key: PRNGKeyArray
    ) -> tuple["CodeBook", Int32[Array, ""]]:
        """The code book with random vectors of `latents` in place of its dead vectors, and the number of these.

        A vector is dead if the size of its cluster is less than `below` times the mean size, which is the number of
        vectors in `latents` divided by that of the code book. New vectors begin with the mean size. They are different
        vectors of `latents` if there are enough. All vectors of a code book without a training step are dead, so this
        also chooses the first vectors from data.

        arXiv 2107.03312, section III-C.
        """
        count, channels = self.cluster_size.shape[0], self.embed.shape[0]
        flat = lax.stop_gradient(latents).astype(jnp.float32).reshape(-1, channels)
        mean = flat.shape[0] / count
        dead = self.cluster_size < below * mean
        order = jax.random.permutation(key, flat.shape[0])
        found = flat[order[(jnp.cumsum(dead) - 1) % flat.shape[0]]].T
        embed = jnp.where(dead[None, :], found, self.embed)
        size = jnp.where(dead, jnp.asarray(mean, self.cluster_size.dtype), self.cluster_size)
        total = jnp.where(dead[None, :], found * mean, self.embed_avg)
        return self._with(embed, size, total), jnp.sum(dead, dtype=jnp.int32)

    def _with(self, embed: Array, size: Array, total: Array) -> "CodeBook":
        return eqx.tree_at(lambda book: (book.embed, book.cluster_size, book.embed_avg), self, (embed, size, total))


class DVAE(Module):
    """Convolutions that halve the number of frames, a code book, and convolutions that double it again.

    Mel spectrograms are those of `jaxvoice.models.xtts_dvae.normalized_log_mel` with the configuration of the DVAE. The
    attribute paths are the names of weights in `dvae.pth`.

    arXiv 1711.00937; coqui-ai/TTS `TTS/tts/layers/xtts/dvae.py:DiscreteVAE`.
    """

    encoder: list[tuple[Conv1d] | ResidualBlock | Conv1d]
    codebook: CodeBook
    decoder: list[Conv1d | ResidualBlock | tuple[UpsampledConv1d]]
    config: DVAEConfig = eqx.field(static=True)

    def __init__(self, config: DVAEConfig, *, key: PRNGKeyArray):
        encoder_key, book_key, decoder_key = jax.random.split(key, 3)
        mels, taps, padding = config.mel.num_mels, config.kernel_size, config.kernel_size // 2
        widths = [config.hidden * 2**i for i in range(config.layers)]
        inner = widths[-1]
        keys = list(jax.random.split(encoder_key, config.layers + config.blocks + 1))
        self.encoder = [
            *(
                (Conv1d(before, after, taps, stride=2, padding=padding, key=keys.pop()),)
                for before, after in zip([mels, *widths], widths, strict=False)
            ),
            *(ResidualBlock(inner, taps, key=keys.pop()) for _ in range(config.blocks)),
            Conv1d(inner, config.code_channels, 1, key=keys.pop()),
        ]
        self.codebook = CodeBook(config.code_channels, config.codes, key=book_key)
        keys = list(jax.random.split(decoder_key, config.layers + config.blocks + 2))
        # The first upsampling keeps the width, and each further one halves it.
        ups = [inner, *widths[::-1]]
        self.decoder = [
            Conv1d(config.code_channels, inner, 1, key=keys.pop()),
            *(ResidualBlock(inner, taps, key=keys.pop()) for _ in range(config.blocks)),
            *((UpsampledConv1d(before, after, taps, key=keys.pop()),) for before, after in itertools.pairwise(ups)),
            Conv1d(ups[-1], mels, 1, key=keys.pop()),
        ]
        self.config = config

    def __call__(self, mel: Float[Array, "*batch frames mels"], *, length: _Length = None) -> Reconstruction:
        """`mel`, and the mel spectrogram of its codes, cut to the same number of frames.

        **Arguments:** `length`, the number of valid frames; the rest is padding. Results of valid frames do not depend
        on the padding.

        **Raises:** `ShapeError` for another number of bands, or without frames.
        """
        quantized = self.quantize(mel, length=length)
        count = None if length is None else -(-length // self.config.stride)
        decoded = self.decode_vectors(quantized.vectors, length=count)
        return Reconstruction(decoded[..., : mel.shape[-2], :], quantized)

    @operation
    def latents(
        self, mel: Float[Array, "*batch frames mels"], *, length: _Length = None
    ) -> Float[Array, "*batch codes channels"]:
        """The output of the encoder. Arguments and errors are those of the call."""
        if mel.ndim < 2 or mel.shape[-1] != self.config.mel.num_mels or not mel.shape[-2]:
            raise ShapeError(
                f"The shape of the mel spectrogram is {mel.shape}; it should be (*batch, frames, "
                f"{self.config.mel.num_mels}) with at least one frame."
            )
        x, left = mel, None if length is None else jnp.asarray(length, jnp.int32)
        for layer in self.encoder:
            mask = _valid(left, x)
            if isinstance(layer, ResidualBlock):
                x = layer(x, mask=mask)
            elif isinstance(layer, tuple):
                x = jax.nn.relu(layer[0](masked(x, mask)))
                left = None if left is None else -(-left // 2)
            else:
                x = layer(x)
        return x

    def quantize(self, mel: Float[Array, "*batch frames mels"], *, length: _Length = None) -> Quantized:
        """The latents and codes of `mel`. Arguments and errors are those of the call."""
        return self.codebook(self.latents(mel, length=length))

    @operation
    def encode(
        self, mel: Float[Array, "*batch frames mels"], *, length: _Length = None
    ) -> Int32[Array, "*batch codes"]:
        """The codes of `mel`, one for each four frames of the release, rounded up.

        Arguments and errors are those of the call.
        """
        return self.quantize(mel, length=length).codes

    @operation
    def decode(
        self, codes: Int[Array, "*batch codes"], *, length: _Length = None
    ) -> Float[Array, "*batch frames mels"]:
        """The mel spectrogram of `codes`, with four frames for each in the release; NaN for codes outside the book.

        **Arguments:** `length`, the number of valid codes; frames of valid codes do not depend on the rest.
        """
        return self.decode_vectors(self.codebook.vectors(codes), length=length)

    @operation
    def decode_vectors(
        self, vectors: Float[Array, "*batch codes channels"], *, length: _Length = None
    ) -> Float[Array, "*batch frames mels"]:
        """The mel spectrogram of `vectors` of the code book, as `decode`."""
        x, left = vectors, None if length is None else jnp.asarray(length, jnp.int32)
        for layer in self.decoder:
            if isinstance(layer, ResidualBlock):
                x = layer(x, mask=_valid(left, x))
            elif isinstance(layer, tuple):
                x = jax.nn.relu(layer[0](x, mask=_valid(left, x)))
                left = None if left is None else 2 * left
            else:
                x = layer(x)
        return x


def _valid(length: Int[Array, "*batch"] | None, x: Float[Array, "*batch time channels"]) -> _Mask:
    """The positions of `x` before `length`; `None` without a length."""
    return None if length is None else length_mask(length, x.shape[-2], batch=x.shape[:-2])

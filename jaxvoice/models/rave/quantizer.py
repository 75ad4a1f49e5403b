"""Residual vector quantisation (arXiv 2107.03312), with codebooks that are moving averages of the vectors they code."""

from typing import NamedTuple

import equinox as eqx
import jax
from jax import lax, numpy as jnp
from jaxtyping import Array, Float, Float32, Int, PRNGKeyArray

from jaxvoice.errors import ConfigError, ShapeError
from jaxvoice.models.rave.config import BottleneckConfig
from jaxvoice.nn import Module, operation
from jaxvoice.nn._inputs import check_input

_EPSILON = 1e-5


class CodebookState(eqx.Module):
    """A codebook, with the names of the released buffers."""

    inited: Float32[Array, "1"]
    """1 after the codebook was initialised by k-means, otherwise 0."""
    cluster_size: Float32[Array, " codes"]
    """Moving average of how often each vector is used in a batch."""
    embed: Float32[Array, "codes dim"]
    """The vectors: `embed_avg` divided by the smoothed `cluster_size`."""
    embed_avg: Float32[Array, "codes dim"]
    """Moving average of the sum of the vectors that each code stands for."""


class QuantizerState(eqx.Module):
    """The state of one quantiser."""

    _codebook: CodebookState

    @property
    def codebook(self) -> CodebookState:
        """The codebook."""
        return self._codebook


class ResidualQuantizerState(eqx.Module):
    """The codebooks of a `ResidualQuantizer`."""

    layers: list[QuantizerState]

    @property
    def codebooks(self) -> list[CodebookState]:
        """The codebooks, in the order in which they are applied."""
        return [layer.codebook for layer in self.layers]


class Quantized(NamedTuple):
    """The result of a `ResidualQuantizer`."""

    vectors: Float[Array, "*batch time dim"]
    """The sum of the codes' vectors. Its gradient is passed to the input unchanged."""
    codes: Int[Array, "*batch time quantizers"]
    """Index of the chosen vector in each codebook."""
    commitment: Float[Array, ""]
    """Sum over codebooks of the mean squared difference between a quantiser's input and its output."""


class ResidualQuantizer(Module):
    """Several codebooks, each of which quantises the difference that the ones before it left.

    The layer has no weights: codebooks are state, because they are not trained by gradients.
    acids-ircam/RAVE `rave/quantization.py`.
    """

    config: BottleneckConfig = eqx.field(static=True)

    def init_state(self) -> ResidualQuantizerState:
        """Codebooks of zeros that were not initialised; the first call in training initialises them by k-means."""
        codes, dim = self.config.codebook_size, self.config.latent_size
        zeros = jnp.zeros((codes, dim))
        state = CodebookState(jnp.zeros(1), jnp.zeros(codes), zeros, zeros)
        return ResidualQuantizerState([QuantizerState(state)] * self.config.num_quantizers)

    def __call__(
        self,
        x: Float[Array, "*batch time dim"],
        state: ResidualQuantizerState,
        *,
        key: PRNGKeyArray | None = None,
        inference: bool = False,
    ) -> tuple[Quantized, ResidualQuantizerState]:
        """**Arguments:**

        - `x`: `(*batch, time, dim)`.
        - `state`: the codebooks. With `inference` they are not changed. Otherwise each codebook is initialised by
            k-means if `inited` is 0, quantises `x`, and is updated: moving averages of counts and sums are advanced,
            and vectors used less often than the threshold are replaced by random vectors of the batch.
        - `key`: for k-means and replacement; needed unless `inference`.

        **Raises:** `ShapeError` for a wrong number of channels; `ConfigError` without `key` in training.
        """
        check_input(x, self.config.latent_size, "time")
        if key is None and not inference:
            raise ConfigError("key is None; it should be a random key, for new vectors of codebooks. Pass key=...")
        residual = x.astype(jnp.float32)
        total, losses, codes, layers = jnp.zeros_like(residual), [], [], []
        keys = [None] * len(state.layers) if key is None else jax.random.split(key, len(state.layers))
        for codebook, layer_key in zip(state.codebooks, keys, strict=True):
            vectors = lax.stop_gradient(residual).reshape(-1, residual.shape[-1])
            if layer_key is not None and not inference:
                codebook = self._initialised(codebook, vectors, key=layer_key)
            indices = nearest(vectors, codebook.embed)
            quantized = codebook.embed[indices].reshape(residual.shape)
            if layer_key is not None and not inference:
                codebook = self._updated(codebook, vectors, indices, key=jax.random.fold_in(layer_key, 1))
            losses.append(jnp.mean(jnp.square(quantized - residual)))
            passed = residual + lax.stop_gradient(quantized - residual)
            residual, total = residual - passed, total + passed
            codes.append(indices.reshape(x.shape[:-1]))
            layers.append(QuantizerState(codebook))
        result = Quantized(total.astype(x.dtype), jnp.stack(codes, -1), sum(losses[1:], losses[0]))
        return result, ResidualQuantizerState(layers)

    @operation
    def decode(
        self, codes: Int[Array, "*batch time quantizers"], state: ResidualQuantizerState
    ) -> Float[Array, "*batch time dim"]:
        """The vectors of `codes`. With fewer codes per frame than codebooks, the first codebooks are used.

        **Raises:** `ShapeError` for more codes per frame than codebooks.
        """
        if codes.ndim < 2 or not 0 < codes.shape[-1] <= len(state.layers):
            raise ShapeError(
                f"The shape of the codes is {codes.shape}; it should be (*batch, time, quantizers), with at most "
                f"{len(state.layers)} quantizers."
            )
        vectors = [state.codebooks[i].embed[codes[..., i]] for i in range(codes.shape[-1])]
        return sum(vectors[1:], vectors[0])

    def _initialised(self, codebook: CodebookState, vectors: Array, *, key: PRNGKeyArray) -> CodebookState:
        def start() -> CodebookState:
            means, sizes = kmeans(vectors, self.config.codebook_size, self.config.kmeans_iterations, key=key)
            return CodebookState(jnp.ones(1), sizes, means, means * sizes[:, None])

        return lax.cond(codebook.inited[0] > 0, lambda: codebook, start)

    def _updated(self, codebook: CodebookState, vectors: Array, indices: Array, *, key: PRNGKeyArray) -> CodebookState:
        decay, threshold = self.config.codebook_decay, self.config.dead_code_threshold
        chosen = jax.nn.one_hot(indices, self.config.codebook_size, dtype=jnp.float32)
        sums = jnp.einsum("nc,nd->cd", chosen, vectors, precision="highest")
        cluster_size = decay * codebook.cluster_size + (1 - decay) * jnp.sum(chosen, 0)
        embed_avg = decay * codebook.embed_avg + (1 - decay) * sums
        total = jnp.sum(cluster_size)
        smoothed = (cluster_size + _EPSILON) / (total + cluster_size.size * _EPSILON) * total
        embed = embed_avg / smoothed[:, None]
        # A replaced vector starts with the least average count that keeps it.
        dead, new = codebook.cluster_size < threshold, _sample(vectors, cluster_size.size, key=key)
        return CodebookState(
            codebook.inited,
            jnp.where(dead, jnp.asarray(threshold, jnp.float32), cluster_size),
            jnp.where(dead[:, None], new, embed),
            jnp.where(dead[:, None], threshold * new, embed_avg),
        )


def nearest(vectors: Float[Array, "n dim"], codebook: Float[Array, "codes dim"]) -> Int[Array, " n"]:
    """Index of the nearest vector of `codebook`, in Euclidean distance, for each of `vectors`."""
    products = jnp.einsum("nd,cd->nc", vectors, codebook, precision="highest")
    return jnp.argmin(jnp.sum(jnp.square(codebook), 1)[None] - 2 * products, axis=1)


def kmeans(
    vectors: Float[Array, "n dim"], clusters: int, iterations: int, *, key: PRNGKeyArray
) -> tuple[Float[Array, "clusters dim"], Float[Array, " clusters"]]:
    """The means and sizes of `clusters` clusters of `vectors` after `iterations` of Lloyd's algorithm.

    The means start from random vectors, different ones if there are enough. A cluster that loses all its vectors keeps
    its mean.
    """

    def step(means: Array, _: None) -> tuple[Array, Array]:
        chosen = jax.nn.one_hot(nearest(vectors, means), clusters, dtype=vectors.dtype)
        sizes = jnp.sum(chosen, 0)
        sums = jnp.einsum("nc,nd->cd", chosen, vectors, precision="highest")
        return jnp.where(sizes[:, None] > 0, sums / jnp.maximum(sizes, 1)[:, None], means), sizes

    means, sizes = lax.scan(step, _sample(vectors, clusters, key=key), None, length=iterations)
    return means, sizes[-1]


def _sample(vectors: Array, count: int, *, key: PRNGKeyArray) -> Array:
    """`count` random rows of `vectors`, different ones if there are enough."""
    number = vectors.shape[0]
    chosen = jax.random.choice(key, number, (count,), replace=number < count)
    return vectors[chosen]

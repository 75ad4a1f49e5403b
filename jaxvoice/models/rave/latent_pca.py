"""Principal components of latents, and the number of components for a share of their variance."""

import math

import equinox as eqx
import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Float32, PRNGKeyArray

from jaxvoice.errors import ConfigError, ShapeError


class LatentPCA(eqx.Module):
    """Principal components of latents, as the release stores them in `latent_pca`, `latent_mean` and `fidelity`."""

    components: Float32[Array, "latents latents"]
    """One component in each row, in the order of the variance that they explain."""
    mean: Float32[Array, " latents"]
    """Mean of the latents."""
    fidelity: Float32[Array, " latents"]
    """Share of the variance that the first components explain: cumulative, and 1 at the end."""

    @classmethod
    def fit(cls, latents: Float[np.ndarray, "*frames latents"]) -> "LatentPCA":
        """The principal components of `latents`, computed in float64. The largest entry of each is positive.

        **Raises:** `ShapeError` for fewer frames than latents, or if all frames are equal.

        acids-ircam/RAVE `rave/model.py:validation_epoch_end`.
        """
        rows = np.asarray(latents, np.float64).reshape(-1, latents.shape[-1])
        count, size = rows.shape
        if count < size:
            raise ShapeError(
                f"There are {count} frames of {size} latents; there should be at least {size} frames for principal "
                "components. Use more validation audio."
            )
        mean = rows.mean(0)
        _, values, components = np.linalg.svd(rows - mean, full_matrices=False)
        if not values[0] > 0:
            raise ShapeError("All frames of latents are equal; principal components need frames that differ.")
        largest = components[np.arange(size), np.abs(components).argmax(1)]
        components = components * np.sign(largest)[:, None]
        share = np.cumsum(values**2) / np.sum(values**2)
        return cls(*(jnp.asarray(array, jnp.float32) for array in (components, mean, share)))

    def reduce(self, z: Float[Array, "*batch latents"], size: int | None = None) -> Float[Array, "*batch size"]:
        """The first `size` principal components of `z`, by default all."""
        centred = z - self.mean.reshape((1,) * (z.ndim - 1) + (-1,)).astype(z.dtype)
        return centred @ self.components[: self._checked(size)].T.astype(z.dtype)

    def restore(
        self, reduced: Float[Array, "*batch size"], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, "*batch latents"]:
        """The latents with the given first components. The others are drawn from N(0, 1) with `key`, otherwise 0.

        acids-ircam/RAVE `scripts/export.py`.
        """
        shape = (*reduced.shape[:-1], self.mean.size - self._checked(reduced.shape[-1]))
        rest = jnp.zeros(shape, reduced.dtype) if key is None else jax.random.normal(key, shape, reduced.dtype)
        z = jnp.concatenate([reduced, rest], -1) @ self.components.astype(reduced.dtype)
        return z + self.mean.reshape((1,) * (z.ndim - 1) + (-1,)).astype(z.dtype)

    def size_for(self, fidelity: float) -> int:
        """The smallest number of components that explain more than the share `fidelity` of the variance.

        The release logs this number minus 1.

        **Raises:** `ConfigError` unless `fidelity` is in [0, 1).
        """
        return self._index(fidelity) + 1

    def export_size_for(self, fidelity: float) -> int:
        """The number of latents that the release's export script keeps for `fidelity`: a power of two.

        The script rounds `size_for(fidelity) - 1` up to a power of two, at least 1. If that number is itself a power of
        two, one component is too few for `fidelity`. The number is at most that of all latents.

        **Raises:** `ConfigError` unless `fidelity` is in [0, 1).

        acids-ircam/RAVE `scripts/export.py`.
        """
        return min(2 ** math.ceil(math.log2(max(self._index(fidelity), 1))), self.mean.size)

    def _index(self, fidelity: float) -> int:
        if not 0 <= fidelity < 1:
            raise ConfigError(f"fidelity is {fidelity}; it should be a share of the variance in [0, 1), such as 0.95.")
        enough = np.asarray(self.fidelity, np.float64) > fidelity
        # The last share may be rounded to a number below `fidelity`.
        return int(np.argmax(enough)) if enough.any() else enough.size - 1

    def _checked(self, size: int | None) -> int:
        size = self.mean.size if size is None else size
        if not 0 < size <= self.mean.size:
            raise ShapeError(f"The number of components is {size}; it should be from 1 to {self.mean.size}.")
        return size

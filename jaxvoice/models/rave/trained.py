"""A network of RAVE together with its state, as stored in model folders."""

from jaxtyping import Array, Float, PRNGKeyArray

from jaxvoice.models.rave.network import Rave, RaveState
from jaxvoice.nn import Module


class TrainedRave(Module):
    """A network and its state: what a model folder contains, under the names of the release."""

    network: Rave
    """The network."""
    state: RaveState
    """Running statistics, codebooks and principal components."""

    def __call__(
        self, audio: Float[Array, "*batch samples channels"], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, "*batch samples channels"]:
        """The reconstruction of `audio` with the stored state, which does not change.

        **Arguments:** `audio`, whose number of samples is a multiple of the hop length; `key`, which draws latents and
        noise. Without it, latents are the means of their distributions, and no noise is added.

        **Raises:** `ShapeError` for another length or number of channels.
        """
        return self.network(audio, self.state, key=key, inference=True)[0]

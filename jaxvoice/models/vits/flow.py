"""The flow of VITS: an invertible map between the latents of the posterior and those of the prior."""

import jax
from jax import numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from jaxvoice.models.vits.config import VITSConfig
from jaxvoice.models.vits.layers import WaveNet
from jaxvoice.nn import Conv1d, Module, masked, operation


class MeanCoupling(Module):
    """Adds a function of the first half of the channels to the second half; volumes are preserved.

    The last convolution is initialised with zeros, so that a new coupling is the identity.

    jaywalnut310/vits `modules.py:ResidualCouplingLayer` with `mean_only`.
    """

    pre: Conv1d
    enc: WaveNet
    post: Conv1d

    def __init__(self, config: VITSConfig, *, key: PRNGKeyArray):
        pre_key, enc_key, post_key = jax.random.split(key, 3)
        half = config.channels // 2
        self.pre = Conv1d(half, config.channels, 1, key=pre_key)
        self.enc = WaveNet(config.channels, config.flow, config.speaker_channels, key=enc_key)
        self.post = jax.tree.map(jnp.zeros_like, Conv1d(config.channels, half, 1, key=post_key))

    def __call__(
        self,
        x: Float[Array, "*batch time channels"],
        speaker: Float[Array, "*batch speaker"] | None = None,
        *,
        mask: Bool[Array, "*batch time"] | None = None,
    ) -> Float[Array, "*batch time channels"]:
        """The second half of the channels is shifted; it is zero where `mask` is false."""
        kept, moved = jnp.split(x, 2, axis=-1)
        return jnp.concatenate([kept, masked(moved, mask) + self._shift(kept, speaker, mask)], -1)

    @operation
    def reverse(
        self,
        x: Float[Array, "*batch time channels"],
        speaker: Float[Array, "*batch speaker"] | None = None,
        *,
        mask: Bool[Array, "*batch time"] | None = None,
    ) -> Float[Array, "*batch time channels"]:
        """The inverse of a call."""
        kept, moved = jnp.split(x, 2, axis=-1)
        return jnp.concatenate([kept, masked(moved - self._shift(kept, speaker, mask), mask)], -1)

    def _shift(self, kept: Array, speaker: Array | None, mask: Array | None) -> Array:
        return masked(self.post(self.enc(masked(self.pre(kept), mask), speaker, mask=mask)), mask)


class ResidualCouplings(Module):
    """Couplings, each followed by the reversal of the order of the channels (arXiv 2106.06103, section 2.2.1).

    jaywalnut310/vits `models.py:ResidualCouplingBlock`; coqui-ai/TTS `layers/vits/networks.py`.
    """

    flows: list[MeanCoupling]

    def __init__(self, config: VITSConfig, *, key: PRNGKeyArray):
        self.flows = [MeanCoupling(config, key=k) for k in jax.random.split(key, config.flows)]

    def __call__(
        self,
        z: Float[Array, "*batch time channels"],
        speaker: Float[Array, "*batch speaker"] | None = None,
        *,
        mask: Bool[Array, "*batch time"] | None = None,
    ) -> Float[Array, "*batch time channels"]:
        """Latents of the posterior to those of the prior.

        **Arguments:** `z`, zero where `mask` is false; `speaker`, the speaker vector, `None` without one.
        """
        for flow in self.flows:
            z = flow(z, speaker, mask=mask)[..., ::-1]
        return z

    @operation
    def reverse(
        self,
        z: Float[Array, "*batch time channels"],
        speaker: Float[Array, "*batch speaker"] | None = None,
        *,
        mask: Bool[Array, "*batch time"] | None = None,
    ) -> Float[Array, "*batch time channels"]:
        """Latents of the prior to those of the posterior; arguments are those of a call."""
        for flow in reversed(self.flows):
            z = flow.reverse(z[..., ::-1], speaker, mask=mask)
        return z

"""A network of RAVE together with its state, as stored in model folders."""

from dataclasses import replace

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from jaxvoice.errors import ConfigError
from jaxvoice.models.rave.layers import NetState
from jaxvoice.models.rave.network import Rave, RaveState
from jaxvoice.nn import BatchNormState, Conv1d, FixedBatchNorm, MaskedBatchNorm, Module


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


def fold_batch_norm(model: TrainedRave) -> TrainedRave:
    """`model` with its batch norms, those of the encoder of v1, as part of the convolutions before them.

    The result is for inference: its convolutions have a bias, and its layers have other indices than in the release. A
    model without batch norms is returned as it is.

    **Raises:** `ConfigError` if the state contains no running statistics.
    """
    net, state = model.network.encoder.encoder.net, model.state.encoder.encoder
    if not any(isinstance(layer, MaskedBatchNorm) for layer in net):
        return model
    if state is None:
        raise ConfigError("The state of the encoder is None; it should be the running statistics of its batch norms.")
    layers: list[Module] = []
    for layer, statistics in zip(net, state.net, strict=True):
        if not isinstance(layer, MaskedBatchNorm):
            layers.append(layer)
            continue
        conv = layers[-1]
        assert (
            isinstance(statistics, BatchNormState)
            and isinstance(conv, Conv1d)
            and conv.weight is not None
            and conv.bias is None
        )
        scale, shift = FixedBatchNorm(layer, statistics).factors()
        parts = conv.weight * scale[:, None, None], shift
        layers[-1] = eqx.tree_at(lambda c: (c.weight, c.bias), conv, parts, is_leaf=lambda node: node is None)
    network = eqx.tree_at(lambda n: n.encoder.encoder.net, model.network, layers)
    encoder = replace(model.state.encoder, encoder=NetState([None] * len(layers)))
    return TrainedRave(network, replace(model.state, encoder=encoder))

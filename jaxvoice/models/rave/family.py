"""The `Family` of RAVE: how to build and call its network, and its pipeline."""

from typing import Any

from jaxvoice.models.family import Family
from jaxvoice.models.rave.config import RaveConfig

_FRAMES = 2


def _build(config: RaveConfig, *, key: Any) -> Any:
    from jaxvoice.models.rave.network import Rave
    from jaxvoice.models.rave.trained import TrainedRave

    network = Rave(config, key=key)
    return TrainedRave(network, network.init_state())


def _example_inputs(config: RaveConfig, *, key: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Noise of a few latent frames."""
    import jax

    return (0.1 * jax.random.normal(key, (_FRAMES * config.hop_length, config.n_channels)),), {}


FAMILY = Family(
    name="rave",
    config=RaveConfig,
    build=_build,
    example_inputs=_example_inputs,
    pipeline="jaxvoice.pipelines:Rave",
    merged=("network", "state"),
)

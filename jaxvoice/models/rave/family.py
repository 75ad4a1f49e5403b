"""The `Family` of RAVE: how to build and call its network, its pipeline, and the layout of released checkpoints."""

from typing import Any

from jaxvoice.models.family import Family
from jaxvoice.models.rave.config import RaveConfig
from jaxvoice.models.rave.released_layout import RaveLayout
from jaxvoice.models.rave.weights import NAME

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


def _stream(model: Any) -> Any:
    from jaxvoice.models.rave.streaming import trained_stream

    return trained_stream(model)


FAMILY = Family(
    name=NAME,
    config=RaveConfig,
    build=_build,
    example_inputs=_example_inputs,
    pipeline="jaxvoice.pipelines:Rave",
    layouts=(RaveLayout(),),
    merged=("network", "state"),
    stream=_stream,
)

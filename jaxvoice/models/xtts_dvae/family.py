"""The `Family` of the DVAE of XTTS."""

from typing import Any

from jaxvoice.models.family import Family
from jaxvoice.models.xtts_dvae.config import CodecConfig
from jaxvoice.models.xtts_dvae.released_layout import DVAELayout
from jaxvoice.models.xtts_dvae.weights import NAME


def _build(config: CodecConfig, *, key: Any) -> Any:
    from jaxvoice.models.xtts_dvae.codec import CodecNetwork

    return CodecNetwork(config, key=key)


def _example_inputs(config: CodecConfig, *, key: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Noise of a few codes."""
    import jax

    return (0.1 * jax.random.normal(key, (3 * config.dvae.samples_per_code,)),), {}


FAMILY = Family(
    name=NAME,
    config=CodecConfig,
    build=_build,
    example_inputs=_example_inputs,
    pipeline="jaxvoice.pipelines.xtts_codec:Codec",
    layouts=(DVAELayout(),),
    fewest_steps=500,
    merged=("dvae",),
)

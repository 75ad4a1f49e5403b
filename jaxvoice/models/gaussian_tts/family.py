"""The `Family` of the phoneme-to-mel models. No checkpoints of other implementations can be imported."""

from typing import Any

from jaxvoice.models.family import Family
from jaxvoice.models.gaussian_tts.config import GaussianTTSConfig


def _build(config: GaussianTTSConfig, *, key: Any) -> Any:
    from jaxvoice.models.gaussian_tts.networks import GaussianTTS

    networks = GaussianTTS(config, key=key)
    return networks.with_state(networks.init_state())


def _example_inputs(config: GaussianTTSConfig, *, key: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Ids of a few phonemes, their durations in frames, and the sum of the durations."""
    import jax
    from jax import numpy as jnp

    phones, frames = 6, 4
    ids = jax.random.randint(key, (phones,), 1, len(config.codes) + 1)
    return (ids, jnp.full((phones,), float(frames)), phones * frames), {}


FAMILY = Family(
    name="gaussian_tts",
    config=GaussianTTSConfig,
    build=_build,
    example_inputs=_example_inputs,
    pipeline="jaxvoice.pipelines:Synthesizer",
    fewest_steps=500,  # the preset `tiny` has 500
)

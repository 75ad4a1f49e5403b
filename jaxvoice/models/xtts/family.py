"""The `Family` of XTTS."""

from typing import Any

from jaxvoice.models.family import Family
from jaxvoice.models.xtts.bundle import DVAE_FOLDER, folder_contents
from jaxvoice.models.xtts.config import XTTSConfig
from jaxvoice.models.xtts.released_layout import XTTSLayout
from jaxvoice.models.xtts.weights import NAME


def _build(config: XTTSConfig, *, key: Any) -> Any:
    from jaxvoice.models.xtts.network import XTTS

    return XTTS(config, key=key)


def _example_inputs(config: XTTSConfig, *, key: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Noise as a reference, a few text tokens with start and stop, and a few codes."""
    import jax
    from jax import numpy as jnp

    audio_key, text_key, code_key = jax.random.split(key, 3)
    gpt = config.gpt
    reference = 0.1 * jax.random.normal(audio_key, (config.input_rate // 4,))
    tokens = jax.random.randint(text_key, (min(6, gpt.max_text),), 0, gpt.text_ids)
    text = jnp.pad(tokens, (1, 1), constant_values=(gpt.start_text, gpt.stop_text))
    return (reference, text, jax.random.randint(code_key, (min(4, gpt.max_new_codes),), 0, gpt.codes)), {}


FAMILY = Family(
    name=NAME,
    config=XTTSConfig,
    build=_build,
    example_inputs=_example_inputs,
    pipeline="jaxvoice.pipelines.xtts_synthesizer:XTTSSynthesizer",
    layouts=(XTTSLayout(),),
    fewest_steps=500,
    folder_contents=folder_contents,
    inner_models=(DVAE_FOLDER,),
)

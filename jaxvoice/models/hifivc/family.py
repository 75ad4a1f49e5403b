"""The `Family` of HiFi-VC: how to build and call its network, and the layout of its released archive."""

from typing import Any

from jaxvoice.models.family import Family
from jaxvoice.models.hifivc.archive_layout import ArchiveLayout
from jaxvoice.models.hifivc.config import HiFiVCConfig
from jaxvoice.models.hifivc.weights import NAME

_FRAMES = 6


def _build(config: HiFiVCConfig, *, key: Any) -> Any:
    from jaxvoice.models.hifivc.network import HiFiVC

    return HiFiVC(config, key=key)


def _example_inputs(config: HiFiVCConfig, *, key: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Random features of the source, F0 if the model reads it, and a reference."""
    import jax
    from jax import numpy as jnp

    features_key, pitch_key, reference_key = jax.random.split(key, 3)
    content, encoder = config.content, config.pitch_encoder
    frames = _FRAMES * content.hop_length // content.mel.hop_length
    features = jax.random.normal(features_key, (frames, content.mel.num_mels))
    pitch = None
    if encoder is not None:
        log_f0 = 5 + 0.2 * jax.random.normal(pitch_key, (_FRAMES * encoder.downsampling,))
        pitch = jnp.stack([log_f0, jnp.ones_like(log_f0)], axis=-1)
    reference = jax.random.normal(reference_key, (config.speaker.minimum_frames + 8, config.mel.num_mels)) - 4
    return (features, pitch, reference), {}


FAMILY = Family(
    name=NAME,
    config=HiFiVCConfig,
    build=_build,
    example_inputs=_example_inputs,
    pipeline="jaxvoice.pipelines:VoiceConverter",
    layouts=(ArchiveLayout(),),
)

"""Small networks with random weights in every place, and a padded batch for them."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jax import numpy as jnp

from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.models.gaussian_tts import (
    FAMILY,
    BatchNormStates,
    DecoderConfig,
    DurationConfig,
    EncoderConfig,
    GaussianTTS,
    GaussianTTSConfig,
)
from jaxvoice.weights.array_names import load_state, named_arrays

CODES = tuple(f"P{i}" for i in range(12))
SMALL = GaussianTTSConfig(
    codes=CODES,
    dim=16,
    encoder=EncoderConfig(layers=1, heads=2, feed_forward=32, dropout=0.0, max_phones=24),
    decoder=DecoderConfig(layers=1, heads=2, feed_forward=32, dropout=0.0, max_frames=96, postnet_layers=2),
    durations=DurationConfig(layers=2, hidden=8, dropout=0.0),
    mel=MelConfig(num_mels=8),
)


def changed(config: GaussianTTSConfig = SMALL, **parts: dict[str, Any]) -> GaussianTTSConfig:
    """`config` with fields of its parts replaced: `changed(decoder={"mask": "block_causal"})`."""
    new = {name: dataclasses.replace(getattr(config, name), **fields) for name, fields in parts.items()}
    return dataclasses.replace(config, **new)


def filled(skeleton: Any, seed: int = 0) -> Any:
    """`skeleton` with random values whose scale is that of trained weights; weights of norms are around 1."""
    random = np.random.default_rng(seed)

    def numbers(name: str, leaf: Any) -> np.ndarray:
        if len(leaf.shape) < 2:
            return random.normal(1.0 if "norm" in name and name.endswith("weight") else 0.0, 0.1, leaf.shape)
        scale = 0.5 if name.endswith(("positions", "embedding")) else np.prod(leaf.shape[1:]) ** -0.5
        return random.normal(0, scale, leaf.shape)

    return load_state(skeleton, {name: numbers(name, leaf) for name, leaf in named_arrays(skeleton).items()})


def networks(config: GaussianTTSConfig = SMALL) -> GaussianTTS:
    return filled(eqx.filter_eval_shape(GaussianTTS, config, key=jax.random.key(0)))


def save_model(
    folder: Path, model: GaussianTTS, norms: BatchNormStates, config: GaussianTTSConfig, **options: Any
) -> None:
    FAMILY.save_network(folder, model.with_state(norms), config, **options)


class Padded(NamedTuple):
    """Inputs of the networks."""

    phonemes: jax.Array
    durations: jax.Array
    phone_count: jax.Array
    frame_count: jax.Array


def padded(phones: int = 10, *, garbage: bool = False) -> Padded:
    """Three examples of 10, 7 and 1 phonemes; `garbage` puts other phonemes and durations into padding."""
    random = np.random.default_rng(4)
    count = np.array([10, 7, 1], np.int32)
    phonemes, durations = random.integers(1, 13, (3, 24)), random.integers(1, 8, (3, 24)).astype(np.float32)
    valid = np.arange(24) < count[:, None]
    frames = np.where(valid, durations, 0).sum(1).astype(np.int32)
    if not garbage:
        phonemes, durations = np.where(valid, phonemes, 0), np.where(valid, durations, 0)
    arrays = (phonemes[:, :phones].astype(np.int32), durations[:, :phones], count, frames)
    return Padded(*map(jnp.asarray, arrays))

"""The configuration and weights of a small WaveGlow."""

import dataclasses
import math

import equinox as eqx
import jax
import numpy as np

from jaxvoice.dsp.mel_config import WAVEGLOW_MEL
from jaxvoice.models.waveglow import WaveGlow, WaveGlowConfig
from jaxvoice.weights import load_state, named_arrays

SMALL = WaveGlowConfig(
    flows=4,
    early_every=2,
    layers=3,
    channels=8,
    upsample_kernel=512,
    mel=dataclasses.replace(WAVEGLOW_MEL, num_mels=10),
)


def random_arrays(config: WaveGlowConfig = SMALL, seed: int = 3) -> dict[str, np.ndarray]:
    """Weights drawn by numpy; the matrices are scaled rotations, and the couplings change the audio."""
    random = np.random.default_rng(seed)
    skeleton = eqx.filter_eval_shape(WaveGlow, config, key=jax.random.key(0))
    arrays = {}
    for name, array in named_arrays(skeleton).items():
        if name.startswith("convinv"):
            rotation, _ = np.linalg.qr(random.normal(size=array.shape[:2]))
            rotation[:, 0] *= np.sign(np.linalg.det(rotation))
            value = rotation[..., None] * random.uniform(0.8, 1.2)
        elif name.endswith("weight_g"):
            value = random.uniform(0.8, 1.2, array.shape)
        elif array.ndim == 1 or ".end." in name:
            value = random.normal(0, 0.1, array.shape)
        else:
            value = random.normal(0, 1 / math.sqrt(math.prod(array.shape[1:])), array.shape)
        arrays[name] = value.astype(np.float32)
    return arrays


def random_network(config: WaveGlowConfig = SMALL) -> WaveGlow:
    """A network with `random_arrays`."""
    return load_state(eqx.filter_eval_shape(WaveGlow, config, key=jax.random.key(0)), random_arrays(config))

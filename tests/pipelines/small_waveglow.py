"""A small WaveGlow whose couplings matter, so that wrong frames exceed the tolerances."""

import equinox as eqx
import jax
import numpy as np

from jaxvoice.dsp import MelConfig
from jaxvoice.models.waveglow import WaveGlow, WaveGlowConfig
from jaxvoice.weights import load_state, named_arrays


def waveglow_config(**sizes) -> WaveGlowConfig:
    mel = MelConfig(
        sample_rate=8000,
        n_fft=64,
        win_length=64,
        hop_length=16,
        num_mels=8,
        fmax=4000.0,
        magnitude_floor=0.0,
        center=True,
    )
    small = {"flows": 4, "early_every": 2, "layers": 3, "channels": 8, "upsample_kernel": 64}
    return WaveGlowConfig(**{**small, "mel": mel, **sizes})


def random_waveglow(config: WaveGlowConfig) -> WaveGlow:
    """Random rotations, and weights whose couplings are as large as the noise."""
    rng = np.random.default_rng(3)
    skeleton = eqx.filter_eval_shape(WaveGlow, config, key=jax.random.key(0))
    arrays = {}
    for name, array in named_arrays(skeleton).items():
        if name.startswith("convinv"):
            arrays[name] = np.linalg.qr(rng.normal(size=array.shape[:2]))[0][..., None]
        elif name.endswith("weight_g"):
            arrays[name] = np.ones(array.shape)
        else:
            arrays[name] = rng.normal(0, 0.1, array.shape)
    return load_state(skeleton, arrays)

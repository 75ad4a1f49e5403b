"""The configurations of small models of RAVE."""

import dataclasses
import math

import equinox as eqx
import jax
import numpy as np

from jaxvoice.models.rave import (
    FAMILY,
    PQMF,
    BottleneckConfig,
    DiscriminatorConfig,
    EncoderConfig,
    GeneratorConfig,
    MelInputConfig,
    NoiseConfig,
    PQMFConfig,
    RaveConfig,
    TrainedRave,
)
from jaxvoice.weights import load_state, named_arrays

SMALL = RaveConfig(
    EncoderConfig(capacity=4, ratios=(2, 2), dilations=((1, 3), (1,))),
    GeneratorConfig(capacity=4, ratios=(2, 2), dilations=((1, 3), (1,))),
    BottleneckConfig(latent_size=6),
    DiscriminatorConfig(capacity=4),
    PQMFConfig(attenuation=70, num_bands=4),
    sample_rate=16000,
)
"""v2 with few channels and a hop of 16 samples."""


def with_parts(**parts) -> RaveConfig:
    """`SMALL` with changed fields of its parts."""
    changed = {
        name: dataclasses.replace(getattr(SMALL, name), **values) if isinstance(values, dict) else values
        for name, values in parts.items()
    }
    return dataclasses.replace(SMALL, **changed)


CONFIGS = {
    "v2": SMALL,
    "v1": with_parts(
        encoder={"version": "v1", "dilations": ()},
        generator={"version": "v1", "dilations": (), "noise": NoiseConfig((2, 2), hidden_size=None)},
        discriminators={"kind": "scale"},
    ),
    "raw output": with_parts(generator={"output": "raw", "ratios": (4, 4)}),
    "v3": with_parts(encoder={"snake": True, "adain": True}, generator={"snake": True, "adain": True}),
    "noise": with_parts(generator={"noise": NoiseConfig((2, 2), hidden_size=8)}),
    "stereo": with_parts(n_channels=2),
    "discrete": with_parts(
        bottleneck=BottleneckConfig("discrete", 6, noise_channels=3, num_quantizers=2, codebook_size=8)
    ),
    "wasserstein": with_parts(bottleneck=BottleneckConfig("wasserstein", 6, noise_channels=3)),
    "spherical": with_parts(bottleneck=BottleneckConfig("spherical", 6)),
    "gru": with_parts(generator={"recurrent_layers": 2}),
    "mel": with_parts(
        encoder={"input": "mel", "ratios": (2,), "dilations": ((1,),), "mel": MelInputConfig(64, 8, 12)},
        generator={"ratios": (2, 2)},
    ),
}
"""Small models of all kinds."""


def random_model(config: RaveConfig = SMALL, seed: int = 0) -> TrainedRave:
    """A model with weights drawn by numpy, since drawing them in JAX compiles many small programs."""
    random = np.random.default_rng(seed)
    skeleton = eqx.filter_eval_shape(FAMILY.build, config, key=jax.random.key(0))
    known = named_arrays(skeleton.network.init_state())
    known |= named_arrays({"pqmf": PQMF(config.pqmf, causal=config.padding == "causal")})
    arrays = {}
    for name, array in named_arrays(skeleton, merged=FAMILY.merged).items():
        last = name.rpartition(".")[2]
        if name in known:
            arrays[name] = known[name]
        elif last in ("weight_g", "alpha") or array.ndim == 1:
            arrays[name] = random.uniform(0.5, 1.0, array.shape) if last != "bias" else np.full(array.shape, 0.1)
        else:
            arrays[name] = random.normal(0, math.prod(array.shape[1:]) ** -0.5, array.shape)
    return load_state(skeleton, arrays, merged=FAMILY.merged)

"""The configurations of small models of RAVE."""

import dataclasses

from jaxvoice.models.rave import (
    BottleneckConfig,
    DiscriminatorConfig,
    EncoderConfig,
    GeneratorConfig,
    MelInputConfig,
    NoiseConfig,
    PQMFConfig,
    RaveConfig,
)

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

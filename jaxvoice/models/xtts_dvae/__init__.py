"""The discrete variational autoencoder of XTTS: mel spectrograms to codes and back."""

from typing import TYPE_CHECKING

from jaxvoice._lazy import lazy_imports

if TYPE_CHECKING:
    from jaxvoice.models.xtts_dvae.codec import CodecNetwork as CodecNetwork
    from jaxvoice.models.xtts_dvae.config import (
        DVAE_MEL as DVAE_MEL,
        CodecConfig as CodecConfig,
        DVAEConfig as DVAEConfig,
    )
    from jaxvoice.models.xtts_dvae.family import FAMILY as FAMILY
    from jaxvoice.models.xtts_dvae.front_end import (
        inversion_config as inversion_config,
        normalized_log_mel as normalized_log_mel,
    )
    from jaxvoice.models.xtts_dvae.network import (
        DVAE as DVAE,
        CodeBook as CodeBook,
        Quantized as Quantized,
        Reconstruction as Reconstruction,
    )

__getattr__, __dir__ = lazy_imports(
    __name__,
    globals(),
    {
        "codec": ("CodecNetwork",),
        "config": ("DVAE_MEL", "CodecConfig", "DVAEConfig"),
        "family": ("FAMILY",),
        "front_end": ("inversion_config", "normalized_log_mel"),
        "network": ("DVAE", "CodeBook", "Quantized", "Reconstruction"),
    },
)

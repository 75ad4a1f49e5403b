"""The discrete variational autoencoder of XTTS: mel spectrograms to codes and back."""

from typing import TYPE_CHECKING

from jaxvoice._lazy import lazy_imports

if TYPE_CHECKING:
    from jaxvoice.models.xtts_dvae.config import DVAE_MEL as DVAE_MEL, DVAEConfig as DVAEConfig
    from jaxvoice.models.xtts_dvae.front_end import normalized_log_mel as normalized_log_mel
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
        "config": ("DVAE_MEL", "DVAEConfig"),
        "front_end": ("normalized_log_mel",),
        "network": ("DVAE", "CodeBook", "Quantized", "Reconstruction"),
    },
)

"""What a user calls: a vocoder that turns mel spectrograms or recordings into speech; weights in, out, side by side."""

from typing import TYPE_CHECKING

from jaxvoice._lazy import lazily

if TYPE_CHECKING:
    from jaxvoice.pipelines.comparing import compare as compare
    from jaxvoice.pipelines.exporting import export_model as export_model
    from jaxvoice.pipelines.importing import import_model as import_model
    from jaxvoice.pipelines.vocoder import Vocoder as Vocoder

__getattr__, __dir__ = lazily(
    __name__,
    globals(),
    {
        "comparing": ("compare",),
        "exporting": ("export_model",),
        "importing": ("import_model",),
        "vocoder": ("Vocoder",),
    },
)

"""What a user calls: a vocoder that turns mel spectrograms or recordings into speech."""

from typing import TYPE_CHECKING

from jaxvoice._lazy import lazily

if TYPE_CHECKING:
    from jaxvoice.pipelines.vocoder import Vocoder as Vocoder

__getattr__, __dir__ = lazily(
    __name__,
    globals(),
    {
        "vocoder": ("Vocoder",),
    },
)

"""See inside a model: what its layers put out."""

from typing import TYPE_CHECKING

from jaxvoice._lazy import lazily

if TYPE_CHECKING:
    from jaxvoice.dissect.activations import record as record

__getattr__, __dir__ = lazily(__name__, globals(), {"activations": ("record",)})

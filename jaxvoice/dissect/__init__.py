"""Capture and edit intermediate results of a model by the dotted paths of its modules."""

from typing import TYPE_CHECKING

from jaxvoice._lazy import lazy_imports

if TYPE_CHECKING:
    from jaxvoice.dissect.named_results import (
        NamedValue as NamedValue,
        capture as capture,
        named_values as named_values,
        tag as tag,
    )

__getattr__, __dir__ = lazy_imports(
    __name__, globals(), {"named_results": ("NamedValue", "capture", "named_values", "tag")}
)

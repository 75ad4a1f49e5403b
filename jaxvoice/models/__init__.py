"""Model families: one package per family, with its configuration, networks, training and checkpoint layouts.

`FAMILIES` lists the `Family` of each package. The list is created when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxvoice.models.family import Family

    FAMILIES: tuple[Family, ...]

__all__ = ["FAMILIES"]

_PACKAGES = (
    "hifigan",
    "gaussian_tts",
    "conformer",
    "hifivc",
    "waveglow",
    "rave",
    "speaker_encoder",
    "vits",
    "xtts_dvae",
    "xtts",
)


def __getattr__(name: str) -> Any:
    if name != "FAMILIES":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = tuple(importlib.import_module(f"{__name__}.{package}").FAMILY for package in _PACKAGES)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*(name for name in globals() if name.startswith("__")), *__all__})

"""The settings of a generator in the configuration of another implementation."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.models.hifigan.config import LatentConfig
from jaxvoice.weights.foreign_settings import Settings


@dataclass(frozen=True)
class ForeignConfig:
    """The settings in a configuration file."""

    kind: str
    """The implementation that wrote it."""
    generator: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `GeneratorConfig`."""
    mel: MelConfig | LatentConfig | None = None
    """The input of the generator; `None` if the file does not state it."""
    segment_size: int | None = None
    """Samples of a training crop; `None` if the file does not state it."""
    assumed: tuple[str, ...] = ()
    """Assumptions about missing settings."""
    decay: float | None = None
    """Factor of the learning rates after each epoch; `None` if the file does not state it."""
    normalized: bool = True
    """Whether the input is normalised if the weights contain its mean and scale."""


OPTIONAL_SIZES = (
    "upsample_initial_channel",
    "upsample_kernel_sizes",
    "resblock_kernel_sizes",
    "resblock_dilation_sizes",
)


def read_sizes(
    table: Settings,
    rates: str = "upsample_rates",
    block: str = "resblock",
    *,
    suffix: str = "",
    optional: Sequence[str] = (),
) -> dict[str, Any]:
    """Fields of `GeneratorConfig`. `rates` and `block` are the keys of the rates and of the kind of block."""
    found: dict[str, Any] = {}
    readers: tuple[tuple[str, str, Callable[[str], Any]], ...] = (
        ("upsample_rates", rates, table.integers),
        ("resblock", block, table.text),
        ("upsample_initial_channel", f"upsample_initial_channel{suffix}", table.integer),
        ("upsample_kernel_sizes", f"upsample_kernel_sizes{suffix}", table.integers),
        ("resblock_kernel_sizes", f"resblock_kernel_sizes{suffix}", table.integers),
        ("resblock_dilation_sizes", f"resblock_dilation_sizes{suffix}", table.integer_lists),
    )
    for field_name, key, read in readers:
        if key in table or (field_name not in optional and key not in optional):
            found[field_name] = read(key)
    if found.get("resblock") == "2" and "resblock_dilation_sizes" in found:
        # Residual blocks of kind 2 use the first two dilations only.
        found["resblock_dilation_sizes"] = tuple(sizes[:2] for sizes in found["resblock_dilation_sizes"])
    return found


def hop_length_of(rates: Sequence[int]) -> int:
    """The product of upsampling rates, limited to 2**62. Larger products are invalid too."""
    return min(math.prod(rates), 2**62)

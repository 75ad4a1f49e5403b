"""The weights of the DVAE of XTTS: names and shapes, and where they are in released files. Does not import jax."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from jaxvoice.errors import CheckpointError
from jaxvoice.models.hifigan.weights import generator_shapes
from jaxvoice.models.xtts_dvae.config import DVAE_MEL, CodecConfig, DVAEConfig
from jaxvoice.weights.mismatches import format_name
from jaxvoice.weights.rules import Ignore, Rule

NAME = "xtts_dvae"
STATISTICS = "mel_stats"
"""The name of the statistics of mel bands in model folders, in `model.pth`, and of their own file."""

Shapes = dict[str, tuple[int, ...]]

RULES = (Rule("{path*}", "{path*}"),)
"""All arrays have the names of the release."""

_MARKS = ("codebook.embed", "codebook.cluster_size", "codebook.embed_avg", "encoder.0.0.weight", "decoder.0.weight")

TRAINING_STATE = r"(optim|scaler|model_loss|scheduler)[a-z_]*(\..*)?"
"""The names of the state of training in coqui's checkpoints."""


def _conv(name: str, out: int, inputs: int, kernel: int) -> Shapes:
    return {f"{name}.weight": (out, inputs, kernel), f"{name}.bias": (out,)}


def _block(name: str, channels: int, kernel: int) -> Shapes:
    first, second = (_conv(f"{name}.net.{i}", channels, channels, kernel) for i in (0, 2))
    return first | second | _conv(f"{name}.net.4", channels, channels, 1)


def dvae_shapes(config: DVAEConfig) -> Shapes:
    """Shape of every array of a `DVAE`, by name."""
    mels, taps = config.mel.num_mels, config.kernel_size
    widths = [config.hidden * 2**i for i in range(config.layers)]
    inner, shapes = widths[-1], Shapes()
    for i, (before, after) in enumerate(zip([mels, *widths], widths, strict=False)):
        shapes |= _conv(f"encoder.{i}.0", after, before, taps)
    for i in range(config.blocks):
        shapes |= _block(f"encoder.{config.layers + i}", inner, taps)
    shapes |= _conv(f"encoder.{config.layers + config.blocks}", config.code_channels, inner, 1)
    book = (config.code_channels, config.codes)
    shapes |= {"codebook.embed": book, "codebook.cluster_size": (config.codes,), "codebook.embed_avg": book}
    shapes |= _conv("decoder.0", inner, config.code_channels, 1)
    for i in range(config.blocks):
        shapes |= _block(f"decoder.{1 + i}", inner, taps)
    ups = [inner, *widths[::-1]]
    for i in range(config.layers):
        shapes |= _conv(f"decoder.{1 + config.blocks + i}.0.conv", ups[i + 1], ups[i], taps)
    return shapes | _conv(f"decoder.{1 + config.blocks + config.layers}", mels, ups[-1], 1)


def codec_shapes(config: CodecConfig) -> Shapes:
    """Shape of every array in a model folder, by name."""
    vocoder = {} if config.vocoder is None else generator_shapes(config.vocoder)
    shapes = {**dvae_shapes(config.dvae), STATISTICS: (config.mel.num_mels,)}
    return shapes | {f"vocoder.{name}": shape for name, shape in vocoder.items()}


def networks_in(names: Iterable[str]) -> list[str]:
    """The prefix of each DVAE among tensors of these names."""
    known = set(names)
    prefixes = sorted(name.removesuffix(_MARKS[0]) for name in known if name.endswith(_MARKS[0]))
    return [
        prefix
        for prefix in prefixes
        if (not prefix or prefix.endswith(".")) and all(prefix + mark in known for mark in _MARKS)
    ]


def is_whole_model(names: Iterable[str], prefix: str) -> bool:
    """Whether all tensors outside `prefix` are states of training."""
    return all(name.startswith(prefix) or re.fullmatch(TRAINING_STATE, name) for name in names)


def ignored(prefix: str) -> tuple[Ignore, ...]:
    """The tensors of a file with a DVAE below `prefix` that are not imported."""
    at = re.escape(prefix)
    return (
        Ignore(rf"{at}discrete_loss\..*", "statistics of a loss that is not used"),
        Ignore(rf"(?!{at}.)({TRAINING_STATE})" if prefix else r"(?!)", "state of training"),
    )


def network_sizes(shapes: Mapping[str, tuple[int, ...]], where: str) -> DVAEConfig:
    """The configuration of a DVAE with tensors of these shapes, by names without prefix.

    **Arguments:** `where`, the name of the file in errors.

    **Raises:** `CheckpointError` if a tensor that determines a size is missing or has another rank; `ConfigError` for
    impossible sizes.
    """

    def size(name: str, axis: int, rank: int) -> int:
        shape = shapes.get(name)
        if shape is None or len(shape) != rank or 0 in shape:
            found = "is missing" if shape is None else f"has shape {shape}"
            raise CheckpointError(
                f"{format_name(name)} {found} in {where}; it should be a weight of the DVAE of XTTS with {rank} axes. "
                "Download the file again."
            )
        return shape[axis]

    def count(pattern: str) -> int:
        numbers = {int(hit[1]) for name in shapes if (hit := re.fullmatch(pattern, name))}
        return len(numbers)

    mel = replace(DVAE_MEL, num_mels=size("encoder.0.0.weight", 1, 3))
    return DVAEConfig(
        codes=size("codebook.embed", 1, 2),
        code_channels=size("codebook.embed", 0, 2),
        hidden=size("encoder.0.0.weight", 0, 3),
        layers=count(r"encoder\.([0-9]{1,2})\.0\.weight"),
        blocks=count(r"encoder\.([0-9]{1,2})\.net\.0\.weight"),
        kernel_size=size("encoder.0.0.weight", 2, 3),
        mel=mel,
    )

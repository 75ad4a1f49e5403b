"""WaveGlow's weights: their names and shapes, the rules that convert released files, and checks of their values.

Does not import jax.
"""

import re
from collections.abc import Iterable, Mapping

import numpy as np
from jaxtyping import Float, Shaped

from jaxvoice.errors import CheckpointError
from jaxvoice.models.waveglow.config import WaveGlowConfig
from jaxvoice.weights.mismatches import format_name
from jaxvoice.weights.rules import Ignore, Rule

NAME = "waveglow"

Shapes = dict[str, tuple[int, ...]]

_MARKS = ("convinv.0.conv.weight", "upsample.weight", "WN.0.end.weight")
_KERNELS = ("weight_v", "parametrizations.weight.original1", "weight")
# The inverse in float32 has a relative error of about 1e-7 times the condition number.
_WORST_CONDITION = 1e5
# exp of more is infinite in float32.
_LARGEST_LOG = 88.0


def _layer(source: str, target: str | None = None) -> tuple[Rule, Rule]:
    target = target or source
    return Rule(source, target, norm="weight"), Rule(f"{source}.bias", f"{target}.bias")


RULES: tuple[Rule, ...] = (
    Rule("upsample.weight", "upsample.weight"),
    Rule("upsample.bias", "upsample.bias"),
    *_layer("WN.{k}.in_layers.{i}"),
    *_layer("WN.{k}.res_skip_layers.{i}"),
    *_layer("WN.{k}.res_layers+skip_layers.{i}", "WN.{k}.res_skip_layers.{i}"),
    *_layer("WN.{k}.skip_layers.{i}", "WN.{k}.res_skip_layers.{i}"),
    *_layer("WN.{k}.start"),
    Rule("WN.{k}.end.{part*}", "WN.{k}.end.{part*}"),
    *_layer("WN.{k}.cond_layer"),
    *_layer("WN.{k}.cond_layers", "WN.{k}.cond_layer"),
    Rule("convinv.{k}.conv.weight", "convinv.{k}.conv.weight"),
)
"""Rules for all layers, which keep torch's layout. Layers of older files are joined before: see `older_layouts`."""

_SEPARATE_OUTPUT = re.compile(r"WN\.[0-9]{1,3}\.(res_layers\+)?skip_layers\.[0-9]{1,3}")


def rules_for(aliases: Mapping[str, str]) -> tuple[Rule, ...]:
    """The rules for a file whose layers have the names `aliases`, by the names in the model.

    In the first release, the last layer has another name than those before it, which one rule cannot express.
    """
    outputs = [_layer(name, ours) for ours, name in aliases.items() if _SEPARATE_OUTPUT.fullmatch(name)]
    return (*(rule for rules in outputs for rule in rules), *RULES)


def ignored(prefix: str) -> tuple[Ignore, ...]:
    """The tensors of a file with a network below `prefix` that are not imported."""
    at = re.escape(prefix)
    return (
        Ignore(rf"{at}convinv\.[0-9]+\.W_inverse", "inverse matrix, which is computed"),
        Ignore(r"optimizer\..*|amp\..*|scaler\..*|cuda_rng_state.*|random_rng_state.*", "state of training"),
    )


def waveglow_shapes(config: WaveGlowConfig) -> Shapes:
    """Shape of every array of a `WaveGlow`, by name, in the order of torch's state dict."""
    mels, width, layers = config.mel.num_mels, config.channels, config.layers
    shapes: Shapes = {"upsample.weight": (mels, mels, config.upsample_kernel), "upsample.bias": (mels,)}
    for k, channels in enumerate(config.latent_channels):
        at = f"WN.{k}"
        for i in range(layers):
            shapes |= _conv(f"{at}.in_layers.{i}", 2 * width, width, config.kernel_size)
        for i in range(layers):
            shapes |= _conv(f"{at}.res_skip_layers.{i}", 2 * width if i < layers - 1 else width, width, 1)
        shapes |= _conv(f"{at}.start", width, channels // 2, 1)
        shapes |= {f"{at}.end.weight": (channels, width, 1), f"{at}.end.bias": (channels,)}
        shapes |= _conv(f"{at}.cond_layer", 2 * width * layers, mels * config.group, 1)
    return shapes | {f"convinv.{k}.conv.weight": (c, c, 1) for k, c in enumerate(config.latent_channels)}


def _conv(name: str, out: int, inputs: int, kernel: int) -> Shapes:
    return {f"{name}.bias": (out,), f"{name}.weight_g": (out, 1, 1), f"{name}.weight_v": (out, inputs, kernel)}


def networks_in(names: Iterable[str]) -> tuple[str, ...]:
    """The prefixes of all networks in a file with tensors of these names."""
    known = set(names)
    prefixes = [name.removesuffix(_MARKS[0]) for name in known if name.endswith(_MARKS[0])]
    return tuple(sorted(prefix for prefix in prefixes if all(prefix + mark in known for mark in _MARKS)))


def geometry(shapes: Mapping[str, tuple[int, ...]], prefix: str, where: str) -> dict[str, int]:
    """The sizes of the network below `prefix`, by the names of `WaveGlowConfig`, and the number of `mels`.

    `shapes` are those of a file whose older layers were joined.

    **Raises:** `CheckpointError` if a tensor that determines a size is missing or has another rank.
    """

    def kernel(layer: str) -> tuple[int, int, int]:
        names = [f"{prefix}{layer}.{part}" for part in _KERNELS]
        name = next((name for name in names if name in shapes), names[-1])
        shape = shapes.get(name)
        if shape is None or len(shape) != 3 or 0 in shape:
            found = "is missing" if shape is None else f"has shape {shape}"
            raise CheckpointError(
                f"{format_name(name)} {found} in {where}; it should be the kernel of a convolution of WaveGlow, with 3 "
                "axes. Download the file again."
            )
        return shape[0], shape[1], shape[2]

    def count(pattern: str) -> int:
        found = (re.fullmatch(rf"{re.escape(prefix)}{pattern}", name, re.DOTALL) for name in shapes)
        return 1 + max((int(match[1]) for match in found if match), default=0)

    flows = count(r"convinv\.([0-9]{1,3})\.conv\.weight")
    channels = [kernel(f"convinv.{k}.conv")[0] for k in range(flows)]
    mels, _, upsample_kernel = kernel("upsample")
    _, width, kernel_size = kernel("WN.0.in_layers.0")
    sizes = {"flows": flows, "group": channels[0], "channels": width, "kernel_size": kernel_size}
    sizes |= {"layers": count(r"WN\.0\.in_layers\.([0-9]{1,3})\..*"), "upsample_kernel": upsample_kernel, "mels": mels}
    first = next((k for k in range(flows) if channels[k] != channels[0]), None)
    if first is not None:
        return {**sizes, "early_every": first, "early_size": channels[0] - channels[first]}
    # Without an early output, the file does not contain their size.
    return sizes if flows <= WaveGlowConfig.early_every else {**sizes, "early_every": flows}


def inverse_matrix(
    weight: Shaped[np.ndarray, "channels channels 1"], name: str
) -> Float[np.ndarray, "channels channels"]:
    """The inverse of the matrix in the weight `name`, computed in float64.

    **Raises:** `CheckpointError` if the weight is not finite, if the matrix is singular or so badly conditioned that
    the inverse in float32 is wrong, or if the inverse is not finite in float32.
    """
    matrix = np.asarray(weight, np.float64)[..., 0]
    if not np.isfinite(matrix).all():
        raise CheckpointError(
            f"{format_name(name)} contains NaN or infinity; the training probably diverged. Use an earlier checkpoint."
        )
    condition = np.linalg.cond(matrix)
    if not condition <= _WORST_CONDITION:
        raise CheckpointError(
            f"{format_name(name)} has the condition number {condition:.3g}; it should be at most "
            f"{_WORST_CONDITION:g}, so that the matrix can be inverted. Use an earlier checkpoint."
        )
    inverse = np.linalg.inv(matrix)
    if not np.abs(inverse).max() <= float(np.finfo(np.float32).max):
        raise CheckpointError(
            f"{format_name(name)} has values of at most {np.abs(matrix).max():.3g}, so its inverse is not finite in "
            "float32. Use an earlier checkpoint."
        )
    return inverse


def check_values(tensors: Mapping[str, np.ndarray], config: WaveGlowConfig, prefix: str) -> None:
    """Raise `CheckpointError` if a matrix below `prefix` cannot be inverted, or if the bias of a log-scale is so large
    that the scale is not finite. The error names the tensor."""
    for k, channels in enumerate(config.latent_channels):
        name = f"{prefix}convinv.{k}.conv.weight"
        inverse_matrix(tensors[name], name)
        name = f"{prefix}WN.{k}.end.bias"
        largest = np.abs(np.asarray(tensors[name], np.float64)[channels // 2 :]).max()
        if not largest <= _LARGEST_LOG:
            raise CheckpointError(
                f"{format_name(name)} adds up to {largest:.3g} to the logarithms of the scales of flow {k}; it should "
                f"add at most {_LARGEST_LOG:g}, so that the scales are finite. Use an earlier checkpoint."
            )

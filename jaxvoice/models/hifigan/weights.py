"""HiFi-GAN's weights: their names and shapes, and the rules that convert released files.

This module imports jax only when discriminators are loaded. The names and shapes follow from a configuration alone, in
the order of torch's state dict.
"""

import itertools
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Shaped

from jaxvoice.models.hifigan.config import DiscriminatorConfig, GeneratorConfig
from jaxvoice.weights.rules import Ignore, Rule
from jaxvoice.weights.tensor_conversions import Norm, magnitude_of

if TYPE_CHECKING:
    from jaxvoice.models.hifigan.discriminators import Discriminators, MultiScaleState

NAME = "hifigan"

Arrays = Mapping[str, Shaped[Any, "..."]]
Shapes = dict[str, tuple[int, ...]]


def _layer(source: str, norm: Norm = "weight", *, target: str | None = None) -> tuple[Rule, Rule]:
    target = target or source
    return Rule(source, target, norm=norm), Rule(f"{source}.bias", f"{target}.bias")


GENERATOR_RULES: tuple[Rule, ...] = (
    *_layer("conv_pre"),
    *_layer("ups.{i}"),
    *_layer("upsampler.{i}", target="ups.{i}"),
    *_layer("resblocks.{n}.convs1.{j}"),
    *_layer("resblocks.{n}.convs2.{j}"),
    *_layer("resblocks.{n}.convs.{j}"),
    *_layer("conv_post"),
    *_layer("cond_layer"),
    *_layer("cond", target="cond_layer"),
    *_layer("conds.{i}"),
)
"""Rules for the layers of a generator. Weights keep torch's layout.

VITS names `cond_layer` `cond`, and Hugging Face names `ups` `upsampler`.
"""

_NESTED_BLOCK = re.compile(r"resblocks\.([0-9]{1,2})\.([0-9]{1,2})\.(convs[12]?\..*)", re.DOTALL)


def generator_rules(names: Iterable[str]) -> tuple[Rule, ...]:
    """The rules for a file with layers or tensors of these names.

    NeMo numbers residual blocks by stage and kernel (`resblocks.1.2.convs1.0`), others in one list.
    """
    places = [(int(found[1]), int(found[2])) for name in names if (found := _NESTED_BLOCK.fullmatch(name))]
    kernels, rules = 1 + max((kernel for _, kernel in places), default=0), GENERATOR_RULES
    for stage, kernel in sorted(set(places)):
        for convs in ("convs1", "convs2", "convs"):
            source, target = f"resblocks.{stage}.{kernel}.{convs}", f"resblocks.{stage * kernels + kernel}.{convs}"
            rules += _layer(f"{source}.{{j}}", target=f"{target}.{{j}}")
    return rules


def jik876_names(names: Iterable[str]) -> dict[str, str]:
    """The name in files of jik876/hifi-gan for each of `names`, which have no prefix."""
    names, found = list(names), {}
    nested = {name: match for name in names if (match := _NESTED_BLOCK.fullmatch(name))}
    kernels = 1 + max((int(match[2]) for match in nested.values()), default=0)
    for name in names:
        match = nested.get(name)
        if match is not None:
            found[name] = f"resblocks.{int(match[1]) * kernels + int(match[2])}.{match[3]}"
        else:
            found[name] = re.sub(r"^upsampler\.", "ups.", name)
    return found


DISCRIMINATOR_RULES: tuple[Rule, ...] = (
    *_layer("mpd.discriminators.{n}.convs.{i}"),
    *_layer("mpd.discriminators.{n}.conv_post"),
    *_layer("msd.discriminators.0.convs.{i}", "spectral"),
    *_layer("msd.discriminators.0.conv_post", "spectral"),
    *_layer("msd.discriminators.{n}.convs.{i}"),
    *_layer("msd.discriminators.{n}.conv_post"),
)
"""Rules for the layers of the discriminators. The first scale discriminator has spectral norm, others weight norm."""

TRAINING_STATE: tuple[Ignore, ...] = (
    Ignore(r"model\.model_d\..*|model_disc\..*", "discriminator: only training needs it"),
    Ignore(r"optimizer\..*|optimizer_disc\..*|optim[a-z_]*\..*", "state of an optimiser: only training needs it"),
    Ignore(r"scaler\..*|scheduler[a-z_]*\..*|(.*\.)?model_loss|model_loss.*", "bookkeeping of training"),
)
"""Training state in the file of a generator, which inference does not need."""


def initial_value(name: str, shape: tuple[int, ...], other: Callable[[str], np.ndarray]) -> Shaped[np.ndarray, "..."]:
    """The initial value of an array that the file does not contain.

    The value is drawn from torch's default distribution, with a seed computed from the name. `other` returns the value
    of another array by its name.
    """
    random = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("weight_g"):
        return magnitude_of(other(name.removesuffix("g") + "v"))
    if name.endswith("weight_u") or (name.endswith("weight_v") and len(shape) == 1):
        vector = random.standard_normal(shape)
        return vector / np.linalg.norm(vector)
    weight = shape
    if name.endswith("bias"):
        weight = next(
            (
                found
                for part in ("weight_v", "weight_orig", "weight")
                if len(found := _shape(other, name.removesuffix("bias") + part)) > 1
            ),
            shape,
        )
    bound = 1 / np.sqrt(max(1, int(np.prod(weight[1:]))))
    return random.uniform(-bound, bound, shape)


def _shape(other: Callable[[str], np.ndarray], name: str) -> tuple[int, ...]:
    try:
        return other(name).shape
    except KeyError:
        return ()


_SCALE_KERNELS, _SCALE_GROUPS = (15, 41, 41, 41, 41, 41, 5), (1, 4, 16, 16, 16, 16, 1)


def generator_shapes(config: GeneratorConfig) -> Shapes:
    """Shape of every array of a `Generator`, by name."""
    stages = len(config.upsample_rates)
    widths = [config.upsample_initial_channel // 2**i for i in range(stages + 1)]
    shapes = _conv("conv_pre", widths[0], (widths[0], config.in_channels, 7), config.conv_pre_weight_norm)
    for i, kernel in enumerate(config.upsample_kernel_sizes):
        shapes |= _conv(f"ups.{i}", widths[i + 1], (widths[i], widths[i + 1], kernel))
    names = ("convs1", "convs2") if config.resblock == "1" else ("convs",)
    blocks = list(zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True))
    for n in range(stages * len(blocks)):
        width, (kernel, dilations) = widths[n // len(blocks) + 1], blocks[n % len(blocks)]
        for name in names:
            for j in range(len(dilations)):
                shapes |= _conv(f"resblocks.{n}.{name}.{j}", width, (width, width, kernel))
    bias = 1 if config.conv_post_bias else None
    shapes |= _conv("conv_post", bias, (1, widths[-1], 7), config.conv_post_weight_norm)
    if config.cond_channels:
        shapes |= _conv("cond_layer", widths[0], (widths[0], config.cond_channels, 1), weight_norm=False)
    if config.cond_in_each_stage:
        for i, width in enumerate(widths[1:]):
            shapes |= _conv(f"conds.{i}", width, (width, config.cond_channels, 1), weight_norm=False)
    return shapes


def period_shapes(config: DiscriminatorConfig) -> Shapes:
    """Shape of every array of a `MultiPeriodDiscriminator`, by name."""
    widths, shapes = _widths(config, (1, 32, 128, 512, 1024, 1024)), {}
    for n in range(len(config.periods)):
        for i, (narrow, wide) in enumerate(itertools.pairwise(widths)):
            shapes |= _conv(f"discriminators.{n}.convs.{i}", wide, (wide, narrow, 5, 1))
        shapes |= _conv(f"discriminators.{n}.conv_post", 1, (1, widths[-1], 3, 1))
    return shapes


def scale_shapes(config: DiscriminatorConfig) -> Shapes:
    """Shape of every array of a `MultiScaleDiscriminator` and of its spectral norm's vectors, by name."""
    widths, shapes = _widths(config, (1, 128, 128, 256, 512, 1024, 1024, 1024)), {}
    for n in range(config.scales):
        make = _spectral if n == 0 else _conv
        layers = zip(widths, widths[1:], _SCALE_KERNELS, _SCALE_GROUPS, strict=False)
        for i, (narrow, wide, kernel, groups) in enumerate(layers):
            shapes |= make(f"discriminators.{n}.convs.{i}", wide, (wide, narrow // groups, kernel))
        shapes |= make(f"discriminators.{n}.conv_post", 1, (1, widths[-1], 3))
    return shapes


def is_vector(name: str) -> bool:
    """Whether the array `name` of a `MultiScaleDiscriminator` is a vector of spectral norm: state, not a parameter.

    In the first scale discriminator, `weight_v` belongs to spectral norm; in the others, to weight norm.
    """
    return name.startswith("discriminators.0.") and name.endswith(("weight_u", "weight_v"))


def _widths(config: DiscriminatorConfig, released: Sequence[int]) -> list[int]:
    return [config.channels(width) for width in released]


def _conv(name: str, bias: int | None, weight: tuple[int, ...], weight_norm: bool = True) -> Shapes:
    if not weight_norm:
        return {f"{name}.weight": weight} | _bias(name, bias)
    norm = (weight[0], *(1 for _ in weight[1:]))
    return _bias(name, bias) | {f"{name}.weight_g": norm, f"{name}.weight_v": weight}


def _spectral(name: str, bias: int, weight: tuple[int, ...]) -> Shapes:
    vectors = {f"{name}.weight_u": weight[:1], f"{name}.weight_v": (weight[1] * weight[2],)}
    return _bias(name, bias) | {f"{name}.weight_orig": weight} | vectors


def _bias(name: str, size: int | None) -> Shapes:
    return {} if size is None else {f"{name}.bias": (size,)}


def load_discriminators(
    config: DiscriminatorConfig, mpd: Arrays, msd: Arrays
) -> tuple["Discriminators", "MultiScaleState"]:
    """Discriminators with the arrays of a released `do_` file (its `mpd` and `msd`), and their spectral-norm vectors.

    **Raises:** `CheckpointError` if arrays are missing, unknown or of another shape.
    """
    import equinox as eqx
    import jax

    from jaxvoice.models.hifigan.discriminators import Discriminators
    from jaxvoice.weights.array_names import load_state

    skeleton = eqx.filter_eval_shape(Discriminators, config, key=jax.random.key(0))
    vectors = eqx.filter_eval_shape(lambda d: d.msd.init_state(key=jax.random.key(0)), skeleton)
    weights = {name: array for name, array in msd.items() if not is_vector(name)}
    loaded = eqx.tree_at(
        lambda d: (d.mpd, d.msd), skeleton, (load_state(skeleton.mpd, mpd), load_state(skeleton.msd, weights))
    )
    return loaded, load_state(vectors, {name: array for name, array in msd.items() if is_vector(name)})

"""How HiFi-GAN weights are kept in model folders, and the rules by which released files become such folders.

Nothing here needs jax until networks are loaded or saved.
"""

import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Shaped

from jaxvoice.config import from_dict, to_dict
from jaxvoice.models.hifigan.config import DiscriminatorConfig, HiFiGANConfig
from jaxvoice.models.hifigan.tensor_names import is_vector
from jaxvoice.weights.model_folder import read_model_folder, write_model_folder
from jaxvoice.weights.rules import Ignore, Rule
from jaxvoice.weights.tensor_layouts import Norm, norm_of

if TYPE_CHECKING:
    from jaxvoice.models.hifigan.discriminators import Discriminators, MultiScaleState
    from jaxvoice.models.hifigan.generator import Generator

FAMILY = "hifigan"

Arrays = Mapping[str, Shaped[Any, "..."]]


def _layer(source: str, norm: Norm = "weight", *, target: str | None = None) -> tuple[Rule, Rule]:
    target = target or source
    return Rule(source, target, norm=norm), Rule(f"{source}.bias", f"{target}.bias")


GENERATOR_RULES: tuple[Rule, ...] = (
    *_layer("conv_pre"),
    *_layer("ups.{i}"),
    *_layer("resblocks.{n}.convs1.{j}"),
    *_layer("resblocks.{n}.convs2.{j}"),
    *_layer("resblocks.{n}.convs.{j}"),
    *_layer("conv_post"),
    *_layer("cond_layer"),
    *_layer("cond", target="cond_layer"),
    *_layer("conds.{i}"),
)
"""Layers of a generator; `cond` is what the first VITS calls `cond_layer`. Weights keep torch's layout."""

DISCRIMINATOR_RULES: tuple[Rule, ...] = (
    *_layer("mpd.discriminators.{n}.convs.{i}"),
    *_layer("mpd.discriminators.{n}.conv_post"),
    *_layer("msd.discriminators.0.convs.{i}", "spectral"),
    *_layer("msd.discriminators.0.conv_post", "spectral"),
    *_layer("msd.discriminators.{n}.convs.{i}"),
    *_layer("msd.discriminators.{n}.conv_post"),
)
"""Layers of the discriminators: the first that works on whole scales is under spectral norm."""

BESIDE_THE_GENERATOR: tuple[Ignore, ...] = (
    Ignore(r"model\.model_d\..*|model_disc\..*", "discriminator: only training needs it"),
    Ignore(r"optimizer\..*|optimizer_disc\..*|optim[a-z_]*\..*", "state of an optimiser: only training needs it"),
    Ignore(r"scaler\..*|scheduler[a-z_]*\..*|(.*\.)?model_loss|model_loss.*", "bookkeeping of training"),
)
"""What training leaves in the generator's file and a vocoder does not need."""


def initial_value(name: str, shape: tuple[int, ...], other: Callable[[str], np.ndarray]) -> Shaped[np.ndarray, "..."]:
    """What an array begins with that a file lacks: torch's default distribution, drawn from a seed made of its name."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("weight_g"):
        return norm_of(other(name.removesuffix("g") + "v"))
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


def save_generator(
    folder: Path, generator: "Generator", config: HiFiGANConfig, *, info: Mapping[str, Any] | None = None
) -> None:
    """Write a model folder with the generator's weights and the whole configuration, its mel contract included."""
    from jaxvoice.weights.array_names import named_arrays

    write_model_folder(folder, family=FAMILY, config=to_dict(config), arrays=named_arrays(generator), info=info)


def load_generator(folder: Path) -> tuple["Generator", HiFiGANConfig]:
    """The generator in a model folder and its configuration.

    **Raises:** `CheckpointError` or `ConfigError` for a folder that is missing, damaged, or of other weights.
    """
    import equinox as eqx
    import jax

    from jaxvoice.models.hifigan.generator import Generator
    from jaxvoice.weights.array_names import load_state

    data, arrays = read_model_folder(folder, family=FAMILY)
    config = from_dict(HiFiGANConfig, data, where=str(folder / "config.json"))
    skeleton = eqx.filter_eval_shape(Generator, config.generator, key=jax.random.key(0))
    return load_state(skeleton, arrays, where=f"the weights in {folder}"), config


def load_discriminators(
    config: DiscriminatorConfig, mpd: Arrays, msd: Arrays
) -> tuple["Discriminators", "MultiScaleState"]:
    """Discriminators with the arrays of a released `do_` file (its `mpd` and `msd`), and their spectral-norm vectors.

    **Raises:** `CheckpointError` for arrays of other sizes, or too few or too many.
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

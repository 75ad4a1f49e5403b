"""Tensors of released checkpoints that only training needs: discriminators, and tables of losses. Without jax.

Model folders store them in `training.safetensors`, under the names of the release.
"""

import math
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from jaxvoice.dsp.framing import hann_window
from jaxvoice.dsp.mel_config import htk_corners, triangular_filters
from jaxvoice.errors import ConfigError
from jaxvoice.models.rave.config import DiscriminatorConfig, RaveConfig
from jaxvoice.models.rave.weights import RULES, Shapes
from jaxvoice.weights.archive import Archive
from jaxvoice.weights.file_layout import FileLayout, plan_export
from jaxvoice.weights.rules import Initial, Plan, Spec, make_plan
from jaxvoice.weights.tensor_conversions import SPELLINGS
from jaxvoice.weights.training_files import TrainingPart, TrainingPlan

DISCRIMINATOR = "discriminator."
"""Prefix of the names of the discriminators."""
MEL_FILTERS = "spectrogram.mel_scale.fb"
"""Name of the mel filters `(bins, mels)` of models with mel input."""
SCALES = (2048, 1024, 512, 256, 128)
"""Samples of the frames of the spectral distances of the release."""

_FLOAT = np.dtype(np.float32)
_LOSS = "{}audio_distance.multiscale_stft.stfts.{}.window"
_TABLE = re.compile(
    r"discriminator\..*\.window|(multiband_)?audio_distance\..*\.window|spectrogram\.(.*\.)?(window|mel_scale\.fb)",
    re.DOTALL,
)
_DESCRIPT_SIZES = (2048, 1024, 512)
_BANDS = 5  # of the spectrograms of `descript`
_G, _V = SPELLINGS["weight"]["hooks"]


def is_table(name: str) -> bool:
    """Whether `name` is that of a window or of a filterbank, which follows from sizes."""
    return _TABLE.fullmatch(name) is not None


def discriminator_shapes(config: DiscriminatorConfig, in_channels: int) -> Shapes:
    """Shape of every parameter of the discriminators, by name, for audio with `in_channels` channels."""
    stack = f"{DISCRIMINATOR}discriminators"
    if config.kind == "descript":
        return dict(_descript(stack, config, in_channels))
    if config.kind == "scale":
        return dict(_conv_nets(DISCRIMINATOR, config.scales, config.capacity, in_channels, (15,)))
    if config.kind == "spectral":
        scales = dict(_conv_nets(f"{stack}.0.", config.scales, config.capacity, in_channels, (15,)))
        return scales | dict(_spectral(f"{stack}.1.nets", config, in_channels))
    periods = dict(_conv_nets(f"{stack}.0.", len(config.periods), config.capacity, in_channels, (5, 1)))
    return periods | dict(_conv_nets(f"{stack}.1.", config.scales, config.capacity, in_channels, (15,)))


_Parts = Iterator[tuple[str, tuple[int, ...]]]


def _conv_nets(prefix: str, count: int, capacity: int, in_channels: int, taps: tuple[int, ...]) -> _Parts:
    widths = [in_channels, *(capacity * 2**i for i in range(4))]
    for net in range(count):
        for i in range(4):
            yield from _conv(f"{prefix}layers.{net}.net.{2 * i}", widths[i + 1], widths[i], taps)
        last = f"{prefix}layers.{net}.net.8"
        yield f"{last}.weight", (1, widths[-1], *(1 for _ in taps))
        yield f"{last}.bias", (1,)


def _spectral(prefix: str, config: DiscriminatorConfig, in_channels: int) -> _Parts:
    width = config.spectral_channels
    for net in range(len(config.fft_sizes)):
        yield from _conv(f"{prefix}.{net}.net.0.0", width, 2 * in_channels, (9, 3))
        for i in range(1, 4):
            yield from _conv(f"{prefix}.{net}.net.{i}.0", width, width, (9, 3))
        yield from _conv(f"{prefix}.{net}.net.4.0", width, width, (3, 3))
        yield from _conv(f"{prefix}.{net}.net.5", 1, width, (3, 3))


def _descript(prefix: str, config: DiscriminatorConfig, in_channels: int) -> _Parts:
    widths, width = [in_channels, *config.period_channels], config.spectral_channels
    for net in range(len(config.periods)):
        for i in range(len(widths) - 1):
            yield from _conv(f"{prefix}.{net}.convs.{i}.0", widths[i + 1], widths[i], (5, 1))
        yield from _conv(f"{prefix}.{net}.conv_post", 1, widths[-1], (3, 1))
    for net in range(len(config.periods), len(config.periods) + len(config.fft_sizes)):
        for band in range(_BANDS):
            for i in range(5):
                inputs, taps = (width if i else 2 * in_channels), ((3, 9) if i < 4 else (3, 3))
                yield from _conv(f"{prefix}.{net}.band_convs.{band}.{i}.0", width, inputs, taps)
        yield from _conv(f"{prefix}.{net}.conv_post", 1, width, (3, 3))


def _conv(name: str, outputs: int, inputs: int, taps: tuple[int, ...]) -> _Parts:
    yield f"{name}.bias", (outputs,)
    yield f"{name}.{_G}", (outputs, 1, *(1 for _ in taps))
    yield f"{name}.{_V}", (outputs, inputs, *taps)


def discriminators_of(shapes: Mapping[str, tuple[int, ...]], in_channels: int) -> DiscriminatorConfig | None:
    """The configuration of the discriminators whose tensors have `shapes`, by their names without a prefix.

    Periods, and sizes of spectrograms without windows, are those of the release. `None` if there are no discriminators,
    or if they are not those of the release.
    """
    given, stack = _parameters(shapes), f"{DISCRIMINATOR}discriminators"
    first = _count(given, f"{stack}.0.layers.")
    try:
        if f"{stack}.0.convs.0.0.{_V}" in given:
            found = _descript_config(given, shapes, stack)
        elif spectra := _count(given, f"{stack}.1.nets."):
            width = given[f"{stack}.1.nets.0.net.0.0.bias"][0]
            sizes = DiscriminatorConfig().fft_sizes[:spectra]
            found = DiscriminatorConfig(
                "spectral", _capacity(given, f"{stack}.0."), first, fft_sizes=sizes, spectral_channels=width
            )
        elif first:
            found = DiscriminatorConfig(
                "period_scale", _capacity(given, f"{stack}.0."), _count(given, f"{stack}.1.layers.")
            )
        else:
            found = DiscriminatorConfig(
                "scale", _capacity(given, DISCRIMINATOR), _count(given, f"{DISCRIMINATOR}layers.")
            )
    except (KeyError, IndexError, ConfigError):  # another structure
        return None
    return found if given == discriminator_shapes(found, in_channels) else None


def _descript_config(
    given: Mapping[str, tuple[int, ...]], shapes: Mapping[str, tuple[int, ...]], stack: str
) -> DiscriminatorConfig:
    layers = _count(given, f"{stack}.0.convs.")
    windows = {
        int(name.removeprefix(f"{stack}.").partition(".")[0]): shape[0]
        for name, shape in shapes.items()
        if re.fullmatch(rf"{re.escape(stack)}\.[0-9]{{1,3}}\.stft\.window", name) and shape
    }
    sizes = tuple(windows[i] for i in sorted(windows)) or _DESCRIPT_SIZES
    first = len(DiscriminatorConfig().periods)
    return DiscriminatorConfig(
        "descript",
        fft_sizes=sizes,
        spectral_channels=given[f"{stack}.{first}.band_convs.0.0.0.bias"][0],
        period_channels=tuple(given[f"{stack}.0.convs.{i}.0.bias"][0] for i in range(layers)),
    )


def _parameters(shapes: Mapping[str, tuple[int, ...]]) -> Shapes:
    """The shapes of the discriminators alone, with `weight_g` and `weight_v` for weight norm in any form."""
    old = dict(zip(SPELLINGS["weight"]["parametrizations"], (_G, _V), strict=True))
    found: Shapes = {}
    for name, shape in shapes.items():
        if name.startswith(DISCRIMINATOR) and not is_table(name):
            ending = next((ending for ending in old if name.endswith(f".{ending}")), None)
            found[name if ending is None else name.removesuffix(ending) + old[ending]] = shape
    return found


def _count(names: Mapping[str, object], prefix: str) -> int:
    return len({name.removeprefix(prefix).partition(".")[0] for name in names if name.startswith(prefix)})


def _capacity(given: Mapping[str, tuple[int, ...]], prefix: str) -> int:
    return given[f"{prefix}layers.0.net.0.bias"][0]


def tables(
    config: RaveConfig, scales: Sequence[int] = SCALES, multiband_scales: Sequence[int] = SCALES
) -> dict[str, np.ndarray]:
    """The windows and filterbanks of a released checkpoint of `config`, by name.

    **Arguments:** `scales` and `multiband_scales`, samples of the frames of the spectral distances.

    The names of the tables of mel input are those of `torchaudio.transforms.MelSpectrogram` below `spectrogram`. They
    are an assumption, as there is no released checkpoint with mel input to compare with.
    """
    found = {_LOSS.format("", i): hann_window(size) for i, size in enumerate(scales)}
    found |= {_LOSS.format("multiband_", i): hann_window(size) for i, size in enumerate(multiband_scales)}
    return found | _model_tables(config)


def _model_tables(config: RaveConfig) -> dict[str, np.ndarray]:
    discriminators, mel = config.discriminators, config.encoder.mel
    found: dict[str, np.ndarray] = {}
    if discriminators.kind == "descript":
        for i, size in enumerate(discriminators.fft_sizes, len(discriminators.periods)):
            found[f"{DISCRIMINATOR}discriminators.{i}.stft.window"] = hann_window(size)
    if config.encoder.input == "mel":
        corners = htk_corners(mel.num_mels, config.sample_rate / 2)
        filters = triangular_filters(corners, config.sample_rate, mel.n_fft, equal_area=False)
        found["spectrogram.spectrogram.window"] = hann_window(mel.n_fft)
        found[MEL_FILTERS] = np.asarray(filters.T, np.float32)
    return found


def plan_training_import(archive: Archive, prefix: str, config: RaveConfig) -> TrainingPlan | None:
    """The plan of `training.safetensors` with the discriminators and the tables below `prefix` of `archive`.

    `None` if the archive contains no discriminators, or others than those of `config`.
    """
    infos = archive.tensors.infos()
    inside = {name.removeprefix(prefix): name for name in infos if name.startswith(prefix)}
    shapes = {short: infos[name].shape for short, name in inside.items()}
    wanted = discriminator_shapes(config.discriminators, config.n_channels)
    if _parameters(shapes) != wanted:
        return None
    wanted |= {short: shape for short, shape in shapes.items() if is_table(short)}
    names = {short: name for short, name in inside.items() if short.startswith(DISCRIMINATOR) or is_table(short)}
    plan = make_plan(
        {short: Spec(infos[name].shape, infos[name].dtype) for short, name in names.items()},
        {short: Spec(shape, _FLOAT) for short, shape in wanted.items()},
        RULES,
        where=archive.source.path.name,
    )
    about: dict[str, object] = {"content": "discriminators"}
    steps = archive.metadata.get("global_step")
    if type(steps) is int:
        about["steps"] = steps
    return TrainingPlan(config, about, (), (TrainingPart(plan, "", names),))


def plan_training_export(config: RaveConfig, layout: FileLayout, given: Mapping[str, Spec], where: str) -> Plan:
    """The plan of the discriminators and tables of an export; those that `given` lacks are initialised or computed.

    **Arguments:** as for `CheckpointLayout.plan_export`; `given` are the tensors of `training.safetensors`, called
    `where`.

    **Raises:** `CheckpointError` for discriminators that are not those of `config`.
    """
    shapes = discriminator_shapes(config.discriminators, config.n_channels)
    stored = {name: spec.shape for name, spec in given.items() if is_table(name)}
    # The tables of a file are complete, and may have other sizes or names.
    known = {name.partition(".")[0] for name in stored}
    computed = {name: table for name, table in tables(config).items() if name.partition(".")[0] not in known}
    if len(stored) < len(given):
        plan = plan_export(shapes | stored, RULES, layout, given, where)
        wanted, missing = dict(plan.wanted), ()
    else:
        assumed = {name: Spec(shape, _FLOAT) for name, shape in shapes.items()}
        wanted = dict(plan_export(shapes, RULES, layout, assumed, where).wanted)
        plan = plan_export(stored, RULES, layout, given, where)
        missing = tuple(wanted)
        wanted |= plan.wanted
    added = {name: Spec(table.shape, _FLOAT) for name, table in computed.items()}
    wanted |= added
    return Plan(plan.rows, wanted, missing=(*missing, *added), initial=_initial(wanted, computed))


def _initial(wanted: Mapping[str, Spec], computed: Mapping[str, np.ndarray]) -> Initial:
    """Tables, and discriminators as torch initialises convolutions: uniform values, and norms that keep them."""
    spellings = [(parts[0], parts[-1]) for parts in SPELLINGS["weight"].values()]

    def value(name: str, shape: tuple[int, ...], other: Callable[[str], np.ndarray]) -> np.ndarray:
        if name in computed:
            return computed[name]
        for norm, direction in spellings:
            if norm != direction and name.endswith(f".{norm}"):
                kernel = np.asarray(other(name.removesuffix(norm) + direction), np.float64)
                return np.sqrt(np.sum(np.square(kernel), axis=tuple(range(1, kernel.ndim)), keepdims=True))
        kernel = shape
        if name.endswith(".bias"):
            layer = name.removesuffix("bias")
            kernel = next(wanted[layer + part].shape for _, part in spellings if layer + part in wanted)
        bound = math.prod(kernel[1:]) ** -0.5
        random = np.random.default_rng(zlib.crc32(name.encode()))
        return random.uniform(-bound, bound, shape).astype(np.float32)

    return value


def with_weight_norm(layout: FileLayout) -> FileLayout:
    """`layout` with weight norm where an export of the release has its products, so that training can load it."""
    kept = {layer: form for layer, form in layout.norms_of.items() if form != "folded"}
    return replace(layout, norms="hooks" if layout.norms == "folded" else layout.norms, norms_of=kept)

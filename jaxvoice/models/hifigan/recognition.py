"""Recognition of HiFi-GAN generators in weight files from the names and shapes of tensors."""

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from jaxvoice.config import format_value
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.models.hifigan.config import PRESETS, DiscriminatorConfig, GeneratorConfig, HiFiGANConfig, LatentConfig
from jaxvoice.models.hifigan.foreign_configs import ForeignConfig
from jaxvoice.models.hifigan.weights import Shapes
from jaxvoice.weights.mismatches import format_name, format_names
from jaxvoice.weights.tensor_conversions import SPELLINGS, spelling_of

_OTHER_LAYERS = ("ups", "resblocks", "conv_post")
_VERSIONS = {"v1": "V1", "v2": "V2", "v3": "V3"}


@dataclass(frozen=True)
class Recognised:
    """A generator found in a file."""

    config: HiFiGANConfig
    """Its configuration."""
    version: str
    """`V1`, `V2`, `V3`, or the sizes in words."""
    assumed: tuple[str, ...]
    """Assumptions about settings that neither the tensors nor a configuration determine."""


def generators_in(names: Iterable[str]) -> list[str]:
    """The name prefix of each generator in `names`: `""`, `generator.`, `model.waveform_decoder.`"""
    split = [name.split(".") for name in names]
    found: dict[str, set[str]] = {}
    for parts in split:
        # Use the last match, since a larger model may have other layers of that name.
        last = next((i for i in range(len(parts) - 2, -1, -1) if parts[i] == "conv_pre"), None)
        if last is not None:
            found.setdefault(".".join([*parts[:last], ""]), set())
    for parts in split:
        for i, part in enumerate(parts[:-1]):
            part = "ups" if part == "upsampler" else part
            if part in _OTHER_LAYERS and (part == "conv_post" or (parts[i + 1] == "0" and i + 2 < len(parts))):
                has = found.get(".".join([*parts[:i], ""]))
                if has is not None:
                    has.add(part)
    return [prefix for prefix, has in found.items() if len(has) == len(_OTHER_LAYERS)]


def choose_generator(names: Iterable[str], part: str | None, where: str) -> str:
    """The prefix of the generator to import: the only one in the file, or the one whose path ends with `part`.

    **Raises:** `CheckpointError`, listing the generators of the file, if no generator or more than one qualifies.
    """
    names = list(names)
    prefixes = generators_in(names)
    if not prefixes:
        tops = sorted({name.split(".")[0] for name in names})
        raise CheckpointError(
            f"{where} contains no HiFi-GAN generator (conv_pre, ups, resblocks and conv_post): its {len(names)} "
            f"tensors start with {format_names(tops) or 'nothing'}. See `jaxvoice inspect {shlex.quote(where)}`."
        )
    parts = format_names([prefix.removesuffix(".") or "(the whole file)" for prefix in prefixes])
    if part is not None:
        wanted = part.rstrip(".") + "."
        fits = [prefix for prefix in prefixes if prefix == wanted or prefix.endswith(f".{wanted}")]
        if len(fits) == 1:
            return fits[0]
        word = "several generators" if fits else "no generator"
        raise CheckpointError(
            f"--part {format_name(part)} matches {word} of {where}. The generators in the file are {parts}."
        )
    if len(prefixes) > 1:
        raise CheckpointError(f"{where} contains several generators: {parts}; choose one with --part.")
    return prefixes[0]


def recognise(
    shapes: Shapes, foreign_config: ForeignConfig | None, *, released: bool, prefix: str, where: str
) -> Recognised:
    """Configuration of the generator with these tensors.

    **Arguments:** `shapes` by names without prefix; `foreign_config`, the configuration beside the file; `released`,
    whether the prefix is that of files of jik876/hifi-gan; `prefix` of the names; `where` for messages.

    **Raises:** `ConfigError` if the configuration contradicts the tensors; `CheckpointError` if the tensors do not
    determine the generator and there is no configuration.
    """
    tensors = GeneratorSizes(shapes)
    configured = dict(foreign_config.generator) if foreign_config else {}
    latent = foreign_config.mel.channels if foreign_config and isinstance(foreign_config.mel, LatentConfig) else None
    seen = tensors.sizes(configured if latent is None else {"in_channels": latent, **configured})
    contradictions = [
        f"{name}: {format_value(configured[name])} in the {foreign_config.kind if foreign_config else ''} "
        f"configuration, {format_value(value)} according to the tensors"
        for name, value in seen.items()
        if name in configured and configured[name] != value
    ]
    dilations = configured.get("resblock_dilation_sizes")
    if dilations is not None and tuple(map(len, dilations)) != tensors.convolutions():
        contradictions.append(
            f"resblock_dilation_sizes: {format_value(dilations)} in the configuration, but the tensors have "
            f"{format_value(tensors.convolutions())} convolutions in the blocks of a stage"
        )
    if contradictions:
        raise ConfigError(
            f"the configuration and the tensors of {where} contradict each other: {'; '.join(contradictions)}. Pass "
            "the configuration of these weights with --config."
        )
    assumed = [*(foreign_config.assumed if foreign_config else ()), *tensors.guessed]
    if "upsample_rates" not in configured:
        configured["upsample_rates"] = rates_of_kernels(seen["upsample_kernel_sizes"], where)
        assumed.append(f"upsample_rates {configured['upsample_rates']}: half of the kernels")
    if dilations is None:
        configured["resblock_dilation_sizes"] = released_dilations(seen, tensors.convolutions(), where)
        assumed.append(f"resblock_dilation_sizes {configured['resblock_dilation_sizes']}: those of the release")
    generator = GeneratorConfig(**{**configured, **seen})
    mel = _mel(generator, foreign_config, released, prefix, assumed, where)
    name = next((word for key, word in _VERSIONS.items() if PRESETS[key].generator == generator), None)
    config = HiFiGANConfig(generator=generator, mel=mel, segment_size=_segment(foreign_config, mel))
    version = name or f"{generator.upsample_initial_channel} channels, resblock {generator.resblock}"
    return Recognised(config, version, tuple(assumed))


def _mel(
    generator: GeneratorConfig,
    foreign_config: ForeignConfig | None,
    released: bool,
    prefix: str,
    assumed: list[str],
    where: str,
) -> MelConfig | LatentConfig:
    if foreign_config is not None and foreign_config.mel is not None:
        size = generator.in_channels
        if (
            isinstance(foreign_config.mel, LatentConfig)
            and "in_channels" not in foreign_config.generator
            and foreign_config.mel.channels != size
        ):
            assumed.append(f"{size} latent channels, from the shape of conv_pre (not in the configuration)")
            return replace(foreign_config.mel, channels=size)
        return foreign_config.mel
    hop = generator.hop_length
    if prefix.endswith("waveform_decoder.") and (generator.in_channels, hop) == (1024, 256):
        assumed.append("24000 Hz, as in XTTS (no configuration)")
        return LatentConfig(24000, hop, generator.in_channels)
    if released and (generator.in_channels, generator.upsample_rates) == (128, (10, 4, 2, 2)):
        assumed.append("mel contract of bshall/hifigan: 16000 Hz, natural logarithm, 0 to 8000 Hz (no config.json)")
        return MelConfig(sample_rate=16000, hop_length=160, num_mels=128, fmax=None, magnitude_floor=0.0)
    if not released:
        raise CheckpointError(
            f"The mel contract of {where} is unknown; pass its configuration (the config.json of the release) with "
            "--config."
        )
    if (generator.in_channels, hop) != (80, 256):
        raise CheckpointError(
            f"{where} contains a generator for {generator.in_channels} mel bands and a hop of {hop} samples. No "
            "released model has these, so its mel contract is unknown; pass its configuration with --config."
        )
    assumed.append("mel contract of the released models: 22050 Hz, natural logarithm, 0 to 8000 Hz (no config.json)")
    return MelConfig()


def _segment(foreign_config: ForeignConfig | None, mel: MelConfig | LatentConfig) -> int:
    """Samples of a training crop: those of the configuration or 8192, rounded to a multiple of the hop length."""
    size, hop = (None if foreign_config is None else foreign_config.segment_size) or 8192, mel.hop_length
    shortest = mel.n_fft if isinstance(mel, MelConfig) else 1
    return max(-(-shortest // hop), round(size / hop)) * hop


_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23)
# Limits of the numbers of layers. Released networks have 4 stages of 3 blocks of 3 convolutions, and 3 scales.
_STAGES, _BLOCKS, _CONVOLUTIONS, _SCALES, _WIDEST = 16, 32, 32, 16, 2**17
# Tensors with more digits in their layer index are not counted as layers. They are reported as unused.
_LAYER = re.compile(r"(ups|conds|resblocks(?:\.[0-9]{1,3}\.convs[12]?)?)\.([0-9]{1,3})\..*", re.DOTALL)
_DISCRIMINATOR = re.compile(r"(mpd|msd)\.discriminators\.([0-9]{1,2})\..*", re.DOTALL)
_WEIGHTS = tuple(names[-1] for names in SPELLINGS["weight"].values())
_NORM_PARTS = tuple(part for names in SPELLINGS["weight"].values() for part in names)


class GeneratorSizes:
    """Sizes of a generator from the shapes of its tensors.

    Sizes that the tensors do not determine are guessed, and listed in `guessed`.
    """

    def __init__(self, shapes: Shapes):
        self.shapes = shapes
        self.guessed: list[str] = []
        self._numbers: dict[str, set[int]] = {}
        for prefix, number in _numbered(shapes):
            self._numbers.setdefault(prefix, set()).add(number)
        self.stages = 1 + max((i for i in self._indices("ups") if i < _STAGES), default=0)
        blocks = 1 + max((n for n in self._indices("resblocks") if n < _BLOCKS * self.stages), default=0)
        self.blocks = blocks // self.stages
        # V3's blocks have `convs`, others `convs1` and `convs2`.
        self.resblock = "2" if any(prefix.endswith(".convs") for prefix in self._numbers) else "1"
        self._convs = "convs" if self.resblock == "2" else "convs1"

    def _indices(self, prefix: str) -> set[int]:
        return self._numbers.get(prefix, set())

    def _weight(self, layer: str) -> tuple[int, ...] | None:
        return next((self.shapes[f"{layer}.{name}"] for name in _WEIGHTS if f"{layer}.{name}" in self.shapes), None)

    def _spelling(self, layer: str) -> str | None:
        """The form in which the layer's weight norm is stored; of an incomplete layer, the first form that fits."""
        parts = [part for part in _NORM_PARTS if f"{layer}.{part}" in self.shapes]
        first = next((form for form, names in SPELLINGS["weight"].items() if set(names) & set(parts)), None)
        return spelling_of(parts, "weight") or first

    def convolutions(self) -> tuple[int, ...]:
        """The number of convolutions, or of pairs of convolutions, in each of the parallel blocks."""
        return tuple(
            1
            + max(
                (
                    j
                    for n in range(k, self.stages * self.blocks, self.blocks)
                    for j in self._indices(f"resblocks.{n}.{self._convs}")
                    if j < _CONVOLUTIONS
                ),
                default=0,
            )
            for k in range(self.blocks)
        )

    def folded(self) -> bool:
        """Whether weight norm is folded in the upsampling layers, which all have it in training."""
        found = (self._spelling(f"ups.{i}") for i in range(self.stages))
        return next((spelling for spelling in found if spelling), "hooks") == "folded"

    def _guess(self, what: str, value: int) -> int:
        self.guessed.append(f"{what} {value}: the tensors that determine it are missing")
        return value

    def _kernel(self, stage: int, configured: Mapping[str, Any]) -> int:
        weight = self._weight(f"ups.{stage}")
        if weight and len(weight) == 3:
            return weight[-1]
        known = configured.get("upsample_kernel_sizes", ())
        return self._guess(f"kernel of ups.{stage}", known[stage] if stage < len(known) else 16)

    def _initial(self, configured: Mapping[str, Any]) -> int:
        """Channels before the first upsampling, on which most of the adjacent tensors agree."""
        up, pre = self._weight("ups.0"), self._weight("conv_pre")
        bias, up_bias = self.shapes.get("conv_pre.bias"), self.shapes.get("ups.0.bias")
        votes = [shape[0] for shape in (up, pre, bias) if shape] + ([2 * up_bias[0]] if up_bias else [])
        if not votes:
            return self._guess("upsample_initial_channel", configured.get("upsample_initial_channel", 512))
        return Counter(votes).most_common(1)[0][0]

    def sizes(self, configured: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of `GeneratorConfig` that shapes determine; `configured` has values for missing tensors."""
        ups = [self._kernel(i, configured) for i in range(self.stages)]
        pre, initial = self._weight("conv_pre"), self._initial(configured)
        if pre and len(pre) == 3 and pre[-1] == 7:
            mels = pre[1] if pre[0] == initial else pre[0]
        else:
            mels = self._guess("in_channels", configured.get("in_channels", 80))
        kernels = []
        for k in range(self.blocks):
            blocks = range(k, self.stages * self.blocks, self.blocks)
            found = (
                self._weight(f"resblocks.{n}.{self._convs}.{j}") for n in blocks for j in range(self.convolutions()[k])
            )
            kernel = next((weight[-1] for weight in found if weight), None)
            kernels.append(kernel or self._guess(f"kernel {k} of the residual blocks", 3))
        folded = self.folded()
        pre_norm, post_norm = (folded or self._spelling(one) != "folded" for one in ("conv_pre", "conv_post"))
        # Every known release with weight norm on conv_post has a bias there, so a missing bias is an incomplete file.
        bias = "conv_post.bias" in self.shapes or (post_norm and configured.get("conv_post_bias", True))
        cond = self._weight("cond_layer") or self._weight("cond") or self._weight("conds.0") or (0, 0)
        return {
            "in_channels": mels,
            "resblock": self.resblock,
            "upsample_kernel_sizes": tuple(ups),
            "upsample_initial_channel": initial,
            "resblock_kernel_sizes": tuple(kernels),
            "cond_channels": cond[1]
            if len(cond) > 1
            else self._guess("cond_channels", configured.get("cond_channels", 0)),
            "cond_in_each_stage": bool(self._indices("conds")),
            "conv_pre_weight_norm": pre_norm,
            "conv_post_weight_norm": post_norm,
            "conv_post_bias": bias,
        }


def _numbered(names: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Yield the path and the index of each numbered layer: `ups`, 0; `resblocks.3.convs1`, 2."""
    for name in names:
        found = _LAYER.fullmatch(name)
        if found:
            yield found[1], int(found[2])
            if found[1] not in ("ups", "conds", "resblocks"):
                yield "resblocks", int(found[1].split(".")[1])


def rates_of_kernels(kernels: tuple[int, ...], where: str) -> tuple[int, ...]:
    """The upsampling rates for the kernel sizes `kernels`: half of them, as in all released models.

    **Raises:** `CheckpointError` for odd kernels; `where` is the name of the file in the error.
    """
    if any(kernel % 2 or kernel == 0 for kernel in kernels):
        raise CheckpointError(
            f"The upsampling kernels of {where} are {format_value(kernels)}. The rates cannot be inferred as half the "
            "kernel sizes; pass the configuration with --config."
        )
    return tuple(kernel // 2 for kernel in kernels)


def released_dilations(
    seen: Mapping[str, Any], convolutions: tuple[int, ...], where: str
) -> tuple[tuple[int, ...], ...]:
    """The dilations of the released models with blocks of these sizes.

    **Arguments:** `seen`, fields of `GeneratorConfig` that the tensors determine; `convolutions` in each of the
    parallel blocks; `where`, the name of the file in errors.

    **Raises:** `CheckpointError` for blocks that no released model has.
    """
    if seen["resblock"] == "1" and set(convolutions) == {3}:
        return ((1, 3, 5),) * len(convolutions)
    v3 = PRESETS["v3"].generator
    if seen["resblock"] == "2" and seen["resblock_kernel_sizes"] == v3.resblock_kernel_sizes:
        return v3.resblock_dilation_sizes
    raise CheckpointError(
        f"{where} contains residual blocks {seen['resblock']} with kernels "
        f"{format_value(seen['resblock_kernel_sizes'])} and {format_value(convolutions)} convolutions. "
        "No released model has such blocks, so their dilations are unknown; pass the configuration with --config."
    )


def recognise_discriminators(shapes: Shapes, where: str) -> tuple[DiscriminatorConfig, tuple[str, ...]]:
    """Sizes of the discriminators whose tensors are given as `mpd.discriminators...` and `msd.discriminators...`.

    **Raises:** `CheckpointError` if there are none; `where` is the name of the file in the error.
    """
    found = [(match[1], int(match[2])) for name in shapes if (match := _DISCRIMINATOR.fullmatch(name))]
    periods = 1 + max((n for stack, n in found if stack == "mpd" and n < len(_PRIMES)), default=-1)
    scales = 1 + max((n for stack, n in found if stack == "msd" and n < _SCALES), default=-1)
    if not periods or not scales:
        raise CheckpointError(
            f"{where} contains {periods} period and {scales} scale discriminators, so it is not a HiFi-GAN do_ file. "
            "Pass the correct file with --training, or omit it with --no-training."
        )
    last = 1024
    for part in _WEIGHTS:
        shape = shapes.get(f"mpd.discriminators.0.conv_post.{part}", ())
        if len(shape) == 4:
            last = max(shape[1], 16)
            break
    if last > _WIDEST:
        raise CheckpointError(
            f"{where} contains a period discriminator with {last} channels; it should have at most {_WIDEST}. Pass the "
            "correct file with --training, or omit it with --no-training."
        )
    config = DiscriminatorConfig(periods=_PRIMES[:periods], scales=scales, width=last / 1024)
    return config, (f"periods {config.periods}: those of the release, the smallest primes",)

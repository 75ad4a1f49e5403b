"""Finding out from names and shapes which HiFi-GAN a file holds, and where in it."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.models.hifigan.config import PRESETS, DiscriminatorConfig, GeneratorConfig, HiFiGANConfig, LatentConfig
from jaxvoice.models.hifigan.foreign_configs import Claims
from jaxvoice.models.hifigan.tensor_names import Shapes
from jaxvoice.weights.layouts import SPELLINGS, spelling_of

_FIRST = re.compile(r"((?:.*\.)?)conv_pre\..*")
_MODELS = {"v1": "V1", "v2": "V2", "v3": "V3"}
_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23)


@dataclass(frozen=True)
class Recognised:
    """A generator found in a file."""

    config: HiFiGANConfig
    """Its configuration."""
    version: str
    """`V1`, `V2`, `V3`, or the sizes in words."""
    spelling: str
    """How its weight norms are spelt: `hooks`, `parametrizations` or `folded`."""
    assumed: tuple[str, ...]
    """What neither the tensors nor a configuration tell."""


def generators_in(names: Iterable[str]) -> list[str]:
    """What stands before the names of each generator among `names`: `""`, `generator.`, `model.waveform_decoder.`"""
    names = list(names)
    found = dict.fromkeys(match[1] for match in map(_FIRST.fullmatch, names) if match)

    def has(prefix: str, part: str) -> bool:
        return any(name.startswith(prefix + part) for name in names)

    return [prefix for prefix in found if all(has(prefix, part) for part in ("ups.0.", "resblocks.0.", "conv_post."))]


def choose_generator(names: Iterable[str], part: str | None, where: str) -> str:
    """The prefix of the generator to take: the only one, or the one that `part` names by its last components.

    **Raises:** `CheckpointError`, listing what looks like a generator, if there is none, or several.
    """
    names = list(names)
    prefixes = generators_in(names)
    if not prefixes:
        tops = sorted({name.split(".")[0] for name in names})
        shown = ", ".join(tops[:8]) + (", ..." if len(tops) > 8 else "")
        raise CheckpointError(
            f"{where} holds no HiFi-GAN generator (conv_pre, ups, resblocks and conv_post): its {len(names)} tensors "
            f"begin with {shown or 'nothing'}. See `jaxvoice inspect {where}`."
        )
    parts = ", ".join(prefix.rstrip(".") or "(the whole file)" for prefix in prefixes)
    if part is not None:
        wanted = part.rstrip(".") + "."
        fits = [prefix for prefix in prefixes if prefix == wanted or prefix.endswith(f".{wanted}")]
        if len(fits) == 1:
            return fits[0]
        word = "several parts" if fits else "no generator"
        raise CheckpointError(f"--part {part} names {word} of {where}; what looks like a generator: {parts}.")
    if len(prefixes) > 1:
        raise CheckpointError(f"{where} holds several generators: {parts}; choose one with --part.")
    return prefixes[0]


def recognise(shapes: Shapes, claims: Claims | None, *, released: bool, place: str, where: str) -> Recognised:
    """What the generator with these tensors is.

    **Arguments:** `shapes` by names without prefix; `claims`, what a configuration says; `released`, whether it lies
    where the files of jik876/hifi-gan have theirs; `place`, its prefix; `where` for messages.

    **Raises:** `ConfigError` if the configuration contradicts the tensors; `CheckpointError` if the tensors do not tell
    enough and there is no configuration.
    """
    tensors = _Tensors(shapes)
    said = dict(claims.generator) if claims else {}
    seen = tensors.sizes(said)
    contradictions = [
        f"{name}: {claims.kind if claims else ''} config says {said[name]!r}, the tensors {value!r}"
        for name, value in seen.items()
        if name in said and said[name] != value
    ]
    dilations = said.get("resblock_dilation_sizes")
    if dilations is not None and tuple(map(len, dilations)) != tensors.convolutions():
        contradictions.append(
            f"resblock_dilation_sizes: the config says {dilations!r}, the tensors have "
            f"{tensors.convolutions()} convolutions in the blocks of a stage"
        )
    if contradictions:
        raise ConfigError(
            f"the configuration and the tensors of {where} contradict each other: {'; '.join(contradictions)}. Give "
            "the configuration of these weights with --config."
        )
    assumed = list(claims.assumed) if claims else []
    if "upsample_rates" not in said:
        said["upsample_rates"] = _rates(seen["upsample_kernel_sizes"], where)
        assumed.append(f"upsample_rates {said['upsample_rates']}: half of the kernels")
    if dilations is None:
        said["resblock_dilation_sizes"] = _dilations(seen, tensors.convolutions(), where)
        assumed.append(f"resblock_dilation_sizes {said['resblock_dilation_sizes']}: those of the release")
    generator = GeneratorConfig(**{**said, **seen})
    mel = _mel(generator, claims, released, place, assumed, where)
    name = next((word for key, word in _MODELS.items() if PRESETS[key].generator == generator), None)
    config = HiFiGANConfig(generator=generator, mel=mel, segment_size=_segment(claims, mel))
    version = name or f"{generator.upsample_initial_channel} channels, resblock {generator.resblock}"
    return Recognised(config, version, tensors.spelling(), tuple(assumed))


def _mel(
    generator: GeneratorConfig, claims: Claims | None, released: bool, place: str, assumed: list[str], where: str
) -> MelConfig | LatentConfig:
    if claims is not None and claims.mel is not None:
        return claims.mel
    hop = generator.hop_length
    if place.endswith("waveform_decoder.") and (generator.num_mels, hop) == (1024, 256):
        assumed.append("24000 Hz, as XTTS makes them (no configuration)")
        return LatentConfig(24000, hop, generator.num_mels)
    if not released:
        raise CheckpointError(
            f"{where} does not tell what its generator reads, and mels differ from model to model; give its "
            "configuration, the config.json that came with it, with --config."
        )
    if (generator.num_mels, hop) != (80, 256):
        raise CheckpointError(
            f"{where} holds a generator for {generator.num_mels} mel bands and a hop of {hop} samples, which is "
            "none of the released ones; give its configuration with --config, for its mel contract."
        )
    assumed.append("mel contract of the released models: 22050 Hz, natural logarithm, 0 to 8000 Hz (no config.json)")
    return MelConfig()


def _segment(claims: Claims | None, mel: MelConfig | LatentConfig) -> int:
    """Samples of a training crop: what the configuration says where it is possible, else about the release's 8192."""
    size, hop = (None if claims is None else claims.segment_size) or 8192, mel.hop_length
    shortest = mel.n_fft if isinstance(mel, MelConfig) else 1
    return max(-(-shortest // hop), round(size / hop)) * hop


class _Tensors:
    """Sizes of a generator from the shapes of its tensors; what is missing is guessed at, since the plan tells."""

    def __init__(self, shapes: Shapes):
        self.shapes = shapes
        self.stages = 1 + max(self._indices("ups"), default=0)
        self.blocks = (1 + max(self._indices("resblocks"), default=0)) // self.stages
        # V3's blocks have `convs`, others `convs1` and `convs2`.
        self.resblock = "2" if any(re.fullmatch(r"resblocks\.\d+\.convs\..*", name) for name in shapes) else "1"

    def _indices(self, place: str) -> set[int]:
        return {int(found[1]) for name in self.shapes if (found := re.match(rf"{re.escape(place)}\.(\d+)\.", name))}

    def _weight(self, layer: str) -> tuple[int, ...] | None:
        names = [names[-1] for names in SPELLINGS["weight"].values()]
        return next((self.shapes[f"{layer}.{name}"] for name in names if f"{layer}.{name}" in self.shapes), None)

    def _spelling(self, layer: str) -> str | None:
        below = [name.removeprefix(f"{layer}.") for name in self.shapes if name.startswith(f"{layer}.")]
        parts = [part for names in SPELLINGS["weight"].values() for part in names]
        half = next((s for s, names in SPELLINGS["weight"].items() if set(names) & set(below) & set(parts)), None)
        return spelling_of(below, "weight") or half

    def spelling(self) -> str:
        """How the upsampling layers, which are always under weight norm, spell it."""
        found = [self._spelling(f"ups.{i}") for i in range(self.stages)]
        return next((spelling for spelling in found if spelling), "hooks")

    def convolutions(self) -> tuple[int, ...]:
        """How many (pairs of) convolutions each of the parallel blocks has."""
        name = "convs" if self.resblock == "2" else "convs1"
        return tuple(
            1
            + max(
                (
                    j
                    for n in range(k, self.stages * self.blocks, self.blocks)
                    for j in self._indices(f"resblocks.{n}.{name}")
                ),
                default=0,
            )
            for k in range(self.blocks)
        )

    def sizes(self, said: Mapping[str, Any]) -> dict[str, Any]:
        """All fields of `GeneratorConfig` that shapes settle."""
        ups = [self._weight(f"ups.{i}") or (0, 0, 0) for i in range(self.stages)]
        pre = self._weight("conv_pre")
        initial = ups[0][0] or (pre[0] if pre else 0) or said.get("upsample_initial_channel", 512)
        mels = (pre[1] if pre[0] == initial else pre[0]) if pre and len(pre) == 3 else said.get("num_mels", 80)
        kind = "convs" if self.resblock == "2" else "convs1"
        kernels = []
        for k in range(self.blocks):
            blocks = range(k, self.stages * self.blocks, self.blocks)
            found = (self._weight(f"resblocks.{n}.{kind}.{j}") for n in blocks for j in range(self.convolutions()[k]))
            kernels.append(next((weight[-1] for weight in found if weight), 3))
        folded = self.spelling() == "folded"
        pre_norm, post_norm = (folded or self._spelling(one) != "folded" for one in ("conv_pre", "conv_post"))
        # Where the norm stayed, the bias stayed in every known release: if it lacks, it was lost.
        bias = "conv_post.bias" in self.shapes or (post_norm and said.get("conv_post_bias", True))
        cond = self._weight("cond_layer") or self._weight("cond") or self._weight("conds.0") or (0, 0)
        sizes = {
            "num_mels": mels,
            "resblock": self.resblock,
            "upsample_kernel_sizes": tuple(up[-1] for up in ups),
            "upsample_initial_channel": initial,
            "resblock_kernel_sizes": tuple(kernels),
            "cond_channels": cond[1],
            "cond_in_each_stage": bool(self._indices("conds")),
            "conv_pre_weight_norm": pre_norm,
            "conv_post_weight_norm": post_norm,
            "conv_post_bias": bias,
        }
        return sizes


def _rates(kernels: tuple[int, ...], where: str) -> tuple[int, ...]:
    if any(kernel % 2 or kernel == 0 for kernel in kernels):
        raise CheckpointError(
            f"the upsampling kernels of {where} are {kernels}: their rates cannot be told as their halves; give the "
            "configuration with --config."
        )
    return tuple(kernel // 2 for kernel in kernels)


def _dilations(seen: Mapping[str, Any], convolutions: tuple[int, ...], where: str) -> tuple[tuple[int, ...], ...]:
    if seen["resblock"] == "1" and set(convolutions) == {3}:
        return ((1, 3, 5),) * len(convolutions)
    third = PRESETS["v3"].generator
    if seen["resblock"] == "2" and seen["resblock_kernel_sizes"] == third.resblock_kernel_sizes:
        return third.resblock_dilation_sizes
    raise CheckpointError(
        f"{where} holds residual blocks {seen['resblock']} with kernels {seen['resblock_kernel_sizes']} and "
        f"{convolutions} convolutions: no release has them, so their dilations are not known; give the configuration "
        "with --config."
    )


def recognise_discriminators(shapes: Shapes) -> tuple[DiscriminatorConfig, tuple[str, ...]]:
    """Sizes of the discriminators whose tensors are given as `mpd.discriminators...` and `msd.discriminators...`."""

    def count(stack: str) -> int:
        found = [re.match(rf"{stack}\.discriminators\.(\d+)\.", name) for name in shapes]
        return 1 + max((int(match[1]) for match in found if match), default=-1)

    periods, scales = count("mpd"), count("msd")
    if not 0 < periods <= len(_PRIMES) or not scales:
        raise CheckpointError(f"{periods} period and {scales} scale discriminators are no HiFi-GAN's.")
    last = max(
        (
            shape[1]
            for name, shape in shapes.items()
            if re.match(r"mpd\.discriminators\.0\.conv_post\.", name) and len(shape) == 4
        ),
        default=1024,
    )
    last = max(last, 16)
    config = DiscriminatorConfig(periods=_PRIMES[:periods], scales=scales, width=last / 1024)
    return config, (f"periods {config.periods}: those of the release, the smallest primes",)

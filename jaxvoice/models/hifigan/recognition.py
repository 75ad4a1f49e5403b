"""Finding out from names and shapes which HiFi-GAN a file holds, and where in it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from jaxvoice.config import format_value
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.models.hifigan.config import PRESETS, GeneratorConfig, HiFiGANConfig, LatentConfig
from jaxvoice.models.hifigan.foreign_configs import Claims
from jaxvoice.models.hifigan.sizes import GeneratorSizes, halved_kernels, released_dilations
from jaxvoice.models.hifigan.tensor_names import Shapes
from jaxvoice.weights.mismatches import format_name

_OTHERS = ("ups", "resblocks", "conv_post")
_MODELS = {"v1": "V1", "v2": "V2", "v3": "V3"}


@dataclass(frozen=True)
class Recognised:
    """A generator found in a file."""

    config: HiFiGANConfig
    """Its configuration."""
    version: str
    """`V1`, `V2`, `V3`, or the sizes in words."""
    assumed: tuple[str, ...]
    """What neither the tensors nor a configuration determine."""


def generators_in(names: Iterable[str]) -> list[str]:
    """What stands before the names of each generator among `names`: `""`, `generator.`, `model.waveform_decoder.`"""
    split = [name.split(".") for name in names]
    found: dict[str, set[str]] = {}
    for parts in split:
        # The last one counts: a larger model may have layers of that name around its vocoder.
        last = next((i for i in range(len(parts) - 2, -1, -1) if parts[i] == "conv_pre"), None)
        if last is not None:
            found.setdefault(".".join([*parts[:last], ""]), set())
    for parts in split:
        for i, part in enumerate(parts[:-1]):
            if part in _OTHERS and (part == "conv_post" or (parts[i + 1] == "0" and i + 2 < len(parts))):
                has = found.get(".".join([*parts[:i], ""]))
                if has is not None:
                    has.add(part)
    return [prefix for prefix, has in found.items() if len(has) == len(_OTHERS)]


def choose_generator(names: Iterable[str], part: str | None, where: str) -> str:
    """The prefix of the generator to take: the only one, or the one that `part` names by its last components.

    **Raises:** `CheckpointError`, listing what looks like a generator, if there is none, or several.
    """
    names = list(names)
    prefixes = generators_in(names)
    if not prefixes:
        tops = sorted({name.split(".")[0] for name in names})
        raise CheckpointError(
            f"{where} holds no HiFi-GAN generator (conv_pre, ups, resblocks and conv_post): its {len(names)} tensors "
            f"begin with {_some(tops) or 'nothing'}. See `jaxvoice inspect {where}`."
        )
    parts = _some([prefix.removesuffix(".") or "(the whole file)" for prefix in prefixes])
    if part is not None:
        wanted = part.rstrip(".") + "."
        fits = [prefix for prefix in prefixes if prefix == wanted or prefix.endswith(f".{wanted}")]
        if len(fits) == 1:
            return fits[0]
        word = "several parts" if fits else "no generator"
        raise CheckpointError(
            f"--part {format_name(part)} names {word} of {where}; what looks like a generator: {parts}."
        )
    if len(prefixes) > 1:
        raise CheckpointError(f"{where} holds several generators: {parts}; choose one with --part.")
    return prefixes[0]


def _some(names: Sequence[str]) -> str:
    return ", ".join(format_name(name, 60) for name in names[:8]) + (", ..." if len(names) > 8 else "")


def recognise(shapes: Shapes, claims: Claims | None, *, released: bool, place: str, where: str) -> Recognised:
    """What the generator with these tensors is.

    **Arguments:** `shapes` by names without prefix; `claims`, what a configuration says; `released`, whether it lies
    where the files of jik876/hifi-gan have theirs; `place`, its prefix; `where` for messages.

    **Raises:** `ConfigError` if the configuration contradicts the tensors; `CheckpointError` if the tensors do not
    determine the generator and there is no configuration.
    """
    tensors = GeneratorSizes(shapes)
    said = dict(claims.generator) if claims else {}
    latent = claims.mel.channels if claims and isinstance(claims.mel, LatentConfig) else None
    seen = tensors.sizes(said if latent is None else {"num_mels": latent, **said})
    contradictions = [
        f"{name}: {claims.kind if claims else ''} config says {format_value(said[name])}, the tensors "
        f"{format_value(value)}"
        for name, value in seen.items()
        if name in said and said[name] != value
    ]
    dilations = said.get("resblock_dilation_sizes")
    if dilations is not None and tuple(map(len, dilations)) != tensors.convolutions():
        contradictions.append(
            f"resblock_dilation_sizes: the config says {format_value(dilations)}, the tensors have "
            f"{format_value(tensors.convolutions())} convolutions in the blocks of a stage"
        )
    if contradictions:
        raise ConfigError(
            f"the configuration and the tensors of {where} contradict each other: {'; '.join(contradictions)}. Give "
            "the configuration of these weights with --config."
        )
    assumed = [*(claims.assumed if claims else ()), *tensors.guessed]
    if "upsample_rates" not in said:
        said["upsample_rates"] = halved_kernels(seen["upsample_kernel_sizes"], where)
        assumed.append(f"upsample_rates {said['upsample_rates']}: half of the kernels")
    if dilations is None:
        said["resblock_dilation_sizes"] = released_dilations(seen, tensors.convolutions(), where)
        assumed.append(f"resblock_dilation_sizes {said['resblock_dilation_sizes']}: those of the release")
    generator = GeneratorConfig(**{**said, **seen})
    mel = _mel(generator, claims, released, place, assumed, where)
    name = next((word for key, word in _MODELS.items() if PRESETS[key].generator == generator), None)
    config = HiFiGANConfig(generator=generator, mel=mel, segment_size=_segment(claims, mel))
    version = name or f"{generator.upsample_initial_channel} channels, resblock {generator.resblock}"
    return Recognised(config, version, tuple(assumed))


def _mel(
    generator: GeneratorConfig, claims: Claims | None, released: bool, place: str, assumed: list[str], where: str
) -> MelConfig | LatentConfig:
    if claims is not None and claims.mel is not None:
        size = generator.num_mels
        if isinstance(claims.mel, LatentConfig) and "num_mels" not in claims.generator and claims.mel.channels != size:
            assumed.append(f"latents of {size} numbers, as conv_pre reads them: not in the configuration")
            return replace(claims.mel, channels=size)
        return claims.mel
    hop = generator.hop_length
    if place.endswith("waveform_decoder.") and (generator.num_mels, hop) == (1024, 256):
        assumed.append("24000 Hz, as XTTS makes them (no configuration)")
        return LatentConfig(24000, hop, generator.num_mels)
    if not released:
        raise CheckpointError(
            f"{where} does not say what its generator reads, and mels differ from model to model; give its "
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

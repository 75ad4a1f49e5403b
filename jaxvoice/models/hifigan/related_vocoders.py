"""Vocoders with the layer names of HiFi-GAN that are other networks, and files that contain more than a generator."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from jaxvoice.models.hifigan.embedded_generators import rvc_table
from jaxvoice.models.hifigan.foreign_configs import is_known
from jaxvoice.models.hifigan.weights import Shapes
from jaxvoice.weights.archive import Archive
from jaxvoice.weights.foreign_settings import parse_yaml

NEMO_CONFIG = "model_config.yaml"

_RELATIVES: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"(m_source|noise_convs|noise_res|l_sin_gen|source_module)\..*", re.DOTALL),
        "a generator with a source filter (NSF-HiFi-GAN, or RVC with F0), which also needs the pitch of the speech; "
        "only models without F0 can be imported",
    ),
    (
        re.compile(r"(resblocks\..*\.(activations|acts1|acts2|alpha1|alpha2)|activation_post|alphas)\..*", re.DOTALL),
        "BigVGAN or a vocoder with its periodic Snake activations, which HiFi-GAN does not have",
    ),
    (
        re.compile(r"(dict|spkr|unit_embedding|dur_predictor|embed_units)\..*", re.DOTALL),
        "a unit vocoder (unit HiFi-GAN), which embeds discrete speech units and does not read mel spectrograms",
    ),
)


def relative_of(names: Iterable[str], prefix: str, shapes: Shapes) -> str | None:
    """What the generator at `prefix` is, if it is a network other than HiFi-GAN's; `None` for a HiFi-GAN.

    **Arguments:** `names` of all tensors of the file; `shapes` of the generator's tensors by names without prefix.
    """
    parent = ".".join(prefix.split(".")[:-2])
    beside = f"{parent}." if parent and not parent.endswith(("state_dict", "weight")) else None
    for name in names:
        if name.startswith(prefix):
            for pattern, what in _RELATIVES:
                if pattern.fullmatch(name.removeprefix(prefix)):
                    return what
        elif beside is not None and re.match(r"unit_embedding\.", name.removeprefix(beside)):
            return _RELATIVES[-1][1]
    post = next(
        (
            shapes[f"conv_post.{part}"]
            for part in ("weight_v", "weight", "parametrizations.weight.original1")
            if f"conv_post.{part}" in shapes
        ),
        (),
    )
    if len(post) == 3 and post[0] > 1:
        return f"a vocoder with {post[0]} output channels instead of one, such as iSTFTNet or multi-band HiFi-GAN"
    return None


def is_inside_hifivc(names: Iterable[str]) -> bool:
    """Whether `names` are those of a HiFi-VC, whose decoder has the layers of a HiFi-GAN but reads other inputs."""
    marks = ("pre_conv", "convs.0.first_conv", "mean_conv", "std_conv")
    pattern = re.compile(rf"(?:.*\.)?({'|'.join(map(re.escape, marks))})\.[^.]+", re.DOTALL)
    return {found[1] for name in names if (found := pattern.fullmatch(name))} == set(marks)


def is_inside_vits(names: Iterable[str]) -> bool:
    """Whether `names` contain those of a complete VITS, under coqui's names or the original's."""
    parts = (
        ("text_encoder.emb", "posterior_encoder.pre", "flow.flows.0.pre"),
        ("enc_p.emb", "enc_q.pre", "flow.flows.0.pre"),
    )
    layers = {name.rpartition(".")[0] for name in names}
    return any(
        all(any(layer == part or layer.endswith(f".{part}") for layer in layers) for part in marks) for marks in parts
    )


def is_inside_xtts(names: Iterable[str]) -> bool:
    """Whether `names` contain those of a complete XTTS: its language model, and its decoder."""
    marks = ("gpt.mel_embedding.weight", "hifigan_decoder.waveform_decoder.conv_pre.weight")
    names = list(names)
    return all(any(name == mark or name.endswith(f".{mark}") for name in names) for mark in marks)


def config_inside(archive: Archive) -> tuple[Mapping[str, Any], str] | None:
    """The configuration in the file itself, and its description for messages; `None` if there is none."""
    where = archive.source.path.name
    for table, place in _tables(archive.metadata, where):
        if is_known(table):
            return table, place
    return None


def _tables(metadata: Mapping[str, Any], where: str) -> Iterator[tuple[Any, str]]:
    yield metadata.get("config"), f"the configuration in {where}"
    yield rvc_table(metadata), f"the configuration in {where}"
    text = metadata.get(NEMO_CONFIG)
    if isinstance(text, str) and text.strip():
        yield parse_yaml(text, f"{NEMO_CONFIG} in {where}"), f"{NEMO_CONFIG} in {where}"
    settings = metadata.get("hyper_parameters")
    yield settings, f"the hyper-parameters in {where}"
    if isinstance(settings, Mapping):
        yield from ((value, f"the hyper-parameters in {where}") for value in settings.values())


def contains_other_parts(archive: Archive, kind: str | None) -> bool:
    """Whether the other tensors of the file are known to be parts that the generator does not need.

    This holds for checkpoints of Lightning, NeMo files, and models of Hugging Face and RVC. `kind` is that of the
    configuration.
    """
    metadata = archive.metadata
    lightning = "pytorch-lightning_version" in metadata or {"epoch", "global_step"} <= metadata.keys()
    return (
        archive.source.format == "NeMo"
        or kind in ("HF VITS", "Hugging Face", "RVC")
        or (lightning and any(name.startswith("state_dict.") for name in archive.tensors))
    )

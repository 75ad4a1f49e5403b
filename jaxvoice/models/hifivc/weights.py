"""HiFi-VC's weights: names and shapes, and the rules that convert the tensors of an archive. Does not import jax."""

import itertools
import math
import re
from collections.abc import Mapping

import numpy as np
from jaxtyping import Shaped

from jaxvoice.models.conformer.weights import encoder_shapes
from jaxvoice.models.hifivc.archive_structure import ArchiveStructure
from jaxvoice.models.hifivc.config import HiFiVCConfig, source_kernel
from jaxvoice.weights.archive import Tensors
from jaxvoice.weights.rules import Ignore, Rule

NAME = "hifivc"

Shapes = dict[str, tuple[int, ...]]

_EPS = 1e-5
_DEPTHWISE = re.compile(r"(.*\.conv)\.depthwise_conv\.(weight|bias)", re.DOTALL)


def hifivc_shapes(config: HiFiVCConfig) -> Shapes:
    """Shape of every array of a `HiFiVC`, by name."""
    content = {name: shape for name, shape in encoder_shapes(config.content).items() if ".batch_norm." not in name}
    return {
        **_below("content_encoder", content),
        **_below("speaker_encoder", _speaker_shapes(config)),
        **_below("pitch_encoder", _pitch_shapes(config)),
        **_below("decoder", _decoder_shapes(config)),
    }


def _below(prefix: str, shapes: Mapping[str, tuple[int, ...]]) -> Shapes:
    return {f"{prefix}.{name}": shape for name, shape in shapes.items()}


def _conv(name: str, weight: tuple[int, ...], bias: int | None, *, norm: bool = True) -> Shapes:
    own: Shapes = {} if bias is None else {f"{name}.bias": (bias,)}
    if not norm:
        return {f"{name}.weight": weight, **own}
    return {f"{name}.weight_g": (weight[0], 1, 1), f"{name}.weight_v": weight, **own}


def _speaker_shapes(config: HiFiVCConfig) -> Shapes:
    speaker = config.speaker
    first, last = speaker.widths[0], speaker.widths[-1]
    shapes = _conv("pre_conv", (first, speaker.in_channels, 3), first, norm=False)
    for i, (narrow, wide) in enumerate(itertools.pairwise(speaker.widths)):
        if narrow != wide:
            shapes |= _conv(f"convs.{i}.conv_skip", (wide, narrow, 1), wide if speaker.skip_bias else None)
        shapes |= _conv(f"convs.{i}.first_conv", (narrow, narrow, 3), narrow)
        shapes |= _conv(f"convs.{i}.second_conv", (wide, narrow, 1), wide)
    for head in ("mean_conv", "std_conv"):
        shapes |= _conv(head, (speaker.size, last, 1), speaker.size)
    return shapes


def _pitch_shapes(config: HiFiVCConfig) -> Shapes:
    encoder = config.pitch_encoder
    if encoder is None:
        return {}
    width = encoder.channels
    shapes = _conv("convs.0", (width, 2, 1), None, norm=False)
    for i, kernel in enumerate(encoder.kernel_sizes):
        shapes |= _conv(f"convs.{i + 1}", (width, width, kernel), width, norm=False)
    return shapes


def _decoder_shapes(config: HiFiVCConfig) -> Shapes:
    decoder, content = config.decoder, config.content.dim
    shapes: Shapes = {"input_norm.weight": (content,), "input_norm.bias": (content,)} if decoder.input_norm else {}
    shapes |= _conv("conv_pre", (decoder.pre_channels, content, decoder.pre_kernel_size), decoder.pre_channels)
    inputs = [decoder.first_width(config.pitch_channels), *decoder.widths[1:]]
    blocks = list(zip(decoder.resblock_kernel_sizes, decoder.resblock_dilation_sizes, strict=True))
    for i, (width, kernel) in enumerate(zip(decoder.widths[1:], decoder.upsample_kernel_sizes, strict=True)):
        shapes |= _conv(f"ups.{i}", (inputs[i], width, kernel), width)
        if decoder.conditioning == "stage_inputs":
            size = config.speaker.size
            shapes |= {f"stage_conds.{i}.weight": (inputs[i], size), f"stage_conds.{i}.bias": (inputs[i],)}
        for n, (taps, dilations) in enumerate(blocks):
            at = f"resblocks.{i * len(blocks) + n}"
            for j in range(len(dilations)):
                shapes |= _conv(f"{at}.convs1.{j}", (width, width, taps), width)
                shapes |= _conv(f"{at}.convs2.{j}", (width, width, taps), width)
                if decoder.conditioning == "resblocks":
                    shapes |= _conv(f"{at}.conds.{j}", (width, config.speaker.size, 1), width)
    if decoder.harmonic_source:
        for i, width in enumerate(decoder.widths[1:]):
            kernel = source_kernel(math.prod(decoder.upsample_rates[i + 1 :]))
            shapes |= _conv(f"source.convs.{i}", (width, 1, kernel), width, norm=False)
    shapes |= _conv("conv_post", (1, decoder.widths[-1], 7), 1)
    return shapes


def archive_rules(structure: ArchiveStructure) -> tuple[Rule, ...]:
    """The rules for the tensors of an archive, whose names are complete."""
    speaker = [
        *("pre_conv", "mean_conv", "std_conv"),
        *(f"convs.{{i}}.{name}" for name in ("conv_skip", "first_conv", "second_conv")),
    ]
    pairs = [(f"{structure.speaker}{layer}", f"speaker_encoder.{layer}") for layer in speaker]
    pairs += [(theirs, ours) for ours, theirs in structure.names.items()]
    rules = []
    for theirs, ours in pairs:
        norm = None if ours == "decoder.input_norm" else "weight"
        weight = "" if norm else ".weight"
        rules += [Rule(f"{theirs}{weight}", f"{ours}{weight}", norm=norm), Rule(f"{theirs}.bias", f"{ours}.bias")]
    for part in ("pre_encode", "layers"):
        rules.append(Rule(f"{structure.content}{part}.{{path*}}", f"content_encoder.{part}.{{path*}}"))
    return tuple(rules)


def archive_ignored(structure: ArchiveStructure) -> tuple[Ignore, ...]:
    """The tensors of an archive that the model does not need."""
    content = re.escape(structure.content or "")
    buffers = [
        name
        for name, info in structure.archive.tensors.infos().items()
        if info.kind == "buffer" and ".batch_norm." not in name
    ]
    tables = "|".join(map(re.escape, buffers))
    return (
        Ignore(rf"{content}layers\.[0-9]+\.conv\.batch_norm\..*", "folded into depthwise_conv"),
        Ignore(r"(.*\.)?decoder_layers\..*", "classifier of the speech recogniser, which content features do not need"),
        *((Ignore(tables, "buffer: a table or a constant that is computed"),) if tables else ()),
    )


def folded_tensors(tensors: Tensors, prefix: str) -> Tensors:
    """`tensors`, with the batch norms of the Conformer below `prefix` folded into its depthwise convolutions.

    A convolution without all four tensors of a batch norm is not changed.
    """
    infos = tensors.infos()

    def read(name: str) -> Shaped[np.ndarray, "..."]:
        found = _DEPTHWISE.fullmatch(name) if name.startswith(prefix) else None
        parts = [] if found is None else [f"{found[1]}.batch_norm.{part}" for part in _PARTS]
        if found is None or any(part not in infos for part in parts):
            return tensors[name]
        weight, bias, mean, variance = (np.asarray(tensors[part], np.float64) for part in parts)
        scale, array = weight / np.sqrt(variance + _EPS), np.asarray(tensors[name], np.float64)
        new = array * scale[:, None, None] if found[2] == "weight" else (array - mean) * scale + bias
        return new.astype(infos[name].dtype)

    return Tensors(infos, read)


_PARTS = ("weight", "bias", "running_mean", "running_var")

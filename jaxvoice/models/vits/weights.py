"""The weights of VITS: names and shapes, and the rules for coqui's and the original's files. Does not import jax."""

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from jaxvoice.errors import CheckpointError
from jaxvoice.models.hifigan.recognition import GeneratorSizes
from jaxvoice.models.hifigan.weights import GENERATOR_RULES, generator_shapes
from jaxvoice.models.vits.config import VITSConfig, WaveNetConfig, waveform_layers
from jaxvoice.weights.mismatches import format_name
from jaxvoice.weights.rules import Ignore, Rule
from jaxvoice.weights.tensor_conversions import Reshape

NAME = "vits"

Shapes = dict[str, tuple[int, ...]]
Source = Literal["coqui", "original"]

DISCRIMINATORS = "disc."
"""The prefix of the discriminators in coqui's files, and in `training.safetensors`."""

_MARKS: dict[Source, tuple[str, ...]] = {
    "coqui": (
        "text_encoder.emb.weight",
        "posterior_encoder.pre.weight",
        "flow.flows.0.pre.weight",
        "waveform_decoder.conv_pre.weight",
    ),
    "original": ("enc_p.emb.weight", "enc_q.pre.weight", "flow.flows.0.pre.weight", "dec.conv_pre.weight"),
}


def _conv(name: str, out: int, inputs: int, kernel: int) -> Shapes:
    return {f"{name}.weight": (out, inputs, kernel), f"{name}.bias": (out,)}


def _normed(name: str, weight: tuple[int, ...]) -> Shapes:
    ones = tuple(1 for _ in weight[1:])
    return {f"{name}.weight_g": (weight[0], *ones), f"{name}.weight_v": weight, f"{name}.bias": (weight[0],)}


def _below(prefix: str, shapes: Shapes) -> Shapes:
    return {f"{prefix}.{name}": shape for name, shape in shapes.items()}


def _wavenet(channels: int, config: WaveNetConfig, cond: int) -> Shapes:
    shapes: Shapes = {}
    for i in range(config.layers):
        shapes |= _normed(f"in_layers.{i}", (2 * channels, channels, config.kernel_size))
        width = 2 * channels if i < config.layers - 1 else channels
        shapes |= _normed(f"res_skip_layers.{i}", (width, channels, 1))
    if cond:
        shapes |= _normed("cond_layer", (2 * channels * config.layers, cond, 1))
    return shapes


def _text_encoder(config: VITSConfig) -> Shapes:
    text, width = config.text, config.text_channels
    shapes: Shapes = {"emb.weight": (config.symbols.size, config.channels)}
    for i in range(text.layers):
        attention, feed_forward = f"encoder.attn_layers.{i}", f"encoder.ffn_layers.{i}"
        for part in "qkvo":
            shapes |= _conv(f"{attention}.conv_{part}", width, width, 1)
        near = (1, 2 * text.window + 1, width // text.heads)
        shapes |= {f"{attention}.emb_rel_k": near, f"{attention}.emb_rel_v": near}
        shapes |= _conv(f"{feed_forward}.conv_1", text.feed_forward, width, text.kernel_size)
        shapes |= _conv(f"{feed_forward}.conv_2", width, text.feed_forward, text.kernel_size)
        for number in (1, 2):
            norm = f"encoder.norm_layers_{number}.{i}"
            shapes |= {f"{norm}.gamma": (width,), f"{norm}.beta": (width,)}
    return shapes | _conv("proj", 2 * config.channels, width, 1)


def _separable(channels: int, kernel: int) -> Shapes:
    shapes: Shapes = {}
    for i in range(3):
        shapes |= _conv(f"convs_sep.{i}", channels, 1, kernel) | _conv(f"convs_1x1.{i}", channels, channels, 1)
        for number in (1, 2):
            shapes |= {f"norms_{number}.{i}.{part}": (channels,) for part in ("gamma", "beta")}
    return shapes


def _duration_predictor(config: VITSConfig) -> Shapes:
    sizes, width = config.durations, config.text_channels
    channels, kernel = sizes.channels, sizes.kernel_size
    if sizes.kind == "deterministic":
        shapes = _conv("conv_1", channels, width, kernel) | _conv("conv_2", channels, channels, kernel)
        for number in (1, 2):
            shapes |= {f"norm_{number}.{part}": (1, channels, 1) for part in ("gamma", "beta")}
        shapes |= _conv("proj", 1, channels, 1)
        conditions = width
    else:
        shapes, conditions = {}, channels
        for prefix, inputs in (("", width), ("post_", 1)):
            shapes |= _conv(f"{prefix}pre", channels, inputs, 1) | _conv(f"{prefix}proj", channels, channels, 1)
            shapes |= _below(f"{prefix}convs", _separable(channels, kernel))
            shapes |= {f"{prefix}flows.0.{part}": (2, 1) for part in ("translation", "log_scale")}
            for i in range(1, sizes.flows + 1):
                flow = _conv("pre", channels, 1, 1) | _conv("proj", 3 * sizes.bins - 1, channels, 1)
                shapes |= _below(f"{prefix}flows.{i}", flow | _below("convs", _separable(channels, kernel)))
    if config.speaker_channels:
        shapes |= _conv("cond", conditions, config.speaker_channels, 1)
    if config.languages:
        shapes |= _conv("cond_lang", conditions, config.language_channels, 1)
    return shapes


def vits_shapes(config: VITSConfig) -> Shapes:
    """Shape of every array of a `VITS`, by name."""
    channels, speaker = config.channels, config.speaker_channels
    shapes: Shapes = {}
    if config.num_speakers:
        shapes["emb_g.weight"] = (config.num_speakers, speaker)
    if config.languages:
        shapes["emb_l.weight"] = (len(config.languages), config.language_channels)
    shapes |= _below("text_encoder", _text_encoder(config))
    posterior = _conv("pre", channels, config.spectrogram_bins, 1) | _conv("proj", 2 * channels, channels, 1)
    posterior |= _below("enc", _wavenet(channels, config.posterior, speaker))
    shapes |= _below("posterior_encoder", posterior)
    coupling = _conv("pre", channels, channels // 2, 1) | _conv("post", channels // 2, channels, 1)
    coupling |= _below("enc", _wavenet(channels, config.flow, speaker))
    for i in range(config.flows):
        shapes |= _below(f"flow.flows.{i}", coupling)
    shapes |= _below("duration_predictor", _duration_predictor(config))
    return shapes | _below("waveform_decoder", generator_shapes(config.decoder))


def discriminator_shapes(config: VITSConfig) -> Shapes:
    """Shape of every array of the discriminators, by their names below `disc`."""
    sizes, shapes = config.discriminators, Shapes()
    layers = waveform_layers(sizes)
    for i, (inputs, outputs, taps, _, groups) in enumerate(layers):
        shapes |= _normed(f"nets.0.convs.{i}", (outputs, inputs // groups, taps))
    shapes |= _normed("nets.0.conv_post", (1, layers[-1][1], 3))
    widths = [sizes.channels(width) for width in (1, 32, 128, 512, 1024, 1024)]
    for n in range(1, len(sizes.periods) + 1):
        for i, (narrow, wide) in enumerate(itertools.pairwise(widths)):
            shapes |= _normed(f"nets.{n}.convs.{i}", (wide, narrow, 5, 1))
        shapes |= _normed(f"nets.{n}.conv_post", (1, widths[-1], 3, 1))
    return _below(DISCRIMINATORS.removesuffix("."), shapes)


def _norm_rules(source: str, target: str) -> tuple[Rule, ...]:
    return Rule(source, target, norm="weight"), Rule(f"{source}.bias", f"{target}.bias")


def _wavenet_rules(source: str, target: str) -> list[Rule]:
    layers = ("in_layers.{i}", "res_skip_layers.{i}", "cond_layer")
    return [rule for layer in layers for rule in _norm_rules(f"{source}.enc.{layer}", f"{target}.enc.{layer}")]


def _decoder_rules(source: str, *, cond: str) -> list[Rule]:
    """The rules of a HiFi-GAN with the projection `cond` of the speaker vector."""
    layers = ("cond", "cond_layer", "conds.{i}", "upsampler.{i}")
    others = tuple(f"{layer}{end}" for layer in layers if layer != cond for end in ("", ".bias"))
    return [
        Rule(f"{source}.{rule.source}", f"waveform_decoder.{rule.target}", rule.layout, rule.norm)
        for rule in GENERATOR_RULES
        if rule.source not in others
    ]


def _rest(source: str, target: str | None = None) -> Rule:
    return Rule(f"{source}.{{path*}}", f"{target or source}.{{path*}}")


def _discriminator_rules(source: str) -> tuple[Rule, ...]:
    target = f"{DISCRIMINATORS}nets"
    layers = ("{n}.convs.{i}", "{n}.conv_post")
    return tuple(rule for layer in layers for rule in _norm_rules(f"{source}.{layer}", f"{target}.{layer}"))


def _original_flows() -> list[Rule]:
    """The couplings, between which the original has layers that reverse the channels."""
    rules: list[Rule] = []
    for i in range(_MOST_FLOWS):
        source, target = f"flow.flows.{2 * i}", f"flow.flows.{i}"
        rules += [*_wavenet_rules(source, target), _rest(source, target)]
    for prefix in ("", "post_"):
        rules.append(Rule(f"dp.{prefix}flows.0.m", f"duration_predictor.{prefix}flows.0.translation"))
        rules.append(Rule(f"dp.{prefix}flows.0.logs", f"duration_predictor.{prefix}flows.0.log_scale"))
        for i in range(1, _MOST_FLOWS):
            rules.append(_rest(f"dp.{prefix}flows.{2 * i - 1}", f"duration_predictor.{prefix}flows.{i}"))
    return rules


_MOST_FLOWS = 16
_FLAT_NORM = Reshape((-1,), (1, -1, 1))

RULES: dict[Source, tuple[Rule, ...]] = {
    "coqui": (
        *_wavenet_rules("posterior_encoder", "posterior_encoder"),
        *_wavenet_rules("flow.flows.{k}", "flow.flows.{k}"),
        *_decoder_rules("waveform_decoder", cond="cond_layer"),
        *map(_rest, ("text_encoder", "posterior_encoder", "flow", "duration_predictor", "emb_g", "emb_l")),
    ),
    "original": (
        *_wavenet_rules("enc_q", "posterior_encoder"),
        *_decoder_rules("dec", cond="cond"),
        *_original_flows(),
        # The deterministic predictor of the original stores norms as vectors.
        Rule("dp.norm_{n}.gamma", "duration_predictor.norm_{n}.gamma", _FLAT_NORM),
        Rule("dp.norm_{n}.beta", "duration_predictor.norm_{n}.beta", _FLAT_NORM),
        *map(
            _rest,
            ("enc_p", "enc_q", "dp", "emb_g"),
            ("text_encoder", "posterior_encoder", "duration_predictor", "emb_g"),
        ),
    ),
}
"""The rules of coqui's checkpoints, which mainly keep names, and of those of jaywalnut310/vits."""

DISCRIMINATOR_RULES: dict[Source, tuple[Rule, ...]] = {
    "coqui": _discriminator_rules("disc.nets"),
    "original": _discriminator_rules("discriminators"),
}
"""The rules of discriminators, in coqui's files and in the original's `D_` files."""

_OTHER_TENSORS = (
    (r"disc\..*", "discriminator, which only training needs"),
    (r"(.*\.)?speaker_encoder\..*", "speaker encoder for the loss; import it from its own file"),
    (r"audio_(transform|resampler)\..*", "constant of the resampling"),
)


def ignored(prefix: str) -> tuple[Ignore, ...]:
    """The tensors of a file with a network below `prefix` that are not imported."""
    at = re.escape(prefix)
    training = Ignore(r"(optimizer|scaler|model_loss|scheduler)[a-z_]*(\..*)?", "state of training")
    return (*(Ignore(f"{at}{pattern}", reason) for pattern, reason in _OTHER_TENSORS), training)


@dataclass(frozen=True)
class Place:
    """The position of a VITS in a file."""

    prefix: str
    """The prefix of its tensors."""
    source: Source
    """The implementation that names them."""


def networks_in(names: Iterable[str]) -> list[Place]:
    """Every VITS in a file with tensors of these names."""
    known = set(names)
    found = []
    for source, marks in _MARKS.items():
        prefixes = [name.removesuffix(marks[0]) for name in known if name.endswith(marks[0])]
        for prefix in sorted(prefixes):
            plain = prefix == "" or prefix.endswith(".")
            if plain and all(prefix + mark in known for mark in marks):
                found.append(Place(prefix, source))
    return found


def renamed(shapes: Mapping[str, tuple[int, ...]], rules: Iterable[Rule]) -> Shapes:
    """`shapes` with the names and layouts that `rules` give them, without those of other names.

    Names have no prefix. Weight norm keeps its form.
    """
    rules, found = list(rules), Shapes()
    for name, shape in shapes.items():
        hit = next(((rule, *hit) for rule in rules if (hit := rule.match(name))), None)
        if hit is not None:
            rule, target, part = hit
            laid_out = shape if rule.layout is None else rule.layout.shape(shape)
            found[f"{target}.{part}" if part else target] = laid_out or shape
    return found


_WEIGHTS = ("weight_v", "parametrizations.weight.original1", "weight")


def geometry(shapes: Mapping[str, tuple[int, ...]], where: str) -> dict[str, Any]:
    """The sizes of a network with tensors of these shapes, by names of coqui's configuration and further ones.

    **Arguments:** `shapes`, the result of `renamed`; `where`, the name of the file in errors.

    **Raises:** `CheckpointError` if a tensor that determines a size is missing or has another rank.
    """

    def size(name: str, axis: int, rank: int) -> int:
        shape = shapes.get(name)
        if shape is None or len(shape) != rank or 0 in shape:
            found = "is missing" if shape is None else f"has shape {shape}"
            raise CheckpointError(
                f"{format_name(name)} {found} in {where}; it should be a weight of VITS with {rank} axes. Download the "
                "file again."
            )
        return shape[axis]

    def kernel(layer: str, axis: int) -> int:
        part = next((part for part in _WEIGHTS if f"{layer}.{part}" in shapes), "weight")
        return size(f"{layer}.{part}", axis, 3)

    def count(pattern: str) -> int:
        found = (re.match(pattern, name) for name in shapes)
        return 1 + max((int(match[1]) for match in found if match), default=-1)

    attention, feed_forward = "text_encoder.encoder.attn_layers.0", "text_encoder.encoder.ffn_layers.0.conv_1"
    width, channels = size(f"{attention}.conv_q.weight", 0, 3), size("text_encoder.emb.weight", 1, 2)
    head = size(f"{attention}.emb_rel_k", 2, 3)
    stochastic = "duration_predictor.flows.0.translation" in shapes
    sizes: dict[str, Any] = {
        "symbols": size("text_encoder.emb.weight", 0, 2),
        "channels": channels,
        "text.layers": count(r"text_encoder\.encoder\.attn_layers\.([0-9]{1,3})\."),
        "text.heads": width // head,
        "text.feed_forward": kernel(feed_forward, 0),
        "text.kernel_size": kernel(feed_forward, 2),
        "text.window": size(f"{attention}.emb_rel_k", 1, 3) // 2,
        "bins": kernel("posterior_encoder.pre", 1),
        "posterior.layers": count(r"posterior_encoder\.enc\.in_layers\.([0-9]{1,3})\."),
        "posterior.kernel_size": kernel("posterior_encoder.enc.in_layers.0", 2),
        "flows": count(r"flow\.flows\.([0-9]{1,3})\."),
        "flow.layers": count(r"flow\.flows\.0\.enc\.in_layers\.([0-9]{1,3})\."),
        "flow.kernel_size": kernel("flow.flows.0.enc.in_layers.0", 2),
        "durations.kind": "stochastic" if stochastic else "deterministic",
        "durations.channels": kernel("duration_predictor.proj", 1),
        "speaker_channels": 0,
        "num_speakers": size("emb_g.weight", 0, 2) if "emb_g.weight" in shapes else 0,
        "languages": size("emb_l.weight", 0, 2) if "emb_l.weight" in shapes else 0,
        "language_channels": width - channels,
    }
    if any(name.startswith("posterior_encoder.enc.cond_layer.") for name in shapes):
        sizes["speaker_channels"] = kernel("posterior_encoder.enc.cond_layer", 1)
    if stochastic:
        sizes["durations.kernel_size"] = kernel("duration_predictor.convs.convs_sep.0", 2)
        sizes["durations.flows"] = count(r"duration_predictor\.flows\.([0-9]{1,3})\.") - 1
        sizes["durations.bins"] = (kernel("duration_predictor.flows.1.proj", 0) + 1) // 3
    else:
        sizes["durations.kernel_size"] = kernel("duration_predictor.conv_1", 2)
    return sizes


def decoder_sizes(shapes: Mapping[str, tuple[int, ...]], configured: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the decoder's `GeneratorConfig` that the tensors determine, and `convolutions` of its blocks.

    `shapes` is the result of `renamed`; `configured` has values for missing tensors.
    """
    at = "waveform_decoder."
    sizes = GeneratorSizes({name.removeprefix(at): shape for name, shape in shapes.items() if name.startswith(at)})
    return {**sizes.sizes(configured), "convolutions": sizes.convolutions()}

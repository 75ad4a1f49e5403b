"""The weights of speaker encoders: names and shapes, and where they are in released files. Does not import jax."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import numpy as np

from jaxvoice.dsp.mel_config import PowerMelConfig
from jaxvoice.errors import CheckpointError
from jaxvoice.models.speaker_encoder.config import GE2EConfig, LSTMConfig, ResNetConfig, SpeakerEncoderConfig
from jaxvoice.weights.mismatches import format_name
from jaxvoice.weights.rules import Ignore, Rule

NAME = "speaker_encoder"
COUNT = "num_batches_tracked"
FILTERS = "torch_spec.1.mel_scale.fb"
WINDOW = "torch_spec.1.spectrogram.window"
EMPHASIS = "torch_spec.0.filter"

Kind = Literal["resnet", "lstm", "ge2e"]
Shapes = dict[str, tuple[int, ...]]

RULES = (Rule("{path*}", "{path*}"),)
"""All arrays have the names of the release."""

_MARKS: dict[Kind, tuple[str, ...]] = {
    "resnet": ("layer1.0.se.fc.0.weight", "layer4.0.conv1.weight", "attention.0.weight", "fc.weight"),
    "lstm": ("layers.0.lstm.weight_ih_l0", "layers.0.linear.weight"),
    "ge2e": ("lstm.weight_ih_l0", "linear.weight", "similarity_weight"),
}
_STACKED = ("layers.lstm.weight_ih_l0", "layers.linear.weight")
_TRAINING = ("optimizer", "optimizer_state", "criterion", "scaler", "scheduler", "loss", "step", "epoch", "date")


def encoder_shapes(config: SpeakerEncoderConfig) -> Shapes:
    """Shape of every array of a speaker encoder with its running statistics and buffers, by name."""
    sizes, mels = config.network, config.mel.num_mels
    if isinstance(sizes, GE2EConfig):
        return _lstm("lstm", mels, sizes.units, sizes.depth) | _linear("linear", sizes.dim, sizes.units)
    if isinstance(sizes, LSTMConfig):
        shapes: Shapes = {}
        if sizes.projection:
            for i in range(sizes.layers):
                shapes |= _lstm(f"layers.{i}.lstm", sizes.dim if i else mels, sizes.hidden, 1)
                shapes[f"layers.{i}.linear.weight"] = (sizes.dim, sizes.hidden)
        else:
            shapes = _lstm("layers.lstm", mels, sizes.hidden, sizes.layers)
            shapes |= _linear("layers.linear", sizes.dim, sizes.hidden)
        return shapes | _buffers(config)
    return _resnet(sizes, mels) | _buffers(config)


def _resnet(sizes: ResNetConfig, mels: int) -> Shapes:
    inputs = sizes.channels[0]
    shapes: Shapes = {"conv1.weight": (inputs, 1, 3, 3), "conv1.bias": (inputs,), **_norm("bn1", inputs)}
    for group, (count, channels) in enumerate(zip(sizes.blocks, sizes.channels, strict=True)):
        for number in range(count):
            at, hidden = f"layer{group + 1}.{number}", channels // sizes.reduction
            shapes |= {f"{at}.conv1.weight": (channels, inputs, 3, 3), f"{at}.conv2.weight": (channels, channels, 3, 3)}
            shapes |= _norm(f"{at}.bn1", channels) | _norm(f"{at}.bn2", channels)
            shapes |= _linear(f"{at}.se.fc.0", hidden, channels) | _linear(f"{at}.se.fc.2", channels, hidden)
            if inputs != channels or (group and not number):
                shapes[f"{at}.downsample.0.weight"] = (channels, inputs, 1, 1)
                shapes |= _norm(f"{at}.downsample.1", channels)
            inputs = channels
    features, hidden = inputs * -(-mels // 8), sizes.attention
    shapes |= {"attention.0.weight": (hidden, features, 1), "attention.0.bias": (hidden,)}
    shapes |= _norm("attention.2", hidden)
    shapes |= {"attention.3.weight": (features, hidden, 1), "attention.3.bias": (features,)}
    return shapes | _linear("fc", sizes.dim, features * (2 if sizes.pooling == "ASP" else 1))


def _buffers(config: SpeakerEncoderConfig) -> Shapes:
    mel = config.mel
    if not isinstance(mel, PowerMelConfig):
        return {}
    return {EMPHASIS: (1, 1, 2), WINDOW: (mel.win_length,), FILTERS: (mel.n_fft // 2 + 1, mel.num_mels)}


def _lstm(name: str, inputs: int, hidden: int, layers: int) -> Shapes:
    shapes: Shapes = {}
    for i in range(layers):
        shapes |= {f"{name}.weight_ih_l{i}": (4 * hidden, hidden if i else inputs)}
        shapes |= {f"{name}.weight_hh_l{i}": (4 * hidden, hidden)}
        shapes |= {f"{name}.bias_{part}_l{i}": (4 * hidden,) for part in ("ih", "hh")}
    return shapes


def _linear(name: str, out: int, inputs: int) -> Shapes:
    return {f"{name}.weight": (out, inputs), f"{name}.bias": (out,)}


def _norm(name: str, channels: int) -> Shapes:
    parts = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{part}": (channels,) for part in parts} | {f"{name}.{COUNT}": ()}


def dtypes(names: Iterable[str]) -> dict[str, np.dtype]:
    """The types of the arrays in `names` that are not float32."""
    return {name: np.dtype(np.int32) for name in names if name.endswith(f".{COUNT}")}


def encoders_in(names: Iterable[str], kinds: Iterable[Kind]) -> dict[str, Kind]:
    """The kind of each speaker encoder among tensors of these names, by the prefix of its names."""
    known = set(names)
    found: dict[str, Kind] = {}
    for kind in kinds:
        marks = [_MARKS[kind], *([_STACKED] if kind == "lstm" else [])]
        for first, *others in marks:
            for name in known:
                prefix = name.removesuffix(first)
                whole = name.endswith(first) and (not prefix or prefix.endswith("."))
                if whole and all(prefix + other in known for other in others):
                    found[prefix] = kind
    return found


def is_whole_model(names: Iterable[str], prefix: str) -> bool:
    """Whether all tensors outside `prefix` are states of training."""
    return all(name.startswith(prefix) or name.split(".")[0] in _TRAINING for name in names)


def ignored(prefix: str) -> tuple[Ignore, ...]:
    """The tensors that are not imported."""
    at = re.escape(prefix)
    return (
        Ignore(rf"{at}similarity_(weight|bias)", "scale and bias of the training loss"),
        Ignore(rf"(?!{at}.)({'|'.join(_TRAINING)})(\..*)?" if prefix else r"(?!)", "state of training"),
    )


def network_sizes(
    shapes: Mapping[str, tuple[int, ...]], kind: Kind, where: str
) -> tuple[ResNetConfig | LSTMConfig | GE2EConfig, int]:
    """The network with arrays of these shapes, by names without prefix, and the number of mel bands.

    The bands of a residual network without a stored filterbank are a multiple of 8, because the shapes do not determine
    them.

    **Raises:** `CheckpointError` for arrays that are missing or have another rank.
    """

    def size(name: str, axis: int, rank: int) -> int:
        shape = shapes.get(name)
        if shape is None or len(shape) != rank:
            found = "is missing" if shape is None else f"has shape {shape}"
            raise CheckpointError(f"{format_name(name)} {found} in {where}; it should have {rank} axes.")
        return shape[axis]

    def count(pattern: str) -> int:
        return 1 + max((int(hit[1]) for hit in _matching(shapes, pattern)), default=-1)

    if kind == "ge2e":
        network = GE2EConfig(
            size("lstm.weight_hh_l0", 1, 2), count(r"lstm\.weight_hh_l(\d{1,3})"), size("linear.weight", 0, 2)
        )
        return network, size("lstm.weight_ih_l0", 1, 2)
    if kind == "lstm" and _STACKED[0] in shapes:
        layers = count(r"layers\.lstm\.weight_hh_l(\d{1,3})")
        hidden, dim = size("layers.lstm.weight_hh_l0", 1, 2), size("layers.linear.weight", 0, 2)
        return LSTMConfig(hidden, layers, dim, projection=False), size("layers.lstm.weight_ih_l0", 1, 2)
    if kind == "lstm":
        layers = count(r"layers\.(\d{1,3})\.lstm\.weight_hh_l0")
        hidden, dim = size("layers.0.lstm.weight_hh_l0", 1, 2), size("layers.0.linear.weight", 0, 2)
        return LSTMConfig(hidden, layers, dim), size("layers.0.lstm.weight_ih_l0", 1, 2)
    one, two, three, four = (size(f"layer{group}.0.conv1.weight", 0, 4) for group in range(1, 5))
    first, second, third, fourth = (count(rf"layer{group}\.(\d{{1,3}})\.conv1\.weight") for group in range(1, 5))
    features = size("attention.0.weight", 1, 3)
    network = ResNetConfig(
        blocks=(first, second, third, fourth),
        channels=(one, two, three, four),
        reduction=one // max(1, size("layer1.0.se.fc.0.weight", 0, 2)),
        attention=size("attention.0.weight", 0, 3),
        pooling="ASP" if size("fc.weight", 1, 2) == 2 * features else "SAP",
        dim=size("fc.weight", 0, 2),
    )
    bands = shapes[FILTERS][1] if len(shapes.get(FILTERS, ())) == 2 else 8 * (features // max(1, four))
    return network, bands


def _matching(names: Iterable[str], pattern: str) -> Iterator[Any]:
    return (hit for name in names if (hit := re.fullmatch(pattern, name)))

"""The layers of a released RAVE, in their order, and what their shapes determine of the configuration.

The indices of layers differ between versions 2.x of the release, so layers are found by their order and their parts.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from jaxvoice.errors import CheckpointError
from jaxvoice.models.rave.config import NoiseConfig
from jaxvoice.models.rave.weights import DECODER_NET, ENCODER_NET
from jaxvoice.weights.mismatches import format_name

_KERNELS = ("weight_v", "parametrizations.weight.original1", "weight")
_CACHE = re.compile(r"(.*\.)?(pad|cache|paddings\..*|cumulative_delay)")
_ENCODER = re.compile(rf"(.*?)(?:{re.escape(ENCODER_NET)})\.\d+\.", re.DOTALL)
_EARLIER = re.compile(r"(.*?)\bencoder\.net\.\d+\.", re.DOTALL)
EMA = "EMA"
"""The name of the callback with the moving average of the weights."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """A layer of a sequence, with the shapes of its parts."""

    index: int
    parts: Mapping[str, Shape]

    @property
    def kind(self) -> str:
        """`residual`, `snake`, `adain`, `norm`, `gru`, `up` or `stack` (both of v1), `conv`, or `unknown`."""
        marks = {
            "snake": lambda part: part == "alpha",
            "adain": lambda part: part == "mean_x",
            "norm": lambda part: part == "running_mean",
            "residual": lambda part: part.startswith("aligned."),
            "gru": lambda part: part.rpartition(".")[2] == "weight_ih_l0",
            "stack": lambda part: part.startswith("net.branches."),
            "up": lambda part: part.startswith("net.1."),
            "conv": lambda part: part in _KERNELS,
        }
        return next((kind for kind, fits in marks.items() if any(map(fits, self.parts))), "unknown")

    def kernel(self, where: str) -> tuple[int, int, int]:
        """The shape of the kernel.

        **Raises:** `CheckpointError` if it has no three positive sizes.
        """
        inside = "net.1." if self.kind == "up" else ""
        shape = next((self.parts[inside + part] for part in _KERNELS if inside + part in self.parts), ())
        if len(shape) != 3 or 0 in shape:
            raise CheckpointError(
                f"Layer {self.index} of {where} has a kernel of shape {shape}; it should have three axes. Download the "
                "file again."
            )
        return shape[0], shape[1], shape[2]


def main_prefixes(names: Iterable[str]) -> tuple[str, ...]:
    """The prefixes of all models in a file with tensors of these names, without moving averages."""
    names = list(names)
    found = {match[1] for match in map(_ENCODER.match, names) if match}
    tops = {name.partition("decoder.")[0] for name in names if "decoder." in name}
    return tuple(sorted(prefix for prefix in found & tops if not prefix.endswith(f"{EMA}.")))


def is_earlier_version(names: Iterable[str]) -> bool:
    """Whether a file with tensors of these names is a RAVE of version 1."""
    names = list(names)
    prefixes = {match[1] for match in map(_EARLIER.match, names) if match}
    return not main_prefixes(names) and any(
        {f"{prefix}pqmf.hk", f"{prefix}pqmf.h"} & set(names) and any(n.startswith(f"{prefix}decoder.") for n in names)
        for prefix in prefixes
    )


def layers_of(shapes: Mapping[str, Shape], net: str) -> list[Layer]:
    """The layers of the sequence `net` with weights or statistics, in their order."""
    parts: dict[int, dict[str, Shape]] = {}
    for name, shape in shapes.items():
        index, _, part = name.removeprefix(f"{net}.").partition(".")
        if name.startswith(f"{net}.") and index.isdecimal() and len(index) < 6 and not _CACHE.fullmatch(part):
            parts.setdefault(int(index), {})[part] = shape
    return [Layer(index, parts[index]) for index in sorted(parts)]


@dataclass
class EncoderShape:
    """What the shapes of the encoder determine."""

    version: str
    inputs: int
    capacity: int
    outputs: int
    groups: int
    ratios: tuple[int, ...]
    blocks: tuple[int, ...]
    """Residual blocks of each stage."""
    snake: bool
    adain: bool


def read_encoder(shapes: Mapping[str, Shape], where: str) -> EncoderShape:
    """The sizes of the encoder.

    **Raises:** `CheckpointError` for another structure than that of v1 and v2.
    """
    layers = layers_of(shapes, ENCODER_NET)
    kinds = {layer.kind for layer in layers}
    convs = [layer for layer in layers if layer.kind == "conv"]
    version = "v1" if "norm" in kinds else "v2"
    expected = {"conv", "norm"} if version == "v1" else {"conv", "residual", "snake", "adain"}
    if len(convs) < 3 or not kinds <= expected or layers[0].kind != "conv" or layers[-1].kind != "conv":
        raise _unknown("encoder", kinds, where)
    capacity, inputs, _ = convs[0].kernel(f"the encoder in {where}")
    outputs, narrow, _ = convs[-1].kernel(f"the encoder in {where}")
    taps = [conv.kernel(f"the encoder in {where}")[2] for conv in convs[1:-1]]
    ratios = tuple((size - 1) // 2 if version == "v1" else size // 2 for size in taps)
    blocks = _blocks_between(layers, [conv.index for conv in convs[:-1]])
    wide = capacity * 2 ** len(ratios)
    if min(ratios) < 1 or wide % narrow:
        raise _unknown("encoder", kinds, where)
    return EncoderShape(
        version, inputs, capacity, outputs, wide // narrow, ratios, blocks, "snake" in kinds, "adain" in kinds
    )


@dataclass
class DecoderShape:
    """What the shapes of the generator determine."""

    version: str
    inputs: int
    capacity: int
    ratios: tuple[int, ...]
    """In the order of the file."""
    blocks: tuple[int, ...]
    """Residual blocks of each stage, in the order of the file."""
    snake: bool
    adain: bool
    recurrent_layers: int
    waveform: int
    """Output channels of the convolution that computes the waveform."""
    noise: Sequence[tuple[int, int, int]] = field(default_factory=tuple)
    """Kernels of the noise branch."""

    def noise_config(
        self, outputs: int, frame_length: int | None, where: str, *, ratios: tuple[int, ...] | None = None
    ) -> NoiseConfig | None:
        """The configuration of the noise branch for `outputs` output channels; `None` without a branch.

        **Arguments:** `frame_length`, the value of `target_size`, from which the stride of the convolutions of v1 is
        computed; without it, the largest stride that the ratios allow is assumed. `ratios`, the strides in v1 if they
        are known.

        **Raises:** `CheckpointError` for channels that are no multiple of `outputs`.
        """
        if not self.noise:
            return None
        bands, rest = divmod(self.noise[-1][0], outputs)
        if rest or bands < 2:
            raise CheckpointError(
                f"The noise branch in {where} has {self.noise[-1][0]} channels for {outputs} outputs; it should have a "
                "multiple of at least twice as many. Download the file again."
            )
        count, hidden = len(self.noise), self.noise[0][0] if len(self.noise) > 1 else None
        if self.version == "v2":
            return NoiseConfig(tuple(kernel[2] // 2 for kernel in self.noise), bands, hidden)
        if ratios is None:
            stride = _largest_root(self.ratios, count) if frame_length is None else _root(frame_length, count)
            ratios = (stride,) * count
        if frame_length not in (None, math.prod(ratios)) or frame_length == 0:
            raise CheckpointError(
                f"target_size in {where} is {frame_length}; it should be the {count}-th power of a whole number, the "
                "stride of the noise branch. Download the file again."
            )
        return NoiseConfig(ratios, bands, None)


def _root(number: int, count: int) -> int:
    """The nearest whole number to the root of degree `count`."""
    return round(max(number, 0) ** (1 / count))


def _largest_root(ratios: Sequence[int], count: int) -> int:
    """The largest number whose power of degree `count` divides the product of `ratios`."""
    primes = Counter(prime for ratio in ratios for prime in _prime_factors(ratio))
    return math.prod(prime ** (exponent // count) for prime, exponent in primes.items())


def _prime_factors(number: int) -> Iterator[int]:
    prime = 2
    while prime * prime <= number:
        while number % prime == 0:
            yield prime
            number //= prime
        prime += 1
    if number > 1:
        yield number


def read_decoder(shapes: Mapping[str, Shape], where: str) -> DecoderShape:
    """The sizes of the generator.

    **Raises:** `CheckpointError` for another structure than that of v1 and v2.
    """
    layers = layers_of(shapes, DECODER_NET)
    kinds = {layer.kind for layer in layers}
    place = f"the generator in {where}"
    version = "v1" if "stack" in kinds else "v2"
    expected = {"conv", "up", "stack"} if version == "v1" else {"conv", "residual", "snake", "adain", "gru"}
    convs = [layer for layer in layers if layer.kind in ("conv", "up")]
    if len(convs) < 2 or not kinds <= expected:
        raise _unknown("generator", kinds, where)
    channels, inputs, _ = convs[0].kernel(place)
    branches = "decoder.synth.branches"

    if version == "v1":
        ups, noise_net = convs[1:], f"{branches}.2.net"
        waveform = next((layer for layer in layers_of(shapes, branches) if layer.index == 0), None)
    else:
        parts = {
            name.removeprefix("decoder.waveform_module."): shape
            for name, shape in shapes.items()
            if name.startswith("decoder.waveform_module.")
        }
        ups, waveform = (convs[1:], Layer(0, parts)) if parts else (convs[1:-1], convs[-1])
        noise_net = "decoder.noise_module.net"
    if waveform is None or not ups:
        raise _unknown("generator", kinds, where)
    ratios, width = [], channels
    for up in ups:
        first, second, taps = up.kernel(place)
        if (first, second) == (width, width // 2):
            ratios.append(taps // 2)
        elif (first, second) == (width // 2, width):
            ratios.append(1)
        else:
            raise _unknown("generator", kinds, where)
        width //= 2
    noise = [layer.kernel(f"the noise branch in {where}") for layer in layers_of(shapes, noise_net)]
    gru = next((layer.parts for layer in layers if layer.kind == "gru"), {})
    return DecoderShape(
        version,
        inputs,
        width,
        tuple(ratios),
        _blocks_between(layers, [*(up.index for up in ups), layers[-1].index + 1]) if version == "v2" else (),
        "snake" in kinds,
        "adain" in kinds,
        sum("weight_ih_l" in part for part in gru),
        waveform.kernel(place)[0],
        tuple(noise),
    )


def _blocks_between(layers: Sequence[Layer], bounds: Sequence[int]) -> tuple[int, ...]:
    """The number of residual blocks between each two of the indices `bounds`."""
    blocks = [layer.index for layer in layers if layer.kind == "residual"]
    return tuple(sum(low < block < high for block in blocks) for low, high in pairwise(bounds))


def _unknown(part: str, kinds: Iterable[str], where: str) -> CheckpointError:
    return CheckpointError(
        f"The {part} in {where} has layers of the kinds {', '.join(sorted(kinds)) or 'none'}, in another order or "
        f"number than v1 and v2 of RAVE 2.x. See `jaxvoice inspect {format_name(where)}`."
    )

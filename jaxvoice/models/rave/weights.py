"""RAVE's weights and buffers: their names and shapes, and the rules that convert released files. Without jax."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from jaxvoice.models.rave.config import EncoderConfig, GeneratorConfig, NoiseConfig, RaveConfig
from jaxvoice.weights.rules import Ignore, Rule

NAME = "rave"
ENCODER_NET, DECODER_NET = "encoder.encoder.net", "decoder.net"
SLOTS = 64
"""Examples of a batch for which adaptive instance norm has statistics."""

Shapes = dict[str, tuple[int, ...]]
_ADAIN = ("mean", "std", "learn", "num_update")
_BATCH_NORM = ("weight", "bias", "running_mean", "running_var")
INTEGERS = ("num_batches_tracked", "warmed_up", "enabled", "receptive_field")
"""Last parts of the names of arrays of whole numbers."""

RULES: tuple[Rule, ...] = (
    Rule("{layer*}", "{layer*}", norm="weight"),
    Rule("{path*}", "{path*}"),
)
"""All arrays have the names of the release. The first rule converts weight norm."""

_TRAINING = "only for training"
_HOST = (
    r"\w+_(params|labels)|(learn|reset)_(source|target)|(full_)?latent_size|sampling_rate|sample_rate|sr|stereo_mode"
)
IGNORED: tuple[Ignore, ...] = (
    Ignore(r".*\.(pad|cache)|(.*\.)?paddings\..*", "cache of streaming, which starts with zeros"),
    Ignore(r"(.*\.)?cumulative_delay|(.*\.)?target_size", "follows from the configuration"),
    Ignore(r"(.*\.)?discriminator\..*|(.*\.)?(multiband_)?audio_distance\..*", _TRAINING),
    Ignore(r"(optimizer_states|lr_schedulers|callbacks|loops|optimizers)\..*", _TRAINING),
    Ignore(r"(.*\.)?(spectrogram\.window|mel_scale\.fb)", "table that is computed"),
    Ignore(r"(.*\.)?(fake_adain|resampler|prior(_module)?)\..*", "part of an export that the model does not need"),
    Ignore(rf"(.*\.)?({_HOST})", "buffer for the host of an export"),
)
"""Tensors of released files that are not imported."""


@dataclass(frozen=True)
class FilterTaps:
    """Lengths of the filters of the filter bank, which are stored with the weights."""

    prototype: int
    """Taps of the prototype."""
    padded: int
    """Taps of the filters with zeros at both ends."""


def rave_shapes(config: RaveConfig, taps: FilterTaps) -> Shapes:
    """Shape of every array in a model folder, by name."""
    bands, size = config.pqmf.num_bands, config.bottleneck.latent_size
    shapes: Shapes = {
        "pqmf.h": (taps.prototype,),
        "pqmf.hk": (bands, taps.padded),
        "pqmf.forward_conv.weight": (bands, 1, taps.padded + 1),
        "pqmf.inverse_conv.weight": (bands, bands, taps.padded // bands + 1),
    }
    for name, layer in encoder_layers(config):
        shapes |= {f"{name}.{part}": shape for part, shape in layer.items()}
    for name, layer in decoder_layers(config):
        shapes |= {f"{name}.{part}": shape for part, shape in layer.items()}
    if config.bottleneck.kind == "discrete":
        codes = config.bottleneck.codebook_size
        for i in range(config.bottleneck.num_quantizers):
            book = f"encoder.rvq.layers.{i}._codebook"
            shapes |= {f"{book}.inited": (1,), f"{book}.cluster_size": (codes,)}
            shapes |= {f"{book}.embed": (codes, size), f"{book}.embed_avg": (codes, size)}
        shapes["encoder.enabled"] = ()
    if config.bottleneck.kind != "spherical":
        shapes["encoder.warmed_up"] = ()
    if config.generator.version == "v1":
        shapes["decoder.warmed_up"] = ()
    return shapes | {
        "latent_pca": (size, size),
        "latent_mean": (size,),
        "fidelity": (size,),
        "receptive_field": (2,),
    }


def rave_dtypes(shapes: Shapes) -> dict[str, np.dtype]:
    """The dtypes of arrays that are not float32, by name."""
    return {name: np.dtype(np.int32) for name in shapes if name.rpartition(".")[2] in INTEGERS}


Layers = Iterator[tuple[str, Shapes]]
"""The names of layers with their parts, in the order of execution."""


def encoder_layers(config: RaveConfig) -> Layers:
    """The layers of the encoder with weights or statistics."""
    encoder, outputs = config.encoder, config.bottleneck.encoder_channels
    channels, inputs = encoder.capacity, config.encoder_inputs
    if encoder.version == "v1":
        yield from _v1_encoder(encoder, inputs, outputs, 2 if config.bottleneck.kind == "variational" else 1)
        return
    at = _Counter(ENCODER_NET)
    yield at(), _conv(channels, inputs, 7)
    for ratio, dilations in zip(encoder.ratios, encoder.dilations, strict=True):
        yield from _blocks(at, channels, dilations, encoder.adain)
        yield from _activation(at, channels, encoder.snake)
        yield at(), _conv(2 * channels, channels, 2 * ratio)
        channels *= 2
    yield from _activation(at, channels, encoder.snake)
    yield at(), _conv(outputs, channels, 3)


def decoder_layers(config: RaveConfig) -> Layers:
    """The layers of the generator with weights or statistics."""
    generator, inputs, outputs = config.generator, config.bottleneck.decoder_channels, config.generator_outputs
    channels = generator.capacity * 2 ** len(generator.ratios)
    if generator.version == "v1":
        yield from _v1_decoder(generator, channels, inputs, outputs)
        return
    at = _Counter(DECODER_NET)
    if generator.recurrent_layers:
        yield at(), _gru(inputs, generator.recurrent_layers)
    yield at(), _conv(channels, inputs, 3)
    for ratio, dilations in zip(generator.ratios[::-1], generator.dilations[::-1], strict=True):
        yield from _activation(at, channels, generator.snake)
        yield at(), _upsampling(channels, ratio)
        channels //= 2
        yield from _blocks(at, channels, dilations, generator.adain)
    yield from _activation(at, channels, generator.snake)
    waveform = _conv(outputs * (1 + generator.amplitude_modulation), channels, 7)
    if generator.noise is None:
        yield at(), waveform
        return
    yield "decoder.waveform_module", waveform
    yield from _noise("decoder.noise_module", generator.noise, channels, outputs, lambda ratio: 2 * ratio)


def _v1_encoder(encoder: EncoderConfig, inputs: int, outputs: int, groups: int) -> Layers:
    at, channels = _Counter(ENCODER_NET), encoder.capacity
    yield at(), {"weight": (channels, inputs, 7)}
    for ratio in encoder.ratios:
        norm: Shapes = {part: (channels,) for part in _BATCH_NORM}
        yield at(), norm | {"num_batches_tracked": ()}
        at()  # the activation
        yield at(), {"weight": (2 * channels, channels, 2 * ratio + 1)}
        channels *= 2
    at()
    yield at(), {"weight": (outputs, channels // groups, 5)}


def _v1_decoder(generator: GeneratorConfig, channels: int, inputs: int, outputs: int) -> Layers:
    at = _Counter(DECODER_NET)
    yield at(), _conv(channels, inputs, 7)
    for ratio in generator.ratios:
        yield f"{at()}.net.1", _upsampling(channels, ratio)
        channels //= 2
        stack = at()
        for block in range(3):
            for layer in (1, 3):
                name = f"{stack}.net.branches.0.net.{block}.net.aligned.branches.0.{layer}"
                yield name, _conv(channels, channels, 3)
    branches = "decoder.synth.branches"
    yield f"{branches}.0", _conv(outputs, channels, 7)
    yield f"{branches}.1", _conv(1, channels, 3)
    if generator.noise is not None:
        yield from _noise(f"{branches}.2", generator.noise, channels, outputs, lambda ratio: 3)


def _noise(name: str, noise: NoiseConfig, channels: int, outputs: int, taps: Callable[[int], int]) -> Layers:
    hidden = channels if noise.hidden_size is None else noise.hidden_size
    widths = [channels, *[hidden] * (len(noise.ratios) - 1), outputs * noise.bands]
    for i, ratio in enumerate(noise.ratios):
        yield f"{name}.net.{2 * i}", {"weight": (widths[i + 1], widths[i], taps(ratio))}


class _Counter:
    """The names of the layers of a sequence, one with each call."""

    def __init__(self, net: str):
        self._net, self._index = net, -1

    def __call__(self) -> str:
        self._index += 1
        return f"{self._net}.{self._index}"


def _blocks(at: _Counter, channels: int, dilations: tuple[int, ...], adain: bool) -> Layers:
    for _ in dilations:
        if adain:
            statistics = {f"{part}_{side}": (SLOTS, channels, 1) for side in "xy" for part in _ADAIN[:2]}
            yield at(), statistics | {f"{part}_{side}": (1,) for side in "xy" for part in _ADAIN[2:]}
        block = at()
        yield f"{block}.aligned.branches.0.net.1", _conv(channels, channels, 3)
        yield f"{block}.aligned.branches.0.net.3", _conv(channels, channels, 1)


def _activation(at: _Counter, channels: int, snake: bool) -> Layers:
    name = at()
    if snake:
        yield name, {"alpha": (channels, 1)}


def _conv(outputs: int, inputs: int, taps: int) -> Shapes:
    return {"weight_g": (outputs, 1, 1), "weight_v": (outputs, inputs, taps)}


def _upsampling(channels: int, ratio: int) -> Shapes:
    if ratio == 1:
        return _conv(channels // 2, channels, 3)
    return {"weight_g": (channels, 1, 1), "weight_v": (channels, channels // 2, 2 * ratio)}


def _gru(channels: int, layers: int) -> Shapes:
    shapes: Shapes = {}
    for i in range(layers):
        shapes |= {f"gru.weight_{part}_l{i}": (3 * channels, channels) for part in ("ih", "hh")}
        shapes |= {f"gru.bias_{part}_l{i}": (3 * channels,) for part in ("ih", "hh")}
    return shapes


def target_sizes(config: RaveConfig) -> dict[str, int]:
    """The buffers of the release that follow from the configuration: samples of a frame of noise, by name."""
    noise = config.generator.noise
    if noise is None:
        return {}
    name = "decoder.synth.branches.2" if config.generator.version == "v1" else "decoder.noise_module"
    return {f"{name}.target_size": math.prod(noise.ratios)}

"""The names that torch.fx gives to operations of RAVE, as other names for `jaxvoice.dissect`."""

from collections import Counter
from typing import Literal

from jaxvoice.errors import ConfigError
from jaxvoice.models.rave.config import RaveConfig

_Layers = list[tuple[str, str]]


def torch_names(
    config: RaveConfig, method: Literal["encode", "decode", "forward"], *, streaming: bool = True
) -> dict[str, str]:
    """The names of operations in a torch.fx graph of a method of RAVE, each mapped to the name of the result here.

    `conv1d_28`, `add_4`, `pow_1` and `sigmoid` of tutorials are keys; `aliases` of functions of `jaxvoice.dissect`
    takes the result. torch.fx numbers operations in order, so the names depend on the method, on the activation, and on
    whether the model streams.

    **Arguments:** `method`: the traced method; `streaming`: whether the traced model was made for streaming, where each
    transposed convolution adds the end of the block before it. torchbend loads models for streaming.

    **Raises:** `ConfigError` for v1, adaptive instance norm and encoders of mel spectrograms, whose graphs contain
    operations that are not known here.
    """
    if config.encoder.version != "v2" or config.generator.version != "v2":
        raise ConfigError('encoder.version and generator.version should be "v2": the torch names of v1 are not known.')
    if config.encoder.adain or config.generator.adain:
        raise ConfigError("adain is True; it should be False: the torch names of adaptive instance norm are not known.")
    if config.encoder.input == "mel":
        raise ConfigError('encoder.input is "mel"; it should be "pqmf" or "raw": the torch names of mels are unknown.')
    if method not in ("encode", "decode", "forward"):
        raise ConfigError(f"method is {method!r}; it should be 'encode', 'decode' or 'forward'.")
    names = _Names()
    if method != "decode":
        if config.encoder.input == "pqmf":
            names.add("conv1d", "pqmf.forward_conv")
        names.layers(_encoder(config), streaming)
    if method == "forward" and config.bottleneck.kind == "variational":
        # The deviation, the sample, and the square of the mean in the divergence.
        names.skip("add", 3)
    if method != "encode":
        names.layers(_generator(config), streaming)
        if config.generator.amplitude_modulation:
            names.add("sigmoid", "decoder/logistic")
    return names.found


def _encoder(config: RaveConfig) -> _Layers:
    kinds = ["conv1d"]
    for dilations in config.encoder.dilations:
        kinds += [*["residual"] * len(dilations), _activation(config.encoder.snake), "conv1d"]
    kinds += [_activation(config.encoder.snake), "conv1d"]
    return [(f"encoder.encoder.net.{i}", kind) for i, kind in enumerate(kinds)]


def _generator(config: RaveConfig) -> _Layers:
    kinds = ["recurrent", "conv1d"] if config.generator.recurrent_layers else ["conv1d"]
    for ratio, dilations in zip(config.generator.ratios[::-1], config.generator.dilations[::-1], strict=True):
        up = "conv_transpose1d" if ratio > 1 else "conv1d"
        kinds += [_activation(config.generator.snake), up, *["residual"] * len(dilations)]
    layers = [(f"decoder.net.{i}", kind) for i, kind in enumerate([*kinds, _activation(config.generator.snake)])]
    last = f"decoder.net.{len(layers)}" if config.generator.noise is None else "decoder.waveform_module"
    return [*layers, (last, "conv1d")]


def _activation(snake: bool) -> str:
    return "snake" if snake else "leaky_relu"


class _Names:
    """Numbers operations as torch.fx does: `add`, `add_1`, ...; `pow` is a Python function, so it starts at `pow_1`."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}
        self._counts = Counter({"pow": 1})

    def skip(self, op: str, count: int = 1) -> None:
        self._counts[op] += count

    def add(self, op: str, target: str) -> None:
        number = self._counts[op]
        self.found[f"{op}_{number}" if number else op] = target
        self.skip(op)

    def layers(self, layers: _Layers, streaming: bool) -> None:
        for path, kind in layers:
            if kind == "residual":
                for i in (1, 3):
                    self.add("conv1d", f"{path}.aligned.branches.0.net.{i}")
                self.add("add", path)
            elif kind == "snake":
                self.skip("add")  # the small number that keeps alpha from 0
                self.add("pow", f"{path}/square")
                self.add("add", path)
            elif kind == "leaky_relu":
                self.found[path.replace(".", "_")] = path  # a module of torch, whose node has its path
            elif kind != "recurrent":
                self.add(kind, path)
                if kind == "conv_transpose1d" and streaming:
                    self.skip("add")

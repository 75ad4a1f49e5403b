"""The structure of a TorchScript archive of HiFi-VC, read from its code without executing it.

Only the names of the speaker encoder are known. The decoder and the pitch encoder are found by the order and the shapes
of their convolutions, and the content encoder by the names of NeMo.
"""

import math
from collections.abc import Iterable, Mapping
from functools import cached_property
from itertools import groupby, takewhile
from typing import Any

from jaxvoice.config import from_dict, to_dict
from jaxvoice.dsp.mel_config import NemoMelConfig
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.models.conformer.weights import geometry
from jaxvoice.models.hifivc.archive_steps import Convolution, Step, executed_steps
from jaxvoice.models.hifivc.config import HiFiVCConfig
from jaxvoice.torchscript.layers import read_layers
from jaxvoice.torchscript.symbolic_values import NormedWeight, Ref
from jaxvoice.weights.archive import Archive
from jaxvoice.weights.mismatches import format_name

LAYERS_KEY = "layers"
"""The key of the configuration beside an archive whose object maps layers of the model to layers of the archive."""

_CONVOLUTIONS = ("_convolution", "convolution", "conv1d", "conv_transpose1d")
_LEAKY = ("leaky_relu", "leaky_relu_")
_NORM = "instance_norm"
_OTHER_ACTIVATIONS = {
    *("relu", "relu_", "elu", "elu_", "celu", "selu", "gelu", "silu", "silu_", "mish", "sigmoid", "tanh", "prelu"),
    *("softplus", "hardtanh", "hardtanh_", "hardswish", "relu6", "sin", "glu", "rrelu", "group_norm", "batch_norm"),
}
_POOLING = ("adaptive_avg_pool1d", "mean")
_SPEAKER_MARKS = ("pre_conv.", "convs.0.first_conv.", "mean_conv.", "std_conv.")
_CONTENT_MARK = "layers.0.self_attn.linear_q.weight"
_SLOPE = 0.1


def speaker_prefix(names: Iterable[str]) -> str | None:
    """The prefix of the speaker encoder among tensors of these names; `None` unless there is exactly one."""
    found: dict[str, set[str]] = {}
    for name in names:
        for mark in _SPEAKER_MARKS:
            at = f".{name}".find(f".{mark}")
            if at >= 0:
                found.setdefault(name[:at], set()).add(mark)
    prefixes = [prefix for prefix, marks in found.items() if len(marks) == len(_SPEAKER_MARKS)]
    return prefixes[0] if len(prefixes) == 1 else None


class ArchiveStructure:
    """The parts of an archive: their positions, sizes and settings, and the layers of the model among its layers.

    **Arguments:** `archive`, a `TorchScriptArchive`; `table`, the configuration beside it, which has precedence over
    the settings that the code contains.

    **Raises:** `CheckpointError` if the archive has no code, or no speaker encoder.
    """

    def __init__(self, archive: Archive, table: Mapping[str, Any] | None = None):
        self.archive, self.where = archive, archive.source.path.name
        if not getattr(archive, "code", None):
            raise CheckpointError(
                f"{self.where} is a {archive.source.format} file; it should be the TorchScript archive of HiFi-VC, "
                "because the settings of its layers are in the code of the archive."
            )
        self.table = dict(table or {})
        self.shapes = {name: info.shape for name, info in archive.tensors.infos().items()}
        self.layers = read_layers(archive)
        self.steps = list(executed_steps(self.layers))
        speaker = speaker_prefix(self.shapes)
        if speaker is None:
            raise CheckpointError(f"{self.where} contains no speaker encoder of HiFi-VC, or more than one.")
        self.speaker = speaker
        marks = [name.removesuffix(_CONTENT_MARK) for name in self.shapes if name.endswith(_CONTENT_MARK)]
        self.content = marks[0] if len(marks) == 1 else None

    @cached_property
    def config(self) -> HiFiVCConfig:
        """The configuration: what the archive states, changed by the configuration beside it.

        **Raises:** `CheckpointError` if a part cannot be found or expressed; `ConfigError` for a configuration beside
        the archive with unknown keys, or one that contradicts the archive.
        """
        found = self.fields
        given = {name: value for name, value in self.table.items() if name != LAYERS_KEY}
        return from_dict(HiFiVCConfig, _merged(found, given), "the configuration of the archive")

    @cached_property
    def fields(self) -> dict[str, Any]:
        """The configuration that the archive states, as JSON values."""
        table = {
            "content": self._content_fields(),
            "speaker": self._speaker_fields(),
            "pitch_encoder": self._pitch_fields(),
            "decoder": self._decoder_fields(),
        }
        return _merged(to_dict(HiFiVCConfig()), table)

    @cached_property
    def names(self) -> dict[str, str]:
        """The layer of the archive for each layer of the decoder and the pitch encoder.

        **Raises:** `CheckpointError` if the structure is another one; `ConfigError` for unknown layers in the
        configuration beside the archive.
        """
        found = {f"pitch_encoder.convs.{i}": conv.path for i, conv in enumerate(self.pitch_convolutions)}
        found["decoder.conv_pre"] = self.first_convolution.path
        found["decoder.conv_post"] = self.convolutions[-1].path
        kernels = len(self._blocks(0))
        for stage, up in enumerate(self.ups):
            found[f"decoder.ups.{stage}"] = up.path
            projections = iter(self._projections(stage))
            for number, block in enumerate(self._blocks(stage)):
                at = f"decoder.resblocks.{stage * kernels + number}"
                for j, (first, second) in enumerate(zip(block[::2], block[1::2], strict=True)):
                    found[f"{at}.convs1.{j}"], found[f"{at}.convs2.{j}"] = first.path, second.path
                    projection = next(projections, None)
                    if projection is not None:
                        found[f"{at}.conds.{j}"] = projection.path
        norm = self._input_norm()
        if norm is not None:
            found["decoder.input_norm"] = norm
        given = self.table.get(LAYERS_KEY, {})
        for ours, theirs in given.items() if isinstance(given, Mapping) else ():
            if ours not in found or theirs not in self.layers:
                unknown = ours if ours not in found else theirs
                raise ConfigError(
                    f"{LAYERS_KEY} contains {format_name(str(unknown))}; it should map layers of the model, such as "
                    "decoder.conv_pre, to layers of the archive."
                )
        return {**found, **given}

    @cached_property
    def convolutions(self) -> list[Convolution]:
        """The convolutions outside the speaker encoder and the content encoder, in the order of execution."""
        inside = tuple(prefix for prefix in (self.speaker, self.content) if prefix)
        found = []
        for at, step in enumerate(self.steps):
            if step.call.name not in _CONVOLUTIONS:
                continue
            weight = step.call.arguments.get("weight")
            path = weight.of if isinstance(weight, NormedWeight) else step.path
            if isinstance(weight, Ref):
                path = weight.path.rpartition(".")[0]
            if f"{path}.".startswith(inside):
                continue
            convolution = self._convolution(path, at)
            if convolution is not None:
                found.append(convolution)
        return found

    def _convolution(self, path: str, at: int) -> Convolution | None:
        layer = self.layers.get(path)
        if layer is None:
            return None
        found: list[int] = []
        for name in ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation"):
            value = layer.settings.get(name)
            value = value[0] if isinstance(value, tuple) and len(value) == 1 else value
            if not isinstance(value, int):
                return None
            found.append(value)
        transposed, bias = layer.kind.startswith("ConvTranspose"), bool(layer.settings.get("bias", True))
        return Convolution(path, at, *found, transposed=transposed, bias=bias)

    @cached_property
    def ups(self) -> list[Convolution]:
        """The transposed convolutions."""
        found = [conv for conv in self.convolutions if conv.transposed]
        if not found or self.convolutions[-1].outputs != 1:
            raise self.unclear("its decoder has no transposed convolutions, or no last convolution with one channel")
        return found

    @cached_property
    def _front(self) -> list[Convolution]:
        """The convolutions before the first upsampling."""
        return [conv for conv in self.convolutions if conv.at < self.ups[0].at]

    @cached_property
    def pitch_module(self) -> str | None:
        """The module of the pitch encoder, whose first convolution has two channels; `None` if there is none."""
        first = next((conv for conv in self._front if conv.inputs == 2), None)
        if first is None:
            return None
        parts = first.path.split(".")
        modules = [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
        return next(module for module in modules if not f"{self.ups[0].path}.".startswith(f"{module}."))

    @cached_property
    def pitch_convolutions(self) -> list[Convolution]:
        """The convolutions of the pitch encoder."""
        module = self.pitch_module
        return [] if module is None else [c for c in self._front if f"{c.path}.".startswith(f"{module}.")]

    @cached_property
    def first_convolution(self) -> Convolution:
        """The convolution of the content features, `conv_pre`."""
        rest = [conv for conv in self._front if conv not in self.pitch_convolutions]
        if len(rest) != 1:
            paths = ", ".join(format_name(conv.path) for conv in rest) or "none"
            raise self.unclear(f"before the first upsampling, one convolution of content features is expected: {paths}")
        return rest[0]

    def _between(self, stage: int) -> list[Convolution]:
        end = self.ups[stage + 1].at if stage + 1 < len(self.ups) else self.convolutions[-1].at
        return [conv for conv in self.convolutions if self.ups[stage].at < conv.at < end]

    def _projections(self, stage: int) -> list[Convolution]:
        """The projections of the speaker vector in a stage."""
        width = self.ups[stage].outputs
        return [c for c in self._between(stage) if c.kernel == 1 and (c.inputs != width or self._reads_speaker(c))]

    def _reads_speaker(self, conv: Convolution) -> bool:
        # In a stage as wide as the speaker vector, projections are the convolutions with one tap.
        return conv.inputs == self._speaker_size()

    def _speaker_size(self) -> int:
        return self._shape(f"{self.speaker}mean_conv.bias")[0]

    def _blocks(self, stage: int) -> list[list[Convolution]]:
        """The residual blocks of a stage: convolutions of equal kernels in a row, dilated and plain in turn."""
        projections = self._projections(stage)
        convs = [conv for conv in self._between(stage) if conv not in projections]
        blocks = [list(group) for _, group in groupby(convs, key=lambda conv: conv.kernel)]
        width = self.ups[stage].outputs
        for block in blocks:
            if (
                len(block) % 2
                or any(conv.dilation != 1 for conv in block[1::2])
                or any(not conv.inputs == conv.outputs == width for conv in block)
                or any(conv.padding != (conv.kernel - 1) * conv.dilation // 2 for conv in block)
            ):
                raise self.unclear(f"the convolutions after upsampling {stage} are not pairs of HiFi-GAN's blocks")
        pairs = sum(len(block) // 2 for block in blocks)
        if not blocks or len(projections) not in (0, pairs):
            raise self.unclear(
                f"after upsampling {stage}, there are {pairs} pairs of convolutions and {len(projections)} projections "
                "of the speaker vector"
            )
        return blocks

    def _decoder_fields(self) -> dict[str, Any]:
        ups, pre = self.ups, self.first_convolution
        blocks = self._blocks(0)
        sizes = [[(block[0].kernel, [conv.dilation for conv in block[::2]]) for block in self._blocks(stage)]
                 for stage in range(len(ups))]  # fmt: skip
        if any(one != sizes[0] for one in sizes):
            raise self.unclear("the residual blocks of the stages differ")
        if any(conv.padding * 2 != conv.kernel - conv.stride for conv in ups):
            raise self.unclear("the padding of the transposed convolutions is not (kernel - stride) / 2")
        slopes = self._decoder_slopes()
        return {
            "upsample_rates": [conv.stride for conv in ups],
            "upsample_kernel_sizes": [conv.kernel for conv in ups],
            "upsample_initial_channel": 2 * ups[0].outputs,
            "resblock_kernel_sizes": [block[0].kernel for block in blocks],
            "resblock_dilation_sizes": [[conv.dilation for conv in block[::2]] for block in blocks],
            "pre_channels": pre.outputs,
            "pre_kernel_size": pre.kernel,
            "fusion": self.fusion,
            "conditioning": "resblocks" if self._projections(0) else "none",
            "input_norm": self._input_norm() is not None,
            "final_slope": slopes[-1],
        }

    def _decoder_slopes(self) -> list[float | None]:
        """The slopes of the leaky ReLUs of the decoder, one before each convolution and two around each projection."""
        slopes = [value for _, value in self.slopes(self.first_convolution.at, self.convolutions[-1].at, self.decoder)]
        stages = range(len(self.ups))
        convs = sum(len(block) for stage in stages for block in self._blocks(stage))
        expected = len(self.ups) + convs + sum(len(self._projections(stage)) for stage in stages) + 1
        if len(slopes) != expected or any(value != _SLOPE for value in slopes[:-1]):
            raise self.unclear(
                f"its decoder has {len(slopes)} leaky ReLUs of slopes {_texts(slopes)}; {expected} of slope {_SLOPE} "
                "are expected, the last one of any slope"
            )
        self._check_activations(self.decoder, self.convolutions[-1].at)
        return slopes

    @cached_property
    def decoder(self) -> str:
        """The prefix of the module that calls the upsampling layers and the last convolution."""
        paths = [conv.path.split(".") for conv in (self.ups[0], self.convolutions[-1])]
        shared = list(takewhile(lambda pair: pair[0] == pair[1], zip(*paths, strict=False)))
        return "".join(f"{part}." for part, _ in shared)

    def _check_activations(self, prefix: str, end: int | None = None) -> None:
        """Raise `CheckpointError` for an activation or norm in modules below `prefix` that the model does not have.

        Steps from `end` are not checked.
        """
        nested = tuple(f"{path}." for path in (self.pitch_module,) if path and not prefix.startswith(f"{path}."))
        inside = (*nested, *(part for part in (self.speaker, self.content) if part and part != prefix))
        for step in self.steps[:end]:
            at = f"{step.path}."
            own = at.startswith(prefix) and not at.startswith(inside)
            is_front_end = self.front_end is not None and step.path == self.front_end.path
            if own and not is_front_end and step.call.name in _OTHER_ACTIVATIONS:
                raise self.unclear(f"{step.path or 'the top module'} contains {step.call.name}")

    @cached_property
    def fusion(self) -> str:
        """How the pitch code and the content features are combined, by the channels of the first upsampling."""
        pitch = self.pitch_convolutions[-1].outputs if self.pitch_convolutions else 0
        reads, pre = self.ups[0].inputs, self.first_convolution.outputs
        if reads == pre + pitch:
            return "concat"
        if reads == pre == pitch:
            return "sum"
        raise self.unclear(
            f"the first upsampling reads {reads} channels; the convolution of content features has {pre}, and the "
            f"pitch code {pitch}"
        )

    def slopes(self, start: int, end: int, prefix: str = "") -> list[tuple[int, float | None]]:
        """The leaky ReLUs of the steps from `start` to `end` in modules below `prefix`: steps and slopes."""
        return [
            (at, step.number("negative_slope", 0.01))
            for at, step in enumerate(self.steps[start:end], start)
            if step.call.name in _LEAKY and f"{step.path}.".startswith(prefix)
        ]

    def _input_norm(self) -> str | None:
        """The layer norm of content features in the decoder, outside the content encoder; `None` if there is none."""
        inside = tuple(prefix for prefix in (self.speaker, self.content) if prefix)
        for step in self.steps[: self.ups[0].at]:
            weight = step.call.arguments.get("weight")
            if step.call.name == "layer_norm" and isinstance(weight, Ref) and not weight.path.startswith(inside):
                return weight.path.rpartition(".")[0]
        return None

    def _pitch_fields(self) -> dict[str, Any] | None:
        convs = self.pitch_convolutions
        if not convs:
            return None
        prefix = f"{self.pitch_module}."
        slopes = {value for _, value in self.slopes(0, len(self.steps), prefix)}
        kinds = {**dict.fromkeys(_CONVOLUTIONS, "convolution"), **dict.fromkeys(_LEAKY, "leaky ReLU"), _NORM: _NORM}
        order = [kinds[s.call.name] for s in self.steps if f"{s.path}.".startswith(prefix) and s.call.name in kinds]
        normed = _NORM in order
        expected = ["convolution", "leaky ReLU", *([_NORM] if normed else [])] * len(convs)
        self._check_activations(prefix)
        first, rest = convs[0], convs[1:]
        problems = [
            (not rest, "it has one convolution"),
            (
                (first.kernel, first.stride, first.bias) != (1, 1, False),
                "its first convolution is not 1x1 without bias",
            ),
            (
                any(conv.outputs != first.outputs for conv in convs),
                "its convolutions have different numbers of channels",
            ),
            (any(not conv.bias for conv in rest), "a convolution has no bias"),
            (any(2 * conv.padding != conv.kernel - conv.stride for conv in rest), "the padding of a convolution"),
            (len(slopes) != 1, f"the slopes of its leaky ReLUs are {_texts(slopes)}"),
            (order != expected, f"the order of its layers is {', '.join(order)}"),
        ]
        reasons = [reason for wrong, reason in problems if wrong]
        if reasons:
            raise self.unclear(
                f"PitchEncoderConfig cannot express the pitch encoder {prefix[:-1]}: {'; '.join(reasons)}"
            )
        return {
            "channels": first.outputs,
            "strides": [conv.stride for conv in rest],
            "kernel_sizes": [conv.kernel for conv in rest],
            "slope": slopes.pop(),
            "instance_norm": normed,
        }

    def _speaker_fields(self) -> dict[str, Any]:
        at = self.speaker
        pre = self._shape(f"{at}pre_conv.weight", 3)
        widths = [pre[0]]
        while (shape := self.weight_shape(f"{at}convs.{len(widths) - 1}.second_conv")) is not None:
            widths.append(shape[0])
        padding = self.layers[f"{at}pre_conv"].settings.get("padding", (0,))
        slopes = [value for _, value in self.slopes(0, len(self.steps), f"{at}convs.")]
        if len(set(slopes)) != 1 or len(slopes) != 2 * (len(widths) - 1):
            raise self.unclear(
                f"the blocks of the speaker encoder have {len(slopes)} leaky ReLUs of slopes {_texts(slopes)}; two of "
                "one slope are expected in each block"
            )
        self._check_activations(at)
        skips = [name for name in self.shapes if name.startswith(f"{at}convs.") and ".conv_skip." in name]
        slope, pooling = self.heads
        return {
            "in_channels": pre[1],
            "widths": widths,
            "size": self._speaker_size(),
            "slope": slopes[0],
            "pre_conv_padding": padding[0] if isinstance(padding, tuple) else padding,
            "skip_bias": any(name.endswith(".bias") for name in skips) or not skips,
            "head_slope": slope,
            "pooling": pooling,
        }

    @cached_property
    def heads(self) -> tuple[float | None, str]:
        """The slope of a leaky ReLU before the heads of the speaker encoder, and the place of the pooling."""
        at = self.speaker
        inside = [(i, step) for i, step in enumerate(self.steps) if f"{step.path}.".startswith(at)]
        last = max((i for i, step in inside if step.path.startswith(f"{at}convs.")), default=0)
        head = next((i for i, step in inside if step.path == f"{at}mean_conv" and i > last), len(self.steps))
        slopes = [slope for i, slope in self.slopes(last + 1, head, at)]
        pools = [i for i, step in inside if step.call.name in _POOLING and i > last]
        return (slopes[0] if slopes else None), "before_heads" if not pools or pools[0] < head else "after_heads"

    def _content_fields(self) -> dict[str, Any]:
        if self.content is None:
            raise self.unclear("it contains no Conformer with the names of NeMo, or more than one")
        sizes = geometry(self.shapes, self.content, self.where)
        sizes.pop("bands")
        front = self.front_end
        mel = NemoMelConfig()
        if front is not None:
            numbers = {name: front.number(name) for name in ("n_fft", "hop_length", "win_length")}
            known = {name: int(value) for name, value in numbers.items() if value is not None}
            mel = from_dict(NemoMelConfig, {**to_dict(mel), **known})
        return {**sizes, "mel": to_dict(mel), "xscaling": self.xscaling, "nemo_release": "1.7"}

    @cached_property
    def front_end(self) -> Step | None:
        """The Fourier transform in the archive; `None` if there is none."""
        return next((step for step in self.steps if step.call.name == "stft"), None)

    @cached_property
    def xscaling(self) -> bool:
        """Whether the content encoder multiplies the output of its subsampling by the square root of its width."""
        assert self.content is not None
        root = math.sqrt(self._shape(f"{self.content}pre_encode.out.weight", 2)[0])
        return any(
            step.call.name == "mul"
            and f"{step.path}.".startswith(self.content)
            and not step.path.startswith(f"{self.content}layers.")
            and abs((step.number("other") or 0) - root) < 1e-3
            for step in self.steps
        )

    def weight_shape(self, layer: str) -> tuple[int, ...] | None:
        """The shape of the weight of a layer of the archive, with or without weight norm; `None` if there is none."""
        names = ("weight_v", "weight", "parametrizations.weight.original1")
        return next((self.shapes[f"{layer}.{name}"] for name in names if f"{layer}.{name}" in self.shapes), None)

    def _shape(self, name: str, rank: int = 1) -> tuple[int, ...]:
        shape = self.shapes.get(name)
        if shape is None or len(shape) != rank:
            raise self.unclear(f"{format_name(name)} has shape {shape}; it should have {rank} axes")
        return shape

    def unclear(self, problem: str) -> CheckpointError:
        """The error for a structure that the model cannot express."""
        return CheckpointError(
            f"The structure of {self.where} is another one than expected: {problem}. See `jaxvoice inspect "
            f"{self.where} --open-questions`."
        )


def _texts(slopes: Iterable[float | None]) -> str:
    return ", ".join(sorted({"a computed number" if value is None else f"{value:g}" for value in slopes})) or "none"


def _merged(table: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`table` with the values in `changes`; objects in both are merged."""
    result = dict(table)
    for name, value in changes.items():
        old = result.get(name)
        result[name] = _merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result

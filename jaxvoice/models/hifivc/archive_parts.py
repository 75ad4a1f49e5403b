"""The layers of a TorchScript archive of HiFi-VC, found by the names, the order and the shapes of its convolutions.

Only the names of the speaker encoder are known. The decoder and the pitch encoder are found by the order and the shapes
of their convolutions, and the content encoder by the names of NeMo.
"""

from collections.abc import Iterable
from functools import cached_property
from itertools import groupby, takewhile

from jaxvoice.errors import CheckpointError
from jaxvoice.models.hifivc.archive_steps import Convolution, Step, executed_steps
from jaxvoice.torchscript.layers import read_layers
from jaxvoice.torchscript.symbolic_values import NormedWeight, Ref
from jaxvoice.weights.archive import Archive
from jaxvoice.weights.mismatches import format_name

CONVOLUTIONS = ("_convolution", "convolution", "conv1d", "conv_transpose1d")
"""The names of the operators of convolutions."""
LEAKY = ("leaky_relu", "leaky_relu_")
"""The names of the operators of leaky ReLUs."""
_SPEAKER_MARKS = ("pre_conv.", "convs.0.first_conv.", "mean_conv.", "std_conv.")
_CONTENT_MARK = "layers.0.self_attn.linear_q.weight"


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


class ArchiveParts:
    """The speaker encoder, the content encoder, the pitch encoder and the decoder among the layers of an archive.

    **Arguments:** `archive`, a `TorchScriptArchive`.

    **Raises:** `CheckpointError` if the archive has no code, or no speaker encoder. Properties raise it if a part has
    another structure.
    """

    def __init__(self, archive: Archive):
        self.archive, self.where = archive, archive.source.path.name
        if not getattr(archive, "code", None):
            raise CheckpointError(
                f"{self.where} is a {archive.source.format} file; it should be the TorchScript archive of HiFi-VC, "
                "because the settings of its layers are in the code of the archive."
            )
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
    def convolutions(self) -> list[Convolution]:
        """The convolutions outside the speaker encoder and the content encoder, in the order of execution."""
        inside = tuple(prefix for prefix in (self.speaker, self.content) if prefix)
        found = []
        for at, step in enumerate(self.steps):
            if step.call.name not in CONVOLUTIONS:
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

    def projections(self, stage: int) -> list[Convolution]:
        """The projections of the speaker vector in a stage."""
        width = self.ups[stage].outputs
        return [c for c in self._between(stage) if c.kernel == 1 and (c.inputs != width or self._reads_speaker(c))]

    def _reads_speaker(self, conv: Convolution) -> bool:
        # In a stage as wide as the speaker vector, projections are the convolutions with one tap.
        return conv.inputs == self.speaker_size()

    def speaker_size(self) -> int:
        return self.shape(f"{self.speaker}mean_conv.bias")[0]

    def blocks(self, stage: int) -> list[list[Convolution]]:
        """The residual blocks of a stage: convolutions of equal kernels in a row, dilated and plain in turn."""
        projections = self.projections(stage)
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

    @cached_property
    def decoder(self) -> str:
        """The prefix of the module that calls the upsampling layers and the last convolution."""
        paths = [conv.path.split(".") for conv in (self.ups[0], self.convolutions[-1])]
        shared = list(takewhile(lambda pair: pair[0] == pair[1], zip(*paths, strict=False)))
        return "".join(f"{part}." for part, _ in shared)

    def input_norm(self) -> str | None:
        """The layer norm of content features in the decoder, outside the content encoder; `None` if there is none."""
        inside = tuple(prefix for prefix in (self.speaker, self.content) if prefix)
        for step in self.steps[: self.ups[0].at]:
            weight = step.call.arguments.get("weight")
            if step.call.name == "layer_norm" and isinstance(weight, Ref) and not weight.path.startswith(inside):
                return weight.path.rpartition(".")[0]
        return None

    @cached_property
    def front_end(self) -> Step | None:
        """The Fourier transform in the archive; `None` if there is none."""
        return next((step for step in self.steps if step.call.name == "stft"), None)

    def slopes(self, start: int, end: int, prefix: str = "") -> list[tuple[int, float | None]]:
        """The leaky ReLUs of the steps from `start` to `end` in modules below `prefix`: steps and slopes."""
        return [
            (at, step.number("negative_slope", 0.01))
            for at, step in enumerate(self.steps[start:end], start)
            if step.call.name in LEAKY and f"{step.path}.".startswith(prefix)
        ]

    def weight_shape(self, layer: str) -> tuple[int, ...] | None:
        """The shape of the weight of a layer of the archive, with or without weight norm; `None` if there is none."""
        names = ("weight_v", "weight", "parametrizations.weight.original1")
        return next((self.shapes[f"{layer}.{name}"] for name in names if f"{layer}.{name}" in self.shapes), None)

    def shape(self, name: str, rank: int = 1) -> tuple[int, ...]:
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

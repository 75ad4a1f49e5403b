"""The configuration of a TorchScript archive of HiFi-VC, read from its code without executing it."""

import math
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from jaxvoice.config import format_value, from_dict, to_dict
from jaxvoice.dsp.mel_config import NemoMelConfig
from jaxvoice.dsp.pitch_tracking import PitchConfig
from jaxvoice.errors import ConfigError
from jaxvoice.models.conformer.weights import geometry
from jaxvoice.models.hifivc.archive_parts import CONVOLUTIONS, LEAKY, ArchiveParts
from jaxvoice.models.hifivc.config import HiFiVCConfig
from jaxvoice.weights.archive import Archive
from jaxvoice.weights.mismatches import format_name

LAYERS_KEY = "layers"
"""The key of the configuration beside an archive whose object maps layers of the model to layers of the archive."""

_NORM = "instance_norm"
_OTHER_ACTIVATIONS = {
    *("relu", "relu_", "elu", "elu_", "celu", "selu", "gelu", "silu", "silu_", "mish", "sigmoid", "tanh", "prelu"),
    *("softplus", "hardtanh", "hardtanh_", "hardswish", "relu6", "sin", "glu", "rrelu", "group_norm", "batch_norm"),
}
_POOLING = ("adaptive_avg_pool1d", "mean")
_SLOPE = 0.1


class ArchiveStructure(ArchiveParts):
    """The parts of an archive: their positions, sizes and settings, and the layers of the model among its layers.

    **Arguments:** `archive`, a `TorchScriptArchive`; `table`, the configuration beside it, which has precedence over
    the settings that the code contains.

    **Raises:** `CheckpointError` if the archive has no code, or no speaker encoder.
    """

    def __init__(self, archive: Archive, table: Mapping[str, Any] | None = None):
        super().__init__(archive)
        self.table = dict(table or {})

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
        """The configuration that the archive states, as JSON values, with the tracker of the released code, Praat's."""
        table = {
            "pitch": to_dict(PitchConfig("autocorrelation")),
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
        kernels = len(self.blocks(0))
        for stage, up in enumerate(self.ups):
            found[f"decoder.ups.{stage}"] = up.path
            projections = iter(self.projections(stage))
            for number, block in enumerate(self.blocks(stage)):
                at = f"decoder.resblocks.{stage * kernels + number}"
                for j, (first, second) in enumerate(zip(block[::2], block[1::2], strict=True)):
                    found[f"{at}.convs1.{j}"], found[f"{at}.convs2.{j}"] = first.path, second.path
                    projection = next(projections, None)
                    if projection is not None:
                        found[f"{at}.conds.{j}"] = projection.path
        norm = self.input_norm()
        if norm is not None:
            found["decoder.input_norm"] = norm
        given = self.table.get(LAYERS_KEY, {})
        if not isinstance(given, Mapping):
            raise ConfigError(
                f"{LAYERS_KEY} is {format_value(given)}; it should be an object that maps layers of the model, such as "
                "decoder.conv_pre, to layers of the archive."
            )
        for ours, theirs in given.items():
            if ours not in found or not isinstance(theirs, str) or theirs not in self.layers:
                unknown = ours if ours not in found else theirs
                raise ConfigError(
                    f"{LAYERS_KEY} contains {format_name(str(unknown))}; it should map layers of the model, such as "
                    "decoder.conv_pre, to layers of the archive."
                )
        return {**found, **given}

    def _decoder_fields(self) -> dict[str, Any]:
        ups, pre = self.ups, self.first_convolution
        blocks = self.blocks(0)
        sizes = [[(block[0].kernel, [conv.dilation for conv in block[::2]]) for block in self.blocks(stage)]
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
            "conditioning": "resblocks" if self.projections(0) else "none",
            "input_norm": self.input_norm() is not None,
            "final_slope": slopes[-1],
        }

    def _decoder_slopes(self) -> list[float | None]:
        """The slopes of the leaky ReLUs of the decoder, one before each convolution and two around each projection."""
        slopes = [value for _, value in self.slopes(self.first_convolution.at, self.convolutions[-1].at, self.decoder)]
        stages = range(len(self.ups))
        convs = sum(len(block) for stage in stages for block in self.blocks(stage))
        expected = len(self.ups) + convs + sum(len(self.projections(stage)) for stage in stages) + 1
        if len(slopes) != expected or any(value != _SLOPE for value in slopes[:-1]):
            raise self.unclear(
                f"its decoder has {len(slopes)} leaky ReLUs of slopes {_texts(slopes)}; {expected} of slope {_SLOPE} "
                "are expected, the last one of any slope"
            )
        self._check_activations(self.decoder, self.convolutions[-1].at)
        return slopes

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

    def _pitch_fields(self) -> dict[str, Any] | None:
        convs = self.pitch_convolutions
        if not convs:
            return None
        prefix = f"{self.pitch_module}."
        slopes = {value for _, value in self.slopes(0, len(self.steps), prefix)}
        kinds = {**dict.fromkeys(CONVOLUTIONS, "convolution"), **dict.fromkeys(LEAKY, "leaky ReLU"), _NORM: _NORM}
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
        pre = self.shape(f"{at}pre_conv.weight", 3)
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
            "size": self.speaker_size(),
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
    def xscaling(self) -> bool:
        """Whether the content encoder multiplies the output of its subsampling by the square root of its width."""
        assert self.content is not None
        root = math.sqrt(self.shape(f"{self.content}pre_encode.out.weight", 2)[0])
        return any(
            step.call.name == "mul"
            and f"{step.path}.".startswith(self.content)
            and not step.path.startswith(f"{self.content}layers.")
            and abs((step.number("other") or 0) - root) < 1e-3
            for step in self.steps
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

"""Inference of torch's layers from calls of operators, with hyper-parameters under the names of torch's attributes."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxvoice.torchscript.signatures import REQUIRED, defaults
from jaxvoice.torchscript.symbolic_values import Call, NormedWeight, PaddedInput, Ref, Stored, is_plain

TensorShapes = Mapping[str, tuple[int, ...]]


class Inferred(NamedTuple):
    """The layer that is inferred from one call."""

    kinds: tuple[str, ...]
    """Classes of `torch.nn` with such a call."""
    settings: dict[str, Any]
    """Hyper-parameters. Values that the program computes are symbolic values."""
    weighted: bool = False
    """Whether the call uses a weight in a way that only this kind of layer does."""


# operator: classes that call it: arguments that are attributes of the class
_PLAIN = """
leaky_relu: LeakyReLU: negative_slope
elu: ELU: alpha
celu: CELU: alpha
gelu: GELU: approximate
softplus: Softplus: beta threshold
hardtanh: Hardtanh ReLU6: min_val max_val
threshold: Threshold: threshold value
hardshrink: Hardshrink: lambd
softshrink: Softshrink: lambd
glu: GLU: dim
softmax: Softmax: dim
log_softmax: LogSoftmax: dim
dropout: Dropout: p
feature_dropout: Dropout1d Dropout2d Dropout3d: p
alpha_dropout: AlphaDropout: p
adaptive_avg_pool1d: AdaptiveAvgPool1d: output_size
adaptive_avg_pool2d: AdaptiveAvgPool2d: output_size
adaptive_avg_pool3d: AdaptiveAvgPool3d: output_size
adaptive_max_pool1d: AdaptiveMaxPool1d: output_size
adaptive_max_pool2d: AdaptiveMaxPool2d: output_size
pixel_shuffle: PixelShuffle: upscale_factor
pixel_unshuffle: PixelUnshuffle: downscale_factor
flatten: Flatten: start_dim end_dim
unflatten: Unflatten: dim sizes
"""
_TABLE = {
    name: (tuple(kinds.split()), tuple(names.split()))
    for name, kinds, names in (line.split(":") for line in _PLAIN.split("\n") if line)
}
_NORMS = {
    "batch_norm": ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm"),
    "instance_norm": ("InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d"),
    "layer_norm": ("LayerNorm",),
    "group_norm": ("GroupNorm",),
    "rms_norm": ("RMSNorm",),
}
_PADS = {"reflect": "Reflection", "replicate": "Replication", "circular": "Circular"}


def infer(call: Call, shapes: TensorShapes, path: str) -> Inferred | None:
    """Infer the layer of a call in the module at `path`; `None` for operators that are not layers.

    `shapes` maps dotted names to the shapes of the archive's tensors.
    """
    arguments = {name: _attribute(value) for name, value in call.arguments.items()}
    name = call.name.removesuffix("_")
    weight = _shape(arguments.get("weight"), shapes)
    if "conv" in name and "weight" in arguments:
        return _convolution(name, arguments, weight, path)
    if name in _NORMS:
        return _norm(name, arguments, weight)
    if name in _TABLE:
        kinds, names = _TABLE[name]
        return Inferred(kinds, _with_defaults(name, names, arguments))
    if name.startswith(("avg_pool", "max_pool")):
        return _pool(name, arguments)
    if name.startswith(("upsample_", "_upsample_nearest_exact")) or name == "interpolate":
        return _upsample(name, arguments)
    if name in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
        # The overload for packed sequences has other arguments and no `batch_first`.
        return _recurrent(name, arguments) if isinstance(arguments.get("has_biases"), bool) else None
    if "pad" in name and ("pad" in arguments or "padding" in arguments):
        return _pad(name, arguments)
    match name:
        case "linear" if weight and len(weight) == 2:
            return Inferred(
                ("Linear",), {"in_features": weight[1], "out_features": weight[0], **_bias(arguments)}, True
            )
        case "embedding" if weight and len(weight) == 2:
            index = arguments.get("padding_idx", -1)
            sizes = {"num_embeddings": weight[0], "embedding_dim": weight[1]}
            return Inferred(("Embedding",), {**sizes, "padding_idx": None if index == -1 else index}, True)
        case "prelu" if weight and len(weight) == 1:
            return Inferred(("PReLU",), {"num_parameters": weight[0]}, True)
    return None


def _with_defaults(operator: str, names: Sequence[str], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments `names`; omitted arguments have torch's defaults."""
    known = defaults(operator, names)
    found = {name: arguments.get(name, _attribute(known.get(name, REQUIRED))) for name in names}
    return {name: value for name, value in found.items() if value is not REQUIRED}


def _attribute(value: Any) -> Any:
    """Convert a value to the form of torch's attributes: lists become tuples."""
    value = value.value if isinstance(value, Stored) else value
    return tuple(value) if isinstance(value, list) and is_plain(value) else value


def _shape(weight: Any, shapes: TensorShapes) -> tuple[int, ...] | None:
    if isinstance(weight, Ref):
        return shapes.get(weight.path)
    if isinstance(weight, NormedWeight):
        stem = f"{weight.of}." if weight.of else ""
        names = ["parametrizations.weight.original1", "weight_v"]
        if weight.norm == "spectral norm":
            names = ["parametrizations.weight.original", "weight_orig"]
        return next((shapes[stem + name] for name in names if stem + name in shapes), None)
    return None


def _bias(arguments: Mapping[str, Any]) -> dict[str, Any]:
    bias = arguments.get("bias")
    return {"bias": bias is not None} if bias is None or isinstance(bias, Ref) else {}


def _convolution(name: str, arguments: dict[str, Any], weight: tuple[int, ...] | None, path: str) -> Inferred | None:
    if weight is None or len(weight) < 3:
        return None
    rank = len(weight) - 2
    transposed = arguments.get("transposed", "transpose" in name) is True
    # Omitted arguments have torch's defaults.
    groups, padding = arguments.get("groups", 1), arguments.get("padding", (0,) * rank)
    channels = {"kernel_size": weight[2:]}
    if isinstance(groups, int):
        into, out = (weight[0], weight[1] * groups) if transposed else (weight[1] * groups, weight[0])
        channels = {"in_channels": into, "out_channels": out, **channels}
    mode, padded = "zeros", arguments.get("input")
    if isinstance(padded, PaddedInput) and padded.by == path and padding in ((0,) * rank, "valid") and not transposed:
        pairs = tuple(zip(padded.amounts[-2::-2], padded.amounts[-1::-2], strict=True))
        if len(pairs) == rank:
            mode = padded.mode
            padding = tuple(a for a, _ in pairs) if all(a == b for a, b in pairs) else pairs
    settings = {
        **channels,
        "stride": arguments.get("stride", (1,) * rank),
        "padding": padding,
        "dilation": arguments.get("dilation", (1,) * rank),
        "groups": groups,
        "padding_mode": mode,
        **_bias(arguments),
    }
    if transposed:
        settings["output_padding"] = arguments.get("output_padding", (0,) * rank)
    return Inferred((f"Conv{'Transpose' if transposed else ''}{rank}d",), settings, True)


def _norm(name: str, arguments: dict[str, Any], weight: tuple[int, ...] | None) -> Inferred:
    settings = {
        key: arguments[key] for key in ("normalized_shape", "num_groups", "eps", "momentum") if key in arguments
    }
    if name in ("layer_norm", "group_norm"):
        settings.setdefault("eps", 1e-5)
    if weight and name != "layer_norm":
        settings = {"num_channels" if name == "group_norm" else "num_features": weight[0], **settings}
    given, mean = arguments.get("weight"), arguments.get("running_mean")
    if given is None or isinstance(given, Ref):
        settings["elementwise_affine" if name in ("layer_norm", "rms_norm") else "affine"] = given is not None
    if name in ("batch_norm", "instance_norm") and (mean is None or isinstance(mean, Ref)):
        settings["track_running_stats"] = mean is not None
    return Inferred(_NORMS[name], settings)


def _pool(name: str, arguments: dict[str, Any]) -> Inferred:
    names = [
        "kernel_size",
        "stride",
        "padding",
        "ceil_mode",
        *(["count_include_pad"] if name[0] == "a" else ["dilation"]),
    ]
    settings = _with_defaults(name, names, arguments)
    if "kernel_size" in settings:
        settings["stride"] = settings.get("stride") or settings["kernel_size"]
    kind = {"avg": "AvgPool", "max": "MaxPool"}[name[:3]]
    return Inferred((kind + name.removesuffix("_with_indices")[-2:],), settings)


def _upsample(name: str, arguments: dict[str, Any]) -> Inferred:
    mode = arguments.get("mode") if name == "interpolate" else name.removeprefix("_")[len("upsample_") : -2]
    settings = {"mode": "nearest-exact" if mode == "nearest_exact" else mode}
    if "align_corners" in arguments:
        settings["align_corners"] = arguments["align_corners"]
    # The arguments of `interpolate` have the names of the attributes.
    for names in (("size", "output_size"), ("scale_factor", "scale_factors")):
        value = next((arguments[name] for name in names if arguments.get(name) is not None), None)
        if value is not None:
            settings[names[0]] = value
    return Inferred(("Upsample", "UpsamplingNearest2d", "UpsamplingBilinear2d"), settings)


def _recurrent(name: str, arguments: dict[str, Any]) -> Inferred:
    names = ("num_layers", "batch_first", "dropout", "bidirectional")
    settings = {key: arguments[key] for key in names if key in arguments}
    settings["bias"] = arguments.get("has_biases")
    if name.startswith("rnn"):
        settings["nonlinearity"] = name[4:]
    return Inferred(({"lstm": "LSTM", "gru": "GRU"}.get(name, "RNN"),), settings)


def _pad(name: str, arguments: dict[str, Any]) -> Inferred:
    mode = arguments.get("mode", "constant")
    if name != "pad":
        mode = {"constant": "constant", "reflection": "reflect", "replication": "replicate"}.get(name.split("_")[0], "")
    amounts = arguments.get("pad", arguments.get("padding"))
    kinds = tuple(f"{stem}Pad{rank}d" for stem in [_PADS.get(str(mode), "Constant"), "Zero"] for rank in (1, 2, 3))
    settings = {"padding": amounts}
    if mode == "constant" and arguments.get("value") is not None:
        settings["value"] = arguments["value"]
    return Inferred(kinds, settings)


def from_shapes(kind: str, path: str, settings: Mapping[str, Any], shapes: TensorShapes) -> dict[str, Any]:
    """Infer hyper-parameters from the shapes of a layer's tensors, for modules that are never called."""
    stem = f"{path}." if path else ""

    def shape(*names: str) -> tuple[int, ...] | None:
        return next((shapes[stem + name] for name in names if stem + name in shapes), None)

    if kind in ("LSTM", "GRU", "RNN"):
        rows, projection = shape("weight_ih_l0"), shape("weight_hr_l0")
        if rows and len(rows) == 2:
            hidden = rows[0] // {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
            return {"input_size": rows[1], "hidden_size": hidden, "proj_size": projection[0] if projection else 0}
        return {}
    # Spectral norm also has a `weight_v`, which is a vector.
    weight = shape(
        "weight", "weight_orig", "weight_v", "parametrizations.weight.original1", "parametrizations.weight.original"
    )
    if weight is None or settings:
        return {}
    bias = {"bias": stem + "bias" in shapes}
    if kind == "Linear" and len(weight) == 2:
        return {"in_features": weight[1], "out_features": weight[0], **bias}
    if kind.startswith("ConvTranspose") and len(weight) > 2:
        return {"in_channels": weight[0], "kernel_size": weight[2:], **bias}
    if kind.startswith("Conv") and len(weight) > 2:
        return {"out_channels": weight[0], "kernel_size": weight[2:], **bias}
    if kind == "Embedding" and len(weight) == 2:
        return {"num_embeddings": weight[0], "embedding_dim": weight[1]}
    if kind == "LayerNorm":
        return {"normalized_shape": weight}
    if kind.startswith(("BatchNorm", "InstanceNorm")) and len(weight) == 1:
        return {"num_features": weight[0]}
    return {}

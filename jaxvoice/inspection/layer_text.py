"""Layers, calls and values as short texts in torch's notation."""

import math
from collections.abc import Mapping
from typing import Any

from jaxvoice.console import printable
from jaxvoice.torchscript.layers import Layer
from jaxvoice.torchscript.signatures import REQUIRED, defaults
from jaxvoice.torchscript.symbolic_values import Call, NormedWeight, Ref, Stored, is_plain

# Settings that the shapes of tensors in the same row contain.
_SHAPES = {
    *("in_channels", "out_channels", "in_features", "out_features", "num_features", "num_channels", "normalized_shape"),
    *("num_embeddings", "embedding_dim", "num_parameters", "input_size_", "affine_", "kernel_size"),
    "embed_dim",
}
_DEFAULTS: dict[str, Any] = {
    "stride": 1, "padding": 0, "dilation": 1, "groups": 1, "padding_mode": "zeros", "output_padding": 0, "bias": True,
    "affine": True, "elementwise_affine": True, "proj_size": 0, "num_layers": 1, "bidirectional": False, "dropout": 0.0,
    "batch_first": False, "ceil_mode": False, "count_include_pad": True, "divisor_override": None, "padding_idx": None,
    "align_corners": None, "size": None, "recompute_scale_factor": None, "return_indices": False, "approximate": "none",
    "scale_factor": None, "add_zero_attn": False, "nonlinearity": "tanh", "mode": "nearest",
    "antialias": False, "add_bias_kv": False, "activation": "relu", "norm_first": False,
}  # fmt: skip
_FIRST = {"pad", "kernel_size", "negative_slope", "p", "output_size", "alpha", "upscale_factor", "downscale_factor"}
_OPERATORS = {"mul": "*", "add": "+", "sub": "-", "div": "/", "pow": "**"}
_DIVISIONS = {"None": "/", "'floor'": "//", "'trunc'": "/ (towards zero)"}
_SHOWN = (
    *("leaky_relu", "elu", "softmax", "log_softmax", "dropout", "avg_pool", "max_pool", "adaptive", "pad", "clamp"),
    *("upsample", "_upsample", "interpolate", "softplus", "gelu", "glu", "relu", "tanh", "sigmoid", "silu", "linear"),
    *("stft", "istft", "reflection_pad", "replication_pad", "constant_pad", "layer_norm", "batch_norm", "conv"),
    *("instance_norm", "group_norm", "_convolution", "masked_fill", "einsum", "cumsum", "lstm", "gru", "rnn"),
    *("scaled_dot", "prelu", "hardtanh"),
    *("fft", "unfold", "cat", "matmul", "bmm", "exp", "log", "sqrt", "sin", "cos", "mean", "std", "softsign", "norm"),
)
_TENSOR_ARGUMENTS = {
    *("input", "weight", "bias", "running_mean", "running_var", "cudnn_enabled", "cudnn_enable", "benchmark"),
    *("deterministic", "allow_tf32", "training", "train", "use_input_stats", "tensors", "other", "dtype"),
}


def layer_text(layer: Layer, varied: Mapping[str, list[Any]] | None = None) -> str:
    """Class and hyper-parameters, for example `Conv1d(stride=2, padding=1)`, without sizes in the weight's shape.

    **Arguments:** `varied`: the values of each setting that differs between several layers in one row.
    """
    # The kernel size is shown for layers without weight, such as pooling.
    weighted = "in_channels" in layer.settings or "out_channels" in layer.settings or "bias" in layer.settings
    hidden = _SHAPES - (set() if weighted else {"kernel_size"})
    parts = []
    for name, value in layer.settings.items():
        if varied and name in varied:
            parts.append(f"{name}={'/'.join(setting_text(name, one) for one in varied[name])}")
        elif name not in hidden and not _is_default(layer, name, value):
            text = setting_text(name, value)
            parts.append(text if name in _FIRST and not parts else f"{name}={text}")
    parts += [f"{name} computed" for name in layer.computed]
    parts += [f"{name}={value_text(value)}" for name, value in layer.attributes.items()]
    own = layer.class_name.rpartition(".")[2]
    named = layer.kind if own.removeprefix("Parametrized") == layer.kind else f"{own}, a {layer.kind}"
    named = layer.kind if own == "NonDynamicallyQuantizableLinear" else named
    return named + (f"({', '.join(parts)})" if parts else "")


def _is_default(layer: Layer, name: str, value: Any) -> bool:
    if name == "stride" and "in_channels" not in layer.settings and "kernel_size" in layer.settings:
        return False  # the default of pooling is the kernel size
    if name == "mode" and layer.kind != "Upsample":
        return False
    if name == "track_running_stats":
        return value == (not layer.kind.startswith("InstanceNorm"))
    if name == "affine":
        return value == (not layer.kind.startswith("InstanceNorm"))
    if isinstance(value, tuple) and value and name in _DEFAULTS:
        return all(one == _DEFAULTS[name] for one in value)
    return name in _DEFAULTS and type(value) is type(_DEFAULTS[name]) and value == _DEFAULTS[name]


def setting_text(name: str, value: Any) -> str:
    """The value of a hyper-parameter as text. A tuple of equal values becomes one value: `3` for `(3, 3)`."""
    same = isinstance(value, tuple) and bool(value) and all(one == value[0] for one in value)
    if same and not isinstance(value[0], (tuple, list)) and (len(value) == 1 or name not in ("sizes", "pad")):
        return value_text(value[0])
    return value_text(value)


def value_text(value: Any) -> str:
    """A plain value as text. Numbers are exact; long lists are shortened."""
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, int):
        if value == 2**63 - 1:
            return "max"  # torch's value for an open end
        return str(value) if value.bit_length() <= 128 else f"a number of {value.bit_length():,} bits"
    if isinstance(value, float):
        text = repr(value)
        return str(value) if math.isnan(value) or math.isinf(value) else text
    if isinstance(value, str):
        shown = printable(value)
        return f"'{shown}'" if len(shown) <= 60 else f"'{shown[:57]}...'"
    if isinstance(value, (list, tuple)):
        shown = [value_text(item) for item in value[:8]] + ([f"... {len(value)} in all"] if len(value) > 8 else [])
        left, right = ("[", "]") if isinstance(value, list) else ("(", ",)" if len(value) == 1 else ")")
        return left + ", ".join(shown) + right
    if isinstance(value, Mapping):
        return f"{len(value)} entries"
    return printable(str(getattr(value, "class_name", None) or getattr(value, "name", None) or type(value).__name__))


def call_text(call: Call) -> str:
    """A call such as `leaky_relu(0.1)`; `""` for operators that rearrange elements or have no settings."""
    if call.kind != "operator":
        return ""
    name = call.name
    values = {key: value for key, value in call.arguments.items() if not isinstance(value, (Ref, NormedWeight))}
    plain = {key: value.value if isinstance(value, Stored) else value for key, value in values.items()}
    plain = {key: value for key, value in plain.items() if is_plain(value) and value is not None}
    known = defaults(name, list(plain))
    plain = {**{key: value for key, value in known.items() if key in _FIRST and key not in values}, **plain}
    plain = {key: value for key, value in plain.items() if value is not REQUIRED}
    given = set(plain) & set(values)
    if name.rstrip("_") in _OPERATORS and len(given) < len(call.arguments):  # not sizes
        factor = plain.get("other", plain.get("1", plain.get("exponent")))
        sign = _OPERATORS[name.rstrip("_")]
        if "rounding_mode" in call.arguments:
            sign = _DIVISIONS.get(value_text(call.arguments["rounding_mode"]), "")
        return f"{sign} {value_text(factor)}" if isinstance(factor, (int, float)) and sign else ""
    if not name.startswith(_SHOWN):
        return ""
    shown = {key: value for key, value in plain.items() if key not in _TENSOR_ARGUMENTS and value != []}
    parts = []
    for key, value in shown.items():
        flat = tuple(value) if isinstance(value, list) else value
        if key in _DEFAULTS and (flat == _DEFAULTS[key] or flat in ((_DEFAULTS[key],), (_DEFAULTS[key],) * 2)):
            continue
        if key == "scale" or (key == "input_scale" and value == 1):
            continue
        text = setting_text(key, flat)
        parts.append(text if (key in _FIRST and not parts) or key.isdecimal() else f"{key}={text}")
    return printable(name) + (f"({', '.join(parts)})" if parts else "")

"""Hyper-parameters of layers that call several operators: attention, transformer layers and `interpolate`.

Traces do not store the attributes of these layers. A hyper-parameter with different values in different calls is
omitted.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jaxvoice.torchscript.symbolic_values import Call, Ref, Stored, is_plain, join_path

ATTENTION = "MultiheadAttention"
_TRANSFORMER_LAYERS = ("TransformerEncoderLayer", "TransformerDecoderLayer")
FUSED = {"_native_multi_head_attention": "num_head", "_transformer_encoder_layer_fwd": "num_heads"}
"""Operators that compute a whole layer, and the name of their argument for the number of heads."""


def attention_settings(
    kind: str, path: str, calls: Sequence[Call], methods: Sequence[Sequence[Call]], shapes: Mapping[str, Any]
) -> dict[str, Any]:
    """The hyper-parameters of a layer under the names of torch's attributes; `activation` is the name of a function.

    **Arguments:** `kind` and `path`: class and dotted name of the layer; `calls`: operators that compute with its
    weights; `methods`: all calls of each of its methods; `shapes`: the shapes of the archive's tensors by dotted name.
    """
    if kind == ATTENTION:
        return _attention(path, calls, shapes)
    if kind in _TRANSFORMER_LAYERS:
        return _transformer_layer(path, calls, methods)
    if kind == "LayerNorm":  # both norms of a fused layer have the same eps
        fused = {call.arguments["eps"] for call in calls if isinstance(call.arguments.get("eps"), float)}
        return {"eps": fused.pop()} if len(fused) == 1 and any(call.name in FUSED for call in calls) else {}
    return {}


def weight_paths(call: Call) -> Iterator[str]:
    """Yield the dotted names of the tensors among the arguments of an operator."""
    for value in call.arguments.values():
        yield from (
            one.path for one in (value if isinstance(value, (list, tuple)) else [value]) if isinstance(one, Ref)
        )


def _attention(path: str, calls: Sequence[Call], shapes: Mapping[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    output = shapes.get(join_path(path, "out_proj.weight"), ())
    width = output[0] if len(output) == 2 else None
    if width:
        settings["embed_dim"] = width
        settings["bias"] = join_path(path, "in_proj_bias") in shapes
    heads = set(filter(None, map(_heads, calls)))
    if len(heads) == 1 and all(n > 0 and (width is None or width % n == 0) for n in heads):
        settings["num_heads"] = heads.pop()
    # torch has fused operators only for batch_first; otherwise batch and time are swapped at input and output.
    if any(call.name in FUSED for call in calls) or sum(map(_swaps_batch_and_time, calls)) >= 2:
        settings["batch_first"] = True
    return settings


def _heads(call: Call) -> int | None:
    """The number of heads, if a call within attention states it."""
    if call.name in FUSED:
        return _as_int(call.arguments.get(FUSED[call.name]))
    if call.name == "div" and call.arguments.get("rounding_mode") in ("trunc", "floor"):
        return _as_int(call.arguments.get("other"))  # width by heads
    sizes = call.arguments.get("size") if call.name == "view" else None
    if isinstance(sizes, list) and len(sizes) == 4 and sizes[1:3] != [1, 1]:  # (batch, heads, ...); masks have 1, 1
        return _as_int(sizes[1])
    return None


def _swaps_batch_and_time(call: Call) -> bool:
    return call.name == "transpose" and (call.arguments.get("dim0"), call.arguments.get("dim1")) == (1, 0)


def _as_int(value: Any) -> int | None:
    value = value.value if isinstance(value, Stored) else value
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _transformer_layer(path: str, calls: Sequence[Call], methods: Sequence[Sequence[Call]]) -> dict[str, Any]:
    found: list[dict[str, Any]] = []
    for call in calls:
        if call.name == "_transformer_encoder_layer_fwd" and not call.within:
            gelu, first = call.arguments.get("use_gelu"), call.arguments.get("norm_first")
            if isinstance(gelu, bool) and isinstance(first, bool):
                found.append({"activation": "gelu" if gelu else "relu", "norm_first": first})
    for method in methods:
        # Calls in branches of a script may not be executed; scripts store the attributes.
        order = [call.name for call in method if call.kind == "module" and not call.within]
        norm, attention = join_path(path, "norm1"), join_path(path, "self_attn")
        if norm in order and attention in order:
            found.append({"norm_first": order.index(norm) < order.index(attention)})
            between = {call.name for call in method if call.kind == "operator" and call.name in ("relu", "gelu")}
            plain = all(set(call.arguments) <= {"input", "0"} for call in method if call.name in between)
            if len(between) == 1 and plain:
                found[-1]["activation"] = between.pop()
    settings = {name: value for one in found for name, value in one.items()}
    return {name: value for name, value in settings.items() if all(one.get(name, value) == value for one in found)}


_INTERPOLATE = ("input", "size", "scale_factor", "mode", "align_corners")
_AREA = "adaptive_avg_pool"
_RESIZE_ARGUMENTS = {"output_size": "size", "scale_factors": "scale_factor", "align_corners": "align_corners"}


def is_interpolate(arguments: Mapping[str, Any], calls: Sequence[Call]) -> bool:
    """Whether a function named `interpolate` computes what its arguments state.

    **Arguments:** `arguments`: its arguments by name; `calls`: the calls in all of its branches.
    """
    if not set(_INTERPOLATE) <= set(arguments):
        return False
    plain = {name: value.value if isinstance(value, Stored) else value for name, value in arguments.items()}
    mode = plain["mode"]
    stem = {"area": _AREA, "nearest-exact": "_upsample_nearest_exact"}.get(repr(mode)[1:-1], f"upsample_{mode}")
    resizes = [call for call in calls if "upsample" in call.name or call.name.startswith(_AREA)]
    by_name = not isinstance(mode, str) or all(call.name.lstrip("_").startswith(stem.lstrip("_")) for call in resizes)
    return bool(resizes) and by_name and all(_matches_arguments(call, plain) for call in resizes)


def _matches_arguments(call: Call, plain: Mapping[str, Any]) -> bool:
    """Whether the literal arguments of a call equal the arguments of the function."""
    for inner, outer in _RESIZE_ARGUMENTS.items():
        found, asked = call.arguments.get(inner), plain[outer]
        found = found.value if isinstance(found, Stored) else found
        if found is None or not is_plain(found) or (inner == "align_corners" and found is False and asked is None):
            continue
        numbers = found if isinstance(found, (list, tuple)) else [found]
        wanted = list(asked) if isinstance(asked, (list, tuple)) else [asked] * len(numbers)
        if list(numbers) != wanted:
            return False
    return True

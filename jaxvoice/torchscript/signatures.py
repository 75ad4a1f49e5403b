"""Names and defaults of the arguments of torch's operators, from its schemas."""

import ast
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

# The first overload that matches a call is used. A line that starts with a space continues the previous line.
_TABLE = """
_convolution(input, weight, bias, stride, padding, dilation, transposed, output_padding, groups, benchmark,
    deterministic, cudnn_enabled, allow_tf32)
_convolution(input, weight, bias, stride, padding, dilation, transposed, output_padding, groups, benchmark,
    deterministic, cudnn_enabled)
_convolution_mode(input, weight, bias, stride, padding, dilation, groups)
convolution(input, weight, bias, stride, padding, dilation, transposed, output_padding, groups)
conv1d(input, weight, bias=None, stride=[1], padding=[0], dilation=[1], groups=1)
conv2d(input, weight, bias=None, stride=[1, 1], padding=[0, 0], dilation=[1, 1], groups=1)
conv3d(input, weight, bias=None, stride=[1, 1, 1], padding=[0, 0, 0], dilation=[1, 1, 1], groups=1)
conv_transpose1d(input, weight, bias=None, stride=[1], padding=[0], output_padding=[0], groups=1, dilation=[1])
conv_transpose2d(input, weight, bias=None, stride=[1, 1], padding=[0, 0], output_padding=[0, 0], groups=1,
    dilation=[1, 1])
conv_transpose3d(input, weight, bias=None, stride=[1, 1, 1], padding=[0, 0, 0], output_padding=[0, 0, 0],
    groups=1, dilation=[1, 1, 1])
linear(input, weight, bias=None)
embedding(weight, indices, padding_idx=-1, scale_grad_by_freq=False, sparse=False)
batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps, cudnn_enabled)
instance_norm(input, weight, bias, running_mean, running_var, use_input_stats, momentum, eps, cudnn_enabled)
layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-05, cudnn_enable=True)
group_norm(input, num_groups, weight=None, bias=None, eps=1e-05, cudnn_enabled=True)
rms_norm(input, normalized_shape, weight=None, eps=None)
_weight_norm(v, g, dim=0)
lstm(input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first)
gru(input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first)
rnn_tanh(input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first)
rnn_relu(input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first)
prelu(input, weight)
leaky_relu(input, negative_slope=0.01)
leaky_relu_(input, negative_slope=0.01)
elu(input, alpha=1, scale=1, input_scale=1)
elu_(input, alpha=1, scale=1, input_scale=1)
celu(input, alpha=1.0)
gelu(input, *, approximate='none')
softplus(input, beta=1, threshold=20)
hardtanh(input, min_val=-1, max_val=1)
hardtanh_(input, min_val=-1, max_val=1)
threshold(input, threshold, value)
threshold_(input, threshold, value)
hardshrink(input, lambd=0.5)
softshrink(input, lambd=0.5)
glu(input, dim=-1)
softmax(input, dim, dtype=None)
log_softmax(input, dim, dtype=None)
dropout(input, p, train)
dropout_(input, p, train)
feature_dropout(input, p, train)
feature_dropout_(input, p, train)
alpha_dropout(input, p, train)
avg_pool1d(input, kernel_size, stride=[], padding=[0], ceil_mode=False, count_include_pad=True)
avg_pool2d(input, kernel_size, stride=[], padding=[0, 0], ceil_mode=False, count_include_pad=True,
    divisor_override=None)
avg_pool3d(input, kernel_size, stride=[], padding=[0, 0, 0], ceil_mode=False, count_include_pad=True,
    divisor_override=None)
max_pool1d(input, kernel_size, stride=[], padding=[0], dilation=[1], ceil_mode=False)
max_pool2d(input, kernel_size, stride=[], padding=[0, 0], dilation=[1, 1], ceil_mode=False)
max_pool3d(input, kernel_size, stride=[], padding=[0, 0, 0], dilation=[1, 1, 1], ceil_mode=False)
max_pool1d_with_indices(input, kernel_size, stride=[], padding=[0], dilation=[1], ceil_mode=False)
max_pool2d_with_indices(input, kernel_size, stride=[], padding=[0, 0], dilation=[1, 1], ceil_mode=False)
adaptive_avg_pool1d(input, output_size)
adaptive_avg_pool2d(input, output_size)
adaptive_avg_pool3d(input, output_size)
adaptive_max_pool1d(input, output_size)
adaptive_max_pool2d(input, output_size)
pad(input, pad, mode='constant', value=None)
constant_pad_nd(input, pad, value=0)
reflection_pad1d(input, padding)
reflection_pad2d(input, padding)
replication_pad1d(input, padding)
replication_pad2d(input, padding)
upsample_nearest1d(input, output_size, scale_factors)
upsample_nearest1d(input, output_size, scales=None)
_upsample_nearest_exact1d(input, output_size, scale_factors)
_upsample_nearest_exact1d(input, output_size, scales=None)
upsample_nearest2d(input, output_size, scale_factors)
upsample_nearest2d(input, output_size, scales_h=None, scales_w=None)
_upsample_nearest_exact2d(input, output_size, scale_factors)
_upsample_nearest_exact2d(input, output_size, scales_h=None, scales_w=None)
upsample_nearest3d(input, output_size, scale_factors)
upsample_nearest3d(input, output_size, scales_d=None, scales_h=None, scales_w=None)
_upsample_nearest_exact3d(input, output_size, scale_factors)
_upsample_nearest_exact3d(input, output_size, scales_d=None, scales_h=None, scales_w=None)
upsample_linear1d(input, output_size, align_corners, scale_factors)
upsample_linear1d(input, output_size, align_corners, scales=None)
upsample_bilinear2d(input, output_size, align_corners, scale_factors)
upsample_bilinear2d(input, output_size, align_corners, scales_h=None, scales_w=None)
upsample_bicubic2d(input, output_size, align_corners, scale_factors)
upsample_bicubic2d(input, output_size, align_corners, scales_h=None, scales_w=None)
upsample_trilinear3d(input, output_size, align_corners, scale_factors)
upsample_trilinear3d(input, output_size, align_corners, scales_d=None, scales_h=None, scales_w=None)
pixel_shuffle(input, upscale_factor)
pixel_unshuffle(input, downscale_factor)
flatten(input, start_dim=0, end_dim=-1)
unflatten(input, dim, sizes)
stft(input, n_fft, hop_length=None, win_length=None, window=None, normalized=False, onesided=None,
    return_complex=None, align_to_window=None)
stft(input, n_fft, hop_length=None, win_length=None, window=None, center=True, pad_mode='reflect',
    normalized=False, onesided=None, return_complex=None, align_to_window=None)
istft(input, n_fft, hop_length=None, win_length=None, window=None, center=True, normalized=False,
    onesided=None, length=None, return_complex=False)
_native_multi_head_attention(query, key, value, embed_dim, num_head, qkv_weight, qkv_bias, proj_weight, proj_bias,
    mask=None, need_weights=True, average_attn_weights=True, mask_type=None)
_transformer_encoder_layer_fwd(src, embed_dim, num_heads, qkv_weight, qkv_bias, proj_weight, proj_bias, use_gelu,
    norm_first, eps, norm_weight_1, norm_bias_1, norm_weight_2, norm_bias_2, ffn_weight_1, ffn_bias_1, ffn_weight_2,
    ffn_bias_2, mask=None, mask_type=None)
scaled_dot_product_attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, *, scale=None,
    enable_gqa=False)
mean(input, *, dtype=None)
mean(input, dim, keepdim=False, *, dtype=None)
sum(input, *, dtype=None)
sum(input, dim, keepdim=False, *, dtype=None)
cumsum(input, dim, *, dtype=None)
cat(tensors, dim=0)
transpose(input, dim0, dim1)
view(input, size)
masked_fill(input, mask, value)
clamp(input, min=None, max=None)
contiguous(input, *, memory_format=0)
std(input, unbiased=True)
std(input, dim, unbiased=True, keepdim=False)
var(input, unbiased=True)
var(input, dim, unbiased=True, keepdim=False)
add(input, other, *, alpha=1)
sub(input, other, *, alpha=1)
add_(input, other, *, alpha=1)
sub_(input, other, *, alpha=1)
mul(input, other)
div(input, other)
div(input, other, *, rounding_mode)
div_(input, other)
div_(input, other, *, rounding_mode)
pow(input, exponent)
"""

REQUIRED = object()
"""Marks an argument without default in a signature."""


class Signature(dict[str, Any]):
    """The arguments of an overload by name, with their defaults or `REQUIRED`.

    **Arguments:** `arguments`: the arguments; `positional`: the number of them that can be passed by position.
    """

    def __init__(self, arguments: Mapping[str, Any], positional: int):
        super().__init__(arguments)
        self.positional = positional


@lru_cache(maxsize=1)
def signatures() -> Mapping[str, tuple[Signature, ...]]:
    """The overloads of each operator."""
    table: dict[str, list[Signature]] = {}
    for line in _TABLE.replace("\n ", " ").split("\n"):
        if line:
            function = ast.parse(f"def {line}: pass").body[0]
            assert isinstance(function, ast.FunctionDef)
            table.setdefault(function.name, []).append(_signature(function.args))
    return {name: tuple(overloads) for name, overloads in table.items()}


def _signature(args: ast.arguments) -> Signature:
    found = {arg.arg: REQUIRED for arg in args.args}
    for arg, default in zip(reversed(args.args), reversed(args.defaults), strict=False):
        found[arg.arg] = ast.literal_eval(default)
    for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        found[arg.arg] = REQUIRED if default is None else ast.literal_eval(default)
    return Signature(found, len(args.args))


def bind(operator: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any] | None:
    """The arguments of a call by name, without defaults; `None` if no known overload matches."""
    for overload in signatures().get(operator, ()):
        names = list(overload)
        if len(args) > overload.positional or not set(kwargs) <= set(names[len(args) :]):
            continue
        bound = {**dict(zip(names, args, strict=False)), **kwargs}
        if not all(_fits(value, overload[name]) for name, value in bound.items()):
            continue
        if all(name in bound or default is not REQUIRED for name, default in overload.items()):
            return bound
    return None


def _fits(value: Any, default: Any) -> bool:
    """Whether the type of a value or syntax node matches the type of the default."""
    value = value.value if isinstance(value, ast.Constant) else value
    if isinstance(value, (list, tuple, ast.List, ast.Tuple)):
        return not isinstance(default, (int, float, str))
    if isinstance(default, (bool, str)) and isinstance(value, (int, float, str)):
        return type(value) is type(default)
    return True


def defaults(operator: str, names: Sequence[str]) -> Mapping[str, Any]:
    """The defaults of the first overload of `operator` that has all of `names`; `REQUIRED` means none."""
    for overload in signatures().get(operator, ()):
        if set(names) <= set(overload):
            return overload
    return {}

"""Expressions with the operators that the interpreter knows, in groups that one program each computes.

An expression is scripted and traced, unless it begins with `s:` (scripted only) or `t:` (traced only).
"""

from typing import Any

import torch

FLOAT, ROW, AUDIO, PICTURE, SEQUENCE = (2, 3), (3,), (2, 4, 15), (2, 4, 7, 6), (2, 5, 8)
POSITIVE = torch.tensor([[0.3, 1.0, 2.5], [7.0, 0.01, 4.0]])
UNIT = torch.linspace(-0.9, 0.9, 6).reshape(2, 3)
WHOLE, SMALL = torch.tensor([[1, -2, 3], [4, 5, -6]]), torch.tensor([[3, 2, -2], [1, 2, 4]])
MASK, OTHER = (
    torch.tensor([[True, False, True], [False, False, True]]),
    torch.tensor([[True] * 2 + [False], [False, True, True]]),
)
SCALAR, COUNT = torch.tensor(1.5), torch.tensor(3)
COMPLEX = torch.complex(torch.linspace(-2.0, 3.0, 6).reshape(2, 3), torch.ones(2, 3))
DISTINCT = torch.randperm(24, generator=torch.Generator().manual_seed(0)).reshape(2, 3, 4).float()
INDEX, PLACES = torch.tensor([2, 0, 1, 2]), torch.tensor([[0, 2, 1, 0], [1, 1, 0, 2], [2, 0, 2, 1]])
THIRDS, NUMBERS = torch.arange(12).reshape(3, 4) % 3 == 0, torch.arange(12).reshape(3, 4)
HIDDEN = torch.tensor([[False, False, True, False, True], [False, False, False, False, True]])

Group = tuple[dict[str, Any], list[str]]
"""Inputs, or their shapes, by the names that the expressions use, and the expressions."""

GROUPS: dict[str, Group] = {
    "arithmetic": (
        {"x": FLOAT, "y": FLOAT, "p": POSITIVE, "n": WHOLE, "k": SMALL, "c": SCALAR, "i": COUNT, "r": ROW, "m": MASK,
         "o": OTHER, "z": COMPLEX},
        [
            *(f"torch.{name}({a}, {b})" for name in ("add", "sub", "mul", "div", "maximum", "minimum", "eq", "lt")
              for a, b in ("xy", "xn", "nk", "xc", "nc", "ci", "xr")),
            *(f"torch.{name}(x, y)" for name in ("ne", "le", "gt", "ge")),
            *(f"torch.{name}(n, k)" for name in ("remainder", "floor_divide", "bitwise_and", "bitwise_or")),
            *(f"torch.{name}(x, p)" for name in ("remainder", "floor_divide", "atan2")),
            *(f"torch.{name}(m, o)" for name in ("logical_and", "logical_or", "bitwise_and", "add",
            "mul")),
            *(f"{a} {op} {b}" for op in "+-*/" for a in "xn" for b in ("2", "2.5")),
            *(f"{b} {op} {a}" for op in "+-*" for a in "xn" for b in ("2", "2.5")),
            "2 / p", "x % 2", "n % 3", "-n % 3", "n // 2", "x // 0.7", "m + i", "m * 2", "m * 2.0", "z + x", "z * 2.0",
            "z / 2", "torch.add(x, y, alpha=2)", "torch.sub(n, k, alpha=3)", "torch.rsub(x, 2.0)",
            *(f"torch.div({a}, rounding_mode='{mode}')" for a in ("x, p", "n, k") for mode in ("floor", "trunc")),
            *(f"x ** {power}" for power in ("2", "3", "2.0", "0", "-1")), "p ** 0.5", "p ** -0.5", "p ** 2.5",
            "n ** 2", "n ** 2.0", "2.0 ** x", "2 ** x", "p ** x", "n ** k.abs()", "torch.pow(p, i)",
            "torch.pow(10000, x)", "torch.clamp(x, -0.5, 0.5)", "torch.clamp(x, min=0.1)", "torch.clamp(x, max=0.1)",
            "torch.clamp(n, min=0)", "torch.clamp(n, 0.5, 2.5)", "torch.clamp(x, y, p)", "torch.clamp_min(x, 0.2)",
            "torch.clamp_max(n, 1)", "torch.where(x > 0, x, y)", "torch.where(x > 0, x, 0.0)", "torch.where(m, n, 1)",
            "torch.where(m, 1.0, 0.0)", "torch.where(x > 0, x, r)", "t:x.masked_fill(m, -inf)", "n.masked_fill(m, 3)",
            "x.masked_fill(m, c)", "r.masked_fill(m, 1.0)", "~m & o", "m | o", "~n", "torch.logical_not(x)",
            "torch.logical_not(m)",
        ],
    ),
    "types": (
        {"x": FLOAT, "y": FLOAT, "n": WHOLE, "k": SMALL, "c": SCALAR},
        [
            "n.float()", "x.int()", "x.long()", "t:n.bool()", "x.half().float()", "x.to(torch.bfloat16).float()",
            "x.double()", "n.type_as(x)", "x.to(torch.int16)", "n.to(x)", "x.half() + c", "x.half() + y.float()",
            "k.abs().to(torch.uint8) + k.to(torch.int8)", "x.half() * 2.5", "n.int() / k.int()", "x.cpu()",
            "x.to('cpu')", "x.detach()", "x.contiguous()", "x.clone()", "s:x.data",
        ],
    ),
    "functions": (
        {"x": FLOAT, "p": POSITIVE, "u": UNIT, "n": WHOLE, "m": MASK, "z": COMPLEX},
        [
            *(f"torch.{name}(x)" for name in (
                "abs", "neg", "sign", "square", "floor", "ceil", "trunc", "round", "exp", "sin", "cos",
                "tanh", "atan", "erf", "sigmoid", "isnan", "isinf", "isfinite", "reciprocal", "relu",
            )),
            *(f"torch.{name}(p)" for name in ("sqrt", "rsqrt", "log", "log2", "log10", "log1p")),
            *(f"torch.{name}(u)" for name in ("acos",)),
            *(f"torch.{name}(n)" for name in (
                "abs", "neg", "sign", "sin", "exp", "sigmoid", "tanh", "floor", "ceil", "trunc", "reciprocal", "relu",
                "round", "square", "isnan",
            )),
            "torch.exp(m)", "torch.round(x, decimals=1)", "torch.complex(x, p)", "torch.polar(p, x)",
            *(f"torch.{name}(z)" for name in (
                "abs", "angle", "neg", "exp", "sqrt", "conj", "real", "imag", "reciprocal",
            )),
            "torch.view_as_real(z)", "torch.view_as_complex(torch.stack([x, p], -1))", "torch.conj(z).resolve_conj()",
        ],
    ),
    "activations": (
        {"x": (3, 4), "y": (2, 4, 3), "w": torch.tensor([0.1, 0.2, 0.3, 0.4]), "v": torch.tensor([0.3])},
        [
            *(f"F.{call}" for call in (
                "leaky_relu(x, 0.1)", "leaky_relu(x)", "elu(x)", "elu(x, 0.5)", "selu(x)", "celu(x, 2.0)", "gelu(x)",
                "gelu(x, approximate='tanh')", "silu(x)", "mish(x)", "softplus(x)", "softplus(x, 2.0, 1.0)",
                "hardtanh(x, -0.5, 0.5)", "relu6(x * 5)", "hardsigmoid(x)", "hardswish(x)", "logsigmoid(x)",
                "glu(x, 1)", "softmax(x, 1)", "softmax(x, 0)", "softmax(x, 1, dtype=torch.float64)",
                "log_softmax(x, -1)", "threshold(x, 0.1, 5.0)", "hardshrink(x)", "softshrink(x)", "tanhshrink(x)",
                "softsign(x)", "relu(x)", "dropout(x, 0.5, False)", "dropout1d(y, 0.5, False)",
                "alpha_dropout(x, 0.5, False)", "feature_alpha_dropout(y, 0.5, False)", "sigmoid(x)",
                "normalize(x, dim=1)", "prelu(y, w)", "prelu(y, v)",
            )),
            "y + torch.sin(y * v) ** 2 / (v + 1e-9)",
        ],
    ),
    "products": (
        {"a": (3, 4), "b": (4, 2), "e": (2, 3, 4), "f": (2, 4, 3), "g": (3, 1, 2, 4), "h": (3, 4), "s": SEQUENCE,
         "w": (3, 8), "v": (4,), "t": (3,), "x": AUDIO, "y": AUDIO, "c": COMPLEX},
        [
            "F.linear(s, w, t)", "F.linear(s[0, 0], w)", "e @ b", "v @ b", "e @ v", "v @ v", "g @ f", "torch.bmm(e, f)",
            "torch.mm(a, b)", "torch.mv(a, v)", "torch.dot(v, v)", "torch.vdot(v, v)", "torch.outer(t, v)",
            "torch.addmm(b[0], a, b)", "torch.addmm(h[:, :2], a, b, beta=0.5, alpha=2)",
            "torch.baddbmm(e[:, :, :3], e, f)", "torch.baddbmm(v[:1], e, f, beta=0, alpha=0.25)",
            "torch.einsum('bct,bcs->bts', x, y)", "torch.einsum('bij->bji', x)",
            "torch.einsum('...ij,kj->...ik', s, w)", "F.cosine_similarity(a, h, dim=1)",
            "F.cosine_similarity(x, y, dim=2, eps=1e-2)",
        ],
    ),
    "norms and attention": (
        {"s": SEQUENCE, "x": AUDIO, "g": (8,), "b": (8,), "w": (4,), "v": (4,), "m": (4,), "q": (2, 2, 5, 4),
         "k": (2, 2, 6, 4), "l": (2, 2, 6, 3), "d": (5, 6), "h": HIDDEN, "n": torch.zeros(2, 5, dtype=torch.bool),
         "c": (4, 3, 2), "e": (4, 1, 1), "f": (1, 3, 1)},
        [
            "F.layer_norm(s, [8], g, b)", "F.layer_norm(s, [5, 8])", "F.layer_norm(s, [8], None, None, 1e-3)",
            "F.rms_norm(s, [8], g)", "F.rms_norm(s, [8], None, 1e-2)", "F.group_norm(x, 2, w, v)", "F.group_norm(x, 1)",
            "F.batch_norm(x, m, w.abs() + 0.5, w, v)", "F.batch_norm(x, m, w.abs() + 0.5)", "F.instance_norm(x)",
            "F.instance_norm(x, None, None, w, v)", "F.instance_norm(x, m, v.abs(), None, None, False)",
            "F.scaled_dot_product_attention(q, k, l)", "F.scaled_dot_product_attention(q, q, q, is_causal=True)",
            "F.scaled_dot_product_attention(q, k, l, d)", "F.scaled_dot_product_attention(q, k, l, scale=0.3)",
            "F.scaled_dot_product_attention(s, s, s, h[:, None, :].logical_not())",
            "F.scaled_dot_product_attention(s, s, s, n[:, None, :], scale=0.3)",
            "F.scaled_dot_product_attention(q[:, :, :, :3], l[:, :1], l[:, :1], enable_gqa=True)",
            "torch._weight_norm(c, e)", "torch._weight_norm(c, f, 1)", "torch.norm_except_dim(c, 2, 0)",
            "torch.norm_except_dim(c, 2, 2)", "torch.norm_except_dim(c, 2, -1)",
        ],
    ),
    "convolutions": (
        {"x": AUDIO, "w": (6, 4, 3), "b": (6,), "g": (6, 2, 3), "d": (4, 1, 3), "t": (4, 3, 4), "c": (3,), "p": PICTURE,
         "k": (6, 4, 3, 2), "s": (6, 4, 3, 3), "u": (4, 3, 4, 4)},
        [
            *(f"F.conv1d(x, w, b, {options})" for options in
              ("1", "2", "1, 1", "3, 2", "1, 2, 2", "2, 3, 3", "1, 'same'", "1, 'valid'", "1, 'same', 3")),
            "F.conv1d(x, w)", "F.conv1d(x, w[:, :, :2], b, 1, 'same')", "F.conv1d(x, g, None, 2, 1, 1, 2)",
            "F.conv1d(x, d, None, 1, 1, 2, 4)", "F.conv1d(x[0], w)",
            *(f"F.conv_transpose1d(x, t, c, {options})" for options in
              ("1", "2", "2, 1", "3, 1, 1", "2, 0, 1", "5", "2, 1, 0, 1, 2", "3, 2, 1, 1, 2")),
            "F.conv_transpose1d(x, t, None, 2, 1, 0, 2)", "F.conv_transpose1d(x, t, None, 2, 1, 0, 2, 2)",
            "F.conv_transpose1d(x[0], t)",
            *(f"F.conv2d(p, k, b, {options})" for options in ("1", "2", "[2, 1]", "1, [0, 1]", "1, 2, 2",
            "2, [1, 0], [1, 2]")),
            "F.conv2d(p, s, b, 1, 'same')", "F.conv2d(p, k[:, :2], None, 1, 1, 1, 2)",
            "F.conv_transpose2d(p, u, c, 2, 1)", "F.conv_transpose2d(p, u, None, [2, 1], [1, 0], [1, 0], 2)",
            "torch.convolution(x, w, b, [2], [1], [1], False, [0], 1)",
        ],
    ),
    "pooling": (
        {"x": AUDIO, "p": PICTURE},
        [
            *(f"F.avg_pool1d(x, {options})" for options in
              ("2", "3, 2, 1", "4, 3, 2", "3, 1, 1, False, False", "4, 3, 1, True", "4, 3, 1, True, False",
              "2, 2, 0, True", "2, 3, 1, True")),
            *(f"F.max_pool1d(x, {options})" for options in ("2", "3, 2", "3, 2, 1", "3, 1, 1, 2", "2, 2, 0, 1, True")),
            "F.avg_pool2d(p, 2)", "F.avg_pool2d(p, [3, 2], [2, 1], [1, 0])", "F.avg_pool2d(p, 2, 2, 0, False, True, 3)",
            "F.max_pool2d(p, 3, 2, 1)", *(f"F.adaptive_avg_pool1d(x, {n})" for n in (1, 3, 4, 15)),
            "F.adaptive_avg_pool2d(p, [1, 3])", "F.adaptive_max_pool1d(x, 4)", "F.adaptive_max_pool2d(p, [2, 3])",
        ],
    ),
    "padding and resizing": (
        {"x": AUDIO, "p": PICTURE, "n": torch.arange(4)},
        [
            *(f"F.pad(x, {options})" for options in
              ("[1, 2]", "[1, 2, 0, 1]", "[-1, 2]", "[2, 1], 'constant', 3.5", "[3, 2], 'reflect'",
              "[3, 2], 'replicate'",
               "[3, 2], 'circular'", "[0, 0]")),
            "F.pad(p, [1, 2, 2, 1], 'reflect')", "F.pad(p, [1, 2, 2, 1], 'replicate')",
            "F.pad(n, [1, 1], 'constant', 2.0)", "torch.constant_pad_nd(x, [1, 1], 0.5)",
            *(f"torch._C._nn.{name}(x, [2, 1])" for name in ("reflection_pad1d", "replication_pad1d")),
            *(f"torch._C._nn.{name}(p, [2, 1, 1, 1])" for name in ("reflection_pad2d", "replication_pad2d")),
            "t:torch._C._nn._pad_circular(x, [1, 2])",
            *(f"F.interpolate(x, {options})" for options in
              ("scale_factor=2.0", "size=20", "scale_factor=0.6", "size=7", "scale_factor=2.0, mode='linear'",
               "size=[11], mode='linear', align_corners=True", "scale_factor=1.7, mode='linear', align_corners=False",
               "size=31, mode='nearest-exact'", "scale_factor=0.5, mode='area'",
               "scale_factor=1.3, recompute_scale_factor=True", "size=1, mode='linear', align_corners=True")),
            *(f"F.interpolate(p, {options})" for options in
              ("scale_factor=2.0", "size=[9, 4]", "scale_factor=1.5, mode='bilinear'",
              "size=[9, 4], mode='nearest-exact'",
               "size=[9, 4], mode='bilinear', align_corners=True")),
            "F.pixel_shuffle(p, 2)",
        ],
    ),
    "spectra": (
        {"x": AUDIO, "s": (2, 40), "w": torch.hann_window(8)},
        [
            "torch.fft.rfft(x)", "torch.fft.irfft(torch.fft.rfft(x))",
            "torch.fft.irfft(torch.fft.rfft(x, norm='ortho'), n=15, norm='ortho')",
            "torch.fft.rfft(x, dim=1)",
            *(f"torch.stft(s, {options}, return_complex=True)" for options in
              ("8, 2, 8, w", "8, 3, 8, w, center=False", "16, 4, 8, w", "8, 2, 8, w, normalized=True",
               "8, 2, 8, w, onesided=False", "8, 2, 8, w, pad_mode='constant'")),
            "torch.stft(s[0], 8, 2, 8, w, return_complex=True)",
            "torch.istft(torch.stft(s, 8, 2, 8, w, return_complex=True), 8, 2, 8, w)",
            "torch.istft(torch.stft(s[0], 8, 2, 8, w, return_complex=True), 8, 2, 8, w, length=37)",
            "torch.istft(torch.stft(s, 8, 2, 8, w, normalized=True, return_complex=True), 8, 2, 8, w, normalized=True)",
        ],
    ),
    "reductions": (
        {"x": (2, 3, 4), "y": (2, 3, 4), "n": torch.tensor([[3, 1, 2], [5, 4, 7]]), "m": OTHER, "d": DISTINCT},
        [
            *(f"x.{name}({options})" for name in ("sum", "mean", "std", "var", "amax", "amin", "logsumexp")
              for options in ("1", "-1, keepdim=True", "[0, 2]", "[1, 2], keepdim=True")),
            *(f"x.{name}()" for name in ("sum", "mean", "std", "var", "max", "min", "amax", "prod", "argmax", "argmin",
                                         "norm", "all", "any")),
            *(f"n.{name}()" for name in ("sum", "prod", "max", "min", "argmax", "any", "all")),
            *(f"m.{name}" for name in ("sum()", "any()", "all()", "any(1)", "all(0, keepdim=True)", "sum(1)",
            "cumsum(0)")),
            *(f"x.{call}" for call in (
                "sum(1, dtype=torch.float64)", "std(unbiased=False)", "std(1, unbiased=False)",
                "std(1, unbiased=True, keepdim=True)", "var(1, False)", "var(1, False, True)",
                "std(dim=1, correction=0)", "std(-1, correction=1, keepdim=True)", "prod(1)", "cumsum(0)", "cumprod(2)",
                "norm(2.0, 1)", "norm(1, [1], True)", "norm(3.0, [1, 2])", "norm(2, dim=(1, 2), keepdim=True)",
                "argmax(1)", "argmin(-1, keepdim=True)", "mean([0, 1, 2])", "sum([])",
            )),
            "t:x.norm('fro')", "n.cumsum(0)", "torch.mean(n, dtype=torch.float32)", "torch.max(x, y)",
            "torch.min(x, y)", "torch.linalg.vector_norm(x, 2.0, [1])", "torch.linalg.vector_norm(x)",
            "torch.linalg.vector_norm(x, 0, 1)", "t:torch.linalg.vector_norm(x, inf, 1)",
            "F.normalize(x, p=1.0, dim=2)",
            *(f"d.{call}" for call in (
                "max(1)", "min(2, keepdim=True)", "sort()", "sort(1)", "sort(-1, descending=True)",
                "sort(stable=True, dim=1)",
            )),
        ],
    ),
    "views": (
        {"x": (2, 3, 4), "y": (2, 3, 4), "s": (4, 4)},
        [
            *(f"x[{index}]" for index in (
                "0", "-1", ":, 1", ":, -2:", "..., 1", ":, ::2", ":, 1:3, 2", "None", ":, None, 1", "..., :-1",
                ":, :100", "0, ..., 1:", ":, 3:2",
            )),
            *(f"x.{call}" for call in (
                "transpose(1, 2)", "transpose(-1, 0)", "permute(2, 0, 1)", "permute(0, -1, 1)", "reshape(6, 4)",
                "reshape(-1)", "reshape(2, -1)", "reshape_as(y)", "view(2, 12)", "view(-1, 4)", "view_as(y)",
                "flatten()", "flatten(1)", "flatten(0, 1)", "unsqueeze(1)", "unsqueeze(-1)", "unsqueeze(0).squeeze(0)",
                "unsqueeze(-1).squeeze()", "squeeze(0)", "expand(5, 2, 3, 4)", "unsqueeze(0).expand(3, -1, -1, -1)",
                "broadcast_to([5, 2, 3, 4])", "unfold(2, 2, 1)", "unfold(1, 2, 2)", "narrow(1, 1, 2)",
                "narrow(1, -2, 2)", "select(1, 2)", "unflatten(2, (2, 2))", "movedim(0, 2)", "movedim([0, 1], [2, 0])",
                "swapaxes(0, 1)", "sum(1, keepdim=True).expand_as(x)", "split(2, 1)", "split([1, 2], 1)",
                "split_with_sizes([1, 2], 1)", "chunk(2, 1)", "chunk(3, 2)", "chunk(5, 1)", "unbind(1)",
                "unsafe_chunk(2, 1)",
            )),
            "s.t()", "s[0].t()",
        ],
    ),
    "indices": (
        {"x": (2, 3, 4), "y": (2, 3, 4), "a": (3, 4), "b": (3, 4), "c": (2, 4), "i": INDEX, "p": PLACES, "m": THIRDS,
         "n": NUMBERS, "s": (4, 4)},
        [
            *(f"torch.{call}" for call in (
                "cat([x, y], 1)", "cat([x, y], -1)", "cat([x, y[:, :1]], 1)", "cat([x, torch.zeros(0)], 1)",
                "cat([n, a], 0)", "stack([x, y])", "stack([x, y], 2)", "stack([x, y], -1)", "tril(x)", "triu(x, 1)",
                "tril(x, -1)", "triu(s, 2)", "roll(x, 3)", "roll(x, [1, 2], [1, 2])", "roll(x, 1, 1)",
                "flip(x, [0, 2])", "tile(a, [2, 1])", "repeat_interleave(x, 2, 1)", "repeat_interleave(x, 3)",
                "repeat_interleave(a, torch.tensor([1, 0, 2]), 0)",
            )),
            "x.repeat(1, 2, 3)", "x.repeat(2, 1, 1, 1)", "x[:, [0, 2]]", "t:x[..., [0, 2, 1]]", "x[[0, 1], [2, 0]]",
            "x[:, [1, 0], [3, 2]]", "x[[0, 1], :, [2, 0]]", "x[:, :, [-1, 0]]", "a[i[:3]]", "a[:, i]",
            "a.index_select(1, i)", "a[i[None] % 3]", "a[i[:3], i[1:]]", "a.gather(1, p)", "a.gather(0, p[:2])",
            "a.scatter(1, p[:, :1], 5.0)", "a.scatter(0, p[:1], a + 1)", "a.scatter(1, p[:, :1], a)",
            "a.index_put([i[:2]], c)", "a.index_put([i[::3]], c, accumulate=True)",
            "a.index_put([m], torch.tensor(2.0))", "F.embedding(p, a)",
        ],
    ),
    "new tensors": (
        {"x": (2, 3)},
        [
            *(f"torch.{call}" for call in (
                "zeros(2, 3)", "ones(2, dtype=torch.long)", "full([2], 3)", "full([2, 1], 2.5)", "zeros_like(x)",
                "ones_like(x, dtype=torch.int32)", "full_like(x, 7)", "empty([2, 0])", "empty_like(x).zero_()",
                "arange(5)", "arange(1, 7, 2)", "arange(0.0, 1.0, 0.3)", "arange(3, dtype=torch.float)",
                "arange(5, 0, -2)", "linspace(0, 1, 5)", "linspace(-1, 1, 1)", "eye(3)", "eye(2, 4)",
                "tensor([1, 2, 3])", "tensor([[1.5, 2.0]])", "tensor(3)", "tensor(True)", "as_tensor([1, 2])",
                "scalar_tensor(2.0)", "hann_window(8)", "hann_window(7, periodic=False)", "hann_window(1)",
                "arange(x.size(1))", "zeros(x.size(0), 2)", "arange(70000)", "zeros(300, 300)",
                "zeros(x.shape[0] * 2, 1)", "ones_like(x)[0].sum()",
                "arange(x.size(1))[None, :] < torch.tensor([1, 2])[:, None]",
            )),
            "x.new_zeros(2)", "x.new_ones([2, 2])", "x.new_full([2], 3)", "x.new_empty([2, 0])",
            *(f"s:{call}" for call in (
                "x.size()", "x.numel()", "x.dim()", "x.size(-1)", "x.shape[0] + 1", "x.is_floating_point()",
                "torch.is_complex(x)", "len(x)", "x.dtype == torch.float32", "x.device.type", "x.is_cuda",
                "x.is_contiguous()", "torch.tensor(3).item()", "int(torch.tensor(3))", "float(torch.tensor(3))",
                "bool(torch.tensor(3))", "x.is_cpu", "x.is_nested",
            )),
        ],
    ),
}  # fmt: skip

VALUES = {
    "numbers": """
a = n + 2, n - 2, n * 3, n / 2, -n // 2, -n % 4, n // -2, n % -4, -n, n == 7, n != 7, n < 7, n <= 7, n > 7, n >= 7,
n & 3, n | 8, not n
b = r + 1.0, r - n, r * r, r / 2.0, r // 2.0, r % 2.0, r == 2.5, r < n, r ** 2.0, n ** 2, n ** -1, r ** 0.5, -r
c = math.floor(r), math.ceil(r), round(r), math.sqrt(r), math.exp(r), math.log(r), math.log(r, 2.0)
d = math.log10(r), math.sin(r), math.cos(r), math.tanh(r), math.isnan(r), math.isinf(r), abs(-r), abs(-n)
e = int(r), float(n), bool(n), str(n), min(n, 3), max(r, 3.0), min([3, n]), max([n, 8]), sum([n, 1]), int(True)
return a, b, c, d, e
""",
    "lists": """
items = [n, 1]
items.append(3)
items.extend([4, 5])
items.insert(1, 9)
items[0] = 6
last, first = items.pop(), items.pop(0)
items.reverse()
items.remove(3)
copied = items.copy()
copied.sort()
joined = items + [1]
joined += [2]
joined *= 2
del joined[0]
counts = joined.index(9), joined.count(1), len(joined), sum(joined), all([True, n > 1]), any([False, n > 8])
cleared = [1]
cleared.clear()
kept = [x, x]
same = items == joined, items != joined, 9 in items, [1] * 2, sorted([2, 1]), list((1, 2)), x is None, x is not None
return items, last, first, copied, joined, counts, cleared, same, items[1:], items[::-1], [i for i in range(9, 0, -2)]
""",
    "dicts": """
table = {'a': 1, 'b': n}
table['c'] = 3
more = table.setdefault('d', 4), table.get('e', 5), table.pop('a'), 'b' in table, len(table)
table.update({'f': 6})
copied = table.copy()
del copied['b']
total = 0
for key, value in table.items():
    total += value * len(key)
gone = copied.popitem()
copied.clear()
return list(table.keys()), list(table.values()), more, total, len(copied)
""",
    "text": """
name = 'size {} of {}'.format(n, 'x') + ', %d and %s' % (n, 'y')
parts = name.split(' ')
trimmed = ('  ' + name).strip(), name.upper(), name.lower(), name.replace('size', 'sizes'), name.startswith('s')
return name, parts, trimmed, name.endswith('y'), ' '.join(['a', 'b']), name == 'no', name != 'no', 'a' < 'b', name[2:4]
""",
    "tensors as numbers": """
m = torch.tensor([2, 3])
total = int(m.sum()), float(m.sum()), bool(m.any()), m.sum().item(), len(m)
return total, m[1] + n, torch.device('cpu').type, x.device == torch.device('cpu')
""",
}
"""Bodies of scripts with the inputs `x` (a tensor), `n` (a whole number) and `r` (a real one)."""

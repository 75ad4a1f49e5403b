"""Activations, products, norms and attention beside torch, scripted and traced."""

import pytest
import torch

from tests.torchscript.script_agreement import both, values

AUDIO, PICTURE, SEQUENCE, W1 = (2, 4, 15), (2, 4, 7, 6), (2, 5, 8), (6, 4, 3)
MASK = torch.tensor([[False, False, True, False, True], [False, False, False, False, True]])

CASES = [
    *(
        (f"F.{name}", [(3, 4)])
        for name in (
            "leaky_relu(x, 0.1)",
            "leaky_relu(x)",
            "elu(x)",
            "elu(x, 0.5)",
            "selu(x)",
            "celu(x, 2.0)",
            "gelu(x)",
            "gelu(x, approximate='tanh')",
            "silu(x)",
            "mish(x)",
            "softplus(x)",
            "softplus(x, 2.0, 1.0)",
            "hardtanh(x, -0.5, 0.5)",
            "relu6(x * 5)",
            "hardsigmoid(x)",
            "hardswish(x)",
            "logsigmoid(x)",
            "glu(x, 1)",
            "softmax(x, 1)",
            "softmax(x, 0)",
            "log_softmax(x, -1)",
            "threshold(x, 0.1, 5.0)",
            "hardshrink(x)",
            "softshrink(x)",
            "tanhshrink(x)",
            "softsign(x)",
            "softmin(x, 1)",
            "dropout(x, 0.5, False)",
            "normalize(x, dim=1)",
            "rrelu(x, 0.1, 0.3)",
            "relu(x)",
            "sigmoid(x)",
            "softmax(x, 1, dtype=torch.float64)",
        )
    ),
    ("F.prelu(x, y)", [(2, 4, 3), torch.tensor([0.1, 0.2, 0.3, 0.4])]),
    ("F.prelu(x, y)", [(2, 4, 3), torch.tensor([0.3])]),
    ("x + torch.sin(x * y) ** 2 / (y + 1e-9)", [AUDIO, (1, 4, 1)]),
    ("F.linear(x, y, z)", [SEQUENCE, (3, 8), (3,)]),
    ("F.linear(x, y)", [(8,), (3, 8)]),
    ("torch.addmm(x, y, z)", [(3,), (2, 4), (4, 3)]),
    ("torch.addmm(x, y, z, beta=0.5, alpha=2)", [(2, 3), (2, 4), (4, 3)]),
    ("torch.baddbmm(x, y, z)", [(2, 3, 3), (2, 3, 4), (2, 4, 3)]),
    ("torch.baddbmm(x, y, z, beta=0, alpha=0.25)", [(1,), (2, 3, 4), (2, 4, 3)]),
    ("x @ y", [(2, 3, 4), (4, 5)]),
    ("x @ y", [(4,), (4, 5)]),
    ("x @ y", [(2, 3, 4), (4,)]),
    ("x @ y", [(4,), (4,)]),
    ("x @ y", [(3, 1, 2, 4), (2, 4, 5)]),
    ("torch.bmm(x, y)", [(2, 3, 4), (2, 4, 5)]),
    ("torch.mm(x, y)", [(3, 4), (4, 2)]),
    ("torch.mv(x, y)", [(3, 4), (4,)]),
    ("torch.dot(x, y)", [(4,), (4,)]),
    ("torch.outer(x, y)", [(3,), (4,)]),
    ("torch.einsum('bct,bcs->bts', x, y)", [AUDIO, AUDIO]),
    ("torch.einsum('bij->bji', x)", [AUDIO]),
    ("torch.einsum('...ij,jk->...ik', x, y)", [SEQUENCE, (8, 2)]),
    ("torch.tensordot(x, y, dims=([1], [0]))", [(2, 3), (3, 4)]),
    ("torch.cdist(x, y)", [(3, 4), (2, 4)]),
    ("F.cosine_similarity(x, y, dim=1)", [(3, 4), (3, 4)]),
    ("F.bilinear(x, y, z)", [(2, 3), (2, 4), (5, 3, 4)]),
    ("F.pairwise_distance(x, y)", [(2, 3), (2, 3)]),
    ("F.layer_norm(x, [8], y, z)", [SEQUENCE, (8,), (8,)]),
    ("F.layer_norm(x, [5, 8])", [SEQUENCE]),
    ("F.layer_norm(x, [8], None, None, 1e-3)", [SEQUENCE]),
    ("F.group_norm(x, 2, y, z)", [AUDIO, (4,), (4,)]),
    ("F.group_norm(x, 4)", [PICTURE]),
    ("F.instance_norm(x)", [AUDIO]),
    ("F.instance_norm(x, None, None, y, z, True, 0.1, 1e-3)", [PICTURE, (4,), (4,)]),
    ("F.batch_norm(x, y, z.abs(), y, z)", [AUDIO, (4,), (4,)]),
    ("F.batch_norm(x, y, y.abs() + 1)", [PICTURE, (4,)]),
    ("F.rms_norm(x, [8], y)", [SEQUENCE, (8,)]),
    ("F.rms_norm(x, [8], None, 1e-3)", [SEQUENCE]),
    ("F.scaled_dot_product_attention(x, y, z)", [(2, 2, 5, 4), (2, 2, 6, 4), (2, 2, 6, 3)]),
    ("F.scaled_dot_product_attention(x, y, z, is_causal=True)", [(2, 5, 4), (2, 5, 4), (2, 5, 4)]),
    ("F.scaled_dot_product_attention(x, y, z, w)", [(2, 5, 4), (2, 6, 4), (2, 6, 4), (5, 6)]),
    ("F.scaled_dot_product_attention(x, x, x, y[:, None, :].logical_not())", [(2, 5, 4), MASK]),
    (
        "F.scaled_dot_product_attention(x, x, x, y[:, None, :], scale=0.3)",
        [(2, 5, 4), torch.zeros(2, 5, dtype=torch.bool)],
    ),
    ("torch._weight_norm(x, y)", [(4, 3, 2), (4, 1, 1)]),
    ("torch._weight_norm(x, y, 1)", [(4, 3, 2), (1, 3, 1)]),
    ("torch.norm_except_dim(x, 2, 0)", [(4, 3, 2)]),
    ("torch.norm_except_dim(x, 2, 2)", [(4, 3, 2)]),
]


@pytest.mark.parametrize(("source", "shapes"), CASES, ids=[f"{n}-{source}" for n, (source, _) in enumerate(CASES)])
def test_equals_torch(agree, source, shapes):
    inputs = values(0, *shapes)
    for module in both(source, inputs):
        agree(module, *inputs)

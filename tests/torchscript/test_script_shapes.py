"""Views, joining, new tensors and indices beside torch, scripted and traced."""

import pytest
import torch

from tests.torchscript.script_agreement import both, values

A, B, SQUARE, BATCH = (2, 3, 4), (2, 3, 4), (4, 4), (2, 5, 6)
INDEX, PLACES = torch.tensor([2, 0, 1, 2]), torch.tensor([[0, 2, 1, 0], [1, 1, 0, 2], [2, 0, 2, 1]])
WHOLE, MASK = torch.arange(12).reshape(3, 4), torch.arange(12).reshape(3, 4) % 3 == 0
COMPLEX = torch.complex(torch.arange(6.0).reshape(2, 3), torch.ones(2, 3))

CASES = [
    *(
        (f"x{index}", [A])
        for index in (
            "[0]",
            "[-1]",
            "[:, 1]",
            "[:, -2:]",
            "[..., 1]",
            "[:, ::2]",
            "[:, 1:3, 2]",
            "[None]",
            "[:, None, 1]",
            "[..., :-1]",
            "[1:]",
            "[:, :100]",
            "[0, ..., 1:]",
            "[:, 3:2]",
            "[:, [0, 2]]",
            "[..., [0, 2, 1]]",
            "[[0, 1], [2, 0]]",
            "[:, [1, 0], [3, 2]]",
            "[[0, 1], :, [2, 0]]",
            "[:, :, [-1, 0]]",
        )
    ),
    *(
        (f"x.{call}", [A])
        for call in (
            "transpose(1, 2)",
            "transpose(-1, 0)",
            "permute(2, 0, 1)",
            "permute(0, -1, 1)",
            "reshape(6, 4)",
            "reshape(-1)",
            "reshape(2, -1)",
            "view(2, 12)",
            "view(-1, 4)",
            "flatten()",
            "flatten(1)",
            "flatten(0, 1)",
            "unsqueeze(1)",
            "unsqueeze(-1)",
            "unsqueeze(0).squeeze(0)",
            "unsqueeze(-1).squeeze()",
            "squeeze(0)",
            "expand(5, 2, 3, 4)",
            "unsqueeze(0).expand(3, -1, -1, -1)",
            "unfold(2, 2, 1)",
            "unfold(1, 2, 2)",
            "narrow(1, 1, 2)",
            "select(1, 2)",
            "repeat(1, 2, 3)",
            "repeat(2, 1, 1, 1)",
            "roll(1, 1)",
            "roll([1, 2], [1, 2])",
            "roll(3)",
            "flip([1])",
            "flip([0, 2])",
            "contiguous()",
            "clone()",
            "detach()",
            "movedim(0, 2)",
            "diagonal(0, 1, 2)",
            "unflatten(2, (2, 2))",
            "mT",
            "sum(1, keepdim=True).expand_as(x)",
            "repeat_interleave(2, 1)",
            "repeat_interleave(3)",
            "cumsum(1)",
            "cumprod(2)",
            "swapaxes(0, 1)",
        )
    ),
    *(
        (f"torch.{call}", [A, B])
        for call in (
            "cat([x, y], 1)",
            "cat([x, y], -1)",
            "cat([x, y[:, :1]], 1)",
            "stack([x, y])",
            "stack([x, y], 2)",
            "stack([x, y], -1)",
            "chunk(x, 2, 1)",
            "chunk(x, 3, 2)",
            "chunk(x, 5, 1)",
            "split(x, 2, 1)",
            "split(x, [1, 2], 1)",
            "unbind(x, 1)",
            "tensor_split(x, 3, 2)",
            "cat([x, torch.zeros(0)], 1)",
            "hstack([x, y])",
            "vstack([x, y])",
            "diff(x)",
            "tril(x)",
            "triu(x, 1)",
            "tril(x, -1)",
            "broadcast_tensors(x, y[:1])",
            "movedim(x, 0, 1)",
            "diag_embed(x)",
        )
    ),
    ("x.t()", [SQUARE]),
    ("x.T", [SQUARE]),
    ("x.triu(2)", [SQUARE]),
    ("torch.diagonal(x)", [SQUARE]),
    ("torch.diagonal(x, 1)", [SQUARE]),
    ("torch.meshgrid(x, y, indexing='ij')", [(3,), (4,)]),
    ("torch.meshgrid(x, y, indexing='xy')", [(3,), (4,)]),
    ("torch.pixel_shuffle(x, 2)", [(1, 8, 2, 3)]),
    ("torch.view_as_real(x)", [COMPLEX]),
    ("torch.view_as_complex(x)", [(2, 3, 2)]),
    ("x.real", [COMPLEX]),
    ("x.imag", [COMPLEX]),
    ("torch.cat([x, y], 0)", [WHOLE, (3, 4)]),
    *(
        (call, [(3, 4), INDEX])
        for call in (
            "x[y[:3]]",
            "x[:, y]",
            "x.index_select(1, y)",
            "x[y[None] % 3]",
            "x[y[:3], y[1:]]",
            "torch.take_along_dim(x, y[None], 1)",
        )
    ),
    *(
        (call, [(3, 4), PLACES])
        for call in (
            "x.gather(1, y)",
            "x.gather(0, y[:2])",
            "torch.take_along_dim(x, y, 0)",
            "x.scatter(1, y[:, :1], 5.0)",
            "x.scatter(0, y[:1], x + 1)",
            "x.scatter_add(0, y, x)",
            "x.scatter(1, y[:, :1], x)",
        )
    ),
    *(
        (call, [(3, 4), MASK])
        for call in (
            "x[y]",
            "x.masked_select(y)",
            "x[y.any(1)]",
            "torch.where(y, x, 0.0)",
            "y.nonzero()",
            "torch.count_nonzero(y)",
        )
    ),
    ("x.index_add(0, y, z)", [(3, 4), torch.tensor([0, 2, 0]), (3, 4)]),
    ("x.index_fill(1, y, 2.0)", [(3, 4), torch.tensor([0, 3])]),
    ("x.index_copy(0, y, z)", [(3, 4), torch.tensor([0, 2]), (2, 4)]),
    ("x.index_put([y], z)", [(3, 4), torch.tensor([0, 2]), (2, 4)]),
    ("x.index_put([y], z, accumulate=True)", [(3, 4), torch.tensor([0, 0]), (2, 4)]),
    ("F.embedding(y, x)", [(3, 4), PLACES]),
    ("F.one_hot(x, 5)", [INDEX]),
    *(
        (call, [(2, 3)])
        for call in (
            "torch.zeros(2, 3)",
            "torch.ones(2, dtype=torch.long)",
            "torch.full([2], 3)",
            "torch.full([2, 1], 2.5)",
            "torch.zeros_like(x)",
            "torch.ones_like(x, dtype=torch.int32)",
            "torch.full_like(x, 7)",
            "x.new_zeros(2)",
            "x.new_ones([2, 2])",
            "x.new_full([2], 3)",
            "torch.arange(5)",
            "torch.arange(1, 7, 2)",
            "torch.arange(0.0, 1.0, 0.3)",
            "torch.arange(3, dtype=torch.float)",
            "torch.arange(5, 0, -2)",
            "torch.linspace(0, 1, 5)",
            "torch.linspace(-1, 1, 1)",
            "torch.logspace(0, 2, 3)",
            "torch.eye(3)",
            "torch.eye(2, 4)",
            "torch.tensor([1, 2, 3])",
            "torch.tensor([[1.5, 2.0]])",
            "torch.tensor(3)",
            "torch.tensor(True)",
            "torch.hann_window(8)",
            "torch.hann_window(7, periodic=False)",
            "torch.hamming_window(6)",
            "torch.blackman_window(6)",
            "torch.tril_indices(3, 3)",
            "torch.triu_indices(3, 4, 1)",
            "torch.arange(x.size(1))",
            "torch.zeros(x.size(0), 2)",
            "x.size()",
            "x.numel()",
            "x.dim()",
            "torch.arange(70000)",
            "torch.zeros(300, 300)",
            "x.shape[0] + 1",
            "x.size(-1)",
            "x.is_floating_point()",
            "torch.is_complex(x)",
            "torch.zeros(x.shape[0] * 2, 1)",
            "torch.ones_like(x)[0].sum()",
            "torch.arange(x.size(1))[None, :] < torch.tensor([1, 2])[:, None]",
        )
    ),
]
SCRIPT_ONLY = (
    "x.size()",
    "x.numel()",
    "x.dim()",
    "x.size(-1)",
    "x.shape[0] + 1",
    "x.is_floating_point()",
    "torch.is_complex(x)",
)
TRACE_ONLY = ("x[..., [0, 2, 1]]", "x.mT")


@pytest.mark.parametrize(("source", "shapes"), CASES, ids=[f"{n}-{source}" for n, (source, _) in enumerate(CASES)])
def test_equals_torch(agree, source, shapes):
    inputs = values(0, *shapes)
    kinds = "s" if source in SCRIPT_ONLY else "t" if source in TRACE_ONLY else "ts"
    for module in both(source, inputs, kinds=kinds):
        agree(module, *inputs)

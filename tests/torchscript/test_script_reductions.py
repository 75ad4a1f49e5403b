"""Reductions, norms and sorting beside torch, scripted and traced."""

import pytest
import torch

from tests.torchscript.script_agreement import both, values

X, WHOLE, MASK = (2, 3, 4), torch.tensor([[3, 1, 2], [5, 4, 7]]), torch.tensor([[True, False], [True, True]])
DISTINCT = torch.randperm(24, generator=torch.Generator().manual_seed(0)).reshape(2, 3, 4).float()

CASES = [
    *(
        (f"x.{name}({options})", [X])
        for name in ("sum", "mean", "std", "var", "amax", "amin", "logsumexp", "norm")
        for options in ("1", "-1, keepdim=True", "[0, 2]", "[1, 2], keepdim=True")
        if not (name == "norm" and options != "1")
    ),
    *(
        (f"x.{name}()", [X])
        for name in [
            "sum",
            "mean",
            "std",
            "var",
            "max",
            "min",
            "amax",
            "prod",
            "argmax",
            "argmin",
            "median",
            "norm",
            "all",
            "any",
        ]
    ),
    *((f"x.{name}()", [WHOLE]) for name in ["sum", "prod", "max", "min", "argmax", "any", "all"]),
    *((f"x.{name}()", [MASK]) for name in ["sum", "any", "all"]),
    ("x.any(1)", [MASK]),
    ("x.all(0, keepdim=True)", [MASK]),
    ("x.sum(1)", [MASK]),
    *(
        (f"x.{name}", [X])
        for name in (
            "sum(1, dtype=torch.float64)",
            "std(unbiased=False)",
            "std(1, unbiased=False)",
            "std(1, unbiased=True, keepdim=True)",
            "var(1, False)",
            "var(1, False, True)",
            "std(dim=1, correction=0)",
            "std(-1, correction=1, keepdim=True)",
            "prod(1)",
            "cumsum(0)",
            "norm(2.0, 1)",
            "norm(1, [1], True)",
            "norm(3.0, [1, 2])",
            "norm('fro')",
            "norm(2, dim=(1, 2), keepdim=True)",
            "argmax(1)",
            "argmin(-1, keepdim=True)",
            "mean([0, 1, 2])",
            "sum([])",
        )
    ),
    *(
        (f"x.{name}", [DISTINCT])
        for name in (
            "max(1)",
            "min(2, keepdim=True)",
            "max(0)",
            "sort()",
            "sort(1)",
            "sort(-1, descending=True)",
            "sort(stable=True, dim=1)",
            "argsort(1)",
            "argsort(1, True)",
            "topk(2)",
            "topk(2, 1)",
            "topk(2, 1, False)",
            "median(1)",
            "aminmax()",
            "aminmax(dim=1)",
        )
    ),
    ("torch.max(x, y)", [X, X]),
    ("torch.min(x, y)", [X, X]),
    ("torch.var_mean(x, 1)", [X]),
    ("torch.std_mean(x, [1, 2], False, True)", [X]),
    ("torch.linalg.vector_norm(x, 2.0, [1])", [X]),
    ("torch.linalg.vector_norm(x)", [X]),
    ("torch.linalg.vector_norm(x, inf, 1)", [X]),
    ("torch.linalg.norm(x, dim=1)", [X]),
    ("torch.linalg.norm(x, 1, 1)", [X]),
    ("torch.logsumexp(x, 1)", [X]),
    ("torch.cumsum(x, 0)", [WHOLE]),
    ("torch.cumsum(x, 0)", [MASK]),
    ("F.normalize(x, p=1.0, dim=2)", [X]),
    ("F.mse_loss(x, y)", [X, X]),
    ("F.l1_loss(x, y)", [X, X]),
    ("torch.mean(x, dtype=torch.float32)", [WHOLE]),
]


@pytest.mark.parametrize(("source", "shapes"), CASES, ids=[f"{n}-{source}" for n, (source, _) in enumerate(CASES)])
def test_equals_torch(agree, source, shapes):
    inputs = values(0, *shapes)
    kinds = "t" if "inf" in source or "'fro'" in source else "ts"
    for module in both(source, inputs, kinds=kinds):
        agree(module, *inputs)

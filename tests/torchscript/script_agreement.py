"""Comparison of the interpreter with torch on programs."""

import itertools
import linecache
import math
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch


def values(seed: int, *shapes: Any) -> list[torch.Tensor]:
    """Random tensors for shapes; tensors among them are not changed."""
    generator = torch.Generator().manual_seed(seed)
    return [shape if isinstance(shape, torch.Tensor) else torch.randn(shape, generator=generator) for shape in shapes]


def assert_same(theirs: Any, ours: Any, tolerance: float = 1e-5) -> None:
    """Assert that two results are equal, in structure, shapes, kinds of types, and numbers."""
    if isinstance(theirs, torch.Tensor):
        expected, found = theirs.detach().resolve_conj().numpy(), np.asarray(ours)
        assert found.shape == expected.shape
        assert found.dtype.kind == expected.dtype.kind
        if found.dtype.kind in "fc":
            scale = max(1.0, float(np.abs(expected[np.isfinite(expected)]).max(initial=0)))
            np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * scale)
        else:
            np.testing.assert_array_equal(found, expected)
    elif isinstance(theirs, (list, tuple)):
        assert len(theirs) == len(ours)
        for one, other in zip(theirs, ours, strict=True):
            assert_same(one, other, tolerance)
    elif isinstance(theirs, dict):
        assert list(theirs) == list(ours)
        for key in theirs:
            assert_same(theirs[key], ours[key], tolerance)
    elif isinstance(theirs, float):
        assert ours == pytest.approx(theirs, rel=tolerance, abs=tolerance)
    else:
        assert ours == theirs


def inputs_of(tensors: Sequence[Any]) -> list[Any]:
    """Torch tensors as numpy arrays that torch does not change."""
    return [value.detach().numpy().copy() if isinstance(value, torch.Tensor) else value for value in tensors]


_count = itertools.count()


def scripted(source: str, arguments: str = "x") -> torch.jit.ScriptModule:
    """A scripted module whose forward has the body `source`, or returns it."""
    return scripted_methods({"forward": source}, arguments)


def scripted_methods(sources: Mapping[str, str], arguments: str = "x") -> torch.jit.ScriptModule:
    """A scripted module whose methods have these bodies, or return these expressions."""
    text = "class Script(torch.nn.Module):\n"
    for name, source in sources.items():
        body = source if "\n" in source or source.startswith("return") else f"return {source}"
        lines = "\n".join(f"        {line}" for line in body.strip("\n").split("\n"))
        text += f"    @torch.jit.export\n    def {name}(self, {arguments}):\n{lines}\n"
    # torch.jit reads the source of what it compiles, so this must look like a file.
    file = f"<script {next(_count)}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    scope: dict[str, Any] = {"torch": torch, "math": math, "F": torch.nn.functional, "__name__": "scripts"}
    scope |= {name: getattr(typing, name) for name in ("Any", "Dict", "List", "Optional", "Tuple")}
    exec(compile(text, file, "exec"), scope)
    return torch.jit.script(scope["Script"]().eval())


def made_of(source: str, inputs: Mapping[str, torch.Tensor], kind: str) -> torch.jit.ScriptModule:
    """A module that computes the expression `source` of its inputs: scripted, or traced if `kind` is `t`."""
    if kind == "s":
        return scripted(source, ", ".join(inputs))

    class Expression(torch.nn.Module):
        def forward(self, *args: torch.Tensor) -> Any:
            scope = {"torch": torch, "F": torch.nn.functional, "inf": float("inf")}
            return eval(source, scope | dict(zip(inputs, args, strict=True)))

    with torch.no_grad():
        return torch.jit.trace(Expression(), tuple(v.clone() for v in inputs.values()), check_trace=False)

"""Fixtures that run programs with torch and with the interpreter."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch

from jaxvoice.torchscript import Function, function
from jaxvoice.torchscript.operators import Operator
from jaxvoice.weights.formats import open_archive
from tests.torchscript.layer_models import with_code
from tests.torchscript.script_agreement import assert_same, inputs_of, scripted


@pytest.fixture(autouse=True)
def _jit_is_deprecated():
    """Ignore torch's deprecation warnings for TorchScript."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit\..*", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        yield


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Function]:
    """Save a torch module or script and return its interpreted method."""
    count = iter(range(1000))

    def loaded(module: Any, path: str = "", method: str = "forward") -> Function:
        file = tmp_path / f"module{next(count)}.pt"
        torch.jit.save(module, file)
        with open_archive(file) as archive:
            return function(archive, path, method)  # type: ignore[arg-type]

    return loaded


@pytest.fixture
def trace() -> Callable[..., Any]:
    """Trace a torch module in evaluation mode."""

    def traced(module: torch.nn.Module, *inputs: Any) -> Any:
        with torch.no_grad():
            return torch.jit.trace(module.eval(), inputs, check_trace=False)

    return traced


@pytest.fixture
def assert_agreement(load: Callable[..., Function]) -> Callable[..., Function]:
    """Assert that torch and the interpreter agree on a script or trace, under `jax.jit` where asked."""

    def check(module: Any, *tensors: Any, jit: bool = False, tolerance: float = 1e-5, **named: Any) -> Function:
        run = load(module)
        ours = (jax.jit(run) if jit else run)(run.weights, *inputs_of(tensors), **named)
        with torch.no_grad():
            assert_same(module(*(t.clone() if isinstance(t, torch.Tensor) else t for t in tensors)), ours, tolerance)
        return run

    return check


@pytest.fixture
def run_code(tmp_path: Path) -> Callable[..., Any]:
    """Run a forward method with these lines, which torch may not have written."""

    def run(body: str, *, jit: bool = False) -> Any:
        made, changed = tmp_path / "made.pt", tmp_path / "changed.pt"
        torch.jit.save(scripted("return x"), made)
        lines = "".join(f"    {line}\n" for line in f"{body}\nreturn x".split("\n"))

        def change(text: str) -> str:
            return text[: text.index("    return x")] + lines

        with open_archive(with_code(made, change, changed)) as archive:
            method = function(archive)  # type: ignore[arg-type]
        return (jax.jit(method) if jit else method)({}, np.ones(1, np.float32))

    return run


@pytest.fixture
def operators(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the operators that are run."""
    names: list[str] = []
    call = Operator.__call__

    def counted(self: Operator, *args: Any) -> Any:
        names.append(self.name)
        return call(self, *args)

    monkeypatch.setattr(Operator, "__call__", counted)
    return names

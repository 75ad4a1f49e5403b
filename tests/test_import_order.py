"""Packages import only packages below them."""

import ast
from pathlib import Path

import pytest

import jaxvoice

PACKAGE = Path(jaxvoice.__file__).parent
ORDER = ["cli", "pipelines", "inspection", "torchscript", "weights"]
"""A package of this list may import those after it."""


def imported(folder: Path) -> dict[str, Path]:
    """Names of packages of the library that files below `folder` import, each with one of these files."""
    found = {}
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for parts in (module.split(".") for module in modules):
                if parts[0] == "jaxvoice" and len(parts) > 1:
                    found[parts[1]] = file
    return found


@pytest.mark.parametrize("package", ORDER)
def test_no_package_imports_one_above_it(package):
    found = imported(PACKAGE / package)
    above = ORDER[: ORDER.index(package)]
    assert package in found, "relative imports would not be seen"
    assert not {name: str(found[name]) for name in above if name in found}

"""Imports point one way: packages import packages below them, and no file imports itself through others.

Imports inside functions and below `if TYPE_CHECKING` count.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import jaxvoice

PACKAGE = Path(jaxvoice.__file__).parent
ORDER = (
    *("cli", "pipelines", "models", "training", "losses", "dissect", "inspection", "torchscript", "nn", "data", "text"),
    *("dsp", "weights", "text_tables", "console", "config", "errors", "_lazy", "_version"),
)
"""A package or file of this list may import those after it."""
FILES = sorted(PACKAGE.rglob("*.py"))
FAMILY_INDEPENDENT = (
    *(f"jaxvoice.models.{name}" for name in ("family", "family_lookup", "checkpoint_layout")),
    *(f"jaxvoice.pipelines.{name}" for name in ("importing", "exporting", "comparing", "import_report")),
    *(f"jaxvoice.pipelines.{name}" for name in ("folders", "sources", "mel_vocoder", "argument_checks")),
    *(f"jaxvoice.cli.{name}" for name in ("import_weights", "export", "compare", "inspect", "vocode")),
)
"""Modules that use models of every family through `FAMILIES`."""
FAMILIES = sorted(path.name for path in (PACKAGE / "models").iterdir() if (path / "training.py").is_file())


def module_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(file): file for file in FILES}


def imports_of(file: Path) -> Iterator[str]:
    """The modules of the library that a file imports, at any place in it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import, which this test does not follow"
            for alias in node.names:
                below = f"{node.module}.{alias.name}"
                yield below if below in MODULES else str(node.module)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


IMPORTS = {
    module: sorted({name for name in imports_of(file) if name in MODULES and name != "jaxvoice"})
    for module, file in MODULES.items()
}


def level(module: str) -> int:
    return ORDER.index(module.split(".")[1])


def test_import_order_contains_every_package():
    names = {module.split(".")[1] for module in MODULES if "." in module} - {"__main__"}
    assert names == set(ORDER)


@pytest.mark.parametrize("package", ORDER)
def test_packages_import_packages_below_them_only(package):
    upward = [
        f"{module} imports {name}"
        for module, names in IMPORTS.items()
        for name in names
        if module.split(".")[1:2] == [package] and level(name) < level(module)
    ]
    assert not upward


@pytest.mark.parametrize("family", FAMILIES)
def test_families_import_no_training_code_of_other_families(family):
    others = {f"jaxvoice.models.{other}.training" for other in FAMILIES if other != family}
    own = [module for module in IMPORTS if module.startswith(f"jaxvoice.models.{family}")]
    assert own and not [f"{module} imports {name}" for module in own for name in IMPORTS[module] if name in others]


@pytest.mark.parametrize("module", FAMILY_INDEPENDENT)
def test_family_independent_modules_import_no_family(module):
    reached, remaining = set(), [module]
    while remaining:
        name = remaining.pop()
        if name not in reached:
            reached.add(name)
            remaining += IMPORTS[name]
    families = {f"jaxvoice.models.{family}" for family in FAMILIES}
    assert not {name for name in reached if ".".join(name.split(".")[:3]) in families | {"jaxvoice.pipelines"}}


def test_imports_have_no_cycles():
    """A package with lazy imports does not count as an import of its modules."""
    done: set[str] = set()

    def follow(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module not in done:
            for name in IMPORTS[module]:
                follow(name, (*path, module))
            done.add(module)

    for module in MODULES:
        follow(module, ())


def test_vocoder_training_imports_no_text_to_speech():
    program = "import sys, experiments.hifigan_l40; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    found = [
        name for name in done.stdout.split() if "gaussian_tts" in name or name.startswith("jaxvoice.pipelines.syn")
    ]
    assert "jaxvoice.models.hifigan.training" in done.stdout.split() and not found, found


def test_experiments_import_no_cli():
    files = sorted((PACKAGE.parent / "experiments").rglob("*.py"))
    imports = {file.name: [name for name in imports_of(file) if name.startswith("jaxvoice.cli")] for file in files}
    assert len(files) > 20 and not any(imports.values()), imports

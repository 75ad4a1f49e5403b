"""Imports point one way: packages import packages below them, and no file imports itself through others.

Imports inside functions and below `if TYPE_CHECKING` count. An import of a name that a package imports lazily counts as
an import of the module that defines the name.
"""

import ast
import functools
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import pytest

import jaxvoice
from jaxvoice import models

PACKAGE = Path(jaxvoice.__file__).parent
ORDER = (
    *("cli", "pipelines", "models", "training", "losses", "dissect", "inspection", "torchscript", "nn", "data", "text"),
    *("dsp", "weights", "text_tables", "console", "config", "errors", "_lazy", "_version"),
)
"""A package or file of this list may import those after it."""
FILES = sorted(PACKAGE.rglob("*.py"))
OF_A_FAMILY = {
    *(
        f"jaxvoice.pipelines.{name}"
        for name in (
            *("aligner", "teacher_forcing", "rave_arguments", "rave_session", "vits_arguments", "vits_converter"),
            *("xtts_speech", "xtts_voice"),
        )
    ),
    *(f"jaxvoice.cli.{name}" for name in ("speak", "align", "teacher_force")),
    # Packages that import their modules lazily, and the list of the commands.
    *("jaxvoice.pipelines", "jaxvoice.cli", "jaxvoice.cli._main"),
}
"""The modules of `pipelines` and `cli` that may use a specific family, besides the pipelines of `FAMILIES`.

All others use families through `FAMILIES`."""
FAMILIES = sorted(path.name for path in (PACKAGE / "models").iterdir() if (path / "training.py").is_file())
TRAINING = ("training", "warm_start", "validation")
"""The modules of a family that other families must not import."""
Graph = Mapping[str, list[str]]


def module_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(file): file for file in FILES}


def lazy_names(module: str, text: str) -> dict[str, str]:
    """The names that a package imports lazily, and the module that each is imported from."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "lazy_imports":
            table = ast.literal_eval(node.args[2])
            return {name: f"{module}.{below}" for below, names in table.items() for name in names}
    return {}


LAZY = {
    module: lazy_names(module, file.read_text(encoding="utf-8"))
    for module, file in MODULES.items()
    if file.stem == "__init__"
}


def defining_module(module: str, name: str) -> str:
    """The module that `from module import name` imports in the end."""
    if f"{module}.{name}" in MODULES:
        return f"{module}.{name}"
    lazy = LAZY.get(module, {})
    return defining_module(lazy[name], name) if name in lazy else module


def imports_of(text: str) -> Iterator[str]:
    """The modules that a source text imports, at any place in it, and the package `jaxvoice` where it is named."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import, which this test does not follow"
            for alias in node.names:
                found = defining_module(str(node.module), alias.name)
                yield found
                if node.module == "jaxvoice" and found != f"jaxvoice.{alias.name}":
                    yield "jaxvoice"
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def modules_imported_by(text: str) -> list[str]:
    """The modules of the package that a source text imports, sorted."""
    return sorted({imported for imported in imports_of(text) if imported in MODULES})


@functools.cache
def import_graph() -> Graph:
    """The imports of every module."""
    return {name: modules_imported_by(file.read_text(encoding="utf-8")) for name, file in MODULES.items()}


def graph_with(module: str, line: str) -> Graph:
    """The imports of every module, with those of one more `line` in `module`."""
    text = MODULES[module].read_text(encoding="utf-8")
    return {**import_graph(), module: modules_imported_by(f"{text}\n{line}\n")}


PIPELINES = {defining_module(*family.pipeline.split(":")) for family in models.FAMILIES}


def level(module: str) -> int:
    return ORDER.index(module.split(".")[1])


def package_of(module: str) -> str:
    return ".".join(module.split(".")[:3])


def upward_imports(graph: Graph) -> list[str]:
    """Imports of packages above, and of `jaxvoice` itself in packages below `cli`."""
    return [
        f"{module} imports {name}"
        for module, names in graph.items()
        if module not in ("jaxvoice", "jaxvoice.__main__")
        for name in names
        if (level(module) > 0 if name == "jaxvoice" else level(name) < level(module))
    ]


def foreign_training(graph: Graph) -> list[str]:
    """Imports of another family's training code."""
    packages = {f"jaxvoice.models.{family}" for family in FAMILIES}
    code = {f"{package}.{name}" for package in packages for name in TRAINING}
    return [
        f"{module} imports {name}"
        for module, names in graph.items()
        for name in names
        if package_of(module) in packages and name in code and package_of(name) != package_of(module)
    ]


def families_imported(graph: Graph, exceptions: Collection[str] = OF_A_FAMILY | PIPELINES) -> list[str]:
    """The modules of `pipelines` and `cli` that reach a family or its pipeline, though they serve all families."""
    forbidden = {f"jaxvoice.models.{family}" for family in FAMILIES}
    forbidden |= PIPELINES | {"jaxvoice.pipelines"}
    found = []
    for module in graph:
        if module.startswith(("jaxvoice.pipelines", "jaxvoice.cli")) and module not in exceptions:
            reached, remaining = set(), [module]
            while remaining:
                name = remaining.pop()
                if name not in reached:
                    reached.add(name)
                    remaining += graph[name]
            found += [f"{module} reaches {name}" for name in sorted(reached) if {name, package_of(name)} & forbidden]
    return found


def cycles(graph: Graph) -> list[str]:
    """Paths of imports from a module to itself."""
    done: set[str] = set()
    found = []

    def follow(module: str, path: tuple[str, ...]) -> None:
        if module in path:
            found.append(" -> ".join((*path[path.index(module) :], module)))
        elif module not in done:
            for name in graph[module]:
                if name != "jaxvoice":
                    follow(name, (*path, module))
            done.add(module)

    for module in graph:
        follow(module, ())
    return found


def test_import_order_contains_every_package():
    names = {module.split(".")[1] for module in MODULES if "." in module} - {"__main__"}
    assert names == set(ORDER)


def test_packages_import_packages_below_them_only():
    assert not upward_imports(import_graph())


@pytest.mark.parametrize("family", FAMILIES)
def test_families_import_no_training_code_of_other_families(family):
    own = {name: found for name, found in import_graph().items() if package_of(name) == f"jaxvoice.models.{family}"}
    assert len(own) > 3 and not foreign_training(own)


def test_family_independent_modules_import_no_family():
    assert not families_imported(import_graph())
    needed = {line.split()[0] for line in families_imported(import_graph(), exceptions=())}
    assert needed == OF_A_FAMILY | PIPELINES


def test_imports_have_no_cycles():
    assert not cycles(import_graph())


@pytest.mark.parametrize(
    ("violations", "module", "line", "found"),
    [
        (upward_imports, "weights.rules", "from jaxvoice.nn import Linear", "weights.rules imports jaxvoice.nn"),
        (upward_imports, "weights.rules", "from jaxvoice import load", "weights.rules imports jaxvoice.pipelines"),
        (upward_imports, "weights.rules", "from jaxvoice import MelConfig", "weights.rules imports jaxvoice.dsp"),
        (upward_imports, "training.loop", "import jaxvoice", "training.loop imports jaxvoice"),
        (upward_imports, "pipelines.folders", "from jaxvoice import open_archive", "folders imports jaxvoice"),
        (upward_imports, "data.store", "def f():\n    import jaxvoice.models.family", "imports jaxvoice.models.family"),
        (
            foreign_training,
            "models.gaussian_tts.networks",
            "from jaxvoice.models.hifigan import HiFiGANTask",
            "networks imports jaxvoice.models.hifigan.training",
        ),
        (
            foreign_training,
            "models.gaussian_tts.training",
            "from jaxvoice.models.hifigan.warm_start import initial_state",
            "training imports jaxvoice.models.hifigan.warm_start",
        ),
        (
            foreign_training,
            "models.hifigan.training",
            "from jaxvoice.models.gaussian_tts import validation",
            "training imports jaxvoice.models.gaussian_tts.validation",
        ),
        (
            families_imported,
            "pipelines.exporting",
            "from jaxvoice.pipelines.hifigan_vocoder import HiFiGANVocoder",
            "exporting reaches jaxvoice.pipelines.hifigan_vocoder",
        ),
        (
            families_imported,
            "pipelines.exporting",
            "from jaxvoice.pipelines import Synthesizer",
            "exporting reaches jaxvoice.pipelines.synthesizer",
        ),
        (
            families_imported,
            "cli.inspect",
            "from jaxvoice.models.hifigan import Generator",
            "inspect reaches jaxvoice.models.hifigan.generator",
        ),
        (cycles, "errors", "from jaxvoice.config import from_dict", "jaxvoice.config -> jaxvoice.errors"),
        (cycles, "data.store", "from jaxvoice.data import CropBatch", "jaxvoice.data.batches -> jaxvoice.data.store"),
    ],
)
def test_violations_are_found(violations, module, line, found):
    assert any(found in one for one in violations(graph_with(f"jaxvoice.{module}", line)))


def test_vocoder_training_imports_no_text_to_speech():
    program = "import sys, experiments.hifigan_l40; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    found = [
        name for name in done.stdout.split() if "gaussian_tts" in name or name.startswith("jaxvoice.pipelines.syn")
    ]
    assert "jaxvoice.models.hifigan.training" in done.stdout.split() and not found, found


def test_experiments_import_no_cli():
    files = sorted((PACKAGE.parent / "experiments").rglob("*.py"))
    imports = {
        file.name: [name for name in imports_of(file.read_text(encoding="utf-8")) if name.startswith("jaxvoice.cli")]
        for file in files
    }
    assert len(files) > 20 and not any(imports.values()), imports

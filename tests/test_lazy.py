"""Lazy imports of packages: type checkers see all names, and jax is not imported unnecessarily."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

NOTHING = "nothing"
PACKAGES = [
    "jaxvoice",
    "jaxvoice.data",
    "jaxvoice.dissect",
    "jaxvoice.dsp",
    "jaxvoice.models.conformer",
    "jaxvoice.models.gaussian_tts",
    "jaxvoice.models.hifigan",
    "jaxvoice.models.hifivc",
    "jaxvoice.models.rave",
    "jaxvoice.models.speaker_encoder",
    "jaxvoice.models.vits",
    "jaxvoice.models.waveglow",
    "jaxvoice.models.xtts",
    "jaxvoice.models.xtts_dvae",
    "jaxvoice.pipelines",
    "jaxvoice.text",
    "jaxvoice.torchscript",
    "jaxvoice.training",
    "jaxvoice.weights",
]
IMPORTED_AT_ONCE = [
    "jaxvoice.data.alignments",
    "jaxvoice.data.demo",
    "jaxvoice.losses",
    "jaxvoice.models",
    "jaxvoice.nn",
]


def shown_to_type_checkers(package: str) -> dict[str, str]:
    """The names that the package imports below `if TYPE_CHECKING`, with their modules."""
    tree = ast.parse(Path(importlib.import_module(package).__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    return {name.asname: node.module for node in block.body for name in node.names}


@pytest.mark.parametrize("package", PACKAGES)
def test_lazy_names_equal_those_of_their_modules(package):
    module, names = importlib.import_module(package), shown_to_type_checkers(package)
    assert names
    for name, home in names.items():
        assert getattr(module, name) is getattr(importlib.import_module(home), name)
        assert name in dir(module)
    homes = {submodule.rpartition(".")[2] for submodule in names.values()}
    assert not homes & set(names), "a submodule of the same name would hide what it defines"


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_export_public_names_only(package):
    module, exported = importlib.import_module(package), {}
    listed = {name for name in dir(module) if not name.startswith("_")}
    assert listed == shown_to_type_checkers(package).keys()
    exec(f"from {package} import *", exported)
    assert exported.keys() - {"__builtins__"} == listed


@pytest.mark.parametrize("package", IMPORTED_AT_ONCE)
def test_eager_packages_list_public_names(package):
    module, exported = importlib.import_module(package), {}
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    names = {name.asname for node in tree.body if isinstance(node, ast.ImportFrom) for name in node.names} - {None}
    names = names or {"FAMILIES"}
    assert {name for name in dir(module) if not name.startswith("_")} == names
    exec(f"from {package} import *", exported)
    assert exported.keys() - {"__builtins__"} == names


@pytest.mark.parametrize("package", PACKAGES)
def test_unknown_names_raise_attribute_errors(package):
    with pytest.raises(AttributeError, match=f"'{package}' has no attribute 'nothing'"):
        getattr(importlib.import_module(package), NOTHING)


def test_configurations_import_no_jax():
    code = (
        "import sys; from jaxvoice.dsp import MelConfig; from jaxvoice.models.hifigan import preset; "
        "import jaxvoice.weights; MelConfig(), preset('v3'); "
        "print({'jax', 'equinox', 'librosa', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

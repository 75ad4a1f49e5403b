"""The family of docs/adding_a_model.md, written from the code on the page and used as any other."""

import importlib
import re
import sys
from pathlib import Path

import pytest

import experiments
import jaxvoice
from jaxvoice import models, pipelines

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "adding_a_model.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^`([\w/.]+\.py)`[^\n]*:\n\n```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL))
(LIST,) = re.findall(r"^```python\n(_PACKAGES = .*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
TEST = "tests/models/frame_vocoder/test_frame_vocoder.py"


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    """The module of the page's tests, with the family's files importable and the family in the list."""
    place = tmp_path_factory.mktemp("checkout")
    for name, text in FILES.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text, encoding="utf-8")
    before = models.FAMILIES
    with pytest.MonkeyPatch.context() as patch:
        for package, folder in [(models, "jaxvoice/models"), (pipelines, "jaxvoice/pipelines")]:
            patch.setattr(package, "__path__", [*package.__path__, str(place / folder)])
        patch.setattr(experiments, "__path__", [*experiments.__path__, str(place / "experiments")])
        patch.syspath_prepend(str((place / TEST).parent))
        found: dict[str, tuple[str, ...]] = {}
        exec(LIST, found)
        patch.setattr(models, "_PACKAGES", found["_PACKAGES"])
        patch.setattr(models, "FAMILIES", before)
        del models.FAMILIES
        yield importlib.import_module(Path(TEST).stem)
    for name in [name for name in sys.modules if "frame_vocoder" in name]:
        del sys.modules[name]
    for package in (models, pipelines, experiments):
        vars(package).pop("frame_vocoder", None)
    assert before == models.FAMILIES


def test_the_page_lists_its_files():
    listed = re.findall(r"^\| `([\w/.]+)` \|", PAGE, flags=re.MULTILINE)
    assert sorted(listed) == sorted(FILES) and len(FILES) <= 12


def test_the_list_gets_one_line():
    lines = (Path(jaxvoice.__file__).parent / "models" / "__init__.py").read_text(encoding="utf-8").splitlines()
    assert [line for line in LIST.splitlines() if line not in lines] == ['    "frame_vocoder",']


def test_configurations_come_without_jax():
    assert not [
        name
        for name in ("config.py", "family.py")
        if "\nimport jax\n" in FILES[f"jaxvoice/models/frame_vocoder/{name}"]
    ]


def test_shapes(family):
    family.test_the_table_of_shapes_is_that_of_the_network()


def test_import(family, tmp_path):
    family.test_an_imported_model_computes_what_the_original_computes(tmp_path)


def test_training(family, tmp_path):
    family.test_a_trained_model_is_loaded_exported_and_compared(tmp_path)


def test_every_test_of_the_page_is_run():
    assert len(re.findall(r"^def test_", FILES[TEST], flags=re.MULTILINE)) == 3

"""README and documentation: commands, links, presets, examples and API pages agree with the code."""

import ast
import importlib
import inspect
import pkgutil
import re
import textwrap
from pathlib import Path

import jax
import numpy as np
import pytest
from jax import numpy as jnp

import jaxvoice
from jaxvoice.cli._main import _COMMANDS as COMMANDS
from jaxvoice.dissect import BendingConfig
from jaxvoice.models.hifigan import PRESETS, GeneratorConfig
from jaxvoice.models.rave import TrainedRave
from jaxvoice.pipelines import Rave

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted((ROOT / "docs").rglob("*.md"))
FENCED = re.compile(r"^```.*?^```", flags=re.MULTILINE | re.DOTALL)
ENTRIES = [
    entry
    for page in PAGES
    for entry in re.findall(r"^::: (\S+)$", FENCED.sub("", page.read_text(encoding="utf-8")), flags=re.MULTILINE)
]
COMMAND_LINE = "jaxvoice.cli"
OPERATORS = "jaxvoice.torchscript.operators"  # `register_operator`, which users call, is a name of jaxvoice.torchscript
PACKAGES = [
    "jaxvoice",
    *(
        found.name
        for found in pkgutil.walk_packages(jaxvoice.__path__, "jaxvoice.")
        if found.ispkg and found.name not in (COMMAND_LINE, OPERATORS)
    ),
]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def quick_start() -> list[str]:
    section = README.split("\n## Quick start\n")[1].split("\n## ")[0]
    assert section.count("```") == 2
    return blocks(section, "bash")[0].splitlines()


def test_quick_start_has_two_commands():
    first, second = quick_start()
    assert first.endswith("python -m experiments.hifigan_l40") and "'.[demo]'" in first
    assert second.endswith("python -m pytest -n 2") and "'.[dev]'" in second
    assert first.split()[3] != second.split()[3], "each creates another environment"


def test_index_page_has_the_commands_of_the_readme():
    given = [
        line
        for block in blocks((ROOT / "docs" / "index.md").read_text(encoding="utf-8"), "bash")
        for line in block.splitlines()
    ]
    assert set(quick_start()) <= set(given)


def test_links_of_the_readme_exist():
    targets = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert len(targets) > 5
    assert [link for link in targets if not (ROOT / link.split("#")[0]).exists()] == []


def test_table_of_presets_equals_the_presets():
    text = (ROOT / "docs" / "sample_rates.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip(" `") for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| `")
    ]
    expected = [
        [
            name,
            f"{config.mel.sample_rate}",
            f"{config.mel.num_mels}",
            f"{config.mel.hop_length}",
            f"{config.mel.upper_frequency:.0f} Hz",
            f"{config.segment_size}",
        ]
        for name, config in PRESETS.items()
    ]
    assert [row[:6] for row in rows] == expected


def test_example_of_a_configuration_runs():
    found: dict = {}
    exec(blocks((ROOT / "docs" / "sample_rates.md").read_text(encoding="utf-8"), "python")[0], found)
    assert found["config"].mel.hop_length == 320


@pytest.mark.slow
def test_example_of_intermediate_results_runs(capsys):
    page = (ROOT / "docs" / "model.md").read_text(encoding="utf-8")
    construction, capture = (block for block in blocks(page, "python") if "generator" in block)
    assert 'preset("v1").generator' in construction
    small = GeneratorConfig(upsample_initial_channel=16, resblock_kernel_sizes=(3,), resblock_dilation_sizes=((1,),))
    found: dict = {"small": small}
    exec(construction.replace('preset("v1").generator', "small"), found)
    exec(capture, found)
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        "ups.0 (192, 8)",
        "resblocks.0 (192, 8)",
        "ups.1 (1536, 4)",
        "ups.2 (3072, 2)",
        "ups.3 (6144, 1)",
    ]
    assert found["audio"].shape == (6144, 1) and found["batch"].shape == (1, 6144, 1)
    assert abs(found["audio"] - found["without_first_block"]).max() > 0


@pytest.mark.slow
def test_examples_of_dissection_run(tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs" / "dissect.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    found: dict = {}
    for block in blocks(page, "python"):
        exec(block, found)
    printed = capsys.readouterr().out
    assert "encoder.encoder.net.21" in printed and "28 rows" in printed
    assert abs(found["audio_again"] - found["decode"](found["rave"], found["z"])).max() < 1e-5
    assert abs(found["bent"] - found["plain"]).max() > 0
    assert found["sound"].shape == found["audio"].shape[:1]
    assert BendingConfig.load("bending.json") == found["bending"]


def examples_of_streaming() -> list[str]:
    """Those that need neither a microphone nor a model."""
    page = (ROOT / "docs" / "streaming.md").read_text(encoding="utf-8")
    examples = [block for block in blocks(page, "python") if "microphone" not in block]
    assert ["nn.Stream(" in block for block in examples] == [True, False]
    return examples


def test_example_of_a_stream_runs(capsys):
    found: dict = {}
    exec(examples_of_streaming()[0], found)
    assert capsys.readouterr().out == "7 0 4\n"
    # The last block of the offline layers on the signal, 7 positions later.
    signal = jax.random.normal(jax.random.key(1), (5, 16, 2)).reshape(80, 2)
    first, second = found["layers"]
    expected = second(first(jnp.pad(signal, ((7, 0), (0, 0)))))[16:20]
    assert found["output"].shape == (4, 4)
    np.testing.assert_allclose(found["output"], expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_example_of_a_stream_of_rave_runs(capsys):
    found: dict = {}
    exec(examples_of_streaming()[1], found)
    network = found["network"]
    assert int(capsys.readouterr().out) == Rave(TrainedRave(network, found["state"]), network.config).latency
    assert found["audio"].shape == (2048, 1) and np.isfinite(found["audio"]).all()


TUTORIAL = "adding_a_model.md"  # its files import each other: see test_adding_a_model.py


@pytest.mark.parametrize("path", [ROOT / "README.md", *PAGES], ids=lambda path: path.name)
def test_imports_of_examples_exist(path: Path):
    if path.name == TUTORIAL:
        return
    missing = []
    for block in blocks(path.read_text(encoding="utf-8"), "python"):
        tree = ast.parse(textwrap.dedent(block))
        for node in tree.body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                try:
                    exec(compile(ast.Module([node], []), str(path), "exec"), {})
                except ImportError as failure:
                    missing.append(f"{ast.unparse(node)}: {failure}")
    assert not missing


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_code_of_a_page_is_at_most_120_characters_wide(path: Path):
    """The style sheet makes pages wide enough for so many characters in a window of 1400 pixels."""
    text = path.read_text(encoding="utf-8")
    indented = re.findall(r"^    .+$", FENCED.sub("", text), flags=re.MULTILINE)
    lines = [line for block in FENCED.findall(text) for line in block.splitlines()] + indented
    assert not [line for line in lines if len(line.rstrip()) > 120]


def test_page_of_the_command_line_shows_every_command():
    page = (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\S+)$", page, flags=re.MULTILINE) == list(COMMANDS)
    assert re.findall(r"jaxvoice (\S+) --help", page) == ["COMMAND", *COMMANDS]


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    names = [path.relative_to(ROOT / "docs").as_posix() for path in PAGES]
    assert [name for name in names if f": {name}\n" not in navigation] == []


def documented(entry: str) -> object:
    """The object of an entry of an API page; a module if a module and a function have the same name."""
    try:
        return importlib.import_module(entry)
    except ModuleNotFoundError:
        module, _, name = entry.rpartition(".")
        return getattr(importlib.import_module(module), name)


def public_names(package: str) -> dict[str, object]:
    """The public names of `package`, which it imports as `from ... import name as name`, by full name."""
    module = importlib.import_module(package)
    imports = [node for node in ast.walk(ast.parse(inspect.getsource(module))) if isinstance(node, ast.ImportFrom)]
    names = {alias.name for node in imports for alias in node.names if alias.name == alias.asname}
    return {f"{package}.{name}": getattr(module, name) for name in names if not name.startswith("_")}


def test_every_entry_of_the_api_pages_exists():
    assert len(ENTRIES) > 150
    for entry in ENTRIES:
        assert documented(entry) is not None, entry
    assert sorted({entry for entry in ENTRIES if ENTRIES.count(entry) > 1}) == []


def test_every_public_name_is_on_an_api_page():
    shown = [documented(entry) for entry in ENTRIES]
    names = {name: found for package in PACKAGES for name, found in public_names(package).items()}
    assert len(names) > 150
    assert sorted(name for name, found in names.items() if not any(found is other for other in shown)) == []

"""README and documentation against the code: commands, links, presets, examples."""

import ast
import re
import textwrap
from pathlib import Path

import pytest

from jaxvoice.models.hifigan import PRESETS, GeneratorConfig

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted((ROOT / "docs").rglob("*.md"))


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def quick_start() -> list[str]:
    section = README.split("\n## Quick start\n")[1].split("\n## ")[0]
    assert section.count("```") == 2
    return blocks(section, "bash")[0].splitlines()


def test_quick_start_is_two_commands():
    first, second = quick_start()
    assert first.endswith("python -m experiments.hifigan_l40") and "'.[demo]'" in first
    assert second.endswith("python -m pytest -n 2") and "'.[dev]'" in second
    assert first.split()[3] != second.split()[3], "each makes an environment of its own"


def test_documentation_gives_the_same_commands():
    given = [
        line
        for block in blocks((ROOT / "docs" / "index.md").read_text(encoding="utf-8"), "bash")
        for line in block.splitlines()
    ]
    assert set(quick_start()) <= set(given)


def test_readme_links_to_files_that_exist():
    targets = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert len(targets) > 5
    assert [link for link in targets if not (ROOT / link.split("#")[0]).exists()] == []


def test_table_of_presets():
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


@pytest.mark.parametrize("path", [ROOT / "README.md", *PAGES], ids=lambda path: path.name)
def test_examples_import_what_exists(path: Path):
    for block in blocks(path.read_text(encoding="utf-8"), "python"):
        tree = ast.parse(textwrap.dedent(block))
        imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        exec(compile(ast.Module(imports, []), str(path), "exec"), {})


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    names = [path.relative_to(ROOT / "docs").as_posix() for path in PAGES]
    assert [name for name in names if f": {name}\n" not in navigation] == []

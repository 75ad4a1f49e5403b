"""The family of docs/adding_a_model.md, written from the code on the page into a copy of the checkout."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jaxvoice import models

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "adding_a_model.md").read_text(encoding="utf-8")
BLOCK = r"```\w+\n(.*?)^```"
FILES = dict(re.findall(rf"^`([\w/.]+\.(?:py|md))`[^\n]*:\n\n{BLOCK}", PAGE, flags=re.MULTILINE | re.DOTALL))
LINES = dict(re.findall(rf"^The line in `([\w/.]+)`:\n\n{BLOCK}", PAGE, flags=re.MULTILINE | re.DOTALL))
"""The files that families share, and the lines around the new one."""
COPIED = ("jaxvoice", "experiments", "docs", "mkdocs.yml")
OWN = "tests/models/frame_vocoder"
SHARED = ("tests/models/test_family.py", "tests/test_import_order.py", "tests/test_docs.py")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the checkout with the files and lines of the page."""
    place = tmp_path_factory.mktemp("checkout")
    unused = shutil.ignore_patterns("__pycache__", "fixtures", "golden")
    for name in (*COPIED, "tests"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, place / name, **({"ignore": unused} if copy is shutil.copytree else {}))
    for entry in ROOT.iterdir():
        if not (place / entry.name).exists():
            (place / entry.name).symlink_to(entry)
    for name, text in FILES.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text, encoding="utf-8")
    for name, block in LINES.items():
        before, added = new_line(name)
        text = (place / name).read_text(encoding="utf-8")
        assert block.count(before) == text.count(before) == 1
        (place / name).write_text(text.replace(before, before + added), encoding="utf-8")
    return place


def new_line(name: str) -> tuple[str, str]:
    """The line that the page adds to a file, after the line before it."""
    lines = LINES[name].splitlines(keepends=True)
    known = (ROOT / name).read_text(encoding="utf-8").splitlines(keepends=True)
    (added,) = [number for number, line in enumerate(lines) if line not in known]
    return lines[added - 1], lines[added]


def test_the_page_lists_its_files():
    listed = re.findall(r"^\| `([\w/.]+)` \|", PAGE, flags=re.MULTILINE)
    assert sorted(listed) == sorted(FILES) and len(FILES) <= 12


def test_two_shared_files_get_one_line_each():
    assert {name: new_line(name)[1].strip() for name in LINES} == {
        "jaxvoice/models/__init__.py": '"frame_vocoder",',
        "mkdocs.yml": "- Frame vocoder: api/frame_vocoder.md",
    }


def test_configurations_come_without_jax():
    assert not [
        name
        for name in ("config.py", "family.py")
        if "\nimport jax\n" in FILES[f"jaxvoice/models/frame_vocoder/{name}"]
    ]


@pytest.mark.slow
def test_tests_pass_with_the_family(checkout):
    # The tests of other families passed or failed outside this copy.
    others = " or ".join(family.name for family in models.FAMILIES)
    chosen = ["-k", f"frame_vocoder or not ({others})"]
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", *chosen, OWN, *SHARED]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    passed = re.findall(r"^(\S+?)::(\S+) PASSED", done.stdout, flags=re.MULTILINE)
    own = re.findall(r"^def (test_\w+)", FILES[f"{OWN}/test_frame_vocoder.py"], flags=re.MULTILINE)
    assert len(own) == 3 and {name for file, name in passed if file.startswith(OWN)} == set(own)
    assert {file for file, name in passed if "frame_vocoder]" in name} == set(SHARED[:2])

"""Hostile files are refused with the expected message, and their code is not executed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxvoice.errors import CheckpointError
from jaxvoice.weights.formats import open_archive
from tests.weights.formats.forge import FLOATS, sound
from tests.weights.formats.hostile import CASES, MARKER
from tests.weights.formats.measuring import watched

ROOT = Path(__file__).parents[3]
SOUND = sound()


def test_hostile_cases_are_numerous():
    assert len(CASES) > 300


def test_watched_detects_file_accesses():
    with watched() as seen:
        os.listdir()
        Path(__file__).read_bytes()
    assert [event.split()[0] for event in seen] == ["os.listdir", "open"]


@pytest.mark.parametrize(
    "title", [pytest.param(title, marks=[pytest.mark.slow] * case.costly) for title, case in CASES.items()]
)
def test_hostile_files_are_refused(title, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    case = CASES[title]
    file = tmp_path / "file.pt"
    file.write_bytes(case.make())
    with pytest.raises(CheckpointError, match=case.says) as caught, watched() as seen:
        archive = open_archive(file)
        assert case.read
        archive.tensors["weight"]
    assert str(caught.value).startswith(str(file)) and str(caught.value).endswith(".")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 600
    assert not seen and not (tmp_path / MARKER).exists()


@pytest.mark.parametrize("title", list(SOUND))
def test_truncated_files_are_refused(title, tmp_path):
    whole = SOUND[title]
    file = tmp_path / "file.pt"
    # What follows a tar file's two blocks of zeros fills it up; whether that is there makes no difference.
    length = len(whole.rstrip(b"\0")) if title.startswith("nemo") and "gz" not in title else len(whole)
    for cut in sorted({length * percent // 100 for percent in range(100)} | {length - 1}):
        file.write_bytes(whole[:cut])
        with pytest.raises(CheckpointError):
            open_archive(file)


@pytest.mark.parametrize("title", list(SOUND))
def test_sound_files_are_read(title, tmp_path):
    (tmp_path / "file").write_bytes(SOUND[title])
    with open_archive(tmp_path / "file") as archive:
        np.testing.assert_array_equal(archive.tensors["weight"], np.frombuffer(FLOATS, "<f4").reshape(2, 3))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured by /proc")
def test_hostile_files_are_refused_within_200_mb_and_one_second(tmp_path):
    """One second for files of up to 2 MB, and a quarter for each further megabyte, as stated in `limits`."""
    program = [sys.executable, "-m", "tests.weights.formats.measuring", str(tmp_path)]
    results = json.loads(subprocess.run(program, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
    assert results.keys() == CASES.keys()
    for title, result in results.items():
        allowed = min(4.5, 1 + max(0, result["size"] / 2**20 - 2) / 4)
        assert result["seconds"] < allowed and result["grown"] < 200 * 2**20, (title, result)

"""Files that mean harm are refused, each for its own reason, and nothing that they name ever runs."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxvoice.errors import CheckpointError
from jaxvoice.weights.reading import open_archive
from tests.weights.reading.forge import FLOATS, sound
from tests.weights.reading.hostile import CASES, MARKER

ROOT = Path(__file__).parents[3]
SOUND = sound()


@pytest.mark.parametrize("title", list(CASES))
def test_it_is_refused(title, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    case = CASES[title]
    file = tmp_path / "file.pt"
    file.write_bytes(case.make())
    with pytest.raises(CheckpointError, match=case.says) as caught:
        archive = open_archive(file)
        assert case.read
        archive.tensors["weight"]
    assert str(caught.value).startswith(str(file)) and str(caught.value).endswith(".")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 600
    assert not (tmp_path / MARKER).exists()


@pytest.mark.parametrize("title", list(SOUND))
def test_cut_anywhere_it_is_refused(title, tmp_path):
    whole = SOUND[title]
    file = tmp_path / "file.pt"
    # What follows a tar file's two blocks of zeros fills it up; whether that is there makes no difference.
    length = len(whole.rstrip(b"\0")) if title.startswith("nemo") and "gz" not in title else len(whole)
    for cut in sorted({length * percent // 100 for percent in range(100)} | {length - 1}):
        file.write_bytes(whole[:cut])
        with pytest.raises(CheckpointError):
            open_archive(file)


@pytest.mark.parametrize("title", list(SOUND))
def test_the_sound_files_are_read(title, tmp_path):
    (tmp_path / "file").write_bytes(SOUND[title])
    with open_archive(tmp_path / "file") as archive:
        np.testing.assert_array_equal(archive.tensors["weight"], np.frombuffer(FLOATS, "<f4").reshape(2, 3))


def _measured(folder: Path) -> dict[str, dict]:
    """What `measuring.py` found in a process of its own."""
    program = [sys.executable, "-m", "tests.weights.reading.measuring", str(folder)]
    return json.loads(subprocess.run(program, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured by /proc")
def test_nothing_but_the_file_is_touched(tmp_path):
    for title, result in _measured(tmp_path).items():
        # Gzipped files are unpacked to a temporary file, whose folder is opened for it.
        touched = {event for event in result["seen"] if not event.endswith(("/file.pt", "/tmp"))}
        assert result["outcome"] in ("CheckpointError", "RefusedError") and not touched, (title, result)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured by /proc")
def test_each_takes_a_second_and_200_mb_at_most(tmp_path):
    results = _measured(tmp_path)
    assert len(results) == len(CASES) >= 40
    for title, result in results.items():
        assert result["seconds"] < 1 and result["grown"] < 200 * 2**20, (title, result)

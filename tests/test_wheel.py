"""The wheel works in a new environment without the checkout."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from jaxvoice import __version__
from jaxvoice.models.hifigan.family import FAMILY
from jaxvoice.weights import named_arrays, write_torch
from tests.pipelines.conftest import loud_generator, small_config

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    pytest.importorskip("hatchling", reason="the wheel is built with hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    program = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(program, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def programs(wheel, tmp_path_factory) -> Path:
    """The `bin` folder of a new environment that contains the wheel and refers to the installed dependencies."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    install = [scripts / "python", "-m", "pip", "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, capture_output=True, env=surroundings())
    # Python does not read .pth files in a folder that a .pth file adds, so an editable install is not found.
    (site_packages,) = folder.glob("**/site-packages")
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site_packages / "dependencies.pth").write_text("\n".join(sorted(paths)), encoding="utf-8")
    return scripts


def surroundings() -> dict[str, str]:
    """The environment variables without those that would make Python import the checkout."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "JAXVOICE"))}


@pytest.fixture
def run(programs, tmp_path):
    def run(program: str, *arguments: object) -> str:
        variables = surroundings() | {"JAXVOICE_CACHE": str(tmp_path / "cache"), "JAX_PLATFORMS": "cpu"}
        command = [programs / program, *map(str, arguments)]
        done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_wheel_contains_only_the_package(wheel):
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = (path for path in (ROOT / "jaxvoice").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    assert found == {path.relative_to(ROOT).as_posix() for path in files}


def test_imported_package_is_the_installed_one(run, programs):
    code = "import importlib.metadata, jaxvoice; print(jaxvoice.__file__, importlib.metadata.version('jaxvoice'))"
    file, version = run("python", "-c", code).split()
    assert Path(file).is_relative_to(programs.parent) and version == __version__
    assert run("python", "-c", "import jaxvoice.text as text; print(*text.text_to_phonemes('hello'))").split()


def test_installed_commands_run(run, tmp_path):
    config = small_config()
    generator = loud_generator(config)
    arrays = {name: np.asarray(array) for name, array in named_arrays(generator).items()}
    write_torch(tmp_path / "g_00000001", {"generator": arrays})
    FAMILY.save_network(tmp_path / "model", generator, config)
    samples = np.sin(np.arange(4000) / 5).astype(np.float32) / 2
    soundfile.write(tmp_path / "speech.wav", samples, 8000)

    help_text = run("jaxvoice", "--help")
    assert all(verb in help_text for verb in ("inspect", "vocode", "import", "export"))
    parameters = sum(array.size for array in arrays.values())
    assert f"{len(arrays)} tensors, {parameters:,} parameters" in run("jaxvoice", "inspect", "g_00000001")
    run("jaxvoice", "vocode", "speech.wav", "out.wav", "--model", "model")
    audio, rate = soundfile.read(tmp_path / "out.wav")
    assert (rate, audio.shape) == (8000, (4000,)) and np.abs(audio).max() > 0.01

"""Exported programs run in JAX or ONNX Runtime without jaxvoice, and compute what jaxvoice computes."""

import importlib
import json
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax import export

from jaxvoice import models
from jaxvoice.cli import main
from jaxvoice.errors import CheckpointError, ConfigError, MissingExtraError
from jaxvoice.models import rave as rave_models
from jaxvoice.models.hifigan import generator_stream
from jaxvoice.models.hifigan.family import FAMILY as HIFIGAN
from jaxvoice.pipelines import HiFiGANVocoder, Rave
from jaxvoice.pipelines.program_export import export_program, export_stream
from tests.models.rave.small import CONFIGS
from tests.pipelines.conftest import loud_generator, small_config

pytest.importorskip("flatbuffers")

HOST = """
import json, sys
import jax, numpy as np
from jax import export

folder, blocks, output = sys.argv[1:]
about = json.load(open(f"{folder}/stream.json"))
step = jax.jit(export.deserialize(bytearray(open(f"{folder}/step.jax", "rb").read())).call)
arrays = np.load(f"{folder}/state.npz")
state = [arrays[str(i)] for i in range(len(arrays.files))]
audio = []
for block in np.load(blocks):
    state, y = step(state, block.reshape(about["block"]["shape"]))
    audio.append(np.asarray(y))
np.save(output, np.concatenate(audio, -2))
assert not [name for name in sys.modules if name.startswith(("jaxvoice", "equinox"))]
"""


@pytest.fixture(scope="module")
def vocoder(tmp_path_factory):
    """A model folder of HiFi-GAN."""
    config = small_config()
    folder = tmp_path_factory.mktemp("hifigan") / "model"
    HIFIGAN.save_network(folder, loud_generator(config), config)
    return folder


@pytest.fixture(scope="module")
def mel():
    return np.random.default_rng(0).normal(-5, 2, (48, 8)).astype(np.float32)


def save_rave(folder, name="v2"):
    config = CONFIGS[name]
    rave_models.FAMILY.save_network(folder, rave_models.FAMILY.build(config, key=jax.random.key(0)), config)
    return config


def run_host(folder, blocks, tmp_path):
    """The output of the host program in a process of its own, which imports neither jaxvoice nor Equinox."""
    np.save(tmp_path / "blocks.npy", blocks)
    host = tmp_path / "host.py"
    host.write_text(HOST, encoding="utf-8")
    command = [sys.executable, str(host), str(folder), str(tmp_path / "blocks.npy"), str(tmp_path / "y.npy")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return np.load(tmp_path / "y.npy")


@pytest.mark.slow
def test_host_without_jaxvoice_streams_hifigan(vocoder, mel, tmp_path, capsys):
    assert main(["export", str(vocoder), "--to", str(tmp_path / "stream"), "--block", "8"]) == 0
    about = json.loads((tmp_path / "stream" / "stream.json").read_text(encoding="utf-8"))
    assert about["output"]["shape"] == [128, 1] and about["config"]["mel"]["sample_rate"] == 8000
    assert "blocks [8, 8] to [128, 1]" in capsys.readouterr().out
    found = run_host(tmp_path / "stream", mel.reshape(6, 8, 8), tmp_path)[:, 0]
    delay = about["output_delay"]
    expected = HiFiGANVocoder.load(vocoder).synthesize(mel.T, check=False)
    assert delay == generator_stream(loud_generator(small_config())).output_delay
    assert not np.any(found[:delay])
    np.testing.assert_allclose(found[delay:], expected[: len(found) - delay], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_host_without_jaxvoice_streams_rave(tmp_path):
    config = save_rave(tmp_path / "model", "noise")
    hop = config.hop_length
    assert main(["export", str(tmp_path / "model"), "--to", str(tmp_path / "stream"), "--block", str(4 * hop)]) == 0
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, 12 * hop).astype(np.float32)
    found = run_host(tmp_path / "stream", audio.reshape(3, 4 * hop), tmp_path)[:, 0]
    session = Rave.load(tmp_path / "model").stream()
    expected = np.concatenate([session(block) for block in np.split(audio, 4)])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("platforms", [("cpu",), ("cpu", "cuda", "tpu")])
def test_jax_programs_compute_the_network(vocoder, mel, tmp_path, platforms):
    to = tmp_path / "vocoder.jax"
    found = export_program(vocoder, to, "jax", length=48, platforms=platforms)
    assert found.inputs == {"mel": (48, 8)} and found.outputs == [(768, 1)] and found.difference < 1e-5
    program = export.deserialize(bytearray(to.read_bytes()))
    assert program.platforms == platforms
    (audio,) = program.call(mel)
    expected = HiFiGANVocoder.load(vocoder).synthesize(mel.T, check=False)
    np.testing.assert_allclose(audio[:, 0], expected, rtol=0, atol=1e-5)
    about = json.loads((tmp_path / "vocoder.jax.json").read_text(encoding="utf-8"))
    assert about["inputs"]["mel"] == {"shape": [48, 8], "dtype": "float32"} and about["config"]["mel"]["n_fft"] == 64


def save_small(family, folder):
    config = importlib.import_module(f"tests.models.{family.name}.small").SMALL
    family.save_network(folder, family.build(config, key=jax.random.key(0)), config)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("family", models.FAMILIES, ids=lambda family: family.name)
def test_networks_of_all_families_are_exported(family, tmp_path):
    folder = save_small(family, tmp_path / "model")
    assert export_program(folder, tmp_path / "x.jax", "jax").difference < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("family", models.FAMILIES, ids=lambda family: family.name)
@pytest.mark.filterwarnings("ignore")  # of jax2onnx
def test_networks_of_all_families_are_exported_to_onnx(family, tmp_path):
    for package in ("jax2onnx", "onnxruntime"):
        pytest.importorskip(package)
    folder = save_small(family, tmp_path / "model")
    assert export_program(folder, tmp_path / "x.onnx", "onnx").difference < 1e-4


def test_missing_packages_and_invalid_arguments_raise(vocoder, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'jaxvoice\[onnx\]'"):
        export_program(vocoder, tmp_path / "x.onnx", "onnx")
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'jaxvoice\[export\]'"):
        export_program(vocoder, tmp_path / "x.jax", "jax")
    monkeypatch.undo()
    with pytest.raises(ConfigError, match=r"platforms are \['gpu'\]; they should be some of cpu, cuda"):
        export_program(vocoder, tmp_path / "x.jax", "jax", platforms=("gpu",))
    with pytest.raises(ConfigError, match="length is 0; it should be at least 1"):
        export_program(vocoder, tmp_path / "x.jax", "jax", length=0)
    assert not list(tmp_path.iterdir())
    (tmp_path / "x.jax.json").write_text("{}", encoding="utf-8")
    with pytest.raises(CheckpointError, match=re.escape(f"{tmp_path / 'x.jax.json'} exists")):
        export_program(vocoder, tmp_path / "x.jax", "jax")
    stream = generator_stream(loud_generator(small_config()))
    with pytest.raises(ConfigError, match="block is 0; it should be a positive multiple of 1"):
        export_stream(stream, tmp_path / "stream", block=0)
    (tmp_path / "stream").mkdir()
    with pytest.raises(CheckpointError, match="exists; choose another folder"):
        export_stream(stream, tmp_path / "stream", block=1)
    for arguments, message in (
        (["--to", "x.npz", "--length", "4"], "--length is 4; it is only for --format jax and onnx"),
        (["--to", "x.npz", "--platforms", "cuda", "tpu"], "--platforms is cuda tpu; it is only for --format jax and"),
        (["--to", "x.onnx", "--platforms", "cuda"], "--platforms is cuda; it is only for --format jax and --block"),
        (["--to", "x", "--block", "4", "--format", "onnx"], "--format onnx is given with --block"),
    ):
        assert main(["export", str(vocoder), *arguments]) != 0
        assert message in capsys.readouterr().err

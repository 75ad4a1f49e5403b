"""The notebooks run from top to bottom. Those that need no trained model are stored without outputs."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import pytest

from jaxvoice.dsp import PitchConfig
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.models.gaussian_tts import (
    DecoderConfig,
    DurationConfig,
    EncoderConfig,
    GaussianTTS,
    GaussianTTSConfig,
)
from jaxvoice.models.hifivc import FAMILY as HIFIVC
from jaxvoice.models.xtts_dvae import FAMILY as XTTS_DVAE, CodecNetwork
from jaxvoice.text.phonemes import ALIGNED
from tests.models.gaussian_tts.small import save_model
from tests.models.hifivc.small import SMALL, random_network as random_converter
from tests.models.xtts_dvae.small import SMALL as DVAE
from tests.pipelines.small_xtts import write_small_xtts
from tests.random_networks import random_network

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
STORED = {
    ROOT / "docs" / "notebooks" / "voice_conversion.ipynb": 3,
    ROOT / "docs" / "notebooks" / "xtts.ipynb": 4,
}
"""Notebooks whose outputs are stored, because their models are trained for a quarter of an hour or longer, and the
numbers of their pictures."""

# A separate process isolates the warnings and the event loop of Jupyter. The kernel runs this Python, even if another
# kernel named python3 is installed.
_EXECUTE = """
import sys
import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

source, target = sys.argv[1:]
kernel = AsyncKernelManager(kernel_name="python3")
kernel.kernel_spec.argv[0] = sys.executable
notebook = nbformat.read(source, as_version=4)
nbformat.write(NotebookClient(notebook, km=kernel, timeout=1200).execute(), target)
"""


def code_cells(path: Path) -> list[dict[str, Any]]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_notebooks_contain_no_outputs():
    assert [path.name for path in NOTEBOOKS] == [
        *("archive.ipynb", "frozen_encoder.ipynb", "hifigan_bending.ipynb", "rave.ipynb", "rave_dissection.ipynb"),
        *("tts.ipynb", "vits.ipynb", "vocoder.ipynb", *(path.name for path in STORED)),
    ]
    for path in NOTEBOOKS:
        if path not in STORED:
            assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code_cells(path))


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_stored_outputs_are_complete_and_small(path: Path):
    cells = code_cells(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert all(output["output_type"] != "error" and output.get("name") != "stderr" for output in outputs)
    assert sum("image/png" in output.get("data", {}) for output in outputs) == STORED[path]
    assert path.stat().st_size < 700_000


def test_the_documentation_shows_stored_outputs():
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    names = ", ".join(f'"{path.name}"' for path in STORED)
    assert re.search(rf"^ +execute_ignore: \[{names}, ", settings, flags=re.MULTILINE)


def executed(
    name: str, folder: Path, *, edits: Mapping[str, str] | None = None, **variables: str
) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """The text and the displayed data of the notebook, run with the environment `variables`.

    `edits` replaces texts of its code, such as a number of steps.
    """
    content = (ROOT / "docs" / "notebooks" / name).read_text(encoding="utf-8")
    for before, after in (edits or {}).items():
        assert content.count(before) == 1
        content = content.replace(before, after)
    (folder / name).write_text(content, encoding="utf-8")
    models = ("JAXVOICE_MODEL", "JAXVOICE_SPEECH", "JAXVOICE_CONVERTER", "JAXVOICE_RAVE")
    models += ("JAXVOICE_VITS", "JAXVOICE_RECORDINGS", "JAXVOICE_XTTS")
    environment = {name: value for name, value in os.environ.items() if name not in models} | variables
    environment["JAX_PLATFORMS"] = "cpu"
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    for variable in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"):
        environment[variable] = str(folder / variable)
    target = folder / "executed.ipynb"
    command = [sys.executable, "-c", _EXECUTE, str(folder / name), str(target)]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr

    outputs = [output for cell in code_cells(target) for output in cell["outputs"]]
    streams = {"stdout": "", "stderr": ""}
    for output in outputs:
        if output["output_type"] == "stream":
            streams[output["name"]] += "".join(output["text"])
    return streams, [output["data"] for output in outputs if output["output_type"] == "display_data"]


def players(shown: list[Any]) -> int:
    """Number of outputs in which audio is played."""
    return sum("<audio" in "".join(data.get("text/html", "")) for data in shown)


def pictures(shown: list[Any]) -> int:
    return sum("image/png" in data for data in shown)


def losses_of(streams: dict[str, str], name: str) -> list[float]:
    """The values of a loss in the lines of a training, none of which may be NaN."""
    assert "nan" not in streams["stdout"]
    found = re.findall(rf"^step .* {name} ([\d.]+)", streams["stdout"], flags=re.MULTILINE)
    return [float(loss) for loss in found]


@pytest.mark.slow
def test_vocoder_notebook_runs_without_a_trained_model(tmp_path: Path):
    streams, shown = executed("vocoder.ipynb", tmp_path)
    assert "this model has random weights" in streams["stdout"]
    assert streams["stderr"] == ""
    assert pictures(shown) == 1  # the three mels
    assert players(shown) == sum("text/html" in data for data in shown) == 3


@pytest.mark.slow
def test_archive_notebook_runs(tmp_path: Path):
    streams, shown = executed("archive.ipynb", tmp_path)
    assert "DownBlockSpeaker: avg_pool1d(2)" in streams["stdout"] and "never called" in streams["stdout"]
    assert "diverges first: convs.1.first_conv" in streams["stdout"]
    assert "--- traced: a silent input gives [[1.0, 1.0, 1.0, 1.0]]" in streams["stdout"]
    assert "--- scripted: a silent input gives [[0.0, 0.0, 0.0, 0.0]]" in streams["stdout"]
    assert streams["stdout"].count("zeros_like") == 1  # the branch that the trace has lost
    assert streams["stderr"] == ""
    assert pictures(shown) == 1


@pytest.mark.slow
def test_rave_notebook_runs_without_a_trained_model(tmp_path: Path):
    streams, shown = executed("rave_dissection.ipynb", tmp_path)
    assert "this model has random weights" in streams["stdout"] and "nan" not in streams["stdout"]
    changes = re.findall(r"^\{(.*?)\} changes the audio by ([\d.]+) of its peak", streams["stdout"], flags=re.MULTILINE)
    assert [values for values, _ in changes] == ["", "'early': 0.5", "'middle': -2", "'noise': 1", "'weights': 1"]
    assert float(changes[0][1]) == 0 and all(float(change) > 0 for _, change in changes[1:])
    assert streams["stderr"] == ""
    assert players(shown) == 14
    # Five activations of the encoder, six of the decoder, norms and kernels of eleven layers, and similarities.
    assert pictures(shown) == 5 + 6 + 2 * 11 + 1
    for number in (1, 2, 3, 4, 5):
        assert re.search(rf"^square\S* +pow_{number} ", streams["stdout"], flags=re.MULTILINE)
    rates = re.findall(r"^\S+ \(\d+, \d+\) (\d+) Hz$", streams["stdout"], flags=re.MULTILINE)
    assert rates == ["22", "86", "689", "5512", "44100", "44100"]
    kernels = re.findall(r"^(\S+)\.weight_v \(\d+, \d+, (\d+)\)$", streams["stdout"], flags=re.MULTILINE)
    layers = [f"encoder.encoder.net.{i}" for i in (0, 5, 10, 15, 19)]
    layers += [f"decoder.net.{i}" for i in (2, 6, 11, 16, 21)]
    assert kernels == list(zip(layers, ("7", "8", "8", "8", "4", "8", "16", "16", "16", "7"), strict=True))


@pytest.mark.slow
def test_rave_notebook_trains_a_model(tmp_path: Path):
    streams, shown = executed("rave.ipynb", tmp_path)
    assert re.fullmatch(r"jaxvoice: warning: The model in \S+ was trained for 300 steps only .*\n", streams["stderr"])
    losses = losses_of(streams, "generator")
    assert len(losses) >= 3 and losses[-1] < losses[0]
    assert "66150 samples, latents (16, 259), 66304 decoded samples" in streams["stdout"]
    sizes = [int(size) for size in re.findall(r"of the variance: (\d+) of 16 components", streams["stdout"])]
    assert len(sizes) == 4 and sizes == sorted(sizes) and sizes[0] < 16
    error = re.search(r"largest difference from the offline result: (\S+) of its peak", streams["stdout"])
    assert error and float(error[1]) < 1e-3
    assert players(shown) == 7
    assert pictures(shown) == 5


@pytest.mark.slow
def test_vits_notebook_trains_a_model(tmp_path: Path):
    streams, shown = executed("vits.ipynb", tmp_path, edits={"steps = 400": "steps = 200"})
    assert re.search(r"The model in \S+ was trained for 200 steps only", streams["stderr"])
    losses = losses_of(streams, "mel_l1")
    assert len(losses) == 4 and losses[-1] < losses[0]
    rows = re.findall(r"^(\w+) +\S+: (\S+) s, standard deviation (\S+) s$", streams["stdout"], flags=re.MULTILINE)
    deviations = [float(deviation) for name, _, deviation in rows if name == "duration_noise_scale"]
    means = [float(mean) for name, mean, _ in rows if name == "length_scale"]
    assert len(deviations) == len(means) == 5
    assert deviations[0] == 0 < deviations[-1] and means == sorted(set(means))
    cosines = re.findall(r"cosine with (\w+) (\S+), cosine with (\w+) (\S+)$", streams["stdout"], re.MULTILINE)
    source, _, target = [(float(first), float(second)) for _, first, _, second in cosines]
    assert source[0] > source[1] and target[1] > target[0]  # recordings are near the voices of their speakers
    assert pictures(shown) == 7
    assert players(shown) == 10


@pytest.mark.slow
def test_hifigan_notebook_runs_without_a_trained_model(tmp_path: Path):
    streams, shown = executed("hifigan_bending.ipynb", tmp_path)
    assert "this model has random weights" in streams["stdout"] and "nan" not in streams["stdout"]
    changes = re.findall(r"changes the audio by ([\d.]+) of its peak", streams["stdout"])
    assert float(changes[0]) == 0 and len(changes) == 5 and all(float(change) > 0 for change in changes[1:])
    assert streams["stderr"] == ""
    assert players(shown) == 13


@pytest.mark.slow
def test_frozen_encoder_notebook_runs(tmp_path: Path):
    streams, shown = executed("frozen_encoder.ipynb", tmp_path)
    found = re.findall(
        r"^(\w+ \w+) +loss (\S+) +generator (\S+) +encoder (\S+)$", streams["stdout"], flags=re.MULTILINE
    )
    assert len({loss for _, loss, _, _ in found}) == 1
    alive = {name: (float(generator) > 0, float(encoder) > 0) for name, _, generator, encoder in found}
    assert alive == {
        "nothing frozen": (True, True),
        "detached weights": (True, False),
        "detached waveform": (False, True),
        "detached embedding": (False, False),
    }
    assert "as with detached weights: True" in streams["stdout"]
    rows = re.findall(r"^(.+?) +gradient of the waveform (\S+) +change of the weights (\S+)$", streams["stdout"], re.M)
    gradients = {name: float(gradient) for name, gradient, _ in rows}
    changes = {name: float(change) for name, _, change in rows}
    assert len(rows) == 5 and gradients.pop("detached waveform") == 0
    assert max(gradients.values()) < 1.01 * min(gradients.values())
    assert changes["by the optimiser"] == changes["argument"] == 0
    assert 2e-5 < changes["detached weights"] < 6e-5 < changes["nothing frozen"]  # 20 times 2e-6
    assert "norm after 1000 steps: 0.9980 of the initial norm" in streams["stdout"]
    assert "with constants: cosine of a recording in two batches 1.0000" in streams["stdout"]
    before, after = re.search(r"between recordings (\S+) before, (\S+) after", streams["stdout"]).groups()
    assert float(after) > float(before)
    changes = re.findall(r"^(frozen|detached).* cosine (\S+) -> (\S+)$", streams["stdout"], flags=re.MULTILINE)
    assert [(name, float(last) > float(first)) for name, first, last in changes] == [
        ("frozen", True),
        ("detached", False),
    ]
    assert streams["stderr"] == "" and pictures(shown) == 1


@pytest.mark.slow
def test_tts_notebook_runs(tmp_path: Path):
    blocks: dict[str, Any] = {"layers": 1, "heads": 2, "feed_forward": 16, "dropout": 0.0}
    config = GaussianTTSConfig(
        ALIGNED.codes,
        dim=16,
        encoder=EncoderConfig(**blocks),
        decoder=DecoderConfig(**blocks, postnet_layers=1),
        durations=DurationConfig(layers=1, hidden=8),
        mel=MelConfig(),
    )
    model = GaussianTTS(config, key=jax.random.key(0))
    save_model(tmp_path / "model", model, model.init_state(), config)
    # The notebook's training takes a minute; it runs when the documentation is built.
    streams, shown = executed("tts.ipynb", tmp_path, JAXVOICE_SPEECH=str(tmp_path / "model"))
    assert "twelve     dictionary   T W EH1 L V" in streams["stdout"]
    assert "S EY1 JH AE1 K S V OY1 S pau" in streams["stdout"]
    before, after = map(int, re.findall(r"AA1: (\d+) -> (\d+) frames", streams["stdout"])[0])
    assert after == 4 * before
    assert streams["stderr"] == ""
    assert pictures(shown) == 2  # alignment with mel, weights
    assert players(shown) == 3


@pytest.mark.slow
def test_voice_conversion_notebook_runs(tmp_path: Path):
    config = replace(SMALL, pitch=PitchConfig(tracker="autocorrelation"))
    HIFIVC.save_network(tmp_path / "model", random_converter(config), config)
    streams, shown = executed("voice_conversion.ipynb", tmp_path, JAXVOICE_CONVERTER=str(tmp_path / "model"))
    assert "annie, antonio" in streams["stdout"] and "Voice(2 recordings, " in streams["stdout"]
    medians = dict(re.findall(r"^(\S.*?) +median +(\d+) Hz", streams["stdout"], flags=re.MULTILINE))
    assert list(medians) == ["source", "pitch match", "pitch keep", "pitch 5"] and int(medians["source"]) > 60
    assert pictures(shown) == 3  # mels, F0, speaker vectors
    assert players(shown) == 3


@pytest.mark.slow
def test_xtts_notebook_runs(tmp_path: Path):
    write_small_xtts(tmp_path / "model")
    XTTS_DVAE.save_network(tmp_path / "model" / "dvae", random_network(CodecNetwork, DVAE), DVAE)
    streams, shown = executed("xtts.ipynb", tmp_path, JAXVOICE_XTTS=str(tmp_path / "model"))
    assert "vectors for the language model (3, 16) and for the decoder (12,)" in streams["stdout"]
    sizes = re.findall(r"^(reference|text|codes so far) +(\d+) positions", streams["stdout"], flags=re.MULTILINE)
    assert dict(sizes)["reference"] == "3" and len(sizes) == 3
    assert "same length: True" in streams["stdout"] and "equal within 1e-4: True" in streams["stdout"]
    assert pictures(shown) == 4  # attention of the perceiver and of codes, mels, latents
    assert players(shown) == 6


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_formatted_like_jupyter(path: Path):
    text = path.read_text(encoding="utf-8")
    assert text == json.dumps(json.loads(text), indent=1, ensure_ascii=False) + "\n"

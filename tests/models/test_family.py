"""The list of families: listed families can be built, saved, loaded, imported and compared."""

import dataclasses
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import pytest

import jaxvoice
from jaxvoice import models
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.models.family_lookup import find_family
from jaxvoice.models.hifigan import Generator
from jaxvoice.pipelines import HiFiGANVocoder, Synthesizer, compare, export_model, import_model, load
from jaxvoice.weights import named_arrays, write_torch
from tests.models.gaussian_tts.small import SMALL, networks, save_model
from tests.models.hifigan.small import SMALL as HIFIGAN

PACKAGE = Path(jaxvoice.__file__).parent
FREE_OF_NAMES = [
    *sorted((PACKAGE / "cli").glob("*.py")),
    *(PACKAGE / "pipelines" / f"{name}.py" for name in ("importing", "exporting", "comparing", "import_report")),
    *(PACKAGE / "pipelines" / f"{name}.py" for name in ("folders", "sources")),
    PACKAGE / "models" / "family.py",
    PACKAGE / "models" / "family_lookup.py",
    PACKAGE / "models" / "checkpoint_layout.py",
]
EVERY_FAMILY = pytest.mark.parametrize("family", models.FAMILIES, ids=lambda family: family.name)


def listed(families=models.FAMILIES):
    return ", ".join(family.name for family in families)


def small_config(family):
    """The configuration of a small network, `SMALL` in `small.py` beside the tests of the family."""
    return importlib.import_module(f"tests.models.{family.name}.small").SMALL


def named(name):
    (found,) = [family for family in models.FAMILIES if family.name == name]
    return found


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A model folder of each family."""
    place = tmp_path_factory.mktemp("models")
    for family in models.FAMILIES:
        config = small_config(family)
        family.save_network(place / family.name, family.build(config, key=jax.random.key(0)), config)
    return {family.name: place / family.name for family in models.FAMILIES}


def test_family_names_equal_package_names():
    names = [family.name for family in models.FAMILIES]
    assert len(set(names)) == len(names)
    assert all((PACKAGE / "models" / name / "config.py").is_file() for name in names)


@pytest.mark.parametrize("file", FREE_OF_NAMES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_family_independent_files_name_no_family(file):
    names = [family.name for family in models.FAMILIES]
    # Help texts name the command of an experiment.
    text = re.sub(r"experiments\.\w+", "", file.read_text(encoding="utf-8"))
    assert not re.findall("|".join(names), text)


@EVERY_FAMILY
def test_networks_accept_their_example_inputs(family):
    config = small_config(family)
    assert isinstance(config, family.config)
    network = eqx.filter_eval_shape(family.build, config, key=jax.random.key(0))
    args, kwargs = family.example_inputs(config, key=jax.random.key(0))
    first, *others = jax.tree.leaves(eqx.filter_eval_shape(network, *args, **kwargs))
    assert first.ndim in (1, 2) and first.dtype == np.float32
    assert all(isinstance(other, jax.ShapeDtypeStruct) for other in others)


@EVERY_FAMILY
def test_model_folders_contain_the_arrays_of_the_network(family, folders):
    folder = folders[family.name]
    assert find_family(folder) is family
    network, config = family.load_network(folder)
    assert config == small_config(family)
    built = eqx.filter_eval_shape(family.build, config, key=jax.random.key(0))
    with jaxvoice.open_archive(folder / "model.safetensors") as archive:
        names = set(named_arrays(built, merged=family.merged))
        assert set(archive.tensors) == names == set(named_arrays(network, merged=family.merged))


@EVERY_FAMILY
def test_load_returns_the_pipeline_of_the_family(family, folders, tmp_path):
    module, _, name = family.pipeline.partition(":")
    pipeline = getattr(importlib.import_module(module), name)
    assert isinstance(load(folders[family.name]), pipeline)
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.json").write_text("{}", encoding="utf-8")
    (run / "model").symlink_to(folders[family.name])
    assert isinstance(jaxvoice.load(run), pipeline)


def test_families_name_their_pipelines():
    named_pipelines = {"hifigan": HiFiGANVocoder, "gaussian_tts": Synthesizer}
    for name, pipeline in named_pipelines.items():
        assert named(name).pipeline == f"jaxvoice.pipelines:{pipeline.__name__}"


@EVERY_FAMILY
def test_representations_are_one_line(family, folders):
    pipeline = repr(load(folders[family.name]))
    assert pipeline.startswith(f"{family.pipeline.partition(':')[2]}(") and " Hz, " in pipeline and len(pipeline) < 80
    assert repr(family).startswith(f"Family({family.name!r}, pipeline {family.pipeline}, layouts ")
    assert " at 0x" not in repr(family) and len(repr(family)) < 150


def test_load_passes_options_to_the_pipeline(folders):
    assert load(folders["hifigan"], window=300).window == 300


def test_unknown_family_raises_an_error(folders, tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folders["hifigan"] / name).read_bytes())
    about = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**about, "family": "nothing"}), encoding="utf-8")
    for use in (load, lambda path: export_model(path, tmp_path / "x.pth")):
        with pytest.raises(ConfigError, match=f"json is 'nothing'; it should be one of {listed()}"):
            use(tmp_path)


def test_compare_lists_the_layers_of_text_to_speech(tmp_path):
    model, folder = networks(), tmp_path / "model"
    save_model(folder, model, model.init_state(), SMALL)
    same = compare(folder, folder)
    assert same.same and len(same.layers) > 10 and same.layers[-1].name == "output"
    changed = eqx.tree_at(lambda m: m.acoustic.decoder.positions, model, replace_fn=lambda x: x + 0.1)
    save_model(tmp_path / "changed", changed, model.init_state(), SMALL)
    found = compare(folder, tmp_path / "changed")
    (weight,) = [row.name for row in found.weights if row.status == "differs"]
    assert weight == "acoustic.decoder.positions"
    assert found.diverging is not None and found.diverging.name.startswith("acoustic.decoder")


def test_inference_model_depends_on_its_inputs():
    family = named("gaussian_tts")
    model = family.build(SMALL, key=jax.random.key(0))
    (ids, durations, frames), _ = family.example_inputs(SMALL, key=jax.random.key(1))
    output = model(ids, durations, frames)
    assert output.shape == (frames, SMALL.mel.num_mels)
    assert not np.array_equal(output, model(ids[::-1], durations, frames))


def test_export_of_text_to_speech_raises_an_error(folders, tmp_path):
    exported = listed(family for family in models.FAMILIES if any(layout.exports for layout in family.layouts))
    with pytest.raises(ConfigError, match=f"gaussian_tts, which has no layout to export to.* are {exported}"):
        export_model(folders["gaussian_tts"], tmp_path / "x.pth")


def released(folder):
    arrays = named_arrays(Generator(HIFIGAN.generator, key=jax.random.key(0)))
    write_torch(folder / "g_00000001", {"generator": {name: np.asarray(a) for name, a in arrays.items()}})
    return folder / "g_00000001"


def test_file_that_two_families_recognise_raises_an_error(folders, tmp_path, monkeypatch):
    other = dataclasses.replace(named("hifigan"), name="other")
    importing = listed(family for family in (*models.FAMILIES, other) if family.layouts)
    monkeypatch.setattr(models, "FAMILIES", (*models.FAMILIES, other))
    source, config = released(tmp_path), folders["hifigan"] / "config.json"
    with pytest.raises(CheckpointError, match=r"recognised by several layouts\. hifigan .*; other .*--family"):
        import_model(source, tmp_path / "to", config=config)
    assert import_model(source, tmp_path / "to", config=config, family="other").family == "other"
    with pytest.raises(CheckpointError, match=f"family is 'gaussian_tts'; .* can import checkpoints: {importing}"):
        import_model(source, tmp_path / "again", config=config, family="gaussian_tts")


class FolderLayout(type(named("hifigan").layouts[0])):
    """A layout whose checkpoints are folders."""

    def __init__(self, file):
        self.name, self._file = f"folder of {file}", file

    def main_file(self, folder):
        return folder / self._file if (folder / self._file).is_file() else None


def test_folder_that_two_families_recognise_raises_an_error(folders, tmp_path, monkeypatch):
    first, second = (
        dataclasses.replace(named("hifigan"), name=name, layouts=(FolderLayout(file),))
        for name, file in (("first", "g_00000001"), ("second", "g_00000002"))
    )
    monkeypatch.setattr(models, "FAMILIES", (first, second))
    config = folders["hifigan"] / "config.json"
    place = tmp_path / "checkpoint"
    place.mkdir()
    source = released(place)
    assert import_model(place, tmp_path / "one", config=config, family="first").family == "first"
    (place / "g_00000002").write_bytes(source.read_bytes())
    with pytest.raises(CheckpointError, match=r"recognised by several layouts\. first .*; second .*--family"):
        import_model(place, tmp_path / "to", config=config)
    assert import_model(place, tmp_path / "two", config=config, family="second").info["source"] == "g_00000002"
    with pytest.raises(CheckpointError, match="family is 'third'; it should be a family that can import checkpoints"):
        import_model(place, tmp_path / "to", config=config, family="third")


def test_import_lists_the_files_of_an_unrecognised_folder(tmp_path):
    released(tmp_path)
    advice = r"Pass the path of the weight file\.$"
    with pytest.raises(CheckpointError, match=rf"no layout recognises\. It contains g_00000001\. {advice}"):
        import_model(tmp_path, tmp_path / "to")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=rf"no layout recognises\. It contains no files\. {advice}"):
        import_model(tmp_path / "empty", tmp_path / "to")


def test_listing_and_recognising_need_no_jax(tmp_path):
    source = released(tmp_path)
    code = (
        "import sys; from jaxvoice import models, open_archive; from jaxvoice.models.family_lookup import "
        "recognise_checkpoint; from jaxvoice.models.checkpoint_layout import Checkpoint; "
        f"family, layout = recognise_checkpoint(Checkpoint(open_archive({str(source)!r}))); "
        "print([one.name for one in models.FAMILIES], family.name, {'jax', 'equinox', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{[family.name for family in models.FAMILIES]} hifigan set()"

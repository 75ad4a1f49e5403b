"""Exports keep the types, names and lists of the original; the import reports the differences."""

import json
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from experiments.benchmarks.torch_hifigan import fold_weight_norm
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.models.hifigan.family import FAMILY
from jaxvoice.models.hifigan.training import HiFiGANTask, TrainingConfig
from jaxvoice.pipelines.exporting import export_model
from jaxvoice.pipelines.importing import import_model
from jaxvoice.training.run_folder import RunFolder, inherited_info
from jaxvoice.weights.file_layout import inheritable_info
from tests.models.hifigan import released
from tests.models.hifigan.released import CONDITIONED, CONFIG, generator, state, under, write
from tests.work import counted_work

ONE = torch.ones(1)


def cast(tensors, dtype, names=""):
    return {name: tensor.to(dtype) if names in name else tensor for name, tensor in tensors.items()}


def partly(tensors, folded=()):
    """Tensors with the newer weight-norm names in upsampling layers, none in `folded` layers, the older in others."""
    new = released.spelt({name: tensor for name, tensor in tensors.items() if name.startswith("ups")}, "new")
    old = {name: tensor for name, tensor in tensors.items() if not name.startswith(("ups", *folded))}
    none = {name: tensor for name, tensor in released.folded(generator()).items() if name.startswith(tuple(folded))}
    return old | new | none


TENSORS = state(generator())
FOLDED = released.folded(generator())
SAME = {
    "half": {"generator": cast(TENSORS, torch.float16)},
    "brain": {"generator": cast(TENSORS, torch.bfloat16)},
    "partly half": {"generator": cast(TENSORS, torch.float16, "resblocks")},
    "half and brain": {"generator": cast(cast(TENSORS, torch.float16, "ups"), torch.bfloat16, "conv_p")},
    "half without norms": {"generator": cast(FOLDED, torch.float16)},
    "brain without norms": {"generator": cast(FOLDED, torch.bfloat16)},
    "mixed spellings": {"generator": partly(TENSORS)},
    "three spellings": {"generator": partly(TENSORS, ["resblocks.3", "resblocks.4.convs.1"])},
    "mixed and half": {"generator": cast(partly(TENSORS), torch.float16, "original1")},
    "list": {"models": [TENSORS]},
    "list in lists": {"a": [[{"b": under("module.", TENSORS)}]]},
    "dotted keys": {"a.b": {"c": TENSORS}},
}


def flat(value, path=""):
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if pairs is None:
        yield path, value
        return
    for name, below in pairs:
        yield from flat(below, f"{path}/{name}")


def assert_same_content(found, expected):
    found, expected = dict(flat(found)), dict(flat(expected))
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor), name


def back(source, tmp_path, format="torch", **options):
    """The summary of an import, and the content of its export."""
    report = import_model(source, tmp_path / "model", **options)
    export_model(tmp_path / "model", tmp_path / "back", format)
    return report, torch.load(tmp_path / "back", weights_only=True) if format == "torch" else None


@pytest.mark.parametrize("name", SAME)
def test_exports_keep_types_names_and_lists(tmp_path, name):
    report, found = back(write(tmp_path / "x.pt", SAME[name], CONFIG), tmp_path)
    assert_same_content(found, SAME[name])
    assert report.info["differs"] == (["`None` as the other elements of lists"] if "list" in name else [])


def test_positions_in_lists_are_kept(tmp_path):
    source = write(tmp_path / "x.pt", {"models": [{"x": ONE}, TENSORS]}, CONFIG)
    report, found = back(source, tmp_path, part="1")
    assert found["models"][0] is None and "export   will write `None` as the other elements of lists" in str(report)
    assert_same_content(found["models"][1], TENSORS)


def test_doubles_are_exported_rounded_with_a_remark(tmp_path):
    tensors = {name: tensor.double() * 1.1 for name, tensor in TENSORS.items()}
    report, found = back(write(tmp_path / "x.pt", {"generator": tensors}, CONFIG), tmp_path)
    assert report.info["differs"] == ["float64 rounded to float32 and cast back"]
    assert "float64 rounded" in (tmp_path / "model" / "report.md").read_text(encoding="utf-8")
    assert_same_content(found, {"generator": {name: tensor.float().double() for name, tensor in tensors.items()}})


@pytest.mark.parametrize("norms", ["hooks", "folded"])
@pytest.mark.parametrize("nested", [False, True])
def test_modules_are_exported_as_state_dicts(tmp_path, norms, nested):
    model = fold_weight_norm(generator()) if norms == "folded" else generator()
    expected = state(model)
    report, found = back(write(tmp_path / "x.pt", {"model": model} if nested else model, CONFIG), tmp_path)
    (line,) = report.info["differs"]
    assert line.startswith("a state dict instead of a pickled experiments.benchmarks.torch_hifigan.Generator")
    assert_same_content(found, {"model": expected} if nested else expected)


def test_nested_tables_are_exported_as_one_flat_table(tmp_path):
    tables: dict[str, Any] = {}
    for name, tensor in TENSORS.items():
        layer, _, last = name.rpartition(".")
        tables.setdefault(layer, {})[last] = tensor
    report, found = back(write(tmp_path / "x.pt", tables, CONFIG), tmp_path)
    assert report.info["differs"] == ["one flat dict of tensors"]
    assert_same_content(found, TENSORS)


def test_folded_norms_are_reported(tmp_path):
    layer = torch.nn.utils.parametrizations.weight_norm(torch.nn.Conv1d(5, 16, 1))
    model = generator(**CONDITIONED)
    tensors = {name: tensor for name, tensor in state(model).items() if not name.startswith("cond_layer")}
    tensors |= {f"cond_layer.{name}": tensor.clone() for name, tensor in layer.state_dict().items()}
    settings = {"model": "vits", "model_args": {}, "audio": {"sample_rate": 16000, "hop_length": 256}}
    settings["model_args"] = {"hidden_channels": 12}
    source = write(tmp_path / "x.pth", {"model": under("waveform_decoder.", tensors)}, settings)
    report, found = back(source, tmp_path, part="waveform_decoder")
    assert report.info["differs"] == ["cond_layer without weight norm, because jaxvoice has none on these layers"]
    torch.testing.assert_close(found["model"]["waveform_decoder.cond_layer.weight"], layer.weight.detach())


def test_bfloat16_is_float32_in_npz(tmp_path):
    source = write(tmp_path / "x.pt", {"generator": cast(TENSORS, torch.bfloat16)}, CONFIG)
    back(source, tmp_path, "npz")
    found = np.load(tmp_path / "back")
    assert {found[name].dtype for name in found} == {np.dtype(np.float32)}
    for name, tensor in TENSORS.items():
        np.testing.assert_array_equal(found[name], tensor.bfloat16().float())


def test_bfloat16_stays_in_safetensors(tmp_path):
    back(write(tmp_path / "x.pt", {"generator": cast(TENSORS, torch.bfloat16)}, CONFIG), tmp_path, "safetensors")
    assert {array.dtype for array in load_file(tmp_path / "back").values()} == {np.dtype(ml_dtypes.bfloat16)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("model")
    import_model(write(place / "g_1", {"generator": TENSORS}, CONFIG), place / "m")
    return place / "m"


def change(table, place, value):
    name, *below = place
    return {**table, name: change(table.get(name, {}), below, value) if below else value}


LAYOUT, GENERATOR = ("info", "layout"), ("config", "generator")


@pytest.mark.parametrize("format", ["torch", "safetensors", "npz"])
@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("info",), "x"),
        (("info",), [1]),
        (LAYOUT, "x"),
        (LAYOUT, [[1]]),
        ((*LAYOUT, "norms"), "x"),
        ((*LAYOUT, "norms"), ["hooks"]),
        ((*LAYOUT, "norms_of"), {"ups.0": "x"}),
        ((*LAYOUT, "norms_of"), {"ups.0": {}}),
        ((*LAYOUT, "dtype"), "int64"),
        ((*LAYOUT, "dtypes"), ["float16"]),
        ((*LAYOUT, "prefix"), 5),
        ((*LAYOUT, "prefix"), "x" * 10**6),
        ((*LAYOUT, "nesting"), 5),
        ((*LAYOUT, "nesting"), None),
        ((*LAYOUT, "nesting"), [[1]]),
        ((*LAYOUT, "nesting"), [10**9]),
        ((*LAYOUT, "nesting"), [-1]),
        ((*LAYOUT, "nesting"), [True]),
        ((*LAYOUT, "nesting"), ["a"] * 5000),
        ((*LAYOUT, "aliases"), {"cond_layer": 5}),
        ((*LAYOUT, "else"), 5),
        ((*GENERATOR, "upsample_rates"), [2] * 10**6),
        ((*GENERATOR, "resblock_dilation_sizes"), [[1] * 256] * 256),
        (("config", "mel", "n_fft"), 2**50),
    ],
    ids=lambda value: str(value)[:40],
)
def test_hostile_model_folders_raise_at_once(folder, tmp_path, place, value, format):
    target = tmp_path / "m"
    target.mkdir()
    (target / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    about = change(json.loads((folder / "config.json").read_text(encoding="utf-8")), place, value)
    (target / "config.json").write_text(json.dumps(about), encoding="utf-8")
    with counted_work() as work, pytest.raises(ConfigError) as caught:
        export_model(target, tmp_path / "out", format)
    assert work.calls < 5_000_000 and len(str(caught.value)) < 1500
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize(
    "text", ["[" * 10**5, "[]", "{", '{"family": "hifigan", "config": ' + "[" * 900 + "]" * 900 + "}"]
)
def test_invalid_configurations_raise(folder, tmp_path, text):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    (tmp_path / "m" / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"config\.json"):
        export_model(tmp_path / "m", tmp_path / "out")


def test_other_types_and_files_in_a_model_folder_raise(folder, tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_bytes((folder / "config.json").read_bytes())
    arrays = load_file(folder / "model.safetensors")
    for name, dtype in (("uint32", np.uint32), ("int64", np.int64), ("uint16", np.uint16)):
        save_file(
            {**arrays, "conv_pre.bias": arrays["conv_pre.bias"].astype(dtype)}, tmp_path / "m" / "model.safetensors"
        )
        with pytest.raises(CheckpointError, match=rf"conv_pre\.bias.*{name}|{name}|type"):
            export_model(tmp_path / "m", tmp_path / "out")
    torch.save(TENSORS, tmp_path / "m" / "model.safetensors")
    with pytest.raises(CheckpointError, match="is not a safetensors file"):
        export_model(tmp_path / "m", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names_that_are_not_unicode_raise(folder, tmp_path):
    about = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    text = json.dumps(change(about, (*LAYOUT, "prefix"), "a\ud800."))
    (tmp_path / "m" / "config.json").write_text(text, encoding="utf-8")
    for format in ("safetensors", "npz", "torch"):
        with pytest.raises(ConfigError, match=r"m/config\.json contains '\\ud800', which is not valid Unicode"):
            export_model(tmp_path / "m", tmp_path / "out", format)
    assert not (tmp_path / "out").exists()


def test_links_beside_the_target_are_not_followed(folder, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for format in ("torch", "safetensors", "npz"):
        (tmp_path / f"{format}.part").symlink_to(victim)
        export_model(folder, tmp_path / format, format)
        assert victim.read_text() == "precious" and (tmp_path / f"{format}.part").is_symlink()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="exists"):
        export_model(folder, tmp_path / "dangling")


def test_folders_of_earlier_versions_are_read(folder, tmp_path):
    about = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    for layout in ({"nesting": ["generator"], "prefix": "", "norms": "hooks"}, None):
        (tmp_path / "m" / "config.json").write_text(json.dumps(change(about, LAYOUT, layout)), encoding="utf-8")
        export_model(tmp_path / "m", tmp_path / f"{layout is None}")
        assert_same_content(torch.load(tmp_path / f"{layout is None}", weights_only=True), {"generator": TENSORS})


def test_fine_tuned_models_keep_names_and_licence_but_not_precision(tmp_path):
    half = {"a": {"module.b": ONE}, "net": under("module.", cast(partly(TENSORS), torch.float16))}
    import_model(write(tmp_path / "x.pt", half, CONFIG), tmp_path / "model", part="net.module", ignore=["a.*"])
    inherited = inherited_info(tmp_path / "run", tmp_path / "model", "owner/name")
    model, config = FAMILY.load_network(tmp_path / "model")
    task = HiFiGANTask(TrainingConfig(config), steps_per_epoch=1, inherited_info=inherited)
    state_now: Any = SimpleNamespace(generator=SimpleNamespace(eval_model=model), counters=SimpleNamespace(step=7))
    task.save_model(state_now, tmp_path / "run" / "model")
    # A later session of the run may be started without --init-from.
    assert inherited_info(tmp_path / "run", None) == inherited
    assert inherited_info(tmp_path / "run", tmp_path / "another model", "another") == inherited
    assert inherited["initial_model"] == "owner/name"
    info = json.loads((tmp_path / "run" / "model" / "config.json").read_text(encoding="utf-8"))["info"]
    assert info["step"] == 7 and info["licence"].startswith("unknown")
    export_model(tmp_path / "run", tmp_path / "back")
    expected = {name: tensor.float() for name, tensor in half["net"].items()}
    assert_same_content(torch.load(tmp_path / "back", weights_only=True), {"net": expected})


def test_models_without_origin_inherit_nothing(tmp_path):
    assert inherited_info(tmp_path / "run", None) == {}
    RunFolder(tmp_path / "run").begin({})  # a run that was stopped before its first model
    assert inherited_info(tmp_path / "run", None) == {}
    # The checkpoints of a run are an initial model too.
    assert inherited_info(tmp_path / "other", tmp_path / "run") == {"initial_model": str(tmp_path / "run")}
    assert inheritable_info({"step": 3}, "x") == {} and inheritable_info([1], "x") == {}
    with pytest.raises(ConfigError, match=r"info\.layout\.norms"):
        inheritable_info({"layout": {"norms": "x"}}, "x")

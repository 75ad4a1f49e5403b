"""Files of older schemas are migrated when they are read; files of newer schemas are refused."""

import json
import re
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from jaxvoice.errors import CheckpointError
from jaxvoice.models.checkpoint_layout import Checkpoint, ImportOptions
from jaxvoice.models.hifigan.family import FAMILY, HiFiGANLayout
from jaxvoice.models.hifigan.training import HiFiGANTask
from jaxvoice.models.hifigan.warm_start import continued_config, continued_state
from jaxvoice.pipelines.comparing import compare
from jaxvoice.pipelines.exporting import export_model
from jaxvoice.pipelines.folders import run_progress
from jaxvoice.pipelines.importing import import_model
from jaxvoice.training.checkpoints import Checkpoints
from jaxvoice.training.parallel import data_mesh, replicate, replicated
from jaxvoice.training.run_folder import RunFolder
from jaxvoice.weights import named_arrays, open_archive, read_model_folder, write_model_folder, write_torch
from jaxvoice.weights.model_folder import read_config_file
from jaxvoice.weights.schemas import MIGRATIONS, Migration, current_schema, migrate, migrate_export, move_keys
from tests.pipelines.conftest import loud_generator, small_config

KINDS = ("model folder", "run", "export", "voice")
NEWER = r"the schema of {where} is {newer}; it should be at most {known} for jaxvoice \S+\. .*Update jaxvoice"


def newer(kind: str, where: str) -> str:
    """The error message for a file whose schema is four above the current schema."""
    return NEWER.format(where=where, newer=current_schema(kind) + 4, known=current_schema(kind))


def append(monkeypatch, kind, *migrations: Migration) -> None:
    """`migrations` follow those there are."""
    monkeypatch.setitem(MIGRATIONS, kind, (*MIGRATIONS[kind], *migrations))


def edit(path, **changes) -> None:
    """Change the keys of a JSON file; a key whose new value is `None` is removed."""
    table = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    table = {key: value for key, value in table.items() if value is not None}
    path.write_text(json.dumps(table), encoding="utf-8")


def test_move_keys_moves_values():
    table = {"config": {"a": 1, "num_mels": [8], "b": 2}, "info": {"layout": {"x": 1}}, "task": "T"}
    before = json.dumps(table)
    moved = move_keys(
        table,
        {"config.num_mels": "config.in_channels", "info.layout": "export.layout", "no.such": "other", "task.x": "y"},
    )
    assert moved == {
        "config": {"a": 1, "in_channels": [8], "b": 2},
        "info": {},
        "task": "T",
        "export": {"layout": {"x": 1}},
    }
    assert list(moved["config"]) == ["a", "in_channels", "b"]
    moved["config"]["in_channels"].append(9)
    assert json.dumps(table) == before


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ("b", "'a' cannot move to 'b', which exists already"),
        ("t.b", r"'a' cannot move to 't\.b', which exists already"),
        ("b.c", r"'a' cannot move to 'b\.c': 'b' is 2, not an object"),
        ("t.b.c", r"'a' cannot move to 't\.b\.c': 't\.b' is 3, not an object"),
        ("a.c", r"'a' cannot move to 'a\.c', which is the key itself or below it"),
        ("a", "'a' cannot move to 'a', which is the key itself or below it"),
    ],
)
def test_move_keys_does_not_overwrite_values(new, message):
    table = {"a": {"x": 1}, "b": 2, "t": {"b": 3}}
    with pytest.raises(CheckpointError, match=message):
        move_keys(table, {"a": new})
    assert table == {"a": {"x": 1}, "b": 2, "t": {"b": 3}}
    assert move_keys(table, {"a": "aa"}) == {"aa": {"x": 1}, "b": 2, "t": {"b": 3}}, "a longer name is not below"


def test_migrate_applies_later_migrations_in_order(monkeypatch):
    seen = []

    def suffixed(letter):
        def rename(name, table):
            seen.append((letter, dict(table)))
            return name + letter

        return Migration(letter, lambda table: {**table, "said": table.get("said", "") + letter}, rename)

    monkeypatch.setitem(MIGRATIONS, "run", tuple(map(suffixed, "abc")))
    assert current_schema("run") == 3
    for schema, said in ((None, "abc"), (0, "abc"), (1, "bc"), (3, "")):
        stored = {"x": 1} if schema is None else {"x": 1, "schema": schema}
        found = migrate("run", stored, "here")
        assert found.table == {"x": 1, "schema": 3, **({"said": said} if said else {})}
        assert found.schema == (schema or 0)
        assert found.tensors(["n", "m"]) == {f"n{said}": "n", f"m{said}": "m"}
    seen.clear()
    migrate("run", {"schema": 1}, "here").tensors(["n"])
    assert seen == [("b", {"schema": 1}), ("c", {"schema": 1, "said": "b"})], "the table that belongs to the old name"


@pytest.mark.parametrize("schema", [-1, 1.0, "1", True, None, [1]])
def test_migrate_refuses_invalid_schema_numbers(schema):
    with pytest.raises(CheckpointError, match=r"the schema of here is .*; it should be an integer from 0"):
        migrate("run", {"schema": schema}, "here")


@pytest.mark.parametrize("kind", KINDS)
def test_migrate_refuses_newer_schemas(kind):
    with pytest.raises(CheckpointError, match=f"^{newer(kind, 'here')}"):
        migrate(kind, {"schema": current_schema(kind) + 4}, "here")


def test_migrate_refuses_two_tensors_with_one_name(monkeypatch):
    append(monkeypatch, "run", Migration("all the same", tensor=lambda name, table: "w"))
    with pytest.raises(CheckpointError, match="'a' and 'b' of schema 0 would both be renamed to 'w'"):
        migrate("run", {}, "here").tensors(["a", "b"])


def test_runs_of_earlier_schemas_get_family_and_rank():
    best = {"step": 4, "value": 0.5, "phase": 1}
    for task, family in (("HiFiGANTask", "hifigan"), ("GaussianTTSTask", "gaussian_tts")):
        found = migrate("run", {"task": task, "best": best, "schema": 4}, "here").table
        assert found["family"] == family and found["best"] == {"step": 4, "value": 0.5, "rank": 1}
    found = migrate("run", {"task": "ToyTask", "best": None, "schema": 4}, "here").table
    assert "family" not in found and found["best"] is None


# Model folders


def test_model_folders_contain_the_schema_number(tmp_path):
    write_model_folder(tmp_path, family="toy", config={}, arrays={})
    table = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert table["schema"] == current_schema("model folder") >= 1


def test_all_readers_refuse_newer_model_folders(tmp_path):
    config = small_config()
    FAMILY.save_network(tmp_path / "m", loud_generator(config), config)
    export_model(tmp_path / "m", tmp_path / "m" / "g")
    edit(tmp_path / "m" / "config.json", schema=current_schema("model folder") + 4)
    for read in (
        lambda: FAMILY.load_network(tmp_path / "m"),
        lambda: read_config_file(tmp_path / "m"),
        lambda: export_model(tmp_path / "m", tmp_path / "out"),
        lambda: compare(tmp_path / "m", tmp_path / "m"),
        lambda: import_model(tmp_path / "m" / "g", tmp_path / "again"),
    ):
        with pytest.raises(CheckpointError, match=newer("model folder", r".*config\.json")):
            read()


def shortened(name: str) -> str:
    return re.sub(r"^resblocks\.", "blocks.", name)


def lengthened(name: str) -> str:
    return re.sub(r"^(generator\.)?blocks\.", r"\1resblocks.", name)


def renaming() -> Migration:
    """A migration that renames config keys, keys of `info` and tensors of the family `hifigan`."""

    def table(old):
        if old.get("family") != "hifigan":
            return old
        return move_keys(old, {"config.generator.inputs": "config.generator.in_channels", "info.form": "info.layout"})

    def tensor(name, old):
        return lengthened(name) if old.get("family") == "hifigan" else name

    return Migration("names", table, tensor, lambda name, old: name.replace("period.", "mpd."))


@pytest.fixture
def old_folder(tmp_path):
    """A model folder of the schema before `renaming`, and a model folder of the current schema."""
    config = small_config()
    layout = {"nesting": ["model"], "prefix": "dec.", "norms": "hooks", "dtype": "float32"}
    FAMILY.save_network(tmp_path / "new", loud_generator(config), config, info={"layout": layout})
    table = json.loads((tmp_path / "new" / "config.json").read_text(encoding="utf-8"))
    arrays = load_file(tmp_path / "new" / "model.safetensors")
    (tmp_path / "old").mkdir()
    del table["schema"]
    table = move_keys(table, {"config.generator.in_channels": "config.generator.inputs", "info.layout": "info.form"})
    (tmp_path / "old" / "config.json").write_text(json.dumps(table), encoding="utf-8")
    save_file({shortened(name): array for name, array in arrays.items()}, tmp_path / "old" / "model.safetensors")
    return tmp_path / "old", tmp_path / "new"


def test_model_folders_are_migrated(old_folder, monkeypatch, tmp_path):
    old, new = old_folder
    with pytest.raises(Exception, match="inputs"):
        FAMILY.load_network(old)
    before = {path.name: path.read_bytes() for path in old.iterdir()}
    append(monkeypatch, "model folder", renaming())
    generator, config = FAMILY.load_network(old)
    expected, _ = FAMILY.load_network(new)
    assert config == small_config()
    for name, array in named_arrays(expected).items():
        np.testing.assert_array_equal(named_arrays(generator)[name], array)
    assert compare(old, new).same
    assert read_config_file(old).table["info"] == json.loads((new / "config.json").read_text(encoding="utf-8"))["info"]
    export_model(old, tmp_path / "one")
    export_model(new, tmp_path / "other")
    one, other = (torch.load(tmp_path / name, weights_only=True)["model"] for name in ("one", "other"))
    assert list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in other)
    assert {path.name: path.read_bytes() for path in old.iterdir()} == before, "files stay as they are"


def test_migrations_do_not_change_other_families(tmp_path, monkeypatch):
    arrays = {"blocks.0": np.ones(2, np.float32)}
    write_model_folder(tmp_path, family="toy", config={"generator": {"inputs": 3}}, arrays=arrays)
    append(monkeypatch, "model folder", renaming())
    config, read = read_model_folder(tmp_path, family="toy")
    assert config == {"generator": {"inputs": 3}} and list(read) == ["blocks.0"]


def test_config_json_of_jaxvoice_beside_weights_is_migrated(old_folder, monkeypatch):
    old, new = old_folder
    append(monkeypatch, "model folder", renaming())
    table = json.loads((old / "config.json").read_text(encoding="utf-8"))
    with open_archive(new / "model.safetensors") as archive:
        found = HiFiGANLayout().plan_import(Checkpoint(archive, table), ImportOptions())
    assert found.config == small_config()


def test_imported_training_state_is_migrated(tmp_path, monkeypatch):
    stored = Path(__file__).parents[1] / "fixtures" / "v0_1" / "exports" / "jik876" / "model"
    task = HiFiGANTask(continued_config(stored), steps_per_epoch=1)
    expected = named_arrays(continued_state(task, stored).discriminators.model)
    renamed = tmp_path / "model"
    renamed.mkdir()
    for name in ("config.json", "model.safetensors"):
        (renamed / name).write_bytes((stored / name).read_bytes())
    with open_archive(stored / "training.safetensors") as archive:
        tensors = {re.sub(r"^mpd\.", "period.", name): np.array(array) for name, array in archive.tensors.items()}
        save_file(tensors, renamed / "training.safetensors", archive.metadata)
    with pytest.raises(CheckpointError):
        continued_state(task, renamed)
    append(monkeypatch, "model folder", renaming())
    found = named_arrays(continued_state(task, renamed).discriminators.model)
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], array) for name, array in expected.items())


# Runs


def arrays(prefix: str = "") -> dict[str, jax.Array]:
    weight = jnp.arange(6, dtype=jnp.float32).reshape(2, 3)
    return replicate({f"{prefix}w": weight, "step": jnp.array(7, jnp.int32)}, data_mesh())


def abstract() -> dict[str, jax.ShapeDtypeStruct]:
    everywhere = replicated(data_mesh())
    return {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere) for name, x in arrays().items()}


def read(folder, accept=lambda meta: None):
    with Checkpoints(folder, keep_last=1, read_only=True) as store:
        return store.restore(abstract(), accept)


def write(folder, prefix: str = "") -> None:
    with Checkpoints(folder, keep_last=9) as store:
        store.save(1, arrays(prefix), {"task": "ToyTask", "config": {"width": 3}})


def test_checkpoints_are_migrated(tmp_path, monkeypatch):
    write(tmp_path / "c", prefix="net.")
    with pytest.raises(CheckpointError, match="does not match this model"):
        read(tmp_path / "c")

    def tensor(name, table):
        assert table["config"] == {"width": 3}
        return name.removeprefix("net.") if table["task"] == "ToyTask" else name

    append(
        monkeypatch, "run", Migration("names", lambda table: move_keys(table, {"config.width": "config.dim"}), tensor)
    )
    shown = []
    restored = read(tmp_path / "c", shown.append)
    assert restored is not None and restored.meta["config"] == shown[0]["config"] == {"dim": 3}
    assert restored.arrays.keys() == {"w", "step"} == restored.meta["arrays"].keys()
    np.testing.assert_array_equal(restored.arrays["w"], np.arange(6).reshape(2, 3))
    assert restored.arrays["w"].sharding == replicated(data_mesh())
    # A run that goes on holds checkpoints of both schemas.
    with Checkpoints(tmp_path / "c", keep_last=9) as store:
        store.save(2, arrays(), {"task": "ToyTask", "config": {"dim": 4}})
    restored = read(tmp_path / "c")
    assert restored is not None and (restored.step, restored.meta["config"]) == (2, {"dim": 4})


def test_newer_checkpoints_are_refused_but_not_skipped_as_damaged(tmp_path, monkeypatch):
    write(tmp_path / "c")
    monkeypatch.setitem(MIGRATIONS, "run", (*MIGRATIONS["run"], *[Migration("later")] * 4))
    with Checkpoints(tmp_path / "c", keep_last=9) as store:
        store.save(2, arrays(), {})
    monkeypatch.undo()
    with (
        Checkpoints(tmp_path / "c", keep_last=9) as store,
        pytest.raises(CheckpointError, match=newer("run", "Checkpoint 2 in .*")),
    ):
        store.restore(abstract(), lambda meta: None)
    assert not (tmp_path / "damaged").exists()


def test_config_json_of_a_run_is_migrated(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path)
    folder.begin({"task": "ToyTask", "config": {"width": 3}})
    stored = json.loads(folder.config.read_text(encoding="utf-8"))
    assert stored["schema"] == current_schema("run") >= 1
    append(monkeypatch, "run", Migration("names", lambda table: move_keys(table, {"config.width": "config.dim"})))
    for table in (folder.read_config(), run_progress(tmp_path)["config"]):
        assert table["config"] == {"dim": 3} and table["schema"] == current_schema("run")
    edit(folder.config, schema=current_schema("run") + 4)
    for reader in (folder.read_config, lambda: run_progress(tmp_path)):
        with pytest.raises(CheckpointError, match=newer("run", r".*config\.json")):
            reader()


# Exports


@pytest.fixture
def model(tmp_path):
    config = small_config()
    FAMILY.save_network(tmp_path / "model", loud_generator(config), config)
    (tmp_path / "config.json").write_bytes((tmp_path / "model" / "config.json").read_bytes())
    return tmp_path / "model"


@pytest.mark.parametrize("format", ["torch", "safetensors", "npz"])
def test_exports_contain_the_schema_number(format, model, tmp_path):
    file = tmp_path / "export"
    export_model(model, file, format)
    with open_archive(file) as archive:
        assert archive.metadata["jaxvoice_export_schema"] == str(current_schema("export"))
    names = load_file(model / "model.safetensors").keys()
    if format == "torch":
        # As jik876/hifi-gan loads it; and as a whole, mapped into memory too.
        for options in ({"weights_only": True}, {"weights_only": False}, {"weights_only": True, "mmap": True}):
            content = torch.load(file, map_location="cpu", **options)
            assert list(content) == ["generator"] and content["generator"].keys() == names
    elif format == "safetensors":
        assert load_file(file).keys() == names
    else:
        assert set(np.load(file).files) == names


def write_export(file, format, tensors, schema: str) -> None:
    """An export with a schema number."""
    mark = {"jaxvoice_export_schema": schema}
    if format == "torch":
        write_torch(file, {"generator": tensors}, entries=mark)
    elif format == "safetensors":
        save_file(tensors, file, mark)
    else:
        with file.open("wb") as stream:
            np.savez(stream, **tensors)
        with zipfile.ZipFile(file, "a") as archive:
            archive.comment = b"jaxvoice_export_schema=" + schema.encode()


@pytest.mark.parametrize("format", ["torch", "safetensors", "npz"])
def test_exports_of_older_and_newer_schemas(format, model, tmp_path, monkeypatch):
    stored, file = load_file(model / "model.safetensors"), tmp_path / "export"
    write_export(file, format, stored, str(current_schema("export") + 4))
    with pytest.raises(CheckpointError, match=newer("export", ".*export")):
        import_model(file, tmp_path / "again")
    write_export(file, format, stored, "one")
    with pytest.raises(CheckpointError, match="export is 'one'; it should be an integer"):
        import_model(file, tmp_path / "again")
    write_export(file, format, {shortened(name): array for name, array in stored.items()}, "1")
    with pytest.raises(CheckpointError):
        import_model(file, tmp_path / "again")
    append(monkeypatch, "export", Migration("names", tensor=lambda name, table: lengthened(name)))
    import_model(file, tmp_path / "again")
    found = load_file(tmp_path / "again" / "model.safetensors")
    assert found.keys() == stored.keys()
    assert all(np.array_equal(found[name], array) for name, array in stored.items())


def test_files_without_a_schema_number_are_not_migrated(model, tmp_path, monkeypatch):
    """Other programs may have written them."""
    save_file(load_file(model / "model.safetensors"), tmp_path / "released")
    append(monkeypatch, "export", Migration("names", tensor=lambda name, table: f"x.{name}"))
    import_model(tmp_path / "released", tmp_path / "again")
    found, stored = (load_file(folder / "model.safetensors") for folder in (tmp_path / "again", model))
    assert found.keys() == stored.keys()
    assert all(np.array_equal(found[name], array) for name, array in stored.items())


@pytest.mark.parametrize("number", ["9" * 5000, "1" * 10, "-1", "1.0", "", "\u0663"])
def test_migrate_export_refuses_invalid_schema_numbers(number, tmp_path):
    save_file({"w": np.zeros(2, np.float32)}, tmp_path / "file", {"jaxvoice_export_schema": number})
    with (
        open_archive(tmp_path / "file") as archive,
        pytest.raises(CheckpointError, match=r"the schema of here is .*; it should be an integer from 0"),
    ):
        migrate_export(archive.metadata, "here")


def test_migrate_export_refuses_a_schema_of_nine_digits():
    with pytest.raises(CheckpointError, match=r"is 999999999; it should be at most 1 for jaxvoice"):
        migrate_export({"jaxvoice_export_schema": "9" * 9}, "here")

"""Schema numbers of model folders, run folders, exports and voices, and migrations from older schemas.

The `config.json` of a model folder or run folder, and the JSON object in each checkpoint of a run, contain the number
of their schema under `schema`. Version 0.1 wrote no number, which counts as 0. `MIGRATIONS` lists the steps from each
schema to the next, for each kind of file. Readers apply the necessary steps and refuse numbers beyond the last. Files
on disk are not changed until they are written again.

To change a file format, append a `Migration` and write the new form.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from jaxvoice._version import __version__
from jaxvoice.config import format_value
from jaxvoice.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from jaxvoice.weights.archive import Tensors

FileKind = Literal["model folder", "run", "export", "voice"]
JSONObject = Mapping[str, Any]
"""A JSON object: `family`, `config` and `info` of a model folder, or `task`, `family`, `config` and `mel` of a run."""
Rename = Callable[[str, JSONObject], str]
"""Returns the new name of a tensor from its name and the JSON object, both of the older schema."""

SCHEMA_KEY = "schema"
EXPORT_KEY = "jaxvoice_export_schema"
"""The key of the number in an export: an entry of torch's zip file, and metadata of safetensors."""


@dataclass(frozen=True)
class Migration:
    """The step from one schema to the next. Its functions are pure; by default, they change nothing."""

    change: str
    """Description of the change."""
    table: Callable[[JSONObject], JSONObject] = lambda table: table
    """Returns the new JSON object. The old one is not modified."""
    tensor: Rename = lambda name, table: name
    """Renames the tensors of `model.safetensors` or of an export, or the leaves of a run's checkpoints."""
    training_tensor: Rename = lambda name, table: name
    """Renames tensors of a model folder's `training.safetensors`."""


def _without_dropout_seed(table: JSONObject) -> JSONObject:
    config = table.get("config")
    if not isinstance(config, Mapping) or "dropout_seed" not in config:
        return table
    return {**table, "config": {key: value for key, value in config.items() if key != "dropout_seed"}}


_LEARNERS = {
    "HiFiGANTask": {
        "generator": "generator.model",
        "generator_optimizer": "generator.optimizer_state",
        "average": "generator.average",
        "discriminators": "discriminators.model",
        "discriminator_optimizer": "discriminators.optimizer_state",
        "vectors": "discriminators.model_state",
    },
    "GaussianTTSTask": {
        "acoustic.norms": "acoustic.model_state",
        "acoustic_optimizer": "acoustic.optimizer_state",
        "average.model": "acoustic.average",
        "average.norms": "acoustic.average_state",
        "durations": "durations.model",
        "duration_optimizer": "durations.optimizer_state",
    },
}


def _learner_path(name: str, table: JSONObject) -> str:
    for old, new in _LEARNERS.get(table.get("task", ""), {}).items():
        if name.startswith(f"{old}."):
            return new + name.removeprefix(old)
    return name


def _with_aliases(table: JSONObject) -> JSONObject:
    """`info.layout.cond_layer`, the name in the original of one layer, becomes an entry of `info.layout.aliases`."""
    info = table.get("info")
    layout = info.get("layout") if isinstance(info, Mapping) else None
    if not isinstance(layout, Mapping) or layout.get("cond_layer") not in ("cond", "cond_layer"):
        return table
    kept = {key: value for key, value in layout.items() if key != "cond_layer"}
    renamed = {"aliases": {"cond_layer": "cond"}} if layout["cond_layer"] == "cond" else {}
    return {**table, "info": {**info, "layout": kept | renamed}} if isinstance(info, Mapping) else table


def _generator_channels(table: JSONObject) -> JSONObject:
    """`num_mels` of HiFi-GAN's generator becomes `in_channels`, in model folders and in runs."""
    if table.get("family") == "hifigan":
        return move_keys(table, {"config.generator.num_mels": "config.generator.in_channels"})
    if table.get("task") == "HiFiGANTask":
        return move_keys(table, {"config.model.generator.num_mels": "config.model.generator.in_channels"})
    return table


def _with_family(table: JSONObject) -> JSONObject:
    """`family` identifies the task of a run, and the best model of a checkpoint has a `rank` instead of a `phase`."""
    family = {"HiFiGANTask": "hifigan", "GaussianTTSTask": "gaussian_tts"}.get(str(table.get("task")))
    table = move_keys(table, {"best.phase": "best.rank"})
    return table if family is None else {**table, "family": family}


def _vocoder_of_schema_2(table: JSONObject) -> JSONObject:
    return _generator_channels(_with_aliases(table))


MIGRATIONS: dict[FileKind, tuple[Migration, ...]] = {
    "model folder": (
        Migration("config.json contains the number of its schema"),
        Migration(
            "info.layout.aliases replaces cond_layer, and in_channels num_mels of generators", _vocoder_of_schema_2
        ),
    ),
    "run": (
        Migration("config.json and the metadata of checkpoints contain the number of their schema"),
        Migration("the loop's seed is also that of dropout", _without_dropout_seed),
        Migration("networks, optimiser states and averages belong to learners", tensor=_learner_path),
        Migration("in_channels of generators replaces num_mels", _generator_channels),
        Migration("family identifies the task, and rank replaces phase in the best model", _with_family),
    ),
    "export": (Migration("exports contain the number of their schema"),),
    "voice": (
        Migration("voices contain the number of their schema"),
        Migration("the hash of the model is that of named settings and weights; Voice.load refuses older ones"),
        Migration("voice is 'speaker' in the files of all families", lambda table: {**table, "voice": "speaker"}),
    ),
}
"""For each kind of file, the steps from schema 0 to 1, from 1 to 2, and so on."""


def current_schema(kind: FileKind) -> int:
    """The number of the schema in which files of `kind` are written."""
    return len(MIGRATIONS[kind])


@dataclass(frozen=True)
class Migrated:
    """The content of a file, migrated to the current schema."""

    table: dict[str, Any]
    """Its JSON object."""
    schema: int
    """The schema number of the file."""
    steps: tuple[tuple[Migration, JSONObject], ...] = ()
    """The applied migrations, each with the JSON object before it."""

    def tensors(self, stored: Iterable[str]) -> dict[str, str]:
        """The name of each tensor in the file, by its current name, in the order of `stored`.

        **Raises:** `CheckpointError` if two tensors would get the same name.
        """
        return self._names(stored, [(step.tensor, table) for step, table in self.steps])

    def renamed(self, tensors: "Tensors") -> "Tensors":
        """The tensors of an archive under their current names."""
        return tensors.renamed(self.tensors(tensors)) if self.steps else tensors

    def training_tensors(self, stored: Iterable[str]) -> dict[str, str]:
        """`tensors` for `training.safetensors`."""
        return self._names(stored, [(step.training_tensor, table) for step, table in self.steps])

    def _names(self, stored: Iterable[str], renames: list[tuple[Rename, JSONObject]]) -> dict[str, str]:
        names: dict[str, str] = {}
        for old in stored:
            new = old
            for rename, table in renames:
                new = rename(new, table)
            if new in names:
                raise CheckpointError(
                    f"The tensors {format_value(names[new])} and {format_value(old)} of schema {self.schema} would "
                    f"both be renamed to {format_value(new)}; the file contains tensors that jaxvoice does not write."
                )
            names[new] = old
        return names


def migrate(kind: FileKind, table: JSONObject, where: str) -> Migrated:
    """Migrate the JSON object `table` of the file called `where` to the current schema.

    **Raises:** `CheckpointError` for a schema that this version does not support, or a value that is not a schema
    number; `ConfigError` for an object that is nested too deep.
    """
    found = table.get(SCHEMA_KEY, 0)
    known = current_schema(kind)
    if type(found) is not int or found < 0:
        raise CheckpointError(
            f"the schema of {where} is {format_value(found)}; it should be an integer from 0 to {known}. Restore "
            "the file."
        )
    if found > known:
        raise CheckpointError(
            f"the schema of {where} is {format_value(found)}; it should be at most {known} for jaxvoice {__version__}. "
            "A newer version wrote the file. Update jaxvoice."
        )
    steps: list[tuple[Migration, JSONObject]] = []
    for step in MIGRATIONS[kind][found:]:
        steps.append((step, table))
        try:
            table = step.table(table)
        except RecursionError as failure:
            raise ConfigError(f"{where} is nested too deep; restore the file.") from failure
    return Migrated({**table, SCHEMA_KEY: known}, found, tuple(steps))


def migrate_export(metadata: Mapping[str, Any], where: str) -> Migrated:
    """The names of the tensors of the export `where` in the current schema, from the `metadata` of its archive.

    A file without a schema number is an export of version 0.1, or not an export. Both contain the names of other
    implementations, which do not change.

    **Raises:** `CheckpointError` as `migrate` does.
    """
    number = metadata.get(EXPORT_KEY)
    if number is None:
        return Migrated({}, 0)
    text = str(number)
    # `int` raises ValueError for thousands of digits, and no schema number has more than nine.
    plain = text.isascii() and text.isdecimal() and len(text) <= 9
    return migrate("export", {SCHEMA_KEY: int(text) if plain else number}, where)


def with_schema_number(kind: FileKind, table: JSONObject) -> dict[str, Any]:
    """`table` with the number of the current schema of its `kind`."""
    return {**table, SCHEMA_KEY: current_schema(kind)}


def export_metadata() -> dict[str, str]:
    """The metadata of an export: the number of the current schema under `EXPORT_KEY`."""
    return {EXPORT_KEY: str(current_schema("export"))}


def move_keys(table: JSONObject, paths: Mapping[str, str]) -> dict[str, Any]:
    """A copy of `table` in which the values at the dotted `paths` are moved to new paths. Missing paths are skipped.

    `move_keys(table, {"config.generator.num_mels": "config.generator.in_channels"})` renames a key;
    `{"info.layout": "info.export.layout"}` moves a key into another object, which is created if necessary.

    **Raises:** `CheckpointError` if the new path exists, passes through a value that is not an object, or is below the
    old path.
    """
    copy = _copy(table)
    for old, new in paths.items():
        *above, last = old.split(".")
        holder = copy
        for key in above:
            holder = holder.get(key)
            if not isinstance(holder, dict):
                break
        if not isinstance(holder, dict) or last not in holder:
            continue
        if f"{new}.".startswith(f"{old}."):
            raise CheckpointError(
                f"The key {format_value(old)} cannot move to {format_value(new)}, which is the key itself or below it."
            )
        target, name = _parent(copy, new, old)
        if target is holder:  # the order of the keys stays
            items = [(name if key == last else key, value) for key, value in holder.items()]
            holder.clear()
            holder.update(items)
        else:
            target[name] = holder.pop(last)
    return copy


def _parent(table: dict[str, Any], path: str, moved: str) -> tuple[dict[str, Any], str]:
    """The object that will contain `path`, created if necessary, and the last key. `path` must not exist."""
    *above, name = path.split(".")
    for count, key in enumerate(above, 1):
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise CheckpointError(
                f"The key {format_value(moved)} cannot move to {format_value(path)}: "
                f"{format_value('.'.join(above[:count]))} is {format_value(table)}, not an object."
            )
    if name in table:
        raise CheckpointError(
            f"The key {format_value(moved)} cannot move to {format_value(path)}, which exists already."
        )
    return table, name


def _copy(value: Any) -> Any:
    """A copy of nested mappings and of lists in them. The items of lists are not copied, because they may be large."""
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    return list(value) if isinstance(value, list | tuple) else value

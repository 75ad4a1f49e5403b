"""`jaxvoice dissect`: print tables of the activations, the operations and the weights of a model."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

if TYPE_CHECKING:
    from jaxvoice.dissect import Table
    from jaxvoice.weights.formats import TorchScriptArchive

TableName = Literal["activations", "graph", "weights"]


@dataclass(frozen=True)
class Dissect:
    """Print tables of the activations, the operations and the weights of a model, without running it.

    The model is a model folder, a run folder, or a TorchScript archive, for whose activations --input is needed. Of
    other weight files, only the weights are printed. Import them first for the other tables.
    """

    path: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="PATH")]
    """The file or folder."""
    table: Annotated[tuple[TableName, ...], tyro.conf.arg(metavar="TABLE ...")] = ()
    """The tables: activations (results of modules and operations), graph (also operands and parameters), weights
    (arrays with statistics). By default activations and weights."""
    match: Annotated[tuple[str, ...], tyro.conf.arg(metavar="REGEX ...")] = ()
    """Regular expressions that all match the start of a name."""
    exclude: Annotated[tuple[str, ...], tyro.conf.arg(metavar="REGEX ...")] = ()
    """Regular expressions; names whose start one of them matches are left out."""
    search: bool = False
    """Match anywhere in a name, not only at its start."""
    op: Annotated[tuple[str, ...], tyro.conf.arg(metavar="OP ...")] = ()
    """Classes of modules and operations of JAX, for example Conv1d or dot_general."""
    operations: bool = False
    """List operations of JAX in the table of activations, not only the results of modules."""
    module: str = ""
    """The module of a TorchScript archive, by default the whole model."""
    method: str = "forward"
    """The method of the module."""
    input: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SHAPE ...")] = ()
    """Shapes of the inputs of the method, for example 1x80x130."""
    output: Path | None = None
    """Write the table to a file instead: CSV to .csv, HTML to .html, otherwise text."""
    debug: bool = False
    """Show the traceback of an error."""

    def run(self) -> int:
        """Print the tables; returns 0.

        **Raises:** `ConfigError` for a table that the file does not have, and for filters that no row passes.
        """
        import shutil

        from jaxvoice.console import print_text
        from jaxvoice.errors import ConfigError

        tables = self.of_file() if self.path.is_file() else self.of_folder()
        if self.output is not None:
            if len(tables) != 1:
                raise ConfigError(f"--output takes one table, and there are {len(tables)}; choose one with --table.")
            next(iter(tables.values())).write(self.output)
            print_text(f"wrote {self.output}")
            return 0
        columns = max(shutil.get_terminal_size((120, 24)).columns, 40)
        for i, (name, table) in enumerate(tables.items()):
            print_text(("\n" if i else "") + f"{name}\n\n{table.to_text(columns)}")
        return 0

    def of_folder(self) -> "dict[str, Table[Any]]":
        """The tables of a model folder or run folder."""
        import jax

        from jaxvoice.dissect import tag
        from jaxvoice.models.family_lookup import find_family
        from jaxvoice.pipelines.sources import find_model_folder

        folder = find_model_folder(self.path)
        family = find_family(folder)
        network, config = family.load_network(folder)
        args, kwargs = family.example_inputs(config, key=jax.random.key(0))

        def call(network: Any, *args: Any, **kwargs: Any) -> Any:
            return tag(network, merged=family.merged)(*args, **kwargs)

        return self.tables(call, network, args, kwargs, merged=family.merged)

    def of_file(self) -> "dict[str, Table[Any]]":
        """The tables of a weight file."""
        from jaxvoice.errors import ConfigError
        from jaxvoice.weights.formats import TorchScriptArchive, open_archive

        with open_archive(self.path) as archive:
            if isinstance(archive, TorchScriptArchive) and self.input:
                return self.of_archive(archive)
            wrong = [name for name in self.table if name != "weights"]
            if wrong and isinstance(archive, TorchScriptArchive):
                raise ConfigError(
                    f"--table {wrong[0]} of a TorchScript archive needs the shapes of its inputs: --input."
                )
            if wrong:
                raise ConfigError(
                    f"{self.path} is a {archive.source.format} file, which has no {wrong[0]}. Import it with "
                    "`jaxvoice import`, and pass the model folder."
                )
            return self.tables(None, dict(archive.tensors.weights()), (), {})

    def of_archive(self, archive: "TorchScriptArchive") -> "dict[str, Table[Any]]":
        """The tables of a method of a TorchScript archive."""
        import jax

        from jaxvoice.dissect import tag
        from jaxvoice.errors import ConfigError
        from jaxvoice.torchscript import function

        shapes = []
        for text in self.input:
            if not re.fullmatch(r"\d+(x\d+)*", text):
                raise ConfigError(f"--input is {text!r}; it should be a shape such as 1x80x130.")
            shapes.append(jax.ShapeDtypeStruct(tuple(map(int, text.split("x"))), jax.numpy.float32))
        method = function(archive, self.module, self.method)
        weights = {name: jax.numpy.asarray(array) for name, array in method.weights.items()}
        return self.tables(tag(method), weights, tuple(shapes), {})

    def tables(
        self, call: Any, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, merged: tuple[str, ...] = ()
    ) -> "dict[str, Table[Any]]":
        """The requested tables of `call(model, *args, **kwargs)`; those of weights alone if `call` is None.

        **Raises:** `ConfigError` if no row passes the filters, with the nearest names.
        """

        def listed(chosen: Dissect) -> "dict[str, Table[Any]]":
            return chosen.filtered(call, model, args, kwargs, merged)

        found = listed(self)
        self._check_found(found, listed)
        return found

    def filtered(
        self, call: Any, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], merged: tuple[str, ...]
    ) -> "dict[str, Table[Any]]":
        """The requested tables, which may be empty."""
        from jaxvoice import dissect

        filters = {"match": self.match, "exclude": self.exclude, "search": self.search}
        asked = self.table or (("activations", "weights") if call is not None else ("weights",))
        found: dict[str, Table[Any]] = {}
        if call is not None and "activations" in asked:
            modules = None if self.operations else True
            found["activations"] = dissect.activations(
                call, model, *args, **filters, op=self.op, modules=modules, **kwargs
            )
        if call is not None and "graph" in asked:
            found["graph"] = dissect.graph(call, model, *args, **filters, op=self.op, **kwargs)
        if "weights" in asked:
            found["weights"] = dissect.weights(model, **filters, merged=merged)
        return found

    def _check_found(
        self, found: "dict[str, Table[Any]]", listed: "Callable[[Dissect], dict[str, Table[Any]]]"
    ) -> None:
        """Check that the filters leave a row of a table. Each of them is tried alone to find the one to name."""
        from jaxvoice.dissect.patterns import nearest
        from jaxvoice.errors import ConfigError

        empty = not any(map(len, found.values()))
        # --op does not filter weights, which are listed for a misspelt class too.
        values = [table for name, table in found.items() if name != "weights"]
        if not (self.match or self.exclude or self.op) or not (empty or (self.op and not any(map(len, values)))):
            return
        unfiltered = replace(self, match=(), exclude=(), op=())
        everything = listed(unfiltered)
        ops = dict.fromkeys(row.op for name, table in everything.items() if name != "weights" for row in table)
        for op in self.op if values else ():
            if op not in ops:
                hint = "" if self.operations or "graph" in found else " --operations lists operations of JAX too."
                raise ConfigError(f"--op {op!r} is no class or operation of the model; {nearest(op, ops)}.{hint}")
        if not empty:
            return
        names = dict.fromkeys(name for table in everything.values() for name in table.names)
        for pattern in self.match:
            if not any(map(len, listed(replace(unfiltered, match=(pattern,))).values())):
                near = nearest(pattern.replace("\\", ""), names)
                hint = "" if self.search else " --search matches anywhere in a name."
                raise ConfigError(f"--match {pattern!r} matches no name in the tables; {near}.{hint}")
        given = [f"--{name}" for name in ("match", "exclude", "op") if getattr(self, name)]
        raise ConfigError(
            f"No row passes all filters ({', '.join(given)}): all expressions of --match should match, and none of "
            "--exclude. Write alternatives as one expression, such as 'encoder|decoder'."
        )

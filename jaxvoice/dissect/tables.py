"""Tables of the operations, the activations and the weights of a model."""

import csv
import html
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import equinox as eqx
import jax
import numpy as np

from jaxvoice.console import printable
from jaxvoice.dissect.patterns import Aliases, Filter, as_tuple
from jaxvoice.dissect.programs import Program, Value, is_array, trace
from jaxvoice.errors import ConfigError
from jaxvoice.inspection.reports import statistics
from jaxvoice.nn import fold_weight_norm
from jaxvoice.text_tables import table
from jaxvoice.weights import named_arrays

_Row = TypeVar("_Row", bound=tuple[Any, ...])
_LONGEST = 40


class ActivationRow(NamedTuple):
    """A value that a function computes."""

    name: str
    """The path of its module, or the operation with a number. Results inside loops cannot be captured."""
    alias: str
    """Its other names."""
    op: str
    """The class of the module, or the operation of JAX."""
    module: str
    """The innermost tagged module in which an operation runs; empty for results of modules."""
    shape: tuple[int, ...]
    """Its shape."""
    dtype: str
    """Its dtype."""
    loop: bool
    """Whether it is computed in a loop or branch."""


class GraphRow(NamedTuple):
    """An operation, or the result of a module."""

    name: str
    """As for `ActivationRow`."""
    alias: str
    """Its other names."""
    op: str
    """The class of the module, or the operation of JAX."""
    module: str
    """The innermost tagged module in which the operation runs."""
    inputs: tuple[str, ...]
    """The names of its operands: numbers for literals, arguments by place and path (`1.ups.0.bias`), `input` for those
    of loops."""
    parameters: str
    """The parameters of the operation, shortened."""
    shape: tuple[int, ...]
    """The shape of the result."""
    dtype: str
    """The dtype of the result."""
    loop: bool
    """Whether it is in a loop or branch."""


class WeightRow(NamedTuple):
    """An array of a model, with statistics of its finite elements. They are None for shapes and empty arrays."""

    name: str
    """Its name, the attribute path."""
    shape: tuple[int, ...]
    """Its shape."""
    dtype: str
    """Its dtype."""
    min: float | None
    """Smallest element."""
    max: float | None
    """Largest element."""
    mean: float | None
    """Mean of the elements."""
    std: float | None
    """Standard deviation of the elements."""


@dataclass(frozen=True)
class Table(Generic[_Row]):
    """Rows that are shown as text, in notebooks as HTML, and can be written as CSV.

    Rows are named tuples: `[row.name for row in table]`.
    """

    rows: tuple[_Row, ...]
    """The rows."""
    columns: tuple[str, ...]
    """The names of the columns."""

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[_Row]:
        return iter(self.rows)

    def __getitem__(self, i: int) -> _Row:
        return self.rows[i]

    @property
    def names(self) -> list[str]:
        """The names of the rows."""
        return [row[0] for row in self.rows]

    def __str__(self) -> str:
        return self.to_text()

    def to_text(self, width: int = 120) -> str:
        """The rows in columns, at most `width` characters wide. Empty columns are omitted."""
        numbers = [i for i in range(len(self.columns)) if any(isinstance(row[i], float) for row in self.rows)]
        lines = table(
            [[printable(_text(cell)) for cell in row] for row in self.rows],
            width,
            header=self.columns,
            right=numbers,
            flex=0,
        )
        return "\n".join([*lines, "", f"{len(self.rows)} row{'s' * (len(self.rows) != 1)}"] if lines else ["0 rows"])

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr>{''.join(f'<td>{html.escape(printable(_text(cell)))}</td>' for cell in row)}</tr>"
            for row in self.rows
        )
        head = "".join(f"<th>{html.escape(column)}</th>" for column in self.columns)
        return (
            '<div style="max-height: 300px; overflow: auto"><table>'
            f"<thead><tr>{head}</tr></thead><tbody>{cells}</tbody></table></div>"
        )

    def to_csv(self) -> str:
        """The rows as CSV with a header. Shapes are written as `64x4096`."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([_text(cell, digits=None) for cell in row] for row in self.rows)
        return text.getvalue()

    def write(self, path: str | Path) -> None:
        """Write the table: CSV to `.csv`, HTML to `.html`, otherwise text.

        **Raises:** `ConfigError` if the file cannot be written.
        """
        path = Path(path)
        kinds: dict[str, Callable[[], str]] = {".csv": self.to_csv, ".html": self._repr_html_}
        try:
            path.write_text(kinds.get(path.suffix, lambda: f"{self}\n")(), encoding="utf-8")
        except OSError as failure:
            raise ConfigError(f"{path} cannot be written ({failure.strerror}); check the path.") from failure


def activations(
    function: Callable[..., Any],
    *args: Any,
    match: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] | None = None,
    op: str | Sequence[str] | None = None,
    search: bool = False,
    modules: bool | None = None,
    aliases: Aliases | None = None,
    **kwargs: Any,
) -> Table[ActivationRow]:
    """The values that `function(*args, **kwargs)` computes, in order, without computing them.

    ```python
    print(dissect.activations(dissect.tag(generator), mel, op=["Conv1d", "ConvTranspose1d"]))
    ```

    **Arguments:**

    - `function`: calls modules of a tagged model. Without tags, only operations of JAX have names.
    - `args`, `kwargs`: its arguments; arrays may be `jax.ShapeDtypeStruct`.
    - `match`: regular expressions, all of which match the start of the name, of an alias, or of the operation in its
        module (`net.4/square`).
    - `exclude`: regular expressions; rows that one of them matches in this way are left out.
    - `op`: classes of modules and operations of JAX.
    - `search`: match expressions anywhere in a name, not only at its start.
    - `modules`: True for the results of modules alone, False for operations of JAX alone.
    - `aliases`: other names, each mapped to the name of a result.

    **Raises:** `ConfigError` for an invalid regular expression.
    """
    rows = [
        ActivationRow(*start, value.shape, str(value.dtype), value.in_loop)
        for value, start, _ in _listed(function, args, kwargs, match, exclude, op, search, modules, aliases)
    ]
    return Table(tuple(rows), ActivationRow._fields)


def graph(
    function: Callable[..., Any],
    *args: Any,
    match: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] | None = None,
    op: str | Sequence[str] | None = None,
    search: bool = False,
    aliases: Aliases | None = None,
    **kwargs: Any,
) -> Table[GraphRow]:
    """The operations and the results of modules of `function(*args, **kwargs)`, with the names of their operands.

    Arguments and errors are those of `activations`.
    """
    rows = [
        GraphRow(
            *start,
            program.operands.get(value, ()),
            _parameters(value),
            value.shape,
            str(value.dtype),
            value.in_loop,
        )
        for value, start, program in _listed(function, args, kwargs, match, exclude, op, search, None, aliases)
    ]
    return Table(tuple(rows), GraphRow._fields)


def weights(
    model: Any,
    *,
    match: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] | None = None,
    search: bool = False,
    folded: bool = False,
    merged: Sequence[str] = (),
) -> Table[WeightRow]:
    """The arrays of `model` by name, with statistics of their values.

    **Arguments:**

    - `model`: a model, or any pytree of arrays. Those of `eqx.filter_eval_shape` are listed without statistics.
    - `match`, `exclude`, `search`: as for `activations`.
    - `merged`: attributes of `model` whose names are left out, such as `Family.merged`.
    - `folded`: list the kernel `weight` of layers with weight norm too, beside `weight_v` and `weight_g`.

    **Raises:** `ConfigError` for an invalid regular expression, or a model that is no pytree, such as a pipeline.
    """
    chosen = Filter.of(match, exclude, search)
    # The weights of archives are NumPy arrays.
    model = jax.tree.map(lambda leaf: jax.numpy.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf, model)
    if jax.tree.structure(model) == jax.tree.structure(0) and not is_array(model):
        raise ConfigError(
            f"The model is of type {type(model).__name__}, which is no pytree of arrays. Pass a network, such as the "
            "attribute network of a pipeline."
        )
    arrays = dict(named_arrays(model, merged=merged))
    if folded:
        kernels = named_arrays(_fold(model), merged=merged)
        arrays = {name: array for given in arrays for name, array in _with_kernel(given, arrays, kernels)}
    rows = [_weight_row(name, array) for name, array in arrays.items() if chosen.accepts(name)]
    return Table(tuple(rows), WeightRow._fields)


def _with_kernel(name: str, arrays: dict[str, Any], kernels: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    yield name, arrays[name]
    kernel = name.removesuffix("_v")
    if name.endswith("weight_v") and kernel in kernels:
        yield kernel, kernels[kernel]


def _fold(model: Any) -> Any:
    if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(model)):
        return eqx.filter_eval_shape(fold_weight_norm, model)
    return fold_weight_norm(model)


def _weight_row(name: str, array: Any) -> WeightRow:
    found = None
    if not isinstance(array, jax.ShapeDtypeStruct) and not jax.numpy.issubdtype(array.dtype, jax.dtypes.extended):
        found = statistics(np.asarray(array))
    numbers = (None,) * 4 if found is None else (found.min, found.max, found.mean, found.std)
    return WeightRow(name, tuple(array.shape), str(array.dtype), *numbers)


def _listed(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    match: str | Sequence[str] | None,
    exclude: str | Sequence[str] | None,
    op: str | Sequence[str] | None,
    search: bool,
    modules: bool | None,
    aliases: Aliases | None,
) -> Iterator[tuple[Value, tuple[str, str, str, str], Program]]:
    """The values that pass the filters, each with the first columns of its row."""
    chosen, ops = Filter.of(match, exclude, search), as_tuple(op)
    program, _ = trace(function, args, kwargs)
    local = {value: name for name, values in program.local_names.items() for value in values}
    other: dict[str, list[str]] = {}
    for alias, target in (aliases or {}).items():
        other.setdefault(target, []).append(alias)
    for value in program.values:
        if modules not in (None, value.is_module) or (ops and value.op not in ops):
            continue
        names = [value.name, *([local[value]] if value in local else [])]
        also = [alias for name in {*names, value.name.partition("[")[0]} for alias in other.get(name, ())]
        if chosen.accepts(*names, *also):
            module = "" if value.is_module else program.module_of[value]
            yield value, (value.name, ", ".join(also), value.op, module), program


def _parameters(value: Value) -> str:
    """The parameters of an operation as short text, without bodies and names."""
    if value.is_module:
        return ""
    shown = []
    for name, given in value.equation.params.items():
        text = " ".join(str(given).split())
        omitted = given is None or given is False or (isinstance(given, tuple) and not given)
        if not omitted and len(text) <= _LONGEST:
            shown.append(f"{name}={text}")
    return ", ".join(shown)


def _text(cell: Any, digits: int | None = 4) -> str:
    if isinstance(cell, bool):
        return "loop" if cell else ""
    if isinstance(cell, float):
        return repr(cell) if digits is None else f"{cell:.{digits}g}"
    if isinstance(cell, tuple):
        if all(isinstance(item, int) for item in cell):
            return "x".join(map(str, cell)) if cell else "scalar"
        return ", ".join(cell)
    return "" if cell is None else str(cell)

"""The text output of `jaxvoice inspect`."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxvoice.console import printable
from jaxvoice.errors import ConfigError
from jaxvoice.inspection.description import FileDescription, size_text
from jaxvoice.inspection.layer_text import value_text
from jaxvoice.inspection.tree_rows import limited_rows, shape_text, tree_rows
from jaxvoice.text_tables import shortened, table, wrapped
from jaxvoice.weights.archive import Archive

MOST_ROWS, MOST_METADATA = 400, 30
_BLOCK = 2**22


def file_lines(description: FileDescription, columns: int, *, depth: int | None = None) -> list[str]:
    """Lines of at most `columns`: the file, its totals, its module tree up to `depth`, and its metadata."""
    dtype = main_dtype(description)
    if depth is None:
        tree, cut = limited_rows(description.root, MOST_ROWS, dtype)
    else:
        tree, cut = tree_rows(description.root, depth=depth, dtype=dtype), None
    cells = [("  " * row.depth + row.name, row.layer, row.tensors, row.parameters) for row in tree]
    header = ("module", "layer", "tensors", "parameters")
    lines = [*heading(description, columns), "", *table(cells, columns, header=header, right=[3])]
    if cut is not None:
        lines += ["", *wrapped(f"The tree has more levels; --depth {cut + 1} shows more.", columns)]
    metadata = metadata_cells(description.archive.metadata, MOST_METADATA)
    if metadata:
        lines += ["", "metadata", *_indented(table(metadata, columns - 2))]
    return lines


def heading(description: FileDescription, columns: int) -> list[str]:
    """The file, its format and totals."""
    archive, infos = description.archive, description.archive.tensors.infos().values()
    source = archive.source
    try:
        size = size_text(source.path.stat().st_size)
    except OSError:
        size = "file not found"
    count = sum(info.size for info in infos)
    noun = "tensor" if len(archive.tensors) == 1 else "tensors"
    kinds = ", ".join(
        f"{dtype} x {n:,}" if len(description.dtypes) > 1 else dtype for dtype, n in description.dtypes.most_common()
    )
    totals = [f"{len(archive.tensors):,} {noun}", f"{description.root.parameters:,} parameters"]
    if description.other_elements:
        totals.append(f"{description.other_elements:,} other elements")
    if description.shares:
        totals.append(f"{len(description.shares):,} of them second names of other tensors")
    totals.append(size_text(sum(info.nbytes for info in infos)) if count else "no elements")
    details = [f"{printable(name)} {printable(str(value))}" for name, value in source.details.items()]
    cells = [
        ("file", printable(str(source.path))),
        ("format", ", ".join([source.format, size, *details])),
        ("tensors", ", ".join(totals)),
        ("types", kinds),
        ("norms", norms_text(description)),
        ("code", printable(description.problem)),
    ]
    return table([cell for cell in cells if cell[1]], columns)


def norms_text(description: FileDescription) -> str:
    """The norms of weights in the archive, and whether they are folded."""
    if not description.norms:
        weights = (info for name, info in description.archive.tensors.infos().items() if name.endswith("weight"))
        return "none, or folded into the weights" if any(len(info.shape) > 1 for info in weights) else ""
    return (
        ", ".join(f"{norm} on {n} layer{'s' * (n > 1)}" for norm, n in description.norms.most_common()) + ", not folded"
    )


def main_dtype(description: FileDescription) -> np.dtype | None:
    """The dtype of most elements, which the tree omits; `None` if there are no tensors."""
    totals: dict[np.dtype, int] = {}
    for info in description.archive.tensors.infos().values():
        totals[info.dtype] = totals.get(info.dtype, 0) + info.size
    return max(totals, key=lambda dtype: totals[dtype]) if totals else None


def metadata_cells(metadata: Mapping[str, Any], most: int | None, *, cut: int = 200) -> list[tuple[str, str]]:
    """Names and values, those of lower depth first. Large dicts and long lists are shortened.

    **Arguments:** `most`: the maximum number of rows, `None` for all; `cut`: the maximum length of a value.
    """
    found: list[tuple[str, str]] = []
    pending: list[tuple[str, Any]] = [(str(key), value) for key, value in metadata.items()]
    while pending:
        name, value = pending.pop(0)
        if isinstance(value, (list, tuple)) and 0 < len(value) <= 4 and all(isinstance(one, Mapping) for one in value):
            value = dict(enumerate(value))
        if isinstance(value, Mapping) and 0 < len(value) <= 24:
            pending += [(f"{name}.{key}", below) for key, below in value.items()]
        else:
            found.append((printable(name), shortened(value_text(value), cut)))
    if most is None or len(found) <= most:
        return found
    return [*found[:most], ("...", f"{len(found) - most} more; --json lists them all")]


def _indented(lines: list[str]) -> list[str]:
    return ["  " + line for line in lines]


class TensorStatistics(NamedTuple):
    """Statistics of the finite elements of a tensor; for a complex tensor, of their magnitudes."""

    min: float
    max: float
    mean: float
    std: float
    not_finite: int


def statistics(array: np.ndarray) -> TensorStatistics | None:
    """Minimum, maximum, mean and standard deviation, computed in blocks; `None` if `array` is empty."""
    flat = array.reshape(-1)
    if not flat.size:
        return None
    count, low, high, mean, squares = 0, np.inf, -np.inf, 0.0, 0.0
    for start in range(0, flat.size, _BLOCK):
        block = flat[start : start + _BLOCK]
        block = (np.abs(block) if np.iscomplexobj(block) else block).astype(np.float64)
        block = block[np.isfinite(block)]
        if block.size:
            low, high = min(low, float(block.min())), max(high, float(block.max()))
            # Combine means and sums of squared deviations of two groups (Chan, Golub, LeVeque 1979).
            new = float(block.mean())
            total, step = count + block.size, new - mean
            squares += float(((block - new) ** 2).sum()) + step * step * count * block.size / total
            mean, count = mean + step * block.size / total, total
    if not count:
        return TensorStatistics(np.nan, np.nan, np.nan, np.nan, flat.size)
    return TensorStatistics(low, high, mean, (squares / count) ** 0.5, flat.size - count)


def matching_tensors(archive: Archive, pattern: str) -> list[str]:
    """Names of tensors that contain a match of `pattern`.

    **Raises:** `ConfigError` for an invalid regular expression.
    """
    try:
        wanted = re.compile(pattern)
    except re.error as failure:
        raise ConfigError(
            f"--tensors is {pattern!r}; it should be a regular expression ({failure}). '.' matches all tensors."
        ) from None
    return [name for name in archive.tensors if wanted.search(name)]


def tensor_lines(archive: Archive, names: list[str], columns: int) -> list[str]:
    """A table of tensors with statistics of their values. Shared storages are noted."""
    header = ("tensor", "shape", "type", "min", "max", "mean", "std", "")
    first: dict[str, str] = {}
    for name, info in archive.tensors.infos().items():
        first.setdefault(info.storage, name)
    cells = []
    for name in names:
        info = archive.tensors.info(name)
        found = statistics(archive.tensors[name])
        numbers = [f"{value:.3g}" for value in found[:4]] if found else [""] * 4
        notes = [f"storage of {printable(first[info.storage])}"] if first[info.storage] != name and found else []
        notes += [f"{found.not_finite:,} not finite"] if found and found.not_finite else []
        cells.append((printable(name), shape_text(info.shape), str(info.dtype), *numbers, ", ".join(notes)))
    lines = table(cells, columns, header=header, right=[3, 4, 5, 6], flex=0)
    total = sum(archive.tensors.info(name).size for name in names)
    return [*lines, "", f"{len(names):,} of {len(archive.tensors):,} tensors, {total:,} elements"]

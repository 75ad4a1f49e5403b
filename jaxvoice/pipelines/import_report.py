"""The report of an import, `report.md`: how every tensor was used."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxvoice.config import to_dict
from jaxvoice.console import printable
from jaxvoice.weights.archive import Archive
from jaxvoice.weights.rules import Change


class TensorLine(NamedTuple):
    """How one tensor was used."""

    source: str
    """Its name in the file, or several names with ` + ` between them."""
    target: str
    """Its name in the model."""
    shape: str
    """The shapes in the file."""
    dtype: str
    """The types in the file."""
    remark: str
    """The conversion."""


def change_lines(archive: Archive, table: Sequence[Change]) -> list[TensorLine]:
    """The lines of a plan's table, with the shapes and types of the file."""
    lines = []
    for sources, target, remark in table:
        infos = [archive.tensors.info(name) for name in sources]
        shapes = " + ".join("x".join(map(str, info.shape)) or "()" for info in infos)
        types = " + ".join(dict.fromkeys(info.dtype.name for info in infos))
        lines.append(TensorLine(" + ".join(sources), target, shapes, types, remark))
    return lines


def report_text(
    info: Mapping[str, Any], config: Any, tables: Mapping[str, Sequence[TensorLine]], more: str = ""
) -> str:
    """The text of `report.md`: origin, assumptions, ignored and initialised tensors, configuration, the text `more` of
    the family, and the use of every tensor."""
    parts = [f"# {_cell(info['source'])}", ""]
    parts += _table(
        ("", ""),
        [
            ("origin", info["origin"]),
            ("version", info["version"]),
            ("format", info["format"]),
            ("sha256", info["sha256"]),
            ("licence of the weights", info["licence"]),
            ("configuration", info["config"] or "none"),
        ],
    )
    training = info.get("training")
    if training:
        about = {name: value for name, value in training.items() if not isinstance(value, Mapping)}
        parts += ["## Training", "", *_table(("", ""), [(name, str(value)) for name, value in about.items()])]
        for name, optimizer in training.items():
            if not isinstance(optimizer, Mapping):
                continue
            settings = ", ".join(f"{key} {value}" for key, value in optimizer.items())
            parts += [f"Optimiser of the {name}: {settings}.", ""]
    for title, lines in (
        ("Assumptions", info["assumed"]),
        ("Missing weights, initialised as in a new model", info["missing"]),
        ("Differences of an export from the original", info["differs"]),
    ):
        if lines:
            parts += [f"## {title}", "", *(f"- {_cell(line)}" for line in lines), ""]
    if info["ignored"]:
        parts += ["## Ignored tensors", "", *_table(("tensor", "reason"), list(info["ignored"].items()))]
    given = [
        (f"--{option.replace('_', '-')} {pattern}", ", ".join(names) or "nothing")
        for option, patterns in info["patterns"].items()
        for pattern, names in patterns.items()
    ]
    if given:
        parts += ["## Patterns", "", *_table(("pattern", "matching names"), given)]
    parts += ["## Configuration", ""]
    for name, value in to_dict(config).items():
        fields = value if isinstance(value, Mapping) else {name: value}
        parts += [f"- {name}: " + ", ".join(f"{key} {_with_parentheses(field)}" for key, field in fields.items())]
    if more:
        parts += ["", more.rstrip()]
    for file, lines in tables.items():
        parts += ["", f"## Tensors of {file}", ""]
        parts += _table(("source", "target", "shape", "dtype", "conversion"), lines)
    return "\n".join(parts).rstrip() + "\n"


def _with_parentheses(value: Any) -> str:
    """`value` as text, with parentheses for brackets, which Markdown may read as a link."""
    return str(value).replace("[", "(").replace("]", ")")


def _cell(value: Any) -> str:
    return printable(str(value)).replace("|", "\\|").replace("<", "&lt;")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in (head, *rows)]
    return [lines[0], "|" + " --- |" * len(head), *lines[1:], ""]

"""Print the code of a TorchScript module from the archive, with comments that resolve its names."""

import ast
import difflib
import math
import re
import textwrap
from collections import Counter
from collections.abc import Iterator
from typing import Any

from jaxvoice.console import printable
from jaxvoice.errors import ConfigError
from jaxvoice.text_tables import shortened, width as width_of, wrapped
from jaxvoice.torchscript.code import ClassCode, assigned_attributes, dotted_name, original_name, parse_code
from jaxvoice.torchscript.layers import plain_constants
from jaxvoice.torchscript.symbolic_interpreter import SymbolicInterpreter
from jaxvoice.torchscript.symbolic_values import Ref, Stored, is_plain, join_path

_LONGEST_VALUE = 60


def module_code(archive: Any, module: str = "", *, width: int = 80) -> list[str]:
    """The lines of code of a module in a TorchScript archive. `module` is its dotted name, `""` for the whole model.

    The lines are those of the archive with three changes: classes have their original names, constants are replaced by
    their values, and real numbers are written with as few digits as possible. Comments of at most `width` characters
    state the path and the class of each child, the shape of each tensor, and the value of each attribute in a line. The
    comment says "initially" if a method of the class assigns the attribute. The code is not executed.

    **Raises:** `ConfigError` for an unknown module, with the nearest name; `CheckpointError` for invalid code.
    """
    code = parse_code(archive.code)
    symbolic = SymbolicInterpreter(code, archive.content, plain_constants(archive))
    if module not in symbolic.records:
        near = difflib.get_close_matches(module, symbolic.records, n=1, cutoff=0.3)
        hint = f"; did you mean {printable(near[0])!r}?" if near else ""
        raise ConfigError(f"the file has no module {printable(module)!r}{hint or '.'}")
    owner = symbolic.class_of(symbolic.records[module])
    assert owner is not None
    lines = _comment_lines(f"{module or '(top)'}: {owner.original_name}", width)
    children = [name for name in symbolic.records[module].state if join_path(module, name) in symbolic.records]
    for name in children:
        about = f"#   {join_path(module, name)}: {_Printer.class_name(symbolic, join_path(module, name))}"
        lines.append(shortened(printable(about), width))
    if not owner.methods:
        return lines + _comment_lines("This module is never called, so the archive contains no code for it.", width)
    source = archive.code[owner.file].split("\n")
    texts = {
        name: _numbered("\n".join(source[method.lineno - 1 : method.end_lineno]), method)
        for name, method in owner.methods.items()
    }
    # In a trace, the second call of a module is `forward1`.
    repeated = [name for name in texts if re.fullmatch(r"forward\d+", name) and texts[name] == texts.get("forward")]
    for name, method in owner.methods.items():
        if name not in repeated:
            lines += ["", *_Printer(archive, symbolic, module, method, source, width).lines()]
    if repeated:
        lines += ["", *_comment_lines(f"The same code as forward: {', '.join(repeated)}.", width)]
    return lines


def _comment_lines(text: str, width: int) -> list[str]:
    return [f"# {line}" for line in wrapped(printable(text), width - 2)]


def _numbered(text: str, method: ast.FunctionDef) -> str:
    """The text of a method with its variables numbered in order, and with `forward` in place of `forward1`."""
    variables = {node.id for node in ast.walk(method) if isinstance(node, ast.Name) and _is_store(node)}
    numbers: dict[str, int] = dict.fromkeys([arg.arg for arg in method.args.args] + sorted(variables), -1)
    order = iter(range(len(numbers)))

    def number(match: re.Match[str]) -> str:
        word = match.group()
        if word in numbers and numbers[word] < 0:
            numbers[word] = next(order)
        return f"v{numbers[word]}" if word in numbers else re.sub(r"^forward\d+$", "forward", word)

    # Names after a dot are attributes.
    return re.sub(r"(?<![.\w])\w+|(?<=\.)forward\d+", number, text)


class _Printer:
    """Prints one method of the module at `path`."""

    def __init__(
        self, archive: Any, symbolic: SymbolicInterpreter, path: str, method: ast.FunctionDef, source: list[str],
        width: int,
    ):  # fmt: skip
        self.symbolic, self.width, self.infos = symbolic, width, archive.tensors.infos()
        self.method, self.source = method, source
        stores = Counter(node.id for node in ast.walk(method) if isinstance(node, ast.Name) and _is_store(node))
        self.aliases: dict[str, Any] = {method.args.args[0].arg: Ref(path)} if method.args.args else {}
        # Names are assigned before they are read, and every child has one name.
        for node in ast.walk(method):
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=value) if stores[name] == 1:
                    found = self.resolve(value)
                    if isinstance(found, Ref) and found.path in symbolic.records:
                        self.aliases[name] = found

    @staticmethod
    def class_name(symbolic: SymbolicInterpreter, path: str) -> str:
        """The last part of the name of a module's class."""
        owner: ClassCode | None = symbolic.class_of(symbolic.records[path])
        return owner.original_name.rpartition(".")[2] if owner else ""

    def lines(self) -> list[str]:
        """The lines of the method."""
        replaced: dict[int, list[tuple[int, int, str]]] = {}
        comments: dict[int, dict[str, None]] = {}
        for node in self._expressions(self.method):
            name = dotted_name(node) or ""
            value = self.resolve(node)
            if isinstance(node, ast.Constant):
                new = repr(node.value)
            elif name.startswith("__torch__."):
                new = original_name(name)
            elif name.startswith("CONSTANTS.") and isinstance(value, Stored):
                new = repr(value.value)
            else:
                text = self.comment(node, value)
                if text:
                    comments.setdefault(node.lineno, {})[text] = None
                continue
            replaced.setdefault(node.lineno, []).append((node.col_offset, node.end_col_offset or 0, new))
        made: list[str] = []
        for number in range(self.method.lineno, (self.method.end_lineno or 0) + 1):
            # Column offsets of syntax trees are in bytes.
            line = self.source[number - 1].rstrip().encode()
            for start, end, new in sorted(replaced.get(number, []), reverse=True):
                line = line[:start] + new.encode() + line[end:]
            made += self._with_comment(printable(line.decode()), ", ".join(comments.get(number, {})))
        return textwrap.dedent("\n".join(made)).split("\n")

    def _with_comment(self, line: str, comment: str) -> list[str]:
        """Append the comment to the line, or put it before the line if the result would be too wide."""
        if not comment:
            return [line]
        if width_of(line) + width_of(comment) + 4 <= self.width:
            return [f"{line}  # {comment}"]
        indent = " " * (len(line) - len(line.lstrip(" ")))
        return [f"{indent}{part}" for part in _comment_lines(comment, self.width - len(indent))] + [line]

    def _expressions(self, node: ast.AST) -> Iterator[ast.expr]:
        """Yield the expressions to replace or to comment on: names of classes, values of the archive, real numbers."""
        for child in ast.iter_child_nodes(node):
            match child:
                case ast.Constant(value=float(value)) if math.isfinite(value):
                    yield child  # written with 17 digits; fewer may represent the same number
                case ast.Attribute() if (dotted_name(child) or "").startswith("__torch__."):
                    yield child
                case ast.Attribute(ctx=ast.Load()) | ast.Call() if self.resolve(child) is not None:
                    yield child
                case _:
                    yield from self._expressions(child)

    def resolve(self, node: ast.AST) -> Any:
        """The value of the archive that `node` reads, as a `Ref`, `Stored` or plain value; otherwise `None`."""
        match node:
            case ast.Name(id=name):
                return self.aliases.get(name)
            case ast.Attribute(value=ast.Name(id="CONSTANTS"), attr=name) if name[1:].isdecimal() and len(name) < 9:
                constants, number = self.symbolic.constants, int(name[1:])
                value = constants[number] if number < len(constants) else None
                return Ref(f"CONSTANTS.{name}") if value is None else Stored(f"CONSTANTS.{name}", value)
            case ast.Attribute(value=of, attr=name):
                owner = self.resolve(of)
                return self._attribute(owner, name) if isinstance(owner, Ref) else None
            case ast.Call(args=[of, ast.Constant(value=str() as name)]) if _is_getattr(node):
                owner = self.resolve(of)
                return self._attribute(owner, name) if isinstance(owner, Ref) else None
        return None

    def _attribute(self, owner: Ref, name: str) -> Any:
        found = self.symbolic.attribute(owner.path, name)
        if isinstance(found, Ref):
            return found
        value = found.value if isinstance(found, Stored) else found
        return Stored(join_path(owner.path, name), value) if is_plain(value) else None

    def _is_assigned(self, value: Stored) -> bool:
        """Whether a method of the class assigns the attribute, so that its value may differ from the archive."""
        owner, _, name = value.path.rpartition(".")
        record = self.symbolic.records.get(owner)
        code = self.symbolic.class_of(record) if record is not None else None
        return code is not None and name in assigned_attributes(code.methods.values())

    def comment(self, node: ast.expr, value: Any) -> str:
        """The comment on an expression: the class of a module, the shape of a tensor, or a plain value."""
        if isinstance(value, Stored):
            text = shortened(repr(value.value), _LONGEST_VALUE)
            return printable(
                f"{value.path}: initially {text}" if self._is_assigned(value) else f"{value.path} = {text}"
            )
        if not isinstance(value, Ref):
            return ""
        if value.path in self.symbolic.records:
            return printable(f"{value.path}: {self.class_name(self.symbolic, value.path)}")
        info = self.infos.get(value.path)
        return "" if info is None else printable(f"{value.path}: {info.dtype} {tuple(info.shape)}")


def _is_store(node: ast.Name | ast.Attribute) -> bool:
    return isinstance(node.ctx, ast.Store)


def _is_getattr(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr"

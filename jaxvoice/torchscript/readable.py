"""The methods of a TorchScript module in readable form."""

import ast
import difflib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.torchscript.code import ClassCode, Code, original_name, parse_code
from jaxvoice.torchscript.following import Follower
from jaxvoice.torchscript.layers import plain_constants
from jaxvoice.torchscript.printing import statement_lines
from jaxvoice.torchscript.simplifying import Simplify, is_grad_mode
from jaxvoice.torchscript.tidying import is_too_long, join_names, put_in_place
from jaxvoice.torchscript.told_values import dotted
from jaxvoice.weights.layout import printable, width as width_of, wrapped

_DEEPEST = 40


def readable(archive: Any, module: str = "", *, width: int = 80) -> list[str]:
    """Lines of text for the methods of the module of that dotted name (`""` for the whole model), at most `width` wide.

    Children have their names, defaults are left out, values used once stand where they are used. The text is for
    reading: nothing of the archive is run, and it is not meant to be.

    **Raises:** `ConfigError` for a module there is not, naming the nearest; `CheckpointError` for code that is refused.
    """
    code = parse_code(archive.code)
    follower = Follower(code, archive.content)
    if module not in follower.records:
        near = difflib.get_close_matches(module, follower.records, n=1, cutoff=0.3)
        hint = f"; did you mean {printable(near[0])!r}?" if near else ""
        raise ConfigError(f"there is no module {printable(module)!r} in the file{hint}")
    try:
        return _Reader(archive, code, follower, width).module(module)
    except RecursionError as failure:
        raise CheckpointError("the code of the archive is nested too deep to be shown; it is refused.") from failure


class _Reader:
    def __init__(self, archive: Any, code: Code, follower: Follower, width: int):
        self.archive, self.code, self.follower, self.width = archive, code, follower, width
        self.constants = plain_constants(archive)
        self._same: dict[tuple[str, str], bool] = {}

    def module(self, path: str) -> list[str]:
        owner = self._class(path)
        assert owner is not None
        lines = wrapped(f"# {printable(path) or '(top)'}: {printable(owner.original_name)}", self.width)
        again = [name for name in owner.methods if name != "forward" and self._same_as_forward(path, name)]
        texts = [self.method(path, name) for name in owner.methods if name not in again]
        if again:
            lines += wrapped(f"# used {len(again) + 1} times; {', '.join(again)} as forward", self.width)
        if not texts:
            lines += wrapped("# never called, so the file holds no code for it", self.width)
        for text in texts:
            lines += ["", *text]
        used = {int(n) for text in texts for line in text for n in re.findall(r"CONSTANTS\.c(\d{1,8})\b", line)}
        notes = [f"# CONSTANTS.c{n}: {_constant_text(self.archive.constants, n)}" for n in sorted(used)]
        return lines + ([""] if notes else []) + [line for note in notes for line in wrapped(note, self.width)]

    def method(self, path: str, name: str) -> list[str]:
        """One method as lines."""
        owner = self._class(path)
        assert owner is not None
        method = owner.methods[name]
        body = self._statements(path, method)
        names = [arg.arg for arg in method.args.args[1:]]
        if not is_too_long(body):
            body = join_names(put_in_place(body, self.width), names)
        args = ["self", *map(ast.unparse, self._parameters(method))]
        header = f"def {name}({', '.join(args)}):"
        if width_of(header) > self.width:
            header = f"def {name}(\n    " + "\n    ".join(
                line for line in wrapped(", ".join(args), self.width - 4)
            ) + "\n):"  # fmt: skip
        lines = [printable(line) for line in header.split("\n")]
        for statement in body:
            lines += statement_lines(statement, 4, self.width)
        return lines + (["    pass"] if not body else [])

    def _parameters(self, method: ast.FunctionDef) -> Iterator[ast.expr]:
        given = method.args
        count = len(given.args) - len(given.defaults)
        for i, arg in enumerate(given.args):
            if i >= count and i:
                default = ast.unparse(given.defaults[i - count])
                yield ast.Name(f"{arg.arg}={default if len(default) < 24 else '...'}")
            elif i:
                yield ast.Name(arg.arg)

    def _statements(self, path: str, method: ast.FunctionDef) -> list[ast.stmt]:
        me = method.args.args[0].arg if method.args.args else "self"
        written = {
            target.attr
            for node in ast.walk(method) if isinstance(node, ast.Assign)
            for target in node.targets if isinstance(target, ast.Attribute)
        }  # fmt: skip
        aliases: dict[str, ast.expr] = {} if me == "self" else {me: ast.Name("self")}
        stores = Counter(
            node.id for node in ast.walk(method) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        )
        taken = {*stores, *(arg.arg for arg in method.args.args)}
        simplify = Simplify(self.code, self.constants, aliases, lambda of, name: self._repeats(path, of, name), taken)

        order = _Order(method)

        def kept(block: Sequence[ast.stmt]) -> list[ast.stmt]:
            made: list[ast.stmt] = []
            skipped = False
            for statement, following in zip_longest(block, block[1:]):
                skipped, skip = False, skipped
                if skip:
                    continue
                match statement:
                    case ast.Assign(targets=[ast.Name(id=name)], value=value):
                        text = dotted(value) or ""
                        built = _built(statement, following)
                        skipped = built is not None
                        new = simplify.visit(value) if built is None else simplify.built(*built)
                        if stores[name] == 1 and _is_member(new, written):
                            aliases[name] = new
                        elif stores[name] == 1 and text.startswith("__torch__."):
                            aliases[name] = new
                            new.qualified = text  # type: ignore[attr-defined]
                        elif stores[name] == 1 and (
                            (isinstance(new, ast.Name) and order.stays(new.id, name, block))
                            or (built is not None and is_grad_mode(built[0]))
                        ):
                            aliases[name] = new
                        elif isinstance(new, ast.Call) and re.fullmatch(r"_\d+", name) and name not in order.reads:
                            made.append(ast.Expr(new))
                        elif dotted(getattr(value, "func", ast.Constant(0))) != "uninitialized":
                            if stores[name] == 1:
                                simplify.note(name, new)
                            made.append(ast.Assign([ast.Name(name)], new))
                    case ast.With(items=[item], body=body):
                        item = ast.withitem(simplify.visit(item.context_expr), item.optional_vars)
                        made.append(ast.With([item], kept(body)))
                    case ast.Assign(targets=[target], value=value):
                        made.append(ast.Assign([simplify.visit(target)], simplify.visit(value)))
                    case ast.AnnAssign(target=target, value=ast.expr() as value):
                        made.append(ast.Assign([target], simplify.visit(value)))
                    case ast.Return(value=ast.expr() as value):
                        made.append(ast.Return(simplify.visit(value)))
                    case ast.Expr(value=ast.Call() as call):
                        made.append(_raised(call, simplify) or ast.Expr(simplify.visit(call)))
                    case ast.If(test=test, body=body, orelse=orelse):
                        made.append(ast.If(simplify.visit(test), kept(body), kept(orelse)))
                    case ast.For(target=target, iter=over, body=body):
                        made.append(ast.For(target, simplify.visit(over), kept(body), []))
                    case ast.While(test=test, body=body):
                        made.append(ast.While(simplify.visit(test), kept(body), []))
            return made

        return kept(method.body)

    def _class(self, path: str) -> ClassCode | None:
        return self.follower.class_of(self.follower.records.get(path))

    def _repeats(self, path: str, of: ast.expr, method: str) -> bool:
        """Whether calling `method` of the module that `of` names is calling it once more."""
        place = _path(of)
        return place is not None and self._same_as_forward(f"{path}.{place}".strip(".") if path else place, method)

    def _same_as_forward(self, path: str, name: str) -> bool:
        if not re.fullmatch(r"forward\d+", name):
            return False
        key = (path, name)
        if key not in self._same:
            owner = self._class(path)
            self._same[key] = False  # while it is being found out
            if owner and name in owner.methods and "forward" in owner.methods:
                same = _shape_of(owner.methods[name], owner, self._same_in(path)) == _shape_of(
                    owner.methods["forward"], owner, self._same_in(path)
                )
                self._same[key] = same
        return self._same[key]

    def _same_in(self, path: str) -> Any:
        return lambda child, name: self._same_as_forward(f"{path}.{child}" if path else child, name)


_Place = tuple[int, int]


class _Order:
    """Where a method assigns and reads its names.

    **Arguments:** `method`: the method, with the places of its text.
    """

    def __init__(self, method: ast.FunctionDef):
        self.stores: dict[str, list[tuple[_Place, tuple[_Place, ...]]]] = {}
        self.reads: dict[str, list[_Place]] = {}
        self._see(method.body, ())

    def _see(self, block: Sequence[ast.stmt], loops: tuple[_Place, ...]) -> None:
        for statement in block:
            inside = loops
            if isinstance(statement, (ast.For, ast.While)):
                inside = (*loops, (statement.lineno, statement.col_offset))
            blocks = [getattr(statement, name, []) for name in ("body", "orelse")]
            for part in ast.iter_child_nodes(statement):
                for node in ast.walk(part) if not isinstance(part, ast.stmt) else ():
                    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                        # A value is computed before its name is given to it.
                        place = _end(statement) if not any(blocks) else (node.lineno, node.col_offset)
                        self.stores.setdefault(node.id, []).append((place, inside))
                    elif isinstance(node, ast.Name):
                        self.reads.setdefault(node.id, []).append((node.lineno, node.col_offset))
            for inner in blocks:
                self._see(inner, inside)

    def stays(self, value: str, name: str, block: Sequence[ast.stmt]) -> bool:
        """Whether `value` is what `name`, which a statement of `block` sets to it, is wherever that is read."""
        ((place, _),) = self.stores[name]
        reads = self.reads.get(name, [place])
        if min(reads) < place or max(reads) > _end(block[-1]):
            return False
        # In a loop that begins later, what follows may also come before.
        changes = [
            min((loop for loop in loops if loop > place), default=at) for at, loops in self.stores.get(value, [])
        ]
        return all(change <= place or change >= max(reads) for change in changes)


def _end(statement: ast.stmt) -> _Place:
    return statement.end_lineno or statement.lineno, statement.end_col_offset or statement.col_offset


def _built(statement: ast.stmt, following: ast.stmt | None) -> tuple[str, ast.Call] | None:
    """The class and the call of `__init__` where two statements make an object."""
    match statement, following:
        case (
            ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=ast.Attribute(value=owner, attr="__new__"))),
            ast.Assign(value=call) | ast.Expr(value=call),
        ) if isinstance(call, ast.Call) and dotted(call.func) == f"{name}.__init__":
            qualified = dotted(owner) or ""
            return (qualified, call) if qualified.startswith("__torch__.") else None
    return None


def _shape_of(method: ast.FunctionDef, owner: ClassCode, same: Any) -> str:
    """The text of a method with its variables numbered by their order, to compare it with another's.

    A trace calls a child's `forward1` where it called `forward` before: both count as one if their texts do.
    """
    numbers: dict[str, str] = {}
    aliases: dict[str, str] = {}
    texts = []
    # Attributes are read in another order from use to use.
    for statement in method.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if (dotted(value) or "").startswith("self."):
                aliases[name] = dotted(value) or ""
                continue
            case ast.Assign(
                targets=[ast.Name(id=name)],
                value=ast.Call(func=ast.Name(id="getattr"), args=[of, ast.Constant(value=key)]),
            ):
                start = dotted(of) or ""
                aliases[name] = f"{aliases.get(start, start)}.{key}"
                continue
        texts.append(statement)
    for arg in method.args.args:
        numbers.setdefault(arg.arg, f"v{len(numbers)}")
    words = []
    for statement in texts:
        for node in _ordered(statement):
            if isinstance(node, ast.Name):
                name = aliases.get(node.id) or (
                    node.id if node.id in ("torch", "ops", "CONSTANTS", "__torch__", "annotate", "getattr", "int")
                    else numbers.setdefault(node.id, f"v{len(numbers)}")
                )  # fmt: skip
                words.append(name)
            elif isinstance(node, ast.Attribute):
                child = aliases.get(getattr(node.value, "id", ""), "").removeprefix("self.")
                attr = node.attr
                if attr.startswith("forward") and child and same(child, attr):
                    attr = "forward"
                words.append("." + attr)
            elif isinstance(node, ast.Constant):
                words.append(repr(node.value))
            else:
                words.append(type(node).__name__)
    return " ".join(words)


def _ordered(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes, values before targets, so that variables are numbered as they come to be."""
    yield node
    children = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.Assign):
        children = [node.value, *node.targets]
    for child in children:
        if not isinstance(child, (ast.expr_context, ast.operator)):
            yield from _ordered(child)


def _is_member(node: ast.expr, written: set[str]) -> bool:
    """Whether `node` is `self.a.b[0]` of what the method does not assign to."""
    depth = 0
    while isinstance(node, (ast.Attribute, ast.Subscript)) and depth < _DEEPEST:
        depth += 1
        if isinstance(node, ast.Attribute) and node.attr in written:
            return False
        if isinstance(node, ast.Subscript) and not isinstance(node.slice, ast.Constant):
            return False
        node = node.value
    return isinstance(node, ast.Name) and node.id == "self"


def _path(node: ast.expr) -> str | None:
    """`a.0.b` for `self.a[0].b`."""
    parts: list[str] = []
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        if isinstance(node, ast.Attribute):
            parts.append(node.attr)
        elif isinstance(node.slice, ast.Constant):
            parts.append(str(node.slice.value))
        else:
            return None
        node = node.value
    return ".".join(reversed(parts)) if isinstance(node, ast.Name) and node.id == "self" and parts else None


def _raised(call: ast.Call, simplify: Simplify) -> ast.stmt | None:
    if dotted(call.func) != "ops.prim.RaiseException" or not call.args:
        return None
    kind = call.args[1] if len(call.args) > 1 else None
    name = str(kind.value).rpartition(".")[2] if isinstance(kind, ast.Constant) else "Exception"
    name = name if name.isidentifier() else "Exception"
    return ast.Raise(ast.Call(ast.Name(name), [simplify.visit(call.args[0])], []), None)


def _constant_text(constants: Sequence[Any], number: int) -> str:
    if number >= len(constants):
        return "not in the file"
    value = constants[number]
    shape = getattr(value, "shape", None)
    if shape is None:
        return printable(original_name(str(getattr(value, "class_name", type(value).__name__))))
    storage = getattr(value, "storage", None)
    return f"{getattr(storage, 'dtype', '')} {'x'.join(map(str, shape))}".strip()

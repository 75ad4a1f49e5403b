"""Fewer names: values used once move to where they are used, and the versions of a variable share its name."""

import ast
import re
from collections import Counter
from collections.abc import Iterable, Sequence

_MOST_STATEMENTS = 3000
_NAMED = 60
_DEEP = 5


def is_too_long(body: Sequence[ast.stmt]) -> bool:
    """Whether a method is longer than any that a person would read; it is not tidied then."""
    nodes = statements = 0
    for top in body:
        for node in ast.walk(top):
            nodes += 1
            statements += isinstance(node, ast.stmt)
            if statements > _MOST_STATEMENTS or nodes > 40 * _MOST_STATEMENTS:
                return True
    return False


def chosen(whole: ast.If, room: int) -> ast.stmt:
    """An `if`, or `x = a and b`, `x = a or b`, `x = a if b else c` where that is all it does and it fits the line."""
    match whole.body, whole.orelse:
        case (
            [ast.Assign(targets=[ast.Name(id=name)], value=yes)],
            [ast.Assign(targets=[ast.Name(id=other)], value=no)],
        ) if name == other:
            value: ast.expr = ast.IfExp(whole.test, yes, no)
            said = [one.value if isinstance(one, ast.Constant) else None for one in (yes, no)]
            if said[1] is False:
                value = whole.test if said[0] is True else ast.BoolOp(ast.And(), [whole.test, yes])
            elif said[0] is True:
                value = ast.BoolOp(ast.Or(), [whole.test, no])
            short = ast.Assign([ast.Name(name)], value, lineno=0)
            return short if len(ast.unparse(short)) <= min(room, _NAMED + 8) else whole
    return whole


def put_in_place(body: list[ast.stmt], width: int) -> list[ast.stmt]:
    """`body` with values of one use put where that is, as long as calls keep their order and lines their width."""
    counts = Counter(node.id for statement in body for node in ast.walk(statement) if isinstance(node, ast.Name))

    def tidied(block: list[ast.stmt], indent: int) -> list[ast.stmt]:
        made: list[ast.stmt] = []
        for statement in block:
            if isinstance(statement, ast.If):
                statement.body = tidied(statement.body, indent + 4)
                statement.orelse = tidied(statement.orelse, indent + 4)
                statement = chosen(statement, width - indent)
                if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                    counts[statement.targets[0].id] -= 1
            elif isinstance(statement, (ast.For, ast.While, ast.With)):
                statement.body = tidied(statement.body, indent + 4)
            while made and _joined(made[-1], statement, counts, width - indent):
                made.pop()
            made.append(statement)
            _earlier(made, counts, width - indent)
        return made

    return tidied(body, 4)


def _earlier(made: list[ast.stmt], counts: Counter[str], room: int) -> None:
    """Values without calls of modules may also come from a few statements before."""
    last = made[-1]
    for i in range(len(made) - 2, max(len(made) - 9, -1), -1):
        between = made[i + 1 : -1]
        if not (_is_light(made[i]) and all(_is_light(one) for one in between)):
            continue
        read = _names([made[i]])
        changed = _names(target for one in between if isinstance(one, ast.Assign) for target in one.targets)
        if not read & changed and _joined(made[i], last, counts, room):
            del made[i]


def _names(nodes: Iterable[ast.AST]) -> set[str]:
    return {part.id for node in nodes for part in ast.walk(node) if isinstance(part, ast.Name)}


def _joined(first: ast.stmt, second: ast.stmt, counts: Counter[str], room: int) -> bool:
    """Put the value that `first` assigns into `second`, if that is its only use and the result is easy to read."""
    if not (isinstance(first, ast.Assign) and isinstance(first.targets[0], ast.Name)):
        return False
    name = first.targets[0].id
    if counts[name] != 2:  # where it is stored and where it is used
        return False
    field = _field(second)
    expression = getattr(second, field) if field else None
    if expression is None or not _first_to_be_computed(expression, name):
        return False
    if isinstance(second, ast.Return) and isinstance(expression, ast.Name):
        second.value = first.value
        return True
    before = ast.unparse(expression)
    if len(before) + len(ast.unparse(first.value)) > 2 * room:
        return False
    new = _Put(name, first.value).visit(ast.parse(before, mode="eval").body)
    text = ast.unparse(_with(second, new)).split("\n")[0]
    limit = room if re.fullmatch(r"_\d+", name) else min(room, _NAMED)
    if len(text) > limit or _depth(new) > _DEEP:
        return False
    setattr(second, field, new)
    return True


def _field(statement: ast.stmt) -> str:
    """The expression of a statement that is computed first and once."""
    match statement:
        case ast.Assign() | ast.Expr() | ast.Return():
            return "value"
        case ast.If():
            return "test"
        case ast.For():
            return "iter"
        case ast.Raise():
            return "exc"
    return ""


def _with(statement: ast.stmt, value: ast.expr) -> ast.stmt:
    match statement:
        case ast.Assign(targets=targets):
            return ast.Assign(targets, value, lineno=0)
        case ast.Return():
            return ast.Return(value)
        case ast.If():
            return ast.If(value, [ast.Pass()], [])
        case ast.For(target=target):
            return ast.For(target, value, [ast.Pass()], [], lineno=0)
    return ast.Expr(value)


class _Put(ast.NodeTransformer):
    def __init__(self, name: str, value: ast.expr):
        self.name, self.value = name, value

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.value if node.id == self.name else node


def _first_to_be_computed(expression: ast.expr, name: str) -> bool:
    """Whether `name` is read in `expression` before anything in it calls a module or changes a tensor."""
    for node in _in_order(expression):
        if isinstance(node, ast.Name) and node.id == name:
            return True
        if isinstance(node, ast.Call) and _acts(node):
            return False
    return False


def _in_order(node: ast.AST) -> "list[ast.AST]":
    """Nodes in the order of evaluation: arguments before the call."""
    found: list[ast.AST] = []
    for child in ast.iter_child_nodes(node):
        found += _in_order(child)
    return [*found, node]


def _acts(call: ast.Call) -> bool:
    """Calls of modules, methods and functions of the archive, and operators that work in place."""
    if not isinstance(call.func, ast.Name):
        return True
    name = call.func.id.removeprefix("torch.")
    return (
        "." in name or name.endswith("_") or name in ("append", "extend", "insert", "pop", "warn", "dropout", "randn")
    )


def _is_light(statement: ast.stmt) -> bool:
    if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], (ast.Name, ast.Tuple)):
        return False
    return not any(isinstance(node, ast.Call) and _acts(node) for node in ast.walk(statement.value))


def _depth(node: ast.AST) -> int:
    below = max((_depth(child) for child in ast.iter_child_nodes(node)), default=0)
    return below + isinstance(node, (ast.Call, ast.BinOp))


def join_names(body: list[ast.stmt], parameters: Sequence[str]) -> list[ast.stmt]:
    """`body` with `x`, `x0`, `x1`, ... all called `x` where no two of them are needed at a time, `_12` etc. from 0."""
    spans = _spans(body, parameters)
    groups: dict[str, list[str]] = {}
    for name in sorted(spans, key=lambda name: spans[name]):
        stem = re.sub(r"\d+$", "", name)
        if stem in spans and stem != "_" and stem:
            groups.setdefault(stem, []).append(name)
    renamed: dict[str, str] = {}
    for stem, names in groups.items():
        end = spans[stem][1]
        for name in names:
            start, last = spans[name]
            # `end` is where the stem's value is read last; it may be in the very statement that makes the next one.
            if name != stem and start >= end and start >= spans[stem][1]:
                renamed[name] = stem
                end = max(end, last)
    numbers: dict[str, str] = {}
    for name in spans:  # in the order in which they come up
        if re.fullmatch(r"_\d+", name):
            numbers[name] = f"_{len(numbers)}"
    renamed |= numbers
    seen: set[int] = set()
    for statement in body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and id(node) not in seen:
                seen.add(id(node))  # one node may stand in several places
                node.id = renamed.get(node.id, node.id)
    return _without_copies(body)


def _without_copies(body: list[ast.stmt]) -> list[ast.stmt]:
    """`body` without `x = x`, also where that is a part of a longer assignment."""
    made = []
    for statement in body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Name(id=other)) if name == other:
                continue
            case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Tuple(elts=values)) if len(names) == len(values):
                pairs = [(one, two) for one, two in zip(names, values, strict=True) if not _same_name(one, two)]
                if len(pairs) > 1:
                    statement.targets[0] = ast.Tuple([one for one, _ in pairs])
                    statement.value = ast.Tuple([two for _, two in pairs])
                elif pairs:
                    statement = ast.Assign([pairs[0][0]], pairs[0][1], lineno=0)
                else:
                    continue
            case ast.If() | ast.For() | ast.While():
                statement.body = _without_copies(statement.body)
                statement.orelse = _without_copies(statement.orelse)
            case ast.With():
                statement.body = _without_copies(statement.body)
        made.append(statement)
    return made


def _same_name(one: ast.expr, two: ast.expr) -> bool:
    return isinstance(one, ast.Name) and isinstance(two, ast.Name) and one.id == two.id


def _spans(body: Sequence[ast.stmt], parameters: Sequence[str]) -> dict[str, tuple[int, int]]:
    """From which statement to which each name is needed, counted as they are written; around loops, to their end."""
    spans: dict[str, list[int]] = {name: [0, 0] for name in parameters}
    place = 0

    def see(node: ast.AST | None) -> None:
        for part in ast.walk(node) if node is not None else ():
            if isinstance(part, ast.Name):
                span = spans.setdefault(part.id, [place, place])
                span[1] = max(span[1], place)

    def block(statements: Sequence[ast.stmt]) -> None:
        nonlocal place
        for statement in statements:
            place += 1
            match statement:
                case ast.If(test=test, body=then, orelse=orelse):
                    see(test)
                    block(then)
                    block(orelse)
                    place += 1
                case ast.For() | ast.While():
                    start = place
                    see(statement.iter if isinstance(statement, ast.For) else statement.test)
                    see(statement.target if isinstance(statement, ast.For) else None)
                    block(statement.body)
                    place += 1
                    inside = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
                    for name in inside:
                        spans[name] = [min(spans[name][0], start), place]
                case ast.With(items=items, body=inner):
                    for item in items:
                        see(item)
                    block(inner)
                case _:
                    see(statement)

    block(body)
    return {name: (span[0], span[1]) for name, span in spans.items()}

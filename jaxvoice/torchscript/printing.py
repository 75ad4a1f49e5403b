"""Syntax trees as lines of a given width."""

import ast

from jaxvoice.weights.layout import printable, width as width_of, wrapped


def statement_lines(statement: ast.stmt, indent: int, width: int) -> list[str]:
    """A statement and what is in it, as lines."""
    start = " " * indent
    match statement:
        case ast.If(test=test, body=body, orelse=orelse):
            lines = expression_lines(test, "if ", ":", indent, width)
            lines += _block(body, indent + 4, width)
            if len(orelse) == 1 and isinstance(orelse[0], ast.If):
                below = statement_lines(orelse[0], indent, width)
                return [*lines, start + "el" + below[0].lstrip(" "), *below[1:]]
            return [*lines, *([start + "else:", *_block(orelse, indent + 4, width)] if orelse else [])]
        case ast.For(target=target, iter=over, body=body):
            lines = expression_lines(over, f"for {ast.unparse(target)} in ", ":", indent, width)
            return lines + _block(body, indent + 4, width)
        case ast.While(test=test, body=body):
            return expression_lines(test, "while ", ":", indent, width) + _block(body, indent + 4, width)
        case ast.With(items=[ast.withitem(context_expr=over, optional_vars=given)], body=body):
            after = f" as {ast.unparse(given)}:" if given else ":"
            return expression_lines(over, "with ", after, indent, width) + _block(body, indent + 4, width)
        case ast.Assign(targets=[target], value=value):
            names = target.elts if isinstance(target, ast.Tuple) else [target]
            before = ", ".join(map(ast.unparse, names)) + (
                "," if isinstance(target, ast.Tuple) and len(names) == 1 else ""
            )
            if len(before) <= width // 2 or len(names) == 1:
                return expression_lines(value, f"{before} = ", "", indent, width)
            lines = [" " * (indent + 4) + line for line in wrapped(before, width - indent - 4)]
            return [start + "(", *lines, *expression_lines(value, ") = ", "", indent, width)]
        case ast.Return(value=ast.expr() as value):
            return expression_lines(value, "return ", "", indent, width)
        case ast.Raise(exc=ast.expr() as value):
            return expression_lines(value, "raise ", "", indent, width)
        case ast.Expr(value=value):
            return expression_lines(value, "", "", indent, width)
    return [start + printable(line) for line in ast.unparse(statement).split("\n")]


def _block(body: list[ast.stmt], indent: int, width: int) -> list[str]:
    lines = [line for statement in body for line in statement_lines(statement, indent, width)]
    return lines or [" " * indent + "pass"]


def expression_lines(node: ast.expr, before: str, after: str, indent: int, width: int) -> list[str]:
    """`before`, the expression and `after`, broken inside brackets where it is too wide."""
    text = " " * indent + before + printable(ast.unparse(node)) + after
    if width_of(text) <= width:
        return [text]
    start = " " * indent
    room = indent + 4
    match node:
        case ast.Call(func=func, args=args, keywords=keywords) if args or keywords:
            parts: list[tuple[str, ast.expr]] = [("", arg) for arg in args]
            parts += [(f"{keyword.arg}=", keyword.value) for keyword in keywords]
            opening, closing = f"{before}{ast.unparse(func)}(", f"){after}"
        case ast.List(elts=elements) | ast.Tuple(elts=elements) if elements:
            parts = [("", element) for element in elements]
            left, right = ("[", "]") if isinstance(node, ast.List) else ("(", ")")
            opening, closing = f"{before}{left}", f"{right}{after}"
        case ast.BinOp(left=first, op=op, right=second):
            sign = ast.unparse(ast.BinOp(ast.Name("a"), op, ast.Name("b")))[1:-1].strip()
            lines = [f"{start}{before}("]
            lines += expression_lines(first, "", "", room, width)
            return [*_hard(lines, width), *expression_lines(second, f"{sign} ", "", room, width), f"{start}){after}"]
        case _:
            return _hard([text], width)
    one = " " * room + ", ".join(printable(name + ast.unparse(value)) for name, value in parts)
    if width_of(one) <= width:
        return [*_hard([start + printable(opening)], width), one, start + closing]
    lines = _hard([start + printable(opening)], width)
    for name, value in parts:
        lines += expression_lines(value, name, ",", room, width)
    return [*lines, start + closing]


def _hard(lines: list[str], width: int) -> list[str]:
    """What cannot be broken at a bracket is broken where the line ends."""
    made = []
    for line in lines:
        while width_of(line) > width:
            cut = len(line)
            while width_of(line[:cut]) > width - 1:
                cut -= 1 + (width_of(line[:cut]) - width) // 4
            # Between words if there is a place; a name must stay whole.
            cut = max(
                (i for i in range(cut // 2, cut + 1) if line[i - 1] in " .,(=[" and line[:i].strip()), default=cut
            )
            made.append(line[:cut] + "\\")
            line = line[cut:]
        made.append(line)
    return made

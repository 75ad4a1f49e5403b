"""Find the operators that a method calls for all inputs, without running it."""

import ast
from collections.abc import Iterator

from jaxvoice.torchscript.code import ClassCode, Code, file_of, original_name
from jaxvoice.torchscript.frames import Frame, dotted_parts

_Module = tuple[ClassCode, str]
"""The class and the dotted name of a module."""
_RAISE = ["ops", "prim", "RaiseException"]


def required_operators(code: Code, owner: ClassCode, path: str, method: str) -> Iterator[tuple[str, Frame]]:
    """Yield the operators that a method of the module at `path` calls outside branches and loops, with their frames.

    Operators of called methods and functions are included.
    """
    pending: list[tuple[_Module | None, ast.FunctionDef, Frame]] = [
        ((owner, path), owner.methods[method], Frame(owner.file, f"{owner.original_name}.{method}", path))
    ]
    seen: set[int] = set()  # one module of each class is enough; a class may have attributes of its own class
    while pending:
        module, function, frame = pending.pop()
        if id(function) in seen:
            continue
        seen.add(id(function))
        names: dict[str, _Module | None] = {function.args.args[0].arg: module} if function.args.args else {}
        for statement in function.body:
            match statement:
                case ast.If() | ast.For() | ast.While() | ast.With():
                    if any(isinstance(part, ast.Return) for part in ast.walk(statement)):
                        break  # statements after a return may not be run
                    continue
            for node in ast.walk(statement):
                name = ".".join(dotted_parts(node.func) or []) if isinstance(node, ast.Call) else ""
                if name.startswith(("torch.", "ops.")):
                    yield name, Frame(frame.file, frame.function, frame.module, node.lineno)  # type: ignore[attr-defined]
                elif name in code.functions:
                    called = Frame(file_of(name), original_name(name), frame.module)
                    pending.append((None, code.functions[name], called))
                elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    target, called_method = _module_of(node.func.value, names, code), node.func.attr
                    if target is not None and called_method in target[0].methods:
                        called = Frame(target[0].file, f"{target[0].original_name}.{called_method}", target[1])
                        pending.append((target, target[0].methods[called_method], called))
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    found = _module_of(value, names, code)
                    names = {**names, name: found} if found is not None else names
                case ast.Expr(value=ast.Call(func=function_node)) if dotted_parts(function_node) == _RAISE:
                    break


def _module_of(node: ast.expr, names: dict[str, _Module | None], code: Code) -> _Module | None:
    """The module to which an expression refers, if the types of attributes determine it."""
    match node:
        case ast.Name(id=name):
            return names.get(name)
        case ast.Attribute(value=of, attr=name):
            holder = _module_of(of, names, code)
        case ast.Call(func=ast.Name(id="getattr"), args=[of, ast.Constant(value=str() as name)]):
            holder = _module_of(of, names, code)
        case _:
            return None
    kind = holder[0].fields.get(name) if holder is not None else None
    found = code.classes.get(".".join(dotted_parts(kind) or [])) if kind is not None else None
    return None if found is None or holder is None else (found, f"{holder[1]}.{name}" if holder[1] else name)

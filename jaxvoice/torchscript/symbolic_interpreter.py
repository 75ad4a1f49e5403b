"""Symbolic interpretation of a TorchScript program. It finds calls and their arguments without executing the code.

Literal values are propagated through assignments, calls and branches. All other values are `Computed`.
"""

import ast
import operator
from collections.abc import Mapping, Sequence
from typing import Any

from jaxvoice.console import printable
from jaxvoice.errors import CheckpointError
from jaxvoice.torchscript.code import ClassCode, Code, dotted_name, original_name
from jaxvoice.torchscript.compound_layers import is_interpolate
from jaxvoice.torchscript.signatures import bind
from jaxvoice.torchscript.symbolic_values import (
    Call,
    Computed,
    FunctionRef,
    NormedWeight,
    PaddedInput,
    Ref,
    Stored,
    cache_key,
    cast_number,
    contains_list,
    expression_text,
    get_item,
    is_plain,
    join_path,
    owner_path,
    relative_path,
    symbolic_text,
)

MAX_SYMBOLIC_STEPS = 400_000
MAX_DEPTH = 60
MAX_LIST = 512


class SymbolicInterpreter:
    """Interpreter of all methods of the modules in an archive.

    **Arguments:** `code`: the parsed code; `top`: the record of the top module; `constants`: the plain values of
    `CONSTANTS.c0`, ..., or None.

    **Raises:** `CheckpointError` if the archive has no code for the top module.
    """

    def __init__(self, code: Code, top: Any, constants: Sequence[Any] = ()):
        self.code, self.constants = code, constants
        self.records: dict[str, Any] = {}
        self.calls: dict[tuple[str, str], list[list[Call]]] = {}
        self.called: set[str] = set()
        self._results: dict[Any, Any] = {}
        self._steps = 0
        if self.class_of(top) is None:
            name = printable(str(getattr(top, "class_name", "its top module")))[:100]
            raise CheckpointError(
                f"the archive contains no code for {name}: its .py entries are missing or damaged, so its layers "
                "cannot be described; jaxvoice.open_archive still reads its tensors."
            )
        self._collect(top)

    def _collect(self, top: Any) -> None:
        seen: dict[int, str] = {}
        pending = [("", top)]
        while pending:
            path, record = pending.pop()
            self.records[path] = record
            if id(record) in seen and path:
                continue  # a module with two names: its submodules are listed under the first name
            seen[id(record)] = path
            below = [(join_path(path, key), value) for key, value in record.state.items() if self.class_of(value)]
            pending.extend(reversed(below))

    def class_of(self, value: Any) -> ClassCode | None:
        """The code of the class if `value` is the record of a module, otherwise `None`."""
        name, state = getattr(value, "class_name", None), getattr(value, "state", None)
        found = self.code.classes.get(name) if isinstance(name, str) and isinstance(state, dict) else None
        return found if found is not None and found.kind == "module" else None

    def run(self) -> None:
        """Interpret the methods of the top module and the methods that they call, then all other methods.

        Afterwards, `calls` maps each module and method to lists of calls, one for each different set of arguments.

        **Raises:** `CheckpointError` if this takes too many steps or nests too deeply.
        """
        try:
            for path, record in self.records.items():
                methods = getattr(self.class_of(record), "methods", {})
                for name in sorted(methods, key=lambda name: not name.startswith("forward")):
                    # Private helpers are interpreted where they are called, with the arguments of the call.
                    if (path, name) not in self.calls and (name.startswith("forward") or not name.startswith("_")):
                        self.method(path, name, [], {})
        except RecursionError as failure:
            raise CheckpointError("the code of the archive is nested too deeply to be interpreted.") from failure

    def method(self, path: str, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], depth: int = 0) -> Any:
        """The symbolic result of a method. It is interpreted once for each different set of arguments."""
        owner = self.class_of(self.records.get(path))
        method = owner.methods.get(name) if owner else None
        if method is None:
            return Computed(f"{path}.{name}()")
        self.count_steps(sum(len(arg) if isinstance(arg, (list, tuple)) else 1 for arg in (*args, *kwargs.values())))
        key = (path, name, cache_key(args), cache_key(kwargs))
        if key not in self._results:
            self._results[key] = Computed("recursion")
            calls: list[Call] = []
            self.calls.setdefault((path, name), []).append(calls)
            self._results[key] = _Frame(self, path, method, calls, depth=depth).run([Ref(path), *args], kwargs)
        return self._results[key]

    def count_steps(self, steps: int = 1) -> None:
        """Count steps; raise `CheckpointError` above a limit that no ordinary archive reaches."""
        self._steps += steps
        if self._steps > MAX_SYMBOLIC_STEPS:
            raise CheckpointError(
                f"the archive's code takes more than {MAX_SYMBOLIC_STEPS} steps to interpret, which is the maximum."
            )

    def attribute(self, path: str, name: str) -> Any:
        """The symbolic value of attribute `name` of the module at `path`."""
        record: Any = self.records.get(path)
        owner = self.class_of(record)
        if owner is None:
            return Computed(join_path(path, name))
        where = join_path(path, name)
        if name in owner.constants:
            return owner.constants[name]
        if name not in record.state:
            return Computed(where)
        value = record.state[name]
        if self.class_of(value) or hasattr(value, "shape"):
            return Ref(where)
        return Stored(where, value) if is_plain(value) else Ref(where)


_BOOKKEEPING_OPERATORS = {
    *("size", "dim", "len", "format", "eq", "ne", "lt", "gt", "le", "ge", "__is__", "__isnot__", "__not__", "device"),
    *("__contains__", "__getitem__", "warn", "is_floating_point", "dtype", "and", "or", "list", "floordiv"),
}
"""Operators that are omitted from lists of calls."""

_LIST_MUTATIONS = {"append", "extend", "insert", "pop", "clear", "remove", "reverse", "sort", "_set_item", "Delete"}
"""Operators that change a list in place."""

_ORDER = {"lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge}
_PAD_MODES = {"constant": "zeros", "reflect": "reflect", "replicate": "replicate", "circular": "circular"}


class _Frame:
    """The interpretation of one call of a method or function."""

    def __init__(
        self, symbolic: SymbolicInterpreter, path: str, function: ast.FunctionDef, calls: list[Call],
        within: tuple[str, ...] = (), depth: int = 0,
    ):  # fmt: skip
        self.symbolic, self.path, self.function, self.calls = symbolic, path, function, calls
        self.within, self.depth = within, depth
        self.names: dict[str, Any] = {}
        self.result: Any = None
        if depth > MAX_DEPTH:
            raise CheckpointError(
                f"calls of functions in the archive are nested more than {MAX_DEPTH} deep, which is the maximum."
            )

    def run(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        self.bind_arguments(args, kwargs)
        self.block(self.function.body)
        return self.result

    def bind_arguments(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        given = self.function.args
        names = [arg.arg for arg in given.args]
        for name in names:
            self.names[name] = Computed(name)
        for name, default in zip(reversed(names), reversed(given.defaults), strict=False):
            if self.depth:  # a method without a known caller may receive any arguments
                self.names[name] = self.value(default)
        self.names.update(zip(names, args, strict=False))
        self.names.update({name: value for name, value in kwargs.items() if name in names})

    def block(self, statements: Sequence[ast.stmt]) -> None:
        for statement in statements:
            self.symbolic.count_steps()
            match statement:
                case ast.Assign(targets=[target], value=value):
                    self.assign(target, self.value(value))
                case ast.AnnAssign(target=target, value=ast.expr() as value):
                    self.assign(target, self.value(value))
                case ast.Return(value=value):
                    self.result = None if value is None else self.value(value)
                case ast.Expr(value=value):
                    self.value(value)
                case ast.If(test=test, body=body, orelse=orelse):
                    self.branch(test, body, orelse)
                case ast.For(target=target, iter=over, body=body):
                    self.loop(f"for each of {expression_text(over)}", self.value(over), body, target)
                case ast.While(test=test, body=body):
                    self.invalidate(body)
                    self.value(test)
                    self.loop(f"while {expression_text(test)}", None, body)
                case ast.With(body=body):
                    self.block(body)

    def assign(self, target: ast.expr, value: Any) -> None:
        if isinstance(target, ast.Name):
            self.names[target.id] = value
        elif isinstance(target, ast.Tuple):
            known = isinstance(value, (list, tuple)) and len(value) == len(target.elts)
            for i, element in enumerate(target.elts):
                self.assign(element, value[i] if known else Computed(expression_text(element)))
        elif isinstance(target, ast.Subscript):
            self.invalidate_list(self.value(target.value))

    def invalidate_list(self, value: Any) -> None:
        """Make all names of a list that is changed in place unknown."""
        if isinstance(value, list):
            self.symbolic.count_steps(len(self.names))
            self.names.update(
                {name: Computed(name) for name, known in self.names.items() if contains_list(known, value)}
            )

    def branch(self, test: ast.expr, body: list[ast.stmt], orelse: list[ast.stmt]) -> None:
        condition = self.value(test)
        if isinstance(condition, bool):
            return self.block(body if condition else orelse)
        before, outer, result = dict(self.names), self.within, self.result
        condition_text = condition.text if isinstance(condition, Computed) else expression_text(test)
        if isinstance(condition, Stored):
            condition_text = f"{relative_path(condition.path, self.path)} (stored: {condition.value})"
        self.within = (*outer, f"if {condition_text}")
        self.block(body)
        after, first = self.names, self.result
        self.names, self.result, self.within = before, result, (*outer, f"if not {condition_text}")
        self.block(orelse)
        self.within = outer
        if cache_key([first]) != cache_key([self.result]):
            self.result = Computed("either")
        self.symbolic.count_steps(len(after) // 8)
        for name in {*after, *self.names}:
            if after.get(name) is not self.names.get(name) and cache_key([after.get(name)]) != cache_key(
                [self.names.get(name)]
            ):
                self.names[name] = Computed(name)

    def loop(self, condition_text: str, over: Any, body: list[ast.stmt], target: ast.expr | None = None) -> None:
        self.invalidate(body)
        if target is not None:
            self.assign(target, Computed(expression_text(target)))
        outer = self.within
        self.within = (*outer, condition_text)
        self.block(body)
        self.within = outer
        self.invalidate(body)

    def invalidate(self, body: list[ast.stmt]) -> None:
        """Make all names that a loop assigns unknown in the loop and after it."""
        for statement in body:
            for node in ast.walk(statement):
                self.symbolic.count_steps()
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    self.names[node.id] = Computed(node.id)
                elif (
                    isinstance(node, ast.Call) and (dotted_name(node.func) or "").rpartition(".")[2] in _LIST_MUTATIONS
                ):
                    for name in (arg.id for arg in node.args[:1] if isinstance(arg, ast.Name)):
                        self.invalidate_list(self.names.get(name))
                elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
                    self.invalidate_list(self.value(node.value))

    def value(self, node: ast.expr) -> Any:
        """The symbolic value of an expression."""
        self.symbolic.count_steps()
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                return self.names.get(name, Computed(name))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                value = self.value(operand)
                return -value if isinstance(value, (int, float, complex)) else Computed(expression_text(node))
            case ast.List(elts=elements) | ast.Tuple(elts=elements):
                values = [self.value(element) for element in elements]
                inside = [value for value in values if isinstance(value, (list, tuple))]
                if len(values) + sum(map(len, inside)) > MAX_LIST or any(
                    isinstance(value, (list, tuple)) for one in inside for value in one
                ):
                    return Computed("a long list")
                return values if isinstance(node, ast.List) else tuple(values)
            case ast.Attribute():
                return self.attribute(node)
            case ast.Subscript(value=of, slice=index):
                return get_item(self.value(of), self.value(index), expression_text(node))
            case ast.Call():
                return self.call(node)
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.value(child)
        return Computed(expression_text(node))

    def attribute(self, node: ast.Attribute) -> Any:
        name = dotted_name(node)
        if name and name.startswith("__torch__."):
            return FunctionRef(name)
        if name and name.startswith("CONSTANTS.c") and name[11:].isdigit() and len(name) < 20:
            number = int(name[11:])
            value = self.symbolic.constants[number] if number < len(self.symbolic.constants) else None
            return Stored(name, value) if value is not None and is_plain(value) else Ref(name)
        of = self.value(node.value)
        if isinstance(of, Ref):
            return self.symbolic.attribute(of.path, node.attr)
        return Computed(expression_text(node))

    def call(self, node: ast.Call) -> Any:
        function = node.func
        name = dotted_name(function)
        if name == "getattr" and len(node.args) == 2 and isinstance(node.args[1], ast.Constant):
            of = self.value(node.args[0])
            return self.symbolic.attribute(of.path, str(node.args[1].value)) if isinstance(of, Ref) else Computed()
        if name in ("annotate", "unchecked_cast") and len(node.args) == 2:
            return self.value(node.args[1])
        if name == "uninitialized":
            return Computed(name)
        args = [self.value(arg) for arg in node.args]
        kwargs = {keyword.arg or "": self.value(keyword.value) for keyword in node.keywords}
        if name in ("int", "float", "bool") and len(args) == 1:
            return cast_number(name, args[0], expression_text(node))
        if name and name.startswith(("torch.", "ops.")):
            return self.operator(name.rpartition(".")[2], args, kwargs, name)
        if isinstance(function, ast.Attribute) and not (name or "").startswith("__torch__."):
            of = self.value(function.value)
            if isinstance(of, Ref) and of.path in self.symbolic.records:
                return self.method(of.path, function.attr, args, kwargs)
            return Computed(expression_text(node))
        target = self.value(function)
        if isinstance(target, FunctionRef):
            return self.function_call(target.name, args, kwargs)
        return Computed(expression_text(node))

    def method(self, path: str, name: str, args: list[Any], kwargs: Mapping[str, Any]) -> Any:
        if path == self.path:  # a helper of the same module: its calls are part of this method
            owner = self.symbolic.class_of(self.symbolic.records[path])
            helper = owner.methods.get(name) if owner else None
            if helper is None:
                return Computed(f"{name}()")
            frame = _Frame(self.symbolic, path, helper, self.calls, self.within, self.depth + 1)
            return frame.run([Ref(path), *args], kwargs)
        self.calls.append(Call("module", path, name, {}, self.within))
        self.symbolic.called.add(path)
        return self.symbolic.method(path, name, args, kwargs, self.depth + 1)

    def function_call(self, name: str, args: list[Any], kwargs: Mapping[str, Any]) -> Any:
        function = self.symbolic.code.functions.get(name)
        if function is None:
            return Computed(f"{original_name(name)}()")
        if original_name(name) != "torch.nn.functional.interpolate":
            frame = _Frame(self.symbolic, self.path, function, self.calls, self.within, self.depth + 1)
            return frame.run(args, kwargs)
        inside: list[Call] = []
        frame = _Frame(self.symbolic, self.path, function, inside, self.within, self.depth + 1)
        frame.bind_arguments(args, kwargs)
        given = dict(frame.names)
        frame.block(function.body)
        self.calls += (
            [Call("operator", "interpolate", "", given, self.within)] if is_interpolate(given, inside) else inside
        )
        return frame.result

    def operator(self, name: str, args: list[Any], kwargs: Mapping[str, Any], full: str) -> Any:
        if name in _LIST_MUTATIONS and args:
            self.invalidate_list(args[0])
            return Computed(name)
        if full.startswith("ops.prim.") or name in _BOOKKEEPING_OPERATORS:
            return _fold_constant(name, args)
        self.symbolic.count_steps(sum(len(arg) for arg in args if isinstance(arg, (list, tuple))) // 8)
        bound = bind(name, args, kwargs)
        if bound is None:
            bound = {**{str(i): arg for i, arg in enumerate(args)}, **kwargs}
        self.calls.append(Call("operator", name, "", bound, self.within))
        return _operator_result(name, bound, self.path)


def _fold_constant(name: str, args: list[Any]) -> Any:
    """Evaluate comparisons of literal values."""
    plain = all(is_plain(arg) for arg in args)
    absent = [arg is None for arg in args]
    if name in ("__is__", "__isnot__") and len(args) == 2 and absent[1] and (plain or isinstance(args[0], Ref)):
        return absent[0] == (name == "__is__")
    if name == "__not__" and len(args) == 1 and isinstance(args[0], bool):
        return not args[0]
    if name in ("eq", "ne") and len(args) == 2 and plain:
        return (args[0] == args[1]) == (name == "eq")
    if name in _ORDER and len(args) == 2 and all(isinstance(arg, (int, float)) for arg in args):
        return _ORDER[name](args[0], args[1])
    if name == "len" and len(args) == 1 and isinstance(args[0], (list, tuple)):
        return len(args[0])
    if name == "__getitem__" and len(args) == 2:
        return get_item(args[0], args[1], name)
    return Computed(f"{name}({', '.join(symbolic_text(arg) for arg in args)})")


def _operator_result(name: str, bound: Mapping[str, Any], path: str) -> Any:
    """The symbolic result of an operator. Results of weight norms and padding keep their parameters."""
    if name == "_weight_norm":
        v, dim = bound.get("v"), bound.get("dim", 0)
        if isinstance(v, Ref) and isinstance(dim, int):
            return NormedWeight("weight norm", owner_path(v.path), dim)
    of = bound.get("input")
    if isinstance(of, Ref) and of.path.endswith(("weight_orig", ".original")):
        if name == "div":
            return NormedWeight("spectral norm", owner_path(of.path))
        if name in ("flatten", "contiguous"):
            return of
    if name == "pad" or name.startswith(("constant_pad", "reflection_pad", "replication_pad")):
        amounts = bound.get("pad", bound.get("padding"))
        mode = bound.get("mode", {"r": "reflect", "c": "constant"}[name[0]] if name != "pad" else "constant")
        mode = "replicate" if name.startswith("replication") else mode
        amounts = amounts.value if isinstance(amounts, Stored) else amounts
        if isinstance(amounts, list | tuple):
            amounts = [amount.value if isinstance(amount, Stored) else amount for amount in amounts]
        zero = bound.get("value") in (None, 0)
        if isinstance(amounts, list) and all(isinstance(n, int) for n in amounts) and mode in _PAD_MODES and zero:
            return PaddedInput(tuple(amounts), _PAD_MODES[mode], path)
    return Computed(f"{name}()")

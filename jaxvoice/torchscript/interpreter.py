"""An interpreter for the code of an archive. It evaluates syntax trees, and its operators are JAX functions.

Only the statements and expressions that TorchScript writes are supported, so the code has no access to Python.
"""

import ast
import math
from collections.abc import Callable
from typing import Any

import jax

from jaxvoice.errors import CheckpointError
from jaxvoice.torchscript import scanned_loops
from jaxvoice.torchscript.code import ClassCode, dotted_name, file_of, original_name
from jaxvoice.torchscript.frames import Frame, describe_value, is_instance
from jaxvoice.torchscript.operator_calls import OperatorCalls
from jaxvoice.torchscript.program import EnumMember, Instance, Instances, NamedTuple
from jaxvoice.torchscript.scanned_loops import Index, ScanTooLong, scan
from jaxvoice.torchscript.symbolic_values import FunctionRef
from jaxvoice.torchscript.tensors import OperatorError, Tensor

MAX_STEPS = 600_000
"""Maximum number of steps of one run. Loops with more steps raise an error; endless loops are stopped.

A statement, an iteration of a loop and a call of an operator are one step each. Every tensor that an operator returns
is four steps, and every 8 items of its list arguments are one. An endless loop is stopped after about a second if it
has plain statements, after some seconds if it computes with numbers, and after about 86,000 operators on tensors. A
loop over 2000 frames with 30 operators each takes 362,000 steps. The traced code of a vocoder or a conformer takes
several thousand.
"""
MAX_CALLS = 100
"""Maximum depth of nested calls."""

_NO_RETURN = object()
_NAMES = {"inf": math.inf, "nan": math.nan, "infj": complex(0, math.inf), "nanj": complex(0, math.nan)}
_CASTS: dict[str, type] = {"int": int, "float": float, "bool": bool, "complex": complex, "str": str}


class Interpreter(OperatorCalls):
    """Runs one method of a program."""

    def __init__(
        self,
        instances: Instances,
        key: jax.Array | None,
        on_output: Callable[[Instance, Any], Any] | None = None,
        *,
        is_traced: bool = False,
    ):
        """**Arguments:** `instances` of the program; `key`: a random key or None; `on_output`: a function called
        with the module and the result of each call of its forward method, which returns the result that the caller
        gets; `is_traced`: whether JAX traces weights
        or inputs, so that loops may become `jax.lax.scan`.
        """
        self.instances, self.code = instances, instances.program.code
        super().__init__(key, MAX_STEPS)
        self._on_output, self.is_traced = on_output, is_traced

    # Calls

    def method(self, instance: Instance, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Call a method of an instance; raises `CheckpointError` if there is no such method, or the call fails."""
        code = instance.code
        if name not in code.methods:
            known = ", ".join(sorted(code.methods)) or "no methods, since the traced model does not call it"
            raise CheckpointError(f"{code.original_name} at {instance.path!r} has no method {name!r}; it has {known}.")
        frame = Frame(code.file, f"{code.original_name}.{name}", instance.path)
        result = self._call(code.methods[name], frame, [instance, *args], kwargs, receiver=1)
        if self._on_output is not None or not self._frames:  # the caller iterates over the returned lists
            self._count_items([result])
        if self._on_output is not None and instance.is_module and name.startswith("forward") and len(self._frames):
            return self._on_output(instance, result)
        return result

    def _call(
        self, node: ast.FunctionDef, frame: Frame, args: list[Any], kwargs: dict[str, Any], *, receiver: int = 0
    ) -> Any:
        """Run a function; `receiver` is 1 if its first argument is the object of a method."""
        if len(self._frames) >= MAX_CALLS:
            raise CheckpointError(f"calls in the archive's code nest more than {MAX_CALLS} deep at {frame}.")
        frame.line = node.lineno
        self._frames.append(frame)
        try:
            names = self._bind(node, args, kwargs, receiver)
            result = self._block(node.body, names)
        except OperatorError as reason:
            raise self._error(str(reason)) from reason
        except (ArithmeticError, LookupError, TypeError, ValueError) as failure:
            raise self._error(f"{failure} ({type(failure).__name__})") from failure
        finally:
            self._frames.pop()
        return None if result is _NO_RETURN else result

    def _bind(self, node: ast.FunctionDef, args: list[Any], kwargs: dict[str, Any], receiver: int) -> dict[str, Any]:
        """Bind arguments to the names of parameters."""
        given = node.args
        names = [parameter.arg for parameter in (*given.posonlyargs, *given.args)]
        values = dict(zip(names, args, strict=False))
        defaults = dict(zip(names[len(names) - len(given.defaults) :], given.defaults, strict=True))
        for parameter, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
            names.append(parameter.arg)
            if default is not None:
                defaults[parameter.arg] = default
        unknown = [name for name in kwargs if name not in names or name in values]
        values |= kwargs
        missing = [name for name in names if name not in values and name not in defaults]
        if len(args) > len(names) or unknown or missing:
            raise CheckpointError(
                f"{node.name} is called with {len(args) - receiver} arguments by position and {sorted(kwargs)} by "
                f"name; it should be called with {', '.join(names[receiver:]) or 'no arguments'}."
            )
        for name in names:
            if name not in values:
                values[name] = self._value(defaults[name], {})
        return values

    # Statements

    def _block(self, body: list[ast.stmt], names: dict[str, Any]) -> Any:
        """Run statements; returns the value of a return statement, or `_NO_RETURN`."""
        for statement in body:
            self._frames[-1].line = statement.lineno
            self._count_steps(1)
            result = self._statement(statement, names)
            if result is not _NO_RETURN:
                return result
        return _NO_RETURN

    def _statement(self, node: ast.stmt, names: dict[str, Any]) -> Any:
        match node:
            case ast.Assign(targets=[target], value=value):
                self._assign(target, self._value(value, names), names)
            case ast.AnnAssign(target=target, value=value) if value is not None:
                self._assign(target, self._value(value, names), names)
            case ast.Expr(value=value):
                self._value(value, names)
            case ast.Return(value=value):
                return None if value is None else self._value(value, names)
            case ast.If(test=test, body=body, orelse=orelse):
                return self._block(body if self._as_bool(self._value(test, names)) else orelse, names)
            case ast.While(orelse=[]):
                return self._while(node, names)
            case ast.For(orelse=[]):
                return self._for(node, names)
            case ast.With(items=items, body=body):
                return self._with(items, body, names)
            case ast.Assert(test=test, msg=message):
                if not self._as_bool(self._value(test, names)):
                    self._raise_from_program(self._value(message, names) if message is not None else "assertion failed")
            case ast.Pass():
                pass
            case _:
                raise self._unsupported_syntax(node)
        return _NO_RETURN

    def _while(self, node: ast.While, names: dict[str, Any]) -> Any:
        with self._in_loop():
            while self._as_bool(self._value(node.test, names)):
                self._count_steps(1)
                result = self._block(node.body, names)
                if result is not _NO_RETURN:
                    return result
                self._frames[-1].line = node.lineno
        return _NO_RETURN

    def _for(self, node: ast.For, names: dict[str, Any]) -> Any:
        items = self._iterable(node.iter, names)
        returns = any(isinstance(part, ast.Return) for part in ast.walk(node))
        cost = (1 + len(node.body), 0)
        with self._in_loop():
            for number, item in enumerate(items):
                if number in (0, 2) and not returns:
                    # The first iteration runs at least these statements; from the second on, iterations cost the same.
                    left = len(items) - number
                    # Before the first iteration, it is unknown whether JAX traces its operators.
                    long = self._check_loop(len(items), left, cost, can_scan=number == 0 and self.is_traced)
                    if long and self._scan(node, items, number, names, cost[1] * left):
                        return _NO_RETURN
                before = self._cost
                self._count_steps(1)
                self._assign(node.target, item, names)
                result = self._block(node.body, names)
                if result is not _NO_RETURN:
                    return result
                self._frames[-1].line = node.lineno
                cost = (self._cost[0] - before[0], self._cost[1] - before[1])
        return _NO_RETURN

    def _scan(self, node: ast.For, items: Any, first: int, names: dict[str, Any], unrolled: int) -> bool:
        """Run a loop from iteration `first` on as `jax.lax.scan`.

        Returns False if the loop must be unrolled instead, and raises an error if it is too long to be unrolled.
        """
        try:
            scan(self, node, items, first, names)
            return True
        except ScanTooLong:
            raise
        except (OperatorError, CheckpointError, TypeError, ValueError) as reason:
            if self._can_unroll(unrolled):
                return False
            why = str(reason).split("\n")[0].rstrip(".")
            raise self._too_long(
                f"a loop of {len(items):,} iterations becomes about {unrolled:,}",
                f"It cannot be a jax.lax.scan: {why}. ",
            ) from reason

    def _with(self, items: list[ast.withitem], body: list[ast.stmt], names: dict[str, Any]) -> Any:
        """Run statements between the methods `__enter__` and `__exit__` of an object."""
        if not items:
            return self._block(body, names)
        context = self._value(items[0].context_expr, names)
        if not isinstance(context, Instance) or not {"__enter__", "__exit__"} <= context.code.methods.keys():
            raise self._error(f"{describe_value(context)} is not a context manager")
        entered = self.method(context, "__enter__", [], {})
        if items[0].optional_vars is not None:
            self._assign(items[0].optional_vars, entered, names)
        result = self._with(items[1:], body, names)
        self.method(context, "__exit__", [None, None, None], {})
        return result

    def _assign(self, target: ast.expr, value: Any, names: dict[str, Any]) -> None:
        match target:
            case ast.Name(id=name):
                names[name] = value
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                self._check_read(value)
                values = list(value) if isinstance(value, (list, tuple)) else None
                if values is None or len(values) != len(parts):
                    raise self._error(f"{describe_value(value)} cannot be unpacked to {ast.unparse(target)}")
                for part, item in zip(parts, values, strict=True):
                    self._assign(part, item, names)
            case ast.Attribute(value=owner, attr=name):
                instance = self._value(owner, names)
                if not isinstance(instance, Instance):
                    raise self._error(f"attributes of {describe_value(instance)} cannot be set")
                instance.attributes[name] = value
            case ast.Subscript(value=owner, slice=at):
                items = self._value(owner, names)
                if not isinstance(items, (list, dict)):
                    raise self._error(f"items of {describe_value(items)} cannot be set")
                items[self._key_of(self._value(at, names))] = value
            case _:
                raise self._unsupported_syntax(target)

    def _iterable(self, source: ast.expr, names: dict[str, Any]) -> Any:
        match source:
            case ast.Call(func=ast.Name(id="range"), args=bounds, keywords=[]):
                return range(*(self._as_int(self._value(bound, names)) for bound in bounds))
        items = self._value(source, names)
        self._check_read(items)
        if isinstance(items, (list, tuple)):
            return list(items)
        raise self._error(f"a loop cannot iterate over {describe_value(items)}")

    def _as_int(self, value: Any) -> int:
        return self._as_number(value, int) if isinstance(value, Tensor) else int(value)

    def _as_bool(self, value: Any) -> bool:
        self._check_read(value)
        return self._as_number(value, bool) if isinstance(value, Tensor) else bool(value)

    # Expressions

    def _value(self, node: ast.expr, names: dict[str, Any]) -> Any:
        match node:
            case ast.Name(id=name):
                if name in names:
                    return names[name]
                if name in _NAMES:
                    return _NAMES[name]
                raise self._error(f"{name!r} has no value")
            case ast.Constant(value=value):
                return value
            case ast.Call():
                return self._call_expression(node, names)
            case ast.Attribute():
                return self._attribute(node, names)
            case ast.Subscript(value=owner, slice=at):
                return self._item(self._value(owner, names), self._value(at, names))
            case ast.List(elts=parts):
                return [self._value(part, names) for part in parts]
            case ast.Tuple(elts=parts):
                return tuple(self._value(part, names) for part in parts)
            case ast.Dict(keys=keys, values=values) if None not in keys:
                pairs = zip(keys, values, strict=True)
                return {self._key_of(self._value(k, names)): self._value(v, names) for k, v in pairs if k is not None}
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self._literal_number(operand, names)
            case ast.BinOp(op=ast.Add(), left=left, right=right):
                return self._literal_number(left, names) + self._literal_number(right, names)
            case ast.BinOp(op=ast.Sub(), left=left, right=right):
                return self._literal_number(left, names) - self._literal_number(right, names)
        raise self._unsupported_syntax(node)

    def _literal_number(self, node: ast.expr, names: dict[str, Any]) -> Any:
        value = self._value(node, names)
        if isinstance(value, (int, float, complex)):
            return value
        raise self._unsupported_syntax(node)

    def _key_of(self, at: Any) -> Any:
        """Check an index or a key. Tuples are not supported, since hashing nested tuples may take exponential time."""
        if isinstance(at, (list, tuple, dict)):
            raise self._error(f"{describe_value(at)} cannot be used as a key")
        return at

    def _item(self, items: Any, at: Any) -> Any:
        self._check_read(items, at)
        if isinstance(at, Index) and isinstance(items, (list, tuple)):
            return scanned_loops.item_at_index(items, at)
        at = self._key_of(self._as_number(at, int) if isinstance(at, Tensor) else at)
        if isinstance(items, (list, tuple, dict, str)):
            try:
                return items[at]
            except (LookupError, TypeError) as failure:
                raise self._error(f"{describe_value(items)} has no item {at!r}") from failure
        raise self._error(f"{describe_value(items)} has no items")

    def _attribute(self, node: ast.Attribute, names: dict[str, Any]) -> Any:
        path = (dotted_name(node) or "").split(".")
        if path[0] and path[0] not in names:
            if path[0] == "CONSTANTS" and len(path) == 2:
                return self.instances.constant(path[1])
            if path[0] == "__torch__":
                return self._global(".".join(path))
            raise self._error(f"{'.'.join(path)} has no value")
        owner = self._value(node.value, names)
        if isinstance(owner, Instance):
            return self.instances.attribute(owner, node.attr)
        if isinstance(owner, NamedTuple) and node.attr in owner.names:
            return owner[owner.names.index(node.attr)]
        if isinstance(owner, EnumMember) and node.attr in ("name", "value"):
            return getattr(owner, node.attr)
        raise self._error(f"{describe_value(owner)} has no attribute {node.attr!r}")

    def _global(self, name: str) -> Any:
        """The function, class or member of an enum with this qualified name."""
        if name in self.code.functions:
            return FunctionRef(name)
        if name in self.code.classes:
            return self.code.classes[name]
        enum, _, member = name.rpartition(".")
        found = self.code.classes.get(enum)
        if found is not None and found.kind == "enum" and member in found.constants:
            return EnumMember(enum, member, found.constants[member])
        raise self._error(f"{name} is not in the code of the archive")

    # Calls in expressions

    def _call_expression(self, node: ast.Call, names: dict[str, Any]) -> Any:
        function = node.func
        if isinstance(function, ast.Name) and function.id not in names:
            return self._builtin(function.id, node, names)
        if any(isinstance(arg, ast.Starred) for arg in node.args) or any(word.arg is None for word in node.keywords):
            raise self._unsupported_syntax(node)
        if isinstance(function, ast.Attribute):
            path = (dotted_name(function) or "").split(".")
            if path[0] in ("torch", "ops") and path[0] not in names:
                return self._operator(".".join(path), *self._arguments(node, names))
            if function.attr == "__new__" and path[0] == "__torch__":
                return Instance(self.instances.program.class_code(".".join(path[:-1])))
            if not path[0] or path[0] in names:
                owner = self._value(function.value, names)
                if isinstance(owner, Instance) and function.attr not in owner.attributes:
                    return self.method(owner, function.attr, *self._arguments(node, names))
        target = self._value(function, names)
        args, kwargs = self._arguments(node, names)
        if isinstance(target, FunctionRef):
            frame = Frame(file_of(target.name), original_name(target.name), self._frames[-1].module)
            return self._call(self.code.functions[target.name], frame, args, kwargs)
        if isinstance(target, ClassCode) and target.kind == "namedtuple" and not kwargs:
            made = NamedTuple(args)
            made.names = tuple(target.fields)
            return made
        raise self._error(f"{describe_value(target)} cannot be called")

    def _arguments(self, node: ast.Call, names: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        args = [self._value(arg, names) for arg in node.args]
        return args, {str(word.arg): self._value(word.value, names) for word in node.keywords}

    def _builtin(self, name: str, node: ast.Call, names: dict[str, Any]) -> Any:
        """Call a builtin function."""
        arguments = node.args
        if name in ("annotate", "unchecked_cast") and len(arguments) == 2:
            value = self._value(arguments[1], names)
            if name == "annotate" and isinstance(value, Tensor) and isinstance(arguments[0], ast.Name):
                return self._convert_implicitly(value, arguments[0].id)
            return value
        if name == "uninitialized":
            return None
        if name == "getattr" and len(arguments) == 2:
            owner, attribute = (self._value(argument, names) for argument in arguments)
            if isinstance(owner, Instance) and isinstance(attribute, str):
                return self.instances.attribute(owner, attribute)
        if name == "isinstance" and len(arguments) == 2:
            value = self._value(arguments[0], names)
            self._check_read(value)
            self._count_items([value])
            return is_instance(value, arguments[1])
        if name in _CASTS and len(arguments) == 1:
            value = self._value(arguments[0], names)
            if isinstance(value, Tensor) and name != "str":
                return self._as_number(value, _CASTS[name])
            self._check_read(value)
            self._count_items([value])
            return _CASTS[name](value)
        if name == "sorted" and len(arguments) == 1:
            items = self._value(arguments[0], names)
            self._check_read(items)
            self._count_items([items])
            return sorted(items)
        if name == "print":
            return None
        raise self._unsupported_syntax(node)

    def _convert_implicitly(self, value: Tensor, kind: str) -> Any:
        """Convert a tensor to a number where one is expected and the value is known; otherwise return the tensor."""
        if kind == "number":
            return self._operator("torch.item", [value], {}) if value.known else value
        if kind == "float" and not value.known:
            return value
        return self._as_number(value, _CASTS[kind]) if kind in _CASTS else value

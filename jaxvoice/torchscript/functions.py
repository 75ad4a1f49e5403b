"""Methods of TorchScript archives as pure JAX functions."""

import ast
import copy
import difflib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import PRNGKeyArray, Shaped

from jaxvoice.errors import CheckpointError, UnsupportedOperatorError
from jaxvoice.torchscript.code import ClassCode, Code, dotted_name, file_of, original_name
from jaxvoice.torchscript.frames import Frame, describe_value
from jaxvoice.torchscript.interpreter import Interpreter
from jaxvoice.torchscript.program import Instance, Instances, Program, Weights, iter_tensors
from jaxvoice.torchscript.state import State, from_program, slots_of, state_of, to_program, with_names
from jaxvoice.torchscript.tensors import OperatorError, Tensor, traced
from jaxvoice.weights.formats import TensorRef, TorchScriptArchive


class Function:
    """A method of a module of an archive, as a pure function of weights and inputs.

    The function works under `jax.jit`, `jax.grad` and `jax.vmap`. Arrays have torch's layouts, including the batch
    axis. Inputs that determine shapes or branches should be Python values: under `jax.jit`, pass them by
    `static_argnames` or a closure. In-place changes of inputs are lost when the call returns. Changes of the module's
    tensors and attributes are lost too, except in `step`, which returns them.

    Loops of more than 600,000 steps raise an error before they are run. A statement is one step, and an operator is up
    to five: 2000 frames with 30 operators each take 362,000 steps. Under `jax.jit`, `for` loops of more than 4,000
    operators become `jax.lax.scan`, which may execute up to 100 million operators. A loop that cannot be scanned raises
    an error if it has more than 20,000 operators. `while` loops are never scanned: they are run iteration by iteration,
    and stopped at the same limits.

    - `weights`: the tensors of the module by their names in the archive, and its constants that are arrays of real
      numbers (`CONSTANTS.c0`). A tensor with several names is listed once. Tensors of integers and booleans are part of
      the program, since they may determine shapes, unless they have more than 65536 elements.
    """

    def __init__(self, program: Program, method: str):
        """Use `function` to create instances."""
        self._program, self._method = program, method
        self._prefix: str | None = None
        archive = program.archive
        owner = program.class_code(program.record.class_name)
        self._required = dict(_required_operators(program.code, owner, program.path, method)).items()
        self.weights: dict[str, Shaped[np.ndarray, ...]] = {}
        for identity, name in sorted(program.names.items(), key=lambda item: item[1]):
            self.weights[name] = archive.read(program.refs[identity])

    def __call__(self, weights: Weights, *inputs: Any, key: PRNGKeyArray | None = None, **named: Any) -> Any:
        """Run the method.

        **Arguments:** `weights` under the names of the attribute `weights`; `inputs` and `named`: the arguments of the
        method, which are arrays, numbers, text, and lists, tuples and dicts of these; `key`: a random key for programs
        that draw random numbers.

        **Returns:** the result of the method: arrays for tensors; lists, tuples and dicts of them.

        **Raises:** `CheckpointError` for wrong weights or inputs and for errors that the program raises; its subclass
        `UnsupportedOperatorError` for operators that are not implemented.
        """
        return self._run(weights, inputs, named, key, None, {})[0]

    def step(
        self, weights: Weights, state: Mapping[str, Any], /, *inputs: Any, key: PRNGKeyArray | None = None, **named: Any
    ) -> tuple[Any, State]:
        """Run a method of a module with state, such as caches and recurrent states.

            state = State()
            for chunk in chunks:
                out, state = stream.step(stream.weights, state, chunk)

        **Arguments:** `state`: the state that the last call of this or another method of the archive returned;
        `State()` is the state of the archive itself. Other arguments are those of a call.

        **Returns:** the result of the method, and the new state: `state` updated with every buffer and attribute that
        the call changed. Values of the state replace weights of the same names.

        **Raises:** the errors of a call, and for batch norm in training mode, whose running statistics would change.
        `CheckpointError` for names in the state that the archive does not have, for tensors of another kind of elements
        (real, integer, complex or boolean), for tensors of another shape if the code changes them only in place and
        they are not empty, and for attributes whose values are objects.
        """
        if not isinstance(state, Mapping):
            what = type(state).__name__
            raise CheckpointError(
                f"the state, the second argument of step, is a {what}; it should be a State. Pass State() first."
            )
        slots = slots_of(state if isinstance(state, State) else State(state))
        result, instances = self._run(weights, inputs, named, key, None, slots)
        return result, state_of(instances.changed_slots())

    def init_state(self, *inputs: Any, key: PRNGKeyArray | None = None, **named: Any) -> State:
        """The initial values of attributes that a step with these inputs changes: the first carry of `jax.lax.scan`.

        The method is run once. Loops need a state of constant structure: if an attribute is None or an empty tensor
        until the first call, use the state that the first call returns.
        """
        _, state = self.step(self.weights, State(), *inputs, key=key, **named)
        return state_of(Instances(self._program, self.weights).slots(state))

    def record(
        self, weights: Weights, *inputs: Any, key: PRNGKeyArray | None = None, **named: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Run the method and also return the output of every submodule call, in the order in which the calls end.

        Outputs are named by the path of the module in the archive; `path#2` is the second call of a module.
        """
        outputs: dict[str, Any] = {}
        return self._run(weights, inputs, named, key, outputs, {})[0], outputs

    def with_names(self, prefix: str = "") -> "Function":
        """A copy whose calls name the output of every submodule for `jaxvoice.dissect`: its path below `prefix`.

        `jaxvoice.dissect.tag` calls it. Outputs that do not depend on traced inputs have no name.
        """
        named = copy.copy(self)
        named._prefix = prefix
        return named

    def _run(
        self,
        weights: Weights,
        inputs: tuple[Any, ...],
        named: Mapping[str, Any],
        key: PRNGKeyArray | None,
        outputs: dict[str, Any] | None,
        slots: Mapping[str, Any],
    ) -> tuple[Any, Instances]:
        self._check(weights)
        self._check_state(slots)
        instances = Instances(self._program, weights, slots)
        calls: dict[str, int] = {}

        def on_output(instance: Instance, result: Any) -> Any:
            path = instance.path
            if self._prefix is not None:
                name = ".".join(filter(None, (self._prefix, path)))
                with jax.named_scope(f"{instance.code.original_name.rpartition('.')[2]}()"):
                    result = with_names(result, name)
            if outputs is not None:
                calls[path] = calls.get(path, 0) + 1
                outputs[path if calls[path] == 1 else f"{path}#{calls[path]}"] = from_program(result)
            return result

        args, kwargs = [to_program(value) for value in inputs], {name: to_program(one) for name, one in named.items()}
        given = [tensor.array for tensor in iter_tensors([*args, *kwargs.values(), *slots.values()])]
        is_traced = any(map(traced, [key, *weights.values(), *given]))
        observed = outputs is not None or self._prefix is not None
        interpreter = Interpreter(instances, key, on_output if observed else None, is_traced=is_traced)
        module = instances.value(self._program.record, self._program.path)
        for name, place in self._required:
            interpreter.require(name, place)
        self._check_inputs(module.code.methods[self._method].args, args, kwargs)
        try:
            return from_program(interpreter.method(module, self._method, args, kwargs)), instances
        except OperatorError as reason:
            place = f"{module.code.file}, line {module.code.methods[self._method].lineno}"
            raise UnsupportedOperatorError(
                f"a result of {self._method} is not supported: {reason} ({place})."
            ) from reason

    def _check(self, weights: Weights) -> None:
        missing = [name for name in self.weights if name not in weights]
        unknown = [name for name in weights if name not in self.weights]
        wrong = [
            f"{name} {tuple(np.shape(weights[name]))} instead of {array.shape}"
            for name, array in self.weights.items()
            if name in weights and tuple(np.shape(weights[name])) != array.shape
        ]
        for what, names in (("lack", missing), ("have unknown names", unknown), ("have wrong shapes", wrong)):
            if names:
                more = f" and {len(names) - 5} more" if len(names) > 5 else ""
                raise CheckpointError(f"the weights {what}: {', '.join(names[:5])}{more}.")

    def _check_state(self, slots: Mapping[str, Any]) -> None:
        for name, value in slots.items():
            if name not in self._program.slots:
                near = difflib.get_close_matches(name, self._program.slots, n=1, cutoff=0.6)
                hint = f"; did you mean {near[0]}?" if near else "."
                raise CheckpointError(f"the state has {name}, which {self} does not have{hint}")
            record, attribute = self._program.slots[name]
            kind = self._program.class_code(record.class_name).fields.get(attribute)
            if isinstance(kind, ast.Name) and kind.id == "Tensor" and not isinstance(value, Tensor):
                raise CheckpointError(f"{name} of the state is {describe_value(value)}; it should be an array.")
            original = record.state[attribute]
            if isinstance(original, TensorRef) and isinstance(value, Tensor):
                self._check_tensor(name, value, original, is_assigned=attribute in self._program.assigned)

    def _check_tensor(self, name: str, value: Tensor, original: TensorRef, *, is_assigned: bool) -> None:
        """Compare a tensor of a state with the tensor of the archive; assigned attributes may have another shape."""
        if _kind_of(value.dtype) != _kind_of(original.storage.dtype):
            raise CheckpointError(
                f"the dtype of {name} in the state is {value.dtype}; it should be {original.storage.dtype} as in "
                "the archive."
            )
        if not is_assigned and 0 not in original.shape and value.shape != tuple(original.shape):
            raise CheckpointError(
                f"the shape of {name} in the state is {value.shape}; it should be {tuple(original.shape)} as in "
                "the archive."
            )

    def _check_inputs(self, given: ast.arguments, args: list[Any], kwargs: dict[str, Any]) -> None:
        """Raise `CheckpointError` for a number or text where the method declares a tensor."""
        declared = {one.arg: one.annotation for one in [*given.posonlyargs, *given.args][1:] + given.kwonlyargs}
        for name, value in [*zip(declared, args, strict=False), *kwargs.items()]:
            kind = declared.get(name)
            if isinstance(kind, ast.Name) and kind.id == "Tensor" and not isinstance(value, Tensor):
                raise CheckpointError(f"{name} of {self._method} is {describe_value(value)}; it should be an array.")

    def __repr__(self) -> str:
        where = self._program.path or "the top module"
        return f"<{self._method} of {where} in {self._program.archive.source.path}, {len(self.weights)} weights>"


def _kind_of(dtype: Any) -> str:
    return next(
        kind
        for kind in ("bool_", "integer", "floating", "inexact", "generic")
        if jnp.issubdtype(dtype, getattr(jnp, kind))
    )


def function(archive: TorchScriptArchive, path: str = "", method: str = "forward") -> Function:
    """A pure JAX function that interprets a method of the module at `path` in a TorchScript archive.

        with open_archive("model.pt") as archive:
            encode = function(archive, "encoder")
        y = jax.jit(encode)(encode.weights, x)

    **Arguments:** `path`: dotted name of a module in the archive, empty for the top module; `method`: one of its
    methods, such as `forward`, or `forward1` for the second call of the module in a trace.

    The documentation of `Function` states the limits of loops.

    **Raises:** `CheckpointError` if the archive has no such module or method, or its code is not valid.
    """
    if not isinstance(archive, TorchScriptArchive):
        raise CheckpointError(
            f"{archive.source.path} is a {archive.source.format} file; it should be a TorchScript archive."
        )
    program = Program(archive, path)
    methods = program.class_code(program.record.class_name).methods
    if method not in methods:
        where = f"the module {path!r}" if path else "the top module"
        known = (
            f"it has {', '.join(methods)}" if methods else "it has no methods, since the traced model does not call it"
        )
        raise CheckpointError(f"{where} has no method {method!r}; {known}.")
    return Function(program, method)


# Operators that a method requires

_Module = tuple[ClassCode, str]
"""The class and the dotted name of a module."""
_RAISE = "ops.prim.RaiseException"


def _required_operators(code: Code, owner: ClassCode, path: str, method: str) -> Iterator[tuple[str, Frame]]:
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
                name = dotted_name(node.func) or "" if isinstance(node, ast.Call) else ""
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
                case ast.Expr(value=ast.Call(func=function_node)) if dotted_name(function_node) == _RAISE:
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
    found = code.classes.get(dotted_name(kind) or "") if kind is not None else None
    return None if found is None or holder is None else (found, f"{holder[1]}.{name}" if holder[1] else name)

"""A method of a TorchScript archive as a pure JAX function: a released archive as its own oracle, without torch."""

import ast
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import PRNGKeyArray, Shaped

from jaxvoice.errors import CheckpointError, UnsupportedOperatorError
from jaxvoice.torchscript.frames import shown
from jaxvoice.torchscript.interpreter import Interpreter
from jaxvoice.torchscript.program import Instance, Instances, Program, Weights
from jaxvoice.torchscript.tensors import SMALL, Refused, Tensor, needs_64_bits
from jaxvoice.weights.reading import TorchScriptArchive


class Function:
    """A method of a module of an archive, as a pure function of weights and inputs.

    It can be given to `jax.jit`, `jax.grad` and `jax.vmap`. Arrays have torch's layouts, batch axis included. What
    shapes and branches depend on must be Python values: under `jax.jit` pass them by `static_argnames` or a closure.
    In-place changes of inputs and of the module's own tensors last until the call returns. Loops of more than 600,000
    steps (statements, and operators, which count up to 5) are refused: some 2000 frames of 30 operators are 362,000.

    - `weights`: the tensors below the module by their names in the archive, and its constants that are arrays of real
      numbers (`CONSTANTS.c0`). A tensor of several names has one here. Tensors of whole numbers and of truth values
      belong to the program, unless they hold more than 65536 elements, since they may decide shapes.
    """

    def __init__(self, program: Program, method: str):
        """Made by `function`."""
        self._program, self._method = program, method
        archive = program.archive
        self.weights: dict[str, Shaped[np.ndarray, ...]] = {}
        for identity, name in sorted(program.names.items(), key=lambda item: item[1]):
            self.weights[name] = archive.read(program.refs[identity])

    def __call__(self, weights: Weights, *inputs: Any, key: PRNGKeyArray | None = None, **named: Any) -> Any:
        """Run the method.

        **Arguments:** `weights` under the names of the attribute `weights`; `inputs` and `named` as the method takes
        them: arrays, numbers, text, and lists, tuples and dicts of these; `key` for programs that draw random numbers.

        **Returns:** what the method returns: arrays for tensors; lists, tuples and dicts of them.

        **Raises:** `CheckpointError` for weights or inputs that do not fit, and for errors that the program raises;
        `UnsupportedOperatorError`, one of these, for operators that are not there.
        """
        return self._run(weights, inputs, named, key, None)

    def record(
        self, weights: Weights, *inputs: Any, key: PRNGKeyArray | None = None, **named: Any
    ) -> tuple[Any, dict[str, Any]]:
        """The same, and what each call of a module below returned, in the order in which the calls ended.

        They are named by the path of the module in the archive; `path#2` is a module's second call.
        """
        outputs: dict[str, Any] = {}
        result = self._run(weights, inputs, named, key, outputs)
        return result, outputs

    def _run(
        self,
        weights: Weights,
        inputs: tuple[Any, ...],
        named: Mapping[str, Any],
        key: PRNGKeyArray | None,
        outputs: dict[str, Any] | None,
    ) -> Any:
        self._check(weights)
        instances = Instances(self._program, weights)
        calls: dict[str, int] = {}

        def note(path: str, result: Any) -> None:
            calls[path] = calls.get(path, 0) + 1
            assert outputs is not None
            outputs[path if calls[path] == 1 else f"{path}#{calls[path]}"] = _outside(result)

        interpreter = Interpreter(instances, key, note if outputs is not None else None)
        module = instances.value(self._program.record, self._program.path)
        args, kwargs = [_inside(value) for value in inputs], {name: _inside(value) for name, value in named.items()}
        self._check_inputs(module.code.methods[self._method].args, args, kwargs)
        try:
            return _outside(interpreter.method(module, self._method, args, kwargs))
        except Refused as reason:
            place = f"{module.code.file}, line {module.code.methods[self._method].lineno}"
            raise UnsupportedOperatorError(f"a result of {self._method} is refused: {reason} ({place}).") from reason

    def _check(self, weights: Weights) -> None:
        missing = [name for name in self.weights if name not in weights]
        unknown = [name for name in weights if name not in self.weights]
        wrong = [
            f"{name} {tuple(np.shape(weights[name]))}, not {array.shape}"
            for name, array in self.weights.items()
            if name in weights and tuple(np.shape(weights[name])) != array.shape
        ]
        for what, names in (("lack", missing), ("have unknown names", unknown), ("have shapes that do not fit", wrong)):
            if names:
                more = f" and {len(names) - 5} more" if len(names) > 5 else ""
                raise CheckpointError(f"the weights {what}: {', '.join(names[:5])}{more}.")

    def _check_inputs(self, given: ast.arguments, args: list[Any], kwargs: dict[str, Any]) -> None:
        """Refuse numbers and text where the method declares a tensor."""
        declared = {one.arg: one.annotation for one in [*given.posonlyargs, *given.args][1:] + given.kwonlyargs}
        for name, value in [*zip(declared, args, strict=False), *kwargs.items()]:
            kind = declared.get(name)
            if isinstance(kind, ast.Name) and kind.id == "Tensor" and not isinstance(value, Tensor):
                raise CheckpointError(f"{name} of {self._method} is a tensor; pass an array and not {shown(value)}.")

    def __repr__(self) -> str:
        where = self._program.path or "the top module"
        return f"<{self._method} of {where} in {self._program.archive.source.path}, {len(self.weights)} weights>"


def function(archive: TorchScriptArchive, path: str = "", method: str = "forward") -> Function:
    """A method of the module at `path` in a TorchScript archive, as a pure JAX function that interprets its code.

        with open_archive("model.pt") as archive:
            encode = function(archive, "encoder")
        y = jax.jit(encode)(encode.weights, x)

    **Arguments:** `path`: dotted name of a module in the archive, empty for the top one; `method`: one of its methods,
    such as `forward`, or `forward1` for what a trace recorded as its second call.

    **Raises:** `CheckpointError` if the archive has no such module or method, or its code is refused.
    """
    if not isinstance(archive, TorchScriptArchive):
        raise CheckpointError(f"{archive.source.path} is a {archive.source.format} file; it holds no code to run.")
    program = Program(archive, path)
    methods = program.class_code(program.record.class_name).methods
    if method not in methods:
        where = f"the module {path!r}" if path else "the top module"
        known = f"it has {', '.join(methods)}" if methods else "it has none, since it was not called when it was traced"
        raise CheckpointError(f"{where} has no method {method!r}; {known}.")
    return Function(program, method)


def _inside(value: Any) -> Any:
    """An input as the program sees it."""
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
        if array.dtype.kind not in "biufcV":
            raise CheckpointError(
                f"arrays of {array.dtype} cannot be given to a program; pass numbers or truth values."
            )
        if needs_64_bits(array):
            raise CheckpointError("an input holds whole numbers of 64 bits; set jax_enable_x64 to compute with them.")
        # Whole numbers in numpy stay known under jax.jit, so that they may decide shapes.
        few = array.dtype.kind in "biu" and array.size <= SMALL
        return Tensor(array.astype(jax.dtypes.canonicalize_dtype(array.dtype)) if few else jnp.asarray(array))
    if isinstance(value, jax.Array):
        return Tensor(value)
    if isinstance(value, (list, tuple)):
        return type(value)(map(_inside, value)) if type(value) in (list, tuple) else tuple(map(_inside, value))
    if isinstance(value, dict):
        return {key: _inside(item) for key, item in value.items()}
    if value is None or isinstance(value, (bool, int, float, complex, str)):
        return value
    what = type(value).__module__.partition(".")[0] + "." + type(value).__name__
    raise CheckpointError(f"a {what} cannot be given to a program; pass arrays of numpy or JAX, numbers and text.")


def _outside(value: Any) -> Any:
    """A result as the caller sees it."""
    if isinstance(value, Tensor):
        return jnp.asarray(value.array)
    if isinstance(value, list):
        return [_outside(item) for item in value]
    if isinstance(value, tuple):
        return tuple(_outside(item) for item in value)
    if isinstance(value, dict):
        return {key: _outside(item) for key, item in value.items()}
    if isinstance(value, Instance):
        raise CheckpointError(f"the method returns an object of {value.code.original_name}, which JAX cannot hold.")
    return value

"""Calling operators from the code text, and what to say when that fails."""

import ast
import difflib
from typing import Any

import jax

from jaxvoice.errors import CheckpointError, UnsupportedOperatorError
from jaxvoice.weights.torchscript.frames import Frame, shown
from jaxvoice.weights.torchscript.operators import find_operator, operator_names
from jaxvoice.weights.torchscript.operators.registry import IGNORED
from jaxvoice.weights.torchscript.tensors import Refused, Tensor, number_of


class Caller:
    """Calls operators, for the run that knows where it is."""

    def __init__(self, key: jax.Array | None):
        self._key = key
        self._frames: list[Frame] = []

    def _as_number(self, value: Tensor, kind: type) -> Any:
        try:
            return number_of(value, kind)
        except Refused as reason:
            raise self._unsupported(kind.__name__, f"{reason}") from reason

    def _operator(self, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        if name == "ops.prim.RaiseException":
            self._raise(*args)
        operator = find_operator(name, tuple(args))
        if operator is None:
            raise self._missing(name)
        meant = {key: value for key, value in kwargs.items() if key not in IGNORED}
        kwargs = kwargs if operator.accepts(tuple(args), kwargs) else meant
        if not operator.accepts(tuple(args), kwargs):
            given = ", ".join([*map(shown, args), *(f"{key}={shown(value)}" for key, value in kwargs.items())])
            raise self._unsupported(name, f"this form of it, with ({given}), is not known")
        try:
            return operator(tuple(args), kwargs, self._new_key)
        except Refused as reason:
            raise self._unsupported(name, str(reason)) from reason
        except CheckpointError:
            raise
        except Exception as failure:
            failure.add_note(f"while the archive's code called {name}: {self._frames[-1]}")
            raise

    def _new_key(self) -> jax.Array:
        if self._key is None:
            raise Refused("it draws random numbers, so pass key=jax.random.key(0), say")
        self._key, key = jax.random.split(self._key)
        return key

    # Errors

    def _raise(self, message: Any = "", kind: Any = "") -> None:
        kind = str(kind).removeprefix("builtins.")
        raise CheckpointError(f"the archive's program raised {kind or 'an error'}: {message} ({self._frames[-1]}).")

    def _failure(self, what: str) -> CheckpointError:
        return CheckpointError(f"the archive's code cannot be run: {what} ({self._frames[-1]}).")

    def _unknown(self, node: ast.AST) -> CheckpointError:
        return self._failure(f"{ast.unparse(node)[:80]!r} is not part of TorchScript as it is known here")

    def _unsupported(self, name: str, reason: str) -> UnsupportedOperatorError:
        return UnsupportedOperatorError(f"{name} is refused: {reason} ({self._frames[-1]}).")

    def _missing(self, name: str) -> UnsupportedOperatorError:
        near = difflib.get_close_matches(name, operator_names(), n=1, cutoff=0.8)
        hint = f" The nearest one known is {near[0]}." if near else ""
        return UnsupportedOperatorError(
            f"the operator {name} is not known ({self._frames[-1]}).{hint} Add it: decorate a function of JAX arrays "
            f'with @jaxvoice.weights.torchscript.register_operator("{name}") before running the archive.'
        )

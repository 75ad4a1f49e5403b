"""The operators that a TorchScript archive executes, in order, read from its code."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from jaxvoice.errors import CheckpointError
from jaxvoice.torchscript.layers import Layer
from jaxvoice.torchscript.symbolic_values import Call, Stored

_MOST_STEPS, _DEEPEST = 100_000, 200


@dataclass(frozen=True)
class Step:
    """An operator that a call of the archive executes."""

    path: str
    """The module that executes it."""
    call: Call
    """The operator and its arguments."""

    def number(self, name: str, default: float | None = None) -> float | None:
        """The plain number in an argument; `default` if it is missing, and `None` if it is computed."""
        value = self.call.arguments.get(name, default)
        value = value.value if isinstance(value, Stored) else value
        return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


@dataclass(frozen=True)
class Convolution:
    """A one-dimensional convolution that a call of the archive executes."""

    path: str
    """Its module."""
    at: int
    """The number of the step."""
    inputs: int
    """Input channels."""
    outputs: int
    """Output channels."""
    kernel: int
    """Kernel size."""
    stride: int
    """Stride."""
    padding: int
    """Padding on each side."""
    dilation: int
    """Dilation."""
    transposed: bool
    """Whether it is a transposed convolution."""
    bias: bool
    """Whether it has a bias."""


def executed_steps(layers: Mapping[str, Layer]) -> Iterator[Step]:
    """The operators that `forward` of the top module executes, in order. All branches are taken.

    **Raises:** `CheckpointError` for too many operators, or calls that are nested too deep.
    """
    pending: list[Iterator[tuple[str, Call]]] = [_calls(layers, "", "forward")]
    count = 0
    while pending:
        found = next(pending[-1], None)
        if found is None:
            pending.pop()
            continue
        path, call = found
        count += 1
        if count > _MOST_STEPS:
            raise CheckpointError(f"The archive executes more than {_MOST_STEPS} operators, which is the maximum.")
        if len(pending) > _DEEPEST:
            raise CheckpointError(f"The modules of the archive call each other more than {_DEEPEST} levels deep.")
        if call.kind == "module":
            pending.append(_calls(layers, call.name, call.method))
        else:
            yield Step(path, call)


def _calls(layers: Mapping[str, Layer], path: str, method: str) -> Iterator[tuple[str, Call]]:
    calls: Sequence[Call] = layers[path].methods.get(method, ()) if path in layers else ()
    return ((path, call) for call in calls)

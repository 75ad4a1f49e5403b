"""Parts of a function as functions: from the arguments to activations, and from activations to the result."""

import functools as ft
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ParamSpec, TypeVar

from jaxtyping import Array, Shaped

from jaxvoice.dissect.evaluation import check_replacement, evaluate
from jaxvoice.dissect.named_results import Captured, by_name, chosen
from jaxvoice.dissect.patterns import Aliases, as_tuple, glob, select
from jaxvoice.dissect.programs import Program, Value, renamed, trace
from jaxvoice.errors import ConfigError

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")
Activations = Mapping[str, Shaped[Array, "..."]]


def subgraph(
    function: Callable[_Parameters, Any], names: str | Iterable[str], *, aliases: Aliases | None = None
) -> Callable[_Parameters, Captured]:
    """The part of `function` that computes named results: nothing after them is computed.

    ```python
    encode = dissect.subgraph(dissect.tag(rave.encode), ["encoder.encoder.net.4", "encoder.encoder.net.9"])
    activations = encode(audio, state)
    ```

    **Arguments:** those of `capture`. Arguments of the returned function on which the named results do not depend may
    be `jax.ShapeDtypeStruct`.

    **Returns:** a function of the same arguments that returns the named results, in the order in which they are
    computed.

    **Raises:** the returned function raises `ConfigError` for a name that matches no result outside loops.
    """
    patterns = as_tuple(names)

    @ft.wraps(function, updated=())
    def part(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> Captured:
        program, _ = trace(function, args, kwargs)
        requested = chosen(program, patterns, aliases)
        return by_name(program, requested, evaluate(program, requested, results=False)[1])

    return part


def resume(
    function: Callable[..., _Result], names: str | Iterable[str] | None = None, *, aliases: Aliases | None = None
) -> Callable[..., Any]:
    """The part of `function` after named results, which are given: nothing before them is computed.

    ```python
    decode = dissect.tag(rave.decode)
    _, captured = dissect.capture(decode, "decoder.net.6")(z, state)
    audio, state = dissect.resume(decode)(captured, z, state)
    ```

    **Arguments:**

    - `function`: calls modules of a tagged model.
    - `names`: results to return instead of the result of `function`, as for `subgraph`.
    - `aliases`: other names, for given results too.

    **Returns:** a function `resumed(activations, *args, **kwargs)`. `activations` are arrays by name: those of
    `named_values`, of `activations`, or aliases. The other arguments are those of `function`. Arguments that are not
    needed, because everything computed from them is given, may be `jax.ShapeDtypeStruct`. It returns the result of
    `function`, or the results in `names` by name.

    **Raises:** the returned function raises `ConfigError` for a name that is not that of one result outside loops, for
    an argument that is needed and not an array, and for an activation that has no effect, since everything that is
    computed from it is given too; `ShapeError` for an activation of another shape or dtype.
    """
    patterns = None if names is None else as_tuple(names)

    def resumed(activations: Activations, *args: Any, **kwargs: Any) -> Any:
        program, assemble = trace(function, args, kwargs)
        given = _given(program, activations, aliases)
        if patterns is None:
            return assemble(evaluate(program, given=given)[0])
        requested = chosen(program, patterns, aliases)
        return by_name(program, requested, evaluate(program, requested, given=given, results=False)[1])

    return renamed(resumed, function)


def _given(program: Program, activations: Activations, aliases: Aliases | None) -> dict[Value, Array]:
    given: dict[Value, Array] = {}
    for name, array in activations.items():
        found = list(select(program, name, glob(name), aliases, every=True).values())
        if len(found) > 1:
            raise ConfigError(
                f"The activation {name!r} is the name of {len(found)} results, {found[0].name} to {found[-1].name}; "
                "give each of them an array."
            )
        given[found[0]] = check_replacement(f"The activation {name!r}", array, found[0])
    return given

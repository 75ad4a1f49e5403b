"""Selection of values and weights by name: patterns with `*`, and filters of regular expressions."""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from jaxvoice.config import format_value
from jaxvoice.dissect.programs import Program, Value
from jaxvoice.errors import ConfigError

Aliases = Mapping[str, str]
"""Other names of values: each maps to the name that it stands for (`net.4`), or to an operation (`net.4/square`)."""


def glob(pattern: str) -> Callable[[str], bool]:
    """Whether a name, or the name without `[...]`, matches `pattern`, in which `*` matches any characters."""
    regex = re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
    return lambda name: bool(regex.fullmatch(name) or regex.fullmatch(name.partition("[")[0]))


def full_match(pattern: str) -> Callable[[str], bool]:
    """Whether a whole name, or the whole name without `[...]`, matches the regular expression `pattern`."""
    regex = compiled(pattern)
    return lambda name: bool(regex.fullmatch(name) or regex.fullmatch(name.partition("[")[0]))


def compiled(pattern: str) -> re.Pattern[str]:
    """`pattern` as a regular expression; raises `ConfigError` if it is not valid."""
    try:
        return re.compile(pattern)
    except (re.error, TypeError) as failure:
        raise ConfigError(
            f"The pattern is {format_value(pattern)}; it should be a regular expression ({failure})."
        ) from None


@dataclass(frozen=True)
class Filter:
    """Names that match every regular expression of `match`, and none of `exclude`.

    Expressions are matched at the start of a name (`re.match`), or anywhere in it with `search`.

    **Raises:** `ConfigError` for an invalid regular expression.
    """

    match: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    search: bool = False

    @classmethod
    def of(cls, match: str | Sequence[str] | None, exclude: str | Sequence[str] | None, search: bool) -> "Filter":
        """A filter of one expression, several or none."""
        return cls(as_tuple(match), as_tuple(exclude), search)

    def __post_init__(self) -> None:
        for pattern in (*self.match, *self.exclude):
            compiled(pattern)

    def accepts(self, *names: str) -> bool:
        """Whether one of the `names` of a thing passes."""
        find = re.search if self.search else re.match
        excluded = any(find(pattern, name) for pattern in self.exclude for name in names)
        return not excluded and any(all(find(pattern, name) for pattern in self.match) for name in names)


def as_tuple(patterns: str | Iterable[str] | None) -> tuple[str, ...]:
    """A tuple of one pattern, several or none."""
    return () if patterns is None else (patterns,) if isinstance(patterns, str) else tuple(patterns)


def candidates(
    program: Program, matches: Callable[[str], bool], aliases: Aliases | None = None, *, operations: bool = True
) -> dict[str, Value]:
    """The values of `program` whose names match, by name: results of modules; if there are none, aliases or operations.

    The order of precedence keeps a pattern such as `add*` from matching more than the modules that it was written for.
    With `operations=False`, operations are left out.
    """
    found = {value.name: value for value in program.modules if matches(value.name)}
    if found:
        return found
    found = {
        alias: value
        for alias, target in (aliases or {}).items()
        if matches(alias) and (value := find_value(program, target)) is not None
    }
    if found or not operations:
        return found
    found = {value.name: value for value in program.values if not value.is_module and matches(value.name)}
    if found:
        return found
    return {
        name if len(values) == 1 else f"{name}[{i}]": value
        for name, values in program.local_names.items()
        if matches(name)
        for i, value in enumerate(values)
    }


def find_value(program: Program, name: str) -> Value | None:
    """The first value with this name, or that an operation of a module (`net.4/square`) computes; None if none does."""
    if "/" in name:
        return next(iter(program.local_names.get(name, ())), None)
    return next((value for value in program.modules if name in (value.name, value.name.partition("[")[0])), None)


def select(
    program: Program,
    pattern: str,
    matches: Callable[[str], bool],
    aliases: Aliases | None = None,
    *,
    every: bool = False,
) -> dict[str, Value]:
    """The values of `program` outside loops whose names match `pattern`, by name.

    **Raises:** `ConfigError` if there are none, with the nearest names; if all are in loops; with `every`, if one is.
    """
    found = candidates(program, matches, aliases)
    if not found:
        modules = list(dict.fromkeys(value.name.partition("[")[0] for value in program.modules))
        others = [*(aliases or ()), *dict.fromkeys(value.name for value in program.values if not value.is_module)]
        raise ConfigError(
            f"The pattern {pattern!r} matches none of the {len(modules)} named results; "
            f"{nearest(pattern, modules, others)}. named_values lists the results of modules, and activations lists "
            "all names. dissect.tag(model) names the results of a model."
        )
    return outside_loops(pattern, found, every=every)


def outside_loops(pattern: str, found: Mapping[str, Value], *, every: bool) -> dict[str, Value]:
    """The values that are not in loops.

    **Raises:** `ConfigError` if there are none, or, with `every`, if one is in a loop.
    """
    looped = [value.name for value in found.values() if value.in_loop]
    if len(looped) == len(found) or (every and looped):
        raise ConfigError(
            f"The pattern {pattern!r} matches {looped[0]!r}, a result inside a loop, branch or shard_map, which cannot "
            "be captured or edited. Use other names, or capture the function that is the body of the loop."
        )
    return {name: value for name, value in found.items() if not value.in_loop}


def nearest(name: str, *known: Iterable[str]) -> str:
    """The names most similar to `name` in the first of the lists that has any, as part of a message."""
    for names in known:
        near = difflib.get_close_matches(name, list(names), n=3, cutoff=0.3)
        if near:
            return f"the nearest are {', '.join(near)}"
    return "none is similar"

"""Configuration files of google/gin-config, as far as operative configurations use the format.

A file consists of bindings `scope/module.Class.parameter = value` or blocks `module.Class:` with indented parameters,
macros `NAME = value`, imports and comments. Values are Python literals, references `@module.function` and macros
`%NAME`. Imports are skipped; nothing is imported or executed.
"""

import ast
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxvoice.config import format_value, read_text
from jaxvoice.errors import ConfigError

_MOST_BYTES, _MOST_BINDINGS, _MOST_VALUES, _DEEPEST = 2**20, 10_000, 100_000, 50
_NAME = r"(?:[A-Za-z_]\w*/)*[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
_BINDING = re.compile(rf"\s*({_NAME})\s*=(?!=)(.*)", re.DOTALL)
_BLOCK = re.compile(rf"({_NAME})\s*:\s*")
_IMPORT = re.compile(r"(import\s+[\w.]+(\s+as\s+\w+)?|from\s+[\w.]+\s+import\s+[\w.]+(\s+as\s+\w+)?)\s*")
_INCLUDE = re.compile(r"include\s*['\"]")
# Strings are matched first, because they may contain the marks of the others.
_TOKEN = re.compile(
    r"(?P<string>\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*')|(?P<comment>\#[^\n]*)|(?P<continued>\\\n)|"
    rf"@(?P<reference>{_NAME})(?P<called>\(\s*\))?|%(?P<macro>{_NAME})|(?P<open>[\[({{])|(?P<close>[\])}}])|"
    r"(?P<other>.)",
    re.DOTALL,
)


@dataclass(frozen=True)
class GinReference:
    """A reference to a class or function, `@scope/module.name` or `@module.name()`."""

    name: str
    """The name with its scopes."""
    called: bool = False
    """Whether the value is the result of a call."""


@dataclass(frozen=True)
class _Macro:
    name: str


class GinFile:
    """The bindings of a file."""

    def __init__(self, bindings: Mapping[str, Any], macros: Mapping[str, Any], where: str):
        self.bindings, self.macros, self.where = bindings, macros, where

    def value(self, owner: str, parameter: str, default: Any = None) -> Any:
        """The value that is bound to `parameter` of the class or function `owner`, without regard to its scope.

        **Arguments:** `owner`, the last components of its dotted name, such as `RAVE` or `cc.Conv1d`. A binding without
        scopes is preferred to one with scopes.
        """
        found = None
        for name, value in self.bindings.items():
            scope, _, selector = name.rpartition("/")
            place, _, last = selector.rpartition(".")
            if last == parameter and (place == owner or place.endswith(f".{owner}")):
                if not scope:
                    return value
                found = value if found is None else found
        return default if found is None else found

    def scoped(self, owner: str, parameter: str) -> list[Any]:
        """The values that are bound to `parameter` of `owner` in any scope, in the order of the file."""
        tail = f"{owner}.{parameter}"
        names = ((name, name.rpartition("/")[2]) for name in self.bindings)
        return [self.bindings[name] for name, last in names if last == tail or last.endswith(f".{tail}")]


def read_gin(path: Path) -> GinFile:
    """The bindings in the file `path`, with the values of macros in the place of their names.

    **Raises:** `ConfigError` if the file cannot be read; otherwise as `parse_gin`.
    """
    return parse_gin(read_text(path, _MOST_BYTES), str(path))


def parse_gin(text: str, where: str) -> GinFile:
    """The bindings in `text`.

    **Raises:** `ConfigError` with `where` and the number of the line for a statement that is none of the format, an
    `include`, a value that is not a literal, or a macro that is not defined or contains itself.
    """
    bindings: dict[str, tuple[int, Any]] = {}
    macros: dict[str, tuple[int, Any]] = {}
    block: str | None = None
    for line, statement in _statements(text, where):
        indented = statement[:1].isspace()
        bare = statement.strip()
        if not indented:
            block = None
        if _IMPORT.fullmatch(bare):
            continue
        if _INCLUDE.match(bare):
            raise _wrong(where, line, bare, "another statement: the config.gin of a run contains no include")
        heading = _BLOCK.fullmatch(bare)
        if heading and not indented:
            block = heading[1]
            continue
        found = _BINDING.fullmatch(statement)
        if found is None or (indented and block is None):
            raise _wrong(where, line, bare, "a binding `name = value`, a block `name:`, an import or a comment")
        name = found[1] if block is None else f"{block}.{found[1]}"
        value = _value(found[2], where, line)
        if "." in name:
            bindings[name] = line, value
        else:
            macros[name] = line, value
        if len(bindings) + len(macros) > _MOST_BINDINGS:
            raise ConfigError(f"{where} has more than {_MOST_BINDINGS} bindings; it should be the config.gin of a run.")
    resolver = _Resolver(macros, where)
    resolved = {name: resolver.resolved(value, line) for name, (line, value) in bindings.items()}
    constants = {name: resolver.resolved(value, line) for name, (line, value) in macros.items()}
    return GinFile(resolved, constants, where)


def _statements(text: str, where: str) -> Iterator[tuple[int, str]]:
    """Statements without comments, with the number of their first line. Brackets and backslashes continue lines."""
    parts: list[str] = []
    depth, line, start = 0, 1, 1
    for token in _TOKEN.finditer(text.replace("\r\n", "\n")):
        kind, value = token.lastgroup, token[0]
        if kind == "called":
            kind = "reference"
        if kind == "comment":
            continue
        depth += (kind == "open") - (kind == "close")
        if depth < 0:
            raise _wrong(where, line, "".join(parts).strip() + value, "a statement with balanced brackets")
        if value == "\n" and depth == 0:
            if "".join(parts).strip():
                yield start, "".join(parts)
            parts, line = [], line + 1
            start = line
            continue
        line += value.count("\n")
        parts.append(" " if kind == "continued" else value.replace("\\\n", ""))  # the latter in strings
    if depth:
        raise _wrong(where, start, "".join(parts).strip(), "a statement with balanced brackets")
    if "".join(parts).strip():
        yield start, "".join(parts)


def _value(text: str, where: str, line: int) -> Any:
    marks: list[GinReference | _Macro] = []

    def replaced(token: re.Match[str]) -> str:
        if token["reference"]:
            marks.append(GinReference(token["reference"], token["called"] is not None))
        elif token["macro"]:
            marks.append(_Macro(token["macro"]))
        else:
            return token[0]
        return f" _[{len(marks) - 1}] "

    source = _TOKEN.sub(replaced, text).strip()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unusual escapes in strings
            return _literal(ast.parse(source.replace("\n", " "), mode="eval").body, marks)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as failure:
        expected = "a value that is a Python literal, a reference @name or a macro %NAME"
        raise _wrong(where, line, text.strip(), expected) from failure


def _literal(node: ast.AST, marks: list[GinReference | _Macro]) -> Any:
    match node:
        case ast.Constant(value) if value is None or isinstance(value, bool | int | float | str):
            return value
        case ast.UnaryOp(ast.USub() | ast.UAdd() as sign, ast.Constant(int() | float() as value)):
            return -value if isinstance(sign, ast.USub) else value
        case ast.List(items) | ast.Tuple(items):
            return [_literal(item, marks) for item in items]
        case ast.Dict(keys, values) if None not in keys:
            pairs = zip(keys, values, strict=True)
            return {_key(_literal(key, marks)): _literal(value, marks) for key, value in pairs if key is not None}
        case ast.Subscript(ast.Name("_"), ast.Constant(int() as number)) if number < len(marks):
            return marks[number]
    raise ValueError("not a literal")


def _key(value: Any) -> Any:
    if isinstance(value, list | dict):
        raise ValueError("not a key")
    return value


class _Resolver:
    """Replaces macros by their values."""

    def __init__(self, macros: Mapping[str, tuple[int, Any]], where: str):
        self._macros, self._where, self._left = macros, where, _MOST_VALUES

    def resolved(self, value: Any, line: int, depth: int = 0) -> Any:
        """`value` with the values of macros in the place of their names.

        **Raises:** `ConfigError` for unknown macros, macros that contain themselves, and too many values.
        """
        self._left -= 1
        if depth > _DEEPEST or self._left < 0:
            raise ConfigError(
                f"{self._where}, line {line}: the value contains itself through a macro, or is too large; restore the "
                "file."
            )
        if isinstance(value, _Macro):
            if value.name not in self._macros:
                raise ConfigError(
                    f"{self._where}, line {line}: the macro %{value.name} is not defined; defined are "
                    f"{', '.join(sorted(self._macros)[:20]) or 'none'}. Restore the file."
                )
            return self.resolved(self._macros[value.name][1], line, depth + 1)
        if isinstance(value, list):
            return [self.resolved(item, line, depth + 1) for item in value]
        if isinstance(value, dict):
            return {key: self.resolved(item, line, depth + 1) for key, item in value.items()}
        return value


def _wrong(where: str, line: int, statement: str, expected: str) -> ConfigError:
    return ConfigError(f"{where}, line {line}: {format_value(statement[:200])}; it should be {expected}.")

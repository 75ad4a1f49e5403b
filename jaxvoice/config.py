"""Configurations: frozen dataclasses with a JSON round trip.

A config class is a frozen dataclass whose fields are numbers, strings, booleans, `None`, paths, literals, tuples of
these, or other config classes. It checks its fields in `__post_init__`, which calls `check_types` first. The
error contains the field, its value, and the values that are valid: `LoopConfig.steps is 0; it should be positive.`
"""

import dataclasses
import difflib
import json
import math
import reprlib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from jaxvoice.errors import ConfigError

Config = TypeVar("Config")

# Real configurations are far smaller. These limits bound the time for any file.
_MAX_BYTES, _MAX_ITEMS = 16 * 2**20, 256
_TYPE_NAMES = {int: "a whole number (int)", float: "a finite number (float)", str: "text (str)", bool: "True or False"}


_REPR = reprlib.Repr()
_REPR.maxdict = _REPR.maxlist = _REPR.maxtuple = 12
_REPR.maxlevel, _REPR.maxstring, _REPR.maxlong, _REPR.maxother = 4, 100, 60, 200


def format_value(value: Any) -> str:
    """Format any value for a message. The text is short and printable."""
    if isinstance(value, int) and abs(value) >= 10**60:
        return f"a number of {value.bit_length()} bits"
    text = _REPR.repr(value)
    return text if len(text) <= 400 else f"{text[:397]}..."


def list_names(names: Iterable[str]) -> str:
    """The first names of a list and the number of the others, for a message."""
    names = list(names)
    shown = ", ".join(map(repr, names[:5]))
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown or "none are known"


def suggest_names(name: Any, known: Iterable[str]) -> str:
    """The end of the message about an unknown name: the nearest of the known names, or the first of them."""
    known = list(known)
    close = difflib.get_close_matches(name[:100], known, n=3, cutoff=0.4) if isinstance(name, str) else []
    if close:
        kind = "names are" if len(close) > 1 else "name is"
        return f"the nearest known {kind} {', '.join(map(repr, close))}."
    return f"it should be one of the known names: {list_names(known)}."


def to_dict(config: Any) -> dict[str, Any]:
    """The fields of `config`, nested, as JSON values. Tuples become lists, and paths become text."""
    return {name: _json_value(value) for name, value in _fields(config)}


def _json_value(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    if isinstance(value, tuple | list):
        return [_json_value(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def from_dict(cls: type[Config], data: Mapping[str, Any], where: str = "config") -> Config:
    """Build a `cls` from the result of `to_dict`. Missing keys take their defaults.

    **Raises:** `ConfigError` for an unknown key (naming the nearest known one), a missing required key, or a value of
    the wrong type. The message contains the dotted path, which starts with `where`.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where} is {format_value(data)}; it should be an object with the fields of {cls.__name__}.")
    fields = {field.name: field for field in dataclasses.fields(cls)}  # pyright: ignore[reportArgumentType]
    hints = typing.get_type_hints(cls)
    for key in data:
        if key not in fields:
            raise ConfigError(f"{where} has an unknown key {format_value(key)}{_nearest(key, fields)}")
    missing = [
        name
        for name, field in fields.items()
        if name not in data and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"{where} lacks {', '.join(map(repr, missing))}; add it to build a {cls.__name__}.")
    values = {key: _convert(hints[key], value, f"{where}.{key}") for key, value in data.items()}
    try:
        return cls(**values)
    except ConfigError as failure:
        raise ConfigError(f"{where}: {failure}") from failure


def _nearest(key: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(str(key)[:100], known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known keys are {', '.join(known)}."


def _convert(hint: Any, value: Any, where: str) -> Any:
    """Convert `value` to the type `hint`, for types that JSON lacks: tuples, paths, and floats from integers."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        failures = []
        for option in args:
            if option is not type(None):
                try:
                    return _convert(option, value, where)
                except ConfigError as failure:
                    failures.append(failure)
        raise failures[0]
    if origin is typing.Literal:
        if value in args:
            return value
        raise ConfigError(f"{where} is {format_value(value)}; it should be one of {', '.join(map(repr, args))}.")
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where} is {format_value(value)}; it should be a list (in Python a tuple).")
        if len(value) > _MAX_ITEMS:
            raise ConfigError(f"{where} has {len(value)} items; it should have at most {_MAX_ITEMS}.")
        if len(args) == 2 and args[1] is Ellipsis:
            return tuple(_convert(args[0], item, f"{where}[{i}]") for i, item in enumerate(value))
        if len(value) != len(args):
            raise ConfigError(f"{where} is {format_value(value)}; it should have {len(args)} items.")
        return tuple(
            _convert(arg, item, f"{where}[{i}]") for i, (arg, item) in enumerate(zip(args, value, strict=True))
        )
    if dataclasses.is_dataclass(hint):
        if isinstance(value, hint):  # pyright: ignore[reportArgumentType]
            return value
        return from_dict(hint, value, where)  # pyright: ignore[reportArgumentType]
    if hint is Path and isinstance(value, str | Path):
        return Path(value)
    return _convert_scalar(hint, value, where)


def _convert_scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is Any:
        return value
    fits = isinstance(value, (int, float) if hint is float else hint) and (hint is bool or not isinstance(value, bool))
    try:
        if fits and (hint is not float or math.isfinite(value)):
            return float(value) if hint is float else value
    except OverflowError:  # an integer beyond the largest float
        pass
    raise ConfigError(
        f"{where} is {format_value(value)}; it should be {_TYPE_NAMES.get(hint, f'of type {hint.__name__}')}."
    )


def check_types(config: Any) -> None:
    """Check the types of all fields, the values of `Literal` fields, and that floats are finite.

    Integers are valid floats. Lists are not valid tuples, because a config must be hashable.

    **Raises:** `ConfigError` with class, field, value, and the values that are valid.
    """
    hints = typing.get_type_hints(type(config))
    for name, value in _fields(config):
        where = f"{type(config).__name__}.{name}"
        converted = _convert(hints[name], value, where)
        if converted != value:
            raise ConfigError(f"{where} is {format_value(value)}; it should be {format_value(converted)}.")


def check_positive(config: Any, *names: str, hint: str = "") -> None:
    """Check that the numbers in the fields `names`, and in their tuples, are positive. `None` is valid; `()` is not.

    **Raises:** `ConfigError` with class, field and value. `hint`, a sentence without its full stop, is appended.
    """
    for name in names:
        value = getattr(config, name)
        if isinstance(value, tuple):
            check_field(config, name, _all_positive(value), "hold positive numbers, at least one in each tuple", hint)
        else:
            check_field(config, name, value is None or value > 0, "be positive", hint)


def check_not_negative(config: Any, *names: str, hint: str = "") -> None:
    """Check that the numbers in the fields `names` are at least 0; otherwise like `check_positive`."""
    for name in names:
        value = getattr(config, name)
        check_field(config, name, value is None or value >= 0, "be at least 0", hint)


def check_at_most(config: Any, most: float, *names: str) -> None:
    """Check that the numbers in the fields `names`, and in their tuples, are at most `most`. `None` is valid.

    **Raises:** `ConfigError` with class, field and value.
    """
    for name in names:
        value = getattr(config, name)
        expected = "contain numbers of at most" if isinstance(value, tuple) else "be at most"
        check_field(config, name, _largest(value) <= most, f"{expected} {most}")


def check_field(config: Any, name: str, valid: bool, expected: str, hint: str = "") -> None:
    """Raise `ConfigError` unless the value of the field `name` is `valid`.

    The message is `CLASS.NAME is VALUE; it should EXPECTED. HINT.`
    """
    if not valid:
        where = f"{type(config).__name__}.{name}"
        more = f" {hint}." if hint else ""
        raise ConfigError(f"{where} is {format_value(getattr(config, name))}; it should {expected}.{more}")


def _all_positive(value: Any) -> bool:
    return (len(value) > 0 and all(map(_all_positive, value))) if isinstance(value, tuple) else value > 0


def _largest(value: Any) -> float:
    if isinstance(value, tuple):
        return max(map(_largest, value), default=-math.inf)
    return -math.inf if value is None else value


def find_preset(presets: Mapping[str, Config], name: str) -> Config:
    """The preset `name` of `presets`.

    **Raises:** `ConfigError`, with the names of all presets, if there is none.
    """
    if name not in presets:
        raise ConfigError(f"preset is {format_value(name)}; it should be one of {', '.join(presets)}.")
    return presets[name]


def _fields(config: Any) -> list[tuple[str, Any]]:
    return [(field.name, getattr(config, field.name)) for field in dataclasses.fields(config)]


def read_json(path: Path) -> Any:
    """The content of the JSON file at `path`; raises `ConfigError` if it is missing, not valid JSON, or too large."""
    return parse_json(path, read_text(path, _MAX_BYTES))


def read_text(path: Path, most: int) -> str:
    """The text in the file at `path`, with or without a byte order mark.

    **Raises:** `ConfigError` if the file is missing, not UTF-8, or larger than `most` bytes.
    """
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as failure:
        raise ConfigError(f"{path} cannot be read ({failure.strerror}); check the path.") from failure
    if len(data) > most:
        raise ConfigError(f"{path} is larger than {most:,} bytes; it should be a configuration. Check the path.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as failure:
        raise ConfigError(
            f"{path} is not text in UTF-8 ({failure.reason}); it should be a configuration. Restore the file, or write "
            "it again."
        ) from failure


def parse_json(path: Path, text: str) -> Any:
    """The JSON `text` of the file at `path`.

    **Raises:** `ConfigError` if it is not valid JSON, or contains a lone surrogate, which cannot be written as UTF-8.
    """
    try:
        value = json.loads(text)
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except RecursionError as failure:
        raise ConfigError(f"{path} is nested too deep; restore the file or write it again.") from failure
    except UnicodeEncodeError as failure:
        raise ConfigError(
            f"{path} contains {failure.object[failure.start]!a}, which is not valid Unicode; restore the file or write "
            "it again."
        ) from failure
    except ValueError as failure:
        raise ConfigError(f"{path} is not valid JSON ({failure}); restore the file or write it again.") from failure


def differences(left: Any, right: Any, prefix: str = "") -> list[str]:
    """A line `name: left value != right value` for each field in which two configs of one class differ."""
    lines = []
    for name, a in _fields(left):
        b = getattr(right, name)
        if dataclasses.is_dataclass(a) and type(a) is type(b):
            lines += differences(a, b, f"{prefix}{name}.")
        elif a != b:
            lines.append(f"{prefix}{name}: {a!r} != {b!r}")
    return lines

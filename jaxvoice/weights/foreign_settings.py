"""Configuration files of other implementations: JSON with comments, or YAML.

Settings are checked when they are read.
"""

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxvoice.config import format_value, parse_json, read_text
from jaxvoice.errors import ConfigError
from jaxvoice.weights.gin_files import read_gin

# Lists in real configurations are far shorter.
_MOST_ITEMS = 64
LONGEST_SEGMENT = 2**28
"""Maximum number of samples in a training crop."""

# Strings are matched first, because they may contain comment markers. Unterminated strings are also matched, so that
# the time is linear.
_COMMENTS = re.compile(r'("[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z))|//[^\n]*|/\*.*?(?:\*/|\Z)', re.DOTALL)
_MOST_BYTES = 2**20
# PyYAML reads 100 kB in about two seconds; the configurations of vocoders have 2 to 10 kB.
_MOST_YAML = 100_000
_YAML = re.compile(r"^[A-Za-z_][\w.-]*:(?: |$)", re.MULTILINE)
_YAML_FLOAT = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$")


def read_settings(path: Path) -> dict[str, Any]:
    """The object in the JSON or YAML file at `path`, or the bindings of a gin file.

    Comments in JSON are allowed, because older coqui files contain them. A file is YAML if its name ends in `.yaml` or
    `.yml`, or if it is not JSON and contains lines `name: value`.

    **Raises:** `ConfigError` if the file does not contain an object.
    """
    if path.suffix.lower() == ".gin":
        return dict(read_gin(path).bindings)
    text = read_text(path, _MOST_BYTES)
    if path.suffix.lower() in (".yaml", ".yml") or (not text.lstrip().startswith("{") and _YAML.search(text)):
        return parse_yaml(text, str(path))
    try:
        table = parse_json(path, text)
    except ConfigError:
        table = parse_json(path, _COMMENTS.sub(lambda found: found[1] or " ", text))
    if not isinstance(table, dict):
        raise ConfigError(f"{path} contains a {type(table).__name__}; it should contain an object of settings.")
    return table


def parse_yaml(text: str, where: str) -> dict[str, Any]:
    """The object in a YAML text. Tags of Python, aliases and merged keys are refused.

    **Raises:** `ConfigError`, which names `where`, if the text is not valid YAML or does not contain an object.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """Numbers like 1e-5 are numbers, as in YAML 1.2; PyYAML reads them as text."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise ConfigError(f"{where} is YAML with an alias (*name); write the value in its place.")
            return super().compose_node(parent, index)

    Loader.add_implicit_resolver("tag:yaml.org,2002:float", _YAML_FLOAT, list("-+0123456789."))
    if len(text) > _MOST_YAML:
        raise ConfigError(f"{where} is YAML with {len(text)} characters; at most {_MOST_YAML} are read.")
    try:
        table = yaml.load(text, Loader)
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as failure:
        problem = " ".join(str(getattr(failure, "problem", None) or failure).split())[:200]
        raise ConfigError(f"{where} is not valid YAML ({problem}); restore the file.") from failure
    if not isinstance(table, dict):
        raise ConfigError(f"{where} is YAML with a {type(table).__name__}; it should contain an object of settings.")
    return table


class Settings:
    """An object in a configuration file. `prefix` is the prefix of its names in errors.

    The methods raise `ConfigError` if a setting is missing or has another type. For a setting that is missing or
    `None`, they return `default` if it is given.
    """

    def __init__(self, table: Any, prefix: str = ""):
        if not isinstance(table, Mapping):
            raise ConfigError(
                f"{prefix.rstrip('.') or 'the configuration'} is {format_value(table)}; it should be an object of "
                "settings."
            )
        self._table, self._prefix = table, prefix

    def __contains__(self, name: str) -> bool:
        return self._table.get(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def table(self, name: str) -> "Settings":
        """The object `name`."""
        return Settings(self._get(name), f"{self._prefix}{name}.")

    def optional_table(self, name: str) -> "Settings":
        """The object `name`, or an empty one if it is missing."""
        return self.table(name) if name in self else Settings({}, f"{self._prefix}{name}.")

    def value(self, name: str) -> Any:
        """The value of `name` without a check; `None` if it is missing."""
        return self._table.get(name)

    def integer(self, name: str, default: int | None = None, *, low: int = 1, high: int = 2**31) -> int:
        """A whole number from `low` to `high`."""
        value = self._get(name, default)
        if type(value) is int and low <= value <= high:
            return value
        raise self._wrong(name, f"a whole number from {low} to {high}", value)

    def number(
        self, name: str, default: float | None = None, *, above: float = -math.inf, most: float = math.inf
    ) -> float:
        """A finite number greater than `above` and at most `most`."""
        value = self._get(name, default)
        bounds = (f" above {above:g}" if above > -math.inf else "") + (f" up to {most:g}" if most < math.inf else "")
        if type(value) in (int, float):
            try:
                if math.isfinite(value) and above < value <= most:
                    return float(value)
            except OverflowError:  # an integer beyond the largest float
                pass
        raise self._wrong(name, f"a finite number{bounds}", value)

    def boolean(self, name: str, default: bool | None = None) -> bool:
        """True or false."""
        value = self._get(name, default)
        if isinstance(value, int) and value in (0, 1):
            return bool(value)
        raise self._wrong(name, "true or false", value)

    def text(self, name: str, default: str | None = None) -> str:
        """Text, or a whole number as text."""
        value = self._get(name, default)
        if isinstance(value, str) or (type(value) is int and abs(value) < 10**9):
            return str(value)
        raise self._wrong(name, "text", value)

    def integers(self, name: str) -> tuple[int, ...]:
        """A list of whole numbers."""
        return self._sizes(name, self._get(name))

    def integer_lists(self, name: str) -> tuple[tuple[int, ...], ...]:
        """A list of lists of whole numbers."""
        value = self._get(name)
        if not isinstance(value, list | tuple) or len(value) > _MOST_ITEMS:
            raise self._wrong(name, f"a list of up to {_MOST_ITEMS} lists of whole numbers", value)
        return tuple(self._sizes(name, row) for row in value)

    def _sizes(self, name: str, value: Any) -> tuple[int, ...]:
        few = isinstance(value, list | tuple) and len(value) <= _MOST_ITEMS
        if few and all(type(item) is int and 0 < item < 2**31 for item in value):
            return tuple(value)
        raise self._wrong(name, f"a list of up to {_MOST_ITEMS} whole numbers above 0", value)

    def _get(self, name: str, default: Any = None) -> Any:
        value = self._table.get(name)
        if value is None:
            value = default
        if value is None:
            raise ConfigError(f"{self._prefix}{name} is missing; restore the file or pass another --config.")
        return value

    def _wrong(self, name: str, what: str, value: Any) -> ConfigError:
        return ConfigError(f"{self._prefix}{name} is {format_value(value)}; it should be {what}.")

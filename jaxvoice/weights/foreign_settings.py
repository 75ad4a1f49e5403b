"""Configuration files of other implementations: read as JSON with comments, and checked entry by entry."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxvoice.config import format_value, parsed_json, read_text
from jaxvoice.errors import ConfigError

# Far above the lengths of all lists in configurations.
_MOST_ITEMS = 64
LONGEST_SEGMENT = 2**28
"""Samples of a training crop that no configuration asks for."""

# Strings are matched first, so that what looks like a comment in one is none; also those that never end, so that each
# character is looked at once.
_COMMENTS = re.compile(r'("[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z))|//[^\n]*|/\*.*?(?:\*/|\Z)', re.DOTALL)
_MOST_BYTES = 2**20


def read_settings(path: Path) -> dict[str, Any]:
    """The table in the JSON file at `path`; comments, as older coqui files have them, are allowed.

    **Raises:** `ConfigError` if there is none.
    """
    text = read_text(path, _MOST_BYTES)
    try:
        table = json.loads(text)
    except (ValueError, RecursionError):
        table = parsed_json(path, _COMMENTS.sub(lambda found: found[1] or " ", text))
    if not isinstance(table, dict):
        raise ConfigError(f"{path} should hold a table of settings, got {type(table).__name__}.")
    return table


class Settings:
    """A table of a configuration file; `place` is what stands before its names in errors.

    What is asked for and absent, or not of the kind asked for, is a `ConfigError`. Where a `default` is given it stands
    for what is absent or `None`.
    """

    def __init__(self, table: Any, place: str = ""):
        if not isinstance(table, Mapping):
            raise ConfigError(f"{place.rstrip('.') or 'it'} should be a table of settings, got {format_value(table)}.")
        self._table, self._place = table, place

    def __contains__(self, name: str) -> bool:
        return self._table.get(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def table(self, name: str) -> "Settings":
        """The table called `name`."""
        return Settings(self._of(name), f"{self._place}{name}.")

    def tables(self, name: str) -> "Settings":
        """The table called `name`, an empty one where it is absent."""
        return self.table(name) if name in self else Settings({}, f"{self._place}{name}.")

    def value(self, name: str) -> Any:
        """What stands there, unchecked; `None` where it is absent."""
        return self._table.get(name)

    def whole(self, name: str, default: int | None = None, *, low: int = 1, high: int = 2**31) -> int:
        """A whole number from `low` to `high`."""
        value = self._of(name, default)
        if type(value) is int and low <= value <= high:
            return value
        raise self._wrong(name, f"a whole number from {low} to {high}", value)

    def number(
        self, name: str, default: float | None = None, *, above: float = -math.inf, most: float = math.inf
    ) -> float:
        """A finite number above `above`, up to `most`."""
        value = self._of(name, default)
        bounds = (f" above {above:g}" if above > -math.inf else "") + (f" up to {most:g}" if most < math.inf else "")
        if type(value) in (int, float):
            try:
                if math.isfinite(value) and above < value <= most:
                    return float(value)
            except OverflowError:  # an integer beyond the largest float
                pass
        raise self._wrong(name, f"a finite number{bounds}", value)

    def flag(self, name: str, default: bool | None = None) -> bool:
        """True or false."""
        value = self._of(name, default)
        if isinstance(value, int) and value in (0, 1):
            return bool(value)
        raise self._wrong(name, "true or false", value)

    def word(self, name: str, default: str | None = None) -> str:
        """Text, or a whole number as text."""
        value = self._of(name, default)
        if isinstance(value, str) or (type(value) is int and abs(value) < 10**9):
            return str(value)
        raise self._wrong(name, "text", value)

    def sizes(self, name: str) -> tuple[int, ...]:
        """A list of whole numbers."""
        return self._sizes(name, self._of(name))

    def rows(self, name: str) -> tuple[tuple[int, ...], ...]:
        """A list of lists of whole numbers."""
        value = self._of(name)
        if not isinstance(value, list | tuple) or len(value) > _MOST_ITEMS:
            raise self._wrong(name, f"a list of up to {_MOST_ITEMS} lists of whole numbers", value)
        return tuple(self._sizes(name, row) for row in value)

    def _sizes(self, name: str, value: Any) -> tuple[int, ...]:
        few = isinstance(value, list | tuple) and len(value) <= _MOST_ITEMS
        if few and all(type(item) is int and 0 < item < 2**31 for item in value):
            return tuple(value)
        raise self._wrong(name, f"a list of up to {_MOST_ITEMS} whole numbers above 0", value)

    def _of(self, name: str, default: Any = None) -> Any:
        value = self._table.get(name)
        if value is None:
            value = default
        if value is None:
            raise ConfigError(f"it lacks {self._place}{name}; restore it or give another --config.")
        return value

    def _wrong(self, name: str, what: str, value: Any) -> ConfigError:
        return ConfigError(f"{self._place}{name} should be {what}, got {format_value(value)}.")

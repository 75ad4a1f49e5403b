"""Controls: numbers of operations that are given at each call."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jax import numpy as jnp
from jax.core import Tracer

from jaxvoice.config import check_field, check_types, format_value
from jaxvoice.errors import ConfigError, ShapeError

_LARGEST = float(np.finfo(np.float32).max)

Controls = Mapping[str, Any]
"""Values of controls by name."""


@dataclass(frozen=True)
class Control:
    """A named number that is given at each call. Operations that name the same control share it.

    **Raises:** `ConfigError` for an empty name, a range that is not a range, or a default outside it.
    """

    name: str
    """Its name."""
    default: float = 1.0
    """Its value if none is given."""
    low: float | None = None
    """Its smallest value; `None` for no limit."""
    high: float | None = None
    """Its largest value; `None` for no limit."""
    clamp: bool = False
    """Whether values outside the range are moved to its ends; otherwise they are errors."""

    def __post_init__(self) -> None:
        check_types(self)
        check_field(self, "name", bool(self.name), "not be empty")
        for field in ("default", "low", "high"):
            number = getattr(self, field)
            check_field(self, field, number is None or abs(number) <= _LARGEST, f"be at most {_LARGEST:g} in size")
        valid = self.low is None or self.high is None or self.low <= self.high
        check_field(self, "high", valid, f"be at least low, {self.low}")
        check_field(self, "default", self._contains(self.default), f"be in {self.range_text}")

    @property
    def range_text(self) -> str:
        """The range as text, such as `[0.0, 1.0]`."""
        low, high = (end if given is None else given for given, end in ((self.low, -math.inf), (self.high, math.inf)))
        return f"[{low}, {high}]"

    def _contains(self, value: float) -> bool:
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def checked(self, value: Any) -> Any:
        """`value` as a float32 scalar.

        Values that JAX traces are moved into the range with `clamp`, and are otherwise not checked. Check them before,
        with `BendingConfig.values`.

        **Raises:** `ConfigError` for NaN, infinity and values outside the range; `ShapeError` for other than scalars.
        """
        if np.shape(value) != ():
            raise ShapeError(
                f"The control {self.name!r} is of shape {np.shape(value)}; it should be one number. Pass a scalar."
            )
        if isinstance(value, Tracer):
            value = value.astype(jnp.float32)
            return jnp.clip(value, self.low, self.high) if self.clamp else value
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            raise ConfigError(f"The control {self.name!r} is {format_value(value)}; it should be a number.") from None
        if not abs(number) <= _LARGEST:
            raise ConfigError(f"The control {self.name!r} is {number}; it should be a finite number (float32).")
        if self.clamp:
            number = min(
                max(number, number if self.low is None else self.low), number if self.high is None else self.high
            )
        if not self._contains(number):
            raise ConfigError(f"The control {self.name!r} is {number}; it should be in {self.range_text}.")
        return jnp.asarray(number, jnp.float32)


Number = float | Control


def value_of(number: Number, controls: Controls) -> Any:
    """The value of a number: that of the control, or the number itself."""
    return controls.get(number.name, number.default) if isinstance(number, Control) else number


def controls_of(operation: Any) -> list[Control]:
    """The controls of an operation."""
    found = []
    for field in fields(operation):
        value = getattr(operation, field.name)
        found += [item for item in (value if isinstance(value, tuple) else (value,)) if isinstance(item, Control)]
    return found


def number_range(number: Number) -> tuple[float | None, ...]:
    """The ends of the values that a number has."""
    return (number.low, number.high, number.default) if isinstance(number, Control) else (number,)

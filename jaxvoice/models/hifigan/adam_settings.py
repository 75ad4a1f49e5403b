"""Numbers that torch's AdamW leaves in a checkpoint, checked before they steer a training."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxvoice.config import format_value
from jaxvoice.errors import CheckpointError

_MOST = 2**31 - 2  # counts are 32-bit integers, and one is added


def adam_settings(table: Any, where: str) -> dict[str, Any]:
    """`lr`, `betas`, `eps`, `weight_decay` and, where it is there, `initial_lr` of an optimiser called `where`.

    **Raises:** `CheckpointError` for one that is missing, of another kind, or out of its range, and for variants of the
    algorithm that are not supported.
    """
    if not isinstance(table, Mapping):
        raise CheckpointError(
            f"{where} should be a table of AdamW's settings, got {format_value(table)}; it was cut or edited."
        )
    checks: dict[str, tuple[Callable[[Any], bool], str]] = {
        "lr": (lambda value: _is_number(value) and value > 0, "a number above 0"),
        "initial_lr": (lambda value: _is_number(value) and value > 0, "a number above 0"),
        "betas": (_is_betas, "two numbers from 0 to below 1"),
        "eps": (lambda value: _is_number(value) and value > 0, "a number above 0"),
        "weight_decay": (lambda value: _is_number(value) and value >= 0, "a number of at least 0"),
    }
    found = {}
    for name, (fits, wish) in checks.items():
        if name == "initial_lr" and name not in table:
            continue
        if name not in table or not fits(table[name]):
            got = f"is {format_value(table[name])}" if name in table else "is missing"
            raise CheckpointError(f"{where}.{name} {got}; it should be {wish}, as AdamW of do_ files has it.")
        found[name] = list(table[name]) if name == "betas" else table[name]
    for name in ("amsgrad", "maximize"):
        if table.get(name):
            raise CheckpointError(
                f"{where}.{name} is {format_value(table[name])}; this variant of AdamW is not supported."
            )
    return found


def count(value: Any, name: str) -> int:
    """A number of steps that a file calls `name`: a number, or a tensor of one.

    **Raises:** `CheckpointError` for anything that does not count.
    """
    if isinstance(value, np.ndarray) and value.size == 1 and value.dtype.kind in "iuf":
        value = value.reshape(()).item()
    if _is_number(value) and 0 <= value <= _MOST and value == int(value):
        return int(value)
    shown = (
        f"a tensor of shape {value.shape} and type {value.dtype}"
        if isinstance(value, np.ndarray)
        else format_value(value)
    )
    raise CheckpointError(f"{name} is {shown}; it should count steps, from 0 to {_MOST}.")


def _is_number(value: Any) -> bool:
    if type(value) not in (int, float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the largest float
        return False


def _is_betas(value: Any) -> bool:
    pair = isinstance(value, list | tuple) and len(value) == 2
    return pair and all(_is_number(one) and 0 <= one < 1 for one in value)

"""States of torch's AdamW in checkpoints, checked before training continues from them."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxvoice.config import format_value
from jaxvoice.errors import CheckpointError
from jaxvoice.weights.archive import Archive

_MOST = 2**31 - 2  # counts are 32-bit integers, and 1 is added


def adam_settings(table: Any, where: str) -> dict[str, Any]:
    """`lr`, `betas`, `eps`, `weight_decay` and, if present, `initial_lr` of the optimiser called `where`.

    **Raises:** `CheckpointError` for a setting that is missing, has another type or is out of range, and for variants
    of the algorithm that are not supported.
    """
    if not isinstance(table, Mapping):
        raise CheckpointError(
            f"{where} is {format_value(table)}; it should be an object of AdamW's settings. The file is damaged."
        )
    checks: dict[str, tuple[Callable[[Any], bool], str]] = {
        "lr": (lambda value: _is_number(value) and value > 0, "a number above 0"),
        "initial_lr": (lambda value: _is_number(value) and value > 0, "a number above 0"),
        "betas": (_is_betas, "two numbers from 0 to below 1"),
        "eps": (lambda value: _is_number(value) and value > 0, "a number above 0"),
        "weight_decay": (lambda value: _is_number(value) and value >= 0, "a number of at least 0"),
    }
    found = {}
    for name, (fits, expected) in checks.items():
        if name == "initial_lr" and name not in table:
            continue
        if name not in table or not fits(table[name]):
            found_value = f"is {format_value(table[name])}" if name in table else "is missing"
            raise CheckpointError(f"{where}.{name} {found_value}; it should be {expected}.")
        found[name] = list(table[name]) if name == "betas" else table[name]
    for name in ("amsgrad", "maximize"):
        if table.get(name):
            raise CheckpointError(
                f"{where}.{name} is {format_value(table[name])}; it should be false, because jaxvoice does not support "
                "this variant of AdamW."
            )
    return found


def step_count(value: Any, name: str) -> int:
    """A number of steps, from a number or a tensor with one element. `name` is its name in errors.

    **Raises:** `CheckpointError` for any other value.
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
    raise CheckpointError(f"{name} is {shown}; it should be a number of steps from 0 to {_MOST}.")


def optimizer_group(archive: Archive, place: str, parameters: int, where: str) -> tuple[list[int], dict[str, Any]]:
    """The indices of the parameters in order, and the settings of the optimiser at the key `place` of the file `where`.

    **Arguments:** `parameters`, the number of parameters of the network.

    **Raises:** `CheckpointError` for another number of parameters, groups with different settings, or an optimiser
    other than AdamW.
    """
    table = archive.metadata.get(place)
    groups = table.get("param_groups") if isinstance(table, Mapping) else None
    if not isinstance(groups, list | tuple) or not groups or not all(isinstance(one, Mapping) for one in groups):
        raise CheckpointError(f"{where} has no {place}.param_groups; it is not a checkpoint of an optimiser.")
    numbers = []
    for group in groups:
        listed = group.get("params")
        if not isinstance(listed, list | tuple) or not all(type(number) is int and number >= 0 for number in listed):
            raise CheckpointError(
                f"the params of {place} in {where} are {format_value(listed)}; they should be a list of indices."
            )
        numbers += listed
    if len(numbers) != parameters or len(set(numbers)) != parameters:
        raise CheckpointError(
            f"{place} in {where} has {len(set(numbers))} parameters; it should have {parameters}, as its network does."
        )
    settings = [adam_settings(group, f"{where}: {place}.param_groups.{i}") for i, group in enumerate(groups)]
    if any(other != settings[0] for other in settings):
        raise CheckpointError(
            f"{place} in {where} trains its parameters in {len(groups)} groups with different settings, which is "
            "not supported. Omit the file with --no-training."
        )
    return numbers, settings[0]


def optimizer_step_count(archive: Archive, place: str, number: int, where: str) -> int:
    """The number of updates of parameter `number`, which is a tensor in newer files and a number in older ones.

    **Raises:** `CheckpointError` if the file `where` does not state them.
    """
    name = f"{place}.state.{number}.step"
    if name in archive.tensors:
        return step_count(archive.tensors[name], f"{where}: {name}")
    states = archive.metadata[place].get("state")
    state = states.get(number, states.get(str(number))) if isinstance(states, Mapping) else None
    if not isinstance(state, Mapping) or "step" not in state:
        raise CheckpointError(f"{where} lacks {name}, the number of updates of {place}.")
    return step_count(state["step"], f"{where}: {name}")


def metadata_step_count(archive: Archive, name: str, where: str) -> int:
    """The number of steps `name` in the file `where`.

    **Raises:** `CheckpointError` if there is none.
    """
    if name not in archive.metadata:
        raise CheckpointError(f"{where} lacks {name!r}; it is not a do_ file.")
    return step_count(archive.metadata[name], f"{where}: {name}")


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

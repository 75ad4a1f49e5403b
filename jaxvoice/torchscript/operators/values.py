"""Operators on numbers, text, lists and dicts."""

import math
import re
from typing import Any

import numpy as np

from jaxvoice.torchscript.operators.registry import on_containers, on_tensors, on_values
from jaxvoice.torchscript.program import EnumMember
from jaxvoice.torchscript.tensors import OperatorError, Tensor

MAX_ITEMS = 2**20
"""Maximum number of list items and of characters of a text. Programs of speech models have fewer."""


def _within_64_bits(number: Any) -> Any:
    """Return a number; raise `OperatorError` if it overflows torch's 64-bit integers."""
    if isinstance(number, int) and number.bit_length() > 63:
        raise OperatorError("an integer of more than 64 bits")
    return number


def _comparable(value: Any) -> Any:
    """Return a value for comparison by Python; raise `OperatorError` for tensors and objects of the program."""
    if isinstance(value, Tensor):
        raise OperatorError("lists of tensors cannot be compared")
    if isinstance(value, (list, tuple)):
        return [_comparable(item) for item in value]
    if isinstance(value, dict):
        return {key: _comparable(item) for key, item in value.items()}
    if value is None or isinstance(value, (bool, int, float, complex, str, EnumMember)):
        return value
    raise OperatorError("objects cannot be compared")


def _check_size(count: int, what: str = "a list of {} items") -> None:
    if count > MAX_ITEMS:
        raise OperatorError(what.format(f"{count:,}") + f", more than {MAX_ITEMS:,}")


def _check_text(count: int) -> None:
    _check_size(count, "a text of {} characters")


# Numbers

for _name, _compute in {
    "torch.add": lambda a, b: _within_64_bits(a + b),
    "torch.sub": lambda a, b: _within_64_bits(a - b),
    "torch.mul": lambda a, b: _within_64_bits(a * b),
    "torch.div": lambda a, b: a / b,
    "torch.floordiv": lambda a, b: a // b,
    "torch.remainder": lambda a, b: a % b,
    "torch.neg": lambda a: -a,
    "torch.eq": lambda a, b: _comparable(a) == _comparable(b),
    "torch.ne": lambda a, b: _comparable(a) != _comparable(b),
    "torch.lt": lambda a, b: a < b,
    "torch.le": lambda a, b: a <= b,
    "torch.gt": lambda a, b: a > b,
    "torch.ge": lambda a, b: a >= b,
    "torch.__and__": lambda a, b: a & b,
    "torch.__or__": lambda a, b: a | b,
    "torch.__not__": lambda a: not a,
    "torch.floor": lambda a: math.floor(a),
    "torch.ceil": lambda a: math.ceil(a),
    "torch.round": lambda a: float(round(a)),
    "torch.isnan": lambda a: math.isnan(a),
    "torch.isinf": lambda a: math.isinf(a),
    "ops.prim.abs": lambda a: abs(a),
    "torch.abs": lambda a: abs(a),
    # The length of a loop, and its variable in an iteration.
    "torch.__range_length": lambda low, high, step: len(range(low, high, step)),
    "torch.__derive_index": lambda index, start, step: start + index * step,
    # Properties of the device and the mode.
    "torch.device": lambda name, index=None: name,
    "ops.prim.device": lambda _: "cpu",
    "ops.prim.type": lambda device: str(device).partition(":")[0],
    "torch.is_autocast_enabled": lambda *_: False,
    "torch.warn": lambda *_, **__: None,
}.items():
    on_values(_name)(_compute)


def _register_real(name: str, compute: Any) -> None:
    @on_values(f"torch.{name}")
    def function(number: float) -> float:
        """A function of a real number. It returns NaN or infinity where Python's function raises an error."""
        with np.errstate(all="ignore"):
            return float(compute(float(number)))


for _name in ("sqrt", "exp", "log10", "sin", "cos", "tanh"):
    _register_real(_name, getattr(np, _name))


@on_values("torch.pow")
def _pow(base: Any, exponent: Any) -> Any:
    if isinstance(base, int) and isinstance(exponent, int):
        if abs(exponent) * max(1, abs(base).bit_length()) > 1000:
            raise OperatorError(f"{base} ** {exponent} is out of range")
        return float(base) ** exponent  # in torch, powers of whole numbers are real
    if base == 0 and exponent < 0:
        raise OperatorError("0 to a negative power")
    with np.errstate(all="ignore"):
        return float(np.power(float(base), float(exponent)))


@on_values("torch.log")
def _log(a: float, base: float | None = None) -> float:
    with np.errstate(all="ignore"):
        return float(np.log(float(a)) if base is None else np.log(float(a)) / np.log(float(base)))


@on_values("ops.prim.min", "torch.min")
@on_containers("ops.prim.min")
def _min(a: Any, *b: Any) -> Any:
    return min(a, *b)


@on_values("ops.prim.max", "torch.max")
@on_containers("ops.prim.max")
def _max(a: Any, *b: Any) -> Any:
    return max(a, *b)


@on_tensors("torch.__is__")
@on_values("torch.__is__")
@on_containers("torch.__is__")
def _is(a: Any, b: Any) -> bool:
    return a is b


@on_tensors("torch.__isnot__")
@on_values("torch.__isnot__")
@on_containers("torch.__isnot__")
def _is_not(a: Any, b: Any) -> bool:
    return a is not b


# Lists, dicts and text

for _name, _compute in {
    "len": lambda items: len(items),
    "sum": lambda items: sum(items),
    "all": lambda items: all(items),
    "any": lambda items: any(items),
    "eq": lambda a, b: _comparable(a) == _comparable(b),
    "ne": lambda a, b: _comparable(a) != _comparable(b),
    "lt": lambda a, b: a < b,
    "gt": lambda a, b: a > b,
    "slice": lambda items, start=None, end=None, step=1: items[start:end:step],
    "list": lambda items: list(items),
    "copy": lambda items: items.copy(),
    "index": lambda items, item: _comparable(items).index(_comparable(item)),
    "count": lambda items, item: _comparable(items).count(_comparable(item)),
    "pop": lambda items, *at: items.pop(*at),
    "clear": lambda items: items.clear(),
    "reverse": lambda items: items.reverse(),
    "sort": lambda items, reverse=False: items.sort(reverse=reverse),
    "keys": lambda table: list(table),
    "values": lambda table: list(table.values()),
    "items": lambda table: list(table.items()),
    "get": lambda table, key, default=None: table.get(key, default),
    "setdefault": lambda table, key, default: table.setdefault(key, default),
    "popitem": lambda table: table.popitem(),
    "lower": lambda text: text.lower(),
    "upper": lambda text: text.upper(),
    "startswith": lambda text, part: text.startswith(part),
    "endswith": lambda text, part: text.endswith(part),
    "split": lambda text, *by: text.split(*by),
    "strip": lambda text, *what: text.strip(*what),
}.items():
    on_containers(f"torch.{_name}")(_compute)


@on_containers("torch.add")
def _join(a: Any, b: Any) -> Any:
    _check_size(len(a) + len(b))
    return a + (list(b) if isinstance(a, list) else b)


@on_containers("torch.add_")
def _extend_in_place(a: list[Any], b: list[Any]) -> list[Any]:
    _extend(a, b)
    return a


@on_containers("torch.mul")
def _repeat(items: Any, times: int) -> Any:
    _check_size(len(items) * times)
    return items * times


@on_containers("torch.mul_")
def _repeat_in_place(items: list[Any], times: int) -> list[Any]:
    items[:] = _repeat(items, times)
    return items


@on_containers("torch.__contains__")
def _contains(items: Any, item: Any) -> bool:
    return _comparable(item) in (_comparable(items) if isinstance(items, (list, tuple)) else items)


@on_containers("torch.remove")
def _remove(items: list[Any], item: Any) -> None:
    del items[_comparable(items).index(_comparable(item))]


@on_containers("torch._set_item")
def _set_item(items: Any, at: Any, value: Any) -> Any:
    items[at] = value
    return items


@on_containers("torch.Delete")
def _delete(items: Any, at: Any) -> None:
    del items[at]


@on_containers("torch.append")
def _append(items: list[Any], item: Any) -> list[Any]:
    _check_size(len(items) + 1)
    items.append(item)
    return items


@on_containers("torch.extend")
def _extend(items: list[Any], more: list[Any]) -> None:
    _check_size(len(items) + len(more))
    items.extend(more)


@on_containers("torch.insert")
def _insert(items: list[Any], at: int, item: Any) -> None:
    _check_size(len(items) + 1)
    items.insert(at, item)


@on_containers("torch.update")
def _update(table: dict[Any, Any], more: dict[Any, Any]) -> None:
    _check_size(len(table) + len(more))
    table.update(more)


@on_containers("torch.format")
def _format(pattern: str, *values: Any) -> str:
    # Not `str.format`, which would read attributes that the file names.
    texts = [str(value) for value in values]
    _check_text(len(pattern) + sum(map(len, texts)))
    left = iter(texts)
    return re.sub(r"\{\}", lambda _: next(left, ""), pattern)


@on_containers("torch.percentFormat")
def _percent_format(pattern: str, *values: Any) -> str:
    texts = [str(value) for value in (values[0] if len(values) == 1 and isinstance(values[0], tuple) else values)]
    _check_text(len(pattern) + sum(map(len, texts)))
    left = iter(texts)
    return re.sub(r"%[-+ #0-9.]*[sdifgexXc%]", lambda m: "%" if m[0] == "%%" else next(left, ""), pattern)


@on_containers("torch.join")
def _join_text(text: str, items: list[str]) -> str:
    _check_text(len(text) * len(items) + sum(map(len, items)))
    return text.join(items)


@on_containers("torch.replace")
def _replace(text: str, old: str, new: str) -> str:
    _check_text(len(text) + text.count(old) * len(new))
    return text.replace(old, new)

"""Operators on numbers, text, lists and tables: what the code computes beside tensors."""

import math
import re
from typing import Any

import numpy as np

from jaxvoice.torchscript.operators.registry import on_containers, on_tensors, on_values
from jaxvoice.torchscript.program import EnumMember
from jaxvoice.torchscript.tensors import Refused, Tensor

MAX_ITEMS = 2**20
"""How many items a list or letters a text may have; no program that makes speech has more."""


def _value(name: str, compute: Any) -> None:
    on_values(f"torch.{name}")(compute)


_value("add", lambda a, b: _in_64_bits(a + b))
_value("sub", lambda a, b: _in_64_bits(a - b))
_value("mul", lambda a, b: _in_64_bits(a * b))
_value("div", lambda a, b: a / b)
_value("floordiv", lambda a, b: a // b)
_value("remainder", lambda a, b: a % b)
_value("neg", lambda a: -a)
_value("eq", lambda a, b: _plain(a) == _plain(b))
_value("ne", lambda a, b: _plain(a) != _plain(b))
_value("lt", lambda a, b: a < b)
_value("le", lambda a, b: a <= b)
_value("gt", lambda a, b: a > b)
_value("ge", lambda a, b: a >= b)
_value("__and__", lambda a, b: a & b)
_value("__or__", lambda a, b: a | b)
_value("__xor__", lambda a, b: a ^ b)
_value("__not__", lambda a: not a)
_value("__lshift__", lambda a, b: _in_64_bits(a << min(b, 64)))
_value("__rshift__", lambda a, b: a >> b)
_value("floor", math.floor)
_value("ceil", math.ceil)
_value("round", lambda a: float(round(a)))
_value("tanh", math.tanh)
_value("asinh", math.asinh)
_value("atan", math.atan)
_value("atan2", math.atan2)
_value("isnan", math.isnan)
_value("isinf", math.isinf)
_value("isfinite", math.isfinite)
_value("gcd", math.gcd)
_value("Int", lambda a: int(a))
_value("Float", lambda a: float(a))
_value("Bool", lambda a: bool(a))
_value("device", lambda name, index=None: name)
_value("get_device", lambda *_: -1)
# What a script asks of the world it runs in.
_value("is_autocast_enabled", lambda *_: False)
_value("is_autocast_cpu_enabled", lambda *_: False)
_value("is_scripting", lambda: True)
_value("manual_seed", lambda seed: None)
_value("warn", lambda *_, **__: None)
on_values("ops.prim.abs", "torch.abs")(lambda a: abs(a))
on_values("ops.prim.device")(lambda _: "cpu")


def _in_64_bits(number: Any) -> Any:
    """A number, refused where torch's whole numbers would overflow."""
    if isinstance(number, int) and number.bit_length() > 63:
        raise Refused("a whole number of more than 64 bits")
    return number


def _real(name: str, compute: Any, beyond: Any) -> None:
    """A function of real numbers that is NaN or infinite where Python's has no value."""

    @on_values(f"torch.{name}")
    def function(*numbers: float) -> float:
        try:
            return compute(*numbers)
        except (OverflowError, ValueError):
            with np.errstate(all="ignore"):
                return float(beyond(*map(float, numbers)))


for _name, _compute, _beyond in (
    ("sqrt", math.sqrt, np.sqrt),
    ("log1p", math.log1p, np.log1p),
    ("log2", math.log2, np.log2),
    ("log10", math.log10, np.log10),
    ("exp", math.exp, np.exp),
    ("expm1", math.expm1, np.expm1),
    ("sin", math.sin, np.sin),
    ("cos", math.cos, np.cos),
    ("tan", math.tan, np.tan),
    ("asin", math.asin, np.arcsin),
    ("acos", math.acos, np.arccos),
    ("sinh", math.sinh, np.sinh),
    ("cosh", math.cosh, np.cosh),
    ("acosh", math.acosh, np.arccosh),
    ("atanh", math.atanh, np.arctanh),
    ("fmod", math.fmod, np.fmod),
):
    _real(_name, _compute, _beyond)


@on_values("torch.pow")
def _pow(base: Any, exponent: Any) -> Any:
    if isinstance(base, int) and isinstance(exponent, int):
        if abs(exponent) * max(1, abs(base).bit_length()) > 1000:
            raise Refused(f"{base} ** {exponent} is out of range")
        # Whole numbers too have a real power in torch.
        return float(base) ** exponent
    if base == 0 and exponent < 0:
        raise Refused("0 to a negative power")  # so torch has it
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


@on_containers("torch.sum", "ops.prim.sum")
def _sum(items: list[Any]) -> Any:
    return sum(items)


on_containers("torch.all")(lambda items: all(items))
on_containers("torch.any")(lambda items: any(items))


@on_tensors("torch.__is__")
@on_values("torch.__is__")
def _is(a: Any, b: Any) -> bool:
    return a is b


@on_tensors("torch.__isnot__")
@on_values("torch.__isnot__")
def _is_not(a: Any, b: Any) -> bool:
    return a is not b


on_containers("torch.__is__")(_is)
on_containers("torch.__isnot__")(_is_not)


@on_containers("torch.len")
def _len(items: Any) -> int:
    return len(items)


on_containers("torch.eq")(lambda a, b: _plain(a) == _plain(b))
on_containers("torch.ne")(lambda a, b: _plain(a) != _plain(b))
on_containers("torch.lt")(lambda a, b: a < b)
on_containers("torch.gt")(lambda a, b: a > b)


def _plain(value: Any) -> Any:
    """A value that can be compared; whether objects and tensors are equal is not Python's to say."""
    if isinstance(value, Tensor):
        raise Refused("lists of tensors are compared")
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if value is None or isinstance(value, (bool, int, float, complex, str, EnumMember)):
        return value
    raise Refused("objects are compared")


def _check_size(count: int, what: str = "a list of {} items") -> None:
    if count > MAX_ITEMS:
        raise Refused(what.format(f"{count:,}") + f", more than {MAX_ITEMS:,}")


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


@on_containers("torch.slice")
def _slice(items: Any, start: int | None = None, end: int | None = None, step: int = 1) -> Any:
    return items[start:end:step]


on_containers("torch.__getitem__")(lambda items, at: items[at])
on_containers("torch.list")(lambda items: list(items))
on_containers("torch.copy")(lambda items: items.copy())
on_containers("torch.index")(lambda items, item: _plain(items).index(_plain(item)))
on_containers("torch.count")(lambda items, item: _plain(items).count(_plain(item)))
on_containers("torch.keys")(lambda table: list(table))
on_containers("torch.values")(lambda table: list(table.values()))
on_containers("torch.items")(lambda table: list(table.items()))
on_containers("torch.get")(lambda table, key, default=None: table.get(key, default))
on_containers("torch.sorted")(lambda items: sorted(items))


@on_containers("torch.__contains__")
def _contains(items: Any, item: Any) -> bool:
    return _plain(item) in (_plain(items) if isinstance(items, (list, tuple)) else items)


@on_containers("torch._set_item")
def _set_item(items: Any, at: Any, value: Any) -> Any:
    items[at] = value
    return items


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


@on_containers("torch.pop")
def _pop(items: Any, *at: Any) -> Any:
    return items.pop(*at)


@on_containers("torch.remove")
def _remove(items: list[Any], item: Any) -> None:
    items.pop(_plain(items).index(_plain(item)))


@on_containers("torch.popitem")
def _popitem(table: dict[Any, Any]) -> Any:
    return table.popitem()


@on_containers("torch.setdefault")
def _setdefault(table: dict[Any, Any], key: Any, default: Any) -> Any:
    return table.setdefault(key, default)


@on_containers("torch.Delete")
def _delete(items: Any, at: Any) -> None:
    del items[at]


@on_containers("torch.clear")
def _clear(items: Any) -> None:
    items.clear()


@on_containers("torch.reverse")
def _reverse(items: list[Any]) -> None:
    items.reverse()


@on_containers("torch.sort")
def _sort(items: list[Any], reverse: bool = False) -> None:
    items.sort(reverse=reverse)


@on_containers("torch.update")
def _update(table: dict[Any, Any], more: dict[Any, Any]) -> None:
    _check_size(len(table) + len(more))
    table.update(more)


@on_containers("torch.format")
def _format(pattern: str, *values: Any) -> str:
    # Not `str.format`, which would follow attributes that the file names.
    texts = [str(value) for value in values]
    _check_size(len(pattern) + sum(map(len, texts)), "a text of {} letters")
    left = iter(texts)
    return re.sub(r"\{\}", lambda _: next(left, ""), pattern)


@on_containers("torch.percentFormat")
def _percent_format(pattern: str, *values: Any) -> str:
    texts = [str(value) for value in (values[0] if len(values) == 1 and isinstance(values[0], tuple) else values)]
    _check_size(len(pattern) + sum(map(len, texts)), "a text of {} letters")
    left = iter(texts)
    return re.sub(r"%[-+ #0-9.]*[sdifgexXc%]", lambda m: "%" if m[0] == "%%" else next(left, ""), pattern)


@on_containers("torch.join")
def _join_text(text: str, items: list[str]) -> str:
    _check_size(len(text) * len(items) + sum(map(len, items)), "a text of {} letters")
    return text.join(items)


@on_containers("torch.replace")
def _replace(text: str, old: str, new: str) -> str:
    _check_size(len(text) + text.count(old) * len(new), "a text of {} letters")
    return text.replace(old, new)


on_values("torch.str")(lambda a: str(a))
on_containers("torch.str")(lambda a: str(a))
on_containers("torch.lower")(lambda text: text.lower())
on_containers("torch.upper")(lambda text: text.upper())
on_containers("torch.startswith")(lambda text, part: text.startswith(part))
on_containers("torch.endswith")(lambda text, part: text.endswith(part))
on_containers("torch.split")(lambda text, *by: text.split(*by))
on_containers("torch.strip")(lambda text, *what: text.strip(*what))
on_values("ops.prim.type")(lambda device: str(device).partition(":")[0])
on_values("ops.prim.index")(lambda device: None)


@on_values("torch.__range_length")
def _range_length(low: int, high: int, step: int) -> int:
    """How often a loop runs."""
    return len(range(low, high, step))


@on_values("torch.__derive_index")
def _derive_index(index: int, start: int, step: int) -> int:
    """The variable of a loop in its `index`-th round."""
    return start + index * step

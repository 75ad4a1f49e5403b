"""Records of a few well-known classes as the plain values that they mean."""

from datetime import date, datetime
from itertools import accumulate
from typing import Any

from jaxvoice.weights.reading.objects import Record


def plain_record(record: Record) -> str | None:
    """A date or a time as ISO 8601 text; `None` for any other record."""
    match record:
        case Record("datetime.datetime", (bytes() as raw, *_)) if len(raw) == 10:
            try:
                year, month, day, hour, minute, second, micro = _numbers(raw, 2, 1, 1, 1, 1, 1, 3)
                return datetime(year, month, day, hour, minute, second, micro).isoformat()
            except ValueError:
                return None
        case Record("datetime.date", (bytes() as raw,)) if len(raw) == 4:
            try:
                return date(*_numbers(raw, 2, 1, 1)).isoformat()
            except ValueError:
                return None
        case Record("datetime.timedelta", (int() as days, int() as seconds, int())):
            return f"{days} days {seconds} s"
        case _:
            return None


def _numbers(raw: bytes, *widths: int) -> list[int]:
    ends = list(accumulate(widths))
    return [int.from_bytes(raw[end - width : end], "big") for end, width in zip(ends, widths, strict=True)]


def omega_value(record: Record) -> tuple[Any] | None:
    """What an OmegaConf container or node holds, as a tuple of one; `None` for any other record."""
    if record.class_name.startswith("omegaconf.") and isinstance(record.state, dict):
        for key in ("_content", "_val"):
            if key in record.state:
                return (record.state[key],)
    return None

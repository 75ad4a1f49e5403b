"""Conversion of records of a few well-known classes to plain values."""

from datetime import date, datetime, time, timedelta, timezone
from itertools import accumulate
from typing import Any
from uuid import UUID

from jaxvoice.weights.formats.error_messages import short_text
from jaxvoice.weights.formats.pickle_objects import Record


def plain_record(record: Record) -> str | None:
    """A date, a time or an exact number as text; `None` for any other record."""
    try:
        return _text(record)
    except (ValueError, OverflowError):
        return None


def _text(record: Record) -> str | None:
    match record:
        case Record("datetime.datetime", (bytes() as raw, *zone)) if len(raw) == 10 and len(zone) < 2:
            year, month, day, hour, minute, second, micro = _numbers(raw, 2, 1, 1, 1, 1, 1, 3)
            month &= 0x7F  # the eighth bit is `fold`
            return _in_zone(datetime(year, month, day, hour, minute, second, micro), *zone)
        case Record("datetime.time", (bytes() as raw, *zone)) if len(raw) == 6 and len(zone) < 2:
            hour, minute, second, micro = _numbers(raw, 1, 1, 1, 3)
            return _in_zone(time(hour & 0x7F, minute, second, micro), *zone)
        case Record("datetime.date", (bytes() as raw,)) if len(raw) == 4:
            return date(*_numbers(raw, 2, 1, 1)).isoformat()
        case Record("datetime.timedelta", (int() as days, int() as seconds, int() as micro)):
            return str(timedelta(days, seconds, micro))
        case Record("decimal.Decimal" | "fractions.Fraction", (str() as text,)):
            return text
        case Record("fractions.Fraction", (int() as above, int() as below)):
            return f"{short_text(above)}/{short_text(below)}"
        case Record("uuid.UUID", (), {"int": int() as number}):
            return str(UUID(int=number))
        case _:
            return None


def _in_zone(moment: datetime | time, zone: Any = None) -> str:
    """ISO 8601. A time zone with an unknown offset is appended by the name of its class."""
    match zone:
        case None:
            return moment.isoformat()
        case Record("datetime.timezone", (Record("datetime.timedelta", (int() as d, int() as s, int() as m)), *_)):
            return moment.replace(tzinfo=timezone(timedelta(d, s, m))).isoformat()
        case Record():
            return f"{moment.isoformat()} ({zone.class_name})"
        case _:
            return moment.isoformat()


def _numbers(raw: bytes, *widths: int) -> list[int]:
    ends = list(accumulate(widths))
    return [int.from_bytes(raw[end - width : end], "big") for end, width in zip(ends, widths, strict=True)]


def omega_value(record: Record) -> tuple[Any] | None:
    """The content of an OmegaConf container or node, in a tuple; `None` for any other record."""
    if record.class_name.startswith("omegaconf.") and isinstance(record.state, dict):
        for key in ("_content", "_val"):
            if key in record.state:
                return (record.state[key],)
    return None

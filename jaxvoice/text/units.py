"""Units of measurement and their names."""

import re
from collections.abc import Iterable

UNITS = {
    "km": "kilometer",
    "cm": "centimeter",
    "mm": "millimeter",
    "nm": "nanometer",
    "m": "meter",
    "mi": "mile",
    "ft": "foot",
    "yd": "yard",
    "yds": "yard",
    "kg": "kilogram",
    "kgs": "kilogram",
    "g": "gram",
    "mg": "milligram",
    "lb": "pound",
    "lbs": "pound",
    "oz": "ounce",
    "gal": "gallon",
    "tbsp": "tablespoon",
    "gals": "gallon",
    "qt": "quart",
    "qts": "quart",
    "fl oz": "fluid ounce",
    "fl. oz": "fluid ounce",
    "tbsps": "tablespoon",
    "Tbsp": "tablespoon",
    "Tbsps": "tablespoon",
    "tbs": "tablespoon",
    "tsp": "teaspoon",
    "tsps": "teaspoon",
    "Tsp": "teaspoon",
    "mph": "mile per hour",
    "kph": "kilometer per hour",
    "kmh": "kilometer per hour",
    "km/h": "kilometer per hour",
    "m/s": "meter per second",
    "hp": "horsepower",
    "ppm": "part per million",
    "dpi": "dot per inch",
    "mpg": "mile per gallon",
    "rpm": "revolution per minute",
    "bpm": "beat per minute",
    "fps": "frame per second",
    "Hz": "hertz",
    "kHz": "kilohertz",
    "MHz": "megahertz",
    "GHz": "gigahertz",
    "KB": "kilobyte",
    "kB": "kilobyte",
    "MB": "megabyte",
    "GB": "gigabyte",
    "TB": "terabyte",
    "kbps": "kilobit per second",
    "mbps": "megabit per second",
    "Mbps": "megabit per second",
    "gbps": "gigabit per second",
    "Gbps": "gigabit per second",
    "ns": "nanosecond",
    "ms": "millisecond",
    "sec": "second",
    "secs": "second",
    "min": "minute",
    "mins": "minute",
    "h": "hour",
    "hr": "hour",
    "hrs": "hour",
    "wk": "week",
    "wks": "week",
    "mo": "month",
    "mos": "month",
    "yr": "year",
    "yrs": "year",
    "W": "watt",
    "kW": "kilowatt",
    "MW": "megawatt",
    "GW": "gigawatt",
    "Wh": "watt hour",
    "kWh": "kilowatt hour",
    "MWh": "megawatt hour",
    "GWh": "gigawatt hour",
    "mA": "milliamp",
    "mAh": "milliamp hour",
    "V": "volt",
    "mV": "millivolt",
    "kJ": "kilojoule",
    "MJ": "megajoule",
    "kN": "kilonewton",
    "kPa": "kilopascal",
    "hPa": "hectopascal",
    "psi": "pound per square inch",
    "kcal": "kilocalorie",
    "dB": "decibel",
    "ml": "milliliter",
    "mL": "milliliter",
    "cl": "centiliter",
    "dl": "deciliter",
    "L": "liter",
    "ha": "hectare",
    "px": "pixel",
    "°C": "degree celsius",
    "°F": "degree fahrenheit",
    "°": "degree",
    "KG": "kilogram",
    "KM": "kilometer",
    "CM": "centimeter",
    "LB": "pound",
    "LBS": "pound",
    "OZ": "ounce",
    "MPH": "mile per hour",
    "KPH": "kilometer per hour",
}
_LENGTHS = {unit: UNITS[unit] for unit in ("km", "cm", "mm", "m", "mi", "ft", "yd")} | {"in": "inch"}
for _unit, _name in _LENGTHS.items():
    UNITS |= {f"{_unit}{mark}2": f"square {_name}" for mark in ("", "^")}
    UNITS |= {f"{_unit}{mark}3": f"cubic {_name}" for mark in ("", "^")}
    UNITS |= {f"sq {_unit}": f"square {_name}", f"sq. {_unit}": f"square {_name}", f"cu {_unit}": f"cubic {_name}"}

IRREGULAR_PLURALS = {"foot": "feet", "inch": "inches", "horsepower": "horsepower"}
POWERED_LETTERS = frozenset(_LENGTHS)
POWERED_UNIT = re.compile(rf"\d ?(?:{'|'.join(_LENGTHS)})$")
RATES = {
    "s": "second",
    "sec": "second",
    "min": "minute",
    "h": "hour",
    "hr": "hour",
    "d": "day",
    "wk": "week",
    "mo": "month",
    "mth": "month",
    "yr": "year",
}
_RATE_WORDS = "second minute hour day night week month year person user seat share ticket unit bottle dozen"
RATES |= {word: word for word in _RATE_WORDS.split()}
RATES |= {unit: UNITS[unit] for unit in ("km", "cm", "m", "mi", "ft", "kg", "g", "mg", "lb", "oz", "gal", "ml", "L")}


def alternatives(words: Iterable[str]) -> str:
    """A pattern that matches any of `words`, the longest first."""
    return "|".join(sorted(map(re.escape, words), key=len, reverse=True))


UNIT_NAME = alternatives(UNITS)
RATE = rf" ?/ ?(?:{alternatives(RATES)})(?![A-Za-z0-9'])(?:/(?:{alternatives(RATES)})(?![A-Za-z0-9']))?"
"""The pattern of a rate after an amount: `/mo`, `/kg`, `/user/month`."""


def unit_words(unit: str, singular: bool) -> str:
    """The unit in words, in the plural unless `singular`: `km/h` becomes `kilometers per hour`."""
    words = UNITS[unit]
    if singular:
        return words
    counted, per, rest = words.partition(" per ")
    if counted.startswith("degree"):
        return counted.replace("degree", "degrees", 1)
    before, space, noun = counted.rpartition(" ")
    plural = noun if noun.endswith("hertz") else IRREGULAR_PLURALS.get(noun, f"{noun}s")
    return before + space + plural + per + rest


def rate_words(rate: str | None) -> str:
    """A match of `RATE` in words, with a space before: `/mo` becomes ` per month`; an empty string for none."""
    return (
        "".join(f" per {RATES.get(unit.strip(), unit.strip())}" for unit in rate.strip(" /").split("/")) if rate else ""
    )

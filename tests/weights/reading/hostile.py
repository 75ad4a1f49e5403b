"""Weight files that mean harm or are broken on purpose, by title."""

from tests.weights.reading import hostile_calls, hostile_files, hostile_pickles, hostile_zips
from tests.weights.reading.cases import CASES, MARKER, Case

__all__ = ["CASES", "MARKER", "Case", "hostile_calls", "hostile_files", "hostile_pickles", "hostile_zips"]

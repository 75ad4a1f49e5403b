"""Hostile and intentionally damaged weight files, by title."""

from tests.weights.formats import hostile_budgets, hostile_calls, hostile_files, hostile_pickles, hostile_zips
from tests.weights.formats.cases import CASES, MARKER, Case

_FILLING = (hostile_budgets, hostile_calls, hostile_files, hostile_pickles, hostile_zips)

__all__ = ["CASES", "MARKER", "Case"]

"""The table of the operators that archives call: it is what torch writes today, and all of it is known here."""

import importlib.util
import os
from pathlib import Path

import pytest

from jaxvoice.torchscript.operators import find_operator
from tests.torchscript import operator_table

FOLDER = Path(os.environ.get("JAXVOICE_WHEELS", os.devnull))


def test_torch_writes_what_the_table_says():
    table, made = operator_table.read(), operator_table.from_torch()
    assert {name: called for name, called in table.items() if name in made} == made


@pytest.mark.skipif(
    len(operator_table.wheels_in(FOLDER)) < len(operator_table.WHEELS),
    reason=f"JAXVOICE_WHEELS names no folder with the wheels of {', '.join(operator_table.WHEELS)}",
)
@pytest.mark.skipif(importlib.util.find_spec("einops") is None, reason="the network of torchfcpe imports einops")
def test_wheels_hold_what_the_table_says(tmp_path):
    table, found = operator_table.read(), operator_table.from_wheels(FOLDER, tmp_path)
    assert {name: called for name, called in table.items() if name in found} == found
    assert table.keys() == found.keys() | operator_table.from_torch().keys()


def test_operators_of_the_table_are_known():
    called = {operator_table.spelling(operator) for names in operator_table.read().values() for operator in names}
    unknown = {name for name in called if find_operator(name) is None and find_operator(name, ([],)) is None}
    assert unknown - operator_table.SYNTAX == operator_table.NOT_RUN

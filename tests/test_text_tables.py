"""Text in columns: lines have at most the requested width, and no text is lost."""

import random
import re

import pytest

from jaxvoice.text_tables import shortened, table, width, wrapped


def test_width_counts_columns():
    assert width("abc") == 3 and width("音声") == 4
    assert shortened("abcdefgh", 6) == "abc..." and shortened("abc", 3) == "abc"


@pytest.mark.parametrize("columns", [8, 13, 30, 79])
def test_wrapped_lines_keep_the_text_and_the_width(columns):
    rng = random.Random(columns)
    for _ in range(200):
        text = " ".join("".join(rng.choice("ab(_.音,)[]=") for _ in range(rng.randint(1, 30))) for _ in range(6))
        lines = wrapped(text, columns)
        assert all(width(line) <= columns for line in lines), lines
        assert re.sub(r"\s", "", "".join(lines)) == re.sub(r"\s", "", text)


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_tables_keep_the_text_and_the_width(columns):
    rng = random.Random(columns)
    for _ in range(50):
        rows = [
            [" " * rng.randint(0, 8) + "".join(rng.choice("abc_.") for _ in range(rng.randint(1, 40))),
             ", ".join("x" * rng.randint(1, 20) for _ in range(rng.randint(0, 8))),
             "", str(rng.randint(0, 10**9))]
            for _ in range(5)
        ]  # fmt: skip
        lines = table(rows, columns, header=("name", "what", "none", "number"), right=[3])
        assert all(width(line) <= columns for line in lines), lines
        letters = sorted(re.sub(r"[\s-]", "", "".join(lines)))
        assert letters == sorted(re.sub(r"[\s-]", "", "".join(map("".join, rows)) + "namewhatnumber"))


def test_tables_align_columns_and_omit_empty_columns():
    assert table([["a", "", "1"], ["  bc", "", "234"]], 80, header=("n", "x", "m"), right=[2]) == [
        "n       m", "----  ---", "a       1", "  bc  234",
    ]  # fmt: skip
    assert table([], 80) == []


def test_wrapped_names_keep_their_indent():
    lines = table([["    norm_feed_forward1", "LayerNorm " * 6]], 30)
    assert lines[0].startswith("    norm_") and lines[1].startswith("    forward1")

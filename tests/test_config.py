"""The JSON round trip of configurations, and what they refuse."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from jaxvoice.config import (
    check_not_negative,
    check_positive,
    check_types,
    differences,
    from_dict,
    read_json,
    to_dict,
)
from jaxvoice.errors import ConfigError
from jaxvoice.training.loop import LoopConfig


@dataclass(frozen=True)
class Inner:
    size: int = 3
    rate: float | None = 0.5

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "size")
        check_not_negative(self, "rate", hint="None turns it off")


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner = field(default_factory=Inner)
    kind: Literal["fast", "small", 1] = "fast"
    sizes: tuple[tuple[int, ...], ...] = ((1, 2), (3,))
    pair: tuple[int, str] = (1, "a")
    folder: Path = Path("somewhere")
    loud: bool = False

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "sizes")


OUTER = Outer("a", Inner(4, None), "small", ((5,), (6, 7)), (2, "b"), Path("else") / "where", True)


def test_a_config_survives_json():
    assert from_dict(Outer, json.loads(json.dumps(to_dict(OUTER)))) == OUTER
    assert from_dict(Outer, {"name": "a"}) == Outer("a")
    assert from_dict(Outer, {"name": "a", "inner": {"rate": 1}}).inner.rate == 1.0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"nam": "a"}, r"^config has an unknown key 'nam'; did you mean 'name'\?\.$"),
        ({"name": "a", "inner": {"raet": 1.0}}, r"^config\.inner has an unknown key 'raet'; did you mean 'rate'\?"),
        ({"name": "a", "zzzzzz": 1}, "unknown key 'zzzzzz'; known keys are name, inner, kind"),
        ({}, "lacks 'name'; add it to build a Outer"),
        ([], "should be a table of Outer fields"),
        ({"name": 1}, r"config\.name should be text .*got 1"),
        ({"name": "a", "inner": {"size": 1.5}}, r"config\.inner\.size should be a whole number .*got 1\.5"),
        ({"name": "a", "inner": {"size": True}}, r"whole number .*got True"),
        ({"name": "a", "inner": {"rate": "x"}}, r"config\.inner\.rate should be a finite number .*got 'x'"),
        ({"name": "a", "inner": {"rate": math.nan}}, r"config\.inner\.rate should be a finite number .*got nan"),
        ({"name": "a", "inner": {"rate": 10**400}}, r"config\.inner\.rate should be a finite number"),
        (
            {"name": "a", "inner": {"rate": -1}},
            r"config\.inner: Inner\.rate should be at least 0; None turns it off, got",
        ),
        ({"name": "a", "inner": 3}, r"config\.inner should be a table of Inner fields, got 3"),
        ({"name": "a", "kind": "Fast"}, r"config\.kind should be one of 'fast', 'small', 1, got 'Fast'"),
        ({"name": "a", "sizes": [[1], [2, "3"]]}, r"config\.sizes\[1\]\[1\] should be a whole number .*got '3'"),
        ({"name": "a", "sizes": 4}, r"config\.sizes should be a list .*got 4"),
        ({"name": "a", "pair": [1]}, r"config\.pair should have 2 items"),
        ({"name": "a", "folder": 3}, r"config\.folder should be of type Path, got 3"),
        ({"name": "a", "loud": 1}, r"config\.loud should be True or False, got 1"),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(data, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(Outer, data)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Inner(0), r"^Inner\.size should be positive, got 0\.$"),
        (lambda: Inner(2.0), r"^Inner\.size should be a whole number \(int\), got 2\.0\.$"),  # pyright: ignore
        (lambda: Inner(np.int64(2)), r"Inner\.size should be a whole number \(int\)"),  # pyright: ignore
        (lambda: Inner(rate=-0.5), r"^Inner\.rate should be at least 0; None turns it off, got -0\.5\.$"),
        (lambda: Inner(rate=math.inf), r"^Inner\.rate should be a finite number \(float\), got inf\.$"),
        (lambda: Inner(rate=-math.inf), "got -inf"),
        (lambda: Inner(rate=math.nan), "got nan"),
        (lambda: Outer("a", kind="slow"), r"Outer\.kind should be one of 'fast', 'small', 1, got 'slow'"),  # pyright: ignore
        (lambda: Outer("a", {"size": 3}), r"Outer\.inner should be Inner\(size=3, rate=0\.5\), got \{'size': 3\}"),  # pyright: ignore
        (lambda: Outer("a", sizes=((1,), [2])), r"Outer\.sizes should be \(\(1,\), \(2,\)\), got \(\(1,\), \[2\]\)"),  # pyright: ignore
        (lambda: Outer("a", sizes=[(1,)]), r"Outer\.sizes should be \(\(1,\),\), got \[\(1,\)\]"),  # pyright: ignore
        (lambda: Outer("a", sizes=((1, 0),)), r"Outer\.sizes should hold positive numbers.*got \(\(1, 0\),\)"),
        (lambda: Outer("a", sizes=((1,), ())), "at least one in each tuple"),
        (lambda: Outer("a", sizes=()), "at least one in each tuple"),
        (lambda: LoopConfig(minutes=math.nan), r"LoopConfig\.minutes should be a finite number.*nan"),
        (lambda: LoopConfig(minutes=math.inf), r"LoopConfig\.minutes should be a finite number.*inf"),
        (lambda: LoopConfig(minutes=-1), r"LoopConfig\.minutes should be positive; None sets no time budget, got -1"),
        (lambda: LoopConfig(resume="yes"), r"LoopConfig\.resume should be one of 'auto'.*'yes'"),  # pyright: ignore
        (lambda: LoopConfig(steps=1e6), r"LoopConfig\.steps should be a whole number"),  # pyright: ignore
        (lambda: LoopConfig(log_every=-5), r"LoopConfig\.log_every should be positive, got -5"),
    ],
)
def test_configs_check_themselves_when_made(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_whole_numbers_pass_as_floats():
    assert Inner(1, 2).rate == 2 and LoopConfig(minutes=5).minutes == 5


def test_differences_are_named_with_their_place():
    assert differences(OUTER, OUTER) == []
    assert differences(Outer("a"), Outer("b", Inner(4))) == ["name: 'a' != 'b'", "inner.size: 3 != 4"]


def test_files_that_are_no_json(tmp_path):
    (tmp_path / "good.json").write_text(json.dumps(to_dict(OUTER)), encoding="utf-8")
    assert from_dict(Outer, read_json(tmp_path / "good.json")) == OUTER
    (tmp_path / "bad.json").write_text("{", encoding="utf-8")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    for name, message in [("bad", "is not valid JSON"), ("bytes", "is not valid JSON"), ("gone", "cannot be read")]:
        with pytest.raises(ConfigError, match=rf"{name}\.json {message}"):
            read_json(tmp_path / f"{name}.json")


def test_hostile_files_are_refused_at_once_and_in_a_few_words(tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(b"\xef\xbb\xbf{}")
    assert read_json(path) == {}
    for text, message in (("[" * 100_000, "nested too deep"), (" " * 2**24 + "{}", "larger than 16,777,216 bytes")):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match=message):
            read_json(path)
    deep = json.loads("[" * 900 + "]" * 900)
    for value in (
        deep,
        "x" * 10**6,
        [1] * 10**6,
        {"a": deep},
        [[10**4000] * 900] * 900,
        10**4299,
        "\x1b[31m\x07\ud800",
    ):
        for field_name in ("sizes", "inner", "kind", "name" * 10**5, "folder", "pair"):
            if isinstance(value, str) and field_name == "folder":
                continue
            with pytest.raises(ConfigError) as caught:
                from_dict(Outer, {"name": "a", field_name: value})
            assert len(str(caught.value)) < 2000 and str(caught.value).isprintable()

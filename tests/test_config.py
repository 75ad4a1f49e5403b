"""The JSON round trip of configurations, and errors for invalid configurations."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from jaxvoice.config import (
    check_at_most,
    check_not_negative,
    check_positive,
    check_types,
    differences,
    find_preset,
    from_dict,
    list_names,
    read_json,
    suggest_names,
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


@dataclass(frozen=True)
class Limited:
    size: int | None = 3
    sizes: tuple[tuple[int, ...], ...] = ((1, 2), ())

    def __post_init__(self) -> None:
        check_types(self)
        check_at_most(self, 10, "size", "sizes")


def test_numbers_have_limits():
    assert Limited(None, ((10,), (3, 4))).size is None
    with pytest.raises(ConfigError, match=r"^Limited\.size is 11; it should be at most 10\.$"):
        Limited(11)
    with pytest.raises(ConfigError, match=r"^Limited\.sizes is \(\(1,\), \(2, 11\)\); it should contain numbers of"):
        Limited(sizes=((1,), (2, 11)))


def test_presets_are_found_by_name():
    presets = {"small": Limited(1), "large": Limited(9)}
    assert find_preset(presets, "large") is presets["large"]
    with pytest.raises(ConfigError, match=r"^preset is 'big'; it should be one of small, large"):
        find_preset(presets, "big")


def test_config_round_trips_through_json():
    assert from_dict(Outer, json.loads(json.dumps(to_dict(OUTER)))) == OUTER
    assert from_dict(Outer, {"name": "a"}) == Outer("a")
    assert from_dict(Outer, {"name": "a", "inner": {"rate": 1}}).inner.rate == 1.0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"nam": "a"}, r"^config has an unknown key 'nam'; did you mean 'name'\?$"),
        ({"name": "a", "inner": {"raet": 1.0}}, r"^config\.inner has an unknown key 'raet'; did you mean 'rate'\?"),
        ({"name": "a", "zzzzzz": 1}, "unknown key 'zzzzzz'; known keys are name, inner, kind"),
        ({}, "lacks 'name'; add it to build a Outer"),
        ([], "should be an object with the fields of Outer"),
        ({"name": 1}, r"^config\.name is 1; it should be text \(str\)\.$"),
        ({"name": "a", "inner": {"size": 1.5}}, r"config\.inner\.size is 1\.5; it should be a whole number"),
        ({"name": "a", "inner": {"size": True}}, r"is True; it should be a whole number"),
        ({"name": "a", "inner": {"rate": "x"}}, r"config\.inner\.rate is 'x'; it should be a finite number"),
        ({"name": "a", "inner": {"rate": math.nan}}, r"config\.inner\.rate is nan; it should be a finite number"),
        (
            {"name": "a", "inner": {"rate": 10**400}},
            r"config\.inner\.rate is a number of 1329 bits; it should be a finite number",
        ),
        (
            {"name": "a", "inner": {"rate": -1}},
            r"config\.inner: Inner\.rate is -1\.0; it should be at least 0\. None turns it off\.$",
        ),
        ({"name": "a", "inner": 3}, r"config\.inner is 3; it should be an object with the fields of Inner"),
        ({"name": "a", "kind": "Fast"}, r"config\.kind is 'Fast'; it should be one of 'fast', 'small', 1\.$"),
        ({"name": "a", "sizes": [[1], [2, "3"]]}, r"config\.sizes\[1\]\[1\] is '3'; it should be a whole number"),
        ({"name": "a", "sizes": 4}, r"config\.sizes is 4; it should be a list"),
        ({"name": "a", "pair": [1]}, r"config\.pair is \[1\]; it should have 2 items"),
        ({"name": "a", "folder": 3}, r"config\.folder is 3; it should be of type Path"),
        ({"name": "a", "loud": 1}, r"config\.loud is 1; it should be True or False"),
    ],
)
def test_from_dict_errors_contain_the_path_of_the_field(data, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(Outer, data)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Inner(0), r"^Inner\.size is 0; it should be positive\.$"),
        (lambda: Inner(2.0), r"^Inner\.size is 2\.0; it should be a whole number \(int\)\.$"),  # pyright: ignore
        (lambda: Inner(np.int64(2)), r"Inner\.size is .*2.*; it should be a whole number \(int\)"),  # pyright: ignore
        (lambda: Inner(rate=-0.5), r"^Inner\.rate is -0\.5; it should be at least 0\. None turns it off\.$"),
        (lambda: Inner(rate=math.inf), r"^Inner\.rate is inf; it should be a finite number \(float\)\.$"),
        (lambda: Inner(rate=-math.inf), "rate is -inf"),
        (lambda: Inner(rate=math.nan), "rate is nan"),
        (lambda: Outer("a", kind="slow"), r"Outer\.kind is 'slow'; it should be one of 'fast', 'small', 1"),  # pyright: ignore
        (lambda: Outer("a", {"size": 3}), r"Outer\.inner is \{'size': 3\}; it should be Inner\(size=3, rate=0\.5\)"),  # pyright: ignore
        (lambda: Outer("a", sizes=((1,), [2])), r"Outer\.sizes is \(\(1,\), \[2\]\); it should be \(\(1,\), \(2,\)\)"),  # pyright: ignore
        (lambda: Outer("a", sizes=[(1,)]), r"Outer\.sizes is \[\(1,\)\]; it should be \(\(1,\),\)"),  # pyright: ignore
        (lambda: Outer("a", sizes=((1, 0),)), r"Outer\.sizes is \(\(1, 0\),\); it should hold positive numbers"),
        (lambda: Outer("a", sizes=((1,), ())), "at least one in each tuple"),
        (lambda: Outer("a", sizes=()), "at least one in each tuple"),
        (lambda: LoopConfig(minutes=math.nan), r"LoopConfig\.minutes is nan; it should be a finite number"),
        (lambda: LoopConfig(minutes=math.inf), r"LoopConfig\.minutes is inf; it should be a finite number"),
        (
            lambda: LoopConfig(minutes=-1),
            r"LoopConfig\.minutes is -1; it should be positive\. None sets no time budget\.$",
        ),
        (lambda: LoopConfig(resume="yes"), r"LoopConfig\.resume is 'yes'; it should be one of 'auto'"),  # pyright: ignore
        (lambda: LoopConfig(steps=1e6), r"LoopConfig\.steps is 1000000\.0; it should be a whole number"),  # pyright: ignore
        (lambda: LoopConfig(log_every=-5), r"LoopConfig\.log_every is -5; it should be positive\.$"),
    ],
)
def test_configs_check_their_fields(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_integers_are_valid_floats():
    assert Inner(1, 2).rate == 2 and LoopConfig(minutes=5).minutes == 5


def test_differences_contain_the_paths_of_the_fields():
    assert differences(OUTER, OUTER) == []
    assert differences(Outer("a"), Outer("b", Inner(4))) == ["name: 'a' != 'b'", "inner.size: 3 != 4"]


def test_read_json_refuses_other_files(tmp_path):
    (tmp_path / "good.json").write_text(json.dumps(to_dict(OUTER)), encoding="utf-8")
    assert from_dict(Outer, read_json(tmp_path / "good.json")) == OUTER
    (tmp_path / "bad.json").write_text("{", encoding="utf-8")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    for name, message in [("bad", "is not valid JSON"), ("bytes", "is not text in UTF-8"), ("gone", "cannot be read")]:
        with pytest.raises(ConfigError, match=rf"{name}\.json {message}"):
            read_json(tmp_path / f"{name}.json")


def test_read_json_refuses_hostile_files_with_short_messages(tmp_path):
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


def test_messages_contain_the_nearest_names_or_the_first():
    known = [f"speaker_{letter}" for letter in "abcdefg"]
    assert suggest_names("speaker_h", known).startswith("the nearest known names are 'speaker_")
    assert suggest_names("anne", ["anna", "bert"]) == "the nearest known name is 'anna'."
    first = "'speaker_a', 'speaker_b', 'speaker_c', 'speaker_d', 'speaker_e' and 2 more"
    for unknown in ("xyz", "", None, 3):
        assert suggest_names(unknown, known) == f"it should be one of the known names: {first}."
    assert suggest_names("a", []) == "it should be one of the known names: none are known."
    assert list_names(iter(known[:2])) == "'speaker_a', 'speaker_b'"

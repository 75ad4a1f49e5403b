"""The module tree: totals, norms and repeated blocks; modules that differ have separate rows."""

import json
import random
import re
from pathlib import Path

import numpy as np
import pytest

from jaxvoice.inspection.description import describe, fingerprint
from jaxvoice.inspection.json_values import file_values
from jaxvoice.inspection.reports import file_lines, matching_tensors, metadata_cells, statistics, tensor_lines
from jaxvoice.inspection.tree_rows import tree_rows
from jaxvoice.text_tables import width
from jaxvoice.weights.archive import Archive, ModuleNode, Source, TensorInfo, Tensors
from jaxvoice.weights.formats.limits import Budget
from jaxvoice.weights.formats.state_dict import module_tree


def archive_of(arrays, *, metadata=None, kinds=None, storages=None, modules=None):
    infos = {
        name: TensorInfo(array.shape, array.dtype, (storages or {}).get(name, name), (kinds or {}).get(name, "tensor"))
        for name, array in arrays.items()
    }
    tree = modules or module_tree(arrays, Budget(0))
    return Archive(Tensors(infos, arrays.__getitem__), metadata or {}, tree, Source(Path("m.pt"), "torch zip"))


def zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


def names(archive, **options):
    return [(row.name, row.layer, row.tensors, row.parameters) for row in tree_rows(describe(archive).root, **options)]


def test_equal_numbered_blocks_share_a_row():
    arrays = {f"blocks.{i}.{name}": zeros(4, 3) for i in range(12) for name in ("q.weight", "k.weight")}
    found = names(archive_of(arrays), dtype=np.dtype(np.float32))
    assert found == [
        ("blocks.0-11", "", "", "12 x 24"), ("q", "", "4x3", "12"), ("k", "", "4x3", "12"),
    ]  # fmt: skip


@pytest.mark.parametrize("part", ["shape", "dtype", "name", "extra", "missing", "kind", "class", "attribute", "shared"])
def test_different_blocks_have_separate_rows(part):
    arrays = {f"blocks.{i}.q.weight": zeros(4, 3) for i in range(6)}
    kinds, classes, attributes, storages = {}, {}, {}, {}
    name = "blocks.3.q.weight"
    match part:
        case "shape":
            arrays[name] = zeros(3, 4)
        case "dtype":
            arrays[name] = zeros(4, 3, dtype=np.float16)
        case "name":
            arrays["blocks.3.q.scale"] = arrays.pop(name)
        case "extra":
            arrays["blocks.3.q.bias"] = zeros(4)
        case "missing":
            del arrays[name]
        case "kind":
            kinds = {name: "buffer"}
        case "class":
            classes = {3: "pkg.Other"}
        case "attribute":
            attributes = {3: {"eps": 1e-3}}
        case "shared":
            arrays[name] = arrays["blocks.1.q.weight"]
            storages = {name: "blocks.1.q.weight"}
    blocks = {
        str(i): ModuleNode(None, {"q": ModuleNode(classes.get(i, "pkg.Block"), {}, attributes.get(i, {"eps": 1e-5}))})
        for i in range(6)
    }
    tree = ModuleNode(None, {"blocks": ModuleNode(None, blocks)})
    found = names(archive_of(arrays, kinds=kinds, storages=storages, modules=tree))
    told = [row[0] for row in found if re.match(r"(blocks\.)?\d", row[0]) or row[0].startswith("blocks")]
    assert any(re.search(r"\b0-2", name) for name in told), found
    assert any(re.fullmatch(r"(blocks\.)?3(\.q)?", name) for name in told), found
    assert any(re.search(r"\b4-5", name) for name in told), found


def test_parameters_of_random_trees_add_up():
    rng = random.Random(0)
    for _ in range(40):
        arrays = {}
        for _ in range(rng.randint(1, 60)):
            depth = rng.randint(1, 4)
            name = ".".join(rng.choice(["0", "1", "2", "3", "a", "b"]) for _ in range(depth)) + f".t{rng.randint(0, 2)}"
            arrays[name] = zeros(rng.choice([1, 1, 2]), 2)
        about = describe(archive_of(arrays))
        total = sum(array.size for array in arrays.values())
        assert about.root.parameters == total and about.other_elements == 0

        def counted(lines):
            found = 0
            for i, row in enumerate(lines):
                below = i + 1 < len(lines) and lines[i + 1].depth > row.depth
                if row.depth == 0:
                    times, _, number = row.parameters.rpartition(" x ")
                    found += int(times or 1) * int(number.replace(",", ""))
                assert row.tensors or below or not row.parameters
            return found

        top = sum(array.size for name, array in arrays.items() if "." not in name)
        lines = [row for row in tree_rows(about.root) if row.name != "(top)"]
        assert counted(lines) + top == total


def test_description_contains_norms():
    arrays = {
        "a.weight_g": zeros(4, 1, 1), "a.weight_v": zeros(4, 3, 5), "a.bias": zeros(4),
        "b.parametrizations.weight.original0": zeros(4, 1), "b.parametrizations.weight.original1": zeros(4, 3),
        "c.weight_orig": zeros(4, 3), "c.weight_u": zeros(4), "c.weight_v": zeros(3),
        "d.weight_g": zeros(1, 3), "d.weight_v": zeros(4, 3),
        "e.weight": zeros(4, 3),
        "f.parametrizations.weight.original": zeros(4, 3), "f.parametrizations.weight.0._u": zeros(4),
        "g.weight_v": zeros(4, 3),
    }  # fmt: skip
    archive = archive_of(arrays)
    about = describe(archive)
    found = {part.path: part.norm for part in about.root.walk() if part.path}
    assert found == {
        "a": "weight norm", "b": "weight norm", "c": "spectral norm", "d": "weight norm (dim 1)", "e": "",
        "f": "spectral norm", "g": "",
    }  # fmt: skip
    told = {row[0]: row[2] for row in names(archive, dtype=np.dtype(np.float32))}
    assert told == {
        "a": "4x3x5, bias 4", "b": "4x3", "c": "4x3", "d": "4x3", "e": "4x3", "f": "4x3", "g": "4x3",
    }  # fmt: skip
    text = " ".join(" ".join(file_lines(about, 80)).split())
    assert "weight norm on 2 layers, spectral norm on 2 layers, weight norm (dim 1) on 1" in text
    assert "not folded" in text and "folded into" in "\n".join(
        file_lines(describe(archive_of({"a.weight": zeros(2, 2)})), 80)
    )


def test_tensors_with_two_names_count_once():
    block = np.zeros((2, 4, 3), np.float32)
    arrays = {"a.weight": block[0], "b.weight": block[0], "c.weight": block[1]}
    archive = archive_of(arrays, storages=dict.fromkeys(arrays, "0"))
    about = describe(archive)
    assert about.shares == {"b.weight": "a.weight"} and about.root.parameters == 24
    assert names(archive)[1][2].endswith("is a.weight")


def test_depth_limits_the_rows():
    arrays = {f"a.b{i}.c.weight": zeros(2, 2) for i in range(3)}
    found = names(archive_of(arrays), depth=1)
    assert found == [("a", "(6 submodules)", "", "12")]


def test_entries_of_an_optimiser_share_a_row():
    arrays = {f"state.{i}.{name}": zeros(i + 1) for i in range(40) for name in ("exp_avg", "exp_avg_sq")}
    (row,) = names(archive_of(arrays))
    assert row == ("state.0-39", "40 entries of different shapes", "exp_avg, exp_avg_sq", f"{2 * sum(range(41)):,}")


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_hostile_names_are_printed_on_one_line(columns):
    arrays = {
        "a\x1b[2J\r\n.b\u202e.weight": zeros(2),
        "x" * 300 + ".w": zeros(1),
        ".".join("d" * 90): zeros(1),
        "": zeros(1),
    }
    archive = archive_of(arrays, metadata={"k\x1b]0;": "v\x07" * 200, "deep": {"e\n": [{"f\t": "\x9b"}]}})
    about = describe(archive)
    lines = file_lines(about, columns) + tensor_lines(archive, list(arrays), columns)
    assert all(width(line) <= columns and line.isprintable() for line in lines)
    assert file_values(about)["tensors"][0]["name"] == "a\x1b[2J\r\n.b\u202e.weight"  # json.dumps escapes it


def test_metadata_is_shortened():
    cells = metadata_cells({"steps": 25, "config": {"lr": 2e-4, "betas": (0.8, 0.99), "big": list(range(99))}}, None)
    assert cells == [
        ("steps", "25"), ("config.lr", "0.0002"), ("config.betas", "(0.8, 0.99)"),
        ("config.big", "[0, 1, 2, 3, 4, 5, 6, 7, ... 99 in all]"),
    ]  # fmt: skip
    assert metadata_cells({str(i): i for i in range(9)}, 3)[-1] == ("...", "6 more; --json lists them all")


def test_large_numbers_have_short_texts():
    metadata = {"small": -(2**70), "large": 1 << 100_000, "nan": float("nan"), "all": (1 << 50_000,)}
    archive = archive_of({"a": zeros(1)}, metadata=metadata)
    assert dict(metadata_cells(metadata, None))["large"] == "a number of 100,001 bits"
    values = json.loads(json.dumps(file_values(describe(archive)), allow_nan=False))["metadata"]
    assert values == {
        "small": -(2**70), "large": "a number of 100,001 bits", "nan": "nan", "all": ["a number of 50,001 bits"],
    }  # fmt: skip


def test_statistics_equal_numpy():
    rng = np.random.default_rng(0)
    for array in (
        rng.normal(3, 2, (50, 7)),
        rng.normal(size=9).astype(np.float16),
        np.arange(-5, 7),
        np.array([True, False]),
    ):
        found, truth = statistics(array), array.astype(np.float64)
        np.testing.assert_allclose(found[:4], (truth.min(), truth.max(), truth.mean(), truth.std()), rtol=1e-12)
    large = rng.normal(1e4, 1, 2**22 + 12345).astype(np.float32)
    np.testing.assert_allclose(statistics(large)[3], large.astype(np.float64).std(), rtol=1e-9)
    array = np.array([1.0, np.nan, np.inf, 3.0])
    assert statistics(array) == (1.0, 3.0, 2.0, 1.0, 2)
    assert statistics(np.array([3 + 4j]))[:2] == (5.0, 5.0)
    assert statistics(zeros(0, 3)) is None and np.isnan(statistics(np.array([np.nan]))[0])


def test_matching_tensors_match_the_pattern():
    archive = archive_of({"a.weight": zeros(1), "b.bias": zeros(1)})
    assert matching_tensors(archive, "weight$") == ["a.weight"]
    with pytest.raises(Exception, match=r"'\['; it should be a regular expression"):
        matching_tensors(archive, "[")


def test_fingerprints_ignore_paths_only():
    about = describe(archive_of({"a.0.weight": zeros(2), "a.1.weight": zeros(2), "b.weight": zeros(3)}))
    a = about.root.children["a"].children
    assert fingerprint(a["0"]) == fingerprint(a["1"]) != fingerprint(about.root.children["b"])

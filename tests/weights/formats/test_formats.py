"""Archives of all formats: names, plain values, mapped arrays and errors."""

import collections
import contextlib
import datetime
import functools
import gzip
import importlib
import io
import ipaddress
import logging
import math
import pickle
import random
import re
import statistics
import struct
import sys
import time
import uuid
from array import array as Samples

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import torch

from jaxvoice.errors import CheckpointError, ConfigError, RefusedError
from jaxvoice.weights.formats import Global, PickleArchive, Record, TorchScriptArchive, open_archive
from tests.weights.formats.forge import (
    FLOATS,
    SOUND_HEADER,
    call,
    many,
    name,
    nemo,
    npy,
    number,
    numbers,
    safetensors as forged_safetensors,
    script,
    sound,
    storage,
    table,
    tensor,
    text,
    torch_legacy,
    torch_zip,
    whole,
    zipped,
)

WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def opened(tmp_path):
    """A function that opens the bytes of a file."""

    def open_bytes(raw, **options):
        (tmp_path / "file").write_bytes(raw)
        return open_archive(tmp_path / "file", **options)

    return open_bytes


def test_formats_are_detected_from_the_content(opened):
    formats = {title: opened(raw).source.format for title, raw in sound().items()}
    assert formats == {
        "zip": "torch zip",
        "packed zip": "torch zip",
        "legacy": "torch legacy",
        "script": "TorchScript",
        "nemo": "NeMo",
        "nemo gz": "NeMo",
        "nemo legacy": "NeMo",
        "safetensors": "safetensors",
        "npz": "npz",
        "packed npz": "npz",
    }


@pytest.mark.parametrize("title", ["zip", "legacy", "script", "nemo", "nemo gz", "safetensors", "npz"])
def test_arrays_are_views_of_the_file(opened, title):
    archive = opened(sound()[title])
    first, second = archive.tensors["weight"], archive.tensors["weight"]
    assert np.shares_memory(first, second) and not first.flags.writeable
    archive.close()
    np.testing.assert_array_equal(first, WEIGHT)
    with pytest.raises(CheckpointError, match="is closed"):
        archive.tensors["weight"]


def _sparse_legacy(path, numel):
    value = table({"weight": tensor((numel,), (1,), 0, storage("0", numel, "torch.FloatStorage", b"N"))})
    head = torch_legacy(value, blocks=())
    with path.open("wb") as file:
        file.write(head + struct.pack("<q", numel))
        file.seek(4 * numel - 4, 1)
        file.write(struct.pack("<f", 7.0))


def _sparse_zip(path, numel):
    """A sparse zip file with one large storage, of which only the last element is written."""
    entries = {"a/data.pkl": whole(table({"weight": tensor((numel,), (1,), 0, storage("0", numel))})), "a/data/0": None}
    listed = b""
    with path.open("wb") as file:
        for entry, raw in entries.items():
            size, begin = 4 * numel if raw is None else len(raw), file.tell()
            sizes = struct.pack("<IIIHH", 0, size, size, len(entry), 0)
            file.write(b"PK\x03\x04" + struct.pack("<HHHHH", 20, 0, 0, 0, 0) + sizes + entry.encode())
            listed += b"PK\x01\x02" + struct.pack("<HHHHHH", 20, 20, 0, 0, 0, 0) + sizes
            listed += struct.pack("<HHHII", 0, 0, 0, 0, begin) + entry.encode()
            if raw is None:
                file.seek(size - 4, 1)
            file.write(struct.pack("<f", 7.0) if raw is None else raw)
        start = file.tell()
        file.write(listed + struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 2, 2, len(listed), start, 0))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows would write all 2 GB: its files have no holes")
@pytest.mark.parametrize("write", [_sparse_legacy, _sparse_zip])
def test_opening_a_large_file_reads_no_tensors(tmp_path, write):
    path = tmp_path / "large.pt"
    write(path, 2**29)
    assert path.stat().st_size > 2**31
    with open_archive(path) as archive:
        array = archive.tensors["weight"]
        assert archive.tensors.info("weight").nbytes == 2**31 and array[-1] == 7 and array[0] == 0


def test_zip64_files_are_read(opened):
    """A file with zip64 records, which writers use above 4 GB or 65,535 entries."""
    raw = torch_zip()
    end = raw.index(b"PK\x05\x06")
    *_, count, size, start, _ = struct.unpack_from("<4sHHHHIIH", raw, end)
    second = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, start)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1)
    last = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    np.testing.assert_array_equal(opened(raw[:end] + second + locator + last).tensors["weight"], WEIGHT)


def test_lightning_checkpoints_have_names_and_metadata(opened):
    value = table(
        {
            "model": table({"a.weight": tensor(), "b": b"](" + tensor() + b"Ne"}),
            "steps": number(2_500_000),
            "rates": many([b"G" + struct.pack(">d", 0.5), b"N", b"\x88"]),
            "empty": b"}",
            "callbacks": b"}" + name("lightning.Checkpoint") + table({"best": number(3)}) + b"s",
            "args": call("argparse.Namespace") + table({"rate": number(16000)}) + b"b",
            "path": call("pathlib.PosixPath", text("/"), text("data"), text("x.wav")),
            "when": call("datetime.datetime", b"C\x0a" + bytes([7, 228, 10, 12, 1, 2, 3, 0, 0, 5])),
            "device": call("torch.device", text("cuda"), number(0)),
            "size": call("torch.Size", numbers([1, 2])),
            "count": call("collections.Counter", b"}" + number(3) + number(1) + b"s"),
            "old": name("__builtin__.set") + many([b"](" + number(1) + b"e"]) + b"R",
        }
    )
    archive = opened(torch_zip(value))
    assert list(archive.tensors) == ["model.a.weight", "model.b.0"]
    assert archive.metadata == {
        "model": {"b": [None, None]},
        "steps": 2_500_000,
        "rates": [0.5, None, True],
        "callbacks": {"lightning.Checkpoint": {"best": 3}},
        "args": {"rate": 16000},
        "path": "/data/x.wav",
        "when": "2020-10-12T01:02:03.000005",
        "device": "cuda:0",
        "size": [1, 2],
        "count": {3: 1},
        "old": [1],
    }
    assert set(archive.modules.children) == {"model"} and set(archive.modules.children["model"].children) == {"a", "b"}


def _zone(seconds: int, *more: bytes) -> bytes:
    return call("datetime.timezone", call("datetime.timedelta", number(0), number(seconds), number(0)), *more)


def test_exact_numbers_and_times_become_text(opened):
    """Pickles of `pickle`, compared with `str` and `isoformat`."""
    raw = b"C\x0a" + bytes([7, 228, 0x8A, 12, 1, 2, 3, 0, 0, 5])
    identity = name("uuid.UUID") + b")\x81" + table({"int": number(2**127 + 5)}) + b"b"
    value = table(
        {
            "rate": call("decimal.Decimal", text("0.0002")),
            "part": call("fractions.Fraction", text("1/3")),
            "other": call("fractions.Fraction", number(2), number(3)),
            "run": identity,
            "local": call("datetime.datetime", raw, _zone(7200)),
            "utc": call("datetime.datetime", raw, _zone(0, text("UTC"))),
            "elsewhere": call("datetime.datetime", raw, name("pytz.tzinfo.Zone") + b")\x81"),
            "hour": call("datetime.time", b"C\x06" + bytes([1, 2, 3, 0, 0, 0])),
            "took": call("datetime.timedelta", number(2), number(3), number(500_000)),
            "never": call("datetime.timedelta", number(10**300), number(0), number(0)),
            "layout": call("torch.serialization._get_layout", text("torch.strided")),
        }
    )
    assert opened(torch_zip(value)).metadata == {
        "rate": "0.0002",
        "part": "1/3",
        "other": "2/3",
        "run": str(uuid.UUID(int=2**127 + 5)),
        "local": "2020-10-12T01:02:03.000005+02:00",
        "utc": "2020-10-12T01:02:03.000005+00:00",
        "elsewhere": "2020-10-12T01:02:03.000005 (pytz.tzinfo.Zone)",
        "hour": "01:02:03",
        "took": str(datetime.timedelta(2, 3, 500_000)),
        "never": [10**300, 0, 0],
        "layout": "torch.strided",
    }


def test_items_of_reconstructed_dicts_are_kept(opened):
    inner = table({"w": tensor()})
    value = call("copyreg._reconstructor", name("collections.OrderedDict"), name("builtins.dict"), inner)
    np.testing.assert_array_equal(opened(torch_zip(value)).tensors["w"], WEIGHT)


def test_empty_numpy_values_are_read(opened):
    scalar = call("numpy.core.multiarray.scalar", call("numpy.dtype", text("S0")), b"C\x00")
    assert opened(torch_zip(table({"note": scalar}))).metadata == {"note": b""}


def test_npy_headers_of_other_writers_are_read(opened):
    for header in (
        '{"shape": (2, 3), "descr": "<f4", "fortran_order": False}',
        "{'descr':'<f4','fortran_order':False,'shape':(2L, 3L)}      \n",
    ):
        np.testing.assert_array_equal(opened(zipped({"w.npy": npy(header)})).tensors["w"], WEIGHT)


def _numpy(code, raw, shape):
    dtype = call("numpy.dtype", text(code), b"\x89", b"\x88")
    dtype += many([number(3), text("<"), b"N", b"N", b"N", number(-1), number(-1), number(0)]) + b"b"
    made = call("numpy.core.multiarray._reconstruct", name("numpy.ndarray"), numbers([0]), b"C\x01b")
    return made + many([number(1), numbers(shape), dtype, b"\x89", raw]) + b"b"


def test_numpy_arrays_in_a_pickle_are_read(opened):
    latin = call("_codecs.encode", text(FLOATS.decode("latin-1")), text("latin1"))
    scalar = call("numpy.core.multiarray.scalar", call("numpy.dtype", text("f8")), b"C\x08" + struct.pack("<d", 0.25))
    value = table({"a": _numpy("f4", b"C\x18" + FLOATS, (2, 3)), "b": _numpy("f4", latin, (6,)), "loss": scalar})
    archive = opened(torch_zip(value))
    np.testing.assert_array_equal(archive.tensors["a"], WEIGHT)
    np.testing.assert_array_equal(archive.tensors["b"], WEIGHT.ravel())
    assert archive.metadata == {"loss": 0.25} and not archive.tensors["a"].flags.writeable


def test_dicts_that_are_their_own_attributes_are_read(opened):
    value = name("env.AttrDict") + b")\x81q\x01" + text("rate") + number(22050) + b"s" + b"h\x01b"
    archive = opened(torch_zip(table({"h": value, "w": tensor()})))
    assert archive.metadata == {"h": {"rate": 22050}}


def test_omegaconf_configurations_become_metadata(opened):
    node = name("omegaconf.nodes.AnyNode") + b")\x81" + table({"_val": number(80), "_parent": b"h\x05"}) + b"b"
    content = table({"mels": node})
    state = table({"_content": content, "_metadata": name("typing.Any")})
    value = name("omegaconf.dictconfig.DictConfig") + b")\x81q\x05" + state + b"b"
    assert opened(torch_zip(table({"cfg": value}))).metadata == {"cfg": {"mels": 80}}


def test_inert_calls_become_records(opened):
    value = table({"w": tensor(), "x": call("my.Schedule", number(3)), "y": name("my.Schedule")})
    with pytest.raises(RefusedError, match=r"an unknown class.*--inert 'my\\.Schedule'"):
        opened(torch_zip(value))
    for inert in ("my\\.Schedule", ["other", r"my\..*"]):
        archive = opened(torch_zip(value), inert=inert)
        assert isinstance(archive, PickleArchive)
        assert isinstance(archive.content["x"], Record) and archive.content["x"].args == (3,)
        assert archive.content["y"] == Global("my.Schedule")
    with pytest.raises(RefusedError, match=r"os\.system"):
        opened(torch_zip(call("os.system", text("x"))), inert=".*")


def test_attributes_of_ordered_dicts_are_kept_separately(opened):
    items = call("collections.OrderedDict") + text("w") + tensor() + b"s"
    archive = opened(torch_zip(items + table({"_metadata": table({"": number(1)})}) + b"b"))
    assert list(archive.tensors) == ["w"] and archive.metadata == {} and archive.content.extra == {"_metadata": {"": 1}}


def test_pickle_protocols_0_4_and_5_are_read(opened):
    """Text of protocol 0, and opcodes of protocols 4 and 5."""
    old = b"(dS'steps'\nI3\nsS'on'\nI01\nsVdeg\\u00b0\nL-70L\nsS'f'\nF0.5\ns"
    new = b"\x95" + bytes(8) + b"}\x94(\x8c\x05steps\x94K\x03\x8c\x02on\x88\x8c\x01s\x8f(K\x01\x90u"
    assert opened(torch_zip(old)).metadata == {"steps": 3, "on": True, "deg\xb0": -70, "f": 0.5}
    assert opened(torch_zip(new)).metadata == {"steps": 3, "on": True, "s": [1]}


def test_legacy_storage_slices_are_read(opened):
    part = storage("0", 6, "torch.FloatStorage", many([text("v"), number(2), number(4)]))
    archive = opened(torch_legacy(table({"weight": tensor((2, 2), (2, 1), 0, part)})))
    np.testing.assert_array_equal(archive.tensors["weight"], WEIGHT.ravel()[2:].reshape(2, 2))


def test_torchscript_archives_contain_modules_code_and_constants(opened):
    archive = opened(script(constants=many([tensor(), number(3)])))
    assert isinstance(archive, TorchScriptArchive)
    kinds = {key: info.kind for key, info in archive.tensors.infos().items()}
    assert kinds == {"weight": "parameter", "mean": "buffer", "CONSTANTS.c0": "constant"}
    assert set(archive.tensors.weights()) == {"weight", "mean"} and archive.tensors.weights()["mean"].size
    assert archive.modules.class_name == "__torch__.Net" and archive.modules.attributes == {"training": False}
    assert list(archive.code) == ["__torch__.py"] and "torch.mul" in archive.code["__torch__.py"]
    assert archive.constants[1] == 3 and archive.tensors.info("CONSTANTS.c0").storage == "constants/0"


def test_hostile_code_is_read_as_text(opened, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = b"import os\nos.system('touch something_ran')\nclass Net(Module):\n  __parameters__ = [\n"
    archive = opened(script(code=code))
    assert isinstance(archive, TorchScriptArchive) and archive.code["__torch__.py"] == code.decode()
    assert not (tmp_path / "something_ran").exists()


def test_nemo_configuration_is_metadata(opened):
    archive = opened(nemo(torch_zip(table({"weight": tensor(), "epoch": number(3)}))))
    assert archive.metadata == {"model_config.yaml": "sample_rate: 16000\n", "weights": {"epoch": 3}}


def test_safetensors_equal_the_safetensors_library(opened):
    rng = np.random.default_rng(0)
    kinds = (np.float32, np.float16, np.float64, np.int64, np.uint8, np.bool_, np.uint16, ml_dtypes.bfloat16)
    arrays = {f"m.{i}.w": (10 * rng.normal(size=(i, 3))).astype(kind) for i, kind in enumerate(kinds)}
    empty = forged_safetensors(SOUND_HEADER.replace(b"{", b'{"__metadata__":null,', 1))
    assert opened(empty).metadata == {}
    archive = opened(safetensors.numpy.save(arrays, {"format": "pt"}))
    assert archive.metadata == {"format": "pt"} and set(archive.modules.children["m"].children) == set("01234567")
    for key, array in arrays.items():
        assert archive.tensors[key].dtype == array.dtype and archive.tensors[key].tobytes() == array.tobytes()


def test_npz_equals_numpy(opened):
    rng = np.random.default_rng(0)
    arrays = {
        "a.b": rng.normal(size=(3, 4)),
        "fortran": np.asfortranarray(rng.normal(size=(3, 4, 5)).astype(np.float32)),
        "big": np.arange(5, dtype=">i4"),
        "zero": np.array(3 + 2j),
        "none": np.zeros((0, 3), np.uint8),
    }
    for save in (np.savez, np.savez_compressed):
        out = io.BytesIO()
        save(out, **arrays)
        archive = opened(out.getvalue())
        assert set(archive.tensors) == set(arrays)
        for key, array in arrays.items():
            np.testing.assert_array_equal(archive.tensors[key], array)
            assert archive.tensors[key].dtype == array.dtype.newbyteorder("=")


def test_missing_files_and_folders_raise_an_error(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be opened"):
        open_archive(tmp_path / "nowhere.pt")
    with pytest.raises(CheckpointError, match="is not a file"):
        open_archive(tmp_path)
    with pytest.raises(ConfigError, match="should be a regular expression"):
        open_archive(tmp_path, inert="(")


def test_python_2_names_of_builtins_are_read(opened):
    content = {"steps": range(3), "part": slice(1, None), "types": [int, str, range, complex], "lists": {"a": [1]}}
    table_of_types = collections.defaultdict(int, {"seen": 4})
    pickled = pickle.dumps({**content, "counts": table_of_types}, protocol=2)
    assert b"__builtin__\nxrange" in pickled and b"__builtin__\nlong" in pickled and b"__builtin__\nunicode" in pickled
    value = pickled.removeprefix(b"\x80\x02").removesuffix(b".")
    assert opened(torch_zip(value)).metadata == {
        "steps": "range(0, 3, 1)",
        "part": "slice(1, None, None)",
        "types": ["builtins.int", "builtins.str", "builtins.range", "builtins.complex"],
        "lists": {"a": [1]},
        "counts": {"seen": 4},
    }


def test_all_unknown_classes_are_listed_and_none_is_called_malicious(opened):
    partial = call("functools.partial", name("torch.optim.adam.Adam"))
    error = call("exceptions.ValueError", text("x"))
    member = call("builtins.getattr", name("task.Problem"), text("BINARY"))
    parts = {"w": tensor(), "p": partial, "e": error, "m": member, "s": call("my.Schedule", number(3)), "t": partial}
    with pytest.raises(RefusedError, match="4 unknown classes or functions") as caught:
        opened(torch_zip(table(parts)))
    said = str(caught.value)
    assert "malicious" not in said and said.endswith(".")
    assert all(repr(one) in said for one in ("functools.partial", "builtins.ValueError", "task.Problem", "my.Schedule"))
    assert r"--inert 'functools\..*' 'builtins\..*' 'task\..*' 'my\..*'" in said
    archive = opened(torch_zip(table(parts)), inert=[r"functools\..*", r"builtins\..*", r"task\..*", r"my\..*"])
    np.testing.assert_array_equal(archive.tensors["w"], WEIGHT)
    assert archive.content["m"].class_name == "task.Problem" and archive.content["m"].args == ("BINARY",)
    assert archive.metadata["s"] == 3 and archive.metadata["m"] == "BINARY"


@pytest.mark.parametrize("kind", ["__builtin__.long", "builtins.int", "__builtin__.unicode", "builtins.float"])
def test_calls_of_plain_types_are_unknown_and_not_called_malicious(opened, kind):
    data = torch_zip(table({"w": tensor(), "n": call(kind, number(5))}))
    with pytest.raises(RefusedError, match="unknown class or function") as caught:
        opened(data)
    assert "malicious" not in str(caught.value)
    np.testing.assert_array_equal(opened(data, inert=[r"builtins\..*"]).tensors["w"], WEIGHT)


def test_instances_of_harmless_standard_classes_are_records(opened):
    state = table({"data": table({"rate": number(22050)})})
    value = name("UserDict.IterableUserDict") + b")\x81" + state + b"b"
    assert opened(torch_zip(table({"h": value}))).metadata == {"h": {"data": {"rate": 22050}}}
    tagged = call("copy_reg._reconstructor", name("my.Path"), name("__builtin__.unicode"), text("a/b"))
    assert opened(torch_zip(table({"h": tagged}))).metadata == {"h": "a/b"}


@pytest.mark.parametrize("inert", [(), ".*"])
@pytest.mark.parametrize(
    "function",
    [
        # These evaluate text.
        *("builtins.eval", "collections.namedtuple", "dataclasses._create_fn", "dataclasses.make_dataclass"),
        *("enum.Enum", "timeit.timeit", "types.CodeType", "types.FunctionType", "typing._eval_type"),
        *("typing.ForwardRef", "typing.get_type_hints"),
        # These start programs or threads, or change the interpreter.
        *("_thread.exit", "_thread.start_new_thread", "copy._reconstruct", "functools.singledispatch"),
        *("distutils.spawn.spawn", "imp.load_source", "pipes.Template.open"),
        *("threading.Thread", "threading.Timer", "threading._start_new_thread", "threading.settrace"),
        *("uuid._get_command_stdout", "warnings._setoption", "weakref.finalize"),
        # These open files or sockets.
        *("logging.FileHandler", "logging.basicConfig", "logging.config.listen", "zoneinfo.ZoneInfo.from_file"),
        # Modules, and functions through modules or objects.
        *("logging.os", "logging.os.system", "pathlib.os", "random._os", "random._os.system", "statistics.sys"),
        *("torch.os", "torch.os.system", "somepkg.sys.exit", "my.builtins.eval", "my.Net.__init__.__globals__"),
        *("collections.OrderedDict.__init__", "functools.partial.__reduce__", "pathlib.Path.write_bytes"),
    ],
)
def test_functions_that_run_programs_are_called_malicious_whatever_is_inert(opened, function, inert):
    module, _, attribute = function.partition(".")
    uses = [
        call(function, text("x")),
        name(function),
        name(function) + b")\x81",  # an instance
        text(module) + text(attribute) + b"\x93",  # STACK_GLOBAL
        call("functools.partial", name(function), text("x")),
        call("builtins.map", name(function), text("x")),
    ]
    for use in uses:
        with pytest.raises(RefusedError, match="may be malicious"):
            opened(torch_zip(use), inert=inert)


def test_harmless_objects_of_the_standard_library_are_unknown_and_inert(opened):
    """Pickles that Python writes."""
    values = {
        "context": contextlib.nullcontext(3),
        "chain": collections.ChainMap({"a": 1}),
        "error": ValueError("x"),
        "generic": list[int],
        "samples": Samples("f", [0.5]),
        "address": ipaddress.IPv4Address("127.0.0.1"),
        "function": math.sqrt,
        "logger": logging.getLogger("training"),
        "normal": statistics.NormalDist(1.0, 2.0),
        "partial": functools.partial(math.pow, 2.0),
        "pattern": re.compile("x+"),
        "random": random.Random(3),
        "time": time.gmtime(0),
        "user": collections.UserDict(a=1),
    }
    for title, value in values.items():
        raw = torch_zip(pickle.dumps({"w": value}, protocol=4)[2:-1])
        try:
            opened(raw)
        except RefusedError as refused:
            assert "malicious" not in str(refused) and "--inert" in str(refused), title
        content = opened(raw, inert=".*").content["w"]
        assert isinstance(content, Record | Global), title


def test_inert_objects_import_and_call_nothing(opened, tmp_path, monkeypatch):
    """The module writes a file when it is imported, and when its function is called."""
    marker = tmp_path / "marker"
    (tmp_path / "inert_module.py").write_text(f"def run(*_):\n    open({str(marker)!r}, 'w').close()\nrun()\n")
    monkeypatch.syspath_prepend(tmp_path)
    run = name("inert_module.run")
    partial = call("functools.partial", run, text("x"))
    uses = {
        "call": call("inert_module.run", text("x")),
        "partial": partial,
        "state": call("functools.partial", run) + many([run, many([]), table({}), b"N"]) + b"b",
        "map": call("builtins.map", run, many([text("x")])),
        "reduce": call("functools.reduce", run, many([text("x"), text("y")])),
        "factory": call("collections.defaultdict", run) + text("x") + number(1) + b"s",
        "instance": run + b")\x81",
        "method": call("builtins.getattr", run, text("x")),
        "items": call("my.List") + text("x") + b"a",
    }
    archive = opened(torch_zip(table(uses)), inert=".*")
    assert set(archive.content) == set(uses) and archive.metadata
    assert archive.content["partial"].args == (Global("inert_module.run"), "x")
    with pytest.raises(RefusedError, match="not a function"):  # the call of a partial object
        opened(torch_zip(partial + many([text("x")]) + b"R"), inert=".*")
    assert "inert_module" not in sys.modules and not marker.exists()
    importlib.import_module("inert_module")
    assert marker.exists()


@pytest.mark.parametrize("title", ["zip", "packed zip", "script", "nemo", "nemo gz", "npz", "packed npz"])
def test_verify_detects_changed_elements(opened, title):
    raw = sound()[title]
    opened(raw).verify()
    if title in ("packed zip", "packed npz"):  # a changed checksum, since changed elements rarely unpack
        place = raw.index(b"PK\x01\x02") + 16
        damaged = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
    else:
        inner = gzip.decompress(raw) if title == "nemo gz" else raw
        damaged = inner.replace(FLOATS, FLOATS[:-1] + b"\x11", 1)
        assert damaged != inner
        damaged = gzip.compress(damaged) if title == "nemo gz" else damaged
    archive = opened(damaged)
    assert archive.tensors["weight"].shape == (2, 3)
    with pytest.raises(CheckpointError, match=r"file: its entry '.*' has the checksum .*; it should be .*damaged"):
        archive.verify()


def test_files_without_checksums_are_not_verified(opened, tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"weight": torch.arange(6.0).reshape(2, 3)}, tmp_path / "plain")
    finally:
        torch.serialization.set_crc32_options(True)
    archive = opened((tmp_path / "plain").read_bytes())
    archive.verify()
    np.testing.assert_array_equal(archive.tensors["weight"], WEIGHT)

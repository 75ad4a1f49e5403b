"""Values that are read from random files equal the values that torch reads, bit for bit."""

import enum
import io
import zipfile
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from jaxvoice.errors import CheckpointError
from jaxvoice.weights.formats import PickleArchive, Record, TensorRef, TorchScriptArchive, open_archive
from tests.weights.formats.random_models import (
    DTYPES,
    OLD_DTYPES,
    Block,
    assert_same_tensors,
    bits,
    flat,
    random_content,
    random_module,
    random_tensor,
    save,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*(torch.jit|TypedStorage|weight_norm).*")


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("seed", range(7))
def test_state_dicts_equal_torch(tmp_path, seed, legacy):
    rng = np.random.default_rng([seed, legacy])
    for index in range(15):
        content = random_content(rng, OLD_DTYPES if legacy else len(DTYPES))
        path = tmp_path / f"{index}.pt"
        save(content, path, legacy=legacy, protocol=2 + index % 4)
        with open_archive(path) as archive:
            assert_same_tensors(archive, flat(torch.load(path, weights_only=False)))
            assert archive.source.format == ("torch legacy" if legacy else "torch zip")


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_pickled_modules_equal_torch(tmp_path, seed, legacy):
    rng = np.random.default_rng([seed, legacy])
    for index in range(7):
        module = random_module(rng)
        path = tmp_path / f"{index}.pt"
        save({"model": module, "epoch": 3} if index % 2 else module, path, legacy=legacy, protocol=2 + index % 4)
        truth = torch.load(path, weights_only=False)
        with open_archive(path) as archive:
            names = flat(truth)
            start = "model." if index % 2 else ""
            assert_same_module(archive, truth["model"] if index % 2 else truth, names, start)


def assert_same_module(archive, module, names, start):
    assert_same_tensors(archive, names, more=True)
    parameters = {start + name for name, _ in module.named_parameters(remove_duplicate=False)}
    kinds = {name: info.kind for name, info in archive.tensors.infos().items()}
    assert {name for name, kind in kinds.items() if kind == "parameter"} == parameters
    assert {name for name, kind in kinds.items() if kind == "buffer"} == names.keys() - parameters
    beside = {name.removeprefix(start).rpartition(".")[2] for name in kinds.keys() - names.keys()}
    assert {"passing"} <= beside <= {"passing", "weight"}  # `weight` is what the old norms computed last
    classes = {f"{start}{name}".strip("."): f"{type(part).__module__}.{type(part).__qualname__}" for name, part in module.named_modules(remove_duplicate=False)}  # fmt: skip  # noqa: E501
    known = {name: node.class_name for name, node in archive.modules.walk() if node.class_name}
    assert known == classes


@pytest.mark.parametrize("norm", [0, 1, 2, 3])
def test_state_dicts_of_modules_equal_torch(tmp_path, norm):
    block = Block(3, norm)
    optimizer = torch.optim.AdamW(block.parameters(), 2e-4, betas=(0.8, 0.99))
    block(torch.randn(2, 3, 8)).sum().backward()
    optimizer.step()
    content = {"generator": block.state_dict(), "optim": optimizer.state_dict(), "steps": 2_500_000}
    for legacy in (False, True):
        save(content, tmp_path / "file", legacy=legacy, protocol=2)
        with open_archive(tmp_path / "file") as archive:
            assert_same_tensors(archive, flat(content))
            assert "optim.state.0.exp_avg" in archive.tensors and "generator.convolution.bias" in archive.tensors
            assert archive.metadata["steps"] == 2_500_000
            assert archive.metadata["optim"]["param_groups"][0]["betas"] == [0.8, 0.99]


@pytest.mark.parametrize("how", ["trace", "script", "mixed"])
@pytest.mark.parametrize("seed", range(3))
def test_torchscript_archives_equal_torch(tmp_path, how, seed):
    rng = np.random.default_rng([seed, len(how)])
    module = random_module(rng, norms=(0, 3) if how == "trace" else (3,)).float().eval()
    example = torch.randn(1, 2, 9)
    if how == "mixed":
        module[0] = torch.jit.trace(module[0], example)
    made = torch.jit.trace(module, example) if how == "trace" else torch.jit.script(module)
    path = tmp_path / "model.pt"
    torch.jit.save(made, path, _extra_files={"notes.txt": "said by its author"})
    truth = torch.jit.load(path)
    with open_archive(path) as archive:
        assert isinstance(archive, TorchScriptArchive)
        assert_same_tensors(archive, dict(truth.state_dict()), more=True)
        parameters = {name for name, _ in truth.named_parameters(remove_duplicate=False)}
        assert {name for name, info in archive.tensors.infos().items() if info.kind == "parameter"} == parameters
        assert archive.content.class_name.startswith("__torch__.") and archive.metadata["extra"] == {
            "notes.txt": "said by its author"
        }
        assert archive.code and all("class " in text or "def " in text for text in archive.code.values())
        classes = {name: part.original_name for name, part in truth.named_modules(remove_duplicate=False) if name}
        known = {name: node.class_name.rpartition(".")[2] for name, node in archive.modules.walk() if name}
        assert known == classes


def test_torchscript_constants_equal_torch(tmp_path):
    table = torch.randn(3, 4).T

    class Net(nn.Module):
        def forward(self, x):
            return x + table

    traced = torch.jit.trace(Net(), torch.zeros(4, 3))
    traced.save(tmp_path / "file")
    with open_archive(tmp_path / "file") as archive:
        assert isinstance(archive, TorchScriptArchive) and isinstance(archive.constants[0], TensorRef)
        assert_same_tensors(archive, {"CONSTANTS.c0": table})
        assert archive.read(archive.constants[0]).tobytes() == table.numpy().tobytes()


class Pair(NamedTuple):
    """A named tuple."""

    count: int
    values: torch.Tensor


class Colour(enum.Enum):
    """An enumeration."""

    RED = 7


class Holder(nn.Module):
    """A module with attributes of every kind that TorchScript stores."""

    tables: dict[int, torch.Tensor]
    rates: dict[str, int]
    nothing: int | None

    def __init__(self):
        super().__init__()
        self.tables, self.rates, self.nothing = {3: torch.randn(2)}, {"a": 1}, None
        self.sizes, self.words, self.steps = [1, 2], ["x"], (1, "y", 2.5)
        self.parts = [torch.randn(2), torch.randn(3)]
        self.pair, self.colour, self.device = Pair(3, torch.randn(4)), Colour.RED, torch.device("cpu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Use the attributes, so that TorchScript stores them."""
        x = x + self.tables[3] * self.rates["a"] + self.sizes[0] + len(self.words) + self.steps[0] + self.pair[0]
        return x + self.parts[0] if self.colour is Colour.RED and self.nothing is None else x.to(self.device)


def test_torchscript_attributes_equal_torch(tmp_path):
    module = Holder()
    torch.jit.script(module).save(tmp_path / "file")
    with open_archive(tmp_path / "file") as archive:
        tensors = {"tables.3": module.tables[3], "pair.1": module.pair.values}
        assert_same_tensors(archive, tensors | {f"parts.{index}": part for index, part in enumerate(module.parts)})
        plain = {"rates": {"a": 1}, "nothing": None, "sizes": [1, 2], "words": ["x"], "steps": [1, "y", 2.5]}
        plain |= {"pair": [3, None], "colour": 7, "device": "cpu", "training": True}
        assert archive.modules.attributes == plain


def test_pickled_modules_are_records(tmp_path):
    torch.save({"model": Block(2, 3), "note": torch.float16}, tmp_path / "file")
    with open_archive(tmp_path / "file") as archive:
        assert isinstance(archive, PickleArchive)
        record = archive.content["model"]
        assert isinstance(record, Record) and record.class_name.endswith("random_models.Block")
        assert archive.modules.children["model"].attributes["stride"] == [1, 2]
        convolution = archive.modules.children["model"].children["convolution"]
        assert convolution.attributes["kernel_size"] == [3] and convolution.attributes["padding"] == [1]
        assert archive.metadata == {"note": "torch.float16"}


def test_parameters_and_tensors_have_kinds(tmp_path):
    torch.save({"a": nn.Parameter(torch.ones(2)), "b": torch.ones(2, requires_grad=True)}, tmp_path / "file")
    with open_archive(tmp_path / "file") as archive:
        assert {name: info.kind for name, info in archive.tensors.infos().items()} == {"a": "parameter", "b": "tensor"}


def test_legacy_files_contain_new_dtypes(tmp_path):
    rng = np.random.default_rng(0)
    content = [random_tensor(rng) for _ in range(60)]
    save(content, tmp_path / "file", legacy=True, protocol=2)  # torch writes these, but does not load them again
    with open_archive(tmp_path / "file") as archive:
        assert_same_tensors(archive, flat(content))


def test_pickled_optimisers_have_the_names_of_their_state_dicts(tmp_path):
    block = Block(3, 0)
    optimizer = torch.optim.Adam(block.parameters())
    block(torch.randn(2, 3, 8)).sum().backward()
    optimizer.step()
    torch.save({"optimizer": optimizer}, tmp_path / "file")
    with open_archive(tmp_path / "file") as archive:
        states = flat(optimizer.state_dict()["state"], "optimizer.state")
        assert states
        assert_same_tensors(archive, states, more=True)


def test_sparse_tensors_are_refused_with_a_remedy(tmp_path):
    torch.save({"w": torch.eye(3).to_sparse()}, tmp_path / "file")
    with pytest.raises(CheckpointError, match="save it as a dense tensor"):
        open_archive(tmp_path / "file")


@pytest.mark.slow
@pytest.mark.parametrize("legacy", [False, True])
def test_largest_number_of_tensors_is_read(tmp_path, legacy):
    size = 75 if legacy else 1  # 300 bytes of a file; a zip file has as many for each entry
    tensors = {f"model.layers.{index // 10}.part{index % 10}.weight": torch.zeros(size) for index in range(60_000)}
    save(tensors, tmp_path / "file", legacy=legacy, protocol=2)
    with open_archive(tmp_path / "file") as archive:
        assert archive.tensors.keys() == tensors.keys()


def test_a_pickled_tensor_is_read(tmp_path):
    tensor = torch.randn(3)
    torch.save(tensor, tmp_path / "file")
    with open_archive(tmp_path / "file") as archive:
        assert_same_tensors(archive, {"tensor": tensor})


def test_big_endian_files_are_read(tmp_path):
    rng = np.random.default_rng(0)
    content = {f"t{index}": random_tensor(rng) for index in range(40)}
    out = io.BytesIO()
    torch.save(content, out)
    swapped = _swapped(out.getvalue(), content, tmp_path)
    (tmp_path / "file").write_bytes(swapped)
    with open_archive(tmp_path / "file") as archive:
        assert archive.source.details["byte order"] == "big"
        for name, tensor in content.items():
            assert bits(archive.tensors[name]) == bits(tensor), name


def _swapped(raw: bytes, content: dict[str, torch.Tensor], folder) -> bytes:
    """The file with the other byte order."""
    (folder / "little").write_bytes(raw)
    with open_archive(folder / "little") as archive:
        types = {info.storage: info.dtype for info in archive.tensors.infos().values()}
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as before, zipfile.ZipFile(out, "w") as after:
        for info in before.infolist():
            block = before.read(info)
            place = info.filename.removeprefix("archive/")
            if place in types:
                width = types[place].itemsize // (2 if types[place].kind == "c" else 1)
                block = np.frombuffer(block, f"u{width}").byteswap().tobytes()
            after.writestr(info.filename, b"big" if place == "byteorder" else block)
    return out.getvalue()


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"K\x04K\x01\x86", b"K\x01K\x04\x86"), (b"QK\x02", b"QK\x01"), (b"CharStorage", b"ByteStorage")],
    ids=["stride", "offset", "type"],
)
def test_a_flipped_byte_changes_the_values(tmp_path, old, new):
    content = {"w": torch.arange(-20, 20, dtype=torch.int8)[2:18].view(4, 4)}
    file = tmp_path / "file"
    torch.save(content, file)
    with open_archive(file) as archive:
        assert_same_tensors(archive, content)
    raw = file.read_bytes()
    assert raw.count(old) == 1
    file.write_bytes(raw.replace(old, new))
    with open_archive(file) as archive, pytest.raises(AssertionError):
        assert_same_tensors(archive, content)

"""Random state dicts and modules of torch, and the comparison of archives with the values that torch reads."""

import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrizations

from jaxvoice.weights.archive import Archive

DTYPES = (
    *(torch.float32, torch.float16, torch.float64, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8),
    *(torch.uint8, torch.bool, torch.complex64, torch.complex128, torch.uint16, torch.uint32, torch.uint64),
    *(torch.float8_e4m3fn, torch.float8_e5m2),
)


def random_tensor(rng: np.random.Generator, types: int = len(DTYPES)) -> torch.Tensor:
    """A random tensor of one of the first `types` dtypes, with random shape and strides."""
    shape = tuple(int(size) for size in rng.integers(0, 5, rng.integers(0, 5)))
    dtype = DTYPES[rng.integers(types)]
    base = torch.from_numpy(rng.integers(0, 256, (*shape, dtype.itemsize), dtype=np.uint8))
    if dtype == torch.bool:
        base &= 1
    tensor = base.flatten().view(dtype).reshape(shape) if base.numel() else torch.zeros(shape, dtype=dtype)
    match rng.integers(6):
        case 0 if tensor.ndim > 1:
            tensor = tensor.transpose(0, -1)
        case 1 if tensor.ndim and tensor.shape[0] > 1:
            tensor = tensor[1::2]
        case 2 if tensor.ndim and tensor.shape[-1] > 1:
            tensor = tensor[..., :-1]
        case 3:
            tensor = tensor.unsqueeze(0).expand(3, *shape)
    return tensor


OLD_DTYPES = 12
"""How many of `DTYPES` torch can load from a legacy file."""


def random_content(rng: np.random.Generator, types: int = len(DTYPES), depth: int = 0) -> Any:
    """Nested dicts of plain values and tensors, some of which share storages."""
    pool = [random_tensor(rng, types) for _ in range(3)]
    table: Any = OrderedDict() if rng.integers(2) else {}
    for index in range(rng.integers(1, 6)):
        match rng.integers(0, 8 if depth < 3 else 4):
            case 0 | 1:
                value = random_tensor(rng, types)
            case 2:
                value = pool[rng.integers(3)]
            case 3:
                value = [3, -5, 1e-9, "text", True, None, (2, 2**40), -(2**70)][rng.integers(8)]
            case 4 | 5:
                value = random_content(rng, types, depth + 1)
            case 6:
                value = [random_content(rng, types, depth + 2), random_tensor(rng, types), 7]
            case _:
                value = (random_tensor(rng, types),)
        table[int(index) if rng.integers(5) == 0 else f"layer{index}.weight"] = value
    return table


def flat(content: Any, name: str = "") -> dict[str, torch.Tensor]:
    """Tensors by dotted name, from a value that torch returns."""
    if isinstance(content, torch.Tensor):
        return {name: content}
    if isinstance(content, nn.Module):
        return {(f"{name}.{key}" if name else key): value for key, value in content.state_dict().items()}
    if isinstance(content, dict):
        items: Any = content.items()
    elif isinstance(content, list | tuple):
        items = enumerate(content)
    else:
        return {}
    found: dict[str, torch.Tensor] = {}
    for key, value in items:
        found |= flat(value, f"{name}.{key}" if name else str(key))
    return found


def bits(array: torch.Tensor | np.ndarray) -> bytes:
    """The bytes of the elements in C order."""
    if isinstance(array, torch.Tensor):
        dense = torch.empty(array.numel(), dtype=array.dtype).copy_(array.detach().flatten())
        array = dense.view(torch.uint8).numpy() if array.numel() else np.zeros(0)
    return array.tobytes()


def assert_same_tensors(archive: Archive, truth: dict[str, torch.Tensor], *, more: bool = False) -> None:
    """Check that names, shapes, dtypes, elements and shared storages equal torch's; with `more`, others are allowed."""
    assert more or set(archive.tensors) == set(truth)
    for name, tensor in truth.items():
        array, info = archive.tensors[name], archive.tensors.info(name)
        assert array.shape == info.shape == tuple(tensor.shape), name
        assert str(array.dtype) == str(info.dtype) == str(tensor.dtype).removeprefix("torch."), name
        assert bits(array) == bits(tensor), name
        assert not array.flags.writeable
    blocks = {name: tensor.untyped_storage().data_ptr() for name, tensor in truth.items() if tensor.numel()}
    ours = {name: archive.tensors.info(name).storage for name in blocks}
    assert (
        len(set(blocks.values()))
        == len(set(ours.values()))
        == len(set(zip(blocks.values(), ours.values(), strict=True)))
    )


class Block(nn.Module):
    """A module with children, lists, persistent and other buffers, and plain tensors."""

    def __init__(self, width: int, norm: int):
        super().__init__()
        convolution = nn.Conv1d(width, width + 1, 3, padding=1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            match norm:
                case 0:
                    convolution = torch.nn.utils.weight_norm(convolution)
                case 1:
                    convolution = torch.nn.utils.spectral_norm(convolution)
                case 2:
                    convolution = parametrizations.weight_norm(convolution)
        self.convolution = convolution
        self.after = nn.ModuleList([nn.BatchNorm1d(width + 1), nn.PReLU(), nn.LeakyReLU(0.1)])
        self.register_buffer("kept", torch.randn(1, width + 1, 1))
        self.register_buffer("passing", torch.randn(1), persistent=False)
        self.scale = nn.Parameter(torch.randn(width + 1, 1))
        self.stride = (1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Create the members."""
        x = self.convolution(x) * self.scale + self.kept * self.passing
        for layer in self.after:
            x = layer(x)
        return x


def random_module(rng: np.random.Generator, norms: tuple[int, ...] = (0, 1, 3)) -> nn.Module:
    """Two or three blocks; two layers may share a weight."""
    widths = range(2, 3 + int(rng.integers(1, 3)))
    blocks = nn.Sequential(*(Block(width, int(rng.choice(norms))) for width in widths))
    if rng.integers(2):
        blocks[1].after[1] = blocks[0].after[1]
    if rng.integers(2):
        blocks[0].register_parameter("tied", blocks[1].scale)
    return blocks.to(torch.float16) if rng.integers(4) == 0 else blocks


def save(content: Any, path: Path, *, legacy: bool, protocol: int) -> None:
    """`torch.save` in either format."""
    torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)

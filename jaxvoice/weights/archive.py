"""One type for weight files of any origin: named tensors that are read when asked for, and what else the file says."""

import difflib
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Shaped

from jaxvoice.errors import CheckpointError

TensorKind = Literal["parameter", "buffer", "constant", "tensor"]


@dataclass(frozen=True)
class TensorInfo:
    """What a file says of a tensor without its values being read."""

    shape: tuple[int, ...]
    """Shape, as torch or numpy has it."""
    dtype: np.dtype
    """Type of the elements; bfloat16 is `ml_dtypes.bfloat16`."""
    storage: str
    """Which block of the file holds the elements; tensors with the same one share them."""
    kind: TensorKind = "tensor"
    """`parameter` or `buffer` where the file tells; `constant` for what only a program's code uses; else `tensor`."""

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements, those that lie in the file once and are seen several times counted each time."""
        return self.size * self.dtype.itemsize


class Tensors(Mapping[str, np.ndarray]):
    """Tensors by dotted name; a value is read, or mapped into memory, each time it is asked for, and is read-only."""

    def __init__(self, infos: Mapping[str, TensorInfo], read: Callable[[str], np.ndarray]):
        self._infos, self._read = dict(infos), read

    def __getitem__(self, name: str) -> Shaped[np.ndarray, "..."]:
        self._check(name)
        return self._read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._infos)

    def __len__(self) -> int:
        return len(self._infos)

    def __contains__(self, name: object) -> bool:
        return name in self._infos

    def info(self, name: str) -> TensorInfo:
        """Shape, type and storage of `name`, without reading it; raises `KeyError` naming the nearest known one."""
        self._check(name)
        return self._infos[name]

    def infos(self) -> dict[str, TensorInfo]:
        """`info` of every tensor."""
        return dict(self._infos)

    def weights(self) -> "Tensors":
        """All but the constants of a program (`CONSTANTS.c0` of TorchScript), which are no part of a state dict."""
        kept = {name: info for name, info in self._infos.items() if info.kind != "constant"}
        return Tensors(kept, self._read)

    def renamed(self, names: Mapping[str, str]) -> "Tensors":
        """Those of `names`, which gives for each new name the one that the tensor has here."""
        infos = {new: self.info(old) for new, old in names.items()}
        return Tensors(infos, lambda name: self._read(names[name]))

    def _check(self, name: str) -> None:
        if name not in self._infos:
            near = difflib.get_close_matches(name, self._infos, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise KeyError(f"no tensor is called {name!r}{hint}")

    def __repr__(self) -> str:
        return f"<{len(self)} tensors, {sum(info.nbytes for info in self._infos.values()) / 2**20:.1f} MiB>"


@dataclass(frozen=True)
class ModuleNode:
    """A node in the tree of modules that a file describes."""

    class_name: str | None = None
    """The class as the file names it, `torch.nn.modules.conv.Conv1d` say; `None` where only names are known."""
    children: Mapping[str, "ModuleNode"] = field(default_factory=dict)
    """Modules below this one by the next part of their names."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Plain values the file keeps for this module: numbers, text, lists of these."""

    def walk(self, name: str = "") -> Iterator[tuple[str, "ModuleNode"]]:
        """This module and all below, parents first, with dotted names (`""` for the first)."""
        yield name, self
        for key, child in self.children.items():
            yield from child.walk(f"{name}.{key}" if name else key)


@dataclass(frozen=True)
class Source:
    """Where an archive comes from."""

    path: Path
    """The file."""
    format: str
    """`torch zip`, `torch legacy`, `TorchScript`, `NeMo`, `safetensors` or `npz`."""
    details: Mapping[str, str] = field(default_factory=dict)
    """What the format says of itself: its version, the order of bytes."""

    def sha256(self) -> str:
        """SHA-256 of the file in hexadecimal digits; reads all of it."""
        try:
            with self.path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as failure:
            raise CheckpointError(f"{self.path} cannot be read ({failure.strerror}); check the path.") from failure


class Archive:
    """What a weight file holds. Made by `open_archive`; use it in a `with` statement, or call `close`.

    - `tensors`: every tensor by dotted name, read when asked for.
    - `metadata`: the plain values beside them (steps, learning rates, a configuration), nested as in the file.
    - `modules`: the tree of modules: names, and classes where the file knows them.
    - `source`: path, format, versions.
    """

    def __init__(
        self,
        tensors: Tensors,
        metadata: Mapping[str, Any],
        modules: ModuleNode,
        source: Source,
        close: Callable[[], None] = lambda: None,
    ):
        self.tensors, self.metadata, self.modules, self.source = tensors, metadata, modules, source
        self._close = close
        self._forget: Callable[[], None] = lambda: None

    def forget_with(self, forget: Callable[[], None]) -> "Archive":
        """This archive, whose `forget` will call `forget`."""
        self._forget = forget
        return self

    def forget(self) -> None:
        """Give back the memory of what was read of the file; arrays already read stay valid."""
        self._forget()

    def close(self) -> None:
        """Let go of the file; arrays already read stay valid."""
        self._close()

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.source.path} ({self.source.format}): {self.tensors!r}>"

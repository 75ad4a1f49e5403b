"""The content of a weight file in any format: named tensors, which are read on access, and metadata."""

import copy
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
    """Description of a tensor. Its values are not read."""

    shape: tuple[int, ...]
    """Shape, as in torch or numpy."""
    dtype: np.dtype
    """Dtype; bfloat16 is `ml_dtypes.bfloat16`."""
    storage: str
    """Name of the storage in the file. Tensors with the same storage share its elements."""
    kind: TensorKind = "tensor"
    """`parameter` or `buffer` if the file distinguishes them; `constant` for constants of TorchScript; or `tensor`."""

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all elements. In a tensor with stride 0, an element counts several times."""
        return self.size * self.dtype.itemsize


class Tensors(Mapping[str, np.ndarray]):
    """Tensors by dotted name. Values are read, or mapped into memory, on each access, and are read-only."""

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
        """Shape, dtype and storage of `name`, without reading it.

        **Raises:** `KeyError` with the nearest known name.
        """
        self._check(name)
        return self._infos[name]

    def infos(self) -> dict[str, TensorInfo]:
        """`info` of every tensor."""
        return dict(self._infos)

    def weights(self) -> "Tensors":
        """The tensors without constants of TorchScript code (`CONSTANTS.c0`), which do not belong to a state dict."""
        kept = {name: info for name, info in self._infos.items() if info.kind != "constant"}
        return Tensors(kept, self._read)

    def renamed(self, names: Mapping[str, str]) -> "Tensors":
        """The tensors in `names`, which maps each new name to the current one."""
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
    """A node of the module tree in a file."""

    class_name: str | None = None
    """Class name in the file, for example `torch.nn.modules.conv.Conv1d`; `None` if the file contains only names."""
    children: Mapping[str, "ModuleNode"] = field(default_factory=dict)
    """Child modules by name."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Plain attributes of the module: numbers, text, and lists of these."""

    def walk(self, name: str = "") -> Iterator[tuple[str, "ModuleNode"]]:
        """This module and its descendants with dotted names, parents first (`""` for this module)."""
        yield name, self
        for key, child in self.children.items():
            yield from child.walk(f"{name}.{key}" if name else key)


@dataclass(frozen=True)
class Source:
    """Origin of an archive."""

    path: Path
    """The file."""
    format: str
    """`torch zip`, `torch legacy`, `TorchScript`, `NeMo`, `safetensors` or `npz`."""
    details: Mapping[str, str] = field(default_factory=dict)
    """Details of the format, such as its version and byte order."""

    def sha256(self) -> str:
        """SHA-256 of the file in hexadecimal digits. The whole file is read."""
        try:
            with self.path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as failure:
            raise CheckpointError(f"{self.path} cannot be read ({failure.strerror}); check the path.") from failure


class Archive:
    """The content of a weight file. `open_archive` creates it; use it in a `with` statement, or call `close`.

    - `tensors`: all tensors by dotted name, read on access.
    - `metadata`: other values (steps, learning rates, a configuration), nested as in the file.
    - `modules`: the module tree: names, and classes if the file contains them.
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
        self._release: Callable[[], None] = lambda: None
        self._verify: Callable[[Callable[[], None]], None] = lambda release: None

    def with_tensors(self, tensors: Tensors) -> "Archive":
        """A copy of this archive, of the same open file, with other tensors."""
        changed = copy.copy(self)
        changed.tensors = tensors
        return changed

    def release_with(self, release: Callable[[], None]) -> "Archive":
        """Set the function that `release` calls, and return this archive."""
        self._release = release
        return self

    def release(self) -> None:
        """Release the mapped pages of the file that were read. Arrays remain valid."""
        self._release()

    def verify_with(self, verify: Callable[[Callable[[], None]], None]) -> "Archive":
        """Set the function that `verify` calls with `release`, and return this archive."""
        self._verify = verify
        return self

    def verify(self) -> None:
        """Read the whole file and compare the checksums of its zip entries. Other formats have no checksums.

        **Raises:** `CheckpointError` for an entry that does not match its checksum.
        """
        try:
            self._verify(self.release)
        except CheckpointError as problem:
            raise type(problem)(f"{self.source.path}: {problem}") from problem

    def close(self) -> None:
        """Close the file. Arrays that were read remain valid."""
        self._close()

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.source.path} ({self.source.format}): {self.tensors!r}>"

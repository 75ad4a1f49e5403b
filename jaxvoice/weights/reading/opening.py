"""Opens weight files of any format, which is found out from their content."""

from collections.abc import Sequence
from pathlib import Path

from jaxvoice.errors import CheckpointError
from jaxvoice.weights.archive import Archive
from jaxvoice.weights.reading.mapped import Mapped
from jaxvoice.weights.reading.problems import naming
from jaxvoice.weights.reading.torch_zip import find_prefix, open_torch_zip
from jaxvoice.weights.reading.zips import Zip


def open_archive(path: str | Path, *, inert: Sequence[str] = ()) -> Archive:
    """Read what a weight file holds, without torch and without running any of it.

    - `path`: a file of `torch.save` (zip, or legacy of before torch 1.6), `torch.jit.save`, NeMo, safetensors or
      `numpy.savez`; which one is seen from its content.
    - `inert`: regular expressions for whole names of classes and functions, such as `my_package\\..*`; where the file
      calls one of them, a `Record` of the call is kept. Nothing is called either way.

    Tensors are read when asked for, mapped into memory where the format allows. Raises `CheckpointError` when the file
    is missing, damaged or of another kind, and `RefusedError` when it asks for what reading never does.
    """
    path = Path(path)
    inert = (inert,) if isinstance(inert, str) else tuple(inert)
    with naming(path):
        mapped = Mapped.open(path)
        return _dispatch(mapped, path, inert)


def _dispatch(mapped: Mapped, path: Path, inert: Sequence[str]) -> Archive:
    data = mapped.view
    head = bytes(data[:16])
    if head.startswith(b"PK\x03\x04"):
        archive = Zip(data)
        prefix = find_prefix(archive)
        if prefix is not None:
            return open_torch_zip(archive, prefix, path, mapped.close, inert)
    raise CheckpointError("is none of the formats that are read.")

"""Opening of weight files of any format. The format is detected from the content."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.weights.archive import Archive
from jaxvoice.weights.formats.array_archives import is_npz, is_safetensors, open_npz, open_safetensors
from jaxvoice.weights.formats.error_messages import error_prefix, safe_text
from jaxvoice.weights.formats.limits import Budget
from jaxvoice.weights.formats.mapped_file import Bytes, Mapped
from jaxvoice.weights.formats.nemo import gunzipped, is_tar, open_nemo, tar_members
from jaxvoice.weights.formats.pickle_archives import PickleArchive
from jaxvoice.weights.formats.torch_legacy import is_legacy, open_legacy
from jaxvoice.weights.formats.torch_zip import find_prefix, open_torch_zip
from jaxvoice.weights.formats.zip_files import Zip

_UNSUPPORTED_FORMATS = {
    b"PK\x05\x06": "an empty zip file; download or save it again",
    b"\x89HDF": "an HDF5 file, for example of Keras; save the arrays with numpy.savez",
    b"\x93NUMPY": "a single numpy array; save it with a name in an npz file (numpy.savez)",
    b"GGUF": "a GGUF file; use the original weights",
    b"version https://git-lfs": "a git-lfs pointer instead of the file; download the file with `git lfs pull`",
    b"\x80": "a pickle that torch did not write; save the model with torch.save",
}


def open_archive(path: str | Path, *, inert: str | Sequence[str] = ()) -> Archive:
    """Open a weight file. torch is not needed, and no code from the file is executed.

    Tensors are read on access. They are mapped into memory if the format allows it.

    **Arguments:**

    - `path`: a file of `torch.save` (zip, or the legacy format before torch 1.6), `torch.jit.save`, NeMo, safetensors
        or `numpy.savez`. The format is detected from the content.
    - `inert`: regular expressions for full names of classes and functions, such as `my_package\\..*`. A call
        of one of these in the file is read as a `Record`. It is not executed.

    **Raises:** `CheckpointError` if the file is missing, damaged or of an unknown format; `RefusedError` if it requires
    the execution of code or exceeds a limit; `ConfigError` if `inert` is not a regular expression.
    """
    path = Path(path)
    inert = (inert,) if isinstance(inert, str) else tuple(inert)
    for pattern in inert:
        try:
            re.compile(pattern)
        except re.error as failure:
            raise ConfigError(f"inert is {pattern!r}; it should be a regular expression ({failure}).") from failure
    with error_prefix(path):
        mapped = _unpacked(Mapped.open(path))
        return _open(mapped, path, inert).release_with(mapped.release)


def _unpacked(mapped: Mapped) -> Mapped:
    data = mapped.view
    if bytes(data[:2]) == b"\x1f\x8b":
        mapped = gunzipped(data)
        data = mapped.view
        if not is_tar(data):
            raise CheckpointError(
                "it is gzipped but not a tar file, so it is not a NeMo file; unpack it and use its content."
            )
    return mapped


def _open(mapped: Mapped, path: Path, inert: Sequence[str]) -> Archive:
    data = mapped.view
    budget = Budget(len(data))
    if bytes(data[:4]) == b"PK\x03\x04":
        archive = Zip(mapped, budget)
        if is_npz(archive):
            return open_npz(archive, path, mapped.close, budget).verify_with(archive.verify)
        return _open_zip(archive, path, mapped.close, inert, budget)
    if is_tar(data):
        return open_nemo(tar_members(mapped), path, mapped.close, inert, budget, _open_torch)
    if is_legacy(data):
        return open_legacy(mapped, path, mapped.close, inert, budget)
    if is_safetensors(data):
        return open_safetensors(mapped, path, mapped.close, budget)
    raise CheckpointError(f"it is {_guess(bytes(data[:64]))}.")


def _open_torch(
    file: Bytes, path: Path, close: Callable[[], None], inert: Sequence[str], budget: Budget
) -> PickleArchive:
    """Open a torch file in either format."""
    head = bytes(file.view[:64])
    if head.startswith(b"PK\x03\x04"):
        return _open_zip(Zip(file, budget), path, close, inert, budget)
    if is_legacy(file.view):
        return open_legacy(file, path, close, inert, budget)
    raise CheckpointError(f"it is {_guess(head)}.")


def _open_zip(
    archive: Zip, path: Path, close: Callable[[], None], inert: Sequence[str], budget: Budget
) -> PickleArchive:
    prefix = find_prefix(archive)
    if prefix is not None:
        found = open_torch_zip(archive, prefix, path, close, inert, budget)
        found.verify_with(archive.verify)
        return found
    some = ", ".join(safe_text(name) for name in list(archive)[:5])
    if any(name.endswith("/model.json") for name in archive):
        raise CheckpointError(
            "it is a TorchScript archive of torch before 1.4; load it with torch.jit.load and save it again."
        )
    mobile = any(name.endswith("bytecode.pkl") for name in archive)
    raise CheckpointError(
        "it is a model for mobile devices; export the model with torch.jit.save."
        if mobile
        else f"it is a zip file without data.pkl, so it is not a torch file (it contains {some}); if it contains a "
        "weight file, extract that file and use it."
    )


def _guess(head: bytes) -> str:
    for start, description in _UNSUPPORTED_FORMATS.items():
        if head.startswith(start):
            return description
    if head[4:8] == b"PTMF":
        return "a model for mobile devices (FlatBuffers); export it with torch.jit.save instead"
    if head.lstrip()[:5].lower() in (b"<!doc", b"<html"):
        return "a web page, not a weight file; the download went wrong"
    return (
        f"not a file of a known format (it starts with {safe_text(head[:8])}); the known formats are those of "
        "torch.save, torch.jit.save, NeMo, safetensors and numpy.savez"
    )

"""coqui's file of the statistics of mel bands, `mel_stats.pth`. Does not import jax."""

from pathlib import Path

import numpy as np
from jaxtyping import Float32

from jaxvoice.errors import CheckpointError
from jaxvoice.models.xtts_dvae.weights import STATISTICS
from jaxvoice.weights.archive import Archive, ModuleNode, Source, TensorInfo, Tensors
from jaxvoice.weights.formats import open_archive

STATISTICS_FILE = "mel_stats.pth"
"""The statistics of mel bands: a tensor by itself."""
MODEL_FILE = "model.pth"
"""The weights of an XTTS, which contain the statistics, too."""


def read_statistics(path: Path, bands: int) -> Float32[np.ndarray, " mels"]:
    """The statistics of mel bands in the file `path`.

    **Raises:** `CheckpointError` unless the file contains one tensor `(bands,)` of finite numbers that are not zero.
    """
    with open_archive(path) as archive:
        archive.verify()
        infos = archive.tensors.infos()
        shapes = [info.shape for info in infos.values()]
        if shapes != [(bands,)]:
            raise CheckpointError(
                f"{path} contains tensors of the shapes {', '.join(map(str, shapes)) or 'none'}; it should contain one "
                f"of the shape ({bands},), the statistics of the mel bands. Use the file of these weights."
            )
        values = np.array(next(iter(archive.tensors.values())), np.float32)
    if not np.isfinite(values).all() or not values.all():
        raise CheckpointError(
            f"{path} contains NaN, infinity or zero; the statistics of mel bands should be finite and not zero, "
            "because mel spectrograms are divided by them. Restore the file."
        )
    return values


def statistics_beside(folder: Path, bands: int) -> tuple[Float32[np.ndarray, " mels"], Path] | None:
    """The statistics of mel bands in `folder`, and their file: `mel_stats.pth`, or else the weights of the XTTS.

    `None` if there are none.

    **Raises:** `CheckpointError` as `read_statistics`.
    """
    path, model = folder / STATISTICS_FILE, folder / MODEL_FILE
    if path.is_file():
        return read_statistics(path, bands), path
    if not model.is_file():
        return None
    try:
        with open_archive(model) as archive:
            infos = archive.tensors.infos()
            ends = (name for name in infos if name.split(".")[-1] == STATISTICS and infos[name].shape == (bands,))
            name = next(ends, None)
            return None if name is None else (np.array(archive.tensors[name], np.float32), model)
    except CheckpointError:  # the statistics remain unknown
        return None


def as_archive(values: Float32[np.ndarray, " mels"], name: str, path: Path, format: str) -> Archive:
    """An archive of one array in memory, called `name`, which was read from the file `path`."""
    info = TensorInfo(values.shape, values.dtype, name)
    return Archive(Tensors({name: info}, lambda _: values), {}, ModuleNode(), Source(path, format))

"""Model folders of XTTS with a trained decoder: the decoder, and all other parts of another model folder."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxvoice.config import to_dict
from jaxvoice.errors import CheckpointError
from jaxvoice.models.hifigan.generator import Generator
from jaxvoice.models.speaker_encoder.resnet import ResNetSE
from jaxvoice.models.xtts.bundle import DVAE_FOLDER, VOCABULARY_FILE
from jaxvoice.models.xtts.config import XTTSConfig
from jaxvoice.models.xtts.voices import VOICES_FILE
from jaxvoice.models.xtts.weights import DECODER, ENCODER, NAME
from jaxvoice.weights import named_arrays
from jaxvoice.weights.file_writing import write_safetensors
from jaxvoice.weights.formats import open_archive
from jaxvoice.weights.model_folder import WEIGHTS_FILE, weights_sha256, write_config_file


def write_decoder(
    folder: Path,
    source: Path,
    config: XTTSConfig,
    decoder: Generator,
    encoder: ResNetSE | None = None,
    *,
    info: Mapping[str, Any],
) -> None:
    """Write a complete model folder of XTTS with `decoder`, and with the other parts of the model folder `source`.

    Weights of `source` are read and written one after the other, so that a large language model is not in memory. The
    vocabulary and the DVAE are copied, and so are the voices, whose vectors another speaker encoder cannot use.

    **Arguments:** `folder`, which is empty or does not exist; `config`, that of the result; `encoder`, the speaker
    encoder, `None` for that of `source`; `info`, stored in `config.json`.

    **Raises:** `CheckpointError` if `source` is damaged, or `folder` cannot be written.
    """
    new = {f"{DECODER}{name}": np.asarray(array) for name, array in named_arrays(decoder).items()}
    replaced = (DECODER,) if encoder is None else (DECODER, ENCODER)
    if encoder is not None:
        new |= {f"{ENCODER}{name}": np.asarray(array) for name, array in named_arrays(encoder).items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open_archive(source / WEIGHTS_FILE) as archive:
            infos = archive.tensors.infos()
            kept = [name for name in infos if not name.startswith(replaced)]
            specs = {name: (infos[name].shape, np.dtype(infos[name].dtype)) for name in kept}
            specs |= {name: (array.shape, array.dtype) for name, array in new.items()}

            def tensors() -> Iterator[tuple[str, np.ndarray]]:
                for name in kept:
                    yield name, np.asarray(archive.tensors[name])
                yield from new.items()

            write_safetensors(folder / WEIGHTS_FILE, specs, tensors())
        sha256 = weights_sha256(folder)
        write_config_file(folder, family=NAME, config=to_dict(config), info=info, sha256=sha256)
        for name in (VOCABULARY_FILE, *(() if encoder is not None else (VOICES_FILE,))):
            if (source / name).is_file():
                shutil.copyfile(source / name, folder / name)
        if (source / DVAE_FOLDER).is_dir():
            shutil.copytree(source / DVAE_FOLDER, folder / DVAE_FOLDER, dirs_exist_ok=True)
    except OSError as failure:
        raise CheckpointError(
            f"the model folder {folder} cannot be written ({failure.strerror or failure}); free disk space or choose "
            "another folder."
        ) from failure

"""The model whose decoder is trained: an XTTS with its DVAE and its tokenizer."""

from dataclasses import dataclass
from pathlib import Path

from experiments import common
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.models.xtts import XTTS, XTTSConfig
from jaxvoice.models.xtts.bundle import DVAE_FOLDER, VOCABULARY_FILE, untrained_parts
from jaxvoice.models.xtts.family import FAMILY
from jaxvoice.models.xtts.tokenizer import Tokenizer
from jaxvoice.models.xtts_dvae.codec import CodecNetwork
from jaxvoice.models.xtts_dvae.family import FAMILY as DVAE_FAMILY


@dataclass(frozen=True)
class Source:
    """The model whose decoder is trained."""

    folder: Path
    trained: bool
    network: XTTS
    config: XTTSConfig
    codec: CodecNetwork
    tokenizer: Tokenizer


def find_folder(model: str | Path) -> Path:
    """The model folder of `--model`; raises as `common.find_model`."""
    return common.find_model("--model", model, FAMILY, "the run folder of experiments.xtts_gpt")


def load_source(model: Path | None) -> Source:
    """The model of `--model`, with its DVAE and its tokenizer.

    **Raises:** `ConfigError` without the flag; `CheckpointError` for a model without a DVAE or a vocabulary.
    """
    if model is None:
        raise ConfigError("--model is not set; pass the model folder of an XTTS, such as that of experiments.xtts_gpt.")
    folder = find_folder(model)
    network, config = FAMILY.load_network(folder)
    for name, what in ((DVAE_FOLDER, "the DVAE"), (VOCABULARY_FILE, "the vocabulary")):
        if not (folder / name).exists():
            raise CheckpointError(
                f"{folder} has no {name}, {what}, which the training needs; import all files of the model, or pass the "
                "folder of experiments.xtts_gpt."
            )
    tokenizer = Tokenizer.load(folder / VOCABULARY_FILE, max_text=config.gpt.max_text)
    tokenizer.check(config.gpt)
    codec, _ = DVAE_FAMILY.load_network(folder / DVAE_FOLDER)
    return Source(folder, not untrained_parts(folder), network, config, codec, tokenizer)

"""XTTS as a pipeline."""

from pathlib import Path
from typing import Self

from jaxvoice.models.xtts.config import XTTSConfig
from jaxvoice.models.xtts.family import FAMILY
from jaxvoice.models.xtts.network import XTTS
from jaxvoice.pipelines.sources import find_model_folder, print_notices


class XTTSSynthesizer:
    """Text to speech in the voice of a reference.

    **Attributes:** `network` and `config`.
    """

    def __init__(self, network: XTTS, config: XTTSConfig):
        self.network, self.config = network, config

    def __repr__(self) -> str:
        config = self.config
        return f"XTTSSynthesizer({config.output_rate} Hz, {config.gpt.layers} layers, {config.gpt.channels} channels)"

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Load the model at `path`: a model folder, a run folder (its best model), or a Hub id `owner/name`.

        **Raises:** `CheckpointError` or `ConfigError` for a missing or damaged model; `MissingExtraError` for a Hub id
        without the extra `hub`.
        """
        folder = find_model_folder(path)
        print_notices(folder, FAMILY)
        return cls(*FAMILY.load_network(folder))

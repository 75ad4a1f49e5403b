"""The pipeline of voice conversion."""

from pathlib import Path

from jaxvoice.models.hifivc import FAMILY, HiFiVC, HiFiVCConfig
from jaxvoice.pipelines.sources import find_model_folder, print_notices


class VoiceConverter:
    """Converts speech to the voice of a reference recording."""

    def __init__(self, network: HiFiVC, config: HiFiVCConfig):
        self.network, self.config = network, config
        self.mel, self.sample_rate = config.mel, config.mel.sample_rate

    def __repr__(self) -> str:
        return f"VoiceConverter({self.sample_rate} Hz, {self.config.content.dim} content channels)"

    @classmethod
    def load(cls, path: str | Path) -> "VoiceConverter":
        """Load the model from a model folder, a run folder or the Hub; raises `CheckpointError` if there is none."""
        folder = find_model_folder(path)
        print_notices(folder, FAMILY)
        return cls(*FAMILY.load_network(folder))

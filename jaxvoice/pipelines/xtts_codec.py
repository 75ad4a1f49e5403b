"""The DVAE of XTTS as a pipeline: recordings to codes, and codes to mel spectrograms."""

from pathlib import Path
from typing import Any, Self

import equinox as eqx
import numpy as np
from jaxtyping import Float32, Int32

from jaxvoice.config import format_value
from jaxvoice.dsp.resampling import resample
from jaxvoice.errors import ConfigError
from jaxvoice.models.xtts_dvae.codec import CodecNetwork
from jaxvoice.models.xtts_dvae.config import CodecConfig
from jaxvoice.models.xtts_dvae.family import FAMILY
from jaxvoice.pipelines.recordings import read_recording
from jaxvoice.pipelines.sources import find_model_folder, print_notices


class Codec:
    """Recordings to the codes that XTTS predicts, and codes to mel spectrograms.

    **Attributes:** `network` and `config`.
    """

    def __init__(self, network: CodecNetwork, config: CodecConfig):
        self.network, self.config = network, config
        self._encode = eqx.filter_jit(lambda network, audio: network.encode(audio))
        self._decode = eqx.filter_jit(lambda network, codes: network.decode(codes))

    def __repr__(self) -> str:
        dvae = self.config.dvae
        return f"Codec({self.config.mel.sample_rate} Hz, {dvae.codes} codes, {dvae.samples_per_code} samples per code)"

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Load the model at `path`: a model folder, a run folder (its best model), or a Hub id `owner/name`.

        **Raises:** `CheckpointError` or `ConfigError` for a missing or damaged model; `MissingExtraError` for a Hub id
        without the extra `hub`.
        """
        folder = find_model_folder(path)
        print_notices(folder, FAMILY)
        return cls(*FAMILY.load_network(folder))

    def encode(self, audio: Any, sample_rate: float | None = None) -> Int32[np.ndarray, " codes"]:
        """The codes of a recording.

        **Arguments:** `audio`, an array `(samples,)` at `sample_rate` in Hz, an `Audio`, or the path of a file.

        **Raises:** `AudioError` for a recording that cannot be read, or that is silent; `ShapeError` for one that is
        shorter than half a frame of the Fourier transform.
        """
        recording = read_recording(audio, sample_rate, "audio")
        samples = resample(recording.samples, recording.sample_rate, self.config.mel.sample_rate)
        return np.asarray(self._encode(self.network, samples))

    def decode(self, codes: Int32[np.ndarray, " codes"]) -> Float32[np.ndarray, "mels frames"]:
        """The log-mel spectrogram of `codes`.

        **Raises:** `ConfigError` for codes of another shape or type, or outside the code book.
        """
        given, count = np.asarray(codes), self.config.dvae.codes
        whole = given.ndim == 1 and given.size and given.dtype.kind in "iu"
        if not whole or given.min() < 0 or given.max() >= count:
            raise ConfigError(
                f"codes is {format_value(codes)}; it should be an array (codes,) of whole numbers from 0 to "
                f"{count - 1}."
            )
        return np.asarray(self._decode(self.network, given.astype(np.int32))).T

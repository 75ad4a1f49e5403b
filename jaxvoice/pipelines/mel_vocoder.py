"""What the pipelines of all vocoder families have in common."""

import inspect
from pathlib import Path
from typing import Any, Protocol, TypeGuard

import numpy as np
from jaxtyping import Float, Float32

from jaxvoice.data.audio import resample
from jaxvoice.dsp.mel import bucketed_log_mel
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.errors import ConfigError
from jaxvoice.pipelines.argument_checks import validate_audio
from jaxvoice.pipelines.sources import load_with


class MelVocoder(Protocol):
    """A pipeline that converts mel spectrograms to audio, such as `Vocoder`."""

    @property
    def mel(self) -> MelConfig:
        """The mel contract of the input; raises `ConfigError` if the input is no mel spectrogram."""
        ...

    @property
    def sample_rate(self) -> int:
        """Sample rate of the audio in Hz."""
        ...

    def synthesize(self, mel: Any, *, check: bool = True) -> Any:
        """Audio (samples,), `mel.hop_length` samples per frame, of one log-mel spectrogram (mels, frames).

        With `check=False`, values of another scale are accepted.
        """
        ...


def is_mel_vocoder(pipeline: object) -> TypeGuard[MelVocoder]:
    """Whether `pipeline` has `mel`, `sample_rate` and `synthesize`."""
    # Properties are not evaluated, since that of a generator of latents raises an error.
    return not isinstance(pipeline, type) and all(
        inspect.getattr_static(pipeline, name, None) is not None for name in ("mel", "sample_rate", "synthesize")
    )


def load_vocoder(path: str | Path) -> MelVocoder:
    """Load the vocoder at `path`, of any family: a model folder, a run folder or a Hub id.

    **Raises:** `ConfigError` if its pipeline converts no mel spectrograms to audio; otherwise as `jaxvoice.load`.
    """
    found = load_with(path, "synthesize", "a vocoder")
    if not is_mel_vocoder(found):
        raise ConfigError(f"{path}: {type(found).__name__} has no mel or no sample_rate; pass a vocoder.")
    return found


def resynthesize(
    vocoder: MelVocoder, audio: Float[Any, " samples"], rate: float, cond: Float[Any, " cond"] | None = None
) -> Float32[np.ndarray, " samples"]:
    """Convert a recording to a mel spectrogram and back. See `Vocoder.resynthesize`."""
    contract = vocoder.mel
    samples = resample(validate_audio(audio), rate, vocoder.sample_rate)
    mel = bucketed_log_mel(samples, contract, complete=True)
    options = {} if cond is None else {"cond": cond}
    return vocoder.synthesize(mel, **options, check=False)[: len(samples)]

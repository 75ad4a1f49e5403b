"""The interface of vocoder pipelines: mel spectrograms to audio, for any model family."""

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
from jaxvoice.pipelines.sources import load_with_method

Mel = Float32[np.ndarray, "mels frames"]
"""A log-mel spectrogram."""
Waveform = Float32[np.ndarray, " samples"]
"""Audio of one channel, with full scale at 1."""


class MelVocoder(Protocol):
    """A pipeline that converts mel spectrograms to audio, such as `Vocoder`."""

    @property
    def mel(self) -> MelConfig:
        """The mel contract of the input; raises `ConfigError` if the vocoder reads latents."""
        ...

    @property
    def sample_rate(self) -> int:
        """Sample rate of the audio in Hz."""
        ...

    def synthesize(self, mel: Any, *, check: bool = True) -> Any:
        """Convert log-mel spectrograms to audio with `mel.hop_length` samples per frame.

        **Arguments:** `mel`, one spectrogram `(mels, frames)`, or a list of them, of any lengths; `check`, whether the
        scale of the values is checked.

        **Returns:** a new float32 waveform `(samples,)`, or a list of them.
        """
        ...


def is_mel_vocoder(pipeline: object) -> TypeGuard[MelVocoder]:
    """Whether `pipeline` has `mel`, `sample_rate` and `synthesize`."""
    # Properties are not evaluated, since `mel` raises an error if the vocoder reads latents.
    return not isinstance(pipeline, type) and all(
        inspect.getattr_static(pipeline, name, None) is not None for name in ("mel", "sample_rate", "synthesize")
    )


def load_vocoder(path: str | Path) -> MelVocoder:
    """Load the vocoder at `path`, of any family: a model folder, a run folder or a Hub id.

    **Raises:** `ConfigError` if its pipeline is not a `MelVocoder`; otherwise as `jaxvoice.load`.
    """
    found = load_with_method(path, "synthesize", "a vocoder")
    if not is_mel_vocoder(found):
        raise ConfigError(
            f"{path} is a model with the pipeline {type(found).__name__}; it should be a vocoder, whose pipeline has "
            "mel, sample_rate and synthesize."
        )
    return found


def resynthesize(
    vocoder: MelVocoder, audio: Float[Any, " samples"], sample_rate: float, cond: Float[Any, " cond"] | None = None
) -> Waveform:
    """Convert a recording to a mel spectrogram and back. See `Vocoder.resynthesize`."""
    contract = vocoder.mel
    samples = resample(validate_audio(audio), sample_rate, vocoder.sample_rate)
    mel = bucketed_log_mel(samples, contract, complete=True)
    options = {} if cond is None else {"cond": cond}
    return vocoder.synthesize(mel, **options, check=False)[: len(samples)]

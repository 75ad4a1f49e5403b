"""The base class of vocoder pipelines: mel spectrograms to audio, for any model family."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Float32

from jaxvoice.data.audio import resample
from jaxvoice.dsp.framing import Window, bucket_size, equal_size_batches, plan_windows
from jaxvoice.dsp.mel import bucketed_log_mel
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.errors import ConfigError, MelError, warn_caller
from jaxvoice.pipelines.argument_checks import validate_audio, validate_mel
from jaxvoice.pipelines.sources import load_with_pipeline

Mel = Float32[np.ndarray, "mels frames"]
"""A log-mel spectrogram."""
Waveform = Float32[np.ndarray, " samples"]
"""Audio of one channel, with full scale at 1."""

IndexedWindow = tuple[int, Window]
"""A window of the mel with this index."""
RunWindows = Callable[
    [Float32[np.ndarray, "batch frames mels"], Sequence[IndexedWindow]], Float32[np.ndarray, "batch samples"]
]
"""A function that decodes windows of one padded length; the arguments are their frames, and the windows."""

_COMMON = ("self", "mel", "check")  # the arguments of every `synthesize`


class Vocoder(ABC):
    """A vocoder of any model family, for numpy arrays of any length.

    `Vocoder.load` returns the pipeline of the model's family, such as a `HiFiGANVocoder`. A pipeline of a vocoder is a
    subclass with `load`, `mel` and `decode`. If it has options, it also overrides `synthesize`.
    """

    @classmethod
    def load(cls, path: str | Path, **options: Any) -> "Vocoder":
        """Load the vocoder at `path`: a model folder, a run folder (its best model), or a Hub id `owner/name`.

        The licence of the weights is printed to stderr if it is known, and a warning if the model was trained for few
        steps.

        **Arguments:** `options`, keyword arguments of the `load` of the family's pipeline, such as `window`.

        **Raises:** `ConfigError` for a model of another kind, or an option that its pipeline does not have;
        `CheckpointError` or `ConfigError` for a missing or damaged model; `MissingExtraError` for a Hub id without the
        extra `hub`.
        """
        if cls is not Vocoder:
            raise NotImplementedError(f"{cls.__name__} should define load, which returns an instance of this class.")
        return load_with_pipeline(path, cls, "a vocoder", **options)

    @classmethod
    def option_names(cls) -> tuple[str, ...]:
        """The arguments of `synthesize` that this class has and others may not, such as `cond` or `sigma`."""
        return tuple(name for name in inspect.signature(cls.synthesize).parameters if name not in _COMMON)

    @classmethod
    def check_options(cls, options: Mapping[str, Any]) -> None:
        """Raise `ConfigError` for options that `synthesize` does not have, or for invalid values."""
        known = cls.option_names()
        for name in options:
            if name not in known:
                raise ConfigError(
                    f"{cls.__name__} has no option {name!r}; its options are {', '.join(known) or 'none'}. Omit {name} "
                    f"(--{name})."
                )

    @property
    @abstractmethod
    def mel(self) -> MelConfig:
        """The mel contract of the input; raises `ConfigError` if the vocoder reads latents."""

    @property
    def channels(self) -> int:
        """Channels of the input: the number of mel bands or the size of the latents."""
        return self.mel.num_mels

    @property
    def hop_length(self) -> int:
        """Samples of audio per frame."""
        return self.mel.hop_length

    @property
    def sample_rate(self) -> int:
        """Sample rate of the audio in Hz."""
        return self.mel.sample_rate

    @abstractmethod
    def decode(self, mels: Sequence[Mel]) -> Sequence[Waveform]:
        """The audio of each of `mels`, which `synthesize` has checked: float32 `(mels, frames)` of any lengths.

        **Returns:** a new float32 waveform `(frames * hop_length,)` for each mel.
        """

    def synthesize(self, mel: Any, *, check: bool = True) -> Any:
        """Audio of log-mel spectrograms under the contract `self.mel`.

        **Arguments:**

        - `mel`: `(mels, frames)`; or a batch, `(batch, mels, frames)` or a list of `(mels, frames)` of any lengths.
        - `check`: check the scale of the values, not only the shape. Pass `False` to accept a mel spectrogram
            with unusual values.

        **Returns:** float32 waveform `(frames * hop_length,)`; for an array `(batch, mels, frames)` one of shape
        `(batch, samples)`, for a list a list.

        **Raises:** `MelError` for a wrong shape or number of bands, no frames, NaN, or values of another scale. Warns
        with `JaxvoiceWarning` about unusual values.
        """
        return self._decode_each(mel, self.decode, check=check)

    def _decode_each(self, mel: Any, decode: Callable[[list[Mel]], Sequence[Waveform]], *, check: bool) -> Any:
        """The result of `synthesize` for one mel, a batch or a list, whose checked mels `decode` converts."""
        if isinstance(mel, list | tuple):
            return list(decode([self._validated(one, values=check) for one in mel]))
        mel = np.asarray(mel)
        if mel.ndim != 3:
            return decode([self._validated(mel, values=check)])[0]
        if len(mel) == 0:
            raise MelError(f"The batch has shape {mel.shape}; it should contain at least one mel.")
        return np.stack(decode([self._validated(one, values=check) for one in mel]))

    def _validated(self, mel: Any, *, values: bool) -> Mel:
        """`mel` in float32; `values` is whether the scale is checked. Errors and warnings are those of `synthesize`."""
        usable, unusual = validate_mel(mel, self.mel, values=values)
        for line in unusual:
            warn_caller(line)
        return usable

    def resynthesize(self, audio: Float[Any, " samples"], sample_rate: float, **options: Any) -> Waveform:
        """Convert a recording to a mel spectrogram and back. The difference from the recording is the error of the
        vocoder alone.

        **Arguments:** `audio` (samples,), one channel of floats with full scale at 1, at `sample_rate` (Hz); `options`,
        keyword arguments of `synthesize`, such as `cond`.

        **Returns:** float32 waveform at `self.sample_rate` with `ceil(samples * self.sample_rate / sample_rate)`
        samples.

        **Raises:** `AudioError` for several channels, integers, NaN, a rate that is not a positive whole number, or
        audio too short for a frame; `ConfigError` for a vocoder that reads latents, or an option that `synthesize` does
        not have.
        """
        self.check_options(options)
        mel, samples = self._complete_mel(audio, sample_rate)
        synthesize: Callable[..., Any] = self.synthesize  # that of the subclass, with its options
        return synthesize(mel, check=False, **options)[:samples]

    def _complete_mel(self, audio: Float[Any, " samples"], sample_rate: float) -> tuple[Mel, int]:
        """The log-mel spectrogram that covers a recording, and the number of samples of the recording."""
        contract = self.mel
        samples = resample(validate_audio(audio), sample_rate, self.sample_rate)
        return bucketed_log_mel(samples, contract, complete=True), len(samples)

    def log_mel(self, audio: Float[Any, " samples"], sample_rate: float) -> Mel:
        """The log-mel spectrogram `(mels, frames)` of a recording under the contract `self.mel`.

        Arguments and errors are those of `resynthesize`.
        """
        return bucketed_log_mel(resample(validate_audio(audio), sample_rate, self.sample_rate), self.mel)


def decode_in_windows(
    mels: Sequence[Mel], run: RunWindows, *, window: int, context: tuple[int, int], hop_length: int
) -> list[Waveform]:
    """The audio of each of `mels`, decoded by `run` in windows of at most `window` frames.

    Windows are padded with zeros to a few lengths, and windows of one length are decoded as a batch. `context` is the
    number of frames at the left and the right end of a window whose audio is discarded, except at the ends of the mel.
    """
    audio = [np.empty(mel.shape[1] * hop_length, np.float32) for mel in mels]
    pieces = [(index, part) for index, mel in enumerate(mels) for part in plan_windows(mel.shape[1], window, context)]
    # Larger batches gain nothing on a CPU and take more memory.
    room = window if jax.default_backend() == "cpu" else 8 * window
    for size, batch in equal_size_batches(
        pieces, lambda piece: bucket_size(piece[1].frames, window), lambda size: room // size
    ):
        padded = np.zeros((len(batch), size, len(mels[batch[0][0]])), np.float32)
        for row, (index, part) in zip(padded, batch, strict=True):
            row[: part.frames] = mels[index][:, part.start : part.stop].T
        for samples, (index, part) in zip(run(padded, batch), batch, strict=True):
            kept = samples[(part.keep_from - part.start) * hop_length : (part.keep_to - part.start) * hop_length]
            audio[index][part.keep_from * hop_length : part.keep_to * hop_length] = kept
    return audio

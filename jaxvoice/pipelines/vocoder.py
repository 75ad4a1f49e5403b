"""Mel spectrograms or recordings to speech, of any length, in batches or as a stream."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from jaxtyping import Float, Float32

from jaxvoice.config import differences
from jaxvoice.data.audio import resample
from jaxvoice.dsp.mel import bucketed_log_mel
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.errors import ConfigError, MelError
from jaxvoice.models.hifigan.config import HiFiGANConfig, LatentConfig
from jaxvoice.models.hifigan.generator import Generator
from jaxvoice.models.hifigan.weights import load_generator
from jaxvoice.nn import fold_weight_norm, freeze
from jaxvoice.pipelines.checks import usable_audio, usable_conditions, usable_latents, usable_mel, warn_caller
from jaxvoice.pipelines.decoding import decode
from jaxvoice.pipelines.sources import find_model_folder, print_licence
from jaxvoice.pipelines.windows import plan_windows

Mel = Float[np.ndarray, "mels frames"]
Waveform = Float32[np.ndarray, " samples"]
Vector = Float[np.ndarray, " cond"]

_JUDGED_FRAMES = 86  # a second of HiFi-GAN's frames: enough to tell a scale, soon enough to stop a stream


class Vocoder:
    """A HiFi-GAN generator made convenient: numpy in, numpy out, any length, few compilations, bounded memory.

    Inputs are padded to a few lengths, which the generator masks, and long ones are decoded in windows of `window`
    frames that overlap by exactly the receptive field; neither changes the result by more than rounding.

    **Attributes:** `generator` (weight norm folded), `config`, `window`, `context` (the receptive field to the left and
    to the right of a frame, in frames).
    """

    def __init__(self, generator: Generator, config: HiFiGANConfig, *, window: int = 512):
        """**Arguments:** the generator and its configuration; `window`, the frames decoded at once, which memory
        grows with.

        **Raises:** `ConfigError` if the generator was made from another configuration, or the window does not exceed
        the receptive field.
        """
        unlike = differences(generator.config, config.generator)
        if unlike:
            raise ConfigError(f"The generator was made from another configuration: {'; '.join(unlike)}.")
        self.generator = generator
        self.config = config
        self.window = window
        self.context = config.generator.receptive_field
        if window <= sum(self.context):
            raise ConfigError(
                f"window ({window}) must exceed the receptive field of {self.context[0]} + {self.context[1]} frames; "
                "use several times as much."
            )

    @classmethod
    def load(cls, path: str | Path, *, window: int = 512) -> "Vocoder":
        """The vocoder at `path`: a model folder, a run folder (its best model), or a Hub id `owner/name` (extra `hub`).

        Prints the licence of the weights to stderr where it is known.

        **Raises:** `CheckpointError`, `ConfigError` or `MissingExtraError` if there is no model, or a damaged one.
        """
        folder = find_model_folder(path)
        generator, config = load_generator(folder)
        print_licence(folder)
        return cls(generator, config, window=window)

    @property
    def generator(self) -> Generator:
        """The generator, weight norm folded; set another one of the same configuration to hear it instead."""
        return self._generator

    @generator.setter
    def generator(self, generator: Generator) -> None:
        self._generator = fold_weight_norm(generator)
        self._frozen = freeze(self._generator)

    @property
    def mel(self) -> MelConfig:
        """How the mel spectrograms it reads are made; raises `ConfigError` for a generator that reads latents."""
        return self.config.mel_contract

    @property
    def channels(self) -> int:
        """Numbers in a frame of what it reads: mel bands, or the size of the latents."""
        return self.config.generator.num_mels

    @property
    def hop_length(self) -> int:
        """Samples it makes of a frame."""
        return self.config.generator.hop_length

    @property
    def sample_rate(self) -> int:
        """Sample rate of the audio it makes, in Hz."""
        return self.config.mel.sample_rate

    @overload
    def synthesize(
        self, mel: Float[Any, "mels frames"], cond: Float[Any, " cond"] | None = None, *, check: bool = True
    ) -> Waveform: ...

    @overload
    def synthesize(
        self, mel: Sequence[Any], cond: Float[Any, "*batch cond"] | None = None, *, check: bool = True
    ) -> list[Waveform]: ...

    def synthesize(self, mel: Any, cond: Any = None, *, check: bool = True) -> Any:
        """Audio from log-mel spectrograms that follow `self.mel`, or from latents for a generator that reads these.

        **Arguments:**

        - `mel`: `(mels, frames)`; or a batch, `(batch, mels, frames)` or a list of `(mels, frames)` of any lengths.
        - `cond`: conditioning vector `(cond_channels,)` for generators that have one; for a batch also one per mel,
            `(batch, cond_channels)`.
        - `check`: judge the values too, not only the shape; switch it off for mels that look foreign and are not.

        **Returns:** float32 waveform `(frames * hop_length,)` within [-1, 1]; for an array `(batch, mels, frames)` one
        of shape `(batch, samples)`, for a list a list.

        **Raises:** `MelError` for a wrong shape or number of bands, no frames, NaN, or values of another scale;
        `ShapeError` for a conditioning vector that does not fit. Warns with `JaxvoiceWarning` of values that are
        unusual.
        """
        if not isinstance(mel, list | tuple):
            mel = np.asarray(mel)
            if mel.ndim != 3:
                return self._synthesize([mel], cond, check)[0]
            if len(mel) == 0:
                raise MelError(f"The batch of shape {mel.shape} holds no mel; give at least one.")
            return np.stack(self._synthesize(list(mel), cond, check))
        return self._synthesize(mel, cond, check)

    def _synthesize(self, mels: Sequence[Any], cond: Any, check: bool) -> list[Waveform]:
        arrays = [self._checked(mel, values=check) for mel in mels]
        conds = self._conditions(cond, len(arrays))
        audio = [np.empty(mel.shape[1] * self.hop_length, np.float32) for mel in arrays]
        pieces = [
            (index, window)
            for index, mel in enumerate(arrays)
            for window in plan_windows(mel.shape[1], self.window, self.context)
        ]
        hop = self.hop_length
        for (index, window), samples in decode(self._frozen, arrays, pieces, conds, self.window):
            audio[index][window.keep_from * hop : window.keep_to * hop] = samples
        return audio

    def resynthesize(
        self, audio: Float[Any, " samples"], rate: float, cond: Float[Any, " cond"] | None = None
    ) -> Waveform:
        """A recording made into a mel spectrogram and back: what the vocoder alone does to a voice.

        **Arguments:** `audio` (samples,), one channel of floats with full scale at 1; `rate`, its sample rate in Hz;
        `cond` as for `synthesize`.

        **Returns:** float32 waveform at `self.sample_rate`, as long as `audio` is at this rate:
        `ceil(samples * self.sample_rate / rate)` samples.

        **Raises:** `AudioError` for several channels, integers, NaN, a rate that is no whole number from 1 up, or audio
        too short for a frame; `ConfigError` for a generator that reads latents, which no recording gives.
        """
        contract, samples = self.mel, self._resampled(audio, rate)
        mel = bucketed_log_mel(samples, contract, complete=True)
        return self._synthesize([mel], cond, check=False)[0][: len(samples)]

    def log_mel(self, audio: Float[Any, " samples"], rate: float) -> Mel:
        """The log-mel spectrogram `(mels, frames)` of a recording, as `synthesize` reads it; arguments and errors as
        for `resynthesize`."""
        return bucketed_log_mel(self._resampled(audio, rate), self.mel)

    def stream(
        self, mels: Iterable[Float[Any, "mels frames"]], cond: Float[Any, " cond"] | None = None, *, check: bool = True
    ) -> Iterator[Waveform]:
        """Audio while mel spectrograms arrive; all chunks together equal `synthesize` of all mels together.

        **Arguments:** `mels`, chunks `(mels, frames)` of one utterance, each of any number of frames from one up;
        `cond` and `check` as for `synthesize`.

        **Returns:** an iterator over float32 waveforms. The latency is the receptive field to the right,
        `self.context[1]` frames: samples come out once that many frames behind them are known, the rest at the end.
        Chunks of few frames cost more, since `sum(self.context)` frames around each are decoded again.

        **Raises:** `MelError` and `ShapeError` as `synthesize`; the scale is judged once a second of frames is there.
        """
        conds = self._conditions(cond, 1)
        left, right = self.context
        held = np.zeros((self.channels, 0), np.float32)  # frames that still matter
        done = 0  # frames in `held` whose audio has been given
        judged: list[Mel] | None = [] if check else None
        for mel in mels:
            chunk = self._checked(mel, values=False)
            if judged is not None:
                judged.append(chunk)
                if sum(part.shape[1] for part in judged) >= _JUDGED_FRAMES:
                    judged = self._judge(judged)
            held = np.concatenate([held, chunk], axis=1)
            ready = held.shape[1] - right
            if ready > done:
                yield self._span(held, (done, ready), conds)
                dropped = max(0, ready - left)
                held, done = held[:, dropped:], ready - dropped
        if judged:
            self._judge(judged)
        if held.shape[1] > done:
            yield self._span(held, (done, held.shape[1]), conds)

    def _span(self, mel: Mel, wanted: tuple[int, int], conds: list[Vector | None]) -> Waveform:
        pieces = [(0, window) for window in plan_windows(mel.shape[1], self.window, self.context, wanted)]
        parts = decode(self._frozen, [mel], pieces, conds, self.window)
        found = {window.keep_from: samples for (_, window), samples in parts}
        return np.concatenate([found[start] for start in sorted(found)])

    def _judge(self, chunks: list[Mel]) -> None:
        self._checked(np.concatenate(chunks, axis=1), values=True)

    def _checked(self, mel: Any, *, values: bool) -> Mel:
        if isinstance(self.config.mel, LatentConfig):
            return usable_latents(mel, self.channels)
        usable, unusual = usable_mel(mel, self.config.mel, values=values)
        for line in unusual:
            warn_caller(line)
        return usable

    def _conditions(self, cond: Any, count: int) -> list[Vector | None]:
        return usable_conditions(cond, self.config.generator.cond_channels, count)

    def _resampled(self, audio: Any, rate: float) -> Waveform:
        return resample(usable_audio(audio), rate, self.sample_rate)

"""Mel spectrograms or recordings to speech, of any length, in batches or as a stream."""

import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import equinox as eqx
import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Float32, Int

from jaxvoice.config import differences
from jaxvoice.data.audio import resample
from jaxvoice.dsp.contract import check_mel
from jaxvoice.dsp.mel import MelConfig
from jaxvoice.errors import AudioError, ConfigError, JaxvoiceWarning, MelError, ShapeError
from jaxvoice.models.hifigan.config import HiFiGANConfig
from jaxvoice.models.hifigan.generator import Generator
from jaxvoice.models.hifigan.weights import load_generator
from jaxvoice.nn import fold_weight_norm
from jaxvoice.pipelines.features import windowed_log_mel
from jaxvoice.pipelines.sources import find_model_folder, print_licence
from jaxvoice.pipelines.windows import Window, bucket, plan_windows

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
        self.generator = fold_weight_norm(generator)
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
    def mel(self) -> MelConfig:
        """How the mel spectrograms it reads are made."""
        return self.config.mel

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
        """Audio from log-mel spectrograms that follow `self.mel`.

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
        audio = [np.empty(mel.shape[1] * self.mel.hop_length, np.float32) for mel in arrays]
        pieces = [
            (index, window)
            for index, mel in enumerate(arrays)
            for window in plan_windows(mel.shape[1], self.window, self.context)
        ]
        for index, window, samples in self._decode_all(arrays, pieces, conds):
            hop = self.mel.hop_length
            audio[index][window.keep_from * hop : window.keep_to * hop] = samples
        return audio

    def resynthesize(
        self, audio: Float[Any, " samples"], rate: int, cond: Float[Any, " cond"] | None = None
    ) -> Waveform:
        """A recording made into a mel spectrogram and back: what the vocoder alone does to a voice.

        **Arguments:** `audio` (samples,), one channel of floats with full scale at 1; `rate`, its sample rate in Hz;
        `cond` as for `synthesize`.

        **Returns:** float32 waveform at `self.sample_rate`, as long as `audio` is at this rate:
        `ceil(samples * self.sample_rate / rate)` samples.

        **Raises:** `AudioError` for several channels, integers, NaN, a rate below 1, or audio too short for a frame.
        """
        samples = self._resampled(audio, rate)
        # The last samples fill no frame of their own, so silence completes it and is cut off again.
        whole = np.pad(samples, (0, -len(samples) % self.mel.hop_length))
        return self._synthesize([windowed_log_mel(whole, self.mel)], cond, check=False)[0][: len(samples)]

    def log_mel(self, audio: Float[Any, " samples"], rate: int) -> Mel:
        """The log-mel spectrogram `(mels, frames)` of a recording, as `synthesize` reads it; arguments and errors as
        for `resynthesize`."""
        return windowed_log_mel(self._resampled(audio, rate), self.mel)

    def stream(
        self, mels: Iterable[Float[Any, "mels frames"]], cond: Float[Any, " cond"] | None = None
    ) -> Iterator[Waveform]:
        """Audio while mel spectrograms arrive; all chunks together equal `synthesize` of all mels together.

        **Arguments:** `mels`, chunks `(mels, frames)` of one utterance, each of any number of frames from one up;
        `cond` as for `synthesize`.

        **Returns:** an iterator over float32 waveforms. The latency is the receptive field to the right,
        `self.context[1]` frames: samples come out once that many frames behind them are known, the rest at the end.
        Chunks of few frames cost more, since `sum(self.context)` frames around each are decoded again.

        **Raises:** `MelError` and `ShapeError` as `synthesize`; the scale is judged once a second of frames is there.
        """
        conds = self._conditions(cond, 1)
        left, right = self.context
        held = np.zeros((self.mel.num_mels, 0), np.float32)  # frames that still matter
        done = 0  # frames in `held` whose audio has been given
        judged: list[Mel] | None = []
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
        windows = plan_windows(mel.shape[1], self.window, self.context, wanted)
        pieces = [(0, window) for window in windows]
        found = {window.keep_from: samples for _, window, samples in self._decode_all([mel], pieces, conds)}
        return np.concatenate([found[start] for start in sorted(found)])

    def _judge(self, chunks: list[Mel]) -> None:
        self._checked(np.concatenate(chunks, axis=1), values=True)

    def _checked(self, mel: Any, *, values: bool) -> Float32[np.ndarray, "mels frames"]:
        mel = np.asarray(mel)
        judged = mel
        if not values and np.issubdtype(mel.dtype, np.floating):
            # Finite values all at the floor leave only shape, type and NaN to object to.
            judged = np.where(np.isfinite(mel), np.asarray(self.mel.floor, mel.dtype), mel)
        for line in check_mel(judged, self.mel):
            warnings.warn(line, JaxvoiceWarning, stacklevel=4)
        return mel.astype(np.float32, copy=False)

    def _conditions(self, cond: Any, count: int) -> list[Vector | None]:
        """One conditioning vector per mel, or `None` for each where the generator takes none."""
        size = self.config.generator.cond_channels
        if cond is None and not size:
            return [None] * count
        if cond is None or not size:
            wanted = f"takes a conditioning vector of {size} values" if size else "takes no conditioning vector"
            raise ShapeError(f"The generator {wanted}, got {'none' if cond is None else np.shape(cond)}.")
        vectors = np.asarray(cond, np.float32)
        if vectors.shape not in ((size,), (count, size)):
            raise ShapeError(
                f"The conditioning vector has shape {vectors.shape}; expected ({size},), or ({count}, {size}) for one "
                "per mel."
            )
        if not np.isfinite(vectors).all():
            raise ShapeError("The conditioning vector holds NaN or infinity; compute it again.")
        return list(np.broadcast_to(vectors, (count, size)))

    def _resampled(self, audio: Any, rate: int) -> Waveform:
        samples = np.asarray(audio)
        if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
            raise AudioError(
                f"Audio should be floats of shape (samples,) with full scale at 1, got {samples.dtype} of shape "
                f"{samples.shape}; average its channels, and divide 16-bit integers by 32768."
            )
        if not np.isfinite(samples).all():
            bad = int(np.count_nonzero(~np.isfinite(samples)))
            raise AudioError(f"The audio holds NaN or infinity in {bad} of {len(samples)} samples; record it again.")
        return resample(samples, rate, self.sample_rate)

    def _decode_all(
        self, mels: list[Mel], pieces: list[tuple[int, Window]], conds: list[Vector | None]
    ) -> Iterator[tuple[int, Window, Waveform]]:
        """The kept samples of every window `(index of its mel, window)`, those of one length in batches."""
        hop, sizes = self.mel.hop_length, defaultdict(list)
        for piece in pieces:
            sizes[bucket(piece[1].frames, self.window)].append(piece)
        for size, group in sizes.items():
            while group:
                batch = group[: self._batch(size, len(group))]
                del group[: len(batch)]
                padded = np.zeros((len(batch), size, self.mel.num_mels), np.float32)
                for row, (index, window) in zip(padded, batch, strict=True):
                    row[: window.frames] = mels[index][:, window.start : window.stop].T
                lengths = np.array([window.frames for _, window in batch], np.int32)
                vectors = [conds[index] for index, _ in batch]
                stacked = None if vectors[0] is None else np.stack(vectors)  # pyright: ignore[reportArgumentType]
                audio = np.asarray(_decode(self.generator, padded, stacked, lengths))
                for row, (index, window) in zip(audio, batch, strict=True):
                    first, last = window.keep_from - window.start, window.keep_to - window.start
                    yield index, window, row[first * hop : last * hop]

    def _batch(self, size: int, waiting: int) -> int:
        """How many inputs of `size` frames to decode at once: a power of two, so that few programs serve."""
        # A CPU gains nothing from more than a window at a time, and its memory is everybody's.
        room = self.window if jax.default_backend() == "cpu" else 8 * self.window
        most = max(1, min(waiting, room // size))
        return 1 << (most.bit_length() - 1)


@eqx.filter_jit
def _decode(
    generator: Generator,
    mels: Float[Array, "batch frames mels"],
    conds: Float[Array, "batch cond"] | None,
    lengths: Int[Array, " batch"],
) -> Float[Array, "batch samples"]:
    if mels.shape[0] == 1:  # without a batch axis the compiler finds better kernels
        cond = None if conds is None else jnp.squeeze(conds, 0)
        return generator.time_major(jnp.squeeze(mels, 0), cond, jnp.squeeze(lengths, 0)).T
    return jax.vmap(generator.time_major)(mels, conds, lengths)[..., 0]

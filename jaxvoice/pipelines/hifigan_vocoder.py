"""HiFi-GAN as a pipeline: mel spectrograms of any length to audio, in batches or as a stream."""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import equinox as eqx
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Float32, Int

from jaxvoice.config import differences
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.errors import ConfigError
from jaxvoice.models.hifigan.config import HiFiGANConfig, LatentConfig
from jaxvoice.models.hifigan.family import FAMILY
from jaxvoice.models.hifigan.generator import Generator
from jaxvoice.models.hifigan.streaming import generator_stream
from jaxvoice.nn import fold_weight_norm, freeze
from jaxvoice.pipelines.argument_checks import check_seed, validate_conditions, validate_latents
from jaxvoice.pipelines.sources import find_model_folder, print_notices
from jaxvoice.pipelines.stream_session import StreamSession
from jaxvoice.pipelines.vocoder import IndexedWindow, Mel, Vocoder, Waveform, decode_in_windows

_Vector = Float32[np.ndarray, " cond"]

_CHECKED_FRAMES = 86  # one second of HiFi-GAN's frames, enough to recognise a wrong scale early in a stream


class HiFiGANVocoder(Vocoder):
    """A HiFi-GAN generator for numpy arrays of any length, with few compiled programs and bounded memory.

    Inputs are padded to a few lengths, and the generator masks the padding. Long inputs are decoded in windows of
    `window` frames that overlap by the receptive field. Padding and windows change the result by rounding errors only.

    **Attributes:** `generator` (with weight norm folded), `config`, `window`, `context` (the receptive field to the
    left and to the right of a frame, in frames).
    """

    def __init__(self, generator: Generator, config: HiFiGANConfig, *, window: int = 512):
        """**Arguments:** `generator` and its configuration `config`; `window`, the number of frames decoded at once.
        Memory grows with the window.

        **Raises:** `ConfigError` if `generator` has another configuration than `config`, or if the window is not larger
        than the receptive field.
        """
        unlike = differences(generator.config, config.generator)
        if unlike:
            raise ConfigError(
                f"The configuration of the generator differs from config (generator != config: {'; '.join(unlike)}). "
                "Pass the configuration that the generator was built from."
            )
        self.generator = generator
        self.config = config
        self.window = window
        self.context = config.generator.receptive_field
        if window <= sum(self.context):
            raise ConfigError(
                f"window is {window}; it should be larger than the receptive field, {sum(self.context)} frames. Pass "
                "several times this number."
            )

    @classmethod
    def load(cls, path: str | Path, *, window: int = 512) -> "HiFiGANVocoder":
        """Load the vocoder at `path`: a model folder, a run folder (its best model), or a Hub id `owner/name`.

        The licence of the weights is printed to stderr if it is known, and a warning if the model was trained for few
        steps.

        **Raises:** `CheckpointError` or `ConfigError` for a missing or damaged model; `MissingExtraError` for a Hub id
        without the extra `hub`.
        """
        folder = find_model_folder(path)
        generator, config = FAMILY.load_network(folder)
        print_notices(folder, FAMILY)
        return cls(generator, config, window=window)

    def __repr__(self) -> str:
        channels = "latents" if isinstance(self.config.mel, LatentConfig) else "mels"
        return f"HiFiGANVocoder({self.sample_rate} Hz, {self.channels} {channels}, hop {self.hop_length})"

    @property
    def generator(self) -> Generator:
        """The generator with weight norm folded. It can be replaced by one of the same configuration."""
        return self._generator

    @generator.setter
    def generator(self, generator: Generator) -> None:
        self._generator = fold_weight_norm(generator)
        self._frozen = freeze(self._generator)

    @property
    def mel(self) -> MelConfig:
        """The mel contract of the input; raises `ConfigError` for a generator that reads latents."""
        return self.config.mel_contract

    @property
    def channels(self) -> int:
        """Channels of the input: the number of mel bands or the size of the latents."""
        return self.config.generator.in_channels

    @property
    def hop_length(self) -> int:
        """Samples of audio per frame."""
        return self.config.generator.hop_length

    @property
    def sample_rate(self) -> int:
        """Sample rate of the audio in Hz."""
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
        """Audio of log-mel spectrograms under the contract `self.mel`, or of latents if the generator reads these.

        **Arguments:**

        - `mel`: `(mels, frames)`; or a batch, `(batch, mels, frames)` or a list of `(mels, frames)` of any lengths.
        - `cond`: conditioning vector `(cond_channels,)`, if the generator has one; for a batch also one per mel,
            `(batch, cond_channels)`.
        - `check`: check the scale of the values, not only the shape. Pass `False` to accept a mel spectrogram
            with unusual values.

        **Returns:** float32 waveform `(frames * hop_length,)` within [-1, 1]; for an array `(batch, mels, frames)` one
        of shape `(batch, samples)`, for a list a list.

        **Raises:** `MelError` for a wrong shape or number of bands, no frames, NaN, or values of another scale;
        `ShapeError` for a conditioning vector of another shape. Warns with `JaxvoiceWarning` about unusual values.
        """
        return self._decode_each(mel, lambda mels: self.decode(mels, cond), check=check)

    def decode(self, mels: Sequence[Mel], cond: Any = None) -> list[Waveform]:
        """The audio of each of `mels`, which `synthesize` has checked; `cond` as for `synthesize`."""
        conds = self._conditions(cond, len(mels))
        return decode_in_windows(
            mels,
            functools.partial(_decode, self._frozen, conds),
            window=self.window,
            context=self.context,
            hop_length=self.hop_length,
        )

    def stream(
        self, mels: Iterable[Float[Any, "mels frames"]], cond: Float[Any, " cond"] | None = None, *, check: bool = True
    ) -> Iterator[Waveform]:
        """Convert a stream of mel spectrograms to audio, chunk by chunk.

        The concatenated chunks equal the result of `synthesize` for the concatenated mels.

        **Arguments:** `mels`, chunks `(mels, frames)` of one utterance, each of at least one frame; `cond` and `check`
        as for `synthesize`.

        **Returns:** an iterator over float32 waveforms, of whole frames. The latency is the receptive field to the
        right, `self.context[1]` frames. The last samples follow when `mels` ends. No frame is decoded twice: the layers
        keep the inputs that they need again.

        **Raises:** `MelError` and `ShapeError` as `synthesize`; the scale is checked after one second of frames.
        """
        conds = self._conditions(cond, 1)
        vector = None if conds[0] is None else jnp.asarray(conds[0])
        session = StreamSession(generator_stream(self._frozen, vector), self.window)
        delay, hop, right = session.stream.output_delay, self.hop_length, self.context[1]
        audio = np.zeros(0, np.float32)  # decoded samples that were not yielded
        arrived = given = 0
        unchecked: list[Mel] | None = [] if check else None
        for mel in mels:
            chunk = self._validated(mel, values=False)
            if unchecked is not None:
                unchecked.append(chunk)
                if sum(part.shape[1] for part in unchecked) >= _CHECKED_FRAMES:
                    unchecked = self._check_scale(unchecked)
            samples = session(np.ascontiguousarray(chunk.T))[:, 0]
            audio = np.concatenate([audio, samples[max(0, delay - arrived * hop) :]])
            arrived += chunk.shape[1]
            ready = (arrived - right - given) * hop
            if ready > 0:
                yield audio[:ready]
                audio, given = audio[ready:], arrived - right
        if unchecked:
            self._check_scale(unchecked)
        if arrived:
            yield np.concatenate([audio, session.finish()[max(0, delay - arrived * hop) :, 0]])

    @property
    def network_function(self) -> Callable[..., Float[Array, "samples 1"]]:
        """A function `function(generator, *inputs)` of a generator, with or without weight norm, and of
        `network_inputs`."""
        return _generate

    def network_inputs(
        self, audio: Float32[np.ndarray, "channels samples"], sample_rate: int, *, seed: int = 0
    ) -> tuple[Array, ...]:
        """The array that `network_function` takes for a recording: the mel spectrogram `(frames, mels)` of the mean of
        its channels. `seed` has no effect, because a generator takes no noise.

        **Raises:** `AudioError` for NaN, no samples or an invalid sample rate; `ConfigError` for a generator that reads
        latents or has a conditioning vector.
        """
        check_seed(seed)
        if self.config.generator.cond_channels:
            raise ConfigError(
                f"The generator has a conditioning vector of {self.config.generator.cond_channels} channels, which a "
                "recording does not determine. Use a vocoder without one."
            )
        return (jnp.asarray(self._complete_mel(np.mean(audio, axis=0), sample_rate)[0].T),)

    def _check_scale(self, chunks: list[Mel]) -> None:
        self._validated(np.concatenate(chunks, axis=1), values=True)

    def _validated(self, mel: Any, *, values: bool) -> Mel:
        if isinstance(self.config.mel, LatentConfig):
            return validate_latents(mel, self.channels)
        return super()._validated(mel, values=values)

    def _conditions(self, cond: Any, count: int) -> list[_Vector | None]:
        return validate_conditions(cond, self.config.generator.cond_channels, count)


def _generate(generator: Generator, mel: Float[Array, "frames mels"]) -> Float[Array, "samples 1"]:
    return generator(mel)


def _decode(
    generator: Generator,
    conds: Sequence[_Vector | None],
    padded: Float32[np.ndarray, "batch frames mels"],
    windows: Sequence[IndexedWindow],
) -> Float32[np.ndarray, "batch samples"]:
    """The audio of padded windows; `conds` are the conditioning vectors of the mels."""
    lengths = jnp.asarray([window.frames for _, window in windows], jnp.int32)
    vectors = [cond for cond in (conds[index] for index, _ in windows) if cond is not None]
    stacked = jnp.asarray(np.stack(vectors)) if vectors else None
    return np.asarray(_run(generator, jnp.asarray(padded), stacked, lengths))


@eqx.filter_jit
def _run(
    generator: Generator,
    mels: Float[Array, "batch frames mels"],
    conds: Float[Array, "batch cond"] | None,
    lengths: Int[Array, " batch"],
) -> Float[Array, "batch samples"]:
    return generator(mels, conds, length=lengths)[..., 0]

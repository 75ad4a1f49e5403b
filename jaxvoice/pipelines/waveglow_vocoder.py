"""WaveGlow as a pipeline: mel spectrograms of any length to audio, with noise from a seed and the denoiser."""

import functools
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import equinox as eqx
import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Float32, Int, PRNGKeyArray

from jaxvoice.config import differences, format_value
from jaxvoice.dsp.framing import longest_bucket, plan_windows
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.errors import AudioError, ConfigError
from jaxvoice.models.waveglow import denoiser
from jaxvoice.models.waveglow.config import WaveGlowConfig
from jaxvoice.models.waveglow.family import FAMILY
from jaxvoice.models.waveglow.network import WaveGlow, find_non_finite_layer, frame_noise, precompute_inverses
from jaxvoice.nn import freeze
from jaxvoice.pipelines.argument_checks import check_noise_options, check_seed
from jaxvoice.pipelines.sources import find_model_folder, print_notices
from jaxvoice.pipelines.vocoder import IndexedWindow, Mel, Vocoder, Waveform, decode_in_windows

SIGMA, DENOISE = 0.75, 0.04  # of the text-to-speech course that the released model was used in
_DENOISED_FRAMES = 1024  # of a window of the denoiser


class WaveGlowVocoder(Vocoder):
    """A WaveGlow network for numpy arrays of any length, with few compiled programs and bounded memory.

    Inputs are padded to a few lengths, and the network masks the padding, which changes the result by rounding errors
    only. Longer inputs than `window` frames are decoded in windows, of which `overlap` frames at each inner end are
    discarded. The noise of a frame depends on the seed and the number of the frame, not on the windows. If `overlap` is
    at least the receptive field, `max(config.receptive_field)`, windows change the result by rounding errors only. A
    smaller overlap takes less time, and changes samples near the inner ends of windows; see `docs/waveglow.md`.

    **Attributes:** `network` (frozen, with the inverses of its matrices), `config`, `window` and `overlap` in frames.
    """

    def __init__(self, network: WaveGlow, config: WaveGlowConfig, *, window: int = 256, overlap: int = 32):
        """**Arguments:** `network` and its configuration `config`; `window`, the number of frames decoded at once, and
        `overlap`, the number of these that are discarded at each inner end. Memory grows with the window.

        **Raises:** `ConfigError` if `network` has another configuration than `config`, for a window or overlap that is
        not a whole number, a negative `overlap`, or a window not larger than twice the overlap; `CheckpointError` for
        a network whose matrices cannot be inverted, with the name of the layer.
        """
        unlike = differences(network.config, config)
        if unlike:
            raise ConfigError(
                f"The configuration of the network differs from config (network != config: {'; '.join(unlike)}). "
                "Pass the configuration that the network was built from."
            )
        whole = all(isinstance(size, int | np.integer) and not isinstance(size, bool) for size in (window, overlap))
        if not whole or overlap < 0 or window <= 2 * overlap:
            raise ConfigError(
                f"window is {format_value(window)} frames and overlap is {format_value(overlap)}; both should be whole "
                "numbers, overlap at least 0, and window more than twice as long."
            )
        self.network = freeze(precompute_inverses(network))
        self.config = config
        self.window, self.overlap = window, overlap

    @classmethod
    def load(cls, path: str | Path, *, window: int = 256, overlap: int = 32) -> "WaveGlowVocoder":
        """Load the vocoder at `path`: a model folder, a run folder (its best model), or a Hub id `owner/name`.

        The other arguments are those of the class. The licence of the weights is printed to stderr if it is known, and
        a warning if the model was trained for few steps.

        **Raises:** `CheckpointError` or `ConfigError` for a missing or damaged model; `MissingExtraError` for a Hub id
        without the extra `hub`.
        """
        folder = find_model_folder(path)
        network, config = FAMILY.load_network(folder)
        print_notices(folder, FAMILY)
        return cls(network, config, window=window, overlap=overlap)

    def __repr__(self) -> str:
        return f"WaveGlowVocoder({self.sample_rate} Hz, {self.channels} mels, {self.config.channels} channels)"

    @property
    def mel(self) -> MelConfig:
        """The mel contract of the input."""
        return self.config.mel

    @classmethod
    def check_options(cls, options: Mapping[str, Any]) -> None:
        """Raise `ConfigError` for options that `synthesize` does not have, or for invalid values."""
        super().check_options(options)
        check_noise_options(options)
        check_seed(options.get("seed", 0))
        key = options.get("key")
        if key is not None and not (_is_key(key) and key.shape == ()):
            raise ConfigError(
                f"key is {format_value(key)}; it should be one key, such as jax.random.key(0), or None for the key of "
                "seed."
            )

    @overload
    def synthesize(
        self,
        mel: Float[Any, "mels frames"],
        *,
        sigma: float = SIGMA,
        denoise: float = DENOISE,
        seed: int = 0,
        key: PRNGKeyArray | None = None,
        check: bool = True,
    ) -> Waveform: ...

    @overload
    def synthesize(
        self,
        mel: Sequence[Any],
        *,
        sigma: float = SIGMA,
        denoise: float = DENOISE,
        seed: int = 0,
        key: PRNGKeyArray | None = None,
        check: bool = True,
    ) -> list[Waveform]: ...

    def synthesize(
        self,
        mel: Any,
        *,
        sigma: float = SIGMA,
        denoise: float = DENOISE,
        seed: int = 0,
        key: PRNGKeyArray | None = None,
        check: bool = True,
    ) -> Any:
        """Audio of log-mel spectrograms under the contract `self.mel`.

        **Arguments:**

        - `mel`: `(mels, frames)`; or a batch, `(batch, mels, frames)` or a list of `(mels, frames)` of any lengths.
        - `sigma`: standard deviation of the noise, usually below that of training, 1; 0 is no noise.
        - `denoise`: strength of the denoiser, the factor of the spectrum that it subtracts; 0 disables it.
        - `seed` or `key`: seed or `jax.random` key of the noise. All mels of a batch have the same noise, so that the
            result of a mel does not depend on the others.
        - `check`: check the scale of the values, not only the shape. Pass `False` to accept a mel spectrogram
            with unusual values.

        **Returns:** float32 waveform `(frames * hop_length,)`, usually within [-1, 1]; for an array
        `(batch, mels, frames)` one of shape `(batch, samples)`, for a list a list.

        **Raises:** `MelError` for a wrong shape or number of bands, no frames, NaN, or values of another scale;
        `ConfigError` for a negative or infinite `sigma` or `denoise`, or an invalid seed or key; `AudioError`, with
        the name of the layer, if the audio contains NaN or infinity, before or after the denoiser. Warns with
        `JaxvoiceWarning` about unusual values.

        The defaults of `sigma` and `denoise` are those of the text-to-speech course that used the released model.
        """
        options = {"sigma": sigma, "denoise": denoise, "seed": seed, "key": key}
        self.check_options(options)
        return self._decode_each(mel, lambda mels: self.decode(mels, **options), check=check)

    def decode(
        self,
        mels: Sequence[Mel],
        *,
        sigma: float = SIGMA,
        denoise: float = DENOISE,
        seed: int = 0,
        key: PRNGKeyArray | None = None,
    ) -> list[Waveform]:
        """The audio of each of `mels`, which `synthesize` has checked; the options are those of `synthesize`."""
        key = jax.random.key(seed) if key is None else key
        audio = decode_in_windows(
            mels,
            functools.partial(_decode, self.network, sigma, key),
            window=self.window,
            context=(self.overlap, self.overlap),
            hop_length=self.hop_length,
        )
        return [self._denoised(samples, denoise) for samples in audio] if denoise else audio

    @property
    def network_function(self) -> Callable[..., Float[Array, "samples 1"]]:
        """A function `function(network, *inputs)` of a network and of `network_inputs`, without the denoiser."""
        return _generate

    def network_inputs(
        self, audio: Float32[np.ndarray, "channels samples"], sample_rate: int, *, seed: int = 0
    ) -> tuple[Array, ...]:
        """The arrays that `network_function` takes for a recording: the mel spectrogram `(frames, mels)` of the mean of
        its channels, and noise with the default of `sigma`.

        **Raises:** `AudioError` for NaN, no samples or an invalid sample rate; `ConfigError` for an invalid `seed`.
        """
        check_seed(seed)
        mel = jnp.asarray(self._complete_mel(np.mean(audio, axis=0), sample_rate)[0].T)
        return mel, SIGMA * frame_noise(jnp.arange(len(mel)), self.config, key=jax.random.key(seed))

    @cached_property
    def bias(self) -> Float32[np.ndarray, " bins"]:
        """The spectrum that the denoiser subtracts: that of the audio for a mel of zeros without noise.

        Raises `AudioError` if the spectrum contains NaN or infinity.
        """
        bias = np.asarray(denoiser.bias_spectrum(self.network))
        if not np.isfinite(bias).all():
            layer = find_non_finite_layer(self.network, *denoiser.bias_inputs(self.config))
            first = "" if layer is None else f"The first layer with such a result is {layer}. "
            raise AudioError(
                "The audio of the vocoder for a mel of zeros, which the denoiser needs, contains NaN or infinity; it "
                f"should be finite. {first}Check the weights, or disable the denoiser with denoise=0 (--denoise 0)."
            )
        return bias

    def _denoised(self, audio: Waveform, strength: float) -> Waveform:
        """`audio` after the denoiser, in windows of few lengths; equal to the result for the whole by rounding.

        Every window has all the samples that its kept part depends on, and the last one ends with the audio, since the
        STFT reflects the audio at its ends.
        """
        hop, reach = self.hop_length, self.mel.n_fft
        fewest = reach // 2 // hop + 1  # frames that the STFT can reflect
        frames = max(len(audio) // hop, fewest)
        padded = np.pad(audio, (0, frames * hop - len(audio)))
        context = -(-reach // hop)
        size = longest_bucket(frames, max(_DENOISED_FRAMES, 4 * context))
        if size <= 2 * context:  # no room between the contexts
            size = frames
        done, factor = np.empty_like(padded), jnp.float32(strength)
        for window in plan_windows(frames, size, (context, context)):
            part = np.asarray(_denoise(padded[window.start * hop : window.stop * hop], self.bias, factor, self.mel))
            first, last = window.keep_from - window.start, window.keep_to - window.start
            done[window.keep_from * hop : window.keep_to * hop] = part[first * hop : last * hop]
        if not np.isfinite(done).all():
            raise AudioError(
                f"The denoised audio contains NaN or infinity; it should be finite. Its peak before the denoiser is "
                f"{np.abs(audio).max():.3g}, and the strength is {strength:g}. Check the weights, or reduce denoise "
                "(--denoise)."
            )
        return done[: len(audio)]


def _generate(
    network: WaveGlow, mel: Float[Array, "frames mels"], noise: Float[Array, "positions group"]
) -> Float[Array, "samples 1"]:
    return network(mel, noise)


def _decode(
    network: WaveGlow,
    sigma: float,
    key: PRNGKeyArray,
    padded: Float32[np.ndarray, "batch frames mels"],
    windows: Sequence[IndexedWindow],
) -> Float32[np.ndarray, "batch samples"]:
    """The audio of padded windows; raises `AudioError` if that of a window contains NaN or infinity."""
    lengths = jnp.asarray([window.frames for _, window in windows], jnp.int32)
    starts = jnp.asarray([window.start for _, window in windows], jnp.int32)
    audio = np.asarray(_run(network, jnp.asarray(padded), lengths, starts, jnp.float32(sigma), key))
    for row, mel, (_, window) in zip(audio, padded, windows, strict=True):
        if not np.isfinite(row[: window.frames * network.config.mel.hop_length]).all():
            raise _not_finite(network, mel[: window.frames], window.start, sigma, key)
    return audio


@eqx.filter_jit
def _run(
    network: WaveGlow,
    mels: Float[Array, "batch frames mels"],
    lengths: Int[Array, " batch"],
    starts: Int[Array, " batch"],
    sigma: Float[Array, ""],
    key: PRNGKeyArray,
) -> Float[Array, "batch samples"]:
    frames = starts[:, None] + jnp.arange(mels.shape[1])[None]
    return network(mels, sigma * frame_noise(frames, network.config, key=key), length=lengths)[..., 0]


def _not_finite(
    network: WaveGlow, mel: Float32[np.ndarray, "frames mels"], start: int, sigma: float, key: PRNGKeyArray
) -> AudioError:
    """An error that names the first layer whose result is not finite; `start` is the number of the first frame."""
    noise = jnp.float32(sigma) * frame_noise(start + jnp.arange(len(mel)), network.config, key=key)
    layer = find_non_finite_layer(network, jnp.asarray(mel), noise)
    first = "" if layer is None else f"The first layer with such a result is {layer}. "
    return AudioError(
        f"The audio of the vocoder contains NaN or infinity; it should be finite. {first}Check the weights, and the "
        "scale of the mel spectrogram."
    )


def _is_key(value: Any) -> bool:
    return isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


@functools.partial(jax.jit, static_argnames="mel")
def _denoise(
    audio: Float[Array, " samples"], bias: Float[Array, " bins"], strength: Float[Array, ""], mel: MelConfig
) -> Float[Array, " samples"]:
    return denoiser.denoise(audio, bias, mel, strength=strength)

"""The DVAE of XTTS as a pipeline: recordings to codes, and codes to mel spectrograms and audio."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import equinox as eqx
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Float32, Int, Int32

from jaxvoice.config import differences, format_value
from jaxvoice.data.audio import Audio, read_audio, resample
from jaxvoice.dsp.framing import bucket_size, plan_windows
from jaxvoice.dsp.inversion import mel_to_audio
from jaxvoice.dsp.mel_config import PowerMelConfig
from jaxvoice.errors import AudioError, ConfigError, ShapeError, warn_caller
from jaxvoice.models.hifigan.generator import Generator
from jaxvoice.models.xtts_dvae.codec import CodecNetwork
from jaxvoice.models.xtts_dvae.config import CodecConfig
from jaxvoice.models.xtts_dvae.family import FAMILY
from jaxvoice.models.xtts_dvae.front_end import inversion_config, normalized_log_mel
from jaxvoice.nn import freeze
from jaxvoice.pipelines.argument_checks import validate_audio
from jaxvoice.pipelines.recordings import recording_rate
from jaxvoice.pipelines.sources import find_model_folder, print_notices
from jaxvoice.pipelines.vocoder import IndexedWindow, Waveform, decode_in_windows

Codes = Int32[np.ndarray, " codes"]


class Codec:
    """Recordings to the codes that XTTS predicts, and codes to audio.

    In the release, a code stands for 46 ms, and there are 1,024 codes. Recordings and codes have any length: they are
    computed in windows of at most `window` codes with the context that codes depend on, so that memory is bounded.
    Windows change the result by rounding errors only.

    The audio of codes is that of the vocoder that `experiments.xtts_dvae` trains. A model without one, such as an
    imported `dvae.pth`, uses the Griffin-Lim algorithm and prints a warning.

    **Attributes:** `network`, `config` and `window`.
    """

    def __init__(self, network: CodecNetwork, config: CodecConfig, *, window: int = 512):
        """**Arguments:** `network` and its configuration `config`; `window`, the number of codes computed at once.

        **Raises:** `ConfigError` if `network` has another configuration than `config`, or if the window is not larger
        than the context of a code.
        """
        unlike = differences(network.config, config)
        if unlike:
            raise ConfigError(
                f"The configuration of the network differs from config (network != config: {'; '.join(unlike)}). "
                "Pass the configuration that the network was built from."
            )
        if not isinstance(window, int | np.integer) or isinstance(window, bool):
            raise ConfigError(f"window is {format_value(window)}; it should be a whole number of codes.")
        self.network, self.config, self.window = network, config, int(window)
        # Two convolutions in each block, less than one code for those of other rates, and half a frame of the mel.
        half_frame = -(-config.mel.n_fft // 2 // config.dvae.samples_per_code)
        self._context = (2 * config.dvae.blocks + 1) * (config.dvae.kernel_size // 2) + max(1, half_frame)
        receptive = 0 if config.vocoder is None else sum(config.vocoder.receptive_field) // config.dvae.stride + 1
        least = max(2 * self._context, receptive)
        if window <= least:
            raise ConfigError(f"window is {window}; it should be larger than the context of a code, {least} codes.")
        self._frozen = freeze(network)

    @classmethod
    def load(cls, path: str | Path, *, window: int = 512) -> Self:
        """Load the model at `path`: a model folder, a run folder (its best model), or a Hub id `owner/name`.

        The licence of the weights is printed to stderr if it is known, and a warning if the model was trained for few
        steps.

        **Raises:** `CheckpointError` or `ConfigError` for a missing or damaged model; `MissingExtraError` for a Hub id
        without the extra `hub`.
        """
        folder = find_model_folder(path)
        print_notices(folder, FAMILY)
        return cls(*FAMILY.load_network(folder), window=window)

    def __repr__(self) -> str:
        audio = "Griffin-Lim" if self._frozen.vocoder is None else "a vocoder"
        return (
            f"Codec({self.sample_rate} Hz, {self.config.dvae.codes} codes, {self.codes_per_second:.2f} per second, "
            f"{audio})"
        )

    @property
    def sample_rate(self) -> int:
        """Sample rate of the audio in Hz."""
        return self.config.mel.sample_rate

    @property
    def mel(self) -> PowerMelConfig:
        """The mel spectrograms that are encoded and decoded."""
        return self.config.mel

    @property
    def codes_per_second(self) -> float:
        """Codes for a second of audio: 21.53 in the release."""
        return self.sample_rate / self.config.dvae.samples_per_code

    def encode(self, audio: Any, sample_rate: float | None = None) -> Codes:
        """The codes of a recording, one for each `config.dvae.stride` mel frames or part of them.

        Frames are centred, so a recording has `samples // config.mel.hop_length + 1` of them.

        **Arguments:** `audio`, an array `(samples,)` of floats with full scale at 1 at `sample_rate` in Hz, or an
        `Audio` or the path of a file, which contain their rate. The channels of files are averaged.

        **Returns:** int32 `(codes,)`, the same for the same samples: the codes that the release computes for the
        recording alone, except where two vectors are equally near up to rounding.

        **Raises:** `AudioError` for several channels, integers, NaN, no samples, an invalid rate, or audio that is
        shorter than half a frame of the Fourier transform.
        """
        return self._encode(self._samples(audio, sample_rate))

    def decode(self, codes: Int[Any, " codes"], *, samples: int | None = None) -> Waveform:
        """The audio of `codes` at `sample_rate`, in time with the recording.

        **Arguments:** `samples`, the number of samples to return: the first ones. By default and at most, these are
        `config.dvae.samples_per_code` for each code.

        **Returns:** float32 `(samples,)`.

        **Raises:** `ShapeError` for codes that are not whole numbers of shape `(codes,)`, none, or codes outside the
        code book; `ConfigError` for another number of `samples`. Warns with `JaxvoiceWarning` if the model has no
        vocoder.
        """
        given = self._checked(codes)
        most = len(given) * self.config.dvae.samples_per_code
        is_number = isinstance(samples, int | np.integer) and not isinstance(samples, bool)
        if samples is not None and not (is_number and 1 <= samples <= most):
            raise ConfigError(f"samples is {format_value(samples)}; it should be from 1 to {most} for these codes.")
        mel, length = self._normalised_mel(given), most if samples is None else int(samples)
        if self._frozen.vocoder is not None:
            hop, stride = self.config.mel.hop_length, self.config.dvae.stride
            (audio,) = decode_in_windows(
                [mel],
                self._vocode,
                window=self.window * stride,
                context=self._frozen.vocoder.config.receptive_field,
                hop_length=hop,
            )
            return audio[:length]
        warn_caller(
            "The model has no vocoder, so its audio is computed by the Griffin-Lim algorithm and sounds rough. "
            "experiments.xtts_dvae trains a vocoder (--init-from MODEL --dvae-steps 0)."
        )
        contract = inversion_config(self.config.mel)
        # Half a frame is reflected at both ends, so there have to be more samples than that.
        computed = max(length, contract.min_samples + contract.hop_length)
        log_mel = (mel * self._statistics)[:, : contract.num_frames(computed)]
        missing = contract.num_frames(computed) - log_mel.shape[1]
        log_mel = jnp.asarray(np.pad(log_mel, ((0, 0), (0, missing)), mode="edge"))
        return np.asarray(mel_to_audio(log_mel, contract, length=computed))[:length]

    def decode_mel(self, codes: Int[Any, " codes"]) -> Float32[np.ndarray, "mels frames"]:
        """The log-mel spectrogram `(mels, frames)` of `codes`, not divided by the statistics of the model.

        It has `config.dvae.stride` frames for each code, frame i centred at sample `i * config.mel.hop_length`, and
        natural logarithms of the power. Errors are those of `decode`.
        """
        return self._normalised_mel(self._checked(codes)) * self._statistics

    def resynthesize(self, audio: Any, sample_rate: float | None = None) -> Waveform:
        """A recording through its codes. Arguments and errors are those of `encode`.

        **Returns:** float32 `(samples,)` at `self.sample_rate`, as long as the recording.
        """
        samples = self._samples(audio, sample_rate)
        return self.decode(self._encode(samples), samples=len(samples))

    def _samples(self, audio: Any, sample_rate: float | None) -> Waveform:
        """The checked samples of a recording at the rate of the model."""
        audio = read_audio(audio) if isinstance(audio, str | Path) else audio
        rate = recording_rate(sample_rate, audio.sample_rate if isinstance(audio, Audio) else None)
        samples = validate_audio(audio.samples if isinstance(audio, Audio) else audio)
        samples, least = resample(samples, rate, self.sample_rate), self.config.mel.min_samples
        if len(samples) < least:
            raise AudioError(
                f"The audio has a length of {len(samples)} samples at {self.sample_rate} Hz; it should have at least "
                f"{least}, more than half a frame of the Fourier transform. Append silence."
            )
        return samples

    def _encode(self, samples: Waveform) -> Codes:
        size = self.config.dvae.samples_per_code
        count = self.config.dvae.code_count(len(samples))
        codes = np.empty(count, np.int32)
        for part in plan_windows(count, self.window, (self._context, self._context)):
            given = samples[part.start * size : part.stop * size]
            padded = np.pad(given, (0, bucket_size(part.frames, self.window) * size - len(given)))
            found = np.asarray(_encode(self._frozen, jnp.asarray(padded), jnp.asarray(len(given), jnp.int32)))
            codes[part.keep_from : part.keep_to] = found[part.keep_from - part.start : part.keep_to - part.start]
        return codes

    def _normalised_mel(self, codes: Codes) -> Float32[np.ndarray, "mels frames"]:
        stride = self.config.dvae.stride
        mel = np.empty((self.config.mel.num_mels, len(codes) * stride), np.float32)
        for part in plan_windows(len(codes), self.window, (self._context, self._context)):
            given = codes[part.start : part.stop]
            padded = np.pad(given, (0, bucket_size(part.frames, self.window) - len(given)))
            found = np.asarray(_decode(self._frozen, jnp.asarray(padded), jnp.asarray(len(given), jnp.int32)))
            first, last = ((at - part.start) * stride for at in (part.keep_from, part.keep_to))
            mel[:, part.keep_from * stride : part.keep_to * stride] = found[first:last].T
        return mel

    def _vocode(
        self, padded: Float32[np.ndarray, "batch frames mels"], windows: Sequence[IndexedWindow]
    ) -> Float32[np.ndarray, "batch samples"]:
        lengths = jnp.asarray([part.frames for _, part in windows], jnp.int32)
        assert self._frozen.vocoder is not None
        return np.asarray(_vocode(self._frozen.vocoder, jnp.asarray(padded), lengths))

    @property
    def _statistics(self) -> Float32[np.ndarray, "mels 1"]:
        return np.asarray(self.network.mel_stats)[:, None]

    def _checked(self, codes: Any) -> Codes:
        given, count = np.asarray(codes), self.config.dvae.codes
        if given.ndim != 1 or not given.size or given.dtype.kind not in "iu":
            raise ShapeError(
                f"codes has shape {given.shape} and type {given.dtype}; it should be whole numbers of shape (codes,), "
                "with at least one code, as `encode` returns them."
            )
        outside = given[(given < 0) | (given >= count)]
        if outside.size:
            raise ShapeError(
                f"codes contains {outside[0]}; codes should be from 0 to {count - 1}, the vectors of the code book. "
                "The start and stop codes of a language model have no vectors; leave them out."
            )
        return given.astype(np.int32)


@eqx.filter_jit
def _encode(network: CodecNetwork, audio: Float[Array, " samples"], length: Int[Array, ""]) -> Int32[Array, " codes"]:
    """The codes of padded audio. The last of the centred frames has no code of its own."""
    config = network.config
    mel = normalized_log_mel(audio, network.mel_stats, config.mel, length=length)[:-1]
    return network.dvae.encode(mel, length=jnp.minimum(length // config.mel.hop_length + 1, mel.shape[0]))


@eqx.filter_jit
def _decode(network: CodecNetwork, codes: Int[Array, " codes"], length: Int[Array, ""]) -> Float[Array, "frames mels"]:
    return network.dvae.decode(codes, length=length)


@eqx.filter_jit
def _vocode(
    vocoder: Generator, mels: Float[Array, "batch frames mels"], lengths: Int[Array, " batch"]
) -> Float[Array, "batch samples"]:
    return vocoder(mels, length=lengths)[..., 0]

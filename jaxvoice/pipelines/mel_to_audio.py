"""Conversion of a model's mel spectrograms to audio, with a vocoder of the same mel contract or with Griffin-Lim."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxvoice.config import differences
from jaxvoice.dsp.inversion import mel_to_audio
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.errors import AudioError, ConfigError, MelError, ShapeError, warn_caller
from jaxvoice.pipelines.argument_checks import check_seed
from jaxvoice.pipelines.vocoder import Mel, Vocoder, Waveform

AnyVocoder = Vocoder | Callable[[Any], Any] | str | Path | None
"""A vocoder, its path or Hub id, a function from mel to audio, or `None` for Griffin-Lim."""

# Griffin-Lim runs on windows of this many frames, padded to a multiple of the step. Adjacent windows are cross-faded.
_WINDOW, _STEP, _FADE = 1024, 256, 16


class MelToAudio:
    """Converts mel spectrograms that follow the mel contract `contract` to audio.

    The audio has `frames * hop_length` samples within [-1, 1]. Louder samples of a vocoder are clipped.

    **Arguments:**

    - `vocoder`: a `Vocoder`, or the path or Hub id of one; or a function from mel (mels, frames) to audio (samples,)
        or (1, samples); or `None` for Griffin-Lim. If a function has an attribute `mel` that is a `MelConfig`, this is
        the mel contract of its input.
    - `contract`: the mel contract of the spectrograms.
    - `options`: keyword arguments of the vocoder's `synthesize`, such as `sigma`.

    The frames of a vocoder with HiFi-GAN's contract (`center=False`) are half a hop later than those of a model with
    WaveGlow's contract (`center=True`). For these two, frame `m` of the vocoder's input is the mean of the log-mel
    frames `m` and `m + 1`, and the last frame is unchanged. This is an approximation; its error is half that of passing
    the frames unchanged.

    **Raises:** `MelError`, listing the differences, if the vocoder reads another mel contract; `ConfigError` for
    options that the vocoder does not have. Warns with `JaxvoiceWarning` if frames are averaged.
    """

    def __init__(self, vocoder: AnyVocoder, contract: MelConfig, options: Mapping[str, Any] | None = None):
        if isinstance(vocoder, str | Path):
            vocoder = Vocoder.load(vocoder)
        if vocoder is not None and not isinstance(vocoder, Vocoder) and not callable(vocoder):
            raise ConfigError(
                f"vocoder has type {type(vocoder).__name__}; it should be a Vocoder, the path or Hub id of one, a "
                "function from mel to audio, or None for Griffin-Lim."
            )
        self.vocoder = vocoder
        self._options = dict(options or {})
        if isinstance(vocoder, Vocoder):
            vocoder.check_options(self._options)
        elif self._options:
            raise ConfigError(
                f"The vocoder options are {', '.join(self._options)}; there should be none, because only a Vocoder has "
                "options. Pass a vocoder (--vocoder), or omit them."
            )
        self._contract = contract
        reads = getattr(vocoder, "mel", None)
        self._averages = isinstance(reads, MelConfig) and _averages_frames(contract, reads)

    def __call__(self, mels: Sequence[Mel], *, seed: int = 0) -> list[Waveform]:
        """Audio of each of `mels`; `seed` is the seed of Griffin-Lim's initial phases, or of the noise of a vocoder.

        A `Vocoder` receives all mels as one list, so it can decode them in batches.

        **Raises:** `ShapeError` if the vocoder returns another number of samples; `AudioError` if the vocoder returns
        NaN or infinity; `MelError` for mels with NaN or infinity; `ConfigError` for an invalid seed.
        """
        check_seed(seed)
        if not all(_finite(mel) for mel in mels):
            raise MelError(
                "A mel spectrogram contains NaN or infinity; it should be finite. Check the weights of the model."
            )
        inputs = list(map(self.vocoder_input, mels))
        if self.vocoder is None:
            return [_clipped(_griffin_lim(mel, self._contract, seed)) for mel in inputs]
        if isinstance(self.vocoder, Vocoder):
            seeded = {"seed": seed} if "seed" in self.vocoder.option_names() else {}
            waveforms = self.vocoder.synthesize(inputs, check=False, **{**seeded, **self._options})
        else:
            waveforms = (np.array(self.vocoder(mel)) for mel in inputs)  # a function may reuse its buffer
        return [_clipped(self._with_length(audio, mel)) for audio, mel in zip(waveforms, inputs, strict=True)]

    def __repr__(self) -> str:
        name = "Griffin-Lim" if self.vocoder is None else repr(self.vocoder)
        return f"MelToAudio({name}, {self._contract.sample_rate} Hz, hop {self._contract.hop_length})"

    def vocoder_input(self, mel: Mel) -> Mel:
        """The input of the vocoder for `mel`: with adjacent frames averaged if the vocoder's are half a hop later."""
        return shift_half_hop(mel) if self._averages else mel

    def _with_length(self, audio: Any, mel: Mel) -> Waveform:
        """`audio` in float32, cut or padded to one hop per frame of `mel`.

        **Raises:** `ShapeError` if its length differs by more than a window of the STFT.
        """
        samples, wanted = np.asarray(audio), mel.shape[1] * self._contract.hop_length
        if samples.ndim == 2 and len(samples) == 1:
            samples = samples[0]
        if samples.ndim != 1 or abs(len(samples) - wanted) > self._contract.n_fft:
            raise ShapeError(
                f"The audio that the vocoder returned for a mel of shape {mel.shape} has shape {samples.shape}; it "
                f"should have shape ({wanted},), {self._contract.hop_length} samples per frame."
            )
        samples = samples[:wanted].astype(np.float32, copy=False)
        return np.pad(samples, (0, wanted - len(samples))) if len(samples) < wanted else samples


def shift_half_hop(mel: Mel) -> Mel:
    """The mean of the log-mel frames `m` and `m + 1` as frame `m`; the last frame is unchanged."""
    later = np.array(mel, np.float32)
    later[:, :-1] += mel[:, 1:]
    later[:, :-1] *= np.float32(0.5)
    return later


def _averages_frames(made: MelConfig, read: MelConfig) -> bool:
    """Whether adjacent frames are averaged for a vocoder that reads `read` and a model that predicts `made`.

    **Raises:** `MelError` if the contracts differ in anything but their centring and the magnitude floor.
    """
    unlike = differences(made, read)
    alike = dataclasses.replace(made, center=read.center, magnitude_floor=read.magnitude_floor) == read
    if not alike or (read.center and not made.center):
        raise MelError(
            f"The vocoder and the model have different mel contracts (model != vocoder: {'; '.join(unlike)}). "
            "Use a vocoder of the model's mel contract, or None for Griffin-Lim."
        )
    if made.center == read.center:
        return False
    warn_caller(
        f"The vocoder reads frames half a hop later than those of the model (model != vocoder: {'; '.join(unlike)}). "
        "It receives the mean of adjacent frames, which is an approximation. Fine-tune the vocoder on the model's "
        "mels, or train both with one mel contract."
    )
    return True


def _clipped(audio: Waveform) -> Waveform:
    """`audio` clipped to [-1, 1], in place if possible; raises `AudioError` if it contains NaN or infinity."""
    if not _finite(audio):
        raise AudioError("The audio of the vocoder contains NaN or infinity; it should be finite. Check its weights.")
    return np.clip(audio, -1, 1, out=audio if audio.flags.writeable else None)


def _finite(values: np.ndarray) -> bool:
    # The extremes of a long recording take no memory; one flag per value would.
    return bool(np.isfinite(values.min(initial=0)) and np.isfinite(values.max(initial=0)))


def _griffin_lim(mel: Mel, contract: MelConfig, seed: int) -> Waveform:
    """Griffin-Lim in windows of bounded size, with bounded memory and few compiled programs."""
    hop, frames = contract.hop_length, mel.shape[1]
    audio = np.zeros(frames * hop, np.float32)
    fade = np.linspace(0, 1, _FADE * hop, dtype=np.float32)
    start = 0
    while True:
        stop = min(frames, start + _WINDOW)
        # At least one frame of silence is appended, since a centred contract gives one hop less audio than frames.
        size = (stop - start) // _STEP * _STEP + _STEP
        padded = np.full((len(mel), size), contract.floor, np.float32)
        padded[:, : stop - start] = mel[:, start:stop]
        part = np.array(_invert(padded, jax.random.key(seed), contract))[: (stop - start) * hop]
        if start:
            part[: len(fade)] *= fade
            audio[start * hop :][: len(fade)] *= 1 - fade
        audio[start * hop : stop * hop] += part
        if stop == frames:
            return audio
        start = stop - _FADE


_invert = jax.jit(lambda mel, key, contract: mel_to_audio(mel, contract, key=key), static_argnums=2)

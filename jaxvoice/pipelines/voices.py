"""What turns the mel spectrograms of one model into audio: a vocoder of the same mel contract, or Griffin-Lim."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float32

from jaxvoice.config import differences
from jaxvoice.dsp.inversion import mel_to_audio
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.errors import AudioError, ConfigError, MelError, ShapeError
from jaxvoice.pipelines.checks import warn_caller
from jaxvoice.pipelines.vocoder import Vocoder

Mel = Float32[np.ndarray, "mels frames"]
Waveform = Float32[np.ndarray, " samples"]
AnyVocoder = Vocoder | Callable[[Any], Any] | str | Path | None

# Griffin-Lim takes as many frames at a time, padded to a multiple of the step, and neighbours fade into each other.
_WINDOW, _STEP, _FADE = 1024, 256, 16


class Voice:
    """Mel spectrograms that follow `contract` to audio of exactly `frames * hop_length` samples within [-1, 1].

    What a vocoder makes beyond is clipped.

    **Arguments:** `vocoder`: a `Vocoder`, or the path or Hub id of one; a function from mel (mels, frames) to audio
    (samples,) or (1, samples), whose attribute `mel`, if it is a `MelConfig`, says what it reads; `None` for
    Griffin-Lim.

    A vocoder that reads frames half a hop later (HiFi-GAN's flavour, `center=False`) than the model makes them
    (WaveGlow's flavour, `center=True`) is given the mean of the logarithms of frames `m` and `m + 1` for frame `m`, the
    last frame as it is: an approximation that halves the error of giving them as they are.

    **Raises:** `MelError` if a vocoder reads mels of another contract, with what differs. Warns with `JaxvoiceWarning`
    where frames are averaged.
    """

    def __init__(self, vocoder: AnyVocoder, contract: MelConfig):
        if isinstance(vocoder, str | Path):
            vocoder = Vocoder.load(vocoder)
        if vocoder is not None and not isinstance(vocoder, Vocoder) and not callable(vocoder):
            raise ConfigError(
                f"A vocoder should be a Vocoder, its path, a function from mel to audio, or None for Griffin-Lim; got "
                f"{type(vocoder).__name__}."
            )
        self.vocoder = vocoder
        self._contract = contract
        reads = getattr(vocoder, "mel", None)
        self._averages = isinstance(reads, MelConfig) and _must_average(contract, reads)

    def __call__(self, mels: Sequence[Mel], *, seed: int = 0) -> list[Waveform]:
        """Audio of each of `mels`; `seed` draws the phases that Griffin-Lim starts from.

        **Raises:** `ShapeError` or `AudioError` if a function gives something other than as much audio; `AudioError` if
        any vocoder makes no numbers; `MelError` for mels that hold none; `ConfigError` as `check_seed`.
        """
        check_seed(seed)
        if not all(_finite(mel) for mel in mels):
            raise MelError("A mel spectrogram holds NaN or infinity; check the weights of the model that made it.")
        if isinstance(self.vocoder, Vocoder):
            return [_clipped(audio) for audio in self.vocoder.synthesize(list(map(self.given, mels)), check=False)]
        if self.vocoder is None:
            return [_clipped(_griffin_lim(mel, self._contract, seed)) for mel in map(self.given, mels)]
        return [self._fitted(self.vocoder(mel), mel) for mel in map(self.given, mels)]

    def given(self, mel: Mel) -> Mel:
        """What the vocoder is given for `mel`: neighbouring frames averaged where it reads the other flavour."""
        return half_a_hop_later(mel) if self._averages else mel

    def _fitted(self, audio: Any, mel: Mel) -> Waveform:
        samples, wanted = np.asarray(audio), mel.shape[1] * self._contract.hop_length
        if samples.ndim == 2 and len(samples) == 1:
            samples = samples[0]
        if samples.ndim != 1 or abs(len(samples) - wanted) > self._contract.n_fft:
            raise ShapeError(
                f"The vocoder made audio of shape {samples.shape} from a mel of shape {mel.shape}; it should be "
                f"({wanted},), {self._contract.hop_length} samples for each frame."
            )
        fitted = np.zeros(wanted, np.float32)
        fitted[: len(samples)] = samples[:wanted]
        return _clipped(fitted)


def check_seed(seed: Any) -> None:
    """Nothing for a seed that random numbers can be drawn with; raises `ConfigError` for others."""
    whole = isinstance(seed, int | np.integer) and not isinstance(seed, bool)
    if not whole or not -(2**63) <= seed < 2**63:
        raise ConfigError(f"seed should be a whole number from -2**63 to 2**63 - 1, got {seed!r}.")


def half_a_hop_later(mel: Mel) -> Mel:
    """The mean of the logarithms of frames `m` and `m + 1` for every `m`, the last frame as it is."""
    later = np.array(mel, np.float32)
    later[:, :-1] += mel[:, 1:]
    later[:, :-1] *= np.float32(0.5)
    return later


def _must_average(made: MelConfig, read: MelConfig) -> bool:
    """Whether frames are to be averaged; raises `MelError` if the contracts differ in more than flavour."""
    unlike = differences(made, read)
    alike = dataclasses.replace(made, center=read.center, magnitude_floor=read.magnitude_floor) == read
    if not alike or (read.center and not made.center):
        raise MelError(
            f"The vocoder reads other mel spectrograms than the model makes (model != vocoder: {'; '.join(unlike)}); "
            "use a vocoder of the model's mel contract, or None for Griffin-Lim."
        )
    if made.center == read.center:
        return False
    warn_caller(
        f"The vocoder reads mel spectrograms of another flavour than the model makes (model != vocoder: "
        f"{'; '.join(unlike)}); it is given the mean of neighbouring frames, which is close but not the same. "
        "Fine-tune the vocoder on the model's mels, or train both on one flavour."
    )
    return True


def _clipped(audio: Waveform) -> Waveform:
    """`audio` within [-1, 1]: the same array where it is there already, or can be written to; raises `AudioError` if it
    holds NaN or infinity."""
    if not _finite(audio):
        raise AudioError("The vocoder made audio that holds NaN or infinity; check its weights.")
    if audio.size and (audio.min() < -1 or audio.max() > 1):
        return np.clip(audio, -1, 1, out=audio if audio.flags.writeable else None)
    return audio


def _finite(values: np.ndarray) -> bool:
    # Unlike a flag for each value, the extremes cost no memory, and tell as much.
    return bool(np.isfinite(values.min(initial=0)) and np.isfinite(values.max(initial=0)))


def _griffin_lim(mel: Mel, contract: MelConfig, seed: int) -> Waveform:
    """Griffin-Lim in windows of bounded size, so that neither memory nor the number of programs grows."""
    hop, frames = contract.hop_length, mel.shape[1]
    audio = np.zeros(frames * hop, np.float32)
    fade = np.linspace(0, 1, _FADE * hop, dtype=np.float32)
    start = 0
    while True:
        stop = min(frames, start + _WINDOW)
        # A frame of silence at least, since a centred contract gives a hop less audio than frames.
        size = (stop - start) // _STEP * _STEP + _STEP
        padded = np.full((len(mel), size), contract.floor, np.float32)
        padded[:, : stop - start] = mel[:, start:stop]
        part = np.array(_inverted(padded, contract, seed))[: (stop - start) * hop]
        if start:
            part[: len(fade)] *= fade
            audio[start * hop :][: len(fade)] *= 1 - fade
        audio[start * hop : stop * hop] += part
        if stop == frames:
            return audio
        start = stop - _FADE


def _inverted(mel: Mel, contract: MelConfig, seed: int) -> Any:
    return _invert(mel, jax.random.key(seed), contract)


_invert = jax.jit(lambda mel, key, contract: mel_to_audio(mel, contract, key=key), static_argnums=2)

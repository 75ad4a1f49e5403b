"""The validation of WaveGlow: the likelihood of held-out recordings, and synthesis from their mel spectrograms."""

from types import MappingProxyType
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Float32, Int, PRNGKeyArray

from jaxvoice.data.store import Store
from jaxvoice.dsp.framing import bucket_size, plan_windows
from jaxvoice.dsp.mel import bucketed_log_mel
from jaxvoice.models.waveglow.config import WaveGlowConfig
from jaxvoice.models.waveglow.network import WaveGlow, bits_per_sample, frame_noise
from jaxvoice.training.provenance import describe_held_out
from jaxvoice.training.task import Sample, ValidationResult

METRICS = MappingProxyType(
    {
        "bits_per_sample": "negative log-likelihood of held-out recordings in bits per sample, for samples in [-1, 1]",
        "mel_l1": "mean absolute difference of log-mels up to the Nyquist frequency, of recordings and their synthesis",
    }
)
"""Metrics that can select the best model; lower is better."""
_WINDOW, _SMALLEST, _LONGEST = 256, 64, 2**20  # frames


def dequantize(
    audio: Float[Array, "*batch samples"], step: Float[Array, "*batch 1"], *, key: PRNGKeyArray
) -> Float[Array, "*batch samples"]:
    """`audio` with uniform noise of one integer step, `step` in units of `audio`, centred at 0.

    The density of the result, averaged over the noise, bounds the probability of the integers (arXiv 1511.01844,
    section 3.1).
    """
    return audio + step * jax.random.uniform(key, audio.shape, audio.dtype, -0.5, 0.5)


class _Utterance(NamedTuple):
    name: str
    audio: Float32[np.ndarray, " samples"]
    """Whole frames of the recording."""
    step: float
    """The value of one integer step."""
    inputs: Float32[np.ndarray, "mels frames"]
    """The mel spectrogram that the network reads."""
    target: Float32[np.ndarray, "mels frames"]
    """The mel spectrogram up to the Nyquist frequency."""


class _Place(NamedTuple):
    """The place of a window in a recording, in frames."""

    start: Int[Array, ""]
    """Its first frame."""
    frames: Int[Array, ""]
    """Its number of frames, without padding."""
    keep_from: Int[Array, ""]
    """The first of its frames whose results are kept."""
    keep_to: Int[Array, ""]
    """The end of these."""


class Validation:
    """The likelihood of held-out recordings, and the mel L1 between them and a synthesis from their mels.

    Recordings are evaluated over their whole length. Long recordings are evaluated in windows with all the samples that
    a result depends on, which bounds the memory and changes the result by rounding errors only. `bits_per_sample` is
    the mean over all samples. The noise of the synthesis, and that which is added with `add_noise`, are the same in
    every validation.

    **Arguments:**

    - `store`: held-out recordings. Its mels, if it has them, replace those of the recordings.
    - `config`: the network.
    - `sigma`: standard deviation of the latents in the likelihood.
    - `synthesis_sigma`: standard deviation of the noise of the synthesis.
    - `add_noise`: add uniform noise of one integer step to the recordings before the likelihood is computed.
    - `samples`: number of recordings whose synthesis is written as a sample.

    **Raises:** `AudioError` for a recording that is too short for a mel frame.
    """

    def __init__(
        self,
        store: Store,
        config: WaveGlowConfig,
        *,
        sigma: float = 1.0,
        synthesis_sigma: float = 0.75,
        add_noise: bool = False,
        samples: int = 4,
    ):
        self.config, self._samples, self._add_noise = config, samples, add_noise
        self._sigma, self._synthesis_sigma = sigma, synthesis_sigma
        self.held_out: dict[str, Any] = describe_held_out(store)
        self._utterances = [self._utterance(store, row) for row in range(len(store))]

    def _utterance(self, store: Store, row: int) -> _Utterance:
        mel, stored = self.config.mel, store["mel"][row] if "mel" in store else None
        audio = store.waveform(row)
        inputs = bucketed_log_mel(audio, mel) if stored is None else stored
        # The last of the centred frames is the condition of samples after the last whole frame.
        frames = min(len(audio) // mel.hop_length, inputs.shape[1])
        audio = audio[: frames * mel.hop_length]
        target, name = bucketed_log_mel(audio, mel.full_band()), store.corpus.utterances[row].id
        return _Utterance(name, audio, float(store["gain"][row]), inputs[:, :frames], target)

    def __call__(self, network: WaveGlow) -> ValidationResult:
        """The metrics `METRICS`, and samples of the first recordings with their mel spectrograms."""
        bits, errors, samples = [], [], []
        for row, utterance in enumerate(self._utterances):
            likelihood, made = self._evaluate(network, utterance, jax.random.key(row))
            bits.append(likelihood)
            if not np.isfinite(made).all():
                errors.append(np.nan)
                continue
            generated = bucketed_log_mel(made, self.config.mel.full_band())
            errors.append(float(np.abs(generated - utterance.target).mean(dtype=np.float64)))
            if row < self._samples:
                pictures = {"target": utterance.target, "generated": generated}
                rate = self.config.mel.sample_rate
                samples.append(Sample(utterance.name, made, rate, pictures, target=utterance.audio))
        mean = float(np.average(bits, weights=[len(utterance.audio) for utterance in self._utterances]))
        return ValidationResult({"bits_per_sample": mean, "mel_l1": float(np.mean(errors))}, samples)

    def _evaluate(
        self, network: WaveGlow, utterance: _Utterance, key: PRNGKeyArray
    ) -> tuple[float, Float32[np.ndarray, " samples"]]:
        """The bits per sample of a recording, and a synthesis from its mel spectrogram."""
        hop, context = self.config.mel.hop_length, max(self.config.receptive_field)
        frames, size = utterance.inputs.shape[1], max(_WINDOW, 4 * context)
        noise_key, key = jax.random.fold_in(key, 0), jax.random.fold_in(key, 1)
        audio = np.pad(utterance.audio, (0, (bucket_size(frames, _LONGEST) - frames) * hop))
        if self._add_noise:
            step = jnp.asarray([utterance.step], jnp.float32)
            audio = np.asarray(_dequantize(jnp.asarray(audio), step, key=noise_key))
        bits, weights, made = [], [], np.empty(frames * hop, np.float32)
        for window in plan_windows(frames, size, (context, context)):
            extra = max(_SMALLEST, bucket_size(window.frames, size)) - window.frames
            mel = np.pad(utterance.inputs[:, window.start : window.stop].T, ((0, extra), (0, 0)))
            samples = np.pad(audio[window.start * hop : window.stop * hop], (0, extra * hop))
            first, last = window.keep_from - window.start, window.keep_to - window.start
            place = _Place(*(jnp.asarray(one, jnp.int32) for one in (window.start, window.frames, first, last)))
            inputs = jnp.asarray(mel), place
            bits.append(float(_bits_per_sample(network, jnp.asarray(samples), *inputs, self._sigma)))
            weights.append(last - first)
            part = np.asarray(_synthesize(network, *inputs, key, self._synthesis_sigma))
            made[window.keep_from * hop : window.keep_to * hop] = part[first * hop : last * hop]
        return float(np.average(bits, weights=weights)), made


_dequantize = eqx.filter_jit(dequantize)


@eqx.filter_jit
def _bits_per_sample(
    network: WaveGlow,
    audio: Float[Array, " samples"],
    mel: Float[Array, "frames mels"],
    place: _Place,
    sigma: float,
) -> Float[Array, ""]:
    latents = network.encode(audio[:, None], mel, length=place.frames)
    frame = jnp.arange(latents.log_scales.shape[0]) // network.config.positions_per_frame
    return bits_per_sample(latents.select((frame >= place.keep_from) & (frame < place.keep_to)), sigma=sigma)


@eqx.filter_jit
def _synthesize(
    network: WaveGlow, mel: Float[Array, "frames mels"], place: _Place, key: PRNGKeyArray, sigma: float
) -> Float[Array, " samples"]:
    noise = frame_noise(place.start + jnp.arange(mel.shape[0]), network.config, key=key)
    return network(mel, sigma * noise, length=place.frames)[:, 0]

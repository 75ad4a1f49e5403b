"""The validation of WaveGlow: the likelihood of held-out recordings, and synthesis from their mel spectrograms."""

from types import MappingProxyType
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Float32, Int, PRNGKeyArray

from jaxvoice.data.store import Store
from jaxvoice.dsp.framing import bucket_size
from jaxvoice.dsp.mel import bucketed_log_mel
from jaxvoice.models.waveglow.config import WaveGlowConfig
from jaxvoice.models.waveglow.network import WaveGlow, bits_per_sample
from jaxvoice.training.provenance import describe_held_out
from jaxvoice.training.task import Sample, ValidationResult

METRICS = MappingProxyType(
    {
        "bits_per_sample": "negative log-likelihood of held-out recordings in bits per sample, for samples in [-1, 1]",
        "mel_l1": "mean absolute difference of log-mels up to the Nyquist frequency, of recordings and their synthesis",
    }
)
"""Metrics that can select the best model; lower is better."""
_LARGEST, _SMALLEST = 2**20, 64  # frames


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


class Validation:
    """The likelihood of held-out recordings, and the mel L1 between them and a synthesis from their mels.

    Recordings are evaluated over their whole length. `bits_per_sample` is the mean over all samples. The noise of the
    synthesis, and that which is added with `add_noise`, are the same in every validation.

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
            key, (frames, hop) = jax.random.key(row), (utterance.inputs.shape[1], self.config.mel.hop_length)
            extra = max(_SMALLEST, bucket_size(frames, _LARGEST)) - frames
            mel = jnp.asarray(np.pad(utterance.inputs.T, ((0, extra), (0, 0))))
            audio = jnp.asarray(np.pad(utterance.audio, (0, extra * hop)))
            step = jnp.asarray([utterance.step if self._add_noise else 0.0], jnp.float32)
            length = jnp.asarray(frames, jnp.int32)
            bits.append(float(_bits_per_sample(network, audio, step, mel, length, key, self._sigma)))
            made = np.asarray(_synthesize(network, mel, length, key, self._synthesis_sigma))[: frames * hop]
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


@eqx.filter_jit
def _bits_per_sample(
    network: WaveGlow,
    audio: Float[Array, " samples"],
    step: Float[Array, "1"],
    mel: Float[Array, "frames mels"],
    length: Int[Array, ""],
    key: PRNGKeyArray,
    sigma: float,
) -> Float[Array, ""]:
    audio = dequantize(audio, step, key=jax.random.fold_in(key, 0))
    return bits_per_sample(network.encode(audio[:, None], mel, length=length), sigma=sigma)


@eqx.filter_jit
def _synthesize(
    network: WaveGlow, mel: Float[Array, "frames mels"], length: Int[Array, ""], key: PRNGKeyArray, sigma: float
) -> Float[Array, " samples"]:
    group = network.config.group
    shape = (mel.shape[0] * network.config.mel.hop_length // group, group)
    noise = sigma * jax.random.normal(jax.random.fold_in(key, 1), shape)
    return network(mel, noise, length=length)[:, 0]

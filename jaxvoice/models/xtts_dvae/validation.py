"""The validation of the DVAE of XTTS and of its vocoder on held-out recordings."""

import functools as ft
from types import MappingProxyType
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Int, Int32

from jaxvoice.data.store import Store
from jaxvoice.dsp.framing import bucket_size
from jaxvoice.dsp.inversion import mel_to_audio
from jaxvoice.dsp.mel_config import PowerMelConfig
from jaxvoice.models.xtts_dvae.codec import CodecNetwork
from jaxvoice.models.xtts_dvae.front_end import inversion_config, normalized_log_mel
from jaxvoice.training.provenance import describe_held_out
from jaxvoice.training.task import Sample, ValidationResult

METRICS = MappingProxyType(
    {
        "mel_l1": "mean absolute difference of the log-mels of recordings and of their decoded codes; while the "
        "vocoder is trained, of its audio",
        "decoded_l1": "the same of the decoded codes, in all phases",
        "reconstruction": "mean squared difference of the normalised log-mels of recordings and of their decoded codes",
        "code_usage": "share of the code book in the codes of all held-out recordings",
        "perplexity": "exponential of the entropy of these codes: the size of a code book whose codes are used equally",
    }
)
"""Metrics of validations; `mel_l1` selects the best model, and lower is better."""
_LONGEST = 2**20


def usage_and_perplexity(counts: Int[np.ndarray, " codes"]) -> tuple[float, float]:
    """The share of codes that occur, and the exponential of the entropy of their distribution in nats."""
    shares = counts[counts > 0] / max(counts.sum(), 1)
    return float(np.count_nonzero(counts) / len(counts)), float(np.exp(-np.sum(shares * np.log(shares))))


class _Evaluated(NamedTuple):
    """Results for a padded recording; the first frames, codes and samples are valid."""

    target: Float[Array, "frames mels"]
    decoded: Float[Array, "frames mels"]
    codes: Int32[Array, " codes"]
    audio: Float[Array, " samples"] | None
    generated: Float[Array, "frames mels"] | None


class Validation:
    """Recordings through codes, over their whole length.

    **Arguments:** `store`, held-out recordings; those without a frame are left out; `config`, the mel spectrograms of
    the DVAE; `samples`, the number of recordings that are written as samples.
    """

    def __init__(self, store: Store, config: PowerMelConfig, *, samples: int = 4):
        self.config, self._samples = config, samples
        self.held_out: dict[str, Any] = describe_held_out(store)
        self._recordings = [
            (store.corpus.utterances[row].id, store.waveform(row))
            for row in range(len(store))
            if len(store["audio"][row]) >= config.min_samples
        ]

    def __call__(self, network: CodecNetwork) -> ValidationResult:
        """The metrics `METRICS` and samples: audio of the vocoder or, without one, of Griffin-Lim."""
        config, count = self.config, network.config.dvae.codes
        stats = np.asarray(network.mel_stats)
        sums, values, counts, samples = dict.fromkeys(("mel_l1", "decoded_l1", "reconstruction"), 0.0), 0, 0, []
        counts = np.zeros(count, np.int64)
        for name, audio in self._recordings:
            frames = config.num_frames(len(audio))
            padded = np.pad(audio, (0, bucket_size(frames, _LONGEST) * config.hop_length - len(audio)))
            found = _evaluate(network, jnp.asarray(padded), jnp.asarray(len(audio)))
            target, decoded = (np.asarray(part, np.float64)[:frames] for part in (found.target, found.decoded))
            generated = decoded if found.generated is None else np.asarray(found.generated, np.float64)[:frames]
            sums["reconstruction"] += np.square(target - decoded).sum()
            sums["decoded_l1"] += np.abs((target - decoded) * stats).sum()
            sums["mel_l1"] += np.abs((target - generated) * stats).sum()
            values += target.size
            counts += np.bincount(np.asarray(found.codes)[: -(-frames // network.config.dvae.stride)], minlength=count)
            if len(samples) < self._samples:
                heard = self._audio(found, decoded * stats, len(audio))
                mels = {"target": target, "decoded": decoded, "generated": generated}
                if found.generated is None:
                    del mels["decoded"]
                pictures = {title: np.asarray((mel * stats).T, np.float32) for title, mel in mels.items()}
                samples.append(Sample(name, heard, config.sample_rate, pictures, target=audio))
        metrics = {name: float(total / max(values, 1)) for name, total in sums.items()}
        usage, perplexity = usage_and_perplexity(counts)
        return ValidationResult({**metrics, "code_usage": usage, "perplexity": perplexity}, samples)

    def _audio(
        self, found: _Evaluated, decoded: Float[np.ndarray, "frames mels"], samples: int
    ) -> Float[np.ndarray, " samples"]:
        if found.audio is not None:
            return np.asarray(found.audio)[:samples]
        if not np.isfinite(decoded).all():
            return np.zeros(samples, np.float32)
        mel = jnp.asarray(decoded.T, jnp.float32)
        audio = np.asarray(mel_to_audio(mel, inversion_config(self.config), 32, length=samples))
        return audio / max(1.0, float(np.abs(audio).max(initial=0.0)))


@eqx.filter_jit
def _evaluate(network: CodecNetwork, audio: Float[Array, " samples"], length: Int[Array, ""]) -> _Evaluated:
    config = network.config
    mel_of = ft.partial(normalized_log_mel, statistics=network.mel_stats, config=config.mel, length=length)
    target, frames = mel_of(audio), length // config.mel.hop_length + 1
    found = network.dvae(target, length=frames)
    if network.vocoder is None:
        return _Evaluated(target, found.mel, found.quantized.codes, None, None)
    made = network.vocoder(found.mel, length=frames)[: audio.shape[0], 0]
    return _Evaluated(target, found.mel, found.quantized.codes, made, mel_of(made))

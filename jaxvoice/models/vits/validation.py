"""The validation of VITS: held-out recordings through posterior and decoder, and their texts as speech."""

import zlib
from collections.abc import Iterable
from types import MappingProxyType
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Float32, Int, PRNGKeyArray, UInt32

from jaxvoice.data.batches import ColumnBatch
from jaxvoice.data.buckets import choose_shapes, column_batches_in_order
from jaxvoice.data.store import Store
from jaxvoice.dsp.mel import bucketed_log_mel
from jaxvoice.losses import masked_mean
from jaxvoice.models.vits.alignment_search import alignment_search, expand, log_likelihoods
from jaxvoice.models.vits.config import VITSConfig
from jaxvoice.models.vits.losses import kl_loss
from jaxvoice.models.vits.network import VITS, whole_durations
from jaxvoice.models.vits.objective import StepInputs, mels_of, step_inputs
from jaxvoice.nn import length_mask
from jaxvoice.training.provenance import describe_held_out
from jaxvoice.training.task import Sample, ValidationResult

METRICS = MappingProxyType(
    {
        "mel_l1": "mean absolute difference of log-mels of held-out recordings and their decoded latents",
        "kl": "divergence of the posterior from the prior per frame of held-out recordings; it may be negative",
    }
)
"""Metrics that can select the best model; lower is better."""


class _Spoken(NamedTuple):
    """Texts of a batch as speech."""

    audio: Float[Array, "batch samples"]
    frame_count: Int[Array, " batch"]


class Validation:
    """The metrics `METRICS` on held-out utterances, and the speech of some of their texts.

    The noise is the same in every validation: that of the posterior, as in training, and that of the speech, with the
    scales of `config.sampling`.

    **Arguments:** `store`, held-out utterances with the columns of `training_columns`; `config`, the model; `samples`,
    the number of texts that are spoken; `batch_size`, the number of utterances that are evaluated at a time.
    """

    def __init__(self, store: Store, config: VITSConfig, *, samples: int = 4, batch_size: int = 4):
        self.config, self._store, self._samples = config, store, samples
        self.held_out: dict[str, Any] = describe_held_out(store)
        columns = ("audio", "tokens")
        multiples = {"audio": 128 * config.mel.hop_length, "tokens": 32}
        fixed = ("gain", *(name for name in ("speaker", "language") if name in store))
        # One shape, because programs take longer to compile than to run.
        shapes = choose_shapes(store, columns, 1, multiples=multiples)
        self._batch_size = min(batch_size, len(store))
        batches = column_batches_in_order(store, self._batch_size, columns, fixed, shapes)
        self._batches = [(rows, jax.tree.map(jnp.asarray, batch)) for rows, batch in batches]

    def __call__(self, network: VITS) -> ValidationResult:
        """The metrics, and the speech of the first texts with its mel spectrograms."""
        sums, frames, samples = np.zeros(2), 0, {}
        for rows, batch in self._batches:
            errors, counts = _evaluate(network, batch, jnp.asarray(self._seeds(rows)))
            real = len(rows)
            sums += np.asarray(errors)[:, :real] @ np.asarray(counts)[:real]
            frames += int(np.asarray(counts)[:real].sum())
            if any(row < self._samples for row in rows):
                spoken = _speak(network, batch, jax.random.key(0))
                for place, row in enumerate(rows):
                    if row < self._samples:
                        end = int(spoken.frame_count[place]) * self.config.mel.hop_length
                        samples[row] = self._sample(int(row), np.asarray(spoken.audio[place])[:end])
        metrics = dict(zip(METRICS, (sums / frames).tolist(), strict=True))
        return ValidationResult(metrics, [samples[row] for row in sorted(samples)])

    def _seeds(self, rows: Iterable[int]) -> UInt32[np.ndarray, " batch"]:
        """Seeds of the posterior's noise, one per utterance, so that metrics do not depend on the batches."""
        ids = [self._store.corpus.utterances[int(row)].id for row in rows]
        seeds = np.array([zlib.crc32(name.encode()) for name in ids], np.uint32)
        return np.pad(seeds, (0, self._batch_size - len(seeds)))

    def _sample(self, row: int, audio: Float32[np.ndarray, " samples"]) -> Sample:
        mel, target = self.config.mel, self._store.waveform(row)
        pictures = {"recording": bucketed_log_mel(target, mel)}
        if len(audio) >= mel.min_samples and np.isfinite(audio).all():
            pictures["speech"] = bucketed_log_mel(audio, mel)
        name = self._store.corpus.utterances[row].id
        return Sample(name, audio, mel.sample_rate, pictures, others={"recording": target})


@eqx.filter_jit
def _evaluate(
    network: VITS, batch: ColumnBatch, seeds: UInt32[Array, " batch"]
) -> tuple[Float[Array, "2 batch"], Int[Array, " batch"]]:
    """The metrics of each utterance, and its number of frames."""
    inputs, config = step_inputs(batch, network.config), network.config
    shape = (inputs.spectrogram.shape[1], config.channels)
    noise = jax.vmap(lambda seed: jax.random.normal(jax.random.key(seed), shape))(seeds)
    encoded = network.encode(
        inputs.tokens,
        inputs.spectrogram,
        noise,
        inputs.speaker,
        inputs.language,
        token_count=inputs.token_count,
        frame_count=inputs.frame_count,
        inference=True,
    )
    audio = network.waveform_decoder(encoded.z, encoded.conditions.speaker, length=inputs.frame_count)[..., 0]
    mels = mels_of(audio, config)
    prior = encoded.text.prior
    scores = log_likelihoods(encoded.z_p, prior.mean, prior.log_scale)
    durations = alignment_search(scores, token_count=inputs.token_count, frame_count=inputs.frame_count)
    mean, log_std = (expand(x, durations, encoded.z_p.shape[1]) for x in prior)

    def of_row(
        mel: Float[Array, "frames mels"],
        target: Float[Array, "frames mels"],
        z_p: Float[Array, "frames channels"],
        log_q: Float[Array, "frames channels"],
        mean: Float[Array, "frames channels"],
        log_p: Float[Array, "frames channels"],
        count: Int[Array, ""],
    ) -> Float[Array, " 2"]:
        mask = length_mask(count, target.shape[0])
        distance = masked_mean(jnp.abs(mel - target), jnp.broadcast_to(mask[:, None], target.shape))
        return jnp.stack([distance, kl_loss(z_p, log_q, mean, log_p, mask=mask)])

    rows = jax.vmap(of_row)(
        mels, inputs.mel, encoded.z_p, encoded.posterior.log_scale, mean, log_std, inputs.frame_count
    )
    return rows.T, inputs.frame_count


@eqx.filter_jit
def _speak(network: VITS, batch: ColumnBatch, key: PRNGKeyArray) -> _Spoken:
    """The texts of `batch` as speech of at most twice as many frames as the longest recording."""
    inputs: StepInputs = step_inputs(batch, network.config)
    sampling, config = network.config.sampling, network.config
    durations_key, noise_key = jax.random.split(key)
    conditions = network.conditions(inputs.speaker, inputs.language, inputs.tokens.shape[:1])
    text = network.encode_text(inputs.tokens, conditions, token_count=inputs.token_count, inference=True)
    noise = sampling.duration_noise_scale * jax.random.normal(durations_key, (*inputs.tokens.shape, 2))
    logs = network.log_durations(text, noise, conditions)
    durations = whole_durations(logs, text.mask, length_scale=sampling.length_scale)
    shape = (len(inputs.tokens), 2 * inputs.spectrogram.shape[1], config.channels)
    latents = network.latents(text, durations, sampling.noise_scale * jax.random.normal(noise_key, shape), conditions)
    return _Spoken(network.decode(latents, conditions)[..., 0], latents.frame_count)

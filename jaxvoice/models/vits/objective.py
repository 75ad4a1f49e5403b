"""One step of VITS without its updates: the inputs, the random numbers, the generated segment, and the losses."""

from typing import NamedTuple

import jax
from jax import numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxvoice.data.batches import ColumnBatch
from jaxvoice.dsp.mel import linear_spectrogram, log_mel, log_mel_of_linear
from jaxvoice.losses import discriminator_loss
from jaxvoice.models.hifigan.discriminators import DiscriminatorOutput
from jaxvoice.models.speaker_encoder import SpeakerNetwork
from jaxvoice.models.speaker_encoder.consistency import audible, speaker_similarity, with_gradient
from jaxvoice.models.vits.alignment_search import alignment_search, expand, log_likelihoods
from jaxvoice.models.vits.config import VITSConfig
from jaxvoice.models.vits.discriminators import VITSDiscriminators
from jaxvoice.models.vits.losses import Losses, LossWeights, adversarial_losses, kl_loss
from jaxvoice.models.vits.network import VITS
from jaxvoice.models.vits.segments import random_starts, take_segments
from jaxvoice.nn import length_mask, masked
from jaxvoice.training.training_state import Precision


class StepInputs(NamedTuple):
    """What a step computes from a batch: utterances with their text, and the spectrograms of their recordings."""

    tokens: Int[Array, "batch tokens"]
    token_count: Int[Array, " batch"]
    audio: Float[Array, "batch samples"]
    """The recordings, of whole frames, with full scale at 1."""
    spectrogram: Float[Array, "batch frames bins"]
    """Linear spectrograms of the whole utterances, zero in padding."""
    mel: Float[Array, "batch frames mels"]
    """Log-mels of the whole utterances, zero in padding."""
    frame_count: Int[Array, " batch"]
    speaker: Array | None
    """Ids or vectors of the speakers, as `VITS` takes them."""
    language: Int[Array, " batch"] | None


class StepNoise(NamedTuple):
    """The random numbers of a step, except for those of dropout."""

    posterior: Float[Array, "batch frames channels"]
    durations: Float[Array, "batch tokens 2"]
    starts: Int[Array, " batch"]
    """The first frame of the segment of each utterance."""


class Generated(NamedTuple):
    """The outputs of the generator, of which the losses are functions."""

    audio: Float[Array, "batch samples"]
    """The segments."""
    kl: Float[Array, ""]
    """The divergence of the posterior from the prior."""
    durations: Float[Array, ""]
    """The loss of the duration predictor per token."""


class Recorded(NamedTuple):
    """The segments of the recordings, and their log-mels."""

    audio: Float[Array, "batch samples"]
    mel: Float[Array, "batch frames mels"]


def step_inputs(batch: ColumnBatch, config: VITSConfig) -> StepInputs:
    """The inputs of a step for a batch with the columns `audio`, `gain` and `tokens`, and where the model has them,
    `speaker` and `language`."""
    columns, mel = {name: jnp.asarray(column) for name, column in batch.columns.items()}, config.mel
    audio = columns["audio"].astype(jnp.float32) * columns["gain"][:, None]
    spectrogram = jax.vmap(lambda row: linear_spectrogram(row, mel))(audio)
    frame_count = jnp.asarray(batch.lengths["audio"], jnp.int32) // mel.hop_length
    mask = length_mask(frame_count, spectrogram.shape[2])
    spectrogram = jnp.where(mask[:, None], spectrogram, 0)
    mels = jax.vmap(lambda row: log_mel_of_linear(row, mel))(spectrogram)
    return StepInputs(
        columns["tokens"],
        jnp.asarray(batch.lengths["tokens"], jnp.int32),
        audio[:, : mask.shape[1] * mel.hop_length],
        spectrogram.swapaxes(1, 2),
        masked(mels.swapaxes(1, 2), mask),
        frame_count,
        columns.get("speaker"),
        columns.get("language"),
    )


def mels_of(audio: Float[Array, "batch samples"], config: VITSConfig) -> Float[Array, "batch frames mels"]:
    """Log-mels of audio, channels last."""
    return jax.vmap(lambda row: log_mel(row, config.mel))(audio).swapaxes(1, 2)


def draw_noise(inputs: StepInputs, config: VITSConfig, *, key: PRNGKeyArray) -> StepNoise:
    """The random numbers of a step for `key`."""
    posterior_key, durations_key, starts_key = jax.random.split(key, 3)
    frames = (*inputs.spectrogram.shape[:2], config.channels)
    return StepNoise(
        jax.random.normal(posterior_key, frames),
        jax.random.normal(durations_key, (*inputs.tokens.shape, 2)),
        random_starts(inputs.frame_count, config.segment_frames, key=starts_key),
    )


def recorded_segments(inputs: StepInputs, starts: Int[Array, " batch"], config: VITSConfig) -> Recorded:
    """The segments that begin at the frames `starts`; positions after the end are zero."""
    hop, frames = config.mel.hop_length, config.segment_frames
    audio = take_segments(inputs.audio[..., None], starts * hop, frames * hop)[..., 0]
    return Recorded(audio, take_segments(inputs.mel, starts, frames))


def generate(
    network: VITS,
    inputs: StepInputs,
    noise: StepNoise,
    *,
    precision: Precision = "float32",
    inference: bool = False,
    key: PRNGKeyArray | None = None,
) -> Generated:
    """The generator's forward pass: the posterior of the recordings, its alignment with the text, and a segment.

    `precision` is that of the networks' computation. `key` is for dropout, which `inference` disables.
    """
    text_key, durations_key = (None, None) if key is None else jax.random.split(key)
    encoded = network.encode(
        inputs.tokens,
        inputs.spectrogram.astype(precision),
        noise.posterior,
        inputs.speaker,
        inputs.language,
        token_count=inputs.token_count,
        frame_count=inputs.frame_count,
        inference=inference,
        key=text_key,
    )
    prior, frames = encoded.text.prior, encoded.z_p.shape[1]
    scores = log_likelihoods(encoded.z_p, prior.mean, prior.log_scale)
    durations = alignment_search(scores, token_count=inputs.token_count, frame_count=inputs.frame_count)
    mean, log_std = (expand(x, durations, frames) for x in prior)
    kl = kl_loss(encoded.z_p, encoded.posterior.log_scale, mean, log_std, mask=encoded.frame_mask)
    of_durations = network.duration_loss(
        encoded, durations.astype(jnp.float32), noise.durations, inference=inference, key=durations_key
    )
    tokens = jnp.maximum(jnp.sum(encoded.text.mask, dtype=jnp.float32), 1)
    audio = network.decode_segment(encoded, noise.starts, dtype=precision)
    return Generated(audio[..., 0].astype(jnp.float32), kl, jnp.sum(of_durations) / tokens)


def discriminators_loss(
    discriminators: VITSDiscriminators, recorded: Recorded, generated: Generated, *, precision: Precision = "float32"
) -> Float[Array, ""]:
    """The loss of the discriminators for recorded and generated segments."""
    # Both are stacked on a second batch axis, so that each device keeps its own examples.
    both = discriminate(discriminators, jnp.stack([recorded.audio, generated.audio], 1), precision=precision)
    return discriminator_loss([one.logits[:, 0] for one in both], [one.logits[:, 1] for one in both])


def generator_losses(
    discriminators: VITSDiscriminators | None,
    recorded: Recorded,
    generated: Generated,
    weights: LossWeights,
    config: VITSConfig,
    *,
    speaker_encoder: SpeakerNetwork | None = None,
    precision: Precision = "float32",
) -> tuple[Losses, Losses]:
    """The weighted losses of the generator by name, and metrics for the log.

    **Arguments:** `discriminators`, `None` for a step without them; `speaker_encoder`, for the speaker consistency
    loss, `None` for a step without it.
    """
    losses: Losses = {"kl": weights.kl * generated.kl, "durations": weights.durations * generated.durations}
    metrics: Losses = {"kl": generated.kl, "durations": generated.durations}
    if discriminators is not None:
        real = jax.lax.stop_gradient(discriminate(discriminators, recorded.audio, precision=precision))
        fake = discriminate(discriminators, generated.audio, precision=precision)
        losses |= adversarial_losses(real, fake, weights)
        metrics |= {name: losses[name] for name in ("adversarial", "feature")}

    def mel_loss(audio: Float[Array, "batch samples"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
        distance = jnp.mean(jnp.abs(recorded.mel - mels_of(audio, config)))
        return weights.mel * distance, distance

    losses["mel"], metrics["mel_l1"], mel_gradient = with_gradient(mel_loss, generated.audio)
    if speaker_encoder is not None:

        def speaker_loss(audio: Float[Array, "batch samples"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
            rate = config.mel.sample_rate
            similarity = speaker_similarity(speaker_encoder, recorded.audio, audio, sample_rate=rate)
            return -weights.speaker * similarity, similarity

        losses["speaker"], similarity, gradient = with_gradient(speaker_loss, generated.audio)
        metrics |= {"speaker_similarity": similarity, "speaker_gradient": gradient, "mel_gradient": mel_gradient}
        metrics["compared_segments"] = jnp.sum(audible(recorded.audio), dtype=jnp.float32)
    return losses, metrics


def discriminate(
    discriminators: VITSDiscriminators, audio: Float[Array, "*batch samples"], *, precision: Precision
) -> list[DiscriminatorOutput]:
    """The outputs of all discriminators for `audio`."""
    return discriminators(audio.astype(precision)[..., None])

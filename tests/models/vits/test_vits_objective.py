"""The parts of the objective of VITS compared with sums in numpy: segments of recordings, and the loss of durations."""

from dataclasses import replace
from types import SimpleNamespace

import equinox as eqx
import jax
import numpy as np
from jax import numpy as jnp

from jaxvoice.models.vits.config import DurationConfig
from jaxvoice.models.vits.duration_predictors import DurationPredictor
from jaxvoice.models.vits.network import VITS, Conditions, Encoded
from jaxvoice.models.vits.objective import StepInputs, StepNoise, generate, recorded_segments
from jaxvoice.models.vits.text_encoder import Gaussian, TextEncoding
from jaxvoice.nn import length_mask
from tests.models.vits.small import SMALL

CONFIG = replace(SMALL, durations=DurationConfig("deterministic", channels=6, dropout=0.0))
HOP, SEGMENT = CONFIG.mel.hop_length, CONFIG.segment_frames
TOKENS, FRAMES = np.array([4, 2], np.int32), np.array([9, 6], np.int32)
# The likely frames of each token: the spans of the means of the prior.
DURATIONS = np.array([[3, 1, 4, 1], [2, 4, 0, 0]])


def random(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def inputs_of(**changes):
    """Noise with the lengths `TOKENS` and `FRAMES`."""
    audio, mel = random(2, 9 * HOP), random(2, 9, CONFIG.mel.num_mels)
    spectrogram = np.zeros((2, 9, CONFIG.spectrogram_bins), np.float32)
    tokens, speaker = np.ones((2, 4), np.int32), random(2, CONFIG.speaker_channels)
    language = np.array([0, 1], np.int32)
    inputs = StepInputs(tokens, TOKENS, audio, spectrogram, mel, FRAMES, speaker, language)
    return jax.tree.map(jnp.asarray, inputs._replace(**changes))


def encoded_of(hidden):
    """Latents whose alignment with the tokens is `DURATIONS`."""
    mask, frame_mask = length_mask(TOKENS, 4), length_mask(FRAMES, 9)
    mean = np.broadcast_to(10 * np.arange(4, dtype=np.float32)[:, None], (2, 4, CONFIG.channels))
    z_p = np.zeros((2, 9, CONFIG.channels), np.float32)
    for row, (means, durations) in enumerate(zip(mean, DURATIONS, strict=True)):
        z_p[row, : FRAMES[row]] = np.repeat(means, durations, axis=0)
    text = TextEncoding(hidden, Gaussian(jnp.asarray(mean), jnp.zeros(mean.shape)), mask)
    posterior = Gaussian(jnp.asarray(z_p), jnp.zeros(z_p.shape))
    inputs = inputs_of()
    conditions = Conditions(inputs.speaker, jnp.asarray(random(2, CONFIG.language_channels)))
    return Encoded(text, posterior, jnp.asarray(z_p), jnp.asarray(z_p), frame_mask, conditions)


def predictor_and_hidden():
    return DurationPredictor(CONFIG, key=jax.random.key(0)), jnp.asarray(random(2, 4, CONFIG.text_channels))


def test_recorded_segments_are_slices_of_the_audio_and_of_the_mels():
    inputs, starts = inputs_of(), np.array([2, 7])
    found = recorded_segments(inputs, jnp.asarray(starts), CONFIG)
    audio = np.pad(np.asarray(inputs.audio), ((0, 0), (0, SEGMENT * HOP)))
    mel = np.pad(np.asarray(inputs.mel), ((0, 0), (0, SEGMENT), (0, 0)))
    for row, start in enumerate(starts):
        np.testing.assert_array_equal(found.audio[row], audio[row, start * HOP : (start + SEGMENT) * HOP])
        np.testing.assert_array_equal(found.mel[row], mel[row, start : start + SEGMENT])
    assert np.asarray(found.mel)[1, :2].all() and not np.asarray(found.mel)[1, 2:].any()


def test_the_loss_of_durations_is_the_sum_over_valid_tokens_divided_by_their_number():
    predictor, hidden = predictor_and_hidden()
    noise = StepNoise(jnp.zeros(()), jnp.zeros((2, 4, 2)), jnp.zeros(2, jnp.int32))

    @eqx.filter_jit
    def results(predictor, encoded, inputs):
        mask, aligned = encoded.text.mask, []

        def loss(encoded, durations, noise, *, inference, key):
            aligned.append(durations)
            return predictor.loss(hidden, durations, noise, *encoded.conditions, mask=mask, inference=inference)

        network = SimpleNamespace(
            encode=lambda *args, **options: encoded,
            duration_loss=loss,
            decode_segment=lambda encoded, starts, *, dtype: jnp.zeros((2, SEGMENT * HOP, 1)),
        )
        found = generate(network, inputs, noise, inference=True).durations
        return found, *aligned, predictor(hidden, None, *encoded.conditions, mask=mask)

    found, aligned, logs = results(predictor, encoded_of(hidden), inputs_of())
    np.testing.assert_array_equal(aligned, DURATIONS)
    logs = np.asarray(logs, np.float64)
    errors = [(logs[row, :count] - np.log(DURATIONS[row, :count])) ** 2 for row, count in enumerate(TOKENS)]
    np.testing.assert_allclose(found, np.concatenate(errors).mean(), rtol=1e-4)
    # Controls: the mean of the examples' means, and the sum over all positions.
    assert abs(np.mean([one.mean() for one in errors]) - float(found)) > 0.01
    assert abs(sum(one.sum() for one in errors) / DURATIONS.size - float(found)) > 0.01


def test_the_loss_of_durations_reaches_the_duration_predictor_only():
    predictor, hidden = predictor_and_hidden()
    shapes = eqx.filter_eval_shape(VITS, CONFIG, key=jax.random.key(0))
    network = eqx.tree_at(lambda one: one.duration_predictor, shapes, predictor)
    durations, noise = jnp.asarray(DURATIONS, jnp.float32), jnp.zeros((2, 4, 2))

    @eqx.filter_jit
    def gradients(predictor, hidden, conditions):
        def total(arguments):
            predictor, hidden, conditions = arguments
            encoded = encoded_of(hidden)._replace(conditions=conditions)
            model = eqx.tree_at(lambda one: one.duration_predictor, network, predictor)
            return jnp.sum(model.duration_loss(encoded, durations, noise, inference=True))

        return eqx.filter_grad(total)((predictor, hidden, conditions))

    of_predictor, of_hidden, of_conditions = gradients(predictor, hidden, encoded_of(hidden).conditions)
    assert all(np.asarray(leaf).any() for leaf in jax.tree.leaves(of_predictor))
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves((of_hidden, of_conditions)))

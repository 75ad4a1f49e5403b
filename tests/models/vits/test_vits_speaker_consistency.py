"""The speaker consistency loss: its gradient reaches the samples, and the encoder does not change.

Every test of a property has a control, a wrong form of the loss for which the property does not hold.
"""

import copy
import functools
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import numpy as np
import optax
import pytest
from jax import lax, numpy as jnp

from jaxvoice.dsp import MelConfig
from jaxvoice.dsp.mel_config import PowerMelConfig
from jaxvoice.errors import ConfigError
from jaxvoice.models.speaker_encoder import (
    LSTMConfig,
    ResNetConfig,
    SpeakerEncoderConfig,
    build,
    without_state,
)
from jaxvoice.models.speaker_encoder.front_end import instance_norm, read_mels, unit_length
from jaxvoice.models.vits.losses import LossWeights
from jaxvoice.models.vits.objective import Generated, Recorded, generator_losses, mels_of
from jaxvoice.models.vits.speaker_consistency import check_encoder, speaker_similarity, with_gradient
from jaxvoice.training.optimizers import OptimizerConfig, adamw
from tests.models.vits.small import SMALL

RATE, SAMPLES = 16000, 2048
ENCODER = SpeakerEncoderConfig(
    ResNetConfig(blocks=(1, 1, 1, 1), channels=(8, 8, 8, 8), attention=4, dim=12), PowerMelConfig(num_mels=16)
)
CONFIG = replace(SMALL, mel=replace(SMALL.mel, sample_rate=RATE), segment_frames=SAMPLES // SMALL.mel.hop_length)
WEIGHTS = LossWeights(speaker=9.0)


@functools.cache
def encoder():
    """An encoder with random weights, biases and running statistics."""
    model, key = build(ENCODER, key=jax.random.key(0)), jax.random.key(1)
    arrays, static = eqx.partition(model, eqx.is_inexact_array)
    leaves, structure = jax.tree.flatten(arrays)
    keys = jax.random.split(key, len(leaves))
    noisy = [x * (1 + 0.1 * jax.random.uniform(k, x.shape)) for x, k in zip(leaves, keys, strict=True)]
    return eqx.combine(jax.tree.unflatten(structure, noisy), static)


def voiced(seed, samples=SAMPLES, rows=2):
    """Pulses at different rates in noise, loud enough in all bands."""
    generator = np.random.default_rng(seed)
    audio = 0.05 * generator.standard_normal((rows, samples))
    for row, period in zip(audio, generator.integers(40, 160, rows), strict=True):
        row[::period] += 0.5
    return jnp.asarray(audio, jnp.float32)


@eqx.filter_jit
def similarity(speaker_encoder, recorded, generated, rate=RATE):
    """The similarity, and its gradients with respect to both arguments."""
    function = lambda *pair: speaker_similarity(speaker_encoder, *pair, sample_rate=rate)  # noqa: E731
    return jax.value_and_grad(function, argnums=(0, 1))(recorded, generated)


class Blocked(eqx.Module):
    """An encoder in which no gradient passes one place of the path from the waveform to the embedding."""

    encoder: Any
    place: str = eqx.field(static=True)

    @property
    def config(self):
        return self.encoder.config

    def __call__(self, audio):
        if self.place == "waveform":
            return self.encoder(lax.stop_gradient(audio))
        if self.place == "embedding":
            return lax.stop_gradient(self.encoder(audio))
        mels = read_mels(audio, self.config, self.encoder.torch_spec)
        if self.place == "mels":
            return unit_length(self.encoder.embed_mels(lax.stop_gradient(mels)))
        # The rest of the network, whose input is the logarithm.
        plain = replace(self.config, network=replace(self.config.network, log_input=False))
        rest = copy.copy(self.encoder)
        object.__setattr__(rest, "config", plain)
        logs = jnp.log(mels + 1e-6)
        hidden = lax.stop_gradient(logs) if self.place == "logarithm" else lax.stop_gradient(instance_norm(logs))
        return unit_length(rest.embed_mels(hidden))


PLACES = ("waveform", "mels", "logarithm", "instance norm", "embedding")


def losses(audio, speaker_encoder, weights=WEIGHTS):
    recorded = Recorded(voiced(1), mels_of(voiced(1), CONFIG))
    generated = Generated(audio, jnp.zeros(()), jnp.zeros(()))
    return generator_losses(None, recorded, generated, weights, CONFIG, speaker_encoder=speaker_encoder)


@eqx.filter_jit
def audio_gradient(audio, speaker_encoder, weights=WEIGHTS, names=("mel", "speaker")):
    def total(audio):
        found, metrics = losses(audio, speaker_encoder, weights)
        return sum(found[name] for name in names if name in found), metrics

    return jax.grad(total, has_aux=True)(audio)


def test_the_gradient_reaches_the_samples():
    gradient, metrics = audio_gradient(voiced(0), encoder(), names=("speaker",))
    assert float(metrics["speaker_gradient"]) > 1e-4 and float(metrics["mel_gradient"]) > 0
    np.testing.assert_allclose(jnp.linalg.norm(gradient), metrics["speaker_gradient"], rtol=1e-5)
    expected = -9 * similarity(encoder(), voiced(1), voiced(0))[1][1]
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6 * float(jnp.abs(expected).max()))


@pytest.mark.parametrize("place", PLACES)
def test_a_gradient_that_stops_is_caught(place):
    gradient, metrics = audio_gradient(voiced(0), Blocked(encoder(), place), names=("speaker",))
    assert float(metrics["speaker_gradient"]) == 0 and not np.asarray(gradient).any()
    # The value of the loss alone does not show it.
    right = audio_gradient(voiced(0), encoder(), names=("speaker",))[1]
    np.testing.assert_allclose(metrics["speaker_similarity"], right["speaker_similarity"], atol=1e-3)


def test_gradients_are_the_differences_of_the_loss():
    # Batch norm computes in float32, so the steps are large enough for its rounding.
    audio, target, step = voiced(0), voiced(1), 5e-3 * voiced(2)
    slope = float(jnp.sum(similarity(encoder(), target, audio)[1][1] * step))
    above, below = (float(similarity(encoder(), target, audio + sign * step)[0]) for sign in (1, -1))
    assert slope == pytest.approx((above - below) / 2, rel=0.01) and abs(slope) > 1e-4


def test_gradients_of_losses_add():
    both, _ = audio_gradient(voiced(0), encoder())
    without, _ = audio_gradient(voiced(0), encoder(), replace(WEIGHTS, speaker=0.0))
    speaker, _ = audio_gradient(voiced(0), encoder(), names=("speaker",))
    np.testing.assert_allclose(both - without, speaker, atol=1e-5 * float(jnp.abs(both).max()))
    assert float(jnp.abs(speaker).max()) > 1e-3 * float(jnp.abs(without).max())


def test_a_loss_with_its_gradient_has_the_value_and_slope_of_the_loss():
    function = lambda x: (jnp.sum(x**3), jnp.sum(x))  # noqa: E731
    x = jnp.array([1.0, -2.0])
    loss, other, norm = with_gradient(function, x)
    assert (float(loss), float(other)) == (-7.0, -1.0)
    np.testing.assert_allclose(norm, np.hypot(3, 12), rtol=1e-6)
    np.testing.assert_allclose(jax.grad(lambda x: 2 * with_gradient(function, x)[0])(x), [6, 24])


def test_the_recording_gets_no_gradient():
    _, (of_recorded, of_generated) = similarity(encoder(), voiced(1), voiced(0))
    assert not np.asarray(of_recorded).any() and np.asarray(of_generated).any()


def adam():
    return adamw(OptimizerConfig(learning_rate=3e-3, weight_decay=0.0), steps_per_epoch=1000)


def raised(speaker_encoder, steps=60):
    """The similarity before and after steps along its gradient that change the waveform alone."""
    audio, optimizer = voiced(0), adam()
    state = optimizer.init(audio)
    values = []
    for _ in range(steps):
        value, (_, gradient) = similarity(speaker_encoder, voiced(1), audio)
        values.append(float(value))
        updates, state = optimizer.update(-gradient, state, audio)
        audio = optax.apply_updates(audio, updates)
    return values[0], float(similarity(speaker_encoder, voiced(1), audio)[0])


def test_steps_along_the_gradient_raise_the_similarity():
    before, after = raised(encoder())
    assert 1 - after < 0.3 * (1 - before)
    # Control: without a gradient, nothing changes.
    before, after = raised(Blocked(encoder(), "mels"), steps=5)
    assert before == after


def test_embeddings_do_not_depend_on_the_batch():
    one, two = voiced(3, rows=1), voiced(4, rows=1)
    call = eqx.filter_jit(lambda model, *arguments: model(*arguments))
    alone = call(encoder(), one)
    together = call(encoder(), jnp.concatenate([one, 5 * two]))
    np.testing.assert_allclose(together[:1], alone, atol=1e-5)
    # Control: with statistics of the batch, they do, and calls return other running statistics.
    trained, state = without_state(encoder())
    alone, first = call(trained, one, state)
    together, second = call(trained, jnp.concatenate([one, 5 * two]), state)
    assert float(jnp.abs(together[:1] - alone).max()) > 1e-3
    changed = [not np.array_equal(a, b) for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(first), strict=True)]
    assert any(changed) and len(jax.tree.leaves(second)) == len(changed)
    with pytest.raises(ConfigError, match="state is None"):
        speaker_similarity(trained, one, two, sample_rate=RATE)


def test_an_encoder_that_is_trained_collapses():
    # Control for the claim that the encoder has to be frozen: its updates alone make unrelated recordings alike.
    params, static = eqx.partition(encoder(), eqx.is_inexact_array)
    optimizer = adam()
    state = optimizer.init(params)
    clips = jnp.concatenate([voiced(seed, rows=1) * scale for seed, scale in ((5, 1), (6, 0.3), (7, 0.7))])
    clips = clips + 0.1 * jnp.sin(jnp.array([[0.02], [0.2], [0.9]]) * jnp.arange(SAMPLES, dtype=jnp.float32)[None])

    @eqx.filter_jit
    def step(params, state):
        def loss(params):
            return -speaker_similarity(eqx.combine(params, static), voiced(1), voiced(0), sample_rate=RATE)

        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    def mean_cosine(params):
        found = eqx.combine(params, static)(clips)
        return float((jnp.sum(found @ found.T) - 3) / 6)

    before = mean_cosine(params)
    for _ in range(40):
        params, state = step(params, state)
    assert 1 - mean_cosine(params) < 0.7 * (1 - before)


def test_the_level_does_not_matter_and_silence_is_finite():
    assert float(similarity(encoder(), voiced(0), 0.1 * voiced(0))[0]) > 0.99
    silence = jnp.zeros_like(voiced(0))
    gradient, metrics = audio_gradient(silence, encoder())
    assert np.isfinite(np.asarray(gradient)).all() and np.isfinite(float(metrics["speaker_similarity"]))
    # A silent recording has no voice to compare with.
    half = jnp.concatenate([voiced(0)[:1], silence[:1]])
    found, (_, gradient) = similarity(encoder(), half, voiced(1))
    twice = similarity(encoder(), jnp.tile(half[:1], (2, 1)), jnp.tile(voiced(1)[:1], (2, 1)))[0]
    np.testing.assert_allclose(found, twice, rtol=1e-5)
    assert np.asarray(gradient[0]).any() and not np.asarray(gradient[1]).any()


@pytest.mark.parametrize("rate", [22050, 44100, 8000])
def test_the_gradient_passes_through_the_resampling(rate):
    _, (_, gradient) = similarity(encoder(), voiced(1), voiced(0), rate)
    assert float(jnp.linalg.norm(gradient)) > 1e-5


def test_encoders_that_cannot_be_used_are_rejected():
    check_encoder(encoder(), samples=SAMPLES, sample_rate=RATE)
    mels = build(SpeakerEncoderConfig(LSTMConfig(8, 1, 4), MelConfig()), key=jax.random.key(0))
    with pytest.raises(ConfigError, match="reads mels"):
        check_encoder(mels, samples=SAMPLES, sample_rate=RATE)
    with pytest.raises(ConfigError, match=r"128 samples at the 16000 Hz.*at least 257"):
        check_encoder(encoder(), samples=256, sample_rate=32000)

"""The speaker consistency loss: its gradient reaches the samples, and the encoder does not change.

Every test of a property has a control, a wrong form of the loss for which the property does not hold.
"""

import functools
from dataclasses import replace

import equinox as eqx
import jax
import jax.flatten_util
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from jaxvoice.data import read_audio
from jaxvoice.dsp import MelConfig
from jaxvoice.errors import ConfigError
from jaxvoice.losses import ge2e_softmax_loss
from jaxvoice.models.speaker_encoder import LSTMConfig, SpeakerEncoderConfig, build, resnet, with_state, without_state
from jaxvoice.models.speaker_encoder.consistency import (
    check_encoder,
    shared_gains,
    speaker_similarity,
    with_gradient,
)
from jaxvoice.models.speaker_encoder.front_end import read_mels
from jaxvoice.models.vits.losses import LossWeights
from jaxvoice.models.vits.objective import Generated, Recorded, generator_losses, mels_of
from jaxvoice.nn import Conv1d
from jaxvoice.training.learner import Learner
from jaxvoice.training.optimizers import OptimizerConfig, adamw
from tests.models.speaker_encoder.released import resemblyzer
from tests.models.speaker_encoder.small import GE2E, random_encoder
from tests.models.vits.frozen_encoder import ENCODER, PLACES, RATE, SAMPLES, Blocked, digest, encoder, voiced
from tests.models.vits.small import SMALL

CONFIG = replace(SMALL, mel=replace(SMALL.mel, sample_rate=RATE), segment_frames=SAMPLES // SMALL.mel.hop_length)
WEIGHTS = LossWeights(speaker=9.0)


@eqx.filter_jit
def similarity(speaker_encoder, recorded, generated, rate=RATE):
    """The similarity, and its gradients with respect to both arguments."""
    function = lambda *pair: speaker_similarity(speaker_encoder, *pair, sample_rate=rate)  # noqa: E731
    return jax.value_and_grad(function, argnums=(0, 1))(recorded, generated)


def audio_gradient(speaker_encoder, audio, target, weights=WEIGHTS, names=("mel", "speaker")):
    """The gradient with respect to the samples of the sum of the losses `names`, and the metrics."""

    def total(audio):
        recorded = Recorded(target, mels_of(target, CONFIG))
        generated = Generated(audio, jnp.zeros(()), jnp.zeros(()))
        found, metrics = generator_losses(None, recorded, generated, weights, CONFIG, speaker_encoder=speaker_encoder)
        return sum(found[name] for name in names), metrics

    return jax.grad(total, has_aux=True)(audio)


@eqx.filter_jit
def audio_gradients(speaker_encoder, audio, target):
    """The gradients and metrics of both losses, without the speaker loss, and of the speaker loss alone.

    They are one program, because the passes through the encoder are the same.
    """
    given = speaker_encoder, audio, target
    without = audio_gradient(*given, replace(WEIGHTS, speaker=0.0))
    return audio_gradient(*given), without, audio_gradient(*given, names=("speaker",))


@functools.cache
def blocked_gradients():
    """The gradients of the speaker loss and the metrics, by the place in which the gradient stops, in one program."""

    @eqx.filter_jit
    def run(speaker_encoder, *given):
        return {place: audio_gradient(Blocked(speaker_encoder, place), *given, names=("speaker",)) for place in PLACES}

    return run(encoder(), voiced(0), voiced(1))


@pytest.mark.slow
def test_the_gradient_reaches_the_samples():
    _, _, (gradient, metrics) = audio_gradients(encoder(), voiced(0), voiced(1))
    assert float(metrics["speaker_gradient"]) > 1e-4 and float(metrics["mel_gradient"]) > 0
    np.testing.assert_allclose(np.linalg.norm(gradient), metrics["speaker_gradient"], rtol=1e-5)
    expected = -9 * np.asarray(similarity(encoder(), voiced(1), voiced(0))[1][1])
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=5e-5 * np.abs(expected).max())


@pytest.mark.parametrize("place", PLACES)
def test_a_gradient_that_stops_is_caught(place):
    gradient, metrics = blocked_gradients()[place]
    assert float(metrics["speaker_gradient"]) == 0 and not np.asarray(gradient).any()
    # The value of the loss alone does not show it.
    right = audio_gradients(encoder(), voiced(0), voiced(1))[0][1]
    np.testing.assert_allclose(metrics["speaker_similarity"], right["speaker_similarity"], atol=1e-3)


def slopes(speaker_encoder, rate=RATE, step=1e-6):
    """The slope of the similarity along a random direction in float64: of its gradient, and of its differences."""
    with jax.enable_x64(True):
        target, audio, direction = (jnp.asarray(np.asarray(voiced(seed), np.float64)) for seed in (1, 0, 2))
        _, (_, gradient) = similarity(speaker_encoder, target, audio, rate)
        above, below = (similarity(speaker_encoder, target, audio + h * direction, rate)[0] for h in (step, -step))
        assert gradient.dtype == above.dtype == jnp.float64
        return float(jnp.sum(gradient * direction)), float(above - below) / (2 * step)


@pytest.mark.parametrize("rate", [RATE, pytest.param(22050, marks=pytest.mark.slow)])
def test_gradients_are_the_differences_of_the_loss(rate):
    of_gradient, measured = slopes(encoder(), rate)
    assert of_gradient == pytest.approx(measured, rel=1e-4) and abs(measured) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("place", ["half", "float32"])
def test_gradients_that_are_not_the_differences_are_caught(place):
    # Control: the gradient of a part of the waveform, and differences of values that are rounded to float32.
    of_gradient, measured = slopes(Blocked(encoder(), place))
    assert of_gradient and of_gradient != pytest.approx(measured, rel=1e-3)


def test_gradients_of_losses_add():
    found = audio_gradients(encoder(), voiced(0), voiced(1))
    both, without, speaker = (np.asarray(gradient) for gradient, _ in found)
    np.testing.assert_allclose(both - without, speaker, atol=1e-5 * np.abs(both).max())
    assert np.abs(speaker).max() > 1e-3 * np.abs(without).max()
    # Control: a loss whose gradient stops adds nothing.
    stopped = np.asarray(blocked_gradients()["waveform"][0])
    assert np.abs(both - without - stopped).max() > 1e-3 * np.abs(without).max()


def test_a_loss_with_its_gradient_has_the_value_and_slope_of_the_loss():
    function = lambda x: (jnp.sum(x**3), jnp.sum(x))  # noqa: E731
    x = jnp.array([1.0, -2.0])
    loss, other, norm = with_gradient(function, x)
    assert (float(loss), float(other)) == (-7.0, -1.0)
    np.testing.assert_allclose(norm, np.hypot(3, 12), rtol=1e-6)
    np.testing.assert_allclose(jax.grad(lambda x: 2 * with_gradient(function, x)[0])(x), [6, 24])


def test_the_similarity_is_the_mean_cosine_of_embeddings_of_single_clips():
    embed = eqx.filter_jit(functools.partial(encoder(), normalize=False))
    recorded, generated = (
        np.stack([np.asarray(embed(row[None])[0], np.float64) for row in voiced(seed)]) for seed in (1, 0)
    )
    norms = np.linalg.norm(recorded, axis=1) * np.linalg.norm(generated, axis=1)
    expected = np.mean(np.sum(recorded * generated, axis=1) / norms)
    np.testing.assert_allclose(similarity(encoder(), voiced(1), voiced(0))[0], expected, atol=1e-6)
    # Control: without normalisation, the products have other values.
    assert abs(np.mean(np.sum(recorded * generated, axis=1)) - expected) > 1e-3


def test_the_recording_gets_no_gradient():
    _, (of_recorded, of_generated) = similarity(encoder(), voiced(1), voiced(0))
    assert not np.asarray(of_recorded).any() and np.asarray(of_generated).any()
    # Control: the cosine itself has a gradient with respect to both.
    cosine = jax.jit(jax.grad(lambda a, b: jnp.sum(encoder()(a) * encoder()(b)), argnums=(0, 1)))
    assert all(np.asarray(gradient).any() for gradient in cosine(voiced(1), voiced(0)))


def adam():
    return adamw(OptimizerConfig(learning_rate=3e-3, weight_decay=0.0), steps_per_epoch=1000)


def raised(speaker_encoder, recorded, audio, steps=200):
    """The similarity before and after steps along its gradient that change the waveform alone."""
    optimizer, values = adam(), []
    state = optimizer.init(audio)
    for _ in range(steps):
        value, (_, gradient) = similarity(speaker_encoder, recorded, audio)
        values.append(float(value))
        updates, state = optimizer.update(-gradient, state, audio)
        audio = optax.apply_updates(audio, updates)
    return values[0], float(similarity(speaker_encoder, recorded, audio)[0])


def spoken(seed, clips=3):
    """Clips of four voices, `(4, clips, samples)`: tones of three frequencies begin and end at random in noise."""
    generator, samples = np.random.default_rng(seed), 2 * SAMPLES
    frequencies = np.array([[400, 1500, 3000], [700, 2000, 4500], [1000, 2600, 6000], [250, 1100, 5200]])
    phases = 2 * np.pi * generator.uniform(size=(4, clips, 3, 1))
    tones = np.sin(2 * np.pi * frequencies[:, None, :, None] * np.arange(samples) / RATE + phases)
    gates = np.repeat(generator.integers(0, 2, (4, clips, 3, samples // 256)), 256, axis=-1)
    audio = 0.1 * np.sum(gates * tones, axis=2) + 0.02 * generator.standard_normal((4, clips, samples))
    return jnp.asarray(audio, jnp.float32)


@functools.cache
def trained_encoder(steps=60):
    """An encoder that tells the voices of `spoken` apart."""
    model, statistics = without_state(encoder())
    params, static = eqx.partition(model, eqx.is_inexact_array)
    optimizer = adamw(OptimizerConfig(learning_rate=1e-2, weight_decay=0.0), steps_per_epoch=1000)
    state = optimizer.init(params)

    @eqx.filter_jit
    def step(params, statistics, state, audio):
        def loss(params):
            embeddings, new = eqx.combine(params, static)(audio, statistics, normalize=False)
            return ge2e_softmax_loss(embeddings, jnp.asarray(10.0), jnp.asarray(-5.0)), new

        gradient, new = jax.grad(loss, has_aux=True)(params)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), new, state

    for seed in range(steps):
        params, statistics, state = step(params, statistics, state, spoken(seed))
    return with_state(eqx.combine(params, static), statistics)


def test_steps_along_the_gradient_raise_the_similarity():
    before, after = raised(encoder(), voiced(1), voiced(0), steps=60)
    assert 1 - after < 0.3 * (1 - before)
    # Control: without a gradient, nothing changes.
    before, after = raised(Blocked(encoder(), "mels"), voiced(1), voiced(0), steps=5)
    assert before == after


@pytest.mark.slow
def test_steps_along_the_gradient_raise_the_similarity_of_a_trained_encoder():
    clips, others = spoken(1000), spoken(1001)
    first, second = map(eqx.filter_jit(trained_encoder()), (clips, others))
    cosines = jnp.einsum("iad,jbd->ij", first, second) / 9
    of_same = jnp.mean(jnp.diagonal(cosines))
    assert of_same - (jnp.sum(cosines) - 4 * of_same) / 12 > 0.6
    target, other = np.unravel_index(np.argmin(cosines), cosines.shape)
    before, after = raised(trained_encoder(), clips[target, :1], clips[other, :1])
    assert before < 0.5 and after > 0.9
    # Control: the front end of the paper's code.
    before, after = raised(Blocked(trained_encoder(), "mels"), clips[target, :1], clips[other, :1], steps=20)
    assert before == after


@pytest.mark.slow
def test_steps_along_the_gradient_raise_the_similarity_of_a_released_encoder(tmp_path, real_clips):
    network = resemblyzer(tmp_path)
    paths = [min((real_clips / "vctk" / speaker).glob("*.flac")) for speaker in ("p245", "p228")]
    audio = [read_audio(path, RATE).samples for path in paths]
    recorded, other = (jnp.asarray(one[None, len(one) // 3 :][:, :8192]) for one in audio)
    before, after = raised(network, recorded, other)
    # The components of the embeddings are positive, so those of different speakers have cosines around 0.5.
    assert before < 0.7 and after > 0.95


def test_embeddings_do_not_depend_on_the_batch():
    one, two = voiced(3, rows=1), voiced(4, rows=1)
    pairs = [jnp.concatenate([one, other]) for other in (one, 5 * two)]
    call = eqx.filter_jit(lambda model, *arguments: model(*arguments))
    alone, together = (call(encoder(), pair) for pair in pairs)
    np.testing.assert_allclose(together[0], alone[0], atol=1e-6)
    # Control: with statistics of the batch, they do, and calls return other running statistics.
    trained, state = without_state(encoder())
    (alone, first), (together, second) = (call(trained, pair, state) for pair in pairs)
    assert np.abs(together[0] - alone[0]).max() > 1e-3
    changed = [not np.array_equal(a, b) for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(first), strict=True)]
    assert any(changed) and len(jax.tree.leaves(second)) == len(changed)
    with pytest.raises(ConfigError, match="state is None"):
        speaker_similarity(trained, one, two, sample_rate=RATE)


def test_the_encoder_is_bit_identical_after_100_steps():
    optimizer = OptimizerConfig(learning_rate=1e-2, weight_decay=0.01)
    learner = Learner.create(Conv1d(1, 1, 9, padding=4, key=jax.random.key(0)), optimizer, steps_per_epoch=1000)

    @eqx.filter_jit(donate="all-except-first")
    def step(speaker_encoder, learner):
        def loss(params):
            generated = learner.combine(params)(voiced(0)[..., None])[..., 0]
            return -9 * speaker_similarity(speaker_encoder, voiced(1), generated, sample_rate=RATE)

        value, gradient = jax.value_and_grad(loss)(learner.params)
        return learner.update(gradient), value

    frozen, values = encoder(), []
    before = digest(frozen)
    for _ in range(100):
        learner, value = step(frozen, learner)
        values.append(float(value))
    assert digest(frozen) == before and values[-1] < values[0] - 1e-3
    # Controls: a learner of a layer of the encoder changes it by weight decay alone, and a donated encoder is freed.
    decayed = Learner.create(frozen.fc, optimizer, steps_per_epoch=1000)
    decayed = eqx.filter_jit(lambda one: one.update(jax.tree.map(jnp.zeros_like, one.params)))(decayed)
    assert digest(decayed.model) != digest(frozen.fc)
    copy = jax.tree.map(jnp.copy, eqx.filter(frozen, eqx.is_array))
    jax.jit(lambda state: jax.tree.map(lambda leaf: 1 * leaf, state), donate_argnums=0)((jnp.zeros(3), copy))
    assert any(leaf.is_deleted() for leaf in jax.tree.leaves(copy))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(eqx.filter(frozen, eqx.is_array)))


@pytest.mark.slow
def test_an_encoder_that_is_trained_collapses():
    # Control for the claim that the encoder has to be frozen: its updates alone make unrelated recordings alike.
    arrays, static = eqx.partition(encoder(), eqx.is_inexact_array)
    params, unravel = jax.flatten_util.ravel_pytree(arrays)  # one array, so that the optimizer is a small program
    optimizer = adam()
    state = optimizer.init(params)
    clips = jnp.concatenate([voiced(seed, rows=1) * scale for seed, scale in ((5, 1), (6, 0.3), (7, 0.7))])
    clips = clips + 0.1 * jnp.sin(jnp.array([[0.02], [0.2], [0.9]]) * jnp.arange(SAMPLES, dtype=jnp.float32)[None])

    @eqx.filter_jit
    def step(params, state):
        def loss(params):
            model = eqx.combine(unravel(params), static)
            return -speaker_similarity(model, voiced(1), voiced(0), sample_rate=RATE)

        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    embed = eqx.filter_jit(lambda params: eqx.combine(unravel(params), static)(clips))

    def mean_cosine(params):
        found = np.asarray(embed(params))
        return float((np.sum(found @ found.T) - 3) / 6)

    before = mean_cosine(params)
    for _ in range(40):
        params, state = step(params, state)
    assert 1 - mean_cosine(params) < 0.7 * (1 - before)


def test_the_level_does_not_matter(monkeypatch):
    audio = voiced(0, 8192)  # the segments of YourTTS
    assert read_mels(audio, ENCODER).shape == (2, 52, 16)
    found = eqx.filter_jit(lambda model, audio: model(audio))
    assert float(jnp.sum(found(encoder(), audio) * found(encoder(), 0.1 * audio), axis=-1).min()) > 0.999
    # Control: without instance norm, it does.
    monkeypatch.setattr(resnet, "instance_norm", lambda x, count=None: x)
    found = eqx.filter_jit(lambda model, audio: model(audio))
    assert float(jnp.sum(found(encoder(), audio) * found(encoder(), 0.1 * audio), axis=-1).min()) < 0.99


@functools.cache
def ge2e():
    """A GE2E encoder with random weights and Resemblyzer's level, and one without a level.

    Their first weights are large, because powers at this level are small.
    """
    config = replace(GE2E, level=-30.0, only_raise=True)
    models = [random_encoder(one) for one in (config, replace(config, level=None))]
    return [eqx.tree_at(lambda one: one.lstm.weight_ih_l0, model, replace_fn=lambda x: 300 * x) for model in models]


@pytest.mark.parametrize("scale", [0.05, 4.0])
def test_the_level_of_both_segments_does_not_matter_to_a_ge2e_encoder(scale):
    encoder, plain = ge2e()
    target, audio = voiced(1), voiced(0)
    expected, (of_recorded, gradient) = similarity(encoder, target, audio)
    found, (_, of_scaled) = similarity(encoder, scale * target, scale * audio)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert float(jnp.linalg.norm(gradient)) > 1e-4 and not np.asarray(of_recorded).any()
    np.testing.assert_allclose(scale * of_scaled, gradient, atol=1e-4 * float(jnp.abs(gradient).max()))
    # Controls: the embeddings of an encoder without a level change, and so does the loss for one segment alone.
    for model, pair in ((plain, (scale * target, scale * audio)), (encoder, (target, scale * audio))):
        assert abs(float(similarity(model, *pair)[0]) - float(similarity(model, target, audio)[0])) > 1e-4


def test_both_segments_of_a_ge2e_encoder_have_the_gain_of_the_recording():
    encoder, plain = ge2e()
    target, audio = voiced(1), 0.2 * voiced(0)
    gains = 10**-1.5 / np.sqrt(np.mean(np.square(np.asarray(target, np.float64)), axis=1, keepdims=True))
    embed = eqx.filter_jit(lambda model, x: model(x))
    first, second = (np.asarray(embed(plain, jnp.asarray(gains * x, jnp.float32))) for x in (target, audio))
    np.testing.assert_allclose(
        similarity(encoder, target, audio)[0], np.mean(np.sum(first * second, axis=1)), rtol=1e-5
    )
    # The gain of silence is finite, and encoders that normalise every band have none.
    assert np.isfinite(np.asarray(shared_gains(jnp.zeros((2, 9)), encoder.config))).all()
    assert shared_gains(target, ENCODER) is None


def test_silence_is_finite_and_left_out(monkeypatch):
    silence = jnp.zeros_like(voiced(0))
    gradient, metrics = audio_gradients(encoder(), silence, voiced(1))[0]
    assert np.isfinite(np.asarray(gradient)).all() and np.isfinite(float(metrics["speaker_similarity"]))
    assert float(metrics["compared_segments"]) == 2
    # A silent recording has no voice to compare with.
    metrics = audio_gradients(encoder(), voiced(0), silence)[0][1]
    assert float(metrics["speaker_gradient"]) == 0 and float(metrics["compared_segments"]) == 0
    half = jnp.concatenate([voiced(0)[:1], silence[:1]])
    found, (_, gradient) = similarity(encoder(), half, voiced(1))
    twice = similarity(encoder(), jnp.tile(half[:1], (2, 1)), jnp.tile(voiced(1)[:1], (2, 1)))[0]
    np.testing.assert_allclose(found, twice, rtol=1e-5)
    assert np.asarray(gradient[0]).any() and not np.asarray(gradient[1]).any()
    # Control: the logarithm of silence is infinite.
    monkeypatch.setattr(resnet, "_LOG_GUARD", 0.0)
    assert not np.isfinite(eqx.filter_jit(lambda model, audio: model(audio))(encoder(), silence)).any()


@pytest.mark.parametrize("rate", [22050, *(pytest.param(rate, marks=pytest.mark.slow) for rate in (8000, 44100))])
def test_the_gradient_passes_through_the_resampling(rate):
    _, (_, gradient) = similarity(encoder(), voiced(1), voiced(0), rate)
    assert float(jnp.linalg.norm(gradient)) > 1e-5


@pytest.mark.slow
def test_a_gradient_that_stops_after_the_resampling_is_caught():
    _, (_, gradient) = similarity(Blocked(encoder(), "waveform"), voiced(1), voiced(0), 22050)
    assert not np.asarray(gradient).any()


def test_encoders_that_cannot_be_used_are_rejected():
    flag = "--segment"
    check_encoder(encoder(), samples=SAMPLES, sample_rate=RATE, flag=flag)
    mels = eqx.filter_eval_shape(build, SpeakerEncoderConfig(LSTMConfig(8, 1, 4), MelConfig()), key=jax.random.key(0))
    with pytest.raises(ConfigError, match="reads mels"):
        check_encoder(mels, samples=SAMPLES, sample_rate=RATE, flag=flag)
    with pytest.raises(ConfigError, match=r"128 samples at the 16000 Hz.*at least 257. Raise --segment"):
        check_encoder(encoder(), samples=256, sample_rate=32000, flag=flag)

"""Synthesis and voice conversion of the whole network: compared with the release, and properties of a small one."""

import equinox as eqx
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxvoice.errors import ShapeError
from jaxvoice.models.vits import VITS, preset, whole_durations
from jaxvoice.nn import length_mask, masked
from jaxvoice.weights import load_state, named_arrays
from tests.models.vits.released import assert_close, last, linear_spectrogram, released_state
from tests.models.vits.small import SMALL
from tests.random_networks import random_network
from tests.reference import golden

YOURTTS = preset("yourtts")


@pytest.fixture(scope="module")
def case():
    return golden.case("vits/inference")


@pytest.fixture(scope="module")
def released(case):
    state = {name: value for name, value in released_state(case).items() if not name.startswith("disc.")}
    return load_state(eqx.filter_eval_shape(VITS, YOURTTS, key=jax.random.key(0)), state)


def test_synthesis_equals_the_release(case, released):
    scale = np.float32(0.333)
    tokens, languages = case["tokens"].astype(np.int32), case["language_ids"].astype(np.int32)
    noises = last(case["noise_tts_0_normal"]) * scale, last(case["noise_tts_1_normal"]) * scale

    @eqx.filter_jit
    def synthesize(network, tokens, noises, speaker, language, token_count):
        conditions = network.conditions(speaker, language, tokens.shape[:-1])
        text = network.encode_text(tokens, conditions, token_count=token_count, inference=True)
        logs = network.log_durations(text, noises[0], conditions)
        durations = whole_durations(logs, text.mask)
        latents = network.latents(text, durations, noises[1], conditions)
        # The release masks padding neither in the sample of the prior nor in the decoder.
        mask = length_mask(latents.frame_count, noises[1].shape[1])
        z_p = jnp.where(mask[..., None], latents.z_p, noises[1])
        z = network.flow.reverse(z_p, conditions.speaker, mask=mask)
        audio = network.waveform_decoder(masked(z, mask), conditions.speaker)
        return logs, durations, latents, z_p, masked(latents.z, mask) + masked(z, ~mask), audio

    counts = case["token_lens"].astype(np.int32)
    args = tokens, noises, case["d_vectors"], languages, counts
    logs, durations, latents, z_p, z, audio = synthesize(released, *args)
    assert_close(logs[:, None], case, "logw")
    np.testing.assert_array_equal(durations[:, None], case["durations"])
    np.testing.assert_array_equal(latents.frame_count, case["y_mask"].sum((1, 2)))
    assert_close(golden.digest(last(z_p)), case, "z_p_digest")
    assert_close(golden.digest(last(z)), case, "z_digest")
    assert_close(audio[:, :4096, 0], case, "wav_first")
    assert_close(golden.digest(last(audio)), case, "wav_digest")


def test_conversion_equals_the_release(case, released):
    spectrogram = linear_spectrogram(case["waveform"][0, 0])[None]
    convert = eqx.filter_jit(lambda network, *args: network.convert(*args))
    source, target = case["d_vectors"][:1], case["d_vectors"][1:]
    found = convert(released, spectrogram, last(case["noise_vc_0_normal"]), source, target)
    assert_close(golden.digest(last(found.z_p)), case, "vc_z_p_digest")
    assert_close(golden.digest(last(found.z)), case, "vc_z_hat_digest")
    assert_close(found.audio[:, :4096, 0], case, "vc_wav_first")
    assert_close(golden.digest(last(found.audio)), case, "vc_wav_digest")


@pytest.fixture(scope="module")
def small():
    """A small network whose couplings change their input."""
    return random_network(VITS, SMALL)


@pytest.fixture(scope="module")
def inputs():
    """A batch of two: tokens, noise of durations and of frames, speaker vectors, languages."""
    random = np.random.default_rng(1)
    tokens = random.integers(0, SMALL.symbols.size, (2, 7)).astype(np.int32)
    noises = random.normal(size=(2, 7, 2)), random.normal(size=(2, 30, SMALL.channels))
    speaker = random.normal(size=(2, SMALL.speaker_channels)).astype(np.float32)
    return tokens, *(noise.astype(np.float32) for noise in noises), speaker, np.array([0, 1], np.int32)


@eqx.filter_jit
def synthesize(network, *args, **options):
    return network(*args, **options)


@eqx.filter_jit
def encode(network, *args, **options):
    return network.encode(*args, **options, inference=True)


@eqx.filter_jit
def read(network, tokens, duration_noise, speaker, language, token_count):
    """The text half of synthesis: the conditions, the encoding and the durations."""
    conditions = network.conditions(speaker, language, tokens.shape[:-1])
    text = network.encode_text(tokens, conditions, token_count=token_count, inference=True)
    return conditions, text, whole_durations(network.log_durations(text, duration_noise, conditions), text.mask)


@pytest.mark.slow
def test_mapped_examples_equal_single_ones(small, inputs):
    """The examples of batches, without `vmap`, are those of the release in `test_synthesis_equals_the_release`."""
    whole = synthesize(jax.vmap(small), *inputs)
    assert whole.shape == (2, 30 * 256, 1)
    for row, expected in enumerate(whole):
        # The program of the test of padding.
        alone = synthesize(small, *(array[row] for array in inputs), token_count=np.int32(7))
        np.testing.assert_allclose(alone, expected, atol=1e-5)


def test_padding_does_not_change_speech(small, inputs):
    tokens, duration_noise, noise, speaker, language = (array[0] for array in inputs)
    _, _, durations = read(small, tokens, duration_noise, speaker, language, np.int32(5))
    samples = int(durations.sum()) * 256
    assert 0 < samples < 30 * 256
    expected = synthesize(small, tokens[:5], duration_noise[:5], noise[: samples // 256], speaker, language)
    padded = duration_noise.copy()
    padded[5:] = np.nan
    found = synthesize(small, tokens, padded, noise, speaker, language, token_count=np.int32(5))
    np.testing.assert_allclose(found[:samples], expected, atol=1e-5)


def test_frames_follow_the_durations(small, inputs):
    tokens, duration_noise, noise, speaker, language = (array[0] for array in inputs)
    conditions, text, _ = read(small, tokens, duration_noise, speaker, language, np.int32(7))
    sample = eqx.filter_jit(lambda network, *args: network.latents(*args))
    durations = jnp.array([2, 0, 1, 3, 0, 0, 2])
    latents = sample(small, text, durations, jnp.zeros_like(noise), conditions)
    assert latents.frame_count == 8
    np.testing.assert_array_equal(latents.z_p[:8], text.prior.mean[np.array([0, 0, 2, 3, 3, 3, 6, 6])])
    assert not latents.z_p[8:].any() and not latents.z[8:].any()
    nothing = sample(small, text, jnp.zeros_like(durations), noise, conditions)
    assert nothing.frame_count == 1
    np.testing.assert_allclose(nothing.z_p[0], noise[0], rtol=1e-6)


def test_conversion_to_the_same_speaker_returns_the_latents(small, inputs):
    random = np.random.default_rng(2)
    spectrogram = np.abs(random.normal(size=(2, 12, 513))).astype(np.float32)
    noise = random.normal(size=(2, 12, SMALL.channels)).astype(np.float32)
    convert = eqx.filter_jit(lambda network, *args, **options: network.convert(*args, **options))
    speaker = inputs[3]
    counts = np.array([12, 9], np.int32)
    same = convert(small, spectrogram, noise, speaker, speaker, frame_count=counts)
    encoded = encode(small, inputs[0], spectrogram, noise, speaker, inputs[4], frame_count=counts)
    np.testing.assert_allclose(same.z, encoded.z, atol=1e-5)
    np.testing.assert_allclose(same.z_p, encoded.z_p, atol=1e-5)
    other = convert(small, spectrogram, noise, speaker, speaker[::-1], frame_count=counts)
    np.testing.assert_allclose(other.z_p, same.z_p, atol=1e-6)
    assert np.abs(other.z - same.z).max() > 0.01
    # Vectors are scaled to unit length.
    scaled = convert(small, spectrogram, noise, 3 * speaker, speaker, frame_count=counts)
    np.testing.assert_allclose(scaled.audio, same.audio, atol=1e-5)


@pytest.mark.slow
def test_duration_loss_reaches_the_duration_predictor_only(small, inputs):
    random = np.random.default_rng(3)
    spectrogram = np.abs(random.normal(size=(2, 12, 513))).astype(np.float32)
    noise = random.normal(size=(2, 12, SMALL.channels)).astype(np.float32)
    durations = random.integers(1, 4, (2, 7)).astype(np.float32)

    def loss(network):
        encoded = network.encode(inputs[0], spectrogram, noise, *inputs[3:], inference=True)
        return network.duration_loss(encoded, durations, inputs[1], inference=True).sum()

    gradient = eqx.filter_jit(eqx.filter_grad(loss))(small)
    for name, array in named_arrays(gradient).items():
        unused = not name.startswith("duration_predictor")
        assert np.isfinite(array).all() and np.any(array) != unused, name


def test_decoded_segments_equal_those_of_the_whole(small, inputs):
    random = np.random.default_rng(4)
    spectrogram = np.abs(random.normal(size=(2, 12, 513))).astype(np.float32)
    noise = random.normal(size=(2, 12, SMALL.channels)).astype(np.float32)
    encoded = encode(small, inputs[0], spectrogram, noise, *inputs[3:])
    starts = jnp.array([0, 5])
    audio = eqx.filter_jit(lambda network, *args: network.decode_segment(*args))(small, encoded, starts)
    assert audio.shape == (2, SMALL.segment_samples, 1)
    cut = jnp.stack([encoded.z[0, :4], encoded.z[1, 5:9]])
    decode = eqx.filter_jit(lambda network, *args: network.waveform_decoder(*args))
    np.testing.assert_allclose(audio, decode(small, cut, encoded.conditions.speaker), atol=1e-5)


def test_wrong_conditions_raise_errors(small, inputs):
    tokens, *_, speaker, language = inputs
    for args, message in (
        (
            (None, language),
            r"speaker is None; it should be an array of vectors of 10 numbers with the batch shape \(2,\)",
        ),
        (
            (speaker[:, :9], language),
            r"speaker has shape \(2, 9\) .* it should be vectors of floats of shape \(2, 10\)",
        ),
        ((language, language), r"dtype int32; it should be vectors of floats of shape \(2, 10\)"),
        ((speaker, None), "language is None; it should be ids of integers"),
        ((speaker, speaker), "language has shape .* it should be ids of integers"),
    ):
        with pytest.raises(ShapeError, match=message):
            small.conditions(*args, tokens.shape[:1])
    plain = eqx.filter_eval_shape(VITS, preset("tiny"), key=jax.random.key(0))
    with pytest.raises(ShapeError, match="speaker is an array; it should be None, because the model has one voice"):
        plain.conditions(speaker, None, (2,))
    with pytest.raises(ShapeError, match="language is an array; it should be None"):
        plain.conditions(None, language, (2,))
    with pytest.raises(ShapeError, match=r"spectrogram has shape \(2, 12, 80\); it should be \(2, 12, 513\)"):
        encode(small, tokens, np.zeros((2, 12, 80), np.float32), np.zeros((2, 12, 8), np.float32), speaker, language)


def test_whole_durations_are_rounded_up_and_limited():
    logs = jnp.log(jnp.array([0.2, 1.0, 2.5, 1e9]))
    mask = jnp.array([True, True, True, True])
    np.testing.assert_array_equal(whole_durations(logs, mask), [1, 1, 3, 100_000])
    np.testing.assert_array_equal(whole_durations(logs, mask, length_scale=2.0)[:3], [1, 2, 5])
    assert not whole_durations(logs, ~mask).any()

"""The network compared with golden values of the release, with torch, and with closed forms."""

import dataclasses

import equinox as eqx
import jax
import numpy as np
import pytest
import scipy.stats
from jax import numpy as jnp

from jaxvoice import dissect
from jaxvoice.dsp.mel_config import WAVEGLOW_MEL
from jaxvoice.errors import CheckpointError, ConfigError, ShapeError
from jaxvoice.models.waveglow import (
    PRESETS,
    WaveGlow,
    WaveGlowConfig,
    bits_per_sample,
    find_non_finite_layer,
    negative_log_likelihood,
    precompute_inverses,
    preset,
)
from jaxvoice.nn import fold_weight_norm, freeze
from jaxvoice.weights import count_parameters, load_state, named_arrays
from tests.models.waveglow.small import SMALL, random_network
from tests.reference import golden

RELEASED = WaveGlowConfig(flows=4, early_every=2, channels=64)


def load(config, state):
    return load_state(eqx.filter_eval_shape(WaveGlow, config, key=jax.random.key(0)), state)


def assert_close(found, case, name):
    """Equal to the golden value within ten times its rounding, or 1e-5 if it has none, of the largest value."""
    tolerance = (10 * case.meta["rounding"][name] or 1e-5) * np.abs(case[name]).max()
    np.testing.assert_allclose(found, case[name], rtol=0, atol=tolerance)


def latents_of(case):
    """The noise of a case in the order of the latents `(batch, positions, group)`, which is the order of its use
    reversed."""
    return np.concatenate([case["noise_1"], case["noise_0"]], 1).swapaxes(1, 2)


def zeros_like(layer):
    return jax.tree.map(jnp.zeros_like, layer)


@pytest.fixture(scope="module")
def case():
    return golden.case("waveglow/waveglow")


@pytest.fixture(scope="module")
def released(case):
    stored = {name.removeprefix("state."): case[name] for name in case.arrays if name.startswith("state.")}
    return load(RELEASED, case.state_dict() | stored)


@pytest.fixture(scope="module")
def small():
    return random_network()


@pytest.fixture(scope="module")
def inputs():
    """A batch of two mels of 6 frames, and their noise."""
    random = np.random.default_rng(1)
    mel = random.normal(-2, 1, (2, 6, SMALL.mel.num_mels)).astype(np.float32)
    return mel, random.normal(0, 0.7, (2, 6 * SMALL.positions_per_frame, SMALL.group)).astype(np.float32)


@eqx.filter_jit
def synthesize(network, *args, **kwargs):
    return network(*args, **kwargs)


@eqx.filter_jit
def encode(network, *args, **kwargs):
    return network.encode(*args, **kwargs)


def test_synthesis_equals_the_release(case, released):
    mel, noise = case["mel"].swapaxes(1, 2), jnp.asarray(0.6, jnp.float32) * latents_of(case)
    for network in (released, freeze(precompute_inverses(released))):
        assert_close(synthesize(network, mel, noise)[..., 0], case, "wav")


def test_latents_and_loss_equal_the_release(case, released):
    mel, audio = case["mel"].swapaxes(1, 2), case["audio"][..., None]
    run = dissect.capture(lambda network, audio, mel: network.encode(audio, mel), "WN.*")
    latents, couplings = eqx.filter_jit(run)(dissect.tag(released), audio, mel)
    assert_close(latents.latents.swapaxes(1, 2), case, "z")
    scales = [couplings[f"WN.{k}"].swapaxes(1, 2) for k in range(4)]
    scales = [output[:, output.shape[1] // 2 :] for output in scales]
    assert_close(scales[0], case, "log_s_0")
    assert_close(scales[3], case, "log_s_3")
    for k in (1, 2):
        assert_close(golden.digest(scales[k]), case, f"log_s_{k}_digest")
    positions = np.prod(case["z"].shape) / 8
    determinants = [positions * layer.log_determinant() for layer in released.convinv]
    assert_close(np.stack(determinants), case, "log_det")
    np.testing.assert_allclose(latents.log_determinant.sum(), case["log_det"].sum(), rtol=1e-5)
    np.testing.assert_allclose(latents.log_scale, sum(s.sum((1, 2)) for s in scales), rtol=1e-5)
    for sigma, name in ((1.0, "loss_sigma1"), (0.7, "loss_sigma07")):
        assert_close(negative_log_likelihood(latents, sigma=sigma).mean(), case, name)


def test_synthesis_from_latents_returns_the_audio(case, released):
    mel, latents = case["mel"].swapaxes(1, 2), case["z"].swapaxes(1, 2)
    rounding = 1e-4 * np.abs(latents).max()
    np.testing.assert_allclose(synthesize(released, mel, latents)[..., 0], case["audio"], atol=rounding)


def test_synthesis_and_encoding_are_inverse(small, inputs):
    mel, noise = inputs
    audio = synthesize(small, mel, noise)
    np.testing.assert_allclose(encode(small, audio, mel).latents, noise, atol=1e-5)
    assert np.abs(audio - noise.reshape(audio.shape)).max() > 0.1


def test_log_likelihood_terms_equal_the_determinant_of_the_jacobian(small):
    config = dataclasses.replace(SMALL, mel=dataclasses.replace(SMALL.mel, hop_length=16), upsample_kernel=24)
    network = load(config, named_arrays(small) | {"upsample.weight": np.ones((10, 10, 24), np.float32) / 100})
    random = np.random.default_rng(2)
    mel = random.normal(size=(3, 10)).astype(np.float32)
    audio = random.normal(0, 0.3, 40).astype(np.float32)

    def flat(audio):
        return network.encode(audio[:, None], mel).latents.reshape(-1)

    _, expected = np.linalg.slogdet(np.asarray(jax.jit(jax.jacfwd(flat))(audio), np.float64))
    latents = encode(network, audio[:, None], mel)
    assert abs(expected) > 1
    np.testing.assert_allclose(latents.log_scale + latents.log_determinant, expected, rtol=1e-4)


def test_bits_per_sample_of_an_identity_are_the_entropy_of_the_audio(small, inputs):
    identity = [jnp.eye(layer.conv.weight.shape[0])[..., None] for layer in small.convinv]
    network = eqx.tree_at(lambda network: [layer.conv.weight for layer in network.convinv], small, identity)
    network = eqx.tree_at(lambda network: [wn.end for wn in network.WN], network, replace_fn=zeros_like)
    sigma = 0.1
    audio = np.random.default_rng(0).normal(0, sigma, (2, 6 * 256, 1)).astype(np.float32)
    latents = encode(network, audio, inputs[0])
    np.testing.assert_allclose(latents.latents.reshape(audio.shape), audio, atol=1e-6)
    density = scipy.stats.norm.logpdf(audio, scale=sigma) / np.log(2)
    np.testing.assert_allclose(bits_per_sample(latents, sigma=sigma), -density.mean((1, 2)), rtol=1e-5)


def test_padding_does_not_change_valid_samples(small, inputs):
    mel, noise = (np.array(array) for array in inputs)
    length = np.array([6, 4])
    whole, short = synthesize(small, mel, noise), synthesize(small, mel[1, :4], noise[1, : 32 * 4])
    expected = encode(small, whole, mel), encode(small, short, mel[1, :4])
    mel[1, 4:], noise[1, 32 * 4 :] = np.nan, np.nan
    audio = np.array(synthesize(small, mel, noise, length=length))
    np.testing.assert_allclose(audio[0], whole[0], atol=1e-6)
    np.testing.assert_allclose(audio[1, : 256 * 4], short, atol=1e-6)
    assert np.isnan(audio[1, 256 * 4 :]).all()
    found = encode(small, audio, mel, length=length)
    np.testing.assert_array_equal(found.samples, 256 * length)
    np.testing.assert_allclose(found.latents[0], expected[0].latents[0], atol=1e-5)
    np.testing.assert_allclose(found.latents[1, : 32 * 4], expected[1].latents, atol=1e-5)
    assert not found.latents[1, 32 * 4 :].any()
    likelihoods = [negative_log_likelihood(one, sigma=0.7) for one in (found, *expected)]
    np.testing.assert_allclose(likelihoods[0][0], likelihoods[1][0], rtol=1e-5)
    np.testing.assert_allclose(likelihoods[0][1], likelihoods[2], rtol=1e-5)


@pytest.mark.slow
def test_examples_of_a_batch_are_independent(small, inputs):
    mel, noise = inputs
    batch = synthesize(small, mel, noise)
    assert batch.shape == (2, 6 * 256, 1) and batch.dtype == np.float32
    for i in range(2):
        np.testing.assert_allclose(batch[i], synthesize(small, mel[i], noise[i]), atol=1e-6)
    np.testing.assert_allclose(synthesize(jax.vmap(small), mel, noise), batch, atol=1e-6)
    latents, single = encode(small, batch, mel), encode(small, batch[1], mel[1])
    np.testing.assert_allclose(latents.log_scale[1], single.log_scale, rtol=1e-5)
    np.testing.assert_allclose(latents.log_determinant[1], single.log_determinant, rtol=1e-5)


def test_audio_may_be_longer_than_the_frames_in_encoding(small, inputs):
    mel, _ = inputs
    audio = np.random.default_rng(4).normal(0, 0.1, (2, 5 * 256 + 512, 1)).astype(np.float32)
    assert encode(small, audio, mel).latents.shape == (2, 224, 8)
    with pytest.raises(ShapeError, match=r"audio is \(2, 1800, 1\); .* multiple of 8 samples, and at most 1792 for"):
        small.encode(jnp.zeros((2, 1800, 1)), mel)


@pytest.mark.slow
def test_gradients_are_finite_and_reach_every_weight(small, inputs):
    mel, noise = inputs
    audio = synthesize(small, mel, noise)

    def loss(network):
        return negative_log_likelihood(network.encode(audio, mel), sigma=1.0).mean()

    value, gradient = eqx.filter_jit(eqx.filter_value_and_grad(loss))(small)
    assert np.isfinite(value)
    for name, array in named_arrays(gradient).items():
        assert np.isfinite(array).all() and np.abs(array).max() > 0, name


def test_new_network_is_a_rotation_of_the_audio(key):
    network = WaveGlow(SMALL, key=key)
    for layer in network.convinv:
        matrix = np.asarray(layer.conv.weight[..., 0], np.float64)
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(len(matrix)), atol=1e-6)
        np.testing.assert_allclose(np.linalg.det(matrix), 1, atol=1e-6)
    audio = jax.random.normal(key, (512, 1))
    latents = encode(network, audio, np.zeros((2, 10), np.float32))
    np.testing.assert_allclose(latents.log_scale, 0, atol=1e-6)
    np.testing.assert_allclose(latents.log_determinant, 0, atol=1e-3)
    norms = [np.linalg.norm(x) for x in (latents.latents, audio)]
    np.testing.assert_allclose(norms[0], norms[1], rtol=1e-5)


def test_half_precision_keeps_audio_and_matrices_in_float32(small, inputs):
    mel, noise = inputs
    exact = synthesize(small, mel, noise)
    rounded = synthesize(small, jnp.asarray(mel, jnp.bfloat16), jnp.asarray(noise))
    assert rounded.dtype == np.float32
    assert 0 < np.abs(rounded - exact).max() < 0.1
    latents = encode(small, exact, jnp.asarray(mel, jnp.bfloat16))
    assert latents.latents.dtype == latents.log_scale.dtype == np.float32


@pytest.mark.parametrize(("name", "folded"), [("256channels", False), ("256channels", True), ("512channels", False)])
def test_presets_have_the_tensors_of_the_release(name, folded):
    released = golden.case_json(f"waveglow/shapes_{name}{'_folded' if folded else ''}")
    network = eqx.filter_eval_shape(WaveGlow, preset(name), key=jax.random.key(0))
    network = eqx.filter_eval_shape(fold_weight_norm, network) if folded else network
    assert {name: [*array.shape] for name, array in named_arrays(network).items()} == released["tensors"]
    assert count_parameters(network) == released["parameters"]


def test_receptive_field_contains_every_frame_that_changes_a_sample(small):
    assert PRESETS["256channels"].receptive_field == (99, 96)
    left, right = SMALL.receptive_field
    frames, middle = left + right + 7, left + 3
    random = np.random.default_rng(5)
    mel = random.normal(size=(frames, 10)).astype(np.float32)
    noise = random.normal(size=(frames * 32, 8)).astype(np.float32)
    before = synthesize(small, mel, noise)[256 * middle : 256 * (middle + 1)]
    mel[middle - left - 1] += 1
    mel[middle + right + 1] += 1
    noise[: 32 * (middle - left)] += 1
    noise[32 * (middle + right + 1) :] += 1
    np.testing.assert_array_equal(synthesize(small, mel, noise)[256 * middle : 256 * (middle + 1)], before)


@pytest.mark.parametrize("k", [0, 3])
def test_singular_matrices_raise_an_error_with_the_name_of_the_weight(small, k):
    weight = small.convinv[k].conv.weight
    small_values = np.eye(len(weight), dtype=np.float32)[..., None] * np.float32(1e-39)
    for value, message in (
        (weight.at[0].set(weight[1]), "condition number"),
        (weight * jnp.nan, "NaN or infinity"),
        (small_values, "so its inverse is not finite in float32"),
    ):
        broken = eqx.tree_at(lambda network: network.convinv[k].conv.weight, small, value)
        with pytest.raises(CheckpointError, match=rf"convinv\.{k}\.conv\.weight .*{message}"):
            precompute_inverses(broken)


def test_first_layer_with_a_non_finite_result_is_found(small, inputs):
    mel, noise = inputs
    log_scale = small.convinv[1].conv.weight.shape[0] // 2
    # The first shift of flow 2 is not finite, and the first scale of flow 1: its logarithm is large, but finite.
    for k, index, value, name in ((2, 0, np.nan, "WN.2.end"), (1, log_scale, -1000.0, "convinv.1")):
        bias = small.WN[k].end.bias.at[index].set(value)
        broken = eqx.tree_at(lambda network, k=k: network.WN[k].end.bias, small, bias)
        assert find_non_finite_layer(broken, mel, noise) == name
    assert find_non_finite_layer(small, mel, noise) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel_size": 4}, "kernel_size is 4; it should be odd"),
        ({"group": 24}, "group is 24; it should divide the hop length of the mel, 256"),
        ({"group": 1}, "group is 1 and early_size is 2; both should be even"),
        ({"early_size": 3}, "early_size is 3; both should be even"),
        ({"early_size": 4}, r"early_size is 4: 2 early outputs .* leave 0 of 8 channels"),
        ({"upsample_kernel": 100}, "upsample_kernel is 100; it should be at least the hop length of the mel, 256"),
        ({"layers": 30}, "layers is 30; it should be at most 16"),
        ({"flows": 0}, "flows is 0; it should be positive"),
        ({"channels": 2.5}, "channels is 2.5; it should be a whole number"),
    ],
)
def test_invalid_sizes_raise_errors(change, message):
    with pytest.raises(ConfigError, match=message):
        WaveGlowConfig(**change)


def test_unknown_preset_raises_an_error():
    with pytest.raises(ConfigError, match="preset is 'big'; it should be one of 256channels, 512channels"):
        preset("big")
    assert preset("256channels").mel == WAVEGLOW_MEL


def test_wrong_shapes_raise_errors(small, inputs):
    mel, noise = inputs
    with pytest.raises(ShapeError, match=r"noise is \(2, 191, 8\); it should be \(2, 192, 8\), 32 positions for each"):
        small(mel, noise[:, 1:])
    with pytest.raises(ShapeError, match=r"mel is \(2, 10, 6\); it should be \(\*batch, frames, 10\)"):
        small(mel.swapaxes(1, 2), noise)
    with pytest.raises(ShapeError, match=r"lengths is \(3,\); it should be \(\) or the batch shape \(2,\)"):
        small(mel, noise, length=np.array([1, 2, 3]))
    with pytest.raises(ShapeError, match=r"audio is \(2, 256\); it should be \(2, '...', 1\)"):
        small.encode(jnp.zeros((2, 256)), mel)

"""Encoders and generators of RAVE compared with golden values of the release and with closed forms."""

import dataclasses

import equinox as eqx
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxvoice.dsp import pqmf_analysis, pqmf_synthesis
from jaxvoice.errors import ConfigError, ShapeError
from jaxvoice.models.rave import (
    PQMF,
    AdaIN,
    BottleneckConfig,
    NoiseConfig,
    NoiseGenerator,
    PQMFConfig,
    Rave,
    Snake,
    preset,
)
from jaxvoice.models.rave.layers import conv_padding
from jaxvoice.models.rave.noise import filter_frames, impulse_responses, scaled_sigmoid
from jaxvoice.weights import load_state
from tests.models.rave.released import (
    CASES,
    channels_first,
    channels_last,
    config_of,
    largest_error,
    load,
    noise_of,
    with_capacity,
    with_formula_weights,
)
from tests.models.rave.small import CONFIGS, random_model
from tests.reference import golden

SLOW = ("v2_small", "v2_noise", "wasserstein", "spherical")
"""Cases whose layers the others cover."""


@eqx.filter_jit
def results(network, state, case_arrays):
    """All results of a golden case in one program, which takes less time to compile than all operations alone."""
    audio, noise, z, first_noise, second_noise = case_arrays
    subbands = network.pqmf.analysis(audio)
    encoded, _ = network.encoder(subbands, state.encoder, inference=True)
    latents, _ = network.encode(audio, state, noise=noise, inference=True)
    bands, _ = network.decode_bands(z, state, noise=first_noise, inference=True)
    decoded, _ = network.decode(z, state, noise=first_noise, inference=True)
    with_noise, _ = network.decode(z, state, noise=second_noise, inference=True)
    return subbands, encoded, latents, bands, decoded, with_noise


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in CASES])
def test_network_equals_the_release(name):
    case = golden.case(f"rave/{name}")
    network, state = load(config_of(name), case.state_dict())
    uniform = case.arrays.get("noise_dec_0_uniform")
    noise = None if uniform is None else jnp.asarray(2 * uniform - 1)
    # v1 adds noise in the second phase of training only.
    first_noise = None if name == "v1" else noise
    arrays = channels_last(case["x"]), noise_of(case, network), channels_last(case["z"]), first_noise, noise
    subbands, encoded, latents, bands, decoded, with_noise = results(network, state, arrays)
    assert largest_error(golden.digest(channels_first(subbands)), case["multiband_digest"]) < 1e-5
    assert largest_error(channels_first(encoded), case["encoded"]) < 1e-5
    assert largest_error(channels_first(latents.z), case["z"]) < 1e-5
    assert abs(float(latents.regularization) - float(case["reg"])) <= 1e-5 * abs(float(case["reg"]))
    if latents.codes is not None:
        np.testing.assert_array_equal(channels_first(latents.codes), case["codes"])
    assert largest_error(golden.digest(channels_first(bands)), case["decoder_out_digest"]) < 1e-5
    assert largest_error(channels_first(decoded), case["y"]) < 1e-5
    if name == "v1":
        assert largest_error(channels_first(with_noise), case["y_warmed_up"]) < 1e-5


def shapes_of(config):
    return eqx.filter_eval_shape(Rave, config, key=jax.random.key(0))


@pytest.fixture(scope="module")
def noise_case():
    return golden.case("rave/noise_generators")


@pytest.mark.parametrize(
    ("version", "prefix", "config"),
    [
        ("v1", "decoder.synth.branches.2.", NoiseConfig((4, 4, 4), hidden_size=None)),
        ("v2", "decoder.noise_module.", NoiseConfig()),
    ],
)
def test_noise_generators_equal_the_release(version, prefix, config, noise_case, key):
    module = NoiseGenerator(config, 16, 16, version=version, key=key)
    module = load_state(
        module, {n.removeprefix(prefix): v for n, v in noise_case.state_dict().items() if n.startswith(prefix)}
    )
    features = channels_last(noise_case[f"{version}_features"])
    noise = jnp.asarray(2 * noise_case[f"{version}_noise_0_uniform"] - 1)

    @eqx.filter_jit
    def run(module, features, noise):
        return module(features, noise=noise), module(features[0]), module(features, key=key)

    filtered, silent, drawn = run(module, features, noise)
    assert largest_error(channels_first(filtered), noise_case[f"{version}_out"]) < 1e-5
    assert silent.shape == (features.shape[1], 16) and not np.any(silent)
    assert 0.3 < float(jnp.std(drawn) / np.std(noise_case[f"{version}_out"])) < 3
    with pytest.raises(ShapeError, match="it should be"):
        module(features, noise=noise[:, 1:])
    with pytest.raises(ShapeError, match=f"multiple of {config.frame_length} time steps"):
        module(features[:, 1:])


@pytest.mark.parametrize("i", range(3))
def test_filters_of_noise_equal_the_release(i, noise_case):
    response = impulse_responses(jnp.asarray(noise_case[f"amp_{i}"]), noise_case[f"ir_{i}"].shape[-1])
    assert largest_error(response, noise_case[f"ir_{i}"]) < 1e-5
    filtered = filter_frames(jnp.asarray(noise_case[f"signal_{i}"]), response)
    assert largest_error(filtered, noise_case[f"convolved_{i}"]) < 1e-5
    assert largest_error(scaled_sigmoid(jnp.asarray(noise_case["modsigmoid_in"])), noise_case["modsigmoid_out"]) < 1e-6


def learn(state, x: float, y: float):
    return eqx.tree_at(lambda s: (s.learn_x, s.learn_y), state, (jnp.full(1, x), jnp.full(1, y)))


def test_adaptive_instance_norm_equals_the_release():
    case, layer = golden.case("rave/adain"), AdaIN(8)

    def run(name, state):
        return layer(channels_last(case[name]), state, inference=True)

    unchanged, state = run("x0", layer.init_state(slots=2))
    np.testing.assert_array_equal(channels_first(unchanged), case["before"])
    state = learn(state, 0.0, 1.0)
    for name in ("y0", "y1"):
        _, state = run(name, state)
    state = learn(state, 1.0, 0.0)
    for i in range(2):
        output, state = run(f"x{i}", state)
        assert largest_error(channels_first(output), case[f"step_{i}"]) < 1e-5
    for name in ("mean_x", "std_x", "mean_y", "std_y"):
        assert largest_error(getattr(state, name), case[name]) < 1e-5
    state = learn(state, 0.0, 0.0)
    output, after = run("x0", state)
    assert largest_error(channels_first(output), case["transfer"]) < 1e-5
    training, after = layer(channels_last(case["x0"]), after)
    np.testing.assert_array_equal(channels_first(training), case["x0"])
    assert eqx.tree_equal(after, state)
    with pytest.raises(ShapeError, match=r"3 examples.*at most 2"):
        layer(jnp.zeros((3, 4, 8)), state, inference=True)


def test_adaptive_instance_norms_of_v3_change_the_statistics_of_their_input():
    """A target that is the source, scaled and shifted, changes every norm's output in that way."""
    network = shapes_of(with_capacity(preset("v3"), 4))
    state = network.init_state()
    assert state.decoder is not None and len(state.decoder.net) == len(network.decoder.net) == 33
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 64, 32)), jnp.float32)
    layer, norm = network.decoder.net[3], state.decoder.net[3]
    assert isinstance(layer, AdaIN) and layer.channels == 32
    _, norm = layer(3 * x + 5, learn(norm, 0.0, 1.0), inference=True)
    output, norm = layer(x, learn(norm, 1.0, 0.0), inference=True)
    np.testing.assert_allclose(output, 3 * x + 5, rtol=1e-3, atol=1e-3)


def test_snake_equals_its_formula():
    x = np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float32)
    layer = eqx.tree_at(lambda s: s.alpha, Snake(3), jnp.array([[0.5], [1.0], [2.0]]))
    alpha = np.array([0.5, 1.0, 2.0])
    np.testing.assert_allclose(layer(jnp.asarray(x)), x + np.sin(alpha * x) ** 2 / alpha, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("kernel", "dilation", "centered", "causal"),
    [(1, 1, (0, 0), (0, 0)), (3, 9, (9, 9), (18, 0)), (8, 1, (3, 4), (7, 0)), (513, 1, (256, 256), (512, 0))],
)
def test_padding_keeps_the_length(kernel, dilation, centered, causal):
    assert conv_padding(kernel, dilation) == centered
    assert conv_padding(kernel, dilation, causal=True) == causal


@pytest.mark.parametrize("causal", [False, True])
def test_filter_bank_of_the_checkpoint_is_that_of_dsp_with_a_delay(causal):
    bank = PQMF(PQMFConfig(), causal=causal)
    assert bank.delay == (528 if causal else 16)
    audio = jnp.asarray(np.random.default_rng(0).standard_normal((3, 4096, 2)), jnp.float32)
    subbands = bank.analysis(audio)
    assert subbands.shape == (3, 256, 32)
    expected = pqmf_analysis(audio.swapaxes(1, 2), bank.hk)  # (3, 2, frames, bands)
    if not causal:
        assert largest_error(subbands[..., 16:], expected[:, 1]) < 1e-5
    synthesis = bank.synthesis(subbands)
    shifted = np.roll(pqmf_synthesis(expected, bank.hk).swapaxes(1, 2), bank.delay, 1)
    assert largest_error(synthesis[:, 1024:-1024], shifted[:, 1024:-1024]) < 1e-4
    with pytest.raises(ShapeError, match="multiple of 16 samples"):
        bank.analysis(audio[:, :100])
    with pytest.raises(ShapeError, match="bands for each channel"):
        bank.synthesis(subbands[..., :20])


def test_filter_bank_equals_the_release():
    bank, case = PQMF(PQMFConfig()), golden.case("rave/pqmf")
    for name, array in {
        "h": bank.h,
        "hk": bank.hk,
        "forward_conv.weight": bank.forward_conv.weight,
        "inverse_conv.weight": bank.inverse_conv.weight,
    }.items():
        assert largest_error(array, case[f"state.pqmf.{name}"]) < 1e-5
    synthesis = bank.synthesis(channels_last(case["analysis"]))
    assert largest_error(channels_first(synthesis), case["synthesis"]) < 1e-5


def test_causal_encoder_does_not_depend_on_later_audio(key):
    network, state = with_formula_weights(with_capacity(preset("v2", "causal"), 2))
    audio = jax.random.normal(key, (8 * 2048, 1))
    encode = eqx.filter_jit(lambda audio: network.encode(audio, state, inference=True)[0].z)
    same, other = np.asarray(encode(audio)), np.asarray(encode(audio.at[5 * 2048 :].set(0.0)))
    np.testing.assert_array_equal(same[:5], other[:5])
    assert np.abs(same[5:] - other[5:]).max() > 1e-3


def test_reconstruction_has_the_shape_of_the_audio_with_several_channels(key):
    config = dataclasses.replace(with_capacity(preset("v2_small"), 2), n_channels=2)
    network, state = with_formula_weights(config)
    audio = jax.random.normal(key, (2, 2, 1024, 2))
    reconstruct = eqx.filter_jit(lambda audio: network(audio, state, key=key)[0])
    assert reconstruct(audio).shape == audio.shape


def test_reconstruction_with_a_key_has_the_noise_of_the_generator(key):
    """Spherical latents are not drawn, so that only the noise depends on the key."""
    config = dataclasses.replace(CONFIGS["noise"], bottleneck=BottleneckConfig("spherical", 6))
    model = random_model(config)
    weight = model.network.decoder.noise_module.net[-1].weight
    network = eqx.tree_at(lambda n: n.decoder.noise_module.net[-1].weight, model.network, 1000 * weight)
    audio = jax.random.normal(key, (8 * config.hop_length, 1))
    reconstruct = eqx.filter_jit(lambda key: network(audio, model.state, key=key, inference=True)[0])
    silent, first, second = (np.asarray(reconstruct(k)) for k in (None, *jax.random.split(key)))
    for one, other in ((silent, first), (first, second)):
        assert np.abs(one - other).max() > 0.1


def test_batch_norm_of_v1_is_state(key):
    case = golden.case("rave/v1")
    network, state = load(config_of("v1"), case.state_dict())
    audio = channels_last(case["x"])

    @eqx.filter_jit
    def run(network, state, audio):
        _, after = network.encode(audio, state, key=key)
        _, same = network.encode(audio, state, key=key, inference=True)
        return after, same, network.encoder.encoder.net[0](network.pqmf.analysis(audio))

    after, same, first = run(network, state, audio)
    assert eqx.tree_equal(same, state)
    moved = after.encoder.encoder.net[1]
    before = state.encoder.encoder.net[1]
    np.testing.assert_allclose(
        moved.running_mean, 0.9 * before.running_mean + 0.1 * np.mean(first, (0, 1)), rtol=1e-4, atol=1e-6
    )
    with pytest.raises(ConfigError, match=r"state is None.*MaskedBatchNorm"):
        network.encoder.encoder(jnp.zeros((256, 16)))


def test_inputs_of_other_shapes_raise_an_error():
    network = shapes_of(preset("v2"))
    state = network.init_state()
    for shape in [(2000, 1), (0, 1), (2048, 2), (2048,)]:
        with pytest.raises(ShapeError, match=r"\(\*batch, samples, 1\) with a multiple of 2048 samples"):
            network.encode(jnp.zeros(shape), state)
    with pytest.raises(ShapeError, match=r"\(\*batch, frames, 128\)"):
        network.decode(jnp.zeros((3, 100)), state)
    with pytest.raises(ShapeError, match="shapes of noise"):
        network.encoder.draw(jnp.zeros((2, 256)), state.encoder, noise=[jnp.zeros((1, 3))])
    with pytest.raises(ShapeError, match=r"\(\*batch, frames, 256\)"):
        network.encoder.draw(jnp.zeros((2, 128)), state.encoder)

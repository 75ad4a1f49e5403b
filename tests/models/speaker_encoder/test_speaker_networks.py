"""Speaker encoders compared with golden values of coqui's, and their gradients and running statistics."""

import dataclasses

import equinox as eqx
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxvoice.errors import ConfigError, ShapeError
from jaxvoice.models.speaker_encoder import (
    BUFFERS,
    PRESETS,
    GE2EConfig,
    GE2EEncoder,
    LSTMConfig,
    LSTMEncoder,
    ResNetConfig,
    ResNetSE,
    SEBasicBlock,
    SpeakerEncoderConfig,
    build,
    embed_windows,
    preset,
    window_starts,
    with_state,
    without_state,
)
from jaxvoice.models.speaker_encoder.front_end import front_end
from jaxvoice.weights import named_arrays
from tests.models.speaker_encoder.released import CASES, input_of, load, mels, released, with_bands
from tests.models.speaker_encoder.small import GE2E, LSTM_SMALL, SMALL, random_encoder
from tests.reference import golden

_embed = eqx.filter_jit(lambda network, x, normalize=True: network(x, normalize=normalize))
_windows = eqx.filter_jit(embed_windows)


def rounding(case, name):
    return max(1e-5, 10 * case.meta["rounding"][name])


def relative_error(ours, theirs):
    return np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max()


@pytest.fixture(scope="module")
def hasp():
    return released("resnet_wav")


@pytest.mark.parametrize("name", CASES)
def test_embeddings_equal_the_golden_values(name):
    case, network = released(name)
    x = jnp.asarray(input_of(case))
    embedding = _embed(network, x, normalize=False)
    assert relative_error(embedding, case["embedding"]) < rounding(case, "embedding")
    unit = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
    np.testing.assert_allclose(unit, case["embedding_l2"], atol=rounding(case, "embedding_l2"))


@pytest.mark.parametrize("name", ["lstm", "lstm_without_projection"])
def test_windows_of_short_mels_equal_the_golden_values(name):
    case, network = released(name)
    found = _windows(network, jnp.asarray(input_of(case)[:1]))
    np.testing.assert_allclose(found, case["compute_embedding"], atol=1e-5)


def test_windows_of_audio_equal_the_golden_values(hasp):
    case, network = hasp
    np.testing.assert_allclose(_windows(network, jnp.asarray(case["wav_long"])), case["compute_embedding"], atol=1e-5)
    short = _windows(network, jnp.asarray(case["wav"][:1]))
    np.testing.assert_allclose(short, case["compute_embedding_short"], atol=1e-5)
    assert np.linalg.norm(case["compute_embedding"]) < 0.9999  # the mean of the windows is not normalised


def test_window_starts_are_spread_over_the_recording():
    assert window_starts(50_000, 40_000).tolist() == [0, 1111, 2222, 3333, 4444, 5555, 6666, 7777, 8888, 10_000]
    assert window_starts(7, 9, 3).tolist() == [0, 0, 0]


def test_windows_of_mels_are_cut_from_the_time_axis(key):
    network = random_encoder(dataclasses.replace(LSTM_SMALL, mel=mels(8)))
    x = jax.random.normal(key, (1, 40, 8))
    found = eqx.filter_jit(lambda x: embed_windows(network, x, windows=3, frames=20))(x)
    expected = np.mean([_embed(network, x[:, start : start + 20]) for start in (0, 10, 20)], axis=0)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "config", "parameters", "tensors"),
    [
        ("resnet", preset("hasp"), 8_028_492, 295),
        ("lstm", dataclasses.replace(preset("lstm"), mel=mels(80)), 9_504_768, 15),
    ],
)
def test_names_shapes_and_counts_equal_those_of_the_release(name, config, parameters, tensors):
    case = golden.case_json(f"speaker_encoder/{name}_shapes")
    ours = named_arrays(eqx.filter_eval_shape(build, config, key=jax.random.key(0)))
    assert {one: array.shape for one, array in ours.items()} == {
        one["name"]: tuple(one["shape"]) for one in case["tensors"]
    }
    assert len(ours) == tensors
    trained = [one["name"] for one in case["tensors"] if one["kind"] == "parameter"]
    assert sum(ours[one].size for one in trained) == parameters


def test_front_end_has_the_buffers_of_the_release(hasp):
    case, _ = hasp
    ours = named_arrays({"torch_spec": front_end(preset("hasp"))})
    assert len(ours) == 3 and all(name.startswith(BUFFERS) for name in ours)
    for name in ours:
        np.testing.assert_allclose(ours[name], case[f"state.{name}"], atol=1e-5)


@pytest.mark.parametrize("changed", ["torch_spec.1.mel_scale.fb", "torch_spec.1.spectrogram.window", "bn1.running_var"])
def test_stored_buffers_are_used(changed, hasp):
    case, network = hasp
    arrays = named_arrays(network)
    ramp = jnp.linspace(0.5, 1.5, arrays[changed].shape[0]).reshape(-1, *(1 for _ in arrays[changed].shape[1:]))
    other = load(CASES["resnet_wav"], arrays | {changed: arrays[changed] * ramp})
    found = _embed(other, jnp.asarray(case["wav"]))
    assert np.abs(found - case["embedding_l2"]).max() > 1e-4


def cosine(network, audio):
    first, second = network(audio)
    return jnp.sum(first * second)


def test_gradient_of_the_waveforms_equals_the_golden_values(hasp):
    case, network = hasp
    value, gradient = eqx.filter_jit(jax.value_and_grad(cosine, argnums=1))(network, jnp.asarray(case["wav"]))
    assert abs(value - case["cosine64"]) < 1e-6
    digest = golden.digest(np.asarray(gradient))
    for name, tolerance in (("cosine_grad_digest", 5.3e-3), ("cosine_grad64_digest", 5.3e-3)):
        assert relative_error(digest, case[name]) < tolerance
    np.testing.assert_allclose(np.linalg.norm(gradient, axis=1), case["cosine_grad_norm"], rtol=3e-4)


@pytest.mark.parametrize("config", [LSTM_SMALL, GE2E], ids=["lstm", "ge2e"])
def test_gradient_of_the_waveform_is_the_directional_derivative(config, key):
    network = random_encoder(config)
    audio = 0.3 * jax.random.normal(jax.random.key(1), (2, 4000))
    function = eqx.filter_jit(lambda x: cosine(network, x))
    gradient = eqx.filter_jit(jax.grad(lambda x: cosine(network, x)))(audio)
    norm = jnp.linalg.norm(gradient)
    direction, step = gradient / norm, 0.02
    measured = (function(audio + step * direction) - function(audio - step * direction)) / (2 * step)
    assert norm > 1e-4
    np.testing.assert_allclose(measured, norm, rtol=2e-2)


@pytest.mark.parametrize("config", [SMALL, LSTM_SMALL, GE2E], ids=["resnet", "lstm", "ge2e"])
def test_silence_has_finite_embeddings_and_gradients(config, key):
    network = random_encoder(config)
    value, gradient = eqx.filter_jit(jax.value_and_grad(lambda x: jnp.sum(network(x, normalize=True)[..., 0] ** 2)))(
        jnp.zeros(3000)
    )
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_embedding_does_not_depend_on_the_batch_or_its_axes(key):
    network = random_encoder(SMALL)
    audio = jax.random.normal(key, (2, 3, 3000))
    together = _embed(network, audio)
    assert together.shape == (2, 3, 12)
    np.testing.assert_allclose(together[1, 2], _embed(network, audio[1, 2]), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(together, axis=-1), 1, atol=1e-6)


@pytest.mark.parametrize(
    "config",
    [SMALL, LSTM_SMALL, dataclasses.replace(LSTM_SMALL, network=LSTMConfig(10, 2, 12, projection=False)), GE2E],
    ids=["resnet", "lstm", "stacked", "ge2e"],
)
def test_padding_does_not_change_the_embedding(config, key):
    network = random_encoder(config)
    audio, lengths = jax.random.normal(key, (2, 6400)), jnp.array([3210, 5000])
    padded = eqx.filter_jit(lambda x, length: network(x, length=length, normalize=False))
    alone = _embed(network, audio[0, :3210], normalize=False)
    # In the second batch, the other row comes first.
    for found in (padded(audio, lengths)[0], padded(audio[::-1], lengths[::-1])[1]):
        np.testing.assert_allclose(found, alone, atol=2e-5 * np.abs(alone).max())


def test_padding_of_mels_does_not_change_the_embedding(key):
    network = random_encoder(dataclasses.replace(LSTM_SMALL, mel=mels(16)))
    x = jnp.abs(jax.random.normal(key, (33, 16)))
    padded = eqx.filter_jit(lambda x: network(x, length=21))(x)
    np.testing.assert_allclose(padded, _embed(network, x[:21]), atol=1e-5)


def test_embedding_of_resnet_hardly_depends_on_the_level(hasp):
    case, network = hasp
    audio = jnp.asarray(case["wav"])
    assert np.sum(_embed(network, audio) * _embed(network, 0.1 * audio), axis=1).min() > 0.999


def test_training_normalises_by_the_batch_and_moves_the_statistics(key):
    network, state = without_state(random_encoder(SMALL))
    audio = jax.random.normal(key, (4, 3000))
    run = eqx.filter_jit(lambda x, state, inference: network(x, state, inference=inference))
    _, new = run(audio, state, False)
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), state, new)
    assert all(jax.tree.leaves(moved)) and len(jax.tree.leaves(moved)) == 3 * (2 + 2 * 4 + 3)
    fixed = with_state(network, new)
    _, same = run(audio, new, True)
    assert eqx.tree_equal(same, new)
    np.testing.assert_allclose(_embed(fixed, audio), run(audio, new, True)[0], atol=1e-6)
    trained, separated = without_state(fixed)
    assert eqx.tree_equal(trained, network) and eqx.tree_equal(separated, new)


def test_initial_weights_have_the_deviation_of_the_release():
    block = eqx.filter_jit(SEBasicBlock)(40, 80, 1, 8, key=jax.random.key(0))
    assert abs(np.std(block.conv1.weight) / np.sqrt(2 / (80 * 9)) - 1) < 0.02
    config = dataclasses.replace(LSTM_SMALL, network=LSTMConfig(hidden=100, layers=1))
    lstm = eqx.filter_jit(lambda key: LSTMEncoder(config, key=key).layers[0].lstm)(jax.random.key(0))
    assert not np.any(lstm.bias_ih_l0)
    assert abs(np.std(lstm.weight_hh_l0) / np.sqrt(2 / 500) - 1) < 0.02


def test_wrong_arguments_raise_errors(key):
    network = random_encoder(SMALL)
    trained, state = without_state(network)
    audio = jnp.zeros(3000)
    with pytest.raises(ShapeError, match="audio has 256 samples; it should have at least 257"):
        network(jnp.zeros(256))
    with pytest.raises(ShapeError, match="int32; it should be floats"):
        network(jnp.zeros(3000, jnp.int32))
    with pytest.raises(ConfigError, match="state is None; it should be a state for training"):
        trained(audio)
    with pytest.raises(ConfigError, match="state is given; it should be None"):
        network(audio, state)
    with pytest.raises(ConfigError, match="length is given; it should be None for an encoder that is trained"):
        trained(audio, state, length=2000)
    with pytest.raises(ConfigError, match="contain their statistics"):
        network.init_state()
    with pytest.raises(ConfigError, match="contain no statistics"):
        without_state(trained)
    given = random_encoder(dataclasses.replace(SMALL, mel=mels(8)))
    with pytest.raises(ShapeError, match=r"\(\*batch, frames, 8\)"):
        given(jnp.zeros((5, 9)))
    with pytest.raises(ShapeError, match="at least one frame"):
        given(jnp.zeros((0, 8)))
    with pytest.raises(ConfigError, match="GE2EConfig; it should be a ResNetConfig"):
        ResNetSE(GE2E, key=key)
    with pytest.raises(ConfigError, match="ResNetConfig; it should be an LSTMConfig"):
        LSTMEncoder(SMALL, key=key)
    with pytest.raises(ConfigError, match="ResNetConfig; it should be a GE2EConfig"):
        GE2EEncoder(SMALL, key=key)


def test_configurations_are_checked():
    with pytest.raises(ConfigError, match=r"channels is .*multiples of reduction, 8"):
        ResNetConfig(channels=(8, 12, 16, 32))
    with pytest.raises(ConfigError, match="hidden is 0; it should be positive"):
        LSTMConfig(hidden=0)
    with pytest.raises(ConfigError, match="depth is 65; it should be at most 64"):
        GE2EConfig(depth=65)
    with pytest.raises(ConfigError, match=r"level is 3\.0; it should lie between"):
        SpeakerEncoderConfig(level=3.0)
    with pytest.raises(ConfigError, match="one of hasp, lstm, resemblyzer, tiny"):
        preset("huge")
    assert with_bands(PRESETS["tiny"], 32).mel.num_mels == 32

"""Streams of RAVE against the offline network on the delayed input, and against the delays of the release."""

import equinox as eqx
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxvoice import dissect
from jaxvoice.errors import ConfigError, ShapeError
from jaxvoice.models.rave import (
    PRESETS,
    GeneratorV1,
    Rave,
    audio_latency,
    autoencoder_stream,
    decoder_stream,
    encoder_stream,
    preset,
    trained_stream,
)
from tests.models.rave.released import with_capacity, with_formula_weights
from tests.models.rave.small import CONFIGS, random_model

CASES = {
    "preset v1": ("v1",),
    "preset v2_noise": ("v2", "noise"),
    "preset v2_nopqmf": ("v2_nopqmf",),
    "preset v3": ("v3",),
    "preset hybrid": ("hybrid",),
    "preset discrete": ("discrete",),
    "preset causal": ("v2", "causal"),
    "preset v2_small": ("v2_small",),
    "preset wasserstein": ("v2", "wasserstein"),
    "preset spherical": ("v2", "spherical"),
}
"""The presets with few channels, besides the small configurations."""
DEFAULT = ("v1", "noise", "raw output")
SLOW = (*sorted(set(CONFIGS) - set(DEFAULT)), *CASES)
"""Cases with more layers, and cases whose layers the others cover."""
FRAMES = 24
DIVISIONS = ([8] * 3, [16, 8])


def small(name: str):
    """A small network with running statistics and statistics of instance norms that are not those of initial ones."""
    if name in CONFIGS:
        model = random_model(CONFIGS[name])
        network, state = model.network, model.state
    else:
        network, state = with_formula_weights(with_capacity(preset(*CASES[name]), 4))
    rng, leaves, tree = np.random.default_rng(0), *jax.tree.flatten(state)
    drawn = [jnp.asarray(np.abs(rng.normal(0.5, 0.3, leaf.shape)), leaf.dtype) for leaf in leaves]
    state = tree.unflatten(drawn)
    # Adaptive instance norms apply their statistics, and do not measure any.
    state = jax.tree_util.tree_map_with_path(lambda path, leaf: 0 * leaf if "learn" in str(path[-1]) else leaf, state)
    return network, state


step = eqx.filter_jit(lambda stream, state, block: stream.step(state, block))


def blocks_of(stream, x, lengths, key=None):
    state, outputs = stream.init_state(batch=x.shape[:-2], key=key), []
    for block in np.split(x, np.cumsum(lengths)[:-1], -2):
        state, y = step(stream, state, block)
        outputs.append(np.asarray(y))
    return np.concatenate(outputs, -2)


def assert_close(found, expected):
    assert np.abs(expected).max() > 1e-3
    assert np.abs(found - expected).max() < 1e-5 * max(1, np.abs(expected).max())


@pytest.mark.parametrize("name", [*DEFAULT, *(pytest.param(n, marks=pytest.mark.slow) for n in SLOW)])
def test_streams_equal_the_offline_network(name):
    network, state = small(name)
    hop, key = network.config.hop_length, jax.random.key(3)
    audio = np.random.default_rng(1).normal(0, 0.3, (FRAMES * hop, network.config.n_channels)).astype(np.float32)
    encoder = encoder_stream(network, state)
    assert encoder.output_delay == 0 and encoder.multiple == hop

    @eqx.filter_jit
    def encode(network, state, audio, noise):
        return network.encode(audio, state, noise=noise, inference=True)[0].z

    delayed = np.pad(audio, ((encoder.input_delay, -encoder.input_delay % hop), (0, 0)))
    numbers = jnp.arange(len(delayed) // hop, dtype=jnp.int32)
    z = encode(network, state, delayed, network.encoder.frame_noise(key, numbers))[:FRAMES]
    for lengths in DIVISIONS:
        assert_close(blocks_of(encoder, audio, [hop * n for n in lengths], key), z)

    @eqx.filter_jit
    def decode(network, state, z, noise):
        return network.decode(z, state, noise=noise, inference=True)[0]

    decoder, noise = decoder_stream(network, state), None
    if isinstance(network.decoder, GeneratorV1):
        branch = network.decoder.synth.branches[2]
    else:
        branch = network.decoder.noise_module
    if branch is not None:
        frames = FRAMES * decoder.ratio // (network.pqmf.hk.shape[0] * branch.frame_length)
        noise = branch.frame_noise(key, jnp.arange(int(frames), dtype=jnp.int32))
    decoded = np.asarray(decode(network, state, z, noise))
    assert decoder.input_delay == 0 and decoder.multiple == 1
    for lengths in DIVISIONS:
        y = blocks_of(decoder, np.asarray(z), lengths, key)
        assert not np.any(y[: decoder.output_delay])
        assert_close(y[decoder.output_delay :], decoded[: len(y) - decoder.output_delay])


def shapes_of(config):
    network = eqx.filter_eval_shape(Rave, config, key=jax.random.key(0))
    return network, network.init_state()


@pytest.mark.parametrize(
    ("names", "encoder_delay", "decoder_delay"),
    # acids-ircam/RAVE with cached_conv, measured on its blocks; with the filter bank, 256 samples more for each half.
    [
        (("v2",), 13952 + 256, 12256 + 256),
        (("v2_nopqmf",), 13952 + 256, 6364),
        (("v2", "causal"), 0, 1696),
    ],
)
def test_delays_are_those_of_the_release(names, encoder_delay, decoder_delay):
    network, state = shapes_of(preset(*names))
    encoder, decoder = encoder_stream(network, state), decoder_stream(network, state)
    assert (encoder.input_delay, encoder.output_delay) == (encoder_delay, 0)
    assert (decoder.input_delay, decoder.output_delay) == (0, decoder_delay)
    whole = autoencoder_stream(network, state)
    assert (whole.input_delay, whole.output_delay) == (encoder_delay, decoder_delay)
    offline = {"v2": 16, "v2_nopqmf": 0}[names[0]] + (512 if "causal" in names else 0)
    assert audio_latency(network, whole) == encoder_delay + decoder_delay + offline


@pytest.mark.slow
def test_latents_of_offline_frames_need_a_multiple_of_the_hop_length():
    """With a delay of whole frames, the latents are those of the undelayed audio, some frames later."""
    network, state = small("preset v2_nopqmf")
    hop = network.config.hop_length
    audio = np.random.default_rng(1).normal(0, 0.3, (2, FRAMES * hop, 1)).astype(np.float32)
    stream = encoder_stream(network, state, input_delay=0)
    assert stream.multiple == hop
    # The largest delay is 14,208 samples, less the 2,032 of each frame that arrive after its last window.
    assert stream.output_delay == -(-(14208 - 2032) // hop) == 6
    z = eqx.filter_jit(lambda n, s, x: n.encode(x, s, inference=True)[0].z)(network, state, jnp.asarray(audio))
    y = blocks_of(stream, audio, [8 * hop] * 3)
    assert not np.any(y[:, :6])
    assert_close(y[:, 6:], np.asarray(z)[:, :-6])


def test_audio_to_audio_equals_both_streams():
    network, state = small("raw output")
    hop = network.config.hop_length
    audio = np.random.default_rng(1).normal(0, 0.3, (8 * hop, 1)).astype(np.float32)
    z = blocks_of(encoder_stream(network, state), audio, [4 * hop] * 2)
    expected = blocks_of(decoder_stream(network, state), z, [4] * 2)
    np.testing.assert_allclose(
        blocks_of(autoencoder_stream(network, state), audio, [4 * hop] * 2), expected, rtol=0, atol=1e-5
    )


def offline(network, state, audio, delay, *, quantize=True, noise=None):
    """The audio of the first `FRAMES` latents of `audio`, delayed by `delay`, whose latents are means."""
    hop = network.config.hop_length
    delayed = jnp.pad(audio, ((delay, -delay % hop), (0, 0)))
    latents, _ = network.encode(delayed, state, quantize=quantize, inference=True)
    return network.decode(latents.z[:FRAMES], state, noise=noise, inference=True)[0]


@pytest.mark.parametrize("enabled", [0, 1])
def test_stream_of_a_model_quantises_if_its_training_did(enabled):
    model = random_model(CONFIGS["discrete"])
    books = jnp.asarray(np.random.default_rng(2).standard_normal((2, 8, 6)), jnp.float32)
    model = eqx.tree_at(lambda m: [layer.codebook.embed for layer in m.state.encoder.rvq.layers], model, list(books))
    model = eqx.tree_at(lambda m: m.state.encoder.enabled, model, jnp.asarray(enabled, jnp.int32))
    audio = np.random.default_rng(1).normal(0, 0.3, (FRAMES * model.network.config.hop_length, 1)).astype(np.float32)
    stream = trained_stream(model)
    run = eqx.filter_jit(offline)
    expected = np.asarray(run(model.network, model.state, audio, stream.input_delay, quantize=bool(enabled)))
    found = blocks_of(stream, audio, [audio.shape[0] // 2] * 2)[stream.output_delay :]
    assert_close(found, expected[: len(found)])
    other = np.asarray(run(model.network, model.state, audio, stream.input_delay, quantize=not enabled))
    assert np.abs(found - other[: len(found)]).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("warmed_up", [0, 1])
def test_stream_of_v1_adds_noise_after_the_first_phase(warmed_up):
    model = random_model(CONFIGS["v1"])
    model = eqx.tree_at(
        lambda m: (m.state.decoder.warmed_up, m.network.decoder.synth.branches[2].net[-1].weight),
        model,
        # Larger weights of the last layer, without which the noise is very quiet.
        (jnp.asarray(warmed_up, jnp.int32), 1000 * model.network.decoder.synth.branches[2].net[-1].weight),
    )
    network, key = model.network, jax.random.key(3)
    audio = np.random.default_rng(1).normal(0, 0.3, (FRAMES * network.config.hop_length, 1)).astype(np.float32)
    stream, branch = trained_stream(model), network.decoder.synth.branches[2]
    frames = audio.shape[0] // (network.pqmf.hk.shape[0] * branch.frame_length)
    noise = branch.frame_noise(key, jnp.arange(frames, dtype=jnp.int32))
    run = eqx.filter_jit(offline)
    silent = np.asarray(run(network, model.state, audio, stream.input_delay))
    noisy = np.asarray(run(network, model.state, audio, stream.input_delay, noise=noise))
    assert np.abs(noisy - silent).max() > 0.1
    found = blocks_of(stream, audio, [audio.shape[0] // 2] * 2, key)[stream.output_delay :]
    assert_close(found, (noisy if warmed_up else silent)[: len(found)])


def test_noise_of_frames_is_normal_and_independent():
    """The noise of latents, of noise channels and of successive frames."""
    network, _ = small("wasserstein")
    drawn = network.encoder.frame_noise(jax.random.key(0), jnp.arange(2000, dtype=jnp.int32))
    rows = np.concatenate(drawn, -1)
    assert rows.shape == (2000, 6 + 3)
    np.testing.assert_allclose(rows.mean(0), 0, atol=0.1)
    np.testing.assert_allclose(rows.std(0), 1, atol=0.1)
    beside = np.concatenate([rows[:-1], rows[1:]], -1)
    np.testing.assert_allclose(np.corrcoef(beside.T), np.eye(18), atol=0.12)


def test_statistics_of_instance_norms_are_measured_in_blocks():
    network, state = small("v3")
    learning = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf + 1 if "learn_x" in str(path[-1]) else leaf, state
    )
    stream = decoder_stream(network, learning)
    first = stream.init_state()
    second, _ = step(stream, first, jnp.ones((2, 6)))
    counts = [
        np.array([leaf for path, leaf in jax.tree_util.tree_leaves_with_path(s) if "num_update_x" in str(path[-1])])
        for s in (first, second)
    ]
    assert counts[0].size == sum(map(len, network.config.generator.dilations))
    # `small` sets the flag to a number, by which the counts grow.
    np.testing.assert_allclose(counts[1], counts[0] + 1, rtol=1e-6)


def test_results_have_the_names_of_the_offline_network():
    network, state = small("noise")
    tagged = dissect.tag(network)
    stream = autoencoder_stream(tagged, state)
    block = jnp.zeros((network.config.hop_length, 1))
    values = dissect.named_values(stream.step, stream.init_state(key=jax.random.key(0)), block)
    found = {value.name for value in values}
    offline = {
        value.name
        for value in dissect.named_values(lambda x: tagged(x, state, key=jax.random.key(0), inference=True), block)
    }
    # The stream computes no regularisation and no states, and calls no method of the whole network.
    unlike = (
        "encode[",
        "decode[",
        "decode_bands[",
        "encoder[",
        "encoder.draw[0][regularization]",
        "decoder.noise_module",
    )
    missing = {name for name in offline - found if not name.startswith(unlike) and "[1]" not in name}
    assert not missing
    assert {"pqmf.analysis", "encoder.encoder.net.1", "encoder.draw[0][z]", "decoder.net.2", "decoder[0]"} <= found


def test_invalid_arguments_raise():
    network, state = small("v3")
    stream = encoder_stream(network, state)
    hop = network.config.hop_length
    with pytest.raises(ShapeError, match=f"100 positions; it should have a multiple of {hop}"):
        eqx.filter_jit(stream.step)(eqx.filter_eval_shape(stream.init_state), jnp.zeros((100, 1)))
    missing = eqx.tree_at(lambda s: s.decoder, state, None)
    with pytest.raises(ConfigError, match=r"state is None.*AdaIN"):
        decoder_stream(network, missing)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_has_streams(name):
    network, state = shapes_of(PRESETS[name])
    whole = autoencoder_stream(network, state)
    assert whole.multiple == network.config.hop_length and whole.ratio == 1

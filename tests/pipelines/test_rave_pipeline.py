"""The pipeline of RAVE: audio of all shapes and lengths, principal components, random numbers, and invalid input."""

import dataclasses
import tracemalloc

import equinox as eqx
import jax
import numpy as np
import pytest
import soundfile
from jax import numpy as jnp

import jaxvoice
from jaxvoice.errors import AudioError, ConfigError, ShapeError
from jaxvoice.models.rave import BottleneckConfig, LatentPCA, NoiseConfig, TrainedRave, fold_batch_norm, preset
from jaxvoice.models.rave.inference import RaveInference
from jaxvoice.pipelines import Rave
from tests.models.rave.released import config_of, largest_error, load, with_capacity
from tests.models.rave.small import CONFIGS, SMALL, random_model
from tests.reference import golden

RATE = SMALL.sample_rate
SLOW = ("raw output", "noise", "wasserstein", "v3")
"""Models whose parts the others have too."""
HOP = SMALL.hop_length


def pipeline(config=SMALL, *, seed=0, **options):
    return Rave(random_model(config, seed), config, **options)


def with_pca(config=SMALL, **options):
    """A model with principal components of random latents, and these components."""
    model = random_model(config)
    scales = np.array([3, 2, 1, 0.5, 0.2, 0.1])
    pca = LatentPCA.fit(np.random.default_rng(1).standard_normal((200, 6)) * scales + 1)
    model = eqx.tree_at(
        lambda m: (m.state.latent_pca, m.state.latent_mean, m.state.fidelity),
        model,
        (pca.components, pca.mean, pca.fidelity),
    )
    return Rave(model, config, **options), pca


@pytest.fixture(scope="module")
def rave():
    return pipeline()


@pytest.fixture(scope="module")
def audio():
    return np.random.default_rng(0).uniform(-0.5, 0.5, 10 * HOP - 3).astype(np.float32)


@pytest.mark.slow
def test_decoded_audio_equals_the_release():
    case = golden.case("rave/v2_nopqmf")
    config = config_of("v2_nopqmf")
    released = Rave(TrainedRave(*load(config, case.state_dict())), config)
    assert largest_error(released.decode(case["z"]), case["y"][:, 0]) < 1e-5
    # The release draws latents from their distribution; the pipeline returns its mean.
    mean = case["encoded"][:, : config.bottleneck.latent_size]
    assert largest_error(released.encode(case["x"][:, 0], config.sample_rate), mean) < 1e-5


def test_properties_follow_from_the_configuration(rave):
    assert (rave.sample_rate, rave.channels, rave.hop_length, rave.latent_size) == (16000, 1, 16, 6)
    assert rave.latent_rate == 1000 and rave.delay == 4 and not rave.quantizes


@pytest.mark.parametrize(
    ("name", "latency", "field"),
    [
        ("v2", 14_208 + 12_528, (27117, 26428)),
        ("v2_nopqmf", 14_208 + 6_364, (20973, 20284)),
        ("v2_small", 16 * (328 + 298) + 256 + 272, None),
        ("discrete", 16 * (584 + 526) + 256 + 272, (17901, 17724)),
    ],
)
def test_latencies_and_receptive_fields_equal_those_of_the_release(name, latency, field):
    """Those of v2_small and discrete, 239 ms and 415 ms at 44.1 kHz, are the sums of the paddings on the right, in
    sub-band samples of the encoder and the generator, and of the delays of the filter bank."""
    config = with_capacity(preset(name), 1)
    rave = Rave(random_model(config), config)
    assert rave.latency == latency
    assert field is None or rave.receptive_field == field


def test_audio_is_padded_to_whole_frames(rave, audio):
    latents = rave.encode(audio, RATE)
    assert latents.shape == (6, 10) and latents.dtype == np.float32
    np.testing.assert_array_equal(latents, rave.encode(np.append(audio, np.zeros(3, np.float32)), RATE))
    assert rave.encode(audio[:1], RATE).shape == (6, 1)
    decoded = rave.decode(latents)
    assert decoded.shape == (10 * HOP,) and decoded.dtype == np.float32
    np.testing.assert_array_equal(rave.transfer(audio, RATE), decoded[: len(audio)])


def test_channels_are_encoded_on_their_own(rave, audio):
    stereo = np.stack([audio, -0.5 * audio[::-1]])
    latents = rave.encode(stereo, RATE)
    assert latents.shape == (2, 6, 10)
    for channel, row in zip(stereo, latents, strict=True):
        np.testing.assert_allclose(row, rave.encode(channel, RATE), atol=1e-6)
    decoded = rave.transfer(stereo, RATE)
    assert decoded.shape == stereo.shape
    np.testing.assert_allclose(decoded[1], rave.transfer(stereo[1], RATE), atol=1e-6)
    assert np.abs(decoded[0] - decoded[1]).max() > 1e-6


def test_model_of_two_channels_takes_two_channels(audio):
    stereo = pipeline(dataclasses.replace(SMALL, n_channels=2))
    both = np.stack([audio, audio[::-1]])
    assert stereo.encode(both, RATE).shape == (6, 10)
    assert stereo.transfer(both, RATE).shape == both.shape
    for wrong in (audio, audio[None], np.stack([audio] * 3)):
        with pytest.raises(AudioError, match=r"it should be \(2, samples\), with the channels of the model"):
            stereo.encode(wrong, RATE)
    with pytest.raises(ShapeError, match=r"they should be floats of shape \(6, frames\)\."):
        stereo.decode(np.zeros((2, 6, 10), np.float32))


def test_files_and_other_sample_rates_are_resampled(rave, audio, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.stack([audio, -audio], 1), 8000, "FLOAT")
    latents = rave.encode(tmp_path / "a.wav")
    assert latents.shape == (2, 6, 20)
    np.testing.assert_allclose(latents[0], rave.encode(audio, 8000), atol=1e-6)
    assert rave.transfer(audio, 8000).shape == (2 * len(audio),)
    soundfile.write(tmp_path / "mono.wav", audio, RATE, "FLOAT")
    np.testing.assert_array_equal(rave.encode(tmp_path / "mono.wav"), rave.encode(audio, RATE))
    read = jaxvoice.read_audio(tmp_path / "mono.wav")
    np.testing.assert_array_equal(rave.encode(read), rave.encode(audio, RATE))


def test_seeds_draw_latents_from_their_distribution(rave, audio):
    encoded, _ = rave.network.encoder(
        rave.network.pqmf.analysis(jnp.pad(audio, (0, 3))[:, None]), rave.state.encoder, inference=True
    )
    mean, deviation = encoded[:, :6].T, np.logaddexp(0, encoded[:, 6:]).T + 1e-4
    np.testing.assert_allclose(rave.encode(audio, RATE), mean, atol=1e-6)
    first = rave.encode(audio, RATE, seed=0)
    np.testing.assert_array_equal(first, rave.encode(audio, RATE, seed=0))
    assert not np.array_equal(first, rave.encode(audio, RATE, seed=1))
    drawn = np.concatenate([(rave.encode(audio, RATE, seed=seed) - mean) / deviation for seed in range(30)])
    assert abs(drawn.mean()) < 0.1 and abs(drawn.std() - 1) < 0.1


def test_principal_components_reduce_and_restore_latents(audio):
    whole, pca = with_pca()
    latents = whole.encode(audio, RATE)
    expected = (latents.T - np.asarray(pca.mean)) @ np.asarray(pca.components).T
    for size in (1, 3, 6):
        reduced = whole.with_latents(latent_size=size)
        assert reduced.latent_size == size
        components = reduced.encode(audio, RATE)
        np.testing.assert_allclose(components, expected[:, :size].T, atol=1e-5)
        kept = expected[:, :size] @ np.asarray(pca.components)[:size] + np.asarray(pca.mean)
        np.testing.assert_allclose(reduced.decode(components), whole.decode(kept.T), atol=1e-5)
    reduced = whole.with_latents(fidelity=0.9)
    assert reduced.latent_size == np.searchsorted(np.asarray(pca.fidelity), 0.9) + 1
    components = reduced.encode(audio, RATE)
    drawn = [reduced.decode(components, seed=seed) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.allclose(drawn[0], drawn[2], atol=1e-6)
    assert whole.with_latents().latent_size == 6


def test_quantised_models_return_codes(audio):
    config = dataclasses.replace(
        SMALL, bottleneck=BottleneckConfig("discrete", 6, noise_channels=3, num_quantizers=4, codebook_size=8)
    )
    model = random_model(config)
    books = jax.random.normal(jax.random.key(1), (4, 8, 6))
    model = eqx.tree_at(lambda m: [layer.codebook.embed for layer in m.state.encoder.rvq.layers], model, list(books))
    rave = Rave(model, config)
    codes = rave.encode(audio, RATE)
    assert codes.shape == (4, 10) and codes.dtype == np.int32 and rave.quantizes
    vectors = sum(np.asarray(books)[i, codes[i]] for i in range(4)).T.astype(np.float32)
    np.testing.assert_allclose(rave.decode(codes), rave.decode(vectors), atol=1e-6)
    assert not np.array_equal(rave.decode(codes), rave.decode(codes, seed=1))
    with pytest.raises(ShapeError, match="codes are from 0 to 8; they should be from 0 to 7"):
        rave.decode(np.array([[0], [8], [1], [2]]))
    with pytest.raises(ShapeError, match="codes are from 0 to 4294967297; they should be from 0 to 7"):
        rave.decode(np.array([[0], [2**32 + 1], [1], [2]]))
    continuous = Rave(eqx.tree_at(lambda m: m.state.encoder.enabled, model, jnp.zeros((), jnp.int32)), config)
    assert continuous.encode(audio, RATE).shape == (6, 10) and continuous.latent_size == 6
    with pytest.raises(ConfigError, match="no principal components: its latents are discrete"):
        Rave(model, config, latent_size=2)


@pytest.mark.parametrize("warmed_up", [0, 1])
def test_noise_of_v1_is_added_after_the_first_phase(warmed_up, audio):
    noise = NoiseConfig((2, 2), hidden_size=None)
    config = dataclasses.replace(
        SMALL,
        encoder=dataclasses.replace(SMALL.encoder, version="v1", dilations=()),
        generator=dataclasses.replace(SMALL.generator, version="v1", dilations=(), noise=noise),
    )
    model = random_model(config)
    state = eqx.tree_at(lambda s: s.decoder.warmed_up, model.state, jnp.asarray(warmed_up, jnp.int32))
    rave = Rave(TrainedRave(model.network, state), config)
    latents = rave.encode(audio, RATE)
    silent, _ = model.network.decode(jnp.asarray(latents.T), state, inference=True)
    # A model that was not trained has very quiet noise.
    np.testing.assert_allclose(rave.decode(latents), silent[:, 0], atol=1e-4)
    assert np.array_equal(rave.decode(latents), rave.decode(latents, seed=3)) == (not warmed_up)


def test_transfer_encodes_with_another_model(rave, audio):
    other = pipeline(dataclasses.replace(SMALL, encoder=dataclasses.replace(SMALL.encoder, capacity=8)), seed=3)
    expected = rave.decode(other.encode(audio, RATE))[: len(audio)]
    np.testing.assert_array_equal(rave.transfer(audio, RATE, encoder=other), expected)
    smaller = pipeline(dataclasses.replace(SMALL, bottleneck=BottleneckConfig(latent_size=4)))
    with pytest.raises(ConfigError, match="latents per frame of the encoder are 4; they should be 6"):
        rave.transfer(audio, RATE, encoder=smaller)
    whole, _ = with_pca()
    with pytest.raises(ConfigError, match=r"per frame of the encoder are 2; they should be 3.*the same latent_size"):
        whole.with_latents(latent_size=3).transfer(audio, RATE, encoder=whole.with_latents(latent_size=2))
    message = "latents of the encoder are vectors; they should be principal components.*Load both with the same latent"
    with pytest.raises(ConfigError, match=message):
        whole.with_latents(latent_size=6).transfer(audio, RATE, encoder=whole)
    slower = pipeline(dataclasses.replace(SMALL, sample_rate=8000))
    with pytest.raises(ConfigError, match=r"frames per second of the encoder are 500\.0; they should be 1000\.0"):
        rave.transfer(audio, RATE, encoder=slower)


@pytest.mark.parametrize("kind", ["variational", "spherical"])
def test_silence_and_clicks_give_finite_audio(kind):
    rave = pipeline(dataclasses.replace(SMALL, bottleneck=BottleneckConfig(kind, 6)))
    click = np.zeros(5 * HOP, np.float32)
    click[40] = 1e6
    for audio in (np.zeros_like(click), click):
        assert np.isfinite(rave.encode(audio, RATE)).all()
        assert np.isfinite(rave.transfer(audio, RATE)).all() and np.abs(rave.transfer(audio, RATE)).max() < 10


def test_files_may_have_more_channels_than_samples(rave, tmp_path):
    soundfile.write(tmp_path / "short.wav", np.array([[0.5, -0.25]], np.float32), RATE, "FLOAT")
    expected = [rave.transfer(np.array([value], np.float32), RATE) for value in (0.5, -0.25)]
    found = rave.transfer(tmp_path / "short.wav")
    assert found.shape == (2, 1) and found[0] != found[1]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("audio", "rate", "message"),
    [
        (np.zeros(9, np.int16), RATE, "type int16; it should be floats"),
        (np.zeros((1, 2, 9), np.float32), RATE, r"shape \(1, 2, 9\)"),
        (np.zeros((9, 2), np.float32), RATE, "Transpose the array"),
        (np.zeros(0, np.float32), RATE, "The audio is empty"),
        (np.array([0, np.nan, np.inf], np.float32), RATE, "NaN or infinite in 2 of 3 samples"),
        (np.zeros(9, np.float32), None, "sample_rate is None"),
        (np.zeros(9, np.float32), 44.1, r"sample_rate is 44\.1"),
        (np.zeros(9, np.float32), 44, "sample_rate is 44; it should be in Hz"),
    ],
)
def test_invalid_audio_raises_an_error(audio, rate, message, rave):
    with pytest.raises(AudioError, match=message):
        rave.encode(audio, rate)


@pytest.mark.parametrize(
    ("latents", "message"),
    [
        (np.zeros((5, 4), np.float32), r"shape \(5, 4\) and type float32; .* \(6, frames\) or \(channels, 6, frames\)"),
        (np.zeros((6, 0), np.float32), r"shape \(6, 0\)"),
        (np.zeros((6, 4), np.int64), "type int64"),
        (np.zeros((6, 4), np.int32), "type int32"),
        (np.zeros((6, 4), np.complex64), "type complex64"),
        (np.full((6, 4), 1e300), "contain NaN or infinity"),
        (np.full((6, 4), np.nan, np.float32), "contain NaN or infinity"),
    ],
)
def test_invalid_latents_raise_an_error(latents, message, rave):
    with pytest.raises(ShapeError, match=message):
        rave.decode(latents)


def test_results_that_are_not_finite_raise_an_error(rave, audio):
    """Latents that overflow, and weights that are NaN."""
    message = "The samples of the decoded audio contain NaN or infinity; the latents are too large, or the weights"
    with pytest.raises(AudioError, match=message):
        rave.decode(np.random.default_rng(0).choice(np.float32([-3e38, 3e38]), (6, 20)))
    model = TrainedRave(rave.network, rave.state)
    broken = eqx.tree_at(lambda m: m.network.decoder.net[-1].weight_g, model, replace_fn=lambda g: g * jnp.nan)
    with pytest.raises(AudioError, match=message):
        Rave(broken, SMALL).transfer(audio, RATE)
    broken = eqx.tree_at(lambda m: m.network.encoder.encoder.net[0].weight_g, model, replace_fn=lambda g: g * jnp.nan)
    with pytest.raises(AudioError, match="The latents of the audio contain NaN or infinity; its level is too high, or"):
        Rave(broken, SMALL).encode(audio, RATE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent_size": 2}, "no principal components: its training computed none"),
        ({"latent_size": 2, "fidelity": 0.5}, "both given"),
    ],
)
def test_invalid_latent_sizes_raise_an_error(options, message):
    with pytest.raises(ConfigError, match=message):
        pipeline(**options)


def test_invalid_sizes_of_principal_components_raise_an_error():
    rave, _ = with_pca()
    for size in (0, 7, 2.0, True):
        with pytest.raises(ConfigError, match="whole number from 1 to 6"):
            rave.with_latents(latent_size=size)
    with pytest.raises(ConfigError, match=r"fidelity is 1\.5"):
        rave.with_latents(fidelity=1.5)
    with pytest.raises(ConfigError, match="seed is 'a'"):
        rave.encode(np.zeros(9, np.float32), RATE, seed="a")


def test_parts_of_a_file_are_those_of_the_whole_recording(tmp_path, monkeypatch):
    """The file is read in blocks, and resampled in blocks."""
    monkeypatch.setattr("jaxvoice.data.audio._READ", 3000)
    rave, whole = pipeline(window=256), pipeline(window=4096)
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 40_001)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", audio.T, 12000, "FLOAT")
    expected = whole.transfer(audio, 12000)
    assert expected.shape == (2, -(-audio.shape[1] * RATE // 12000))
    parts = list(rave.transfer_parts(tmp_path / "a.wav"))
    assert len(parts) > 10 and all(part.shape[0] == 2 and part.shape[1] <= 256 * HOP for part in parts)
    np.testing.assert_allclose(np.concatenate(parts, 1), expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(rave.encode(tmp_path / "a.wav"), whole.encode(audio, 12000), rtol=0, atol=1e-5)


def test_memory_does_not_grow_with_the_audio_of_a_file(tmp_path):
    """Only the latents of the whole file, a sixteenth of the audio here, are in memory."""
    rave = pipeline(dataclasses.replace(SMALL, bottleneck=BottleneckConfig(latent_size=1)), window=4096)
    size = 40 * 4096 * HOP
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).uniform(-0.5, 0.5, size), RATE, "FLOAT")
    for part in rave.transfer_parts(np.zeros(3 * 4096 * HOP, np.float32), RATE):  # compiles
        assert part.ndim == 1
    tracemalloc.start()
    count = sum(part.size for part in rave.transfer_parts(tmp_path / "a.wav"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == size and peak < 0.6 * 4 * size


def test_arguments_of_parts_are_checked_at_once(rave, audio, tmp_path):
    stereo = pipeline(dataclasses.replace(SMALL, n_channels=2))
    soundfile.write(tmp_path / "mono.wav", audio, RATE, "FLOAT")
    for make, error, message in (
        (lambda: rave.transfer_parts(audio), AudioError, "sample_rate is None"),
        (lambda: rave.transfer_parts(tmp_path / "mono.wav", 8000), AudioError, "sample_rate is 8000; it should be"),
        (lambda: rave.transfer_parts(tmp_path / "no.wav"), AudioError, "missing"),
        (lambda: rave.transfer_parts(audio, RATE, seed="a"), ConfigError, "seed is 'a'"),
        (lambda: rave.transfer_parts(audio, RATE, encoder=stereo), ConfigError, "audio channels of the encoder are 2"),
        (lambda: rave.transfer(audio, RATE, encoder="voice"), ConfigError, "encoder is 'voice'; it should be a Rave"),
        (lambda: stereo.transfer_parts(tmp_path / "mono.wav"), AudioError, r"it should be \(2, samples\)"),
    ):
        with pytest.raises(error, match=message):
            make()


@pytest.mark.parametrize(
    "name", ["v2", "v1", "gru", "mel", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def test_windows_change_the_result_by_rounding_only(name):
    config = CONFIGS[name]
    model = random_model(config)
    if name == "v1":
        model = eqx.tree_at(lambda m: m.state.decoder.warmed_up, model, jnp.ones((), jnp.int32))
    whole = Rave(model, config, window=4096)
    with pytest.raises(ConfigError, match=r"window is 0 frames; it should be a whole number of at least [0-9]+, one"):
        Rave(model, config, window=0)
    inference = RaveInference(model, 4096)
    least = 1 + max(sum(inference.encoder_context), sum(inference.decoder_context))
    windowed = Rave(model, config, window=least + 2)
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, (2, (4 * least + 5) * config.hop_length - 3))
    audio = audio.astype(np.float32)
    latents = whole.encode(audio, config.sample_rate, seed=1)
    np.testing.assert_allclose(windowed.encode(audio, config.sample_rate, seed=1), latents, atol=1e-5)
    decoded = whole.decode(latents, seed=2)
    assert np.abs(decoded).max() > 1e-3
    np.testing.assert_allclose(windowed.decode(latents, seed=2), decoded, atol=1e-5)


def test_folded_batch_norms_change_latents_by_rounding_only():
    config = CONFIGS["v1"]
    model = random_model(config)
    random = np.random.default_rng(3)

    def drawn(state):
        mean, var = (random.uniform(0.5, 2, state.running_mean.shape).astype(np.float32) for _ in range(2))
        return dataclasses.replace(state, running_mean=jnp.asarray(mean), running_var=jnp.asarray(var))

    states = [None if state is None else drawn(state) for state in model.state.encoder.encoder.net]
    model = eqx.tree_at(lambda m: m.state.encoder.encoder.net, model, states, is_leaf=lambda node: node is None)
    folded = fold_batch_norm(model)
    assert len(folded.network.encoder.encoder.net) == len(model.network.encoder.encoder.net) - 2
    audio = random.uniform(-0.5, 0.5, (640, 1)).astype(np.float32)

    @eqx.filter_jit
    def encode(model, audio):
        return model.network.encode(audio, model.state, inference=True)[0].z

    expected = encode(model, jnp.asarray(audio))
    np.testing.assert_allclose(encode(folded, jnp.asarray(audio)), expected, atol=1e-5)
    np.testing.assert_allclose(Rave(model, config).encode(audio[:, 0], config.sample_rate), expected.T, atol=1e-5)
    plain = random_model()
    assert fold_batch_norm(plain) is plain

"""Sessions of RAVE against the pipeline on the delayed audio."""

import dataclasses

import equinox as eqx
import jax
import numpy as np
import pytest

from jaxvoice.errors import AudioError, ConfigError, ShapeError
from jaxvoice.models.rave import FAMILY, BottleneckConfig, NoiseConfig
from jaxvoice.pipelines import Rave
from tests.models.rave.small import CONFIGS, SMALL, random_model
from tests.pipelines.test_rave_pipeline import pipeline, with_pca

HOP = SMALL.hop_length
WITH_NOISE = dataclasses.replace(
    SMALL,
    generator=dataclasses.replace(SMALL.generator, noise=NoiseConfig((2, 2), 3, 4)),
    bottleneck=BottleneckConfig("wasserstein", 6, noise_channels=2),
)
DISCRETE = dataclasses.replace(
    SMALL, bottleneck=BottleneckConfig("discrete", 6, noise_channels=2, num_quantizers=2, codebook_size=5)
)
STEREO = dataclasses.replace(SMALL, n_channels=2)


def blocks(x, lengths):
    return np.split(x, np.cumsum(lengths)[:-1], -1)


def assert_equals_the_pipeline(rave: Rave, audio: np.ndarray, frames: list[int], **options):
    """Assert that latents and audio of a session are those of the delayed audio, without random numbers."""
    session = rave.stream(**options)
    latents = [session.encode(block) for block in blocks(audio, [HOP * n for n in frames])]
    delayed = np.pad(audio, [(0, 0)] * (audio.ndim - 1) + [(session.encoder_delay, 0)])
    expected = rave.encode(delayed, rave.sample_rate)
    found, count = np.concatenate(latents, -1), sum(frames)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected[..., :count], rtol=0, atol=1e-5)
    if rave._has_noise:
        return session
    decoded = np.concatenate([session.decode(block) for block in latents], -1)
    delay = session.decoder_delay
    assert delay < decoded.shape[-1] - HOP
    assert decoded.shape == audio.shape and not np.any(decoded[..., :delay])
    whole = rave.decode(found)
    np.testing.assert_allclose(decoded[..., delay:], whole[..., : decoded.shape[-1] - delay], rtol=0, atol=1e-5)
    assert session.latency == session.encoder_delay + delay + rave.delay == rave.latency
    session.reset()
    again = [session(block) for block in blocks(audio, [HOP * n for n in frames])]
    np.testing.assert_allclose(np.concatenate(again, -1), decoded, rtol=0, atol=1e-6)
    return session


@pytest.fixture(scope="module")
def audio():
    return np.random.default_rng(0).uniform(-0.5, 0.5, (2, 12 * HOP)).astype(np.float32)


def test_session_equals_the_pipeline(audio):
    session = assert_equals_the_pipeline(pipeline(), audio[0], [1, 7, 4])
    tail = session.finish()
    assert tail.size >= session.latency and tail.size % HOP == 0
    assert_equals_the_pipeline(pipeline(), audio, [4, 8], channels=2)


@pytest.mark.slow
@pytest.mark.parametrize(("config", "options"), [(SMALL, {"channels": 2}), (STEREO, {})], ids=["two mono", "stereo"])
def test_causal_session_of_two_channels_is_the_delayed_transfer(config, options, audio):
    """Causal encoders have no delay, so that the session is late by the delay of the decoder alone."""
    rave = pipeline(dataclasses.replace(config, padding="causal"))
    audio = np.tile(audio, 3)
    session = assert_equals_the_pipeline(rave, audio, [12, 24], **options)
    assert session.encoder_delay == 0 < session.decoder_delay
    session.reset()
    found = np.concatenate([session(block) for block in blocks(audio, [24 * HOP, 12 * HOP])], -1)
    whole, delay = rave.transfer(audio, rave.sample_rate), session.decoder_delay
    np.testing.assert_allclose(found[:, delay:], whole[:, :-delay], rtol=0, atol=1e-5)
    assert np.abs(found[0, delay:] - whole[1, :-delay]).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["v1", "gru", "mel"])
def test_session_of_other_networks(name, audio):
    """Batch norms of v1 are folded into convolutions, which then have biases; a GRU depends on all earlier frames."""
    model = FAMILY.build(CONFIGS[name], key=jax.random.key(0))
    statistics = jax.tree.map(
        lambda leaf: np.abs(np.random.default_rng(0).normal(0.5, 0.3, leaf.shape)).astype(leaf.dtype),
        model.state.encoder.encoder,
    )
    encoder = dataclasses.replace(model.state.encoder, encoder=statistics)
    model = dataclasses.replace(model, state=dataclasses.replace(model.state, encoder=encoder))
    assert_equals_the_pipeline(Rave(model, CONFIGS[name]), np.tile(audio[0], 3), [12, 24])


@pytest.mark.slow
def test_session_of_principal_components_and_of_several_channels(audio):
    rave, _ = with_pca(latent_size=2)
    assert_equals_the_pipeline(rave, audio[0], [4, 8])
    assert_equals_the_pipeline(pipeline(STEREO), audio, [4, 8])


@pytest.mark.slow
def test_session_of_codes(audio):
    model = FAMILY.build(DISCRETE, key=jax.random.key(0))
    codebooks = model.state.encoder.rvq.layers
    rng = np.random.default_rng(0)
    # Codes near the output of the encoder, so that several are used.
    mean = jax.jit(lambda a: model.network.encode(a, model.state, quantize=False, inference=True)[0].z)(
        audio[0][:, None]
    )
    near = np.asarray(mean)[:, :6]
    drawn = jax.tree.map(lambda leaf: rng.permutation(near)[:5] if leaf.shape == (5, 6) else leaf, codebooks)
    rvq = dataclasses.replace(model.state.encoder.rvq, layers=drawn)
    state = dataclasses.replace(model.state, encoder=dataclasses.replace(model.state.encoder, rvq=rvq))
    rave = Rave(dataclasses.replace(model, state=state), DISCRETE)
    assert len(np.unique(rave.encode(audio[0], rave.sample_rate))) > 2
    session = assert_equals_the_pipeline(rave, audio[0], [4, 8])
    with pytest.raises(ShapeError, match=r"type float32; they should be int32 of shape \(2, frames\)"):
        session.decode(np.zeros((2, 4), np.float32))
    for wrong, found in ((5, "0 to 5"), (-1, "-1 to 0")):
        with pytest.raises(ShapeError, match=f"codes are from {found}; they should be from 0 to 4"):
            session.decode(np.array([[0] * 4, [wrong] + [0] * 3], np.int32))


@pytest.mark.slow
def test_random_numbers_do_not_depend_on_blocks(audio):
    rave = pipeline(WITH_NOISE)
    assert_equals_the_pipeline(rave, audio[0], [4, 8])
    found = []
    for seed, frames in ((1, [4, 8]), (1, [8, 4]), (2, [8, 4]), (None, [8, 4])):
        session = rave.stream(seed=seed)
        found.append(np.concatenate([session(block) for block in blocks(audio[0], [HOP * n for n in frames])]))
    np.testing.assert_allclose(found[0], found[1], rtol=0, atol=1e-6)
    for i, j in ((0, 2), (0, 3), (2, 3)):
        assert np.abs(found[i] - found[j]).max() > 1e-3


def test_noise_of_the_generator_is_drawn_in_a_session():
    """The noise of a session and that of the pipeline are equally loud; each seed has its own."""
    model = random_model(CONFIGS["noise"])
    weight = model.network.decoder.noise_module.net[-1].weight
    model = eqx.tree_at(lambda m: m.network.decoder.noise_module.net[-1].weight, model, 1000 * weight)
    rave = Rave(model, CONFIGS["noise"])
    latents = np.random.default_rng(0).standard_normal((6, 24)).astype(np.float32)
    delay = rave.stream().decoder_delay
    silent = jax.jit(lambda z: model.network.decode(z, model.state, inference=True)[0])(latents.T)
    silent = np.asarray(silent)[: 24 * HOP - delay, 0]

    def noise(seed):
        return rave.stream(seed=seed).decode(latents)[delay:] - silent

    first, second, default = noise(1), noise(2), noise(None)
    whole = rave.decode(latents, seed=1)[: len(silent)] - silent
    assert whole.std() > 0.01
    assert all(0.7 < one.std() / whole.std() < 1.4 for one in (first, second, default))
    assert all(abs(np.corrcoef(one, first)[0, 1]) < 0.5 for one in (second, default, whole))
    np.testing.assert_array_equal(default, noise(0))


def test_latents_and_audio_may_be_changed(audio):
    rave = pipeline()
    first, second = rave.stream(), rave.stream()
    for block in blocks(audio[0], [4 * HOP, HOP, 7 * HOP]):
        latents = first.encode(block)
        changed = latents + 1
        latents += 1
        found = first.decode(latents)
        np.testing.assert_array_equal(found, second.decode(changed))
        found *= 0.5
    tail = first.finish()
    tail *= 0.5


def test_blocks_that_are_not_finite_do_not_change_the_session(audio):
    rave = pipeline()
    first, second = rave.stream(), rave.stream()
    for block in blocks(audio[0], [4 * HOP] * 3):
        for value in (np.nan, np.inf):
            wrong = np.append(block[:-1], np.float32(value))
            with pytest.raises(AudioError, match=f"NaN or infinite in 1 of {wrong.size} samples"):
                first(wrong)
            latents = np.full((6, 4), value, np.float32)
            with pytest.raises(ShapeError, match="contain NaN or infinity"):
                first.decode(latents)
        np.testing.assert_array_equal(first(block), second(block))


def test_results_that_are_not_finite_raise(audio):
    session, block = pipeline().stream(), audio[0][: 4 * HOP]
    expected = session(block)
    latents = np.random.default_rng(0).choice(np.float32([-3e38, 3e38]), (6, 20))
    with pytest.raises(
        AudioError, match=r"The samples of the block contain NaN or infinity; the latents .* Call reset"
    ):
        session.decode(latents)
    with pytest.raises(AudioError, match="The last samples contain NaN or infinity"):
        session.finish()
    np.testing.assert_array_equal(session(block), expected)


def test_invalid_blocks_raise():
    session = pipeline().stream()
    for block, message in (
        (np.zeros(HOP - 1, np.float32), f"{HOP - 1} samples; it should have a multiple of {HOP}"),
        (np.zeros(0, np.float32), f"0 samples; it should have a multiple of {HOP}"),
        (np.zeros(HOP), r"type float64; it should be float32 of shape \(samples,\)"),
        (np.zeros((2, HOP), np.float32), r"should be float32 of shape \(samples,\)"),
        (np.float32(0), r"shape \(\)"),
    ):
        with pytest.raises(AudioError, match=message):
            session(block)
    with pytest.raises(ShapeError, match=r"shape \(5, 3\) and type float32; they should be float32 of shape \(6, fra"):
        session.decode(np.zeros((5, 3), np.float32))
    with pytest.raises(ConfigError, match="channels is 2; it should be 1, because the model"):
        pipeline(STEREO).stream(channels=2)
    for channels in (0, 1.5, "2", True):
        with pytest.raises(ConfigError, match=f"channels is {channels!r}; it should be a whole number of at least 1"):
            pipeline().stream(channels=channels)

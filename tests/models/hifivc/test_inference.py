"""Inference of HiFi-VC in batches, windows and blocks, compared with one call of the networks on the whole input."""

import dataclasses
import tracemalloc

import equinox as eqx
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.models.hifivc import HiFiVC, PitchEncoder, PitchEncoderConfig
from jaxvoice.models.hifivc.inference import HiFiVCInference, SourceFeatures, padded_size, pitch_code
from tests.models.hifivc.small import SMALL, random_network

CONTEXT = sum(SMALL.decoder.receptive_field)
WINDOW = CONTEXT + 8
LENGTH = 4 * (2 * WINDOW + 3) + 1  # mel frames, in several windows of the decoder


@pytest.fixture(scope="module")
def network() -> HiFiVC:
    return random_network()


@pytest.fixture(scope="module")
def speaker() -> np.ndarray:
    return np.random.default_rng(2).normal(size=SMALL.speaker.size).astype(np.float32)


def source(mel_frames: int, seed: int = 0) -> SourceFeatures:
    random = np.random.default_rng(seed)
    frames = -(-mel_frames // 4)
    log_f0 = 5 + np.cumsum(random.normal(0, 0.02, 4 * frames))
    pitch = np.stack([log_f0, random.integers(0, 2, 4 * frames)]).astype(np.float32)
    return SourceFeatures(random.normal(size=(80, mel_frames)).astype(np.float32), pitch)


run_whole = eqx.filter_jit(
    lambda network, features, pitch, speaker: network.decode(network.encode_content(features), pitch, speaker)[..., 0]
)


def whole(network: HiFiVC, item: SourceFeatures, speaker: np.ndarray) -> np.ndarray:
    pitch = None if item.pitch is None else jnp.asarray(item.pitch.T)
    return np.asarray(run_whole(network, jnp.asarray(item.features.T), pitch, jnp.asarray(speaker)))


def inference(network: HiFiVC, piece: int = 200, overlap: int = 10, config=SMALL) -> HiFiVCInference:
    return HiFiVCInference(network, config, piece=piece, overlap=overlap, window=WINDOW)


@pytest.mark.slow
def test_batches_and_decoder_windows_do_not_change_the_waveform(network, speaker):
    lengths = [7, LENGTH, 7, LENGTH]
    items = [source(length, seed) for seed, length in enumerate(lengths)]
    found = dict(inference(network).convert(items, speaker))
    assert sorted(found) == list(range(len(items)))
    for index, item in enumerate(items):
        expected = whole(network, item, speaker)
        assert found[index].dtype == np.float32 and found[index].shape == expected.shape == (
            960 * -(-lengths[index] // 4),
        )
        np.testing.assert_allclose(found[index], expected, rtol=0, atol=1e-5)


def test_a_stream_of_one_piece_equals_the_whole(network, speaker):
    item = source(LENGTH)
    parts = list(inference(network).stream(item, speaker))
    np.testing.assert_allclose(np.concatenate(parts), whole(network, item, speaker), rtol=0, atol=1e-5)


def test_decoder_context_is_needed(network, speaker, monkeypatch):
    item = source(LENGTH)
    short = inference(network)
    left, right = short.context
    for context in ((left - 1, right), (left, right - 1)):
        monkeypatch.setattr(short, "context", context)
        ((_, found),) = short.convert([item], speaker)
        assert np.abs(found - whole(network, item, speaker)).max() > 1e-5


def _local(network: HiFiVC) -> HiFiVC:
    """Without attention, the content encoder has a receptive field."""

    def zeroed(layer):
        return eqx.tree_at(
            lambda one: (one.self_attn.linear_out.weight, one.self_attn.linear_out.bias),
            layer,
            replace_fn=jnp.zeros_like,
        )

    layers = tuple(zeroed(layer) for layer in network.content_encoder.layers)
    return eqx.tree_at(lambda one: one.content_encoder.layers, network, layers)


def test_windows_change_the_content_by_their_attention_only(network, speaker):
    item = source(LENGTH)
    local = _local(network)
    parts = list(inference(local, piece=WINDOW + 6, overlap=6).stream(item, speaker))
    assert len(parts) > 1
    np.testing.assert_allclose(np.concatenate(parts), whole(local, item, speaker), rtol=0, atol=1e-5)
    ((_, found),) = inference(local, piece=WINDOW + 6, overlap=6).convert([item], speaker)
    np.testing.assert_array_equal(found, np.concatenate(parts))
    # With attention, windows change the result.
    ((_, found),) = inference(network, piece=WINDOW + 6, overlap=6).convert([item], speaker)
    assert np.abs(found - whole(network, item, speaker)).max() > 1e-4


def test_long_streams_hold_a_bounded_number_of_frames(network, speaker, monkeypatch):
    sizes = []
    decode = HiFiVCInference._decode

    def spy(self, contents, codes, speaker, windows):
        sizes.append(len(contents[0]))
        return decode(self, contents, codes, speaker, windows)

    monkeypatch.setattr(HiFiVCInference, "_decode", spy)
    parts = list(inference(network, piece=60, overlap=5).stream(source(4 * 400), speaker))
    assert len(parts) > 5 and max(sizes) <= 60 + CONTEXT
    assert max(map(len, parts)) <= 60 * 960 and sum(map(len, parts)) == 400 * 960


def test_memory_of_a_stream_does_not_grow_with_hours(network, speaker, monkeypatch):
    """Three hours of silence through networks that do nothing: the windows, their sizes, and the memory they take."""
    frames, piece, overlap, programs, sizes = 3 * 3600 * 25, 750, 50, set(), []

    def encode(self, sources, pieces):
        for index, window in pieces:
            programs.add(padded_size(4 * window.frames, 4 * piece))
            yield (index, window), np.zeros((window.keep_to - window.keep_from, 8), np.float32)

    def decode(self, contents, codes, speaker, windows):
        for index, window in windows:
            sizes.append(len(contents[index]))
            yield (index, window), np.zeros(960 * (window.keep_to - window.keep_from), np.float32)

    monkeypatch.setattr(HiFiVCInference, "_encode", encode)
    monkeypatch.setattr(HiFiVCInference, "_decode", decode)
    item = SourceFeatures(np.broadcast_to(np.float32(0), (80, 4 * frames)), None)
    samples = windows = 0
    tracemalloc.start()
    try:
        for part in inference(network, piece=piece, overlap=overlap).stream(item, speaker):
            samples, windows = samples + len(part), windows + 1
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert samples == 3 * 3600 * 24_000 and windows == -(-(frames - 2 * overlap) // (piece - 2 * overlap))
    assert len(programs) == 1 and max(sizes) <= piece + CONTEXT
    assert peak < 3 * piece * 960 * 4  # bytes: three parts of 30 s, instead of the 1 GB of the waveform


run_pitch = eqx.filter_jit(lambda encoder, pitch: encoder(pitch))


@pytest.mark.parametrize(
    "config",
    [
        PitchEncoderConfig(channels=4),
        PitchEncoderConfig(channels=4, instance_norm=False),
        PitchEncoderConfig(channels=3, strides=(1, 4), kernel_sizes=(5, 8)),
    ],
)
@pytest.mark.parametrize("frames", [5, 33, 150])
def test_blocks_do_not_change_the_pitch_code(config, frames):
    encoder = PitchEncoder(config, key=jax.random.key(0))
    pitch = source(4 * frames, seed=frames).pitch
    assert pitch is not None
    expected = np.asarray(run_pitch(encoder, jnp.asarray(pitch.T)))
    found = pitch_code(encoder, pitch, block=32)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


run_speaker = eqx.filter_jit(lambda network, mel: network.encode_speaker(mel).mean)


def test_padding_does_not_change_the_speaker_vector(network):
    for frames in (10, 65):
        mel = np.random.default_rng(frames).normal(-5, 2, (80, frames)).astype(np.float32)
        expected = run_speaker(network, jnp.asarray(mel.T))
        np.testing.assert_allclose(inference(network).speaker(mel), expected, rtol=0, atol=1e-5)


def test_models_without_pitch_encoder(speaker):
    config = dataclasses.replace(SMALL, pitch_encoder=None)
    network = random_network(config)
    item = dataclasses.replace(source(61), pitch=None)
    ((_, found),) = inference(network, config=config).convert([item], speaker)
    np.testing.assert_allclose(found, whole(network, item, speaker), rtol=0, atol=1e-5)


def test_invalid_settings_and_results(network, speaker):
    with pytest.raises(ConfigError, match=r"^piece is 20 frames and overlap is 10; overlap should be"):
        inference(network, piece=20)
    with pytest.raises(ConfigError, match="window is 4; it should be larger than the receptive field"):
        HiFiVCInference(network, SMALL, piece=100, overlap=0, window=4)
    broken = eqx.tree_at(lambda one: one.decoder.conv_pre.bias, network, replace_fn=lambda bias: bias + jnp.nan)
    with pytest.raises(CheckpointError, match="The model returned NaN or infinity"):
        list(inference(broken).convert([source(20)], speaker))

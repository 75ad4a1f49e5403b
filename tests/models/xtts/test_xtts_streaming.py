"""The decoder for latents that arrive in parts, compared with the decoder of all latents."""

import dataclasses
from fractions import Fraction
from types import SimpleNamespace

import equinox as eqx
import jax
import numpy as np
import pytest

from jaxvoice.errors import ShapeError
from jaxvoice.models.hifigan.generator import Generator
from jaxvoice.models.xtts import GPTConfig, HiFiDecoder, XTTSConfig, decoder_config, interpolate, preset
from jaxvoice.models.xtts.streaming import _BLOCKS, DecoderStream, Interpolation, decoder_features, decoder_scales
from jaxvoice.nn import freeze
from tests.models.speaker_encoder.small import SMALL as SPEAKER_ENCODER
from tests.models.xtts.released import load
from tests.reference import golden


def small_decoder(config):
    """A decoder without a speaker encoder, with random weights."""
    skeleton = eqx.filter_eval_shape(HiFiDecoder, config, key=jax.random.key(0))
    generator = Generator(config.decoder, key=jax.random.key(1))
    return eqx.tree_at(lambda decoder: decoder.waveform_decoder, skeleton, generator)


@pytest.fixture(scope="module")
def decoder():
    sizes = dataclasses.replace(
        decoder_config(32, 12),
        upsample_rates=(16, 16),
        upsample_kernel_sizes=(32, 32),
        upsample_initial_channel=32,
        resblock_kernel_sizes=(3,),
        resblock_dilation_sizes=((1, 3),),
    )
    encoder = dataclasses.replace(SPEAKER_ENCODER, level=None)
    return small_decoder(XTTSConfig(gpt=GPTConfig(channels=32, heads=2), decoder=sizes, speaker_encoder=encoder))


def test_the_first_eight_codes_fill_a_block_up_to_a_speed_of_1_6():
    decoder = SimpleNamespace(scales=(Fraction(4), Fraction(24000, 22050)))

    def frames(speed):
        x = draw(8)
        for scale in decoder_scales(decoder, speed):
            x = Interpolation(scale).push(x)
        return len(x)

    assert frames(1.7) < min(_BLOCKS) <= frames(1.6)


def draw(count):
    return np.random.default_rng(0).normal(size=(count, 32)).astype(np.float32)


def run(stream, latents, size):
    parts = [stream.push(latents[start : start + size]) for start in range(0, len(latents), size)]
    return parts, np.concatenate([*parts, stream.finish()])


@pytest.mark.parametrize("scale", [Fraction(4), Fraction(160, 147), Fraction(10, 13), Fraction(1, 2), Fraction(5, 3)])
def test_interpolation_in_parts_equals_the_whole(scale):
    for count in (2, 3, 31):
        x = draw(count)
        expected = interpolate(x, scale)
        for size in (1, 2, 7, 31):
            interpolation = Interpolation(scale)
            parts = [interpolation.push(x[start : start + size]) for start in range(0, count, size)]
            found = np.concatenate([*parts, interpolation.finish()])
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_a_signal_has_at_least_one_output():
    assert decoder_features(draw(1), [Fraction(1, 10)]).shape == (1, 32)


def test_features_equal_those_of_the_decoder(decoder):
    for count in (1, 2, 20, 53):
        found = decoder_features(draw(count), decoder_scales(decoder))
        np.testing.assert_allclose(found, decoder.features(draw(count)), rtol=0, atol=1e-6)


def test_audio_in_parts_equals_the_whole(decoder):
    speaker = np.eye(12, dtype=np.float32)[2]
    frozen = eqx.tree_at(lambda one: one.waveform_decoder, decoder, freeze(decoder.waveform_decoder))
    whole = eqx.filter_jit(decoder.waveform_decoder)
    for count, sizes in ((47, (1, 7, 20)), (1, (1,)), (4, (20,))):
        latents = draw(count)
        expected = np.asarray(whole(decoder.features(latents), speaker))[:, 0]
        assert len(expected) == decoder.samples(count) and np.abs(expected).max() > 0.01
        for size in sizes:
            _, found = run(DecoderStream(frozen, speaker), latents, size)
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_the_first_part_has_audio(decoder):
    stream = DecoderStream(decoder, np.eye(12, dtype=np.float32)[0])
    first = len(stream.push(draw(20)))
    # Without the receptive field, and frames that are in no block.
    assert first == 80 * 256 - stream.stream.output_delay > 0.7 * 24000
    assert decoder.samples(20) - first < 21 * 256


@pytest.mark.parametrize("speed", [1.3, 0.5])
def test_audio_of_another_speed(decoder, speed):
    speaker, latents = np.eye(12, dtype=np.float32)[1], draw(30)
    slower = interpolate(latents, 1 / Fraction(speed).limit_denominator(1000))
    expected = eqx.filter_jit(decoder.waveform_decoder)(decoder.features(slower), speaker)[:, 0]
    _, found = run(DecoderStream(decoder, speaker, speed=speed), latents, 7)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert abs(len(found) * speed / decoder.samples(30) - 1) < 0.02


def test_frames_are_decoded_once(decoder, monkeypatch):
    """The work grows as the number of vectors."""
    from jaxvoice.models.xtts import streaming

    decoded = []
    step = streaming._step
    monkeypatch.setattr(streaming, "_step", lambda *args: decoded.append(len(args[-1])) or step(*args))
    stream = DecoderStream(decoder, np.eye(12, dtype=np.float32)[1])
    parts, _ = run(stream, draw(120), 20)
    assert all(len(part) for part in parts)
    frames = decoder.samples(120) // 256
    assert frames - 16 <= sum(decoded) <= frames and set(decoded) == {16, 64}


def test_invalid_vectors_raise_errors(decoder):
    stream = DecoderStream(decoder, np.eye(12, dtype=np.float32)[1])
    with pytest.raises(ShapeError, match=r"latents has shape \(3, 31\); it should be \(codes, 32\)"):
        stream.push(np.zeros((3, 31), np.float32))
    with pytest.raises(ShapeError, match="The stream has no latents"):
        stream.finish()
    assert stream.push(np.zeros((0, 32), np.float32)).shape == (0,)


@pytest.mark.slow
def test_audio_in_parts_equals_the_release():
    case = golden.case("xtts/hifi_decoder")
    skeleton = eqx.filter_eval_shape(HiFiDecoder, preset("v2"), key=jax.random.key(0))
    generator = load(case, lambda *_, **__: skeleton.waveform_decoder, None, "hifigan_decoder.waveform_decoder.")
    decoder = eqx.tree_at(lambda one: one.waveform_decoder, skeleton, freeze(generator))
    for row in range(2):
        for size in (1, 7, 20):
            _, found = run(DecoderStream(decoder, case["g"][row, :, 0]), case["latents_batch"][row], size)
            np.testing.assert_allclose(found, case["wav_batch"][row, 0], rtol=0, atol=1e-5)

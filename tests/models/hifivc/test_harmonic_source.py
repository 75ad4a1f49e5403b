"""The harmonic source: its spectrum, its phase across windows, and a decoder that reads it."""

from dataclasses import replace

import equinox as eqx
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxvoice.dsp.pitch import pitch_features
from jaxvoice.errors import ConfigError
from jaxvoice.models.hifivc import HiFiVC
from jaxvoice.models.hifivc.harmonic_source import HarmonicSource
from jaxvoice.models.hifivc.inference import HiFiVCInference, SourceFeatures, pitch_code
from jaxvoice.models.hifivc.pitch_encoder import PitchEncoder
from jaxvoice.models.hifivc.weights import hifivc_shapes
from jaxvoice.weights import named_arrays
from tests.models.hifivc.small import SMALL

assert SMALL.pitch_encoder is not None
MODEL = replace(
    SMALL,
    decoder=replace(SMALL.decoder, harmonic_source=True),
    pitch_encoder=replace(SMALL.pitch_encoder, instance_norm=False),
)


@pytest.fixture(scope="module")
def network() -> HiFiVC:
    return HiFiVC(MODEL, key=jax.random.key(0))


def signal(f0):
    source = HarmonicSource([4], [240], sample_rate=24_000, subframe=240, key=jax.random.key(0))
    pitch = pitch_features(np.asarray(f0), phase=True)
    return np.asarray(source.signal(jnp.asarray(pitch.T)))[:, 0]


def test_signal_is_the_sum_of_all_harmonics():
    found = signal(np.full(50, 190.0))
    time = np.arange(50 * 240) / 24_000
    expected = sum(np.cos(2 * np.pi * 190 * k * time) for k in range(1, 64)) * np.sqrt(2 / 63)
    np.testing.assert_allclose(found, expected, atol=0.05)
    assert found.std() == pytest.approx(1, abs=1e-3)


def test_frequency_changes_without_a_jump_of_the_phase():
    f0 = np.r_[np.full(20, 100.0), np.full(20, 150.0)]
    found = signal(f0)
    cycles = np.cumsum(np.repeat(f0, 240) / 24_000) - np.repeat(f0, 240) / 24_000
    pulses = np.flatnonzero(found > 0.8 * found.max())
    # Pulses are where a cycle starts, before and after the change.
    assert np.abs(cycles[pulses] - np.round(cycles[pulses])).max() < 0.02
    assert len(set(np.round(cycles[pulses]).astype(int))) == 20 + 30


def test_unvoiced_frames_are_silent():
    f0 = np.full(30, 120.0)
    f0[10:20] = 0
    found = signal(f0)
    assert not found[2400:4800].any() and found[:2400].std() > 0.8 and found[4800:].std() > 0.8


@pytest.mark.slow
def test_windows_equal_the_whole(network):
    random = np.random.default_rng(0)
    features = random.normal(size=(80, 400)).astype(np.float32)
    pitch = pitch_features(150 + 30 * np.sin(np.arange(400) / 20), phase=True)
    speaker = random.normal(size=5).astype(np.float32)
    source = SourceFeatures(features, pitch)
    whole = HiFiVCInference(network, MODEL, piece=1000, overlap=10, window=512)
    windows = HiFiVCInference(network, MODEL, piece=1000, overlap=10, window=40)
    ((_, expected),) = whole.convert([source], speaker)
    ((_, found),) = windows.convert([source], speaker)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert expected.std() > 1e-3


def test_the_source_reaches_the_waveform_with_its_f0(network):

    run = eqx.filter_jit(lambda network, *inputs: network.decode(*inputs)[:, 0])

    def decode(f0):
        pitch = jnp.asarray(pitch_features(np.full(80, f0), phase=True).T)
        return run(network, jnp.zeros((20, 8)), pitch, jnp.zeros(5))

    for f0 in (125.0, 250.0):
        spectrum = np.abs(np.fft.rfft(np.asarray(decode(f0))[1920:-1920] * np.hanning(20 * 960 - 3840)))
        hertz = np.arange(len(spectrum)) * 24_000 / (20 * 960 - 3840)
        harmonic = np.abs(hertz / f0 - np.round(hertz / f0)) < 0.1
        band = (hertz > 100) & (hertz < 4000)
        assert spectrum[band & harmonic].mean() > 3 * spectrum[band & ~harmonic].mean()


@pytest.mark.parametrize("f0", [13_000.0, 11_000.0])
def test_signal_and_gradient_are_finite_near_the_nyquist_frequency(f0):
    source = HarmonicSource([4], [240], sample_rate=24_000, subframe=240, key=jax.random.key(0))
    pitch = jnp.asarray(pitch_features(np.full(4, f0), phase=True).T)
    found = np.asarray(source.signal(pitch))
    assert np.isfinite(found).all() and (found.std() > 0.5) == (f0 < 12_000)
    gradient = jax.grad(lambda pitch: jnp.sum(source.signal(pitch) ** 2))(pitch)
    assert np.isfinite(gradient).all()


def test_samples_do_not_depend_on_the_pitch_of_padding():
    network = HiFiVC(MODEL, key=jax.random.key(0))
    pitch = np.array(pitch_features(np.full(40, 200.0), phase=True).T)
    other = pitch.copy()
    other[24:, 0] = np.log(350)
    decode = eqx.filter_jit(lambda pitch: network.decode(jnp.zeros((10, 8)), pitch, jnp.zeros(5), length=6))
    first, second = (np.asarray(decode(jnp.asarray(values)))[: 6 * 960] for values in (pitch, other))
    np.testing.assert_array_equal(first, second)
    assert first.std() > 1e-3


def test_blocks_do_not_change_a_pitch_code_with_norms():
    encoder = PitchEncoder(SMALL.pitch_encoder, keeps_input=True, key=jax.random.key(0))
    pitch = pitch_features(150 + 30 * np.sin(np.arange(280) / 20), phase=True)
    expected = eqx.filter_jit(encoder)(jnp.asarray(pitch.T))
    np.testing.assert_allclose(pitch_code(encoder, pitch, block=32), expected, rtol=0, atol=2e-5)


def test_names_shapes_and_errors():
    network = eqx.filter_eval_shape(HiFiVC, MODEL, key=jax.random.key(0))
    assert hifivc_shapes(MODEL) == {name: array.shape for name, array in named_arrays(network).items()}
    with pytest.raises(ConfigError, match=r"decoder\.harmonic_source needs F0"):
        replace(MODEL, pitch_encoder=None)
    rates = replace(MODEL.decoder, upsample_rates=(21, 42), upsample_kernel_sizes=(63, 84))
    mel = replace(MODEL.mel, sample_rate=22_050)
    with pytest.raises(ConfigError, match=r"is 882; it should then be a multiple of 4, the values of F0 per"):
        replace(MODEL, decoder=rates, mel=mel)
    replace(MODEL, decoder=replace(rates, harmonic_source=False), mel=mel)

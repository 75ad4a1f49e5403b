"""The denoiser compared with golden values of the release."""

import equinox as eqx
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxvoice.dsp.mel_config import WAVEGLOW_MEL
from jaxvoice.models.waveglow import WaveGlow, WaveGlowConfig, bias_spectrum, denoise, precompute_inverses
from jaxvoice.weights import load_state
from tests.reference import golden


@pytest.fixture(scope="module")
def case():
    return golden.case("waveglow/denoiser")


def assert_close(found, case, name):
    """Equal to the golden value within ten times its rounding, or 1e-5 if it has none, of the largest value."""
    tolerance = (10 * case.meta["rounding"][name] or 1e-5) * np.abs(case[name]).max()
    np.testing.assert_allclose(found, case[name], rtol=0, atol=tolerance)


def test_bias_spectrum_equals_the_release(case):
    config = WaveGlowConfig(flows=4, early_every=2, channels=64)
    stored = {name.removeprefix("state."): case[name] for name in case.arrays if name.startswith("state.")}
    skeleton = eqx.filter_eval_shape(WaveGlow, config, key=jax.random.key(0))
    network = precompute_inverses(load_state(skeleton, case.state_dict() | stored))
    assert_close(bias_spectrum(network)[None, :, None], case, "bias_spec")


def test_denoised_audio_equals_the_release(case):
    bias = case["bias_spec"][0, :, 0]
    for name, strength in (("denoised_01", 0.1), ("denoised_05", 0.5), ("inverse", 0.0)):
        assert_close(denoise(case["audio"], bias, WAVEGLOW_MEL, strength=strength)[None], case, name)
    found = denoise(case["wav"][0], bias, WAVEGLOW_MEL, strength=0.1)
    assert_close(golden.digest(found), case, "denoised_wav_01_digest")


def test_a_large_strength_removes_everything(case):
    bias = jnp.full(513, 1e3)
    assert not denoise(case["audio"][0], bias, WAVEGLOW_MEL, strength=1.0).any()

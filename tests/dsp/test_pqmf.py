"""PQMF banks compared with those of RAVE, and with their definition in float64."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxvoice.dsp import pqmf_analysis, pqmf_filters, pqmf_prototype, pqmf_synthesis
from jaxvoice.errors import ConfigError, ShapeError
from tests.reference import golden


@pytest.fixture(scope="module")
def case():
    return golden.case("rave/pqmf")


@pytest.fixture(scope="module")
def filters():
    return pqmf_filters(pqmf_prototype(100, 16), 16)


def largest_error(ours, theirs) -> float:
    return float(np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize(
    ("attenuation", "bands", "name"),
    [
        (100, 16, "state.pqmf.h"),
        (70, 8, "state.prototype_70_8"),
        (100, 4, "state.prototype_100_4"),
        (100, 8, "state.prototype_100_8"),
        (120, 16, "state.prototype_120_16"),
    ],
)
def test_prototypes_equal_the_release(attenuation, bands, name, case):
    ours = pqmf_prototype(attenuation, bands)
    assert ours.dtype == np.float64 and ours.shape == case[name].shape
    assert largest_error(ours, case[name]) < 1e-6


def test_prototype_of_the_release_has_its_published_numbers():
    h = pqmf_prototype(100, 16)
    assert abs(h.sum() - 0.999998) < 1e-6 and abs(h[188] - 0.0342245) < 1e-7
    np.testing.assert_array_equal(h, h[::-1])


def test_filters_equal_the_release(case, filters):
    assert largest_error(filters, case["state.pqmf.hk"]) < 1e-5  # the release modulates the prototype in float32
    assert np.count_nonzero(filters[:, :67]) == np.count_nonzero(filters[:, -68:]) == 0


@pytest.mark.parametrize("method", ["polyphase", "direct"])
def test_analysis_and_synthesis_equal_the_release(method, case, filters):
    subbands = pqmf_analysis(jnp.asarray(case["x"]), filters, method=method)
    assert subbands.shape == (1, 1, 512, 16)
    assert largest_error(subbands[0].swapaxes(1, 2), case["analysis"]) < 1e-5
    audio = pqmf_synthesis(jnp.asarray(case["analysis"]).swapaxes(1, 2), filters, method=method)
    assert largest_error(audio, case["polyphase_synthesis"][0]) < 1e-5
    assert largest_error(golden.digest(subbands[0].swapaxes(1, 2)), case["classic_analysis_digest"]) < 1e-5
    assert largest_error(golden.digest(audio), case["classic_synthesis_digest"]) < 1e-5


@pytest.mark.parametrize("method", ["polyphase", "direct"])
def test_analysis_equals_its_definition(method, filters):
    x = np.random.default_rng(0).standard_normal(640)
    padded = np.pad(x, 256)
    expected = np.stack([filters @ padded[16 * t : 16 * t + 512] for t in range(40)])
    expected[::2, 1::2] *= -1
    assert largest_error(pqmf_analysis(jnp.asarray(x, jnp.float32), filters, method=method), expected) < 1e-5


@pytest.mark.parametrize(
    ("attenuation", "bands", "decibels"), [(100, 16, -59.8), (70, 8, -53.5), (100, 4, -60.1), (120, 16, -56.9)]
)
def test_round_trip_loses_as_much_as_published(attenuation, bands, decibels):
    filters = pqmf_filters(pqmf_prototype(attenuation, bands), bands)
    x = np.random.default_rng(1).standard_normal(65536).astype(np.float32)
    y = pqmf_synthesis(pqmf_analysis(jnp.asarray(x), filters), filters)
    inner = slice(1024, -1024)
    error = 20 * np.log10(np.linalg.norm((y - x)[inner]) / np.linalg.norm(x[inner]))
    assert abs(error - decibels) < 0.5


@pytest.mark.parametrize(("frequency", "band"), [(5000, 3), (15000, 10)])
def test_a_sine_is_in_the_band_of_its_frequency(frequency, band, filters):
    x = jnp.sin(2 * np.pi * frequency / 44100 * jnp.arange(8192, dtype=jnp.float32))
    energy = jnp.sum(jnp.square(pqmf_analysis(x, filters)[20:-20]), axis=0)
    assert int(jnp.argmax(energy)) == band
    share = energy / energy.sum()
    assert float(share[band]) > 0.95 and float(share[band - 1 : band + 2].sum()) > 0.9999


def test_gradient_of_synthesis_is_the_analysis(filters):
    """The filters of synthesis are those of analysis reversed in time, so that one is the other's transpose."""
    x, y = jnp.asarray(np.random.default_rng(2).standard_normal((2, 512)), jnp.float32)
    subbands = pqmf_analysis(y, filters)
    gradient = jax.grad(lambda bands: jnp.vdot(pqmf_synthesis(bands, filters), x))(subbands)
    assert largest_error(gradient, 16 * pqmf_analysis(x, filters)) < 1e-5


def test_invalid_values_raise_an_error(filters):
    with pytest.raises(ConfigError, match="num_bands is 1; it should be at least 2"):
        pqmf_prototype(100, 1)
    for attenuation in (-3, 29.9, 1e6, float("nan")):
        with pytest.raises(ConfigError, match=f"attenuation is {attenuation}; it should be from 30 to 300 dB"):
            pqmf_prototype(attenuation, 4)
    with pytest.raises(ShapeError, match=r"\(16,\).*odd number"):
        pqmf_filters(np.zeros(16), 4)
    with pytest.raises(ShapeError, match="multiple of 16 samples"):
        pqmf_analysis(jnp.zeros((2, 100)), filters)
    with pytest.raises(ShapeError, match=r"\(\*batch, frames, 16\)"):
        pqmf_synthesis(jnp.zeros((2, 10, 8)), filters)
    with pytest.raises(ShapeError, match="power of two"):
        pqmf_analysis(jnp.zeros(96), np.zeros((6, 128)))

"""The discriminators of RAVE compared with golden values of the release."""

import equinox as eqx
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxvoice.errors import ShapeError
from jaxvoice.losses import (
    discriminator_loss,
    feature_distance,
    generator_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
    nonsaturating_discriminator_loss,
    nonsaturating_generator_loss,
)
from jaxvoice.models.rave import DiscriminatorConfig, build_discriminators, preset
from jaxvoice.weights import count_parameters, load_state, named_arrays
from tests.models.rave.released import channels_last, largest_error, with_capacity
from tests.models.rave.test_rave_config import RELEASED
from tests.reference import golden

CASES = {
    "v1": ("v1",),
    "v2": ("v2",),
    "spectral": ("v2", "spectral_discriminator"),
    "descript": ("v2", "descript_discriminator"),
}


def build(config: DiscriminatorConfig, in_channels: int = 1):
    return eqx.filter_eval_shape(build_discriminators, config, in_channels, key=jax.random.key(0))


def in_layout_of_the_release(features: jax.Array, kind: str) -> np.ndarray:
    """A feature map `(batch, channels, ...)`: folded waveforms have their columns last, spectrograms as here."""
    features = np.moveaxis(np.asarray(features), -1, 1)
    return features.swapaxes(2, 3) if kind == "period" else features


def kinds(name: str) -> list[str]:
    periods, spectra = ["period"] * 5, ["spectrogram"]
    return {
        "v1": ["scale"] * 3,
        "v2": [*periods, *["scale"] * 3],
        "spectral": ["scale"] * 3 + spectra * 5,
        "descript": periods + spectra * 3,
    }[name]


@pytest.mark.parametrize(
    "name", ["v2", *(pytest.param(name, marks=pytest.mark.slow) for name in ("v1", "spectral", "descript"))]
)
def test_discriminators_equal_the_release(name):
    case = golden.case(f"rave/discriminators_{name}")
    network = load_state(
        build(with_capacity(preset(*CASES[name]), 16).discriminators), case.state_dict(strip="discriminator.")
    )
    both = jnp.stack([channels_last(case[kind]) for kind in ("real", "fake")])
    stacked = eqx.filter_jit(network)(both)
    outputs = {kind: jax.tree.map(lambda array, i=i: array[i], stacked) for i, kind in enumerate(("real", "fake"))}
    assert [len(output.features) for output in outputs["real"]] == case.meta["config"]["n_maps"]
    for i, kind in enumerate(kinds(name)):
        for which, found in outputs.items():
            assert found[i].logits.shape == (2, case[f"{i}_score_{which}"][0].size)
            score = in_layout_of_the_release(found[i].features[-1], kind)
            assert largest_error(score, case[f"{i}_score_{which}"]) < 2e-5
            for j, features in enumerate(found[i].features):
                digest = golden.digest(in_layout_of_the_release(features, kind))
                expected = case[f"{i}_fmap_{j}_{which}_digest"]
                assert largest_error(digest, expected) < 2e-5, (i, j)
    assert_losses_equal(case, outputs["real"], outputs["fake"])


def assert_losses_equal(case, real, fake):
    logits = [output.logits for output in real], [output.logits for output in fake]
    np.testing.assert_allclose(hinge_discriminator_loss(*logits), case["hinge_discriminator"], rtol=1e-5)
    np.testing.assert_allclose(hinge_generator_loss(logits[1]), case["hinge_generator"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(discriminator_loss(*logits), case["ls_gan_discriminator"], rtol=1e-5)
    np.testing.assert_allclose(generator_loss(logits[1]), case["ls_gan_generator"], rtol=1e-5)
    np.testing.assert_allclose(
        nonsaturating_discriminator_loss(*logits), case["nonsaturating_gan_discriminator"], rtol=1e-5
    )
    np.testing.assert_allclose(nonsaturating_generator_loss(logits[1]), case["nonsaturating_gan_generator"], rtol=1e-5)
    maps = [output.features for output in real], [output.features for output in fake]
    skip = case.meta["config"]["num_skipped_features"]
    distance = feature_distance(*maps, relative=skip > 0, skip=skip)
    np.testing.assert_allclose(distance, case["feature_matching"], rtol=1e-5)


@pytest.mark.parametrize("name", RELEASED)
def test_names_and_shapes_equal_the_release(name):
    released = {
        tensor["name"].removeprefix("discriminator."): tuple(tensor["shape"])
        for tensor in golden.case_json(f"rave/shapes/rave_{name}")["tensors"]
        if tensor["name"].startswith("discriminator.") and not tensor["name"].endswith(".window")
    }
    found = named_arrays(build(preset(*RELEASED[name]).discriminators))
    assert {name: array.shape for name, array in found.items()} == released


@pytest.mark.parametrize(("name", "count"), [("v1", 7_751_619), ("v2", 27_130_952), ("v3", 42_519_760)])
def test_numbers_of_parameters_equal_the_release(name, count):
    assert count_parameters(build(preset(name).discriminators)) == count


@pytest.mark.slow
def test_discriminators_take_several_channels_and_batch_axes(key):
    config = DiscriminatorConfig("spectral", capacity=2, scales=1, fft_sizes=(256,), spectral_channels=2)
    network = build(config, 2)
    network = load_state(network, {name: golden.tensor(name, a.shape) for name, a in named_arrays(network).items()})
    audio = jax.random.normal(key, (3, 2, 512, 2))
    outputs, single = eqx.filter_jit(lambda network, audio: (network(audio), network(audio[1, 1])))(network, audio)
    assert [output.logits.shape[:2] for output in outputs] == [(3, 2)] * 2
    np.testing.assert_allclose(single[1].logits, outputs[1].logits[1, 1], atol=1e-5)
    with pytest.raises(ShapeError, match="200 samples; it should have at least 256"):
        network(audio[..., :200, :])

"""Losses of VITS and its spectrograms: golden cases of the release, padding, and bad input."""

import numpy as np
import pytest
from jax import numpy as jnp

from jaxvoice.dsp import linear_spectrogram, log_mel, log_mel_of_linear
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.errors import ConfigError, ShapeError
from jaxvoice.losses import discriminator_loss
from jaxvoice.models.hifigan.discriminators import DiscriminatorOutput
from jaxvoice.models.vits.losses import LossWeights, adversarial_losses, kl_loss
from jaxvoice.nn import length_mask
from tests.reference import golden

WEIGHTS = LossWeights(speaker=9.0)


@pytest.fixture(scope="module")
def case():
    return golden.case("vits/losses")


def outputs(case, kind):
    """The outputs of the discriminators for real or generated audio, with channels last."""
    nets = []
    for net in range(3):
        logits = jnp.asarray(case[f"score_{kind}_{net}"])
        names = sorted(name for name in case.arrays if name.startswith(f"feat_{kind}_{net}_"))
        nets.append(DiscriminatorOutput(logits, [jnp.moveaxis(jnp.asarray(case[name]), 1, -1) for name in names]))
    return nets


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def mean_abs(a, b):
    return float(np.abs(a.astype(np.float64) - b).mean())


def divergence(case, **changes):
    names = ("z_p", "logs_q", "m_p", "logs_p")
    arrays = {name: jnp.asarray(case[name]).swapaxes(1, 2) for name in names} | changes
    mask = length_mask(jnp.asarray(case["z_len"].astype(np.int32)), case["z_p"].shape[2])
    return kl_loss(*(arrays[name] for name in names), mask=mask), mask


def test_losses_of_the_generator_equal_those_of_the_release(case):
    found = adversarial_losses(outputs(case, "real"), outputs(case, "fake"), WEIGHTS)
    close(found["adversarial"], case["g_loss_gen"])
    close(found["feature"], case["g_loss_feat"])
    close(divergence(case)[0], case["g_loss_kl"])
    close(WEIGHTS.mel * mean_abs(case["mel_slice"], case["mel_slice_hat"]), case["g_loss_mel"])
    terms = ("spk_encoder", "gen", "kl", "feat", "mel", "duration")
    close(sum(float(case[f"g_loss_{name}"]) for name in terms), case["g_loss"])


def test_the_loss_of_the_discriminators_equals_that_of_the_release(case):
    real, fake = ([output.logits for output in outputs(case, kind)] for kind in ("real", "fake"))
    close(discriminator_loss(real, fake), case["d_loss"])


def test_padding_does_not_change_the_divergence(case):
    expected, mask = divergence(case)
    z = jnp.where(mask[..., None], jnp.asarray(case["z_p"]).swapaxes(1, 2), jnp.nan)
    close(divergence(case, z_p=z)[0], expected)


def test_features_equal_those_of_the_release():
    case = golden.case("vits/features")
    for rate in (16000, 22050):
        config = MelConfig(sample_rate=rate, fmax=None, magnitude_floor=1e-6)
        audio = jnp.asarray(case[f"wav_{rate}"][0])
        spectrogram = linear_spectrogram(audio, config)
        if f"spec_{rate}" in case.arrays:
            np.testing.assert_allclose(spectrogram, case[f"spec_{rate}"][0], rtol=1e-5, atol=1e-5)
        mel = case[f"mel_{rate}"][0]
        for found in (log_mel_of_linear(spectrogram, config), log_mel(audio, config)):
            np.testing.assert_allclose(found, mel, rtol=1e-5, atol=2e-5)


def test_spectrograms_of_other_sizes_are_rejected():
    with pytest.raises(ShapeError, match=r"\(513, frames\)"):
        log_mel_of_linear(jnp.zeros((80, 12)), MelConfig())


@pytest.mark.parametrize("name", ["adversarial", "feature", "mel", "kl", "durations", "speaker"])
def test_negative_weights_are_rejected(name):
    with pytest.raises(ConfigError, match=f"{name} is -1"):
        LossWeights(**{name: -1.0})

"""The torch WaveGlow that other tests and the benchmarks take as the truth, against numbers of the released code."""

import numpy as np
import pytest
import torch

from experiments.benchmarks.torch_hifigan import fold_weight_norm, load_arrays
from experiments.benchmarks.torch_waveglow import WaveGlow, loss
from tests.reference import golden


@pytest.fixture(scope="module")
def case():
    return golden.case("waveglow/waveglow")


@pytest.fixture(scope="module")
def network(case):
    stored = {name.removeprefix("state."): case[name] for name in case.arrays if name.startswith("state.")}
    network = WaveGlow(flows=4, early_every=2, channels=64)
    load_arrays(network, case.state_dict() | stored)
    return network


def assert_close(found, case, name):
    """Equal to the golden value within ten times its rounding, and to 1e-5, of the largest value."""
    tolerance = max(10 * case.meta["rounding"][name], 1e-5) * np.abs(case[name]).max()
    np.testing.assert_allclose(found.detach(), case[name], rtol=0, atol=tolerance)


def test_latents_and_loss_equal_the_release(case, network):
    found = network(torch.from_numpy(case["mel"]), torch.from_numpy(case["audio"]))
    assert_close(found.z, case, "z")
    assert_close(found.log_scales[0], case, "log_s_0")
    assert_close(torch.stack(found.log_determinants), case, "log_det")
    assert_close(loss(found, 0.7), case, "loss_sigma07")


def test_synthesis_equals_the_release(case, network):
    mel = torch.from_numpy(case["mel"])
    noise = 0.6 * torch.from_numpy(np.concatenate([case["noise_1"], case["noise_0"]], 1))
    for one in (network, fold_weight_norm(network)):
        with torch.no_grad():
            assert_close(one.infer(mel, noise), case, "wav")

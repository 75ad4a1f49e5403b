"""The DVAE of XTTS compared with golden values of coqui's implementation."""

import math

import equinox as eqx
import jax
import numpy as np
import pytest
import torch

from experiments.benchmarks import torch_xtts
from experiments.benchmarks.torch_hifigan import arrays_of
from jaxvoice.models.xtts_dvae import DVAE, DVAEConfig
from jaxvoice.nn import freeze
from jaxvoice.weights import load_state, named_arrays
from tests.models.xtts.released import assert_close, last, load, released_shapes
from tests.reference import golden


@pytest.mark.slow
def test_dvae_equals_the_release():
    case = golden.case("xtts/dvae")
    model = load(case, DVAE, DVAEConfig())
    mel = last(case["mel"])
    quantized = eqx.filter_jit(lambda model, mel: model.quantize(mel))(model, mel)
    np.testing.assert_array_equal(quantized.codes, case["codes"])
    assert_close(quantized.latents[..., :64], case, "latent_first")
    assert_close(golden.digest(quantized.latents), case, "latent_digest")
    decode = eqx.filter_jit(lambda model, codes: model.decode(codes))
    assert_close(last(decode(model, case["codes"].astype(np.int32))), case, "decoded")
    assert_close(last(decode(model, case["codes_random"].astype(np.int32))), case, "decoded_random")
    frozen = freeze(model)  # as in Codec
    np.testing.assert_array_equal(eqx.filter_jit(lambda model, mel: model.encode(mel))(frozen, mel), case["codes"])
    assert_close(last(decode(frozen, case["codes"].astype(np.int32))), case, "decoded")
    found = eqx.filter_jit(lambda model, mel: model(mel))(model, mel[:, :44])
    assert_close(np.mean(np.square(found.mel - mel[:, :44])), case, "recon_loss")
    assert_close(found.quantized.commitment, case, "commitment_loss")
    book = model.codebook.updated(quantized.latents, quantized.codes, decay=0.99, eps=1e-5)
    assert_close(book.cluster_size, case, "ema_cluster_size")
    assert_close(golden.digest(book.embed_avg), case, "ema_embed_avg_digest")
    assert_close(golden.digest(book.embed), case, "ema_embed_digest")


@pytest.mark.parametrize("frames", [1, 41])
def test_small_dvae_equals_torch(frames):
    torch.manual_seed(0)
    theirs = torch_xtts.DVAE(32, hidden=16, code_channels=8).eval().requires_grad_(False)
    config = DVAEConfig(codes=32, hidden=16, code_channels=8)
    plain = load_state(eqx.filter_eval_shape(DVAE, config, key=jax.random.key(0)), arrays_of(theirs))
    mel = np.random.default_rng(0).normal(size=(1, frames, 80)).astype(np.float32)
    codes = theirs.encode(torch.from_numpy(mel).mT)
    expected = theirs.decode(codes).mT
    for model in (plain, freeze(plain)):
        np.testing.assert_array_equal(model.encode(mel), codes)
        decoded = model.decode(codes.numpy().astype(np.int32))
        np.testing.assert_allclose(decoded, expected, atol=1e-5 * float(expected.abs().max()))


def test_names_and_shapes_of_the_dvae_equal_the_release():
    network = eqx.filter_eval_shape(DVAE, DVAEConfig(), key=jax.random.key(0))
    found = {name: tuple(array.shape) for name, array in named_arrays(network).items()}
    # A loss that is never computed; its buffers are in the class, and not in the released file.
    expected = {
        path: shape for path, shape in released_shapes("xtts_dvae").items() if not path.startswith("discrete_loss.")
    }
    assert found == expected
    assert sum(math.prod(shape) for shape in found.values()) == 52_616_784

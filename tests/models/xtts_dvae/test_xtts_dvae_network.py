"""The DVAE of XTTS compared with golden values of coqui's implementation."""

import math

import equinox as eqx
import jax
import numpy as np
import pytest

from jaxvoice.models.xtts_dvae import DVAE, DVAEConfig
from jaxvoice.weights import named_arrays
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
    found = eqx.filter_jit(lambda model, mel: model(mel))(model, mel[:, :44])
    assert_close(np.mean(np.square(found.mel - mel[:, :44])), case, "recon_loss")
    assert_close(found.quantized.commitment, case, "commitment_loss")
    book = model.codebook.updated(quantized.latents, quantized.codes, decay=0.99, eps=1e-5)
    assert_close(book.cluster_size, case, "ema_cluster_size")
    assert_close(golden.digest(book.embed_avg), case, "ema_embed_avg_digest")
    assert_close(golden.digest(book.embed), case, "ema_embed_digest")


def test_names_and_shapes_of_the_dvae_equal_the_release():
    network = eqx.filter_eval_shape(DVAE, DVAEConfig(), key=jax.random.key(0))
    found = {name: tuple(array.shape) for name, array in named_arrays(network).items()}
    # A loss that is never computed; its buffers are in the class, and not in the released file.
    expected = {
        path: shape for path, shape in released_shapes("xtts_dvae").items() if not path.startswith("discrete_loss.")
    }
    assert found == expected
    assert sum(math.prod(shape) for shape in found.values()) == 52_616_784

"""Configurations without golden values: causal padding, and v3 after its instance norms were adapted."""

import equinox as eqx
import numpy as np
import pytest
import torch
from jax import numpy as jnp

from jaxvoice.models.rave import preset
from jaxvoice.weights import load_state, named_arrays
from tests.models.rave.released import largest_error, with_capacity, with_formula_weights
from tests.models.rave.torch_rave import Reference


@pytest.mark.parametrize("arguments", [("v2", "causal", "snake"), ("v3",)], ids="+".join)
def test_encoder_and_generator_equal_torch(arguments):
    config = with_capacity(preset(*arguments), 4)
    network, state = with_formula_weights(config)
    rng = np.random.default_rng(0)
    # Statistics of source and target that differ in every slot.
    drawn = {
        name: 0.2 * np.abs(rng.standard_normal(array.shape)) + (1.0 if "std" in name else 0.0)
        for name, array in named_arrays(state).items()
        if ".mean_" in name or ".std_" in name
    }
    drawn |= {name: np.ones(1) for name in named_arrays(state) if ".num_update_" in name}
    state = load_state(state, named_arrays(state) | drawn)
    arrays = named_arrays(network) | named_arrays(state)
    theirs = Reference(
        {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}, causal="causal" in arguments
    )
    x = rng.standard_normal((2, 256, 16)).astype(np.float32)
    z = rng.standard_normal((2, 2, 128)).astype(np.float32)

    @eqx.filter_jit
    def run(network, state, x, z):
        encoded, _ = network.encoder(x, state.encoder, inference=True)
        return encoded, network.decode_bands(z, state, inference=True)[0]

    encoded, bands = run(network, state, jnp.asarray(x), jnp.asarray(z))
    expected = theirs.encode(torch.from_numpy(x).mT, config.encoder)
    assert largest_error(encoded, expected.mT.numpy()) < 1e-5
    expected = theirs.decode(torch.from_numpy(z).mT, config.generator)
    assert largest_error(bands, expected.mT.numpy()) < 1e-5

"""Configurations without golden values: causal padding, v3 after its instance norms were adapted, mel input, GRU."""

import dataclasses

import equinox as eqx
import jax
import numpy as np
import pytest
import torch
from jax import numpy as jnp

from jaxvoice.errors import ShapeError
from jaxvoice.models.rave import BottleneckConfig, MelInput, MelInputConfig, Rave, TrainedRave, preset
from jaxvoice.weights import load_state, named_arrays
from tests.models.rave import torch_modules
from tests.models.rave.released import (
    channels_first,
    channels_last,
    largest_error,
    with_capacity,
    with_formula_weights,
)
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


def reference_of(config, network):
    """The torch modules with the weights of `network`."""
    model = TrainedRave(network, network.init_state())
    arrays = {name: np.asarray(array) for name, array in named_arrays(model, merged=("network", "state")).items()}
    taps = arrays["pqmf.h"].size, arrays["pqmf.hk"].shape[1]
    return torch_modules.load(torch_modules.Model(config, taps), arrays)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hybrid", "v2_with_augs"])
def test_mel_input_and_gru_equal_torch(name):
    config = with_capacity(preset(name), 4)
    small = dataclasses.replace(config, bottleneck=BottleneckConfig(latent_size=6))
    network = Rave(small, key=jax.random.key(0))
    theirs, rng = reference_of(small, network), np.random.default_rng(0)
    audio = rng.standard_normal((2, 2 * small.hop_length)).astype(np.float32)
    mel = small.encoder.mel
    spectra = np.stack(
        [torch_modules.mel_spectrogram(row, 44100, mel.n_fft, mel.hop_length, mel.num_mels) for row in audio]
    )
    z = rng.standard_normal((2, 6, 3)).astype(np.float32)
    with torch.no_grad():
        expected = theirs.encoder(torch.from_numpy(spectra))[:, :6].numpy()
        bands = theirs.decoder(torch.from_numpy(z))
        decoded = theirs.pqmf.synthesis(bands)[:, 0].numpy()

    @eqx.filter_jit
    def run(network, audio, z):
        state = network.init_state()
        latents, _ = network.encode(audio, state, inference=True)
        return network.spectrogram(audio), latents.z, network.decode(z, state, inference=True)[0]

    found, latents, wave = run(network, jnp.asarray(audio)[..., None], channels_last(z))
    assert largest_error(channels_first(found), spectra) < 1e-5
    assert largest_error(channels_first(latents), expected) < 1e-4
    assert largest_error(wave[..., 0], decoded) < 1e-4
    assert len(network.decoder.net) == (23 if name == "hybrid" else 22)


def test_mel_spectrograms_of_channels_follow_each_other(key):
    layer = MelInput(MelInputConfig(64, 16, 8), 16000)
    audio = jax.random.normal(key, (128, 2))
    both = layer(audio)
    assert both.shape == (8, 16)
    for channel in range(2):
        alone = layer(audio[:, channel : channel + 1])
        np.testing.assert_allclose(both[:, 8 * channel : 8 * channel + 8], alone, rtol=1e-5)
    for shape in ((120, 1), (32, 1), (128,)):
        with pytest.raises(ShapeError, match=r"multiple of 16 samples, at least 33"):
            layer(jnp.zeros(shape))

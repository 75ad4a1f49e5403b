"""Recorded activations against hooks of torch on the same weights."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from experiments.benchmarks import torch_hifigan
from jaxvoice.dissect import record
from jaxvoice.models.hifigan import Generator, GeneratorConfig
from jaxvoice.weights import load_state

SIZES = {
    "num_mels": 8,
    "upsample_rates": (4, 2),
    "upsample_kernel_sizes": (8, 4),
    "upsample_initial_channel": 16,
    "resblock_kernel_sizes": (3, 5),
    "resblock_dilation_sizes": ((1, 3), (1, 2)),
}
CONFIG = GeneratorConfig(**SIZES)


@pytest.fixture(scope="module")
def both():
    """Outputs of every layer in torch and in jaxvoice."""
    torch.manual_seed(0)
    theirs = torch_hifigan.Generator(**SIZES)
    state = {name: tensor.detach().numpy() for name, tensor in theirs.state_dict().items()}
    ours = load_state(Generator(CONFIG, key=jax.random.key(0)), state)
    wanted = {}
    for name, module in theirs.named_modules():
        if name and any(True for _ in module.parameters()):
            module.register_forward_hook(lambda _, __, out, name=name: wanted.update({name: out[0].numpy()}))
    mel = np.random.default_rng(0).standard_normal((8, 12)).astype(np.float32)
    with torch.no_grad():
        audio = theirs(torch.from_numpy(mel)[None])[0].numpy()
    found = eqx.filter_jit(lambda model, mel: record(model, lambda m: m(mel)))(ours, mel)
    return (audio, wanted), found


def test_layers_put_out_what_torch_s_do(both):
    (audio, wanted), (result, outputs) = both
    np.testing.assert_allclose(result, audio, atol=1e-5)
    assert list(outputs) == list(wanted)
    for name, output in outputs.items():
        np.testing.assert_allclose(output, wanted[name], atol=1e-5, err_msg=name)


def test_recording_changes_nothing():
    model = Generator(CONFIG, key=jax.random.key(1))
    before = jax.tree.leaves(model)
    mel = jnp.ones((8, 4))
    result, _ = record(model, lambda m: m(mel))
    np.testing.assert_array_equal(result, model(mel))
    assert all(a is b for a, b in zip(before, jax.tree.leaves(model), strict=True))


def test_second_calls_and_layers_in_tables_have_names_of_their_own():
    class Twice(eqx.Module):
        layers: dict[str, tuple[eqx.nn.Linear, ...]]
        other: eqx.nn.Linear | None = None

        def __call__(self, x):
            (first,) = self.layers["a"]
            return first(first(x))

    linear = eqx.nn.Linear(3, 3, key=jax.random.key(0))
    result, outputs = record(Twice({"a": (linear,)}), lambda m: m(jnp.ones(3)))
    assert list(outputs) == ["layers.a.0", "layers.a.0#2"]
    np.testing.assert_array_equal(outputs["layers.a.0"], linear(jnp.ones(3)))
    np.testing.assert_array_equal(outputs["layers.a.0#2"], result)

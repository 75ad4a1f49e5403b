"""Speaker encoders compared with networks in torch: training with the statistics of a batch, and Resemblyzer's windows.

The networks in torch are those of `experiments.benchmarks`.
"""

import equinox as eqx
import jax
import numpy as np
import torch
from jax import numpy as jnp

from experiments.benchmarks import torch_hasp, torch_speaker_encoder
from jaxvoice.models.speaker_encoder import ResNetConfig, preset, with_state, without_state
from jaxvoice.pipelines import SpeakerEncoder
from jaxvoice.weights import named_arrays
from tests.models.speaker_encoder.small import SMALL, random_encoder


def in_torch(network):
    """The network in torch, with the weights and statistics of `network`."""
    sizes, mel = network.config.network, network.config.mel
    assert isinstance(sizes, ResNetConfig)
    theirs = torch_hasp.HASP(
        sizes.blocks, sizes.channels, reduction=sizes.reduction, attention=sizes.attention, dim=sizes.dim,
        mels=mel.num_mels,
    )  # fmt: skip
    state = {name: torch.from_numpy(np.array(array)) for name, array in named_arrays(network).items()}
    theirs.load_state_dict(state)
    return theirs


def test_training_equals_torch():
    network = random_encoder(SMALL)
    theirs = in_torch(network).train()
    audio = 0.1 * np.random.default_rng(0).normal(size=(3, 4000)).astype(np.float32)
    trained, state = without_state(network)

    @eqx.filter_jit
    def run(params, audio):
        embedding, new = params(audio, state, normalize=False)
        return jnp.sum(jnp.sin(embedding)), (embedding, new)

    (_, (embedding, new)), gradient = eqx.filter_value_and_grad(run, has_aux=True)(trained, jnp.asarray(audio))
    expected = theirs(torch.from_numpy(audio))
    torch.sin(expected).sum().backward()
    np.testing.assert_allclose(embedding, expected.detach().numpy(), atol=2e-5)
    after = named_arrays(with_state(trained, new))
    for name, tensor in theirs.state_dict().items():
        if "running" in name or "tracked" in name:
            np.testing.assert_allclose(after[name], tensor.numpy(), rtol=1e-4, atol=1e-6, err_msg=name)
    ours = named_arrays(gradient)
    for name, parameter in theirs.named_parameters():
        grad = parameter.grad.numpy()
        np.testing.assert_allclose(ours[name], grad, atol=2e-3 * max(1e-3, np.abs(grad).max()), err_msg=name)
    # The buffers of the front end get no gradient.
    assert not any(np.any(array) for name, array in ours.items() if name.startswith("torch_spec"))


def test_gradient_of_the_waveform_equals_torch():
    network = random_encoder(SMALL, seed=1)
    theirs = in_torch(network).eval()
    audio = 0.1 * np.random.default_rng(1).normal(size=(2, 5000)).astype(np.float32)
    tensor = torch.from_numpy(audio).requires_grad_()
    torch.nn.functional.cosine_similarity(*theirs(tensor)[:, None])[0].backward()
    gradient = eqx.filter_jit(jax.grad(lambda x: jnp.sum(jnp.prod(network(x), axis=0))))(jnp.asarray(audio))
    expected = tensor.grad.numpy()
    np.testing.assert_allclose(gradient, expected, atol=2e-3 * np.abs(expected).max())


def test_windows_of_resemblyzer_equal_torch():
    config = preset("resemblyzer")
    ours = SpeakerEncoder(random_encoder(config), config)
    theirs = torch_speaker_encoder.SpeakerEncoder().eval()
    theirs.load_state_dict({n: torch.from_numpy(np.array(a)) for n, a in named_arrays(ours.network).items()})
    random = np.random.default_rng(0)
    # The last window of the second is covered by more than three quarters, that of the third by less.
    for samples in (17_000, 12_320 + 19_300, 12_320 + 19_100):
        envelope = 1 + np.sin(np.arange(samples) / 3000)
        audio = (0.02 * envelope * random.normal(size=samples)).astype(np.float32)
        np.testing.assert_allclose(ours.embed(audio, 16000), theirs.embed(audio, 16000), atol=1e-5)

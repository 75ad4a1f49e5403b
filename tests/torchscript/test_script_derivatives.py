"""An interpreted archive as a JAX function: gradients, batches, submodules, and the effect of every weight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.torchscript import script_models as models
from tests.torchscript.script_agreement import assert_same


def test_gradients_equal_torch(load, trace):
    module, (x,) = models.make("speaker encoder")
    made = trace(module, x)
    run = load(made)
    loss = lambda weights, x: sum(jnp.sum(jnp.sin(y)) for y in run(weights, x))  # noqa: E731
    weights = {name: jnp.asarray(array) for name, array in run.weights.items()}
    by_weights, by_input = jax.jit(jax.grad(loss, argnums=(0, 1)))(weights, x.numpy())
    x.requires_grad_()
    sum(torch.sum(torch.sin(y)) for y in made(x)).backward()
    assert_same(x.grad, by_input, 1e-4)
    parameters = dict(made.named_parameters())
    assert parameters.keys() <= run.weights.keys()
    for name, parameter in parameters.items():
        assert_same(parameter.grad, by_weights[name], 1e-4)


def test_vmap_equals_a_batch(load, trace):
    module, (x,) = models.make("conformer")
    run = load(trace(module, x))
    each = jax.jit(jax.vmap(lambda one: run(run.weights, one[None])[0]))(x.numpy())
    # No axis mixes examples here, so a batch of traces and a trace of a batch agree.
    assert_same(module(x), each, 1e-5)


def test_every_weight_and_the_order_of_axes_affect_the_result(load, trace):
    module, (x,) = models.make("speaker encoder")
    run = load(trace(module, x))
    call = jax.jit(run)
    mean = np.asarray(call(run.weights, x.numpy())[0])
    for name in ("pre_conv.weight", "convs.0.first_conv.weight_v", "convs.0.conv_skip.weight_g", "mean_conv.bias"):
        changed = run.weights | {name: run.weights[name] + np.float32(0.3)}
        assert np.abs(np.asarray(call(changed, x.numpy())[0]) - mean).max() > 1e-3, name
    swapped = run.weights | {"convs.1.first_conv.weight_v": run.weights["convs.1.first_conv.weight_v"][..., ::-1]}
    assert np.abs(np.asarray(call(swapped, x.numpy())[0]) - mean).max() > 1e-3


def test_record_names_each_call_of_a_module(load, trace):
    module, (x,) = models.make("speaker encoder")
    seen: dict[str, torch.Tensor] = {}
    for name, child in module.named_modules():
        if name:

            def note(_module, _inputs, output, name=name):
                count = sum(key.partition("#")[0] == name for key in seen) + 1
                seen[name if count == 1 else f"{name}#{count}"] = output

            child.register_forward_hook(note)  # fmt: skip
    made = trace(module, x)
    seen.clear()
    with torch.no_grad():
        module(x)
    run = load(made)
    outputs, calls = jax.jit(run.record)(run.weights, x.numpy())
    # What old weight norm makes of a module's input is an input of the module in the archive too.
    assert set(calls) == set(seen)
    for name, expected in seen.items():
        assert_same(expected, calls[name])
    assert "convs.0.activation#2" in calls
    assert_same(module(x), outputs)


def test_submodules_of_an_archive_can_be_run(load, trace):
    module, (x,) = models.make("conformer")
    run = load(trace(module, x), "layers.1.feed_forward1")
    assert all(name.startswith("layers.1.feed_forward1.") for name in run.weights)
    h = torch.randn(1, 4, 8)
    assert_same(module.layers[1].feed_forward1(h), run(run.weights, h.numpy()))


def test_the_tolerance_distinguishes_silu_from_relu(load, trace):
    """An error in one operator must exceed the tolerance."""

    class Wrong(nn.Module):
        def forward(self, x):
            return functional.relu(x)  # fmt: skip

    x = torch.randn(3, 4)
    run = load(trace(Wrong(), x))
    with pytest.raises(AssertionError):
        assert_same(functional.silu(x), run(run.weights, x.numpy()))

"""The Conformer compared with golden values of two releases of NeMo, and with a Conformer in torch."""

import dataclasses

import equinox as eqx
import jax
import numpy as np
import pytest
import torch
from jax import numpy as jnp

from jaxvoice.dissect import capture, tag
from jaxvoice.errors import ConfigError, ShapeError
from jaxvoice.models.conformer import (
    PRESETS,
    Conformer,
    ConformerConfig,
    ConformerEncoder,
    fold_batch_norm,
    mask_padding,
    preset,
    with_state,
    without_state,
)
from jaxvoice.nn import FixedBatchNorm, relative_positions
from jaxvoice.weights import count_parameters, named_arrays
from tests.models.conformer.small import SMALL, network
from tests.reference import conformer_torch, golden

RELEASES = pytest.mark.parametrize("release", ["1.7", "2.6"])
GOLDEN = ConformerConfig(layers=2, dim=64, heads=4, feed_forward=256, subsampling_channels=64)


@pytest.fixture(scope="module")
def case():
    return golden.case("conformer/encoder_small")


def golden_encoder(case, release, weights=None):
    config = dataclasses.replace(GOLDEN, nemo_release=release)
    weights = case.state_dict() if weights is None else weights
    return network(config, {f"encoder.{name}": array for name, array in weights.items()}).encoder


def largest(difference):
    return float(np.abs(difference).max())


def inputs(case):
    return case["input"].swapaxes(1, 2), case["length"]


PARTS = {
    "pre_encode": "pre_encode",
    "layer_0": "layers.0",
    "layer_1": "layers.1",
    **{
        f"layer_0_{name}_digest": f"layers.0.{name}" for name in ("feed_forward1", "self_attn", "conv", "feed_forward2")
    },
}


@RELEASES
def test_encoder_equals_the_golden_values(case, release):
    features, length = inputs(case)
    encoder = tag(golden_encoder(case, release))
    run = capture(lambda x: encoder(x, length=length, inference=True), list(PARTS.values()))
    output, found = eqx.filter_jit(run)(features)
    prefix = "r" + release.replace(".", "")
    np.testing.assert_array_equal(encoder.output_length(length), case[f"{prefix}_output_length"])
    assert largest(output.swapaxes(1, 2) - case[f"{prefix}_output"]) < 1e-5
    for name, path in PARTS.items():
        expected = case[f"{prefix}_{name}"]
        ours = golden.digest(np.asarray(found[path])) if name.endswith("digest") else found[path]
        assert largest(ours - expected) < 1e-5, name


def test_the_comparison_detects_a_changed_weight_and_a_swapped_axis(case):
    features, length = inputs(case)
    expected = case["r26_output"].swapaxes(1, 2)

    def error(weights):
        return largest(encode(golden_encoder(case, "2.6", weights), features, length) - expected)

    weights = case.state_dict()
    changed = weights["layers.1.self_attn.linear_pos.weight"].copy()
    changed[0, 0] += 0.5
    assert error({**weights, "layers.1.self_attn.linear_pos.weight": changed}) > 1e-4
    for name in ("layers.0.self_attn.linear_q.weight", "pre_encode.conv.2.weight"):
        assert error({**weights, name: weights[name].swapaxes(0, 1)}) > 1e-2
    flipped = weights["layers.0.conv.depthwise_conv.weight"][..., ::-1]
    assert error({**weights, "layers.0.conv.depthwise_conv.weight": flipped}) > 1e-3
    variance = weights["layers.0.conv.batch_norm.running_var"] * 1.1
    assert error({**weights, "layers.0.conv.batch_norm.running_var": variance}) > 1e-4


@eqx.filter_jit
def encode(encoder, features, length=None):
    return encoder(features, length=length, inference=True)


def test_rows_of_a_batch_equal_single_examples_in_the_newer_release_only(case):
    features, length = inputs(case)
    short = int(length[1])
    for release, alone_equals in (("2.6", True), ("1.7", False)):
        encoder = golden_encoder(case, release)
        together = encode(encoder, features, length)[1, : encoder.output_length(short)]
        alone = encode(encoder, features[1, :short])
        assert (largest(together - alone) < 2e-6) == alone_equals
        masked = encode(mask_padding(encoder), features, length)[1, : encoder.output_length(short)]
        np.testing.assert_allclose(masked, alone, atol=2e-6)


def test_large_preset_has_the_released_shapes():
    shapes = golden.case_json("conformer/large_shapes")
    encoder = eqx.filter_eval_shape(
        lambda key: with_state(one := ConformerEncoder(preset("large"), key=key), one.init_state()), jax.random.key(0)
    )
    ours = {name: array.shape for name, array in named_arrays(encoder).items()}
    assert ours == {tensor["name"]: tuple(tensor["shape"]) for tensor in shapes["tensors"]}
    assert (
        count_parameters(eqx.filter_eval_shape(ConformerEncoder, PRESETS["large"], key=jax.random.key(0))) == 121435136
    )


@eqx.filter_jit
def run(model, *args, **options):
    return model(*args, **options)


@pytest.fixture(scope="module")
def reference():
    return conformer_torch.recogniser(SMALL)


@pytest.fixture(scope="module")
def ours(reference):
    return network(SMALL, {name: tensor.numpy() for name, tensor in reference.state_dict().items()})


def features_of(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=(*shape, 20)).astype(np.float32)


@pytest.mark.parametrize("frames", [1, 12, 21])
def test_network_equals_torch(reference, ours, frames):
    features = features_of(frames)
    with torch.no_grad():
        hidden, logits = reference.encoder(torch.from_numpy(features)), reference(torch.from_numpy(features))
    found = run(ours, features)
    assert found.hidden.shape == (-(-frames // 4), SMALL.dim) and found.state is None
    np.testing.assert_allclose(found.hidden, hidden, atol=1e-5)
    np.testing.assert_allclose(found.logits, logits, atol=1e-5)


def test_padded_batches_equal_torch_without_padding(reference, ours):
    features, length = features_of(3, 40), np.array([40, 13, 1])
    found = run(ours, features, length=length)
    for row, frames in enumerate(length):
        with torch.no_grad():
            expected = reference.encoder(torch.from_numpy(features[row, :frames]))
        np.testing.assert_allclose(found.hidden[row, : len(expected)], expected, atol=1e-5)
    assert np.isfinite(found.hidden).all()
    # What is in the padding does not matter, NaN included.
    other = features.copy()
    other[1, 13:] = np.nan
    again = run(ours, other, length=length)
    np.testing.assert_array_equal(again.hidden[1, :4], found.hidden[1, :4])


def test_batch_axes_and_vmap_equal_single_examples(ours):
    features, length = features_of(2, 2, 22), np.array([[22, 9], [15, 22]])
    together = run(ours, features, length=length)
    apart = jax.jit(jax.vmap(jax.vmap(lambda x, n: ours(x, length=n)[:2])))(features, length)
    for a, b in zip(together[:2], apart, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_gradients_of_a_layer_equal_torch(reference, ours):
    x = np.random.default_rng(1).normal(size=(9, SMALL.dim)).astype(np.float32)
    weights = np.random.default_rng(2).normal(size=(9, SMALL.dim)).astype(np.float32)
    layer, theirs = ours.encoder.layers[1], reference.encoder.layers[1]

    def loss(parts):
        layer, x = parts
        return jnp.sum(layer(x, relative_positions(9, SMALL.dim), inference=True) * weights)

    gradient, dx = eqx.filter_jit(eqx.filter_grad(loss))((layer, jnp.asarray(x)))
    given = torch.from_numpy(x).requires_grad_()
    theirs.zero_grad()
    (theirs(given) * torch.from_numpy(weights)).sum().backward()
    np.testing.assert_allclose(dx, given.grad, atol=2e-5)
    found = named_arrays(gradient)
    for name, parameter in theirs.named_parameters():
        np.testing.assert_allclose(found[name], parameter.grad, atol=5e-5, err_msg=name)


def test_training_statistics_equal_torch(reference, ours):
    model, state = without_state(ours)
    features = features_of(30)
    output = run(without_dropout(model), features, state)
    theirs = conformer_torch.recogniser(SMALL).train()
    theirs.load_state_dict(reference.state_dict())
    with torch.no_grad():
        hidden = theirs.encoder(torch.from_numpy(features))
    np.testing.assert_allclose(output.hidden, hidden, atol=1e-5)
    after = theirs.state_dict()
    for name, array in named_arrays(output.state).items():
        np.testing.assert_allclose(array, after[name], atol=1e-6, err_msg=name)


def without_dropout(model):
    config = dataclasses.replace(SMALL, dropout=0.0, attention_dropout=0.0)
    skeleton = eqx.filter_eval_shape(Conformer, config, key=jax.random.key(0))
    return jax.tree.unflatten(jax.tree.structure(skeleton), jax.tree.leaves(model))


def test_padding_does_not_change_the_statistics_of_training(ours):
    model, state = without_state(ours)
    still = without_dropout(model)
    features = features_of(16)
    alone = run(still, features, state)
    padded = run(still, np.concatenate([features, features_of(12, seed=5)]), state, length=16)
    for a, b in zip(jax.tree.leaves(alone.state), jax.tree.leaves(padded.state), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_state_moves_into_the_network_and_out_again(ours):
    model, state = without_state(ours)
    assert set(named_arrays(ours)) == set(named_arrays(model)) | set(named_arrays(state))
    again = with_state(model, state)
    assert eqx.tree_equal(again, ours)
    features = features_of(12)
    hidden = run(ours, features).hidden
    np.testing.assert_allclose(run(model, features, state, inference=True).hidden, hidden, atol=1e-6)
    for folded in (fold_batch_norm(ours), fold_batch_norm(model, state)):
        assert not any(isinstance(layer.conv.batch_norm, FixedBatchNorm) for layer in folded.encoder.layers)
        np.testing.assert_allclose(run(folded, features).hidden, hidden, atol=1e-5)
    assert eqx.tree_equal(fold_batch_norm(model.encoder, state.encoder), folded.encoder)


def test_dropout_is_for_training_only(ours):
    model, state = without_state(ours)
    features = features_of(12)
    one, two = (run(model, features, state, key=jax.random.key(seed)).hidden for seed in (0, 1))
    assert largest(one - two) > 1e-3
    with pytest.raises(ConfigError, match="key is None; it should be a random key"):
        model(features, state)


def test_wrong_states_raise_an_error(ours):
    model, state = without_state(ours)
    with pytest.raises(ConfigError, match="state is None, but the batch norm is a MaskedBatchNorm"):
        eqx.filter_eval_shape(model, features_of(12), inference=True)
    with pytest.raises(ConfigError, match="state is given, but the batch norm is a FixedBatchNorm"):
        eqx.filter_eval_shape(ours, features_of(12), state, inference=True)
    with pytest.raises(ConfigError, match="state is None; it should be the running statistics"):
        fold_batch_norm(model)
    with pytest.raises(ConfigError, match="should be those of training"):
        with_state(ours, state)
    with pytest.raises(ConfigError, match="should be FixedBatchNorm"):
        without_state(model)


def test_wrong_inputs_raise_an_error(ours):
    with pytest.raises(ShapeError, match=r"is \(12, 19\); it should be \(\*batch, frames, 20\)"):
        ours(np.zeros((12, 19), np.float32))
    with pytest.raises(ShapeError, match="should have at least one frame"):
        ours(np.zeros((0, 20), np.float32))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 3}, "ConformerConfig.dim is 8; it should be a multiple of heads, 3"),
        ({"kernel_size": 4}, "kernel_size is 4; it should be odd"),
        ({"dropout": 1.0}, "dropout is 1.0; it should be in"),
        ({"layers": 100}, "layers is 100; it should be at most 64"),
        ({"classes": 7}, "symbols has 4 symbols and classes is 7; classes should be 4, or 5 with CTC's blank"),
        ({"symbols": ("a", "a", "b", "c")}, "each symbol once"),
        ({"nemo_release": "2.0"}, "nemo_release is '2.0'; it should be one of '1.7', '2.6'"),
    ],
)
def test_impossible_configurations_raise_an_error(changes, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(SMALL, **changes)


def test_presets():
    assert preset("small").frame_seconds == 0.04 and SMALL.blank == 4
    with pytest.raises(ConfigError, match="preset is 'huge'; it should be one of large, small"):
        preset("huge")

"""The results of all modules of every family are listed and captured, and tags change no other part of a program."""

import importlib
import math
import re

import equinox as eqx
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxvoice import dissect, models
from jaxvoice.dissect.programs import trace
from jaxvoice.nn import submodules

OTHER_CALLS = {
    "gaussian_tts": lambda config, model: model.durations(
        jnp.zeros((6, config.dim)), phone_count=jnp.asarray(6), inference=True
    ),
    "waveglow": lambda config, model: model.encode(
        jnp.zeros((4 * config.mel.hop_length, 1)), jnp.zeros((4, config.mel.num_mels))
    ),
    "vits": lambda config, model: model.duration_loss(
        model.encode(
            jnp.zeros(5, jnp.int32),
            jnp.zeros((6, config.spectrogram_bins)),
            jnp.zeros((6, config.channels)),
            jnp.ones(config.speaker_channels),
            jnp.zeros((), jnp.int32),
            inference=True,
        ),
        jnp.ones(5),
        jnp.zeros((5, 2)),
        inference=True,
    ),
    "xtts": lambda config, model: model.gpt(
        jnp.zeros((3, config.gpt.channels)), jnp.zeros(5, jnp.int32), jnp.zeros(4, jnp.int32), inference=True
    ),
}
"""Calls of modules that the main call of a network does not use."""


@pytest.fixture(scope="module", params=models.FAMILIES, ids=lambda family: family.name)
def example(request):
    """A small network of a family without values, and calls of it, each a function of a model."""
    family = request.param
    config = importlib.import_module(f"tests.models.{family.name}.small").SMALL
    network = eqx.filter_eval_shape(family.build, config, key=jax.random.key(0))
    args, kwargs = family.example_inputs(config, key=jax.random.key(0))
    calls = [lambda model: model(*args, **kwargs)]
    if family.name in OTHER_CALLS:
        calls.append(lambda model: OTHER_CALLS[family.name](config, model))
    return network, calls


def test_every_module_is_listed_and_can_be_captured(example):
    network, calls = example
    captured = set()
    for call in calls:
        run = dissect.subgraph(lambda model, call=call: call(dissect.tag(model)), "*")
        values = dissect.named_values(lambda model, call=call: call(dissect.tag(model)), network)
        found = eqx.filter_eval_shape(run, network)
        assert {value.name: value.shape for value in values} == {name: array.shape for name, array in found.items()}
        captured |= {name.partition("[")[0].partition("#")[0] for name in found}
    paths = {path for path, _ in submodules(network)}
    # The result of a method is named after it.
    assert paths <= captured | {name.rpartition(".")[0] for name in captured - paths}


def operations(program):
    return [(value.op, value.shape) for value in program.values if not value.is_module]


def test_tags_add_names_and_nothing_else(example):
    network, calls = example
    for call in calls:
        plain, _ = trace(call, (network,), {})
        tagged, _ = trace(lambda model, call=call: call(dissect.tag(model)), (network,), {})
        assert not plain.modules and tagged.modules
        assert operations(plain) == operations(tagged)


def numbers(result):
    """All floating arrays of a result in one vector."""
    leaves = [leaf for leaf in jax.tree.leaves(result) if eqx.is_inexact_array(leaf)]
    return jnp.concatenate([leaf.reshape(-1) for leaf in leaves])


@pytest.mark.slow
def test_captured_resumed_and_bent_networks_equal_the_whole(example):
    """One result in the middle of each network: captured, given, and scaled by a control, also batched and derived."""
    skeleton, (call, *_) = example
    random = np.random.default_rng(0)

    def drawn(path, leaf):
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            return leaf
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.zeros(leaf.shape, leaf.dtype)
        inputs = math.prod(leaf.shape[1:])
        # Scales and variances are positive.
        values = random.normal(0, inputs**-0.5, leaf.shape) if inputs > 1 else random.uniform(0.5, 1, leaf.shape)
        # A logarithm follows the filterbank of a front end.
        values = np.abs(values) if ".mel_scale.fb" in jax.tree_util.keystr(path) else values
        return jnp.asarray(values, leaf.dtype)

    network = jax.tree_util.tree_map_with_path(drawn, skeleton)

    def tagged(model):
        return call(dissect.tag(model))

    plain = numbers(eqx.filter_jit(call)(network))
    peak = np.abs(plain).max()
    assert np.isfinite(plain).all()

    def assert_close(found, expected, tolerance=1e-4):
        np.testing.assert_allclose(found / peak, expected / peak, rtol=0, atol=tolerance)

    names = [
        row.name
        for row in dissect.activations(tagged, skeleton, modules=True)
        if not row.loop
        and row.dtype == "float32"
        and "[" not in row.name
        # Durations are rounded, so that a small change of a result before them has no effect.
        and not row.name.startswith("duration_predictor")
    ]
    name = names[len(names) // 2]
    result, captured = eqx.filter_jit(dissect.capture(tagged, name))(network)
    assert_close(numbers(result), plain)
    resumed = eqx.filter_jit(dissect.resume(tagged))(captured, network)
    assert_close(numbers(resumed), plain)
    head = eqx.filter_jit(dissect.subgraph(tagged, name))(network)
    np.testing.assert_allclose(head[name], captured[name], rtol=1e-4, atol=1e-5)

    gain = dissect.Control("gain", 1.0, 0.0, 2.0)
    bend = dissect.bend(call, [dissect.Bend(dissect.Scale(gain), re.escape(name))])

    @eqx.filter_jit
    def bent(value):
        return numbers(bend(network, controls={"gain": value}))

    assert_close(bent(jnp.float32(1)), plain)
    half = bent(jnp.float32(0.5))
    given = eqx.filter_jit(dissect.resume(tagged))({name: 0.5 * captured[name]}, network)
    assert_close(half, numbers(given))
    assert np.abs(half - plain).max() > 1e-2 * peak
    batched = jax.vmap(bent)(jnp.asarray([1.0, 0.5]))
    assert_close(batched, np.stack([plain, half]))
    _, slope = jax.jvp(bent, (jnp.float32(1),), (jnp.float32(1),))
    backward = jax.grad(lambda value: jnp.sum(bent(value)))(jnp.float32(1))
    np.testing.assert_allclose(backward, jnp.sum(slope), rtol=1e-3, atol=1e-3 * np.abs(slope).sum())

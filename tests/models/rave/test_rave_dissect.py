"""The steps of the RAVE dissection tutorial: names of torch.fx, rows of tables, captured and bent activations.

Names and shapes are those of torch.fx graphs of the release's blocks.
"""

import dataclasses

import equinox as eqx
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxvoice import dissect
from jaxvoice.dissect import Bend, BendingConfig, Control, OrderedMask, Permute, Scale
from jaxvoice.errors import ConfigError
from jaxvoice.models.rave import Rave, decoder_stream, preset, torch_names
from tests.models.rave.released import with_capacity, with_formula_weights

FULL = preset("v2_nopqmf", "snake")
SMALL = with_capacity(FULL, 2)


def encode(network, audio, state):
    return dissect.tag(network).encode(audio, state, inference=True)[0].z


def decode(network, z, state):
    return dissect.tag(network).decode(z, state, inference=True)[0]


@pytest.fixture(scope="module")
def skeleton():
    network = eqx.filter_eval_shape(Rave, FULL, key=jax.random.key(0))
    return network, eqx.filter_eval_shape(network.init_state)


def channels_first(shape):
    return shape[-1], shape[-2]


def test_rows_of_the_encoder(skeleton):
    """Shapes and order of all convolutions of the encoder for 65536 samples."""
    network, state = skeleton
    audio = jax.ShapeDtypeStruct((1, 65536, 1), jnp.float32)
    names = torch_names(FULL, "encode")
    table = dissect.activations(encode, network, audio, state, match="conv", modules=True, aliases=names)
    assert [row.alias for row in table] == ["conv1d", *(f"conv1d_{i}" for i in range(1, 29))]
    assert table.names[0] == "pqmf.forward_conv"
    expected = [(16, 4096)] + [(64, 4096)] * 7 + [(128, 1024)] * 7 + [(256, 256)] * 7 + [(512, 64)] * 5
    expected += [(1024, 32), (256, 32)]
    assert [channels_first(row.shape) for row in table] == expected
    paths = {int(row.alias[7:]): row.name for row in table if row.alias != "conv1d"}
    for number, layer in {1: 0, 8: 5, 15: 10, 22: 15, 27: 19, 28: 21}.items():
        assert paths[number] == f"encoder.encoder.net.{layer}"
    assert paths[2] == "encoder.encoder.net.1.aligned.branches.0.net.1"
    assert paths[26] == "encoder.encoder.net.17.aligned.branches.0.net.3"
    # The same rows by the class of the module, without other names.
    assert dissect.activations(encode, network, audio, state, op="Conv1d").names == table.names


def test_rows_of_the_decoder(skeleton):
    network, state = skeleton
    z = jax.ShapeDtypeStruct((1, 32, 128), jnp.float32)
    names = torch_names(FULL, "decode")
    chosen = [name for name in names if name.startswith(("conv", "sigmoid"))]
    table = dissect.activations(decode, network, z, state, match="conv|sigmoid", aliases=names)
    table = [row for row in table if row.alias in chosen]  # without operations that are called conv_...
    found = [channels_first(row.shape) for row in table]
    expected = [(1024, 32)]
    for shape, count in (((512, 128), 4), ((256, 1024), 6), ((128, 8192), 6), ((64, 65536), 6)):
        expected += [shape] * (1 + count)
    assert found == [*expected, (2, 65536), (1, 65536)]
    aliases = [row.alias for row in table]
    assert [alias for alias in aliases if "transpose" in alias] == [
        "conv_transpose1d",
        *(f"conv_transpose1d_{i}" for i in range(1, 4)),
    ]
    assert len([alias for alias in aliases if alias.startswith("conv1d")]) == 24 and aliases[-1] == "sigmoid"


def test_names_of_torch():
    """The names on which the tutorial relies, for its streaming model and offline."""
    encoder, decoder = "encoder.encoder.net", "decoder.net"
    names = torch_names(FULL, "encode")
    for number, layer in {4: 4, 9: 9, 14: 14, 18: 18, 20: 20, 1: 2, 2: 3}.items():
        assert names[f"add_{number}"] == f"{encoder}.{layer}"
    assert names["add"] == f"{encoder}.1" and "add_3" not in names
    assert [names[f"pow_{i}"] for i in range(1, 6)] == [f"{encoder}.{i}/square" for i in (4, 9, 14, 18, 20)]
    names = torch_names(FULL, "decode")
    for number, layer in {1: 1, 6: 5, 12: 10, 18: 15, 24: 20}.items():
        assert names[f"add_{number}"] == f"{decoder}.{layer}"
    offline = torch_names(FULL, "decode", streaming=False)
    assert [offline[f"add_{i}"] for i in (5, 10, 15, 20)] == [f"{decoder}.{i}" for i in (5, 10, 15, 20)]
    forward = torch_names(FULL, "forward", streaming=False)
    assert [forward[f"add_{i}"] for i in (25, 29, 34, 39, 44)] == [f"{decoder}.{i}" for i in (1, 5, 10, 15, 20)]
    leaky = torch_names(preset("v2_nopqmf"), "encode")
    assert leaky["encoder_encoder_net_4"] == f"{encoder}.4" and leaky["add_3"] == f"{encoder}.6"
    recurrent = dataclasses.replace(FULL, generator=dataclasses.replace(FULL.generator, recurrent_layers=2))
    assert torch_names(recurrent, "decode")["conv1d"] == f"{decoder}.1"
    for config, method, message in (
        (preset("v1"), "encode", "torch names of v1"),
        (preset("v3"), "encode", "adaptive instance norm"),
        (preset("hybrid"), "encode", "torch names of mels are unknown"),
        (FULL, "prior", "method is 'prior'"),
    ):
        with pytest.raises(ConfigError, match=message):
            torch_names(config, method)


def test_rows_of_the_weights(skeleton):
    network, _ = skeleton
    for part in ("encoder", "decoder"):
        assert len(dissect.weights(network, match=f"{part}.*weight_v")) == 28
        assert len(dissect.weights(network, match=f"{part}.*weight_[vg]")) == 56
        assert len(dissect.weights(network, match=[f"{part}.*weight"], folded=True)) == 84
    rows = {row.name: row.shape for row in dissect.weights(network)}
    assert rows["encoder.encoder.net.2.aligned.branches.0.net.1.weight_v"] == (64, 64, 3)
    taps = [rows[f"encoder.encoder.net.{i}.weight_v"][-1] for i in (0, 5, 10, 15, 19)]
    assert taps == [7, 8, 8, 8, 4]
    assert [rows[f"decoder.net.{i}.weight_v"][-1] for i in (2, 6, 11, 16, 21)] == [8, 16, 16, 16, 7]


def test_steps_of_the_tutorial():
    network, state = with_formula_weights(SMALL)
    samples = 2 * SMALL.hop_length
    audio = jnp.asarray(np.random.default_rng(0).standard_normal((1, samples, 1)).astype(np.float32))
    names = torch_names(SMALL, "encode")
    first = eqx.filter_jit(dissect.capture(encode, ["add_4", "pow_1", "conv1d_28"], aliases=names))
    z, captured = first(network, audio, state)
    assert list(captured) == ["pow_1", "add_4", "conv1d_28"]
    np.testing.assert_allclose(captured["conv1d_28"][..., : z.shape[-1]], z, atol=1e-6)
    alpha = np.asarray(network.encoder.encoder.net[4].alpha)[:, 0]
    captured = {name: np.asarray(array) for name, array in captured.items()}
    before = captured["add_4"] - captured["pow_1"] / (alpha + 1e-9)
    np.testing.assert_allclose(np.sin(alpha * before) ** 2, captured["pow_1"], atol=1e-4)

    wanted = ["add_6", "add_12", "add_18", "add_24", "sigmoid"]
    names = torch_names(SMALL, "decode")
    run = eqx.filter_jit(dissect.capture(decode, wanted, aliases=names))
    output, captured = run(network, z, state)
    assert list(captured) == wanted
    for name, divisor in zip(wanted, (512, 64, 8, 1, 1), strict=True):
        frames = captured[name].shape[-2]
        assert frames == samples // divisor
        assert dissect.sonify(captured[name][0], samples, 44100).shape == (samples,)
    resumed = eqx.filter_jit(dissect.resume(decode, aliases=names))
    np.testing.assert_allclose(resumed({"add_18": captured["add_18"]}, network, z, state), output, atol=1e-6)
    rules = [Bend(Scale(-1.0), r"decoder\.net\.[26]\.weight_g"), Bend(Scale(0.0), "sigmoid")]
    bent = eqx.filter_jit(
        dissect.bend(lambda model, z: model.decode(z, state, inference=True)[0], rules, aliases=names)
    )
    assert not np.asarray(bent(network, z)).any() and np.abs(output).max() > 0
    assert network.path is None


@pytest.mark.slow
def test_a_bent_stream_equals_the_bent_network():
    network, state = with_formula_weights(SMALL)
    config = BendingConfig(
        (
            Bend(OrderedMask(Control("keep", 0.5, 0.0, 1.0)), r"decoder\.net\.(5|10)", seed=1),
            Bend(Permute(), r"decoder\.net\.16", seed=2),
            Bend(Scale(Control("gain", 1.0)), r"decoder\.net\.[26]\.weight_g"),
        )
    )
    controls = config.values({"gain": -3.0, "keep": 0.75})
    z = jnp.asarray(np.random.default_rng(0).standard_normal((10, 128)).astype(np.float32))
    offline = dissect.bend(lambda model, z: model.decode(z, state, inference=True)[0], config)
    traces = []

    def step(model, caches, block):
        traces.append(block.shape)
        return decoder_stream(model, state).step(caches, block)

    online = eqx.filter_jit(dissect.bend(step, config))
    stream = decoder_stream(network, state)
    caches, outputs = stream.init_state(), []
    for i in range(0, 10, 2):
        caches, output = online(network, caches, z[i : i + 2], controls=controls)
        outputs.append(output)
    found, delay = np.concatenate(outputs), stream.output_delay
    expected = np.asarray(eqx.filter_jit(offline)(network, z, controls=controls))
    assert not found[:delay].any()
    np.testing.assert_allclose(found[delay:], expected[: len(found) - delay], atol=1e-5)
    unbent = np.asarray(eqx.filter_jit(decode)(network, z, state))
    assert np.abs(expected - unbent).max() > 0.05
    online(network, caches, z[:2], controls=config.values())
    assert len(traces) == 1

"""The networks compared with golden values of the released implementation and with closed forms."""

import dataclasses
import re

import equinox as eqx
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxvoice.errors import ConfigError, ShapeError
from jaxvoice.models.hifigan import (
    PRESETS,
    DiscriminatorConfig,
    Discriminators,
    Generator,
    GeneratorConfig,
    HiFiGANConfig,
    generator as generator_module,
    preset,
)
from jaxvoice.models.hifigan.weights import load_discriminators
from jaxvoice.nn import fold_weight_norm
from jaxvoice.weights import count_parameters, load_state, named_arrays
from tests.reference import golden

SMALL = GeneratorConfig(
    in_channels=8,
    upsample_rates=(4, 2),
    upsample_kernel_sizes=(8, 4),
    upsample_initial_channel=16,
    resblock_kernel_sizes=(3, 5),
    resblock_dilation_sizes=((1, 3), (1, 2)),
)


def shapes_of(network, config):
    return eqx.filter_eval_shape(network, config, key=jax.random.key(0))


def largest_error(ours, theirs) -> float:
    return float(np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max())


@pytest.fixture(scope="module")
def case():
    return golden.case("hifigan/generator_v1")


@pytest.fixture(scope="module")
def generator_v1(case):
    return load_state(shapes_of(Generator, PRESETS["v1"].generator), case.state_dict())


def run(generator, mel, cond=None):
    """The waveform `(batch, 1, samples)` of a mel spectrogram `(batch, mels, frames)`, as the release has them."""
    mel = jnp.asarray(mel).swapaxes(1, 2)
    return eqx.filter_jit(lambda generator, mel, cond: generator(mel, cond))(generator, mel, cond).swapaxes(1, 2)


def test_generator_equals_the_release(case, generator_v1):
    for generator in (generator_v1, fold_weight_norm(generator_v1)):
        assert largest_error(run(generator, case["mel"]), case["wav"]) < 1e-5


@pytest.mark.slow
def test_swapped_dilations_do_not_equal_the_release(case, generator_v1):
    backwards = dataclasses.replace(PRESETS["v1"].generator, resblock_dilation_sizes=((5, 3, 1),) * 3)
    broken = load_state(shapes_of(Generator, backwards), named_arrays(generator_v1))
    assert largest_error(run(broken, case["mel"]), case["wav"]) > 1e-3


@pytest.mark.slow
def test_other_final_slope_does_not_equal_the_release(case, generator_v1, monkeypatch):
    monkeypatch.setattr(generator_module, "FINAL_SLOPE", 0.1)
    assert largest_error(run(generator_v1, case["mel"]), case["wav"]) > 1e-3


@pytest.mark.slow
def test_norm_over_the_wrong_axis_does_not_equal_the_release(case, generator_v1, monkeypatch):
    def over_outputs(layer, dtype=None):
        norm = jnp.sqrt(jnp.sum(jnp.square(layer.weight_v), axis=(0, 2), keepdims=True))
        return layer.weight_v * (layer.weight_g.mean() / norm)

    up_type = type(generator_v1.ups[0])
    monkeypatch.setattr(up_type, "kernel", over_outputs)
    assert largest_error(run(generator_v1, case["mel"]), case["wav"]) > 1e-3


@pytest.mark.parametrize("name", ["generator", "generator_cond", "generator_cond_type2"])
def test_conditioned_generators_equal_coquis(name):
    coqui = golden.case(f"coqui_hifigan/{name}")
    theirs = coqui.meta["config"]
    config = GeneratorConfig(
        in_channels=theirs["in_channels"],
        resblock=theirs["resblock_type"],
        upsample_initial_channel=theirs["upsample_initial_channel"],
        # coqui's second kind of block reads two of the three dilations that its config gives.
        resblock_dilation_sizes=tuple(
            tuple(sizes[: 3 if theirs["resblock_type"] == "1" else 2]) for sizes in theirs["resblock_dilation_sizes"]
        ),
        cond_channels=theirs["cond_channels"],
        conv_pre_weight_norm=theirs.get("conv_pre_weight_norm", True),
        conv_post_weight_norm=theirs.get("conv_post_weight_norm", True),
        conv_post_bias=theirs.get("conv_post_bias", True),
    )
    prefix = coqui.meta["tensors"][0]["name"].split(".")[0] + "."
    newer = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    state = {}
    for key, value in coqui.state_dict(strip=prefix).items():
        for long, short in newer.items():
            key = key.replace(long, short)
        state[key] = value
    generator = load_state(shapes_of(Generator, config), state)
    cond = coqui.arrays["g"][..., 0] if "g" in coqui.arrays else None
    mel = coqui.arrays["mel"] if "mel" in coqui.arrays else coqui.arrays["x"]
    assert largest_error(run(generator, mel, cond), coqui["wav"]) < 1e-5


def test_conditioning_in_each_stage_adds_the_projected_vector(key):
    config = dataclasses.replace(SMALL, cond_channels=3, cond_in_each_stage=True)
    generator = Generator(config, key=key)
    names = named_arrays(generator)
    assert names["conds.0.weight"].shape == (8, 3, 1) and names["conds.1.weight"].shape == (4, 3, 1)
    mel, cond = jax.random.normal(key, (5, 8)), jnp.asarray([0.3, -0.2, 0.9])
    # The projected vector is constant over time, so it can be added to the bias of the preceding layer.
    moved = eqx.tree_at(
        lambda g: [g.conv_pre.bias, *(up.bias for up in g.ups)],
        generator,
        [
            layer.bias + proj.weight[..., 0] @ cond + proj.bias
            for layer, proj in zip(
                [generator.conv_pre, *generator.ups], [generator.cond_layer, *generator.conds], strict=True
            )
        ],
    )
    np.testing.assert_allclose(
        eqx.filter_jit(generator)(mel, cond), eqx.filter_jit(_unconditioned(moved))(mel), atol=1e-6
    )


def _unconditioned(generator):
    plain = Generator(
        dataclasses.replace(generator.config, cond_channels=0, cond_in_each_stage=False), key=jax.random.key(0)
    )
    arrays = {name: array for name, array in named_arrays(generator).items() if not name.startswith("cond")}
    return load_state(plain, arrays)


@pytest.mark.parametrize(
    ("name", "folded", "trained"),
    [("v1", 13_926_017, 13_936_130), ("v2", 925_985, 928_514), ("v3", 1_462_273, 1_464_322)],
)
def test_generator_parameter_counts(name, folded, trained):
    generator = shapes_of(Generator, PRESETS[name].generator)
    assert count_parameters(generator) == trained
    assert count_parameters(eqx.filter_eval_shape(fold_weight_norm, generator)) == folded


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_generates_a_hop_per_frame(name):
    config = preset(name)
    generator = shapes_of(Generator, config.generator)
    mel = jax.ShapeDtypeStruct((10, config.mel.num_mels), jnp.float32)
    out = eqx.filter_eval_shape(lambda generator, mel: generator(mel), generator, mel)
    assert out.shape == (10 * config.mel.hop_length, 1)


def test_discriminator_parameter_counts():
    shapes = shapes_of(Discriminators, DiscriminatorConfig())
    assert count_parameters(shapes.mpd) == 41_092_165 + 13_605
    assert count_parameters(shapes.msd) == 29_610_627 + 8_194
    vectors = eqx.filter_eval_shape(lambda d: d.msd.init_state(key=jax.random.key(0)), shapes)
    assert sum(leaf.size for leaf in jax.tree.leaves(vectors)) == 18_536


@pytest.fixture(scope="module")
def released():
    case = golden.case("hifigan/discriminators")
    return case, *load_discriminators(DiscriminatorConfig(), case.state_dict("mpd"), case.state_dict("msd"))


def outputs_of(discriminators, state, audio):
    """The outputs for audio `(batch, 1, samples)`, those of the periods first."""
    call = eqx.filter_jit(lambda discriminators, x, state: discriminators(x, state, inference=True)[0])
    period, scale = call(discriminators, jnp.asarray(audio).swapaxes(1, 2), state)
    return period + scale


def test_discriminators_equal_the_release(released):
    case, discriminators, state = released
    for side in ("real", "fake"):
        for i, output in enumerate(outputs_of(discriminators, state, case[side])):
            stack = f"mpd_{i}" if i < 5 else f"msd_{i - 5}"
            assert largest_error(output.logits, case[f"{stack}_score_{side}"]) < 1e-5
            for layer, feature in enumerate(output.features):
                digest = case[f"{stack}_fmap_{layer}_{side}_digest"]
                channels_first = np.asarray(feature).swapaxes(1, -1)
                assert largest_error(golden.digest(channels_first), digest) < 1e-5


@pytest.mark.slow
def test_zero_padded_periods_do_not_equal_the_release(released, monkeypatch):
    case, discriminators, state = released
    pad = jnp.pad
    monkeypatch.setattr(jnp, "pad", lambda x, widths, mode="constant": pad(x, widths))
    logits = outputs_of(discriminators, state, case["real"])[1].logits
    assert largest_error(logits, case["mpd_1_score_real"]) > 1e-4


@pytest.mark.slow
def test_unpadded_pooling_does_not_equal_the_release(released, monkeypatch):
    from jaxvoice.models.hifigan import discriminators as module

    case, discriminators, state = released
    pool = module.average_pool1d
    # Average over the samples inside the signal instead of over the window.
    count = lambda x, **o: pool(x, **o) / pool(jnp.ones_like(x), **o)  # noqa: E731
    monkeypatch.setattr(module, "average_pool1d", count)
    logits = outputs_of(discriminators, state, case["real"])[6].logits
    assert largest_error(logits, case["msd_1_score_real"]) > 1e-4


@pytest.mark.slow
def test_swapped_weights_do_not_equal_the_release(released):
    case, discriminators, state = released
    weight = lambda both: both.mpd.discriminators[0].convs[4].weight_v  # noqa: E731
    broken = eqx.tree_at(weight, discriminators, replace_fn=lambda v: v.swapaxes(0, 1))
    logits = outputs_of(broken, state, case["real"])[0].logits
    assert largest_error(logits, case["mpd_0_score_real"]) > 1e-3


TINY = DiscriminatorConfig(periods=(2, 3), scales=2, width=0.0625)


@eqx.filter_jit
def call_discriminators(discriminators, audio, state, inference=False):
    return discriminators(audio, state, inference=inference)


@pytest.mark.slow
def test_a_call_of_the_discriminators_returns_the_state_after_one_power_iteration(key):
    discriminators = eqx.filter_jit(Discriminators)(TINY, key=key)
    state = eqx.filter_jit(lambda msd: msd.init_state(key=key))(discriminators.msd)
    advanced = eqx.filter_jit(lambda msd, state: msd.power_iteration(state))(discriminators.msd, state)
    audio = jax.random.normal(key, (2, 300, 1))
    outputs, after = call_discriminators(discriminators, audio, state)
    kept = call_discriminators(discriminators, audio, state, inference=True)[1]
    for new, expected, before, same in zip(*map(jax.tree.leaves, (after, advanced, state, kept)), strict=True):
        np.testing.assert_allclose(new, expected, atol=1e-5)
        np.testing.assert_array_equal(same, before)
    moved = jax.tree.map(lambda new, before: float(jnp.abs(new - before).max()), after, state)
    assert all(layer.weight_v > 1e-2 for layer in moved.discriminators[0].layers)
    used = call_discriminators(discriminators, audio, advanced, inference=True)[0]
    for ours, theirs in zip(jax.tree.leaves(outputs), jax.tree.leaves(used), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.slow
def test_networks_accept_batches_of_size_0(key):
    discriminators = Discriminators(TINY, key=key)
    state = discriminators.msd.init_state(key=key)
    full, _ = eqx.filter_eval_shape(discriminators, jnp.ones((2, 300, 1)), state)
    empty, _ = eqx.filter_eval_shape(discriminators, jnp.ones((0, 300, 1)), state)
    for ours, theirs in zip(jax.tree.leaves(empty), jax.tree.leaves(full), strict=True):
        assert ours.shape == (0, *theirs.shape[1:])
    generator = Generator(dataclasses.replace(SMALL, cond_channels=3), key=key)
    audio = eqx.filter_jit(generator)(jnp.ones((0, 9, 8)), jnp.ones((0, 3)), length=jnp.ones(0, jnp.int32))
    assert audio.shape == (0, 72, 1)


@pytest.mark.parametrize("shape", [(300,), (300, 2), (2, 0, 1)])
def test_audio_of_wrong_shape_raises_an_error(shape, key):
    discriminators = Discriminators(TINY, key=key)
    with pytest.raises(ShapeError, match=r"with channels last|should be at least 1"):
        discriminators.mpd(jnp.ones(shape))
    with pytest.raises(ShapeError, match=r"with channels last|should be at least 1"):
        discriminators.msd(jnp.ones(shape), discriminators.msd.init_state(key=key))


def test_length_mask_is_broadcast_once_per_stage(key):
    """The program contains one mask per stage; blocks do not compute their own."""
    generator = Generator(SMALL, key=key)
    program = str(
        jax.make_jaxpr(lambda mel, length: generator(mel, length=length))(jnp.ones((2, 9, 8)), jnp.ones(2, int))
    )
    assert len(re.findall(r"bool\[2,\d+,1\] = broadcast_in_dim", program)) == 3


@pytest.mark.parametrize("config", [SMALL, dataclasses.replace(SMALL, resblock="2"), PRESETS["v3"].generator])
def test_receptive_field_is_exact(config, key):
    """The gradient of the samples of a frame is nonzero at exactly the frames of the receptive field."""
    generator = Generator(dataclasses.replace(config, upsample_initial_channel=16), key=key)
    left, right = config.receptive_field
    frames, hop = left + right + 7, config.hop_length
    middle = left + 3
    mel = jax.random.normal(key, (frames, config.in_channels))
    of_frame = lambda mel: jnp.sum(generator(mel)[middle * hop : (middle + 1) * hop, 0] * jnp.arange(1.0, hop + 1))  # noqa: E731
    seen = np.flatnonzero(np.abs(jax.jit(jax.grad(of_frame))(mel)).sum(1))
    assert (seen[0], seen[-1]) == (middle - left, middle + right)


@eqx.filter_jit
def call(generator, mel, cond=None, *, length=None):
    return generator(mel, cond, length=length)


def test_valid_samples_are_independent_of_padding(key):
    generator = Generator(SMALL, key=key)
    mel = jax.random.normal(key, (9, 8))
    padded = jnp.pad(mel, ((0, 20), (0, 0)), constant_values=7.0)
    alone = call(generator, mel)
    np.testing.assert_allclose(call(generator, padded, length=jnp.asarray(9))[: 9 * 8], alone, atol=1e-6)
    assert np.abs(call(generator, padded)[: 9 * 8] - alone).max() > 1e-4


@pytest.mark.slow
def test_half_precision_does_not_round_the_waveform(key):
    generator = Generator(SMALL, key=key)
    mel = jax.random.normal(key, (12, SMALL.in_channels))
    audio = generator(mel.astype(jnp.bfloat16))
    assert audio.dtype == jnp.float32
    assert np.mean(audio == audio.astype(jnp.bfloat16).astype(jnp.float32)) < 0.1
    np.testing.assert_allclose(audio, generator(mel), atol=0.05 * np.abs(generator(mel)).max())


def test_batch_of_padded_lengths_equals_single_utterances(key):
    config = dataclasses.replace(SMALL, cond_channels=3, cond_in_each_stage=True)
    generator = Generator(config, key=key)
    mel, cond = jax.random.normal(key, (2, 9, 8)), jax.random.normal(key, (2, 3))
    lengths = jnp.asarray([9, 4])
    together = call(generator, mel, cond, length=lengths)
    assert together.shape == (2, 72, 1)
    for i, length in enumerate([9, 4]):
        alone = call(generator, mel[i, :length], cond[i])
        np.testing.assert_allclose(together[i, : length * 8], alone, atol=1e-6)


def test_initial_weights_differ_between_layers(key):
    arrays = [a for name, a in named_arrays(Generator(SMALL, key=key)).items() if name.endswith("weight_v")]
    firsts = [float(a.ravel()[0]) for a in arrays]
    assert len(set(firsts)) == len(firsts)


def test_mel_of_wrong_shape_raises_an_error(key):
    generator = Generator(SMALL, key=key)
    for shape in [(4, 7), (0, 8), (1, 8, 4), (8,)]:
        with pytest.raises(ShapeError, match=r"\(\*batch, frames, 8\)"):
            generator(jnp.zeros(shape))
    with pytest.raises(ShapeError, match=r"cond is an array of shape \(3,\); it should be None"):
        generator(jnp.zeros((4, 8)), jnp.zeros(3))
    conditioned = Generator(dataclasses.replace(SMALL, cond_channels=3), key=key)
    for shape in [(3,), (4, 3), (1, 2, 3)]:
        with pytest.raises(ShapeError, match=r"cond is an array of shape .*; it should be an array of shape \(2, 3\)"):
            conditioned(jnp.zeros((2, 4, 8)), jnp.zeros(shape))
    audio = eqx.filter_eval_shape(conditioned, jnp.zeros((2, 4, 8)), jnp.zeros((1, 3)))
    assert audio.shape == (2, 32, 1)
    with pytest.raises(ShapeError, match=r"lengths is \(3,\); it should be \(\) or the batch shape \(2,\)"):
        generator(jnp.zeros((2, 4, 8)), length=jnp.ones(3, jnp.int32))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: HiFiGANConfig(GeneratorConfig(upsample_rates=(8, 8, 2), upsample_kernel_sizes=(16, 16, 4))),
            r"product of upsample_rates .* is 128; it should be mel\.hop_length, 256.*128",
        ),
        (lambda: GeneratorConfig(upsample_kernel_sizes=(16, 15, 4, 4)), r"15 for the rate 8.*Use 16\."),
        (lambda: GeneratorConfig(upsample_kernel_sizes=(16, 9, 4, 4)), r"9 for the rate 8.*Use 10 or 16\."),
        (lambda: GeneratorConfig(upsample_rates=(8, 8)), "should have the same length"),
        (lambda: GeneratorConfig(resblock_kernel_sizes=(3, 4, 5)), "should contain odd numbers"),
        (lambda: GeneratorConfig(upsample_initial_channel=100), "multiple of 16"),
        (lambda: GeneratorConfig(cond_in_each_stage=True), "cond_channels > 0"),
        (lambda: GeneratorConfig(resblock_dilation_sizes=((1, 3, 5),)), "one tuple of dilations for each of the 3"),
        (lambda: HiFiGANConfig(segment_size=8000), "multiple of the hop length.*7936"),
        (
            lambda: HiFiGANConfig(GeneratorConfig(in_channels=100)),
            r"in_channels is 100; it should be mel\.num_mels, 80",
        ),
        (lambda: DiscriminatorConfig(periods=(2, 2)), "should contain different numbers"),
        (lambda: preset("v4"), "'v4'.*v1, v2, v3"),
    ],
)
def test_contradicting_configs_raise_an_error(make, message):
    with pytest.raises(ConfigError, match=message):
        make()

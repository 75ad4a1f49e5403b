"""Names, shapes and counts of the weights of VITS, its configuration, and layers compared with closed forms."""

import dataclasses

import equinox as eqx
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxvoice.errors import ConfigError, TextError
from jaxvoice.models.hifigan.config import DiscriminatorConfig
from jaxvoice.models.vits import (
    VITS,
    DurationConfig,
    DurationPredictor,
    VITSConfig,
    VITSDiscriminators,
    WaveNetConfig,
    WindowedAttention,
    decoder_config,
    preset,
    random_starts,
    rational_quadratic_spline,
    segment_starts,
    take_segments,
)
from jaxvoice.models.vits.attention import gather, spread
from jaxvoice.nn import Embedding
from jaxvoice.text import VITS_SYMBOLS, YOURTTS_SYMBOLS
from jaxvoice.weights import count_parameters, named_arrays
from tests.models.vits.released import renamed
from tests.models.vits.small import SMALL
from tests.reference import golden


def build(make, *args):
    return eqx.filter_eval_shape(make, *args, key=jax.random.key(0))


@pytest.mark.parametrize(
    ("name", "released"),
    [
        ("vctk", "vits_vctk"),
        ("original_vctk", "vits_vctk"),
        ("yourtts", "yourtts_resblock2"),
        ("yourtts_resblock1", "yourtts_resblock1"),
    ],
)
def test_presets_have_the_tensors_of_the_release(name, released):
    case = golden.case_json(f"vits/shapes_{released}")
    network, discriminators = build(VITS, preset(name)), build(VITSDiscriminators, preset(name).discriminators)
    found = named_arrays(network) | {f"disc.{name}": array for name, array in named_arrays(discriminators).items()}
    expected = {renamed(name): tuple(shape) for name, shape in case["tensors"].items()}
    assert {name: array.shape for name, array in found.items()} == expected
    counts = {part: count_parameters(getattr(network, part)) for part in case["parameters"] if part != "disc"}
    assert counts | {"disc": count_parameters(discriminators)} == case["parameters"]


def test_parameters_of_the_other_configurations_equal_those_of_the_release():
    ljspeech = build(VITS, preset("ljspeech"))
    parts = ("text_encoder", "posterior_encoder", "flow", "duration_predictor", "waveform_decoder")
    counts = [count_parameters(getattr(ljspeech, part)) for part in parts]
    assert counts == [6_326_784, 7_238_016, 7_102_080, 1_317_168, 14_337_024]
    assert count_parameters(ljspeech) == 36_321_072
    plain = dataclasses.replace(preset("yourtts"), languages=())
    assert count_parameters(build(VITS, plain)) == 39_818_544
    assert count_parameters(build(VITS, preset("yourtts"))) == 40_068_928 + 4 * 3
    deterministic = dataclasses.replace(preset("yourtts"), durations=DurationConfig("deterministic", channels=256))
    predictor = build(DurationPredictor, deterministic)
    assert count_parameters(predictor) == 450_457
    assert predictor.norm_1.gamma.shape == (1, 256, 1)


def test_symbols_are_those_of_the_releases():
    assert YOURTTS_SYMBOLS.size == 165 and VITS_SYMBOLS.size == 178
    # Marks occur twice in YourTTS, and the later id is used.
    assert YOURTTS_SYMBOLS.ids("A, b.", blanks=False) == [38, 157, 163, 39, 159]
    assert YOURTTS_SYMBOLS.ids("ab") == [164, 38, 164, 39, 164]
    assert VITS_SYMBOLS.ids("ə\u0329 a")[:6] == [0, 83, 0, 175, 0, 16]
    assert YOURTTS_SYMBOLS.clean(' One; two:  "three" (four)-Five ') == "one, two, three four five"


def test_unknown_characters_are_named_with_their_positions():
    with pytest.raises(TextError, match=r"'4' \(character 5\), '2' \(character 6\), '€' \(character 8\) in 'ab, 42 €'"):
        YOURTTS_SYMBOLS.ids("ab, 42 €")
    for empty in ("", "  ", "?!", '"'):
        with pytest.raises(TextError, match="contains nothing to read; it should contain a word"):
            YOURTTS_SYMBOLS.ids(empty)


def test_attention_equals_its_definition():
    attention = WindowedAttention(6, 2, 2, key=jax.random.key(1))
    x = np.random.default_rng(0).normal(size=(7, 6)).astype(np.float32)
    found = eqx.filter_jit(lambda layer, x: layer(x, inference=True))(attention, x)

    def project(conv, x):
        return x @ np.asarray(conv.weight)[..., 0].T + np.asarray(conv.bias)

    query, keys, values = (
        project(conv, x).reshape(7, 2, 3) for conv in (attention.conv_q, attention.conv_k, attention.conv_v)
    )
    near_keys, near_values = np.asarray(attention.emb_rel_k)[0], np.asarray(attention.emb_rel_v)[0]
    outputs = np.zeros((7, 2, 3))
    for head in range(2):
        for i in range(7):
            near = {j: j - i + 2 for j in range(7) if abs(j - i) <= 2}
            logits = [query[i, head] @ (keys[j, head] + (near_keys[near[j]] if j in near else 0)) for j in range(7)]
            weights = np.exp(np.array(logits) / np.sqrt(3))
            weights /= weights.sum()
            for j in range(7):
                outputs[i, head] += weights[j] * (values[j, head] + (near_values[near[j]] if j in near else 0))
    np.testing.assert_allclose(found, project(attention.conv_o, outputs.reshape(7, 6)), atol=1e-5)


@pytest.mark.parametrize("time", [1, 2, 6])
def test_gather_and_spread_are_inverse_inside_the_matrix(time):
    matrix = np.arange(1.0, time * time + 1).reshape(time, time).astype(np.float32)
    near = np.asarray(gather(jnp.asarray(matrix), 5))
    for i in range(time):
        for k in range(5):
            j = i + k - 2
            assert near[i, k] == (matrix[i, j] if 0 <= j < time else 0)
    distance = np.abs(np.subtract.outer(np.arange(time), np.arange(time)))
    np.testing.assert_array_equal(spread(jnp.asarray(near)), matrix * (distance <= 2))


def test_splines_have_finite_gradients_and_the_derivative_that_they_return():
    random = np.random.default_rng(1)
    x = np.concatenate([random.uniform(-5, 5, 40), [-50.0, -5.0, 5.0, 50.0, 0.0]]).astype(np.float32)
    widths, heights = random.normal(size=(2, len(x), 4)).astype(np.float32)
    slopes = random.normal(size=(len(x), 3)).astype(np.float32)

    @jax.jit
    def derivatives(x, widths, heights, slopes):
        def total(x, widths, heights, slopes):
            y, log_slope = rational_quadratic_spline(x, widths, heights, slopes, bound=5.0)
            return y.sum(), log_slope

        return jax.grad(total, argnums=(0, 1, 2, 3), has_aux=True)(x, widths, heights, slopes)

    gradients, log_slope = derivatives(x, widths, heights, slopes)
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    np.testing.assert_allclose(gradients[0], np.exp(log_slope), rtol=1e-4)
    np.testing.assert_allclose(np.asarray(gradients[0])[[-5, -2]], 1)
    y, _ = rational_quadratic_spline(x, widths, heights, slopes, bound=5.0)
    again, log_inverse = rational_quadratic_spline(y, widths, heights, slopes, bound=5.0, inverse=True)
    np.testing.assert_allclose(again, x, atol=1e-4)
    np.testing.assert_allclose(log_inverse, -log_slope, atol=1e-4)
    assert np.abs(y - x).max() > 0.5


def test_segments_start_inside_each_example():
    lengths = jnp.array([40, 33, 32, 7])
    for uniform, expected in ((0.0, [0, 0, 0, 0]), (0.999999, [8, 1, 0, 0]), (0.5, [4, 1, 0, 0])):
        starts = segment_starts(lengths, 32, uniform=jnp.full(4, uniform, jnp.float32))
        np.testing.assert_array_equal(starts, expected)
    drawn = jax.vmap(lambda key: random_starts(lengths, 32, key=key))(jax.random.split(jax.random.key(0), 400))
    assert set(np.unique(drawn[:, 0])) == set(range(9)) and set(np.unique(drawn[:, 1])) == {0, 1}
    assert not drawn[:, 2:].any()
    x = jnp.arange(2 * 3 * 5, dtype=jnp.float32).reshape(2, 3, 5, 1)
    cut = take_segments(x, jnp.array([[0, 1, 2], [3, 4, 0]]), 3)[..., 0]
    np.testing.assert_array_equal(cut[0], [[0, 1, 2], [6, 7, 8], [12, 13, 14]])
    np.testing.assert_array_equal(cut[1], [[18, 19, 0], [24, 0, 0], [25, 26, 27]])


@pytest.mark.parametrize("width", [1 / 8, 1 / 5, 1.0])
def test_discriminators_of_any_width_can_be_built(width):
    config = DiscriminatorConfig(scales=1, width=width)
    audio = jax.ShapeDtypeStruct((600, 1), jnp.float32)
    outputs = eqx.filter_eval_shape(build(VITSDiscriminators, config), audio)
    assert len(outputs) == 6 and all(output.logits.ndim == 1 for output in outputs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": 7}, "VITSConfig.channels is 7; it should be even"),
        ({"num_speakers": 3}, "num_speakers is 3 and speaker_channels is 0; set speaker_channels"),
        ({"speaker_channels": 4}, "decoder.cond_channels is 0; it should be speaker_channels, 4"),
        ({"decoder": decoder_config(64)}, "decoder.in_channels is 64; it should be channels, 192"),
        ({"languages": ("en", "en")}, "languages is .*; it should contain different names"),
        ({"languages": ("en",), "language_channels": 5}, "has 197 channels and text.heads is 2"),
        ({"flow": WaveNetConfig(2, kernel_size=3), "flows": 0}, "flows is 0; it should be positive"),
        ({"discriminators": DiscriminatorConfig()}, "discriminators.scales is 3; it should be 1"),
        ({"mel": dataclasses.replace(VITSConfig().mel, hop_length=128)}, "hop_length is 256; it should be mel.hop_le"),
        ({"mel": dataclasses.replace(VITSConfig().mel, center=True)}, "mel.center is True; it should be False"),
    ],
)
def test_invalid_configurations_raise_errors(change, message):
    with pytest.raises(ConfigError, match=message):
        VITSConfig(**change)


def test_invalid_parts_raise_errors():
    with pytest.raises(ConfigError, match="kernel_size is 4; it should be odd"):
        WaveNetConfig(2, kernel_size=4)
    with pytest.raises(ConfigError, match="flows is 1; it should be at least 2"):
        DurationConfig(flows=1)
    with pytest.raises(ConfigError, match="preset is 'big'; it should be one of ljspeech, vctk, yourtts"):
        preset("big")
    assert SMALL.text_channels == 12 and preset("tiny").mel.sample_rate == 16000


def test_ids_outside_a_table_give_nan():
    table = Embedding(3, 2, key=jax.random.key(0))
    found = np.asarray(table(jnp.array([-1, 0, 2, 3])))
    np.testing.assert_array_equal(found[1:3], np.asarray(table.weight)[[0, 2]])
    assert np.isnan(found[[0, 3]]).all()

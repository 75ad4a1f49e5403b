"""Streams of HiFi-GAN generators against one call on the whole input."""

import equinox as eqx
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxvoice import dissect
from jaxvoice.errors import ShapeError
from jaxvoice.models.hifigan import PRESETS, Generator, generator_stream
from jaxvoice.nn import fold_weight_norm, freeze
from tests.pipelines.conftest import loud_generator, small_config

CONFIGS = {
    "v1": {"resblock_kernel_sizes": (3, 7), "resblock_dilation_sizes": ((1, 3), (1, 5))},
    "v3": {"resblock": "2", "upsample_rates": (4, 2, 2), "upsample_kernel_sizes": (8, 4, 6)},
    "conditioned": {"cond_channels": 3, "cond_in_each_stage": True},
    "normalised": {"input_mean": tuple(range(8)), "input_scale": (2.0,) * 8},
}
step = eqx.filter_jit(lambda stream, state, mel: stream.step(state, mel))
finish = eqx.filter_jit(lambda stream, state: stream.finish(state))


@pytest.mark.parametrize("name", CONFIGS)
def test_stream_equals_the_generator(name):
    """From the first sample to the last, although biases sound before and after the signal."""
    generator = loud_generator(small_config(**CONFIGS[name]))
    if name == "v1":
        generator = freeze(fold_weight_norm(generator))
    rng = np.random.default_rng(0)
    mel = rng.normal(-5, 2, (2, 11, 8)).astype(np.float32)
    conds = (jnp.asarray(rng.normal(size=(2, 3)), jnp.float32),) if name == "conditioned" else ()
    expected = np.asarray(eqx.filter_jit(generator)(mel, *conds))
    silent = np.asarray(eqx.filter_jit(generator)(jnp.zeros((1, 11, 8)), *(cond[:1] for cond in conds)))
    assert np.abs(silent).max() > 1e-3, "the biases are heard"
    stream = generator_stream(generator, *conds)
    _, right = generator.config.receptive_field
    assert 0 <= right * generator.config.hop_length - stream.output_delay < generator.config.hop_length
    for lengths in ([1] * 11, [4, 1, 6]):
        state, outputs = stream.init_state(batch=(2,)), []
        for block in np.split(mel, np.cumsum(lengths)[:-1], 1):
            state, audio = step(stream, state, block)
            outputs.append(audio)
        found = np.concatenate([*outputs, finish(stream, state)], 1)
        assert not np.any(found[:, : stream.output_delay])
        np.testing.assert_allclose(found[:, stream.output_delay :], expected, rtol=0, atol=1e-5)


def test_half_precision_is_that_of_the_generator():
    generator = loud_generator(small_config())
    mel = np.random.default_rng(0).normal(-5, 2, (12, 8)).astype(np.float32)
    stream = generator_stream(generator)
    _, audio = step(stream, stream.init_state(dtype=jnp.bfloat16), jnp.asarray(mel, jnp.bfloat16))
    expected = eqx.filter_jit(generator)(jnp.asarray(mel, jnp.bfloat16))
    assert audio.dtype == expected.dtype == jnp.float32
    delay = stream.output_delay
    np.testing.assert_allclose(audio[delay:], expected[: len(audio) - delay], rtol=0, atol=0.02)


def test_results_have_the_names_of_the_generator():
    generator = dissect.tag(loud_generator(small_config()))
    stream, mel = generator_stream(generator), jnp.zeros((4, 8))
    found = [value.name for value in dissect.named_values(stream.step, stream.init_state(), mel)]
    assert found == [value.name for value in dissect.named_values(generator, mel)]
    assert {"ups.0", "resblocks.1", "resblocks.1.convs1.0"} <= set(found)


def test_released_configurations_have_the_delay_of_their_receptive_field():
    for name, config in PRESETS.items():
        generator = eqx.filter_eval_shape(Generator, config.generator, key=jax.random.key(0))
        stream, (_, right) = generator_stream(generator), config.generator.receptive_field
        assert -(-stream.output_delay // config.generator.hop_length) == right, name


def test_missing_conditions_raise():
    with pytest.raises(ShapeError, match=r"cond is None; it should be an array of shape \(3,\)"):
        generator_stream(loud_generator(small_config(cond_channels=3)))
    with pytest.raises(ShapeError, match="cond is an array"):
        generator_stream(loud_generator(small_config()), jnp.zeros(3))

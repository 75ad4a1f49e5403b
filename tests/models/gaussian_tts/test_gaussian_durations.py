"""The duration model compared with torch's LSTM on packed sequences; conversion of its output to frames."""

import equinox as eqx
import jax
import numpy as np
import pytest
import torch
from jax import numpy as jnp
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from jaxvoice.errors import ConfigError
from jaxvoice.models.gaussian_tts import (
    DurationConfig,
    DurationModel,
    Statistics,
    denormalise_durations,
    normalise_durations,
)
from jaxvoice.models.gaussian_tts.statistics import round_durations
from jaxvoice.weights.array_names import count_parameters, named_arrays
from tests.models.gaussian_tts.small import filled

COUNT = np.array([9, 4, 1], np.int32)


def model_of(dim: int, config: DurationConfig) -> DurationModel:
    return filled(eqx.filter_eval_shape(lambda: DurationModel(dim, config, key=jax.random.key(0))))


@eqx.filter_jit
def call(model, hidden, count, key=None, inference=False):
    return model(hidden, phone_count=count, key=key, inference=inference)


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(("hidden", "parameters"), [(256, 4_207_105), (128, 1_186_049), (512, 15_754_241)])
def test_parameter_counts_equal_the_published_ones(hidden, parameters):
    model = eqx.filter_eval_shape(lambda: DurationModel(256, DurationConfig(hidden=hidden), key=jax.random.key(0)))
    assert count_parameters(model) == parameters


def test_lstm_of_full_size_equals_torch():
    model, x = model_of(256, DurationConfig()), draw(3, 9, 256)
    lstm = torch.nn.LSTM(256, 256, 3, batch_first=True, bidirectional=True)
    lstm.load_state_dict({name: torch.tensor(np.asarray(array)) for name, array in named_arrays(model.lstm).items()})
    packed = lstm(pack_padded_sequence(torch.tensor(x), torch.tensor(COUNT), batch_first=True))[0]
    weight, bias = (torch.tensor(np.asarray(array)) for array in (model.linear.weight, model.linear.bias))
    expected = torch.nn.functional.linear(pad_packed_sequence(packed, batch_first=True)[0], weight, bias)[..., 0]
    valid = np.arange(12) < COUNT[:, None]
    longer = np.where(valid[..., None], np.pad(x, ((0, 0), (0, 3), (0, 0))), np.nan).astype(np.float32)
    y = np.asarray(call(model, jnp.asarray(longer), jnp.asarray(COUNT), inference=True))
    np.testing.assert_allclose(y[:, :9][valid[:, :9]], expected.detach().numpy()[valid[:, :9]], atol=1e-5)
    assert y.shape == (3, 12) and not y[~valid].any()


def test_single_phoneme_keeps_both_axes(key):
    model = model_of(4, DurationConfig(hidden=3, layers=2, dropout=0.5))
    x, count = jnp.asarray(draw(1, 1, 4)), jnp.asarray([1])
    still = call(model, x, count, inference=True)
    assert still.shape == (1, 1)
    assert call(model, x, count, key=key) != still
    with pytest.raises(ConfigError, match="Pass key="):
        model(x, phone_count=count)


def test_denormalised_durations_equal_the_originals():
    statistics = Statistics(duration_mean=2.1, duration_std=0.5)
    durations = np.array([[1, 3, 254], [7, 20, 0]], np.float32)
    normalised = np.asarray(normalise_durations(jnp.asarray(durations), statistics))
    np.testing.assert_allclose(normalised[0, 1], (np.log(4) - 2.1) / 0.5, rtol=1e-5)
    np.testing.assert_allclose(denormalise_durations(normalised, statistics), durations, rtol=1e-5, atol=1e-5)


def test_speed_and_scale_change_durations():
    normalised = np.array([[-9.0, 1.0, 2.0]], np.float32)
    exact = np.exp(2.026 + 0.463 * np.array([[-9.0, 1.0, 2.0]])) - 1
    np.testing.assert_allclose(denormalise_durations(normalised, Statistics()), exact, rtol=1e-12)
    np.testing.assert_allclose(denormalise_durations(normalised, Statistics(), speed=2.0), exact / 2, rtol=1e-12)
    longer = denormalise_durations(normalised, Statistics(duration_scale=1.5), speed=0.5)
    np.testing.assert_allclose(longer, exact * 3, rtol=1e-12)
    assert np.isinf(denormalise_durations(np.array([1e4], np.float32), Statistics())[0])
    with pytest.raises(ConfigError, match=r"speed is 0\.0; it should be positive"):
        denormalise_durations(normalised, Statistics(), speed=0.0)


def test_durations_are_rounded_to_whole_frames():
    frames = round_durations(np.array([-0.9, 0.2, 1.4, 1.6, 7.5, np.inf]))
    assert frames.tolist() == [1, 1, 1, 2, 8, 2**31] and frames.dtype == np.int64

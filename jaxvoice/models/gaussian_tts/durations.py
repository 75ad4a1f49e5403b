"""The duration model: durations of phonemes in frames, predicted from the encoder's hidden states."""

import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Float32, Float64, Int, Int64, PRNGKeyArray

from jaxvoice.errors import ConfigError
from jaxvoice.models.gaussian_tts.config import DurationConfig, Statistics
from jaxvoice.nn import LSTM, Linear, Module, length_mask, masked, subkeys


class DurationModel(Module):
    """A bidirectional LSTM and a linear map to one number for each phoneme: its normalised log duration."""

    lstm: LSTM
    linear: Linear

    def __init__(self, dim: int, config: DurationConfig, *, key: PRNGKeyArray):
        lstm_key, linear_key = jax.random.split(key)
        self.lstm = LSTM(
            dim,
            config.hidden,
            num_layers=config.layers,
            bidirectional=True,
            dropout=config.dropout,
            key=lstm_key,
        )
        self.linear = Linear(2 * config.hidden, 1, key=linear_key)

    def __call__(
        self,
        hidden: Float[Array, "*batch phones dim"],
        *,
        phone_count: Int[Array, "*batch"] | int,
        inference: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "*batch phones"]:
        """Normalised log durations, zero in padding (`from_normalised` converts them to frames).

        `hidden` comes from the encoder in inference mode; stop its gradient, so that the encoder is not trained.

        **Raises:** `ConfigError` for dropout without `key` unless `inference`.
        """
        mask = length_mask(phone_count, hidden.shape[-2], batch=hidden.shape[:-2])
        y = self.lstm(masked(hidden, mask), mask=mask, inference=inference, key=subkeys(key, 1)[0])
        return masked(self.linear(y), mask)[..., 0]


def to_normalised(durations: Float[Array, "*batch"], statistics: Statistics) -> Float32[Array, "*batch"]:
    """`(ln(1 + d) - mean) / std` of durations in frames: the targets of the duration model."""
    return (jnp.log1p(durations.astype(jnp.float32)) - statistics.duration_mean) / statistics.duration_std


def from_normalised(
    normalised: Float[np.ndarray, "*batch"], statistics: Statistics, *, speed: float = 1.0
) -> Float64[np.ndarray, "*batch"]:
    """Durations in frames at `speed` times the usual speed; neither rounded nor clipped to 1; undefined in padding.

    Durations that overflow float64 are `inf`.

    **Raises:** `ConfigError` if `speed` is not positive.
    """
    if not speed > 0:
        raise ConfigError(f"speed should be positive, 1 for the usual and 2 for twice as fast, got {speed}.")
    logs = np.asarray(normalised, np.float64) * statistics.duration_std + statistics.duration_mean
    with np.errstate(over="ignore"):
        return np.expm1(logs) * (statistics.duration_scale / speed)


def whole_frames(frames: Float[np.ndarray, "*batch"]) -> Int64[np.ndarray, "*batch"]:
    """Durations rounded to whole frames and clipped to the range from 1 to 2**31."""
    return np.clip(np.rint(frames), 1, 2**31).astype(np.int64)

"""The duration model, which predicts durations of phonemes from the hidden states of the encoder."""

import jax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxvoice.models.gaussian_tts.config import DurationConfig
from jaxvoice.nn import LSTM, Linear, Module, length_mask, masked, subkeys


class DurationModel(Module):
    """A bidirectional LSTM and a linear map to the normalised log duration of each phoneme."""

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
        """Normalised log durations, zero in padding. `from_normalised` converts them to frames.

        `hidden` is the output of the encoder in inference mode. Stop its gradient to leave the encoder unchanged.

        **Raises:** `ConfigError` for dropout without `key` unless `inference`.
        """
        mask = length_mask(phone_count, hidden.shape[-2], batch=hidden.shape[:-2])
        y = self.lstm(masked(hidden, mask), mask=mask, inference=inference, key=subkeys(key, 1)[0])
        return masked(self.linear(y), mask)[..., 0]

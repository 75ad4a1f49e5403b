"""The duration model, and the acoustic and the duration model together."""

import equinox as eqx
import jax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxvoice.models.gaussian_tts.acoustic import AcousticModel, BatchNormStates, Decoded
from jaxvoice.models.gaussian_tts.config import DurationConfig, GaussianTTSConfig
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
        """Normalised log durations, zero in padding. `denormalise_durations` converts them to frames.

        `hidden` is the output of the encoder in inference mode. Stop its gradient to leave the encoder unchanged.

        **Raises:** `ConfigError` for dropout without `key` unless `inference`.
        """
        mask = length_mask(phone_count, hidden.shape[-2], batch=hidden.shape[:-2])
        y = self.lstm(masked(hidden, mask), mask=mask, inference=inference, key=subkeys(key, 1)[0])
        return masked(self.linear(y), mask)[..., 0]


class GaussianTTS(Module):
    """The acoustic model and the duration model, which is trained after the acoustic model."""

    acoustic: AcousticModel
    durations: DurationModel

    def __init__(self, config: GaussianTTSConfig, *, key: PRNGKeyArray):
        acoustic_key, durations_key = jax.random.split(key)
        self.acoustic = AcousticModel(config, key=acoustic_key)
        self.durations = DurationModel(config.dim, config.durations, key=durations_key)

    @property
    def config(self) -> GaussianTTSConfig:
        """The configuration of the networks."""
        return self.acoustic.config

    def init_state(self) -> BatchNormStates:
        """The initial running statistics."""
        return self.acoustic.init_state()

    def with_state(self, state: BatchNormStates) -> "InferenceModel":
        """The networks with the running statistics `state`, as stored in a model folder."""
        return InferenceModel(self.acoustic, state, self.durations)

    def __call__(
        self,
        phonemes: Int[Array, "*batch phones"],
        durations: Float[Array, "*batch phones"],
        state: BatchNormStates,
        *,
        phone_count: Int[Array, "*batch"] | int,
        frame_count: Int[Array, "*batch"] | int,
        frames: int,
    ) -> tuple[Decoded, Float[Array, "*batch phones"]]:
        """The mel spectrogram of phonemes with given durations, and their predicted normalised log durations.

        Both networks run in inference mode: running statistics do not change, and dropout is off. Arguments and errors
        are those of `AcousticModel.encode` and `AcousticModel.decode`.
        """
        counts = {"phone_count": phone_count, "frame_count": frame_count, "frames": frames}
        decoded = self.acoustic(phonemes, durations, state, **counts, inference=True)
        return decoded, self.durations(decoded.hidden, phone_count=phone_count, inference=True)


class InferenceModel(Module):
    """The trained networks and the running statistics of their batch norms, as stored in a model folder."""

    acoustic: AcousticModel
    batch_norm: BatchNormStates
    durations: DurationModel

    @property
    def networks(self) -> GaussianTTS:
        """The networks without the running statistics."""
        skeleton = eqx.filter_eval_shape(GaussianTTS, self.acoustic.config, key=jax.random.key(0))
        return eqx.tree_at(lambda tts: (tts.acoustic, tts.durations), skeleton, (self.acoustic, self.durations))

    def __call__(
        self, phonemes: Int[Array, "*batch phones"], durations: Float[Array, "*batch phones"], frames: int
    ) -> Float[Array, "*batch {frames} mels"]:
        """The normalised mel spectrogram of phonemes with `durations` in frames, whose sum is `frames`.

        **Raises:** `ShapeError` for more phonemes or frames than positions.
        """
        return self.acoustic(
            phonemes,
            durations,
            self.batch_norm,
            phone_count=phonemes.shape[-1],
            frame_count=frames,
            frames=frames,
            inference=True,
        ).mel

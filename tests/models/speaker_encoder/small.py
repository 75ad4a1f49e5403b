"""The configurations of small speaker encoders, and encoders with random weights."""

import equinox as eqx

from jaxvoice.dsp import PowerMelConfig
from jaxvoice.models.speaker_encoder import (
    GE2EConfig,
    LSTMConfig,
    ResNetConfig,
    SpeakerEncoderConfig,
    SpeakerNetwork,
    build,
)
from jaxvoice.models.speaker_encoder.front_end import front_end
from tests.random_networks import random_network

SMALL = SpeakerEncoderConfig(
    ResNetConfig(blocks=(1, 1, 1, 1), channels=(8, 8, 16, 16), attention=6, dim=12), PowerMelConfig(num_mels=20)
)
LSTM_SMALL = SpeakerEncoderConfig(LSTMConfig(hidden=10, layers=2, dim=12), PowerMelConfig(num_mels=20))
GE2E = SpeakerEncoderConfig(
    GE2EConfig(units=10, depth=2, dim=12),
    PowerMelConfig(n_fft=400, num_mels=20, window="hann", mel_scale="slaney", mel_norm="slaney", preemphasis=0.0),
)


def random_encoder(config: SpeakerEncoderConfig, seed: int = 0) -> SpeakerNetwork:
    """The encoder of `config` with random weights, biases and running statistics, and the buffers of `config`."""
    network = random_network(build, config, seed)
    buffers = front_end(config)
    if buffers is None or isinstance(config.network, GE2EConfig):
        return network
    return eqx.tree_at(lambda one: one.torch_spec, network, buffers)

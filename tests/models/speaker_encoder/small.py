"""The configurations of small speaker encoders."""

from jaxvoice.dsp import PowerMelConfig
from jaxvoice.models.speaker_encoder import GE2EConfig, LSTMConfig, ResNetConfig, SpeakerEncoderConfig

SMALL = SpeakerEncoderConfig(
    ResNetConfig(blocks=(1, 1, 1, 1), channels=(8, 8, 16, 16), attention=6, dim=12), PowerMelConfig(num_mels=20)
)
LSTM_SMALL = SpeakerEncoderConfig(LSTMConfig(hidden=10, layers=2, dim=12), PowerMelConfig(num_mels=20))
GE2E = SpeakerEncoderConfig(
    GE2EConfig(units=10, depth=2, dim=12),
    PowerMelConfig(n_fft=400, num_mels=20, window="hann", mel_scale="slaney", mel_norm="slaney", preemphasis=0.0),
)

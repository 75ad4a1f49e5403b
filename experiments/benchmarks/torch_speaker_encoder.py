"""The GE2E speaker encoder of Resemblyzer in torch, a judge of voices that no training of jaxvoice uses.

Resemblyzer's wheel contains the weights: `pip download --no-deps resemblyzer`, then pass the path of the wheel or of
its `pretrained.pt` to `load`. The architecture is that of Wan et al. 2018, "Generalized end-to-end loss for speaker
verification", section 3: three LSTM layers of 256 units, a linear layer, and an L2 norm; with the ReLU before the norm
and the settings of resemble-ai/Resemblyzer, `hparams.py`. Silence is not removed.
"""

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import librosa
import numpy as np
import torch
from jaxtyping import Float32

from jaxvoice.data import resample

RATE = 16000
"""Sample rate of the encoder in Hz."""
_HOP, _WINDOW, _BANDS = 160, 400, 40
_FRAMES, _STEP, _COVERAGE = 160, 77, 0.75  # frames of a window, frames between windows, smallest part of the last one
_LEVEL = -30.0  # dB of full scale, to which quieter audio is amplified


class SpeakerEncoder(torch.nn.Module):
    """Mel spectrograms `(batch, frames, 40)` to embeddings `(batch, 256)` of norm 1."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(_BANDS, 256, 3, batch_first=True)
        self.linear = torch.nn.Linear(256, 256)

    def forward(self, mels: torch.Tensor) -> torch.Tensor:
        """The embeddings of windows of 160 frames."""
        _, (hidden, _) = self.lstm(mels)
        return torch.nn.functional.normalize(torch.relu(self.linear(hidden[-1])), dim=1)

    @torch.inference_mode()
    def embed(self, samples: Float32[np.ndarray, " samples"], rate: int) -> Float32[np.ndarray, " 256"]:
        """The embedding of a recording at `rate` Hz: the normalised mean over its windows, which overlap by half."""
        audio = np.asarray(resample(np.asarray(samples, np.float32), rate, RATE))
        level = 10 * np.log10(np.mean(np.square(audio, dtype=np.float64)) + 1e-12)
        if level < _LEVEL:
            audio = audio * np.float32(10 ** ((_LEVEL - level) / 20))
        starts = list(range(0, max(1, -(-(len(audio) + 1) // _HOP) - _FRAMES + _STEP + 1), _STEP))
        if len(starts) > 1 and len(audio) / _HOP - starts[-1] < _COVERAGE * _FRAMES:
            starts.pop()
        audio = np.pad(audio, (0, max(0, (starts[-1] + _FRAMES) * _HOP - len(audio))))
        mel = librosa.feature.melspectrogram(y=audio, sr=RATE, n_fft=_WINDOW, hop_length=_HOP, n_mels=_BANDS).T
        windows = np.stack([mel[start : start + _FRAMES] for start in starts]).astype(np.float32)
        mean = self(torch.from_numpy(windows)).mean(0)
        return torch.nn.functional.normalize(mean, dim=0).numpy()


def load(path: str | Path) -> SpeakerEncoder:
    """The encoder with the weights of Resemblyzer's wheel, or of a `pretrained.pt`, at `path`."""
    path = Path(path)
    content = zipfile.ZipFile(path).read("resemblyzer/pretrained.pt") if path.suffix == ".whl" else path.read_bytes()
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)["model_state"]
    encoder = SpeakerEncoder().eval()
    encoder.load_state_dict({name: value for name, value in state.items() if not name.startswith("similarity_")})
    return encoder


def mean_embedding(embeddings: Sequence[Float32[np.ndarray, " 256"]]) -> Float32[np.ndarray, " 256"]:
    """The normalised mean of the embeddings of one speaker."""
    mean = np.mean(np.stack(embeddings), axis=0)
    return (mean / np.linalg.norm(mean)).astype(np.float32)
